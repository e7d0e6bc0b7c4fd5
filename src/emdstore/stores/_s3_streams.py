"""Objects of S3 that are read, written and copied without being in memory as a whole."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from emdstore.errors import ArtifactNotFoundError, SourceChangedError, StoreError
from emdstore.stores._s3_errors import Speaker, is_of_engine
from emdstore.stores.port import CHUNK_SIZE, ArtifactInfo, Copied

if TYPE_CHECKING:
    from emdstore.stores.s3 import S3Store

_log = logging.getLogger(__name__)

MOST_PARTS = 10_000
LARGEST_COPY = 5 * 1024**3


def describe(key: str, entry: Any) -> ArtifactInfo:
    """Return what obstore's description of an object says of the artifact."""
    return ArtifactInfo(key, entry["size"], entry["last_modified"].timestamp(), entry["e_tag"])


class ObjectReader:
    """See `ArtifactReader`: the answer to one request, so one version of the object."""

    def __init__(self, errors: Speaker, key: str, found: Any) -> None:
        self.info = describe(key, found.meta)
        self._errors = errors
        # The engine gives at least this much at a time, and often some more; `read` may give CHUNK_SIZE.
        self._chunks: Iterator[bytes] = found.stream(min_chunk_size=CHUNK_SIZE // 2)
        self._rest = b""
        self._left = self.info.size

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        """See `ArtifactReader.read`."""
        chunk = self._rest or self._next()
        self._rest = chunk[size:]
        given = chunk[:size]
        self._left -= len(given)
        if self._left < 0 or (not given and self._left):
            self._raise_changed(f"did not have the {self.info.size} bytes that the server announced")
        return given

    def _next(self) -> bytes:
        with self._errors.trying("read", self.info.key):
            try:
                return next(self._chunks, b"")
            except Exception as error:
                # The engine asked for the rest of a broken answer, on condition that it is of the same version.
                if type(error).__name__ == "PreconditionError":
                    self._raise_changed("changed while it was read")
                raise

    def _raise_changed(self, what: str) -> None:
        key, store = self.info.key, self._errors.name
        raise SourceChangedError(f"{key!r} in {store} {what}; run it again", key=key, store=store) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._chunks, self._rest = iter(()), b""  # to let go of the stream closes its connection


class ObjectWriter:
    """See `ArtifactWriter`: an upload in parts, which shows when it is completed, or one request if it is small."""

    def __init__(self, errors: Speaker, key: str, file: Any, part_size: int) -> None:
        self._errors, self._key, self._file = errors, key, file
        self._part_size = part_size
        self._size = 0

    def write(self, data: bytes, /) -> None:
        """See `ArtifactWriter.write`."""
        self._size += len(data)
        if self._size > MOST_PARTS * self._part_size:
            raise StoreError(
                f"cannot write {self._key!r} in {self._errors.name}: it needs more than {MOST_PARTS} parts of "
                f"{self._part_size} bytes; open the store with a larger part_size",
                key=self._key,
                store=self._errors.name,
            )
        with self._errors.trying("write", self._key):
            self._file.write(data)

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            with self._errors.trying("write", self._key):
                self._file.__exit__(None, None, None)
            return
        try:
            self._file.__exit__(kind, error, traceback)  # takes back the parts
        except Exception as failure:
            if not is_of_engine(failure):
                raise
            # The error that ended the block is the one to show.
            _log.warning(
                "parts of %r may be left in %s; have the bucket expire unfinished uploads", self._key, self._errors.name
            )


class ServerCopies:
    """See `CopySession`: copies inside one bucket, by the server itself."""

    def __init__(self, source: S3Store, dest: S3Store, copy_object: Callable[[S3Store, str], None]) -> None:
        self._source, self._dest, self._copy_object = source, dest, copy_object

    def copy(self, key: str, moved: Callable[[int], object] | None = None, /) -> Copied:
        """See `CopySession.copy`; what is too large for one request of the server is streamed instead."""
        try:
            self._copy_object(self._source, key)
        except ArtifactNotFoundError:
            raise
        except StoreError:
            if self._source.info(key).size <= LARGEST_COPY:
                raise
            return self._stream(key, moved)
        return Copied(None, None)

    def _stream(self, key: str, moved: Callable[[int], object] | None) -> Copied:
        digest = hashlib.sha256()
        with self._source.open_reader(key) as reader, self._dest.open_writer(key) as writer:
            while chunk := reader.read():
                digest.update(chunk)
                writer.write(chunk)
                if moved is not None:
                    moved(len(chunk))
        return Copied(reader.info.size, digest.hexdigest())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        pass
