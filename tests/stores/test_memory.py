"""What only a store in memory can get wrong; the contract suite has the rest."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from emdstore.errors import StoreError
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactStore


def test_stores_of_one_name_are_one_store_and_others_are_not(request: pytest.FixtureRequest) -> None:
    name = request.node.nodeid
    InMemoryArtifactStore(name).write_bytes("a", b"kept")
    gc.collect()
    assert InMemoryArtifactStore(name).read_bytes("a") == b"kept"
    assert InMemoryArtifactStore(name) is InMemoryArtifactStore(name)
    assert InMemoryArtifactStore() != InMemoryArtifactStore() != InMemoryArtifactStore(name)
    assert not InMemoryArtifactStore().exists("a")


def test_a_name_is_never_that_of_a_store_without_one() -> None:
    nameless = InMemoryArtifactStore()
    nameless.write_bytes("a", b"mine")
    number = repr(nameless).removeprefix("InMemoryArtifactStore('").removesuffix("')")
    assert not InMemoryArtifactStore(number).exists("a")
    assert pickle.loads(pickle.dumps(nameless)).read_bytes("a") == b"mine"


def test_a_store_without_a_name_goes_with_its_last_reference() -> None:
    store = InMemoryArtifactStore()
    sent = pickle.dumps(store)
    assert pickle.loads(sent) is store
    del store
    gc.collect()
    with pytest.raises(StoreError):
        pickle.loads(sent).exists("a")


def test_what_was_written_does_not_change_with_the_buffer() -> None:
    store, buffer = InMemoryArtifactStore(), bytearray(b"value")
    store.write_bytes("a", buffer)
    with store.open_writer("b") as writer:
        writer.write(memoryview(buffer))
        buffer[:] = b"other"
    assert store.read_bytes("a") == store.read_bytes("b") == b"value"


def test_a_listing_is_of_one_moment() -> None:
    store = InMemoryArtifactStore()
    for key in ("a", "b", "c"):
        store.write_bytes(key, b"")
    keys, infos = store.iter_keys(), store.iter_info()
    assert (next(keys), next(infos).key) == ("a", "a")
    store.delete("b")
    store.write_bytes("b2", b"")
    assert list(keys) == ["b", "c"]
    assert [info.key for info in infos] == ["c"]  # but what is gone has no size


def test_another_write_is_another_version() -> None:
    store = InMemoryArtifactStore()
    store.write_bytes("a", b"value")
    first = store.info("a")
    store.write_bytes("a", b"value")
    assert store.info("a").version != first.version
    assert store.info("a").modified >= first.modified


def test_threads_that_write_and_list_at_once_lose_nothing() -> None:
    store = InMemoryArtifactStore()

    def write(number: int) -> None:
        for each in range(100):
            store.write_bytes(f"{number}/{each:03}", b"value")
            assert sorted(store.iter_keys(f"{number}")) == list(store.iter_keys(f"{number}"))
            if each % 2:
                store.delete(f"{number}/{each:03}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert list(store.iter_keys()) == [f"{number}/{each:03}" for number in range(8) for each in range(0, 100, 2)]


def use(store: ArtifactStore) -> str:
    """Return how the store refuses every verb, in the same words."""
    calls = (
        lambda: store.exists("a"),
        lambda: store.read_bytes("a"),
        lambda: store.write_bytes("a", b""),
        lambda: list(store.iter_keys()),
    )
    messages = set()
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        messages.add(str(caught.value))
    (message,) = messages
    return message


@pytest.mark.parametrize("start", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_another_process_is_told_that_it_cannot_have_it(request: pytest.FixtureRequest, start: str) -> None:
    """Guards against an empty store there, into which the work goes and is lost."""
    store = InMemoryArtifactStore(request.node.nodeid)
    store.write_bytes("a", b"value")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(start)) as pool:
        message = pool.submit(use, store).result(60)
    assert "lives in process" in message
    assert "use threads, or a store that processes share" in message
    assert store.read_bytes("a") == b"value"
