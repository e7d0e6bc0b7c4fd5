"""A damaged set is mended from a copy that has the bytes that its record names, and from no other bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.sets.examples import CURATED, FRAGMENT, SUCCESS, held, promote, put, small_run

from emdstore.emds import RECORD_NAME
from emdstore.errors import ExecutionNotFoundError, IntegrityError, RecordError, RecordVersionError
from emdstore.sets.record import ExecutionRecord, encode_record
from emdstore.sets.repair import prove_set, repair
from emdstore.sets.state import look_at_set
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, scoped
from emdstore.testing import Fault, FaultyStore

BUNDLES = ("diagnostic.json", "output.json", "series.json")


def published(results: ArtifactStore) -> ExecutionRecord:
    return promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)[1]


def damage(results: ArtifactStore, *keys: str) -> None:
    folder = scoped(results, FRAGMENT)
    for key in keys:
        folder.write_bytes(key, folder.read_bytes(key)[:-1] + b"~")


def delete(results: ArtifactStore, key: str) -> None:
    getattr(results, "inner", results).delete(f"{FRAGMENT}/{key}")


SOURCES = {
    "the same folder": lambda: put(InMemoryArtifactStore(), small_run(), FRAGMENT),
    "its own folder": lambda: put(InMemoryArtifactStore(), small_run()),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_damaged_set_is_mended_and_its_record_stays(results: ArtifactStore, source: str) -> None:
    published(results)
    whole = held(results, FRAGMENT)
    damage(results, "diagnostic.json", "plots/map (°C).png")
    delete(results, "data/tas.nc")
    report = repair(results, FRAGMENT, source=SOURCES[source]())
    assert set(report.repaired) == {"diagnostic.json", "plots/map (°C).png", "data/tas.nc"}
    assert (report.not_repaired, report.state, report.ok) == ((), "published", True)
    assert held(results, FRAGMENT) == whole


def test_a_set_in_another_folder_is_found_in_the_one_that_its_record_names() -> None:
    results = InMemoryArtifactStore()
    published(results)
    moved = put(InMemoryArtifactStore(), held(results, FRAGMENT), "archive/x")
    scoped(moved, "archive/x").write_bytes("out.log", b"damaged")
    assert repair(moved, "archive/x", source=put(InMemoryArtifactStore(), small_run(), FRAGMENT)).ok


def test_bytes_that_are_not_the_records_are_never_brought(results: ArtifactStore) -> None:
    published(results)
    damage(results, "data/tas.nc", "index.html", "out.log")
    before = held(results, FRAGMENT)
    report = repair(
        results, FRAGMENT, source=put(InMemoryArtifactStore(), small_run(tas=b"other", index=None), FRAGMENT)
    )
    assert report.repaired == ("out.log",)
    assert {each.key: "other bytes" in each.reason for each in report.not_repaired} == {
        "data/tas.nc": True,
        "index.html": False,
    }
    assert (report.state, report.ok) == ("changed", False)
    now = held(results, FRAGMENT)
    assert {key for key in now if now[key] != before[key]} == {"out.log"}


def test_bundles_come_last_so_that_nothing_looks_whole_before_it_is() -> None:
    results = InMemoryArtifactStore()
    published(results)
    damage(results, *CURATED)
    order = repair(results, FRAGMENT, source=put(InMemoryArtifactStore(), small_run())).repaired
    assert set(order[-3:]) == set(BUNDLES)
    assert order[-1] == "diagnostic.json"


def test_a_whole_set_is_left_alone_and_a_second_repair_does_nothing(results: ArtifactStore) -> None:
    published(results)
    before = held(results, FRAGMENT)
    for _ in range(2):
        report = repair(results, FRAGMENT, source=InMemoryArtifactStore())
        assert (report.repaired, report.not_repaired, report.ok) == ((), (), True)
    assert held(results, FRAGMENT) == before


def test_a_source_that_fails_is_told_and_the_rest_is_mended() -> None:
    results = InMemoryArtifactStore()
    published(results)
    damage(results, "data/tas.nc", "out.log")
    source = put(InMemoryArtifactStore(), small_run(), FRAGMENT)
    report = repair(results, FRAGMENT, source=FaultyStore(source, Fault(keys={f"{FRAGMENT}/data/tas.nc"})))
    assert report.repaired == ("out.log",)
    assert [each.key for each in report.not_repaired] == ["data/tas.nc"]


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (None, RecordError),
        (b"{", RecordError),
        (b'{"record_version": 99}', RecordVersionError),
        (encode_record(ExecutionRecord.at(FRAGMENT, state="publishing")), RecordError),
    ],
)
def test_where_nothing_says_what_is_right_nothing_is_changed(record: bytes | None, error: Any) -> None:
    results = put(InMemoryArtifactStore(), small_run(out=b"damaged?"), FRAGMENT)
    if record is not None:
        results.write_bytes(f"{FRAGMENT}/{RECORD_NAME}", record)
    before = held(results)
    with pytest.raises(error):
        repair(results, FRAGMENT, source=put(InMemoryArtifactStore(), small_run(), FRAGMENT))
    assert held(results) == before


def test_a_folder_without_a_set_is_named() -> None:
    with pytest.raises(ExecutionNotFoundError):
        repair(InMemoryArtifactStore(), FRAGMENT, source=InMemoryArtifactStore())


def test_paths_are_as_good_as_stores(tmp_path: Path) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    published(results)
    put(LocalArtifactStore(tmp_path / "backup"), held(results))
    damage(results, "out.log")
    assert repair(tmp_path / "results", FRAGMENT, source=str(tmp_path / "backup")).ok
    assert look_at_set(results, FRAGMENT, every_digest=True).state == "published"


def test_a_damaged_set_is_proved_to_be_so_with_names_and_digests(results: ArtifactStore) -> None:
    record = published(results)
    assert prove_set(results, FRAGMENT).state == "published"
    damage(results, "data/tas.nc")
    delete(results, "out.log")
    recorded = next(each.sha256 for each in record.artifacts if each.key == "data/tas.nc")
    with pytest.raises(IntegrityError, match=rf"not there: 'out\.log'; damaged: 'data/tas\.nc'.*{recorded}.*repair"):
        prove_set(results, FRAGMENT)
