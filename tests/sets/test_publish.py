from __future__ import annotations

import functools
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.sets.examples import FAILURE, SUCCESS, held, output_bundle, put, small_run
from tests.sets.late import Halting, Turn
from tests.sets.published import publish, publish_later_version

from emdstore import (
    Catalog,
    ExecutionRecord,
    ExecutionResult,
    InMemoryArtifactStore,
    LocalArtifactStore,
    TransferProgress,
    ingest,
    scoped,
)
from emdstore.emds import RECORD_NAME
from emdstore.errors import DemotionRefusedError, OvertakenError, StoreError
from emdstore.sets.publish import Publication, publish_set
from emdstore.sets.record import read_record
from emdstore.sets.seal import open_set, standing_of
from emdstore.stores import ArtifactStore
from emdstore.stores.checksums import sha256_of
from emdstore.testing import Fault, FaultyStore, RecordingStore

FRAGMENT = "esmvaltool/sea-ice/historical/1"
RESULT = ExecutionResult(
    successful=True, metric_bundle_filename="diagnostic.json", output_bundle_filename="output.json"
)


def _run(folder: Path) -> LocalArtifactStore:
    """A run that names its page by an absolute path, as ESMValTool does."""
    entry = {"filename": f"{folder}/index.html", "long_name": "All plots", "description": ""}
    provenance = {"environment": {}, "modeldata": [], "obsdata": {}, "log": f"{folder}/out.log"}
    files = {
        "out.log": b"done\n",
        "index.html": b"<html></html>",
        "diagnostic.json": json.dumps({"DIMENSIONS": {"json_structure": []}, "RESULTS": {}}).encode(),
        "output.json": json.dumps({"provenance": provenance, "html": {"index": entry}}).encode(),
    }
    store = LocalArtifactStore(folder)
    for name, data in files.items():
        store.write_bytes(name, data)
    return store


def test_an_absolute_name_that_promotion_followed_is_followed_by_ingest_too(tmp_path: Path) -> None:
    run, results = _run(tmp_path / "somewhere"), InMemoryArtifactStore()
    publish_set(ExecutionRecord.at(FRAGMENT), RESULT, source=run, dest=scoped(results, FRAGMENT))
    with Catalog("sqlite://") as catalog:
        ingest(results, FRAGMENT, catalog)
        assert [row.key for row in catalog.outputs()] == ["index.html"]


def test_the_progress_of_a_promotion_only_goes_up_and_is_complete_once(tmp_path: Path) -> None:
    seen: list[TransferProgress] = []
    publish_set(
        ExecutionRecord.at(FRAGMENT),
        RESULT,
        source=_run(tmp_path),
        dest=InMemoryArtifactStore(),
        on_progress=seen.append,
    )
    done = [each.keys_done for each in seen]
    assert done == sorted(done)
    assert done[-1] == 4
    assert [each.complete for each in seen] == [False] * (len(seen) - 1) + [True]


@pytest.mark.parametrize("also", [[], [RECORD_NAME]], ids=["", "and its record is refused, too"])
def test_what_is_shipped_by_half_says_so_where_no_record_was(also: list[str]) -> None:
    results = scoped(InMemoryArtifactStore(), FRAGMENT)
    dest = FaultyStore(
        results,
        Fault(verbs={"write_bytes", "open_writer", "create_bytes"}, keys={"data/tas.nc", *also}, error=StoreError),
    )
    source = put(InMemoryArtifactStore(), small_run())
    publication = publish_set(ExecutionRecord.at(FRAGMENT), SUCCESS, source=source, dest=dest)
    assert (publication.record, publication.decision.status) == (None, "upload_failed")
    record = read_record(results)
    if also:
        assert record is None
    else:
        assert record is not None
        assert (record.state, record.reason) == ("publishing", publication.decision.reason)
        assert "data/tas.nc" in str(record.reason)
        assert set(record.planned) == {key for key in small_run() if not key.startswith("climate_data")}


def test_who_promotes_the_same_bytes_again_makes_the_record_tell_no_less_of_the_run() -> None:
    run, results = put(InMemoryArtifactStore(), small_run()), InMemoryArtifactStore()
    known = ExecutionRecord.at("p/d/g/1", dataset_hash="abc", software={"numpy": "2.1"}, extra={"ours": 1})
    first = publish_set(known, SUCCESS, source=run, dest=results)
    again = publish_set(ExecutionRecord.at("p/d/g/1"), SUCCESS, source=run, dest=results)
    assert (again.record_written, read_record(results)) == (False, first.record)
    put(run, {"index.html": b"<p>another run"})
    assert publish_set(ExecutionRecord.at("p/d/g/1"), SUCCESS, source=run, dest=results).record_written
    other = read_record(results)
    assert other is not None
    assert (other.dataset_hash, other.software, other.extra) == (None, {}, {})


