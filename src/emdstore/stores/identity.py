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
from emdstore.errors import ArtifactChangedError, ArtifactNotFoundError, LookRefusedError, StoreError, redact
from emdstore.keys import in_folder
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
    """

    id: str | None
    url: str | None


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
    return redact(" ".join([*(str(part) for part in holder if part), place.path]))


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
    try:
        return StoreIdentity(_decoder.decode(data).id, url)
    except msgspec.MsgspecError as error:
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
    data = msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"
    with contextlib.suppress(LookRefusedError, ArtifactChangedError):  # somebody was quicker: theirs counts
        put_over(store, IDENTITY_KEY, data, None)
    if isinstance(store, SupportsFlush):
        store.flush()  # a catalog that goes by it must not outlive it
    return identity_of(store)


@attrs.frozen
class _Told:
    id: str
    created_at: datetime


_decoder = msgspec.json.Decoder(_Told)
