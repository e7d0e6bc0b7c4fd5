"""The folder behind an `FsspecArtifactStore`, on a file system that fsspec opens."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NoReturn
from urllib.parse import quote, unquote

import attrs

from emdstore import system
from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    InvalidKeyError,
    KeyConflictError,
    StoreAccessError,
    StoreError,
    StoreNotFoundError,
    StoreURLError,
    redact,
    redact_url,
    secrets_in,
)
from emdstore.keys import STAGING_PREFIX, validate_key
from emdstore.per_process import PerProcess
from emdstore.stores.fsspec.manifest import read_manifest
from emdstore.stores.fsspec.proof import CHECKED, FileProof, checksum_of
from emdstore.stores.fsspec.systems import (
    CHECK,
    Mechanics,
    describe,
    hidden_cause,
    is_of_one_thread,
    is_web,
    meaning,
    mechanics_of,
    open_file_system,
    protocols,
    secret_options,
    why_not_a_path,
)
from emdstore.stores.port import ArtifactInfo
from emdstore.stores.secrecy import FOUND_AGAIN, left_behind


@attrs.frozen
class Opened:
    """A file system that is open in this process.

    Attributes
    ----------
    fs
        fsspec's.
    base
        The file system's path of the folder, with a slash at the end.
    mechanics
        How it can be written to.
    keeps_checksums
        Whether its server's checksums can be trusted.
    is_of_one_thread
        Whether each thread has to open one of its own.
    is_web
        Whether it is a web server, whose paths are parts of URLs.
    """

    fs: Any
    base: str
    mechanics: Mechanics
    keeps_checksums: bool
    is_of_one_thread: bool
    is_web: bool

    def path_of(self, key: str) -> str:
        """Return the file system's path of a key, or of a folder with a slash at its end."""
        return self.base + (quote(key) if self.is_web else key)

    def name_of(self, path: str, folder: str) -> str:
        """Return how a path, which was listed in a folder, goes on behind the folder."""
        name = path[len(folder) :]
        return unquote(name) if self.is_web else name


class ChangedMeanwhileError(EmdstoreError):
    """A folder was removed during a listing, which is repeated."""


