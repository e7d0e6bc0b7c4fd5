"""A snapshot answers as the database that it was written from, is proved, and is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import http.server
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pytest
from tests.catalog.examples import FULL, NOON, everything, execution_of, numbered
from tests.servers.s3 import S3Server

from emdstore import (
    ArtifactStore,
    InMemoryArtifactStore,
    LocalArtifactStore,
    list_snapshots,
    prune_snapshots,
    remove_snapshot,
    replay,
    transfer,
    verify,
    write_snapshot,
)
from emdstore.catalog import Catalog, snapshot_writing
from emdstore.catalog.comparing import Rules, Side, compare_results
from emdstore.catalog.history import history_of
from emdstore.catalog.releases import ReleaseContent
from emdstore.catalog.snapshots import LIST_NAME, POINTER_NAME, SNAPSHOTS, find_snapshot
from emdstore.errors import (
    CatalogError,
    CatalogVersionError,
    ExecutionNotFoundError,
    IntegrityError,
    QueryError,
    ReadOnlyCatalogError,
    SnapshotError,
    SnapshotNotFoundError,
    StoreUnavailableError,
)
from emdstore.sets.finding import find_sets
from emdstore.stores.identity import StoreIdentity
from emdstore.testing import Fault, FaultyStore, RecordingStore

assert duckdb
assert pyarrow

_RETRACTED: dict[str, Any] = {"retracted_at": NOON, "retracted_by": "ann", "retraction_reason": "wrong units"}


def _models() -> Iterator[Any]:
    """Yield executions of six models, one of which is far off."""
    for number in range(6):
        bias = 100.0 if number == 3 else 1.0 + number / 10
        scalars = [(bias, {"metric": "bias", "source_id": f"m{number}", "Metric": "upper", "region": "tropics"}, None)]
        yield execution_of(f"out/m{number}", diagnostic="outliers", group=f"m{number}", scalars=scalars, dirty=True)


def _versions() -> Iterator[Any]:
    """Yield sets of one group: an old version, the latest, a retracted one, and one that is incomplete."""
    of = functools.partial(execution_of, diagnostic="versions", state="published")
    for number, (name, changes) in enumerate(
        {
            "old": {"provider_version": "1"},
            "new": {"provider_version": "2"},
            "wrong": {"provider_version": "3", **_RETRACTED},
            "torn": {"complete": False, "state": "incomplete", "status": "failed", "failure": "result"},
        }.items()
    ):
        scalars = [(float(number), {"region": "global"}, {"units": "K"})]
        at = NOON.replace(minute=number)
        yield of(f"v/{name}", scalars=scalars, published_at=at, record_digest=name, **changes)


@pytest.fixture(scope="module")
def small_parts() -> Iterator[None]:
    """Many small files, so that not every query needs all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_writing, "_ROWS_AT_A_TIME", 20)
        patch.setattr(snapshot_writing, "_ROWS_OF_PART", 40)
        yield


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, small_parts: None) -> Iterator[tuple[Catalog, Catalog]]:
    """A database with some of everything, and its snapshot, in a folder whose name means something to DuckDB."""
    folder = tmp_path_factory.mktemp("results") / "it's [a]*/run=1"
    folder.mkdir(parents=True)
    contents = [FULL, *map(numbered, [f"run/{number}" for number in range(8)]), *_models(), *_versions()]
    with Catalog(tmp_path_factory.mktemp("catalog") / "catalog.db") as catalog:
        for content in contents:
            catalog.replace_execution(content)
        catalog.releases.replace([ReleaseContent("2026.1", NOON, "ann", "", [("v/old", "old")])], {"stable": "2026.1"})
        write_snapshot(catalog, folder)
        with Catalog(folder) as snapshot:
            yield catalog, snapshot


def _series_in(format: Any) -> Callable[[Catalog], Any]:
    return lambda catalog: b"".join(catalog.series().export(format))


