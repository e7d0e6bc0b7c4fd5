"""What ``python -m tests.simulation`` does: search, play again what failed, and put faults back to see them found."""

from __future__ import annotations

import argparse
import itertools
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
_TOLD = 1000


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
    every.add_argument("--seconds", type=float, default=float("inf"), help="stop each first one after so long")
    every.add_argument("--first", nargs="+", metavar="ACTOR", help="only pairs that begin with these")
    every.add_argument("--one-of", type=int, default=1, metavar="N", help="play one of so many, evenly")
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
    from tests.simulation.actors import ACTORS

    parts = [(given, first) for first in given.first or ACTORS]
    return _sum(_in_processes(given.jobs, _pairs, parts))


def _pairs(given: argparse.Namespace, first: str) -> _Found:
    from tests.simulation.exhaustive import every_pair
    from tests.simulation.search import Stageplay

    with Stageplay() as stage:
        schedules = itertools.islice(every_pair(stage, [first]), 0, None, given.one_of)
        found = _played(stage, given, ((f"{first} first", each) for each in schedules))
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
        if played % _TOLD == 0:
            print(f"{played} schedules, {failed.total()} failed so far", flush=True)
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
        try:
            for each in as_completed(waiting):
                yield each.result()
        finally:
            pool.shutdown(cancel_futures=True)  # if one fails, the others need not be waited for


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
    """How a fault was found.

    Attributes
    ----------
    name
        The fault.
    finds
        From each first seed, after how many schedules, and the schedule; None for not at all.
    smallest
        What one of them was made to.
    """

    name: str
    finds: tuple[tuple[int, Schedule] | None, ...]
    smallest: Schedule | None = None

    @property
    def is_found(self) -> bool:
        small = self.smallest
        is_small = small is not None and len(small.actors) <= _MOST_ACTORS and len(small.segments) <= _MOST_TURNS
        return is_small and None not in self.finds

    def __str__(self) -> str:
        after = [each[0] for each in self.finds if each is not None]
        median = f"{statistics.median(after):.0f}" if after else "-"
        actors, turns = (
            ("-", "-") if self.smallest is None else (len(self.smallest.actors), len(self.smallest.segments))
        )
        return f"| {self.name} | {len(after)} of {len(self.finds)} | {median} | {actors} | {turns} |"


def _hunt_all(given: argparse.Namespace) -> int:
    faults = all_faults()
    wanted = [each for each in given.only or faults if not faults[each].equivalent]
    hunted = []
    for each in _in_processes(given.jobs, _hunt, [(given, name) for name in wanted]):
        hunted.append(_without_what_the_right_code_shows(each))
        print(f"{hunted[-1]}  {each.smallest}", flush=True)
    hunted.sort(key=lambda each: each.name)
    missed = [each.name for each in hunted if not each.is_found]
    head = f"| Fault | Found | After schedules, median | Actors | Turns |\n|{'---|' * 5}\n"
    table = head + "".join(f"{each}\n" for each in hunted)
    print(f"{table}{len(hunted) - len(missed)} of {len(hunted)} found; not: {missed}")
    if given.write:
        _MANUAL.write_text(_TABLE.sub(lambda _: f"\n{table}\n", _MANUAL.read_text()))
    return 1 if missed else 0


def _without_what_the_right_code_shows(hunted: _Hunted) -> _Hunted:
    """Strike out finds that say nothing of the fault, as the library as it is, which this process has, fails there."""
    from tests.simulation.search import Stageplay

    with Stageplay() as stage:
        finds = tuple(None if each is None or stage.play(each[1]).violations else each for each in hunted.finds)
        small = hunted.smallest
        return attrs.evolve(
            hunted, finds=finds, smallest=None if small is None or stage.play(small).violations else small
        )


def _hunt(given: argparse.Namespace, name: str) -> _Hunted:
    plant(all_faults()[name])
    from tests.simulation.search import Stageplay, draw, first_failure, shrink

    finds: list[tuple[int, Schedule] | None] = []
    with Stageplay() as stage:
        for start in range(0, given.starts * _STARTS_APART, _STARTS_APART):
            failed = first_failure(stage, map(draw, range(start, start + given.schedules)))
            finds.append(None if failed is None else (failed[2], failed[0]))
        found = [each[1] for each in finds if each is not None]
        smallest = shrink(stage, min(found, key=_size), given.shrink_seconds) if found else None
    return _Hunted(name, tuple(finds), smallest)


def _size(schedule: Schedule) -> tuple[int, int, int]:
    return len(schedule.actors), len(schedule.segments), len(schedule.faults)
