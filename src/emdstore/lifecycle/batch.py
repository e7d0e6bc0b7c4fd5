"""Committing all that waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from typing import TYPE_CHECKING

import attrs

from emdstore.errors import ClaimHeldError, InvalidTransitionError
from emdstore.lifecycle.commit import commit_execution
from emdstore.lifecycle.lease import COMMITTABLE
from emdstore.lifecycle.process import is_gone
from emdstore.lifecycle.upload import UploadError, UploadFailedError, UploadReport

if TYPE_CHECKING:
    from emdstore.lifecycle.workspace import Workspace

_log = logging.getLogger(__name__)

WAITING = ("stopped", "upload_failed")
_WORKERS = 4


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
    own = ThreadPoolExecutor(_WORKERS, thread_name_prefix="emdstore-commit") if executor is None else None
    pool = executor or own
    assert pool is not None
    running: dict[Future[UploadReport], str] = {}
    try:
        for fragment in fragments:
            running[pool.submit(commit_isolated, workspace, fragment, clean_folder, named)] = fragment
        for future in as_completed(running):
            reports.append(_result(future, running[future]))
            _tell(progress_callback, BatchProgress(running[future], len(reports), len(fragments), reports[-1]))
    except KeyboardInterrupt:
        ending = [future for future in running if not future.cancel()]
        wait(ending)
        reports = [
            _result(future, running[future])
            for future in ending
            if not isinstance(future.exception(), KeyboardInterrupt)
        ]
        raise CommitInterrupted(UploadReport.merged(reports, seconds=time.monotonic() - started)) from None
    finally:
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)
    return UploadReport.merged(reports, seconds=time.monotonic() - started)


def commit_isolated(workspace: Workspace, fragment: str, clean_folder: bool | None, named: bool) -> UploadReport:
    """Commit one execution of a batch: a named one, or one that waits if it still does. Errors are in the report."""
    states = COMMITTABLE if named else WAITING
    taken = (ClaimHeldError,) if named else (ClaimHeldError, InvalidTransitionError)  # by others, since it was listed
    try:
        return commit_execution(workspace, fragment, clean_folder=clean_folder, states=states)
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


def _result(future: Future[UploadReport], fragment: str) -> UploadReport:
    error = future.exception()
    if error is None:
        return future.result()
    if not isinstance(error, Exception):
        raise error
    return UploadReport(errors=(UploadError(fragment, error),))  # a worker was lost


def _tell(callback: BatchCallback | None, progress: BatchProgress) -> None:
    if callback is not None:
        try:
            callback(progress)
        except Exception:  # noqa: BLE001 - a display must not cost the result
            _log.exception("the progress callback failed; the batch goes on")
