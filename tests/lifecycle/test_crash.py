"""A commit may be killed anywhere: what can be seen is true at every moment, and the next commit completes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.lifecycle.crash import Scene, assert_rows_are_true, clean_up_later, commit, end_state
from tests.servers.s3 import S3Server

from emdstore.lifecycle.workspace import Workspace
from emdstore.stores import ArtifactStore, LocalStore, S3Store


@pytest.fixture(params=["local", "s3"])
def results_elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A results store that outlives the process that writes to it."""
    if request.param == "local":
        return LocalStore(tmp_path / "here/results")
    server: S3Server = request.getfixturevalue("moto_server")
    return S3Store(f"s3://{server.make_bucket()}/results", **server.options)


@pytest.fixture(params=[False, True], ids=["kept", "cleaned"])
def scene(request: pytest.FixtureRequest, tmp_path: Path, results_elsewhere: ArtifactStore) -> Scene:
    folder = tmp_path / "here"
    folder.mkdir()
    places = {"scratch": folder / "scratch", "results": results_elsewhere, "catalog": folder / "catalog.db"}
    return Scene(Workspace(**places, clean_folder=request.param), folder)


def test_a_commit_that_is_killed_at_any_step_is_completed_by_the_next(scene: Scene) -> None:
    workspace, fragment = scene.workspace, scene.fragment
    steps = scene.steps(only_changes=True)
    undisturbed = end_state(workspace, fragment)
    assert undisturbed["timed"]
    assert undisturbed["rows of this record"]
    for number, step in enumerate(steps, 1):
        scene.reset()
        where = f"killed at step {number} of {len(steps)}: {step}"
        assert scene.child(at=number, only_changes=True).wait() is None, where
        try:
            assert_rows_are_true(workspace, fragment, scene.files)
            commit(workspace, fragment)
            clean_up_later(workspace)
            assert end_state(workspace, fragment) == undisturbed
        except Exception as error:
            error.add_note(where)
            raise
