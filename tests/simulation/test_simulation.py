"""Every order of events, from a seed: schedules that failed once, every single kill, and fresh ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.simulation.exhaustive import overtaken, pairs, single_kills, spread
from tests.simulation.kept import KEPT
from tests.simulation.planting import all_faults
from tests.simulation.search import Played, Schedule, Stageplay, draw, fingerprint, first_failure, shrink
from tests.simulation.worlds import Scene

import emdstore

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
FRESH = int(os.environ.get("EMDSTORE_SIMULATION_SCHEDULES", "250"))

KILLED = [
    ("commit", "memory", "stopped"),
    ("commit-and-clean", "local", "stopped"),
    ("commit-and-clean", "memory", "edited"),
    ("publish-and-clean", "local", "edited"),
    ("gc-stale", "memory", "edited"),
    ("bring", "memory", "edited"),
    ("play-again", "memory", "lost"),
    ("reingest", "memory", "published"),
]


PAIRS = [
    ("publish", "commit", "edited"),
    ("commit", "commit-and-clean", "stopped"),
    ("commit-and-clean", "write", "edited"),
    ("gc", "commit", "edited"),
    ("play-again", "commit", "edited"),
]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stageplay]:
    with Stageplay() as stage:
        yield stage


def told(schedule: Schedule, played: Played) -> str:
    """Return what a person needs to see why a schedule failed."""
    wrong = "\n".join(map(str, played.violations))
    return f'{wrong}\npython -m tests.simulation replay "{schedule}"\n' + "\n".join((*played.trace, *played.ends))


@pytest.mark.parametrize("name", KEPT)
def test_what_failed_once_does_not_fail_again(stage: Stageplay, name: str) -> None:
    failed = first_failure(stage, spread(stage, Schedule.parse(KEPT[name])))
    assert failed is None, told(*failed[:2])


@pytest.mark.slow
@pytest.mark.parametrize(("late", "other", "state"), PAIRS)
def test_whoever_acts_while_another_is_at_any_step_loses_nothing(
    stage: Stageplay, late: str, other: str, state: str
) -> None:
    failed = first_failure(stage, pairs(stage, late, other, Scene("memory", (state,))))
    assert failed is None, told(*failed[:2])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "results", "state"), KILLED)
def test_whoever_is_killed_at_any_step_loses_nothing(stage: Stageplay, kind: str, results: str, state: str) -> None:
    failed = first_failure(stage, single_kills(stage, kind, Scene(results, (state,))))
    assert failed is None, told(*failed[:2])


TOLD = {
    "lease-is-not-renewed": (
        "('memory', ('stopped',), (('commit', 0), ('idle', 0), ('commit', 0)), ((0, 30), (1, None), (2, None)))"
    ),
    "generations-do-not-grow": (
        "('memory', ('stopped',), (('commit', 0), ('write', 0), ('publish', 0)), (), (), (3600.0, 0.0, 0.0), 'replay')"
    ),
    "removal-ignores-what-results-lack": "('memory', ('lost',), (('gc', 0),))",
    "less-may-replace-a-publication": "('memory', ('published',), (('spoil', 0), ('commit', 0)))",
}
"""Faults that the library has no more, and an order of events that shows each."""


@pytest.mark.slow
@pytest.mark.parametrize("fault", TOLD)
def test_a_fault_that_is_put_back_is_found(fault: str) -> None:
    path = os.pathsep.join([str(ROOT), *sys.path])
    command = [sys.executable, "-m", "tests.simulation", "replay", "--fault", fault, TOLD[fault]]
    found = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert found.returncode == 1, found.stderr
    assert "VIOLATION" in found.stdout


def test_faults_are_still_texts_of_the_library() -> None:
    source = Path(emdstore.__file__).parent
    gone = [each.name for each in all_faults().values() if (source / each.file).read_text().count(each.right) != 1]
    assert not gone, f"in tests/simulation/faults/faults.toml say what the right text is now: {gone}"


@pytest.mark.slow
@pytest.mark.parametrize("late", ["publish", "commit"])
def test_bytes_of_whoever_was_overtaken_do_not_stay_under_a_later_record(stage: Stageplay, late: str) -> None:
    failed = first_failure(stage, overtaken(stage, late, "commit", Scene("memory", ("littered",))))
    assert failed is None, told(*failed[:2])


@pytest.mark.slow
def test_no_order_of_events_that_is_drawn_breaks_a_promise(stage: Stageplay) -> None:
    said = os.environ.get("EMDSTORE_SIMULATION_SEED", "fresh")
    first = int.from_bytes(os.urandom(4), "big") if said == "fresh" else int(said)
    print(f"seeds from {first}")  # noqa: T201 - shown if it fails
    failed = first_failure(stage, map(draw, range(first, first + FRESH)))
    if failed is not None:
        small = shrink(stage, failed[0], seconds=30)
        again = f"EMDSTORE_SIMULATION_SEED={first} plays the same again"
        pytest.fail(f"{again}; smaller: {told(small, stage.play(small))}")


@pytest.mark.slow
def test_a_schedule_is_the_same_in_every_process(stage: Stageplay, tmp_path: Path) -> None:
    seeds = range(8)
    here = [fingerprint(stage.play(draw(seed))) for seed in seeds]
    assert here == [fingerprint(stage.play(draw(seed))) for seed in seeds]
    # There the files are on the machine's own disk, which lists them in an order of its own.
    code = (
        "from tests.simulation.search import Stageplay, draw, fingerprint\n"
        f"with Stageplay({str(tmp_path)!r}) as stage:\n"
        f"    print([fingerprint(stage.play(draw(seed))) for seed in {seeds!r}])"
    )
    path = os.pathsep.join([str(ROOT), *sys.path])
    environment = os.environ | {
        **{"PYTHONHASHSEED": "7", "PYTHONPATH": path},
        **{"TZ": "Asia/Kolkata", "LC_ALL": "tr_TR.UTF-8"},
    }
    there = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert there.stdout.strip() == repr(here), there.stderr


def test_a_schedule_that_is_written_down_is_the_same_again() -> None:
    for seed in range(50):
        assert Schedule.parse(str(draw(seed))) == draw(seed)
