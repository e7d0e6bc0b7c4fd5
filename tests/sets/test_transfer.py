"""A set is moved as a whole: at every instant it is complete at the destination, or visibly not."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.executions.crash import Child
from tests.servers.s3 import S3Server
from tests.sets.examples import FAILURE, FRAGMENT, FourMethods, held, put, small_run
from tests.sets.published import (
    OTHER,
    amend,
    disagreeing,
    looks_bare,
    move_one_by_one,
    publish,
    publish_later_version,
    state,
)

from emdstore.emds import RECORD_NAME
from emdstore.errors import DemotionRefusedError, IntegrityError, StoreError, TransferError
from emdstore.keys import join_key
from emdstore.sets.record import read_record
from emdstore.sets.transfer import plan_transfer, transfer
from emdstore.stores import (
    ArtifactInfo,
    ArtifactStore,
    FsspecArtifactStore,
    InMemoryArtifactStore,
    LocalArtifactStore,
    Place,
    S3ArtifactStore,
    scoped,
)
from emdstore.testing import Fault, FaultyStore, RecordingStore
from emdstore.transfers.units import Unit

WRITES = ("write_bytes", "open_writer", "create_bytes", "replace_bytes", "copy")
AT = f"{FRAGMENT}/{RECORD_NAME}"
PLOT = f"{FRAGMENT}/plots/map (°C).png"


def make_store(kind: str, request: pytest.FixtureRequest, path: Path) -> ArtifactStore:
    match kind:
        case "local":
            return LocalArtifactStore(path)
        case "memory":
            return InMemoryArtifactStore()
        case "four-methods":
            return FourMethods(InMemoryArtifactStore())
        case "fsspec":
            return FsspecArtifactStore(f"memory://{uuid.uuid4().hex}")
        case _:
            server: S3Server = request.getfixturevalue("moto_server")
            return S3ArtifactStore(f"s3://{server.make_bucket()}/archive", **server.options)


KINDS = ["local", "memory", "four-methods", "fsspec", "s3"]


@pytest.fixture(params=KINDS)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """An empty destination of each kind."""
    return make_store(request.param, request, tmp_path / "archive")


@pytest.fixture
def results(tmp_path: Path) -> LocalArtifactStore:
    """A source with two published sets and a file that belongs to none."""
    store = LocalArtifactStore(tmp_path / "results")
    publish(store)
    publish(store, OTHER, map=b"another plot")
    put(store, {"README.md": b"about these results", "pmp/notes.txt": b"notes"})
    time.sleep(0.05)
    return store


def writes(store: Any) -> list[str]:
    return [call.key for call in store.calls if call.verb in WRITES]


def words(report: Any) -> dict[str, str]:
    return {each.folder: each.outcome for each in report.sets}


# -- sets arrive whole -------------------------------------------------------------------------------------------------


def test_all_of_a_store_arrives_and_the_report_speaks_of_sets_and_keys(
    results: LocalArtifactStore, archive: ArtifactStore
) -> None:
    report = transfer(results, archive)
    assert report.ok
    assert held(archive) == held(results)
    assert words(report) == {FRAGMENT: "copied", OTHER: "copied"}
    assert sorted(each.key for each in report.outcomes) == list(results.iter_keys())
    assert report.as_dict()["sets"][0] == {"folder": FRAGMENT, "outcome": "copied", "error": None}


def test_the_second_run_writes_nothing_and_says_so(results: LocalArtifactStore, archive: ArtifactStore) -> None:
    transfer(results, archive)
    dest = RecordingStore(archive)
    report = transfer(results, dest)
    assert writes(dest) == []
    assert report.counts["unchanged"] == len(report.outcomes)
    assert words(report) == {FRAGMENT: "unchanged", OTHER: "unchanged"}


@pytest.mark.parametrize("data", [b'{"of": "another program"}', b"no JSON"])
def test_a_file_that_is_called_like_a_record_is_copied_once(archive: ArtifactStore, data: bytes) -> None:
    source = put(InMemoryArtifactStore(), {"run/execution.json": data, "run/notes.txt": b"notes"})
    assert transfer(source, archive).counts["copied"] == 2
    again = transfer(source, archive, unchanged="digest")
    assert again.counts["copied"] == 0
    assert words(again) == {"run": "unchanged"}


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_set_that_nobody_touched_is_not_looked_at_again(
    results: LocalArtifactStore, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    archive = make_store(kind, request, tmp_path / "archive")
    transfer(results, archive)
    source, dest = RecordingStore(results), RecordingStore(archive)
    assert transfer(source, dest).counts["copied"] == 0
    read = {call.key for store in (source, dest) for call in store.calls if call.verb in ("read_bytes", "open_reader")}
    assert {key for key in read if key.startswith((FRAGMENT, OTHER))} <= {AT, f"{OTHER}/{RECORD_NAME}"}


def test_what_a_set_has_lost_on_both_sides_is_missing_and_not_unchanged(
    results: LocalArtifactStore, archive: Any
) -> None:
    transfer(results, archive)
    results.delete(PLOT)
    inner: Any = archive.inner if isinstance(archive, FourMethods) else archive
    inner.delete(PLOT)
    report = transfer(results, archive)
    assert report.keys("missing") == (PLOT,)
    assert words(report) == {FRAGMENT: "failed", OTHER: "unchanged"}
    assert not report.ok


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_equal_records_cost_one_read_a_side_also_where_the_source_was_touched_since(
    results: LocalArtifactStore, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """What a copy or a restored backup did to the source's times says nothing of the destination, which is proved."""
    archive = make_store(kind, request, tmp_path / "archive")
    transfer(results, archive)
    put(archive, {f"{FRAGMENT}/stale.png": b"of an older version"})
    for path in (results.root / FRAGMENT).rglob("*.*"):
        if path.name != RECORD_NAME:
            path.chmod(0o640)  # sets the time of the last change
    units = [each for each in plan_transfer(results, archive) if isinstance(each, Unit)]
    assert [(each.folder, each.opening) for each in units] == [(FRAGMENT, None), (OTHER, None)]
    source, dest = RecordingStore(results), RecordingStore(archive)
    report = transfer(source, dest)
    assert words(report) == {FRAGMENT: "unchanged", OTHER: "unchanged"}
    for store in (source, dest):
        read = [call.key for call in store.calls if call.verb in ("read_bytes", "open_reader", "digest")]
        assert sorted(key for key in read if key.startswith((FRAGMENT, OTHER))) == sorted(
            [AT, f"{OTHER}/{RECORD_NAME}"]
        )


