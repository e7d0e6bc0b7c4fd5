"""Committing without the catalog, for example on the compute nodes of a cluster: bytes and record, but no rows.

Later `replay` ingests the published sets into the catalog, with the same rows as after a commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import Executor

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    ExecutionNotFoundError,
    RecordError,
    SelectionError,
    SourceChangedError,
)
from emdstore.executions.batch import BatchCallback, CommitJob, commit_each, shipping_for
from emdstore.executions.commit import Shipping, publish_stopped
from emdstore.executions.locations import Locations
from emdstore.executions.process import run_lives
from emdstore.executions.removal import published_status, remove_proved
from emdstore.executions.scratch import executions_in, has_scratch_record, read_scratch_record, size_in_scratch
from emdstore.executions.upload_report import UploadError, UploadReport
from emdstore.keys import is_valid_key, join_key
from emdstore.selection import ALL, Selection
from emdstore.sets.events import announce
from emdstore.sets.record import ExecutionRecord
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.views import scoped
from emdstore.transfers import ProgressCallback, Unchanged


def publish_execution(
    locations: Locations,
    fragment: str,
    *,
    clean_folder: bool | None = None,
    unnamed: bool | None = None,
    unchanged: Unchanged = "stat",
    replace: bool = False,
    progress_callback: ProgressCallback | None = None,
    executor: Executor | None = None,
) -> UploadReport:
    """Commit one execution without the catalog: first its bytes, then its record, but no rows.

    This is `Execution.commit_output_assets` without the claim and the rows. The catalog is not used, and learns of the
    set from a later `replay` of the results store. If it is killed, another call continues; if there is nothing to do,
    it writes nothing. Several processes may do it at once: they write the same bytes. If several replace an older set,
    one does it, and the others get `OvertakenError`.

    Parameters
    ----------
    locations
        The workspace; its catalog is not used.
    fragment
        The execution. It has stopped, and its record in scratch has an outcome.
    clean_folder, unnamed, unchanged, replace
        See `Execution.commit_output_assets`.
    progress_callback, executor
        See `transfer`.

    Returns
    -------
    UploadReport
        The report. Of a failed run the log is shipped, and the status is ``failed``. If the execution was published
        before and is gone from scratch, nothing is uploaded.

    Raises
    ------
    ExecutionNotFoundError
        If scratch has no record of it, and nothing is published in its place.
    RecordError
        If its record has no outcome, because it runs or was cut off, or belongs to another execution.
    EmdstoreError
        If it could not be shipped. What arrived is whole, nothing incomplete is published, and scratch is unchanged.
    """
    clean = locations.clean_folder if clean_folder is None else clean_folder
    also = locations.clean_unnamed if unnamed is None else unnamed
    shipping = Shipping(
        clean_folder=clean,
        unnamed=also,
        unchanged=unchanged,
        replace=replace,
        executor=executor,
        on_progress=progress_callback,
    )
    report = _publish(locations, fragment, shipping)
    announce(locations.results, report.events)
    return report


def _publish(locations: Locations, fragment: str, shipping: Shipping) -> UploadReport:
    record = read_scratch_record(locations.scratch, fragment)
    if record is None:
        return _published_before(locations, fragment)
    if record.fragment != fragment:
        raise RecordError(
            f"the record in the folder {fragment!r} of {locations.scratch!r} is that of {record.fragment!r}: move the "
            "folder back to its place",
            key=fragment,
        )
    if record.result is None:
        if run_lives(record.owner, record.program, record.host, record.pid) is False:
            raise RecordError(_cut_off(record), key=fragment)
        raise RecordError(
            f"{fragment!r} has no outcome: it still runs, or was cut off. If its process on {record.host} is gone, "
            "`emdstore recover --no-catalog --older-than AGE` stops it",
            key=fragment,
        )
    try:
        _, report = publish_stopped(locations, fragment, shipping)
    except ArtifactNotFoundError:
        if has_scratch_record(locations.scratch, fragment):
            raise
        return _published_before(locations, fragment)  # by somebody else, who has cleaned up
    if not shipping.clean_folder:
        return report
    try:
        reason = remove_proved(locations, fragment, unnamed=shipping.unnamed)
    except SourceChangedError as error:
        reason = str(error)
    return report if reason is None else attrs.evolve(report, kept={fragment: reason})


def publish_pending_executions(
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
    """Commit every waiting execution in scratch by `publish_execution`, without the catalog; a failure does not stop
    the others.

    Without the catalog it is not known what was committed or abandoned before. So every folder in scratch whose record
    has an outcome is shipped; what is published already is compared and left alone. Runs that were cut off, and
    unreadable records, are among the errors; runs that are alive, or may be alive elsewhere, are skipped.

    Parameters
    ----------
    locations
        The workspace; its catalog is not used.
    execution_ids
        Only these: fragments, or their ends.
    selection
        Without `execution_ids`, which of those in scratch; their time is when they stopped.
    clean_folder, unnamed, unchanged, replace, executor, progress_callback
        See `commit_pending_executions`.

    Returns
    -------
    UploadReport
        The report on all of them, with a typed error for each failure.

    Raises
    ------
    ValueError
        If `replace` is given without `execution_ids`.
    SelectionError
        If the latest of a group is asked for, which only a catalog knows.
    ExecutionNotFoundError
        If scratch does not contain one of the ids, or an id is ambiguous. Nothing was published.
    CommitInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far.
    """
    shipping = shipping_for(
        locations, execution_ids, clean_folder=clean_folder, unnamed=unnamed, unchanged=unchanged, replace=replace
    )
    left_out = UploadReport()
    if execution_ids is None:
        if selection.latest:
            raise SelectionError("which set is the latest of its group only the catalog tells: leave out --latest")
        fragments, left_out = _waiting(locations, selection, executions_in(locations.scratch))
    else:
        fragments = _named(locations, execution_ids)
    jobs = [CommitJob(fragment) for fragment in fragments]
    return commit_each(
        locations,
        _publish_job,
        jobs,
        shipping,
        executor=executor,
        progress_callback=progress_callback,
        left_out=left_out,
    )


def known_only_to_scratch(locations: Locations, selection: Selection = ALL) -> UploadReport:
    """Tell what a commit of all that waits leaves alone, because it ran without the catalog.

    Parameters
    ----------
    locations
        The workspace.
    selection
        Which of those in scratch; none if only a catalog knows the latest of a group.

    Returns
    -------
    UploadReport
        Runs that were cut off are among its errors, and others are skipped.
    """
    in_scratch = [] if selection.latest else list(executions_in(locations.scratch))
    known = {row.fragment for row in locations.catalog.executions(retracted=None)} if in_scratch else set()
    stopped, left = _waiting(locations, selection, [each for each in in_scratch if each not in known])
    waiting = (
        "only scratch knows it: `emdstore commit --no-catalog --pending` publishes it, if that was not done before, "
        "and `emdstore replay` loads it"
    )
    return attrs.evolve(left, skipped={**left.skipped, **dict.fromkeys(stopped, waiting)})


def _publish_job(locations: Locations, job: CommitJob, shipping: Shipping) -> UploadReport:
    return _publish(locations, job.fragment, shipping)


def _published_before(locations: Locations, fragment: str) -> UploadReport:
    """Return the report on an execution that somebody has shipped and cleaned up."""
    if not scoped(locations.results, fragment).exists(RECORD_NAME):
        raise _unknown(locations, fragment, "there is no such execution")
    return UploadReport(statuses={fragment: published_status(locations, fragment)})


def _is_chosen(scratch: LocalArtifactStore, selection: Selection, record: ExecutionRecord) -> bool:
    by_size = selection.min_size is not None or selection.max_size is not None
    return selection.takes_set(
        record.fragment,
        provider=record.provider,
        diagnostic=record.diagnostic,
        group=record.group,
        state=record.state,
        size=size_in_scratch(scratch, record.fragment) if by_size else None,
        time=record.stopped_at or record.started_at or record.created_at,
    )


def _waiting(locations: Locations, selection: Selection, in_scratch: Iterable[str]) -> tuple[list[str], UploadReport]:
    """Return the executions in scratch that have an outcome, oldest first, and why the others are not among them."""
    stopped = []
    errors: list[UploadError] = []
    skipped: dict[str, str] = {}
    for fragment in filter(selection.takes_folder, in_scratch):
        try:
            record = read_scratch_record(locations.scratch, fragment)
        except RecordError as error:
            errors.append(UploadError(fragment, error))
            continue
        if record is None or (record.result is None and record.started_at is None):
            continue  # nothing has run there
        if not _is_chosen(locations.scratch, selection, record):
            continue
        if record.result is not None:
            stopped.append((str(record.stopped_at or ""), fragment))
            continue
        lives = run_lives(record.owner, record.program, record.host, record.pid)
        if lives is False:
            errors.append(UploadError(fragment, RecordError(_cut_off(record), key=fragment)))
        elif lives:
            skipped[fragment] = f"it runs, as process {record.pid}"
        else:
            skipped[fragment] = (
                f"it has no outcome: it began at {record.started_at} on {record.host}, and whether it still runs "
                "cannot be seen from here. `emdstore recover --no-catalog --older-than AGE` stops it"
            )
    return [fragment for _, fragment in sorted(stopped)], UploadReport(errors=tuple(errors), skipped=skipped)


def _cut_off(record: ExecutionRecord) -> str:
    return (
        f"{record.fragment!r} began at {record.started_at}, and process {record.pid} on {record.host} was gone before "
        "it had an outcome: `emdstore recover --no-catalog` stops it, and the next commit publishes its log"
    )


def _named(locations: Locations, execution_ids: Collection[str]) -> list[str]:
    return list(dict.fromkeys(_meant(locations, each) for each in execution_ids))


def _meant(locations: Locations, wanted: str) -> str:
    """Return the fragment of the one execution with this fragment, or with this end of it."""
    for store in (locations.scratch, locations.results):
        if is_valid_key(wanted) and store.exists(join_key(wanted, RECORD_NAME)):
            return wanted
    if locations.scratch.local_path(wanted).is_dir():
        raise _unknown(locations, wanted, f"its folder holds no {RECORD_NAME}, which would say which execution it is")
    found = [fragment for fragment in executions_in(locations.scratch) if fragment.endswith("/" + wanted)]
    if len(found) > 1:
        named = f"{wanted!r} may mean several executions ({', '.join(found[:4])}): give the whole fragment"
        raise ExecutionNotFoundError(named, key=wanted, store=repr(locations.scratch))
    if not found:
        raise _unknown(locations, wanted, "there is no such execution")
    return found[0]


def _unknown(locations: Locations, wanted: str, why: str) -> ExecutionNotFoundError:
    return ExecutionNotFoundError(
        f"{wanted!r} in {locations.scratch!r}: {why}. `emdstore run --no-catalog` starts one; `emdstore materialize` "
        "publishes any folder, and takes the identity from its path",
        key=wanted,
        store=repr(locations.scratch),
    )
