"""Handing work to an executor: few batches at a time, nothing lost, and clear words where it cannot be done."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from tests.workers.stores import Deadly

from emdstore.errors import ArtifactNotFoundError, ExecutorError
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, S3ArtifactStore
from emdstore.workers import backlog, remote
from emdstore.workers.backlog import Backlog, map_batches

SPAWN = get_context("spawn")


def doubled(numbers: Sequence[int]) -> list[int]:
    return [2 * number for number in numbers]


def read(store: ArtifactStore, keys: Sequence[str]) -> list[bytes]:
    return [store.read_bytes(key) for key in keys]


def refuse_to_travel(numbers: Sequence[int]) -> list[int]:
    class Local(ValueError):  # of a class that no other process can find
        pass

    raise Local(f"no {numbers[0]}")


def pretend_to_be_older() -> None:
    remote.__version__ = "0.0.7"


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes that start from nothing, as those on another machine do."""
    with ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
        yield pool


class Gone(Executor):
    """An engine that takes work, forgets it, and after so many batches takes no more: one whose server has ended."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.letters: list[Any] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.letters.append(args)
        if len(self.letters) > self.takes:
            raise ConnectionError("the client is closed")
        return Future()


class Prompt(ThreadPoolExecutor):
    """Has done each batch before it takes the next one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        wait([future])
        return future


def test_results_come_in_order_whatever_is_done_first() -> None:
    def slow_at_first(numbers: Sequence[int]) -> list[int]:
        time.sleep(0.1 if numbers[0] == 0 else 0)
        return doubled(numbers)

    with ThreadPoolExecutor(4) as pool:
        found = list(map_batches(pool, slow_at_first, items=range(100), size=7))
    assert found == [(number, 2 * number) for number in range(100)]


def test_a_million_items_are_never_a_million_futures() -> None:
    taken = itertools.count()
    ahead = []
    with ThreadPoolExecutor(2) as pool:
        items = (next(taken) for _ in range(5000))
        for item, _ in map_batches(pool, doubled, items=items, size=10, given=lambda: 4):
            ahead.append(next(taken) - item)
            taken = itertools.count(ahead[-1] + item)
    assert 0 < max(ahead) <= 10 * (4 + 1) + 10


def test_that_there_are_no_more_items_is_known_before_the_last_result() -> None:
    ended = []

    def items() -> Iterator[int]:
        yield from range(8)
        ended.append(True)

    with Prompt(1) as pool:
        known = [bool(ended) for _ in map_batches(pool, doubled, items=items(), given=lambda: 4)]
    assert (known[0], known[-1]) == (False, True)


class _Interrupted(ThreadPoolExecutor):
    """Ctrl-C comes while it is given work."""

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGINT)
        return future


def test_what_was_submitted_when_ctrl_c_came_is_not_forgotten() -> None:
    with _Interrupted(1) as executor, Backlog[int, list[int]](executor, list) as work:
        with pytest.raises(KeyboardInterrupt):
            work.submit([7])
        assert len(work) == 1
        assert list(work.finished(60)) == [([7], [7])]


def test_nothing_is_begun_after_the_end(processes: ProcessPoolExecutor) -> None:
    begun = []

    def begin(numbers: Sequence[int]) -> list[int]:
        begun.extend(numbers)
        time.sleep(0.01)
        return doubled(numbers)

    with ThreadPoolExecutor(1) as pool:
        results = map_batches(pool, begin, items=range(1000))
        next(results)
        results.close()
        at_the_end = len(begun)
        assert pool.submit(int).result(10) == 0
    assert len(begun) == at_the_end < 50


def test_what_the_function_raises_is_raised_here_and_is_no_lost_worker(processes: ProcessPoolExecutor) -> None:
    for pool in (processes, ThreadPoolExecutor(1)):
        with pytest.raises(ArtifactNotFoundError, match="nowhere"):
            list(map_batches(pool, read, LocalArtifactStore("/proc/self"), items=["nowhere"]))


def test_an_error_that_cannot_travel_is_told_all_the_same(processes: ProcessPoolExecutor) -> None:
    with pytest.raises(ExecutorError, match=r"cannot send back .*no 7"):
        list(map_batches(processes, refuse_to_travel, items=[7]))


def test_workers_with_another_emdstore_are_refused() -> None:
    with (
        ProcessPoolExecutor(1, mp_context=SPAWN, initializer=pretend_to_be_older) as pool,
        pytest.raises(ExecutorError, match=r"has emdstore 0\.0\.7, and here it is .*; install the same"),
    ):
        list(map_batches(pool, doubled, items=[1]))


