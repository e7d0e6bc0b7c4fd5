"""Open folders of a local store, in which one thread reads and writes files, each entirely or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import weakref
from types import TracebackType
from typing import NoReturn, Self

from emdstore import system
from emdstore.errors import ArtifactExistsError, ArtifactNotFoundError, KeyConflictError, StoreUnavailableError
from emdstore.keys import STAGING_PREFIX, validate_key
from emdstore.per_process import PerProcess
from emdstore.stores.checksums import sha256_of
from emdstore.stores.local.files import read_whole
from emdstore.stores.local.locking import FolderLock
from emdstore.stores.local.root import FOLDER, READ, KeptFolders, Root
from emdstore.stores.races import races
from emdstore.stores.replacing import changed

STAGE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}
_HOLE = 64 * 1024  # the smallest that is worth leaving out
_NOTHING = bytes(_HOLE)


_sessions: PerProcess[weakref.WeakSet[FileSession]] = PerProcess(weakref.WeakSet)


def discard_staged() -> None:
    """Remove all staging files of this process, when it ends while some of its threads wait for a silent server."""
    with contextlib.suppress(RuntimeError):  # a thread that is still working opens another one
        for session in list(_sessions.get()):
            session.discard_staged()


class FileSession:
    """See `StoreSession`: keeps folders open, because sorted keys come folder by folder.

    Only one of its staging files exists at a time, so one name is enough.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self._folder: str | None = None
        self._folder_fd = -1
        self._read_from = KeptFolders(root)
        self._is_new = False  # whether the folder was made here
        self._folds: bool | None = None  # whether the folder treats different spellings as one name
        self._staged = STAGING_PREFIX + system.current().token(8)
        self.written_ns: int | None = None
        _sessions.get().add(self)

    def discard_staged(self) -> None:
        """Remove the staging file, if there is one that will not be put in place any more."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._staged, dir_fd=self._folder_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        if kind is not None:  # Ctrl-C comes between any two steps, also between those that make the file and know of it
            self.discard_staged()
        self.close()

    def close(self) -> None:
        """Close the open folders; the next key opens its own."""
        self._read_from.close()
        self._leave()

    def _leave(self) -> None:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                os.close(self._folder_fd)
        self._folder, self._folder_fd = None, -1

    def read_bytes(self, key: str, /) -> bytes:
        """See `StoreSession.read_bytes`."""
        with self.root.translating("read", key):
            fd, status = self.open(validate_key(key))
            self.written_ns = status.st_mtime_ns
            try:
                return read_whole(fd, status, key)
            finally:
                os.close(fd)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `StoreSession.write_bytes`."""
        with self.root.translating("write", key):
            fd = self.stage(validate_key(key))
            try:
                self.write(fd, data, key)
            except BaseException:
                self.discard(fd)
                raise
            self.put_in_place(fd, key)

    def replace_bytes(self, key: str, data: bytes, seen: str) -> None:
        """See `SupportsReplaceIf.replace_bytes`."""
        with self.root.translating("replace", key):
            try:
                before = sha256_of(self.read_bytes(key))
            except ArtifactNotFoundError:
                before = None
            if before != seen:  # no folder is made for an absent artifact
                raise changed(self.root, key)
            fd = self.stage(key)
            try:
                self.write(fd, data, key)
            except BaseException:
                self.discard(fd)
                raise
            self.put_in_place(fd, key, over=seen)

    def open(self, key: str) -> tuple[int, os.stat_result]:
        """Return an open descriptor of the regular file at the key, which the caller closes, and the file's status."""
        folder, _, name = key.rpartition("/")
        try:
            fd = os.open(name, READ, dir_fd=self._read_from.enter(folder, key))
        except OSError as error:
            self.close()  # on a network file system it may have gone stale: trying again must open it anew
            if error.errno in (errno.ELOOP, errno.ENOENT):  # a link, or another folder has this name now
                return self.root.open_file(key)
            self.root.raise_error(error, key, "open")
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            self.root.raise_not_found(key)
        return fd, status

    def stage(self, key: str) -> int:
        """Open a staging file beside the key's place; another process may prune the folder at any time."""
        folder, _, name = key.rpartition("/")
        if folder == self._folder:
            try:
                return self._stage(name, key)
            except FileNotFoundError:
                self.close()
        for _ in races():
            if folder != self._folder:
                try:
                    self._enter(folder, *self.root.make_folder(folder, key))
                except ArtifactNotFoundError:
                    continue
            try:
                return self._stage(name, key)
            except FileNotFoundError:
                self.close()
        raise StoreUnavailableError(
            f"{folder!r} in {self.root!r} is removed again and again", key=key, store=self.root.name
        )

    def _stage(self, name: str, key: str) -> int:
        """Open the staging file; first refuse, before a byte moves, a key that could not be put in place."""
        try:
            # Nothing was in a folder that was made here. What others have put there since, the rename finds.
            if not self._is_new and self.root.what_is(self._folder_fd, name, key) == "folder":
                # A folder without artifacts does not exist for the store, so it must not be in the way of one.
                remove_empty_folders(self._folder_fd, name)
            fd = os.open(self._staged, STAGE, 0o666, dir_fd=self._folder_fd)
            if self._folds is None:
                self._folds = folds_names(self._folder_fd, self._staged)
            if self._folds and not has_name(self._folder_fd, name):
                self.discard(fd)
                raise KeyConflictError(
                    f"cannot hold {key!r} in {self.root!r} beside an artifact whose name differs only in case, or in "
                    "how accents are written: this file system takes the two for one; rename one of them",
                    key=key,
                    store=self.root.name,
                )
            return fd
        except (FileNotFoundError, KeyConflictError):
            raise
        except IsADirectoryError:
            _raise_folder(self.root, key)
        except OSError as error:
            self.close()  # as above
            self.root.raise_error(error, key, "write")

    def write(self, fd: int, data: bytes | memoryview, key: str) -> None:
        """Append to a staging file."""
        try:
            written = os.write(fd, data)
            if written < len(data):
                rest = memoryview(data)[written:]
                while rest:
                    rest = rest[os.write(fd, rest) :]
        except OSError as error:
            self.root.raise_error(error, key, "write")

    def write_sparsely(self, fd: int, data: memoryview, key: str) -> None:
        """Append to a staging file, leaving out blocks of zeros."""
        for start in range(0, len(data), _HOLE):
            block = data[start : start + _HOLE]
            if block == _NOTHING[: len(block)]:
                os.lseek(fd, len(block), os.SEEK_CUR)
            else:
                self.write(fd, block, key)

    def discard(self, fd: int) -> None:
        """Close a staging file and remove it."""
        with contextlib.suppress(OSError):
            os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(self._staged, dir_fd=self._folder_fd)

    def put_in_place(self, fd: int, key: str, *, replace: bool = True, over: str | None = None) -> None:
        """Close a staging file and give it its name. If that fails, it is removed, and the file that had the name keeps
        it.

        A file that has the name is replaced; or there must be none (``replace=False``); or it must have a given SHA-256
        (`over`).

        The only place where a file gets its name, so that no caller can forget a step. Close comes before rename
        because network file systems report write errors at close. With ``durability="object"`` the bytes are flushed
        before the rename and the folder after it, because a rename can reach the disk before the bytes that it names.
        """
        folder, staged, name, root = self._folder_fd, self._staged, key.rpartition("/")[2], self.root
        try:
            try:
                if root.durability == "object":
                    os.fsync(fd)
            finally:
                os.close(fd)
            if over is not None:
                with FolderLock(root, folder, key):
                    if self._digest(name, key) != over:
                        raise changed(root, key)
                    os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)
            elif replace:
                os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                self._create(staged, name, key)
            if root.durability == "object":
                os.fsync(folder)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(staged, dir_fd=folder)
            self.close()
            if isinstance(error, FileExistsError):
                raise ArtifactExistsError(
                    f"{key!r} is already there in {root!r}; it was left as it is", key=key, store=root.name
                ) from None
            if isinstance(error, IsADirectoryError):  # made since the staging file was opened
                _raise_folder(root, key)
            if isinstance(error, FileNotFoundError):  # nobody asked for it
                raise StoreUnavailableError(
                    f"cannot write {key!r} in {root!r}: its unfinished file was removed before it was whole, as a "
                    "clean-up does after an hour; write it again",
                    key=key,
                    store=root.name,
                ) from None
            if isinstance(error, OSError):
                root.raise_error(error, key, "write")
            raise

    def _digest(self, name: str, key: str) -> str | None:
        """Return the SHA-256 of the file with this name in the open folder; None if there is none."""
        try:
            fd = os.open(name, READ, dir_fd=self._folder_fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            fd, _ = self.root.open_file(key)
        try:
            return sha256_of(read_whole(fd, os.fstat(fd), key))
        finally:
            os.close(fd)

    def _create(self, staged: str, name: str, key: str) -> None:
        """Give a staging file an unused name; `FileExistsError` if it is in use."""
        folder = self._folder_fd
        try:
            self._link(staged, name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with FolderLock(self.root, folder, key):
                if self.root.what_is(folder, name, key) != "absent":
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
                os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)
            return
        os.unlink(staged, dir_fd=folder)

    def _link(self, staged: str, name: str) -> None:
        folder = self._folder_fd
        try:
            os.link(staged, name, src_dir_fd=folder, dst_dir_fd=folder)
        except FileExistsError:
            # Over NFS the answer may be lost, and the repeated request finds what the first one made.
            ours = os.stat(staged, dir_fd=folder, follow_symlinks=False)
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
                raise

    def _enter(self, folder: str, fd: int, is_new: bool) -> None:
        self._leave()
        self._folder, self._folder_fd, self._folds, self._is_new = folder, fd, None, is_new


def _raise_folder(root: Root, key: str) -> NoReturn:
    raise KeyConflictError(
        f"cannot hold {key!r} in {root!r} beside artifacts below it: a file cannot be a folder too; "
        "choose another key or delete those artifacts",
        key=key,
        store=root.name,
    ) from None


def folds_names(folder_fd: int, staged: str) -> bool:
    """Tell, by a file in it, whether a folder ignores case, as on most Macs and on FAT."""
    try:
        os.stat(staged.upper(), dir_fd=folder_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def has_name(folder_fd: int, name: str) -> bool:
    """Tell whether a name is unused in a folder, or used in exactly this spelling."""
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return name in os.listdir(folder_fd)


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


class FileWriter:
    """A staging file that is put in place when the block ends without an exception."""

    def __init__(self, root: Root, key: str, *, replace: bool = True) -> None:
        self._session, self._key, self._replace = FileSession(root), key, replace
        self._fd = -1

    def __enter__(self) -> Self:
        with self._session.root.translating("write", self._key):
            try:
                self._fd = self._session.stage(self._key)
            except BaseException as error:
                self._session.__exit__(type(error), error, None)
                raise
        return self

    def write(self, data: bytes, /) -> None:
        """See `ArtifactWriter.write`."""
        self._session.write(self._fd, data, self._key)

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        with self._session.root.translating("write", self._key), self._session:
            if kind is not None:
                self._session.discard(self._fd)
            else:
                self._session.put_in_place(self._fd, self._key, replace=self._replace)
