"""Stores that take notes or fail on purpose are stores, and do what a test relies on."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.stores.test_contract_local import CLAIMS

import emdstore.testing
from emdstore.errors import InvalidKeyError, MissingExtraError, StoreAccessError, StoreUnavailableError
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.views import scoped
from emdstore.testing import Call, Fault, FaultyStore, RecordingStore, StoreContract, StoreHarness


class TestRecordingStoreContract(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        return StoreHarness(lambda: RecordingStore(LocalArtifactStore(tmp_path)), claims=CLAIMS, rounds=5, many=50)


class TestFaultyStoreBetweenItsFaults(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        never = Fault(every=1_000_000)
        return StoreHarness(lambda: FaultyStore(LocalArtifactStore(tmp_path), never), claims=CLAIMS, rounds=5, many=50)


class TestRecordingStore:
    def test_tells_what_was_asked_in_order(self) -> None:
        store = RecordingStore(InMemoryArtifactStore())
        store.write_bytes("a/b", b"value")
        list(store.iter_keys("a"))
        assert not store.exists("c")
        assert store.calls == (Call("write_bytes", "a/b"), Call("iter_keys", "a"), Call("exists", "c"))

    def test_a_call_that_was_refused_for_its_key_is_none(self) -> None:
        store = RecordingStore(InMemoryArtifactStore())
        with pytest.raises(InvalidKeyError):
            store.write_bytes("../a", b"value")
        assert store.calls == ()

    def test_calls_of_its_scopes_are_calls_of_the_store(self, tmp_path: Path) -> None:
        store = RecordingStore(LocalArtifactStore(tmp_path))
        scoped(store, "run1").write_bytes("a", b"value")
        assert store.calls == (Call("scope", "run1"), Call("write_bytes", "a"))

    def test_loses_no_call_of_many_threads(self) -> None:
        store = RecordingStore(InMemoryArtifactStore())
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(store.exists, map(str, range(400))))
        assert sorted(call.key for call in store.calls) == sorted(map(str, range(400)))

    def test_a_pickled_copy_starts_anew(self, tmp_path: Path) -> None:
        store = RecordingStore(LocalArtifactStore(tmp_path))
        store.exists("a")
        assert pickle.loads(pickle.dumps(store)).calls == ()


class TestFaultyStore:
    def test_fails_every_nth_call(self) -> None:
        store = FaultyStore(InMemoryArtifactStore(), Fault(every=3))
        seen = []
        for _ in range(7):
            try:
                seen.append(store.exists("a"))
            except StoreUnavailableError:
                seen.append(None)
        assert seen == [False, False, None, False, False, None, False]

    def test_fails_the_calls_that_were_named(self) -> None:
        store = FaultyStore(
            InMemoryArtifactStore(), Fault(verbs={"write_bytes"}, keys={"b"}, nth={1}, error=StoreAccessError)
        )
        store.write_bytes("a", b"value")
        with pytest.raises(StoreAccessError, match="write_bytes of 'b'") as caught:
            store.write_bytes("b", b"value")
        assert caught.value.key == "b"
        assert list(store.iter_keys()) == ["a"]
        store.write_bytes("b", b"value")
        assert list(store.iter_keys()) == ["a", "b"]

    def test_takes_errors_of_any_kind(self) -> None:
        with pytest.raises(KeyboardInterrupt):
            FaultyStore(InMemoryArtifactStore(), Fault(error=KeyboardInterrupt)).read_bytes("a")

    def test_counts_over_its_scopes_and_threads(self, tmp_path: Path) -> None:
        store = FaultyStore(LocalArtifactStore(tmp_path), Fault(verbs={"exists"}, every=10))
        scope = scoped(store, "a")

        def fails(number: int) -> bool:
            try:
                return (store if number % 2 else scope).exists("a")
            except StoreUnavailableError:
                return True

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(fails, range(100))) == 10

    def test_an_invalid_key_is_refused_and_not_counted(self) -> None:
        store = FaultyStore(InMemoryArtifactStore(), Fault(nth={1}))
        with pytest.raises(InvalidKeyError):
            store.exists("/a")
        with pytest.raises(StoreUnavailableError):
            store.exists("a")


def test_the_doubles_need_no_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert emdstore.testing.FaultyStore is FaultyStore
    with pytest.raises(MissingExtraError, match=r"emdstore\[testing\]"):
        _ = emdstore.testing.run_store_state_machine
    with pytest.raises(AttributeError):
        _ = emdstore.testing.absent
