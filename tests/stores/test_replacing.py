"""Putting bytes over what was seen, on stores that can compare and on those that cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest

from emdstore.errors import ArtifactChangedError, UnsupportedError
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactStore
from emdstore.stores.replacing import put_over
from emdstore.testing import Fault, FaultyStore, RecordingStore


class FourMethods:
    """A store with nothing but the port; somebody else may write right after it has."""

    def __init__(self, then: bytes | None = None) -> None:
        self._inner, self._then = InMemoryArtifactStore(), then

    def exists(self, key: str, /) -> bool:
        return self._inner.exists(key)

    def read_bytes(self, key: str, /) -> bytes:
        return self._inner.read_bytes(key)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        self._inner.write_bytes(key, data)
        if self._then is not None and data != b"one":
            self._inner.write_bytes(key, self._then)

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return self._inner.iter_keys(prefix)


def _of_an_old_server() -> ArtifactStore:
    return FaultyStore(InMemoryArtifactStore(), Fault(verbs={"create_bytes", "replace_bytes"}, error=UnsupportedError))


STORES: dict[str, Callable[[], ArtifactStore]] = {
    "that compares": InMemoryArtifactStore,
    "with four methods": FourMethods,
    "of an old server": _of_an_old_server,
}


def seen(data: bytes) -> str:
    return sha256(data).hexdigest()


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_only_what_was_seen_is_replaced(make: Callable[[], ArtifactStore]) -> None:
    store = make()
    store.write_bytes("k", b"")  # by somebody who lost power
    put_over(store, "k", b"one", None)
    put_over(store, "k", b"two", seen(b"one"))
    for before in (None, seen(b"one")):
        with pytest.raises(ArtifactChangedError, match="somebody else"):
            put_over(store, "k", b"three", before)
    with pytest.raises(ArtifactChangedError):
        put_over(store, "absent", b"three", seen(b"one"))
    assert {key: store.read_bytes(key) for key in store.iter_keys()} == {"k": b"two"}


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
def test_what_is_there_already_is_put_again_without_harm(make: Callable[[], ArtifactStore]) -> None:
    store = make()
    for before in (None, None, seen(b"zero")):
        put_over(store, "k", b"one", before)
    assert store.read_bytes("k") == b"one"


def test_who_was_overwritten_right_after_hears_of_it() -> None:
    store = FourMethods(then=b"of another")
    put_over(store, "k", b"one", None)
    with pytest.raises(ArtifactChangedError):
        put_over(store, "k", b"two", seen(b"one"))
    assert store.read_bytes("k") == b"of another"


def test_a_store_that_compares_is_asked_once() -> None:
    store = RecordingStore(InMemoryArtifactStore())
    put_over(store, "k", b"one", None)
    put_over(store, "k", b"two", seen(b"one"))
    assert [call.verb for call in store.calls] == ["create_bytes", "replace_bytes"]
