"""A commit may be killed, or interrupted, anywhere: what can be seen is true, and the next commit completes it.

Steps that only look at something are left out: to be killed before one of them leaves what being killed before the next
change leaves; so are those within a transaction, for the one that ends it. ``EMDSTORE_TESTS_EVERY_STEP=1`` takes them
all, in some ten times the time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.executions.crash import (
    Child,
    Scene,
    Step,
    assert_rows_are_true,
    clean_up_later,
    commit,
    commit_all_twice,
    commit_twice,
    end_state,
    interrupt,
    stopped_execution,
)
from tests.servers.s3 import S3Server
from tests.sets.examples import encode, held, metric_bundle, put
from tests.sets.published import disagreeing

from emdstore.emds import RECORD_NAME
from emdstore.executions.workspace import Workspace
from emdstore.stores import ArtifactStore, LocalArtifactStore, S3ArtifactStore
from emdstore.stores.s3.store import MIB

pytestmark = [pytest.mark.slow, pytest.mark.once]

ONLY_CHANGES = os.environ.get("EMDSTORE_TESTS_EVERY_STEP") != "1"
TIMES = 12 if ONLY_CHANGES else 100


@pytest.fixture
def results_elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A results store that outlives the process that writes to it."""
    if request.param == "local":
        return LocalArtifactStore(tmp_path / "here/results")
    server: S3Server = request.getfixturevalue("moto_server")
    return S3ArtifactStore(f"s3://{server.make_bucket()}/results", **server.options)


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path, results_elsewhere: ArtifactStore) -> Scene:
    folder = tmp_path / "here"
    folder.mkdir()
    places = {"scratch": folder / "scratch", "results": results_elsewhere, "catalog": folder / "catalog.db"}
    return Scene(Workspace(**places, clean_folder=request.param, clean_unnamed=True), folder)


@pytest.mark.parametrize(
    ("results_elsewhere", "scene"), [("local", True), ("s3", False)], ids=["local-cleaned", "s3-kept"], indirect=True
)
def test_a_commit_that_is_killed_at_any_step_is_completed_by_the_next(scene: Scene) -> None:
    workspace, fragment = scene.workspace, scene.fragment
    steps = scene.steps(only_changes=ONLY_CHANGES)
    undisturbed = end_state(workspace, fragment)
    assert undisturbed["timed"]
    assert undisturbed["rows of this record"]
    for number, step in enumerate(steps, 1):
        scene.reset()
        where = f"killed at step {number} of {len(steps)}: {step}"
        _assert_killed(scene, number, where)
        try:
            assert_rows_are_true(workspace, fragment, scene.files)
            commit(workspace, fragment)
            clean_up_later(workspace)
            assert end_state(workspace, fragment) == undisturbed
        except Exception as error:
            error.add_note(where)
            raise


@pytest.mark.parametrize(  # with results in memory: tests/executions/test_cut_off.py
    ("results_elsewhere", "scene"), [("s3", False)], ids=["s3-kept"], indirect=True
)
def test_a_commit_of_changed_work_that_is_killed_anywhere_is_completed_by_the_next(scene: Scene) -> None:
    workspace, fragment = scene.workspace, scene.fragment
    commit(workspace, fragment)
    old_files, old_rows = _shipped(scene)
    changed = {"data/tas.nc": os.urandom(len(scene.files["data/tas.nc"])), "diagnostic.json": encode(metric_bundle({}))}
    put(workspace.scratch, changed, fragment)
    scene.keep()
    steps = scene.steps(only_changes=ONLY_CHANGES)
    new_files, new_rows = _shipped(scene)
    undisturbed = end_state(workspace, fragment)
    for number, step in enumerate(steps, 1):
        scene.reset()
        where = f"killed at step {number} of {len(steps)}: {step}"
        _assert_killed(scene, number, where)
        files, rows = _shipped(scene)
        assert files == {key: (old_files if data == old_files[key] else new_files)[key] for key, data in files.items()}
        assert disagreeing(workspace.results, fragment) == [], where  # what reads as published is whole
        assert rows in (old_rows, new_rows), where
        commit(workspace, fragment)
        clean_up_later(workspace)
        assert end_state(workspace, fragment) == undisturbed, where


