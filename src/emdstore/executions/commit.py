"""The one way to ship an execution: claim, freeze, bytes, record, rows, clean up.

Everything that commits comes through `commit_execution`: the library call, a resumed execution, the batch and the
command line. Killed between any two of its steps, running it again comes to the same end.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    RecordError,
    StoreError,
)
from emdstore.executions.lease import COMMITTABLE, Lease
from emdstore.executions.report import RoleCounts, UploadFailedError, UploadReport
from emdstore.ingestion.reading import read_set
from emdstore.keys import STAGING_PREFIX, join_key
from emdstore.sets.materialize import MaterializeOutcome
from emdstore.sets.publish import Publication, publish_set
from emdstore.sets.record import ExecutionRecord, decode_record, encode_record
from emdstore.sets.result import LOG_NAME, ExecutionResult
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.views import scoped
from emdstore.transfers import ProgressCallback

if TYPE_CHECKING:
    from emdstore.executions.workspace import Workspace

_log = logging.getLogger(__name__)

_SHIPPED = frozenset({"uploaded", "failed"})


def commit_execution(
    workspace: Workspace,
    fragment: str,
    *,
    clean_folder: bool | None = None,
    progress_callback: ProgressCallback | None = None,
    states: Collection[str] = COMMITTABLE,
    executor: Executor | None = None,
) -> UploadReport:
    """Ship one execution from one of some states; see `Execution.commit_output_assets`, which is how it is called.

    Its files are shipped by the executor; see `transfer`.
    """
    started = time.monotonic()
    workspace.bind()
    before = workspace.catalog.execution(fragment)
    if before.status in _SHIPPED.intersection(states) and not workspace.scratch.scope(fragment).exists(RECORD_NAME):
        return UploadReport(statuses={fragment: before.status})  # shipped, and cleaned up since
    with Lease(workspace, before, states) as lease:
        try:
            publication, report = publish_stopped(
                workspace, fragment, on_progress=progress_callback, before_record=lease.check, executor=executor
            )
        except ArtifactNotFoundError:
            if (status := _shipped_meanwhile(workspace, fragment)) is None:
                raise
            lease.give_back(status)
            return UploadReport(statuses={fragment: status})
        if publication.record_written or before.record_digest != _published_digest(workspace, fragment):
            lease.finish(read_set(workspace.results, fragment, vocabulary=workspace.vocabulary))
        else:
            lease.give_back(publication.decision.status)  # the catalog has these very rows
    if workspace.clean_folder if clean_folder is None else clean_folder:
        remove_scratch(workspace.scratch, fragment)
    return attrs.evolve(report, seconds=time.monotonic() - started)


def publish_stopped(
    workspace: Workspace,
    fragment: str,
    *,
    on_progress: ProgressCallback | None = None,
    before_record: Callable[[], object] = lambda: None,
    executor: Executor | None = None,
) -> tuple[Publication, UploadReport]:
    """Ship the bytes of an execution that has stopped, then its record: the steps of a commit that need no catalog.

    Parameters
    ----------
    workspace
        Where it is.
    fragment
        The execution.
    on_progress, executor
        See `transfer`.
    before_record
        See `publish_set`.

    Raises
    ------
    ArtifactNotFoundError, RecordError
        If its folder is gone from scratch, also while it was being shipped, or its record has no outcome.
    UploadFailedError
        If something could not be shipped. Nothing was published.
    """
    started = time.monotonic()

    def permit_record() -> None:
        # The folder goes in one piece: if its record is there, nothing went meanwhile.
        if not workspace.scratch.exists(join_key(fragment, RECORD_NAME)):
            raise _scratch_is_gone(workspace.scratch, fragment)
        before_record()

    identity = _stopped_record(workspace.scratch, fragment)
    assert identity.result is not None
    publication = publish_set(
        identity,
        identity.result,
        source=scoped(workspace.scratch, fragment),
        dest=scoped(workspace.results, fragment),
        on_progress=on_progress,
        before_record=permit_record,
        executor=executor,
    )
    report = _report(fragment, identity.result, publication, time.monotonic() - started)
    if publication.record is None:
        problem = publication.outcome.artifacts_failed[0]
        raise UploadFailedError(
            f"{fragment!r} {publication.decision.reason}: {problem.error}; commit it again",
            report=report,
            key=problem.key,
        ) from problem.error
    return publication, report


def _stopped_record(scratch: LocalArtifactStore, fragment: str) -> ExecutionRecord:
    record = read_scratch_record(scratch, fragment)
    if record is None:
        raise _scratch_is_gone(scratch, fragment)
    if record.result is None:
        raise RecordError(
            f"the record of {fragment!r} in {scratch!r} has no outcome, though the execution was stopped: the file was "
            "changed; stop a new run instead",
            key=fragment,
        )
    return record


def _scratch_is_gone(scratch: LocalArtifactStore, fragment: str) -> ArtifactNotFoundError:
    return ArtifactNotFoundError(
        f"the scratch folder of execution {fragment!r} is gone from {scratch!r}: put it back and commit again, or "
        "abort the execution",
        key=fragment,
        store=repr(scratch),
    )


def read_scratch_record(scratch: LocalArtifactStore, fragment: str) -> ExecutionRecord | None:
    """Return what scratch knows of an execution; None if its folder or its record is gone."""
    key = join_key(fragment, RECORD_NAME)
    try:
        return decode_record(scratch.read_bytes(key), name=key)
    except ArtifactNotFoundError:
        return None


def write_scratch_record(scratch: LocalArtifactStore, record: ExecutionRecord) -> None:
    """Keep in scratch what is known of an execution."""
    scratch.scope(record.fragment).write_bytes(RECORD_NAME, encode_record(record))


def remove_scratch(scratch: LocalArtifactStore, fragment: str) -> None:
    """Remove an execution's folder from scratch.

    It is renamed first, so that a removal that is cut off leaves no half folder that looks like a run; `gc_executions`
    removes what is left of it. `StoreError` if the system refuses.
    """
    folder = scratch.local_path(fragment)
    trash = scratch.root / f"{STAGING_PREFIX}trash-{secrets.token_hex(8)}"
    try:
        folder.rename(trash)
        if trash.is_symlink():
            trash.unlink()
        else:
            shutil.rmtree(trash)
    except FileNotFoundError:
        pass  # somebody else has removed it
    except OSError as error:
        raise StoreError(
            f"the scratch folder of {fragment!r} could not be removed, all else is done: {error}; "
            "`emdstore gc` removes it later",
            key=fragment,
            store=repr(scratch),
        ) from error
    scratch.ground.prune(os.path.dirname(fragment))


def _shipped_meanwhile(workspace: Workspace, fragment: str) -> str | None:
    """Return the status of an execution whose folder is gone because somebody else shipped it and cleaned up."""
    dest = scoped(workspace.results, fragment)
    if workspace.scratch.scope(fragment).exists(RECORD_NAME) or not dest.exists(RECORD_NAME):
        return None
    published = dest.read_bytes(RECORD_NAME)
    known = workspace.catalog.execution(fragment).record_digest
    return decode_record(published).status if hashlib.sha256(published).hexdigest() == known else None


def _published_digest(workspace: Workspace, fragment: str) -> str:
    return hashlib.sha256(scoped(workspace.results, fragment).read_bytes(RECORD_NAME)).hexdigest()


def _report(fragment: str, result: ExecutionResult, publication: Publication, seconds: float) -> UploadReport:
    outcome: MaterializeOutcome = publication.outcome
    copied = {*outcome.artifacts_copied, *(() if outcome.log_unchanged else (LOG_NAME,))}
    roles: dict[str, RoleCounts] = {}
    size = 0
    for artifact in outcome.artifacts:
        new = artifact.key in copied
        roles[artifact.role] = roles.get(artifact.role, RoleCounts()) + RoleCounts(int(new), int(not new))
        size += artifact.size if new else 0
    role_of: dict[str | None, str] = {each.key or each.filename: each.kind for each in outcome.outputs}
    role_of |= {
        LOG_NAME: "log",
        result.metric_bundle_filename: "metric",
        result.output_bundle_filename: "output",
        result.series_filename: "series",
    }
    failed = {each.key for each in outcome.artifacts_failed}
    for key in failed.union(outcome.artifacts_missing, outcome.artifacts_rejected):
        role = role_of.get(key, "data")
        roles[role] = roles.get(role, RoleCounts()) + RoleCounts(failed=1)
    statuses = {} if publication.record is None else {fragment: publication.decision.status}
    return UploadReport(statuses=statuses, roles=roles, bytes=size, seconds=seconds)
