"""Where stores are: whether two are the same place, which server answers, and whether other processes see it."""

from __future__ import annotations

import os

from emdstore.errors import SameStoreError
from emdstore.keys import join_key
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.stores.views import ScopedStore


def refuse_same_place(source: ArtifactStore, dest: ArtifactStore) -> None:
    """Refuse to move artifacts between two stores that are one place, or of which one lies inside the other.

    Local stores are compared by their real paths, so that a link does not hide it, others by their URL and server.

    Raises
    ------
    SameStoreError
        With both stores' names. Nothing was read or written.
    """
    if _is_local(source) != _is_local(dest):
        return  # not compared by their real paths, which take their time
    (one_root, one), (other_root, other) = _place_of(source), _place_of(dest)
    if one_root != other_root or (not _holds(one, other) and not _holds(other, one)):
        return
    how = "the same place" if one == other else "one inside the other"
    raise SameStoreError(f"source {source!r} and destination {dest!r} are {how}; choose another destination")


def server_of(store: ArtifactStore) -> object:
    """Return what stands for the server that answers for a store, in a form that compares; None where it is unknown."""
    inner = store.inner if isinstance(store, ScopedStore) else store
    url = getattr(inner, "url", None)
    if not isinstance(url, str) or isinstance(inner, SupportsPath):
        return None
    scheme, _, path = url.partition("://")
    return scheme, path.partition("/")[0], getattr(inner, "endpoint_url", None)


def is_shared(store: ArtifactStore) -> bool:
    """Tell whether all that a store holds is outside this process, for certain, so that a fork sees the same."""
    if type(store) is LocalArtifactStore:
        return True
    from emdstore.stores.s3 import S3ArtifactStore  # nothing between local folders needs it

    return type(store) is S3ArtifactStore


def _is_local(store: ArtifactStore) -> bool:
    return isinstance(store.inner if isinstance(store, ScopedStore) else store, SupportsPath)


def _place_of(store: ArtifactStore) -> tuple[object, str]:
    """Return what holds the store, in a form that compares, and the store's path in there."""
    if isinstance(store, SupportsPath):
        return "file system", os.path.realpath(store.local_path()).strip("/")
    if isinstance(store, ScopedStore):
        root, path = _place_of(store.inner)
        return root, join_key(path, store.prefix)
    url = getattr(store, "url", None)
    if isinstance(url, str):
        return (type(store), getattr(store, "endpoint_url", None)), url.rstrip("/")
    return store, ""


def _holds(one: str, other: str) -> bool:
    return one in ("", other) or other.startswith(one + "/")
