"""What fsspec's archives of tar lack: names as others have them, and reading by several threads."""

from __future__ import annotations

import io
import threading
from tarfile import ExFileObject, TarFile, TarInfo
from typing import Any


def usable(fs: Any) -> Any:
    """Return a file system whose tar archive, if it has one, is listed by plain names and read by any thread."""
    tar = getattr(fs, "tar", None)
    if isinstance(tar, TarFile):
        lock = threading.Lock()
        tar.fileobject = lambda tar, member: io.BufferedReader(_Member(tar, member, lock))  # type: ignore[assignment]
        if any(each.name.startswith(".") for each in tar.getmembers()):
            _drop_dots(fs, tar)
    return fs


def _drop_dots(fs: Any, tar: TarFile) -> None:
    """Have ``./a`` be ``a``: so ``tar -cf set.tar .`` names all that it packs."""
    for each in tar.getmembers():
        each.name = _plain(each.name)
        if each.islnk():
            each.linkname = _plain(each.linkname)
    tar.members = [each for each in tar.getmembers() if each.name]  # type: ignore[attr-defined]
    fs.dir_cache = None
    fs._index()


def _plain(name: str) -> str:
    return "" if name == "." else name.removeprefix("./")


class _Member(io.RawIOBase):
    """A file in the archive. All of them share one file and its position, so each read excludes the others."""

    def __init__(self, tar: TarFile, member: TarInfo, lock: threading.Lock) -> None:
        self._inside: Any = ExFileObject(tar, member).detach()
        self._lock = lock

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Tell whether the archive can be read from any place."""
        return bool(self._inside.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place in the file."""
        return int(self._inside.seek(offset, whence))

    def readinto(self, buffer: Any, /) -> int:
        """Read where the file stands."""
        with self._lock:
            return int(self._inside.readinto(buffer))
