"""Views are stores: each passes the contract, with the capabilities of what it wraps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.stores.test_contract_local import CLAIMS

from emdstore.errors import StoreAccessError
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactStore, SupportsCopyFrom, SupportsInfo, SupportsPath, SupportsStreaming
from emdstore.stores.views import ReadOnlyStore, ScopedStore, scoped
from emdstore.testing import FaultyStore, RecordingStore, StoreContract, StoreHarness
from emdstore.testing.contract.capabilities import CAPABILITIES, claims

PREFIX = "some (°C)/folder"


class FourMethods:
    """A store with nothing but the port, over one that has more."""

    def __init__(self, inner: ArtifactStore) -> None:
        self._inner = inner

    def exists(self, key: str, /) -> bool:
        return self._inner.exists(key)

    def read_bytes(self, key: str, /) -> bytes:
        return self._inner.read_bytes(key)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        self._inner.write_bytes(key, data)

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return self._inner.iter_keys(prefix)


class TestFourMethodsAreEnough(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        return StoreHarness(
            lambda: FourMethods(LocalArtifactStore(tmp_path)), claims=(), shared=False, forks=False, rounds=5, many=50
        )


class TestScopedMemoryStore(StoreContract):
    @pytest.fixture
    def harness(self) -> StoreHarness:
        whole = InMemoryArtifactStore()
        whole.write_bytes(f"{PREFIX}er/beside", b"not of the folder")
        return StoreHarness(
            lambda: scoped(whole, PREFIX),
            claims=claims(whole),
            shared=False,
            rounds=5,
            many=50,
            key_bytes=1024 - len(f"{PREFIX}/".encode()),
        )


class TestScopedLocalStore(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        return StoreHarness(lambda: scoped(LocalArtifactStore(tmp_path), PREFIX), claims=CLAIMS, rounds=5, many=50)


@pytest.mark.parametrize("view", [lambda store: scoped(store, "a"), ReadOnlyStore, RecordingStore, FaultyStore])
def test_no_view_claims_what_is_not_inside(view, tmp_path: Path) -> None:
    assert claims(view(FourMethods(LocalArtifactStore(tmp_path)))) == set()


def test_a_generic_scope_keeps_all_but_copies_and_scopes(tmp_path: Path) -> None:
    withheld = {SupportsCopyFrom, *(each for each in CAPABILITIES if each.__name__ == "SupportsScope")}
    assert claims(ScopedStore(LocalArtifactStore(tmp_path), "a")) == CLAIMS - withheld


class TestReadOnlyStore:
    """What the contract says of reading holds; what writes is not there or refuses."""

    @pytest.fixture
    def whole(self, tmp_path: Path) -> LocalArtifactStore:
        whole = LocalArtifactStore(tmp_path)
        whole.write_bytes("a/b", b"value")
        return whole

    def test_reads_what_is_there(self, whole: LocalArtifactStore) -> None:
        view = ReadOnlyStore(whole)
        assert isinstance(view, SupportsInfo)
        assert isinstance(view, SupportsPath)
        assert view.read_bytes("a/b") == b"value"
        assert view.exists("a/b")
        assert list(view.iter_keys()) == ["a/b"]
        assert view.info("a/b") == whole.info("a/b")

    def test_refuses_to_write(self, whole: LocalArtifactStore) -> None:
        view = ReadOnlyStore(whole)
        with pytest.raises(StoreAccessError, match="a/c"):
            view.write_bytes("a/c", b"new")
        if isinstance(view, SupportsStreaming):
            with pytest.raises(StoreAccessError, match="a/b"):
                view.open_writer("a/b")
        assert list(whole.iter_keys()) == ["a/b"]

    def test_its_scopes_refuse_too(self, whole: LocalArtifactStore) -> None:
        with pytest.raises(StoreAccessError):
            scoped(ReadOnlyStore(whole), "a").write_bytes("b", b"new")
