"""A catalog speaks of one results store, wherever that lies, and follows what is removed from it or moved in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.executions.runs import IDENTITY, committed, ran
from tests.servers.s3 import S3Server

from emdstore import Catalog, LocalArtifactStore, PruneRefusedError, S3ArtifactStore, Workspace, replay, transfer
from emdstore.errors import CatalogError, ExecutionNotFoundError, InvalidTransitionError
from emdstore.ingestion.binding import is_same_store, rebind
from emdstore.stores import InMemoryArtifactStore, ReadOnlyStore, scoped
from emdstore.stores.identity import IDENTITY_KEY, StoreIdentity, give_identity, identity_of

BARE = b'{"DIMENSIONS": {"json_structure": ["r"], "r": {"a": {}}}, "RESULTS": {"a": %s}}'


def write_bare(store: LocalArtifactStore | InMemoryArtifactStore, fragment: str, value: bytes = b"1.5") -> None:
    store.write_bytes(f"{fragment}/diagnostic.json", BARE % value)
    store.write_bytes(f"{fragment}/out.log", b"done")


@pytest.mark.parametrize(
    ("bound", "here", "same"),
    [
        (("1", "/a"), ("1", "/a"), True),
        (("1", "/a"), ("1", "/b"), True),
        (("1", "/a"), ("2", "/a"), False),
        (("1", "/a"), (None, "/a"), True),
        (("1", "/a"), (None, "/b"), False),
        ((None, "/a"), ("2", "/a"), True),
        ((None, "/a"), (None, "/a/b"), False),
    ],
)
def test_identities_decide_and_where_one_is_missing_the_place_does(
    bound: tuple[str | None, str], here: tuple[str | None, str], same: bool
) -> None:
    assert is_same_store(StoreIdentity(*bound), StoreIdentity(*here)) is same


def test_a_store_gets_one_identity_whoever_asks_first() -> None:
    store = InMemoryArtifactStore()
    assert identity_of(store).id is None
    first = give_identity(store)
    assert first.id is not None
    assert give_identity(store, "another") == first == identity_of(store)


def test_an_identity_that_a_power_cut_left_empty_is_given_anew(tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path)
    store.write_bytes(IDENTITY_KEY, b"")
    assert identity_of(store).id is None
    given = give_identity(store)
    assert given.id is not None
    assert give_identity(store, "another") == given == identity_of(store)


def test_an_identity_is_on_the_disk_before_anybody_goes_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bytes] = []
    monkeypatch.setattr(LocalArtifactStore, "flush", lambda store: flushed.append(store.read_bytes(IDENTITY_KEY)))
    store = LocalArtifactStore(tmp_path)
    give_identity(store)
    assert flushed == [store.read_bytes(IDENTITY_KEY)]


@pytest.mark.parametrize("held", [b"torn", b'{"id": "../../elsewhere", "created_at": "2026-01-01T00:00:00Z"}'])
def test_what_is_no_identity_is_named_and_left_alone(tmp_path: Path, held: bytes) -> None:
    store = LocalArtifactStore(tmp_path)
    store.write_bytes(IDENTITY_KEY, held)
    with pytest.raises(OSError, match="no identity of a store"):
        identity_of(store)
    assert store.read_bytes(IDENTITY_KEY) == held


def test_a_workspace_whose_results_moved_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    assert isinstance(workspace.results, LocalArtifactStore)
    committed(workspace)
    execution = ran(workspace)
    os.rename(workspace.results.root, tmp_path / "elsewhere")
    moved = Workspace(scratch=workspace.scratch, results=tmp_path / "elsewhere", catalog=workspace.catalog)
    moved.resume_execution(execution.fragment).commit_output_assets()
    assert replay(moved.results, moved.catalog).ok
    bound = moved.catalog.bound_results()
    assert bound is not None
    assert bound.url == os.path.realpath(tmp_path / "elsewhere")


def test_another_store_at_the_same_path_is_refused_before_anything_is_shipped(
    workspace: Workspace, tmp_path: Path
) -> None:
    assert isinstance(workspace.results, LocalArtifactStore)
    committed(workspace)
    waiting = ran(workspace)
    os.rename(workspace.results.root, tmp_path / "elsewhere")
    give_identity(workspace.results)
    again = Workspace(scratch=workspace.scratch, results=workspace.results, catalog=Catalog(tmp_path / "catalog.db"))
    with pytest.raises(CatalogError, match="belongs to the results store"):
        again.resume_execution(waiting.fragment).commit_output_assets()
    assert list(workspace.results.iter_keys()) == [IDENTITY_KEY]
    with pytest.raises(CatalogError, match="`emdstore db rebind`"):
        replay(workspace.results, again.catalog)


def test_sets_of_another_store_do_not_take_the_place_of_this_catalogs(tmp_path: Path, catalog: Catalog) -> None:
    north, south = LocalArtifactStore(tmp_path / "north"), LocalArtifactStore(tmp_path / "south")
    write_bare(north, "p/d/g/1")
    write_bare(south, "p/d/g/1", b"-1.5")
    replay(north, catalog)
    with pytest.raises(CatalogError, match="give each results store a catalog of its own"):
        replay(south, catalog)
    assert [scalar.value for scalar in catalog.scalars()] == [1.5]


def test_another_store_that_takes_the_place_of_the_first_is_noticed_by_a_process_that_goes_on(
    workspace: Workspace, tmp_path: Path
) -> None:
    """Guards against `emdstore watch` reading what is mounted there now into the catalog of what was there before."""
    assert isinstance(workspace.results, LocalArtifactStore)
    committed(workspace)
    assert replay(workspace.results, workspace.catalog).ok
    workspace.results.root.rename(tmp_path / "elsewhere")
    give_identity(workspace.results)
    write_bare(workspace.results, "p/d/g/9")
    with pytest.raises(CatalogError, match="belongs to the results store"):
        replay(workspace.results, workspace.catalog)
    assert workspace.catalog.executions(fragment="p/d/g/9").count() == 0


def test_a_store_that_is_only_read_is_not_written_to(tmp_path: Path, catalog: Catalog) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    write_bare(results, "p/d/g/1")
    before = set(results.iter_keys())
    replay(results, catalog)
    assert set(results.iter_keys()) == before


def test_the_folder_of_one_set_may_be_replayed_by_itself(workspace: Workspace) -> None:
    execution = committed(workspace)
    committed(workspace)
    report = replay(scoped(workspace.results, execution.fragment), workspace.catalog)
    assert (report.ok, report.counts["unchanged"]) == (True, 1)
    assert workspace.list_executions().count() == 2


def test_a_copy_of_a_store_is_another_store(workspace: Workspace, tmp_path: Path, moto_server: S3Server) -> None:
    committed(workspace)
    workspace.results.write_bytes(".emdstore/releases/v1.json", b"{}")
    for copy in (
        LocalArtifactStore(tmp_path / "copy"),
        S3ArtifactStore(f"s3://{moto_server.make_bucket()}", **moto_server.options),
    ):
        transfer(workspace.results, copy).raise_for_failures()
        assert copy.exists(".emdstore/releases/v1.json")
        assert not copy.exists(IDENTITY_KEY)
        assert transfer(workspace.results, copy).counts["copied"] == 0


def test_what_emdstore_keeps_for_itself_is_no_set(tmp_path: Path, catalog: Catalog) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    write_bare(results, ".emdstore/snapshots/1")
    assert replay(results, catalog).sets == 0


# -- rebind ----------------------------------------------------------------------------------------------------------


def test_a_catalog_is_tied_anew_to_a_store_that_holds_its_records(workspace: Workspace, tmp_path: Path) -> None:
    assert isinstance(workspace.results, LocalArtifactStore)
    committed(workspace)
    shutil.copytree(workspace.results.root, tmp_path / "restored")
    (tmp_path / "restored" / IDENTITY_KEY).unlink()
    restored = LocalArtifactStore(tmp_path / "restored")
    known = identity_of(workspace.results).id
    with pytest.raises(CatalogError):
        replay(restored, workspace.catalog)
    report = rebind(workspace.catalog, restored)
    assert (report.compared, report.equal, report.now.id) == (1, 1, known)
    assert replay(restored, workspace.catalog).ok


def test_a_store_that_holds_other_records_is_not_the_catalogs_unless_forced(
    workspace: Workspace, tmp_path: Path
) -> None:
    execution = committed(workspace)
    before = workspace.catalog.bound_results()
    other = LocalArtifactStore(tmp_path / "other")
    other.write_bytes(f"{execution.fragment}/execution.json", b"{}")
    with pytest.raises(CatalogError, match="0 are those that the catalog was read from"):
        rebind(workspace.catalog, other)
    assert workspace.catalog.bound_results() == before
    assert not other.exists(IDENTITY_KEY)
    assert rebind(workspace.catalog, other, force=True).equal == 0


def test_a_read_only_store_is_known_by_its_place(workspace: Workspace) -> None:
    committed(workspace)
    bare = InMemoryArtifactStore()
    transfer(workspace.results, bare)
    report = rebind(workspace.catalog, ReadOnlyStore(bare))
    assert report.now.id is None
    assert not bare.exists(IDENTITY_KEY)


# -- what is gone ----------------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path) -> LocalArtifactStore:
    store = LocalArtifactStore(tmp_path / "results")
    for number in range(4):
        write_bare(store, f"p/d/g{number}/1", b"%d.5" % number)
    return store


def values(catalog: Catalog) -> list[float | None]:
    return [scalar.value for scalar in catalog.scalars()]


def test_a_set_that_is_gone_is_told_of_and_its_rows_stay(results: LocalArtifactStore, catalog: Catalog) -> None:
    replay(results, catalog)
    shutil.rmtree(results.root / "p/d/g1")
    report = replay(results, catalog)
    assert [(each.fragment, each.state) for each in report.failures] == [("p/d/g1/1", "vanished")]
    assert (report.ok, report.sets) == (False, 3)
    assert values(catalog) == [0.5, 1.5, 2.5, 3.5]


def test_pruning_removes_what_is_gone_below_the_prefix_only(results: LocalArtifactStore, catalog: Catalog) -> None:
    replay(results, catalog)
    shutil.rmtree(results.root / "p/d/g1")
    write_bare(results, "q/d/g/1")
    assert replay(results, catalog, "q", prune=True).counts["pruned"] == 0
    assert replay(results, catalog, prune=True).counts["pruned"] == 1
    assert values(catalog) == [0.5, 2.5, 3.5, 1.5]
    assert replay(results, catalog, prune=True).ok


def test_a_disk_that_is_not_mounted_prunes_nothing(results: LocalArtifactStore, catalog: Catalog) -> None:
    replay(results, catalog)
    for number in range(4):
        shutil.rmtree(results.root / f"p/d/g{number}")
        if number == 1:  # half may go
            assert replay(results, catalog).counts["vanished"] == 2
        elif number > 1:
            with pytest.raises(PruneRefusedError, match="is it mounted"):
                replay(results, catalog, prune=True)
    assert values(catalog) == [0.5, 1.5, 2.5, 3.5]
    assert replay(results, catalog, prune="any").counts["pruned"] == 4
    assert values(catalog) == []


def test_rows_of_what_was_not_published_are_not_taken_for_gone(workspace: Workspace) -> None:
    committed(workspace)
    waiting = ran(workspace)
    report = replay(workspace.results, workspace.catalog, prune=True)
    assert report.ok
    assert waiting.status == "stopped"


def test_a_set_that_lies_in_another_folder_now_is_there_once(workspace: Workspace) -> None:
    assert isinstance(workspace.results, LocalArtifactStore)
    execution = committed(workspace)
    before = values(workspace.catalog)
    provider = execution.fragment.partition("/")[0]
    (workspace.results.root / provider).rename(workspace.results.root / "renamed")
    report = replay(workspace.results, workspace.catalog)
    assert (report.counts["ingested"], report.counts["moved"], report.ok) == (1, 1, True)
    assert values(workspace.catalog) == before
    assert [row.fragment.partition("/")[0] for row in workspace.list_executions()] == ["renamed"]


def test_two_equal_bare_sets_are_not_taken_for_one_that_moved(results: LocalArtifactStore, catalog: Catalog) -> None:
    write_bare(results, "p/d/twin/1", b"0.5")
    replay(results, catalog)
    shutil.rmtree(results.root / "p/d/twin")
    assert replay(results, catalog).counts["vanished"] == 1


def test_an_execution_is_forgotten_by_name_and_a_replay_brings_it_back(workspace: Workspace) -> None:
    execution = committed(workspace)
    gone = workspace.catalog.forget(execution.fragment)
    assert (gone.fragment, values(workspace.catalog)) == (execution.fragment, [])
    with pytest.raises(ExecutionNotFoundError):
        workspace.catalog.forget(execution.fragment)
    assert replay(workspace.results, workspace.catalog).counts["ingested"] == 1


def test_what_runs_cannot_be_forgotten(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        with pytest.raises(InvalidTransitionError, match="is running, and cannot be forgotten"):
            workspace.catalog.forget(execution.fragment)
        execution.add_scalar(1.0, region="global", metric="bias")
    assert execution.status == "stopped"