def test_each_side_is_listed_once(results: LocalArtifactStore) -> None:
    for _ in range(2):
        source, dest = RecordingStore(results), RecordingStore(InMemoryArtifactStore())
        transfer(source, dest)
        for store, verb in ((source, "iter_found"), (dest, "iter_info")):
            assert [call.verb for call in store.calls if call.verb.startswith("iter_")] == [verb]


def test_the_record_comes_last_and_the_metric_bundle_right_before_it(results: LocalArtifactStore) -> None:
    dest = RecordingStore(InMemoryArtifactStore())
    transfer(results, dest)
    for fragment in (FRAGMENT, OTHER):
        keys = [key.removeprefix(fragment + "/") for key in writes(dest) if key.startswith(fragment + "/")]
        assert keys[-2:] == ["diagnostic.json", RECORD_NAME]
        assert set(keys[-4:-2]) == {"output.json", "series.json"}


def test_a_bare_set_goes_with_its_metric_bundle_last(archive: ArtifactStore) -> None:
    source = put(InMemoryArtifactStore(), {f"{FRAGMENT}/{key}": data for key, data in small_run().items()})
    dest = RecordingStore(archive)
    report = transfer(source, dest)
    assert held(archive) == held(source)
    assert writes(dest)[-1] == f"{FRAGMENT}/diagnostic.json"
    assert words(report) == {FRAGMENT: "copied"}


def test_a_record_that_lies_at_the_root_vouches_for_the_whole_store(results: LocalArtifactStore) -> None:
    dest = RecordingStore(InMemoryArtifactStore())
    report = transfer(results.scope(FRAGMENT), dest)
    assert writes(dest)[-1] == RECORD_NAME
    assert words(report) == {"": "copied"}
    assert disagreeing(scoped(dest, ""), "x") == []


