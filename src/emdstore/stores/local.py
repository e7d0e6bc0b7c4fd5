"""Artifacts as files below one folder of a POSIX file system.

Two rules shape this module.

*Nothing outside the root.* A path that is checked and then opened by name can be swapped for a link in between. So
every folder is opened segment by segment with ``O_NOFOLLOW``, relative to the folder above it, and every file relative
to its folder's descriptor. Where a segment is a link, its target is resolved once, refused if it lies outside the root,
and otherwise opened in the same way. A final link is never written through: a new file takes its place.

*Whole objects only.* New bytes go to a staging file beside their place and are renamed over it. The staging file is in
the same folder because other folders may be other file systems or quota projects, where rename fails. What is durable
when, and why, is in `_put_in_place` and `LocalStore.flush`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, NoReturn, Self

import attrs

from emdstore.errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    EmdstoreError,
    KeyConflictError,
    SourceChangedError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.keys import STAGING_PREFIX, is_staging, is_valid_key, join_key, validate_key, validate_prefix
from emdstore.stores.port import CHUNK_SIZE, ArtifactInfo, ArtifactStore, Copied

_log = logging.getLogger(__name__)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: to open a FIFO that somebody left in the tree must not wait for its writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STAGE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_MOST_LINKS = 40
_MOST_RACES = 20
_COPY_BUFFER = 1024 * 1024

Durability = Literal["system", "object"]


def _absolute(root: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(os.path.expanduser(root)))


@attrs.frozen(repr=False)
class LocalStore:
    """A folder of this machine, or of a file system that it shares with others.

    Attributes
    ----------
    root
        The folder. It need not exist: the first write makes it. The root itself may be a link.
    durability
        What a finished write means for a power cut. ``"system"``: the operating system flushes when it likes, and
        `flush` makes everything so far durable at once. ``"object"``: each object and its folder are flushed before the
        write returns. Readers and killed processes never see half an object either way.
    """

    root: Path = attrs.field(converter=_absolute)
    durability: Durability = attrs.field(
        default="system", kw_only=True, validator=attrs.validators.in_(("system", "object"))
    )

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    # -- the port ------------------------------------------------------------------------------------------------

    def exists(self, key: str, /) -> bool:
        """See `ArtifactStore.exists`."""
        try:
            self._stat(validate_key(key))
        except ArtifactNotFoundError:
            return False
        return True

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`; `SourceChangedError` if the file was changed in place meanwhile."""
        fd = self._open(validate_key(key))
        try:
            return _read_whole(fd, key)
        except OSError as error:
            self._raise(error, key, "read")
        finally:
            os.close(fd)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        with _Writer(self, validate_key(key)) as writer:
            writer.write(data)

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """See `ArtifactStore.iter_keys`.

        Links to files and folders inside the root are followed; those that lead out, those to a folder that holds
        them, and files whose names are no keys are left out and logged.
        """
        validate_prefix(prefix)
        return (key for key, _ in self._walk(prefix))

    # -- capabilities --------------------------------------------------------------------------------------------

    def info(self, key: str, /) -> ArtifactInfo:
        """See `SupportsInfo.info`."""
        return _info(key, self._stat(validate_key(key)))

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """See `SupportsInfo.iter_info`."""
        validate_prefix(prefix)
        return self._walk_info(prefix)

    def open_reader(self, key: str, /) -> _Reader:
        """See `SupportsStreaming.open_reader`."""
        return _Reader(self, key, self._open(validate_key(key)))

    def open_writer(self, key: str, /) -> _Writer:
        """See `SupportsStreaming.open_writer`."""
        return _Writer(self, validate_key(key))

    def create_bytes(self, key: str, data: bytes, /) -> None:
        """See `SupportsCreate.create_bytes`. Needs a file system with hard links."""
        with _Writer(self, validate_key(key), replace=False) as writer:
            writer.write(data)

    def delete(self, key: str, /) -> None:
        """See `SupportsDelete.delete`. Folders that become empty go too."""
        folder, _, name = validate_key(key).rpartition("/")
        try:
            fd = self._open_folder(folder, key)
        except ArtifactNotFoundError:
            return
        try:
            if self._what_is(fd, name, key) in ("file", "link"):
                os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            return
        except OSError as error:
            self._raise(error, key, "delete")
        finally:
            os.close(fd)
        self._prune(folder)

    def local_path(self, key: str = "", /) -> Path:
        """See `SupportsPath.local_path`."""
        path = self.root / validate_prefix(key)
        self._inside(os.fspath(path), key)
        return path

    def scope(self, prefix: str, /) -> Self:
        """See `SupportsScope.scope`; `UnsafePathError` if a link leads the folder out of the root."""
        return attrs.evolve(self, root=self.local_path(validate_prefix(prefix)))

    def copy_from(self, source: ArtifactStore, /) -> _CopyFiles | None:
        """See `SupportsCopyFrom.copy_from`: from another local store."""
        return _CopyFiles(source, self) if isinstance(source, LocalStore) else None

    def flush(self) -> None:
        """See `SupportsFlush.flush`.

        One call for the whole file system: for a batch it costs a third of flushing file by file.
        """
        try:
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            self._raise(error, "", "flush")
        try:
            _sync_file_system(fd)
        except OSError as error:
            self._raise(error, "", "flush")
        finally:
            os.close(fd)

    def remove_staging(self, *, older_than: float = 3600.0, dry_run: bool = False) -> tuple[str, ...]:
        """Remove what writers that were killed left behind.

        Parameters
        ----------
        older_than
            Seconds since the last write to the file; younger ones may belong to a writer that is alive.
        dry_run
            Only tell which there are.

        Returns
        -------
        tuple of str
            Their names, relative to the root.
        """
        removed = []
        limit = time.time() - older_than
        root = os.path.realpath(self.root)  # a root that is a link would not be walked
        for folder, _, names, fd in os.fwalk(root) if os.path.exists(root) else ():
            for name in filter(is_staging, names):
                path = os.path.relpath(os.path.join(folder, name), root)
                try:
                    if os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime <= limit:
                        if not dry_run:
                            os.unlink(name, dir_fd=fd)
                        removed.append(path)
                except FileNotFoundError:  # its writer is alive after all, and has just finished
                    continue
                except OSError as error:
                    self._raise(error, path, "remove")
        return tuple(sorted(removed))

    # -- opening without leaving the root --------------------------------------------------------------------------

    def _open_folder(self, folder: str, key: str, *, create: bool = False) -> int:
        """Return a descriptor of a folder of this store, on behalf of a key in it; the caller closes it."""
        for _ in range(_MOST_LINKS):
            try:
                fd = self._open_root(create=create)
            except FileNotFoundError:
                self._raise_not_found(key)
            except (NotADirectoryError, FileExistsError) as error:
                raised = StoreError(
                    f"the root of {self!r} is not a folder; choose another one, or move away what is there",
                    key=key,
                    store=repr(self),
                )
                raised.errno = errno.ENOTDIR
                raise raised from error
            except OSError as error:
                self._raise(error, key, "open")
            done = 0
            segments = folder.split("/") if folder else []
            try:
                for segment in segments:
                    try:
                        below = os.open(segment, _FOLDER, dir_fd=fd)
                    except FileNotFoundError:
                        if not create:
                            self._raise_not_found(key)
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(segment, dir_fd=fd)
                        if self.durability == "object":
                            os.fsync(fd)
                        below = os.open(segment, _FOLDER, dir_fd=fd)
                    os.close(fd)
                    fd = below
                    done += 1
                return fd
            except OSError as error:
                os.close(fd)
                if error.errno not in (errno.ENOTDIR, errno.ELOOP) or isinstance(error, EmdstoreError):
                    self._raise(error, key, "open")
                blocker = "/".join(segments[: done + 1])
                path = self.root / blocker
                if path.is_symlink():
                    folder = join_key(self._inside(os.fspath(path), key), *segments[done + 1 :])
                elif path.is_dir():
                    continue  # it was a link a moment ago
                elif create and path.exists():
                    raise KeyConflictError(
                        f"cannot hold {key!r} beside the artifact {blocker!r} in {self!r}: a file cannot be a "
                        "folder too; choose another key or delete that artifact",
                        key=key,
                        store=repr(self),
                    ) from None
                else:
                    self._raise_not_found(key)
        raise UnsafePathError(f"too many links on the way to {key!r} in {self!r}", key=key, store=repr(self))

    def _open_root(self, *, create: bool) -> int:
        try:
            return os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not create:
                raise
            self._make_root()
            return os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _make_root(self) -> None:
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self.root.mkdir(parents=True, exist_ok=True)
        if self.durability == "object":
            for folder in missing:
                _sync_folder(folder.parent)

    def _open(self, key: str) -> int:
        """Return a descriptor of the regular file at the key; the caller closes it."""
        target = key
        for _ in range(_MOST_LINKS):
            folder, _, name = target.rpartition("/")
            folder_fd = self._open_folder(folder, key)
            try:
                fd = os.open(name, _READ, dir_fd=folder_fd)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    self._raise(error, key, "open")
            else:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    return fd
                os.close(fd)
                self._raise_not_found(key)
            finally:
                os.close(folder_fd)
            target = self._inside(os.fspath(self.root / target), key)
        raise UnsafePathError(f"too many links on the way to {key!r} in {self!r}", key=key, store=repr(self))

    def _stat(self, key: str) -> os.stat_result:
        folder, _, name = key.rpartition("/")
        folder_fd = self._open_folder(folder, key)
        try:
            found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        except OSError as error:
            self._raise(error, key, "look at")
        finally:
            os.close(folder_fd)
        if stat.S_ISLNK(found.st_mode):
            fd = self._open(key)
            try:
                return os.fstat(fd)
            finally:
                os.close(fd)
        if not stat.S_ISREG(found.st_mode):
            self._raise_not_found(key)
        return found

    def _inside(self, path: str, key: str) -> str:
        """Return where a path really is, relative to the real root; refuse what lies outside."""
        for _ in range(_MOST_RACES):
            try:
                real_root, real = os.path.realpath(self.root), os.path.realpath(path)
                break
            except OSError:  # a link was swapped for something else between being seen and being read
                continue
        else:
            raise StoreUnavailableError(
                f"links on the way to {key!r} in {self!r} change again and again", key=key, store=repr(self)
            )
        if real != real_root and not real.startswith(real_root.rstrip("/") + "/"):
            raise UnsafePathError(
                f"{key!r} in {self!r} leads out of the store through a link; put the file itself there instead",
                key=key,
                store=repr(self),
            )
        return real[len(real_root) :].strip("/")

    def _what_is(self, folder_fd: int, name: str, key: str) -> Literal["absent", "file", "folder", "link"]:
        try:
            mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return "absent"
        if stat.S_ISLNK(mode):
            self._inside(os.fspath(self.root / key), key)
            return "link"
        return "folder" if stat.S_ISDIR(mode) else "file"

    # -- listing -------------------------------------------------------------------------------------------------

    def _walk(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        try:
            fd = self._open_folder(prefix, prefix)
        except ArtifactNotFoundError:
            return
        here = os.fstat(fd)
        yield from self._walk_folder(fd, prefix + "/" if prefix else "", ((here.st_dev, here.st_ino),))

    def _walk_folder(
        self, fd: int, prefix: str, above: tuple[tuple[int, int], ...]
    ) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield the files below an open folder, which is closed at the end; a folder sorts as its name plus ``/``."""
        try:
            with os.scandir(fd) as entries:
                named = sorted(filter(None, (self._list_as(entry, prefix) for entry in entries)), key=lambda e: e[0])
            for name, entry in named:
                if not name.endswith("/"):
                    yield prefix + name, entry
                    continue
                try:
                    if entry.is_symlink():
                        below = self._open_folder(prefix + name[:-1], prefix + name[:-1])
                    else:
                        below = os.open(entry.name, _FOLDER, dir_fd=fd)
                except (OSError, UnsafePathError) as error:
                    # Gone or swapped since the folder was read; what cannot be read at all must not pass for empty.
                    if isinstance(error, FileNotFoundError | NotADirectoryError | UnsafePathError):
                        continue
                    self._raise(error, prefix + name[:-1], "list")
                status = os.fstat(below)
                if (status.st_dev, status.st_ino) in above:
                    os.close(below)
                    _log.warning("left out of the listing: %s%s links to a folder that holds it", prefix, name)
                    continue
                yield from self._walk_folder(below, prefix + name, (*above, (status.st_dev, status.st_ino)))
        finally:
            os.close(fd)

    def _list_as(self, entry: os.DirEntry[str], prefix: str) -> tuple[str, os.DirEntry[str]] | None:
        name = entry.name
        if is_staging(name):
            return None
        if not is_valid_key(prefix + name):
            _log.warning("left out of the listing: %r in %r is no valid key", prefix + name, self)
            return None
        if entry.is_symlink():
            try:
                self._inside(os.fspath(self.root / (prefix + name)), prefix + name)
            except UnsafePathError:
                _log.warning("left out of the listing: %s%s leads out of %r", prefix, name, self)
                return None
            path = self.root / (prefix + name)
            if not path.is_file():
                return (name + "/", entry) if path.is_dir() else None
            return name, entry
        if entry.is_dir(follow_symlinks=False):
            return name + "/", entry
        return (name, entry) if entry.is_file(follow_symlinks=False) else None

    def _walk_info(self, prefix: str) -> Iterator[ArtifactInfo]:
        for key, entry in self._walk(prefix):
            try:
                status = self._stat(key) if entry.is_symlink() else entry.stat(follow_symlinks=False)
            except (FileNotFoundError, UnsafePathError):  # removed or swapped since the folder was read
                continue
            if stat.S_ISREG(status.st_mode):
                yield _info(key, status)

    def _prune(self, folder: str) -> None:
        """Remove a folder and those above it while they are empty; the root stays."""
        while folder:
            above, _, name = folder.rpartition("/")
            try:
                fd = self._open_folder(above, folder)
            except EmdstoreError:
                return
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError:
                return
            finally:
                os.close(fd)
            folder = above

    # -- errors --------------------------------------------------------------------------------------------------

    def _raise_not_found(self, key: str) -> NoReturn:
        raise ArtifactNotFoundError(f"no artifact {key!r} in {self!r}", key=key, store=repr(self)) from None

    def _raise(self, error: OSError, key: str, verb: str) -> NoReturn:
        if isinstance(error, EmdstoreError):
            raise error
        if isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno == errno.ENXIO:  # ENXIO: a socket
            self._raise_not_found(key)
        kind, advice = _KINDS.get(error.errno or 0, (StoreError, "nothing was changed"))
        raised = kind(f"cannot {verb} {key!r} in {self!r}: {error.strerror}; {advice}", key=key, store=repr(self))
        raised.errno = error.errno
        raise raised from error


_KINDS: dict[int, tuple[type[StoreError], str]] = {
    errno.EACCES: (StoreAccessError, "check the permissions of the file and its folders"),
    errno.EPERM: (StoreAccessError, "check the permissions of the file and its folders"),
    errno.EROFS: (StoreAccessError, "the file system is mounted read-only"),
    errno.ENOSPC: (StoreError, "what was there before is intact; free some space and run it again"),
    errno.EFBIG: (StoreError, "what was there before is intact; files of this size are not allowed here"),
    errno.EDQUOT: (StoreError, "what was there before is intact; the quota is used up"),
    errno.ESTALE: (StoreUnavailableError, "the file server changed it meanwhile; try again"),
    errno.ETIMEDOUT: (StoreUnavailableError, "the file server does not answer; try again"),
    errno.EAGAIN: (StoreUnavailableError, "try again"),
    errno.EBUSY: (StoreUnavailableError, "try again"),
}


def _info(key: str, status: os.stat_result) -> ArtifactInfo:
    return ArtifactInfo(key, status.st_size, status.st_mtime_ns / 1e9, f"{status.st_mtime_ns:x}-{status.st_ino:x}")


# -- reading -------------------------------------------------------------------------------------------------------


def _read_whole(fd: int, key: str) -> bytes:
    before = os.fstat(fd)
    # One byte more than expected: a file that grows meanwhile shows by it, without another call.
    data = os.read(fd, before.st_size + 1)
    while len(data) < before.st_size:  # only a very large file, or one that was cut off, comes in parts
        more = os.read(fd, before.st_size + 1 - len(data))
        if not more:
            break
        data += more
    _check_unchanged(before, os.fstat(fd), len(data), key)
    return data


def _check_unchanged(before: os.stat_result, after: os.stat_result, size: int, key: str) -> None:
    if size != before.st_size or after.st_size != before.st_size or after.st_mtime_ns != before.st_mtime_ns:
        raise SourceChangedError(
            f"{key!r} changed while it was read ({before.st_size} bytes before, {after.st_size} after); "
            "run it again when its writer is done",
            key=key,
        )


class _Reader:
    """An open file, checked at its end against what it was when it was opened."""

    def __init__(self, store: LocalStore, key: str, fd: int) -> None:
        self._store, self._fd, self._read = store, fd, 0
        self._before = os.fstat(fd)
        self.info = _info(key, self._before)

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        try:
            data = os.read(self._fd, size)
        except OSError as error:
            self._store._raise(error, self.info.key, "read")
        self._read += len(data)
        if not data and size:
            _check_unchanged(self._before, os.fstat(self._fd), self._read, self.info.key)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        os.close(self._fd)


# -- writing -------------------------------------------------------------------------------------------------------


class _Writer:
    """A staging file that takes its place when the block is left in good order."""

    def __init__(self, store: LocalStore, key: str, *, replace: bool = True) -> None:
        self._store, self._key, self._replace = store, key, replace
        self._folder, _, self._name = key.rpartition("/")
        self._folder_fd = self._fd = -1

    def __enter__(self) -> Self:
        self._staged = _staging_name()
        self._folder_fd, self._fd = _stage_in(self._store, self._folder, self._name, self._key, self._staged)
        return self

    def write(self, data: bytes, /) -> None:
        try:
            _write_all(self._fd, data)
        except OSError as error:
            self._store._raise(error, self._key, "write")

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        try:
            if kind is not None:
                _discard(self._folder_fd, self._staged, self._fd)
            else:
                _put_in_place(
                    self._store, self._folder_fd, self._staged, self._fd, self._name, self._key, replace=self._replace
                )
        finally:
            os.close(self._folder_fd)


def _staging_name() -> str:
    return STAGING_PREFIX + secrets.token_hex(8)


def _stage_in(store: LocalStore, folder: str, name: str, key: str, staged: str) -> tuple[int, int]:
    """Open the key's folder and a staging file in it; the folder may be pruned by another process in between."""
    for _ in range(_MOST_RACES):
        try:
            folder_fd = store._open_folder(folder, key, create=True)
        except ArtifactNotFoundError:
            continue
        try:
            return folder_fd, _stage(store, folder_fd, name, key, staged)
        except FileNotFoundError:
            os.close(folder_fd)
        except BaseException:
            os.close(folder_fd)
            raise
    raise StoreUnavailableError(f"{folder!r} in {store!r} is removed again and again", key=key, store=repr(store))


def _stage(store: LocalStore, folder_fd: int, name: str, key: str, staged: str) -> int:
    """Open a staging file, but first refuse, before a byte moves, what could not take its place."""
    try:
        if store._what_is(folder_fd, name, key) == "folder":
            # A folder without artifacts is nothing in this store, so it may not stand in the way of one.
            _remove_empty_folders(folder_fd, name)
        return os.open(staged, _STAGE, 0o666, dir_fd=folder_fd)
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        _raise_folder(store, key)
    except OSError as error:
        store._raise(error, key, "write")


def _raise_folder(store: LocalStore, key: str) -> NoReturn:
    raise KeyConflictError(
        f"cannot hold {key!r} in {store!r} beside artifacts below it: a file cannot be a folder too; "
        "choose another key or delete those artifacts",
        key=key,
        store=repr(store),
    ) from None


def _write_all(fd: int, data: bytes | memoryview) -> None:
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def _discard(folder_fd: int, staged: str, fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)
    with contextlib.suppress(OSError):
        os.unlink(staged, dir_fd=folder_fd)


def _put_in_place(
    store: LocalStore, folder_fd: int, staged: str, fd: int, name: str, key: str, *, replace: bool = True
) -> None:
    """Close a staging file and give it its name; on failure it is removed and what had the name keeps it.

    The only place where a file gets its name, so that no caller can forget a step. Close comes before rename because
    network file systems report write errors at close. With ``durability="object"`` the bytes are flushed before the
    rename and the folder after it, because a rename can reach the disk before the bytes that it names.
    """
    try:
        try:
            if store.durability == "object":
                os.fsync(fd)
        finally:
            os.close(fd)
        if replace:
            os.rename(staged, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        else:
            os.link(staged, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            os.unlink(staged, dir_fd=folder_fd)
        if store.durability == "object":
            os.fsync(folder_fd)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(staged, dir_fd=folder_fd)
        if isinstance(error, FileExistsError):
            raise ArtifactExistsError(
                f"{key!r} is already there in {store!r}; it was left as it is", key=key, store=repr(store)
            ) from None
        if isinstance(error, IsADirectoryError):  # made since the staging file was opened
            _raise_folder(store, key)
        if isinstance(error, OSError):
            store._raise(error, key, "write")
        raise


def _remove_empty_folders(folder_fd: int, name: str) -> None:
    """Remove a tree of folders without a file; raises `IsADirectoryError` if it holds one."""
    fd = os.open(name, _FOLDER, dir_fd=folder_fd)
    try:
        with os.scandir(fd) as entries:
            below = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        for folder in below:
            _remove_empty_folders(fd, folder)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=folder_fd)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name) from None


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_file_system(fd: int) -> None:
    import ctypes  # for this alone

    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):  # not Linux
        os.sync()
        return
    if syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


