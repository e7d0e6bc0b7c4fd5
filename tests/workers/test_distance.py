from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from tests.distant import Distant

from emdstore import InMemoryArtifactStore, LocalArtifactStore, system
from emdstore.errors import StoreError
from emdstore.per_process import PerProcess
from emdstore.stores import ArtifactStore, Place
from emdstore.workers import distance
from emdstore.workers.distance import InFlight, is_far, note_answer, noting_answer
from emdstore.workers.several import several_at_once


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "_fastest", PerProcess(dict))


def _far(seconds: float | None = None) -> ArtifactStore:
    store = Distant(InMemoryArtifactStore())
    if seconds is not None:
        note_answer(store, seconds)
    return store


def test_the_fastest_answer_tells_how_far_a_server_is() -> None:
    far = _far()
    assert [is_far(far, seconds) for seconds in (0.5, 0.03, 0.001, 0.03)] == [True, True, False, False]
    assert is_far(_far(), 0.03)  # another one


def test_what_is_on_no_server_is_never_far(tmp_path: object) -> None:
    for store in (InMemoryArtifactStore(), LocalArtifactStore(str(tmp_path))):
        assert not is_far(store, 10)
        assert note_answer(store, 10) == 0


def test_an_answer_is_timed_and_an_error_is_none() -> None:
    now = iter([0.0, 0.5, 1.0, 1.25])
    far = _far()
    with system.using(attrs.evolve(system.REAL, monotonic=lambda: next(now))):
        with noting_answer(far):
            pass
        assert note_answer(far, 9) == 0.5
        with pytest.raises(StoreError), noting_answer(far):
            raise StoreError("refused at once")
    assert note_answer(far, 9) == 0.5


@pytest.mark.parametrize(
    ("answers", "most", "expected"),
    [
        ([], 64, 8),  # nobody knows yet
        ([0.001], 64, 8),
        ([0.01], 64, 20),
        ([0.031], 64, 62),
        ([0.1], 64, 64),
        ([0.1], 32, 32),
        ([0.001, 0.02], 64, 40),  # of two stores, the slower one is waited for
    ],
)
def test_the_farther_a_store_is_the_more_answers_are_waited_for(answers: list[float], most: int, expected: int) -> None:
    stores = list(map(_far, answers)) or [_far()]
    assert InFlight.of(*stores, least=8, most=most)() == expected


def test_a_number_follows_what_is_learned() -> None:
    far = _far()
    number = InFlight.of(far, least=8, most=64)
    seen = [number()]
    for seconds in (0.1, 0.02, 0.05):
        note_answer(far, seconds)
        seen.append(number())
    assert seen == [8, 64, 40, 40]


def test_where_no_server_is_asked_more_would_only_wait_for_each_other(tmp_path: object) -> None:
    for store in (InMemoryArtifactStore(), LocalArtifactStore(str(tmp_path))):
        number = InFlight.of(store, least=8, most=64)
        assert (number(), number.most) == (8, 8)


def test_a_server_is_asked_no_more_than_it_takes() -> None:
    class Small(Distant):
        def _within(self, place: Place) -> Place:
            return attrs.evolve(super()._within(place), requests=3)

    small = Small(InMemoryArtifactStore())
    note_answer(small, 1.0)
    assert InFlight.of(small, least=8, most=64)() == 3


def _meeting(count: int) -> Distant:
    store = Distant(InMemoryArtifactStore(), lambda verb, key: verb == "read_bytes", count)
    for number in range(2 * count):
        store.write_bytes(f"{number:02}", b"x")
    return store


def _read(store: ArtifactStore, keys: Sequence[str]) -> list[bytes]:
    return [store.read_bytes(key) for key in keys]


def test_many_are_read_at_once_from_afar_and_come_in_order() -> None:
    store = _meeting(40)
    note_answer(store, 0.02)
    keys = [f"{number:02}" for number in range(80)]
    with several_at_once(_read, store, items=keys, stores=[store], name="read") as found:
        assert [key for key, _ in found] == keys


def test_few_are_in_progress_where_answers_come_at_once() -> None:
    active, most, lock = 0, 0, threading.Lock()

    def items() -> Iterator[int]:
        yield from range(100)

    def read(store: ArtifactStore, batch: Sequence[int]) -> Sequence[int]:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        threading.Event().wait(0.001)
        with lock:
            active -= 1
        return batch

    store = _far(0.001)
    with several_at_once(read, store, items=items(), stores=[store], name="read") as found:
        assert [number for number, _ in found] == list(range(100))
    assert most <= 8


def test_what_is_quickly_read_is_handed_over_together_unless_a_server_is_asked() -> None:
    seen: dict[str, set[int]] = {"far": set(), "near": set()}

    def read(where: str, batch: Sequence[int]) -> Sequence[int]:
        seen[where].add(len(batch))
        return batch

    for where, store in (("far", _far()), ("near", InMemoryArtifactStore())):
        with several_at_once(read, where, items=range(40), stores=[store], name="read", nearby=16) as found:
            assert [number for number, _ in found] == list(range(40))
    assert seen == {"far": {1}, "near": {16, 8}}


def test_an_executor_decides_itself_how_many_it_runs() -> None:
    begun = threading.Barrier(12)

    def read(store: ArtifactStore, batch: Sequence[int]) -> Sequence[int]:
        begun.wait(10)
        return batch

    store = _far(0.001)
    with (
        ThreadPoolExecutor(12) as pool,
        several_at_once(read, store, items=range(12), stores=[store], name="read", executor=pool) as found,
    ):
        assert [number for number, _ in found] == list(range(12))
