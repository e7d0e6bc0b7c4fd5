"""A lock that the writers of a folder hold while they compare and rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from types import TracebackType
from typing import Self

from emdstore import system
from emdstore.errors import StoreUnavailableError
from emdstore.keys import STAGING_PREFIX
from emdstore.stores.local.root import Root

LOCK = STAGING_PREFIX + "lock"
PATIENCE = 5.0
_PAUSE = 0.002
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


class FolderLock:
    """The lock of one open folder, held for two system calls.

    It is a file that exists only while somebody holds the lock, and that names the holder. When a process ends, the
    system releases its lock. Nobody may take the lock from a process that is halted, because it could continue at any
    time and rename. The others give up with `StoreUnavailableError`, which names the holder.

    Between machines it is as good as the file system's ``flock`` (NFS: with the lock service, while the server hears
    from the holder; Lustre: mounted with ``-o flock``). Without locks it does nothing.

    Parameters
    ----------
    root, folder_fd
        The store and the folder.
    key
        The key to replace.
    """

    def __init__(self, root: Root, folder_fd: int, key: str) -> None:
        self._root, self._folder, self._key = root, folder_fd, key
        self._fd = -1

    def __enter__(self) -> Self:
        machine = system.current()
        until = machine.monotonic() + PATIENCE
        while not self._take():
            if machine.monotonic() > until:
                raise StoreUnavailableError(
                    f"cannot replace {self._key!r} in {self._root!r}: {self._holder()} has been about to for "
                    f"{PATIENCE:.0f} seconds and does not go on; end it or let it go on, and try again",
                    key=self._key,
                    store=self._root.name,
                )
            machine.sleep(_PAUSE)
        return self

    def _take(self) -> bool:
        fd = os.open(LOCK, _OPEN, 0o666, dir_fd=self._folder)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                self._fd = fd
                return True
            os.close(fd)
            if isinstance(error, BlockingIOError) or error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        if not self._has_its_name(fd):
            os.close(fd)  # it was released and removed between the two calls
            return False
        self._fd = fd
        with contextlib.suppress(OSError):
            os.fchmod(fd, 0o666)  # another user may have to wait for it
            os.pwrite(fd, f"{system.current().host()}:{system.own_number()}".encode(), 0)
        return True

    def _has_its_name(self, fd: int) -> bool:
        try:
            ours, there = os.fstat(fd), os.stat(LOCK, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    def _holder(self) -> str:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            fd = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
            try:
                name = os.read(fd, 200).decode()
            finally:
                os.close(fd)
            if name:
                return f"process {name}"
        return "another process"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            os.unlink(LOCK, dir_fd=self._folder)
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_UN)  # a fork has a copy of the descriptor and would keep the lock
        os.close(self._fd)
