"""Bytes, decision, record: publishing a set, with or without a catalog."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from concurrent.futures import Executor

import attrs

from emdstore import system
from emdstore.emds import RECORD_NAME
from emdstore.errors import OvertakenError, StoreError
from emdstore.sets.decision import StatusDecision, resolve_status
from emdstore.sets.events import Event, make_event
from emdstore.sets.materialize import promote_set
from emdstore.sets.outcome import MaterializeOutcome
from emdstore.sets.record import ExecutionRecord, encode_record, put_record, says_the_same, state_of
from emdstore.sets.result import ResultLike, as_result
from emdstore.sets.seal import Standing, ask_to_replace, opened, read_back, refuse_demotion
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.transfers import ProgressCallback, Unchanged, move_in_order
from emdstore.transfers.seals import ATTEMPTS, overtaken, write_seal

_TOLD_OF_THE_RUN = (
    "selectors",
    "dataset_hash",
    "description",
    "created_at",
    "started_at",
    "stopped_at",
    "host",
    "pid",
    "reingest_of",
    "inputs",
    "datasets",
    "provider_version",
    "diagnostic_version",
    "software",
    "resources",
    "extra",
)


@attrs.frozen
class Publication:
    """What `publish_set` did.

    Attributes
    ----------
    outcome, decision
        What arrived, and the decision.
    record
        The record; None if something could not be shipped, so that nothing was published.
    record_written
        False if the same record was there already.
    """

    outcome: MaterializeOutcome
    decision: StatusDecision
    record: ExecutionRecord | None
    record_written: bool

    def events(self) -> tuple[Event, ...]:
        """Return the news for the store's log; none if nothing was written."""
        if self.record is None or not self.record_written:
            return ()
        digest = sha256_of(encode_record(self.record))
        return (make_event("published", self.record.fragment, record=digest, generation=self.record.generation),)


def publish_set(
    identity: ExecutionRecord,
    result: ResultLike,
    *,
    source: ArtifactStore,
    dest: ArtifactStore,
    update_dirty: bool = True,
    unchanged: Unchanged = "stat",
    replace: bool = False,
    on_progress: ProgressCallback | None = None,
    before_record: Callable[[], object] | None = None,
    before_replacing: Callable[[str], object] | None = None,
    executor: Executor | None = None,
    taken_over: bool = False,
) -> Publication:
    """Promote an execution's set, decide its status, and write its record, last.

    At every instant the set is either one whole publication or visibly incomplete: it is opened before its first byte
    changes, and the final record comes when everything that it names has arrived. The record's digests are of bytes
    that were read from the source now, or earlier if the file has not changed since: see `emdstore.sets.digests`.

    Parameters
    ----------
    identity
        The execution's identity; the rest of the record is filled in. Its `generation` is that of the claim. With 0,
        for no claim, the new record gets the generation after that of the record that it replaces.
    result
        What the run says of itself.
    source, dest
        The execution's folder in the scratch store and in the results store, as scoped stores.
    update_dirty
        See `resolve_status`; False for a reingest.
    unchanged, replace
        See `materialize_outputs`.
    on_progress, executor
        See `transfer`.
    before_record
        Called right before each write of the record, including the one that opens the set. If it raises, the
        publication stops there.
    before_replacing
        Called with the SHA-256 of the record before a complete publication changes. If it raises, the publication
        stays.
    taken_over
        Whether another writer, who may be halted and continue, had begun. As with a set that was found open, what was
        published is then read again, and shipped again if it is not what was sent.

    Returns
    -------
    Publication
        Without a record if the decision is ``upload_failed``. Then the set is open (``publishing``), and the next call
        continues.

    Raises
    ------
    SameStoreError, DemotionRefusedError, RecordVersionError, StoreError
        See `materialize_outputs` and `publish_record`. The set is as it was published before, or open.
    OvertakenError
        If somebody else has written the set's record since it was read. Theirs stays.
    """
    ship = functools.partial(
        _publish,
        identity,
        result,
        source=source,
        dest=dest,
        update_dirty=update_dirty,
        replace=replace,
        on_progress=on_progress,
        before_record=before_record,
        before_replacing=before_replacing,
        executor=executor,
    )
    publication, was_open = ship(unchanged=unchanged)
    attempts = ATTEMPTS
    while (was_open or taken_over) and publication.record_written and _is_overwritten(dest, publication.record):
        attempts -= 1
        if not attempts:
            raise overtaken(identity.fragment, dest)
        publication, _ = ship(unchanged="never")
    return publication


def _is_overwritten(dest: ArtifactStore, record: ExecutionRecord | None) -> bool:
    """Tell whether a set that was just published differs from its record."""
    for each in () if record is None else move_in_order(dest, dest, read_back(record)):
        if each.error is not None:
            raise each.error
        if each.outcome == "copied":  # or would be: it differs
            return True
    return False


