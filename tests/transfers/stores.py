"""Stores with a trait that transfers must cope with, over a store that has none."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import attrs

from emdstore.stores.port import (
    CHUNK_SIZE,
    ArtifactInfo,
    ArtifactReader,
    ArtifactStore,
    SupportsCopyFrom,
    SupportsCreate,
    SupportsDelete,
    SupportsFlush,
    SupportsInfo,
    SupportsPath,
    SupportsScope,
    SupportsSession,
    SupportsStreaming,
)
from emdstore.stores.views import StoreView


class FourMethods(StoreView):
    """Nothing but the port."""

    _withheld = frozenset(
        {
            SupportsCopyFrom,
            SupportsCreate,
            SupportsDelete,
            SupportsFlush,
            SupportsInfo,
            SupportsPath,
            SupportsScope,
            SupportsSession,
            SupportsStreaming,
        }
    )


class WithInfo(StoreView):
    """The port and `SupportsInfo`: what it reads may be of no one version."""

    _withheld = frozenset({SupportsStreaming, SupportsPath, SupportsCopyFrom})


class Streams(StoreView):
    """What an object store has: infos and streams, but no files."""

    _withheld = frozenset({SupportsPath, SupportsCopyFrom})


class WholeSeconds(StoreView):
    """An object store's clock: times are cut to the second."""

    _withheld = frozenset({SupportsPath, SupportsCopyFrom})

    def info(self, key: str, /) -> ArtifactInfo:
        return _to_the_second(self._inner.info(self._enter("info", key)))

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        return map(_to_the_second, self._inner.iter_info(self._enter("iter_info", prefix)))


def _to_the_second(info: ArtifactInfo) -> ArtifactInfo:
    return attrs.evolve(info, modified=float(int(info.modified)))


class Slow(StoreView):
    """Every read takes a while, as it does far away."""

    _withheld = frozenset({SupportsPath, SupportsCopyFrom})

    def __init__(self, inner: ArtifactStore, seconds: float) -> None:
        super().__init__(inner)
        self._seconds = seconds

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, self._seconds

    def _enter(self, verb: str, key: str) -> str:
        if verb in ("read_bytes", "open_reader"):
            time.sleep(self._seconds)
        return super()._enter(verb, key)


class Meanwhile(StoreView):
    """Something happens between two reads of one artifact, once: after the first chunk, or after all of it."""

    _withheld = frozenset({SupportsPath, SupportsCopyFrom})

    def __init__(self, inner: ArtifactStore, happens: Callable[[], object]) -> None:
        super().__init__(inner)
        self._happens: Callable[[], object] | None = happens

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, self._happens

    def _happen(self) -> None:
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()

    def read_bytes(self, key: str, /) -> bytes:
        data = super().read_bytes(key)
        self._happen()
        return data

    def open_reader(self, key: str, /) -> ArtifactReader:
        return _MeanwhileReader(self._inner.open_reader(self._enter("open_reader", key)), self._happen)


class _MeanwhileReader:
    def __init__(self, inner: ArtifactReader, happen: Callable[[], None]) -> None:
        self._inner, self._happen = inner, happen
        self.info = inner.info

    def read(self, size: int = CHUNK_SIZE, /) -> bytes:
        data = self._inner.read(size)
        self._happen()
        return data

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, traceback)


class DeadlyTo(StoreView):
    """To read this key ends the process that does it, as the system does to one that takes too much memory."""

    _withheld = frozenset({SupportsPath, SupportsCopyFrom})

    def __init__(self, inner: ArtifactStore, key: str) -> None:
        super().__init__(inner)
        self._key = key

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, self._key

    def _enter(self, verb: str, key: str) -> str:
        if key == self._key and verb in ("read_bytes", "open_reader"):
            os._exit(9)
        return super()._enter(verb, key)


def contents(holder: ArtifactStore | dict[str, bytes]) -> dict[str, bytes | str]:
    """Return everything that a store holds, or should hold; of large artifacts the digest, which fails legibly."""
    artifacts = holder if isinstance(holder, dict) else {key: holder.read_bytes(key) for key in holder.iter_keys()}
    return {
        key: data if len(data) < 100 else f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()}"
        for key, data in artifacts.items()
    }


def fill(store: Any, artifacts: dict[str, bytes]) -> Any:
    """Write the artifacts to the store, and return it."""
    for key, data in artifacts.items():
        store.write_bytes(key, data)
    return store
