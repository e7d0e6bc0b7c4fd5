"""Looking at whole folders of a local store, and removing them, through descriptors.

The folder that is removed is exactly the one that was looked at. At any time its name may pass to another folder, or to
a link that leads elsewhere. So the folder is identified by device and inode, every step goes through an open folder,
and no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator

import attrs

from emdstore.errors import ArtifactNotFoundError, SourceChangedError, StoreError, UnsafePathError
from emdstore.keys import STAGING_PREFIX, join_key
from emdstore.stores.local.root import FOLDER, Root

TRASH_PREFIX = f"{STAGING_PREFIX}trash-"
"""The prefix of folders that are being removed; they lie in the root."""

Signature = tuple[int, int, int, int]
"""Size, times of the last change of the content and of the inode (both in ns), and inode of a file."""


@attrs.frozen
class Tree:
    """A folder, with all files in it, as it was when somebody looked.

    Attributes
    ----------
    identity
        Its device and inode.
    files
        By their paths in the folder: everything but folders, also links and files that no listing shows.
    changed
        When a name in the folder itself last changed, in seconds since the epoch; not compared.
    """

    identity: tuple[int, int]
    files: dict[str, Signature]
    changed: float = attrs.field(default=0.0, eq=False)

    @property
    def bytes(self) -> int:
        """The total size of its files in bytes."""
        return sum(size for size, *_ in self.files.values())

    @property
    def newest(self) -> float:
        """When a file in it last changed, in seconds since the epoch; 0 if it has none."""
        return max((changed for _, changed, *_ in self.files.values()), default=0) / 1e9


def look_at_tree(root: Root, folder: str) -> Tree | None:
    """Look at a folder and everything in it; None if there is none.

    Raises
    ------
    UnsafePathError
        If the folder is a link, or one on the way to it leads out of the root.
    StoreError
        If it cannot be read.
    """
    try:
        above = root.open_folder(folder.rpartition("/")[0], folder)
    except ArtifactNotFoundError:
        return None
    try:
        return _tree_at(root, above, folder.rpartition("/")[2], folder)
    finally:
        os.close(above)


def remove_tree(root: Root, folder: str, seen: Tree, *, token: str) -> None:
    """Remove a folder if it has not changed since somebody looked at it; otherwise leave it alone.

    First it gets a name that no listing shows, so that a removal that is cut off leaves no half folder; see `trash_in`.
    Folders above it that become empty are removed, too.

    Parameters
    ----------
    root
        The store's.
    folder
        Where it is.
    seen
        The folder as it was when it was looked at.
    token
        Makes the name that it gets unique.

    Raises
    ------
    SourceChangedError
        If it is another folder now, or anything in it has changed. It was left alone.
    UnsafePathError
        If one of the folders above it has become a link that leads out of the root.
    StoreError
        If the system refuses. What is left of the folder has the name that no listing shows.
    """
    parent, _, name = folder.rpartition("/")
    trash = TRASH_PREFIX + token
    try:
        above = root.open_folder(parent, folder)
    except ArtifactNotFoundError:
        return  # somebody else has removed it
    top = root.open_folder("", folder)
    try:
        try:
            os.rename(name, trash, src_dir_fd=above, dst_dir_fd=top)
        except FileNotFoundError:
            return
        now = None
        with contextlib.suppress(UnsafePathError):
            now = _tree_at(root, top, trash, folder)
        if now != seen:
            os.rename(trash, name, src_dir_fd=top, dst_dir_fd=above)
            raise SourceChangedError(
                f"{folder!r} in {root!r} changed while it was looked at, and was left as it is"
                f"{_first_change(seen, now)}",
                key=folder,
                store=root.name,
            )
        _remove(root, top, trash, folder)
    except OSError as error:
        if isinstance(error, SourceChangedError | StoreError):
            raise
        root.raise_error(error, folder, "remove")
    finally:
        os.close(top)
        os.close(above)
    root.prune(parent)


def trash_in(root: Root) -> Iterator[str]:
    """Return the names of folders whose removal was cut off."""
    with contextlib.suppress(ArtifactNotFoundError), root.translating("list", ""):
        yield from sorted(name for name in os.listdir(root.path) if name.startswith(TRASH_PREFIX))


def remove_at_once(root: Root, folder: str) -> None:
    """Remove a folder that nobody needs, whatever is in it: the rest of a removal, or a folder that was never finished.

    Links are not followed. What cannot be removed stays.
    """
    parent, _, name = folder.rpartition("/")
    try:
        above = root.open_folder(parent, folder)
    except ArtifactNotFoundError:
        return
    try:
        shutil.rmtree(name, ignore_errors=True, dir_fd=above)
    finally:
        os.close(above)


def _remove(root: Root, top: int, trash: str, folder: str) -> None:
    try:
        shutil.rmtree(trash, dir_fd=top)
    except OSError as error:
        raise StoreError(
            f"{folder!r} in {root!r} could not be removed whole: {error.strerror}; what is left is {trash!r}, which "
            "`emdstore gc` removes later",
            key=folder,
            store=root.name,
        ) from error


def _first_change(seen: Tree, now: Tree | None) -> str:
    if now is None or now.identity != seen.identity:
        return ": it is another folder, or a link"
    changed = sorted(name for name in {*seen.files, *now.files} if seen.files.get(name) != now.files.get(name))
    return f": {changed[0]!r}" if changed else ""


def _tree_at(root: Root, above: int, name: str, folder: str) -> Tree | None:
    try:
        fd = os.open(name, FOLDER, dir_fd=above)
    except FileNotFoundError:
        return None
    except OSError as error:
        try:
            is_link = stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return None
        if is_link:
            raise UnsafePathError(
                f"{folder!r} in {root!r} is a link: remove it by hand", key=folder, store=root.name
            ) from None
        root.raise_error(error, folder, "look at")
    files: dict[str, Signature] = {}
    try:
        status = os.fstat(fd)
        _walk(fd, "", files)
    except OSError as error:
        root.raise_error(error, folder, "look at")
    finally:
        os.close(fd)
    return Tree((status.st_dev, status.st_ino), files, status.st_mtime)


def _walk(fd: int, prefix: str, files: dict[str, Signature]) -> None:
    with os.scandir(fd) as entries:
        listed = list(entries)
    for entry in listed:
        path = join_key(prefix, entry.name)
        try:
            if entry.is_dir(follow_symlinks=False):
                below = os.open(entry.name, FOLDER, dir_fd=fd)
                try:
                    _walk(below, path, files)
                finally:
                    os.close(below)
            else:
                found = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
                files[path] = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        except FileNotFoundError:
            continue  # it went meanwhile