QUESTIONS: dict[str, Callable[[Catalog], Any]] = {
    "all rows of all kinds": everything,
    "latest": lambda catalog: list(catalog.scalars(latest=True)),
    "incomplete": lambda catalog: list(catalog.scalars(complete=False)),
    "complete or not": lambda catalog: list(catalog.scalars(complete=None, superseded=True)),
    "retracted": lambda catalog: list(catalog.executions(retracted=True)),
    "retracted or not": lambda catalog: list(catalog.scalars(retracted=None, superseded=True)),
    "superseded": lambda catalog: list(catalog.scalars(diagnostic="versions", superseded=True)),
    "a release": lambda catalog: list(catalog.scalars(release="stable")),
    "releases": lambda catalog: (catalog.releases.list(), catalog.releases.naming(catalog.execution("v/old"))),
    "of a release": lambda catalog: list(catalog.of_release("2026.1").executions()),
    "outliers": lambda catalog: list(catalog.scalars(outliers="flag")),
    "without outliers": lambda catalog: list(catalog.scalars(diagnostic="outliers", outliers="hide")),
    "a folder": lambda catalog: list(catalog.scalars(fragment="run/3")),
    "a group": lambda catalog: list(catalog.scalars(group=["g1", "g2"])),
    "ids": lambda catalog: list(catalog.scalars(ids=[catalog.execution("run/5").execution_id])),
    "a status": lambda catalog: list(catalog.executions(status="failed")),
    "a dataset": lambda catalog: list(catalog.executions(dataset="cmip6.*")),
    "inputs of a dataset": lambda catalog: list(catalog.inputs(dataset="ERA5")),
    "a dimension": lambda catalog: list(catalog.scalars(dimensions={"region": ["NINO3.4", "global"]})),
    "a dimension with quotes": lambda catalog: list(catalog.scalars(dimensions={"a.b": "$.x[0]"})),
    "a dimension in upper case": lambda catalog: list(
        catalog.scalars(dimensions={"Metric": "upper", "metric": "bias"})
    ),
    "no value of a dimension": lambda catalog: list(catalog.series(dimensions={"region": []})),
    "an index": lambda catalog: list(catalog.series(index_name="lat")),
    "a test": lambda catalog: list(catalog.scalars().where("value", ">", 3.5).where("fragment", "!=", "run/4")),
    "a time": lambda catalog: list(catalog.executions().where("started_at", "between", (NOON, NOON.replace(minute=2)))),
    "an order": lambda catalog: list(catalog.scalars().order_by("-value", "fragment").limit(7)),
    "many of the first": lambda catalog: list(catalog.scalars(fragment="run").limit(95).where("value", ">", 0)),
    "none of the first": lambda catalog: [*catalog.scalars().limit(0), catalog.artifacts().limit(2).count()],
    "the first": lambda catalog: (catalog.scalars().first(), list(catalog.executions().limit(2))),
    "counts": lambda catalog: [catalog.scalars(latest=latest).count() for latest in (False, True)],
    "facets": lambda catalog: (catalog.scalars().facets(), catalog.outputs().facets(), catalog.series().facets()),
    "facets of the site": lambda catalog: catalog.scalar_facets(dimensions={"region": "global"}),
    "a frame": lambda catalog: catalog.scalars(fragment="run").to_pandas().to_dict(),
    "an Arrow table": lambda catalog: catalog.series().to_arrow().to_pylist(),
    "lines": _series_in("jsonl"),
    "cells": _series_in("csv"),
    "an execution": lambda catalog: catalog.execution("m3"),
    "values": lambda catalog: catalog.values_of([row.execution_id for row in catalog.executions(fragment="run")]),
    "a search": lambda catalog: catalog.survey("niño PMP").rows(5),
    "concerns": lambda catalog: (catalog.survey(concerns=True, newest=True).rows(9), catalog.survey().causes()),
    "a page": lambda catalog: catalog.survey().rows(5, 3, "-scalars"),
    "sizes": lambda catalog: catalog.survey().sizes(list(catalog.executions())),
    "signs of change": lambda catalog: catalog.survey().signs_of_change(),
    "records": lambda catalog: list(catalog.records.below()),
    "the last replay": lambda catalog: catalog.replays.last(),
    "the results store": lambda catalog: catalog.bound_results(),
    "history": lambda catalog: history_of(catalog, "pmp", "versions", "g"),
    "a comparison": lambda catalog: [
        pair.counts
        for pair in compare_results(Side(catalog, {"fragment": "v/old"}), Side(catalog, {"fragment": "v/new"}), Rules())
    ],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_snapshot_answers_as_its_database(both: tuple[Catalog, Catalog], question: str) -> None:
    expected, found = (QUESTIONS[question](each) for each in both)
    assert found == expected
    assert expected or question == "no value of a dimension" or "replay" in question or "store" in question


def test_what_is_asked_wrongly_is_told_as_by_the_database(both: tuple[Catalog, Catalog]) -> None:
    _, snapshot = both
    with pytest.raises(QueryError, match=r"no dimension 'regoin': did you mean 'region'\?"):
        snapshot.scalars(dimensions={"regoin": "global"})
    with pytest.raises(ExecutionNotFoundError, match="no execution 'nothing'"):
        snapshot.execution("nothing")


def test_a_query_reads_only_the_files_that_it_needs(both: tuple[Catalog, Catalog]) -> None:
    catalog, _ = both
    store = RecordingStore(InMemoryArtifactStore())
    write_snapshot(catalog, store)
    of = catalog.execution("run/5").execution_id
    with Catalog(store) as opened:
        opened.executions().first()
        before = len(store.calls)
        assert opened.scalars(fragment="run/5").count() == opened.scalars(ids=[of]).count() == 50
        read = {call.key for call in store.calls[before:] if call.verb == "read_bytes"}
        assert 1 <= sum("scalar_value" in key for key in read) <= 3
        assert not any("series" in key for key in read)
        assert len(opened.values_of([of]).scalars[of]) == 50
        known = len(store.calls)
        assert opened.scalars(fragment="run/5").first()
        assert len(store.calls) == known  # each file is read once


# -- only reading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda catalog: catalog.replace_execution(execution_of("a")),
        lambda catalog: catalog.forget("run/5"),
        lambda catalog: catalog.upgrade(),
        lambda catalog: catalog.releases.replace([], {}),
        lambda catalog: replay(InMemoryArtifactStore(), catalog),
    ],
)
def test_nothing_is_written_to_a_snapshot(both: tuple[Catalog, Catalog], write: Callable[[Catalog], Any]) -> None:
    _, snapshot = both
    with pytest.raises(ReadOnlyCatalogError, match="is a snapshot, which can only be read: give a database"):
        write(snapshot)


