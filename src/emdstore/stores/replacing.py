"""Replacing what one has seen, and nothing else: the best that a store can do."""

from __future__ import annotations

from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    StoreUnavailableError,
    UnsupportedError,
)
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore, SupportsCreate, SupportsReplaceIf


def put_over(store: ArtifactStore, key: str, data: bytes, seen: str | None) -> None:
    """Put bytes at a key in place of what their writer has seen there.

    By compare-and-put where the store has it. Elsewhere what lies there is read right before and right after: then a
    writer that is halted for long in between is not noticed, and any other is.

    Parameters
    ----------
    store
        Any store.
    key, data
        What to put. If these very bytes lie there already, all is well: to call it again after an error does no harm.
    seen
        The SHA-256 of what was there, as a hex digest; None if nothing was.

    Raises
    ------
    ArtifactChangedError
        If something else lies there. It is left as it is.
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
        if digest_at(store, key) == sha256_of(data):
            return None
        raise changed(store, key) from None
    return _look_and_put(store, key, data, seen)


def _look_and_put(store: ArtifactStore, key: str, data: bytes, seen: str | None) -> None:
    ours, there = sha256_of(data), digest_at(store, key)
    if there == ours:
        return
    if there != seen:
        raise changed(store, key)
    store.write_bytes(key, data)
    try:
        there = digest_at(store, key)
    except StoreUnavailableError:
        return  # it was written, and that is all that anybody knows
    if there != ours:
        raise changed(store, key)


def digest_at(store: ArtifactStore, key: str) -> str | None:
    """Return the SHA-256 of a small artifact; None if nothing lies at the key."""
    try:
        return sha256_of(store.read_bytes(key))
    except ArtifactNotFoundError:
        return None


def changed(store: object, key: str) -> ArtifactChangedError:
    """Return the error for what is not what its writer has seen."""
    return ArtifactChangedError(
        f"{key!r} in {store!r} is not what was seen there before: somebody else has written it, or removed it, "
        "meanwhile; it was left as it is",
        key=key,
        store=repr(store),
    )
