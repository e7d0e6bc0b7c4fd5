"""Of all who try to commit an execution one does, and who lost its claim changes nothing any more."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.executions.crash import (
    Answer,
    Before,
    Child,
    Linger,
    Scene,
    Step,
    Task,
    commit,
    commit_all,
    end_state,
    pause,
    stopped_execution,
)
from tests.servers.postgres import KeptDatabase, name_in
from tests.sets.examples import held

from emdstore.catalog import Catalog
from emdstore.errors import CatalogUnavailableError, ClaimHeldError, ClaimLostError
from emdstore.executions.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.once]

LEASE = 2.0


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path, database: KeptDatabase | None) -> Scene:
    folder = tmp_path / "here"
    folder.mkdir()
    workspace = Workspace(
        scratch=folder / "scratch",
        results=folder / "results",
        catalog=folder / "catalog.db" if database is None else database.url,
        lease_seconds=LEASE,
        clean_folder=getattr(request, "param", True),
        clean_unnamed=True,
    )
    return Scene(workspace, folder, database=database)


kept_and_cleaned = pytest.mark.parametrize(
    ("database", "scene"),
    [("sqlite", False), ("sqlite", True), ("postgresql", False)],
    ids=["sqlite-kept", "sqlite-cleaned", "postgresql-kept"],
    indirect=True,
)
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # where the database makes no difference
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


# On SQLite nobody is paused inside a transaction: all others would wait for its end, and nothing would be lost.


def _first(steps: list[Step], text: str) -> int:
    """Return the number of the first step that looks like this."""
    return next(number for number, step in enumerate(steps, 1) if text in str(step))


def _before_transaction(steps: list[Step], text: str) -> Before:
    """Return the moment before the transaction of a statement begins."""
    begins = [number for number, step in enumerate(steps, 1) if step.about.startswith(("BEGIN IMMEDIATE", "SET LOCAL"))]
    return Before.step(steps, max(number for number in begins if number < _first(steps, text)))


BEFORE: dict[str, Callable[[list[Step]], Before]] = {
    "the first artifact": lambda _: Before("os.rename"),
    "the record": lambda _: Before("SELECT execution.id FROM execution"),
    "the rows": lambda steps: _before_transaction(steps, "UPDATE execution_group SET"),
}


def _finish(child: Child) -> Answer:
    child.resume()
    answer = child.wait()
    assert answer is not None
    return answer


@pytest.mark.parametrize(
    ("database", "scene", "moment"),
    [
        ("sqlite", True, "the first artifact"),
        ("sqlite", False, "the record"),
        *(("postgresql", True, m) for m in BEFORE),
    ],
    indirect=["database", "scene"],
)
def test_an_owner_that_is_paused_beyond_its_lease_cannot_finish(scene: Scene, moment: str) -> None:
    at = BEFORE[moment](scene.steps())
    undisturbed = end_state(scene.workspace, scene.fragment)
    scene.reset()
    with scene.child(at=at, action=pause) as owner:
        assert owner.wait_until_paused()
        with pytest.raises(ClaimHeldError, match=f":{owner.pid}:"):
            commit(scene.workspace, scene.fragment)
        time.sleep(LEASE)
        commit(scene.workspace, scene.fragment)
        assert end_state(scene.workspace, scene.fragment) == undisturbed
        files = held(scene.workspace.results)
        assert isinstance(_finish(owner).error, ClaimLostError)
    assert end_state(scene.workspace, scene.fragment) == undisturbed
    assert held(scene.workspace.results) == files


def test_a_late_owner_writes_no_record_over_that_of_the_next_one(scene: Scene) -> None:
    # Between the last look at the claim and the record there is an instant in which only the store can tell.
    scene.steps()
    undisturbed = end_state(scene.workspace, scene.fragment)
    scene.reset()
    with scene.child(at=Before("os.link"), action=pause) as owner:
        assert owner.wait_until_paused()
        time.sleep(LEASE)
        commit(scene.workspace, scene.fragment)
        files = held(scene.workspace.results)
        assert isinstance(_finish(owner).error, ClaimLostError)
    assert end_state(scene.workspace, scene.fragment) == undisturbed
    assert held(scene.workspace.results) == files


def test_an_owner_on_another_machine_is_taken_over_when_its_lease_has_run_out(scene: Scene) -> None:
    at = BEFORE["the rows"](scene.steps())
    undisturbed = end_state(scene.workspace, scene.fragment)
    scene.reset()
    workspace = attrs.evolve(scene.workspace, lease_seconds=3.0)
    assert Child(commit, workspace, scene.fragment, at=at, host="elsewhere").wait() is None
    with pytest.raises(ClaimHeldError, match="elsewhere:"):
        commit(workspace, scene.fragment)
    assert workspace.commit_pending_executions(clean_folder=True).statuses == {}
    time.sleep(3.0)
    assert workspace.commit_pending_executions(clean_folder=True).statuses == {scene.fragment: "uploaded"}
    assert end_state(workspace, scene.fragment) == undisturbed


def test_an_owner_that_is_alive_keeps_its_claim_beyond_its_lease(scene: Scene) -> None:
    at = BEFORE["the first artifact"](scene.steps())
    undisturbed = end_state(scene.workspace, scene.fragment)
    scene.reset()
    with scene.child(at=at, action=Linger(3 * LEASE)) as owner:
        while scene.workspace.catalog.execution(scene.fragment).status != "pending_upload":
            time.sleep(0.01)
        until = time.monotonic() + 1.3 * LEASE
        while time.monotonic() < until:
            with pytest.raises(ClaimHeldError):
                commit(scene.workspace, scene.fragment)
            time.sleep(LEASE / 5)
        answer = owner.wait()
    assert answer is not None
    assert answer.error is None
    assert scene.workspace.catalog.execution(scene.fragment).lease_token == 2  # and the clean-up
    assert end_state(scene.workspace, scene.fragment) == undisturbed


@kept_and_cleaned
@pytest.mark.parametrize("task", [commit, commit_all])
def test_what_was_shipped_by_somebody_else_since_it_was_looked_at_stays_so(scene: Scene, task: Task) -> None:
    args = (scene.workspace, scene.fragment) if task is commit else (scene.workspace,)
    scene.reset()
    steps = Child(task, *args).wait()
    assert steps is not None
    undisturbed = end_state(scene.workspace, scene.fragment)
    scene.reset()
    with Child(task, *args, at=_before_transaction(list(steps.steps), "SET status"), action=pause) as late:
        assert late.wait_until_paused()
        commit(scene.workspace, scene.fragment)
        answer = _finish(late)
    assert answer.error is None
    assert (answer.value.ok, answer.value.uploaded) == (True, 0)
    if task is commit_all:
        assert (set(answer.value.skipped), answer.value.statuses) == ({scene.fragment}, {})
    assert end_state(scene.workspace, scene.fragment) == undisturbed


@on_sqlite
def test_a_folder_that_is_cleaned_up_under_a_second_commit_takes_nothing_with_it(scene: Scene) -> None:
    steps = scene.steps()
    cleaning = Before("os.rename", sum(step.what == "os.rename" for step in steps))
    undisturbed = end_state(scene.workspace, scene.fragment)
    scene.reset()
    with scene.child(at=cleaning, action=pause) as first:
        assert first.wait_until_paused()
        again = Child(_commit_and_keep, scene.workspace, scene.fragment).wait()
    assert again is not None
    claimed = _first(list(again.steps), "COMMIT")
    quiet = [n for n, step in enumerate(again.steps, 1) if n > claimed and not step.what.startswith("sql")]
    for at in quiet[:: len(quiet) // 12]:
        scene.reset()
        with scene.child(at=cleaning, action=pause) as first, contextlib.ExitStack() as later:
            assert first.wait_until_paused()
            moment = Before.step(list(again.steps), at)
            second = later.enter_context(scene.child(at=moment, action=pause))
            second.wait_until_paused()  # or it took fewer steps than the one before, and has come to its end
            assert _finish(first).error is None
            assert _finish(second).error is None
        assert end_state(scene.workspace, scene.fragment) == undisturbed, f"paused before {again.steps[at - 1]}"


def _commit_and_keep(workspace: Workspace, fragment: str) -> None:
    workspace.resume_execution(fragment).commit_output_assets(clean_folder=False)


@on_postgresql
@pytest.mark.parametrize("moment", ["UPDATE execution SET status", "UPDATE execution SET group_id"])
def test_an_owner_that_is_paused_inside_a_transaction_is_in_nobodys_way(scene: Scene, moment: str) -> None:
    url = scene.workspace.catalog._database._url.render_as_string(hide_password=False)
    scene.workspace = attrs.evolve(scene.workspace, catalog=Catalog(url, busy_timeout=2 * LEASE))
    steps = scene.steps()
    inside = Before.step(steps, _first(steps, moment) + 1)
    undisturbed = end_state(scene.workspace, scene.fragment)
    scene.reset()
    with scene.child(at=inside, action=pause) as owner:
        assert owner.wait_until_paused()
        time.sleep(LEASE)
        commit(scene.workspace, scene.fragment)
        assert end_state(scene.workspace, scene.fragment) == undisturbed
        assert isinstance(_finish(owner).error, CatalogUnavailableError)
    assert end_state(scene.workspace, scene.fragment) == undisturbed


def test_a_claim_that_could_not_be_given_back_is_not_in_the_way_of_the_next_commit(
    database: KeptDatabase | None, tmp_path: Path
) -> None:
    catalog = Catalog(tmp_path / "catalog.db" if database is None else database.url, busy_timeout=0.1)
    workspace = Workspace(scratch=tmp_path / "scratch", results=tmp_path / "results", catalog=catalog)
    fragment = stopped_execution(workspace)
    with contextlib.closing(_connect(database, tmp_path)) as other:

        def hold_a_transaction_open(_: object) -> None:
            with contextlib.suppress(sqlite3.OperationalError):  # if one is open
                other.execute("BEGIN IMMEDIATE" if database is None else "BEGIN")
            other.execute("UPDATE execution SET status = status")

        with pytest.raises(CatalogUnavailableError, match=r"holding a transaction open|somebody else's transaction"):
            workspace.resume_execution(fragment).commit_output_assets(progress_callback=hold_a_transaction_open)
        other.execute("ROLLBACK")
    assert workspace.catalog.execution(fragment).status == "pending_upload"
    assert workspace.commit_pending_executions(clean_folder=workspace.clean_folder).statuses == {fragment: "uploaded"}


def _connect(database: KeptDatabase | None, folder: Path) -> Any:
    if database is None:
        return sqlite3.connect(folder / "catalog.db", isolation_level=None)
    return database.server.connect(name_in(database.url))
