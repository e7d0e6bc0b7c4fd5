"""Checksums that stores keep of their artifacts, and whether bytes match them."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from emdstore.errors import DamagedOnTheWayError
from emdstore.stores.port import ArtifactInfo

_MIB = 1024 * 1024
_MD5 = re.compile(r'"?([0-9a-fA-F]{32})(?:-([1-9][0-9]{0,4}))?"?\Z').match
# The part sizes in use: by this library and AWS' rules, boto3 and the AWS CLI, s3fs and rclone, others.
_PART_SIZES = tuple(each * _MIB for each in (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512))


class _Known(threading.local):
    data: bytes | None = None
    digest = ""
    written_ns: int | None = None
    is_expected: bool = False
    listed: Mapping[str, tuple[int, str]] = MappingProxyType({})


_known = _Known()


def sha256_of(data: bytes | bytearray) -> str:
    """Return the SHA-256 of bytes as a hex digest; `emdstore.transfers.digest_of` hashes what lies in a store."""
    return _known.digest if data is _known.data else hashlib.sha256(data).hexdigest()


def has_digest(data: bytes, digest: str) -> bool:
    """Tell whether bytes have this SHA-256. Then `sha256_of` knows it in this thread, until it is told of others."""
    if hashlib.sha256(data).hexdigest() != digest:
        return False
    _known.data, _known.digest, _known.written_ns = data, digest, None
    return True


def written_ns_of(data: bytes | bytearray) -> int | None:
    """Return when bytes were written at their source, in POSIX nanoseconds; None if `knowing` does not say."""
    return _known.written_ns if data is _known.data else None


class _Forgets:
    """A block at whose end this thread forgets something. Every artifact opens some, and generators take longer."""

    __slots__ = ("_forgotten", "_name")

    def __init__(self, name: str, forgotten: object) -> None:
        self._name, self._forgotten = name, forgotten

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        setattr(_known, self._name, self._forgotten)


_forgets_data, _forgets_listed = _Forgets("data", None), _Forgets("listed", _Known.listed)
_expects_none = _Forgets("is_expected", False)


def knowing(data: bytes, digest: str, written_ns: int | None = None) -> _Forgets:
    """Let `sha256_of` and `written_ns_of` know these bytes in this thread, for stores that send either along."""
    _known.data, _known.digest, _known.written_ns = data, digest, written_ns
    return _forgets_data


def expecting(sha256: str | None) -> _Forgets:
    """Let what is opened in this thread leave out the comparison with the store's own checksum, if a SHA-256 is known.

    The caller compares it, and if it differs reads again without this, to tell whether that happened on the way.
    """
    _known.is_expected = sha256 is not None
    return _expects_none


def listed(found: Iterable[tuple[str, int | None, str | None]]) -> _Forgets:
    """Let a server's copies in this thread be compared with what a listing said of the sources, and not ask again.

    It said the key, the size and the version of each.
    """
    _known.listed = {key: (size, version) for key, size, version in found if size is not None and version is not None}
    return _forgets_listed


def as_listed(key: str) -> tuple[int, str] | None:
    """Return the size and the version that a listing gave what is to be copied; None if `listed` does not say."""
    return all_listed().get(key)


def all_listed() -> Mapping[str, tuple[int, str]]:
    """Return the sizes and versions that a listing gave what is to be copied, as far as `listed` says them."""
    return _known.listed


def md5_of_etag(etag: str | None) -> str | None:
    """Return the checksum that an S3 ETag seems to be; see `ArtifactInfo.checksum`."""
    found = _MD5(etag) if etag else None
    if found is None:
        return None
    return f"md5:{found[1].lower()}-{found[2]}" if found[2] else f"md5:{found[1].lower()}"


class Check:
    """Compares bytes, given chunk by chunk, with a checksum.

    Parameters
    ----------
    checksum
        As in `ArtifactInfo.checksum`. None, or one of an unknown kind, cannot be checked.
    size
        The number of bytes.
    part_size
        The size of the parts in which it was probably uploaded, if it was. The usual sizes are tried, too.
    """

    def __init__(self, checksum: str | None, size: int, part_size: int | None = None) -> None:
        kind, _, value = (checksum or "").partition(":")
        self.checksum = checksum
        self._kind = kind
        self._wanted, _, parts = value.partition("-")
        self._whole: Any = None
        self._parts: list[_InParts] = []
        if kind == "crc32c":
            self._whole = _crc32c()
        if kind == "sha256":
            self._whole = hashlib.sha256()
        if kind != "md5":
            return
        if not parts:
            self._whole = hashlib.md5(usedforsecurity=False)
            return
        tried = dict.fromkeys((*([part_size] if part_size else ()), *_PART_SIZES))
        likely = [each for each in tried if -(-size // each) == int(parts)]
        self._parts = [_InParts(each) for each in (likely[:1] if parts == "1" else likely)]  # one part is the whole

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._whole is not None:
            self._whole.update(data)
        for each in self._parts:
            each.update(data)

    @property
    def found(self) -> str | None:
        """The checksum of the bytes so far, for parts of the likeliest size; None if it cannot be computed."""
        if self._whole is not None:
            return f"{self._kind}:{self._whole.digest().hex()}"
        return self._parts[0].checksum() if self._parts else None

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """The size of the parts, if the checksum is one of parts."""
        return tuple(each.size for each in self._parts)

    def fits(self) -> bool | None:
        """Tell whether the bytes match the checksum; None if it cannot be checked."""
        if self._whole is not None:
            return bool(self._whole.digest().hex() == self._wanted)
        if not self._parts:
            return None
        return any(each.checksum() == self.checksum for each in self._parts)


def _crc32c() -> Any:
    """Return a CRC32C function if one is installed, as it is with the client for Google's storage."""
    try:
        return import_module("google_crc32c").Checksum()
    except ImportError:
        return None


