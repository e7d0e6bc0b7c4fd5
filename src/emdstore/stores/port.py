"""The port: what a store of artifacts is.

`ArtifactStore` has four methods, and four are enough to take part in everything: transfer, materialize, publish,
ingest, replay, verify. It is not a file-system interface on purpose. There are no directories, no seeking, no appending
and no partial objects, because a published result is a whole object at a key or it is not there; what a store cannot
promise on every back end is not in the port.

What a store can do beyond that is found by `isinstance` with one small Protocol per verb, and used where both sides
have it: `SupportsInfo`, `SupportsStreaming`, `SupportsDelete`, `SupportsCreate`, `SupportsReplaceIf`, `SupportsPath`,
`SupportsCopyFrom`, `SupportsSession`, `SupportsScope`, `SupportsFlush`, `SupportsPlace`, `SupportsLeftOut`.
`emdstore.testing` has the contract as a test suite that any adapter can be enrolled in.

For every store:

- Keys and prefixes are checked by `emdstore.keys` before any I/O; `InvalidKeyError` otherwise.
- Errors are of `emdstore.errors`: `StoreUnavailableError` where trying again may help, `StoreError` where it will not.
- A store pickles as its configuration and opens its engine lazily, once per process. Its ``repr`` is safe to log.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import attrs

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
        When the bytes were last written, POSIX seconds, as exact as the store keeps it.
    version
        The store's own tag of this content (an ETag, say), where it has one; another tag means another write.
    checksum
        A checksum that the store keeps by itself, where it has one: ``md5:<hex>``, ``md5:<hex>-<parts>`` for the MD5 of
        the MD5s of an upload's parts, or ``crc32c:<hex>``. Bytes that have it are the artifact's; see
        `emdstore.stores.checksums`.
    changed
        When anything about the artifact last changed, where the store tells that apart from `modified`: whoever sets a
        file's modification time back changes it now.
    """

    key: str
    size: int
    modified: float
    version: str | None = None
    checksum: str | None = None
    changed: float | None = None

    def is_newer(self, other: ArtifactInfo) -> bool:
        """Tell whether the artifact was touched after another one of its store was, by the store's own times.

        By the time of the last change where both have it: nobody can set that, and a copy may keep the other.
        """
        if self.changed is not None and other.changed is not None:
            return self.changed > other.changed
        return self.modified > other.modified


@attrs.frozen
class LeftOut:
    """Something that lies at a store's place and is no artifact, because no key can name it or nobody can read it.

    Attributes
    ----------
    name
        What it is called, relative to the store's root, as far as text can show it: bytes that are no UTF-8 and
        control characters as ``\\x..``.
    reason
        Why it is left out, as a sentence that goes on from its name.
    error
        For what could not be read: the error of the attempt.
    """

    name: str = attrs.field(converter=shown_name)
    reason: str
    error: EmdstoreError | None = attrs.field(default=None, eq=False)

    def as_dict(self) -> dict[str, str]:
        """Return it as plain values, for JSON."""
        return {"name": self.name, "reason": self.reason}


@attrs.frozen
class Copied:
    """What a copy session proved of one artifact that it copied.

    Attributes
    ----------
    size
        Bytes that passed through, or None where none passed through this process.
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
        What holds the bytes: a bucket of one server, the file system, a store in memory. Two places with equal holders
        are compared by their paths.
    path
        The store's folder in there, without slashes at its ends; ``""`` for all of it.
    remote
        Whether a server answers, so that each answer takes its time.
    shared
        Whether all that the store holds is outside of this process, so that a fork sees the same and may write for it.
    requests
        How many artifacts may be under way at once, at most.
    retries
        How often whoever moves an artifact is to try again what failed for a passing reason.
    """

    holder: Hashable
    path: str
    remote: bool
    shared: bool
    requests: int
    retries: int = 4


@runtime_checkable
class ArtifactStore(Protocol):
    """A place that holds whole artifacts by key."""

    def exists(self, key: str, /) -> bool:
        """Tell whether an artifact lies at the key.

        A mere prefix or directory is no artifact. A local link that leads out of the root raises `UnsafePathError`.
        """
        ...

    def read_bytes(self, key: str, /) -> bytes:
        """Return the artifact's bytes; ``b""`` is a value.

        Raises
        ------
        ArtifactNotFoundError
            If nothing lies at the key.
        """
        ...

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """Put the bytes at the key, in place of what was there, atomically.

        Every reader at every instant, also after a crash, sees the old bytes or the new, whole. When the call returns,
        the new bytes are there for every other process. When it raises, the old value stays and nothing else shows.

        Raises
        ------
        KeyConflictError
            If the store cannot hold this key beside one that it holds (``a`` beside ``a/b``).
        """
        ...

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """Yield the keys under a folder (``""``: all), lazily, each once, in ascending order of their UTF-8 bytes.

        Staging files never show, and what any process wrote before the call does: listings are never cached. An empty
        or absent folder yields nothing; ``run1`` is no folder of ``run10/x``.
        """
        ...


