"""Committing all that waits."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import ClaimHeldError, ExecutorError, InvalidTransitionError, StoreError
from emdstore.executions.commit import commit_execution
from emdstore.executions.lease import COMMITTABLE
from emdstore.executions.process import is_gone
from emdstore.executions.report import UploadError, UploadFailedError, UploadReport
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.stores.sameness import is_shared
from emdstore.workers.backlog import MAX_IN_FLIGHT, Backlog, executor_or_threads

if TYPE_CHECKING:
    from emdstore.executions.workspace import Workspace

_log = logging.getLogger(__name__)

WAITING = ("stopped", "upload_failed")
_WORKERS = 4  # to local results: of forks one more than cores, as each waits for its flush
_FORKS_TO_SERVER = 8  # several for each core, as all wait for answers
_MOST_WORKERS = 16
_SENDERS = 16
_WORTH_FORKING = 8
_LAPSES = 1.5  # a claim that outlives this is being renewed
_LOOK_AGAIN_SECONDS = 1.0


@attrs.frozen
class BatchProgress:
    """How far a batch has come: how many executions are done, of how many, and what the last one's report is."""

    fragment: str
    done: int
    total: int
    report: UploadReport


BatchCallback = Callable[[BatchProgress], object]


class CommitInterrupted(KeyboardInterrupt):
    """Ctrl-C during a batch. What was committed is whole; running it again goes on from here.

    Attributes
    ----------
    report
        What was done, also by the commits that were brought to their end.
    """

    def __init__(self, report: UploadReport) -> None:
        super().__init__("the commit was interrupted; run it again to go on")
        self.report = report


def commit_pending_executions(
    workspace: Workspace,
    *,
    execution_ids: Collection[str] | None = None,
    clean_folder: bool | None = None,
    executor: Executor | None = None,
    progress_callback: BatchCallback | None = None,
) -> UploadReport:
    """Commit what waits; see `Workspace.commit_pending_executions`, which is how it is called."""
    started = time.monotonic()
    workspace.bind()
    named = execution_ids is not None
    fragments = _waiting(workspace) if execution_ids is None else _named(workspace, execution_ids)
    reports: list[UploadReport] = []

    def keep(orders: Sequence[CommitJob], result: UploadReport | ExecutorError) -> None:
        (order,) = orders
        if isinstance(result, ExecutorError):
            result = UploadReport(errors=(UploadError(order.fragment, result),))
        reports.append(result)
        _tell(progress_callback, BatchProgress(order.fragment, len(reports), len(fragments), result))

    with batch_workers(workspace, executor, len(fragments)) as (pool, senders):
        backlog = Backlog[CommitJob, UploadReport](
            pool, commit_isolated, workspace, clean_folder, named, senders, retried=CommitJob.after_a_loss
        )
        waiting = (CommitJob(fragment) for fragment in fragments)
        try:
            while True:
                for order in islice(waiting, MAX_IN_FLIGHT - len(backlog)):
                    backlog.submit([order])
                if not backlog:
                    break
                for orders, result in backlog.finished():
                    keep(orders, result)
        except BaseException as error:
            reports += [report for _, report in backlog.stop()]
            if isinstance(error, KeyboardInterrupt):
                so_far = UploadReport.merged(reports, seconds=time.monotonic() - started)
                raise CommitInterrupted(so_far) from None
            raise
    return UploadReport.merged(reports, seconds=time.monotonic() - started)