# -- copying -------------------------------------------------------------------------------------------------------


class _CopyFiles:
    """Copies files between two local stores, hashing them on the way.

    Sorted keys come folder by folder, so the session keeps the two folders of the last key open, one name for its
    staging files, which exist one at a time, and one buffer: touching fresh memory costs more than the copy. A small
    file then costs ten system calls, and no path is resolved twice.
    """

    def __init__(self, source: LocalStore, dest: LocalStore) -> None:
        self._source, self._dest = source, dest
        self._folder: str | None = None
        self._source_fd = self._dest_fd = -1
        self._staged = _staging_name()
        self._buffer = memoryview(bytearray(_COPY_BUFFER))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._leave()

    def copy(self, key: str, moved: Callable[[int], object] | None = None, /) -> Copied:
        folder, _, name = validate_key(key).rpartition("/")
        if folder != self._folder:
            self._enter(folder, key)
        fd = self._open(name, key)
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                self._source._raise_not_found(key)
            out = self._stage(folder, name, key)
            try:
                size, digest = self._pour(fd, out, before.st_size, key, moved)
                # Checked when all is written, so that whatever changes the source later gives it a later time than the
                # copy has: the next transfer sees that.
                _check_unchanged(before, os.fstat(fd), size, key)
            except BaseException:
                _discard(self._dest_fd, self._staged, out)
                raise
            _put_in_place(self._dest, self._dest_fd, self._staged, out, name, key)
        finally:
            os.close(fd)
        return Copied(size, digest)

    def _pour(self, fd: int, out: int, size: int, key: str, moved: Callable[[int], object] | None) -> tuple[int, str]:
        """Copy that many bytes, or as many as there are; return their count and digest."""
        digest, done = hashlib.sha256(), 0
        while done < size:
            try:
                count = os.readv(fd, [self._buffer])
            except OSError as error:
                self._source._raise(error, key, "read")
            if not count:
                break
            chunk = self._buffer[:count]
            digest.update(chunk)
            try:
                _write_all(out, chunk)
            except OSError as error:
                self._dest._raise(error, key, "write")
            done += count
            if moved is not None:
                moved(count)
        return done, digest.hexdigest()

    def _open(self, name: str, key: str) -> int:
        try:
            return os.open(name, _READ, dir_fd=self._source_fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return self._source._open(key)
            self._source._raise(error, key, "open")

    def _stage(self, folder: str, name: str, key: str) -> int:
        if self._dest_fd >= 0:
            try:
                return _stage(self._dest, self._dest_fd, name, key, self._staged)
            except FileNotFoundError:  # the folder was pruned by another process
                os.close(self._dest_fd)
                self._dest_fd = -1
        self._dest_fd, out = _stage_in(self._dest, folder, name, key, self._staged)
        return out

    def _enter(self, folder: str, key: str) -> None:
        self._leave()
        self._source_fd = self._source._open_folder(folder, key)
        self._folder = folder

    def _leave(self) -> None:
        self._folder = None
        for fd in (self._source_fd, self._dest_fd):
            if fd >= 0:
                os.close(fd)
        self._source_fd = self._dest_fd = -1
