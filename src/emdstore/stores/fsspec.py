"""Artifacts on any file system that fsspec knows.

fsspec promises less than the port asks: its file systems differ in what a write means, cache listings, expand ``*`` in
paths and lose their threads at a fork. So this module uses the few calls that take a path literally (``ls``, ``info``,
``cat_file``, ``pipe_file``, ``open``, ``rm_file``), opens a file system of its own in every process, with caches off,
and writes in the one way that is atomic on the kind of file system at hand:

- object stores, and fsspec's memory, put an object whole, or complete it when its last part is there;
- others get a staging file beside the artifact, which is then moved over it, if they can rename;
- one that can do neither is for reading only;
- a local disk is `LocalStore`'s, whose guards against links fsspec lacks.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import pickle
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, NoReturn, Self
from urllib.parse import unquote

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    InvalidKeyError,
    KeyConflictError,
    MissingExtraError,
    SourceChangedError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    StoreURLError,
    redact,
)
from emdstore.keys import MAX_KEY_BYTES, STAGING_PREFIX, is_staging, validate_key, validate_prefix
from emdstore.stores.local import LocalStore
from emdstore.stores.port import CHUNK_SIZE, ArtifactInfo

_log = logging.getLogger(__name__)

_BLOCK = 8 * 1024 * 1024
_LOCAL = ("file", "local")
_CACHING = ("blockcache", "cached", "filecache", "simplecache")
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "ocilake", "cos", "swift"}
_SECRET_OPTION = re.compile(r"key|secret|token|pass|credential|sas|connection_string", re.IGNORECASE).search

Mechanics = Literal["memory", "whole", "rename", "read"]


class FsspecStore:
    """A folder of a file system that fsspec opens by URL.

    A ``file://`` URL gives a `LocalStore`: fsspec's own would follow links out of the folder.

    Parameters
    ----------
    url
        What `fsspec.core.url_to_fs` takes. Keys are appended to it as they are.
    **storage_options
        For the file system. Listing and instance caches are off whatever is given here, and s3fs' own attempts are kept
        to three unless ``config_kwargs`` says otherwise, since `emdstore.transfer` tries again, too.

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
            return LocalStore(local_path(url), **storage_options)
        return super().__new__(cls)

    def __init__(self, url: str, **storage_options: Any) -> None:
        scheme = re.split("::|://", url, maxsplit=1)[0] if isinstance(url, str) else ""
        if scheme in _CACHING:
            raise StoreURLError(f"{redact(url)!r} is a cache, whose listings may be stale; open what it caches instead")
        try:
            fsspec.get_filesystem_class(scheme)
        except ValueError:
            known = ", ".join(fsspec.available_protocols())
            raise StoreURLError(f"unknown scheme in {redact(str(url))!r}; fsspec knows {known}") from None
        except ImportError as error:
            if scheme in ("s3", "s3a"):
                raise MissingExtraError.of(f"{redact(url)!r} by fsspec", "s3fs") from error
            raise MissingExtraError(f"{redact(url)!r} needs another package: {error}") from error
        self._url = url
        self._options = storage_options
        self._name = f"FsspecStore({redact(url, _secrets_in(storage_options))!r})"
        self._opened: dict[int, tuple[Any, str, Mechanics]] = {}
        self._root_seen = False

    def __repr__(self) -> str:
        return self._name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FsspecStore):
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
        return _info(key, found)

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """See `SupportsInfo.iter_info`."""
        validate_prefix(prefix)
        return (_info(key, found) for key, found in self._walk(prefix))

    def open_reader(self, key: str, /) -> _Reader:
        """See `SupportsStreaming.open_reader`."""
        info = self.info(key)
        fs, path, mechanics = self._at(key)
        with self._trying("read", key):
            if mechanics == "memory":  # whose files are one shared object with one position
                data = fs.cat_file(path)
                return _Reader(self, ArtifactInfo(key, len(data), info.modified, info.version), io.BytesIO(data))
            return _Reader(self, info, fs.open(path, "rb", block_size=_BLOCK))

    def open_writer(self, key: str, /) -> _Writer:
        """See `SupportsStreaming.open_writer`; what is smaller than 8 MiB is written in one call."""
        self._at(key)
        return _Writer(self, key)

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
                fs, root = _open_file_system(self._url, self._options)
            except (ImportError, OSError, TypeError, ValueError) as error:
                raise StoreURLError(
                    f"{self!r} cannot be opened with these options: {self._first_line(error)}", store=repr(self)
                ) from None
            # Some file systems have a slash before the first name, some have none.
            base = str(fs._strip_protocol(root.rstrip("/") + "/x"))[:-1]
            self._opened[pid] = fs, base, _mechanics(fs)
        return self._opened[pid]

    def _at(self, key: str) -> tuple[Any, str, Mechanics]:
        validate_key(key)
        fs, base, mechanics = self._open()
        path = base + key
        if (reason := _why_not(fs, path, mechanics)) is not None:
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
        staging = f"{folder}/{STAGING_PREFIX}{secrets.token_hex(8)}"
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
        kind, advice = _meaning(error)
        what = f"cannot {verb} {key!r} in {self!r}" if key else f"cannot {verb} {self!r}"
        raise kind(f"{what}: {self._first_line(error)}; {advice}", key=key or None, store=repr(self)) from None

    def _first_line(self, error: Exception) -> str:
        said = str(error).partition("\n")[0][:300] or type(error).__name__
        return redact(said, _secrets_in(self._options))


