"""Artifacts on any file system that fsspec knows.

fsspec promises less than the port: its file systems differ in what a write means, cache listings, expand ``*`` in paths
and lose their threads in a fork. So this module uses only the calls that take a path literally (``ls``, ``info``,
``cat_file``, ``pipe_file``, ``open``, ``rm_file``), opens its own file system in every process, without caches, and
writes in the way that is atomic on each kind of file system:

- object stores, and fsspec's memory, put an object whole, or complete it after its last part;
- file systems that can rename get a staging file beside the artifact, which is then moved over it;
- file systems that can do neither are read-only;
- local disks are left to `LocalArtifactStore`, because fsspec has no guards against links.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote

import fsspec

from emdstore.errors import (
    ArtifactNotFoundError,
    MissingExtraError,
    StoreURLError,
    has_secrets,
    redact_url,
)
from emdstore.keys import validate_prefix
from emdstore.stores.checksums import read_undamaged
from emdstore.stores.fsspec.conditional import create, replace
from emdstore.stores.fsspec.folder import Folder
from emdstore.stores.fsspec.listing import iter_files, iter_infos
from emdstore.stores.fsspec.options import file_system_options
from emdstore.stores.fsspec.streams import RemoteReader, RemoteWriter, read_whole
from emdstore.stores.fsspec.systems import LACKS, PATIENCE, SEND, WEBDAV
from emdstore.stores.left_out import only_artifacts
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.place import most_requests
from emdstore.stores.port import ArtifactInfo, LeftOut, Place
from emdstore.stores.secrecy import do_credentials_go_along, found_again, put_away, secrets_among, send_to_children
from emdstore.stores.spelling import unknown_scheme

_LOCAL = ("file", "local")
_S3 = ("s3", "s3a")
_WRAPPING = ("async_wrapper", "asyncwrapper", "dask", "dir", "generic")
_CACHING = ("blockcache", "cached", "filecache", "simplecache")


class FsspecArtifactStore:
    """A folder on a file system that fsspec opens by URL.

    A ``file://`` URL gives a `LocalArtifactStore`: fsspec's own would follow links out of the folder.

    Parameters
    ----------
    url
        What `fsspec.core.url_to_fs` takes. Keys are appended to it as they are.
    **storage_options
        For the file system. Listing and instance caches are always off. `timeout`, `connect_timeout` and `retries` are
        those of `S3ArtifactStore`, for S3, HTTP, SFTP and FTP; other file systems have their own timeouts.
        `check_etag=False` is for a server of S3, Google or Azure whose checksums (an ETag that looks like an MD5,
        ``md5Hash``, ``crc32c``, ``content_md5``) are wrong; otherwise everything that is read must match them.
        `send_credentials=True` keeps what looks like credentials in pickles of the store; see `S3ArtifactStore`.

    Raises
    ------
    StoreURLError
        If fsspec does not know the URL's scheme, or it names a cache, which could be stale.
    MissingExtraError
        If the package that serves the scheme is not installed.

    Notes
    -----
    It has the capabilities `SupportsInfo`, `SupportsStreaming` and `SupportsDelete`, and on S3 `SupportsCreate` and
    `SupportsReplaceIf` besides. It pickles as URL and options.
    """

    def __new__(cls, url: str, **storage_options: Any) -> Any:
        """Return the store for the URL."""
        if isinstance(url, str) and url.partition("://")[0] in _LOCAL:
            options = {name: value for name, value in storage_options.items() if name not in PATIENCE}
            return LocalArtifactStore(local_path(url), **options)
        conditional = cls is FsspecArtifactStore and isinstance(url, str) and url.partition("://")[0] in _S3
        kind: Any = _ConditionalStore if conditional else cls
        return super().__new__(kind)

    def __init__(self, url: str, **storage_options: Any) -> None:
        scheme = re.split("::|://", url, maxsplit=1)[0] if isinstance(url, str) else ""
        if scheme in _CACHING:
            raise StoreURLError(
                f"{redact_url(url)!r} is a cache, whose listings may be stale; open what it caches instead"
            )
        if scheme in _WRAPPING:
            raise StoreURLError(f"{redact_url(url)!r} only wraps another file system; open that one")
        if scheme in WEBDAV and not find_spec("webdav4"):
            raise MissingExtraError.of(f"{redact_url(url)!r}", "webdav")
        try:
            if scheme not in WEBDAV:
                fsspec.get_filesystem_class(scheme)
        except ValueError:
            raise unknown_scheme(str(url)) from None
        except AttributeError as error:  # so a package says that it has given something up
            raise StoreURLError(f"cannot open {redact_url(url)!r}: {error}") from None
        except ImportError as error:
            if scheme in _S3:
                raise MissingExtraError.of(f"{redact_url(url)!r} by fsspec", "s3fs") from error
            raise MissingExtraError(f"{redact_url(url)!r} needs another package: {error}") from error
        options = {name: value for name, value in storage_options.items() if name != LACKS}
        self.ground = Folder(url, options if scheme in WEBDAV else file_system_options(url, options))
        self.ground.lacks = tuple(storage_options.get(LACKS, ()))

    def __repr__(self) -> str:
        return self.ground.name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FsspecArtifactStore):
            return NotImplemented
        return (self.ground.url, self.ground.options) == (other.ground.url, other.ground.options)

    def __hash__(self) -> int:
        return hash(self.ground.url)

    def __init_subclass__(cls) -> None:
        send_to_children(cls)

    def __reduce__(self) -> tuple[object, ...]:
        url, options = self.ground.url, self.ground.options
        if self.ground.lacks:  # a copy of a copy
            return _open_again, (type(self), url, {**options, LACKS: self.ground.lacks}, None)
        if do_credentials_go_along() or options.get(SEND):
            return _open_again, (type(self), url, options, None)
        secrets = secrets_among(options)
        told = {name: value for name, value in options.items() if name not in secrets}
        if has_secrets(url):
            secrets["url"], url = url, redact_url(url)
        left = (put_away(secrets), tuple(sorted(secrets))) if secrets else None
        return _open_again, (type(self), url, told, left)

    # -- the port ------------------------------------------------------------------------------------------------

    def exists(self, key: str, /) -> bool:
        """See `ArtifactStore.exists`."""
        try:
            self.ground.info(key)
        except ArtifactNotFoundError:
            return False
        return True

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`."""
        return read_undamaged(lambda: read_whole(self.ground, key), self._retries)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        self.ground.write(key, bytes(data))

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """See `ArtifactStore.iter_keys`: folder by folder, so a folder's names are in memory at a time."""
        validate_prefix(prefix)
        return (key for key, _ in only_artifacts(iter_files(self.ground, prefix), repr(self)))

    # -- capabilities --------------------------------------------------------------------------------------------

    def info(self, key: str, /) -> ArtifactInfo:
        """See `SupportsInfo.info`; `modified` is NaN if the file system does not tell."""
        return self.ground.info(key)

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """See `SupportsInfo.iter_info`."""
        validate_prefix(prefix)
        return only_artifacts(iter_infos(self.ground, prefix), repr(self))

    def iter_found(self, prefix: str = "", /) -> Iterator[ArtifactInfo | LeftOut]:
        """See `SupportsLeftOut.iter_found`."""
        validate_prefix(prefix)
        return iter_infos(self.ground, prefix)

    def open_reader(self, key: str, /) -> RemoteReader:
        """See `SupportsStreaming.open_reader`."""
        return RemoteReader(self.ground, key)

    def open_writer(self, key: str, /) -> RemoteWriter:
        """See `SupportsStreaming.open_writer`; less than 8 MiB is written in one call."""
        return RemoteWriter(self.ground, key)

    def place(self) -> Place:
        """See `SupportsPlace.place`; a chain of file systems is a place of its own."""
        scheme, _, path = self.ground.url.partition("://")
        options = tuple(sorted((name, repr(value)) for name, value in self.ground.options.items()))
        holder = "fsspec", scheme, options
        if "::" in self.ground.url:
            holder, path = ("fsspec", self.ground.url, options), ""
        # fsspec loses its threads in a fork.
        remote = scheme != "memory"
        requests = most_requests()
        return Place(holder, path.strip("/"), remote=remote, shared=False, requests=requests, retries=self._retries)

    @property
    def _retries(self) -> int:
        return int(self.ground.options.get("retries", PATIENCE["retries"]))

    def delete(self, key: str, /) -> None:
        """See `SupportsDelete.delete`."""
        fs, path, mechanics = self.ground.at(key)
        with contextlib.suppress(ArtifactNotFoundError):
            if mechanics != "whole" or not self.ground.root_seen:
                self.ground.info(key)  # on others `rm_file` may remove a folder
            with self.ground.translating("delete", key):
                fs.rm_file(path)
                if mechanics == "rename":
                    self.ground.prune(path)


