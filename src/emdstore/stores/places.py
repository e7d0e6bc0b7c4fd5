"""Whether two stores are the same place."""

from __future__ import annotations

import os

from emdstore.errors import SameStoreError
from emdstore.stores.port import ArtifactStore, SupportsPath


def refuse_same_place(source: ArtifactStore, dest: ArtifactStore) -> None:
    """Refuse to move artifacts between two stores that are one place, or of which one lies inside the other.

    Local stores are compared by their real paths, so that a link does not hide it, others by their configuration.

    Raises
    ------
    SameStoreError
        With both stores' names. Nothing was read or written.
    """
    if source is dest or source == dest:
        raise SameStoreError(f"source and destination are the same store: {source!r}; choose another destination")
    if isinstance(source, SupportsPath) and isinstance(dest, SupportsPath):
        one, other = (os.path.realpath(store.local_path()) for store in (source, dest))
        if os.path.commonpath([one, other]) in (one, other):
            how = "the same folder" if one == other else "one inside the other"
            raise SameStoreError(f"source {source!r} and destination {dest!r} are {how}; choose another destination")
