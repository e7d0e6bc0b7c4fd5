"""What follows from the places of two stores: whether they are the same, and who else sees them."""

from __future__ import annotations

from emdstore.errors import SameStoreError
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore


def refuse_same_place(source: ArtifactStore, dest: ArtifactStore) -> None:
    """Refuse to move artifacts between two stores that are the same place, or one of which lies inside the other.

    Local stores are compared by their real paths, which a link cannot hide; others by server and URL.

    Raises
    ------
    SameStoreError
        With both stores' names. Nothing was read or written.
    """
    if not overlap(source, dest):
        return
    how = "the same place" if is_same_place(source, dest) else "one inside the other"
    raise SameStoreError(f"source {source!r} and destination {dest!r} are {how}; choose another destination")


def overlap(one: ArtifactStore, other: ArtifactStore) -> bool:
    """Tell whether two stores are the same place, or one lies inside the other."""
    here, there = place_of(one), place_of(other)
    return here.holder == there.holder and (_holds(here.path, there.path) or _holds(there.path, here.path))


def is_same_place(one: ArtifactStore, other: ArtifactStore) -> bool:
    """Tell whether two stores are the same place."""
    here, there = place_of(one), place_of(other)
    return (here.holder, here.path) == (there.holder, there.path)


def is_shared(store: ArtifactStore) -> bool:
    """Tell whether everything in a store is certainly outside this process, so that a fork sees the same."""
    return place_of(store).shared


def _holds(one: str, other: str) -> bool:
    return one in ("", other) or other.startswith(one + "/")