def test_an_opened_snapshot_crosses_processes_and_stays_the_same(both: tuple[Catalog, Catalog]) -> None:
    catalog, _ = both
    store = InMemoryArtifactStore("of-snapshots")
    first = write_snapshot(catalog, store)
    with Catalog(store) as opened:
        assert opened.check().state == "current"
        with Catalog("sqlite://") as empty:
            write_snapshot(empty, store)
        with pickle.loads(pickle.dumps(opened)) as again:
            assert again.executions(retracted=None).count() == first.rows["execution"]
        with Catalog(store) as newest:
            assert newest.executions().count() == 0
        assert opened.release_connections()
        assert opened.scalars().first()


# -- proof -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(both: tuple[Catalog, Catalog], tmp_path: Path) -> tuple[Catalog, LocalArtifactStore]:
    store = LocalArtifactStore(tmp_path)
    write_snapshot(both[0], store, "first")
    return both[0], store


def _keys(store: ArtifactStore, name: str, table: str = "") -> list[str]:
    return [key for key in store.iter_keys(f"{SNAPSHOTS}/{name}") if f"/{table}" in key]


def test_a_changed_file_is_noticed_before_it_is_read(written: tuple[Catalog, LocalArtifactStore]) -> None:
    _, store = written
    key = _keys(store, "first", "scalar_value-")[0]
    data = bytearray(store.read_bytes(key))
    with Catalog(store) as opened:
        assert opened.scalars().count()
        data[100] ^= 1
        store.write_bytes(key, bytes(data))
        with pytest.raises(IntegrityError, match="does not have the digest"):
            opened.scalars().count()
        assert opened.executions().count()  # the others are still good
        store.delete(key)
        with pytest.raises(SnapshotNotFoundError, match="the snapshot was removed"):
            opened.scalars().count()