@pytest.mark.parametrize("less", ["failed", "lost data", "lost its log", "cannot be read"])
def test_a_complete_set_without_a_record_is_not_replaced_by_less(less: str) -> None:
    changes: dict[str, dict[str, bytes | None]] = {
        "failed": {"out": b"Killed"},
        "lost data": {"tas": None},
        "lost its log": {"out": None},
        "cannot be read": {"tas": b"CDF DATA"},
    }
    results = put(InMemoryArtifactStore(), small_run())
    source = put(InMemoryArtifactStore(), small_run(**changes[less]))
    if less == "cannot be read":
        fault = Fault(verbs={"read_bytes", "open_reader"}, keys={"data/tas.nc"}, error=StoreError)
        source = FaultyStore(source, fault)
    result = FAILURE if less == "failed" else SUCCESS
    before = {key: results.read_bytes(key) for key in results.iter_keys()}
    if less == "cannot be read":
        publication = publish_set(ExecutionRecord.at(FRAGMENT), result, source=source, dest=results)
        assert (publication.decision.status, publication.record) == ("upload_failed", None)
    else:
        with pytest.raises(DemotionRefusedError, match=r"published without a record.*--replace"):
            publish_set(ExecutionRecord.at(FRAGMENT), result, source=source, dest=results)
    assert {key: results.read_bytes(key) for key in results.iter_keys()} == before
    if less == "failed":
        assert publish_set(ExecutionRecord.at(FRAGMENT), result, source=source, dest=results, replace=True).record


def test_a_set_without_a_record_that_lacks_files_may_be_replaced() -> None:
    results, scratch = (put(InMemoryArtifactStore(), small_run(tas=data)) for data in (None, b"CDF data"))
    publication = publish_set(ExecutionRecord.at(FRAGMENT), FAILURE, source=scratch, dest=results)
    assert publication.record is not None
    assert publication.record.state == "failed"


def test_a_publication_stays_open_if_scratch_loses_a_file_while_the_next_one_is_shipped() -> None:
    results, scratch = InMemoryArtifactStore(), put(InMemoryArtifactStore(), small_run())
    identity = ExecutionRecord.at(FRAGMENT)
    before = publish_set(identity, SUCCESS, source=scratch, dest=results).record
    assert before is not None
    put(scratch, {"data/tas.nc": b"CDF more", "index.html": b"<p>more"})

    def lose() -> None:  # the set is about to be opened
        scratch.delete("data/tas.nc")

    with pytest.raises(DemotionRefusedError, match=rf"^'{FRAGMENT}'.*missing: data/tas.nc.*stays open"):
        publish_set(identity, SUCCESS, source=scratch, dest=results, before_record=lose)
    opened = read_record(results)
    assert opened is not None
    assert (opened.state, opened.artifacts) == ("publishing", before.artifacts)
    scratch.write_bytes("data/tas.nc", b"CDF more")
    after = publish_set(identity, SUCCESS, source=scratch, dest=results).record
    assert (after and after.state, results.read_bytes("data/tas.nc")) == ("published", b"CDF more")
    put(scratch, {"data/tas.nc": b"CDF other"})
    asked = publish_set(identity, SUCCESS, source=scratch, dest=results, before_record=lose, replace=True)
    assert asked.record is not None
    assert asked.record.state == "incomplete"


def test_a_record_names_the_publication_that_it_replaced_however_often_its_writers_were_stopped() -> None:
    store = InMemoryArtifactStore()
    assert publish(store, FRAGMENT).replaces is None
    folder = scoped(store, FRAGMENT)
    first = folder.read_bytes(RECORD_NAME)
    for number in range(2):  # two writers, each stopped when it had opened the set
        standing = standing_of(folder)
        open_set(folder, standing, ExecutionRecord.at(FRAGMENT), ["plots/map.png"])
        record = read_record(folder)
        assert record is not None
        assert (record.state, record.replaces, record.planned) == ("publishing", sha256_of(first), ("plots/map.png",))
        assert record.reason is not None, number
    assert publish_later_version(store, FRAGMENT).replaces == sha256_of(first)


# -- what a publication tells, and what it asks ------------------------------------------------------------------------


def _publish_run(dest: ArtifactStore, *, identity: ExecutionRecord | None = None, **more: Any) -> Publication:
    run = put(InMemoryArtifactStore(), small_run())
    return publish_set(identity or ExecutionRecord.at(FRAGMENT), SUCCESS, source=run, dest=dest, **more)


