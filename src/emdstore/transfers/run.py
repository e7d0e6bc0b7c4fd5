"""Moves a plan: workers, retries, progress.

The calling thread plans, hands small batches of steps to workers, and collects their outcomes; nothing else is shared.
A batch is plain data (two stores, some steps) and `run_batch` a plain function, so any `concurrent.futures.Executor`
will do (see `emdstore.workers.backlog`): threads, processes, or an engine that spans machines.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar

import attrs

from emdstore.errors import (
    ArtifactNotFoundError,
    ExecutorError,
    InvalidKeyError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore, SupportsFlush, SupportsPath
from emdstore.stores.sameness import refuse_same_place, server_of
from emdstore.transfers.plan import Listing, Step, Unchanged, plan_transfer
from emdstore.transfers.report import KeyOutcome, TransferInterrupted, TransferProgress, TransferReport
from emdstore.transfers.routes import Route, digest_of
from emdstore.workers.backlog import MAX_IN_FLIGHT, Backlog
from emdstore.workers.watch import Monitor, Stopped

if TYPE_CHECKING:
    from emdstore.workers.forks import ForkWatch

_log = logging.getLogger(__name__)

_PLAN_AHEAD = 20_000
_PLAN_AT_ONCE = 512
_WORTH_FORKING = _PLAN_AT_ONCE // 2
_ALONE_SECONDS = 0.2
_MOST_KEYS = 64
_MIB = 1024 * 1024
_SMALL_SIZE = _MIB
_BATCH_BYTES = 8 * _MIB
# What an artifact takes of memory while it is moved, at most, and what all of them may take.
_COPY_BYTES = _MIB  # from file to file: a buffer
_DOWN_BYTES = 5 * _MIB  # what comes as a stream: the first part of an object, and a buffer; readers limit the rest
_UP_BYTES = 20 * _MIB  # what goes as a stream: the parts of an upload
_COPIES = 4  # what an engine receives, what it makes of that, what Python gets, and what the allocator keeps
_MOST_BYTES = 4 * _UP_BYTES
_TICK_SECONDS = 0.2
_ATTEMPTS = 5

ProgressCallback = Callable[[TransferProgress], object]


def transfer(
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
) -> TransferReport:
    """Copy artifacts from one store to another: verified, atomic one by one, and resumable.

    Each artifact arrives whole or not at all, and a key that fails stops no other. Bytes are hashed as they pass. To
    resume after any interruption is to call it again: what is there already is not moved twice. Nothing is deleted.

    Parameters
    ----------
    source, dest
        Any two stores; not the same place.
    keys
        The keys to move, in the order to start them; None for all that the source holds.
    unchanged
        What need not be copied again. ``"stat"``: of equal size and not older at the destination. ``"digest"``: of
        equal bytes, which are read and hashed on both sides. ``"never"``: copy everything.
    max_workers
        How many threads; by default few for local files, and for object stores as many as their latency asks for.
        With an executor, how many batches it is given at a time.
    executor
        Where the work is to be done instead of in threads of this call. Threads may serve several calls at once. For
        workers in other processes the stores must pickle; what a lost one had in hand is done by another.
    on_progress
        Called in this thread with a `TransferProgress`, a few times a second at most. What it raises is logged.
    dry_run
        Only plan: the report says what would be done.
    flush
        Return only when what was copied survives a power cut (for local stores; see `LocalArtifactStore.flush`).
    found
        See `plan_transfer`.

    Returns
    -------
    TransferReport
        One outcome for each key, with the digest of what was copied. Transient errors were retried before they count.

    Raises
    ------
    SameStoreError
        If both stores are one place, or one lies inside the other; nothing was moved.
    StoreError
        If a whole store cannot be listed; what was copied until then is whole.
    ExecutorError
        If the executor takes no work, a store cannot be sent to its workers, or these have another emdstore.
    TransferInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far; running artifacts were left out, not torn.
    """
    refuse_same_place(source, dest)
    started = time.monotonic()
    plan = plan_transfer(source, dest, keys, unchanged=unchanged, found=found)
    if dry_run:
        would = tuple(_foreseen(step) for step in plan)
        return TransferReport(would, time.monotonic() - started, dry_run=True)
    run = _Run(source, dest, plan, on_progress, max_workers, executor)
    try:
        run.run()
    except BaseException as error:
        run.stop()
        if isinstance(error, KeyboardInterrupt):
            raise TransferInterrupted(run.report(time.monotonic() - started)) from None
        raise
    if flush and isinstance(dest, SupportsFlush):
        dest.flush()
    return run.report(time.monotonic() - started)


# -- one batch, wherever it runs -----------------------------------------------------------------------------------


Batch = Sequence[tuple[int, Step]]
"""Steps, with their positions in the report."""


@attrs.frozen
class BatchResult:
    """What a worker brings back: outcomes in the order of its steps, fewer if it was stopped, and the time it took."""

    outcomes: list[KeyOutcome]
    seconds: float


def run_batch(
    source: ArtifactStore, dest: ArtifactStore, monitor: Monitor | None, pace: _Pace | None, batch: Batch
) -> BatchResult:
    """Do the steps of one batch, one after the other; errors become outcomes. The pace tells what is far by then."""
    started = time.perf_counter()
    outcomes: list[KeyOutcome] = []
    far = pace is not None and pace.is_far
    with contextlib.suppress(Stopped):
        for outcome in run_steps(source, dest, [step for _, step in batch], monitor, far=far):
            outcomes.append(outcome)  # noqa: PERF402 - kept when a later step is stopped
    return BatchResult(outcomes, time.perf_counter() - started)


def run_steps(
    source: ArtifactStore, dest: ArtifactStore, steps: Iterable[Step], monitor: Monitor | None, *, far: bool
) -> Iterator[KeyOutcome]:
    """Do steps one after the other, and yield their outcomes; errors become outcomes."""
    with Route(source, dest, monitor, far=far) as route:
        for step in steps:
            yield _run_step(source, dest, step, route)


def _run_step(source: ArtifactStore, dest: ArtifactStore, step: Step, route: Route) -> KeyOutcome:
    try:
        try:
            return _move(source, dest, step, route)
        except StoreUnavailableError:
            return _retry(source, dest, step, route)
    except Exception as error:  # noqa: BLE001 - whatever a store raises is this key's outcome and stops no other
        return _outcome_of(step, error)


def _retry(source: ArtifactStore, dest: ArtifactStore, step: Step, route: Route) -> KeyOutcome:
    import stamina  # slow to import, and seldom needed

    for attempt in stamina.retry_context(on=StoreUnavailableError, attempts=_ATTEMPTS - 1, timeout=None):
        with attempt:
            return _move(source, dest, step, route)
    raise AssertionError("a retry context ends by returning or raising")


def _move(source: ArtifactStore, dest: ArtifactStore, step: Step, route: Route) -> KeyOutcome:
    if step.action == "compare":
        here = digest_of(source, step.key)
        if here == _digest_or_none(dest, step.key):
            return KeyOutcome(step.key, "unchanged", *here)
    copied = route.copy(step.key, step.size)
    return KeyOutcome(step.key, "copied", copied.size, copied.sha256)


def _digest_or_none(store: ArtifactStore, key: str) -> tuple[int, str] | None:
    try:
        return digest_of(store, key)
    except ArtifactNotFoundError:  # removed since it was planned
        return None


def _outcome_of(step: Step, error: Exception) -> KeyOutcome:
    if isinstance(error, InvalidKeyError | UnsafePathError):
        return KeyOutcome(step.key, "rejected", step.size, error=error)
    if isinstance(error, ArtifactNotFoundError):
        return KeyOutcome(step.key, "missing", step.size, error=error)
    return KeyOutcome(step.key, "failed", step.size, error=error)


def _foreseen(step: Step) -> KeyOutcome:
    outcome = "copied" if step.action == "copy" or step.action == "compare" else step.action
    return KeyOutcome(step.key, outcome, step.size, error=step.error)


# -- all of them ---------------------------------------------------------------------------------------------------


class _Watch:
    """What the calling thread and the threads of its pool share: a count of bytes, and whether to stop."""

    def __init__(self) -> None:
        self.bytes, self._stopped = 0, False
        self._lock = threading.Lock()

    def stop(self) -> None:
        self._stopped = True

    def __call__(self, count: int, /) -> None:
        if self._stopped:
            raise Stopped
        with self._lock:
            self.bytes += count


class _Pace:
    """How many batches to have under way, and how large they are: so many that they keep about one core busy.

    The fastest batch so far tells how far away the other side is. Unlike the mean, its time does not grow when this
    machine is busy, so a fast store is not flooded then, and a distant one gets many workers after the first answer.
    To hand a batch over costs as much as to move an artifact to a near store, so batches for near stores are longer,
    and those for a store far away are single artifacts, which then all are on their way at once.

    What was learned of a server serves other transfers of this process, for a while: what one of many at once sees for
    itself tells how busy this machine is.
    """

    _SMALL_PER_SECOND = 4000  # small artifacts that one core can move
    _BATCH_SECONDS = 0.02
    _FAR_SECONDS = 0.002
    _MEMORY_SECONDS = 60.0
    _known: ClassVar[dict[tuple[object, object], tuple[float, float]]] = {}

    def __init__(
        self, source: ArtifactStore, dest: ArtifactStore, fixed: int | None, batch_keys: int | None = None
    ) -> None:
        self.local = isinstance(source, SupportsPath) and isinstance(dest, SupportsPath)
        self.batch_keys = batch_keys or (_MOST_KEYS if self.local else 1)
        self._least_keys = max(8, self.batch_keys)
        self.most = fixed or min(place_of(source).requests, place_of(dest).requests)
        self._least = self.limit = fixed or min(self.most, (os.cpu_count() or 1) if self.local else 4, 4)
        self._least_seconds = math.inf
        self._between = server_of(source), server_of(dest)
        seconds, noted = self._known.get(self._between, (math.inf, -math.inf))
        if time.monotonic() < noted + self._MEMORY_SECONDS:
            self._keep_to(seconds)

    def learn(self, result: BatchResult) -> None:
        """Take note of how long a batch of small artifacts took."""
        if result.outcomes and (seconds := result.seconds / len(result.outcomes)) < self._least_seconds:
            self._keep_to(seconds)
            if any(self._between):
                self._known[self._between] = seconds, time.monotonic()

    def _keep_to(self, seconds: float) -> None:
        self._least_seconds = seconds = max(seconds, 1e-6)
        self.limit = min(self.most, max(self._least, round(seconds * self._SMALL_PER_SECOND)))
        self.batch_keys = min(_MOST_KEYS, max(self._least_keys, round(self._BATCH_SECONDS / seconds)))

    def fix(self, limit: int) -> None:
        """Have so many batches under way from now on."""
        self._least = self.most = self.limit = limit

    @property
    def is_far(self) -> bool:
        """Whether to wait for answers one after the other would take longer than to start threads."""
        return self._FAR_SECONDS < self._least_seconds < math.inf

    @property
    def is_near(self) -> bool:
        """Whether it is known that answers come at once."""
        return self.local or self._least_seconds <= self._FAR_SECONDS

    @property
    def is_bound_by_cores(self) -> bool:
        """Whether nothing is waited for: more workers than cores would not be quicker."""
        return self.local and self.limit == self._least


def _is_large(step: Step) -> bool:
    return step.size is None or step.size > _SMALL_SIZE


class _Run:
    def __init__(
        self,
        source: ArtifactStore,
        dest: ArtifactStore,
        plan: Iterator[Step],
        on_progress: ProgressCallback | None,
        max_workers: int | None,
        executor: Executor | None,
    ) -> None:
        self._source, self._dest, self._plan = source, dest, plan
        self._on_progress, self._executor = on_progress, executor
        self._elsewhere = not isinstance(executor, ThreadPoolExecutor | None)
        if not self._elsewhere:
            self._pace = _Pace(source, dest, max_workers)
            self._most_bytes: float = _MOST_BYTES
        else:  # how many workers it has, and how busy they are, is its own business
            self._pace = _Pace(source, dest, max_workers or MAX_IN_FLIGHT, _MOST_KEYS)
            self._most_bytes = math.inf
        self._stream_bytes = (0 if isinstance(source, SupportsPath) else _DOWN_BYTES) + (
            0 if isinstance(dest, SupportsPath) else _UP_BYTES
        )
        self._watch = _Watch()
        self._watches: list[_Watch | ForkWatch] = [self._watch]
        self._waiting: deque[tuple[int, Step]] = deque()
        self._outcomes: list[KeyOutcome | None] = []
        self._backlog: Backlog[tuple[int, Step], BatchResult] | None = None
        self._in_memory = 0
        self._complete = False
        self._told = -_TICK_SECONDS
        self._keys_done = self._bytes_done = self._bytes_planned = 0

    def run(self) -> None:
        # Beside threads that take turns with it, planning takes ten times as long.
        alone = time.monotonic() + _ALONE_SECONDS
        while self._plan_some() and time.monotonic() < alone:
            pass
        if not self._elsewhere:
            # What is done here first tells how fast these stores are, and how far away.
            if batch := self._next_batch(large=False):
                self._run_here(batch)
            if self._is_little():
                self._run_here(list(self._waiting))
                self._waiting.clear()
        if self._waiting or not self._complete:
            self._run_there()
        self._tell(last=True)

    def _is_little(self) -> bool:
        """Tell whether all that is left is one small batch for near stores: to start a thread would take longer."""
        sizes = [math.inf if step.size is None else step.size for _, step in self._waiting]
        little = _BATCH_BYTES if self._pace.is_near else _SMALL_SIZE
        is_batch = len(sizes) <= self._pace.batch_keys and sum(sizes) <= little
        return self._complete and is_batch and not self._pace.is_far

    def _run_here(self, batch: Batch) -> None:
        started = time.perf_counter()
        outcomes: list[KeyOutcome] = []
        steps = [step for _, step in batch]
        for outcome in run_steps(self._source, self._dest, steps, self._watch, far=self._pace.is_far):
            self._settle(*batch[len(outcomes)], outcome)
            outcomes.append(outcome)
            self._tell()
        self._pace.learn(BatchResult(outcomes, time.perf_counter() - started))

    def _run_there(self) -> None:
        with ExitStack() as stack:
            executor = self._executor
            monitor: Monitor | None = None if self._elsewhere else self._watch
            if executor is None:
                executor, monitor = self._own_workers()
                stack.callback(executor.shutdown, wait=True, cancel_futures=True)
            stack.callback(self._stop_workers)
            backlog = self._backlog = Backlog[tuple[int, Step], BatchResult](
                executor, run_batch, self._source, self._dest, monitor, None if self._elsewhere else self._pace
            )
            while True:
                # Planning goes on beside the work, a little at a time so that no worker waits for it.
                planned = self._plan_some()
                while len(backlog) < self._pace.limit and (batch := self._next_batch()):
                    backlog.submit(batch)
                    self._in_memory += self._most_held(batch)
                if backlog:
                    for done, result in backlog.finished(0 if planned else _TICK_SECONDS):
                        self._collect(done, result)
                elif not planned and not self._waiting:
                    break
                self._tell()

    def _own_workers(self) -> tuple[Executor, Monitor]:
        """Start threads; or forks, where many small files are copied faster than threads can take turns."""
        if len(self._waiting) >= _WORTH_FORKING and self._pace.limit > 1 and self._pace.is_bound_by_cores:
            from emdstore.workers.forks import MOST_FORKS, Forks, can_fork  # slow to import

            if can_fork():
                workers = min(self._pace.limit, MOST_FORKS)
                forks = Forks(workers)
                self._watches.append(forks.watch)
                self._pace.fix(2 * workers)  # so that none waits for its next batch
                return forks, forks.monitor
        return ThreadPoolExecutor(self._pace.most, thread_name_prefix="emdstore"), self._watch

    def _stop_workers(self) -> None:
        for watch in self._watches:
            watch.stop()

    def stop(self) -> None:
        """Cancel what has not started, let running workers end, and keep their outcomes."""
        self._stop_workers()
        if self._backlog is not None:
            for batch, result in self._backlog.stop():
                self._collect(batch, result)

    def report(self, seconds: float) -> TransferReport:
        return TransferReport(tuple(each for each in self._outcomes if each is not None), seconds)

    def _plan_some(self) -> bool:
        """Plan a little further, unless much is waiting already; return whether anything was planned."""
        if self._complete or len(self._waiting) >= _PLAN_AHEAD:
            return False
        steps = list(itertools.islice(self._plan, _PLAN_AT_ONCE))
        self._complete = len(steps) < _PLAN_AT_ONCE
        for step in steps:
            self._bytes_planned += step.size or 0
            if step.action in ("copy", "compare"):
                self._waiting.append((len(self._outcomes), step))
                self._outcomes.append(None)
            else:  # nothing to be done: so it is for all that a second run plans
                self._outcomes.append(_foreseen(step))
                self._keys_done += 1
                self._bytes_done += step.size or 0
        return bool(steps)

    def _next_batch(self, *, large: bool = True) -> list[tuple[int, Step]]:
        """Take steps from the front, one large artifact or several small ones; none while too much is in memory."""
        batch: list[tuple[int, Step]] = []
        size = 0
        room = self._most_bytes - self._in_memory
        keys = self._pace.batch_keys
        if not self._elsewhere:  # so that all have some at the end
            keys = min(keys, max(1, len(self._waiting) // self._pace.limit))
        while self._waiting and len(batch) < keys and size < _BATCH_BYTES:
            step = self._waiting[0][1]
            is_large = _is_large(step)
            if (is_large and (batch or not large)) or self._held_by(step) > room:
                break
            size += step.size or 0
            batch.append(self._waiting.popleft())
            if is_large:
                break
        return batch

    def _held_by(self, step: Step) -> int:
        """Return how many bytes are in memory at once while the artifact is moved, at most."""
        if self._pace.local:
            return _COPY_BYTES
        if step.size is None:
            return self._stream_bytes
        return min(_COPIES * step.size, self._stream_bytes)

    def _most_held(self, batch: Batch) -> int:
        return max(self._held_by(step) for _, step in batch)

    def _collect(self, batch: Batch, result: BatchResult | ExecutorError) -> None:
        self._in_memory -= self._most_held(batch)
        if isinstance(result, ExecutorError):
            for position, step in batch:
                self._settle(position, step, KeyOutcome(step.key, "failed", step.size, error=result))
            return
        if not _is_large(batch[0][1]):
            self._pace.learn(result)
        for (position, step), outcome in zip(batch, result.outcomes, strict=False):
            self._settle(position, step, outcome)

    def _settle(self, position: int, step: Step, outcome: KeyOutcome) -> None:
        self._outcomes[position] = outcome
        self._keys_done += 1
        if step.size is None:  # a store that cannot tell: it is known only now
            self._bytes_planned += outcome.size or 0
        if outcome.outcome != "copied" or self._elsewhere:  # otherwise the watch has counted them
            self._bytes_done += outcome.size or 0

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress is None or (now - self._told < _TICK_SECONDS and not last):
            return
        self._told = now
        progress = TransferProgress(
            self._keys_done,
            min(self._bytes_done + sum(watch.bytes for watch in self._watches), self._bytes_planned),
            len(self._outcomes),
            self._bytes_planned,
            self._complete,
        )
        try:
            self._on_progress(progress)
        except Exception:  # noqa: BLE001 - a display must not cost the result
            _log.exception("the progress callback failed; the transfer goes on")