@pytest.mark.parametrize(
    ("key", "data", "error", "message"),
    [
        (f"{SNAPSHOTS}/first/{LIST_NAME}", b"{}", IntegrityError, "does not have the digest"),
        (f"{SNAPSHOTS}/first/{LIST_NAME}", b"", SnapshotNotFoundError, "which is not there"),
        (f"{SNAPSHOTS}/{POINTER_NAME}", b"", SnapshotNotFoundError, "there is no snapshot"),
        (f"{SNAPSHOTS}/{POINTER_NAME}", b'{"snapshot_version": 2}', SnapshotError, "newer emdstore"),
        (f"{SNAPSHOTS}/{POINTER_NAME}", b"<html>", SnapshotError, "is not what it should be"),
    ],
)
def test_what_is_no_snapshot_is_told(
    written: tuple[Catalog, LocalArtifactStore], key: str, data: bytes, error: type[Exception], message: str
) -> None:
    written[1].write_bytes(key, data)
    with Catalog(written[1]) as opened, pytest.raises(error, match=message):
        opened.executions().first()


def test_a_snapshot_of_another_schema_is_refused(written: tuple[Catalog, LocalArtifactStore]) -> None:
    _, store = written
    (known,) = list_snapshots(store)
    for version, advice in (("0001", "write a new one"), ("9999", "upgrade emdstore")):
        (Path(store.local_path()) / "one").mkdir(exist_ok=True)
        data = store.read_bytes(f"{SNAPSHOTS}/first/{LIST_NAME}").replace(b'"0003"', f'"{version}"'.encode())
        store.write_bytes(f"one/{LIST_NAME}", data)
        with Catalog(store.local_path("one")) as opened, pytest.raises(CatalogVersionError, match=advice):
            opened.executions().first()
    assert known.schema == "0003"


# -- writing ---------------------------------------------------------------------------------------------------------


def test_wherever_writing_ends_there_is_a_whole_snapshot_or_none() -> None:
    with Catalog("sqlite://") as catalog, Catalog("sqlite://") as empty:
        catalog.replace_execution(FULL)
        store = InMemoryArtifactStore()
        newest, nth = write_snapshot(empty, store, "before"), 0
        for nth in range(1, 100):
            fault = Fault(verbs={"create_bytes", "replace_bytes", "write_bytes"}, nth={nth})
            before = set(store.iter_keys())
            with contextlib.suppress(StoreUnavailableError):
                write_snapshot(catalog, FaultyStore(store, fault), f"new-{nth}")
                break
            assert len(set(store.iter_keys()) - before) == nth - 1
            newest, _ = find_snapshot(store)
            assert newest.name == "before"
            # One whose list is there, but no pointer to it yet, is whole; doing it again is enough.
            for each in list_snapshots(store)[1:]:
                assert nth == len(each.tables) + 2
                assert write_snapshot(catalog, store, each.name) == find_snapshot(store)[0] == each
        assert nth == len(newest.tables) + 3
        remove_snapshot(store, "new-5")
        assert not _keys(store, "new-5")
        write_snapshot(catalog, store, "new-7")  # goes on from there
        with Catalog(store) as opened:
            assert everything(opened) == everything(catalog)


def test_a_name_is_given_once_and_again_only_for_the_same_rows(written: tuple[Catalog, LocalArtifactStore]) -> None:
    catalog, store = written
    keys = list(store.iter_info())
    assert write_snapshot(catalog, store, "first") == list_snapshots(store)[0]
    assert list(store.iter_info()) == keys
    with Catalog("sqlite://") as other, pytest.raises(SnapshotError, match="there is another snapshot 'first' already"):
        write_snapshot(other, store, "first")
    for name in ("", "a/b", ".hidden", "newest.json", "x" * 101):
        with pytest.raises(SnapshotError, match="cannot be the name of a snapshot"):
            write_snapshot(catalog, store, name)
    assert list(store.iter_info()) == keys


