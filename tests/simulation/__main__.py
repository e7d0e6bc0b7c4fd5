"""``python -m tests.simulation``: search, and play again what failed."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.planting import all_faults, plant

if TYPE_CHECKING:
    from tests.simulation.search import Schedule, Stageplay


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    search = verbs.add_parser("search", help="play schedules that are drawn")
    search.add_argument("--schedules", type=int, default=2000)
    search.add_argument("--seed", type=int, default=None, help="the first one; by default a fresh one")
    search.add_argument("--keep-going", action="store_true", help="count what fails, and go on")
    search.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    search.add_argument("--shrink-seconds", type=float, default=60, help="how long to make what failed smaller")
    again = verbs.add_parser("replay", help="play one again, and show all of its steps")
    again.add_argument("schedule", help="a seed, or a value as a failure shows it")
    again.add_argument("--shrink", action="store_true")
    for verb in (search, again):
        verb.add_argument("--fault", choices=sorted(all_faults()), help="with this fault put back into the library")
    given = parser.parse_args(arguments)
    if given.fault is not None:
        plant(all_faults()[given.fault])
    from tests.simulation.search import Stageplay

    with Stageplay() as stage:
        return _search(stage, given) if given.verb == "search" else _replay(stage, given)


def _search(stage: Stageplay, given: argparse.Namespace) -> int:
    from tests.simulation.search import draw, shrink

    first = secrets.randbelow(10**9) if given.seed is None else given.seed
    print(f"seeds from {first}", flush=True)
    began, cpu = time.monotonic(), time.process_time()
    failed: Counter[str] = Counter()
    played = steps = 0
    for seed in range(first, first + given.schedules):
        if time.monotonic() - began > given.seconds:
            break
        schedule = draw(seed)
        result = stage.play(schedule)
        played += 1
        steps += sum(result.steps)
        if not result.violations:
            continue
        failed[str(result.violations[0].check)] += 1
        print(f"seed {seed}: {result.violations[0]}\n  {schedule}", flush=True)
        if not given.keep_going:
            small = shrink(stage, schedule, given.shrink_seconds)
            print(f"shrunk:\n  {small}")
            _show(stage, small)
            break
    used = time.process_time() - cpu
    rate = played / used
    print(f"{played} schedules, {steps} steps, {failed.total()} failed {dict(failed)}")
    print(f"{rate:.0f} schedules per CPU second")
    return 1 if failed else 0


def _replay(stage: Stageplay, given: argparse.Namespace) -> int:
    from tests.simulation.search import Schedule, draw, shrink

    text = given.schedule
    schedule = draw(int(text)) if text.isdigit() else Schedule.parse(text)
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


if __name__ == "__main__":
    sys.exit(main())
