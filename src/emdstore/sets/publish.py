"""Bytes, decision, record: what makes a set published, with or without a catalog."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime

import attrs

from emdstore.sets.decision import StatusDecision, resolve_status
from emdstore.sets.materialize import MaterializeOutcome, materialize_outputs
from emdstore.sets.record import ExecutionRecord, publish_record, state_of
from emdstore.sets.result import ResultLike, as_result
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.transfers import ProgressCallback


@attrs.frozen
class Publication:
    """What `publish_set` did.

    Attributes
    ----------
    outcome, decision
        What arrived, and what was decided from it.
    record
        The record; None if something could not be shipped, so that nothing was published.
    record_written
        False if the same record was there already.
    """

    outcome: MaterializeOutcome
    decision: StatusDecision
    record: ExecutionRecord | None
    record_written: bool


def publish_set(
    identity: ExecutionRecord,
    result: ResultLike,
    *,
    source: ArtifactStore,
    dest: ArtifactStore,
    update_dirty: bool = True,
    on_progress: ProgressCallback | None = None,
    before_record: Callable[[], object] | None = None,
    executor: Executor | None = None,
) -> Publication:
    """Promote an execution's set, decide its status, and write its record, last.

    Parameters
    ----------
    identity
        Who the execution is; the rest of the record is filled in.
    result
        What the run says of itself.
    source, dest
        See `materialize_outputs`.
    update_dirty
        See `resolve_status`; a reingest never updates.
    on_progress, executor
        See `transfer`.
    before_record
        Called when all bytes are there, right before the record is written, if it changes; what it raises keeps the
        set unpublished.

    Returns
    -------
    Publication
        Without a record if the decision is ``upload_failed``: the next call goes on from there.

    Raises
    ------
    SameStoreError, StoreError
        See `materialize_outputs` and `publish_record`. The set is not published, or as it was published before.
    """
    started = time.monotonic()
    outcome = materialize_outputs(
        result, source=source, dest=dest, fragment=identity.fragment, on_progress=on_progress, executor=executor
    )
    decision = resolve_status(result, outcome, update_dirty=update_dirty and identity.reingest_of is None)
    if decision.status == "upload_failed":
        return Publication(outcome, decision, None, False)
    known = as_result(result)
    if known.output_directory is None and isinstance(source, SupportsPath):
        # Absolute names in the bundles were found by it; whoever reads the record must find them too.
        known = attrs.evolve(known, output_directory=os.fspath(source.local_path()))
    record = record_of(identity, known, outcome, decision)
    timed = attrs.evolve(record, published_at=datetime.now(UTC), upload_duration=round(time.monotonic() - started, 6))
    return Publication(outcome, decision, timed, publish_record(timed, dest, before_write=before_record))


def record_of(
    identity: ExecutionRecord,
    result: ResultLike,
    outcome: MaterializeOutcome,
    decision: StatusDecision,
) -> ExecutionRecord:
    """Return the record of a set, without the times of its publication."""
    return attrs.evolve(
        identity,
        result=as_result(result),
        state=state_of(decision.status, decision.failure),
        status=decision.status,
        failure=decision.failure,
        dirty=decision.dirty,
        reason=decision.reason,
        artifacts=outcome.artifacts,
        missing=outcome.artifacts_missing,
        rejected=outcome.artifacts_rejected,
        unreadable=tuple(each.key for each in outcome.artifacts_unreadable),
        stale=outcome.stale,
        warnings=outcome.warnings,
    )
