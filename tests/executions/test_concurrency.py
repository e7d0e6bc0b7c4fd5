"""Many processes at once do what one would have done, and each part of it once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.executions.crash import Answer, Before, Child, Linger, Scene, commit_all, end_state, stopped_execution
from tests.servers.postgres import POSTGRESQL, KeptDatabase, PostgresServer
from tests.sets.examples import FAILURE, NOON, SUCCESS, promote, put, rows_of, small_run

from emdstore.catalog import Catalog
from emdstore.errors import ClaimHeldError
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.ingestion.replay_report import ReplayReport
from emdstore.sets.result import ExecutionResult
from emdstore.stores import LocalArtifactStore

pytestmark = pytest.mark.slow

PROCESSES = 8
EXECUTIONS = 48
GROUPS = 6
RETRYABLE = ExecutionResult(successful=False, retryable=True)
OUTCOMES = [None, FAILURE, RETRYABLE]
SETS = 40


@pytest.fixture(params=["sqlite", POSTGRESQL])
def catalogs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """URLs of two databases that processes can share."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/catalog.db", f"sqlite:///{tmp_path}/another.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.new_database() as url, server.new_database() as another:
        yield url, another


def _all_of(children: list[Child]) -> list[Answer]:
    answers = [child.wait() for child in children]
    assert None not in answers
    return [answer for answer in answers if answer is not None]


@pytest.mark.once
def test_of_eight_processes_that_commit_all_that_waits_each_execution_is_committed_by_one(
    catalogs: tuple[str, str], tmp_path: Path
) -> None:
    url, another = catalogs
    workspace = Workspace(scratch=tmp_path / "scratch", results=tmp_path / "results", catalog=url)
    fragments = [
        stopped_execution(workspace, group=f"g{number % GROUPS}", result=OUTCOMES[number % len(OUTCOMES)])
        for number in range(EXECUTIONS)
    ]
    workspace.catalog.release_connections()
    soon = time.time() + 1
    answers = _all_of([Child(commit_all, workspace, soon) for _ in range(PROCESSES)])
    assert [(answer.error, answer.value.errors) for answer in answers] == [(None, ())] * PROCESSES
    committed = Counter(fragment for answer in answers for fragment in answer.value.statuses)
    assert committed == Counter(fragments)
    assert sum(1 for answer in answers if answer.value.statuses) > 1, "one process did it all"

    rows = {row.fragment: row for row in workspace.list_executions()}
    assert {(row.owner, row.lease_token, row.error) for row in rows.values()} == {(None, 1, None)}
    assert sum(answer.value.uploaded for answer in answers) == sum(row.artifacts for row in rows.values())
    latest = {row.group: row for row in sorted(rows.values(), key=lambda row: (row.started_at, row.fragment))}
    assert {row.group: row.group_dirty for row in rows.values()} == {group: row.dirty for group, row in latest.items()}
    assert {row.dirty for row in latest.values()} == {True, False}

    store = LocalArtifactStore(tmp_path / "results")
    with Catalog(another) as alone:
        assert replay(store, alone).counts["ingested"] == EXECUTIONS
        assert rows_of(alone) == rows_of(workspace.catalog)


@pytest.mark.once
def test_of_two_processes_that_commit_one_execution_one_does_and_the_other_is_told_who(
    database: KeptDatabase | None, tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    catalog = folder / "catalog.db" if database is None else database.url
    workspace = Workspace(scratch=folder / "scratch", results=folder / "results", catalog=catalog)
    scene = Scene(workspace, folder, database=database)
    scene.steps()
    undisturbed = end_state(scene.workspace, scene.fragment)
    scene.reset()
    both = [scene.child(at=Before("os.rename"), action=Linger(3.0)) for _ in range(2)]
    pids = [child.pid for child in both]
    answers = _all_of(both)
    (winner,) = [number for number, answer in enumerate(answers) if answer.error is None]
    refused = answers[1 - winner].error
    assert isinstance(refused, ClaimHeldError)
    assert f":{pids[winner]}:" in str(refused)
    assert scene.workspace.catalog.execution(scene.fragment).lease_token == 1
    assert end_state(scene.workspace, scene.fragment) == undisturbed


def replay_all(store: LocalArtifactStore, url: str, not_before: float) -> ReplayReport:
    time.sleep(max(0.0, not_before - time.time()))
    with Catalog(url) as catalog:
        return replay(store, catalog)


@pytest.mark.once
def test_four_processes_that_replay_one_store_into_one_catalog_equal_one(
    catalogs: tuple[str, str], tmp_path: Path
) -> None:
    scratch, store = LocalArtifactStore(tmp_path / "scratch"), LocalArtifactStore(tmp_path / "results")
    put(scratch, small_run())
    for number in range(SETS):
        result = RETRYABLE if number % 7 == 0 else SUCCESS
        started_at = NOON + timedelta(minutes=number)
        promote(result, scratch, store, f"pmp/enso/g{number % 6}/{number}", started_at=started_at)
    url, another = catalogs
    soon = time.time() + 1
    answers = _all_of([Child(replay_all, store, url, soon) for _ in range(4)])
    assert [answer.error for answer in answers] == [None] * 4
    assert [answer.value.ok for answer in answers] == [True] * 4
    with Catalog(url) as together, Catalog(another) as alone:
        assert replay(store, alone).counts["ingested"] == SETS
        assert rows_of(together) == rows_of(alone)
        assert {row.group_dirty for row in alone.executions()} == {True, False}