def test_the_news_of_a_publication_name_its_record_and_there_are_none_of_what_was_there() -> None:
    results = InMemoryArtifactStore()
    identity = attrs.evolve(ExecutionRecord.at(FRAGMENT), generation=3)
    (news,) = _publish_run(results, identity=identity).events()
    assert (news.kind, news.name, news.generation) == ("published", FRAGMENT, 3)
    assert news.record == sha256_of(results.read_bytes(RECORD_NAME))
    assert _publish_run(results).events() == ()
    full = FaultyStore(InMemoryArtifactStore(), Fault(verbs={"write_bytes"}, keys={"data/tas.nc"}, error=StoreError))
    failed = _publish_run(full)
    assert (failed.decision.status, failed.events()) == ("upload_failed", ())


@pytest.mark.parametrize(
    ("reingest_of", "more", "dirty"),
    [(None, {}, False), (None, {"update_dirty": False}, None), ("p/d/g/1", {}, None)],
)
def test_a_publication_settles_whether_a_group_is_dirty_unless_it_is_of_a_reingest(
    reingest_of: str | None, more: dict[str, Any], dirty: bool | None
) -> None:
    identity = attrs.evolve(ExecutionRecord.at(FRAGMENT), reingest_of=reingest_of)
    published = _publish_run(InMemoryArtifactStore(), identity=identity, **more)
    assert published.decision.dirty is dirty
    assert published.record is not None
    assert published.record.dirty is dirty


def test_who_replaces_a_publication_is_asked_with_its_record_before_a_byte_changes() -> None:
    results = InMemoryArtifactStore()
    _publish_run(results)
    before = held(results)
    digest = sha256_of(results.read_bytes(RECORD_NAME))
    asked: list[str] = []

    def refuse(record: str) -> None:
        asked.append(record)
        raise StoreError("not now")

    other = put(InMemoryArtifactStore(), small_run(index=b"<p>later"))
    with pytest.raises(StoreError, match="not now"):
        publish_set(ExecutionRecord.at(FRAGMENT), SUCCESS, source=other, dest=results, before_replacing=refuse)
    assert (asked, held(results)) == ([digest], before)


class _Counting(ThreadPoolExecutor):
    submitted = 0

    def submit(self, *call: Any, **options: Any) -> Future[Any]:
        self.submitted += 1
        return super().submit(*call, **options)


def test_an_executor_that_was_given_ships_the_files() -> None:
    many = {f"plots/{number}.png": b"\x89PNG" for number in range(200)}
    run = put(InMemoryArtifactStore(), small_run(output=output_bundle(plots=many)) | many)
    with _Counting(1) as executor:
        publish_set(ExecutionRecord.at(FRAGMENT), SUCCESS, source=run, dest=InMemoryArtifactStore(), executor=executor)
    assert executor.submitted


def test_what_is_proved_to_be_there_is_not_read_again() -> None:
    results = InMemoryArtifactStore()
    _publish_run(results)
    seen = RecordingStore(results)
    assert not _publish_run(seen).record_written
    assert [call.key for call in seen.calls if call.verb in ("read_bytes", "open_reader")] == [RECORD_NAME]


def test_a_record_tells_when_its_set_was_published_and_how_long_it_took() -> None:
    before = datetime.now(UTC)
    slow = Halting(InMemoryArtifactStore(), Turn("out.log", lambda: time.sleep(0.01)))
    record = _publish_run(slow).record
    assert record is not None
    assert record.published_at is not None
    assert before <= record.published_at <= datetime.now(UTC)
    assert record.upload_duration is not None
    assert 0.01 <= record.upload_duration <= (datetime.now(UTC) - before).total_seconds() + 0.001
    assert record.upload_duration == round(record.upload_duration, 6)


def test_what_an_earlier_publication_left_is_told_from_what_others_put_there() -> None:
    results = InMemoryArtifactStore()
    _publish_run(results)
    results.write_bytes("notes.txt", b"by hand")
    fewer = put(InMemoryArtifactStore(), small_run(output=output_bundle(data=["data/tas.nc"], html=["index.html"])))
    for index in (b"<p>later", b"<p>last"):  # the second knows it from the first one's record
        fewer.write_bytes("index.html", index)
        record = publish_set(ExecutionRecord.at(FRAGMENT), SUCCESS, source=fewer, dest=results).record
        assert record is not None
        assert set(record.stale) == {"plots/map (°C).png", "notes.txt"}
        assert record.superseded == ("plots/map (°C).png",)


