"""What a mirror holds and its source does not is removed only if it is proved to be a leftover."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.sets.examples import FRAGMENT, held, put
from tests.sets.published import OTHER, amend, publish, publish_later_version

from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import PruneRefusedError, StoreError, UnsupportedError
from emdstore.sets.mirroring import Leftover, find_leftovers, refuse_too_many, remove_leftovers
from emdstore.sets.retraction import retract
from emdstore.sets.transfer import transfer
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore, ReadOnlyStore
from emdstore.stores.identity import IDENTITY_KEY
from emdstore.testing import Fault, FaultyStore

BESIDE = f"{FRAGMENT}/left-over.txt"


@pytest.fixture
def results() -> InMemoryArtifactStore:
    store = InMemoryArtifactStore()
    publish(store)
    put(store, {"README.md": b"about", "notes/a.txt": b"a", "notes/b.txt": b"b"})
    return store


@pytest.fixture
def mirror(results: InMemoryArtifactStore) -> InMemoryArtifactStore:
    """A copy that holds more: what may go, and what may not."""
    store = InMemoryArtifactStore()
    assert transfer(results, store).ok
    put(store, {"old.txt": b"old", BESIDE: b"beside", IDENTITY_KEY: b"{}"})
    return store


def removable(results: InMemoryArtifactStore, mirror: InMemoryArtifactStore) -> list[str]:
    return [each.key for each in find_leftovers(results, mirror).removable]


def test_what_no_set_and_no_record_has_to_do_with_is_removed(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore
) -> None:
    found = find_leftovers(results, mirror)
    assert [(each.key, each.folder) for each in found.removable] == [("old.txt", None), (BESIDE, FRAGMENT)]
    gone: list[Leftover] = []
    assert list(remove_leftovers(results, mirror, found.removable, on_removed=gone.append)) == []
    assert gone == list(found.removable)
    assert held(mirror) == held(results)
    assert mirror.exists(IDENTITY_KEY)
    assert removable(results, mirror) == []


def test_a_set_is_never_removed_nor_what_looks_like_one(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore
) -> None:
    publish(mirror, OTHER)
    put(mirror, {"bare/x/y/1/diagnostic.json": b"{}", "bare/x/y/1/plots/a.png": b"a", "half/x/y/1/output.json": b"{}"})
    put(mirror, {"half/x/y/1/plots/b.png": b"b"})
    found = find_leftovers(results, mirror)
    assert [each.key for each in found.removable] == ["old.txt", BESIDE]
    assert {OTHER, "bare/x/y/1", "half/x/y/1/plots/b.png"} <= found.kept.keys()


def test_what_a_record_names_or_one_before_it_did_stays(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore
) -> None:
    results.delete(f"{FRAGMENT}/index.html")  # damaged: the record of both names it
    amend(mirror, superseded=("left-over.txt",))
    retract(mirror, FRAGMENT, reason="wrong")
    found = find_leftovers(results, mirror)
    assert [each.key for each in found.removable] == ["old.txt"]
    assert found.kept.keys() == {f"{FRAGMENT}/index.html", BESIDE, f"{FRAGMENT}/{RETRACTION_NAME}"}


@pytest.mark.parametrize("data", [b'{"record_version": 99}', b"no record", None], ids=str)
def test_a_set_whose_record_says_nothing_keeps_all(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore, data: bytes | None
) -> None:
    if data is None:
        amend(mirror, state="publishing")
    else:
        mirror.write_bytes(f"{FRAGMENT}/{RECORD_NAME}", data)
    assert removable(results, mirror) == ["old.txt"]


def test_a_source_that_is_empty_or_not_wholly_readable_removes_nothing(
    mirror: InMemoryArtifactStore, tmp_path: Path
) -> None:
    with pytest.raises(PruneRefusedError, match="holds nothing"):
        find_leftovers(InMemoryArtifactStore(), mirror)
    put(LocalArtifactStore(tmp_path), {"README.md": b"about"})
    (tmp_path / "notes").symlink_to("gone")
    with pytest.raises(PruneRefusedError, match="notes"):
        find_leftovers(tmp_path, mirror)


def test_more_than_is_allowed_or_half_of_all_is_refused(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore
) -> None:
    found = find_leftovers(results, mirror)
    refuse_too_many(found, None)
    refuse_too_many(found, 2)
    with pytest.raises(PruneRefusedError, match="allows 1"):
        refuse_too_many(found, 1)
    put(mirror, {f"old/{n}.txt": b"" for n in range(20)})
    with pytest.raises(PruneRefusedError, match="is the source mounted"):
        refuse_too_many(find_leftovers(results, mirror), None)


def _comes_back(results: InMemoryArtifactStore, mirror: InMemoryArtifactStore) -> None:
    put(results, {"old.txt": b"old", BESIDE: b"beside"})


def _is_published_again(results: InMemoryArtifactStore, mirror: InMemoryArtifactStore) -> None:
    publish_later_version(mirror)
    put(mirror, {"diagnostic.json": b"{}"})  # the root is a set now


def _record_goes(results: InMemoryArtifactStore, mirror: InMemoryArtifactStore) -> None:
    mirror.delete(f"{FRAGMENT}/{RECORD_NAME}")
    put(mirror, {"output.json": b"{}"})


@pytest.mark.parametrize("happens", [_comes_back, _is_published_again, _record_goes])
def test_what_changed_since_it_was_found_stays(
    results: InMemoryArtifactStore,
    mirror: InMemoryArtifactStore,
    happens: Callable[[InMemoryArtifactStore, InMemoryArtifactStore], None],
) -> None:
    found = find_leftovers(results, mirror).removable
    happens(results, mirror)
    left = list(remove_leftovers(results, mirror, found))
    assert [each.key for each, _ in left] == ["old.txt", BESIDE]
    assert all(isinstance(error, PruneRefusedError) for _, error in left)
    assert mirror.exists("old.txt")
    assert mirror.exists(BESIDE)


def test_what_does_not_arrive_in_the_backup_stays(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore
) -> None:
    found = find_leftovers(results, mirror).removable
    broken = FaultyStore(InMemoryArtifactStore(), Fault(keys={BESIDE}, error=StoreError))
    left = list(remove_leftovers(results, mirror, found, backup=broken))
    assert [each.key for each, _ in left] == [BESIDE]
    assert mirror.exists(BESIDE)
    backup = InMemoryArtifactStore()
    assert list(remove_leftovers(results, mirror, find_leftovers(results, mirror).removable, backup=backup)) == []
    assert held(backup) == {BESIDE: b"beside"}


def test_a_mirror_that_can_remove_nothing_is_told(
    results: InMemoryArtifactStore, mirror: InMemoryArtifactStore
) -> None:
    with pytest.raises(UnsupportedError):
        list(remove_leftovers(results, ReadOnlyStore(mirror), find_leftovers(results, mirror).removable))
