"""What ``python -m tests.simulation`` does: search, play again what failed, and put faults back to see them found."""

from __future__ import annotations

import argparse
import multiprocessing
import re
import secrets
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from tests.simulation.planting import all_faults, plant

if TYPE_CHECKING:
    from tests.simulation.search import Schedule, Stageplay

_MANUAL = Path(__file__).parents[2] / "docs" / "reliability.md"
_TABLE = re.compile(r"(?<=<!-- faults -->\n).*?(?=<!-- end -->)", re.DOTALL)
_STARTS_APART = 1_000_000
_MOST_ACTORS, _MOST_TURNS = 3, 4


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    search = verbs.add_parser("search", help="play schedules that are drawn")
    search.add_argument("--schedules", type=int, default=2000)
    search.add_argument("--seed", type=int, default=None, help="the first one; by default a fresh one")
    search.add_argument("--keep-going", action="store_true", help="count what fails, and go on")
    search.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    search.add_argument("--shrink-seconds", type=float, default=60, help="how long to make what failed smaller")
    every = verbs.add_parser(
        "pairs", help="play each ordered pair of actors, with each fault at each step of the first"
    )
    every.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    again = verbs.add_parser("replay", help="play one again, and show all of its steps")
    again.add_argument("schedule", help="a seed, or a value as a failure shows it")
    again.add_argument("--shrink", action="store_true")
    faults = verbs.add_parser("faults", help="put each fault back in turn, and look for it from several first seeds")
    faults.add_argument("--schedules", type=int, default=2000, help="how many to play from each first seed")
    faults.add_argument("--starts", type=int, default=5, help="from how many first seeds")
    faults.add_argument("--shrink-seconds", type=float, default=20)
    faults.add_argument("--only", nargs="+", choices=sorted(all_faults()), metavar="NAME", help="these faults alone")
    faults.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    for verb in (search, every, faults):
        verb.add_argument("--jobs", type=int, default=1, help="how many processes share the work")
    for verb in (search, again):
        verb.add_argument("--fault", choices=sorted(all_faults()), help="with this fault put back into the library")
    given = parser.parse_args(arguments)
    if given.verb == "replay":
        return _replay(given)
    if given.verb == "faults":
        return _hunt_all(given)
    return _search_all(given) if given.verb == "search" else _pairs_all(given)


# -- searching ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Found:
    """What one process has played, and how much of it failed by which check."""

    played: int
    steps: int
    seconds: float
    failed: Counter[str]


