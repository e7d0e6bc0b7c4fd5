"""What lies in the folders of a `LocalArtifactStore`."""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
import stat
from collections.abc import Iterator

from emdstore import system
from emdstore.errors import ArtifactNotFoundError, StoreUnavailableError, UnsafePathError
from emdstore.keys import are_plain, is_left_behind, is_staging, is_valid_key, why_invalid
from emdstore.stores.local.files import describe
from emdstore.stores.local.root import FOLDER, Root
from emdstore.stores.port import ArtifactInfo, LeftOut

_Entry = os.DirEntry[str]
_Found = tuple[str, _Entry]
"""The key of a file, or that of a folder with a slash. In this order a folder stands where its contents do."""

_Place = tuple[int, int]

_key_of = operator.itemgetter(0)

_AT_ONCE = 512
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
        for some in _iter_below(root, fd, prefix + "/" if prefix else ""):
            yield from some


def iter_infos(root: Root, prefix: str) -> Iterator[ArtifactInfo | LeftOut]:
    """Yield the infos of the files below a prefix in the order of their keys, and what else lies there."""
    with root.translating("list", prefix):
        try:
            fd = root.open_folder(prefix, prefix)
        except ArtifactNotFoundError:
            return
        for some in _iter_below(root, fd, prefix + "/" if prefix else ""):
            infos: list[ArtifactInfo | LeftOut] = []
            for found in some:
                if isinstance(found, LeftOut):
                    infos.append(found)
                    continue
                key, entry = found
                try:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISLNK(status.st_mode):
                        status = root.stat(key)
                except FileNotFoundError:  # removed since the folder was read
                    continue
                except UnsafePathError:  # a link that was changed since
                    infos.append(LeftOut(key, _LEADS_OUT))
                    continue
                except OSError as error:
                    root.raise_error(error, key, "look at")
                if stat.S_ISREG(status.st_mode):
                    infos.append(describe(key, status))
            yield from infos


_LEADS_OUT = "is a link that leads out of the store"


class _Folder:
    """A folder that is being listed.

    Parameters
    ----------
    root
        The store's root.
    fd
        The open folder, which is closed with this one.
    place
        Its device and inode.
    prefix
        What the keys in it begin with.

    Attributes
    ----------
    rest
        What is still to be yielded.
    """

    def __init__(self, root: Root, fd: int, place: _Place, prefix: str) -> None:
        self.fd, self.place = fd, place
        try:
            left_out, self._listed = _read_folder(root, fd, prefix)
        except BaseException:
            self.close()
            raise
        self.rest: Iterator[_Found | LeftOut] = itertools.chain(left_out, self._listed)

    def close_early(self) -> None:
        """Close it while it is listed, as many are open: what its entries tell is asked now, and they remember it."""
        for _, entry in self._listed:
            with contextlib.suppress(FileNotFoundError):
                entry.stat(follow_symlinks=False)
        self.close()

    def close(self) -> None:
        """Close it, if it is open."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _iter_below(root: Root, fd: int, prefix: str) -> Iterator[list[_Found | LeftOut]]:
    """Yield what is below an open folder, some of it at a time. The folder is closed at the end."""
    some: list[_Found | LeftOut] = []
    open_ones: list[_Folder] = []
    try:
        open_ones.append(_Folder(root, fd, _place_of(fd), prefix))
        while open_ones:
            last = open_ones[-1]
            for found in last.rest:
                if isinstance(found, LeftOut) or found[0][-1] != "/":
                    some.append(found)
                    if len(some) == _AT_ONCE:
                        yield some
                        some = []
                    continue
                below = _open_below(root, last, *found)
                if isinstance(below, LeftOut):
                    some.append(below)
                elif below is not None:
                    place = _place_of(below)
                    if any(place == each.place for each in open_ones):
                        os.close(below)
                        some.append(LeftOut(found[0][:-1], "is a link to a folder that holds it"))
                        continue
                    open_ones.append(_Folder(root, below, place, found[0]))
                    break
            if some:  # while its folder is open, and before those that come after it
                yield some
                some = []
            if open_ones[-1] is last:
                open_ones.pop().close()
            elif len(open_ones) > _MOST_OPEN:
                open_ones[-1].close_early()
    finally:
        for each in open_ones:
            each.close()


def _place_of(fd: int) -> _Place:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _open_below(root: Root, folder: _Folder, key: str, entry: _Entry) -> int | LeftOut | None:
    """Open a folder in another one; None if it is gone."""
    try:
        if folder.fd < 0 or entry.is_symlink():
            return root.open_folder(key[:-1], key[:-1])
        return os.open(entry.name, FOLDER, dir_fd=folder.fd)
    except (FileNotFoundError, NotADirectoryError):
        return None  # gone or swapped since the folder was read
    except UnsafePathError:
        return LeftOut(key, _LEADS_OUT)
    except OSError as error:
        unreadable = root.error_of(error, key[:-1], "list")
        return LeftOut(key, f"cannot be read: {error.strerror or error}", unreadable)


def _read_folder(root: Root, fd: int, prefix: str) -> tuple[list[LeftOut], list[_Found]]:
    """Return what a folder holds: what is left out, and the rest in the order of the keys."""
    left_out: list[LeftOut] = []
    listed: list[_Found] = []
    with os.scandir(fd) as found:
        entries = list(found)
    are_keys = are_plain(prefix, [entry.name for entry in entries])
    for entry in entries:
        key = prefix + entry.name
        if entry.is_file(follow_symlinks=False) and (are_keys or is_valid_key(key)):  # nearly all are
            listed.append((key, entry))
        elif are_keys and entry.is_dir(follow_symlinks=False):
            listed.append((key + "/", entry))
        elif isinstance(seen := _look_at(root, key, entry), LeftOut):
            left_out.append(seen)
        elif seen is not None:
            listed.append(seen)
    listed.sort(key=_key_of)
    return left_out, listed


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
