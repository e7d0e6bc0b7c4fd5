from __future__ import annotations

import resource
from pathlib import Path
from typing import Any, cast

import pytest

from emdstore.errors import SameStoreError
from emdstore.stores.fsspec import FsspecArtifactStore
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore
from emdstore.stores.s3 import S3ArtifactStore
from emdstore.stores.sameness import is_shared, refuse_same_place
from emdstore.stores.views import ReadOnlyStore, scoped
from emdstore.testing import RecordingStore

_MEMORY = InMemoryArtifactStore()
_BUCKET = S3ArtifactStore("s3://bucket", endpoint_url="http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("source", "dest"),
    [
        (_MEMORY, _MEMORY),
        (_MEMORY, scoped(_MEMORY, "a")),
        (scoped(_MEMORY, "a/b"), scoped(_MEMORY, "a")),
        (_BUCKET, _BUCKET.scope("a")),
        (_BUCKET.scope("a"), S3ArtifactStore("s3://bucket/a", endpoint_url="http://127.0.0.1:1")),
    ],
    ids=repr,
)
def test_one_place_and_a_place_inside_another_are_refused(source: ArtifactStore, dest: ArtifactStore) -> None:
    with pytest.raises(SameStoreError):
        refuse_same_place(source, dest)


@pytest.mark.parametrize(
    ("source", "dest"),
    [
        (InMemoryArtifactStore(), InMemoryArtifactStore()),
        (scoped(_MEMORY, "run1"), scoped(_MEMORY, "run10")),
        (_BUCKET.scope("run1"), _BUCKET.scope("run10")),
        (_BUCKET, S3ArtifactStore("s3://bucket", endpoint_url="http://127.0.0.1:2")),
    ],
    ids=repr,
)
def test_places_beside_each_other_are_not(source: ArtifactStore, dest: ArtifactStore) -> None:
    refuse_same_place(source, dest)


def test_a_view_and_a_link_do_not_hide_it(tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path / "real")
    store.write_bytes("a", b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for other in (
        ReadOnlyStore(store),
        LocalArtifactStore(tmp_path / "link"),
        LocalArtifactStore(tmp_path / "link" / "below"),
    ):
        with pytest.raises(SameStoreError):
            refuse_same_place(other, store)


def test_what_keeps_notes_in_this_process_is_not_shared(tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path)
    assert is_shared(store)
    assert is_shared(_BUCKET)
    assert is_shared(ReadOnlyStore(store))
    assert not is_shared(RecordingStore(store))
    assert not is_shared(_MEMORY)


def test_a_store_that_does_not_say_where_it_is_is_a_place_of_its_own() -> None:
    class Stranger:
        exists = read_bytes = write_bytes = iter_keys = None

    one: Any = Stranger()
    assert place_of(one).server is None
    assert not is_shared(one)
    refuse_same_place(one, cast("Any", Stranger()))
    with pytest.raises(SameStoreError):
        refuse_same_place(one, one)


def test_the_same_folder_of_a_file_system_of_fsspecs_is_one_place() -> None:
    store = FsspecArtifactStore("memory://results")
    for other in (FsspecArtifactStore("memory://results/"), FsspecArtifactStore("memory://results/below")):
        with pytest.raises(SameStoreError):
            refuse_same_place(other, store)
    refuse_same_place(FsspecArtifactStore("memory://results2"), store)


@pytest.mark.parametrize(
    ("allowed", "most", "of_others"),
    [(100, 10, 10), (30, 1, 1), (500, 110, 64), (4096, 256, 64), (resource.RLIM_INFINITY, 256, 64)],
)
def test_where_few_files_may_be_open_few_artifacts_are_under_way(
    allowed: int, most: int, of_others: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda what: (allowed, allowed))
    assert _BUCKET.place().requests == LocalArtifactStore(tmp_path).place().requests == most
    assert _MEMORY.place().requests == of_others


def test_what_one_server_holds_is_far_away_alike(tmp_path: Path) -> None:
    server = place_of(_BUCKET).server
    assert server is not None
    assert place_of(_BUCKET.scope("a")).server == server
    others = (S3ArtifactStore("s3://bucket", endpoint_url="http://127.0.0.1:2"), S3ArtifactStore("s3://other"))
    assert server not in [place_of(each).server for each in others]
    assert [
        place_of(each).server
        for each in (_MEMORY, LocalArtifactStore(tmp_path), scoped(LocalArtifactStore(tmp_path), "a"))
    ] == [None] * 3
