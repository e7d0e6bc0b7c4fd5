"""An index of the digests of a run's files, so that unchanged files are not read again.

A local file counts as unchanged if its size, modification time, change time, inode and device are the same. The change
time is what matters, because nobody can set it: it reveals ``cp -p``, ``tar x``, ``rsync -a``, ``touch -d``, a restored
backup, and a new file with an old file's inode. If a folder is copied together with its index, the copies have other
change times. Three things could hide a change, and so:

- Clocks have a resolution. A digest is kept, and trusted, only if the file is older than that, by the clock of its file
system.
- A clock may be set back. The index stores the latest time that it saw, and is discarded if the clock shows an earlier
one.
- Some file systems (such as those of FUSE) have no change time, and report the modification time, which everybody can
set. No digests of their files are kept.

The index lies in the run's folder in scratch, under a name that no listing shows, and is removed with it. It covers the
files at both ends, because files are identified by inode and not by name. It may be removed at any time. Without a
readable index, everything is read. Nothing is ever removed because of what the index says.
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
# A file is opened for its status, because on a network file system only opening certainly asks the server.
_LOOK = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_READ = _LOOK | os.O_NOFOLLOW
_STAGE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_VERSION = 2
_LONG_AGO = 1_000_000_000_000_000_000  # ns; in 2001
_LARGEST = 64 * 1024 * 1024
_UNKNOWN = -1

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, modification time and change time; times in ns."""


@attrs.frozen
class _Index:
    """The contents of the index.

    Attributes
    ----------
    version
        The version of this format.
    clocks
        By device, the latest time that its file system has shown, in ns.
    files
        By stamp, the SHA-256 of the file's bytes.
    """

    version: int
    clocks: dict[str, int]
    files: dict[str, str]


# Made here and not at the first use: see `emdstore.sets.record`.
_outer = msgspec.json.Decoder(tuple[str, msgspec.Raw])
_inner = msgspec.json.Decoder(_Index)


@attrs.define(eq=False)
class _Side:
    """The files of one folder, as they were before they were read.

    Attributes
    ----------
    root
        The folder.
    clock
        The time in its file system before they were read, in ns; None if it is not known.
    stamps
        The files' stamps, by key.
    """

    root: str
    clock: int | None = None
    stamps: dict[str, Stamp] = attrs.field(factory=dict)


class DigestIndex:
    """The known digests of one run's files, and of its published files.

    Parameters
    ----------
    folder
        The run's folder in scratch; None for an empty index that is not kept.
    believed
        Whether to trust the index that is there. Otherwise everything is read, and the index is made anew.
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
        """Return the index of a run's folder; an empty one, which is not kept, if it is not the folder of a run."""
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
        """Look at files before they are read; return the SHA-256 of those that are unchanged.

        Parameters
        ----------
        store
            Where they are. Only of local files anything is known.
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
        """Keep the digests of files that were read since `look`, if they can be trusted.

        A file that was changed meanwhile has a later change time now, and never again the one it had.
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

        A copy has the modification time of its source, and every write changes that. So a copy that still has it has
        the bytes that were copied.
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
        """Tell whether the clock of the run's file system can be trusted; it is checked once."""
        if self._own_clock == _UNKNOWN:
            assert self._folder is not None
            self._own_clock = self._clock(self._folder)
        return self._own_clock is not None

    def _clock(self, root: str) -> int | None:
        """Return the time in a folder's file system; None if nothing can be written, or changes do not show."""
        try:
            file = self._file(root)[1]
            os.utime(file, ns=(_LONG_AGO, _LONG_AGO))
            found = os.fstat(file)
        except OSError:
            return None
        now = found.st_ctime_ns
        if now <= found.st_mtime_ns:  # only a modification time, which everybody can set
            return None
        device = f"{found.st_dev:x}"
        if now < self._before.clocks.get(device, 0):  # it was set back
            self._before = _Index(_VERSION, {}, {})
        self._now.clocks[device] = max(now, self._now.clocks.get(device, 0))
        return now

    def _file(self, root: str) -> tuple[int, int]:
        """Return an unfinished file in a folder's file system, and its folder; both are open."""
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
        """Write the index, entirely or not at all. A failure is not reported, because the index only saves time."""
        body = msgspec.json.encode(self._now)
        data = msgspec.json.encode((sha256_of(body), msgspec.Raw(body)))
        with contextlib.suppress(OSError):
            folder, file = self._file(root)
            if os.write(file, data) == len(data):
                os.rename(self._name, DIGESTS_NAME, src_dir_fd=folder, dst_dir_fd=folder)


def _read(root: str) -> _Index:
    """Read the index of a folder; empty if there is none, or it is damaged."""
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
        return None  # some files claim to have 0 bytes, and have more
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_older(stamp: Stamp, clock: int) -> bool:
    """Tell whether every later change of a file would show in its change time."""
    changed = stamp[4]
    return changed + (_FINE_GRAIN if changed % 1_000_000_000 else _COARSE_GRAIN) < clock


def _text(stamp: Stamp) -> str:
    return "-".join(f"{each:x}" for each in stamp)