@pytest.mark.parametrize("published", [False, True])
def test_what_could_not_be_shipped_is_reported_and_nothing_is_published(published: bool) -> None:
    results = InMemoryArtifactStore()
    if published:
        _publish_run(results)
    full = FaultyStore(results, Fault(verbs={"write_bytes"}, keys={"index.html"}, error=StoreError))
    other = put(InMemoryArtifactStore(), small_run(index=b"<p>later"))
    failed = publish_set(ExecutionRecord.at(FRAGMENT), SUCCESS, source=other, dest=full)
    assert [each.key for each in failed.outcome.artifacts_failed] == ["index.html"]
    assert (failed.decision.status, failed.record, failed.record_written) == ("upload_failed", None, False)


def test_a_record_that_is_there_already_is_returned_with_what_was_found() -> None:
    results = InMemoryArtifactStore()
    first, again = _publish_run(results), _publish_run(results)
    assert (first.record_written, again.record_written) == (True, False)
    assert again.record is not None
    assert again.record.artifacts == first.outcome.artifacts
    assert (again.outcome, again.decision) == (first.outcome, first.decision)


@pytest.mark.parametrize("writes", ["the one that opens it", "the final one", "that of what was shipped by half"])
def test_a_writer_that_may_not_go_on_writes_no_record(writes: str) -> None:
    results = InMemoryArtifactStore()
    dest: ArtifactStore = results
    if writes == "that of what was shipped by half":  # without a record, and the bytes did not arrive
        dest = FaultyStore(results, Fault(verbs={"write_bytes"}, keys={"index.html"}, error=StoreError))
    elif writes == "the one that opens it":
        _publish_run(results)
    before = results.read_bytes(RECORD_NAME) if results.exists(RECORD_NAME) else None

    def refuse() -> None:
        raise OvertakenError("another has the claim", key=FRAGMENT)

    run = put(InMemoryArtifactStore(), small_run(index=b"<p>later"))
    ship = functools.partial(publish_set, ExecutionRecord.at(FRAGMENT), SUCCESS, source=run, before_record=refuse)
    if dest is results:
        with pytest.raises(OvertakenError, match="another has the claim"):
            ship(dest=dest)
    else:
        assert ship(dest=dest).decision.status == "upload_failed"
    assert (results.read_bytes(RECORD_NAME) if results.exists(RECORD_NAME) else None) == before


def test_who_replaces_only_a_record_is_asked_too_and_tells_nothing_of_what_it_does_not_publish() -> None:
    results = InMemoryArtifactStore()
    known = ExecutionRecord.at(FRAGMENT, dataset_hash="abc")
    _publish_run(results, identity=known)
    digest = sha256_of(results.read_bytes(RECORD_NAME))
    asked: list[str] = []
    run = small_run()
    fewer = put(InMemoryArtifactStore(), {name: data for name, data in run.items() if name != "series.json"})
    result = attrs.evolve(SUCCESS, series_filename=None)
    identity = ExecutionRecord.at(FRAGMENT)
    published = publish_set(identity, result, source=fewer, dest=results, before_replacing=asked.append)
    assert published.record is not None
    assert published.record.replaces == digest
    assert (published.record.dataset_hash, asked) == (None, [digest])  # no byte changed, and it is another set


# -- taking over from a writer that was halted -------------------------------------------------------------------------


class _Always(Turn):
    def at(self, verb: str, key: str) -> None:
        if verb in ("create_bytes", "replace_bytes", "write_bytes") and key.endswith(RECORD_NAME):
            self._others()


def test_what_a_halted_writer_puts_between_the_files_and_their_record_is_shipped_again() -> None:
    results = InMemoryArtifactStore()
    turn = Turn(RECORD_NAME, lambda: results.write_bytes("out.log", b"it was\n"))  # as long, and older than the record
    published = _publish_run(Halting(results, turn), taken_over=True)
    assert turn.has_come
    assert results.read_bytes("out.log") == small_run()["out.log"]
    assert read_record(results) == published.record


def test_a_writer_that_goes_on_and_on_is_told_of() -> None:
    results = InMemoryArtifactStore()
    busy = Halting(results, _Always(RECORD_NAME, lambda: results.write_bytes("out.log", b"it was\n")))
    with pytest.raises(OvertakenError) as caught:
        _publish_run(busy, taken_over=True)
    assert repr(FRAGMENT) in str(caught.value)
    assert caught.value.store == repr(busy)


def test_nothing_is_read_back_where_nobody_had_begun() -> None:
    results = InMemoryArtifactStore()
    _publish_run(Halting(results, Turn(RECORD_NAME, lambda: results.write_bytes("out.log", b"it was\n"))))
    assert results.read_bytes("out.log") == b"it was\n"  # which `verify` tells