def test_what_cannot_be_pickled_is_refused_before_any_work_with_the_reason(
    processes: ProcessPoolExecutor, tmp_path: Path
) -> None:
    class Locked(LocalArtifactStore):
        def __reduce__(self) -> Any:
            raise TypeError("cannot pickle a lock")

    begun = tmp_path / "begun"
    with pytest.raises(ExecutorError, match=r"cannot pickle a lock; nothing was done.*threads"):
        list(map_batches(processes, read, Locked(tmp_path), items=iter(lambda: begun.touch() or "x", 0)))
    assert not begun.exists()


def test_a_store_that_lives_in_this_process_is_not_copied(processes: ProcessPoolExecutor) -> None:
    with pytest.raises(ExecutorError, match="InMemoryArtifactStore"):
        list(map_batches(processes, read, InMemoryArtifactStore(), items=["key"]))


def test_a_store_that_workers_cannot_load_is_said_to_be_one(
    processes: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = ModuleType("only_here")
    exec("class Mine:\n    pass", here.__dict__)
    monkeypatch.setitem(__import__("sys").modules, "only_here", here)
    with pytest.raises(ExecutorError, match=r"cannot load what it was sent: .*only_here.*; your own store classes"):
        list(map_batches(processes, read, here.Mine(), items=["key"]))


def test_credentials_travel_only_if_the_store_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, f"very-secret-{name}")

    def sent(store: ArtifactStore) -> str:
        engine = Gone(1)
        Backlog[str, Any](engine, read, store).submit(["key"])
        return repr(engine.letters)

    assert "bucket" in sent(S3ArtifactStore("s3://bucket/results"))
    assert "very-secret" not in sent(S3ArtifactStore("s3://bucket/results"))
    given = S3ArtifactStore("s3://bucket/results", access_key_id="A", secret_access_key="very-secret")
    assert "very-secret" not in sent(given)
    assert "very-secret" in sent(attrs.evolve(given, send_credentials=True))


def test_a_pool_that_is_broken_for_good_is_an_error_for_each_of_its_items(tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path / "store")
    for number in range(20):
        store.write_bytes(f"{number:02}", b"%d" % number)
    deadly = Deadly(store, "read_bytes", "03", tmp_path / "deaths", 100)
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        found = dict(map_batches(pool, read, deadly, items=store.iter_keys(), given=lambda: 2))
    assert list(found) == list(store.iter_keys())
    read_before = [key for key, each in found.items() if not isinstance(each, ExecutorError)]
    assert read_before == ["00", "01", "02"]
    assert all("accepts no more work" in str(found[key]) for key in found if key not in read_before)
    assert (tmp_path / "deaths").read_bytes() == b"x"


def test_an_executor_that_forgets_what_it_had_ends_in_errors_not_in_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_QUIET_SECONDS", 0.3)
    found = list(map_batches(Gone(3), doubled, items=range(3)))
    assert [item for item, _ in found] == [0, 1, 2]
    assert all(isinstance(each, ExecutorError) and "the client is closed" in str(each) for _, each in found)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor(1), ProcessPoolExecutor(1)], ids=["threads", "processes"])
def test_an_executor_that_is_shut_down_is_an_error_before_anything(pool: Executor) -> None:
    pool.shutdown()
    with pytest.raises(ExecutorError, match=r"accepts no more work.*start a new one"):
        list(map_batches(pool, doubled, items=[1]))


def test_work_is_done_in_the_threads_of_this_process_as_it_is() -> None:
    here = threading.local()  # which nothing can pickle
    with ThreadPoolExecutor(1) as pool:
        assert list(map_batches(pool, lambda _, pids: [os.getpid() for _ in pids], here, items=[1])) == [
            (1, os.getpid())
        ]


class Losing(Executor):
    """Loses each worker as soon as it has been given something."""

    def __init__(self) -> None:
        self.given = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if fn is not remote.whereabouts:
            self.given += 1
        future.set_exception(RuntimeError("the node is gone"))
        return future


def test_what_loses_its_worker_is_given_out_three_times_and_no_more() -> None:
    engine = Losing()
    ((_, error),) = map_batches(engine, doubled, items=[1])
    assert isinstance(error, ExecutorError)
    assert engine.given == 3


class Interrupting(ThreadPoolExecutor):
    """Hears Ctrl-C in the middle of taking work, where an executor holds its lock."""

    has_let_go = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        signal.raise_signal(signal.SIGINT)
        future = super().submit(fn, *args, **kwargs)
        self.has_let_go = True
        return future


def test_ctrl_c_waits_until_an_executor_has_let_go_of_its_lock() -> None:
    with Interrupting(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            Backlog[int, Any](pool, doubled).submit([1])
        assert pool.has_let_go