@contextmanager
def batch_workers(
    workspace: Workspace, executor: Executor | None, count: int
) -> Iterator[tuple[Executor, Executor | None]]:
    """Give what is to commit so many executions: the executor; or forks of this process; or threads.

    The second is what they all send their files with, or None if each of them sees to that itself: to an object store
    far away each would start a dozen threads, for a dozen files.

    A commit spends half its time in Python, whose lock threads would hand to one another. A fork sees only what is
    outside this process, so it has to be certain that the results are. How far away they are is found out in a fork,
    too: the engine for S3 starts threads, and with them this process could no longer be forked.
    """
    results = workspace.results
    is_local = isinstance(results, SupportsPath)
    answer_seconds: float | None = None
    if executor is None and count >= _WORTH_FORKING and is_shared(results):
        from emdstore.workers.forks import Forks, can_fork  # slow to import

        if can_fork() and workspace.catalog.release_connections():
            cores = os.cpu_count() or 1
            with Forks(min(_WORKERS, cores + 1) if is_local else min(_FORKS_TO_SERVER, 4 * cores)) as forks:
                if not is_local:
                    with suppress(BrokenExecutor):  # somebody has killed one; threads will do
                        answer_seconds = forks.submit(_answer_seconds, results).result()
                if is_local or (answer_seconds is not None and _commits_at_once(answer_seconds) == _WORKERS):
                    yield forks, None
                    return
    if executor is not None or count <= _WORKERS or is_local:
        with executor_or_threads(executor, _WORKERS, "commit") as pool:
            yield pool, None
        return
    if answer_seconds is None:
        answer_seconds = _answer_seconds(results)
    with (
        executor_or_threads(None, _SENDERS, "send") as senders,
        executor_or_threads(None, _commits_at_once(answer_seconds), "commit") as pool,
    ):
        yield pool, senders


def _answer_seconds(results: ArtifactStore) -> float:
    """Return how long the results store takes to answer; no time if it does not, as each commit will say."""
    seconds = 0.0
    try:
        for _ in range(2):  # the first one may have to connect
            started = time.perf_counter()
            results.exists(RECORD_NAME)
            seconds = time.perf_counter() - started
    except StoreError:
        return 0.0
    return seconds


def _commits_at_once(answer_seconds: float) -> int:
    """Return how many commits to have under way: each asks the results store a dozen times, and waits for answers."""
    return max(_WORKERS, min(_MOST_WORKERS, round(answer_seconds * 1000)))


@attrs.frozen
class CommitJob:
    """An execution to commit; whether a worker was lost with it, which then still holds its claim."""

    fragment: str
    lost: bool = False

    def after_a_loss(self) -> CommitJob:
        """Return what is given out when the worker of this one was lost."""
        return CommitJob(self.fragment, lost=True)


def commit_isolated(
    workspace: Workspace, clean_folder: bool | None, named: bool, senders: Executor | None, orders: Sequence[CommitJob]
) -> UploadReport:
    """Commit one execution of a batch: a named one, or one that waits if it still does. Errors are in the report."""
    (order,) = orders
    fragment = order.fragment
    # What a lost worker had in hand may be done already: to commit it again is to tell so.
    states = COMMITTABLE if named or order.lost else WAITING
    taken = (ClaimHeldError,) if named else (ClaimHeldError, InvalidTransitionError)  # by others, since it was listed
    # On another machine nobody knows that its owner is gone before the claim has run out.
    patience = time.monotonic() + (_LAPSES * workspace.lease_seconds if order.lost else 0)
    try:
        while True:
            try:
                return commit_execution(workspace, fragment, clean_folder=clean_folder, states=states, executor=senders)
            except ClaimHeldError:
                if time.monotonic() > patience:
                    raise
                time.sleep(_LOOK_AGAIN_SECONDS)
    except taken as error:
        return UploadReport(skipped={fragment: str(error)})
    except UploadFailedError as error:
        return attrs.evolve(error.report, errors=(UploadError(fragment, error),))
    except Exception as error:  # noqa: BLE001 - one execution's failure stops no other, and is in the report
        return UploadReport(errors=(UploadError(fragment, error),))


def _waiting(workspace: Workspace) -> list[str]:
    """Return what waits, oldest first: stopped, failed to upload, or claimed by an owner that is gone."""
    gone = [row for row in workspace.catalog.executions(status="pending_upload") if is_gone(row.owner)]
    waiting = {row.fragment: row for row in (*workspace.catalog.pending(WAITING), *gone)}
    return [row.fragment for row in sorted(waiting.values(), key=lambda row: (str(row.created_at or ""), row.fragment))]


def _named(workspace: Workspace, execution_ids: Collection[str]) -> list[str]:
    return list(dict.fromkeys(workspace.catalog.execution(each).fragment for each in execution_ids))


def _tell(callback: BatchCallback | None, progress: BatchProgress) -> None:
    if callback is not None:
        try:
            callback(progress)
        except Exception:  # noqa: BLE001 - a display must not cost the result
            _log.exception("the progress callback failed; the batch goes on")