def _assert_killed(scene: Scene, number: int, where: str) -> None:
    """Kill a commit before the step with this number, unless it had fewer: its threads share what they open."""
    answer = scene.child(at=number, only_changes=ONLY_CHANGES).wait()
    assert answer is None or (answer.error is None and len(answer.steps) < number), where


def _shipped(scene: Scene) -> tuple[dict[str, bytes], list[object]]:
    """Return the artifacts of the scene's execution, and the rows of what belongs to it."""
    files = held(scene.workspace.results, scene.fragment)
    del files[RECORD_NAME]
    catalog = scene.workspace.catalog
    return files, [
        *catalog.artifacts(),
        *catalog.outputs(superseded=True),
        *catalog.scalars(superseded=True),
        *catalog.series(superseded=True),
    ]


def test_a_commit_to_s3_that_is_killed_at_any_time_is_completed_by_the_next(
    moto_server: S3Server, tmp_path: Path
) -> None:
    # At any time, not between two steps: requests are cut off on their way, an upload in parts among them.
    folder = tmp_path / "here"
    folder.mkdir()
    results = S3ArtifactStore(f"s3://{moto_server.make_bucket()}/results", part_size=5 * MIB, **moto_server.options)
    workspace = Workspace(scratch=folder / "scratch", results=results, catalog=folder / "catalog.db")
    scene = Scene(workspace, folder, data=6 * MIB)
    scene.reset()
    started = time.monotonic()
    scene.next_steps()
    seconds = time.monotonic() - started
    undisturbed = end_state(workspace, scene.fragment)
    for number in range(TIMES):
        scene.reset()
        child = scene.child()
        time.sleep(number / TIMES * seconds)
        child.end()
        assert_rows_are_true(workspace, scene.fragment, scene.files)
        commit(workspace, scene.fragment)
        assert end_state(workspace, scene.fragment) == undisturbed, f"killed after {number}/{TIMES} of its time"


@pytest.mark.parametrize(("results_elsewhere", "scene"), [("local", True)], ids=["local-cleaned"], indirect=True)
def test_a_commit_that_is_interrupted_anywhere_says_so_and_is_completed_by_the_next(scene: Scene) -> None:
    steps = scene.steps(action=interrupt, only_changes=ONLY_CHANGES)
    undisturbed = end_state(scene.workspace, scene.fragment)
    writes = _writes(steps)
    for number, step in list(enumerate(steps, 1))[:: 5 if ONLY_CHANGES else 1]:
        scene.reset()
        where = f"interrupted at step {number} of {len(steps)}: {step}"
        child = Child(
            commit_twice, scene.workspace, scene.fragment, at=number, action=interrupt, only_changes=ONLY_CHANGES
        )
        answer = child.wait()
        assert answer is not None, where
        assert answer.error is None, where
        written = _writes(answer.steps[: number - 1])
        if len(answer.steps) < number:
            assert (answer.value, written) == (None, writes), where
        else:
            # The last two are the claim of the clean-up and its end: the rows come before.
            expected = {"stopped"} if written == 0 else {"upload_failed"} if written < writes - 2 else {"uploaded"}
            assert {answer.value} == expected, (where, written, writes)
        clean_up_later(scene.workspace)
        assert end_state(scene.workspace, scene.fragment) == undisturbed, where


def _writes(steps: Sequence[Step]) -> int:
    """Return how many transactions wrote something."""
    return sum(step.about == "COMMIT" and step.changes for step in steps)


@pytest.mark.parametrize("at", [20, 150, 300, 450])
def test_a_batch_that_is_interrupted_says_what_it_did_and_the_next_does_the_rest(tmp_path: Path, at: int) -> None:
    workspace = Workspace(scratch=tmp_path / "scratch", results=tmp_path / "results", catalog=tmp_path / "catalog.db")
    fragments = {stopped_execution(workspace, group=f"g{number}") for number in range(10)}
    workspace.catalog.release_connections()
    answer = Child(commit_all_twice, workspace, at=at, action=interrupt, only_changes=True).wait()
    assert answer is not None
    assert answer.error is None
    first, second = answer.value
    assert sorted([*first.statuses, *second.statuses]) == sorted(fragments)
    assert {row.status for row in workspace.list_executions()} == {"uploaded"}
    assert {row.lease_token for row in workspace.list_executions()} == {1}
