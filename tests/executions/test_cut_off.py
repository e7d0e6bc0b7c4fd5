"""Whatever a verb was doing when its process was killed: no reader took half a set for a whole one, and it converges.

Each verb is cut off at every operation of its stores, every change of a file, every SQL statement and every end of a
transaction that may change something; ``EMDSTORE_TESTS_EVERY_STEP=1`` takes those that only look, too. A reader looks
at the results before each change, in what is done and in what goes on after a cut, and compares what says that it is
published with the digests of its record (P1). At the end the same command leads to the same end, and once more changes
nothing (P6).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.executions.crash import clean_up_later, end_state, stopped_execution
from tests.executions.power import Cut, Power, Powered
from tests.executions.runs import WRITES, let_go
from tests.sets.examples import SUCCESS, encode, held, metric_bundle, put
from tests.sets.published import disagreeing

from emdstore import system
from emdstore.emds import RECORD_NAME
from emdstore.executions.workspace import Workspace
from emdstore.sets.finding import find_sets
from emdstore.sets.record import read_record
from emdstore.sets.transfer import transfer
from emdstore.stores import InMemoryArtifactStore, scoped
from emdstore.testing import RecordingStore

pytestmark = pytest.mark.slow

ONLY_CHANGES = os.environ.get("EMDSTORE_TESTS_EVERY_STEP") != "1"

NOBODY_LIVES = attrs.evolve(system.REAL, is_alive=lambda process, /, *, group=False: False)
"""The machine after the process was killed, which in these tests is the same one."""

Verb = Callable[[Workspace], object]


class Scene:
    """A workspace with results in memory that can be put back to how it was."""

    def __init__(self, folder: Path, catalog: Path) -> None:
        folder.mkdir()
        shutil.copy(catalog, folder / "catalog.db")
        self._folder, self._first = folder, folder.with_name("first")
        self.results = InMemoryArtifactStore()
        self.workspace = Workspace(
            scratch=folder / "scratch", results=self.results, catalog=folder / "catalog.db", clean_unnamed=True
        )
        self.fragment = stopped_execution(self.workspace, result=SUCCESS)
        self._objects: dict[str, bytes] = {}

    def aim_at(self, results: InMemoryArtifactStore) -> None:
        """Let the reader look at another store, and what is done be done to that one."""
        self.results, self.workspace = results, attrs.evolve(self.workspace, results=results)

    def keep(self) -> None:
        """Let `reset` put things back to how they are now."""
        let_go(self.workspace)
        shutil.copytree(self._folder, self._first)
        self._objects = {key: self.results.read_bytes(key) for key in self.results.iter_keys()}

    def reset(self) -> None:
        let_go(self.workspace)
        shutil.rmtree(self._folder)
        shutil.copytree(self._first, self._folder)
        for key in list(self.results.iter_keys()):
            self.results.delete(key)
        put(self.results, self._objects)

    def look(self) -> None:
        """See that what says that it is published is whole."""
        for found in find_sets(self.results):
            if found.published:
                assert disagreeing(self.results, found.location) == []

    def run(self, verb: Verb, at: int | None = None) -> list[str]:
        """Do something as a process that is cut off; return the steps that it has taken."""
        # What can be seen until then was seen when nothing was cut off.
        power = Power(at, self.look if at is None else None, only_changes=ONLY_CHANGES)
        workspace = attrs.evolve(self.workspace, results=Powered(self.results, power))
        with power.on():
            try:
                verb(workspace)
            except Cut:
                assert power.is_cut
        self.look()
        return power.steps


@pytest.fixture
def scene(tmp_path: Path, empty_catalog: Path) -> Scene:
    return Scene(tmp_path / "here", empty_catalog)


def commit(workspace: Workspace) -> object:
    (row,) = workspace.list_executions()
    return workspace.resume_execution(row.fragment).commit_output_assets()


def change(scene: Scene) -> None:
    """Change the work of an execution that was committed, in a payload file and in a bundle."""
    size = len(scene.workspace.scratch.read_bytes(f"{scene.fragment}/index.html"))
    put(
        scene.workspace.scratch,
        {"index.html": os.urandom(size), "diagnostic.json": encode(metric_bundle({}))},
        scene.fragment,
    )


def rows(scene: Scene) -> list[object]:
    catalog = scene.workspace.catalog
    return [
        *catalog.artifacts(),
        *catalog.outputs(superseded=True),
        *catalog.scalars(superseded=True),
        *catalog.series(superseded=True),
    ]


def test_a_second_commit_that_is_cut_off_anywhere_is_completed_by_the_next(scene: Scene) -> None:
    commit(scene.workspace)
    before = rows(scene)
    change(scene)
    scene.keep()
    steps = scene.run(commit)
    after, undisturbed = rows(scene), end_state(scene.workspace, scene.fragment)
    assert len(after) > 5
    for number in range(1, len(steps) + 1):
        scene.reset()
        where = f"cut off at step {number} of {len(steps)}: {steps[number - 1]}"
        scene.run(commit, at=number)
        assert rows(scene) in (before, after), where
        with system.using(NOBODY_LIVES):
            scene.run(commit)
        assert end_state(scene.workspace, scene.fragment) == undisturbed, where
        if number % 5 == 0:
            again = RecordingStore(scene.results)
            commit(attrs.evolve(scene.workspace, results=again))
            assert not [call for call in again.calls if call.verb in WRITES], where


def test_a_transfer_over_an_older_set_that_is_cut_off_anywhere_is_completed_by_the_next(scene: Scene) -> None:
    commit(scene.workspace)
    archive = InMemoryArtifactStore()
    transfer(scene.results, archive)
    old = held(archive)
    change(scene)
    commit(scene.workspace)
    source = scene.results
    scene.aim_at(archive)
    scene.keep()

    def move(workspace: Workspace) -> object:
        return transfer(source, workspace.results)

    steps = scene.run(move)
    new = held(archive)
    assert (new, disagreeing(archive, scene.fragment)) == (held(source), [])
    for number in range(1, len(steps) + 1):
        scene.reset()
        where = f"cut off at step {number} of {len(steps)}: {steps[number - 1]}"
        scene.run(move, at=number)
        assert all(data in (old[key], new[key]) or key.endswith(RECORD_NAME) for key, data in held(archive).items())
        scene.run(move)
        assert held(archive) == new, where
        assert not transfer(source, archive).keys("copied"), where


def test_a_reingest_that_is_cut_off_anywhere_leaves_the_old_set_and_nothing_half(scene: Scene) -> None:
    commit(scene.workspace)
    scene.keep()
    workspace, old = scene.workspace, held(scene.results, scene.fragment)
    steps = scene.run(lambda workspace: workspace.reingest(scene.fragment))
    values = values_of(scene)
    assert len(values) == 2
    for number in range(1, len(steps) + 1):
        scene.reset()
        where = f"cut off at step {number} of {len(steps)}: {steps[number - 1]}"
        scene.run(lambda workspace: workspace.reingest(scene.fragment), at=number)
        assert held(scene.results, scene.fragment) == old, where
        with system.using(NOBODY_LIVES):
            workspace.recover()
            scene.run(lambda workspace: workspace.commit_pending_executions())
            if number % 5 == 0:
                workspace.reingest(scene.fragment)
        assert held(scene.results, scene.fragment) == old, where
        final = {row.fragment: row.status for row in workspace.list_executions()}
        assert set(final.values()) <= {"uploaded", "failed", "created", "aborted"}, (where, final)
        shown = values_of(scene)
        assert all(each == shown[scene.fragment] for each in shown.values()), where
        # The one that was cut off may have come far enough.
        assert len(shown) - (number % 5 == 0) in (1, 2), where


def values_of(scene: Scene) -> dict[str, list[object]]:
    """Return the values of each execution that was published."""
    catalog = scene.workspace.catalog
    return {
        row.fragment: [
            *((each.value, each.dimensions) for each in catalog.scalars(fragment=row.fragment)),
            *((each.values, each.dimensions) for each in catalog.series(fragment=row.fragment)),
        ]
        for row in catalog.executions(status="uploaded")
    }


def test_a_clean_up_that_is_cut_off_anywhere_loses_nothing_and_is_gone_on_with(scene: Scene) -> None:
    workspace = scene.workspace
    commit(workspace)
    put(scene.results, {"never.png": b"nobody named it"}, scene.fragment)
    scene.keep()
    published = held(scene.results, scene.fragment)

    def clean_up(workspace: Workspace) -> object:
        return workspace.gc_executions(stale=True)

    def left() -> dict[str, Any]:
        record = read_record(scoped(scene.results, scene.fragment))
        assert record is not None
        (row,) = workspace.list_executions()
        files = {key: data for key, data in held(scene.results, scene.fragment).items() if key != RECORD_NAME}
        return {
            "scratch": held(workspace.scratch),
            "results": files,
            "stale": record.stale,
            "row": (row.status, row.owner),
            "rows": rows(scene),
        }

    steps = scene.run(clean_up)
    undisturbed = left()
    assert undisturbed["scratch"] == {}
    assert undisturbed["results"].keys() == published.keys() - {"never.png", RECORD_NAME}
    for number in range(1, len(steps) + 1):
        scene.reset()
        where = f"cut off at step {number} of {len(steps)}: {steps[number - 1]}"
        scene.run(clean_up, at=number)
        assert undisturbed["results"].items() <= held(scene.results, scene.fragment).items(), where
        with system.using(NOBODY_LIVES):
            scene.run(clean_up)
            clean_up_later(workspace)
        assert left() == undisturbed, where
