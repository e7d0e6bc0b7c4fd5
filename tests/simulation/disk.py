"""A disk whose power may be cut: what was not flushed by then is gone, in one of the ways in which it may be."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from tests.simulation.kernel import Kernel

Files = dict[str, tuple[bytes, int, int]]
"""What lies in a folder, also what no listing shows: bytes, time and inode by path."""


class Disk:
    """Two file systems of one machine, scratch and local results: what they hold, and what they surely hold.

    Parameters
    ----------
    folders
        Where they are.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = [os.fspath(each) for each in folders]
        self._flushed: dict[str, Files] = {}

    def flush(self, folder: str | None = None) -> None:
        """Have what lies in a folder, or in all of them, lie there for sure."""
        for each in self._folders if folder is None else [folder]:
            self._flushed[each] = dict(_files_below(each))

    def cut(self, kind: str) -> None:
        """Cut the power.

        Parameters
        ----------
        kind
            ``cut``: all is as it was when it was flushed last. ``cut-results``: the results are, and scratch is as it
            is. ``cut-names``: names were written, and the bytes of what is new were not.
        """
        for number, folder in enumerate(self._folders):
            now, sure = dict(_files_below(folder)), self._flushed[folder]
            if kind == "cut-names":
                flushed = {(data, inode) for data, _, inode in sure.values()}  # under this name or an earlier one
                kept = {
                    path: (data if (data, inode) in flushed else b"", when, inode)
                    for path, (data, when, inode) in now.items()
                }
            elif kind == "cut-results" and number == 0:
                continue
            else:
                kept = sure
            if kept != now:
                _put(folder, kept)

    @contextmanager
    def flushing(self, kernel: Kernel) -> Iterator[None]:
        """Have the library's flushes be seen, inside the block."""
        real = os.fsync

        def flush_all(fd: int) -> None:
            path = os.readlink(f"/proc/self/fd/{fd}")
            if kernel.running() is not None:
                for folder in self._folders:
                    if path == folder or path.startswith(folder + "/"):
                        self.flush(folder)

        def flush_one(fd: int) -> None:
            real(fd)
            flush_all(fd)  # more than it has to be

        with mock.patch("emdstore.stores.local.store.sync_file_system", flush_all), mock.patch("os.fsync", flush_one):
            yield


def _files_below(folder: str) -> Iterator[tuple[str, tuple[bytes, int, int]]]:
    for above, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(above, name)
            with io.FileIO(path) as file:
                status = os.fstat(file.fileno())
                yield os.path.relpath(path, folder), (file.read(), status.st_mtime_ns, status.st_ino)


def _put(folder: str, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    for name, (data, when, _) in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(when, when))
