"""Artifacts as files below one folder of a POSIX file system.

*Nothing outside the root:* see `emdstore.stores.local.root`. A final link is never written through: a new file takes
its place.

*Whole objects only.* New bytes go to a staging file beside their place and are renamed over it. The staging file is in
the same folder because other folders may be other file systems or quota projects, where rename fails.
`FileSession.put_in_place` and `LocalArtifactStore.flush` say what is durable when, and why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import attrs
from typing_extensions import Protocol, runtime_checkable

from emdstore.errors import ArtifactNotFoundError, StoreError
from emdstore.keys import validate_key, validate_prefix
from emdstore.stores.left_out import only_artifacts
from emdstore.stores.local.copies import CopyFiles
from emdstore.stores.local.files import FileReader, describe, read_whole, sync_file_system
from emdstore.stores.local.listing import iter_files, iter_infos, remove_staging
from emdstore.stores.local.root import Durability, Root
from emdstore.stores.local.sessions import FileSession, FileWriter
from emdstore.stores.place import MANY_REQUESTS, most_requests
from emdstore.stores.port import ArtifactInfo, ArtifactStore, CopySession, LeftOut, Place


@runtime_checkable
class BringsFiles(Protocol):
    """A store whose artifacts are files of another machine: it brings them, with their times."""

    def files_to(self, root: Root, /) -> CopySession | None:
        """Open a session that copies to a folder of this machine; None if there is no such way."""
        ...


def _absolute(root: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(os.path.expanduser(root)))


@attrs.frozen(repr=False)
class LocalArtifactStore:
    """A folder on this machine, or on a file system that it shares with others.

    Attributes
    ----------
    root
        The folder. It need not exist: the first write creates it. It may be a link.
    durability
        What survives a power cut. ``"system"``: the operating system flushes when it likes, and `flush` makes
        everything so far durable at once. ``"object"``: each object and its folder are flushed before the write
        returns. Readers and killed processes never see half an object either way.

    Raises
    ------
    StoreError
        If Python does not read file names as UTF-8, as in a Latin-1 locale: keys would differ from those elsewhere. The
        command line takes care of this.
    """

    root: Path = attrs.field(converter=_absolute)
    durability: Durability = attrs.field(
        default="system", kw_only=True, validator=attrs.validators.in_(("system", "object"))
    )
    ground: Root = attrs.field(init=False, eq=False, default=attrs.Factory(lambda self: self._stand(), takes_self=True))

    def _stand(self) -> Root:
        if (encoding := sys.getfilesystemencoding()) != "utf-8":
            raise StoreError(
                f"cannot open {self!r}: this Python reads file names as {encoding}, so keys would differ from "
                "those elsewhere; set PYTHONUTF8=1 before it starts",
                store=repr(self),
            )
        return Root(self.root, self.durability, repr(self))

    def __repr__(self) -> str:
        return f"LocalArtifactStore({str(self.root)!r})"

    # -- the port ------------------------------------------------------------------------------------------------

    def exists(self, key: str, /) -> bool:
        """See `ArtifactStore.exists`."""
        try:
            with self.ground.translating("look at", key):
                self.ground.stat(validate_key(key))
        except ArtifactNotFoundError:
            return False
        return True

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`; `SourceChangedError` if the file was changed in place meanwhile."""
        with self.ground.translating("read", key):
            fd, status = self.ground.open_file(validate_key(key))
            try:
                return read_whole(fd, status, key)
            finally:
                os.close(fd)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        with self.session() as session:
            session.write_bytes(key, data)

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """See `ArtifactStore.iter_keys`.

        Links to files and folders inside the root are followed. Links that lead out, nowhere, or to a folder above
        them, files whose names are not keys, pipes and the like are left out and logged; `iter_found` yields them. A
        folder that cannot be read is an error.
        """
        validate_prefix(prefix)
        return (key for key, _ in only_artifacts(iter_files(self.ground, prefix), repr(self)))

    # -- capabilities --------------------------------------------------------------------------------------------

    def info(self, key: str, /) -> ArtifactInfo:
        """See `SupportsInfo.info`."""
        with self.ground.translating("look at", key):
            return describe(key, self.ground.stat(validate_key(key)))

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """See `SupportsInfo.iter_info`."""
        validate_prefix(prefix)
        return only_artifacts(iter_infos(self.ground, prefix), repr(self))

    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        """See `SupportsLeftOut.iter_found`."""
        validate_prefix(prefix)
        return iter_infos(self.ground, prefix)

    def open_reader(self, key: str, /) -> FileReader:
        """See `SupportsStreaming.open_reader`."""
        return FileReader(self.ground, validate_key(key))

    def open_writer(self, key: str, /) -> FileWriter:
        """See `SupportsStreaming.open_writer`."""
        return FileWriter(self.ground, validate_key(key))

    def create_bytes(self, key: str, data: bytes, /) -> None:
        """See `SupportsCreate.create_bytes`: by a hard link or, on a file system without, under the folder's lock."""
        with FileWriter(self.ground, validate_key(key), replace=False) as writer:
            writer.write(data)

    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        """See `SupportsReplaceIf.replace_bytes`: compared and renamed under the folder's lock; see `FolderLock`."""
        with self.session() as session:
            session.replace_bytes(key, data, seen)

    def delete(self, key: str, /) -> None:
        """See `SupportsDelete.delete`. Folders that become empty go too."""
        with self.ground.translating("delete", key):
            self._delete(key)

    def _delete(self, key: str) -> None:
        folder, _, name = validate_key(key).rpartition("/")
        try:
            fd = self.ground.open_folder(folder, key)
        except ArtifactNotFoundError:
            return
        try:
            if self.ground.what_is(fd, name, key) in ("file", "link"):
                os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            return
        except OSError as error:
            self.ground.raise_error(error, key, "delete")
        finally:
            os.close(fd)
        self.ground.prune(folder)

    def local_path(self, key: str = "", /) -> Path:
        """See `SupportsPath.local_path`."""
        if key == "":  # the root is inside itself
            return self.root
        path = self.root / validate_prefix(key)
        if not self.ground.is_plain(key):
            self.ground.inside(os.fspath(path), key)
        return path

    def place(self) -> Place:
        """See `SupportsPlace.place`."""
        path = os.path.realpath(self.root).strip("/")
        return Place("file system", path, remote=False, shared=True, requests=most_requests(MANY_REQUESTS))

    def scope(self, prefix: str, /) -> Self:
        """See `SupportsScope.scope`; `UnsafePathError` if a link leads the folder out of the root."""
        return attrs.evolve(self, root=self.local_path(validate_prefix(prefix)))

    def copy_from(self, source: ArtifactStore, /) -> CopySession | None:
        """See `SupportsCopyFrom.copy_from`: from another local store, or from one whose files are elsewhere."""
        if isinstance(source, LocalArtifactStore):
            return CopyFiles(source.ground, self.ground)
        return source.files_to(self.ground) if isinstance(source, BringsFiles) else None

    def session(self) -> FileSession:
        """See `SupportsSession.session`."""
        return FileSession(self.ground)

    def flush(self) -> None:
        """See `SupportsFlush.flush`.

        One call flushes the whole file system; for a batch it takes a third of the time of flushing each file.
        """
        try:
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            self.ground.raise_error(error, "", "flush")
        try:
            sync_file_system(fd)
        except OSError as error:
            self.ground.raise_error(error, "", "flush")
        finally:
            os.close(fd)

    def remove_staging(self, *, older_than: float = 3600.0, dry_run: bool = False) -> tuple[str, ...]:
        """Remove what killed writers have left behind.

        Parameters
        ----------
        older_than
            Seconds since the last write to the file; younger files may belong to a writer that is alive.
        dry_run
            Only return which there are.

        Returns
        -------
        tuple of str
            Their names, relative to the root.
        """
        return remove_staging(self.ground, older_than=older_than, dry_run=dry_run)
