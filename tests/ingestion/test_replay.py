"""Replay: the catalog is what the results store says, however it got there."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.sets.examples import (
    CURATED,
    FAILURE,
    FRAGMENT,
    SUCCESS,
    FourMethods,
    encode,
    metric_bundle,
    nonzero,
    output_bundle,
    promote,
    put,
    rows_of,
    small_run,
)

from emdstore.catalog import Catalog
from emdstore.emds import load_vocabulary
from emdstore.errors import (
    ArtifactNotFoundError,
    BundleError,
    CatalogError,
    IncompleteSetError,
    InvalidKeyError,
    RecordError,
    RecordVersionError,
    StoreAccessError,
    StoreError,
    StoreNotFoundError,
)
from emdstore.ingestion.replay import replay
from emdstore.ingestion.replay_report import IngestOutcome, ReplayInterrupted
from emdstore.keys import in_folder
from emdstore.sets.finding import find_sets
from emdstore.sets.record import ExecutionRecord, encode_record, read_record
from emdstore.sets.release import ALIASES, RELEASES
from emdstore.stores import (
    ArtifactInfo,
    ArtifactStore,
    InMemoryArtifactStore,
    LeftOut,
    LocalArtifactStore,
    SupportsPath,
    scoped,
)
from emdstore.stores.identity import IDENTITY_KEY
from emdstore.testing import Call, Fault, FaultyStore, RecordingStore

FRAGMENTS = tuple(f"pmp/enso_tel/group {g}/{n}" for g in (1, 2) for n in (1, 2, 10))


@pytest.fixture
def many(results: ArtifactStore) -> ArtifactStore:
    """A results store with several published sets, each with values of its own."""
    return fill(results)


def fill(results: ArtifactStore, fragments: tuple[str, ...] = FRAGMENTS) -> ArtifactStore:
    for n, fragment in enumerate(fragments):
        run = small_run(diagnostic=metric_bundle({"global": {"bias": float(n)}}))
        promote(SUCCESS, put(InMemoryArtifactStore(), run), results, fragment)
    return results


def states(report: Any) -> dict[str, str]:
    """Return the state of each set; of those that are unchanged there is only a count."""
    return {each.fragment: each.state for each in report.outcomes} | {
        f"unchanged {n}": "unchanged" for n in range(report.counts["unchanged"])
    }


def unchanged(count: int) -> dict[str, str]:
    return {f"unchanged {n}": "unchanged" for n in range(count)}


# -- the whole idea ----------------------------------------------------------------------------------------------------


def test_a_new_catalog_is_rebuilt_from_the_store(many: ArtifactStore, catalog: Catalog, empty_catalog: Path) -> None:
    report = replay(many, catalog)
    assert states(report) == dict.fromkeys(sorted(FRAGMENTS), "ingested")
    assert report.ok
    assert nonzero(report.counts) == {"ingested": 6}
    assert [row.value for row in catalog.scalars(superseded=True)] == [0.0, 2.0, 1.0, 3.0, 5.0, 4.0]
    with Catalog("sqlite://") as other:
        replay(many, other)
        assert rows_of(other) == rows_of(catalog)


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a_second_replay_reads_nothing_but_the_listing(catalog: Catalog, tmp_path: Path, kind: str) -> None:
    results = fill(InMemoryArtifactStore() if kind == "memory" else LocalArtifactStore(tmp_path / "results"))
    replay(results, catalog)
    rows = rows_of(catalog)
    store = RecordingStore(results)
    report = replay(store, catalog)
    assert set(states(report).values()) == {"unchanged"}
    asked = [call for call in store.calls if call.verb != "local_path"]  # is the folder there?
    listing = Call("iter_found" if kind == "local" else "iter_info", "")
    assert asked == [Call("read_bytes", IDENTITY_KEY), listing, Call("iter_keys", RELEASES), Call("iter_keys", ALIASES)]
    assert rows_of(catalog) == rows


def test_a_store_that_tells_no_times_is_asked_who_it_is_and_for_the_records_only(catalog: Catalog) -> None:
    inner = RecordingStore(fill(InMemoryArtifactStore()))
    results = FourMethods(inner)
    replay(results, catalog)
    before = len(inner.calls)
    assert set(states(replay(results, catalog)).values()) == {"unchanged"}
    read = [call.key for call in inner.calls[before:] if call.verb != "iter_keys"]
    assert sorted(read) == [IDENTITY_KEY, *(f"{fragment}/execution.json" for fragment in sorted(FRAGMENTS))]


def test_an_interrupted_replay_of_such_a_store_goes_on_without_reading_the_records_that_were_loaded(
    catalog: Catalog, tmp_path: Path
) -> None:
    inner = RecordingStore(fill(InMemoryArtifactStore()))
    results, file = FourMethods(inner), tmp_path / "state"
    replay(results, catalog)
    loaded: list[str] = []

    def stop(outcome: IngestOutcome, done: int, total: int | None) -> None:
        loaded.append(outcome.fragment)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay(results, catalog, state_file=file, on_progress=stop)
    catalog.forget(loaded[0])  # the file alone is not believed
    before = len(inner.calls)
    assert nonzero(replay(results, catalog, state_file=file).counts) == {"ingested": 1, "unchanged": len(FRAGMENTS) - 1}
    read = {call.key.removesuffix("/execution.json") for call in inner.calls[before:] if call.verb == "read_bytes"}
    assert loaded[0] in read
    assert loaded[1] not in read
    assert not file.exists()


def test_only_what_changed_is_ingested_again(many: ArtifactStore, catalog: Catalog) -> None:
    replay(many, catalog)
    changed = FRAGMENTS[2]
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run(diagnostic=metric_bundle({"x": {"y": 99}}))), many, changed)
    report = replay(many, catalog)
    assert [each.fragment for each in report.outcomes if each.state == "ingested"] == [changed]
    assert report.counts["unchanged"] == 5
    assert [row.value for row in catalog.scalars(fragment=changed)] == [99.0]


def test_only_a_folder_is_replayed_if_that_is_asked_for(many: ArtifactStore, catalog: Catalog) -> None:
    report = replay(many, catalog, "pmp/enso_tel/group 1")
    assert list(states(report)) == ["pmp/enso_tel/group 1/1", "pmp/enso_tel/group 1/10", "pmp/enso_tel/group 1/2"]
    assert list(states(replay(many, catalog, "pmp/enso_tel/group 2/1"))) == ["pmp/enso_tel/group 2/1"]
    assert len(list(catalog.executions())) == 4
    assert replay(many, catalog, "no/such/folder").outcomes == ()
    with pytest.raises(InvalidKeyError):
        replay(many, catalog, "../elsewhere")


def test_an_empty_store_is_replayed_to_nothing_and_one_that_is_not_there_is_an_error(
    results: ArtifactStore, catalog: Catalog
) -> None:
    if isinstance(results, SupportsPath):
        for place in (results, results.local_path()):
            with pytest.raises(StoreNotFoundError, match="does not exist"):
                replay(place, catalog)
        results.local_path().mkdir()
    report = replay(results, catalog)
    assert (report.outcomes, report.ok) == ((), True)


# -- each by itself ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_ingested_stops_no_other(catalog: Catalog) -> None:
    results = fill(InMemoryArtifactStore(), (*FRAGMENTS, "pmp/a/b/1"))
    damaged = FRAGMENTS[:5]
    record = read_record(scoped(results, FRAGMENTS[0]))
    assert record is not None
    results.delete(f"{damaged[0]}/data/tas.nc")
    results.write_bytes(f"{damaged[1]}/execution.json", b"{")
    results.write_bytes(f"{damaged[2]}/execution.json", b'{"record_version": 99}')
    results.write_bytes(f"{damaged[3]}/execution.json", encode_record(ExecutionRecord.at(damaged[3])))
    twice = attrs.evolve(record, fragment=damaged[4], artifacts=record.artifacts[:1] * 2, status="failed")
    results.write_bytes(f"{damaged[4]}/execution.json", encode_record(twice))
    report = replay(results, catalog)
    errors = {each.fragment: type(each.error) for each in report.failures}
    assert errors == dict(
        zip(damaged, (IncompleteSetError, RecordError, RecordVersionError, RecordError, CatalogError), strict=True)
    )
    assert nonzero(report.counts) == {
        "ingested": 2,
        "changed": 1,
        "unreadable": 2,
        "newer-schema": 1,
        "invalid": 1,
    }
    assert not report.ok
    assert {row.fragment for row in catalog.executions()} == {FRAGMENTS[5], "pmp/a/b/1"}
    plain = report.as_dict()
    assert plain["counts"]["unreadable"] == 2
    assert all(isinstance(each["error"], str | None) for each in plain["executions"])


def test_a_set_that_was_incomplete_is_ingested_when_it_is_whole(catalog: Catalog) -> None:
    results = fill(InMemoryArtifactStore(), FRAGMENTS[:1])
    late = results.read_bytes(f"{FRAGMENTS[0]}/index.html")
    results.delete(f"{FRAGMENTS[0]}/index.html")
    assert states(replay(results, catalog)) == {FRAGMENTS[0]: "changed"}
    results.write_bytes(f"{FRAGMENTS[0]}/index.html", late)
    assert states(replay(results, catalog)) == {FRAGMENTS[0]: "ingested"}


def test_a_version_that_cannot_be_read_leaves_the_one_before(catalog: Catalog) -> None:
    results = fill(InMemoryArtifactStore(), FRAGMENTS[:1])
    replay(results, catalog)
    rows = rows_of(catalog)
    results.write_bytes(f"{FRAGMENTS[0]}/execution.json", b"")
    assert states(replay(results, catalog)) == {FRAGMENTS[0]: "unreadable"}
    assert rows_of(catalog) == rows


def test_a_set_that_the_store_cannot_read_is_reported(catalog: Catalog) -> None:
    results = fill(InMemoryArtifactStore())
    failing = FaultyStore(results, Fault(keys={f"{FRAGMENTS[1]}/diagnostic.json"}, error=StoreError))
    report = replay(failing, catalog)
    assert [(each.fragment, each.state) for each in report.failures] == [(FRAGMENTS[1], "unreadable")]
    assert replay(results, catalog).counts["ingested"] == 1


def test_a_set_that_is_removed_while_it_is_read_has_changed(catalog: Catalog) -> None:
    gone = Fault(keys={f"{FRAGMENTS[1]}/diagnostic.json"}, error=ArtifactNotFoundError)
    report = replay(FaultyStore(fill(InMemoryArtifactStore()), gone), catalog)
    assert [(each.fragment, each.state) for each in report.failures] == [(FRAGMENTS[1], "changed")]


class PartlyClosed(InMemoryArtifactStore):
    """A store one of whose folders cannot be read."""

    closed = "another"

    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        yield LeftOut(f"{self.closed}/", "cannot be read", StoreAccessError("closed"))
        yield from (each for each in self.iter_info(prefix) if not in_folder(each.key, self.closed))

    def exists(self, key: str, /) -> bool:
        return not in_folder(key, self.closed) and super().exists(key)


def test_sets_in_a_folder_that_cannot_be_read_are_not_taken_for_gone(catalog: Catalog) -> None:
    store = PartlyClosed()
    fill(store)
    replay(store, catalog)
    store.closed = "pmp/enso_tel/group 1"
    report = replay(store, catalog, prune="any")
    assert states(report) == unchanged(3)
    assert [each.name for each in report.left_out] == ["pmp/enso_tel/group 1/"]
    assert (report.failed, report.ok) == (0, False)
    assert len(list(catalog.executions())) == 6


def test_a_store_that_cannot_be_listed_raises(catalog: Catalog) -> None:
    with pytest.raises(StoreError):
        replay(FaultyStore(fill(InMemoryArtifactStore()), Fault(verbs={"iter_info"}, error=StoreError)), catalog)
    assert len(list(catalog.executions())) == 0


def test_a_catalog_that_is_gone_raises(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"this is no database, but it is long enough to look like a file of one" * 20)
    with Catalog(tmp_path / "catalog.db") as catalog, pytest.raises(CatalogError):
        replay(fill(InMemoryArtifactStore()), catalog)


def test_progress_is_told_and_a_display_that_raises_costs_nothing(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, int, int | None]] = []

    def display(outcome: Any, done: int, total: int | None) -> None:
        told.append((outcome.state, done, total))
        raise ZeroDivisionError

    assert replay(fill(InMemoryArtifactStore()), catalog, on_progress=display).ok
    assert told == [("ingested", n + 1, 6) for n in range(6)]
    assert "progress callback failed" in caplog.text


def test_a_vocabulary_is_used_for_every_set(catalog: Catalog) -> None:
    vocabulary = load_vocabulary(b"dimensions: []")
    replay(fill(InMemoryArtifactStore()), catalog, vocabulary=vocabulary)
    assert {row.fragment for row in catalog.warnings() if row.place == "metric"} == set(FRAGMENTS)


# -- what is a set -----------------------------------------------------------------------------------------------------


def test_bundles_in_working_directories_are_no_sets(results: ArtifactStore, catalog: Catalog) -> None:
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    put(results, small_run(), f"{FRAGMENT}/executions/recipe_1/work")
    put(results, small_run(), "bare/x/y/1")
    put(results, small_run(), "bare/x/y/1/run/2")
    assert states(replay(results, catalog)) == {"bare/x/y/1": "ingested", FRAGMENT: "ingested"}


def test_a_failed_run_that_left_bundles_in_working_directories_is_one_set(
    results: ArtifactStore, catalog: Catalog
) -> None:
    promote(FAILURE, put(InMemoryArtifactStore(), small_run()), results)
    put(results, small_run(), f"{FRAGMENT}/executions/recipe_1/work")
    (outcome,) = replay(results, catalog).outcomes
    assert (outcome.fragment, outcome.status, outcome.scalars) == (FRAGMENT, "failed", 0)


def test_a_record_below_a_record_is_part_of_the_outer_set(results: ArtifactStore, catalog: Catalog) -> None:
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results, f"{FRAGMENT}/executions/inner")
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    assert list(states(replay(results, catalog))) == [FRAGMENT]


@pytest.mark.parametrize("stray", ["", "pmp", "pmp/enso_tel"])
def test_a_stray_bundle_above_published_sets_hides_none(
    many: ArtifactStore, stray: str, catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    put(many, {"diagnostic.json": b"{}"}, stray)
    assert states(replay(many, catalog)) == dict.fromkeys(sorted(FRAGMENTS), "ingested")
    assert f"{stray!r} has a metric bundle but holds published sets" in caplog.text


def test_a_log_alone_is_no_set(results: ArtifactStore, catalog: Catalog) -> None:
    put(results, {"pmp/x/y/1/out.log": b"", "pmp/x/y/1/output.json": b"{}", "notes/series.json": b"[]"})
    assert replay(results, catalog).outcomes == ()


def test_folders_of_similar_names_are_neighbours(catalog: Catalog) -> None:
    names = ("run1", "run10", "run1-b", "run1 c", "run1.d")
    results = InMemoryArtifactStore()
    for name in names:
        put(results, small_run(), f"p/d/{name}")
    found = list(states(replay(results, catalog)))
    assert found == sorted((f"p/d/{name}" for name in names), key=lambda fragment: fragment + "/")


def test_bare_and_published_sets_stand_side_by_side(results: ArtifactStore, catalog: Catalog) -> None:
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results, "pmp/x/g/1")
    put(results, small_run(), "pmp/x/g/2")
    promote(FAILURE, put(InMemoryArtifactStore(), small_run()), results, "pmp/x/g/3")
    report = replay(results, catalog)
    assert [(each.fragment, each.status, each.scalars) for each in report.outcomes] == [
        ("pmp/x/g/1", "uploaded", 3),
        ("pmp/x/g/2", "uploaded", 3),
        ("pmp/x/g/3", "failed", 0),
    ]


# -- bare trees --------------------------------------------------------------------------------------------------------


def test_an_unchanged_bare_set_is_skipped(results: ArtifactStore, catalog: Catalog) -> None:
    put(results, small_run(), FRAGMENT)
    assert states(replay(results, catalog)) == {FRAGMENT: "ingested"}
    assert states(replay(results, catalog)) == unchanged(1)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("diagnostic", metric_bundle({"global": {"bias": 7}}), (3, 1, 1)),
        ("series", [], (3, 3, 0)),
        ("output", output_bundle(), (0, 3, 1)),
    ],
)
def test_a_bare_set_with_another_bundle_is_ingested_again(
    results: ArtifactStore, catalog: Catalog, name: str, content: object, expected: tuple[int, int, int]
) -> None:
    put(results, small_run(), FRAGMENT)
    replay(results, catalog)
    put(results, {f"{name}.json": encode(content)}, FRAGMENT)
    (outcome,) = replay(results, catalog).outcomes
    assert (outcome.outputs, outcome.scalars, outcome.series) == expected


def test_a_bare_set_with_gaps_is_looked_at_again(results: ArtifactStore, catalog: Catalog) -> None:
    """A tree that is still being copied: its plots come after its bundles, which do not change any more."""
    files = small_run()
    late = files.pop("data/tas.nc")
    put(results, files, FRAGMENT)
    assert states(replay(results, catalog)) == states(replay(results, catalog)) == {FRAGMENT: "incomplete"}
    assert len(list(catalog.executions())) == 0
    put(results, {"data/tas.nc": late}, FRAGMENT)
    assert states(replay(results, catalog)) == {FRAGMENT: "ingested"}
    assert [row.key for row in catalog.outputs()] == ["plots/map (°C).png", "data/tas.nc", "index.html"]
    assert catalog.warnings().count() == 0


def test_a_bare_set_with_gaps_is_taken_as_far_as_it_goes_if_somebody_asks(
    results: ArtifactStore, catalog: Catalog
) -> None:
    files = small_run()
    late = files.pop("data/tas.nc")
    put(results, files, FRAGMENT)
    assert states(replay(results, catalog, incomplete=True)) == {FRAGMENT: "ingested"}
    assert states(replay(results, catalog, incomplete=True)) == unchanged(1)
    assert catalog.scalars().count() == 3
    assert {row.name: row.key for row in catalog.outputs()}["data 0"] is None
    assert [(row.code, row.place) for row in catalog.warnings()] == [("missing-artifact", "data/tas.nc")]
    put(results, {"data/tas.nc": late}, FRAGMENT)
    assert states(replay(results, catalog)) == {FRAGMENT: "ingested"}
    assert {row.name: row.key for row in catalog.outputs()}["data 0"] == "data/tas.nc"


def test_a_bare_set_that_got_gaps_does_not_replace_its_rows(catalog: Catalog) -> None:
    results = InMemoryArtifactStore()
    put(results, small_run(), FRAGMENT)
    replay(results, catalog)
    rows = rows_of(catalog)
    results.delete(f"{FRAGMENT}/data/tas.nc")
    put(results, {"diagnostic.json": encode(metric_bundle({"global": {"bias": 7}}))}, FRAGMENT)
    assert states(replay(results, catalog)) == {FRAGMENT: "incomplete"}
    assert rows_of(catalog) == rows
    assert states(replay(results, catalog, incomplete=True)) == {FRAGMENT: "ingested"}


def test_a_bare_set_with_a_broken_bundle_is_unreadable_and_named(results: ArtifactStore, catalog: Catalog) -> None:
    put(results, small_run(series=b"[{]"), FRAGMENT)
    put(results, small_run(), "pmp/x/y/1")
    (failure,) = replay(results, catalog).failures
    assert (failure.fragment, failure.state) == (FRAGMENT, "unreadable")
    assert isinstance(failure.error, BundleError)
    assert "series.json" in str(failure.error)
    assert len(list(catalog.executions())) == 1


def test_a_bare_set_that_is_published_later_is_the_same_execution(results: ArtifactStore, catalog: Catalog) -> None:
    put(results, small_run(), FRAGMENT)
    replay(results, catalog)
    before = catalog.execution(FRAGMENT).execution_id
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    assert states(replay(results, catalog)) == {FRAGMENT: "ingested"}
    assert catalog.execution(FRAGMENT).execution_id == before
    assert None not in {row.sha256 for row in catalog.artifacts()}


# -- a store that is one set -------------------------------------------------------------------------------------------


def test_the_store_may_be_the_folder_of_one_published_set(results: ArtifactStore, catalog: Catalog) -> None:
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    assert states(replay(scoped(results, FRAGMENT), catalog)) == {FRAGMENT: "ingested"}
    assert states(replay(scoped(results, FRAGMENT), catalog)) == unchanged(1)
    assert [row.key for row in catalog.artifacts(fragment=FRAGMENT)] == list(CURATED)


def test_the_store_may_be_the_folder_of_one_bare_set(tmp_path: Path, catalog: Catalog) -> None:
    store = LocalArtifactStore(tmp_path / "results" / FRAGMENT)
    put(store, small_run(output=output_bundle(html=[f"/elsewhere/{FRAGMENT}/index.html"])))
    assert states(replay(store, catalog)) == {FRAGMENT: "ingested"}
    assert [row.key for row in catalog.outputs()] == ["index.html"]
    assert states(replay(store, catalog)) == unchanged(1)


def test_a_bare_set_without_any_path_is_ingested_all_the_same(catalog: Catalog) -> None:
    (outcome,) = replay(put(InMemoryArtifactStore(), small_run()), catalog).outcomes
    assert (outcome.fragment, outcome.state, outcome.scalars) == ("set", "ingested", 3)


def test_the_sets_are_found_by_one_listing_that_is_not_kept(many: ArtifactStore) -> None:
    if isinstance(many, FourMethods):
        many = many.inner
    store = RecordingStore(many)
    found = list(find_sets(store))
    assert [each.location for each in found] == sorted(FRAGMENTS)
    assert all(each.published for each in found)
    assert [call.verb for call in store.calls] == ["iter_info"]


# -- processes ---------------------------------------------------------------------------------------------------------


def test_sets_may_be_read_in_other_processes(tmp_path: Path, catalog: Catalog) -> None:
    results = fill(LocalArtifactStore(tmp_path / "results"))
    results.write_bytes(f"{FRAGMENTS[0]}/execution.json", b"{")
    put(results, small_run(), "bare/x/y/1")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        report = replay(results, catalog, executor=executor)
    assert nonzero(report.counts) == {"ingested": 6, "unreadable": 1}
    with Catalog("sqlite://") as other:
        assert states(replay(results, other)) == states(report)
        assert rows_of(other) == rows_of(catalog)


CHILD = """
import sys, time
from emdstore import Catalog, LocalArtifactStore, ReplayInterrupted, replay

