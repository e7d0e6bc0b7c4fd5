"""Every schedule of a kind: one actor killed at each step, and ordered pairs with something at each step of the first.

Many of these are the same order of events. To be killed at one step or at the next one differs only if there was an
effect between the two; to be halted there only if the other has to do with what lies between. So only one of each is
played.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import attrs
from tests.simulation.actors import ACTORS
from tests.simulation.search import Schedule, Stageplay, Step
from tests.simulation.worlds import STATES, Scene


def single_kills(stage: Stageplay, kind: str, scene: Scene) -> Iterator[Schedule]:
    """Yield, for one actor alone, every schedule in which it is killed at one step."""
    alone = Schedule(scene, ((kind, 0),))
    for step in _after_effects(stage.play(alone).steps_of(0)):
        yield attrs.evolve(alone, faults=((0, step, "kill"),), heal=_by_turns(step))


def spread(stage: Stageplay, schedule: Schedule) -> Iterator[Schedule]:
    """Yield a schedule; one with a fault at step 0 with that fault at each step in turn."""
    for at, (number, step, kind) in enumerate(schedule.faults):
        if step == 0:
            faults = (*schedule.faults[:at], *schedule.faults[at + 1 :])
            steps = stage.play(attrs.evolve(schedule, faults=faults)).steps[number]
            for each in range(1, steps + 1):
                yield from spread(stage, attrs.evolve(schedule, faults=(*faults, (number, each, kind))))
            return
    yield schedule


def pairs(stage: Stageplay, first: str, second: str, scene: Scene) -> Iterator[Schedule]:
    """Yield, for two actors, every schedule in which the second comes to its end at one step of the first.

    The first is halted there, for a moment or beyond its lease, or killed.
    """
    actors = ((first, 0), (second, 0))
    alone = stage.play(Schedule(scene, ((first, 0),))).steps_of(0)
    beside = [
        *stage.play(Schedule(scene, ((second, 0),))).steps_of(0),
        *stage.play(Schedule(scene, actors, ((0, None), (1, None)))).steps_of(1),
    ]
    for step in _where_it_matters(alone, beside):
        yield Schedule(scene, actors, ((0, step - 1), (1, None)), heal=_by_turns(step))
        yield Schedule(scene, actors, ((0, None), (1, None)), ((0, step, "stop"),), heal=_by_turns(step + 1))
    for step in _after_effects(alone):
        yield Schedule(scene, actors, ((0, None), (1, None)), ((0, step, "kill"),), heal=_by_turns(step))


def scenes_of(stage: Stageplay, first: str, second: str) -> Iterator[Scene]:
    """Yield the scenes in which two actors do something else than in those before."""
    seen = set()
    for state in STATES:
        scene = Scene("memory", (state,))
        does = tuple(_shape(stage, kind, scene) for kind in (first, second))
        if does not in seen:
            seen.add(does)
            yield scene


def every_pair(stage: Stageplay, firsts: Iterable[str] = tuple(ACTORS)) -> Iterator[Schedule]:
    """Yield the schedules of all ordered pairs that begin with some actors; see `pairs`."""
    for first, second in itertools.product(firsts, ACTORS):
        for scene in scenes_of(stage, first, second):
            yield from pairs(stage, first, second, scene)


def overtaken(stage: Stageplay, late: str, other: str, scene: Scene) -> Iterator[Schedule]:
    """Yield, for two who publish, every schedule in which one is halted before a write, and goes on beside the other.

    What it ships then is what scratch held before a program wrote there again; where that has the same names, as in
    scratch of a littered set, nothing but its digest tells the two apart.
    """
    writes = [
        step
        for _, step, what, *_ in stage.play(Schedule(scene, ((late, 0),))).steps_of(0)
        if what.startswith("results.write")
    ]
    actors = ((late, 0), ("write", 0), (other, 0))
    for step in writes:
        halted = Schedule(scene, actors, ((0, None), (1, None), (2, None)), ((0, step, "stop"),))
        for _, begun, what, *_ in stage.play(halted).steps_of(2):
            if what.startswith("results."):
                yield attrs.evolve(halted, segments=((0, None), (1, None), (2, begun - 1), (0, None)))


def _by_turns(step: int) -> str:
    return "commit" if step % 2 else "replay"


_SHAPES: dict[tuple[str, Scene], tuple[object, ...]] = {}


def _shape(stage: Stageplay, kind: str, scene: Scene) -> tuple[object, ...]:
    """Return what an actor does alone, without names."""
    if (kind, scene) not in _SHAPES:
        steps = stage.play(Schedule(scene, ((kind, 0),))).steps_of(0)
        _SHAPES[kind, scene] = tuple((what, changes) for _, _, what, _, _, changes in steps)
    return _SHAPES[kind, scene]


def _after_effects(steps: Sequence[Step]) -> Iterator[int]:
    """Yield each step before which there was an effect; within a transaction there is none."""
    for _, step, _, about, _, changes in steps[:-1]:
        if changes and not str(about).startswith("BEGIN"):
            yield step + 1


def _where_it_matters(steps: Sequence[Step], beside: Sequence[Step]) -> Iterator[int]:
    """Yield each step of which the others change what it uses, or use what it changes.

    What counts is the kind of place: the results, scratch, or the catalog; time passes in all of them. In a transaction
    nobody else gets a turn, so what is between its ends does not count.
    """
    used = {_place(step) for step in beside}
    changed = {_place(each) for each in beside if each[5]}
    writes = False
    for each in steps:
        _, step, what, about, _, changes = each
        within, said = writes, str(about)
        if what == "sql":
            writes = said.startswith("BEGIN IMMEDIATE") or (writes and said != "COMMIT")
            if said == "BEGIN" or (within and said != "COMMIT"):
                continue
        place = _place(each)
        if place in (used if changes else changed) or "time" in (place, *changed):
            yield step


def _place(step: Step) -> str:
    place = step[2].replace(" ", ".").partition(".")[0]
    if place == "program" or (place == "operator" and str(step[3]).startswith("a file")):
        return "os"
    return {"operator": "results", "stranger": "results"}.get(place, place)