@pytest.mark.parametrize("kind", ["record", "no record"])
def test_a_folder_with_very_many_files_before_its_record_is_one_set_all_the_same(kind: str) -> None:
    """Guards against keys that are moved on their own because the record is listed only after thousands of them."""
    source, dest = InMemoryArtifactStore(), RecordingStore(InMemoryArtifactStore())
    put(source, {f"a/b/c/data/{number:05}.nc": b"x" for number in range(5000)})
    if kind == "record":
        put(source, {"a/b/c/execution.json": b"{}", "a/b/c/diagnostic.json": b"{}"})
    report = transfer(source, dest)
    assert len(writes(dest)) == len(report.outcomes)
    assert words(report) == ({"a/b/c": "copied"} if kind == "record" else {})
    if kind == "record":
        assert writes(dest)[-2:] == ["a/b/c/diagnostic.json", "a/b/c/execution.json"]


# -- what fails --------------------------------------------------------------------------------------------------------


def test_a_set_of_which_an_artifact_does_not_arrive_has_no_record_and_does_not_look_like_one(
    results: LocalArtifactStore, archive: ArtifactStore
) -> None:
    full = FaultyStore(archive, Fault(verbs=set(WRITES), keys={PLOT}, error=StoreError))
    report = transfer(results, full)
    assert report.keys("failed") == (PLOT,)
    assert set(report.keys("left")) >= {AT, f"{FRAGMENT}/diagnostic.json"}
    assert words(report) == {FRAGMENT: "failed", OTHER: "copied"}
    assert state(archive) is None
    assert not looks_bare(archive)
    assert state(archive, OTHER) == "published"
    assert transfer(results, archive).ok
    assert held(archive) == held(results)


def test_over_an_older_set_what_fails_leaves_it_visibly_open(
    results: LocalArtifactStore, archive: ArtifactStore
) -> None:
    transfer(results, archive)
    before = read_record(scoped(archive, FRAGMENT))
    publish_later_version(results)
    full = FaultyStore(archive, Fault(verbs=set(WRITES), keys={PLOT}, error=StoreError))
    assert words(transfer(results, full)) == {FRAGMENT: "failed", OTHER: "unchanged"}
    opened = read_record(scoped(archive, FRAGMENT))
    assert before is not None
    assert opened is not None
    assert (opened.state, opened.artifacts, opened.status) == ("publishing", before.artifacts, None)
    assert transfer(results, archive).ok
    assert held(archive) == held(results)
    assert disagreeing(archive) == []


def test_an_older_set_is_opened_before_its_first_byte_changes(
    results: LocalArtifactStore, archive: ArtifactStore
) -> None:
    transfer(results, archive)
    publish_later_version(results)
    dest = RecordingStore(archive)
    transfer(results, dest)
    keys = writes(dest)
    assert (keys[0], keys[-1]) == (AT, AT)
    assert set(keys[1:-1]) == {PLOT, f"{FRAGMENT}/data/tas.nc", f"{FRAGMENT}/index.html"}


def test_what_only_the_older_record_names_does_not_change_before_it_is_opened_either() -> None:
    # The later publication does not have the plot any more, and other bytes of that name lie beside it.
    source, dest = InMemoryArtifactStore(), InMemoryArtifactStore()
    publish(source)
    transfer(source, dest)
    before = read_record(scoped(source, FRAGMENT))
    assert before is not None
    plot = PLOT.removeprefix(f"{FRAGMENT}/")
    amend(source, generation=before.generation + 1, artifacts=tuple(a for a in before.artifacts if a.key != plot))
    source.write_bytes(PLOT, b"bytes that nothing names")
    seen = RecordingStore(dest)
    assert transfer(source, seen).ok
    keys = writes(seen)
    assert (keys[0], keys[-1]) == (AT, AT)
    assert PLOT in keys
    assert held(dest) == held(source)


class _OpenedMeanwhile(InMemoryArtifactStore):
    """Another writer opens the set, changes a file of it and is halted, when this has been listed."""

    listings: int | None = None

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        listed = list(super().iter_info(prefix))
        if self.listings is not None:
            self.listings += 1
        if self.listings == 1:
            amend(self, state="publishing")
            self.write_bytes(f"{FRAGMENT}/data/tas.nc", b"CDF DATA")  # as many bytes as there were
        return iter(listed)


def test_a_listing_of_before_a_set_was_opened_proves_nothing() -> None:
    source, dest = InMemoryArtifactStore(), _OpenedMeanwhile()
    publish(dest)
    publish(source, map=b"\x89PNG PLOT")
    amend(source, generation=2)
    dest.listings = 0
    assert transfer(source, dest).ok
    assert (state(dest), disagreeing(dest)) == ("published", [])
    assert dest.listings == 2  # once more for the set that was open


