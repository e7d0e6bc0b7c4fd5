"""What a replay did, into emdstore's catalog or another database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, get_args

import attrs

from emdstore import system
from emdstore.errors import EmdstoreError, Interrupted
from emdstore.progress import KEPT, Tally
from emdstore.shown import Shown
from emdstore.stores.left_out import FirstLeftOut
from emdstore.stores.port import LeftOut

State = Literal[
    "ingested",
    "unchanged",
    "moved",
    "pruned",
    "vanished",
    "shadowed",
    "kept",
    "publishing",
    "incomplete",
    "changed",
    "unreadable",
    "newer-schema",
    "invalid",
]
STATES: tuple[State, ...] = get_args(State)
FAILED: tuple[State, ...] = STATES[4:]
_GONE: tuple[State, ...] = ("moved", "pruned", "vanished")

ReplayCallback: TypeAlias = "Callable[[IngestOutcome, int, int | None], object]"


@attrs.frozen
class IngestOutcome:
    """The outcome of one set.

    Attributes
    ----------
    fragment
        The execution.
    state
        ``ingested``; ``unchanged``: the database had it; ``moved``: its record is in another folder now, so this
        folder's rows were removed; ``pruned``: its set is gone from the store, and its rows were removed. All others
        leave the database unchanged. ``vanished``: its set is gone from the store, but its rows are still there;
        ``shadowed``: a bare set, while the rows of its folder come from a record or belong to a workspace; ``kept``:
        less than what the database has, or older; ``publishing``, ``changed``, ``unreadable``, ``newer-schema``: the
        state of the set, as is ``incomplete`` for a set without a record; ``invalid``: the database refuses its values,
        or every worker that read it was lost.
    status
        The execution's status, if it was read.
    artifacts, outputs, scalars, series, warnings
        The numbers of rows in the database.
    error
        Why nothing was written.
    set_state
        The state of the set, if it was looked at; see `emdstore.sets.state.SetState`.
    notes
        Remarks for people about what did not fit.
    """

    fragment: str
    state: State
    status: str | None = None
    artifacts: int = 0
    outputs: int = 0
    scalars: int = 0
    series: int = 0
    warnings: int = 0
    error: EmdstoreError | None = attrs.field(default=None, eq=str)
    set_state: str | None = None
    notes: tuple[str, ...] = ()


@attrs.frozen(repr=False)
class ReplayReport(Shown):
    """The outcomes of the sets that were found.

    Attributes
    ----------
    counts
        How many sets there are of each outcome.
    outcomes
        The first 10,000 ingested sets, and as many that were not, in the order in which they were found. Unchanged sets
        are only counted; to see every set, pass `on_progress` to `replay`.
    seconds
        How long it took.
    left_out
        The first 10,000 things in the store that are not artifacts, because no key can name them or they cannot be
        read.
    """

    counts: Mapping[State, int]
    outcomes: tuple[IngestOutcome, ...] = ()
    seconds: float = 0.0
    left_out: tuple[LeftOut, ...] = ()

    @property
    def sets(self) -> int:
        """How many sets were found."""
        return sum(count for state, count in self.counts.items() if state not in _GONE)

    @property
    def failures(self) -> tuple[IngestOutcome, ...]:
        """The sets that were not loaded, as far as `outcomes` has them."""
        return tuple(each for each in self.outcomes if each.state in FAILED)

    @property
    def failed(self) -> int:
        """How many sets were not loaded."""
        return sum(self.counts[state] for state in FAILED)

    @property
    def ok(self) -> bool:
        """Whether the database holds every set that was found, and nothing was left out."""
        return not self.failed and not self.left_out

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "seconds": round(self.seconds, 3),
            "counts": dict(self.counts),
            "executions": [
                attrs.asdict(each) | {"error": None if each.error is None else str(each.error)}
                for each in self.outcomes
            ],
            "left_out": [each.as_dict() for each in self.left_out],
        }


class ReplayInterrupted(Interrupted):
    """Ctrl-C during a replay. What was ingested is whole; running it again goes on from here. See `Interrupted`."""

    _what = "the replay"
    report: ReplayReport


class Collected:
    """The outcomes of a replay, as they come in."""

    def __init__(self, on_progress: ReplayCallback | None) -> None:
        self.tally = Tally(on_progress)
        self.left_out = FirstLeftOut()
        self._counts = dict.fromkeys(STATES, 0)
        self._kept: list[IngestOutcome] = []
        self._started = system.current().monotonic()

    def add(self, outcome: IngestOutcome) -> None:
        """Count an outcome, and keep it if it is among the first of its kind."""
        self._counts[outcome.state] += 1
        kind: tuple[State, ...] = FAILED if outcome.state in FAILED else (outcome.state,)
        if outcome.state != "unchanged" and sum(self._counts[state] for state in kind) <= KEPT:
            self._kept.append(outcome)
        self.tally.done(outcome)

    def report(self) -> ReplayReport:
        """Return what has come in so far."""
        seconds = system.current().monotonic() - self._started
        return ReplayReport(dict(self._counts), tuple(self._kept), seconds, self.left_out.kept)
