"""The handler that Climate-REF calls with the result of an execution."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from climate_ref.models.execution import Execution
from sqlalchemy.exc import SQLAlchemyError

from emdstore.errors import DemotionRefusedError, EmdstoreError, OvertakenError, SameStoreError
from emdstore.ingestion.reading import read_set
from emdstore.integrations.climate_ref.identity import record_of_execution
from emdstore.integrations.climate_ref.rows import RefRows, rows_of
from emdstore.integrations.climate_ref.schema import RefSchema, read_schema
from emdstore.integrations.climate_ref.writing import replace_rows
from emdstore.sets.decision import StatusDecision
from emdstore.sets.events import announce
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.releasing import Released
from emdstore.stores import ArtifactStore, LocalArtifactStore, scoped

if TYPE_CHECKING:
    from climate_ref.config import Config
    from climate_ref.database import Database
    from climate_ref_core.diagnostics import ExecutionResult

_log = logging.getLogger(__name__)

_REASONS = {"system": "system_error", "diagnostic": "diagnostic_error", "result": "result_error"}


def handle_execution_result(
    config: Config,
    database: Database,
    execution: Execution,
    result: ExecutionResult,
    *,
    update_dirty: bool = True,
    results: ArtifactStore | None = None,
    queue_seconds: float | None = None,
    detail: str | None = None,
) -> None:
    """Publish the result of an execution, and load it into Climate-REF's database from what was published.

    This has the signature of Climate-REF's handler. The set goes from scratch to results, whole and verified; the
    record is written last; then the contents of the results store replace the execution's rows in the database. Doing
    it twice is the same as once. If the result is less than what is published already, or somebody else has published
    meanwhile, nothing changes, and the log says so. As with Climate-REF's handler, the session's transaction stays
    open, and whoever began it commits it.

    Parameters
    ----------
    config
        Climate-REF's; ``config.paths`` says where scratch and results are.
    database
        Climate-REF's; its session is used.
    execution
        The row to update.
    result
        What the run said. A bad result is not raised: the execution fails, and the log says why.
    update_dirty
        False leaves the group's flag as it is, for a reingest.
    results
        The results store; by default the folder ``config.paths.results``.
    queue_seconds, detail
        What newer executors also report: how long the execution waited, and why they failed it.

    Raises
    ------
    CatalogVersionError
        If the database has an unknown version. Nothing was changed.
    SameStoreError
        If scratch and results are the same place. Nothing was moved.
    """
    session = database.session
    session.flush()
    schema = read_schema(session.connection())
    _note_resources(execution, result, queue_seconds)
    fragment = execution.output_fragment
    scratch = Path(config.paths.scratch) / fragment
    store = LocalArtifactStore(config.paths.results) if results is None else results
    decision, rows, metric = _published(
        schema, store, fragment, scratch, record_of_execution(session, execution, detail), result, update_dirty
    )
    try:
        replace_rows(session, schema, execution.id, rows)
    except SQLAlchemyError as error:
        decision = _not_loaded(error, update_dirty)
    session.expire(execution, ["outputs", "values"])
    settle(execution, schema, decision, metric, started=scratch.is_dir())
    if decision.status != "uploaded":
        _log.error("%s failed (%s): %s%s", fragment, decision.failure, decision.reason, f"; {detail}" if detail else "")


def settle(
    execution: Execution, schema: RefSchema, decision: StatusDecision, metric: str | None, *, started: bool = True
) -> None:
    """Write a decision into the columns of Climate-REF's execution, and its group's flag."""
    execution.successful = decision.status == "uploaded"
    if execution.successful and metric is not None:
        execution.path = metric
    if schema.has_failure_reasons:
        execution.failure_reason = None if execution.successful else failure_reason(decision, started)
    if decision.dirty is not None:
        execution.execution_group.dirty = decision.dirty


def failure_reason(decision: StatusDecision, started: bool) -> str:
    """Return Climate-REF's word for a failure."""
    if not started:
        return "not_started"
    if decision.status == "upload_failed":
        return "result_error"
    return _REASONS.get(decision.failure or "", "unknown")


def _published(
    schema: RefSchema,
    store: ArtifactStore,
    fragment: str,
    scratch: Path,
    identity: ExecutionRecord,
    result: ExecutionResult,
    update_dirty: bool,
) -> tuple[StatusDecision, RefRows, str | None]:
    """Publish a set and read it back; errors from a bad result become a decision."""
    try:
        decision, warnings = _publish(identity, result, scratch, store, update_dirty)
        for each in warnings:
            _log.warning("%s: %s", fragment, each)
        if decision.status != "uploaded":
            return decision, RefRows(), None
        content = read_set(store, fragment)
        rows = rows_of(content, schema, scoped(store, fragment))
    except SameStoreError:
        raise
    except EmdstoreError as error:
        return _not_loaded(error, update_dirty), RefRows(), None
    except Exception as error:  # noqa: BLE001
        # A result is data from another program: no error in it may end the solve for all others.
        _log.exception("the result of %s could not be handled", fragment)
        return _not_loaded(error, update_dirty), RefRows(), None
    for note in rows.notes:
        if note not in warnings:  # the bundles, when read back, give the same warnings
            _log.warning("%s: %s", fragment, note)
    return decision, rows, next(key for key, role, *_ in content.artifacts if role == "metric")


def _publish(
    identity: ExecutionRecord, result: ExecutionResult, scratch: Path, store: ArtifactStore, update_dirty: bool
) -> tuple[StatusDecision, list[str]]:
    """Publish a set. The published one counts if this one is less, a release names it, or somebody else was faster.

    Returns the decision, and remarks for the log.
    """
    try:
        done = publish_set(
            identity,
            result,
            source=LocalArtifactStore(scratch),
            dest=scoped(store, identity.fragment),
            update_dirty=update_dirty,
            before_replacing=partial(Released(store).refuse, identity.fragment),
        )
    except (DemotionRefusedError, OvertakenError) as error:
        _log.error("%s", error)
        return StatusDecision("uploaded", None, None, "it stays as it was published"), []
    announce(store, done.events())
    return done.decision, [warning.message for warning in done.outcome.warnings]


def _not_loaded(error: Exception, update_dirty: bool) -> StatusDecision:
    return StatusDecision("failed", "result", True if update_dirty else None, f"could not be loaded: {error}")


def _note_resources(execution: Execution, result: ExecutionResult, queue_seconds: float | None) -> None:
    """Store what Climate-REF's worker measured, in versions that have columns for it."""
    apply = getattr(execution, "apply_resource_usage", None)
    if apply is None:
        return
    try:
        apply(getattr(result, "resource_usage", None), queue_seconds=queue_seconds)
    except Exception:  # noqa: BLE001 - numbers about a run must not cost its result
        _log.warning("what was measured of %s cannot be stored", execution.output_fragment, exc_info=True)
