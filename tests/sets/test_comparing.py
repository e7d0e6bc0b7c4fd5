"""Two stores are compared by what is proved: sets by their records, everything else by its bytes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from tests.sets.examples import FAILURE, FRAGMENT, encode, metric_bundle, one_series, put
from tests.sets.published import OTHER, amend, publish

from emdstore.emds import RECORD_NAME
from emdstore.selection import Selection
from emdstore.sets.comparing import Compared, Difference, compare
from emdstore.sets.transfer import transfer
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore, scoped
from emdstore.testing import RecordingStore

PLOT = f"{FRAGMENT}/plots/map (°C).png"
AT = f"{FRAGMENT}/{RECORD_NAME}"


@pytest.fixture
def results() -> InMemoryArtifactStore:
    store = InMemoryArtifactStore()
    publish(store)
    publish(store, OTHER)
    put(store, {"README.md": b"about", "notes/a.txt": b"a"})
    return store


@pytest.fixture
def mirror(results: InMemoryArtifactStore) -> InMemoryArtifactStore:
    store = InMemoryArtifactStore()
    assert transfer(results, store).ok
    return store


def told(found: Any) -> set[tuple[str, str, str]]:
    return {(each.kind, each.name, each.how) for one in found for each in one.differences}


def test_a_mirror_differs_in_nothing_and_no_artifact_of_a_set_is_read(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore
) -> None:
    watched = RecordingStore(mirror)
    compared = list(compare(results, watched))
    assert [(each.kind, each.name) for each in compared] == [
        ("key", "README.md"),
        ("key", "notes/a.txt"),
        ("set", FRAGMENT),
        ("set", OTHER),
    ]
    assert told(compared) == set()
    read = {call.key for call in watched.calls if call.verb in ("read_bytes", "open_reader")}
    assert not [key for key in read if key.startswith(FRAGMENT) and not key.endswith(RECORD_NAME)]


@pytest.mark.parametrize("swapped", [False, True])
def test_what_differs_is_told_with_how(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore, swapped: bool
) -> None:
    publish(mirror, map=b"\x89PNG PLOT", tas=b"longer than before")
    mirror.delete(f"{OTHER}/index.html")
    put(mirror, {"README.md": b"ABOUT", "zz/new.txt": b"new", f"{OTHER}/zz.txt": b"beside"})
    mirror.delete("notes/a.txt")
    publish(results, "ilamb/bias/h/1")
    a, b = (mirror, results) if swapped else (results, mirror)
    here, there = ("only-in-b", "only-in-a") if swapped else ("only-in-a", "only-in-b")
    assert told(compare(a, b)) == {
        ("set", "ilamb/bias/h/1", here),
        ("key", PLOT, "digest"),
        ("key", f"{FRAGMENT}/data/tas.nc", "size"),
        ("key", AT, "record"),
        ("key", f"{OTHER}/index.html", here),
        ("key", f"{OTHER}/zz.txt", there),
        ("key", "README.md", "digest"),
        ("key", "notes/a.txt", here),
        ("key", "zz/new.txt", there),
    }


def test_a_set_in_another_state_and_other_words_on_the_same_bytes_are_told(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore
) -> None:
    amend(mirror, state="publishing")
    amend(mirror, OTHER, description="in other words")
    found = {each.name: each.differences for each in compare(results, mirror) if each.differences}
    assert found[FRAGMENT] == (Difference("set", FRAGMENT, "state", "published", "publishing"),)
    assert [(each.name, each.how) for each in found[OTHER]] == [(f"{OTHER}/{RECORD_NAME}", "record")]


def test_what_was_touched_since_its_record_is_read_and_with_every_digest_all_is(tmp_path: Path) -> None:
    for name in ("a", "b"):
        publish(LocalArtifactStore(tmp_path / name))
    amend(LocalArtifactStore(tmp_path / "b"), published_at=None)
    (tmp_path / "a" / AT).write_bytes((tmp_path / "b" / AT).read_bytes())
    assert told(compare(tmp_path / "a", tmp_path / "b")) == set()
    file = tmp_path / "b" / PLOT
    file.write_bytes(file.read_bytes()[::-1])
    assert told(compare(tmp_path / "a", tmp_path / "b")) == {("key", PLOT, "digest")}
    record = (tmp_path / "b" / AT).read_bytes()
    os.utime(file, (1, 1))
    (tmp_path / "b" / AT).write_bytes(record)  # is the newest again, and so believed
    assert told(compare(tmp_path / "a", tmp_path / "b", every_digest=True)) == {("key", PLOT, "digest")}


def test_what_cannot_be_compared_is_a_difference(results: InMemoryArtifactStore, mirror: InMemoryArtifactStore) -> None:
    mirror.write_bytes(AT, b'{"record_version": 99}')
    assert told(compare(results, mirror)) == {("set", FRAGMENT, "unreadable")}


def test_a_folder_and_a_choice_limit_what_is_compared(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore
) -> None:
    publish(mirror, "ilamb/bias/h/1", result=FAILURE)
    assert [each.name for each in compare(results, mirror, "notes")] == ["notes/a.txt"]
    assert [each.name for each in compare(results, mirror, "ilamb/bias")] == ["ilamb/bias/h/1"]
    chosen = Selection(state=["failed"])
    assert [each.name for each in compare(results, mirror, selection=chosen)] == ["ilamb/bias/h/1"]
    assert [each.name for each in compare(results, mirror, selection=Selection(include=["*.md"]))] == ["README.md"]


@pytest.mark.parametrize(
    ("after", "tolerance", "differs"),
    [
        ({"global": {"bias": 0.5, "rmse": 1.5}, "arctic": {"bias": -2}}, 0.0, {}),
        ({"global": {"bias": 0.5000001, "rmse": 1.5}, "arctic": {"bias": -2}}, 1e-6, {}),
        ({"global": {"bias": 0.5000001, "rmse": 1.5}, "arctic": {"bias": -2}}, 1e-9, {"bias": "value"}),
        ({"global": {"bias": None, "rmse": 1.5}, "arctic": {"bias": -2}}, 1.0, {"bias": "value"}),
        ({"global": {"bias": 0.5, "mae": 1.0}, "arctic": {"bias": -2}}, 0.0, {"rmse": "only-in-a", "mae": "only-in-b"}),
    ],
    ids=str,
)
def test_a_repetition_is_compared_by_its_values(after: Any, tolerance: float, differs: dict[str, str]) -> None:
    store = InMemoryArtifactStore()
    publish(store)
    publish(store, OTHER, diagnostic=encode(metric_bundle(after)), map=b"drawn anew")
    (found,) = compare(scoped(store, FRAGMENT), scoped(store, OTHER), tolerance=tolerance)
    assert isinstance(found, Compared)
    assert {each.dimensions["metric"]: each.how for each in found.differences} == differs
    changed = [each for each in found.differences if each.how == "value"]
    assert all(each.a == 0.5 and (each.b is None or math.isclose(each.b, 0.5, rel_tol=1e-6)) for each in changed)


@pytest.mark.parametrize(
    ("after", "tolerance", "differs"),
    [
        ([one_series()], 0.0, []),
        ([one_series(values=[1.0000001, None])], 1e-6, []),
        ([one_series(values=[1.0000001, None])], 1e-9, [("value", 1.0, 1.0000001, 1850)]),
        ([one_series(values=[1.5, 2.0])], 0.0, [("value", None, 2.0, 1851)]),
        ([one_series(index=[1850, 1852])], 0.0, [("index", 2, 2, None)]),
        ([one_series(), one_series()], 0.0, [("only-in-b", None, None, None)]),
        ([one_series(index_name="month")], 0.0, [("only-in-a", None, None, None), ("only-in-b", None, None, None)]),
    ],
    ids=str,
)
def test_a_repetition_is_compared_by_its_series_each_by_its_own_name_and_number(
    after: Any, tolerance: float, differs: list[Any]
) -> None:
    store = InMemoryArtifactStore()
    publish(store)
    publish(store, OTHER, series=after)
    (found,) = compare(scoped(store, FRAGMENT), scoped(store, OTHER), tolerance=tolerance)
    assert {each.kind for each in found.differences} <= {"series"}
    told = [(each.how, *(None if each.a != each.a else each.a, each.b), each.at) for each in found.differences]
    assert told == differs
