"""Snapshots: a catalog as Parquet files in the results store, for whoever has no database.

A snapshot is a folder below ``.emdstore/snapshots/``. Its Parquet files are named after their digests. Its list,
``snapshot.json``, has the SHA-256 of each of them; it is written last, once, and never changes. So a snapshot is there
as a whole, or not at all. A pointer beside the snapshots names the newest one, for servers that cannot list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

import attrs
import msgspec

from emdstore.errors import (
    ArtifactChangedError,
    ArtifactNotFoundError,
    IntegrityError,
    LookRefusedError,
    SnapshotError,
    SnapshotNotFoundError,
    UnsupportedError,
)
from emdstore.keys import join_key
from emdstore.shown import Shown
from emdstore.stores.checksums import sha256_of
from emdstore.stores.identity import OWN_FOLDER
from emdstore.stores.port import ArtifactStore, SupportsDelete, SupportsFlush
from emdstore.stores.races import races
from emdstore.stores.replacing import put_over
from emdstore.stores.urls import StoreLike, as_source
from emdstore.versioned import UnreadableError, VersionedDecoder

SNAPSHOT_VERSION = 1
SNAPSHOTS = f"{OWN_FOLDER}/snapshots"
_WITHIN = SNAPSHOTS + "/"
LIST_NAME = "snapshot.json"
POINTER_NAME = "newest.json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

T = TypeVar("T")


@attrs.frozen
class Part:
    """One Parquet file of a table.

    Attributes
    ----------
    name
        Its name in the snapshot's folder.
    size, sha256
        Of its bytes.
    rows
        How many there are in it.
    first, last
        The folders of the first and the last execution that it has rows of; None for tables that are not sorted by it.
    """

    name: str
    size: int
    sha256: str
    rows: int
    first: str | None = None
    last: str | None = None


@attrs.frozen
class SnapshotTable:
    """A table of the catalog in a snapshot.

    Attributes
    ----------
    columns
        The columns of its files, in order.
    dimensions
        In which of them each dimension is, by the dimension's name.
    parts
        Its files, at least one. Of what belongs to executions they are sorted by folder and position.
    """

    columns: tuple[str, ...]
    dimensions: Mapping[str, str]
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(part.rows for part in self.parts)


@attrs.frozen(kw_only=True, repr=False)
class Snapshot(Shown):
    """A catalog at one instant, as files in a results store.

    Attributes
    ----------
    name
        The name of its folder.
    at
        When it was begun.
    schema
        The version of the catalog's schema.
    tables
        All tables of the catalog, by name.
    snapshot_version
        Of the format; a newer one is refused.
    """

    name: str
    at: datetime
    schema: str
    tables: Mapping[str, SnapshotTable]
    snapshot_version: int = SNAPSHOT_VERSION

    @property
    def size(self) -> int:
        """How many bytes its files have."""
        return sum(part.size for table in self.tables.values() for part in table.parts)

    @property
    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        return {name: table.rows for name, table in self.tables.items()}


@attrs.frozen
class _Pointer:
    snapshot: str
    sha256: str
    at: datetime
    snapshot_version: int = SNAPSHOT_VERSION


_pointer = VersionedDecoder(_Pointer, "snapshot_version", SNAPSHOT_VERSION, SnapshotError)
_list = VersionedDecoder(Snapshot, "snapshot_version", SNAPSHOT_VERSION, SnapshotError)


def find_snapshot(store: ArtifactStore) -> tuple[Snapshot, str]:
    """Find the snapshot that a place means, and in which of its folders the files are.

    Parameters
    ----------
    store
        A results store or its folder of snapshots, for the newest one; or the folder of one snapshot.

    Raises
    ------
    SnapshotNotFoundError
        If there is none.
    SnapshotError
        If it cannot be read as one, or a newer emdstore made it.
    IntegrityError
        If its list is not the one that the pointer means.
    StoreError
        If the store cannot be read.
    """
    refused: LookRefusedError | None = None
    for key in (LIST_NAME, POINTER_NAME, join_key(SNAPSHOTS, POINTER_NAME)):
        try:
            data = _bytes_at(store, key)
        except LookRefusedError as error:
            refused = error
            continue
        if data is None:
            continue
        if key == LIST_NAME:
            return _decode(data, _list, key), ""
        pointer = _decode(data, _pointer, key)
        folder = join_key(key.removesuffix(POINTER_NAME).rstrip("/"), pointer.snapshot)
        data = _bytes_at(store, join_key(folder, LIST_NAME))
        if data is None:
            raise SnapshotNotFoundError(
                f"{key!r} in {store!r} means the snapshot {pointer.snapshot!r}, which is not there: it was removed, or "
                "is still being copied; write a new one with `emdstore snapshot`",
                key=key,
                store=repr(store),
            )
        if sha256_of(data) != pointer.sha256:
            raise _damaged(store, join_key(folder, LIST_NAME))
        return _decode(data, _list, join_key(folder, LIST_NAME)), folder
    if refused is not None:
        raise refused
    raise SnapshotNotFoundError(
        f"there is no snapshot of a catalog in {store!r}: give a results store that has one, or a snapshot's "
        "folder (`emdstore snapshot` writes one), or a database, such as a SQLite file",
        store=repr(store),
    )


def read_part(store: ArtifactStore, folder: str, part: Part) -> bytes:
    """Return the bytes of a file of a snapshot; they have the digest that its list names.

    Raises
    ------
    SnapshotNotFoundError
        If it is gone, because the snapshot was removed meanwhile.
    IntegrityError
        If these are other bytes.
    """
    key = join_key(folder, part.name)
    try:
        data = store.read_bytes(key)
    except ArtifactNotFoundError:
        raise SnapshotNotFoundError(
            f"{key!r}, a file of the snapshot, is not in {store!r}: the snapshot was removed, or is still being "
            "copied; open the newest one",
            key=key,
            store=repr(store),
        ) from None
    if len(data) != part.size or sha256_of(data) != part.sha256:
        raise _damaged(store, key)
    return data


def list_snapshots(store: StoreLike) -> list[Snapshot]:
    """Return the snapshots in a results store, the oldest first. Unfinished ones are none.

    Raises
    ------
    SnapshotError
        If the list of one cannot be read.
    StoreError
        If the store cannot be read.
    """
    return _listed(as_source(store))


def remove_snapshot(store: StoreLike, name: str) -> None:
    """Remove one snapshot from a results store, also an unfinished one. The results are not touched.

    It is a snapshot no more from the first step, so that nobody takes what is left for a whole one; another call
    removes the rest. Whoever is reading it gets an error.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    name
        Its name.

    Raises
    ------
    SnapshotNotFoundError
        If there is none of this name.
    StoreError
        If the store cannot be read, or nothing can be removed from it.
    """
    results = as_source(store)
    _refuse_name(name)
    folder = join_key(SNAPSHOTS, name)
    keys = list(results.iter_keys(folder))
    if not keys:
        known = ", ".join(each.name for each in _listed(results)) or "none"
        raise SnapshotNotFoundError(f"there is no snapshot {name!r} in {results!r}; there are: {known}", key=name)
    if not isinstance(results, SupportsDelete):
        raise UnsupportedError(f"nothing can be removed from {results!r}", key=folder, store=repr(results))
    if remaining := _listed(results, but=name):
        _point(results, remaining[-1], away_from=name)
    listed = join_key(folder, LIST_NAME)
    for key in sorted(keys, key=lambda key: key != listed):  # the list first
        results.delete(key)


def prune_snapshots(store: StoreLike, keep: int) -> list[str]:
    """Remove all but the newest snapshots of a results store, and return the names of those that are gone.

    Unfinished ones are left alone, because somebody may be writing them.

    Raises
    ------
    ValueError
        If none would be kept.
    StoreError
        If the store cannot be read, or nothing can be removed from it.
    """
    if keep < 1:
        raise ValueError(f"at least one snapshot is kept, not {keep}")
    names = [each.name for each in list_snapshots(store)[:-keep]]
    for name in names:
        remove_snapshot(store, name)
    return names


# -- writing the list and the pointer --------------------------------------------------------------------------------


def written_as(store: ArtifactStore, name: str) -> Snapshot | None:
    """Return the snapshot of a name; None if there is none yet, or only an unfinished one."""
    _refuse_name(name)
    key = join_key(SNAPSHOTS, name, LIST_NAME)
    data = _bytes_at(store, key)
    return None if data is None else _decode(data, _list, key)


def publish(store: ArtifactStore, snapshot: Snapshot) -> None:
    """Write the list of a snapshot whose files are all there, and then the pointer.

    Raises
    ------
    SnapshotError
        If there is another one of this name by now.
    """
    _flush(store)  # a list must not survive a power cut that its files do not
    try:
        put_over(store, join_key(SNAPSHOTS, snapshot.name, LIST_NAME), _encoded(snapshot), None)
    except ArtifactChangedError:
        raise taken(snapshot.name) from None
    _flush(store)
    _point(store, snapshot)
    _flush(store)


def taken(name: str) -> SnapshotError:
    """Return the error for a name that another snapshot has."""
    return SnapshotError(
        f"there is another snapshot {name!r} already, and snapshots never change: choose another name", key=name
    )


def rank_of(key: str) -> int:
    """Return 1 for the list of a snapshot in a results store, 2 for the pointer, and 0 for every other key."""
    if not key.startswith(_WITHIN):  # as nearly every key: a transfer asks this of each of them
        return 0
    return 2 if key == join_key(SNAPSHOTS, POINTER_NAME) else int(key.endswith(f"/{LIST_NAME}"))


def continues(later: bytes, earlier: bytes, key: str, store: ArtifactStore) -> bool:
    """Tell whether what lies at a key of `rank_of` in another store may take the place of what is in this one.

    A list never changes. The pointer moves on to a newer snapshot, unless this store has another one of its name.

    Raises
    ------
    SnapshotError
        If one of them is not what it should be.
    """
    if not (later and earlier) or later == earlier or rank_of(key) < 2:
        return later == earlier or not earlier
    after, before = _decode(later, _pointer, key), _decode(earlier, _pointer, key)
    there = _bytes_at(store, join_key(SNAPSHOTS, after.snapshot, LIST_NAME))
    return after.at >= before.at and (there is None or sha256_of(there) == after.sha256)


def _point(store: ArtifactStore, snapshot: Snapshot, *, away_from: str | None = None) -> None:
    """Point at a snapshot, unless the pointer names a newer one, or is not where the caller expects it."""
    key = join_key(SNAPSHOTS, POINTER_NAME)
    for _ in races():
        data = _bytes_at(store, key)
        there = None if data is None else _decode(data, _pointer, key)
        pointer = _Pointer(snapshot.name, sha256_of(_encoded(snapshot)), snapshot.at)
        if there == pointer:
            return None
        if there is not None and (there.snapshot != away_from if away_from else there.at > snapshot.at):
            return None
        try:
            return put_over(store, key, _encoded(pointer), None if data is None else sha256_of(data))
        except ArtifactChangedError:
            continue  # somebody else moved it
    raise SnapshotError(f"{key!r} is being moved by others again and again: try again", key=key, store=repr(store))


def _listed(store: ArtifactStore, *, but: str = "") -> list[Snapshot]:
    """Read the lists of all snapshots, but for one that need not be readable; the oldest comes first."""
    keys = [key for key in store.iter_keys(SNAPSHOTS) if key.endswith(f"/{LIST_NAME}")]
    wanted = (key for key in keys if key != join_key(SNAPSHOTS, but, LIST_NAME)) if but else iter(keys)
    found = ((key, _bytes_at(store, key)) for key in wanted)
    snapshots = [_decode(data, _list, key) for key, data in found if data is not None]
    return sorted(snapshots, key=lambda each: (each.at, each.name))


def _refuse_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name == POINTER_NAME:
        raise SnapshotError(
            f"{name!r} cannot be the name of a snapshot: take up to 100 letters, digits, '.', '_' and '-', the first a "
            "letter or digit",
            key=name,
        )


def _bytes_at(store: ArtifactStore, key: str) -> bytes | None:
    try:
        return store.read_bytes(key) or None  # an empty one is what a power cut left
    except ArtifactNotFoundError:
        return None


def _decode(data: bytes, decoder: VersionedDecoder[T], key: str) -> T:
    try:
        return decoder.decode(data, key=key)
    except UnreadableError as error:
        raise SnapshotError(f"{key!r} is not what it should be: {error}", key=key) from None


def _encoded(value: Snapshot | _Pointer) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def _damaged(store: ArtifactStore, key: str) -> IntegrityError:
    return IntegrityError(
        f"{key!r} in {store!r} does not have the digest that it should have: copy the snapshot again, or write a new "
        "one with `emdstore snapshot`",
        key=key,
        store=repr(store),
    )


def _flush(store: ArtifactStore) -> None:
    if isinstance(store, SupportsFlush):
        store.flush()
