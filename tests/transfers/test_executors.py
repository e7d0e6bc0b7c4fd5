"""Work done elsewhere: any `concurrent.futures.Executor`, also one that loses its workers."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.transfers.stores import DeadlyTo, Slow, contents, fill

from emdstore.errors import ExecutorError
from emdstore.sets.transfer import transfer
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.testing import RecordingStore
from emdstore.transfers import TransferInterrupted, TransferProgress

ARTIFACTS = {f"run{number % 7}/{number:03}": bytes(number) for number in range(300)} | {"large": bytes(5_000_000)}


def processes() -> ProcessPoolExecutor:
    """Return workers that start from nothing, as those on another machine do."""
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


class ByMail(Executor):
    """An engine that sends work away as bytes, and takes its time to look for an answer."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        letter = pickle.dumps((fn, args, kwargs))

        def work() -> None:
            fn, args, kwargs = pickle.loads(letter)
            future.set_running_or_notify_cancel()
            try:
                future.set_result(pickle.loads(pickle.dumps(fn(*args, **kwargs))))
            except Exception as error:
                future.set_exception(error)

        threading.Timer(0.01, work).start()
        return future


class InLine(Executor):
    """An engine that is none, as programs use it to find their faults."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("engine", [processes, lambda: ThreadPoolExecutor(2), ByMail], ids=["spawn", "threads", "mail"])
def test_any_executor_does_it_and_is_left_open(
    tmp_path: Path, engine: Callable[[], AbstractContextManager[Any]]
) -> None:
    source, dest = fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS), LocalArtifactStore(tmp_path / "dest")
    told: list[TransferProgress] = []
    with engine() as executor:
        report = transfer(source, dest, [*ARTIFACTS, "absent"], executor=executor, on_progress=told.append)
        again = transfer(source, dest, executor=executor, unchanged="digest")
        assert executor.submit(len, "open").result(10) == 4
    assert report.counts == {"copied": 301, "unchanged": 0, "missing": 1, "rejected": 0, "failed": 0, "left": 0}
    assert [each.key for each in report.outcomes] == [*ARTIFACTS, "absent"]
    assert again.counts["unchanged"] == len(ARTIFACTS)
    assert contents(dest) == contents(ARTIFACTS)
    total = sum(map(len, ARTIFACTS.values()))
    assert told[-1] == TransferProgress(302, total, 302, total, complete=True)


@pytest.mark.slow
def test_workers_are_given_more_than_one_batch_at_a_time() -> None:
    """Guards against a cluster of which two workers have something to do."""
    most = 0

    class Counting(Executor):  # not a pool of threads, of which it is known how they work
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            nonlocal most
            most = max(most, pool._work_queue.qsize())
            return pool.submit(fn, *args, **kwargs)

    keys = {f"{number:05}": b"" for number in range(4000)}
    with ThreadPoolExecutor(1) as pool, Counting() as executor:
        assert transfer(
            Slow(fill(InMemoryArtifactStore(), keys), 0.0001), InMemoryArtifactStore(), executor=executor
        ).ok
    assert most > 20


def test_what_a_broken_pool_was_given_fails_and_says_so(tmp_path: Path) -> None:
    source = fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS)
    dest = LocalArtifactStore(tmp_path / "dest")
    with processes() as executor:
        report = transfer(DeadlyTo(source, "run3/003"), dest, executor=executor)
    assert [each.key for each in report.outcomes] == sorted(ARTIFACTS)
    assert "run3/003" in report.keys("failed")
    assert all(isinstance(each.error, ExecutorError) for each in report.failures)
    assert all("run it again" in str(each.error) for each in report.failures)
    held = contents(dest)
    assert set(report.keys("copied")) <= set(held)
    assert held == {key: value for key, value in contents(ARTIFACTS).items() if key in held}
    assert transfer(source, dest).ok


def test_a_store_that_lives_in_this_process_is_refused_before_any_work(tmp_path: Path) -> None:
    """Guards against a copy of the store that is filled elsewhere and thrown away."""
    inner = fill(InMemoryArtifactStore(), ARTIFACTS)
    with (
        processes() as executor,
        pytest.raises(ExecutorError, match=r"InMemoryArtifactStore.*exists in this process only.*threads"),
    ):
        transfer(RecordingStore(inner), LocalArtifactStore(tmp_path / "dest"), executor=executor)
    assert not (tmp_path / "dest").exists()


def test_it_is_used_as_it_is_where_the_work_is_done_in_this_process() -> None:
    dest = InMemoryArtifactStore()
    with InLine() as executor:
        assert transfer(fill(InMemoryArtifactStore(), ARTIFACTS), dest, executor=executor).ok
    assert contents(dest) == contents(ARTIFACTS)


def test_an_executor_that_is_shut_down_is_an_error_before_any_work(tmp_path: Path) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    source = fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS)
    with pytest.raises(ExecutorError, match=r"accepts no more work.*start a new one"):
        transfer(source, LocalArtifactStore(tmp_path / "dest"), executor=executor)
    assert not (tmp_path / "dest").exists()


def test_one_that_is_shut_down_meanwhile_leaves_a_full_account() -> None:
    """Guards against waiting for ever for batches that nobody will do."""
    executor = ThreadPoolExecutor(1)
    source = Slow(fill(InMemoryArtifactStore(), ARTIFACTS), 0.002)

    def shut_down(progress: TransferProgress) -> None:
        executor.shutdown(wait=False, cancel_futures=True)

    dest = InMemoryArtifactStore()
    report = transfer(source, dest, executor=executor, on_progress=shut_down)
    assert len(report.outcomes) == len(ARTIFACTS)
    assert all(isinstance(each.error, ExecutorError) for each in report.failures)
    assert set(report.keys("copied")) == set(contents(dest)) != set(ARTIFACTS)


def test_work_that_the_executor_still_has_is_not_left_behind() -> None:
    """Guards against a transfer that has ended, and artifacts that come all the same."""
    dest = RecordingStore(InMemoryArtifactStore())

    def ctrl_c(progress: TransferProgress) -> None:
        if progress.keys_done:
            raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as executor:
        with pytest.raises(TransferInterrupted) as caught:
            transfer(Slow(fill(InMemoryArtifactStore(), ARTIFACTS), 0.005), dest, executor=executor, on_progress=ctrl_c)
        before = len(dest.calls)
        time.sleep(0.1)
        assert len(dest.calls) == before
    assert set(caught.value.report.keys("copied")) == set(contents(dest)) != set(ARTIFACTS)
