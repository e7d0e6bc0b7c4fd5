"""A database server that restarts, or stays away, in the middle of a replay or a commit."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.executions.crash import Child, end_state, stopped_execution
from tests.servers.postgres import PostgresServer
from tests.sets.examples import SUCCESS, metric_bundle, promote, put, rows_of, small_run

from emdstore.catalog import Catalog
from emdstore.errors import CatalogUnavailableError
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.ingestion.replay_report import ReplayReport
from emdstore.stores import LocalArtifactStore

pytestmark = pytest.mark.once

SETS = 40


@pytest.fixture
def url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    with postgres_server.new_database(postgres_template) as url:
        yield url


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifactStore:
    """Published sets."""
    scratch, store = LocalArtifactStore(tmp_path / "scratch"), LocalArtifactStore(tmp_path / "results")
    put(scratch, small_run())
    for number in range(SETS):
        promote(SUCCESS, scratch, store, f"pmp/enso/g{number % 6}/{number:02}")
    return store


def _rows(store: LocalArtifactStore) -> object:
    """Return what a replay that nothing happens to comes to."""
    with Catalog("sqlite://") as alone:
        assert replay(store, alone).ok
        return rows_of(alone)


def replay_slowly(store: LocalArtifactStore, url: str, busy_timeout: float) -> ReplayReport:
    with Catalog(url, busy_timeout=busy_timeout) as catalog:
        return replay(store, catalog, on_progress=lambda *_: time.sleep(0.01))


def _wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restart", "crash"])
def test_a_replay_goes_on_when_the_server_is_back(
    postgres_server: PostgresServer, url: str, store: LocalArtifactStore, how: signal.Signals
) -> None:
    with Catalog(url) as catalog, Child(replay_slowly, store, url, 30.0) as child:
        _wait_for(lambda: catalog.executions().count() > 5)
        postgres_server.stop(how)
        time.sleep(0.3)
        postgres_server.start()
        answer = child.wait()
        assert answer is not None
        assert answer.error is None
        assert answer.value.counts["ingested"] == SETS
        assert rows_of(catalog) == _rows(store)


def test_a_replay_whose_server_stays_away_ends_and_the_next_one_goes_on_from_there(
    postgres_server: PostgresServer, url: str, store: LocalArtifactStore
) -> None:
    with Catalog(url) as catalog, Child(replay_slowly, store, url, 0.3) as child:
        _wait_for(lambda: catalog.executions().count() > 5)
        postgres_server.stop(signal.SIGQUIT)
        try:
            answer = child.wait()
        finally:
            postgres_server.start()
        assert answer is not None
        assert isinstance(answer.error, CatalogUnavailableError)
        assert "check that the server runs and the catalog's URL is right, then try again" in str(answer.error)
        there = list(catalog.executions())
        assert 5 < len(there) < SETS
        for row in there:
            assert row.scalars == catalog.scalars(fragment=row.fragment).count() > 0
            assert row.artifacts == catalog.artifacts(fragment=row.fragment).count() > 0
        report = replay(store, catalog)
        assert (report.counts["ingested"], report.counts["unchanged"]) == (SETS - len(there), len(there))
        assert rows_of(catalog) == _rows(store)


def test_a_commit_whose_server_restarts_is_finished_by_the_next_one(
    postgres_server: PostgresServer, url: str, tmp_path: Path
) -> None:
    workspace = Workspace(
        scratch=tmp_path / "scratch", results=tmp_path / "results", catalog=Catalog(url, busy_timeout=0.3)
    )
    fragment = stopped_execution(workspace)
    execution = workspace.resume_execution(fragment)
    with pytest.raises(CatalogUnavailableError):
        execution.commit_output_assets(progress_callback=lambda _: _stop_once(postgres_server))
    postgres_server.start()
    assert workspace.catalog.execution(fragment).status == "pending_upload"
    assert workspace.catalog.artifacts().count() == 0
    assert workspace.commit_pending_executions().statuses == {fragment: "uploaded"}
    assert end_state(workspace, fragment)["rows of this record"]


def _stop_once(server: PostgresServer) -> None:
    assert server._process is not None
    if server._process.poll() is None:
        server.stop()


def test_a_set_that_postgresql_refuses_stops_no_other(url: str, tmp_path: Path) -> None:
    scratch, store = LocalArtifactStore(tmp_path / "scratch"), LocalArtifactStore(tmp_path / "results")
    put(scratch, small_run())
    for number in range(3):
        promote(SUCCESS, scratch, store, f"pmp/enso/g/{number}")
    put(scratch, small_run(diagnostic=metric_bundle({"glo\0bal": {"bias": 1.0}})))
    promote(SUCCESS, scratch, store, "pmp/enso/g/1a")
    with Catalog(url) as catalog:
        report = replay(store, catalog)
        assert (report.counts["ingested"], report.counts["invalid"]) == (3, 1)
        (refused,) = report.failures
        assert refused.fragment == "pmp/enso/g/1a"
        assert "refuses this content" in str(refused.error)
        assert "PostgreSQL keeps no NUL characters; remove them" in str(refused.error)
        assert [row.fragment for row in catalog.executions()] == [f"pmp/enso/g/{number}" for number in range(3)]