def test_a_damaged_source_set_is_named_and_gets_no_record(archive: ArtifactStore, tmp_path: Path) -> None:
    source = LocalArtifactStore(tmp_path / "results")
    publish(source)
    put(source, {PLOT: b"\x89PNG blot"})
    report = transfer(source, archive)
    (failed,) = [each for each in report.outcomes if each.outcome == "failed"]
    assert failed.key == PLOT
    assert isinstance(failed.error, IntegrityError)
    assert words(report) == {FRAGMENT: "failed"}
    assert state(archive) is None
    assert not looks_bare(archive)


def test_a_later_source_set_that_is_damaged_leaves_the_older_one_published(
    results: LocalArtifactStore, archive: ArtifactStore
) -> None:
    transfer(results, archive)
    before = held(archive)
    publish_later_version(results)
    good = results.read_bytes(PLOT)
    put(results, {PLOT: b"\x89PNG blot"})
    for _ in range(2):
        report = transfer(results, archive)
        assert words(report) == {FRAGMENT: "failed", OTHER: "unchanged"}
        assert isinstance(report.sets[0].error, IntegrityError)
        assert held(archive) == before
    put(results, {PLOT: good})
    assert transfer(results, archive).ok
    assert held(archive) == held(results)


@pytest.mark.parametrize("kind", ["memory", "four-methods"])
def test_what_is_damaged_is_found_first_also_where_no_time_tells_of_it(kind: str) -> None:
    source, archive = InMemoryArtifactStore(), InMemoryArtifactStore()
    publish(source)
    transfer(source, archive)
    before = held(archive)
    publish_later_version(source)
    put(source, {PLOT: b"\x89PNG blot"})
    source.write_bytes(AT, source.read_bytes(AT))  # the record is newer than the damage
    report = transfer(source if kind == "memory" else FourMethods(source), archive)
    assert (words(report), held(archive)) == ({FRAGMENT: "failed"}, before)


class Distant(InMemoryArtifactStore):
    """Says that a server holds it."""

    def place(self) -> Place:
        return attrs.evolve(super().place(), remote=True)


@pytest.mark.parametrize("told", ["by its time", "by nothing"])
def test_damage_on_a_server_is_found_before_where_its_time_tells_and_else_on_the_way(told: str) -> None:
    source, archive = Distant(), InMemoryArtifactStore()
    publish(source)
    transfer(source, archive)
    before = held(archive)
    publish_later_version(source)
    good = source.read_bytes(PLOT)
    put(source, {PLOT: b"\x89PNG blot"})
    if told == "by nothing":
        source.write_bytes(AT, source.read_bytes(AT))  # the record is newer than the damage
    for _ in range(2):
        report = transfer(source, archive)
        (failed,) = [each for each in report.outcomes if each.outcome == "failed"]
        assert failed.key == PLOT
        assert re.search("bytes at the source have the SHA-256 [0-9a-f]{64}, .* has [0-9a-f]{64}", str(failed.error))
        assert words(report) == {FRAGMENT: "failed"}
        if told == "by its time":
            assert held(archive) == before
        else:
            assert state(archive) == "publishing"
    put(source, {PLOT: good})
    assert transfer(source, archive).ok
    assert held(archive) == held(source)


def test_each_byte_from_a_server_comes_once() -> None:
    source, archive = Distant(), InMemoryArtifactStore()
    publish(source)
    transfer(source, archive)
    publish_later_version(source)
    recorded = RecordingStore(source)
    assert transfer(recorded, archive).ok
    read = [call.key for call in recorded.calls if call.verb in ("read_bytes", "open_reader")]
    assert sorted(read) == sorted(set(read))
    assert AT in read


@pytest.mark.parametrize("damage", [None, b"cut"], ids=["missing", "of another size"])
def test_a_source_set_that_lacks_something_leaves_the_good_copy_alone(
    results: LocalArtifactStore, archive: ArtifactStore, damage: bytes | None
) -> None:
    transfer(results, archive)
    before = held(archive)
    results.delete(PLOT)
    if damage is not None:
        put(results, {PLOT: damage})
    report = transfer(results, archive)
    assert not report.ok
    assert words(report)[FRAGMENT] == "failed"
    assert held(archive) == before


