"""What lies in the folders of a `LocalArtifactStore`."""

from __future__ import annotations

import logging
import operator
import os
import stat
import time
from collections.abc import Iterator

from emdstore.errors import ArtifactNotFoundError, UnsafePathError
from emdstore.keys import is_staging, is_valid_key
from emdstore.stores.local.files import describe
from emdstore.stores.local.root import FOLDER, Root
from emdstore.stores.port import ArtifactInfo

_log = logging.getLogger(__name__)

_Found = tuple[str, os.DirEntry[str]]
"""The key of a file, or that of a folder and a slash: in their order a folder comes where what is in it comes."""

_key_of = operator.itemgetter(0)


def iter_files(root: Root, prefix: str) -> Iterator[_Found]:
    """Yield the files below a prefix, by key."""
    try:
        fd = root.open_folder(prefix, prefix)
    except ArtifactNotFoundError:
        return
    here = os.fstat(fd)
    yield from _iter_folder(root, fd, prefix + "/" if prefix else "", ((here.st_dev, here.st_ino),))


def iter_infos(root: Root, prefix: str) -> Iterator[ArtifactInfo]:
    """Yield what is known of the files below a prefix, by key."""
    for key, entry in iter_files(root, prefix):
        try:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                status = root.stat(key)
        except (FileNotFoundError, UnsafePathError):  # removed or swapped since the folder was read
            continue
        if stat.S_ISREG(status.st_mode):
            yield describe(key, status)


def _iter_folder(root: Root, fd: int, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[_Found]:
    """Yield the files below an open folder, which is closed at the end."""
    try:
        for found in _read_folder(root, fd, prefix):
            key, entry = found
            if key[-1] != "/":
                yield found
                continue
            try:
                if entry.is_symlink():
                    below = root.open_folder(key[:-1], key[:-1])
                else:
                    below = os.open(entry.name, FOLDER, dir_fd=fd)
            except (OSError, UnsafePathError) as error:
                # Gone or swapped since the folder was read; what cannot be read at all must not pass for empty.
                if isinstance(error, FileNotFoundError | NotADirectoryError | UnsafePathError):
                    continue
                root.raise_error(error, key[:-1], "list")
            status = os.fstat(below)
            if (status.st_dev, status.st_ino) in above:
                os.close(below)
                _log.warning("left out of the listing: %s links to a folder that holds it", key)
                continue
            yield from _iter_folder(root, below, key, (*above, (status.st_dev, status.st_ino)))
    finally:
        os.close(fd)


def _read_folder(root: Root, fd: int, prefix: str) -> list[_Found]:
    listed: list[_Found] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            key = prefix + entry.name
            if entry.is_file(follow_symlinks=False) and is_valid_key(key):  # nearly all are
                listed.append((key, entry))
            elif (found := _look_at(root, key, entry)) is not None:
                listed.append(found)
    listed.sort(key=_key_of)
    return listed


def _look_at(root: Root, key: str, entry: os.DirEntry[str]) -> _Found | None:
    """Return how an entry is listed that is not simply a file; None if it is left out."""
    if is_staging(entry.name):
        return None
    if not is_valid_key(key):
        _log.warning("left out of the listing: %r in %r is no valid key", key, root)
        return None
    if entry.is_dir(follow_symlinks=False):
        return key + "/", entry
    if not entry.is_symlink():
        return None
    path = root.path / key
    try:
        root.inside(os.fspath(path), key)
    except UnsafePathError:
        _log.warning("left out of the listing: %s leads out of %r", key, root)
        return None
    if path.is_file():
        return key, entry
    return (key + "/", entry) if path.is_dir() else None


def remove_staging(root: Root, *, older_than: float, dry_run: bool) -> tuple[str, ...]:
    """Remove what killed writers left behind; see `LocalArtifactStore.remove_staging`."""
    removed = []
    limit = time.time() - older_than
    top = os.path.realpath(root.path)  # a root that is a link would not be walked
    for folder, _, names, fd in os.fwalk(top) if os.path.exists(top) else ():
        for name in filter(is_staging, names):
            path = os.path.relpath(os.path.join(folder, name), top)
            try:
                if os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime <= limit:
                    if not dry_run:
                        os.unlink(name, dir_fd=fd)
                    removed.append(path)
            except FileNotFoundError:  # its writer is alive after all, and has just finished
                continue
            except OSError as error:
                root.raise_error(error, path, "remove")
    return tuple(sorted(removed))
