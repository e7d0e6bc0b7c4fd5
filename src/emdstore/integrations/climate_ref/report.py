"""What a replay into Climate-REF's database did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from emdstore.errors import EmdstoreError

State = Literal["ingested", "unchanged", "incomplete", "invalid"]
STATES: tuple[State, ...] = ("ingested", "unchanged", "incomplete", "invalid")
FAILED: tuple[State, ...] = ("incomplete", "invalid")


@attrs.frozen
class ReplayedSet:
    """What became of one set.

    Attributes
    ----------
    fragment
        The execution.
    state
        ``ingested``; ``unchanged``: the database had it; ``incomplete``: not all that its record names is there (yet);
        ``invalid``: the record or a bundle cannot be read, or the database refuses what it says. The last two leave the
        database as it was.
    status
        The execution's status, where it was read.
    outputs, scalars, series
        How many rows the database has of it now.
    notes
        What did not fit: dimensions without a column, datasets that the database does not know, outputs whose names
        lead nowhere.
    error
        Why it is incomplete or invalid.
    """

    fragment: str
    state: State
    status: str | None = None
    outputs: int = 0
    scalars: int = 0
    series: int = 0
    notes: tuple[str, ...] = ()
    error: EmdstoreError | None = attrs.field(default=None, eq=str)


@attrs.frozen
class ReplayReport:
    """What became of the sets that were found.

    Attributes
    ----------
    counts
        How many sets there are of each state.
    outcomes
        Of those that were ingested, and of those that could not be, the first 10,000 each, in the order in which they
        were found. What is unchanged is only counted.
    seconds
        How long it took.
    """

    counts: Mapping[State, int]
    outcomes: tuple[ReplayedSet, ...] = ()
    seconds: float = 0.0

    @property
    def sets(self) -> int:
        """How many sets were found."""
        return sum(self.counts.values())

    @property
    def failures(self) -> tuple[ReplayedSet, ...]:
        """The sets that could not be loaded, as far as `outcomes` has them."""
        return tuple(each for each in self.outcomes if each.state in FAILED)

    @property
    def ok(self) -> bool:
        """Whether the database holds every set that was found."""
        return not any(self.counts[state] for state in FAILED)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "seconds": round(self.seconds, 3),
            "counts": dict(self.counts),
            "executions": [
                attrs.asdict(each) | {"error": None if each.error is None else str(each.error)}
                for each in self.outcomes
            ],
        }


class ReplayInterrupted(KeyboardInterrupt):
    """Ctrl-C during a replay. What was loaded is whole; running it again goes on from here.

    Attributes
    ----------
    report
        What was done until then.
    """

    def __init__(self, report: ReplayReport) -> None:
        super().__init__("the replay was interrupted; run it again to go on")
        self.report = report
