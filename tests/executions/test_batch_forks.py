"""A batch commits in forks of this process, where that is safe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
from tests.children import SEE_WORKERS, answer_of, start_python
from tests.executions.runs import SET, ran
from tests.servers.s3 import S3Server
from tests.sets.examples import rows_of

from emdstore.catalog import Catalog
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.keys import is_left_behind
from emdstore.sets.transfer import transfer
from emdstore.sets.verify import verify
from emdstore.stores import LocalArtifactStore, S3ArtifactStore

pytestmark = pytest.mark.slow

CHILD = (
    SEE_WORKERS
    + """
from emdstore.executions.batch import CommitInterrupted
from emdstore.executions.without_catalog import publish_pending_executions
from emdstore.executions.workspace import Workspace
from emdstore.stores import LocalArtifactStore, InMemoryArtifactStore, S3ArtifactStore

scratch, results, catalog, then = sys.argv[1:]
of_catalog = 0
def told(progress):
    global of_catalog
    of_catalog = workspace.list_executions(status="uploaded").count()
    see_workers(then)

if then in ("wait", "interrupt", "lose one"):
    rename_slowly(0.01)
kept = LocalArtifactStore(results) if results.startswith("/") else S3ArtifactStore(**json.loads(results))
if then == "in memory":
    kept = InMemoryArtifactStore()
if then == "beside a thread":
    threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
with Workspace(scratch=LocalArtifactStore(scratch), results=kept, catalog=catalog) as workspace:
    looking = iter(workspace.list_executions())
    if then == "beside a query":
        next(looking)
    without = then in ("without catalog", "in memory")
    commit = publish_pending_executions if without else Workspace.commit_pending_executions
    try:
        report, interrupted = commit(workspace, progress_callback=told), False
    except CommitInterrupted as error:
        report, interrupted = error.report, True
    print(json.dumps({
        "statuses": report.statuses,
        "errors": [str(each.error) for each in report.errors],
        "workers": len(workers),
        "left": [child.pid for child in multiprocessing.active_children()],
        "interrupted": interrupted,
        "held": sum(1 for key in kept.iter_keys() if not key.startswith(".emdstore/")),
        "of_catalog": of_catalog,
    }))
"""
)

MANY = 24


@pytest.fixture
def workspace(request: pytest.FixtureRequest, workspace: Workspace) -> Workspace:
    """A workspace with results on disk, or on a server."""
    if getattr(request, "param", "local") == "local":
        return workspace
    server: S3Server = request.getfixturevalue("moto_server")
    return attrs.evolve(workspace, results=S3ArtifactStore(f"s3://{server.make_bucket()}/results", **server.options))


@pytest.fixture
def waiting(workspace: Workspace) -> list[str]:
    fragments = [ran(workspace, diagnostic=f"d{number:02}").fragment for number in range(MANY)]
    workspace.catalog.release_connections()
    return fragments


def committed_in_child(workspace: Workspace, then: str = "nothing") -> Any:
    return answer_of(start_python(CHILD, *places_of(workspace), then))


def places_of(workspace: Workspace) -> tuple[object, ...]:
    results = workspace.results
    if isinstance(results, S3ArtifactStore):
        names = ("url", "endpoint_url", "region", "access_key_id", "secret_access_key")
        place: object = json.dumps({name: getattr(results, name) for name in names})
    else:
        assert isinstance(results, LocalArtifactStore)
        place = results.root
    return workspace.scratch.root, place, workspace.catalog.url.removeprefix("sqlite:///")


def assert_goes_on(workspace: Workspace, waiting: list[str], tmp_path: Path) -> None:
    """The next batch finds all that was not committed, and the catalog is that of the results."""
    assert workspace.commit_pending_executions().ok
    assert [row.status for row in workspace.list_executions()] == ["uploaded"] * MANY
    checked = verify(workspace.results)
    assert (checked.ok, checked.sets, checked.artifacts) == (True, MANY, MANY * len(SET))
    copy = LocalArtifactStore(tmp_path / "copy")
    assert transfer(workspace.results, copy).ok
    with Catalog(tmp_path / "again.db") as again:
        assert replay(copy, again).ok
        assert rows_of(again) == rows_of(workspace.catalog)


def test_they_commit_everything_and_end(workspace: Workspace, waiting: list[str], tmp_path: Path) -> None:
    answer = committed_in_child(workspace)
    assert answer["workers"] > 1
    assert answer["left"] == answer["errors"] == []
    assert answer["statuses"] == dict.fromkeys(waiting, "uploaded")
    assert answer["of_catalog"] == MANY  # seen from the parent, while they were there
    assert_goes_on(workspace, waiting, tmp_path)


def test_they_publish_without_the_catalog(workspace: Workspace, waiting: list[str]) -> None:
    answer = committed_in_child(workspace, "without catalog")
    assert answer["workers"] > 1
    assert answer["statuses"] == dict.fromkeys(waiting, "uploaded")
    assert {row.status for row in workspace.list_executions()} == {"stopped"}


@pytest.mark.parametrize("why", ["beside a thread", "beside a query", "in memory"])
def test_a_process_that_must_not_be_forked_is_not(workspace: Workspace, waiting: list[str], why: str) -> None:
    answer = committed_in_child(workspace, why)
    assert answer["workers"] == 0
    assert answer["statuses"] == dict.fromkeys(waiting, "uploaded")
    assert answer["held"] == MANY * (len(SET) + 1)


@pytest.mark.parametrize("workspace", ["s3"], indirect=True)
def test_to_an_object_store_threads_commit(workspace: Workspace, waiting: list[str]) -> None:
    answer = committed_in_child(workspace)
    assert answer["workers"] == 0
    assert answer["statuses"] == dict.fromkeys(waiting, "uploaded")


def test_ctrl_c_ends_them_with_a_report(workspace: Workspace, waiting: list[str], tmp_path: Path) -> None:
    answer = committed_in_child(workspace, "interrupt")
    assert answer["interrupted"]
    assert answer["left"] == answer["errors"] == []
    assert 0 < len(answer["statuses"]) < MANY
    assert {row.fragment for row in workspace.list_executions(status="uploaded")} == set(answer["statuses"])
    assert not [path for path in tmp_path.rglob("*") if is_left_behind(path.name)]
    assert_goes_on(workspace, waiting, tmp_path)


def test_they_end_when_their_parent_is_killed(workspace: Workspace, waiting: list[str], tmp_path: Path) -> None:
    child = start_python(CHILD, *places_of(workspace), "wait")
    assert child.stdout is not None
    workers = child.stdout.readline()
    processes = [psutil.Process(int(pid)) for pid in workers.strip("[]\n").split(",")]
    child.kill()
    child.communicate()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    assert_goes_on(workspace, waiting, tmp_path)


def test_a_worker_that_is_killed_is_told_of(workspace: Workspace, waiting: list[str], tmp_path: Path) -> None:
    answer = committed_in_child(workspace, "lose one")
    assert answer["errors"]
    assert all("run it again" in error for error in answer["errors"])
    assert answer["left"] == []
    assert_goes_on(workspace, waiting, tmp_path)
