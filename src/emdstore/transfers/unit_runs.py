"""Moving folders as a whole, one rank of steps after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

import attrs

from emdstore.errors import StoreError
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore, SupportsFlush
from emdstore.transfers.batch import foreseen
from emdstore.transfers.ledger import SETTLED, Ledger
from emdstore.transfers.outcomes import KeyOutcome
from emdstore.transfers.plan import Step
from emdstore.transfers.seals import ATTEMPTS, overtaken
from emdstore.transfers.transfer_report import SetOutcome, SetWord
from emdstore.transfers.units import Unit, steps_of


@attrs.define(eq=False)
class _UnitRun:
    """A unit in progress: its steps are handed out rank by rank; as soon as one fails, the rest are left.

    Attributes
    ----------
    unit
        The unit.
    positions
        The position of each key's outcome.
    ranks
        The ranks after the steps in progress.
    pending
        The number of steps in progress.
    changes
        Whether anything was or will be written.
    opened
        Whether the unit was opened, so that the seal replaces the opening.
    error
        The first failure.
    stage
        The purpose of the steps in progress.
    attempts
        How often the seal has been written.
    overwritten
        What the last read-back found to be different.
    """

    unit: Unit
    positions: dict[str, int]
    ranks: deque[list[Step]] = attrs.field(factory=deque)
    pending: int = 0
    changes: bool = False
    opened: bool = False
    error: Exception | None = None
    stage: Literal["proving", "opening", "moving", "sealing", "reading back", "done"] = "proving"
    attempts: int = 0
    overwritten: set[str] = attrs.field(factory=set)

    @property
    def is_told(self) -> bool:
        """Whether the steps in progress have their own outcomes in the report."""
        return self.stage not in ("opening", "reading back") and not self.attempts


def _seal_of(run: _UnitRun) -> Step:
    """Return the step that seals a unit: over its opening, or over what was there when it was planned."""
    seal, opening = run.unit.seal, run.unit.opening
    assert seal is not None
    if not run.opened or opening is None or seal.action != "write":
        return seal
    return attrs.evolve(seal, there=sha256_of(opening.data or b""))


class UnitRuns:
    """The units of one transfer in progress.

    Parameters
    ----------
    dest
        The destination.
    ledger
        Holds their steps and outcomes.
    flushed
        The destination, if it must be flushed before seals are written.
    arrived
        Called with each unit that is at the destination as it was planned.

    Attributes
    ----------
    sets
        The outcomes of finished units.
    sealable
        Units that wait for a flush before they are sealed.
    """

    def __init__(
        self,
        dest: ArtifactStore,
        ledger: Ledger,
        flushed: SupportsFlush | None,
        arrived: Callable[[Unit], object] = lambda _: None,
    ) -> None:
        self._dest, self._ledger, self._flushed, self._arrived = dest, ledger, flushed, arrived
        self._runs: dict[int, _UnitRun] = {}  # by the positions of their steps in progress
        self._untold = 0
        self.sealable: list[_UnitRun] = []
        self.sets: list[SetOutcome] = []

    def settle(self, position: int, step: Step, outcome: KeyOutcome) -> bool:
        """Record the outcome of a step, if it belongs to a unit; return whether it does."""
        run = self._runs.pop(position, None)
        if run is not None:
            self._settle(run, position, step, outcome)
        return run is not None

    def unfinished(self) -> list[SetOutcome]:
        """Return the outcomes of units in progress, for an interrupted transfer."""
        runs = {id(run): run for run in (*self._runs.values(), *self.sealable)}
        return [SetOutcome(run.unit.folder, "left", run.error) for run in runs.values()]

    def begin(self, unit: Unit) -> None:
        """Take a unit in."""
        if unit.unchanged:  # as nearly all are in a second run
            self._ledger.keep(unit.unchanged)
            self.sets.append(SetOutcome(unit.folder, "unchanged"))
            return
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
                elif step.action == "compare" and (unit.opening is not None or unit.sealed or self._ledger.only_prove):
                    now.append(attrs.evolve(step, action="prove"))
                elif step.action == "copy" and step.doubt and unit.opening is not None:
                    now.append(attrs.evolve(step, action="check"))
                else:
                    later.append(step)
            run.ranks.append(later)
        self._ledger.held += sum(map(len, run.ranks))
        self._release(run, now)

    def _release(self, run: _UnitRun, steps: Sequence[Step]) -> None:
        """Hand out steps of a unit, ahead of others so that few sets are open at a time; continue if there are none."""
        if not steps:
            self._advance(run)
            return
        run.pending = len(steps)
        for step in reversed(steps):
            if run.is_told:
                position = run.positions[step.key]
            else:
                self._untold += 1
                position = -self._untold
            self._runs[position] = run
            self._ledger.waiting.appendleft((position, step))

    def _advance(self, run: _UnitRun) -> None:
        """Continue a unit that has no step in progress."""
        unit = run.unit
        if run.stage == "proving":
            run.changes = any(run.ranks)
            foreseen = self._ledger.only_prove or (run.error is not None and unit.opening is not None)
            if foreseen:  # a set that cannot be completed does not touch a complete one
                self._leave(run, foresee=self._ledger.only_prove)
                return
            run.stage = "opening"
            if run.changes and unit.opening is not None:
                run.opened = True
                self._release(run, [unit.opening])
                return
        if run.stage == "opening":
            if run.opened and run.error is not None:  # the old seal still vouches for the folder, so no byte may change
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
        if run.stage == "sealing" and run.error is None and unit.read_back:
            run.attempts += 1
            run.stage = "reading back"
            self._release(run, unit.read_back)
            return
        if run.stage == "reading back" and run.error is None and run.overwritten:
            if run.attempts < ATTEMPTS:
                self._begin_again(run)
                return
            run.error = overtaken(unit.folder, self._dest)
        self._leave(run, foresee=False)

    def _begin_again(self, run: _UnitRun) -> None:
        """Reopen a unit that was sealed over another writer's bytes, and send again what that has overwritten."""
        unit, seal = run.unit, run.unit.seal
        assert seal is not None
        assert unit.opening is not None
        opening = attrs.evolve(unit.opening, there=sha256_of(seal.data or b""))
        sent = {step.key: attrs.evolve(step, action="copy") for step in unit.read_back if step.key in run.overwritten}
        run.ranks = deque([sent[step.key] for step in rank if step.key in sent] for rank in unit.ranks)
        run.overwritten.clear()
        run.opened, run.stage = True, "opening"
        self._ledger.held += len(sent)
        self._release(run, [opening])

    def seal_some(self) -> bool:
        """Write the seals of all units that wait for a flush; return whether there were any."""
        sealable, self.sealable = self.sealable, []
        if sealable and self._flushed is not None:
            self._flushed.flush()
        for run in sealable:
            self._release(run, [_seal_of(run)])
        return bool(sealable)

    def _leave(self, run: _UnitRun, *, foresee: bool) -> None:
        """End a unit: everything that is not done is left, or would be done."""
        unit = run.unit
        rest = [step for rank in run.ranks for step in rank]
        self._ledger.held -= len(rest)
        sealed = unit.sealed and not run.changes
        if unit.seal is not None and run.stage != "sealing":
            rest.append(attrs.evolve(unit.seal, action="unchanged") if sealed else unit.seal)
        if run.attempts:  # everything has an outcome
            rest = []
            if run.error is not None and unit.seal is not None:
                failed = KeyOutcome(unit.seal.key, "failed", unit.seal.size, error=run.error)
                self._ledger.outcomes.put(run.positions[unit.seal.key], failed)
        for step in rest:
            if step.action == "unchanged" or (foresee and run.error is None):
                outcome = foreseen(step)
            else:
                held = StoreError(f"{step.key!r} waits for its set: {run.error}", key=step.key)
                outcome = KeyOutcome(step.key, "left", step.size, error=held)
            self._ledger.conclude(run.positions[step.key], step, outcome)
        run.stage = "done"
        if unit.is_part:
            if unit.error is not None:
                self.sets.append(SetOutcome(unit.folder, "left", unit.error))
            return
        word: SetWord = "failed" if run.error is not None else "copied" if run.changes or not sealed else "unchanged"
        self.sets.append(SetOutcome(unit.folder, word, run.error))
        if run.error is None:
            self._arrived(unit)

    def _settle(self, run: _UnitRun, position: int, step: Step, outcome: KeyOutcome) -> None:
        """Record the outcome of a unit's step, and continue the unit when it has no step in progress."""
        run.pending -= 1
        if outcome.outcome not in ("copied", "unchanged"):
            run.error = run.error or outcome.error
        if run.stage == "proving" and outcome.outcome == "copied":  # it differs
            number = next(number for number, rank in enumerate(run.unit.ranks) if any(s.key == step.key for s in rank))
            run.ranks[number].append(attrs.evolve(step, action="copy", doubt=False))
            self._ledger.held += 1
        elif run.is_told:
            self._ledger.record(position, step, outcome)
        elif run.stage == "reading back" and outcome.outcome == "copied":  # it differs
            run.overwritten.add(step.key)
        elif run.stage == "moving":  # again
            self._ledger.outcomes.put(run.positions[step.key], outcome)
        if not run.pending:
            self._advance(run)
