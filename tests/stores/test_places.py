from __future__ import annotations

from pathlib import Path

import pytest

from emdstore.errors import SameStoreError
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactStore
from emdstore.stores.s3 import S3ArtifactStore
from emdstore.stores.sameness import refuse_same_place, server_of
from emdstore.stores.views import ReadOnlyStore, scoped

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


def test_what_one_server_holds_is_far_away_alike(tmp_path: Path) -> None:
    server = server_of(_BUCKET)
    assert server is not None
    assert server_of(_BUCKET.scope("a")) == server
    others = (S3ArtifactStore("s3://bucket", endpoint_url="http://127.0.0.1:2"), S3ArtifactStore("s3://other"))
    assert server not in [server_of(each) for each in others]
    assert [
        server_of(each) for each in (_MEMORY, LocalArtifactStore(tmp_path), scoped(LocalArtifactStore(tmp_path), "a"))
    ] == [None] * 3