class Folder:
    """A folder on a file system that every process opens for itself.

    Parameters
    ----------
    url, options
        What fsspec opens.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url, self.options = url, options
        self._secrets = (*secrets_in(url), *secret_options(options))
        self.name = f"FsspecArtifactStore({redact(redact_url(url), self._secrets)!r})"
        self.root_seen = False
        self._digests: dict[str, str] | None = None
        self.lacks: tuple[str, ...] = ()
        self._opened = PerProcess(self._open)

    def __repr__(self) -> str:
        return self.name

    def open(self) -> Opened:
        """Return the file system of this process."""
        here = self._opened.get()
        return self._open() if here.is_of_one_thread else here

    def _open(self) -> Opened:
        if self.lacks and not (self.url.startswith(("s3://", "s3a://")) and FOUND_AGAIN.issuperset(self.lacks)):
            raise StoreAccessError(left_behind(", ".join(self.lacks), self.name), store=self.name)
        try:
            fs, root = open_file_system(self.url, self.options)
            # Some file systems have a slash before the first name, some have none.
            inside = f"{root.rstrip('/')}/x" if root.strip("/") or fs.root_marker else "x"
            base = str(fs._strip_protocol(inside))[:-1]
            keeps_checksums = bool(protocols(fs) & CHECKED) and self.options.get(CHECK, True)
            return Opened(fs, base, mechanics_of(fs), keeps_checksums, is_of_one_thread(fs), is_web(fs))
        except EmdstoreError:
            raise
        except Exception as error:  # noqa: BLE001 - each library has its own
            if isinstance(error, FileNotFoundError):
                if (hidden := hidden_cause(error)) is None:
                    raise StoreNotFoundError(
                        f"cannot open {self!r}: nothing is there ({self._first_line(error)}); check how it is written",
                        store=self.name,
                    ) from None
                error = hidden
            found = meaning(error)
            if found.kind is StoreError and isinstance(error.__cause__, OSError):
                found = meaning(error.__cause__)
            said = self._first_line(error)
            if found.kind is not StoreError:
                raise found.kind(f"cannot open {self!r}: {said}; {found.advice}", store=self.name) from None
            raise StoreURLError(f"{self!r} cannot be opened with these options: {said}", store=self.name) from None

    def at(self, key: str) -> tuple[Any, str, Mechanics]:
        """Check a key; return the file system, the key's path, and how it can be written to."""
        validate_key(key)
        here = self.open()
        path = here.path_of(key)
        if (reason := why_not_a_path(here.fs, path, here.mechanics)) is not None:
            raise InvalidKeyError(f"not a valid key: {key!r}: {reason} in {self!r}", key=key, store=self.name)
        return here.fs, path, here.mechanics

    def info(self, key: str) -> ArtifactInfo:
        """Return the file system's info of an artifact; `ArtifactNotFoundError` if nothing lies at the key."""
        fs, path, _ = self.at(key)
        with self.translating("look at", key):
            found = fs.info(path)
            if found["type"] != "file":
                self.raise_not_found(key)
            return self.describe(key, found)

    def describe(self, key: str, found: Mapping[str, Any]) -> ArtifactInfo:
        """Return the file system's info of a file; a missing size is found by counting."""
        if found["size"] is None:
            fs, path, _ = self.at(key)
            found = {**found, "size": fs.info(path)["size"]}
            if found["size"] is None:
                found["size"] = len(fs.cat_file(path))
        here = self.open()
        checksum = checksum_of(protocols(here.fs), found) if here.keeps_checksums else self._digest(key)
        return describe(key, found, checksum)

    @property
    def is_web(self) -> bool:
        """Whether it is on a web server."""
        return self.open().is_web

    def manifest(self) -> dict[str, str] | None:
        """Read the publisher's list of files anew; None if there is none."""
        here = self.open()
        if not self.is_web:
            return None
        with self.translating("list", ""):
            found = read_manifest(here.fs, here.base)
        self._digests = found or {}
        return found

    def _digest(self, key: str) -> str | None:
        if self._digests is None:
            self.manifest()
        digest = (self._digests or {}).get(key)
        return digest and f"sha256:{digest}"

    @property
    def proves(self) -> bool:
        """Whether checksums are known, by which what is read is proved."""
        return self.open().keeps_checksums or self.is_web

    def proof_of(self, info: ArtifactInfo) -> FileProof:
        """Return what checks an artifact's bytes as they arrive."""
        fs, path, _ = self.at(info.key)
        return FileProof(fs, path, protocols(fs), info, self.name)

    # -- writing ---------------------------------------------------------------------------------------------------

    def write(self, key: str, data: bytes) -> None:
        """Put the bytes at the key in one call."""
        fs, path, mechanics = self.at(key)
        self.refuse_folder(key)
        with self.translating("write", key):
            if mechanics == "rename":
                with self.staged(key) as staging:
                    fs.pipe_file(staging, data)
            else:
                fs.pipe_file(path, data)

    def refuse_folder(self, key: str) -> None:
        """Refuse to write over a folder, because some file systems would write into it."""
        fs, path, mechanics = self.at(key)
        if mechanics == "read":
            raise StoreError(
                f"cannot write {key!r} in {self!r}: its file system can neither put whole objects nor rename files",
                key=key,
                store=self.name,
            )
        if mechanics == "whole":
            return
        with contextlib.suppress(ArtifactNotFoundError), self.translating("look at", key):
            found = fs.info(path)
            if found["type"] == "directory":
                self.raise_conflict(key)
            there = str(found.get("name") or path).rpartition("/")[2]
            if there != path.rpartition("/")[2] and folded(there) == folded(path.rpartition("/")[2]):
                raise KeyConflictError(
                    f"cannot hold {key!r} in {self!r} beside {there!r}: the file system treats the two names as one; "
                    "rename one of them",
                    key=key,
                    store=self.name,
                )

    @contextlib.contextmanager
    def staged(self, key: str) -> Iterator[str]:
        """Yield the path of a staging file that is put in place at the end, or removed."""
        fs, path, _ = self.at(key)
        folder = path.rpartition("/")[0]
        fs.makedirs(folder, exist_ok=True)
        staging = f"{folder}/{STAGING_PREFIX}{system.current().token(8)}"
        try:
            yield staging
            fs.mv(staging, path)
        except BaseException:
            with contextlib.suppress(Exception):
                fs.rm_file(staging)
            raise

    def prune(self, path: str) -> None:
        """Remove the folders above a path while they are empty; as keys, they would be in the way of a file."""
        here = self.open()
        with contextlib.suppress(OSError, NotImplementedError):
            while (path := path.rpartition("/")[0]) + "/" != here.base:
                here.fs.rmdir(path)

    # -- errors ----------------------------------------------------------------------------------------------------

    def translating(self, verb: str, key: str) -> Translating:
        """Return a context that translates the file system's errors."""
        return Translating(self, verb, key)

    def raise_not_found(self, key: str) -> NoReturn:
        """Raise `ArtifactNotFoundError`."""
        raise ArtifactNotFoundError(f"no artifact {key!r} in {self!r}", key=key, store=self.name) from None

    def raise_error(self, error: Exception, verb: str, key: str) -> NoReturn:
        """Raise the emdstore error for an error of the file system."""
        if isinstance(error, FileNotFoundError) and (hidden := hidden_cause(error)) is not None:
            error = hidden
        if isinstance(error, FileNotFoundError):
            self._look_for_root(key, verb)
            if verb != "write":
                self.raise_not_found(key)
        if isinstance(error, FileExistsError | IsADirectoryError | NotADirectoryError):
            if verb == "write":
                self.raise_conflict(key)
            self.raise_not_found(key)
        found = meaning(error)
        what = f"cannot {verb} {key!r} in {self!r}" if key else f"cannot {verb} {self!r}"
        told = f"{what}: {self._first_line(error)}; {found.advice}"
        raised = found.kind(told, key=key or None, store=self.name)
        raised.errno = found.errno
        raise raised from None

    def raise_conflict(self, key: str) -> NoReturn:
        """Raise `KeyConflictError`."""
        raise KeyConflictError(
            f"cannot hold {key!r} in {self!r} beside what lies there: a file cannot be a folder too; choose another "
            "key",
            key=key,
            store=self.name,
        ) from None

    def _look_for_root(self, key: str, verb: str) -> None:
        """Tell a missing bucket from a missing object."""
        if self.root_seen:
            return
        here = self.open()
        bucket = here.base.partition("/")[0]
        if here.mechanics == "whole" and bucket:
            try:
                here.fs.info(bucket)
            except FileNotFoundError:
                raise StoreError(
                    f"cannot {verb} {key!r} in {self!r}: there is no bucket {bucket!r}: check its name and the "
                    "endpoint",
                    key=key,
                    store=self.name,
                ) from None
            except PermissionError:
                pass  # one may be allowed to see the objects but not the bucket
        self.root_seen = True

    def _first_line(self, error: Exception) -> str:
        said = str(error).partition("\n")[0][:300] or type(error).__name__
        # A password with a `/` in it is taken to pieces by whoever reads it as a URL's port.
        pieces = [piece for secret in self._secrets for piece in re.split("[/?#:@]", secret)]
        return redact(said, (*self._secrets, *pieces))


def folded(name: str) -> str:
    """Return a name in the form that case-insensitive and Unicode-normalising file systems compare."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class Translating:
    """A block that translates the file system's errors."""

    __slots__ = ("_folder", "_key", "_verb")

    def __init__(self, folder: Folder, verb: str, key: str) -> None:
        self._folder, self._verb, self._key = folder, verb, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, KeyError) and self._verb == "list":
            raise ChangedMeanwhileError from None  # so fsspec's memory says it
        if isinstance(error, Exception) and not isinstance(error, EmdstoreError):
            self._folder.raise_error(error, self._verb, self._key)
