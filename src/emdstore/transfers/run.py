"""Moves a plan: workers, retries, progress.

The calling thread plans, hands small batches of steps to workers, and collects their outcomes; nothing else is shared.
A batch is plain data (two stores, some steps) and `run_batch` a plain function, so any `concurrent.futures.Executor`
will do (see `emdstore.workers.backlog`): threads, processes, or an engine that spans machines.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from emdstore.errors import (
    ArtifactNotFoundError,
    ExecutorError,
    IntegrityError,
    InvalidKeyError,
    StoreError,
    UnsafePathError,
)
from emdstore.stores.checksums import Check
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore, LeftOut, SupportsFlush, SupportsPath
from emdstore.stores.sameness import refuse_same_place, server_of
from emdstore.stores.unfinished import uploads_are_under_way
from emdstore.transfers.patience import patiently
from emdstore.transfers.plan import (
    Listing,
    Pair,
    Step,
    Unchanged,
    check_rule,
    pairs_of,
    plan_steps,
    step_of,
)
from emdstore.transfers.report import (
    KeyOutcome,
    Outcome,
    SetOutcome,
    SetWord,
    TransferInterrupted,
    TransferProgress,
    TransferReport,
)
from emdstore.transfers.routes import Route, digest_of
from emdstore.transfers.units import Group, Sealing, Unit, grouped, sealed_folders, steps_of
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
_LAST_SECONDS = 1.0  # for workers that are interrupted; some may wait for a silent server
_LAST_SECONDS_OF_UPLOADS = 4.0  # where parts are to be taken back
_SEALS_AT_ONCE, _SEALS_AHEAD = 16, 64
_SETTLED = frozenset({"unchanged", "missing", "rejected", "failed", "left"})

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
) -> TransferReport:
    """Copy artifacts from one store to another; see `emdstore.transfer`, which knows sets besides.

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
        Write nothing: the report says what would be done. What has to be compared is read for it.
    flush
        Return only when what was copied survives a power cut (for local stores; see `LocalArtifactStore.flush`).
    found, proved, expected
        See `plan_steps`.
    prove
        As `dry_run`, of a report that counts as one of a real run.
    sealing
        Which folders are moved as a whole, and how.

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
    run = _Run(source, dest, plan, on_progress, max_workers, executor, only_prove=prove or dry_run, flush=flush)
    try:
        run.run()
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            run.stop()
        else:
            run.stop(_LAST_SECONDS_OF_UPLOADS if uploads_are_under_way() else _LAST_SECONDS)
        if isinstance(error, KeyboardInterrupt):
            report = run.report(time.monotonic() - started)
            raise TransferInterrupted(attrs.evolve(report, left_out=tuple(left_out))) from None
        raise
    return attrs.evolve(run.report(time.monotonic() - started), dry_run=dry_run, left_out=tuple(left_out))


def plan_move(
    source: ArtifactStore,
    dest: ArtifactStore,
    keys: Iterable[str] | None = None,
    *,
    unchanged: Unchanged = "stat",
    found: Listing | None = None,
    proved: Mapping[str, str] | None = None,
    expected: Mapping[str, str] | None = None,
    sealing: Sealing | None = None,
    left_out: Callable[[LeftOut], object] | None = None,
) -> Iterator[Step | Unit]:
    """Plan as `plan_steps` does, with the folders that are moved as a whole as units."""
    if sealing is not None and keys is None:
        check_rule(unchanged)
        pairs = pairs_of(source, dest, left_out, also=sealing.name)
        return _planned(grouped(pairs, sealing, source, dest), sealing, source, dest, unchanged)
    steps = plan_steps(
        source, dest, keys, unchanged=unchanged, found=found, proved=proved, expected=expected, left_out=left_out
    )
    return steps if sealing is None else _named(steps, sealing, source, dest)


def _named(
    steps: Iterator[Step], sealing: Sealing, source: ArtifactStore, dest: ArtifactStore
) -> Iterator[Step | Unit]:
    """Put the steps of given keys together that belong to one sealed folder, at the place of the first of them."""
    planned = list(steps)
    folders = sealed_folders((step.key for step in planned if step.action != "rejected"), sealing.name, source, dest)
    inside: dict[str, list[Step]] = {}
    for step in planned:
        if (folder := folders.get(step.key)) is not None:
            inside.setdefault(folder, []).append(step)
    for step in planned:
        folder = folders.get(step.key)
        if folder is None:
            yield step
        elif (together := inside.pop(folder, None)) is not None:
            yield sealing.plan_some(folder, together, source, dest)


