"""Verify: every byte against its record, and nothing changed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.sets.examples import CURATED, FAILURE, FRAGMENT, SUCCESS, held, promote, put, small_run

from emdstore.errors import StoreError
from emdstore.sets.record import ExecutionRecord, encode_record
from emdstore.sets.verify import VerifiedSet, VerifyInterrupted, VerifyReport, verify
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, ReadOnlyStore
from emdstore.testing import Fault, FaultyStore

OTHER = "pmp/enso_tel/other/1"


@pytest.fixture
def published(results: ArtifactStore) -> ArtifactStore:
    for fragment in (FRAGMENT, OTHER):
        promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results, fragment)
    return results


def checked(store: ArtifactStore, prefix: str = "") -> list[VerifiedSet]:
    """Return what is checked of each set."""
    sets: list[VerifiedSet] = []
    verify(store, prefix, on_progress=lambda each, done, total: sets.append(each))
    return sets


def found(report: VerifyReport) -> list[tuple[str, str, str]]:
    return [(each.fragment, each.key, each.finding) for each in report.problems]


def test_what_is_as_its_record_says_is_well(published: ArtifactStore) -> None:
    before = held(published)
    report = verify(ReadOnlyStore(published))
    assert report.ok
    assert found(report) == []
    sizes = [sum(len(before[f"{fragment}/{key}"]) for key in CURATED) for fragment in (FRAGMENT, OTHER)]
    assert (report.sets, report.artifacts, report.bytes) == (2, 14, sum(sizes))
    assert [(each.fragment, each.artifacts, each.bytes) for each in checked(published)] == [
        (FRAGMENT, 7, sizes[0]),
        (OTHER, 7, sizes[1]),
    ]
    assert report.as_dict()["artifacts"] == 14
    assert held(published) == before


def flip(data: bytes) -> bytes:
    """Change one bit; size and time tell nothing."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a bit flipped": (flip, "SHA-256"),
    "cut off": (lambda data: data[:-1], "recorded"),
    "longer": (lambda data: data + b"\0", "recorded"),
    "empty": (lambda data: b"", "0 bytes"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("key", ["out.log", "diagnostic.json", "plots/map (°C).png"])
def test_other_bytes_are_corrupt(published: ArtifactStore, key: str, damage: str) -> None:
    spoil, detail = DAMAGE[damage]
    published.write_bytes(f"{FRAGMENT}/{key}", spoil(published.read_bytes(f"{FRAGMENT}/{key}")))
    report = verify(published)
    assert not report.ok
    assert found(report) == [(FRAGMENT, key, "corrupt")]
    assert detail in report.problems[0].detail
    assert [each.artifacts for each in checked(published)] == [6, 7]


def test_what_is_gone_is_missing(published: ArtifactStore) -> None:
    store: Any = getattr(published, "inner", published)
    store.delete(f"{FRAGMENT}/data/tas.nc")
    report = verify(published)
    assert not report.ok
    assert found(report) == [(FRAGMENT, "data/tas.nc", "missing")]


def test_what_the_record_does_not_name_is_stale_and_does_no_harm(published: ArtifactStore) -> None:
    put(published, {"plots/old.png": b"", "a/b/c": b""}, FRAGMENT)
    report = verify(published)
    assert report.ok
    assert found(report) == [(FRAGMENT, "a/b/c", "stale"), (FRAGMENT, "plots/old.png", "stale")]


@pytest.mark.parametrize(
    ("record", "finding"),
    [
        (b"", "unreadable"),
        (b"{", "unreadable"),
        (b"\xff", "unreadable"),
        (encode_record(ExecutionRecord.at(FRAGMENT)), "unreadable"),
        (b'{"record_version": 99}', "newer-schema"),
        (encode_record(ExecutionRecord.at(FRAGMENT, state="publishing")), "publishing"),
    ],
)
def test_a_record_that_vouches_for_nothing_is_told(published: ArtifactStore, record: bytes, finding: str) -> None:
    published.write_bytes(f"{FRAGMENT}/execution.json", record)
    report = verify(published)
    assert not report.ok
    assert found(report) == [(FRAGMENT, "execution.json", finding)]
    assert report.artifacts == 7


def test_a_bare_set_is_told_and_does_no_harm(published: ArtifactStore) -> None:
    put(published, small_run(), "bare/x/y/1")
    report = verify(published)
    assert report.ok
    assert found(report) == [("bare/x/y/1", "", "bare")]


def test_a_failed_set_is_checked_for_its_log(results: ArtifactStore) -> None:
    promote(FAILURE, put(InMemoryArtifactStore(), small_run()), results)
    assert verify(results).artifacts == 1
    put(results, {"out.log": b"other"}, FRAGMENT)
    assert found(verify(results)) == [(FRAGMENT, "out.log", "corrupt")]


def test_only_a_folder_is_checked_if_that_is_asked_for(published: ArtifactStore) -> None:
    published.write_bytes(f"{FRAGMENT}/out.log", b"other")
    assert verify(published, "pmp/enso_tel/other").ok
    assert [each.fragment for each in checked(published, FRAGMENT)] == [FRAGMENT]


def test_an_artifact_that_the_store_cannot_read_stops_no_other() -> None:
    results = InMemoryArtifactStore()
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    failing = FaultyStore(results, Fault(keys={f"{FRAGMENT}/index.html"}, error=StoreError))
    report = verify(failing)
    assert not report.ok
    assert found(report) == [(FRAGMENT, "index.html", "unreadable")]
    assert "on purpose" in report.problems[0].detail


def test_a_store_that_cannot_be_listed_raises() -> None:
    with pytest.raises(StoreError):
        verify(FaultyStore(InMemoryArtifactStore(), Fault(error=StoreError)))


def test_a_link_in_place_of_an_artifact_is_not_followed_out(tmp_path: Path) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    path = results.local_path(f"{FRAGMENT}/index.html")
    (tmp_path / "same.html").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "same.html")
    assert found(verify(results)) == [(FRAGMENT, "index.html", "unreadable")]


def test_other_processes_may_do_the_work(tmp_path: Path) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    for fragment in (FRAGMENT, OTHER):
        promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results, fragment)
    results.write_bytes(f"{OTHER}/out.log", b"other")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        report = verify(results, executor=executor)
    assert attrs.evolve(report, seconds=0) == attrs.evolve(verify(results), seconds=0)
    assert found(report) == [(OTHER, "out.log", "corrupt")]


def test_progress_is_told_and_an_interrupt_gives_the_report_so_far(caplog: pytest.LogCaptureFixture) -> None:
    results = InMemoryArtifactStore()
    for fragment in (FRAGMENT, OTHER):
        promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results, fragment)
    told: list[tuple[str, int, int | None]] = []

    def display(each: Any, done: int, total: int | None) -> None:
        told.append((each.fragment, done, total))
        raise ZeroDivisionError if done == 1 else KeyboardInterrupt

    with pytest.raises(VerifyInterrupted) as caught:
        verify(results, on_progress=display)
    assert told == [(FRAGMENT, 1, 2), (OTHER, 2, 2)]
    assert caught.value.report.sets == 2
    assert "progress callback failed" in caplog.text