class _ConditionalStore(FsspecArtifactStore):
    """On S3, because s3fs passes conditions on; fsspec's other object stores do not."""

    def create_bytes(self, key: str, data: bytes, /) -> None:
        """See `SupportsCreate.create_bytes`: by ``If-None-Match``, which the server must know."""
        create(self.ground, key, bytes(data))

    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        """See `SupportsReplaceIf.replace_bytes`: by ``If-Match``, which the server must know."""
        replace(self.ground, key, bytes(data), seen)


def local_path(url: str) -> str:
    """Return the path in a ``file://`` URL; ``%20`` and the like are decoded, ``?`` and ``#`` are part of the path."""
    host, slash, path = url.partition("://")[2].partition("/")
    if not slash or host not in ("", "localhost"):
        raise StoreURLError(
            f"not the URL of a folder of this machine: {redact_url(url)!r}; write file:///absolute/path"
        )
    return unquote("/" + path)


def _open_again(
    kind: type[FsspecArtifactStore], url: str, options: Mapping[str, Any], left: tuple[str, tuple[str, ...]] | None
) -> FsspecArtifactStore:
    given = dict(options)
    if left is not None:
        found = dict(found_again(left[0]) or {LACKS: left[1]})
        url = found.pop("url", url)
        given |= found
    store: FsspecArtifactStore = kind(url, **given)
    return store


send_to_children(FsspecArtifactStore)
