"""Folders that are moved as a whole, while they are: one rank of steps after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

import attrs

from emdstore.errors import StoreError
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import SupportsFlush
from emdstore.transfers.batch import foreseen
from emdstore.transfers.ledger import SETTLED, Ledger
from emdstore.transfers.outcomes import KeyOutcome
from emdstore.transfers.plan import Step
from emdstore.transfers.report import SetOutcome, SetWord
from emdstore.transfers.units import Unit, steps_of


@attrs.define(eq=False)
class _UnitRun:
    """A unit on its way: its steps are given out rank by rank, and what is left of it as soon as one fails.

    Attributes
    ----------
    unit
        The unit.
    positions
        Where the outcome of each key belongs.
    ranks
        What comes after the steps that are under way.
    pending
        How many steps are under way.
    changes
        Whether anything was or will be written.
    opened
        Whether the opening was done, so that it is what the seal takes the place of.
    error
        The first failure.
    stage
        What the steps that are under way are for.
    """

    unit: Unit
    positions: dict[str, int]
    ranks: deque[list[Step]] = attrs.field(factory=deque)
    pending: int = 0
    changes: bool = False
    opened: bool = False
    error: Exception | None = None
    stage: Literal["proving", "opening", "moving", "sealing", "done"] = "proving"


def _seal_of(run: _UnitRun) -> Step:
    """Return the step that seals a unit: over what its opening has left, or over what was there when it was planned."""
    seal, opening = run.unit.seal, run.unit.opening
    assert seal is not None
    if not run.opened or opening is None or seal.action != "write":
        return seal
    return attrs.evolve(seal, there=sha256_of(opening.data or b""))


class UnitRuns:
    """The units of one transfer that are on their way.

    Parameters
    ----------
    ledger
        Where their steps wait, and their outcomes are noted.
    flushed
        The destination, if what a seal vouches for is to be on the disk before it.

    Attributes
    ----------
    sets
        What became of the units that are done.
    sealable
        Units that wait for the disk before they are sealed.
    """

    def __init__(self, ledger: Ledger, flushed: SupportsFlush | None) -> None:
        self._ledger, self._flushed = ledger, flushed
        self._runs: dict[int, _UnitRun] = {}  # by the positions of their steps that are under way
        self._openings = 0
        self.sealable: list[_UnitRun] = []
        self.sets: list[SetOutcome] = []

    def settle(self, position: int, step: Step, outcome: KeyOutcome) -> bool:
        """Take note of what became of a step, if it is one of a unit; return whether it is."""
        run = self._runs.pop(position, None)
        if run is not None:
            self._settle(run, position, step, outcome)
        return run is not None

    def unfinished(self) -> list[SetOutcome]:
        """Return the units that are under way, as those of an interrupted transfer."""
        runs = {id(run): run for run in (*self._runs.values(), *self.sealable)}
        return [SetOutcome(run.unit.folder, "left", run.error) for run in runs.values()]

    def begin(self, unit: Unit) -> None:
        """Take a unit in."""
        loose = {step.key for step in unit.loose}
        positions = {}
        for step in steps_of(unit):
            if step.key in loose:
                self._ledger.give(step)
            else:
                positions[step.key] = self._ledger.reserve(step)
        if not positions:
            if unit.error is not None:
                self.sets.append(SetOutcome(unit.folder, "left", unit.error))
            return
        run = _UnitRun(unit, positions)
        now: list[Step] = []
        for rank in unit.ranks:
            later = []
            for step in rank:
                if step.action in SETTLED:
                    self._ledger.conclude(positions[step.key], step, foreseen(step))
                    if step.action != "unchanged":
                        run.error = run.error or step.error
                elif step.action == "compare" and (unit.opening is not None or self._ledger.only_prove):
                    now.append(attrs.evolve(step, action="prove"))
                elif step.action == "copy" and step.doubt and unit.opening is not None:
                    now.append(attrs.evolve(step, action="check"))
                else:
                    later.append(step)
            run.ranks.append(later)
        self._ledger.held += sum(map(len, run.ranks))
        self._release(run, now)

    def _release(self, run: _UnitRun, steps: Sequence[Step]) -> None:
        """Give out steps of a unit, before others so that few sets are open at a time; or go on if there are none."""
        if not steps:
            self._advance(run)
            return
        run.pending = len(steps)
        for step in reversed(steps):
            if run.stage == "opening":
                self._openings += 1
                position = -self._openings
            else:
                position = run.positions[step.key]
            self._runs[position] = run
            self._ledger.waiting.appendleft((position, step))

    def _advance(self, run: _UnitRun) -> None:
        """Go on with a unit of which nothing is under way."""
        unit = run.unit
        if run.stage == "proving":
            run.changes = any(run.ranks)
            foreseen = self._ledger.only_prove or (run.error is not None and unit.opening is not None)
            if foreseen:  # what cannot be completed does not touch what is complete
                self._leave(run, foresee=self._ledger.only_prove)
                return
            run.stage = "opening"
            if run.changes and unit.opening is not None:
                run.opened = True
                self._release(run, [unit.opening])
                return
        if run.stage == "opening":
            if run.opened and run.error is not None:  # what vouches for the folder still does: no byte may change
                self._leave(run, foresee=False)
                return
            run.stage = "moving"
        if run.stage == "moving":
            if run.ranks and (run.error is None or len(run.ranks) == len(unit.ranks)):
                steps = run.ranks.popleft()
                self._ledger.held -= len(steps)
                self._release(run, steps)
                return
            if run.error is not None or unit.seal is None or (unit.sealed and not run.changes):
                self._leave(run, foresee=False)
                return
            run.stage = "sealing"
            if self._flushed is not None:
                self.sealable.append(run)
            else:
                self._release(run, [_seal_of(run)])
            return
        if run.stage == "sealing":
            self._leave(run, foresee=False)

    def seal_some(self) -> bool:
        """Write the seals of all units that wait for the disk; return whether there were any."""
        sealable, self.sealable = self.sealable, []
        if sealable and self._flushed is not None:
            self._flushed.flush()
        for run in sealable:
            self._release(run, [_seal_of(run)])
        return bool(sealable)

    def _leave(self, run: _UnitRun, *, foresee: bool) -> None:
        """End a unit: all that is not done by now is not done, or would be."""
        unit = run.unit
        rest = [step for rank in run.ranks for step in rank]
        self._ledger.held -= len(rest)
        sealed = unit.sealed and not run.changes
        if unit.seal is not None and run.stage != "sealing":
            rest.append(attrs.evolve(unit.seal, action="unchanged") if sealed else unit.seal)
        for step in rest:
            if step.action == "unchanged" or (foresee and run.error is None):
                outcome = foreseen(step)
            else:
                held = StoreError(f"{step.key!r} waits for its set: {run.error}", key=step.key)
                outcome = KeyOutcome(step.key, "left", step.size, error=held)
            self._ledger.conclude(run.positions[step.key], step, outcome)
        run.stage = "done"
        word: SetWord = "failed" if run.error is not None else "copied" if run.changes or not sealed else "unchanged"
        self.sets.append(SetOutcome(unit.folder, word, run.error))

    def _settle(self, run: _UnitRun, position: int, step: Step, outcome: KeyOutcome) -> None:
        """Take note of what became of a step of a unit, and go on with the unit when nothing of it is under way."""
        run.pending -= 1
        if outcome.outcome not in ("copied", "unchanged"):
            run.error = run.error or outcome.error
        if run.stage == "proving" and outcome.outcome == "copied":  # it differs
            number = next(number for number, rank in enumerate(run.unit.ranks) if any(s.key == step.key for s in rank))
            run.ranks[number].append(attrs.evolve(step, action="copy", doubt=False))
            self._ledger.held += 1
        elif run.stage != "opening":
            self._ledger.record(position, step, outcome)
        if not run.pending:
            self._advance(run)
