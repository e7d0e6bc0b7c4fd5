"""Artifacts in memory, for tests of frameworks that embed emdstore and for throw-away work."""

from __future__ import annotations

import io
import itertools
import threading
import weakref
from bisect import bisect_left
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import attrs

from emdstore import system
from emdstore.errors import ArtifactExistsError, ArtifactNotFoundError, StoreError
from emdstore.keys import validate_key, validate_prefix
from emdstore.stores.checksums import sha256_of
from emdstore.stores.place import most_requests
from emdstore.stores.port import CHUNK_SIZE, ArtifactInfo, Place
from emdstore.stores.replacing import changed


@attrs.frozen
class _Held:
    data: bytes
    modified: float
    version: str


class InMemoryArtifactStore:
    """A store that lives as long as this object, for one process.

    It is thread-safe, and has every method of the port and every capability that makes sense without files, so that
    what works here works on a real store. A store equals only itself.

    Parameters
    ----------
    name
        For ``memory://name``: all stores of one name in a process are one store, kept until the process ends.

    Notes
    -----
    It pickles as a reference. Unpickling it in another process is an error, not an empty store: what a worker process
    wrote there would be lost.
    """

    def __new__(cls, name: str | None = None) -> InMemoryArtifactStore:
        """Return the store of this name, or a new one."""
        with _registry_lock:
            if name is not None and name in _named:
                return _named[name]
            store = super().__new__(cls)
            store._number = next(_numbers)
            store._name = f"#{store._number}" if name is None else name
            store._objects = {}
            store._sorted = None
            store._versions = itertools.count(1)
            store._lock = threading.Lock()
            _alive[store._number] = store
            if name is not None:
                _named[name] = store
            return store

    _number: int
    _name: str
    _objects: dict[str, _Held]
    _sorted: list[str] | None
    _versions: Iterator[int]
    _lock: threading.Lock

    def __repr__(self) -> str:
        return f"InMemoryArtifactStore({self._name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _same_process, (self._number, self._name, system.own_number())

    # -- the port ------------------------------------------------------------------------------------------------

    def exists(self, key: str, /) -> bool:
        """See `ArtifactStore.exists`."""
        return validate_key(key) in self._objects

    def read_bytes(self, key: str, /) -> bytes:
        """See `ArtifactStore.read_bytes`."""
        return self._get(key).data

    def write_bytes(self, key: str, data: bytes, /) -> None:
        """See `ArtifactStore.write_bytes`."""
        self._put(validate_key(key), bytes(data))

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        """See `ArtifactStore.iter_keys`."""
        validate_prefix(prefix)
        return self._iter_keys(prefix)

    # -- capabilities --------------------------------------------------------------------------------------------

    def info(self, key: str, /) -> ArtifactInfo:
        """See `SupportsInfo.info`."""
        held = self._get(key)
        return ArtifactInfo(key, len(held.data), held.modified, held.version)

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        """See `SupportsInfo.iter_info`."""
        validate_prefix(prefix)
        return self._iter_info(prefix)

    def open_reader(self, key: str, /) -> _Reader:
        """See `SupportsStreaming.open_reader`."""
        held = self._get(key)
        return _Reader(ArtifactInfo(key, len(held.data), held.modified, held.version), held.data)

    def open_writer(self, key: str, /) -> _Writer:
        """See `SupportsStreaming.open_writer`."""
        return _Writer(self, validate_key(key))

    def create_bytes(self, key: str, data: bytes, /) -> None:
        """See `SupportsCreate.create_bytes`."""
        self._put(validate_key(key), bytes(data), replace=False)

    def replace_bytes(self, key: str, data: bytes, seen: str, /) -> None:
        """See `SupportsReplaceIf.replace_bytes`."""
        self._put(validate_key(key), bytes(data), seen=seen)

    def place(self) -> Place:
        """See `SupportsPlace.place`."""
        return Place(("memory", self._number), "", remote=False, shared=False, requests=most_requests())

    def delete(self, key: str, /) -> None:
        """See `SupportsDelete.delete`."""
        validate_key(key)
        with self._lock:
            if self._objects.pop(key, None) is not None:
                self._sorted = None

    # -- inside --------------------------------------------------------------------------------------------------

    def _get(self, key: str) -> _Held:
        try:
            return self._objects[validate_key(key)]
        except KeyError:
            raise ArtifactNotFoundError(f"no artifact {key!r} in {self!r}", key=key, store=repr(self)) from None

    def _put(self, key: str, data: bytes, *, replace: bool = True, seen: str | None = None) -> None:
        with self._lock:
            there = key in self._objects
            if seen is not None and not (there and sha256_of(self._objects[key].data) == seen):
                raise changed(self, key)
            if there and not replace:
                raise ArtifactExistsError(
                    f"{key!r} is already there in {self!r}; it was left as it is", key=key, store=repr(self)
                )
            self._objects[key] = _Held(data, system.current().now().timestamp(), str(next(self._versions)))
            if not there:
                self._sorted = None

    def _listing(self) -> list[str]:
        with self._lock:
            if self._sorted is None:
                self._sorted = sorted(self._objects)
            return self._sorted  # replaced when a key comes or goes, never changed

    def _iter_keys(self, prefix: str) -> Iterator[str]:
        keys = self._listing()
        if not prefix:
            yield from keys
            return
        folder = prefix + "/"
        for position in range(bisect_left(keys, folder), len(keys)):
            if not keys[position].startswith(folder):
                return
            yield keys[position]

    def _iter_info(self, prefix: str) -> Iterator[ArtifactInfo]:
        for key in self._iter_keys(prefix):
            held = self._objects.get(key)
            if held is not None:
                yield ArtifactInfo(key, len(held.data), held.modified, held.version)


_registry_lock = threading.Lock()
_numbers = itertools.count(1)
_named: dict[str, InMemoryArtifactStore] = {}
_alive: weakref.WeakValueDictionary[int, InMemoryArtifactStore] = weakref.WeakValueDictionary()


def _same_process(number: int, name: str, pid: int) -> InMemoryArtifactStore | _Elsewhere:
    store = _alive.get(number) if pid == system.own_number() else None
    return store if store is not None else _Elsewhere(name, pid)


@attrs.frozen
class _Elsewhere:
    """What an `InMemoryArtifactStore` unpickles to in another process.

    It raises when it is used, not when it is unpickled, because that would end the worker process that received it.
    """

    name: str
    pid: int

    def exists(self, key: str, /) -> bool:
        raise self._error()

    def read_bytes(self, key: str, /) -> bytes:
        raise self._error()

    def write_bytes(self, key: str, data: bytes, /) -> None:
        raise self._error()

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        raise self._error()

    def _error(self) -> StoreError:
        return StoreError(
            f"InMemoryArtifactStore({self.name!r}) lives in process {self.pid} and cannot be used in another one; "
            "use threads, or a store that processes share"
        )


class _Reader:
    def __init__(self, info: ArtifactInfo, data: bytes) -> None:
        self.info = info
        self._stream = io.BytesIO(data)

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        return self._stream.read(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._stream.close()


class _Writer:
    def __init__(self, store: InMemoryArtifactStore, key: str) -> None:
        self._store, self._key = store, key
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> None:
        self._parts.append(bytes(data))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        if kind is None:
            self._store._put(self._key, b"".join(self._parts))
