"""Drawing schedules, playing them, and making those that fail small."""

from __future__ import annotations

import ast
import contextlib
import gc
import hashlib
import itertools
import logging
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext

import attrs
import stamina
from tests.simulation import checks
from tests.simulation.actors import ACTORS, WITHOUT_CLAIM, Stage
from tests.simulation.checks import Violation, Watch
from tests.simulation.disk import Disk
from tests.simulation.kernel import FAULTS, STOPPED_SECONDS, Actor, Deadlock, Kernel
from tests.simulation.seams import pools_in_place, quick_protocols, resolved_once, stepping_files, times_of_changes
from tests.simulation.worlds import STATES, Scene, World

from emdstore.errors import DemotionRefusedError, EmdstoreError, ReleasedSetError
from emdstore.executions.without_catalog import publish_execution


@attrs.frozen
class Schedule:
    """One order of events.

    Attributes
    ----------
    scene
        What there is at first.
    actors
        What each does, and to which set.
    segments
        Whose turn it is, and for how many steps; None: until it ends or has to wait.
    faults
        Actor, step, and what happens to it there.
    skew
        By how many seconds each actor's clock is wrong.
    heal
        What comes first when all is quiet: ``commit`` or ``replay``.
    """

    scene: Scene
    actors: tuple[tuple[str, int], ...]
    segments: tuple[tuple[int, int | None], ...] = ()
    faults: tuple[tuple[int, int, str], ...] = ()
    skew: tuple[float, ...] = ()
    heal: str = "commit"

    def __str__(self) -> str:
        parts = (self.scene.results, self.scene.sets, self.actors, self.segments, self.faults, self.skew, self.heal)
        return repr(parts)

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Return the schedule that `str` has written."""
        results, sets, *rest = ast.literal_eval(text)
        return cls(Scene(results, sets), *rest)


Step = tuple[int, int, str, object, str, bool]
"""Who, its how manieth step, what it did, with what, what happened to it there, and whether it may change anything."""


@attrs.frozen
class Played:
    """What came of a schedule."""

    violations: tuple[Violation, ...]
    steps: tuple[int, ...]
    ends: tuple[str, ...]
    _trace: tuple[Step | str, ...]

    def steps_of(self, number: int) -> list[Step]:
        """Return the steps of one actor, without those of whoever heals afterwards."""
        mine = (each for each in self._trace if not isinstance(each, str) and each[0] == number)
        return [*itertools.islice(mine, self.steps[number])]

    @property
    def trace(self) -> tuple[str, ...]:
        """Each step as a line, written when it is asked for, which it mostly is not."""
        return tuple(each if isinstance(each, str) else _line(*each) for each in self._trace)


def draw(seed: int) -> Schedule:
    """Draw a schedule; the same one from the same seed."""
    chance = random.Random(seed)
    return chance.choices((_draw_late, _draw_damaged, _draw_apart, _draw_any), (9, 3, 2, 8))[0](chance)


_CLAIMERS = ("commit", "commit", "commit-and-clean", "batch", "reingest", "gc-stale")
_OTHERS = ("publish", "publish-and-clean", "bring", "bring")
_READERS = ("play-again", "prune", "read", "send", "release", "retract")
_CLEANERS = ("gc", "gc-stale", "commit-and-clean", "publish-and-clean")
_THEMES = (
    (_CLAIMERS, _CLAIMERS),
    (_CLAIMERS + _OTHERS, _CLAIMERS + _OTHERS),
    (_OTHERS, (*_READERS, "play-again", "play-again")),
    (_CLEANERS, _CLAIMERS + _OTHERS),
    (_CLAIMERS + _OTHERS, (*_CLEANERS, "mend", "mend")),
    (_READERS, _CLAIMERS + _OTHERS),
)
"""Who waits, and who goes on beside."""

_APT = {
    "behind": ("bring", (5, 45), ("gc", "gc-stale", "play-again", "mend", "commit-and-clean", "bring")),
    "unknown": ("publish", (9, 23), ("play-again", "prune", "read", "publish-and-clean", "gc")),
    "littered": ("gc-stale", (63, 66), ("commit", "commit-and-clean", "batch")),
}
"""What is done to sets that stand in a way of which most others make nothing, about where it matters that it waits, and
what is done meanwhile.
"""

_STEPS = {
    **{"commit": (9, 65), "commit-and-clean": (9, 95), "batch": (15, 80), "reingest": (15, 75), "gc": (5, 55)},
    **{"gc-stale": (8, 60), "publish": (9, 23), "publish-and-clean": (9, 50), "bring": (5, 45), "send": (5, 45)},
    **{"play-again": (3, 40), "prune": (3, 40), "read": (1, 8), "mend": (2, 30)},
    **{"release": (2, 14), "retract": (2, 6), "unretract": (2, 6)},
}
"""About at which of its steps it matters that somebody waits."""


def _draw_late(chance: random.Random) -> Schedule:
    """Draw one in which somebody waits at a step until others have done some of theirs, and goes on beside them."""
    state = chance.choices(STATES, (3, 1, 4, 1, 1, 2, 2, 2))[0]
    first, last = (chance.choice(each) for each in chance.choice(_THEMES))
    begins, ends = _STEPS[first]
    if state in _APT and chance.random() < 0.7:
        first, (begins, ends), others = _APT[state]
        last = chance.choice(others)
    between = chance.choice(
        ("write", "write", "write", "idle", "spoil", "lose", "drop", "damage", "gc", "commit-and-clean", "release")
    )
    actors = ((first, 0), (between, 0), (last, 0))
    step, ends_at = chance.randrange(begins, ends), _STEPS[last][1]
    begun: tuple[int, int | None] = (2, None) if chance.random() < 0.5 else (2, chance.randrange(1, ends_at))
    segments = ((0, step), (1, None), begun, (0, None), (2, None))
    if chance.random() < 0.3:  # nobody between
        segments = (segments[0], *segments[2:])
        actors = (actors[0], ("idle", 0), actors[2])
    faults = ((0, step, chance.choice(("stop", "stop", "kill"))),) if chance.random() < 0.6 else ()
    if chance.random() < 0.3:
        faults += (
            (chance.randrange(3), chance.randrange(1, 70), chance.choices(list(FAULTS), list(FAULTS.values()))[0]),
        )
    scene = Scene(chance.choices(("memory", "local"), (2, 1))[0], (state,))
    skew = (0.0, 0.0, float(chance.choice((0, 0, 0, -3600, 3600))))
    return Schedule(scene, actors, segments, faults, skew, chance.choice(("commit", "replay")))


def _draw_damaged(chance: random.Random) -> Schedule:
    """Draw one in which something is wrong with a set already, and somebody comes upon it."""
    state = chance.choices(STATES, (1, 5, 2, 1, 1, 1, 1, 1))[0]
    first = chance.choice(("drop", "damage", "lose", "spoil", "write", "copy-bare", "retract", "release"))
    then = chance.choice(
        chance.choice((_CLEANERS, _READERS, _CLAIMERS, _OTHERS, ("mend", "recover", "abort", "unretract")))
    )
    actors = ((first, 0), (then, 0))
    faults: tuple[tuple[int, int, str], ...] = ()
    if chance.random() < 0.4:
        at = chance.randrange(1, _STEPS.get(then, (1, 40))[1])
        faults = ((1, at, chance.choices(list(FAULTS), list(FAULTS.values()))[0]),)
    scene = Scene(chance.choices(("memory", "local"), (2, 1))[0], (state,))
    return Schedule(scene, actors, ((0, None),), faults, (), chance.choice(("commit", "replay")))


def _draw_apart(chance: random.Random) -> Schedule:
    """Draw one in which two publish one after the other, on machines with different times."""
    state = chance.choices(STATES, (3, 2, 3, 1, 1, 2, 2, 1))[0]
    first, last = (chance.choice(_CLAIMERS + _OTHERS) for _ in range(2))
    skew = chance.choice((3600.0, 0.0)), 0.0, chance.choice((-3600.0, -3600.0, 0.0, 3600.0))
    faults: tuple[tuple[int, int, str], ...] = ()
    if chance.random() < 0.3:
        faults = ((chance.choice((0, 2)), chance.randrange(1, 70), chance.choice(("kill", "ahead", "back"))),)
    scene = Scene(chance.choices(("memory", "local"), (2, 1))[0], (state,))
    return Schedule(scene, ((first, 0), ("write", 0), (last, 0)), (), faults, skew, chance.choice(("commit", "replay")))


def _draw_any(chance: random.Random) -> Schedule:
    kinds = list(ACTORS)
    count = chance.choices((1, 2, 3, 4), (2, 8, 4, 1))[0]
    sets = tuple(
        chance.choices(STATES, (5, 2, 3, 2, 1, 1, 1, 1))[0] for _ in range(chance.choices((1, 2, 3), (8, 2, 1))[0])
    )
    scene = Scene(chance.choices(("memory", "local"), (2, 1))[0], sets)
    actors = tuple((chance.choices(kinds, _WEIGHTS)[0], chance.randrange(len(sets))) for _ in range(count))
    segments = tuple(
        (chance.randrange(count), None if chance.random() < 0.5 else int(chance.paretovariate(0.6)) % 90)
        for _ in range(chance.randrange(0, 7))
    )
    faults = []
    for _ in range(chance.choices((0, 1, 2, 3), (3, 5, 2, 1))[0]):
        kind = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
        faults.append((chance.randrange(count), chance.randrange(1, 110), kind))
    skew = tuple(0.0 if chance.random() < 0.8 else float(chance.choice((-3600, -90, 90, 3600))) for _ in range(count))
    return Schedule(scene, actors, segments, tuple(faults), skew, chance.choice(("commit", "replay")))


_LIKELY = {"commit": 5, "commit-and-clean": 5, "gc": 3, "batch": 2, "batch-and-clean": 2, "play-again": 3, "write": 2}
_WEIGHTS = [_LIKELY.get(kind, 1) for kind in ACTORS]


class Stageplay:
    """What plays schedules: one world, and what is set up once for all of them."""

    def __init__(self) -> None:
        self.world = World()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Stageplay:
        self._stack.callback(self.world.close)
        self._stack.enter_context(pools_in_place())
        self._stack.enter_context(quick_protocols())
        self._stack.enter_context(resolved_once())
        self._stack.enter_context(times_of_changes(self.world.changes))
        disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        self._stack.callback(logging.disable, disabled)
        heard = sys.unraisablehook
        sys.unraisablehook = lambda _: None  # what the generators of killed actors have to say when they are let go
        self._stack.callback(setattr, sys, "unraisablehook", heard)
        thresholds = gc.get_threshold()
        gc.freeze()  # what was imported stays, and need not be looked through again and again
        gc.set_threshold(50_000, 20, 20)
        self._stack.callback(gc.set_threshold, *thresholds)
        self._stack.callback(gc.unfreeze)
        stamina.set_testing(True, attempts=3)  # nobody really waits
        self._stack.callback(stamina.set_testing, False)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, schedule: Schedule) -> Played:
        """Play a schedule, and judge it."""
        world = self.world
        world.restore(schedule.scene)
        faults = {(number, step): kind for number, step, kind in schedule.faults}
        kernel = Kernel(schedule.segments, faults)
        watch = Watch(world, kernel)
        for number, (kind, about) in enumerate(schedule.actors):
            skew = schedule.skew[number] if number < len(schedule.skew) else 0.0
            self._add(kernel, watch, kind, ACTORS[kind], about, skew)
        found: list[Violation] = []
        if any(kind.startswith("cut") for kind in faults.values()):
            disk = Disk(world.scratch, world.local_results)
            disk.flush()
            kernel.cut_power = lambda kind: watch.cut_power(lambda: disk.cut(kind))
        else:
            disk = None
        try:
            with nullcontext() if disk is None else disk.flushing(kernel):
                self._run(kernel, watch)
        except Deadlock as error:
            found.append(Violation(8, str(error)))
        steps = tuple(actor.steps for actor in kernel.actors)
        ends = tuple(f"{actor.name}: {_end_of(actor)}" for actor in kernel.actors)
        found += checks.errors_of(kernel.actors)
        if not found:
            found += checks.kept_claims(world, kernel.actors)
        kernel.unwind()
        found += watch.violations
        if not found:
            with world.at_rest():
                found += checks.lost_bytes(world, watch)
                found += checks.broken_sets(world, watch)
                found += checks.broken_words(world, watch)
                found += checks.wrong_rows(world, watch, checks.rows_of(world))
        trace: list[Step | str] = [*kernel.trace]
        if not found:
            found += self._judge_healing(schedule, watch, kernel.clock, kernel.stepped, trace)
        return Played(tuple(found), steps, ends, tuple(trace))

    def _add(
        self, kernel: Kernel, watch: Watch, name: str, work: Callable[[Stage], object], about: int, skew: float = 0.0
    ) -> Actor:
        world = self.world
        fragments = world.scene.fragments
        actor = kernel.add(name, lambda: None, skew)
        actor.has_claims = name not in WITHOUT_CLAIM
        stage = Stage(world, kernel, world.workspace(kernel, actor, watch), fragments[about % len(fragments)], watch)
        actor.work = lambda: work(stage)
        return actor

    def _run(self, kernel: Kernel, watch: Watch) -> None:
        self.world.engines.committed = watch.committed
        root = str(self.world.local_results) if self.world.scene.results == "local" else ""
        with stepping_files(kernel, self.world.changes, root, watch.wrote):
            kernel.run()

    def _judge_healing(
        self, schedule: Schedule, watch: Watch, clock: float, stepped: dict[str, float], trace: list[Step | str]
    ) -> Iterator[Violation]:
        """Judge what becomes of it when all is quiet: after one healer alone, then after both, then once more."""
        world = self.world
        order = (_heal_by_commit, _heal_by_replay)
        if schedule.heal == "replay":
            order = (_heal_by_replay, _heal_by_commit)
        clock += STOPPED_SECONDS
        before: object = None
        # It seldom finds more, and where the catalog does not know a set the first round is the one that tells it.
        goes_on = len(trace) % 10 == 0 and not watch.unknown and not watch.pruned
        again = (_heal_by_commit, _heal_by_replay) if goes_on else ()
        for number, heal in enumerate((*order, *again)):
            kernel = Kernel(nth=number + 1)
            kernel.clock, kernel.stepped = clock, stepped
            watch._kernel = kernel
            name = "healing commit" if heal is _heal_by_commit else "healing replay"
            actor = self._add(kernel, watch, name, heal, 0)
            try:
                self._run(kernel, watch)
            except Deadlock as error:
                yield Violation(8, f"{name}: {error}")
            trace.append(f"-- {name}: {_end_of(actor)}")
            trace += kernel.trace if number < 2 else ()
            clock = kernel.clock + 1.0
            if actor.error is not None:
                yield Violation(6, f"when all is quiet {name} ends with {type(actor.error).__name__}: {actor.error}")
            kernel.unwind()
            yield from watch.violations
            committed = heal is _heal_by_commit or number > 0
            with world.at_rest():
                rows = checks.rows_of(world)
                yield from checks.lost_bytes(world, watch)
                yield from checks.broken_sets(world, watch, committed=committed)
                yield from checks.broken_words(world, watch)
                has_rows = {each for each in world.scene.fragments if each not in watch.aborted}
                if number == 0 and committed:
                    has_rows -= watch.spoiled | checks.released_now(world)
                    has_rows = {each for each in has_rows if (world.scratch / each / "execution.json").exists()}
                yield from checks.wrong_rows(world, watch, rows, has_rows)
                if heal is _heal_by_replay:
                    yield from checks.wrong_words(world, watch, rows)
                if committed:
                    yield from checks.unshipped(world, watch, rows)
                if number == 1 and again:
                    before = checks.state_of(world)
                if number > 1:
                    yield from _differences(before, checks.state_of(world))


def _heal_by_commit(stage: Stage) -> object:
    """Commit all that scratch has, as somebody does who wants it shipped."""
    workspace, world = stage.workspace, stage.world
    known = checks.rows_of(world)
    if any(row["status"] == "running" for row in known.values()):
        workspace.recover()
    wanted = [
        each
        for each in world.scene.fragments
        if each not in stage.watch.aborted and each in known and (world.scratch / each / "execution.json").exists()
    ]
    report = workspace.commit_pending_executions(execution_ids=wanted)
    errors = [
        each.error
        for each in report.errors
        if not (isinstance(each.error, DemotionRefusedError) and each.fragment in stage.watch.spoiled)
        and not isinstance(each.error, ReleasedSetError)  # whether it says so by right is in what releases name
    ]
    if report.skipped:
        errors.append(EmdstoreError(f"skipped: {report.skipped}"))
    if errors:
        raise errors[0]
    for each in world.scene.fragments:
        if each not in known and (world.scratch / each / "execution.json").exists():
            try:
                publish_execution(workspace, each)
            except ReleasedSetError:
                pass
            except DemotionRefusedError:
                if each not in stage.watch.spoiled:
                    raise
    return None


def _heal_by_replay(stage: Stage) -> object:
    from emdstore.ingestion.replay import replay

    return replay(stage.workspace.results, stage.workspace.catalog)


def _differences(before: object, after: object) -> Iterator[Violation]:
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    for what in before:
        old, new = before[what], after[what]
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield Violation(7, f"a second quiet round changed {what} of {key}: {old.get(key)} to {new.get(key)}")


def _line(number: int, step: int, what: str, about: object, fault: str, _changes: bool) -> str:
    said = " ".join(str(about).split())[:90]
    return f"{number}.{step:<4} {what:22} {said}{f'   <- {fault.upper()}' if fault else ''}"


def _end_of(actor: Actor) -> str:
    if actor.state == "dead":
        return "killed"
    if actor.error is not None:
        return f"{type(actor.error).__name__}: {actor.error}"
    return "done" if actor.state == "done" else actor.state


def fingerprint(played: Played) -> str:
    """Return what two runs of one schedule have in common if they were the same, wherever they were played."""
    trace = [_ANYWHERE.sub("simulation", line) for line in (*played.trace, *played.ends)]
    return hashlib.sha256("\n".join(trace).encode()).hexdigest()


_ANYWHERE = re.compile(r"emdstore-simulation-\w+")


def shrink(stage: Stageplay, schedule: Schedule, seconds: float = 60.0) -> Schedule:
    """Return a smaller schedule that fails by the same check."""
    wanted = {each.check for each in stage.play(schedule).violations}
    give_up = time.monotonic() + seconds

    def fails(other: Schedule) -> bool:
        return bool(wanted & {each.check for each in stage.play(other).violations})

    while True:
        for smaller in _smaller(schedule):
            if time.monotonic() > give_up:
                return schedule
            if fails(smaller):
                schedule = smaller
                break
        else:
            return schedule


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    for number in range(len(schedule.actors)):
        if len(schedule.actors) > 1:
            yield _without(schedule, number)
    for number in range(len(schedule.faults)):
        yield attrs.evolve(schedule, faults=_left_out(schedule.faults, number))
    for number in range(len(schedule.segments)):
        yield attrs.evolve(schedule, segments=_left_out(schedule.segments, number))
    if any(schedule.skew):
        yield attrs.evolve(schedule, skew=())
    if len(schedule.scene.sets) > 1:
        for number in range(len(schedule.scene.sets)):
            sets = _left_out(schedule.scene.sets, number)
            actors = tuple((kind, max(0, about - (about >= number))) for kind, about in schedule.actors)
            yield attrs.evolve(schedule, scene=attrs.evolve(schedule.scene, sets=sets), actors=actors)
    if schedule.scene.results != "memory":
        yield attrs.evolve(schedule, scene=attrs.evolve(schedule.scene, results="memory"))
    for number, state in enumerate(schedule.scene.sets):
        for simpler in STATES[: STATES.index(state)]:
            sets = (*schedule.scene.sets[:number], simpler, *schedule.scene.sets[number + 1 :])
            yield attrs.evolve(schedule, scene=attrs.evolve(schedule.scene, sets=sets))
    for number, (actor, budget) in enumerate(schedule.segments):
        for fewer in () if budget is None else (None, budget // 2, budget - 1):
            if fewer is None or 0 <= fewer < (budget or 0):
                segments = (*schedule.segments[:number], (actor, fewer), *schedule.segments[number + 1 :])
                yield attrs.evolve(schedule, segments=segments)
    for number, (actor, step, kind) in enumerate(schedule.faults):
        for earlier in {step // 2, step - 1}:
            if 0 < earlier < step:
                faults = (*schedule.faults[:number], (actor, earlier, kind), *schedule.faults[number + 1 :])
                yield attrs.evolve(schedule, faults=faults)


def _left_out(items: tuple, number: int) -> tuple:
    return items[:number] + items[number + 1 :]


def _without(schedule: Schedule, number: int) -> Schedule:
    def moved(actor: int) -> int:
        return actor - (actor > number)

    count = len(schedule.actors)
    return attrs.evolve(
        schedule,
        actors=_left_out(schedule.actors, number),
        segments=tuple((moved(a % count), b) for a, b in schedule.segments if a % count != number),
        faults=tuple((moved(a), step, kind) for a, step, kind in schedule.faults if a != number),
        skew=_left_out(schedule.skew, number) if schedule.skew else (),
    )


def first_failure(stage: Stageplay, schedules: Iterable[Schedule]) -> tuple[Schedule, Played, int] | None:
    """Play schedules until one fails; return it, what came of it, and how many were played."""
    for number, schedule in enumerate(schedules, 1):
        played = stage.play(schedule)
        if played.violations:
            return schedule, played, number
    return None
