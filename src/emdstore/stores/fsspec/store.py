"""Artifacts on any file system that fsspec knows.

fsspec promises less than the port asks: its file systems differ in what a write means, cache listings, expand ``*`` in
paths and lose their threads at a fork. So this module uses the few calls that take a path literally (``ls``, ``info``,
``cat_file``, ``pipe_file``, ``open``, ``rm_file``), opens a file system of its own in every process, with caches off,
and writes in the one way that is atomic on the kind of file system at hand:

- object stores, and fsspec's memory, put an object whole, or complete it when its last part is there;
- others get a staging file beside the artifact, which is then moved over it, if they can rename;
- one that can do neither is for reading only;
- a local disk is `LocalArtifactStore`'s, whose guards against links fsspec lacks.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import unquote

import fsspec

from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    InvalidKeyError,
    KeyConflictError,
    MissingExtraError,
    StoreError,
    StoreURLError,
    redact,
    redact_url,
    secrets_in,
)
from emdstore.keys import STAGING_PREFIX, is_staging, validate_key, validate_prefix
from emdstore.stores.fsspec.streams import BLOCK, FileReader, FileWriter
from emdstore.stores.fsspec.systems import (
    Mechanics,
    describe,
    meaning,
    mechanics_of,
    open_file_system,
    secret_options,
    why_not_a_path,
)
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.port import ArtifactInfo
from emdstore.stores.spelling import unknown_scheme

_log = logging.getLogger(__name__)

_LOCAL = ("file", "local")
_CACHING = ("blockcache", "cached", "filecache", "simplecache")


class FsspecArtifactStore:
    """A folder of a file system that fsspec opens by URL.

    A ``file://`` URL gives a `LocalArtifactStore`: fsspec's own would follow links out of the folder.

    Parameters
    ----------
    url
        What `fsspec.core.url_to_fs` takes. Keys are appended to it as they are.
    **storage_options
        For the file system. Listing and instance caches are off whatever is given here, and s3fs' own attempts are kept
        to three unless ``config_kwargs`` says otherwise, since `transfer` tries again, too.

    Raises
    ------
    StoreURLError
        If fsspec does not know the URL's scheme, or it names a cache, which could be stale.
    MissingExtraError
        If the package that serves the scheme is not installed.

    Notes
    -----
    It has the capabilities `SupportsInfo`, `SupportsStreaming` and `SupportsDelete`. It pickles as URL and options.
    """

    def __new__(cls, url: str, **storage_options: Any) -> Any:
        """Return the store for the URL."""
        if isinstance(url, str) and url.partition("://")[0] in _LOCAL:
            return LocalArtifactStore(local_path(url), **storage_options)
        return super().__new__(cls)

    def __init__(self, url: str, **storage_options: Any) -> None:
        scheme = re.split("::|://", url, maxsplit=1)[0] if isinstance(url, str) else ""
        if scheme in _CACHING:
            raise StoreURLError(
                f"{redact_url(url)!r} is a cache, whose listings may be stale; open what it caches instead"
            )
        try:
            fsspec.get_filesystem_class(scheme)
        except ValueError:
            raise unknown_scheme(str(url)) from None
        except ImportError as error:
            if scheme in ("s3", "s3a"):
                raise MissingExtraError.of(f"{redact_url(url)!r} by fsspec", "s3fs") from error
            raise MissingExtraError(f"{redact_url(url)!r} needs another package: {error}") from error
        self._url = url
        self._options = storage_options
        self._secrets = (*secrets_in(url), *secret_options(storage_options))
        self._name = f"FsspecArtifactStore({redact(redact_url(url), self._secrets)!r})"
        self._opened: dict[int, tuple[Any, str, Mechanics]] = {}
        self._root_seen = False

    def __repr__(self) -> str:
        return self._name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FsspecArtifactStore):
            return NotImplemented
        return (self._url, self._options) == (other._url, other._options)

    def __hash__(self) -> int:
        return hash(self._url)

    def __reduce__(self) -> tuple[object, ...]:
        return _open_again, (type(self), self._url, self._options)

    # -- the port ------------------------------------------------------------------------------------------------

    def exists(self, key: str, /) -> bool:
        """See `ArtifactStore.exists`."""
        try:
            self.info(key)
        except ArtifactNotFoundError:
            return False
        return True

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`."""
        fs, path, _ = self._at(key)
        with self._trying("read", key):
            return bytes(fs.cat_file(path))

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        fs, path, mechanics = self._at(key)
        self._refuse_folder(key)
        with self._trying("write", key):
            if mechanics == "rename":
                with self._staged(key) as staging:
                    fs.pipe_file(staging, bytes(data))
            else:
                fs.pipe_file(path, bytes(data))

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """See `ArtifactStore.iter_keys`: folder by folder, so a folder's names are in memory at a time."""
        validate_prefix(prefix)
        return (key for key, _ in self._walk(prefix))

    # -- capabilities --------------------------------------------------------------------------------------------

    def info(self, key: str, /) -> ArtifactInfo:
        """See `SupportsInfo.info`; `modified` is NaN where the file system does not tell."""
        fs, path, _ = self._at(key)
        with self._trying("look at", key):
            found = fs.info(path)
        if found["type"] != "file":
            self._raise_not_found(key)
        return describe(key, found)

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """See `SupportsInfo.iter_info`."""
        validate_prefix(prefix)
        return (describe(key, found) for key, found in self._walk(prefix))

    def open_reader(self, key: str, /) -> FileReader:
        """See `SupportsStreaming.open_reader`."""
        info = self.info(key)
        fs, path, mechanics = self._at(key)
        with self._trying("read", key):
            if mechanics == "memory":  # whose files are one shared object with one position
                data = fs.cat_file(path)
                return FileReader(self, ArtifactInfo(key, len(data), info.modified, info.version), io.BytesIO(data))
            return FileReader(self, info, fs.open(path, "rb", block_size=BLOCK))

    def open_writer(self, key: str, /) -> FileWriter:
        """See `SupportsStreaming.open_writer`; what is smaller than 8 MiB is written in one call."""
        self._at(key)
        return FileWriter(self, key)

    def delete(self, key: str, /) -> None:
        """See `SupportsDelete.delete`."""
        fs, path, mechanics = self._at(key)
        with contextlib.suppress(ArtifactNotFoundError):
            if mechanics != "whole" or not self._root_seen:
                self.info(key)  # others may take `rm_file` of a folder for an order to remove it
            with self._trying("delete", key):
                fs.rm_file(path)
                if mechanics == "rename":
                    self._prune(path)

    # -- the file system -----------------------------------------------------------------------------------------

    def _open(self) -> tuple[Any, str, Mechanics]:
        """Return this process' file system, what it calls the root with a slash, and how it can be written to."""
        pid = os.getpid()
        if pid not in self._opened:
            try:
                fs, root = open_file_system(self._url, self._options)
            except (ImportError, OSError, TypeError, ValueError) as error:
                raise StoreURLError(
                    f"{self!r} cannot be opened with these options: {self._first_line(error)}", store=repr(self)
                ) from None
            # Some file systems have a slash before the first name, some have none.
            base = str(fs._strip_protocol(root.rstrip("/") + "/x"))[:-1]
            self._opened[pid] = fs, base, mechanics_of(fs)
        return self._opened[pid]

    def _at(self, key: str) -> tuple[Any, str, Mechanics]:
        validate_key(key)
        fs, base, mechanics = self._open()
        path = base + key
        if (reason := why_not_a_path(fs, path, mechanics)) is not None:
            raise InvalidKeyError(f"not a valid key: {key!r}: {reason} in {self!r}", key=key, store=repr(self))
        return fs, path, mechanics

    def _refuse_folder(self, key: str) -> None:
        """Refuse to write over a folder, which some file systems would take as an order to write into it."""
        fs, path, mechanics = self._at(key)
        if mechanics == "read":
            raise StoreError(
                f"cannot write {key!r} in {self!r}: its file system can neither put whole objects nor rename files",
                key=key,
                store=repr(self),
            )
        if mechanics == "whole":
            return
        with contextlib.suppress(ArtifactNotFoundError), self._trying("look at", key):
            if fs.info(path)["type"] == "directory":
                self._raise_conflict(key)

    @contextlib.contextmanager
    def _staged(self, key: str) -> Iterator[str]:
        """Give the path of a staging file, which is put in place at the end, or removed."""
        fs, path, _ = self._at(key)
        folder = path.rpartition("/")[0]
        fs.makedirs(folder, exist_ok=True)
        staging = f"{folder}/{STAGING_PREFIX}{os.urandom(8).hex()}"
        try:
            yield staging
            fs.mv(staging, path)
        except BaseException:
            with contextlib.suppress(Exception):
                fs.rm_file(staging)
            raise

    def _prune(self, path: str) -> None:
        """Remove the folders above a path while they are empty; as keys, they would be in the way of a file."""
        fs, base, _ = self._open()
        with contextlib.suppress(OSError, NotImplementedError):
            while (path := path.rpartition("/")[0]) + "/" != base:
                fs.rmdir(path)

    # -- listing -------------------------------------------------------------------------------------------------

    def _walk(self, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        fs, base, _ = self._open()
        fs.invalidate_cache()
        yield from self._walk_folder(fs, base, prefix + "/" if prefix else "")

    def _walk_folder(self, fs: Any, base: str, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the keys below a folder, which is given with its slash, and what the file system says of them."""
        found: dict[str, Mapping[str, Any]] = {}
        for entry in self._list(fs, (base + folder).rstrip("/"), folder):
            if not entry["name"].startswith(base + folder):
                continue  # the folder itself, or a file of its name
            is_folder = entry["type"] == "directory"
            name = entry["name"][len(base + folder) :]
            if is_folder:
                name = name.removesuffix("/")
            if is_staging(name) or entry["type"] not in ("directory", "file"):
                continue
            try:
                if "/" in validate_key(name):
                    raise InvalidKeyError(f"not a name in {folder!r}: {name!r}")
                validate_key(folder + name)
            except InvalidKeyError as error:
                _log.warning("left out of the listing of %r: %s", self, error)
                continue
            # A folder sorts as its name plus "/", which is where its keys do.
            found[name + "/" if is_folder else name] = entry
        for name in sorted(found):
            if name.endswith("/"):
                yield from self._walk_folder(fs, base, folder + name)
            else:
                yield folder + name, found[name]

    def _list(self, fs: Any, path: str, folder: str) -> list[Mapping[str, Any]]:
        while True:
            try:
                with self._trying("list", folder.rstrip("/")):
                    return list(fs.ls(path, detail=True))
            except ArtifactNotFoundError:
                return []
            except _ChangedMeanwhileError:
                continue

    # -- errors --------------------------------------------------------------------------------------------------

    def _trying(self, verb: str, key: str) -> _Trying:
        return _Trying(self, verb, key)

    def _raise_not_found(self, key: str) -> NoReturn:
        raise ArtifactNotFoundError(f"no artifact {key!r} in {self!r}", key=key, store=repr(self)) from None

    def _raise_conflict(self, key: str) -> NoReturn:
        raise KeyConflictError(
            f"cannot hold {key!r} in {self!r} beside what lies there: a file cannot be a folder too; choose another "
            "key",
            key=key,
            store=repr(self),
        ) from None

    def _look_for_root(self, key: str, verb: str) -> None:
        """Tell a missing bucket from a missing object."""
        if self._root_seen:
            return
        fs, base, mechanics = self._open()
        bucket = base.partition("/")[0]
        if mechanics == "whole" and bucket:
            try:
                fs.info(bucket)
            except FileNotFoundError:
                raise StoreError(
                    f"cannot {verb} {key!r} in {self!r}: there is no bucket {bucket!r}: check its name and the "
                    "endpoint",
                    key=key,
                    store=repr(self),
                ) from None
            except PermissionError:
                pass  # to look at the bucket may not be allowed where its objects are
        self._root_seen = True

    def _raise(self, error: Exception, verb: str, key: str) -> NoReturn:
        if isinstance(error, FileNotFoundError):
            self._look_for_root(key, verb)
            if verb != "write":
                self._raise_not_found(key)
        if isinstance(error, FileExistsError | IsADirectoryError | NotADirectoryError):
            if verb == "write":
                self._raise_conflict(key)
            self._raise_not_found(key)
        kind, advice = meaning(error)
        what = f"cannot {verb} {key!r} in {self!r}" if key else f"cannot {verb} {self!r}"
        raise kind(f"{what}: {self._first_line(error)}; {advice}", key=key or None, store=repr(self)) from None

    def _first_line(self, error: Exception) -> str:
        said = str(error).partition("\n")[0][:300] or type(error).__name__
        return redact(said, self._secrets)


def local_path(url: str) -> str:
    """Return the path in a ``file://`` URL; ``%20`` and the like are decoded, ``?`` and ``#`` are part of the path."""
    host, slash, path = url.partition("://")[2].partition("/")
    if not slash or host not in ("", "localhost"):
        raise StoreURLError(
            f"not the URL of a folder of this machine: {redact_url(url)!r}; write file:///absolute/path"
        )
    return unquote("/" + path)


def _open_again(kind: type[FsspecArtifactStore], url: str, options: dict[str, Any]) -> FsspecArtifactStore:
    store: FsspecArtifactStore = kind(url, **options)
    return store


class _ChangedMeanwhileError(EmdstoreError):
    """A listing that met a removal; it is taken again."""


class _Trying:
    """A block whose errors of the file system leave it as errors of ours."""

    __slots__ = ("_key", "_store", "_verb")

    def __init__(self, store: FsspecArtifactStore, verb: str, key: str) -> None:
        self._store, self._verb, self._key = store, verb, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, KeyError) and self._verb == "list":
            raise _ChangedMeanwhileError from None  # so fsspec's memory says it
        if isinstance(error, Exception) and not isinstance(error, EmdstoreError):
            self._store._raise(error, self._verb, self._key)