def local_path(url: str) -> str:
    """Return the path in a ``file://`` URL; ``%20`` and the like are decoded, ``?`` and ``#`` are part of the path."""
    host, slash, path = url.partition("://")[2].partition("/")
    if not slash or host not in ("", "localhost"):
        raise StoreURLError(f"not the URL of a folder of this machine: {redact(url)!r}; write file:///absolute/path")
    return unquote("/" + path)


# Opening one loads botocore's models, say, for a third of a second, which a worker should not do for every store that
# it is sent. fsspec's own cache is not used because others may have opened its instances with listing caches on.
_file_systems: dict[tuple[object, ...], Any] = {}


def _open_file_system(url: str, given: Mapping[str, Any]) -> tuple[Any, str]:
    """Return a file system of this process, shared by stores of the same options, and the path that the URL names."""
    options = {**given, "use_listings_cache": False, "skip_instance_cache": True}
    if _protocols(url) & {"s3", "s3a"}:
        options.setdefault("config_kwargs", {"retries": {"mode": "standard", "total_max_attempts": 3}})
    if "::" in url:  # a chain's file system depends on the paths in it
        fs, root = fsspec.core.url_to_fs(url, **options)
        return fs, str(root)
    scheme = url.partition("://")[0]
    # The environment, because credentials may come from it.
    key = os.getpid(), scheme, pickle.dumps(sorted(options.items())), frozenset(os.environ.items())
    if key not in _file_systems:
        fs, _ = fsspec.core.url_to_fs(url, **options)
        if _protocols(fs) & {"s3", "s3a"}:
            fs.retries = 1  # s3fs tries again what botocore has tried again
        _file_systems[key] = fs
    return _file_systems[key], str(_file_systems[key]._strip_protocol(url))


def _why_not(fs: Any, path: str, mechanics: Mechanics) -> str | None:
    if fs._strip_protocol(path) != path:
        return "it would be read as another name"
    if mechanics != "whole":
        return None
    if "?versionId=" in path:  # s3fs takes what follows for a version, whether or not it is asked for versions
        return "what follows '?versionId=' would be lost"
    if len(path.partition("/")[2].encode()) > MAX_KEY_BYTES:
        return f"with the store's prefix it is longer than {MAX_KEY_BYTES} bytes"
    return None


def _open_again(kind: type[FsspecStore], url: str, options: dict[str, Any]) -> FsspecStore:
    store: FsspecStore = kind(url, **options)
    return store


def _protocols(of: Any) -> set[str]:
    if isinstance(of, str):
        return {of.partition("://")[0]}
    return {of.protocol} if isinstance(of.protocol, str) else set(of.protocol)


def _mechanics(fs: Any) -> Mechanics:
    if isinstance(fs, MemoryFileSystem):
        return "memory"
    if _protocols(fs) & _OBJECT_STORES:
        return "whole"
    # What fsspec inherits to a file system that has no rename of its own is a copy and a removal.
    return "read" if type(fs).mv is fsspec.AbstractFileSystem.mv else "rename"


def _secrets_in(options: object, named: bool = False) -> list[str]:
    if isinstance(options, Mapping):
        return [s for name, value in options.items() for s in _secrets_in(value, bool(_SECRET_OPTION(str(name))))]
    return [options] if named and isinstance(options, str) else []


def _info(key: str, found: Mapping[str, Any]) -> ArtifactInfo:
    version = next((str(found[name]) for name in ("ETag", "etag", "generation") if found.get(name)), None)
    return ArtifactInfo(key, int(found["size"]), _modified(found), version)


def _modified(found: Mapping[str, Any]) -> float:
    names = ("LastModified", "last_modified", "mtime", "modified", "updated", "time", "created")
    when = next((found[name] for name in names if found.get(name) is not None), None)
    if isinstance(when, str):
        with contextlib.suppress(ValueError):
            when = datetime.fromisoformat(when)
    if isinstance(when, datetime):
        return when.timestamp()
    return float(when) if isinstance(when, int | float) else float("nan")


# -- errors ------------------------------------------------------------------------------------------------------------

