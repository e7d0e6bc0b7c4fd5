"""A clean-up that is killed at any step has lost nothing, and the next one comes to the same end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from tests.executions.crash import Child, Scene, commit
from tests.executions.runs import files_in
from tests.servers.s3 import S3Server
from tests.sets.examples import held, put, rows_of

from emdstore.emds import RECORD_NAME
from emdstore.executions.housekeeping import GcReport
from emdstore.executions.workspace import Workspace
from emdstore.sets.verify import verify
from emdstore.stores import ArtifactStore, LocalArtifactStore, S3ArtifactStore
from emdstore.stores.identity import is_own

pytestmark = [pytest.mark.slow, pytest.mark.once]

STALE = "never.png"


def clean_up(workspace: Workspace) -> GcReport:
    return workspace.gc_executions(stale=True)


@pytest.fixture(params=["local", "s3"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """An execution that was shipped, whose folder is still in scratch, with a file in results that no record names."""
    folder = tmp_path / "here"
    folder.mkdir()
    results: ArtifactStore = LocalArtifactStore(folder / "results")
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("moto_server")
        results = S3ArtifactStore(f"s3://{server.make_bucket()}/results", **server.options)
    places: dict[str, Any] = {"scratch": folder / "scratch", "results": results, "catalog": folder / "catalog.db"}
    scene = Scene(Workspace(**places, clean_unnamed=True, lease_seconds=2), folder, data=20_000)
    commit(scene.workspace, scene.fragment)
    put(scene.workspace.results, {STALE: b"nobody named it"}, scene.fragment)
    scene.keep()
    return scene


def test_a_clean_up_that_is_killed_at_any_step_loses_nothing_and_is_gone_on_with(scene: Scene) -> None:
    workspace, fragment = scene.workspace, scene.fragment
    answer = Child(clean_up, workspace, only_changes=True).wait()
    assert answer is not None
    assert [each.what for each in answer.value.removed] == ["scratch", "stale"]
    undisturbed = left(workspace, fragment)
    every = 2 if isinstance(workspace.results, S3ArtifactStore) else 1  # a server takes its time
    for number, step in list(enumerate(answer.steps, 1))[::every]:
        scene.reset()
        where = f"killed at step {number} of {len(answer.steps)}: {step}"
        published = held(workspace.results, fragment)
        in_scratch = files_in(workspace.scratch.local_path(fragment))
        if Child(clean_up, workspace, at=number, only_changes=True).wait() is not None:
            continue  # it had fewer steps this time
        now = held(workspace.results, fragment)
        assert {key: now.get(key) for key in published if key not in (STALE, RECORD_NAME)} == {
            key: data for key, data in published.items() if key not in (STALE, RECORD_NAME)
        }, where
        folder = workspace.scratch.local_path(fragment)
        assert not folder.exists() or files_in(folder) == in_scratch, where  # all of it, or its name is gone
        assert workspace.catalog.execution(fragment).status == "uploaded", where
        assert clean_up(workspace).refused == {}, where
        age_all(workspace.scratch.root)
        clean_up(workspace)
        assert left(workspace, fragment) == undisturbed, where
        assert verify(workspace.results).ok, where
        assert clean_up(workspace).removed == (), where


def age_all(folder: Path) -> None:
    then = time.time() - 2 * 3600
    for path in folder.rglob("*"):
        os.utime(path, (then, then), follow_symlinks=False)


def left(workspace: Workspace, fragment: str) -> dict[str, Any]:
    """Return what there is, but for what differs from one commit to another."""
    row = workspace.catalog.execution(fragment)
    return {
        "status": (row.status, row.owner, row.lease_expires),
        "scratch": files_in(workspace.scratch.root),
        "results": sorted(key for key in workspace.results.iter_keys() if not is_own(key)),
        "rows": {name: rows for name, rows in rows_of(workspace.catalog, fragment).items() if name != "executions"},
    }