def _planned(
    items: Iterator[Pair | Group], sealing: Sealing, source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged
) -> Iterator[Step | Unit]:
    """Plan what comes; the seals of many folders are read at the same time where they are not files."""
    if isinstance(source, SupportsPath) and isinstance(dest, SupportsPath):
        for item in items:
            if isinstance(item, Group):
                yield sealing.plan(item, source, dest, unchanged)
            elif item.here:
                yield step_of(item, unchanged)
        return
    ahead: deque[Step | Future[Unit]] = deque()
    with ThreadPoolExecutor(_SEALS_AT_ONCE, thread_name_prefix="emdstore-plan") as pool:
        for item in items:
            if isinstance(item, Group):
                ahead.append(pool.submit(sealing.plan, item, source, dest, unchanged))
            elif item.here:
                ahead.append(step_of(item, unchanged))
            while ahead and (len(ahead) > _SEALS_AHEAD or isinstance(ahead[0], Step) or ahead[0].done()):
                first = ahead.popleft()
                yield first if isinstance(first, Step) else first.result()
        for first in ahead:
            yield first if isinstance(first, Step) else first.result()


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


def move_in_order(source: ArtifactStore, dest: ArtifactStore, steps: Iterable[Step]) -> list[KeyOutcome]:
    """Do a few steps in this thread, one after the other, up to the first that fails; errors become outcomes."""
    outcomes: list[KeyOutcome] = []
    for outcome in run_steps(source, dest, steps, None, far=False):
        outcomes.append(outcome)
        if outcome.outcome not in ("copied", "unchanged"):
            break
    return outcomes


def _run_step(source: ArtifactStore, dest: ArtifactStore, step: Step, route: Route) -> KeyOutcome:
    try:
        return patiently(lambda: _move(source, dest, step, route), source, dest)
    except Exception as error:  # noqa: BLE001 - whatever a store raises is this key's outcome and stops no other
        return outcome_of(step.key, error, step.size)


def _move(source: ArtifactStore, dest: ArtifactStore, step: Step, route: Route) -> KeyOutcome:
    if step.action == "write":
        data = step.data or b""
        dest.write_bytes(step.key, data)
        return KeyOutcome(step.key, "copied", len(data), hashlib.sha256(data).hexdigest())
    if step.doubt:
        _check(step, source, digest_of(source, step.key)[1])
    if step.action in ("compare", "prove"):
        here, same = _compare(source, dest, step)
        if same or step.action == "prove":
            return KeyOutcome(step.key, "unchanged" if same else "copied", *here)
    copied = route.copy(step.key, step.size)
    _check(step, source, copied.sha256)
    return KeyOutcome(step.key, "copied", copied.size, copied.sha256 or step.here)


def _compare(source: ArtifactStore, dest: ArtifactStore, step: Step) -> tuple[tuple[int, str], bool]:
    """Return the size and digest that the source has, and whether the destination has these bytes.

    A checksum that the destination keeps spares reading it there, if the bytes of the source have it. If they do not,
    it may be none: see `has_checksum`.
    """
    if step.checksum is not None and step.size is not None and step.there is None:
        check = Check(step.checksum, step.size)
        if check.fits() is not None:
            here = digest_of(source, step.key, check)
            if check.fits() and step.here in (None, here[1]):
                return here, True
    here = (step.size, step.here) if step.size is not None and step.here else digest_of(source, step.key)
    return here, here == ((here[0], step.there) if step.there else _digest_or_none(dest, step.key))


def _check(step: Step, source: ArtifactStore, digest: str | None) -> None:
    if step.here is not None and digest not in (None, step.here):
        raise IntegrityError(
            f"{step.key!r} is not what its record says: its bytes at the source have the SHA-256 {digest}, and the "
            f"record has {step.here}; bring the good bytes back there first",
            key=step.key,
            store=repr(source),
        )


def _digest_or_none(store: ArtifactStore, key: str) -> tuple[int, str] | None:
    try:
        return digest_of(store, key)
    except ArtifactNotFoundError:  # removed since it was planned
        return None


def outcome_of(key: str, error: Exception, size: int | None = None) -> KeyOutcome:
    """Return what an error makes of a key."""
    if isinstance(error, InvalidKeyError | UnsafePathError):
        return KeyOutcome(key, "rejected", size, error=error)
    if isinstance(error, ArtifactNotFoundError):
        return KeyOutcome(key, "missing", size, error=error)
    return KeyOutcome(key, "failed", size, error=error)


def _foreseen(step: Step) -> KeyOutcome:
    outcome: Outcome
    if step.action == "copy" or step.action == "compare" or step.action == "prove" or step.action == "write":
        outcome = "copied"
    else:
        outcome = step.action
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