def test_a_set_in_flux_at_the_source_is_left_for_the_next_run(
    results: LocalArtifactStore, archive: ArtifactStore
) -> None:
    final = results.read_bytes(AT)
    amend(results, state="publishing", status=None)
    report = transfer(results, archive)
    assert words(report) == {FRAGMENT: "left", OTHER: "copied"}
    assert not report.ok
    assert "in flux" in str(report.sets[0].error)
    assert held(archive, FRAGMENT) == {}
    results.write_bytes(AT, final)
    assert transfer(results, archive).ok
    assert held(archive) == held(results)


@pytest.mark.parametrize("less", ["failed", "incomplete", "of scratch", "unreadable", "bare", "earlier", "older"])
def test_a_complete_publication_is_not_replaced_by_less(archive: ArtifactStore, tmp_path: Path, less: str) -> None:
    source = LocalArtifactStore(tmp_path / "source")
    generation = 3 if less == "older" else 2  # of equal ones the earlier is the older
    publish(source, generation=generation, result=FAILURE if less == "failed" else publish.__kwdefaults__["result"])
    publish(archive, generation=3, map=b"the good one")
    if less == "incomplete":
        amend(source, state="incomplete", status="failed", failure="result")
    elif less == "of scratch":
        amend(source, state=None, status=None)
    elif less == "unreadable":
        put(source, {AT: b"torn"})
    elif less == "bare":
        source.delete(AT)
    before = held(archive)
    report = transfer(source, archive)
    assert held(archive) == before
    assert not report.ok
    assert state(archive) == "published"
    if less in ("failed", "incomplete", "earlier", "older"):
        assert isinstance(report.sets[0].error, DemotionRefusedError)
        assert "--replace" in str(report.sets[0].error)
        assert transfer(source, archive, replace=True).ok
        assert held(archive).items() >= held(source).items()


@pytest.mark.parametrize("less", ["failed", "incomplete"])
def test_a_complete_set_without_a_record_is_not_replaced_by_less(archive: ArtifactStore, less: str) -> None:
    source = InMemoryArtifactStore()
    publish(source, result=FAILURE if less == "failed" else publish.__kwdefaults__["result"])
    if less == "incomplete":
        amend(source, state="incomplete", status="failed", failure="result")
    put(scoped(archive, FRAGMENT), small_run())
    before = held(archive)
    for keys in (None, [join_key(FRAGMENT, key) for key in scoped(source, FRAGMENT).iter_keys()]):
        report = transfer(source, archive, keys)
        assert held(archive) == before
        assert "without a record" in str(next(each.error for each in report.outcomes if each.error))
    assert transfer(source, archive, replace=True).ok
    assert held(archive).items() >= held(source).items()


def test_a_record_of_a_newer_program_is_neither_moved_nor_replaced(
    results: LocalArtifactStore, archive: ArtifactStore
) -> None:
    put(archive, {AT: b'{"record_version": 99}'})
    report = transfer(results, archive)
    assert words(report) == {FRAGMENT: "left", OTHER: "copied"}
    assert "upgrade emdstore" in str(report.sets[0].error)
    assert held(archive, FRAGMENT) == {RECORD_NAME: b'{"record_version": 99}'}


# -- repair ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [None, b"cut", b"\x89PNG blot"], ids=["missing", "other size", "same size"])
def test_what_is_not_as_the_record_says_is_repaired(
    results: LocalArtifactStore, request: pytest.FixtureRequest, tmp_path: Path, damage: bytes | None
) -> None:
    for kind in ("local", "memory", "fsspec"):
        archive: Any = make_store(kind, request, tmp_path / f"archive-{kind}")
        transfer(results, archive)
        time.sleep(0.02)
        archive.delete(PLOT)
        if damage is not None:
            put(archive, {PLOT: damage})
        report = transfer(results, archive)
        assert report.keys("copied") == (AT, PLOT)  # opened meanwhile, and sealed again
        assert held(archive) == held(results)
        assert disagreeing(archive) == []


