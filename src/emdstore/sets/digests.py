"""What the files of a run were when they were hashed, so that what did not change is not read again.

A file of this machine is taken for what it was if nothing about it changed: size, time of the last write, time of the
last change of anything, inode, device. The last change is the one that tells. Nobody can set it, so it tells of
``cp -p``, ``tar x``, ``rsync -a``, ``touch -d``, of a backup that was restored, and of a new file that got an old one's
inode. A copy of a folder, with this index in it, on another machine or disk has other times of change; one of a whole
disk has the same files until somebody changes them. Three things could make two changes look like one, and so:

- A clock has a grain. A digest is kept, and believed, only if the file is older than that, by the clock of the file
  system that it lies in.
- A clock may be set back. The index has the latest time that it saw, and is forgotten when it is earlier than that.
- Some file systems (of FUSE, say) have no time of change, and give that of the last write, which everybody can set. Of
  their files nothing is kept.

The index lies beside the run in scratch, under a name that no listing shows, and goes with it. It is shared by both
sides: a file is known by its inode and not by its name. It may be removed at any time. One that cannot be read is none,
and where none can be written there is none: then everything is read, as before. Nothing is removed on its word.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import attrs
import msgspec

from emdstore import system
from emdstore.errors import EmdstoreError
from emdstore.keys import DIGESTS_NAME, STAGING_PREFIX
from emdstore.sets.record import read_record
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore, SupportsPath

_FINE_GRAIN, _COARSE_GRAIN = 20_000_000, 2_000_000_000  # ns; some file systems keep whole seconds, some every other one
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A file is opened to be looked at: on a network file system that asks the server, and to look alone may not.
_LOOK = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_READ = _LOOK | os.O_NOFOLLOW
_STAGE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_VERSION = 2
_LONG_AGO = 1_000_000_000_000_000_000  # ns; in 2001
_LARGEST = 64 * 1024 * 1024
_UNKNOWN = -1

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of the last write and of the last change of anything, in ns."""


@attrs.frozen
class _Index:
    """What is kept.

    Attributes
    ----------
    version
        Of this format.
    clocks
        By device, the latest time that its file system had told, in ns.
    files
        By stamp, the SHA-256 of a file's bytes.
    """

    version: int
    clocks: dict[str, int]
    files: dict[str, str]


# Made here and not at the first use: see `emdstore.sets.record`.
_outer = msgspec.json.Decoder(tuple[str, msgspec.Raw])
_inner = msgspec.json.Decoder(_Index)


@attrs.define(eq=False)
class _Side:
    """The files of one folder, as they were before anybody read them.

    Attributes
    ----------
    root
        The folder.
    clock
        The time in its file system before anybody read them, in ns; None if it is not known.
    stamps
        What the files were, by key.
    """

    root: str
    clock: int | None = None
    stamps: dict[str, Stamp] = attrs.field(factory=dict)


