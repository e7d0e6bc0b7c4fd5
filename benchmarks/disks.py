"""Fresh file systems to write to.

On ext4, writing a tree again right after deleting one of the same size can be many times slower, which would be blamed
on whoever comes next. So each run writes to an ext4 of its own, in memory, where root may mount one; otherwise to a
fresh folder, and the old ones are removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs

_MEMORY = Path("/dev/shm")
_MIB = 1024 * 1024


@attrs.define
class Disks:
    """Gives fresh places, always at the same path.

    Attributes
    ----------
    work
        Where mount points, or folders, go.
    in_memory
        Whether to mount file systems in memory.
    """

    work: Path
    in_memory: bool
    _used: int = 0

    @classmethod
    def at(cls, work: Path, *, in_memory: bool) -> Disks:
        """Return disks that are in memory if that is wanted and works here."""
        disks = cls(work, in_memory)
        if in_memory:
            try:
                with disks.fresh(64 * _MIB):
                    pass
            except (OSError, subprocess.CalledProcessError):
                disks.in_memory = False
        return disks

    @property
    def described(self) -> str:
        return "a fresh ext4 in memory for each run" if self.in_memory else f"fresh folders in {self.work}"

    @contextlib.contextmanager
    def fresh(self, size: int) -> Iterator[Path]:
        """Give an empty folder with room for so many bytes."""
        folder = self.work / "fresh"
        folder.mkdir(exist_ok=True)
        self._used += 1
        if not self.in_memory:
            try:
                yield folder
            finally:
                folder.rename(self.work / f"used-{self._used}")
                self._make_room(size)
            return
        # Each has an image of its own: what still holds an old mount (a new mount namespace, say) cannot disturb it.
        image = _MEMORY / f"emdstore-benchmark-{os.getpid()}-{self._used}.img"
        try:
            with image.open("wb") as file:
                file.truncate(int(size * 1.2) + 256 * _MIB)
            at_once = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"  # nothing goes on in the background
            _call("mkfs.ext4", "-q", "-F", "-E", at_once, os.fspath(image))
            _call("mount", "-o", "loop", os.fspath(image), os.fspath(folder))
            try:
                (folder / "lost+found").rmdir()
                yield folder
            finally:
                _call("umount", os.fspath(folder))
        finally:
            image.unlink()

    def close(self) -> None:
        """Remove all that was used."""
        for folder in self.work.glob("used-*"):
            shutil.rmtree(folder)

    def _make_room(self, size: int) -> None:
        if shutil.disk_usage(self.work).free < 3 * size:
            for folder in self.work.glob("used-*"):
                shutil.rmtree(folder)
            os.sync()


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