@runtime_checkable
class SupportsInfo(Protocol):
    """Size, time and version, one by one or along a listing."""

    def info(self, key: str, /) -> ArtifactInfo:
        """Return what is known of the artifact; `ArtifactNotFoundError` if nothing lies at the key."""
        ...

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """Yield the same keys as `iter_keys`, in the same order, each with its info, at the cost of the listing."""
        ...


@runtime_checkable
class SupportsLeftOut(Protocol):
    """Telling of a listing what it leaves out, which otherwise nobody would miss."""

    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        """Yield what `SupportsInfo.iter_info` yields, and what it leaves out, at the cost of one listing.

        What is left out comes at some place among the artifacts, each once; a folder that no key can name stands for
        all that is in it. A folder that cannot be read, for which `iter_info` raises, is left out here, and the listing
        goes on. Staging files and empty folders (or an object store's empty markers for them) are nothing.
        """
        ...


class ArtifactReader(AbstractContextManager["ArtifactReader"], Protocol):
    """An artifact that is being read from start to end."""

    @property
    def info(self) -> ArtifactInfo:
        """What was opened: the size is that of the bytes that `read` will give in all."""
        ...

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        """Return the next bytes, at most `size` and at least one, or ``b""`` at the end.

        Raises
        ------
        SourceChangedError
            At the latest by the call that would return ``b""``, if what was read is not one whole version.
        """
        ...


class ArtifactWriter(AbstractContextManager["ArtifactWriter"], Protocol):
    """An artifact that is being written, all or nothing.

    Leaving the ``with`` block puts the whole object in place, exactly as `ArtifactStore.write_bytes` would; leaving it
    by an exception keeps the old value and removes what was staged.
    """

    def write(self, data: bytes, /) -> None:
        """Append bytes."""
        ...


@runtime_checkable
class SupportsStreaming(Protocol):
    """Objects larger than memory."""

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
        """Remove the artifact. To remove what is not there is no error: afterwards it is not there."""
        ...


@runtime_checkable
class SupportsCreate(Protocol):
    """Put-if-absent; some S3 sites lack it."""

    def create_bytes(self, key: str, data: bytes, /) -> None:
        """Put the bytes at the key unless something lies there; of several racing writers exactly one succeeds.

        Raises
        ------
        ArtifactExistsError
            If something lies at the key; it is left as it was.
        """
        ...


@runtime_checkable
class SupportsReplaceIf(Protocol):
    """Compare and put: to replace what one has seen, and nothing else. `SupportsCreate` is that for what is not there.

    `emdstore.stores.replacing.put_over` chooses between the two, and does what can be done without them.
    """

    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        """Put the bytes at the key in place of those with this SHA-256 (as a hex digest).

        Of several that replace the same bytes at once, exactly one succeeds. Where the answer to a request may be lost,
        the store tells its own bytes from somebody else's. In a folder of a file system it is only those who replace so
        that keep out of each other's way: a plain `write_bytes` may come between.

        Raises
        ------
        ArtifactChangedError
            If other bytes lie at the key, or none. They are left as they were.
        UnsupportedError
            If this server or file system cannot do it. Nothing was changed.
        """
        ...


@runtime_checkable
class SupportsPath(Protocol):
    """Artifacts that are files of this machine."""

    def local_path(self, key: str = "", /) -> Path:
        """Return the path of an artifact, or of the store's root for ``""``.

        The path is for reading and for comparing places; writing through it is not atomic. It need not exist.

        Raises
        ------
        UnsafePathError
            If a link leads it out of the root.
        """
        ...


class CopySession(AbstractContextManager["CopySession"], Protocol):
    """Copies artifacts from one store to another by a way that both know; holds what is worth keeping between keys."""

    def copy(self, key: str, moved: Callable[[int], object] | None = None, /) -> Copied:
        """Copy one artifact to the same key, whole or not at all, with the errors of reading and of writing.

        `moved` is called with the count of bytes that have just moved; what it raises ends the copy, and the old value
        stays.
        """
        ...


@runtime_checkable
class SupportsCopyFrom(Protocol):
    """A way to take artifacts from another store that beats reading and writing them, such as copies on the server."""

    def copy_from(self, source: ArtifactStore, /) -> CopySession | None:
        """Open a session that copies from `source`, or return None where there is no such way from it."""
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
    """Reads and writes of one thread, one after the other; holds what is worth keeping between keys."""

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`."""
        ...

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        ...


@runtime_checkable
class SupportsSession(Protocol):
    """Many small artifacts in a row, cheaper than one by one: folders that stay open, say."""

    def session(self) -> StoreSession:
        """Open a session. What other processes do meanwhile shows in it as in the store itself."""
        ...


@runtime_checkable
class SupportsScope(Protocol):
    """A native store of one folder."""

    def scope(self, prefix: str, /) -> Self:
        """Return the store whose root is this folder of this store; see `emdstore.scoped`."""
        ...


@runtime_checkable
class SupportsFlush(Protocol):
    """Written bytes that a power cut could still take, as on a local disk."""

    def flush(self) -> None:
        """Return when everything that was written before the call survives a power cut."""
        ...


@runtime_checkable
class SupportsPlace(Protocol):
    """Knowing where it is; of a store that does not say, the least is assumed: that nobody else sees it."""

    def place(self) -> Place:
        """Return where the store is, without asking a server."""
        ...