def test_damage_that_kept_the_times_of_a_file_is_repaired(results: LocalArtifactStore, tmp_path: Path) -> None:
    archive = LocalArtifactStore(tmp_path / "archive")
    transfer(results, archive)
    file = archive.local_path(PLOT)
    times = file.stat()
    time.sleep(0.05)
    with file.open("r+b") as opened:
        opened.write(b"\0\0")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert PLOT in transfer(results, archive).keys("copied")
    assert held(archive) == held(results)


def test_a_good_set_whose_times_say_nothing_is_compared_and_not_written(
    results: LocalArtifactStore, tmp_path: Path
) -> None:
    archive = LocalArtifactStore(tmp_path / "archive")
    transfer(results, archive)
    time.sleep(0.02)
    for key in held(archive):
        archive.local_path(key).chmod(0o640)
    dest = RecordingStore(archive)
    report = transfer(results, dest)
    assert writes(dest) == []
    assert report.counts["unchanged"] == len(report.outcomes)


def test_a_bare_copy_brings_back_what_a_published_set_lost_and_nothing_else(archive: ArtifactStore) -> None:
    publish(archive)
    whole = held(archive)
    backup = put(InMemoryArtifactStore(), held(archive))
    backup.delete(AT)
    put(backup, {f"{FRAGMENT}/data/tas.nc": b"CDF DATA"})  # of another version
    put(archive, {PLOT: b"damaged"})
    report = transfer(backup, archive, unchanged="digest")
    assert report.keys("copied") == (PLOT,)
    assert report.keys("failed") == (f"{FRAGMENT}/data/tas.nc",)
    assert held(archive) == whole


def test_a_dry_run_says_of_sets_and_keys_what_would_be_done(
    results: LocalArtifactStore, archive: ArtifactStore
) -> None:
    transfer(results, archive)
    publish_later_version(results)
    before = held(archive)
    foretold = transfer(results, archive, dry_run=True)
    assert held(archive) == before
    done = transfer(results, archive)
    assert (foretold.dry_run, foretold.counts, words(foretold)) == (True, done.counts, words(done))
    assert words(done) == {FRAGMENT: "copied", OTHER: "unchanged"}


def test_a_plan_has_a_unit_for_each_set(results: LocalArtifactStore, tmp_path: Path) -> None:
    plan = list(plan_transfer(results, tmp_path / "archive"))
    assert [each.folder for each in plan if isinstance(each, Unit)] == [FRAGMENT, OTHER]
    assert not (tmp_path / "archive").exists()


# -- some keys of a set ------------------------------------------------------------------------------------------------


def keys_of(fragment: str, store: ArtifactStore) -> list[str]:
    return [f"{fragment}/{key}" for key in held(store, fragment)]


def test_all_keys_of_a_set_by_name_are_the_set(results: LocalArtifactStore, archive: ArtifactStore) -> None:
    dest = RecordingStore(archive)
    report = transfer(results, dest, ["README.md", *keys_of(FRAGMENT, results)])
    assert report.ok
    assert words(report) == {FRAGMENT: "copied"}
    assert [key for key in writes(dest) if key != "README.md"][-1] == AT
    assert held(archive, FRAGMENT) == held(results, FRAGMENT)


def test_a_record_by_name_is_written_only_over_all_that_it_names(
    results: LocalArtifactStore, archive: ArtifactStore
) -> None:
    report = transfer(results, archive, [AT])
    assert words(report) == {FRAGMENT: "left"}
    assert "name it, too" in str(report.sets[0].error)
    assert state(archive) is None
    others = [key for key in keys_of(FRAGMENT, results) if key != AT]
    assert transfer(results, archive, others).ok
    assert state(archive) is None
    assert transfer(results, archive, [AT]).ok
    assert held(archive, FRAGMENT) == held(results, FRAGMENT)


def test_an_artifact_by_name_repairs_a_published_set_and_never_changes_it(
    results: LocalArtifactStore, archive: ArtifactStore
) -> None:
    transfer(results, archive)
    good = held(archive)
    put(archive, {PLOT: b"damaged"})
    assert transfer(results, archive, [PLOT]).keys("copied") == (PLOT,)
    assert held(archive) == good
    publish_later_version(results)
    report = transfer(results, archive, [PLOT])
    assert report.keys("failed") == (PLOT,)
    assert isinstance(report.outcomes[0].error, IntegrityError)
    assert held(archive) == good


# -- what a listing leaves out -----------------------------------------------------------------------------------------


