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
    ways = (_draw_late, _draw_delicate, _draw_half, _draw_damaged, _draw_apart, _draw_any)
    return chance.choices(ways, (7, 7, 4, 4, 3, 5))[0](chance)


_HEALERS = ("commit", "replay")
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
    "behind": ("bring", (3, 10), ("gc", "gc-stale", "play-again", "mend", "commit-and-clean", "bring")),
    "unknown": ("publish", (9, 21), ("play-again", "prune", "read", "publish-and-clean", "gc")),
    "littered": ("gc-stale", (60, 92), ("commit", "commit-and-clean", "batch")),
}
"""What is done to sets that stand in a way of which most others make nothing, about where it matters that it waits, and
what is done meanwhile.
"""

_STEPS = {
    **{"commit": (5, 62), "commit-and-clean": (5, 108), "batch": (8, 66), "reingest": (8, 105), "gc": (3, 57)},
    **{"gc-stale": (3, 61), "publish": (2, 22), "publish-and-clean": (2, 56), "bring": (2, 12), "send": (2, 9)},
    **{"play-again": (2, 16), "prune": (2, 14), "read": (1, 5), "mend": (1, 8)},
    **{"release": (2, 14), "retract": (1, 4), "unretract": (1, 4)},
}
"""About at which of its steps it matters that somebody waits; with files for results there are half as many again."""


