"""Moves a plan: workers, retries, progress.

The calling thread plans, hands small batches of steps to workers, and collects their outcomes; nothing else is shared.
A batch is plain data (two stores, some steps) and `run_batch` a plain function, so any `concurrent.futures.Executor`
will do (see `emdstore.workers.backlog`): threads, processes, or an engine that spans machines.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import attrs

from emdstore import system
from emdstore.errors import ExecutorError
from emdstore.progress import tell
from emdstore.stores.port import ArtifactStore, LeftOut, SupportsFlush, SupportsPath
from emdstore.stores.sameness import refuse_same_place
from emdstore.stores.unfinished import uploads_are_under_way
from emdstore.transfers.bandwidth import Bandwidth, Throttle
from emdstore.transfers.batch import SMALL_SIZE, Batch, BatchResult, is_plain_copy, run_batch, run_steps
from emdstore.transfers.ledger import Ledger
from emdstore.transfers.moves import plan_move
from emdstore.transfers.outcomes import KeyOutcome
from emdstore.transfers.pace import MOST_KEYS, Pace
from emdstore.transfers.plan import Listing, Step, Unchanged
from emdstore.transfers.routes import Stores
from emdstore.transfers.transfer_report import TransferInterrupted, TransferProgress, TransferReport
from emdstore.transfers.unit_runs import UnitRuns
from emdstore.transfers.units import Limited, Order, Sealing, Unit, ordered
from emdstore.workers.backlog import MAX_IN_FLIGHT, Backlog
from emdstore.workers.watch import Monitor, Watch, is_fork

if TYPE_CHECKING:
    from emdstore.workers.forks import ForkWatch

_PLAN_AHEAD = 20_000
_PLAN_AT_ONCE = 512
_WORTH_FORKING = _PLAN_AT_ONCE // 2
_ALONE_SECONDS = 0.2
_MIB = 1024 * 1024
_BATCH_BYTES = 8 * _MIB
_GROUPS = 2  # of small files that go together: while the last answers come to one worker, the other one sends
_LEAST_TOGETHER = 32
# What an artifact takes of memory while it is moved, at most, and what all of them may take.
_COPY_BYTES = _MIB  # from file to file: a buffer
_DOWN_BYTES = 5 * _MIB  # what comes as a stream: the first part of an object, and a buffer; readers limit the rest
_UP_BYTES = 20 * _MIB  # what goes as a stream: the parts of an upload
_COPIES = 4  # what an engine receives, what it makes of that, what Python gets, and what the allocator keeps
_STREAMED_COPIES = 2  # what was collected of a stream, and what is sent of it
_MOST_BYTES = 4 * _UP_BYTES
_TICK_SECONDS = 0.2
_LAST_SECONDS = 1.0  # for workers that are interrupted; some may wait for a silent server
_LAST_SECONDS_OF_UPLOADS = 1.5  # where parts are to be taken back

_log = logging.getLogger(__name__)

ProgressCallback = Callable[[TransferProgress], object]


def move(
    source: ArtifactStore,
    dest: ArtifactStore,
    keys: Iterable[str] | None = None,
    *,
    unchanged: Unchanged = "stat",
    max_workers: int | None = None,
    executor: Executor | None = None,
    on_progress: ProgressCallback | None = None,
    dry_run: bool = False,
    flush: bool = False,
    found: Listing | None = None,
    proved: Mapping[str, str] | None = None,
    expected: Mapping[str, str] | None = None,
    prove: bool = False,
    sealing: Sealing | None = None,
    order: Order = "name",
    max_bytes: int | None = None,
    bandwidth: Bandwidth | None = None,
) -> TransferReport:
    """Copy artifacts from one store to another; see `emdstore.transfer`, which also knows sets.

    Each artifact arrives whole or not at all, and a failing key does not stop the others. Bytes are hashed on the way.
    After an interruption, call it again to resume: what is there already is not moved twice. Nothing is deleted.

    Parameters
    ----------
    source, dest
        Any two stores, in different places.
    keys
        The keys to move, in the order to start them; None for everything in the source.
    unchanged
        What need not be copied again. ``"stat"``: what has the same size and is not older at the destination.
        ``"digest"``: what has the same bytes, which are read and hashed on both sides. ``"never"``: copy everything.
    max_workers
        The number of threads; by default few for local files, and as many as their latency requires for object stores.
        With an executor, how many batches it is given at a time.
    executor
        Does the work instead of threads of this call. Several calls may share it. For workers in other processes the
        stores must pickle; the work of a lost worker is given to another one.
    on_progress
        Called in this thread with a `TransferProgress`, at most a few times a second. Its exceptions are logged.
    dry_run
        Write nothing; the report says what would be done. What has to be compared is read.
    flush
        Return only when everything that was copied survives a power cut (for local stores; see
        `LocalArtifactStore.flush`).
    found, proved, expected
        See `plan_steps`.
    prove
        Like `dry_run`, but the report counts as that of a real run.
    sealing
        Which folders are moved as a whole, and how.
    order, max_bytes, bandwidth
        See `emdstore.transfer`.

    Returns
    -------
    TransferReport
        One outcome for each key, with the digest of what was copied. Transient errors are retried before they count.

    Raises
    ------
    SameStoreError
        If both stores are the same place, or one lies inside the other; nothing was moved.
    StoreError
        If a store cannot be listed; what was copied until then is whole.
    ExecutorError
        If the executor accepts no work, a store cannot be sent to its workers, or these have another version of
        emdstore.
    TransferInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far; artifacts in progress were left out, not torn.
    """
    refuse_same_place(source, dest)
    if bandwidth is not None and not isinstance(executor, ThreadPoolExecutor | None):
        raise ValueError("the bandwidth is that of the threads of this process: leave out the executor")
    started = system.current().monotonic()
    left_out: list[LeftOut] = []
    plan = plan_move(
        source,
        dest,
        keys,
        unchanged=unchanged,
        found=found,
        proved=proved,
        expected=expected,
        sealing=sealing,
        left_out=left_out.append,
    )
    limited = Limited(ordered(plan, order), max_bytes)
    if max_bytes is not None or order != "name":
        plan = iter(limited)
    run = _Run(
        source,
        dest,
        plan,
        on_progress,
        max_workers,
        executor,
        only_prove=prove or dry_run,
        flush=flush,
        in_order=order != "name",
        bandwidth=bandwidth,
        **({} if sealing is None else {"arrived": sealing.arrived}),
    )
    try:
        run.run()
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            run.stop()
        else:
            run.stop(_LAST_SECONDS_OF_UPLOADS if uploads_are_under_way() else _LAST_SECONDS)
            if uploads_are_under_way():
                _log.warning(
                    "parts of uploads may be left in %r, whose server did not answer in time; have the bucket expire "
                    "unfinished uploads",
                    dest,
                )
        if isinstance(error, KeyboardInterrupt):
            report = run.report(system.current().monotonic() - started)
            raise TransferInterrupted(attrs.evolve(report, left_out=tuple(left_out), is_cut=limited.is_cut)) from None
        raise
    report = run.report(system.current().monotonic() - started)
    return attrs.evolve(report, dry_run=dry_run, left_out=tuple(left_out), is_cut=limited.is_cut)


def _end_workers(executor: Executor, kind: object, error: BaseException | None, traceback: object) -> None:
    """Wait for the workers, unless interrupted: a thread may be waiting for a silent server."""
    is_interrupted = isinstance(error, KeyboardInterrupt) and isinstance(executor, ThreadPoolExecutor)
    executor.shutdown(wait=not is_interrupted, cancel_futures=True)


def _is_large(step: Step) -> bool:
    return step.size is None or step.size > SMALL_SIZE


class _Run:
    def __init__(
        self,
        source: ArtifactStore,
        dest: ArtifactStore,
        plan: Iterator[Step | Unit],
        on_progress: ProgressCallback | None,
        max_workers: int | None,
        executor: Executor | None,
        *,
        only_prove: bool = False,
        flush: bool = False,
        in_order: bool = False,
        bandwidth: Bandwidth | None = None,
        arrived: Callable[[Unit], object] = lambda _: None,
    ) -> None:
        self._stores, self._plan = Stores(source, dest), plan
        self._ahead = 1 if in_order else _PLAN_AHEAD  # what is planned last would be started first
        self._flushed = dest if flush and isinstance(dest, SupportsFlush) else None
        self._on_progress, self._executor = on_progress, executor
        self._elsewhere = not isinstance(executor, ThreadPoolExecutor | None)
        if not self._elsewhere:
            self._pace = Pace(source, dest, max_workers)
            self._most_bytes: float = _MOST_BYTES
        else:  # how many workers it has, and how busy they are, is its own business
            self._pace = Pace(source, dest, max_workers or MAX_IN_FLIGHT, MOST_KEYS)
            self._most_bytes = math.inf
        # What an artifact takes of memory while it is moved, at most.
        self._held_at_most = (0 if isinstance(source, SupportsPath) else _DOWN_BYTES) + (
            0 if isinstance(dest, SupportsPath) else _UP_BYTES
        )
        if self._pace.local:
            self._held_at_most = _COPY_BYTES
        # This thread goes on showing progress, and forks could not wait for each other.
        self._is_slow = bandwidth is not None
        self._watch = Watch(None if bandwidth is None else Throttle(bandwidth))
        self._watches: list[Watch | ForkWatch] = [self._watch]
        self._ledger = Ledger(only_prove=only_prove, counts_bytes=not self._elsewhere)
        self._units = UnitRuns(dest, self._ledger, self._flushed, arrived)
        self._backlog: Backlog[tuple[int, Step], BatchResult] | None = None
        self._in_memory = self._together = 0
        self._complete = False
        self._told = -_TICK_SECONDS
        self._latest = ""

    def run(self) -> None:
        # Planning takes ten times as long while threads compete with it for the lock.
        alone = system.current().monotonic() + _ALONE_SECONDS
        while self._plan_some() and system.current().monotonic() < alone:
            pass
        waiting = self._ledger.waiting
        is_known = self._pace.is_far and len(waiting) > 1
        # Of small files that go together the first batch would show nothing, and all others wait for it.
        is_known |= len(waiting) > self._pace.together and self._goes_together(waiting[0][1])
        if not self._elsewhere and not self._is_slow and not is_known:
            # The first steps, done here, show how fast these stores are, and how far away.
            if batch := self._next_batch(large=False):
                self._run_here(batch)
            while (self._ledger.waiting or self._units.seal_some()) and self._is_little():
                batch = list(self._ledger.waiting)
                self._ledger.waiting.clear()
                self._run_here(batch)
        if self._ledger.waiting or self._units.sealable or not self._complete:
            self._run_there()
        if self._flushed is not None:
            self._flushed.flush()
        self._tell(last=True)

    def _is_little(self) -> bool:
        """Tell whether only one small batch for near stores is left: starting a thread would take longer.

        So does it, whatever is left, where each core has a process of its own, and nobody waits to see progress.
        """
        if self._complete and self._pace.local and self._on_progress is None and is_fork():
            return True
        sizes = [math.inf if step.size is None else step.size for _, step in self._ledger.waiting]
        little = _BATCH_BYTES if self._pace.is_near else SMALL_SIZE
        is_batch = len(sizes) <= self._pace.batch_keys and sum(sizes) <= little
        return self._complete and is_batch and not self._pace.is_far

    def _run_here(self, batch: Batch) -> None:
        started = system.current().monotonic()
        outcomes: list[KeyOutcome] = []
        steps = [step for _, step in batch]
        for outcome in run_steps(self._stores, steps, self._watch):
            self._settle(*batch[len(outcomes)], outcome)
            outcomes.append(outcome)
            self._tell()
        if not self._goes_together(steps[0]):
            self._pace.learn(BatchResult(outcomes, system.current().monotonic() - started))

    def _run_there(self) -> None:
        with ExitStack() as stack:
            executor = self._executor
            monitor: Monitor | None = None if self._elsewhere else self._watch
            if executor is None:
                executor, monitor = self._own_workers()
                stack.push(partial(_end_workers, executor))
            stack.callback(self._stop_workers)
            backlog = self._backlog = Backlog[tuple[int, Step], BatchResult](executor, run_batch, self._stores, monitor)
            while True:
                # Planning continues beside the work, in small portions, so that no worker waits for it.
                planned = self._plan_some()
                while len(backlog) < self._pace.limit and (batch := self._next_batch()):
                    backlog.submit(batch)
                    self._in_memory += self._most_held(batch)
                    self._together += len(batch) * self._goes_together(batch[0][1])
                if backlog:
                    for done, result in backlog.finished(0 if planned else _TICK_SECONDS):
                        self._collect(done, result)
                elif not planned and not self._ledger.waiting and not self._units.seal_some():
                    break
                self._tell()

    def _own_workers(self) -> tuple[Executor, Monitor]:
        """Start threads; or forks, if many small files are copied faster than threads can take turns."""
        is_many = len(self._ledger.waiting) >= _WORTH_FORKING and not self._is_slow
        if is_many and self._pace.limit > 1 and self._pace.is_bound_by_cores:
            from emdstore.workers.forks import MOST_FORKS, Forks, can_fork  # slow to import

            if can_fork():
                workers = min(self._pace.limit, MOST_FORKS)
                forks = Forks(workers)
                self._watches.append(forks.watch)
                self._pace.fix(2 * workers)  # so that no worker waits for its next batch
                return forks, forks.monitor
        return ThreadPoolExecutor(self._pace.most, thread_name_prefix="emdstore"), self._watch

    def _stop_workers(self) -> None:
        for watch in self._watches:
            watch.stop()

    def stop(self, seconds: float | None = None) -> None:
        """Cancel what has not started, let running workers finish within a number of seconds, and keep their
        outcomes.
        """
        self._stop_workers()
        if self._backlog is not None:
            for batch, result in self._backlog.stop(seconds):
                self._collect(batch, result)

    def report(self, seconds: float) -> TransferReport:
        sets = sorted((*self._units.sets, *self._units.unfinished()), key=lambda each: each.folder)
        return TransferReport(self._ledger.outcomes.settled(), seconds, sets=tuple(sets))

    def _plan_some(self) -> bool:
        """Plan a little further, unless much is waiting already; return whether anything was planned."""
        if self._complete or len(self._ledger.waiting) + self._ledger.held >= self._ahead:
            return False
        planned = 0
        while planned < min(self._ahead, _PLAN_AT_ONCE):
            item = next(self._plan, None)
            if item is None:
                self._complete = True
                break
            if isinstance(item, Unit):
                planned += 1 + len(item.unchanged) + len(item.loose) + sum(map(len, item.ranks))
                self._units.begin(item)
            else:
                planned += 1
                self._ledger.give(item)
        return bool(planned)

    def _next_batch(self, *, large: bool = True) -> list[tuple[int, Step]]:
        """Take steps from the front: one large artifact or several small ones; none while too much is in memory."""
        batch: list[tuple[int, Step]] = []
        size = 0
        room = self._most_bytes - self._in_memory
        together = bool(self._ledger.waiting) and self._goes_together(self._ledger.waiting[0][1])
        if together and self._together >= _GROUPS * self._pace.together:
            return []
        keys, workers, least = self._pace.batch_keys, self._pace.limit, 1
        if together:
            keys, workers, least = self._pace.together, _GROUPS, _LEAST_TOGETHER
        if not self._elsewhere:  # so that all workers have some at the end
            keys = min(keys, max(least, len(self._ledger.waiting) // workers))
        largest = self._largest_in(room)
        while self._ledger.waiting and len(batch) < keys and size < _BATCH_BYTES:
            step = self._ledger.waiting[0][1]
            is_large = _is_large(step)
            if (is_large and (batch or not large)) or (math.inf if step.size is None else step.size) > largest:
                break
            if together and not self._goes_together(step):
                break
            size += step.size or 0
            batch.append(self._ledger.waiting.popleft())
            if is_large:
                break
        return batch

    def _largest_in(self, room: float) -> float:
        """Return the size of the largest artifact that is moved within so many bytes of memory; -1 if there is none."""
        if room >= self._held_at_most:
            return math.inf
        return -1 if self._pace.local else room / _COPIES

    def _goes_together(self, step: Step) -> bool:
        return self._pace.together > 1 and is_plain_copy(step)

    def _most_held(self, batch: Batch) -> int:
        """Return how many bytes of an artifact of a batch are in memory at once, at most."""
        if self._pace.local:
            return _COPY_BYTES
        largest = max([math.inf if step.size is None else step.size for _, step in batch])
        copies = _COPIES if largest <= SMALL_SIZE else _STREAMED_COPIES
        return int(min(copies * largest, self._held_at_most))

    def _collect(self, batch: Batch, result: BatchResult | ExecutorError) -> None:
        self._in_memory -= self._most_held(batch)
        self._together -= len(batch) * self._goes_together(batch[0][1])
        if isinstance(result, ExecutorError):
            for position, step in batch:
                self._settle(position, step, KeyOutcome(step.key, "failed", step.size, error=result))
            return
        if not _is_large(batch[0][1]) and not self._goes_together(batch[0][1]):
            self._pace.learn(result)
        for (position, step), outcome in zip(batch, result.outcomes, strict=False):
            self._settle(position, step, outcome)

    def _settle(self, position: int, step: Step, outcome: KeyOutcome) -> None:
        self._latest = step.key
        if not self._units.settle(position, step, outcome):
            self._ledger.record(position, step, outcome)

    def _tell(self, *, last: bool = False) -> None:
        now = system.current().monotonic()
        if self._on_progress is None or (now - self._told < _TICK_SECONDS and not last):
            return
        self._told = now
        progress = TransferProgress(
            self._ledger.keys_done,
            min(self._ledger.bytes_done + sum(watch.bytes for watch in self._watches), self._ledger.bytes_planned),
            len(self._ledger.outcomes),
            self._ledger.bytes_planned,
            self._complete,
            self._latest,
        )
        tell(self._on_progress, progress)