def _end_workers(executor: Executor, kind: object, error: BaseException | None, traceback: object) -> None:
    """Wait for the workers, unless somebody wants to go: a thread may be waiting for a silent server."""
    is_interrupted = isinstance(error, KeyboardInterrupt) and isinstance(executor, ThreadPoolExecutor)
    executor.shutdown(wait=not is_interrupted, cancel_futures=True)


def _is_large(step: Step) -> bool:
    return step.size is None or step.size > _SMALL_SIZE


@attrs.define(eq=False)
class _UnitRun:
    """A unit on its way: its steps are given out rank by rank, and what is left of it as soon as one fails.

    Attributes
    ----------
    unit
        The unit.
    positions
        Where the outcome of each key belongs.
    ranks
        What comes after the steps that are under way.
    pending
        How many steps are under way.
    changes
        Whether anything was or will be written.
    error
        The first failure.
    """

    unit: Unit
    positions: dict[str, int]
    ranks: deque[list[Step]] = attrs.field(factory=deque)
    pending: int = 0
    changes: bool = False
    error: Exception | None = None
    stage: Literal["proving", "opening", "moving", "sealing", "done"] = "proving"


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
    ) -> None:
        self._source, self._dest, self._plan = source, dest, plan
        self._only_prove = only_prove
        self._flushed = dest if flush and isinstance(dest, SupportsFlush) else None
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
        self._units: dict[int, _UnitRun] = {}  # by the positions of their steps that are under way
        self._openings = 0
        self._held = 0
        self._sealable: list[_UnitRun] = []
        self._sets: list[SetOutcome] = []
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
            while (self._waiting or self._seal_some()) and self._is_little():
                batch = list(self._waiting)
                self._waiting.clear()
                self._run_here(batch)
        if self._waiting or self._sealable or not self._complete:
            self._run_there()
        if self._flushed is not None:
            self._flushed.flush()
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
                stack.push(partial(_end_workers, executor))
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
                elif not planned and not self._waiting and not self._seal_some():
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

    def stop(self, seconds: float | None = None) -> None:
        """Cancel what has not started, let running workers end, so many seconds at most, and keep their outcomes."""
        self._stop_workers()
        if self._backlog is not None:
            for batch, result in self._backlog.stop(seconds):
                self._collect(batch, result)

    def report(self, seconds: float) -> TransferReport:
        for run in {id(run): run for run in self._units.values()}.values():
            self._sets.append(SetOutcome(run.unit.folder, "left", run.error))
        outcomes = tuple(each for each in self._outcomes if each is not None)
        return TransferReport(outcomes, seconds, sets=tuple(sorted(self._sets, key=lambda each: each.folder)))

    def _plan_some(self) -> bool:
        """Plan a little further, unless much is waiting already; return whether anything was planned."""
        if self._complete or len(self._waiting) + self._held >= _PLAN_AHEAD:
            return False
        planned = 0
        while planned < _PLAN_AT_ONCE:
            item = next(self._plan, None)
            if item is None:
                self._complete = True
                break
            if isinstance(item, Unit):
                planned += 1 + len(item.loose) + sum(map(len, item.ranks))
                self._begin(item)
            else:
                planned += 1
                self._give(item)
        return bool(planned)

    def _give(self, step: Step) -> int:
        """Take a step in that belongs to no unit, or that its unit does not wait for."""
        position = self._reserve(step)
        if self._only_prove and step.action == "compare":
            step = attrs.evolve(step, action="prove")
        if step.action in _SETTLED or (self._only_prove and step.action != "prove"):
            # Nothing is to be done: so it is for all that a second run plans.
            self._conclude(position, step, _foreseen(step))
        else:
            self._waiting.append((position, step))
        return position

    def _reserve(self, step: Step) -> int:
        self._bytes_planned += step.size or 0
        self._outcomes.append(None)
        return len(self._outcomes) - 1

    def _conclude(self, position: int, step: Step, outcome: KeyOutcome) -> None:
        self._outcomes[position] = outcome
        self._keys_done += 1
        self._bytes_done += step.size or 0

    # -- units: one rank after the other --

    def _begin(self, unit: Unit) -> None:
        loose = {step.key for step in unit.loose}
        positions = {}
        for step in steps_of(unit):
            if step.key in loose:
                self._give(step)
            else:
                positions[step.key] = self._reserve(step)
        if not positions:
            if unit.error is not None:
                self._sets.append(SetOutcome(unit.folder, "left", unit.error))
            return
        run = _UnitRun(unit, positions)
        now: list[Step] = []
        for rank in unit.ranks:
            later = []
            for step in rank:
                if step.action in _SETTLED:
                    self._conclude(positions[step.key], step, _foreseen(step))
                    if step.action != "unchanged":
                        run.error = run.error or step.error
                elif step.action == "compare" and (unit.opening is not None or self._only_prove):
                    now.append(attrs.evolve(step, action="prove"))
                else:
                    later.append(step)
            run.ranks.append(later)
        self._held += sum(map(len, run.ranks))
        self._release(run, now)

    def _release(self, run: _UnitRun, steps: Sequence[Step]) -> None:
        """Give out steps of a unit, before others so that few sets are open at a time; or go on if there are none."""
        if not steps:
            self._advance(run)
            return
        run.pending = len(steps)
        for step in reversed(steps):
            if run.stage == "opening":
                self._openings += 1
                position = -self._openings
            else:
                position = run.positions[step.key]
            self._units[position] = run
            self._waiting.appendleft((position, step))

    def _advance(self, run: _UnitRun) -> None:
        """Go on with a unit of which nothing is under way."""
        unit = run.unit
        if run.stage == "proving":
            run.changes = any(run.ranks)
            foreseen = self._only_prove or (run.error is not None and unit.opening is not None)
            if foreseen:  # what cannot be completed does not touch what is complete
                self._leave(run, foresee=self._only_prove)
                return
            run.stage = "opening"
            if run.changes and unit.opening is not None:
                self._release(run, [unit.opening])
                return
        if run.stage == "opening":
            run.stage = "moving"
        if run.stage == "moving":
            if run.ranks and (run.error is None or len(run.ranks) == len(unit.ranks)):
                steps = run.ranks.popleft()
                self._held -= len(steps)
                self._release(run, steps)
                return
            if run.error is not None or unit.seal is None or (unit.sealed and not run.changes):
                self._leave(run, foresee=False)
                return
            run.stage = "sealing"
            if self._flushed is not None:
                self._sealable.append(run)
            else:
                self._release(run, [unit.seal])
            return
        if run.stage == "sealing":
            self._leave(run, foresee=False)

    def _seal_some(self) -> bool:
        """Write the seals of all units that wait for the disk; return whether there were any."""
        sealable, self._sealable = self._sealable, []
        if sealable and self._flushed is not None:
            self._flushed.flush()
        for run in sealable:
            assert run.unit.seal is not None
            self._release(run, [run.unit.seal])
        return bool(sealable)

    def _leave(self, run: _UnitRun, *, foresee: bool) -> None:
        """End a unit: all that is not done by now is not done, or would be."""
        unit = run.unit
        rest = [step for rank in run.ranks for step in rank]
        self._held -= len(rest)
        sealed = unit.sealed and not run.changes
        if unit.seal is not None and run.stage != "sealing":
            rest.append(attrs.evolve(unit.seal, action="unchanged") if sealed else unit.seal)
        for step in rest:
            if step.action == "unchanged" or (foresee and run.error is None):
                outcome = _foreseen(step)
            else:
                held = StoreError(f"{step.key!r} waits for its set: {run.error}", key=step.key)
                outcome = KeyOutcome(step.key, "left", step.size, error=held)
            self._conclude(run.positions[step.key], step, outcome)
        run.stage = "done"
        word: SetWord = "failed" if run.error is not None else "copied" if run.changes or not sealed else "unchanged"
        self._sets.append(SetOutcome(unit.folder, word, run.error))

    def _settle_in_unit(self, run: _UnitRun, position: int, step: Step, outcome: KeyOutcome) -> None:
        """Take note of what became of a step of a unit, and go on with the unit when nothing of it is under way."""
        run.pending -= 1
        if outcome.outcome not in ("copied", "unchanged"):
            run.error = run.error or outcome.error
        if run.stage == "proving" and outcome.outcome == "copied":  # it differs
            number = next(number for number, rank in enumerate(run.unit.ranks) if any(s.key == step.key for s in rank))
            run.ranks[number].append(attrs.evolve(step, action="copy"))
            self._held += 1
        elif run.stage != "opening":
            self._record(position, step, outcome)
        if not run.pending:
            self._advance(run)

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
        if (run := self._units.pop(position, None)) is not None:
            self._settle_in_unit(run, position, step, outcome)
        else:
            self._record(position, step, outcome)

    def _record(self, position: int, step: Step, outcome: KeyOutcome) -> None:
        self._outcomes[position] = outcome
        self._keys_done += 1
        if step.size is None:  # a store that cannot tell: it is known only now
            self._bytes_planned += outcome.size or 0
        if outcome.outcome != "copied" or step.action == "write" or self._elsewhere:
            self._bytes_done += outcome.size or 0  # otherwise the watch has counted them

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