class DigestIndex:
    """The digests that are known of the files of one run, and of those that were published of it.

    Parameters
    ----------
    folder
        The run's folder in scratch; None to know nothing and keep nothing.
    believed
        Whether to believe what is there. Otherwise all is read, and the index made anew.
    """

    def __init__(self, folder: str | None, *, believed: bool = True) -> None:
        self._folder = folder
        self._before = _read(folder) if folder is not None and believed else _Index(_VERSION, {}, {})
        self._now = _Index(_VERSION, {}, {})
        self._sides: dict[int, _Side] = {}
        self._staged: dict[int, tuple[int, int]] = {}  # by device: an open folder, and a file in it
        self._name = STAGING_PREFIX + system.current().token(8)
        self._own_clock: int | None = _UNKNOWN

    @classmethod
    def of_run(cls, source: ArtifactStore, *, believed: bool = True) -> DigestIndex:
        """Return the index of a run's folder; one that knows and keeps nothing if the folder is not that of a run."""
        if isinstance(source, SupportsPath):
            with contextlib.suppress(EmdstoreError, OSError):
                record = read_record(source)
                if record is not None and record.state is None:
                    return cls(os.fspath(source.local_path()), believed=believed)
        return cls(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._folder is not None and error is None and self._now.files != self._before.files:
                self._save(self._folder)
        finally:
            for folder, file in self._staged.values():
                with contextlib.suppress(OSError):
                    os.unlink(self._name, dir_fd=folder)
                os.close(file)
                os.close(folder)
            self._staged.clear()

    def look(self, store: ArtifactStore, keys: Iterable[str]) -> dict[str, str]:
        """Look at files before they are read, and return the SHA-256 of those that are what they were.

        Parameters
        ----------
        store
            Where they lie. Of what is no file of this machine nothing is known.
        keys
            The files.
        """
        if self._folder is None or not isinstance(store, SupportsPath):
            return {}
        side = self._sides[id(store)] = _Side(os.fspath(store.local_path()))
        side.stamps = {key: stamp for key in keys if (stamp := _stamp(side, key)) is not None}
        if not side.stamps or not self._is_in_order():
            return {}
        found = {key: self._before.files.get(_text(stamp)) for key, stamp in side.stamps.items()}
        known = {key: digest for key, digest in found.items() if digest is not None}
        if len(known) < len(found):
            side.clock = self._clock(side.root)
            if side.clock is None or not self._before.files:
                return {}
            known = {key: digest for key, digest in known.items() if _is_older(side.stamps[key], side.clock)}
        self._now.files.update((_text(side.stamps[key]), digest) for key, digest in known.items())
        return known

    def learn(self, store: ArtifactStore, digests: Mapping[str, str]) -> None:
        """Keep the digests of files that were read since `look`, where they can be relied on.

        A file that was changed meanwhile has another time by now, and the one that it had will not come again.
        """
        side = self._sides.get(id(store))
        if side is None or side.clock is None:
            return
        for key, digest in digests.items():
            stamp = side.stamps.get(key)
            if stamp is not None and _is_older(stamp, side.clock):
                self._now.files[_text(stamp)] = digest

    def learn_copies(self, source: ArtifactStore, dest: ArtifactStore, digests: Mapping[str, str]) -> None:
        """Keep the digests of files that were copied since `look`.

        A copy has the time of its source, which whoever writes to it changes. So the bytes of one that has it still are
        those that were copied.
        """
        read = self._sides.get(id(source))
        if read is None or not digests or not isinstance(dest, SupportsPath):
            return
        side = _Side(os.fspath(dest.local_path()))
        side.clock = self._clock(side.root)
        for key, digest in digests.items():
            before, stamp = read.stamps.get(key), _stamp(side, key)
            if before is None or stamp is None or side.clock is None:
                continue
            if stamp[2:4] == before[2:4] and _is_older(stamp, side.clock):
                self._now.files[_text(stamp)] = digest

    def _is_in_order(self) -> bool:
        """Tell whether the clock of the run's own file system can be relied on; it is looked at once."""
        if self._own_clock == _UNKNOWN:
            assert self._folder is not None
            self._own_clock = self._clock(self._folder)
        return self._own_clock is not None

    def _clock(self, root: str) -> int | None:
        """Return the time in a folder's file system; None where nothing can be written, or no change shows."""
        try:
            file = self._file(root)[1]
            os.utime(file, ns=(_LONG_AGO, _LONG_AGO))
            found = os.fstat(file)
        except OSError:
            return None
        now = found.st_ctime_ns
        if now <= found.st_mtime_ns:  # nothing but the time of the last write, which everybody can set
            return None
        device = f"{found.st_dev:x}"
        if now < self._before.clocks.get(device, 0):  # it was set back
            self._before = _Index(_VERSION, {}, {})
        self._now.clocks[device] = max(now, self._now.clocks.get(device, 0))
        return now

    def _file(self, root: str) -> tuple[int, int]:
        """Return an unfinished file in a folder's file system, and the folder that it lies in; both are open."""
        assert self._folder is not None
        device = os.stat(root).st_dev
        if device not in self._staged:
            lies_in = self._folder if os.stat(self._folder).st_dev == device else root
            folder = os.open(lies_in, _FOLDER)
            try:
                self._staged[device] = folder, os.open(self._name, _STAGE, 0o666, dir_fd=folder)
            except BaseException:
                os.close(folder)
                raise
        return self._staged[device]

    def _save(self, root: str) -> None:
        """Put the index in its place, whole or not at all. Nobody is told if that cannot be: it only saves time."""
        body = msgspec.json.encode(self._now)
        data = msgspec.json.encode((sha256_of(body), msgspec.Raw(body)))
        with contextlib.suppress(OSError):
            folder, file = self._file(root)
            if os.write(file, data) == len(data):
                os.rename(self._name, DIGESTS_NAME, src_dir_fd=folder, dst_dir_fd=folder)


def _read(root: str) -> _Index:
    """Read the index of a folder; nothing if there is none, or it is not what was written."""
    nothing = _Index(_VERSION, {}, {})
    try:
        file = os.open(os.path.join(root, DIGESTS_NAME), _READ)
    except OSError:
        return nothing
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            return nothing
        digest, body = _outer.decode(os.read(file, found.st_size))
        index = _inner.decode(body) if sha256_of(body) == digest else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return nothing
    finally:
        os.close(file)
    return index if index is not None and index.version == _VERSION else nothing


def _stamp(side: _Side, key: str) -> Stamp | None:
    try:
        file = os.open(os.path.join(side.root, key), _LOOK)
    except OSError:
        return None
    try:
        found = os.fstat(file)
    finally:
        os.close(file)
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return None  # of some files the system says that they have 0 bytes, and gives more
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_older(stamp: Stamp, clock: int) -> bool:
    """Tell whether a file that is changed from now on has another time than it had."""
    changed = stamp[4]
    return changed + (_FINE_GRAIN if changed % 1_000_000_000 else _COARSE_GRAIN) < clock


def _text(stamp: Stamp) -> str:
    return "-".join(f"{each:x}" for each in stamp)
