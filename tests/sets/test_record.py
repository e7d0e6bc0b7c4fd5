"""The record: what it keeps, what it refuses, and that it comes last."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.sets.examples import FRAGMENT, NOON, SUCCESS, encode, held, promote, put, recorded, small_run

from emdstore.emds import BundleWarning
from emdstore.errors import OvertakenError, RecordError, RecordVersionError, StoreError
from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.record import (
    ExecutionRecord,
    RecordedArtifact,
    RecordedInput,
    decode_record,
    encode_record,
    find_stale,
    is_written,
    named_sizes,
    publish_record,
    read_record,
    split_fragment,
)
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore
from emdstore.testing import Call, Fault, FaultyStore, RecordingStore

FULL = ExecutionRecord(
    fragment="pmp/enso tel/Ünïcode/23",
    provider="pmp",
    diagnostic="enso tel",
    group="Ünïcode",
    selectors={"source_id": ["ACCESS-ESM1-5"], "nested": {"deep": [1, 2.5, None, True]}},
    dataset_hash="d905ddf2",
    description="El Niño\nin two lines",
    created_at=NOON,
    started_at=NOON.replace(microsecond=123456),
    stopped_at=datetime(2025, 6, 1, 15, tzinfo=timezone(timedelta(hours=2))),
    published_at=NOON.replace(hour=14),
    host="node 17",
    pid=4711,
    result=attrs.evolve(SUCCESS, output_directory="/scratch/run 1"),
    state="published",
    status="uploaded",
    dirty=False,
    reason="complete",
    upload_duration=0.125,
    inputs=(RecordedInput("s3://in", "cmip6/tas.nc", 2**40, "ab" * 32, ("input",)),),
    artifacts=(RecordedArtifact("plots/map (°C).png", "plot", 9, "cd" * 32, "image/png", "A map"),),
    missing=("a",),
    rejected=("../b",),
    unreadable=("c",),
    stale=("d",),
    warnings=(BundleWarning("code", "message", "place"),),
    generation=3,
    replaces="ef" * 32,
)


# -- reading and writing -----------------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written() -> None:
    assert decode_record(encode_record(FULL)) == FULL
    assert pickle.loads(pickle.dumps(FULL)) == FULL


def test_equal_records_give_equal_bytes_that_people_can_read() -> None:
    data = encode_record(FULL)
    assert encode_record(decode_record(data)) == data
    assert b'\n  "fragment": "pmp/enso tel/\xc3\x9cn\xc3\xafcode/23",\n' in data
    assert data.endswith(b"}\n")


def test_what_a_newer_program_adds_within_a_version_is_no_obstacle() -> None:
    raw = json.loads(encode_record(FULL))
    assert decode_record(encode(raw | {"colour": "red"})) == FULL


def changed(**changes: object) -> bytes:
    return encode(json.loads(encode_record(FULL)) | changes)


def an_artifact(**changes: object) -> dict[str, object]:
    return {"key": "a", "role": "plot", "size": 1, "sha256": "ab" * 32, "media_type": "image/png"} | changes


NO_RECORDS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "truncated"),
    "cut off": (encode_record(FULL)[:-20], "truncated"),
    "not UTF-8": (encode_record(FULL).replace("Ü".encode(), b"\xdc"), "(?i)utf-8"),
    "byte-order mark": (b"\xef\xbb\xbf" + encode_record(FULL), "malformed"),
    "a list": (b"[1]", "object"),
    "no version": (b"{}", "record_version"),
    "a text for a version": (b'{"record_version": "1"}', "record_version"),
    "no fragment": (b'{"record_version": 1}', "fragment"),
    "a state of its own": (changed(state="uploaded"), r"\$.state"),
    "wrong type": (changed(artifacts="many"), r"\$.artifacts"),
    "artifact without size": (changed(artifacts=[{"key": "a"}]), r"\$.artifacts\[0\]"),
    "artifact outside": (changed(artifacts=[an_artifact(key="../x")]), r"'\.\./x'"),
    "absolute artifact": (changed(artifacts=[an_artifact(key="/etc/passwd")]), "/etc/passwd"),
    "fragment outside": (changed(fragment="../../x"), r"'\.\./\.\./x'"),
    "fragment empty": (changed(fragment=""), "fragment"),
    "time without zone": (changed(published_at="2025-06-01T12:00:00"), r"\$.published_at"),
    "nested 100,000 deep": (b'{"record_version": 1, "selectors": ' + b"[" * 100_000, "."),
}


@pytest.mark.parametrize("kind", NO_RECORDS)
def test_what_is_no_record_is_refused_with_the_reason(kind: str) -> None:
    data, why = NO_RECORDS[kind]
    with pytest.raises(RecordError, match=why) as caught:
        decode_record(data, name="runs/7/execution.json")
    assert "runs/7/execution.json" in str(caught.value)
    assert caught.value.key == "runs/7/execution.json"
    assert not isinstance(caught.value, RecordVersionError)


@pytest.mark.parametrize(
    ("status", "failure", "state"),
    [
        ("uploaded", None, "published"),
        ("failed", "result", "incomplete"),
        ("failed", "diagnostic", "failed"),
        ("failed", "system", "failed"),
        (None, None, None),
    ],
)
def test_a_record_of_the_first_version_is_read_for_ever(
    status: str | None, failure: str | None, state: str | None
) -> None:
    raw = json.loads(encode_record(FULL))
    for later in ("state", "generation", "replaces", "planned", "opened_at", "opened_by"):
        del raw[later]
    for part in (*raw["artifacts"], *raw["inputs"]):
        del part["asset_role"]
    read = decode_record(encode(raw | {"record_version": 1, "status": status, "failure": failure}))
    expected = attrs.evolve(FULL, status=status, failure=failure, state=state, generation=0, replaces=None)
    assert read == expected
    assert json.loads(encode_record(read))["record_version"] == 2


def test_what_a_run_read_and_what_it_left_are_told_apart_in_the_record() -> None:
    raw = json.loads(encode_record(FULL))
    assert {each["asset_role"] for each in raw["artifacts"]} == {"Output"}
    assert {each["asset_role"] for each in raw["inputs"]} == {"Input"}


def test_a_newer_version_is_refused_whatever_else_it_holds() -> None:
    with pytest.raises(RecordVersionError, match=r"version 3; .* upgrade emdstore"):
        decode_record(b'{"record_version": 3, "fragment": {"not": "text any more"}}')


@pytest.mark.parametrize(
    ("fragment", "expected"),
    {
        "pmp/enso_tel/historical_g58/23": ("pmp", "enso_tel", "historical_g58"),
        "pmp/enso_tel/a/b/c/23": ("pmp", "enso_tel", "a/b/c"),
        "pmp/enso_tel/cmip6": ("pmp", "enso_tel", "cmip6"),
        "pmp/enso_tel": ("pmp", "enso_tel", "enso_tel"),
        "run1": ("run1", "run1", "run1"),
    }.items(),
)
def test_the_identity_is_read_from_the_path(fragment: str, expected: tuple[str, str, str]) -> None:
    assert split_fragment(fragment) == expected
    record = ExecutionRecord.at(fragment)
    assert (record.provider, record.diagnostic, record.group) == expected


# -- publishing --------------------------------------------------------------------------------------------------------


class NotingFlushes(RecordingStore):
    """A recording store that also notes when it was told to flush."""

    def flush(self) -> None:
        self._notes.calls.append(Call("flush", ""))
        self._inner.flush()


def test_the_record_is_written_last_and_after_the_artifacts_are_durable(
    scratch: LocalArtifactStore, tmp_path: Path
) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    dest = NotingFlushes(results)
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=dest)
    assert not any(call.key == "execution.json" for call in dest.calls)
    before = len(dest.calls)
    assert publish_record(recorded(SUCCESS, outcome), dest) is True
    assert [call for call in dest.calls[before:] if call.verb != "read_bytes"] == [
        Call("flush", ""),
        Call("create_bytes", "execution.json"),
        Call("flush", ""),
    ]


def test_without_durable_artifacts_nothing_is_written(scratch: LocalArtifactStore, tmp_path: Path) -> None:
    class DiskGone(NotingFlushes):
        def flush(self) -> None:
            raise StoreError("the disk is gone")

    results = LocalArtifactStore(tmp_path / "results")
    outcome = materialize_outputs(SUCCESS, source=scratch, dest=results)
    with pytest.raises(StoreError, match="gone"):
        publish_record(recorded(SUCCESS, outcome), DiskGone(results))
    assert not results.exists("execution.json")


def test_publishing_twice_writes_once_though_it_took_another_time(results: ArtifactStore) -> None:
    later = attrs.evolve(
        FULL, published_at=datetime.now(UTC), upload_duration=99.0, producer="emdstore 99.0 of tomorrow"
    )
    assert publish_record(FULL, results) is True
    store = RecordingStore(results)
    assert publish_record(later, store) is False
    assert {call.verb for call in store.calls} == {"read_bytes"}
    assert read_record(results) == FULL


@pytest.mark.parametrize(
    "change",
    [{"status": "failed"}, {"artifacts": ()}, {"stale": ()}, {"description": None}, {"result": None}, {"host": "x"}],
    ids=str,
)
def test_what_lasts_is_written_anew_when_it_changes(change: dict[str, Any]) -> None:
    store = InMemoryArtifactStore()
    publish_record(FULL, store)
    assert publish_record(attrs.evolve(FULL, **change), store) is True
    assert read_record(store) == attrs.evolve(FULL, **change)


@pytest.mark.parametrize("there", [b"", b"\xff"])
def test_a_record_that_cannot_be_read_is_replaced(there: bytes) -> None:
    store = put(InMemoryArtifactStore(), {"execution.json": there})
    assert not is_written(FULL, store)
    assert publish_record(FULL, store) is True
    assert read_record(store) == FULL


def test_a_record_of_a_newer_program_is_never_replaced(scratch: LocalArtifactStore, results: ArtifactStore) -> None:
    newer = b'{"record_version": 99}'
    put(results, {"execution.json": newer})
    with pytest.raises(RecordVersionError, match="upgrade emdstore"):
        publish_record(FULL, results)
    with pytest.raises(RecordVersionError, match="upgrade emdstore"):
        materialize_outputs(SUCCESS, source=scratch, dest=results)
    assert held(results) == {"execution.json": newer}


def test_a_record_that_cannot_be_written_leaves_the_old_one() -> None:
    store = InMemoryArtifactStore()
    publish_record(FULL, store)
    full = FaultyStore(store, Fault(verbs={"replace_bytes"}, error=StoreError))
    with pytest.raises(StoreError):
        publish_record(attrs.evolve(FULL, status="failed"), full)
    assert read_record(store) == FULL


def test_a_record_is_written_over_the_one_it_was_made_from_and_no_other() -> None:
    store, changed = InMemoryArtifactStore(), attrs.evolve(FULL, stale=())
    publish_record(FULL, store)
    assert publish_record(changed, store, over=FULL) is True
    with pytest.raises(OvertakenError):
        publish_record(attrs.evolve(FULL, status="failed"), store, over=FULL)
    assert read_record(store) == changed


@pytest.mark.parametrize(("there", "ours", "then"), [(7, 3, 7), (3, 7, 7)])
def test_a_generation_never_decreases(there: int, ours: int, then: int) -> None:
    store = InMemoryArtifactStore()
    publish_record(attrs.evolve(FULL, generation=there), store)
    publish_record(attrs.evolve(FULL, generation=ours, status="failed"), store)
    record = read_record(store)
    assert record is not None
    assert record.generation == then


def test_nothing_is_written_if_the_last_question_is_answered_by_an_error() -> None:
    def no() -> None:
        raise TimeoutError

    store = InMemoryArtifactStore()
    with pytest.raises(TimeoutError):
        publish_record(FULL, store, before_write=no)
    assert held(store) == {}


def test_whoever_is_overtaken_by_a_record_that_says_the_same_has_lost_nothing() -> None:
    store, theirs = InMemoryArtifactStore(), attrs.evolve(FULL, upload_duration=99.0)
    assert publish_record(FULL, store, before_write=lambda: publish_record(theirs, store)) is False
    assert read_record(store) == theirs
    store, theirs = InMemoryArtifactStore(), attrs.evolve(FULL, stale=())
    with pytest.raises(OvertakenError, match="Ünïcode/23"):
        publish_record(FULL, store, before_write=lambda: publish_record(theirs, store))
    assert read_record(store) == theirs


@pytest.mark.parametrize(
    ("change", "is_final"),
    [
        ({}, True),
        ({"state": "failed"}, True),
        ({"state": "incomplete"}, True),
        ({"state": "publishing"}, False),
        ({"state": None}, False),
        ({"record_version": 99}, False),
        ({"record_version": 1, "state": None}, True),
        ({"record_version": 1, "state": None, "status": None}, False),
    ],
    ids=str,
)
def test_only_a_final_record_vouches_for_sizes(change: dict[str, Any], is_final: bool) -> None:
    data = encode_record(attrs.evolve(FULL, **change))
    assert named_sizes(data) == ({"plots/map (°C).png": 9} if is_final else None)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\xff", b'{"record_version": 2, "state": "published", "artifacts": [1]}']
)
def test_what_is_no_record_vouches_for_no_sizes(data: bytes) -> None:
    assert named_sizes(data) is None


def test_a_folder_without_a_record_is_not_published(results: ArtifactStore) -> None:
    put(results, small_run())
    assert read_record(results) is None


def test_no_artifact_may_take_the_place_of_the_record(results: ArtifactStore) -> None:
    result = attrs.evolve(SUCCESS, series_filename="execution.json")
    source = put(InMemoryArtifactStore(), small_run() | {"execution.json": b"[]"})
    outcome = materialize_outputs(result, source=source, dest=results)
    assert outcome.artifacts_rejected == ("execution.json",)
    assert not results.exists("execution.json")


def test_files_that_the_set_does_not_name_any_more_are_stale(
    scratch: LocalArtifactStore, results: ArtifactStore
) -> None:
    put(results, {f"{FRAGMENT}/plots/old.png": b"", f"{FRAGMENT}/old/deep/x.nc": b"", "pmp/other/g/1/x": b""})
    _, record = promote(SUCCESS, scratch, results)
    assert record.stale == ("old/deep/x.nc", "plots/old.png")


def test_the_record_itself_is_never_stale(results: ArtifactStore) -> None:
    put(results, {"execution.json": b"", "a": b"", "b": b""})
    assert find_stale(results, ["a"]) == ("b",)