class _InParts:
    """The MD5 of the MD5s of equally large parts."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._done: list[bytes] = []
        self._part, self._room = hashlib.md5(usedforsecurity=False), size

    def update(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            taken = rest[: self._room]
            self._part.update(taken)
            self._room -= len(taken)
            rest = rest[len(taken) :]
            if not self._room:
                self._close()

    def _close(self) -> None:
        self._done.append(self._part.digest())
        self._part, self._room = hashlib.md5(usedforsecurity=False), self.size

    def checksum(self) -> str:
        parts = [*self._done, self._part.digest()] if self._room < self.size else self._done
        return f"md5:{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


def has_checksum(checksum: str | None, size: int, chunks: Iterable[bytes]) -> bool | None:
    """Tell whether bytes match a checksum; None if that cannot be told, and then no byte was read.

    True proves that they are the bytes in the store. False proves little: if a server encrypts, what looks like a
    checksum is none.
    """
    check = Check(checksum, size)
    if check.fits() is None:
        return None
    for chunk in chunks:
        check.update(chunk)
    return check.fits()


def is_proved(data: bytes, size: int, checksum: str | None) -> bool:
    """Tell at once, as of nearly all artifacts, that bytes have a plain MD5; if not, `ArrivalCheck` tells more.

    Nothing is computed if a SHA-256 is known, see `expecting`.
    """
    kind, _, found = (checksum or "").partition(":")
    if kind != "md5" or "-" in found or len(data) != size:
        return False
    return _known.is_expected or hashlib.md5(data, usedforsecurity=False).hexdigest() == found


READS = 3
"""How often an artifact is read, at most, if it arrives damaged."""


class ArrivalCheck:
    """Checks an artifact's bytes as they arrive, and raises at the end if they are not right.

    Parameters
    ----------
    info
        What the store said of it.
    store
        The store, for errors.
    part_size
        See `Check`.

    Attributes
    ----------
    is_empty
        Whether nothing can be checked.
    """

    def __init__(self, info: ArtifactInfo, store: str, part_size: int | None = None) -> None:
        self._info, self._store = info, store
        self._check = Check(None if _known.is_expected else info.checksum, info.size, part_size)
        self.is_empty = self._check.fits() is None

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._check.update(data)

    def finish(self) -> None:
        """Raise `DamagedOnTheWayError` if the bytes are not the artifact's, as far as its checksum tells."""
        if self._check.fits() is not False or self._is_something_else():
            return
        raise DamagedOnTheWayError(
            f"{self._info.key!r} in {self._store} was damaged on the way: the server has {self._check.checksum}, and "
            f"what arrived is {self._check.found}; try again (and open the store with check_etag=False if what its "
            "server says are no checksums)",
            key=self._info.key,
            store=self._store,
        )

    def _is_something_else(self) -> bool:
        """Tell whether what looks like a checksum is none; asked only if it does not match."""
        return False


def read_undamaged(read: Callable[[], bytes], retries: int) -> bytes:
    """Read an artifact, and read it again if it arrives damaged; the last error passes through."""
    for attempt in range(READS):
        try:
            return read()
        except DamagedOnTheWayError:
            if attempt == min(retries, READS - 1):
                raise
    raise AssertionError("a loop of attempts ends by returning or raising")
