"""Handing work to a `concurrent.futures.Executor`, wherever its workers are.

Work is split into batches of plain items, and only a few batches are submitted at a time, so that a million keys are
never a million futures. What every batch needs (the stores) is pickled once, as configuration; see
`emdstore.workers.remote`.

Exceptions of the function itself are raised unchanged. Any other error of an engine means that a worker was lost,
whatever the engine calls it; the batch is then submitted again as single items, so that an item that kills its worker
does not affect the others. So functions may be called twice with the same items.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import pickle
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import attrs

from emdstore import system
from emdstore._version import __version__
from emdstore.errors import ExecutorError
from emdstore.workers.interrupts import uninterrupted
from emdstore.workers.remote import (
    Answer,
    cancel,
    missing_module,
    pack,
    read_answer,
    refused,
    run_here,
    run_packed,
    said,
    whereabouts,
)

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_IN_FLIGHT = 64
"""How many batches an executor is given at a time, by default."""

_ATTEMPTS = 3
_TICK_SECONDS = 0.2
_QUIET_SECONDS = 30.0


@contextlib.contextmanager
def executor_or_threads(
    executor: Executor | None, workers: int, name: str, *, only_read: bool = False
) -> Iterator[Executor]:
    """Yield the executor, which is left open; without one, a pool of threads that ends with the block.

    After Ctrl-C, threads that only read are not waited for, because some may be waiting for a silent server.
    """
    if executor is not None:
        yield executor
        return
    own = ThreadPoolExecutor(workers, thread_name_prefix=f"emdstore-{name}")
    try:
        yield own
    except KeyboardInterrupt:
        own.shutdown(wait=not only_read, cancel_futures=True)
        raise
    except BaseException:
        own.shutdown(wait=True, cancel_futures=True)
        raise
    own.shutdown(wait=True)


@attrs.frozen
class _Given(Generic[Item]):
    items: Sequence[Item]
    attempt: int


class Backlog(Generic[Item, Result]):
    """The batches that were submitted to an executor and have not finished; a context manager.

    Leaving the block cancels what has not started and waits for the rest. The executor is left open.

    Parameters
    ----------
    executor
        Threads, processes, or an engine that spans machines.
    function
        Called there as ``function(*common, items)``. It may be called twice with the same items.
    common
        What every batch needs.
    retried
        Applied to an item whose worker was lost, before it is submitted again.

    Raises
    ------
    ExecutorError
        If `common` cannot be sent to the workers. Nothing was submitted.
    """

    def __init__(
        self,
        executor: Executor,
        function: Callable[..., Result],
        *common: Any,
        retried: Callable[[Item], Item] | None = None,
    ) -> None:
        self._executor, self._retried = executor, retried
        self._call = functools.partial(function, *common)
        self._packed = None if isinstance(executor, ThreadPoolExecutor) else pack(executor, self._call)
        self._running: dict[Future[Answer], _Given[Item]] = {}
        self._done: SimpleQueue[Future[Answer]] = SimpleQueue()
        self._lost: deque[tuple[Sequence[Item], ExecutorError]] = deque()
        self._taken = False
        self._heard = system.current().monotonic()

    def __len__(self) -> int:
        return len(self._running) + len(self._lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _ in self.stop():
            pass

    def submit(self, items: Sequence[Item]) -> None:
        """Submit one batch.

        Raises
        ------
        ExecutorError
            If the executor refuses the first batch. Later refusals are results of `finished`.
        """
        self._give(_Given(items, 1))

    def finished(self, timeout: float = _TICK_SECONDS) -> Iterator[tuple[Sequence[Item], Result | ExecutorError]]:
        """Wait for batches, at most `timeout` seconds, and yield those that have finished, in any order.

        Yields
        ------
        tuple
            The items, and what the function returned for them; or the error, if workers were lost repeatedly or
            the executor accepts no more work. A batch may come back in parts.

        Raises
        ------
        ExecutorError
            If a worker cannot do such work at all: it has another emdstore version, or cannot load the stores.
        Exception
            What the function raised.
        """
        done = self._came_back(0 if self._lost or not self._running else timeout)
        if done or not self._running:
            self._heard = system.current().monotonic()
        elif system.current().monotonic() - self._heard > _QUIET_SECONDS:
            self._see_whether_it_lives()
        for future in done:
            given = self._running.pop(future)
            if (error := CancelledError() if future.cancelled() else future.exception()) is not None:
                self._give_again(given, error)
            else:
                yield given.items, read_answer(future.result())
        while self._lost:
            yield self._lost.popleft()

    def stop(self, seconds: float | None = None) -> Iterator[tuple[Sequence[Item], Result]]:
        """Cancel what has not started, wait for the rest, at most `seconds`, and yield its results."""
        started = {future: given for future, given in self._running.items() if not cancel(future)}
        self._running.clear()
        self._lost.clear()
        back, _ = wait(started, seconds)
        for future in back:
            given = started[future]
            if not future.cancelled() and future.exception() is None:
                with contextlib.suppress(Exception):  # the reason for stopping matters more
                    yield given.items, read_answer(future.result())

    def let_go(self) -> None:
        """Cancel what has not started, and abandon the rest."""
        for future in self._running:
            cancel(future)
        self._running.clear()
        self._lost.clear()

    def _came_back(self, timeout: float) -> list[Future[Answer]]:
        # Not `concurrent.futures.wait`, which takes the lock of each future that it waits for, every time.
        done = []
        with contextlib.suppress(Empty):
            done.append(self._done.get(timeout=timeout))
            while True:
                done.append(self._done.get_nowait())
        return [future for future in done if future in self._running]

    def _give(self, given: _Given[Item]) -> None:
        try:
            if self._packed is None:
                call: tuple[Any, ...] = run_here, self._call, given.items
            else:
                items = pickle.dumps((given.attempt, given.items))  # no two attempts are equal calls
                call = run_packed, __version__, self._packed, items
            with uninterrupted():
                future = self._executor.submit(*call)
                self._taken = True
                self._running[future] = given
                future.add_done_callback(self._done.put)
        except Exception as error:  # shut down, broken, disconnected: each engine has its own
            if not self._taken:
                raise refused(error) from error
            self._lost.append((given.items, refused(error)))

    def _see_whether_it_lives(self) -> None:
        """Give up what is in progress if the executor accepts no more work: some drop their futures when they end."""
        self._heard = system.current().monotonic()
        _log.warning("no result for %d s; %d batches are in progress", _QUIET_SECONDS, len(self._running))
        try:
            cancel(self._executor.submit(whereabouts))
        except Exception as error:  # noqa: BLE001 - as in `_give`
            self._lost.extend((given.items, refused(error)) for given in self._running.values())
            self._running.clear()

    def _give_again(self, given: _Given[Item], error: BaseException) -> None:
        if (missing := missing_module(error)) is not None:
            raise ExecutorError(
                f"the workers have no module {missing!r}, or another version of it: {said(error)}; install "
                f"emdstore {__version__} there, as here"
            ) from error
        if isinstance(error, BrokenExecutor):
            self._lost.append((given.items, refused(error)))
            return
        if given.attempt == _ATTEMPTS:
            times = f"{_ATTEMPTS} times"
            lost = ExecutorError(f"workers were lost {times}, the last one with {said(error)}; run it again")
            self._lost.append((given.items, lost))
            return
        level = logging.WARNING if given.attempt == 1 else logging.INFO
        _log.log(level, "a worker was lost (%s); its work is submitted again", said(error))
        for item in given.items:
            self._give(_Given((item if self._retried is None else self._retried(item),), given.attempt + 1))


def map_batches(
    executor: Executor,
    function: Callable[..., Sequence[Result]],
    *common: Any,
    items: Iterable[Item],
    size: int = 1,
    given: Callable[[], int] = lambda: MAX_IN_FLIGHT,
) -> Generator[tuple[Item, Result | ExecutorError], None, None]:
    """Call a function in an executor on batches of items, and yield each item with its result, in order.

    The function must only read: Ctrl-C does not wait for batches in progress.

    Parameters
    ----------
    executor, function, common
        See `Backlog`; the function returns one result for each item.
    items
        Consumed lazily, so there may be any number of them. Their end is reached before the last result is yielded.
    size
        How many items make a batch.
    given
        Returns how many batches may be in progress at a time, including finished ones that wait for an earlier one.

    Yields
    ------
    tuple
        The item and its result, or the error if workers were lost with it repeatedly.

    Raises
    ------
    ExecutorError
        If the executor accepts no work, if something cannot be sent there, or if the workers have another emdstore
        version.
    Exception
        What the function raised. Whenever the iteration ends, what has not started is cancelled.
    """
    numbered = enumerate(items)
    back: dict[int, tuple[Item, Result | ExecutorError]] = {}
    due = 0
    with Backlog[tuple[int, Item], Sequence[Result]](executor, _unnumbered, function, *common) as backlog:
        try:
            taken = tuple(itertools.islice(numbered, size))
            while taken or backlog:
                # Results that wait for their turn count, too: a slow early batch must not let the rest pile up.
                while taken and len(backlog) + len(back) // size < given():
                    backlog.submit(taken)
                    taken = tuple(itertools.islice(numbered, size))  # so the end is known before the last result
                for batch, results in backlog.finished():
                    for at, (number, item) in enumerate(batch):
                        back[number] = (item, results if isinstance(results, ExecutorError) else results[at])
                while due in back:
                    yield back.pop(due)
                    due += 1
        except KeyboardInterrupt:
            backlog.let_go()
            raise


def _unnumbered(function: Callable[..., Result], *common_and_batch: Any) -> Result:
    *common, batch = common_and_batch
    return function(*common, [item for _, item in batch])
