"""One folder of an SFTP server, as the far side of a store.

*Whole objects only.* New bytes go to an unfinished file beside their place, which is renamed over it once the server
has answered to every write and to the close. The one rename that replaces is ``posix-rename@openssh.com``, rename(2) on
the server: readers see the old bytes or the new. A server without it can take new artifacts, by SFTP's own rename,
which refuses a name that is taken; to replace one is refused, since to remove it first would leave nothing there if the
connection were cut just then.

*Put-if-absent* is ``hardlink@openssh.com``: link(2) fails if the name is taken, whoever races. SFTP's own rename is not
used for that: OpenSSH does it by link(2), too, but falls back to a look and a rename where the file system has no
links, and does not tell; others only look. *Compare-and-put* is beyond SFTP: it has no locks, and no condition on a
rename.

*Durable* is what ``fsync@openssh.com`` has flushed: with ``durability="object"`` each file before its rename and its
folder after it (where the server opens folders like files, as OpenSSH does), otherwise what was written since, when
`flush` is called. A server without the extension refuses the first, and for the second it is said once in the log.

*Times* are whole seconds, without the time of the last change and without a number of the file: see `files.describe`.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator
from typing import Generic

from emdstore.errors import ArtifactNotFoundError, UnsupportedError
from emdstore.stores.port import ArtifactInfo, LeftOut
from emdstore.stores.ssh.sftp import files, listing, wire
from emdstore.stores.ssh.sftp.client import PATIENCE, Client, Pipes, Steps, T, Task
from emdstore.stores.ssh.sftp.files import Reader, Writer
from emdstore.stores.ssh.sftp.ground import Durability, Ground
from emdstore.stores.ssh.side import round_trip_of

_LARGE = 1024 * 1024
_MOST_UNFLUSHED = 10_000
_MOST_FILES = 256
_FEW_FILES = 16  # until it is known how large they are
_MOST_BYTES = 16 * 1024 * 1024
_SMALL = 64 * 1024

_log = logging.getLogger(__name__)


class Pending(Generic[T]):
    """Something that is under way with one artifact."""

    __slots__ = ("_ground", "_key", "_task")

    def __init__(self, ground: Ground, key: str, task: Task[T]) -> None:
        self._ground, self._key, self._task = ground, key, task

    @property
    def is_done(self) -> bool:
        """Whether nobody has to wait."""
        return self._task.is_done

    def result(self) -> T:
        """Wait for the result; return it, or raise its error."""
        with self._ground.telling(self._key):
            return self._task.result()

    def give_up(self) -> None:
        """Let it clean up as soon as the server answers, without waiting for it."""
        self._task.given_up = True


class Ahead:
    """What is under way of small artifacts over one connection, for all threads together, so that memory is bounded."""

    def __init__(self) -> None:
        self._files = self._bytes = 0
        self._unknown = _FEW_FILES  # how many sizes are still to be learned before more is under way
        self._usual = _SMALL
        self._lock = threading.Lock()

    @property
    def has_room(self) -> bool:
        """Whether more is to be under way; a thread that has nothing under way takes one artifact all the same."""
        most = _FEW_FILES if self._unknown > 0 else _MOST_FILES
        return self._files < most and self._bytes < _MOST_BYTES

    def begin(self, size: int | None = None) -> int:
        """Note an artifact; return the number of bytes that it counts for, to be passed to `end`."""
        with self._lock:
            if size is not None:
                self._unknown = 0
            taken = self._usual if size is None else size
            self._files += 1
            self._bytes += taken
            return taken

    def end(self, taken: int, size: int | None = None) -> None:
        """Note that it is done, and its real size."""
        with self._lock:
            self._files -= 1
            self._bytes -= taken
            if size is not None:
                self._unknown -= 1
                self._usual = (7 * self._usual + size) // 8


class Sftp:
    """See `FarSide`.

    Parameters
    ----------
    connection
        To the server's SFTP; it is closed with this.
    root
        The folder: an absolute path, or one relative to the user's home; ``"."`` is the home. It need not exist: the
        first write makes it. It may be a link.
    name
        The store, as errors name it.
    durability
        See `LocalArtifactStore`.
    patience
        Seconds that the server may be silent while something is asked of it.
    opening
        Seconds that it may take to greet.

    Attributes
    ----------
    sent_ahead, asked_ahead
        What whoever begins to write or read takes note of.

    Raises
    ------
    EmdstoreError
        If the connection ends first, or what is at its other end is no SFTP server.
    """

    def __init__(
        self,
        connection: Pipes,
        root: str,
        name: str,
        durability: Durability = "system",
        *,
        patience: float = PATIENCE,
        opening: float = 2 * PATIENCE,
    ) -> None:
        self._client = Client(connection, name, patience=patience, opening=opening)
        weakref.finalize(self, self._client.close, wait=False)
        self._ground = Ground(self._client, root, name, durability)
        self._round_trip = round_trip_of(lambda: self._run("", _ask(wire.real_path("."))))
        self.sent_ahead, self.asked_ahead = Ahead(), Ahead()
        self._unflushed: dict[str, None] = {}
        self._has_told = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<SFTP of {self._ground.name}>"

    @property
    def is_cut(self) -> bool:
        """See `FarSide.is_cut`."""
        return self._client.is_lost

    @property
    def round_trip(self) -> float:
        """See `FarSide.round_trip`."""
        return self._round_trip

    def _run(self, key: str, steps: Steps[T]) -> T:
        with self._ground.telling(key):
            return self._client.run(steps)

    # -- reading ---------------------------------------------------------------------------------------------------

    def exists(self, key: str) -> bool:
        """See `ArtifactStore.exists`."""
        try:
            self._run(key, self._ground.look(key))
        except ArtifactNotFoundError:
            return False
        return True

    def info(self, key: str) -> ArtifactInfo:
        """See `SupportsInfo.info`."""
        return files.describe(key, self._run(key, self._ground.look(key)))

    def read_bytes(self, key: str) -> bytes:
        """See `ArtifactStore.read_bytes`; `SourceChangedError` if the file was changed in place meanwhile."""
        return self._run(key, self._read(key))[0]

    def begin_read(self, key: str) -> Pending[tuple[bytes, bool]]:
        """Begin to read an artifact; the result is its bytes, and whether it is a program."""
        return Pending(self._ground, key, self._client.start(self._read(key)))

    def _read(self, key: str) -> Steps[tuple[bytes, bool]]:
        data, told = yield from files.read_whole(self._ground, key)
        return data, bool((told.mode or 0) & 0o111)

    def open_reader(self, key: str) -> Reader:
        """See `SupportsStreaming.open_reader`."""
        return Reader(self._ground, key)

    def iter_found(self, prefix: str) -> Iterator[ArtifactInfo | LeftOut]:
        """See `SupportsLeftOut.iter_found`."""
        return listing.iter_found(self._ground, prefix)

    # -- writing ---------------------------------------------------------------------------------------------------

    def write_bytes(self, key: str, data: bytes) -> None:
        """See `ArtifactStore.write_bytes`."""
        if len(data) > _LARGE:
            with self.open_writer(key) as writer:
                writer.write(data)
        else:
            self._flush_if_much()
            self._run(key, self._write(key, data, False, False))

    def begin_write(self, key: str, data: bytes, *, is_program: bool = False) -> Pending[None]:
        """Begin to write an artifact, perhaps as a program."""
        self._flush_if_much()
        return Pending(self._ground, key, self._client.start(self._write(key, data, False, is_program)))

    def _write(self, key: str, data: bytes, create: bool, is_program: bool) -> Steps[None]:
        yield from files.write_whole(self._ground, key, data, create=create, is_program=is_program)
        self._note(key)

    def create_bytes(self, key: str, data: bytes) -> None:
        """See `SupportsCreate.create_bytes`; `UnsupportedError` where the server, or the folder, has no hard links."""
        self._flush_if_much()
        self._run(key, self._write(key, data, True, False))

    def replace_bytes(self, key: str, data: bytes, seen: str) -> None:
        """Raise `UnsupportedError`: SFTP cannot compare and put at once."""
        raise UnsupportedError(
            f"cannot replace {key!r} in {self._ground.name} on condition: SFTP has no way to compare and put at once; "
            "nothing was changed",
            key=key,
            store=self._ground.name,
        )

    def open_writer(self, key: str, *, is_program: bool = False) -> Writer:
        """See `SupportsStreaming.open_writer`."""
        self._flush_if_much()
        return Writer(self._ground, key, self._note, is_program=is_program)

    def delete(self, key: str) -> None:
        """See `SupportsDelete.delete`; folders that become empty go too."""
        try:
            self._run(key, files.remove(self._ground, key))
        except ArtifactNotFoundError:
            return

    def remove_staging(self, older_than: float, dry_run: bool) -> tuple[str, ...]:
        """See `LocalArtifactStore.remove_staging`; what is old, the server's clock tells."""
        return listing.remove_staging(self._ground, older_than=older_than, dry_run=dry_run)

    # -- durability ------------------------------------------------------------------------------------------------

    def _note(self, key: str) -> None:
        """Note that something is to be flushed."""
        if self._ground.durability == "system" and self._ground.has(wire.FSYNC):
            with self._lock:
                self._unflushed[key] = None

    def _flush_if_much(self) -> None:
        """Flush before the names of written files take too much memory."""
        if len(self._unflushed) >= _MOST_UNFLUSHED:
            self.flush()

    def flush(self) -> None:
        """See `SupportsFlush.flush`: what was written here, file by file, many at a time, and then their folders."""
        if self._ground.durability == "object":
            return
        if not self._ground.has(wire.FSYNC):
            if not self._has_told:
                self._has_told = True
                _log.warning(
                    "%s cannot flush what was written: its server lacks %s; a power cut there may take it",
                    self._ground.name,
                    wire.FSYNC,
                )
            return
        with self._lock:
            keys, self._unflushed = self._unflushed, {}
        try:
            self._all(keys, files.flush_file)
            self._all(dict.fromkeys(key.rpartition("/")[0] for key in keys), files.flush_folder)
        except BaseException:
            with self._lock:
                self._unflushed = keys | self._unflushed
            raise

    def _all(self, keys: dict[str, None], steps: files.StepsOf) -> None:
        tasks = [(key, self._client.start(steps(self._ground, key))) for key in keys]
        for key, task in tasks:
            with self._ground.telling(key):
                task.result()

    def close(self) -> None:
        """See `FarSide.close`."""
        if not self._client.is_lost:
            self._client.give_up()
            for path in list(self._ground.unfinished):  # of streams that nobody writes to now
                self._client.post(wire.remove(path))
            self._client.give_up()
        self._client.close()


def _ask(request: wire.Request) -> Steps[wire.Answer]:
    answer: wire.Answer = yield request
    return answer