def _publish(
    identity: ExecutionRecord,
    result: ResultLike,
    *,
    source: ArtifactStore,
    dest: ArtifactStore,
    update_dirty: bool,
    unchanged: Unchanged,
    replace: bool,
    on_progress: ProgressCallback | None,
    before_record: Callable[[], object] | None,
    before_replacing: Callable[[str], object] | None,
    executor: Executor | None,
) -> tuple[Publication, bool]:
    """Publish a set, and tell whether it was open before."""
    started = system.current().monotonic()
    outcome, standing, generation = promote_set(
        result,
        source=source,
        dest=dest,
        identity=identity,
        fragment=identity.fragment,
        unchanged=unchanged,
        replace=replace,
        on_progress=on_progress,
        before_write=before_record,
        before_replacing=before_replacing,
        executor=executor,
    )
    identity = attrs.evolve(identity, generation=generation)
    decision = resolve_status(result, outcome, update_dirty=update_dirty and identity.reingest_of is None)
    if decision.status == "upload_failed":
        _leave_open(identity, dest, standing, outcome, decision, before_record)
        return Publication(outcome, decision, None, False), standing.was_open
    known = as_result(result)
    if known.output_directory is None and isinstance(source, SupportsPath):
        # It resolved absolute names in the bundles, and whoever reads the record must be able to do the same.
        known = attrs.evolve(known, output_directory=os.fspath(source.local_path()))
    record = attrs.evolve(
        _no_less(record_of(identity, known, outcome, decision), standing.record),
        replaces=_replaced(standing),
        superseded=_superseded(standing, outcome),
        published_at=system.current().now(),
        upload_duration=round(system.current().monotonic() - started, 6),
    )
    if not replace and standing.is_publication and record.state != "published":
        # What was planned was complete, and something of it went while the rest was shipped.
        refuse_demotion(standing, identity.fragment, _lacks(outcome))
    if standing.record is not None and says_the_same(standing.record, record):
        return Publication(outcome, decision, record, False), standing.was_open
    ask_to_replace(standing, before_replacing)
    written = put_record(record, dest, standing.digest, before_write=before_record)
    return Publication(outcome, decision, record, written), standing.was_open


def _lacks(outcome: MaterializeOutcome) -> list[str]:
    """Return what a set lacks after it was shipped, for people."""
    lacks = [f"missing: {key}" for key in outcome.artifacts_missing]
    lacks += [f"rejected: {name}" for name in outcome.artifacts_rejected]
    return lacks + [f"unreadable: {each.key}" for each in outcome.artifacts_unreadable]


def _no_less(record: ExecutionRecord, before: ExecutionRecord | None) -> ExecutionRecord:
    """Let a record of the same bytes tell no less of the run than the one before.

    Whoever promotes a folder again may know nothing but the folder.
    """
    if before is None or before.is_open or before.artifacts != record.artifacts:
        return record
    untold = (name for name in _TOLD_OF_THE_RUN if not getattr(record, name))
    return attrs.evolve(record, **{name: getattr(before, name) for name in untold})


def _superseded(standing: Standing, outcome: MaterializeOutcome) -> tuple[str, ...]:
    """Return what is here and was published by an earlier record, but is not any more."""
    before = standing.record
    if before is None:
        return ()
    named = {each.key for each in before.artifacts}.union(before.superseded)
    return tuple(key for key in outcome.stale if key in named)


def _replaced(standing: Standing) -> str | None:
    """Return the SHA-256 of the final record that a final one replaces, regardless of open records in between."""
    if standing.record is not None and standing.record.is_open:
        return standing.record.replaces
    return standing.digest


def _leave_open(
    identity: ExecutionRecord,
    dest: ArtifactStore,
    standing: Standing,
    outcome: MaterializeOutcome,
    decision: StatusDecision,
    before_record: Callable[[], object] | None,
) -> None:
    """If a set did not arrive and there is no record, write one that says so, so that a half-shipped folder explains
    itself.

    A full disk may refuse this, too. What could not be shipped is reported anyway.
    """
    if standing.data is not None or standing.is_bare:  # of which no byte was changed
        return
    failed = (each.key for each in outcome.artifacts_failed)
    planned = [*(each.key for each in outcome.artifacts), *failed, *outcome.artifacts_held_back]
    record = attrs.evolve(opened(standing, identity, planned), reason=decision.reason)
    with contextlib.suppress(StoreError, OvertakenError):
        if before_record is not None:
            before_record()
        write_seal(dest, RECORD_NAME, encode_record(record), None, folder=identity.fragment)


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
        cause=outcome.cause,
        artifacts=outcome.artifacts,
        missing=outcome.artifacts_missing,
        rejected=outcome.artifacts_rejected,
        unreadable=tuple(each.key for each in outcome.artifacts_unreadable),
        stale=outcome.stale,
        warnings=outcome.warnings,
    )
