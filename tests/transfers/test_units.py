"""Which keys are moved as a whole, and what has to be asked to find out."""

from __future__ import annotations

from typing import Any

import pytest
from tests.distant import Distant
from tests.sets.examples import put

from emdstore.emds import RECORD_NAME
from emdstore.errors import LookRefusedError, StoreAccessError, StoreUnavailableError
from emdstore.sets.sealing import SetSealing
from emdstore.stores import ArtifactStore, InMemoryArtifactStore
from emdstore.testing import Fault, FaultyStore, RecordingStore
from emdstore.transfers import units
from emdstore.transfers.plan import KeyPair
from emdstore.transfers.units import Group, grouped, sealed_folders


def grouping(*keys: str, source: ArtifactStore | None = None) -> tuple[list[KeyPair | Group], list[str]]:
    """Return what is released, and what the source was asked for."""
    store = RecordingStore(source or InMemoryArtifactStore())
    pairs = (KeyPair(key, True, False) for key in sorted(keys))
    return list(grouped(pairs, SetSealing(False), store, InMemoryArtifactStore())), [call.key for call in store.calls]


def bare_sets(count: int) -> list[str]:
    """Return the keys of sets without records, in folders that may have records later in the listing."""
    return [f"a/b/{number:04}/{name}" for number in range(count) for name in ("diagnostic.json", "out.log", "x.png")]


def names_in(group: Any) -> tuple[str, str, int]:
    return group.folder, group.kind, len(group.pairs)


def test_many_sets_without_records_wait_as_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_MOST_WAITING", 50)
    released, asked = grouping(*bare_sets(40))
    assert [names_in(each) for each in released] == [(f"a/b/{number:04}", "bare", 3) for number in range(40)]
    assert asked == []


def test_the_store_is_asked_once_for_a_folder_in_which_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_MOST_WAITING", 20)
    released, asked = grouping(*bare_sets(400))
    assert {names_in(each)[1:] for each in released} == {("bare", 3)}
    assert len(asked) == len(set(asked))
    assert set(asked) == {
        f"{folder}{name}" for folder in ("", "a/", "a/b/") for name in (RECORD_NAME, "diagnostic.json")
    }


def test_what_is_in_a_sealed_folder_waits_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_MOST_WAITING", 50)
    keys = [f"a/b/{number:04}/{name}" for number in range(40) for name in ("data/a.nc", "data/b.nc", RECORD_NAME, "x")]
    released, asked = grouping(*keys)
    assert [names_in(each) for each in released] == [(f"a/b/{number:04}", "sealed", 4) for number in range(40)]
    assert asked == []


# -- keys that are given by name ---------------------------------------------------------------------------------------

KEYS = ("a/b/1/x", "a/b/1/data/y", "a/b/2/x", "c/x", "x")


@pytest.fixture
def dest() -> ArtifactStore:
    return put(InMemoryArtifactStore(), {f"a/b/1/{RECORD_NAME}": b"{}"})


def test_the_folder_that_vouches_for_a_key_is_found_on_either_side(dest: ArtifactStore) -> None:
    there = {"a/b/1/x": "a/b/1", "a/b/1/data/y": "a/b/1"}
    for source, other in ((InMemoryArtifactStore(), dest), (dest, InMemoryArtifactStore()), (dest, dest)):
        found = sealed_folders(KEYS, RECORD_NAME, source, other)
        assert (found.folders, found.untold) == (there, frozenset())


def test_the_outermost_folder_vouches_and_nothing_below_it_is_asked_for(dest: ArtifactStore) -> None:
    put(dest, {f"a/{RECORD_NAME}": b"{}"})
    asked = RecordingStore(dest)
    found = sealed_folders(KEYS, RECORD_NAME, asked, asked)
    assert found.folders == dict.fromkeys(("a/b/1/x", "a/b/1/data/y", "a/b/2/x"), "a")
    assert [call.key for call in asked.calls] == [RECORD_NAME, f"a/{RECORD_NAME}", f"c/{RECORD_NAME}"]


def test_each_folder_is_asked_for_once(dest: ArtifactStore) -> None:
    asked = RecordingStore(dest)
    sealed_folders(KEYS, RECORD_NAME, asked, asked)
    keys = [call.key for call in asked.calls]
    assert sorted(keys) == sorted(f"{folder}{RECORD_NAME}" for folder in ("", "a/", "c/", "a/b/", "a/b/1/", "a/b/2/"))


def test_without_keys_nothing_is_asked(dest: ArtifactStore) -> None:
    asked = RecordingStore(dest)
    assert sealed_folders((), RECORD_NAME, asked, asked).folders == {}
    assert not asked.calls


def test_a_key_is_untold_if_nobody_may_look_for_a_record_above_it(dest: ArtifactStore) -> None:
    hidden = FaultyStore(dest, Fault(verbs={"exists"}, keys={f"c/{RECORD_NAME}"}, error=LookRefusedError))
    found = sealed_folders(KEYS, RECORD_NAME, InMemoryArtifactStore(), hidden)
    assert found.untold == {"c/x"}
    assert sealed_folders(KEYS, RECORD_NAME, hidden, dest).untold == frozenset()  # it could not be moved


def test_a_remote_store_is_asked_for_many_folders_at_once(dest: ArtifactStore) -> None:
    keys = [f"a/b/{number}/x" for number in range(8)]
    found = sealed_folders(
        keys, RECORD_NAME, InMemoryArtifactStore(), Distant(dest, lambda verb, key: key.count("/") == 3, 8)
    )
    assert found.folders == {"a/b/1/x": "a/b/1"}


@pytest.mark.parametrize("remote", [False, True])
def test_a_store_that_cannot_be_asked_is_an_error(dest: ArtifactStore, remote: bool) -> None:
    broken: ArtifactStore = FaultyStore(
        dest, Fault(verbs={"exists"}, keys={f"a/b/{RECORD_NAME}"}, error=StoreAccessError)
    )
    with pytest.raises(StoreAccessError):
        sealed_folders(KEYS, RECORD_NAME, InMemoryArtifactStore(), Distant(broken) if remote else broken)
    away = Fault(verbs={"exists"}, keys={f"a/b/{RECORD_NAME}"}, nth={1}, error=StoreUnavailableError)
    assert sealed_folders(KEYS, RECORD_NAME, InMemoryArtifactStore(), FaultyStore(dest, away)).folders