def slowly(outcome, done, total):
    print(done, flush=True)
    time.sleep(0.01)

try:
    replay(LocalArtifactStore(sys.argv[1]), Catalog(sys.argv[2]), on_progress=slowly)
except ReplayInterrupted as interrupted:
    print("told", len(interrupted.report.outcomes), flush=True)
    sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize("patience", [0.0, 0.013])
def test_an_interrupted_replay_leaves_whole_executions_and_goes_on(tmp_path: Path, patience: float) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    fragments = tuple(f"p/d/g/{n:03}" for n in range(40))
    run = small_run(diagnostic=metric_bundle({str(n): {"a": 1, "b": 2} for n in range(150)}))
    promote(SUCCESS, put(InMemoryArtifactStore(), run), results, fragments[0])
    whole = scoped(results, fragments[0])
    record = read_record(whole)
    assert record is not None
    for fragment in fragments[1:]:
        put(results, {key: whole.read_bytes(key) for key in CURATED}, fragment)
        put(results, {"execution.json": encode_record(attrs.evolve(record, fragment=fragment))}, fragment)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(results.root), str(tmp_path / "catalog.db")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert child.stdout is not None
    while child.stdout.readline().strip() != "5":
        assert child.poll() is None
    time.sleep(patience)
    child.send_signal(signal.SIGINT)
    rest, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    told = re.search(r"told (\d+)", rest)
    assert told is not None
    with Catalog(tmp_path / "catalog.db") as catalog:
        there = [row.fragment for row in catalog.executions()]
        assert 5 <= int(told[1]) <= len(there) < len(fragments)
        for row in catalog.executions():
            assert (row.artifacts, row.outputs, row.scalars, row.series) == (7, 3, 300, 1)
        assert catalog.scalars(superseded=True).count() == 300 * len(there)
        report = replay(results, catalog)
        assert report.counts["unchanged"] == len(there)
        assert report.counts["ingested"] == len(fragments) - len(there)
        assert [row.fragment for row in catalog.executions()] == list(fragments)


def test_an_interrupt_is_a_keyboard_interrupt_with_the_report_so_far(catalog: Catalog) -> None:
    def stop(outcome: Any, done: int, total: int | None) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        replay(fill(InMemoryArtifactStore()), catalog, on_progress=stop)
    assert isinstance(caught.value, ReplayInterrupted)
    assert len(caught.value.report.outcomes) == len(list(catalog.executions())) == 2
