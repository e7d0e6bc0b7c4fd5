"""A copy loop to which one promise after the other is added, to see what each of them costs by itself."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import attrs

_BUFFER = 64 * 1024


@attrs.frozen
class Promises:
    """What a copy loop keeps.

    Attributes
    ----------
    hashed
        SHA-256 of every byte.
    atomic
        A new name first, renamed over the old one when all is there.
    flushed
        ``object``: fsync of each file before the rename and of its folder after it; ``batch``: one syncfs at the end.
    """

    hashed: bool = False
    atomic: bool = False
    flushed: Literal["object", "batch"] | None = None


PROMISES: Mapping[str, Promises] = {
    "read and write": Promises(),
    "+ hash": Promises(hashed=True),
    "+ hash, atomic replace": Promises(hashed=True, atomic=True),
    "+ hash, atomic replace, one flush at the end": Promises(hashed=True, atomic=True, flushed="batch"),
    "+ hash, atomic replace, each file flushed": Promises(hashed=True, atomic=True, flushed="object"),
}


def copy_tree(source: Path, dest: Path, promises: Promises) -> None:
    """Copy a tree with one thread and one buffer."""
    found = (Path(folder, name) for folder, _, names in os.walk(source) for name in names)
    copy_files(source, dest, [file.relative_to(source).as_posix() for file in found], promises)
    if promises.flushed == "batch":
        fd = os.open(dest, os.O_RDONLY)
        ctypes.CDLL(None).syncfs(fd)
        os.close(fd)


def copy_files(source: Path, dest: Path, names: Iterable[str], promises: Promises) -> None:
    """Copy some files of a tree with one thread and one buffer; folder by folder, as they are named."""
    buffer = memoryview(bytearray(_BUFFER))
    for folder, paths in itertools.groupby(names, os.path.dirname):
        to = os.path.join(dest, folder)
        os.makedirs(to, exist_ok=True)
        folder_fd = os.open(to, os.O_RDONLY)
        try:
            for path in paths:
                _copy_file(os.path.join(source, path), folder_fd, os.path.basename(path), buffer, promises)
        finally:
            os.close(folder_fd)


def _copy_file(path: str, folder_fd: int, name: str, buffer: memoryview, promises: Promises) -> None:
    digest = hashlib.sha256()
    written = ".staged" if promises.atomic else name
    fd = os.open(path, os.O_RDONLY)
    out = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=folder_fd)
    while count := os.readv(fd, [buffer]):
        if promises.hashed:
            digest.update(buffer[:count])
        os.write(out, buffer[:count])
    if promises.flushed == "object":
        os.fsync(out)
    os.close(out)
    os.close(fd)
    if promises.atomic:
        os.rename(written, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    if promises.flushed == "object":
        os.fsync(folder_fd)
