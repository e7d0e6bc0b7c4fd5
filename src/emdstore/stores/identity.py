"""Which store this is, wherever it lies: an identity that is kept in the store itself.

A path says where a store is, not which one. A disk is mounted elsewhere, a folder is moved, a bucket is copied; and
under a path that everybody knows another store may lie tomorrow. So a results store that somebody publishes to carries
a number of its own, in ``.emdstore/identity.json``, and who relies on it being the same store compares that. A store
that was only ever read, or cannot be written, has none, and is known by where it is.

What emdstore keeps of its own in a store lies under ``.emdstore/``. Sets are never looked for there, and a transfer
carries all of it but the identity: a copy is another store.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from datetime import datetime

import attrs
import msgspec

from emdstore import system
from emdstore.errors import ArtifactChangedError, ArtifactNotFoundError, StoreError, redact
from emdstore.keys import in_folder
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.stores.replacing import put_over

OWN_FOLDER = ".emdstore"
IDENTITY_KEY = f"{OWN_FOLDER}/identity.json"


@attrs.frozen
class StoreIdentity:
    """Which store it is, and where.

    Attributes
    ----------
    id
        Its number; None if it has none.
    url
        Where it is: the real path of a local store, or the server and the path there, without secrets; None for one
        that lives in memory.
    """

    id: str | None
    url: str | None


def is_own(key: str) -> bool:
    """Tell whether a key is of what emdstore keeps for itself in a store."""
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
        If the store cannot be asked, or holds something else where its identity would be.
    """
    url = url_of(store)
    try:
        data = store.read_bytes(IDENTITY_KEY)
    except ArtifactNotFoundError:
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
    """Give a store an identity, unless it has one, and return the one that it has then.

    Parameters
    ----------
    store
        Any store.
    number
        The one to give; a new one by default.

    Raises
    ------
    StoreError
        If the store cannot be read or written. It has the identity that it had.
    """
    told = _Told(number or str(uuid.UUID(hex=system.current().token(16), version=4)), system.current().now())
    data = msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"
    with contextlib.suppress(ArtifactChangedError):  # somebody was quicker: theirs counts
        put_over(store, IDENTITY_KEY, data, None)
    return identity_of(store)


@attrs.frozen
class _Told:
    id: str
    created_at: datetime


_decoder = msgspec.json.Decoder(_Told)
