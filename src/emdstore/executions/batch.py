"""Committing many executions: one loop, with or without a catalog."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import islice

import attrs

from emdstore import system
from emdstore.catalog import ExecutionRow
from emdstore.catalog.choosing import takes_execution
from emdstore.errors import (
    ClaimHeldError,
    EmdstoreError,
    ExecutorError,
    Interrupted,
    InvalidTransitionError,
    UploadFailedError,
)
from emdstore.executions.commit import Shipping, commit_execution
from emdstore.executions.lease import COMMITTABLE
from emdstore.executions.locations import Locations
from emdstore.executions.pool import batch_workers
from emdstore.executions.process import is_gone, run_lives
from emdstore.executions.scratch import read_scratch_record, size_in_scratch
from emdstore.executions.upload_report import UploadError, UploadReport
from emdstore.progress import tell
from emdstore.selection import ALL, Selection
from emdstore.sets.events import News
from emdstore.transfers import Unchanged
from emdstore.workers.backlog import MAX_IN_FLIGHT, Backlog

_log = logging.getLogger(__name__)

WAITING = ("stopped", "upload_failed")
_LAPSES = 1.5  # a claim that outlives this is being renewed
_LOOK_AGAIN_SECONDS = 1.0


@attrs.frozen
class BatchProgress:
    """The progress of a batch: how many executions are done, how many there are, and the report of the last one."""

    fragment: str
    done: int
    total: int
    report: UploadReport


BatchCallback = Callable[[BatchProgress], object]


class CommitInterrupted(Interrupted):
    """Ctrl-C during a batch. What was committed is complete; run it again to continue. See `Interrupted`."""

    _what = "the commit"
    report: UploadReport


@attrs.frozen
class CommitJob:
    """An execution to commit.

    Attributes
    ----------
    fragment
        The execution.
    named
        Whether somebody asked for this execution by name; otherwise it is one of those that wait.
    lost
        Whether a lost worker was committing it, whose claim may still hold.
    """

    fragment: str
    named: bool = False
    lost: bool = False

    def after_a_loss(self) -> CommitJob:
        """Return the job to submit after the worker of this one was lost."""
        return attrs.evolve(self, lost=True)


CommitOne = Callable[[Locations, CommitJob, Shipping], UploadReport]


def commit_pending_executions(
    locations: Locations,
    *,
    execution_ids: Collection[str] | None = None,
    selection: Selection = ALL,
    clean_folder: bool = False,
    unnamed: bool | None = None,
    unchanged: Unchanged = "stat",
    replace: bool = False,
    executor: Executor | None = None,
    progress_callback: BatchCallback | None = None,
) -> UploadReport:
    """Commit every waiting execution: stopped, failed to upload, or claimed by an owner that is gone; oldest first.

    Each is committed as by `Execution.commit_output_assets`, and a failure does not stop the others. Executions that
    somebody else is committing are skipped; running ones are never touched. Several processes may do this at once: each
    execution is committed by one of them.

    Parameters
    ----------
    locations
        The workspace.
    execution_ids
        Only these, by fragment or last segment, in any state.
    selection
        Without `execution_ids`, which of the waiting ones; see `emdstore.catalog.choosing`.
    clean_folder, unnamed
        Whether to remove each one's scratch folder; see `Execution.commit_output_assets`.
    unchanged, replace
        See `Execution.commit_output_assets`. Executions that may be replaced by less must be named in `execution_ids`.
    executor
        Runs the commits; by default forks of this process while it has a single thread and the results are local,
        otherwise threads. For processes the workspace must pickle. What a lost worker was committing is committed by
        another one as soon as its claim has run out.
    progress_callback
        Called in this thread with a `BatchProgress` after each execution. Its exceptions are logged.

    Returns
    -------
    UploadReport
        The report on all of them, with a typed error for each failure.

    Raises
    ------
    ValueError
        If `replace` is given without `execution_ids`.
    ExecutionNotFoundError
        If one of the ids is unknown. Nothing was committed.
    ExecutorError
        If the executor accepts no work, the workspace cannot be sent to its workers, or these have another version of
        emdstore.
    CommitInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far. Running commits are finished first.
    """
    shipping = shipping_for(
        locations, execution_ids, clean_folder=clean_folder, unnamed=unnamed, unchanged=unchanged, replace=replace
    )
    locations.bind()
    left_out = UploadReport()
    if execution_ids is None:
        takes = takes_execution(locations.catalog, selection, partial(size_in_scratch, locations.scratch))
        jobs = [CommitJob(fragment) for fragment in _waiting(locations, takes)]
        left_out = UploadReport(skipped=_cut_off(locations, takes))
    else:
        jobs = [CommitJob(fragment, named=True) for fragment in _named(locations, execution_ids)]
    return commit_each(
        locations,
        commit_job,
        jobs,
        shipping,
        executor=executor,
        progress_callback=progress_callback,
        left_out=left_out,
    )


def shipping_for(
    locations: Locations,
    execution_ids: Collection[str] | None,
    *,
    clean_folder: bool,
    unnamed: bool | None,
    unchanged: Unchanged,
    replace: bool,
) -> Shipping:
    """Return how a batch ships; `ValueError` if it might replace executions that are not named."""
    if replace and execution_ids is None:
        raise ValueError("name the executions whose publications may be replaced by less")
    also = locations.clean_unnamed if unnamed is None else unnamed
    return Shipping(clean_folder=clean_folder, unnamed=also, unchanged=unchanged, replace=replace)


def commit_each(
    locations: Locations,
    commit: CommitOne,
    jobs: Sequence[CommitJob],
    shipping: Shipping,
    *,
    executor: Executor | None,
    progress_callback: BatchCallback | None,
    left_out: UploadReport,
) -> UploadReport:
    """Commit executions, each isolated from the others; see `commit_pending_executions`.

    The report also says why others were not committed.
    """
    started = system.current().monotonic()
    reports: list[UploadReport] = []
    news = News(locations.results)

    def keep(job: CommitJob, result: UploadReport | ExecutorError) -> None:
        report = _failed(job, result) if isinstance(result, ExecutorError) else result
        reports.append(report)
        news.add(report.events)
        tell(progress_callback, BatchProgress(job.fragment, len(reports), len(jobs), report))

    with news, batch_workers(locations, executor, len(jobs)) as (pool, senders):
        backlog = Backlog[CommitJob, UploadReport](
            pool,
            commit_isolated,
            locations,
            commit,
            attrs.evolve(shipping, executor=senders),
            retried=CommitJob.after_a_loss,
        )
        waiting = iter(jobs)
        try:
            while True:
                for job in islice(waiting, MAX_IN_FLIGHT - len(backlog)):
                    backlog.submit([job])
                if not backlog:
                    break
                for (job,), result in backlog.finished():
                    keep(job, result)
        except BaseException as error:
            stopped = [report for _, report in backlog.stop()]
            news.add(event for report in stopped for event in report.events)
            reports += stopped
            if isinstance(error, KeyboardInterrupt):
                so_far = UploadReport.merged([*reports, left_out], seconds=system.current().monotonic() - started)
                raise CommitInterrupted(so_far) from None
            raise
    return UploadReport.merged([*reports, left_out], seconds=system.current().monotonic() - started)


def commit_isolated(
    locations: Locations, commit: CommitOne, shipping: Shipping, jobs: Sequence[CommitJob]
) -> UploadReport:
    """Commit one execution of a batch; its error is in the report."""
    (job,) = jobs
    try:
        return commit(locations, job, shipping)
    except Exception as error:  # noqa: BLE001 - one execution's failure stops no other, and is in the report
        return _failed(job, error)


def commit_job(locations: Locations, job: CommitJob, shipping: Shipping) -> UploadReport:
    """Commit an execution that was named, or that still waits."""
    # A lost worker may have finished its commit: committing again reports this.
    states = COMMITTABLE if job.named or job.lost else WAITING
    taken = (ClaimHeldError,) if job.named else (ClaimHeldError, InvalidTransitionError)  # by others, since listed
    # For an owner on another machine, only an expired claim shows that it is gone.
    patience = system.current().monotonic() + (_LAPSES * locations.lease_seconds if job.lost else 0)
    try:
        while True:
            try:
                return commit_execution(locations, job.fragment, shipping, states=states)
            except ClaimHeldError:
                if system.current().monotonic() > patience:
                    raise
                system.current().sleep(_LOOK_AGAIN_SECONDS)
    except taken as error:
        return UploadReport(skipped={job.fragment: str(error)})


def _failed(job: CommitJob, error: Exception) -> UploadReport:
    report = error.report if isinstance(error, UploadFailedError) and error.report is not None else UploadReport()
    return attrs.evolve(report, errors=(UploadError(job.fragment, error),))


def _waiting(locations: Locations, takes: Callable[[ExecutionRow], bool]) -> list[str]:
    """Return the waiting executions, oldest first: stopped, failed to upload, or claimed by an owner that is gone."""
    gone = [row for row in locations.catalog.executions(status="pending_upload", retracted=None) if is_gone(row.owner)]
    waiting = {row.fragment: row for row in (*locations.catalog.claims.pending(WAITING), *gone) if takes(row)}
    return [row.fragment for row in sorted(waiting.values(), key=lambda row: (str(row.created_at or ""), row.fragment))]


def _cut_off(locations: Locations, takes: Callable[[ExecutionRow], bool]) -> dict[str, str]:
    """Return the executions with status running whose process is gone, with what to do."""
    found = {}
    for row in filter(takes, locations.catalog.executions(status="running", retracted=None)):
        try:
            record = read_scratch_record(locations.scratch, row.fragment)
        except EmdstoreError:
            record = None
        owner, program = (None, None) if record is None else (record.owner, record.program)
        if run_lives(owner, program, row.host, row.pid) is False:
            found[row.fragment] = f"its process {row.pid} on {row.host} was gone before it had an outcome: recover it"
    return found


def _named(locations: Locations, execution_ids: Collection[str]) -> list[str]:
    return list(dict.fromkeys(locations.catalog.execution(each).fragment for each in execution_ids))
