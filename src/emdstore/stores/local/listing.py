"""What lies in the folders of a `LocalArtifactStore`."""

from __future__ import annotations

import contextlib
import operator
import os
import stat
from collections.abc import Iterator

from emdstore import system
from emdstore.errors import ArtifactNotFoundError, StoreUnavailableError, UnsafePathError
from emdstore.keys import is_left_behind, is_staging, is_valid_key, why_invalid
from emdstore.stores.local.files import describe
from emdstore.stores.local.root import FOLDER, Root
from emdstore.stores.port import ArtifactInfo, LeftOut

_Entry = os.DirEntry[str]
_Found = tuple[str, _Entry]
"""The key of a file, or that of a folder with a slash. In this order a folder stands where its contents do."""

_key_of = operator.itemgetter(0)

_MOST_OPEN = 16
"""How many nested folders are open at once. Deeper ones are read and closed."""

_KINDS = {stat.S_IFIFO: "is a named pipe", stat.S_IFSOCK: "is a socket", stat.S_IFCHR: "is a device"}
_KINDS |= {stat.S_IFBLK: "is a device"}


def iter_files(root: Root, prefix: str) -> Iterator[_Found | LeftOut]:
    """Yield the files below a prefix in the order of their keys, and what else lies there."""
    with root.translating("list", prefix):
        try:
            fd = root.open_folder(prefix, prefix)
        except ArtifactNotFoundError:
            return
        here = os.fstat(fd)
        yield from _iter_folder(root, fd, prefix + "/" if prefix else "", ((here.st_dev, here.st_ino),))


def iter_infos(root: Root, prefix: str) -> Iterator[ArtifactInfo | LeftOut]:
    """Yield the infos of the files below a prefix in the order of their keys, and what else lies there."""
    for found in iter_files(root, prefix):
        if isinstance(found, LeftOut):
            yield found
            continue
        key, entry = found
        try:
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                status = root.stat(key)
        except FileNotFoundError:  # removed since the folder was read
            continue
        except UnsafePathError:  # a link that was changed since
            yield LeftOut(key, _LEADS_OUT)
            continue
        except OSError as error:
            root.raise_error(error, key, "look at")
        if stat.S_ISREG(status.st_mode):
            yield describe(key, status)


_LEADS_OUT = "is a link that leads out of the store"


def _iter_folder(root: Root, fd: int, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[_Found | LeftOut]:
    """Yield what is below an open folder, which is closed at the end, or earlier if many are open."""
    try:
        listed: list[_Found] = []
        for found in _read_folder(root, fd, prefix):
            if isinstance(found, LeftOut):
                yield found
            else:
                listed.append(found)
        listed.sort(key=_key_of)
        if len(above) > _MOST_OPEN:
            for _, entry in listed:
                with contextlib.suppress(FileNotFoundError):
                    entry.stat(follow_symlinks=False)  # which it remembers
            os.close(fd)
            fd = -1
        for found in listed:
            key, entry = found
            if key[-1] != "/":
                yield found
                continue
            try:
                if fd < 0 or entry.is_symlink():
                    below = root.open_folder(key[:-1], key[:-1])
                else:
                    below = os.open(entry.name, FOLDER, dir_fd=fd)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone or swapped since the folder was read
            except UnsafePathError:
                yield LeftOut(key, _LEADS_OUT)
                continue
            except OSError as error:
                unreadable = root.error_of(error, key[:-1], "list")
                yield LeftOut(key, f"cannot be read: {error.strerror or error}", unreadable)
                continue
            status = os.fstat(below)
            if (status.st_dev, status.st_ino) in above:
                os.close(below)
                yield LeftOut(key[:-1], "is a link to a folder that holds it")
                continue
            yield from _iter_folder(root, below, key, (*above, (status.st_dev, status.st_ino)))
    finally:
        if fd >= 0:
            os.close(fd)


def _read_folder(root: Root, fd: int, prefix: str) -> Iterator[_Found | LeftOut]:
    with os.scandir(fd) as entries:
        for entry in entries:
            key = prefix + entry.name
            if entry.is_file(follow_symlinks=False) and is_valid_key(key):  # nearly all are
                yield key, entry
            elif (found := _look_at(root, key, entry)) is not None:
                yield found


def _look_at(root: Root, key: str, entry: _Entry) -> _Found | LeftOut | None:
    """Return how an entry that is not a plain file is listed; None if it is not."""
    if is_staging(entry.name):
        return None
    is_folder = entry.is_dir(follow_symlinks=False)
    if not is_valid_key(key):
        return LeftOut(key + "/" if is_folder else key, f"is no key: {why_invalid(key)}")
    if is_folder:
        return key + "/", entry
    if not entry.is_symlink():
        return _stranger(key, entry)
    path = root.path / key
    try:
        root.inside(os.fspath(path), key)
        mode = path.stat().st_mode
    except UnsafePathError:
        return LeftOut(key, _LEADS_OUT)
    except FileNotFoundError:
        return LeftOut(key, "is a link that leads nowhere") if os.path.lexists(path) else None
    except (OSError, StoreUnavailableError) as error:
        return LeftOut(key, f"is a link that cannot be followed: {error}")
    if stat.S_ISREG(mode):
        return key, entry
    return (key + "/", entry) if stat.S_ISDIR(mode) else _stranger(key, entry)


def _stranger(key: str, entry: _Entry) -> LeftOut | None:
    try:
        mode = entry.stat().st_mode
    except FileNotFoundError:
        return None
    return LeftOut(key, f"{_KINDS.get(stat.S_IFMT(mode), 'is something else')}, not a file")


def remove_staging(root: Root, *, older_than: float, dry_run: bool) -> tuple[str, ...]:
    """Remove what killed writers have left behind; see `LocalArtifactStore.remove_staging`."""
    removed = []
    limit = system.current().now().timestamp() - older_than
    top = os.path.realpath(root.path)  # a root that is a link would not be walked
    with root.translating("look for unfinished files in", ""):
        for folder, _, names, fd in os.fwalk(top) if os.path.exists(top) else ():
            for name in filter(is_left_behind, names):
                path = os.path.relpath(os.path.join(folder, name), top)
                try:
                    if os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime <= limit:
                        if not dry_run:
                            os.unlink(name, dir_fd=fd)
                        removed.append(path)
                except FileNotFoundError:  # its writer is alive after all and has just finished
                    continue
                except OSError as error:
                    root.raise_error(error, path, "remove")
    return tuple(sorted(removed))
