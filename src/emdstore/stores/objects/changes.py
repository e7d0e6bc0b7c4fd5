"""Changes of a bucket, confirmed by looking, because an answer may be lost or not come from the server."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping

from emdstore import system
from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    KeyConflictError,
    LookRefusedError,
    StoreUnavailableError,
    UnsupportedError,
)
from emdstore.stores.checksums import sha256_of
from emdstore.stores.objects.bucket import Bucket
from emdstore.stores.objects.proof import read_object
from emdstore.stores.replacing import changed

_log = logging.getLogger(__name__)

_TOKEN = "emdstoretoken"  # Azure takes letters and digits only, and proxies drop headers with other signs
_NOTHING = "nothing is seen there"
_ATTEMPTS = 3
_ANSWER_LOST = (
    "bulk delete"  # on Azure the engine deletes by a batch, and does not ask again for a body that was cut off
)


def create(bucket: Bucket, key: str, data: bytes) -> None:
    """Put the bytes at the key unless something lies there; see `S3ArtifactStore.create_bytes`."""
    token = system.current().token(16)
    for attempt in range(_ATTEMPTS):
        try:
            return _put(bucket, key, data, token)
        except ArtifactExistsError:
            with contextlib.suppress(LookRefusedError):
                if _token_of(bucket, key) == token:  # the answer to an earlier request of ours was lost
                    return None
            raise
        except StoreUnavailableError:
            # Whether the bytes are there is not known. The next attempt tells, or a look at the end.
            if attempt == _ATTEMPTS - 1 or bucket.retries == 0:
                found = _look(bucket, key)
                if found == token:
                    return None
                if found != _NOTHING:
                    raise ArtifactExistsError(
                        f"{key!r} is already there in {bucket!r}; it was left as it is", key=key, store=repr(bucket)
                    ) from None
                raise
    raise AssertionError("a loop of attempts ends by returning or raising")


def replace(bucket: Bucket, key: str, data: bytes, seen: str) -> None:
    """Put the bytes in place of those with a SHA-256; see `S3ArtifactStore.replace_bytes`.

    Each attempt looks first: the object may come from an earlier attempt whose answer was lost.
    """
    token = system.current().token(16)
    refused: ArtifactChangedError | StoreUnavailableError = changed(bucket, key)
    for _ in range(_ATTEMPTS if bucket.retries else 1):
        try:
            there = read_object(bucket, key)
        except ArtifactNotFoundError:
            raise changed(bucket, key) from None
        if there.attributes.get(_TOKEN) == token:
            return None
        if sha256_of(there.data) != seen:
            raise changed(bucket, key)
        try:
            return _put(bucket, key, data, token, over=there.version)
        except (ArtifactChangedError, StoreUnavailableError) as error:
            refused = error
    if _look(bucket, key) != token:
        raise refused
    return None


def _put(bucket: Bucket, key: str, data: bytes, token: str, *, over: Mapping[str, str] | None = None) -> None:
    """Put the bytes where nothing lies, or over a version."""
    if not bucket.connection.knows_conditions:  # finding out takes as many retries as any other request
        raise UnsupportedError(
            f"cannot put {key!r} in {bucket!r} on a condition: this server does not support that; nothing was changed",
            key=key,
            store=repr(bucket),
        )
    name = bucket.object_name(key)
    obs, client = bucket.client(len(data))
    mode = "create" if over is None else dict(over)
    try:
        with bucket.errors.translating("create" if over is None else "replace", key):
            more = bucket.sent_with(key, data, also={_TOKEN: token})
            obs.put(client, name, data, mode=mode, use_multipart=False, **more)
    except UnsupportedError:
        bucket.connection.knows_conditions = False
        _log.warning("the server of %r has no conditional writes: what is there is compared before and after", bucket)
        raise


def _token_of(bucket: Bucket, key: str) -> str | None:
    """Return the token of the object at the key, None if it has none; `KeyConflictError` if there is no object."""
    name = bucket.object_name(key)
    obs, client = bucket.client()
    try:
        with bucket.errors.translating("look at", key):
            found = obs.get(client, name, options={"head": True})
            bucket.described(key, found.meta)
    except ArtifactNotFoundError:
        # SeaweedFS keeps folders, and treats the one above `a/b` as an existing object `a`.
        raise KeyConflictError(
            f"{bucket!r} does not create {key!r}: the server has a folder of that name; write it instead, or choose "
            "another key",
            key=key,
            store=repr(bucket),
        ) from None
    token: str | None = found.attributes.get(_TOKEN)
    return token


def _look(bucket: Bucket, key: str) -> str | None:
    """Return the token of the object at the key; `_NOTHING` if there is no object."""
    try:
        return _token_of(bucket, key)
    except (KeyConflictError, LookRefusedError, StoreUnavailableError):
        return _NOTHING


def remove(bucket: Bucket, key: str) -> None:
    """Remove an object, and check that it is gone, because the engine trusts any answer with a success status."""
    name = bucket.object_name(key)
    obs, client = bucket.client()
    before: str | None = None
    for _ in range(_ATTEMPTS):
        try:
            with bucket.errors.translating("delete", key):
                obs.delete(client, name)
            there = bucket.look_at(key)
        except ArtifactNotFoundError:
            return
        except StoreUnavailableError as error:
            if _ANSWER_LOST not in str(error) or not bucket.retries:
                raise
            continue
        if before is not None and there.version != before:
            return  # somebody else keeps writing it
        before = there.version
    raise StoreUnavailableError(
        f"cannot delete {key!r} in {bucket!r}: the server says that it did, and the object is still there; try again, "
        "and see whether objects of this bucket are locked",
        key=key,
        store=repr(bucket),
    )
