"""The files that runs read: copied into scratch, verified, and cached there by digest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from emdstore.errors import ArtifactNotFoundError, SourceChangedError
from emdstore.executions.process import is_made_by_the_living, own_name
from emdstore.keys import STAGING_PREFIX
from emdstore.sets.record import RecordedInput
from emdstore.stores.checksums import sha256_of
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.port import ArtifactStore, SupportsInfo
from emdstore.stores.views import scoped
from emdstore.transfers import digest_of, move

_FOLDER = STAGING_PREFIX + "inputs"  # beside the executions in scratch, hidden from their listings
_ON_THE_WAY = "arriving"


def arriving(scratch: LocalArtifactStore) -> Iterator[str]:
    """Return the folders in scratch of inputs that never arrived.

    Each is named after the process that copies the input. If that is gone, the input never arrived.
    """
    folder = f"{_FOLDER}/{_ON_THE_WAY}"
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(scratch.root / folder)):
            if not is_made_by_the_living(name):
                yield f"{folder}/{name}"


def fetch_input(
    scratch: LocalArtifactStore,
    store: ArtifactStore,
    key: str,
    *,
    sha256: str | None = None,
    tags: Collection[str] = (),
) -> tuple[Path, RecordedInput]:
    """Copy an artifact into the cache of a scratch store, unless it is there.

    Parameters
    ----------
    scratch
        The scratch store.
    store, key
        Where the artifact is.
    sha256
        Its required digest; with it, the cache is searched without asking the store.
    tags
        What the run uses it for.

    Returns
    -------
    tuple
        The file, under its own name, and the entry for the record.

    Raises
    ------
    ArtifactNotFoundError, StoreError
        If it cannot be read. The cache is unchanged.
    SourceChangedError
        If it does not have the required digest.
    """
    cache = LocalArtifactStore(scratch.root / _FOLDER)
    name = key.rpartition("/")[2]
    known = sha256 or _seen(cache, store, key)
    if known is not None:
        try:
            size, found = digest_of(cache, f"{known}/{name}")
        except ArtifactNotFoundError:
            pass  # not fetched yet, or cleaned up
        else:
            if found == known:
                return cache.local_path(f"{known}/{name}"), RecordedInput(repr(store), key, size, known, tuple(tags))
    # An input gets the folder named after its digest when the digest is known.
    folder, _, _ = key.rpartition("/")
    arriving = f"{_ON_THE_WAY}/{own_name()}"
    report = move(scoped(store, folder), scoped(cache, arriving), [name], unchanged="never")
    outcome = report.outcomes[0]
    if outcome.error is not None:
        raise outcome.error
    size, digest = digest_of(cache, f"{arriving}/{name}")
    try:
        if sha256 is not None and digest != sha256:
            raise SourceChangedError(
                f"{key!r} in {store!r} has SHA-256 {digest}, not {sha256} as asked for", key=key, store=repr(store)
            )
        target = cache.local_path(digest)
        target.mkdir(exist_ok=True)
        (cache.root / arriving / name).replace(target / name)
    finally:
        cache.delete(f"{arriving}/{name}")
    _note(cache, store, key, digest)
    return target / name, RecordedInput(repr(store), key, size, digest, tuple(tags))


def _memo(store: ArtifactStore, key: str) -> str | None:
    """Return a name for the artifact's current version; the same name later means the same bytes."""
    if not isinstance(store, SupportsInfo):
        return None
    info = store.info(key)
    if info.version is None:
        return None
    text = f"{store!r}\n{key}\n{info.size}\n{info.modified!r}\n{info.version}"
    return f"seen/{sha256_of(text.encode())}"


def _seen(cache: LocalArtifactStore, store: ArtifactStore, key: str) -> str | None:
    memo = _memo(store, key)
    try:
        return None if memo is None else cache.read_bytes(memo).decode()
    except ArtifactNotFoundError:
        return None


def _note(cache: LocalArtifactStore, store: ArtifactStore, key: str, digest: str) -> None:
    memo = _memo(store, key)
    if memo is not None:
        cache.write_bytes(memo, digest.encode())
