"""What a transfer did."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import attrs

from emdstore.errors import Interrupted, TransferError
from emdstore.shown import Shown
from emdstore.stores.port import LeftOut
from emdstore.transfers.outcomes import OUTCOMES, KeyOutcome, Outcome, Outcomes, packed

_NAMED_IN_ERROR = 5

SetWord = Literal["copied", "unchanged", "failed", "left"]


@attrs.frozen
class SetOutcome:
    """The outcome of one set.

    Attributes
    ----------
    folder
        Its folder.
    outcome
        ``copied``: it is complete at the destination now; ``unchanged``: it was before; ``failed``: part of it did not
        arrive, so it is not complete there; ``left``: it was not begun, or the transfer was interrupted.
    error
        Why it failed, or was left.
    """

    folder: str
    outcome: SetWord
    error: Exception | None = None


@attrs.frozen(slots=False, repr=False)
class TransferReport(Shown):
    """One outcome for each key of a transfer.

    Attributes
    ----------
    outcomes
        A sequence in the order in which the keys were planned; its items are created on access.
    seconds
        How long it took.
    dry_run
        Whether nothing was moved, and ``copied`` means that it would be.
    sets
        One outcome for each set, in the order of their folders; their keys are among the other outcomes.
    left_out
        Things at the source that are not artifacts, because no key can name them or they cannot be read.
    is_cut
        Whether it ended early because the rest would have exceeded the allowed bytes.
    """

    outcomes: Outcomes = attrs.field(converter=packed)
    seconds: float = 0.0
    dry_run: bool = False
    sets: tuple[SetOutcome, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    is_cut: bool = False

    @cached_property
    def counts(self) -> dict[Outcome, int]:
        """The number of keys with each outcome."""
        return {outcome: self.outcomes.count_of(outcome) for outcome in OUTCOMES}

    def keys(self, outcome: Outcome) -> tuple[str, ...]:
        """Return the keys that had this outcome."""
        return tuple(each.key for each in self.outcomes.of_kind(outcome))

    @property
    def bytes_copied(self) -> int:
        """The total size of the artifacts that were copied."""
        return self.outcomes.bytes_of("copied")

    @property
    def failures(self) -> tuple[KeyOutcome, ...]:
        """What did not arrive: missing, rejected, failed and left keys."""
        return tuple(self.outcomes.of_kind("missing", "rejected", "failed", "left"))

    @property
    def ok(self) -> bool:
        """Whether everything at the source, or everything that was asked for, is at the destination."""
        return not self.failures and not self.left_out and not self.is_cut

    def raise_for_failures(self) -> None:
        """Raise `TransferError` if anything did not arrive; the first error is its cause."""
        failures = self.failures
        if failures:
            named = "; ".join(f"{each.key}: {each.outcome}: {each.error}" for each in failures[:_NAMED_IN_ERROR])
            more = f"; and {len(failures) - _NAMED_IN_ERROR} more" if len(failures) > _NAMED_IN_ERROR else ""
            raise TransferError(
                f"{len(failures)} of {len(self.outcomes)} artifacts did not arrive: {named}{more}", key=failures[0].key
            ) from failures[0].error
        if self.left_out:
            first = self.left_out[0]
            raise TransferError(
                f"{len(self.left_out)} things at the source were left out; the first: {first.name} {first.reason}"
            ) from first.error
        if self.is_cut:
            raise TransferError("the rest would have been more bytes than were allowed: call it again to go on")

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "dry_run": self.dry_run,
            "is_cut": self.is_cut,
            "seconds": round(self.seconds, 3),
            "bytes_copied": self.bytes_copied,
            "counts": dict(self.counts),
            "sets": [
                {
                    "folder": each.folder,
                    "outcome": each.outcome,
                    "error": None if each.error is None else str(each.error),
                }
                for each in self.sets
            ],
            "left_out": [each.as_dict() for each in self.left_out],
            "artifacts": [
                {
                    "key": each.key,
                    "outcome": each.outcome,
                    "size": each.size,
                    "sha256": each.sha256,
                    "error": None if each.error is None else str(each.error),
                }
                for each in self.outcomes
            ],
        }


@attrs.frozen
class TransferProgress:
    """The progress of a transfer.

    Attributes
    ----------
    keys_done, bytes_done
        Keys with an outcome, and bytes that were moved or did not have to be.
    keys_planned, bytes_planned
        How many are known so far.
    complete
        Whether planning has finished, so that these numbers are final.
    latest
        The key whose outcome came last; no part of equality.
    """

    keys_done: int
    bytes_done: int
    keys_planned: int
    bytes_planned: int
    complete: bool
    latest: str = attrs.field(default="", eq=False)


class TransferInterrupted(Interrupted):
    """Ctrl-C during a transfer. Every object is whole; run it again to continue. See `Interrupted`."""

    _what = "the transfer"
    report: TransferReport
