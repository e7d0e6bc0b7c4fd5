"""A set that was retracted keeps its record and its bytes, and is left out unless somebody asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sets.examples import FRAGMENT, SUCCESS, promote, put, rows_of, small_run

from emdstore import LocalArtifactStore, list_sets, read_retraction, retract, transfer, unretract, verify
from emdstore.catalog import Catalog
from emdstore.emds import RECORD_NAME, RETRACTION_NAME, Rejection
from emdstore.emds.curating import resolve_name
from emdstore.errors import ExecutionNotFoundError, InvalidKeyError, RecordError, RecordVersionError, StoreError
from emdstore.ingestion.replay import replay
from emdstore.keys import join_key
from emdstore.sets.finding import find_sets
from emdstore.sets.record import find_stale, read_record
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, scoped
from emdstore.testing import Fault, FaultyStore, RecordingStore

KEY = join_key(FRAGMENT, RETRACTION_NAME)
OTHER = FRAGMENT.rpartition("/")[0] + "/other"


def publish(store: ArtifactStore, fragment: str = FRAGMENT) -> ArtifactStore:
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), store, fragment)
    return store


def fragments(catalog: Catalog, **filters: object) -> list[str]:
    return [row.fragment for row in catalog.executions(**filters)]  # type: ignore[arg-type]


def test_a_retracted_set_is_left_out_unless_asked_for_and_comes_back(results: ArtifactStore) -> None:
    publish(publish(results), OTHER)
    record = results.read_bytes(join_key(FRAGMENT, RECORD_NAME))
    with Catalog("sqlite://") as catalog:
        replay(results, catalog)
        before = rows_of(catalog)
        said = retract(results, FRAGMENT, reason="wrong sign", successor=OTHER, by="ann")
        assert read_retraction(results, FRAGMENT) == said
        assert results.read_bytes(join_key(FRAGMENT, RECORD_NAME)) == record
        # The record is what it was, and the catalog learns of the word all the same.
        counts = replay(results, catalog).counts
        assert (counts["ingested"], counts["unchanged"]) == (1, 1)
        assert replay(results, catalog).counts["unchanged"] == 2
        assert fragments(catalog) == fragments(catalog, latest=True) == [OTHER]
        assert {row.fragment for row in catalog.scalars()} == {row.fragment for row in catalog.artifacts()} == {OTHER}
        assert fragments(catalog, retracted=True) == [FRAGMENT]
        assert fragments(catalog, retracted=None) == sorted([FRAGMENT, OTHER])
        assert {row.fragment for row in catalog.scalars(retracted=True)} == {FRAGMENT}
        assert catalog.survey().count() == 1
        row = catalog.execution(FRAGMENT)
        word = (row.retracted_at, row.retracted_by, row.retraction_reason, row.superseded_by)
        assert word == (said.at, "ann", "wrong sign", OTHER)
        with Catalog("sqlite://") as rebuilt:
            replay(results, rebuilt)
            assert rebuilt.execution(FRAGMENT) == row
            assert fragments(rebuilt) == [OTHER]
        assert unretract(results, FRAGMENT, reason="it was right") == said
        assert read_retraction(results, FRAGMENT) is None
        assert replay(results, catalog).counts["ingested"] == 1
        assert rows_of(catalog) == before
        assert unretract(results, FRAGMENT) is None


def test_a_replay_reads_nothing_of_a_retracted_set_that_it_knows(tmp_path: Path) -> None:
    results = publish(LocalArtifactStore(tmp_path / "results"))
    retract(results, FRAGMENT, reason="wrong")
    with Catalog("sqlite://") as catalog:
        replay(results, catalog)
        replay(results, catalog)
        recording = RecordingStore(results)
        assert replay(recording, catalog).counts["unchanged"] == 1
        assert [call for call in recording.calls if FRAGMENT in str(call)] == []


@pytest.mark.parametrize("is_bare", [False, True])
def test_a_retraction_that_was_deleted_is_gone_with_the_next_replay(tmp_path: Path, is_bare: bool) -> None:
    results = publish(LocalArtifactStore(tmp_path / "results"))
    if is_bare:
        results.delete(join_key(FRAGMENT, RECORD_NAME))
    retract(results, FRAGMENT, reason="wrong")
    with Catalog("sqlite://") as catalog:
        replay(results, catalog)
        assert fragments(catalog) == []
        results.delete(KEY)
        assert replay(results, catalog).counts["ingested"] == 1
        assert fragments(catalog) == [FRAGMENT]


def test_a_retraction_is_no_stale_file_and_is_told_of(results: ArtifactStore) -> None:
    publish(results)
    retract(results, FRAGMENT, reason="wrong", successor=OTHER)
    (found,) = find_sets(results)
    assert (found.location, found.has_retraction) == (FRAGMENT, True)
    report = verify(results)
    assert (report.ok, report.problems, report.retracted, report.as_dict()["retracted"]) == (True, (), 1, 1)
    (listed,) = list_sets(results)
    assert listed.state == "published"
    assert listed.retraction is not None
    assert (listed.retraction.reason, listed.retraction.successor) == ("wrong", OTHER)
    record = read_record(scoped(results, FRAGMENT))
    assert record is not None
    assert find_stale(scoped(results, FRAGMENT), [each.key for each in record.artifacts]) == ()
    outcome, *_ = promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results, FRAGMENT)
    assert outcome.stale == ()
    assert read_retraction(results, FRAGMENT) == listed.retraction


def test_a_retraction_travels_with_its_set_and_the_last_word_counts(tmp_path: Path) -> None:
    here, there = (LocalArtifactStore(tmp_path / name) for name in ("here", "there"))
    publish(here)
    transfer(here, there).raise_for_failures()
    record = there.read_bytes(join_key(FRAGMENT, RECORD_NAME))
    retract(here, FRAGMENT, reason="wrong")
    transfer(here, there).raise_for_failures()
    assert read_retraction(there, FRAGMENT) == read_retraction(here, FRAGMENT) is not None
    assert there.read_bytes(join_key(FRAGMENT, RECORD_NAME)) == record
    assert verify(there).ok
    unretract(here, FRAGMENT, reason="it was right all along")
    transfer(there, here).raise_for_failures()  # the copy has not heard of it yet
    assert read_retraction(here, FRAGMENT) is None
    transfer(here, there).raise_for_failures()
    assert read_retraction(there, FRAGMENT) is None
    assert verify(there).ok


def test_what_makes_no_sense_is_refused_and_nothing_written() -> None:
    results = publish(InMemoryArtifactStore())
    with pytest.raises(ExecutionNotFoundError, match="no set at 'nowhere'"):
        retract(results, "nowhere", reason="wrong")
    with pytest.raises(ValueError, match="needs a reason"):
        retract(results, FRAGMENT, reason=" ")
    with pytest.raises(ValueError, match="its own successor"):
        retract(results, FRAGMENT, reason="wrong", successor=FRAGMENT)
    with pytest.raises(InvalidKeyError):
        retract(results, FRAGMENT, reason="wrong", successor="../x")
    results.write_bytes(KEY, b'{"retraction_version": 99}')
    with pytest.raises(RecordVersionError, match="upgrade emdstore"):
        retract(results, FRAGMENT, reason="wrong")
    assert results.read_bytes(KEY) == b'{"retraction_version": 99}'
    assert not list(results.iter_keys("nowhere"))


@pytest.mark.parametrize("data", [b"", b"{", b'{"retraction_version": 1}', b'{"retraction_version": 2}'])
def test_a_retraction_that_cannot_be_read_does_not_pass_for_none(data: bytes) -> None:
    results = publish(InMemoryArtifactStore())
    results.write_bytes(KEY, data)
    with pytest.raises(RecordError, match=r"retraction\.json"):
        read_retraction(results, FRAGMENT)
    assert not verify(results).ok
    with Catalog("sqlite://") as catalog:
        (failure,) = replay(results, catalog).failures
        assert failure.state == "unreadable"
        assert fragments(catalog, retracted=None) == []
        if b"2" not in data:
            retract(results, FRAGMENT, reason="wrong")
            replay(results, catalog)
            assert fragments(catalog, retracted=True) == [FRAGMENT]


def test_a_retraction_that_is_not_written_leaves_all_as_it_was() -> None:
    results = publish(InMemoryArtifactStore())
    before = {key: results.read_bytes(key) for key in results.iter_keys()}
    with pytest.raises(StoreError):
        retract(FaultyStore(results, Fault(verbs={"create_bytes"})), FRAGMENT, reason="wrong")
    assert {key: results.read_bytes(key) for key in results.iter_keys()} == before


def test_no_output_takes_the_place_of_a_retraction() -> None:
    rejected = resolve_name(RETRACTION_NAME, fragment=FRAGMENT)
    assert isinstance(rejected, Rejection)
    assert rejected.code == "reserved-name"
