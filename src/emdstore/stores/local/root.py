"""The root folder of a local store. Nothing outside it is ever opened.

A path that is checked and then opened by name can be replaced with a link in between. So every folder is opened segment
by segment with ``O_NOFOLLOW``, relative to the folder above it, and every file relative to its folder's descriptor. If
a segment is a link, its target is resolved once, refused if it lies outside the root, and otherwise opened in the same
way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Literal, NoReturn

import attrs

from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    KeyConflictError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.keys import in_folder, join_key
from emdstore.stores.races import races
from emdstore.stores.system_errors import error_of_errno

Durability = Literal["system", "object"]

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that somebody left in the tree must not wait for its writer.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_MOST_LINKS = 40
_MOST_KEPT = 16


@attrs.frozen(repr=False)
class Root:
    """The root folder of a local store, and how its contents are opened.

    Attributes
    ----------
    path
        The folder. It need not exist.
    durability
        See `LocalArtifactStore`.
    name
        The store, as errors name it.
    """

    path: Path
    durability: Durability
    name: str

    def __repr__(self) -> str:
        return self.name

    def open_folder(self, folder: str, key: str) -> int:
        """Return an open descriptor of a folder of this store, which the caller closes; `key` is for errors."""
        return self._open_folder(folder, key, create=False)[0]

    def make_folder(self, folder: str, key: str) -> tuple[int, bool]:
        """Open a folder as `open_folder` does, and make it if there is none; tell whether it was made."""
        return self._open_folder(folder, key, create=True)

    def _open_folder(self, folder: str, key: str, *, create: bool) -> tuple[int, bool]:
        for _ in range(_MOST_LINKS):
            try:
                fd = self._open_root(create=create)
            except FileNotFoundError:
                self.raise_not_found(key)
            except (NotADirectoryError, FileExistsError) as error:
                raised = StoreError(
                    f"the root of {self.name} is not a folder; choose another one, or move away what is there",
                    key=key,
                    store=self.name,
                )
                raised.errno = errno.ENOTDIR
                raise raised from error
            except OSError as error:
                self.raise_error(error, key, "open")
            done, is_new = 0, False
            segments = folder.split("/") if folder else []
            try:
                for segment in segments:
                    is_new = False
                    try:
                        below = os.open(segment, FOLDER, dir_fd=fd)
                    except FileNotFoundError:
                        if not create:
                            self.raise_not_found(key)
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(segment, dir_fd=fd)
                            is_new = True
                        if self.durability == "object":
                            os.fsync(fd)
                        below = os.open(segment, FOLDER, dir_fd=fd)
                    os.close(fd)
                    fd = below
                    done += 1
                return fd, is_new
            except OSError as error:
                os.close(fd)
                if error.errno not in (errno.ENOTDIR, errno.ELOOP) or isinstance(error, EmdstoreError):
                    self.raise_error(error, key, "open")
                blocker = "/".join(segments[: done + 1])
                path = self.path / blocker
                if path.is_symlink():
                    folder = join_key(self.inside(os.fspath(path), key), *segments[done + 1 :])
                elif path.is_dir():
                    continue  # it was a link a moment ago
                elif create and path.exists():
                    raise KeyConflictError(
                        f"cannot hold {key!r} beside the artifact {blocker!r} in {self.name}: a file cannot be a "
                        "folder too; choose another key or delete that artifact",
                        key=key,
                        store=self.name,
                    ) from None
                else:
                    self.raise_not_found(key)
        raise UnsafePathError(f"too many links on the way to {key!r} in {self.name}", key=key, store=self.name)

    def _open_root(self, *, create: bool) -> int:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not create:
                raise
            self._make_root()
            return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _make_root(self) -> None:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        if self.durability == "object":
            for folder in missing:
                sync_folder(folder.parent)

    def open_file(self, key: str) -> tuple[int, os.stat_result]:
        """Return an open descriptor of the regular file at the key, which the caller closes, and the file's status."""
        target = key
        for _ in range(_MOST_LINKS):
            folder, _, name = target.rpartition("/")
            folder_fd = self.open_folder(folder, key)
            try:
                fd = os.open(name, READ, dir_fd=folder_fd)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    self.raise_error(error, key, "open")
            else:
                status = os.fstat(fd)
                if stat.S_ISREG(status.st_mode):
                    return fd, status
                os.close(fd)
                self.raise_not_found(key)
            finally:
                os.close(folder_fd)
            target = self.inside(os.fspath(self.path / target), key)
        raise UnsafePathError(f"too many links on the way to {key!r} in {self.name}", key=key, store=self.name)

    def stat(self, key: str) -> os.stat_result:
        """Return the status of the regular file at the key, or of the one that a link there leads to."""
        folder, _, name = key.rpartition("/")
        folder_fd = self.open_folder(folder, key)
        try:
            found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except OSError as error:
            self.raise_error(error, key, "look at")
        finally:
            os.close(folder_fd)
        if stat.S_ISLNK(found.st_mode):
            fd, found = self.open_file(key)
            os.close(fd)
            return found
        if not stat.S_ISREG(found.st_mode):
            self.raise_not_found(key)
        return found

    def is_plain(self, key: str) -> bool:
        """Tell whether there is no link on the way from the root to a key, so that it is inside."""
        at = os.fspath(self.path)
        for segment in key.split("/"):
            at = f"{at}/{segment}"
            try:
                if stat.S_ISLNK(os.lstat(at).st_mode):
                    return False
            except FileNotFoundError:
                return True
            except OSError:  # it will be explained where it is used
                return False
        return True

    def inside(self, path: str, key: str) -> str:
        """Return where a path really is, relative to the real root; refuse paths outside it."""
        for _ in races():
            try:
                real_root = os.path.realpath(self.path)
                real = real_root if path == os.fspath(self.path) else os.path.realpath(path)
                break
            except OSError:  # a link was replaced between being seen and being read
                continue
        else:
            raise StoreUnavailableError(
                f"links on the way to {key!r} in {self.name} change again and again", key=key, store=self.name
            )
        if real != real_root and not real.startswith(real_root.rstrip("/") + "/"):
            raise UnsafePathError(
                f"{key!r} in {self.name} leads out of the store through a link; put the file itself there instead",
                key=key,
                store=self.name,
            )
        return real[len(real_root) :].strip("/")

    def what_is(self, folder_fd: int, name: str, key: str) -> Literal["absent", "file", "folder", "link"]:
        """Return the status of a name in an open folder; `UnsafePathError` for a link that leads out of the root."""
        try:
            mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return "absent"
        if stat.S_ISLNK(mode):
            self.inside(os.fspath(self.path / key), key)
            return "link"
        return "folder" if stat.S_ISDIR(mode) else "file"

    def prune(self, folder: str) -> None:
        """Remove a folder and those above it while they are empty; the root stays."""
        while folder:
            above, _, name = folder.rpartition("/")
            try:
                fd = self.open_folder(above, folder)
            except EmdstoreError:
                return
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError:
                return
            finally:
                os.close(fd)
            folder = above

    def translating(self, verb: str, key: str) -> Translating:
        """Return a context that translates the system's errors."""
        return Translating(self, verb, key)

    # -- errors --------------------------------------------------------------------------------------------------

    def raise_not_found(self, key: str) -> NoReturn:
        """Raise `ArtifactNotFoundError`."""
        raise ArtifactNotFoundError(f"no artifact {key!r} in {self.name}", key=key, store=self.name) from None

    def raise_error(self, error: OSError, key: str, verb: str) -> NoReturn:
        """Raise the emdstore error for an error of the system."""
        if isinstance(error, EmdstoreError):
            raise error
        if isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno == errno.ENXIO:  # ENXIO: a socket
            self.raise_not_found(key)
        raise self.error_of(error, key, verb) from error

    def error_of(self, error: OSError, key: str, verb: str) -> EmdstoreError:
        """Return the emdstore error for an error of the system."""
        if isinstance(error, EmdstoreError):
            return error
        return error_of_errno(error.errno, error.strerror, key, self.name, verb)


