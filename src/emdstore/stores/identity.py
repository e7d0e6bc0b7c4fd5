"""The identity of a store, kept in the store itself.

A path says where a store is, not which store it is. Disks are mounted elsewhere, folders are moved, buckets are copied,
and tomorrow another store may lie at a well-known path. So every results store gets a number when somebody first
publishes to it, in ``.emdstore/identity.json``, and whoever relies on it being the same store compares this number. A
store that was only ever read, or cannot be written, has no number; its location identifies it.

emdstore keeps its own files under ``.emdstore/``. It never looks for sets there. A transfer copies all of them but the
identity, because a copy is another store.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from datetime import datetime

import attrs
import msgspec

from emdstore import system
from emdstore.errors import (
    ArtifactChangedError,
    ArtifactNotFoundError,
    LookRefusedError,
    StoreError,
    redact,
    redact_url,
)
from emdstore.keys import in_folder, is_valid_key
from emdstore.stores.checksums import sha256_of
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore, SupportsFlush, SupportsPath
from emdstore.stores.replacing import put_over

OWN_FOLDER = ".emdstore"
IDENTITY_KEY = f"{OWN_FOLDER}/identity.json"


@attrs.frozen
class StoreIdentity:
    """Which store it is, and where.

    Attributes
    ----------
    id
        The number; None if there is none.
    url
        The real path of a local store, or the server and the path there, without secrets; None for a store in memory.
    keeps_log
        Whether events are to be written in its log; see `emdstore.sets.events`.
    """

    id: str | None
    url: str | None
    keeps_log: bool = attrs.field(default=True, eq=False)


def is_own(key: str) -> bool:
    """Tell whether a key belongs to emdstore's own files in a store."""
    return in_folder(key, OWN_FOLDER)


def url_of(store: ArtifactStore) -> str | None:
    """Return where a store is, as `StoreIdentity` has it; the store is not asked."""
    if isinstance(store, SupportsPath):
        return os.path.realpath(store.local_path())
    place = place_of(store)
    if not place.remote:
        return None
    holder = place.holder if isinstance(place.holder, tuple) else (place.holder,)
    path = redact_url(f"place:///{place.path}").removeprefix("place:///")  # which may end with a query
    return redact(" ".join([*(str(part) for part in holder if part), path]))


def identity_of(store: ArtifactStore) -> StoreIdentity:
    """Read which store it is.

    Raises
    ------
    StoreError
        If the store cannot be read, or its identity file holds something else.
    """
    url = url_of(store)
    try:
        data = store.read_bytes(IDENTITY_KEY)
    except (ArtifactNotFoundError, LookRefusedError):
        return StoreIdentity(None, url)
    if not data:  # the power was cut before it was on the disk, so nobody has relied on it; see `put_over`
        return StoreIdentity(None, url)
    told = _decode(data, store)
    return StoreIdentity(told.id, url, told.events)


def _decode(data: bytes, store: ArtifactStore) -> _Told:
    try:
        told = _decoder.decode(data)
        if not is_valid_key(told.id) or "/" in told.id:  # it is also the name of a folder
            raise ValueError(f"{told.id!r} is no name")
        return told
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreError(
            f"{IDENTITY_KEY!r} in {store!r} is no identity of a store ({error}): put it back from a backup, or remove "
            "it and run `emdstore db rebind`",
            key=IDENTITY_KEY,
            store=repr(store),
        ) from None


def give_identity(store: ArtifactStore, number: str | None = None) -> StoreIdentity:
    """Give a store an identity unless it has one, and return its identity.

    Parameters
    ----------
    store
        Any store.
    number
        The number to give; by default a new one.

    Raises
    ------
    StoreError
        If the store cannot be read or written. Its identity is unchanged.
    """
    told = _Told(number or str(uuid.UUID(hex=system.current().token(16), version=4)), system.current().now())
    with contextlib.suppress(LookRefusedError, ArtifactChangedError):  # somebody was quicker: theirs counts
        put_over(store, IDENTITY_KEY, _encoded(told), None)
    if isinstance(store, SupportsFlush):
        store.flush()  # a catalog that goes by it must not outlive it
    return identity_of(store)


def switch_log(store: ArtifactStore, on: bool) -> StoreIdentity:
    """Say in a store's identity whether events are to be written in its log. It gets an identity if it has none.

    Raises
    ------
    StoreError
        If the store cannot be read or written, or somebody else has switched it at the same moment.
    """
    here = give_identity(store)
    if here.id is None or here.keeps_log == on:
        return here
    data = store.read_bytes(IDENTITY_KEY)
    put_over(store, IDENTITY_KEY, _encoded(attrs.evolve(_decode(data, store), events=on)), sha256_of(data))
    return identity_of(store)


@attrs.frozen
class _Told:
    id: str
    created_at: datetime
    events: bool = True


def _encoded(told: _Told) -> bytes:
    return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"


_decoder = msgspec.json.Decoder(_Told)
