"""Artifacts as files below one folder of a POSIX file system.

Two rules shape this module.

*Nothing outside the root.* A path that is checked and then opened by name can be swapped for a link in between. So
every folder is opened segment by segment with ``O_NOFOLLOW``, relative to the folder above it, and every file relative
to its folder's descriptor. Where a segment is a link, its target is resolved once, refused if it lies outside the root,
and otherwise opened in the same way. A final link is never written through: a new file takes its place.

*Whole objects only.* New bytes go to a staging file beside their place and are renamed over it. The staging file is in
the same folder because other folders may be other file systems or quota projects, where rename fails. What is durable
when, and why, is in `FileSession.put_in_place` and `LocalStore.flush`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NoReturn, Self

import attrs

from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    KeyConflictError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.keys import join_key, validate_key, validate_prefix
from emdstore.stores._local_files import (
    FOLDER,
    MOST_RACES,
    READ,
    CopyFiles,
    FileReader,
    FileSession,
    FileWriter,
    describe,
    sync_file_system,
    sync_folder,
)
from emdstore.stores._local_listing import iter_files, iter_infos, remove_staging
from emdstore.stores.port import ArtifactInfo, ArtifactStore

_MOST_LINKS = 40

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
        with self.session() as session:
            return session.read_bytes(key)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        with self.session() as session:
            session.write_bytes(key, data)

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """See `ArtifactStore.iter_keys`.

        Links to files and folders inside the root are followed; those that lead out, those to a folder that holds
        them, and files whose names are no keys are left out and logged.
        """
        validate_prefix(prefix)
        return (key for key, _ in iter_files(self, prefix))

    # -- capabilities --------------------------------------------------------------------------------------------

    def info(self, key: str, /) -> ArtifactInfo:
        """See `SupportsInfo.info`."""
        return describe(key, self._stat(validate_key(key)))

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """See `SupportsInfo.iter_info`."""
        validate_prefix(prefix)
        return iter_infos(self, prefix)

    def open_reader(self, key: str, /) -> FileReader:
        """See `SupportsStreaming.open_reader`."""
        return FileReader(self, validate_key(key))

    def open_writer(self, key: str, /) -> FileWriter:
        """See `SupportsStreaming.open_writer`."""
        return FileWriter(self, validate_key(key))

    def create_bytes(self, key: str, data: bytes, /) -> None:
        """See `SupportsCreate.create_bytes`. Needs a file system with hard links."""
        with FileWriter(self, validate_key(key), replace=False) as writer:
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

    def copy_from(self, source: ArtifactStore, /) -> CopyFiles | None:
        """See `SupportsCopyFrom.copy_from`: from another local store."""
        return CopyFiles(source, self) if isinstance(source, LocalStore) else None

    def session(self) -> FileSession:
        """See `SupportsSession.session`."""
        return FileSession(self)

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
            sync_file_system(fd)
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
        return remove_staging(self, older_than=older_than, dry_run=dry_run)

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
                        below = os.open(segment, FOLDER, dir_fd=fd)
                    except FileNotFoundError:
                        if not create:
                            self._raise_not_found(key)
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(segment, dir_fd=fd)
                        if self.durability == "object":
                            os.fsync(fd)
                        below = os.open(segment, FOLDER, dir_fd=fd)
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
                sync_folder(folder.parent)

    def _open(self, key: str) -> tuple[int, os.stat_result]:
        """Return a descriptor of the regular file at the key, which the caller closes, and what it is."""
        target = key
        for _ in range(_MOST_LINKS):
            folder, _, name = target.rpartition("/")
            folder_fd = self._open_folder(folder, key)
            try:
                fd = os.open(name, READ, dir_fd=folder_fd)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    self._raise(error, key, "open")
            else:
                status = os.fstat(fd)
                if stat.S_ISREG(status.st_mode):
                    return fd, status
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
            fd, found = self._open(key)
            os.close(fd)
            return found
        if not stat.S_ISREG(found.st_mode):
            self._raise_not_found(key)
        return found

    def _inside(self, path: str, key: str) -> str:
        """Return where a path really is, relative to the real root; refuse what lies outside."""
        for _ in range(MOST_RACES):
            try:
                real_root = os.path.realpath(self.root)
                real = real_root if path == os.fspath(self.root) else os.path.realpath(path)
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
