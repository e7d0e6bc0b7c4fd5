"""The port: what a store of artifacts is.

`ArtifactStore` has four methods, and these are enough to take part in everything: transfer, materialize, publish,
ingest, replay, verify. It is deliberately not a file-system interface. There are no directories, no seeking, no
appending and no partial objects, because a published result is either a whole object at a key or not there. What some
back end cannot promise is not in the port.

Everything else a store can do is an optional capability: one small Protocol per verb, found by `isinstance`, and used
if both sides have it: `SupportsInfo`, `SupportsStreaming`, `SupportsDigest`, `SupportsDelete`, `SupportsCreate`,
`SupportsReplaceIf`, `SupportsPath`, `SupportsCopyFrom`, `SupportsSession`, `SupportsScope`, `SupportsFlush`,
`SupportsPlace`, `SupportsLeftOut`. `emdstore.testing` provides the contract as a test suite for any adapter.

For every store:

- Keys and prefixes are checked by `emdstore.keys` before any I/O.
- Errors come from `emdstore.errors`: `StoreUnavailableError` if trying again may help, `StoreError` if not.
- A store pickles as its configuration and opens its engine lazily, once per process. Its ``repr`` is safe to log.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import attrs
from typing_extensions import Protocol, runtime_checkable  # isinstance takes 5-15 µs with those of Python 3.11

from emdstore.errors import EmdstoreError
from emdstore.keys import shown_name

CHUNK_SIZE = 256 * 1024
"""How many bytes a stream moves at a time. Larger chunks cost more page faults than they save calls."""


@attrs.frozen
class ArtifactInfo:
    """What a store knows of an artifact without reading it.

    Attributes
    ----------
    key
        The artifact's key.
    size
        Bytes.
    modified
        When the bytes were last written, in POSIX seconds, as precisely as the store knows.
    version
        The store's own tag of this content, such as an ETag, if it has one. A different tag means another write.
    checksum
        A checksum that the store keeps, if it has one: ``md5:<hex>``, ``md5:<hex>-<parts>`` for the MD5 of the MD5s of
        an upload's parts, or ``crc32c:<hex>``. Bytes that match it are the artifact's; see `emdstore.stores.checksums`.
    changed
        When anything about the artifact last changed, if the store knows that apart from `modified`. Setting a file's
        modification time back changes this time.
    """

    key: str
    size: int
    modified: float
    version: str | None = None
    checksum: str | None = None
    changed: float | None = None

    def is_newer(self, other: ArtifactInfo) -> bool:
        """Tell, by the store's own times, whether this artifact was touched after another one.

        The time of the last change is compared if both have it: nobody can set it, while a copy may keep `modified`.
        """
        if self.changed is not None and other.changed is not None:
            return self.changed > other.changed
        return self.modified > other.modified


@attrs.frozen
class LeftOut:
    """Something in a store that is not an artifact, because no key can name it or it cannot be read.

    Attributes
    ----------
    name
        Its name relative to the store's root. Bytes that are not UTF-8, and control characters, are written as
        ``\\x..``.
    reason
        Why it is left out, as the rest of a sentence that begins with its name.
    error
        The error, if it could not be read.
    """

    name: str = attrs.field(converter=shown_name)
    reason: str
    error: EmdstoreError | None = attrs.field(default=None, eq=False)

    def as_dict(self) -> dict[str, str]:
        """Return it as plain values, for JSON."""
        return {"name": self.name, "reason": self.reason}


@attrs.frozen
class Copied:
    """What a copy session knows about one artifact that it copied.

    Attributes
    ----------
    size
        The number of bytes, or None if they did not pass through this process.
    sha256
        Hex digest of these bytes, or None.
    """

    size: int | None
    sha256: str | None


@attrs.frozen
class Place:
    """Where a store is.

    Attributes
    ----------
    holder
        What holds the bytes: a bucket of one server, the file system, a store in memory. Places with equal holders are
        compared by their paths.
    path
        The store's folder in the holder, without leading or trailing slashes; ``""`` for all of it.
    remote
        Whether the store is on a server, so that each answer takes time.
    shared
        Whether everything in the store is outside this process, so that a fork sees the same and may write for it.
    requests
        How many artifacts may be moved at once.
    retries
        How often a caller should try again after a transient failure.
    together
        How many small files are best copied by one worker at a time, to a local store or from there, where many travel
        over one connection (`CopiesMany`).
    """

    holder: Hashable
    path: str
    remote: bool
    shared: bool
    requests: int
    retries: int = 4
    together: int = 1

    @property
    def server(self) -> Hashable | None:
        """What identifies the server; None if there is none."""
        return self.holder if self.remote else None


@runtime_checkable
class ArtifactStore(Protocol):
    """A place that holds whole artifacts by key."""

    def exists(self, key: str, /) -> bool:
        """Tell whether an artifact lies at the key.

        A mere prefix or directory is not an artifact. A local link that leads out of the root raises `UnsafePathError`.
        """
        ...

    def read_bytes(self, key: str, /) -> bytes:
        """Return the artifact's bytes; ``b""`` is a valid value.

        Raises
        ------
        ArtifactNotFoundError
            If nothing lies at the key.
        """
        ...

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """Put the bytes at the key, in place of what was there, atomically.

        At every instant, also after a crash, every reader sees either the old bytes or the new ones, whole. When the
        call returns, every other process sees the new bytes. If it raises, the old value stays and nothing else shows.

        Raises
        ------
        KeyConflictError
            If the store cannot hold this key beside one that it holds (``a`` beside ``a/b``).
        """
        ...

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """Yield the keys under a folder (``""``: all), lazily, each once, in ascending order of their UTF-8 bytes.

        Unfinished files never show. Everything that any process wrote before the call does, because listings are never
        cached. An empty or absent folder yields nothing; ``run1`` does not contain ``run10/x``.
        """
        ...


@runtime_checkable
class SupportsInfo(Protocol):
    """Size, time and version, of one artifact or along a listing."""

    def info(self, key: str, /) -> ArtifactInfo:
        """Return what is known of the artifact; `ArtifactNotFoundError` if nothing lies at the key."""
        ...

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """Yield the same keys as `iter_keys`, in the same order, each with its info, at the cost of the listing."""
        ...


@runtime_checkable
class SupportsLeftOut(Protocol):
    """Reporting what a listing leaves out, which would otherwise go unnoticed."""

    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        """Yield what `SupportsInfo.iter_info` yields, and what it leaves out, at the cost of one listing.

        Things that are left out come anywhere among the artifacts, each once. A folder that no key can name stands for
        everything in it. A folder that cannot be read, for which `iter_info` raises, is reported here, and the listing
        continues. Unfinished files and empty folders (or an object store's markers for them) are not reported.
        """
        ...


@runtime_checkable
class SupportsDigest(Protocol):
    """Reading and hashing an artifact where it lies, so that its bytes need not be downloaded."""

    def digest(self, key: str, /) -> tuple[int, str]:
        """Return the artifact's size and the SHA-256 (as a hex digest) of its bytes as they are now.

        The bytes are read for this. A digest that was noted earlier, such as when they were written, is not enough.

        Raises
        ------
        ArtifactNotFoundError
            If there is no artifact at the key.
        SourceChangedError
            If what was read is not one whole version.
        """
        ...


class ArtifactReader(AbstractContextManager["ArtifactReader"], Protocol):
    """An artifact that is being read from start to end."""

    @property
    def info(self) -> ArtifactInfo:
        """What was opened; its size is the number of bytes that `read` returns in total."""
        ...

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        """Return the next bytes, at most `size` and at least one, or ``b""`` at the end.

        Raises
        ------
        SourceChangedError
            If what was read is not one whole version; at the latest by the call that would return ``b""``.
        """
        ...


class ArtifactWriter(AbstractContextManager["ArtifactWriter"], Protocol):
    """An artifact that is being written, entirely or not at all.

    Leaving the ``with`` block puts the whole object in place, just as `ArtifactStore.write_bytes` does. Leaving it by
    an exception keeps the old value and removes the unfinished one.
    """

    def write(self, data: bytes, /) -> None:
        """Append bytes."""
        ...


@runtime_checkable
class ExpectsSize(Protocol):
    """What a writer has besides if it matters to it how much will come, and of when."""

    def expect(self, size: int, written_ns: int | None = None, /) -> None:
        """Tell, before the first bytes, how many there will be; it is no error if there are others.

        `written_ns` is when they were written where they come from, in POSIX nanoseconds; see `TellsWritten`.
        """
        ...


@runtime_checkable
class TakesDigest(Protocol):
    """What a writer has besides if it sends the digest of an artifact along with its bytes."""

    def take_digest(self, sha256: str, /) -> None:
        """Tell, after the last bytes, what their SHA-256 is, so that they are not hashed once more."""
        ...


@runtime_checkable
class KnowsWritten(Protocol):
    """What a reader or a session has besides if it knows when the bytes were written, to the nanosecond.

    Attributes
    ----------
    written_ns
        Of the bytes that were opened or read last, in POSIX nanoseconds; None if nobody said it.
    """

    written_ns: int | None


@runtime_checkable
class TellsWritten(Protocol):
    """What a store has besides if its artifacts carry the time at which their bytes were written before they came.

    That is for people and for other tools. Nothing is decided by it, because whoever uploads can say any time:
    `ArtifactInfo.modified` is the store's own.
    """

    def written_ns(self, key: str, /) -> int | None:
        """Return when the artifact's bytes were first written, in POSIX nanoseconds; None if nobody said it.

        Raises
        ------
        ArtifactNotFoundError
            If nothing lies at the key.
        """
        ...


@runtime_checkable
class SupportsStreaming(Protocol):
    """Artifacts larger than memory."""

    def open_reader(self, key: str, /) -> ArtifactReader:
        """Open one version of the artifact for reading; `ArtifactNotFoundError` if nothing lies at the key."""
        ...

    def open_writer(self, key: str, /) -> ArtifactWriter:
        """Open a new version of the artifact for writing; nothing shows until the ``with`` block is left."""
        ...


@runtime_checkable
class SupportsDelete(Protocol):
    """Removal."""

    def delete(self, key: str, /) -> None:
        """Remove the artifact. It is not an error if it is not there."""
        ...


@runtime_checkable
class SupportsCreate(Protocol):
    """Put-if-absent; some S3 sites lack it."""

    def create_bytes(self, key: str, data: bytes, /) -> None:
        """Put the bytes at the key unless something is there; of several racing writers exactly one succeeds.

        Raises
        ------
        ArtifactExistsError
            If something is at the key; it is left alone.
        """
        ...


@runtime_checkable
class SupportsReplaceIf(Protocol):
    """Compare and put: replacing exactly what was seen. For a key that was empty, `SupportsCreate` does this.

    `emdstore.stores.replacing.put_over` chooses between the two, and does its best without them.
    """

    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        """Put the bytes at the key, in place of those with this SHA-256 (as a hex digest).

        If several writers replace the same bytes at once, exactly one succeeds. If the answer to a request is lost, the
        store finds out whether the bytes that are there are its own. In a file system only writers that use this method
        exclude each other: a plain `write_bytes` may come in between.

        Raises
        ------
        ArtifactChangedError
            If other bytes are at the key, or none. They are left alone.
        UnsupportedError
            If this server or file system does not support it. Nothing was changed.
        """
        ...


@runtime_checkable
class SupportsPath(Protocol):
    """Artifacts that are files of this machine."""

    def local_path(self, key: str = "", /) -> Path:
        """Return the path of an artifact, or of the store's root for ``""``.

        It is meant for reading and for comparing places; writing to it is not atomic. It need not exist.

        Raises
        ------
        UnsafePathError
            If a link leads out of the root.
        """
        ...


class CopySession(AbstractContextManager["CopySession"], Protocol):
    """Copies artifacts from one store to another by a shortcut; keeps what is worth keeping between keys."""

    def copy(self, key: str, moved: Callable[[int], object] | None = None, /) -> Copied:
        """Copy one artifact to the same key, entirely or not at all; raises what reading and writing would raise.

        `moved` is called with each number of bytes that moved. If it raises, the copy ends and the old value stays.
        """
        ...


@runtime_checkable
class SupportsCopyFrom(Protocol):
    """A faster way to copy from another store than reading and writing, such as copies on the server."""

    def copy_from(self, source: ArtifactStore, /) -> CopySession | None:
        """Open a session that copies from `source`; return None if there is no faster way from it."""
        ...


@runtime_checkable
class CopiesMany(Protocol):
    """What a copy session has besides if several small artifacts are quicker together than one by one."""

    def copy_many(
        self, keys: Sequence[str], moved: Callable[[int], object] | None = None, /
    ) -> Iterator[Copied | EmdstoreError]:
        """Copy artifacts of 1 MiB at most, and yield for each, in order, what was proved or why it was not copied.

        They are under way at once: when one fails, others after it may have been copied.
        """
        ...


class StoreSession(AbstractContextManager["StoreSession"], Protocol):
    """Reads and writes of one thread, one after the other; keeps what is worth keeping between keys."""

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`."""
        ...

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        ...


@runtime_checkable
class SupportsSession(Protocol):
    """Many small artifacts in a row at less cost, for example because folders stay open."""

    def session(self) -> StoreSession:
        """Open a session. It sees what other processes do meanwhile, as the store itself does."""
        ...


@runtime_checkable
class SupportsScope(Protocol):
    """A native store for one folder."""

    def scope(self, prefix: str, /) -> Self:
        """Return a store whose root is this folder; see `emdstore.scoped`."""
        ...


@runtime_checkable
class SupportsFlush(Protocol):
    """Making written bytes safe from a power cut."""

    def flush(self) -> None:
        """Make everything that was written before the call survive a power cut."""
        ...


@runtime_checkable
class SupportsPlace(Protocol):
    """Telling where the store is. Without this, emdstore assumes that only this process sees it."""

    def place(self) -> Place:
        """Return where the store is, without asking a server."""
        ...
