"""Copies inside one bucket, made by the server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from emdstore.errors import ArtifactNotFoundError, StoreError, StoreUnavailableError
from emdstore.stores.port import ArtifactInfo, Copied
from emdstore.stores.s3.bucket import Bucket
from emdstore.stores.s3.streams import ObjectReader, ObjectWriter

LARGEST_COPY = 5 * 1024**3


class ServerCopies:
    """See `CopySession`: copies from one folder of a bucket to another."""

    def __init__(self, source: Bucket, dest: Bucket) -> None:
        self._source, self._dest = source, dest

    def copy(self, key: str, moved: Callable[[int], object] | None = None, /) -> Copied:
        """See `CopySession.copy`; objects that are too large for one request are streamed instead."""
        from_name, to_name = self._source.object_name(key), self._dest.object_name(key)
        obs, client = self._dest.client()
        try:
            with self._source.errors.translating("copy", key):
                obs.copy(client, from_name, to_name)
        except ArtifactNotFoundError:
            raise
        except StoreError:
            if self._source.look_at(key).size <= LARGEST_COPY:
                raise
            return self._stream(key, moved)
        self._check(key)
        return Copied(None, None)

    def _check(self, key: str) -> None:
        """Check that the copy is there, because the engine trusts any answer with a success status."""
        here, there = self._source.look_at(key), self._look_at_copy(key)
        if there is not None and here.size == there.size:
            in_parts = "-" in f"{here.version}{there.version}"  # the copy of a multipart upload is not one
            if here.version == there.version or (in_parts and there.modified >= here.modified):
                return
        raise StoreUnavailableError(
            f"cannot copy {key!r} in {self._dest!r}: the server says that it did, and what is there is not the copy; "
            "try again",
            key=key,
            store=repr(self._dest),
        )

    def _look_at_copy(self, key: str) -> ArtifactInfo | None:
        try:
            return self._dest.look_at(key)
        except ArtifactNotFoundError:
            return None

    def _stream(self, key: str, moved: Callable[[int], object] | None) -> Copied:
        digest = hashlib.sha256()
        with ObjectReader(self._source, key) as reader, ObjectWriter(self._dest, key) as writer:
            while chunk := reader.read():
                digest.update(chunk)
                writer.write(chunk)
                if moved is not None:
                    moved(len(chunk))
        return Copied(reader.info.size, digest.hexdigest())

    def __enter__(self) -> ServerCopies:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        pass
