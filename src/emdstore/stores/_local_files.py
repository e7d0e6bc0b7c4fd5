"""Reading, writing and copying one file of a `LocalStore`, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from emdstore.errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    KeyConflictError,
    SourceChangedError,
    StoreUnavailableError,
)
from emdstore.keys import STAGING_PREFIX, validate_key
from emdstore.stores.port import CHUNK_SIZE, ArtifactInfo, Copied

if TYPE_CHECKING:
    from emdstore.stores.local import LocalStore

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: to open a FIFO that somebody left in the tree must not wait for its writer.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
STAGE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

MOST_RACES = 20
COPY_BUFFER = 1024 * 1024


def describe(key: str, status: os.stat_result) -> ArtifactInfo:
    return ArtifactInfo(key, status.st_size, status.st_mtime_ns / 1e9, f"{status.st_mtime_ns:x}-{status.st_ino:x}")


# -- reading -------------------------------------------------------------------------------------------------------


def read_whole(fd: int, key: str) -> bytes:
    before = os.fstat(fd)
    # One byte more than expected: a file that grows meanwhile shows by it, without another call.
    data = os.read(fd, before.st_size + 1)
    while len(data) < before.st_size:  # only a very large file, or one that was cut off, comes in parts
        more = os.read(fd, before.st_size + 1 - len(data))
        if not more:
            break
        data += more
    check_unchanged(before, os.fstat(fd), len(data), key)
    return data


def check_unchanged(before: os.stat_result, after: os.stat_result, size: int, key: str) -> None:
    if size != before.st_size or after.st_size != before.st_size or after.st_mtime_ns != before.st_mtime_ns:
        raise SourceChangedError(
            f"{key!r} changed while it was read ({before.st_size} bytes before, {after.st_size} after); "
            "run it again when its writer is done",
            key=key,
        )


class FileReader:
    """An open file, checked at its end against what it was when it was opened."""

    def __init__(self, store: LocalStore, key: str, fd: int) -> None:
        self._store, self._fd, self._read = store, fd, 0
        self._before = os.fstat(fd)
        self.info = describe(key, self._before)

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        try:
            data = os.read(self._fd, size)
        except OSError as error:
            self._store._raise(error, self.info.key, "read")
        self._read += len(data)
        if not data and size:
            check_unchanged(self._before, os.fstat(self._fd), self._read, self.info.key)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        os.close(self._fd)


# -- writing -------------------------------------------------------------------------------------------------------


class FileWriter:
    """A staging file that takes its place when the block is left in good order."""

    def __init__(self, store: LocalStore, key: str, *, replace: bool = True) -> None:
        self._store, self._key, self._replace = store, key, replace
        self._folder, _, self._name = key.rpartition("/")
        self._folder_fd = self._fd = -1

    def __enter__(self) -> Self:
        self._staged = staging_name()
        self._folder_fd, self._fd = _stage_in(self._store, self._folder, self._name, self._key, self._staged)
        return self

    def write(self, data: bytes, /) -> None:
        try:
            _write_all(self._fd, data)
        except OSError as error:
            self._store._raise(error, self._key, "write")

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        try:
            if kind is not None:
                _discard(self._folder_fd, self._staged, self._fd)
            else:
                _put_in_place(
                    self._store, self._folder_fd, self._staged, self._fd, self._name, self._key, replace=self._replace
                )
        finally:
            os.close(self._folder_fd)


def staging_name() -> str:
    return STAGING_PREFIX + os.urandom(8).hex()


def _stage_in(store: LocalStore, folder: str, name: str, key: str, staged: str) -> tuple[int, int]:
    """Open the key's folder and a staging file in it; the folder may be pruned by another process in between."""
    for _ in range(MOST_RACES):
        try:
            folder_fd = store._open_folder(folder, key, create=True)
        except ArtifactNotFoundError:
            continue
        try:
            return folder_fd, _stage(store, folder_fd, name, key, staged)
        except FileNotFoundError:
            os.close(folder_fd)
        except BaseException:
            os.close(folder_fd)
            raise
    raise StoreUnavailableError(f"{folder!r} in {store!r} is removed again and again", key=key, store=repr(store))


def _stage(store: LocalStore, folder_fd: int, name: str, key: str, staged: str) -> int:
    """Open a staging file, but first refuse, before a byte moves, what could not take its place."""
    try:
        if store._what_is(folder_fd, name, key) == "folder":
            # A folder without artifacts is nothing in this store, so it may not stand in the way of one.
            remove_empty_folders(folder_fd, name)
        return os.open(staged, STAGE, 0o666, dir_fd=folder_fd)
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        _raise_folder(store, key)
    except OSError as error:
        store._raise(error, key, "write")


def _raise_folder(store: LocalStore, key: str) -> NoReturn:
    raise KeyConflictError(
        f"cannot hold {key!r} in {store!r} beside artifacts below it: a file cannot be a folder too; "
        "choose another key or delete those artifacts",
        key=key,
        store=repr(store),
    ) from None


