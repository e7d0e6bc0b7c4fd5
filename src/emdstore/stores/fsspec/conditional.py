"""Conditional puts by s3fs: creating, and replacing what was seen."""

from __future__ import annotations

from collections.abc import Mapping

from emdstore import system
from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    EmdstoreError,
    StoreUnavailableError,
    UnsupportedError,
)
from emdstore.stores.checksums import sha256_of
from emdstore.stores.fsspec.folder import Folder
from emdstore.stores.fsspec.systems import code_of
from emdstore.stores.replacing import changed

_TOKEN = "emdstoretoken"  # Azure takes letters and digits only, and proxies drop headers with other signs
_ATTEMPTS = 3
_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404"}
_UNKNOWN = {"NotImplemented", "501"}


def create(folder: Folder, key: str, data: bytes) -> None:
    """Put the bytes at the key unless something lies there; see `SupportsCreate.create_bytes`."""
    token = system.current().token(16)
    try:
        _put(folder, key, data, token, {"IfNoneMatch": "*"})
    except (ArtifactChangedError, StoreUnavailableError) as error:
        there = _token_at(folder, key)  # the answer to an earlier request of ours may have been lost
        if there == token:
            return
        if there is None:
            if isinstance(error, StoreUnavailableError):
                raise
            folder.raise_conflict(key)  # SeaweedFS treats the folder above `a/b` as an object `a`
        raise ArtifactExistsError(
            f"{key!r} is already there in {folder!r}; it was left as it is", key=key, store=folder.name
        ) from None


def replace(folder: Folder, key: str, data: bytes, seen: str) -> None:
    """Put the bytes in place of those with a SHA-256; see `SupportsReplaceIf.replace_bytes`."""
    token = system.current().token(16)
    refused: EmdstoreError = changed(folder, key)
    for _ in range(_ATTEMPTS):
        tag = _tag_of(folder, key, seen, token)
        if tag is None:
            return None
        try:
            return _put(folder, key, data, token, {"IfMatch": tag})
        except (ArtifactChangedError, StoreUnavailableError) as error:
            refused = error
    if _token_at(folder, key) != token:
        raise refused
    return None


def _tag_of(folder: Folder, key: str, seen: str, token: str) -> str | None:
    """Return the ETag of the bytes that were seen; None if ours are there already, because an answer was lost."""
    fs, path, _ = folder.at(key)
    try:
        info = folder.info(key)  # before the bytes, so that it cannot be the tag of what is put in between
        with folder.translating("read", key):
            there = bytes(fs.cat_file(path))
    except ArtifactNotFoundError:
        raise changed(folder, key) from None
    if sha256_of(there) == seen:
        return info.version or ""
    if _token_at(folder, key) == token:
        return None
    raise changed(folder, key)


def _put(folder: Folder, key: str, data: bytes, token: str, condition: Mapping[str, str]) -> None:
    fs, path, _ = folder.at(key)
    with folder.translating("write", key):
        known = fs.s3.meta.service_model.operation_model("PutObject").input_shape.members
        if not known.keys() >= condition.keys():  # s3fs silently leaves out what botocore does not know
            raise UnsupportedError(
                f"cannot put {key!r} in {folder!r} on a condition: this botocore is too old; upgrade it",
                key=key,
                store=folder.name,
            )
        try:
            also = fs.s3_additional_kwargs.get("Metadata", {})
            fs.pipe_file(path, data, Metadata={**also, _TOKEN: token}, **condition)
        except Exception as error:
            if (code := code_of(error)) in _REFUSED:
                raise changed(folder, key) from None
            if code in _UNKNOWN:
                raise UnsupportedError(
                    f"cannot put {key!r} in {folder!r} on a condition: this server does not know it; nothing was "
                    "changed",
                    key=key,
                    store=folder.name,
                ) from None
            raise


def _token_at(folder: Folder, key: str) -> str | None:
    """Return the token of the object at the key: ``""`` if it has none, None if there is no object."""
    fs, path, _ = folder.at(key)
    bucket, name, _ = fs.split_path(path)
    try:
        with folder.translating("look at", key):
            found = fs.call_s3("head_object", Bucket=bucket, Key=name)
    except (ArtifactNotFoundError, StoreUnavailableError):
        return None
    return str(found.get("Metadata", {}).get(_TOKEN, ""))
