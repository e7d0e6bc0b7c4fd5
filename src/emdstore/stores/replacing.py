"""Replacing exactly what was seen, as well as a store can."""

from __future__ import annotations

from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    LookRefusedError,
    StoreUnavailableError,
    UnsupportedError,
)
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore, SupportsCreate, SupportsReplaceIf

_EMPTY = sha256_of(b"")


def put_over(store: ArtifactStore, key: str, data: bytes, seen: str | None) -> None:
    """Put bytes at a key, in place of what their writer has seen there.

    If the store has compare-and-put, that is used. Otherwise the key is read right before and right after the write:
    this notices every other writer, except one that is halted for long in between.

    Parameters
    ----------
    store
        Any store.
    key, data
        What to put. If the same bytes lie there already, nothing happens, so it is safe to call this again after an
        error.
    seen
        The SHA-256 of what the writer has seen, as a hex digest; None if there was nothing. An empty artifact is
        nothing, too: the power was cut before the bytes of whoever wrote it were on the disk.

    Raises
    ------
    ArtifactChangedError
        If something else lies there. It is left alone.
    StoreError
        If the store cannot be read or written.
    """
    try:
        if seen is None and isinstance(store, SupportsCreate):
            return store.create_bytes(key, data)
        if seen is not None and isinstance(store, SupportsReplaceIf):
            return store.replace_bytes(key, data, seen)
    except UnsupportedError:
        pass  # this server has no conditional puts; nothing was changed
    except (ArtifactChangedError, ArtifactExistsError):
        try:
            there = digest_at(store, key)
            if there == sha256_of(data):
                return None
            if seen is None and there == _EMPTY:
                return put_over(store, key, data, _EMPTY)
        except LookRefusedError:
            raise _hidden(store, key, "something is there that may not be read, so it is not replaced") from None
        raise changed(store, key) from None
    try:
        return _look_and_put(store, key, data, seen)
    except LookRefusedError:
        why = "the server knows no conditional puts, and what is there may not be looked at"
        raise _hidden(store, key, why) from None


def _hidden(store: ArtifactStore, key: str, why: str) -> LookRefusedError:
    return LookRefusedError(
        f"cannot put {key!r} in {store!r}: {why}; the credentials need s3:GetObject for it, and s3:ListBucket to be "
        "told that it is not there",
        key=key,
        store=repr(store),
    )


def _look_and_put(store: ArtifactStore, key: str, data: bytes, seen: str | None) -> None:
    ours, there = sha256_of(data), digest_at(store, key)
    if there == ours:
        return
    if there != seen and not (seen is None and there == _EMPTY):
        raise changed(store, key)
    store.write_bytes(key, data)
    try:
        there = digest_at(store, key)
    except StoreUnavailableError:
        return  # it was written; more is not known
    if there != ours:
        raise changed(store, key)


def digest_at(store: ArtifactStore, key: str) -> str | None:
    """Return the SHA-256 of a small artifact; None if nothing lies at the key."""
    try:
        return sha256_of(store.read_bytes(key))
    except ArtifactNotFoundError:
        return None


def changed(store: object, key: str) -> ArtifactChangedError:
    """Return the error for a key that changed since its writer looked at it."""
    return ArtifactChangedError(
        f"{key!r} in {store!r} is not what was seen there before: somebody else has written it, or removed it, "
        "meanwhile; it was left as it is",
        key=key,
        store=repr(store),
    )
