"""Moving the bytes of one artifact from one store to another.

There are three ways; the first that both stores support is used:

1. a copy session of the destination (`SupportsCopyFrom`): files hashed and copied without a detour, or a copy that the
   object store makes by itself;
2. a stream, hashed chunk by chunk, for artifacts that are large or of unknown size;
3. all bytes at once, for small artifacts, and for stores with only four methods; in a session if a store has them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

import attrs

from emdstore.errors import EmdstoreError, SourceChangedError
from emdstore.stores.checksums import Check, expecting, knowing, listed, sha256_of
from emdstore.stores.port import (
    CHUNK_SIZE,
    ArtifactInfo,
    ArtifactStore,
    Copied,
    CopiesMany,
    CopySession,
    ExpectsSize,
    KnowsWritten,
    StoreSession,
    SupportsCopyFrom,
    SupportsDigest,
    SupportsInfo,
    SupportsPath,
    SupportsSession,
    SupportsStreaming,
    TakesDigest,
    TellsWritten,
)
from emdstore.transfers.plan import Step
from emdstore.workers.watch import Monitor, Watch

_MIB = 1024 * 1024


class _UnexpectedError(Exception):
    """The bytes have another SHA-256 than expected. They are read again, to tell whether it happened on the way."""


@attrs.frozen
class Stores:
    """Two stores, and what they can do for a copy from one to the other, which takes long to find out; pickles.

    Attributes
    ----------
    source, dest
        The stores.
    copying
        The destination, if it may copy from the source by itself.
    reading, writing
        The source and the destination, if they have sessions.
    streams
        Both, if both have streams.
    asked
        The source, if it must be asked before and after something is read. A store that streams promises to read one
        version.
    dated
        Whether the destination keeps when bytes were first written.
    has_files, into_files
        Whether the source's artifacts are local files, and whether those of the destination will be.
    """

    source: ArtifactStore
    dest: ArtifactStore
    copying: SupportsCopyFrom | None = attrs.field(init=False)
    reading: SupportsSession | None = attrs.field(init=False)
    writing: SupportsSession | None = attrs.field(init=False)
    streams: tuple[SupportsStreaming, SupportsStreaming] | None = attrs.field(init=False)
    asked: SupportsInfo | None = attrs.field(init=False)
    dated: bool = attrs.field(init=False)
    has_files: bool = attrs.field(init=False)
    into_files: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        source, dest = self.source, self.dest
        has_streams = isinstance(source, SupportsStreaming)
        found = {
            "copying": dest if isinstance(dest, SupportsCopyFrom) else None,
            "reading": source if isinstance(source, SupportsSession) else None,
            "writing": dest if isinstance(dest, SupportsSession) else None,
            "streams": (source, dest) if has_streams and isinstance(dest, SupportsStreaming) else None,
            "asked": source if not has_streams and isinstance(source, SupportsInfo) else None,
            "dated": isinstance(dest, TellsWritten),
            "has_files": isinstance(source, SupportsPath),
            "into_files": isinstance(dest, SupportsPath) and not isinstance(dest, TellsWritten),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)  # this is how a frozen value sets what it derives from its fields


class Route:
    """The way from one store to another, for any number of artifacts; a context manager.

    Parameters
    ----------
    stores
        The stores.
    monitor
        Called with the number of bytes as they move.
    """

    def __init__(self, stores: Stores, monitor: Monitor | None = None) -> None:
        self._stores, self._monitor = stores, monitor
        self._copies: CopySession | None = None
        self._reader: ArtifactStore | StoreSession = stores.source
        self._writer: ArtifactStore | StoreSession = stores.dest
        self._opened = ExitStack()
        self._whole_size = _MIB  # of many larger buffers the allocator keeps too much
        self._ask, self._dated = stores.asked, stores.dated
        self._times: KnowsWritten | None = None
        if self._dated and stores.reading is None:
            self._whole_size = -1  # an open reader knows the time without another request

    def __enter__(self) -> Self:
        stores = self._stores
        if stores.copying is not None and (copies := stores.copying.copy_from(stores.source)) is not None:
            self._copies = self._opened.enter_context(copies)
            return self
        if stores.reading is not None:
            self._reader = self._opened.enter_context(stores.reading.session())
        if stores.writing is not None:
            self._writer = self._opened.enter_context(stores.writing.session())
        self._times = self._reader if self._dated and isinstance(self._reader, KnowsWritten) else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, traceback)

    def copy(self, key: str, size: int | None, sha256: str | None = None, version: str | None = None) -> Copied:
        """Copy one artifact, entirely or not at all.

        Parameters
        ----------
        key
            The artifact's key, in both stores.
        size
            Its size, if known.
        sha256
            The SHA-256 that it should have, if known: then the store's own checksum is not computed beside. Other bytes
            are copied only if they have that one.
        version
            What a listing said of its version, if anything: then the server that copies it is not asked again.

        Raises
        ------
        SourceChangedError
            If the source changed meanwhile. The destination keeps its old value, as after any other error.
        """
        if self._copies is not None:
            if self._stores.has_files:  # what was listed of files proves no copy of them
                return self._counted(self._copies.copy(key, self._monitor), size)
            with listed([(key, size, version)]):
                return self._counted(self._copies.copy(key, self._monitor), size)
        is_large = size is None or size > self._whole_size
        through_here = self._stream if is_large and self._stores.streams is not None else self._whole
        if sha256 is not None:
            with suppress(_UnexpectedError):
                return through_here(key, sha256)
        return through_here(key, None)

    def _counted(self, copied: Copied, size: int | None) -> Copied:
        """Count the bytes of a copy that a server made, which did not come by here."""
        if copied.size is not None or size is None:
            return copied
        if isinstance(self._monitor, Watch):
            self._monitor.count(size)
        elif self._monitor is not None:
            self._monitor(size)
        return Copied(size, None)

    def copy_many(self, steps: Sequence[Step]) -> Iterator[Copied | EmdstoreError] | None:
        """Copy small artifacts that are under way at once, see `CopiesMany`; None if there is no such way."""
        if self._copies is None or not isinstance(self._copies, CopiesMany):
            return None
        with listed((step.key, step.size, step.version) for step in steps):
            copies = self._copies.copy_many([step.key for step in steps], self._monitor)
        return (
            self._counted(each, step.size) if isinstance(each, Copied) and each.size is None else each
            for step, each in zip(steps, copies, strict=False)
        )

    def digest_of(self, store: ArtifactStore, key: str, check: Check | None = None) -> tuple[int, str]:
        """Hash an artifact in one of the two stores, no faster than it may be read; see `digest_of`."""
        return digest_of(store, key, check, self._monitor.slow_down if isinstance(self._monitor, Watch) else None)

    def _stream(self, key: str, sha256: str | None) -> Copied:
        assert self._stores.streams is not None
        source, dest = self._stores.streams
        digest, size = hashlib.sha256(), 0
        with expecting(sha256):
            opened = source.open_reader(key)
        with opened as reader, dest.open_writer(key) as writer:
            if isinstance(writer, ExpectsSize):
                times = reader if self._dated and isinstance(reader, KnowsWritten) else None
                writer.expect(reader.info.size, self._written_ns(times, reader.info))
            while chunk := reader.read(CHUNK_SIZE):
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
                if self._monitor is not None:
                    self._monitor(len(chunk))
            if size != reader.info.size:
                raise SourceChangedError(
                    f"{key!r} had {reader.info.size} bytes when it was opened and gave {size}; run it again", key=key
                )
            found = digest.hexdigest()
            if sha256 not in (None, found):
                raise _UnexpectedError
            if isinstance(writer, TakesDigest):
                writer.take_digest(found)
        return Copied(size, found)

    def _written_ns(self, times: KnowsWritten | None, info: ArtifactInfo | None = None) -> int | None:
        """Return when the bytes were first written, as far as the destination keeps it."""
        if not self._dated:
            return None
        if times is not None and times.written_ns is not None:
            return times.written_ns
        return None if info is None or math.isnan(info.modified) else int(info.modified * 1e9)

    def _whole(self, key: str, sha256: str | None) -> Copied:
        before = self._ask.info(key) if self._ask is not None else None
        if sha256 is None:
            data = self._reader.read_bytes(key)
        else:
            with expecting(sha256):
                data = self._reader.read_bytes(key)
        if self._monitor is not None:
            self._monitor(len(data))
        if self._ask is not None and before is not None and (self._ask.info(key) != before or len(data) != before.size):
            raise SourceChangedError(f"{key!r} changed while it was read; run it again", key=key)
        digest = sha256_of(data)
        if sha256 not in (None, digest):
            raise _UnexpectedError
        if self._stores.into_files:  # which carry neither digest nor time
            self._writer.write_bytes(key, data)
        else:
            with knowing(data, digest, self._written_ns(self._times, before)):
                self._writer.write_bytes(key, data)
        return Copied(len(data), digest)


def digest_of(
    store: ArtifactStore, key: str, check: Check | None = None, on_read: Callable[[int], object] | None = None
) -> tuple[int, str]:
    """Hash an artifact in its store.

    Parameters
    ----------
    store, key
        The artifact.
    check
        Given the bytes as they pass, besides.
    on_read
        Called with the number of bytes as they pass; not where the store hashes them itself.

    Returns
    -------
    tuple
        Its size in bytes and its SHA-256 as a hex digest.

    Raises
    ------
    ArtifactNotFoundError
        If the store does not hold it.
    """
    if check is None and isinstance(store, SupportsDigest):
        return store.digest(key)
    if not isinstance(store, SupportsStreaming):
        data = store.read_bytes(key)
        if check is not None:
            check.update(data)
        if on_read is not None:
            on_read(len(data))
        return len(data), sha256_of(data)
    digest, size = hashlib.sha256(), 0
    with store.open_reader(key) as reader:
        while chunk := reader.read(CHUNK_SIZE):
            digest.update(chunk)
            if check is not None:
                check.update(chunk)
            if on_read is not None:
                on_read(len(chunk))
            size += len(chunk)
    return size, digest.hexdigest()
