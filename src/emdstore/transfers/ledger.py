"""What becomes of a plan's steps: which wait to be given out, how many are done, what their outcomes are."""

from __future__ import annotations

from collections import deque

import attrs

from emdstore.transfers.batch import foreseen
from emdstore.transfers.outcomes import KeyOutcome, Outcomes
from emdstore.transfers.plan import Step

SETTLED = frozenset({"unchanged", "missing", "rejected", "failed", "left"})
"""Actions that need nothing to be done."""


class Ledger:
    """The steps of one transfer.

    Parameters
    ----------
    only_prove
        Whether nothing is to be written.
    counts_bytes
        Whether somebody else counts the bytes of a copy while they move.

    Attributes
    ----------
    waiting
        What is to be given out next, with the positions of the outcomes.
    held
        How many more steps are known that have to wait for others.
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
        """Take a step in that waits for no other."""
        position = self.reserve(step)
        if self.only_prove and step.action == "compare":
            step = attrs.evolve(step, action="prove")
        if step.action in SETTLED or (self.only_prove and step.action != "prove"):
            # Nothing is to be done: so it is for all that a second run plans.
            self.conclude(position, step, foreseen(step))
        else:
            self.waiting.append((position, step))

    def reserve(self, step: Step) -> int:
        """Return the position of a step's outcome."""
        self.bytes_planned += step.size or 0
        return self.outcomes.reserve(step.key)

    def conclude(self, position: int, step: Step, outcome: KeyOutcome) -> None:
        """Note the outcome of a step that was not given out."""
        self.outcomes.put(position, outcome)
        self.keys_done += 1
        self.bytes_done += step.size or 0

    def record(self, position: int, step: Step, outcome: KeyOutcome) -> None:
        """Note the outcome of a step that was."""
        self.outcomes.put(position, outcome)
        self.keys_done += 1
        if step.size is None:  # a store that cannot tell: it is known only now
            self.bytes_planned += outcome.size or 0
        if outcome.outcome != "copied" or step.action == "write" or not self._counts_bytes:
            self.bytes_done += outcome.size or 0
