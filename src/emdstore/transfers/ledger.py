"""Keeping track of a plan's steps: which are waiting, how many are done, and their outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

import attrs

from emdstore.transfers.batch import foreseen
from emdstore.transfers.outcomes import KeyOutcome, Outcomes
from emdstore.transfers.plan import KeyPair, Step

SETTLED = frozenset({"unchanged", "missing", "rejected", "failed", "left"})
"""Actions that need no work."""


class Ledger:
    """The steps of one transfer.

    Parameters
    ----------
    only_prove
        Whether nothing must be written.
    counts_bytes
        Whether the bytes of a copy are counted elsewhere while they move.

    Attributes
    ----------
    waiting
        The next steps to hand out, with the positions of their outcomes.
    held
        How many more known steps have to wait for others.
    outcomes
        In the order in which the keys were planned.
    """

    def __init__(self, *, only_prove: bool, counts_bytes: bool) -> None:
        self.only_prove, self._counts_bytes = only_prove, counts_bytes
        self.waiting: deque[tuple[int, Step]] = deque()
        self.held = 0
        self.outcomes = Outcomes()
        self.keys_done = self.bytes_done = self.bytes_planned = 0

    def give(self, step: Step) -> None:
        """Add a step that does not wait for others."""
        self.bytes_planned += step.size or 0
        position = self.outcomes.reserve(step.key)
        if self.only_prove and step.action == "compare":
            step = attrs.evolve(step, action="prove")
        if step.action in SETTLED or (self.only_prove and step.action != "prove"):
            # Nothing to do, as for everything in a second run.
            self.conclude(position, step, foreseen(step))
        else:
            self.waiting.append((position, step))

    def keep(self, pairs: Collection[KeyPair]) -> None:
        """Record that keys are unchanged, without steps."""
        size = self.outcomes.keep((pair.key, pair.size) for pair in pairs)
        self.keys_done += len(pairs)
        self.bytes_planned += size
        self.bytes_done += size

    def reserve(self, step: Step) -> int:
        """Return the position of a step's outcome."""
        self.bytes_planned += step.size or 0
        return self.outcomes.reserve(step.key)

    def conclude(self, position: int, step: Step, outcome: KeyOutcome) -> None:
        """Record the outcome of a step that was not handed out."""
        self.outcomes.put(position, outcome)
        self.keys_done += 1
        self.bytes_done += step.size or 0

    def record(self, position: int, step: Step, outcome: KeyOutcome) -> None:
        """Record the outcome of a step that was handed out."""
        self.outcomes.put(position, outcome)
        self.keys_done += 1
        if step.size is None:  # known only now, for a store that cannot tell sizes
            self.bytes_planned += outcome.size or 0
        if outcome.outcome != "copied" or step.action == "write" or not self._counts_bytes:
            self.bytes_done += outcome.size or 0