def test_a_catalog_of_other_results_is_not_written_beside_these(small_parts: None) -> None:
    store = InMemoryArtifactStore()
    with Catalog("sqlite://") as catalog:
        catalog.note_results(StoreIdentity("another", "/elsewhere"), instead_of=None)
        with pytest.raises(CatalogError, match="belongs to the results store /elsewhere"):
            write_snapshot(catalog, store)
    assert not list(store.iter_keys())


def test_snapshots_are_removed_only_by_name_or_number(written: tuple[Catalog, LocalArtifactStore]) -> None:
    catalog, store = written
    for name in ("second", "third", "fourth"):
        write_snapshot(catalog, store, name)
    store.write_bytes(f"{SNAPSHOTS}/unfinished/dataset-x.parquet", b"x")
    with pytest.raises(ValueError, match="at least one"):
        prune_snapshots(store, 0)
    assert prune_snapshots(store, 3) == ["first"]
    assert not _keys(store, "first")
    assert _keys(store, "unfinished")  # somebody may be writing it
    remove_snapshot(store, "fourth")  # the newest one
    with Catalog(store) as opened:
        assert opened._database.found.name == "third"  # type: ignore[attr-defined]
    for name in ("unfinished", "third", "second"):
        remove_snapshot(store, name)
    with pytest.raises(SnapshotNotFoundError, match=r"no snapshot 'second'.*there are: none"):
        remove_snapshot(store, "second")
    with Catalog(store) as opened, pytest.raises(SnapshotNotFoundError, match="was removed"):
        opened.executions().first()
    write_snapshot(catalog, store, "fifth")
    with Catalog(store) as opened:
        assert opened.executions().first()


# -- places ----------------------------------------------------------------------------------------------------------


def test_a_snapshot_travels_with_the_results_and_never_ahead_of_its_files(
    written: tuple[Catalog, LocalArtifactStore],
) -> None:
    catalog, store = written
    dest = RecordingStore(InMemoryArtifactStore())
    assert transfer(store, dest, max_workers=1).ok
    arrived = [call.key for call in dest.calls if call.verb in ("write_bytes", "open_writer")]
    assert arrived[-2:] == [f"{SNAPSHOTS}/first/{LIST_NAME}", f"{SNAPSHOTS}/{POINTER_NAME}"]
    with Catalog(dest) as opened:
        assert everything(opened) == everything(catalog)
    write_snapshot(catalog, dest, "later")
    assert transfer(store, dest).ok
    assert find_snapshot(dest)[0].name == "later"  # the newest of both
    assert transfer(dest, store).ok
    assert find_snapshot(store)[0].name == "later"
    with Catalog("sqlite://") as empty:
        other = InMemoryArtifactStore()
        write_snapshot(empty, other, "first")
    report = transfer(other, dest)
    kept = [f"{SNAPSHOTS}/first/{LIST_NAME}", f"{SNAPSHOTS}/{POINTER_NAME}"]
    assert [(each.key, each.outcome) for each in report.failures] == [(key, "left") for key in kept]
    assert find_snapshot(dest)[0].name == "later"
    assert not list(find_sets(store))
    assert verify(store).ok


class _Site(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site(written: tuple[Catalog, LocalArtifactStore]) -> Iterator[str]:
    """A plain web server, which lists nothing that anybody could rely on."""
    root = str(written[1].local_path())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Site, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_snapshot_is_opened_from_a_folder_and_over_plain_http(
    written: tuple[Catalog, LocalArtifactStore], site: str
) -> None:
    catalog, store = written
    root = str(store.local_path())
    for place in (f"{root}/{SNAPSHOTS}", f"{root}/{SNAPSHOTS}/first", site, f"{site}/{SNAPSHOTS}/first"):
        with Catalog(place) as opened:
            assert list(opened.scalars(fragment="run")) == list(catalog.scalars(fragment="run"))


def test_a_snapshot_is_opened_from_s3(
    written: tuple[Catalog, LocalArtifactStore], moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, _ = written
    bucket = f"s3://{moto_server.make_bucket()}/results"
    variables = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    for name, value in zip(variables, moto_server.options.values(), strict=True):
        monkeypatch.setenv(name, value)
    write_snapshot(catalog, bucket)
    with Catalog(bucket) as opened:
        assert everything(opened) == everything(catalog)