def test_what_no_key_can_name_is_reported_and_is_no_success(results: LocalArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "results/pmp/back\\slash").write_bytes(b"")
    report = transfer(results, tmp_path / "archive")
    assert [each.name for each in report.left_out] == ["pmp/back\\slash"]
    assert report.failures == ()
    assert not report.ok
    assert report.as_dict()["left_out"][0]["name"] == "pmp/back\\slash"
    with pytest.raises(TransferError, match="left out"):
        report.raise_for_failures()


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("kind", ["local", "s3"])
@pytest.mark.parametrize("over", ["nothing", "an older set", "a bare set"])
def test_a_transfer_that_is_killed_anywhere_shows_no_half_set_and_the_next_completes_it(
    results: LocalArtifactStore, kind: str, over: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """What can be seen after a kill between two steps is what a reader could see at that instant."""

    def archive(number: int) -> ArtifactStore:
        store = make_store(kind, request, tmp_path / f"archive-{number}")
        if over != "nothing":
            put(store, first)
        if over == "a bare set":
            scoped(store, FRAGMENT).delete(RECORD_NAME)  # type: ignore[attr-defined]
        return store

    first = held(results)
    publish_later_version(results)
    answer = Child(move_one_by_one, results, archive(0), only_changes=True).wait()
    assert answer is not None
    assert answer.error is None
    steps = len(answer.steps)
    assert steps > 4
    for number in range(1, steps + 1):
        dest = archive(number)
        answer = Child(move_one_by_one, results, dest, at=number, only_changes=True).wait()
        where = f"killed at step {number} of {steps}"
        assert disagreeing(dest) == disagreeing(dest, OTHER) == [], where
        for fragment in (FRAGMENT, OTHER):
            if looks_bare(dest, fragment):  # then all of it is there, and of one version
                there, record = held(dest, fragment), {RECORD_NAME: held(results, fragment)[RECORD_NAME]}
                old = {f"{fragment}/{key}": data for key, data in there.items()}.items() <= first.items()
                assert there | record == held(results, fragment) or (over == "a bare set" and old), where
        assert transfer(results, dest).ok, where
        assert held(dest) == held(results), where
        again = RecordingStore(dest)
        assert transfer(results, again).ok
        assert writes(again) == [], where


# -- engines -----------------------------------------------------------------------------------------------------------


def test_processes_move_sets_as_threads_do(results: LocalArtifactStore, tmp_path: Path) -> None:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    archive = LocalArtifactStore(tmp_path / "archive")
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        assert transfer(results, archive, executor=executor).ok
        publish_later_version(results)
        report = transfer(results, archive, executor=executor)
    assert words(report) == {FRAGMENT: "copied", OTHER: "unchanged"}
    assert held(archive) == held(results)


def test_what_is_flushed_is_flushed_before_the_records_that_vouch_for_it(
    results: LocalArtifactStore, tmp_path: Path
) -> None:
    calls: list[str] = []

    class Noting(LocalArtifactStore):
        def create_bytes(self, key: str, data: bytes, /) -> None:
            calls.append(key)
            super().create_bytes(key, data)

        def flush(self) -> None:
            calls.append("flush")
            super().flush()

    transfer(results, Noting(tmp_path / "archive"), flush=True)
    records = [call for call in calls if call.endswith(RECORD_NAME)]
    assert len(records) == 2
    assert calls.index("flush") < min(calls.index(record) for record in records)
    assert calls[-1] == "flush"


@pytest.mark.parametrize("where", ["one bucket", "two buckets"])
def test_what_was_damaged_after_its_record_is_found_also_where_the_server_copies_it(
    moto_server: S3Server, where: str
) -> None:
    bucket = moto_server.make_bucket()
    other = bucket if where == "one bucket" else moto_server.make_bucket()
    source = S3ArtifactStore(f"s3://{bucket}/from", **moto_server.options)
    archive = S3ArtifactStore(f"s3://{other}/to", **moto_server.options)
    publish(source)
    time.sleep(1.1)  # the server's times are whole seconds
    put(source, {PLOT: b"\x89PNG blot"})
    report = transfer(source, archive)
    assert words(report) == {FRAGMENT: "failed"}
    (failed,) = [each for each in report.outcomes if each.outcome == "failed"]
    assert (failed.key, type(failed.error)) == (PLOT, IntegrityError)
    assert state(archive) is None
    assert not looks_bare(archive)