def _search_all(given: argparse.Namespace) -> int:
    first = secrets.randbelow(10**9) if given.seed is None else given.seed
    print(f"seeds from {first}", flush=True)
    share = -(-given.schedules // given.jobs)
    parts = [(given, range(at, min(at + share, first + given.schedules))) for at in _starts(first, share, given)]
    return _sum(_in_processes(given.jobs, _search, parts))


def _starts(first: int, share: int, given: argparse.Namespace) -> range:
    return range(first, first + given.schedules, share)


def _search(given: argparse.Namespace, seeds: range) -> _Found:
    if given.fault is not None and "emdstore" not in sys.modules:
        plant(all_faults()[given.fault])
    from tests.simulation.search import Stageplay, draw

    with Stageplay() as stage:
        return _played(stage, given, ((f"seed {seed}", draw(seed)) for seed in seeds))


def _pairs_all(given: argparse.Namespace) -> int:
    from tests.simulation.search import PAIRED

    parts = [(given, first) for first in PAIRED]
    return _sum(_in_processes(given.jobs, _pairs, parts))


def _pairs(given: argparse.Namespace, first: str) -> _Found:
    from tests.simulation.search import Stageplay, every_pair

    with Stageplay() as stage:
        found = _played(stage, given, ((f"{first} first", each) for each in every_pair(stage, first)))
        print(f"{first} first: {found.played} schedules, {found.failed.total()} failed", flush=True)
        return found


def _played(stage: Stageplay, given: argparse.Namespace, schedules: Iterator[tuple[str, Schedule]]) -> _Found:
    from tests.simulation.search import shrink

    began, cpu = time.monotonic(), time.process_time()
    failed: Counter[str] = Counter()
    played = steps = 0
    goes_on = given.verb == "pairs" or given.keep_going
    for name, schedule in schedules:
        if time.monotonic() - began > given.seconds:
            break
        result = stage.play(schedule)
        played += 1
        steps += sum(result.steps)
        if not result.violations:
            continue
        failed[str(result.violations[0].check)] += 1
        print(f"{name}: {result.violations[0]}\n  {schedule}", flush=True)
        if not goes_on:
            small = shrink(stage, schedule, given.shrink_seconds)
            print(f"shrunk:\n  {small}")
            _show(stage, small)
            break
    return _Found(played, steps, time.process_time() - cpu, failed)


def _sum(parts: Iterator[_Found]) -> int:
    found = list(parts)
    failed = sum((each.failed for each in found), Counter())
    played, steps = sum(each.played for each in found), sum(each.steps for each in found)
    print(f"{played} schedules, {steps} steps, {failed.total()} failed {dict(failed)}")
    print(f"{played / max(sum(each.seconds for each in found), 1e-9):.0f} schedules per CPU second")
    return 1 if failed else 0


def _in_processes(jobs: int, function, parts: list) -> Iterator:  # type: ignore[no-untyped-def]
    if jobs == 1 and function is not _hunt:
        yield from (function(*each) for each in parts)
        return
    # Each part begins in a process of its own, in which a fault can be put back before the library is imported.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        waiting: list[Future] = [pool.submit(function, *each) for each in parts]
        for each in as_completed(waiting):
            yield each.result()


# -- one ---------------------------------------------------------------------------------------------------------------


def _replay(given: argparse.Namespace) -> int:
    if given.fault is not None:
        plant(all_faults()[given.fault])
    from tests.simulation.search import Schedule, Stageplay, draw, shrink

    text = given.schedule
    schedule = draw(int(text)) if text.isdigit() else Schedule.parse(text)
    with Stageplay() as stage:
        if given.shrink:
            schedule = shrink(stage, schedule)
        return 1 if _show(stage, schedule) else 0


def _show(stage: Stageplay, schedule: Schedule) -> bool:
    result = stage.play(schedule)
    print(schedule)
    print("\n".join(result.trace))
    print("\n".join(result.ends))
    for violation in result.violations:
        print(f"VIOLATION {violation}")
    return bool(result.violations)


# -- faults that are put back ------------------------------------------------------------------------------------------


@attrs.frozen
class _Hunted:
    """How a fault was found: after how many schedules from each first seed, None for not at all; and the smallest."""

    name: str
    after: tuple[int | None, ...]
    actors: int = 0
    turns: int = 0
    smallest: str = ""

    @property
    def is_found(self) -> bool:
        return None not in self.after and self.actors <= _MOST_ACTORS and self.turns <= _MOST_TURNS

    def __str__(self) -> str:
        found = [each for each in self.after if each is not None]
        median = f"{statistics.median(found):.0f}" if found else "-"
        return f"| {self.name} | {len(found)} of {len(self.after)} | {median} | {self.actors} | {self.turns} |"


def _hunt_all(given: argparse.Namespace) -> int:
    faults = all_faults()
    wanted = [each for each in given.only or faults if not faults[each].equivalent]
    hunted = []
    for each in _in_processes(given.jobs, _hunt, [(given, name) for name in wanted]):
        hunted.append(each)
        print(f"{each}  {each.smallest}", flush=True)
    hunted.sort(key=lambda each: each.name)
    missed = [each.name for each in hunted if not each.is_found]
    head = f"| Fault | Found | After schedules, median | Actors | Turns |\n|{'---|' * 5}\n"
    table = head + "".join(f"{each}\n" for each in hunted)
    print(f"{table}{len(hunted) - len(missed)} of {len(hunted)} found; not: {missed}")
    if given.write:
        _MANUAL.write_text(_TABLE.sub(lambda _: f"\n{table}\n", _MANUAL.read_text()))
    return 1 if missed else 0


def _hunt(given: argparse.Namespace, name: str) -> _Hunted:
    plant(all_faults()[name])
    from tests.simulation.search import Stageplay, draw, first_failure, shrink

    after: list[int | None] = []
    smallest: Schedule | None = None
    with Stageplay() as stage:
        for start in range(0, given.starts * _STARTS_APART, _STARTS_APART):
            failed = first_failure(stage, map(draw, range(start, start + given.schedules)))
            if failed is None:
                after.append(None)
                continue
            after.append(failed[2])
            small = shrink(stage, failed[0], given.shrink_seconds)
            if smallest is None or _size(small) < _size(smallest):
                smallest = small
    if smallest is None:
        return _Hunted(name, tuple(after))
    return _Hunted(name, tuple(after), len(smallest.actors), len(smallest.segments), str(smallest))


def _size(schedule: Schedule) -> tuple[int, int, int]:
    return len(schedule.actors), len(schedule.segments), len(schedule.faults)
