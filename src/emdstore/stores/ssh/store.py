"""Artifacts as files of another machine, by SSH.

The transport is the OpenSSH client of the user: see `emdstore.stores.ssh.connection`. Over it there are two ways. For
``ssh://`` a small program runs over there (`emdstore.stores.ssh.program`), which keeps what `LocalArtifactStore` keeps
here. For ``sftp://``, and where no program can run, it is SFTP (`emdstore.stores.ssh.sftp`).

There is no native scope, so that a folder of a store uses the connections of the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import attrs

from emdstore.errors import ArtifactChangedError, ArtifactExistsError, StoreUnavailableError
from emdstore.keys import validate_key, validate_prefix
from emdstore.per_process import PerProcess
from emdstore.stores.checksums import sha256_of
from emdstore.stores.left_out import only_artifacts
from emdstore.stores.local.root import Durability, Root
from emdstore.stores.local.store import LocalArtifactStore
from emdstore.stores.place import most_requests
from emdstore.stores.port import (
    ArtifactInfo,
    ArtifactReader,
    ArtifactStore,
    ArtifactWriter,
    CopySession,
    LeftOut,
    Place,
)
from emdstore.stores.replacing import digest_at
from emdstore.stores.ssh import sftp_copies
from emdstore.stores.ssh.address import Address, parse_address
from emdstore.stores.ssh.copies import FetchFiles, SendFiles
from emdstore.stores.ssh.farend import FarEnd
from emdstore.stores.ssh.lines import MOST_CONNECTIONS, Lines, Way, lines_of
from emdstore.stores.ssh.side import FarSide

_TOGETHER = 256
"""How many small files a worker sends or fetches one behind the other, without waiting for answers."""


@attrs.frozen(repr=False, kw_only=True)
class SSHArtifactStore:
    """A folder of another machine that is reached by SSH. Needs the OpenSSH client there is on nearly every machine.

    Attributes
    ----------
    url
        ``ssh://[user@]host[:port]/path`` or ``sftp://...``; ``/~`` and ``/~/path`` begin at your home over there.
        ``ssh://`` runs a small program there, for which it needs Python 3.6 or newer, and nothing installed; where that
        cannot be it says so and goes on with SFTP. ``sftp://`` runs nothing over there.
    rsh
        The SSH client with its options, as ``rsync -e`` takes it; by default ``EMDSTORE_SSH``, or ``ssh``. Keys,
        agents, jump hosts and all else are set up as for ``ssh``. It asks for nothing where there is no terminal.
    timeout
        Seconds without any answer after which a connection is given up.
    connect_timeout
        Seconds until the machine has to answer, where ``~/.ssh/config`` has no ``ConnectTimeout``.
    retries
        How often a transfer tries again what failed for a passing reason.
    durability
        What a finished write means for a power cut over there; see `LocalArtifactStore`.
    connections
        How many connections to hold, four at most. By default one, and two where an answer takes more than 5 ms.
    """

    url: str = attrs.field(kw_only=False)
    rsh: str | None = attrs.field(default=None, eq=False)
    timeout: float = attrs.field(default=20.0, eq=False)
    connect_timeout: float = attrs.field(default=10.0, eq=False)
    retries: int = attrs.field(default=4, eq=False)
    durability: Durability = attrs.field(default="system", validator=attrs.validators.in_(("system", "object")))
    connections: int | None = attrs.field(
        default=None,
        eq=False,
        validator=attrs.validators.optional(
            [attrs.validators.instance_of(int), attrs.validators.ge(1), attrs.validators.le(MOST_CONNECTIONS)]
        ),
    )
    address: Address = attrs.field(
        init=False, eq=False, default=attrs.Factory(lambda self: parse_address(self.url), takes_self=True)
    )
    _lines: PerProcess[Lines] = attrs.field(
        init=False, eq=False, default=attrs.Factory(lambda self: self._stand(), takes_self=True)
    )

    def __new__(cls, url: str, **options: Any) -> Any:
        """Return the store for the URL."""
        compares = cls is SSHArtifactStore and isinstance(url, str) and url.partition("://")[0] == "ssh"
        kind: Any = _ComparingStore if compares else cls
        return super().__new__(kind)

    def _stand(self) -> PerProcess[Lines]:
        way = Way(self.address, self.rsh, self.timeout, self.connect_timeout, self.durability, self.connections)
        name = repr(self)
        return PerProcess(lambda: lines_of(way, name))

    def __repr__(self) -> str:
        return f"SSHArtifactStore({self.address.url!r})"

    def __reduce__(self) -> tuple[object, ...]:
        options = {f.name: getattr(self, f.name) for f in attrs.fields(type(self)) if f.init and f.name != "url"}
        return _open_again, (type(self), self.url, options)

    # -- the port ------------------------------------------------------------------------------------------------

    def exists(self, key: str, /) -> bool:
        """See `ArtifactStore.exists`."""
        validate_key(key)
        return self._lines.get().call(lambda side: side.exists(key))

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`; `SourceChangedError` if the file was changed in place meanwhile."""
        validate_key(key)
        return self._lines.get().call(lambda side: side.read_bytes(key))

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        validate_key(key)
        self._lines.get().call(lambda side: side.write_bytes(key, data))

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """See `ArtifactStore.iter_keys`; what it leaves out is what `LocalArtifactStore.iter_keys` does."""
        return (found.key for found in self.iter_info(prefix))

    # -- capabilities --------------------------------------------------------------------------------------------

    def info(self, key: str, /) -> ArtifactInfo:
        """See `SupportsInfo.info`."""
        validate_key(key)
        return self._lines.get().call(lambda side: side.info(key))

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """See `SupportsInfo.iter_info`."""
        return only_artifacts(self.iter_found(prefix), repr(self))

    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        """See `SupportsLeftOut.iter_found`."""
        validate_prefix(prefix)
        self._lines.get().begin()  # what the caller does before it reads on is done while the user is logged in
        return self._iter_found(prefix)

    def _iter_found(self, prefix: str) -> Iterator[ArtifactInfo | LeftOut]:
        def begin(side: FarSide) -> tuple[Iterator[ArtifactInfo | LeftOut], ArtifactInfo | LeftOut | None]:
            found = side.iter_found(prefix)
            return found, next(found, None)

        found, first = self._lines.get().call(begin)
        if first is not None:
            yield first
            yield from found

    def digest(self, key: str, /) -> tuple[int, str]:
        """See `SupportsDigest.digest`: by the program over there. With SFTP the bytes are downloaded for it."""
        validate_key(key)
        return self._lines.get().call(lambda side: side.digest(key) if isinstance(side, FarEnd) else _hashed(side, key))

    def open_reader(self, key: str, /) -> ArtifactReader:
        """See `SupportsStreaming.open_reader`."""
        validate_key(key)
        return self._lines.get().call(lambda side: side.open_reader(key))

    def open_writer(self, key: str, /) -> ArtifactWriter:
        """See `SupportsStreaming.open_writer`."""
        validate_key(key)
        return self._lines.get().call(lambda side: side.open_writer(key))

    def create_bytes(self, key: str, data: bytes, /) -> None:
        """See `SupportsCreate.create_bytes`: by a hard link over there, or as a local store does without.

        If the connection is cut before the answer comes, equal bytes at the key are taken for ours.
        """
        validate_key(key)
        self._once(lambda side: side.create_bytes(key, data), key, data)

    def _once(self, ask: Any, key: str, data: bytes) -> None:
        """Ask for what must not happen twice; after a cut, look whether it has happened, and ask again if not."""
        lines = self._lines.get()
        try:
            lines.call(ask, again=False)
        except StoreUnavailableError:
            if digest_at(self, key) == sha256_of(data):
                return
            try:
                lines.call(ask, again=False)
            except (ArtifactExistsError, ArtifactChangedError):
                if digest_at(self, key) != sha256_of(data):
                    raise

    def delete(self, key: str, /) -> None:
        """See `SupportsDelete.delete`. Folders that become empty go too."""
        validate_key(key)
        self._lines.get().call(lambda side: side.delete(key))

    def place(self) -> Place:
        """See `SupportsPlace.place`."""
        holder = "ssh", self.address.user, self.address.host, self.address.port
        path = self.address.root.strip("/") if self.address.root.startswith("/") else "~/" + self.address.root
        return Place(
            holder,
            path.removesuffix("/."),
            remote=True,
            shared=True,
            requests=most_requests(),
            retries=self.retries,
            together=_TOGETHER,
        )

    def copy_from(self, source: ArtifactStore, /) -> CopySession | None:
        """See `SupportsCopyFrom.copy_from`: from a folder of this machine."""
        if not isinstance(source, LocalArtifactStore):
            return None
        lines = self._lines.get()
        return (SendFiles if lines.run_program else sftp_copies.SendFiles)(source.ground, lines)

    def files_to(self, root: Root, /) -> CopySession | None:
        """See `BringsFiles.files_to`."""
        lines = self._lines.get()
        return (FetchFiles if lines.run_program else sftp_copies.FetchFiles)(root, lines)

    def flush(self) -> None:
        """See `SupportsFlush.flush`: the file system over there, as far as that can be asked."""
        self._lines.get().call(lambda side: side.flush())

    def remove_staging(self, *, older_than: float = 3600.0, dry_run: bool = False) -> tuple[str, ...]:
        """Remove what writers that were killed left behind; see `LocalArtifactStore.remove_staging`."""
        return self._lines.get().call(lambda side: side.remove_staging(older_than, dry_run))

    def close(self) -> None:
        """Close the connections; the next request opens another. They also end with the process."""
        self._lines.get().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self.close()


@attrs.frozen(repr=False, kw_only=True)
class _ComparingStore(SSHArtifactStore):
    """With a program over there, which can compare and put under a lock; SFTP cannot."""

    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        """See `SupportsReplaceIf.replace_bytes`: under the lock that local stores over there take, too."""
        validate_key(key)
        self._once(lambda side: side.replace_bytes(key, data, seen), key, data)


def _hashed(side: FarSide, key: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with side.open_reader(key) as reader:
        while data := reader.read():
            digest.update(data)
            size += len(data)
    return size, digest.hexdigest()


def _open_again(kind: type[SSHArtifactStore], url: str, options: dict[str, Any]) -> SSHArtifactStore:
    return kind(url, **options)
