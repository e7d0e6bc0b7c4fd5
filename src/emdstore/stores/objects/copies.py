"""Copies inside one bucket, made by the server."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from contextlib import suppress

from emdstore.errors import ArtifactNotFoundError, SourceChangedError, StoreError, StoreUnavailableError
from emdstore.stores.checksums import as_listed
from emdstore.stores.objects.bucket import SHA256, Bucket
from emdstore.stores.objects.streams import ObjectReader, ObjectWriter
from emdstore.stores.port import ArtifactInfo, Copied

LARGEST_COPY = 5 * 1024**3


class ServerCopies:
    """See `CopySession`: copies from one folder of a bucket to another.

    Where ETags do not tell the contents, only an object that carries its SHA-256 is copied on the server, because
    nothing else would prove that the copy is the same; others are streamed.
    """

    def __init__(self, source: Bucket, dest: Bucket) -> None:
        self._source, self._dest = source, dest

    def copy(self, key: str, moved: Callable[[int], object] | None = None, /) -> Copied:
        """See `CopySession.copy`."""
        copied, digest = None, None
        if not self._dest.tags_tell_content:
            if (digest := self._digest_of(self._source, key)) is None:
                return self._stream(key, moved)
        elif (known := as_listed(key)) is not None:
            size, version = known
            with suppress(SourceChangedError):  # or it is another one since it was listed
                copied = self._ordered(ArtifactInfo(key, size, math.nan, version), digest, moved)
        if copied is None:
            copied = self._ordered(self._source.look_at(key), digest, moved)
        if copied is None:
            raise StoreUnavailableError(
                f"cannot copy {key!r} in {self._dest!r}: the server says that it did, and what is there is not the "
                "copy; try again",
                key=key,
                store=repr(self._dest),
            )
        return copied

    def _ordered(self, here: ArtifactInfo, digest: str | None, moved: Callable[[int], object] | None) -> Copied | None:
        """Have a version copied; None if what is there then is not the copy."""
        try:
            made = self._order(here)
        except ArtifactNotFoundError:
            raise
        except StoreError:
            if here.size <= LARGEST_COPY:
                raise
            return self._copy_large(here, moved)
        return Copied(None, None) if self._is_copy(here, digest, made) else None

    def _order(self, here: ArtifactInfo) -> str | None:
        """Have the server copy by one request; return the tag that it says it gave the copy, which the engine hides."""
        from_name, to_name = self._source.object_name(here.key), self._dest.object_name(here.key)
        obs, client = self._dest.client()
        with self._source.errors.translating("copy", here.key):
            obs.copy(client, from_name, to_name)
        return None

    def _copy_large(self, here: ArtifactInfo, moved: Callable[[int], object] | None) -> Copied:
        """Copy an object that is too large for one request."""
        return self._stream(here.key, moved)

    def _digest_of(self, bucket: Bucket, key: str) -> str | None:
        """Return the SHA-256 that an object carries, if it does."""
        obs, client = bucket.client()
        with bucket.errors.translating("look at", key):
            found = obs.get(client, bucket.object_name(key), options={"head": True})
        bucket.described(key, found.meta)
        return str(found.attributes.get(SHA256) or "") or None

    def _is_copy(self, here: ArtifactInfo, digest: str | None, made: str | None) -> bool:
        """Tell whether the copy of what is here is there: the engine trusts any answer with a success status.

        The same tag proves it. The copy of an object that came in parts may have another one: then what is there has to
        bear the tag that the server gave its copy of this very version.
        """
        there = self._look_at_copy(here.key)
        if there is None or here.size != there.size:
            return False
        if digest is not None:
            return self._digest_of(self._dest, here.key) == digest
        return there.version is not None and there.version in (here.version, made)

    def _look_at_copy(self, key: str) -> ArtifactInfo | None:
        try:
            return self._dest.look_at(key)
        except ArtifactNotFoundError:
            return None

    def _stream(self, key: str, moved: Callable[[int], object] | None) -> Copied:
        digest = hashlib.sha256()
        with ObjectReader(self._source, key) as reader, ObjectWriter(self._dest, key) as writer:
            writer.expect(reader.info.size, reader.written_ns)
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
