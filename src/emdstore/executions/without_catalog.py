"""Committing where the catalog cannot be reached, as on the compute nodes of a cluster: bytes and record, without rows.

Whoever can reach the catalog takes the published sets in by `replay`, and has the same rows then as after a commit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from typing import TYPE_CHECKING

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, ExecutionNotFoundError, RecordError
from emdstore.executions.batch import BatchCallback, BatchProgress, CommitInterrupted, batch_workers
from emdstore.executions.commit import publish_stopped, read_scratch_record, remove_scratch
from emdstore.executions.report import UploadError, UploadFailedError, UploadReport
from emdstore.keys import is_valid_key, join_key
from emdstore.sets.finding import find_sets
from emdstore.sets.record import read_record
from emdstore.stores.views import scoped
from emdstore.transfers import ProgressCallback
from emdstore.workers.backlog import map_batches

if TYPE_CHECKING:
    from emdstore.executions.workspace import Workspace

_log = logging.getLogger(__name__)


def publish_execution(
    workspace: Workspace,
    fragment: str,
    *,
    clean_folder: bool | None = None,
    progress_callback: ProgressCallback | None = None,
    executor: Executor | None = None,
) -> UploadReport:
    """Commit one execution without the catalog: its bytes first, then its record, no rows.

    It is `Execution.commit_output_assets` but for the claim and the rows. The workspace's catalog is not touched, need
    not answer, and learns of the set from a later `replay` of the results store. Killed anywhere, it is done again
    from there, and with nothing to do it writes nothing. Several processes may do it at once: what they write is equal.

    Parameters
    ----------
    workspace
        Where scratch and results are.
    fragment
        The execution. It has stopped, and its record in scratch says how.
    clean_folder
        Whether to remove the scratch folder when the set is published; None for what the workspace says.
    progress_callback, executor
        See `transfer`.

    Returns
    -------
    UploadReport
        Also of a run whose own outcome is a failure: its log is shipped, and its status is ``failed``. One that was
        published before, and whose scratch folder is gone since, has nothing uploaded.

    Raises
    ------
    ExecutionNotFoundError
        If nothing in scratch says which execution this is, and nothing is published in its place.
    RecordError
        If its record has no outcome: it runs, or was cut off. If it is the record of another execution.
    EmdstoreError
        If it could not be shipped. What arrived is whole, nothing is published that is not complete, and scratch is as
        it was.
    """
    record = read_scratch_record(workspace.scratch, fragment)
    if record is None:
        return _published_before(workspace, fragment)
    if record.fragment != fragment:
        raise RecordError(
            f"the record in the folder {fragment!r} of {workspace.scratch!r} is that of {record.fragment!r}: move the "
            "folder back to its place",
            key=fragment,
        )
    if record.result is None:
        raise RecordError(
            f"{fragment!r} has no outcome: it still runs, or was cut off. If its process is gone, publish its log: "
            "`emdstore materialize SCRATCH RESULTS --failed --retryable` with its own folders",
            key=fragment,
        )
    try:
        _, report = publish_stopped(workspace, fragment, on_progress=progress_callback, executor=executor)
    except ArtifactNotFoundError:
        if read_scratch_record(workspace.scratch, fragment) is not None:
            raise
        return _published_before(workspace, fragment)  # by somebody else meanwhile, who cleaned up
    if workspace.clean_folder if clean_folder is None else clean_folder:
        remove_scratch(workspace.scratch, fragment)
    return report


def publish_pending_executions(
    workspace: Workspace,
    *,
    execution_ids: Collection[str] | None = None,
    clean_folder: bool | None = None,
    executor: Executor | None = None,
    progress_callback: BatchCallback | None = None,
) -> UploadReport:
    """Commit all that waits in scratch without the catalog, each by `publish_execution`; one that fails stops no other.

    Without the catalog nobody knows what was committed or given up before: every folder in scratch whose record has an
    outcome is shipped, and what is published already is compared and left as it is.

    Parameters
    ----------
    workspace
        Where scratch and results are.
    execution_ids
        Only these: fragments, or the ends of them.
    clean_folder, executor, progress_callback
        See `Workspace.commit_pending_executions`.

    Returns
    -------
    UploadReport
        Of all of them, with a typed error for each that failed.

    Raises
    ------
    ExecutionNotFoundError
        If scratch does not hold one of the ids, or more than one execution may be meant. Nothing was published.
    CommitInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far.
    """
    started = time.monotonic()
    fragments = _waiting(workspace) if execution_ids is None else _named(workspace, execution_ids)
    reports: list[UploadReport] = []
    try:
        with (
            batch_workers(workspace, executor, len(fragments)) as (pool, senders),
            closing(map_batches(pool, _publish_isolated, workspace, clean_folder, senders, items=fragments)) as done,
        ):
            for fragment, came in done:
                report = came if isinstance(came, UploadReport) else _failed(fragment, came)
                reports.append(report)
                if progress_callback is not None:
                    _tell(progress_callback, BatchProgress(fragment, len(reports), len(fragments), report))
    except KeyboardInterrupt:
        raise CommitInterrupted(UploadReport.merged(reports, seconds=time.monotonic() - started)) from None
    return UploadReport.merged(reports, seconds=time.monotonic() - started)


def _publish_isolated(
    workspace: Workspace, clean_folder: bool | None, senders: Executor | None, fragments: Sequence[str]
) -> list[UploadReport]:
    reports = []
    for fragment in fragments:
        try:
            reports.append(publish_execution(workspace, fragment, clean_folder=clean_folder, executor=senders))
        except Exception as error:  # noqa: BLE001 - one execution's failure stops no other, and is in the report
            reports.append(_failed(fragment, error))
    return reports


def _failed(fragment: str, error: Exception) -> UploadReport:
    report = error.report if isinstance(error, UploadFailedError) else UploadReport()
    return attrs.evolve(report, errors=(UploadError(fragment, error),))


def _tell(callback: BatchCallback, progress: BatchProgress) -> None:
    try:
        callback(progress)
    except Exception:  # noqa: BLE001 - a display must not cost the result
        _log.exception("the progress callback failed; the batch goes on")


def _published_before(workspace: Workspace, fragment: str) -> UploadReport:
    """Return the report of an execution that somebody shipped and cleaned up."""
    published = read_record(scoped(workspace.results, fragment))
    if published is None or published.status is None:
        raise _unknown(workspace, fragment, "there is no such execution")
    return UploadReport(statuses={fragment: published.status})


def _waiting(workspace: Workspace) -> list[str]:
    """Return the executions in scratch that have an outcome, oldest first."""
    stopped = []
    for fragment in _in_scratch(workspace):
        try:
            record = read_scratch_record(workspace.scratch, fragment)
        except RecordError as error:
            _log.warning("left out: %s", error)
            continue
        if record is not None and record.result is not None:
            stopped.append((str(record.stopped_at or ""), fragment))
    return [fragment for _, fragment in sorted(stopped)]


def _named(workspace: Workspace, execution_ids: Collection[str]) -> list[str]:
    return list(dict.fromkeys(_meant(workspace, each) for each in execution_ids))


def _meant(workspace: Workspace, wanted: str) -> str:
    """Return the fragment of the one execution that is meant by it, or by the end of it."""
    for store in (workspace.scratch, workspace.results):
        if is_valid_key(wanted) and store.exists(join_key(wanted, RECORD_NAME)):
            return wanted
    if workspace.scratch.local_path(wanted).is_dir():
        raise _unknown(workspace, wanted, f"its folder holds no {RECORD_NAME}, which would say which execution it is")
    found = [fragment for fragment in _in_scratch(workspace) if fragment.endswith("/" + wanted)]
    if len(found) > 1:
        named = f"{wanted!r} may mean several executions ({', '.join(found[:4])}): give the whole fragment"
        raise ExecutionNotFoundError(named, key=wanted, store=repr(workspace.scratch))
    if not found:
        raise _unknown(workspace, wanted, "there is no such execution")
    return found[0]


def _in_scratch(workspace: Workspace) -> Iterator[str]:
    return (found.location for found in find_sets(workspace.scratch) if found.published and found.location)


def _unknown(workspace: Workspace, wanted: str, why: str) -> ExecutionNotFoundError:
    return ExecutionNotFoundError(
        f"{wanted!r} in {workspace.scratch!r}: {why}. `emdstore run --no-catalog` starts one; `emdstore materialize` "
        "publishes any folder, and takes the identity from its path",
        key=wanted,
        store=repr(workspace.scratch),
    )