_PASSING = {errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.ECONNRESET, errno.EREMOTEIO, errno.ESTALE, errno.EPIPE}
_PASSING_TEXT = re.compile(
    r"SlowDown|ServiceUnavailable|InternalError|RequestTimeout|reduce your request rate|Could not connect"
    r"|Connection was closed|Connection reset|BadDigest|XAmzContent\w+Mismatch|IncompleteBody"
).search
_PASSING_MODULES = ("aiohttp", "urllib3", "botocore.httpsession", "fsspec.exceptions")
_PASSING_NAMES = re.compile(r"Timeout|Connection|HTTPClient|ResponseParser|IncompleteRead").search


class _ChangedMeanwhileError(EmdstoreError):
    """A listing that met a removal; it is taken again."""


class _Trying:
    """A block whose errors of the file system leave it as errors of ours."""

    __slots__ = ("_key", "_store", "_verb")

    def __init__(self, store: FsspecStore, verb: str, key: str) -> None:
        self._store, self._verb, self._key = store, verb, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, KeyError) and self._verb == "list":
            raise _ChangedMeanwhileError from None  # so fsspec's memory says it
        if isinstance(error, Exception) and not isinstance(error, EmdstoreError):
            self._store._raise(error, self._verb, self._key)


def _code(error: Exception) -> str:
    """Return the code that S3 gave, which s3fs leaves in the error that it translates."""
    answer = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, Mapping) else ""


def _meaning(error: Exception) -> tuple[type[StoreError], str]:
    name, module = type(error).__name__, type(error).__module__
    if isinstance(error, PermissionError) or "Credentials" in name:
        return StoreAccessError, "check the credentials and permissions"
    if isinstance(error, FileNotFoundError):
        return StoreUnavailableError, "its folder was removed meanwhile; try again"
    if (
        isinstance(error, ConnectionError | TimeoutError)
        or (isinstance(error, OSError) and error.errno in _PASSING)
        or module.startswith(_PASSING_MODULES)
        or _PASSING_NAMES(name)
        or _PASSING_TEXT(f"{_code(error)} {error}")
    ):
        return StoreUnavailableError, "check the address and the network, or try again later"
    if isinstance(error, NotImplementedError):
        return StoreError, "its file system cannot do that"
    return StoreError, "nothing was changed"


# -- streams -----------------------------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, store: FsspecStore, info: ArtifactInfo, file: Any) -> None:
        self.info = info
        self._store, self._file = store, file
        self._left = info.size

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        with self._store._trying("read", self.info.key):
            try:
                data = bytes(self._file.read(size))
            except Exception as error:
                if type(error).__name__ == "FileExpired" or "PreconditionFailed" in str(error):
                    self._raise_changed()
                raise
        self._left -= len(data)
        if self._left < 0 or (not data and (self._left or self._replaced())):
            self._raise_changed()
        return data

    def _replaced(self) -> bool:
        """Tell whether the artifact at the end is another one than at the start; not all file systems would say."""
        if isinstance(self._file, io.BytesIO):
            return False
        now = self._store.info(self.info.key)
        return (now.size, now.version) != (self.info.size, self.info.version) or now.modified > self.info.modified

    def _raise_changed(self) -> NoReturn:
        raise SourceChangedError(
            f"{self.info.key!r} in {self._store!r} changed while it was read; run it again when its writer is done",
            key=self.info.key,
            store=repr(self._store),
        ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._file.close()


class _Writer:
    """Keeps what fits one block; what is larger goes to a file of the file system that shows when it is finished."""

    _file: Any = None

    def __init__(self, store: FsspecStore, key: str) -> None:
        self._store, self._key = store, key
        self._head = bytearray()
        self._unfinished: contextlib.ExitStack | None = None

    def write(self, data: bytes, /) -> None:
        if self._unfinished is None:
            self._head += data
            if len(self._head) <= _BLOCK or self._store._at(self._key)[2] == "memory":
                return
            data, self._head = bytes(self._head), bytearray()
            self._start()
        with self._store._trying("write", self._key):
            self._file.write(data)

    def _start(self) -> None:
        store, key = self._store, self._key
        store._refuse_folder(key)
        fs, path, mechanics = store._at(key)
        with store._trying("write", key), contextlib.ExitStack() as stack:
            if mechanics == "rename":
                self._file = stack.enter_context(fs.open(stack.enter_context(store._staged(key)), "wb"))
            else:
                self._file = stack.enter_context(_completed(fs.open(path, "wb", block_size=_BLOCK, autocommit=False)))
            self._unfinished = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._unfinished is not None:
            with self._store._trying("write", self._key):
                self._unfinished.__exit__(kind, error, traceback)
        elif kind is None:
            self._store.write_bytes(self._key, bytes(self._head))


@contextlib.contextmanager
def _completed(file: Any) -> Iterator[Any]:
    """Complete an upload at the end, or take back its parts."""
    try:
        yield file
        file.close()
        file.commit()
    except BaseException:
        file.closed = True  # or the file would upload the rest of what it has when it is collected
        with contextlib.suppress(Exception):
            file.discard()
        raise
