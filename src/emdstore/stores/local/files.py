"""Reading one file of a `LocalArtifactStore` entirely or not at all, and what the system tells of files."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Callable
from types import TracebackType
from typing import Self

import attrs

from emdstore.errors import SourceChangedError
from emdstore.stores.local.root import Root
from emdstore.stores.port import CHUNK_SIZE, ArtifactInfo

READ_BUFFER = 1024 * 1024


def describe(key: str, status: os.stat_result) -> ArtifactInfo:
    """Return an artifact's info from the status of its file."""
    version = f"{status.st_mtime_ns:x}-{status.st_ino:x}"
    return ArtifactInfo(key, status.st_size, status.st_mtime_ns / 1e9, version, changed=status.st_ctime_ns / 1e9)


def read_whole(fd: int, before: os.stat_result, key: str) -> bytes:
    """Return all bytes of an open file; `SourceChangedError` if it changes meanwhile."""
    # One byte more than expected shows, without another call, that the file has grown.
    data = os.read(fd, before.st_size + 1)
    if data and not before.st_size:
        data += b"".join(iter(lambda: os.read(fd, READ_BUFFER), b""))
    while len(data) < before.st_size:  # only a very large file, or one that was cut off, comes in parts
        more = os.read(fd, before.st_size + 1 - len(data))
        if not more:
            break
        data += more
    check_unchanged(before, os.fstat(fd), len(data), key)
    return data


def is_program(status: os.stat_result) -> bool:
    """Tell whether somebody may run a file, which its copy keeps."""
    return bool(status.st_mode & 0o111)


def let_run(fd: int) -> None:
    """Let whoever may read an open file run it, within the umask."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    os.fchmod(fd, mode | (mode & 0o444) >> 2)


def check_unchanged(before: os.stat_result, after: os.stat_result, size: int, key: str) -> None:
    """Raise `SourceChangedError` if a file of which `size` bytes were read has changed meanwhile.

    The system says of some files that they have 0 bytes, and then returns more (`/proc`, mounts of cloud drives). These
    are believed if they were read to the end.
    """
    if (
        (size != before.st_size and before.st_size)
        or after.st_size != before.st_size
        or after.st_mtime_ns != before.st_mtime_ns
    ):
        raise SourceChangedError(
            f"{key!r} changed while it was read ({before.st_size} bytes before, {after.st_size} after); "
            "run it again when its writer is done",
            key=key,
        )


class FileReader:
    """An open file that is checked, at its end, for changes since it was opened."""

    def __init__(self, root: Root, key: str) -> None:
        self._root, self._read = root, 0
        with root.translating("open", key):
            self._fd, self._before = root.open_file(key)
        self.info = describe(key, self._before)
        self.written_ns: int | None = self._before.st_mtime_ns
        if not self._before.st_size:
            self._measure()

    def _measure(self) -> None:
        """Read a file that claims to have 0 bytes, because `info` must say how many bytes come."""
        import tempfile  # seldom needed

        try:
            spool = None
            while data := os.read(self._fd, READ_BUFFER):
                if spool is None:
                    spool = tempfile.TemporaryFile()  # noqa: SIM115 - its descriptor takes the other's place
                spool.write(data)
        except OSError as error:
            os.close(self._fd)
            self._root.raise_error(error, self.info.key, "read")
        if spool is None:
            return
        with spool:
            check_unchanged(self._before, os.fstat(self._fd), spool.tell(), self.info.key)
            spool.flush()
            os.dup2(spool.fileno(), self._fd, inheritable=False)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._before = os.fstat(self._fd)
        self.info = attrs.evolve(self.info, size=self._before.st_size)

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        """See `ArtifactReader.read`."""
        try:
            data = os.read(self._fd, size)
        except OSError as error:
            self._root.raise_error(error, self.info.key, "read")
        self._read += len(data)
        if not data and size:
            with self._root.translating("read", self.info.key):
                check_unchanged(self._before, os.fstat(self._fd), self._read, self.info.key)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        with contextlib.suppress(OSError):  # what was read is whole
            os.close(self._fd)


def sync_file_system(fd: int) -> None:
    """Flush the whole file system that an open file lies in."""
    _syncfs()(fd)


@functools.cache
def _syncfs() -> Callable[[int], object]:
    import ctypes  # opened only for this

    try:
        call = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):  # not Linux
        return lambda _: os.sync()

    def syncfs(fd: int) -> None:
        if call(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    return syncfs


# -- copying -------------------------------------------------------------------------------------------------------