class KeptFolders:
    """The folders on the way to the file that was read last. They stay open, because sorted keys come folder by folder.

    Parameters
    ----------
    root
        Their root.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._way: list[tuple[str, int]] = []

    def enter(self, folder: str, key: str) -> int:
        """Return an open descriptor of a folder, which stays open until another one is entered; `key` is for errors."""
        way = self._way
        while way and not (way[-1][0] == folder or in_folder(folder, way[-1][0])):
            os.close(way.pop()[1])
        if not way and folder.count("/") < _MOST_KEPT:
            way.append(("", self._root.open_folder("", key)))
        path = way[-1][0] if way else None
        if path == folder:
            return way[-1][1]
        if path is not None:
            try:
                for segment in folder[len(path) + 1 if path else 0 :].split("/"):
                    fd = os.open(segment, FOLDER, dir_fd=way[-1][1])
                    path = join_key(path, segment)
                    way.append((path, fd))
                return way[-1][1]
            except OSError:
                self.close()  # it is gone, a link, or on a network file system it has gone stale
        fd = self._root.open_folder(folder, key)
        way.append((folder, fd))
        return fd

    def close(self) -> None:
        """Close all of them; the next one is opened anew."""
        while self._way:
            with contextlib.suppress(OSError):
                os.close(self._way.pop()[1])


class Translating:
    """A block that translates the system's errors."""

    __slots__ = ("_key", "_root", "_verb")

    def __init__(self, root: Root, verb: str, key: str) -> None:
        self._root, self._verb, self._key = root, verb, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, EmdstoreError):
            self._root.raise_error(error, self._key, self._verb)


def sync_folder(path: Path) -> None:
    """Flush a folder, that is, the names in it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