def _step_of(chance: random.Random, kind: str, results: str) -> int:
    begins, ends = _STEPS.get(kind, (1, 40))
    return chance.randrange(begins, ends if results == "memory" else ends * 3 // 2)


def _any_fault(chance: random.Random) -> str:
    return chance.choices(list(FAULTS), list(FAULTS.values()))[0]


def _any_results(chance: random.Random) -> str:
    return chance.choices(("memory", "local"), (2, 1))[0]


def _draw_late(chance: random.Random) -> Schedule:
    """Draw one in which somebody waits at a step until others have done some of theirs, and goes on beside them."""
    state = chance.choices(STATES, (3, 1, 4, 1, 1, 2, 2, 2))[0]
    results = _any_results(chance)
    first, last = (chance.choice(each) for each in chance.choice(_THEMES))
    step = _step_of(chance, first, results)
    if state in _APT and chance.random() < 0.7:
        first, (begins, ends), others = _APT[state]
        step, last = chance.randrange(begins, ends), chance.choice(others)
    between = chance.choice(
        ("write", "write", "write", "idle", "spoil", "lose", "drop", "damage", "gc", "commit-and-clean", "release")
    )
    actors = ((first, 0), (between, 0), (last, 0))
    begun: tuple[int, int | None] = (2, None if chance.random() < 0.5 else _step_of(chance, last, results))
    segments = ((0, step), (1, None), begun, (0, None))  # and then who has not come to its end
    if chance.random() < 0.3:  # nobody between
        segments = (segments[0], *segments[2:])
        actors = (actors[0], ("idle", 0), actors[2])
    faults = ((0, step, chance.choice(("stop", "stop", "kill"))),) if chance.random() < 0.6 else ()
    if chance.random() < 0.3:
        faults += ((chance.randrange(3), chance.randrange(1, 70), _any_fault(chance)),)
    skew = (0.0, 0.0, float(chance.choice((0, 0, 0, -3600, 3600))))
    return Schedule(Scene(results, (state,)), actors, segments, faults, skew, chance.choice(_HEALERS))


_SHIPS = ("commit", "commit-and-clean")
_DELICATE = (
    # Before it claims, while another is amid what it has claimed.
    (("stopped", "edited"), _SHIPS, (8, 10), None, (*_SHIPS, "reingest"), (12, 46)),
    (("lost", "littered"), _SHIPS, (8, 10), None, _SHIPS, (12, 40)),
    (("stopped", "edited", "lost", "littered"), ("batch",), (12, 14), None, _CLAIMERS, (12, 46)),
    # When it has put its record and has not written rows; then it is watched before it is taken over.
    (("stopped",), _SHIPS, (42, 47), None, _CLAIMERS, (22, 60)),
    (("edited", "littered"), _SHIPS, (40, 45), None, _CLAIMERS, (22, 60)),
    (("lost",), _SHIPS, (36, 41), None, _CLAIMERS, (22, 60)),
    # Before it sends bytes which then lie where another publishes a later version of them.
    (("littered",), ("publish",), (15, 18), "write", ("publish",), (15, 19)),
    (("littered",), ("publish",), (15, 18), "write", _SHIPS, (31, 35)),
    (("littered",), ("commit",), (31, 34), "write", _SHIPS, (43, 47)),
    # Before it removes what it has found to be published, or not to be named.
    (("published",), ("gc", "gc-stale"), (16, 24), "write", ("idle", "commit", "publish"), None),
    (("stopped", "edited"), ("commit-and-clean",), (75, 86), "write", ("idle", "publish", "bring"), None),
    (("stopped", "edited"), ("publish-and-clean",), (30, 38), "write", ("idle", "commit", "bring"), None),
    (("littered",), ("gc-stale",), (63, 66), None, _SHIPS, None),
)
"""How a set stands, who waits and at which of its steps, what happens between, who goes on and until which step."""


def _draw_delicate(chance: random.Random) -> Schedule:
    """Draw one in which somebody waits where it has looked and not yet acted."""
    states, firsts, steps, between, lasts, begun = chance.choice(_DELICATE)
    step = chance.randrange(*steps)
    names = (chance.choice(firsts), *(() if between is None else (between,)), chance.choice(lasts))
    others = [*range(1, len(names))]
    turns = ((0, step), *((each, None) for each in others[:-1]))
    segments = (*turns, (others[-1], None if begun is None else chance.randrange(*begun)), (0, None))
    faults = ((0, step, "stop"),) if chance.random() < 0.75 else ()
    skew = tuple(chance.choice((0.0, 0.0, each, each, -each)) for each in (3600.0, *(-3600.0 for _ in names[1:])))
    scene = Scene(chance.choices(("memory", "local"), (5, 1))[0], (chance.choice(states),))
    return Schedule(scene, tuple((each, 0) for each in names), segments, faults, skew, chance.choice(_HEALERS))


def _draw_half(chance: random.Random) -> Schedule:
    """Draw one in which somebody is cut off half-way, and another comes upon what is left."""
    state = chance.choices(STATES, (2, 1, 3, 0, 2, 1, 4, 1))[0]
    results = _any_results(chance)
    first = "bring" if state in ("behind", "lost") and chance.random() < 0.7 else chance.choice(_CLAIMERS + _OTHERS)
    then = chance.choice(chance.choice((_CLEANERS, ("gc", "gc-stale"), _CLAIMERS, _OTHERS + _READERS)))
    faults = ((0, _step_of(chance, first, results), chance.choice(("kill", "kill", "stuck", "stuck", "gone"))),)
    scene = Scene(results, (state,))
    return Schedule(scene, ((first, 0), (then, 0)), (), faults, (), chance.choice(_HEALERS))


_COME_UPON = (("drop", ("gc", "gc-stale")), ("damage", ("bring",)), ("damage", ("gc", "gc-stale", "read", "mend")))
"""What is wrong with a set that was published, and who must not go by what its record says."""


def _draw_damaged(chance: random.Random) -> Schedule:
    """Draw one in which something is wrong with a set already, and somebody comes upon it."""
    state = chance.choices(STATES, (1, 5, 2, 1, 2, 1, 1, 1))[0]
    first = chance.choice(("drop", "damage", "lose", "spoil", "write", "copy-bare", "retract", "release"))
    if state == "lost" and chance.random() < 0.4:
        first = "copy-bare"
    then = chance.choice(
        chance.choice((_CLEANERS, _READERS, _CLAIMERS, _OTHERS, ("mend", "recover", "abort", "unretract")))
    )
    if state == "published" and chance.random() < 0.4:
        first, those = chance.choice(_COME_UPON)
        then = chance.choice(those)
    actors = ((first, 0), (then, 0))
    faults: tuple[tuple[int, int, str], ...] = ()
    if chance.random() < 0.4:
        faults = ((1, chance.randrange(1, _STEPS.get(then, (1, 40))[1]), _any_fault(chance)),)
    scene = Scene(_any_results(chance), (state,))
    return Schedule(scene, actors, ((0, None),), faults, (), chance.choice(_HEALERS))


def _draw_apart(chance: random.Random) -> Schedule:
    """Draw one in which two publish one after the other, on machines with different times."""
    state = chance.choices(STATES, (3, 2, 3, 1, 1, 2, 2, 1))[0]
    first, last = chance.choice(_CLAIMERS + _OTHERS), chance.choice(chance.choice((_CLAIMERS, _OTHERS)))
    skew = chance.choice((3600.0, 0.0)), 0.0, chance.choice((-3600.0, -3600.0, 0.0, 3600.0))
    faults: tuple[tuple[int, int, str], ...] = ()
    if chance.random() < 0.3:
        faults = ((chance.choice((0, 2)), chance.randrange(1, 70), chance.choice(("kill", "ahead", "back"))),)
    scene = Scene(_any_results(chance), (state,))
    return Schedule(scene, ((first, 0), ("write", 0), (last, 0)), (), faults, skew, chance.choice(_HEALERS))


def _draw_any(chance: random.Random) -> Schedule:
    kinds = list(ACTORS)
    count = chance.choices((1, 2, 3, 4), (2, 8, 4, 1))[0]
    sets = tuple(
        chance.choices(STATES, (5, 2, 3, 2, 1, 1, 1, 1))[0] for _ in range(chance.choices((1, 2, 3), (8, 2, 1))[0])
    )
    scene = Scene(_any_results(chance), sets)
    actors = tuple((chance.choices(kinds, _WEIGHTS)[0], chance.randrange(len(sets))) for _ in range(count))
    segments = tuple(
        (chance.randrange(count), None if chance.random() < 0.5 else int(chance.paretovariate(0.6)) % 90)
        for _ in range(chance.randrange(0, 7))
    )
    faults = tuple(
        (chance.randrange(count), chance.randrange(1, 110), _any_fault(chance))
        for _ in range(chance.choices((0, 1, 2, 3), (3, 5, 2, 1))[0])
    )
    skew = tuple(0.0 if chance.random() < 0.8 else float(chance.choice((-3600, -90, 90, 3600))) for _ in range(count))
    return Schedule(scene, actors, segments, faults, skew, chance.choice(_HEALERS))


_LIKELY = {"commit": 5, "commit-and-clean": 5, "gc": 3, "batch": 2, "batch-and-clean": 2, "play-again": 3, "write": 2}
_WEIGHTS = [_LIKELY.get(kind, 1) for kind in ACTORS]


_TIDIED_EVERY = 100


class Stageplay:
    """What plays schedules: one world, in a folder if one is given, and what is set up once for all of them."""

    def __init__(self, base: str | None = None) -> None:
        self.world = World(base)
        self._played = 0
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
        gc.collect()
        gc.freeze()  # what was imported stays, and need not be looked through again and again
        gc.disable()  # what a killed actor leaves comes to its end between two runs, and not within one
        self._stack.callback(gc.enable)
        self._stack.callback(gc.unfreeze)
        stamina.set_testing(True, attempts=3)  # nobody really waits
        self._stack.callback(stamina.set_testing, False)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, schedule: Schedule) -> Played:
        """Play a schedule, and judge it."""
        world = self.world
        self._played += 1
        if self._played % _TIDIED_EVERY == 0:
            gc.collect()
        try:
            world.restore(schedule.scene)
        except EmdstoreError as error:
            return Played((Violation(8, f"the scene cannot be made: {error}"),), (), (), ())
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
                found += checks.open_without_a_run(world, watch)
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
        self.world.engines.begun, self.world.engines.committed = watch.begun, watch.committed
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
    said = _ANYWHERE.sub("", " ".join(str(about).split()))[:90]
    return f"{number}.{step:<4} {what:22} {said}{f'   <- {fault.upper()}' if fault else ''}"


def _end_of(actor: Actor) -> str:
    if actor.state == "dead":
        return "killed"
    if actor.error is not None:
        return f"{type(actor.error).__name__}: {actor.error}"
    return "done" if actor.state == "done" else actor.state


def fingerprint(played: Played) -> str:
    """Return what two runs of one schedule have in common if they were the same, wherever they were played."""
    trace = [_ANYWHERE.sub("", line) for line in (*played.trace, *played.ends)]
    return hashlib.sha256("\n".join(trace).encode()).hexdigest()


_ANYWHERE = re.compile(r"[^\s'\"]*/emdstore-simulation-\w+/")
"""Where the simulation's files are on this machine."""


def shrink(stage: Stageplay, schedule: Schedule, seconds: float = 60.0) -> Schedule:
    """Return a smaller schedule that fails by the same check."""
    wanted = {each.check for each in stage.play(schedule).violations}
    give_up = time.process_time() + seconds  # however busy the machine is

    def fails(other: Schedule) -> bool:
        return bool(wanted & {each.check for each in stage.play(other).violations})

    while True:
        for smaller in _smaller(schedule):
            if time.process_time() > give_up:
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