def _write_all(fd: int, data: bytes | memoryview) -> None:
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def _discard(folder_fd: int, staged: str, fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)
    with contextlib.suppress(OSError):
        os.unlink(staged, dir_fd=folder_fd)


def _put_in_place(
    store: LocalStore, folder_fd: int, staged: str, fd: int, name: str, key: str, *, replace: bool = True
) -> None:
    """Close a staging file and give it its name; on failure it is removed and what had the name keeps it.

    The only place where a file gets its name, so that no caller can forget a step. Close comes before rename because
    network file systems report write errors at close. With ``durability="object"`` the bytes are flushed before the
    rename and the folder after it, because a rename can reach the disk before the bytes that it names.
    """
    try:
        try:
            if store.durability == "object":
                os.fsync(fd)
        finally:
            os.close(fd)
        if replace:
            os.rename(staged, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        else:
            os.link(staged, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            os.unlink(staged, dir_fd=folder_fd)
        if store.durability == "object":
            os.fsync(folder_fd)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(staged, dir_fd=folder_fd)
        if isinstance(error, FileExistsError):
            raise ArtifactExistsError(
                f"{key!r} is already there in {store!r}; it was left as it is", key=key, store=repr(store)
            ) from None
        if isinstance(error, IsADirectoryError):  # made since the staging file was opened
            _raise_folder(store, key)
        if isinstance(error, OSError):
            store._raise(error, key, "write")
        raise


def remove_empty_folders(folder_fd: int, name: str) -> None:
    """Remove a tree of folders without a file; raises `IsADirectoryError` if it holds one."""
    fd = os.open(name, FOLDER, dir_fd=folder_fd)
    try:
        with os.scandir(fd) as entries:
            below = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for folder in below:
            remove_empty_folders(fd, folder)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=folder_fd)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name) from None


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(fd: int) -> None:
    import ctypes  # for this alone

    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):  # not Linux
        os.sync()
        return
    if syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# -- copying -------------------------------------------------------------------------------------------------------


class CopyFiles:
    """Copies files between two local stores, hashing them on the way.

    Sorted keys come folder by folder, so the session keeps the two folders of the last key open, one name for its
    staging files, which exist one at a time, and one buffer: touching fresh memory costs more than the copy. A small
    file then costs ten system calls, and no path is resolved twice.
    """

    def __init__(self, source: LocalStore, dest: LocalStore) -> None:
        self._source, self._dest = source, dest
        self._folder: str | None = None
        self._source_fd = self._dest_fd = -1
        self._staged = staging_name()
        self._buffer = memoryview(bytearray(COPY_BUFFER))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._leave()

    def copy(self, key: str, moved: Callable[[int], object] | None = None, /) -> Copied:
        folder, _, name = validate_key(key).rpartition("/")
        if folder != self._folder:
            self._enter(folder, key)
        fd = self._open(name, key)
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                self._source._raise_not_found(key)
            out = self._stage(folder, name, key)
            try:
                size, digest = self._pour(fd, out, before.st_size, key, moved)
                # Checked when all is written, so that whatever changes the source later gives it a later time than the
                # copy has: the next transfer sees that.
                check_unchanged(before, os.fstat(fd), size, key)
            except BaseException:
                _discard(self._dest_fd, self._staged, out)
                raise
            _put_in_place(self._dest, self._dest_fd, self._staged, out, name, key)
        finally:
            os.close(fd)
        return Copied(size, digest)

    def _pour(self, fd: int, out: int, size: int, key: str, moved: Callable[[int], object] | None) -> tuple[int, str]:
        """Copy that many bytes, or as many as there are; return their count and digest."""
        digest, done = hashlib.sha256(), 0
        while done < size:
            try:
                count = os.readv(fd, [self._buffer])
            except OSError as error:
                self._source._raise(error, key, "read")
            if not count:
                break
            chunk = self._buffer[:count]
            digest.update(chunk)
            try:
                _write_all(out, chunk)
            except OSError as error:
                self._dest._raise(error, key, "write")
            done += count
            if moved is not None:
                moved(count)
        return done, digest.hexdigest()

    def _open(self, name: str, key: str) -> int:
        try:
            return os.open(name, READ, dir_fd=self._source_fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return self._source._open(key)
            self._source._raise(error, key, "open")

    def _stage(self, folder: str, name: str, key: str) -> int:
        if self._dest_fd >= 0:
            try:
                return _stage(self._dest, self._dest_fd, name, key, self._staged)
            except FileNotFoundError:  # the folder was pruned by another process
                os.close(self._dest_fd)
                self._dest_fd = -1
        self._dest_fd, out = _stage_in(self._dest, folder, name, key, self._staged)
        return out

    def _enter(self, folder: str, key: str) -> None:
        self._leave()
        self._source_fd = self._source._open_folder(folder, key)
        self._folder = folder

    def _leave(self) -> None:
        self._folder = None
        for fd in (self._source_fd, self._dest_fd):
            if fd >= 0:
                os.close(fd)
        self._source_fd = self._dest_fd = -1
