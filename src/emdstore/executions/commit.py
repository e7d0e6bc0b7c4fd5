"""The only way to ship an execution: claim, freeze, bytes, record, rows, clean up.

All commits go through `commit_execution`: the library call, a resumed execution, the batch and the command line. If it
is killed between any two steps, another run reaches the same end.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from functools import partial

import attrs

from emdstore import system
from emdstore.catalog import ExecutionRow
from emdstore.emds import RECORD_NAME, remembering
from emdstore.errors import (
    ArtifactNotFoundError,
    ClaimHeldError,
    ClaimLostError,
    DemotionRefusedError,
    EmdstoreError,
    IncompleteSetError,
    InvalidTransitionError,
    OvertakenError,
    SourceChangedError,
    UploadFailedError,
)
from emdstore.executions.lease import COMMITTABLE, Lease
from emdstore.executions.locations import Locations
from emdstore.executions.removal import published_status, remove_proved
from emdstore.executions.scratch import has_scratch_record, read_stopped_record, scratch_is_gone
from emdstore.executions.upload_report import RoleCounts, UploadReport
from emdstore.ingestion.reading import read_set
from emdstore.sets.events import make_event
from emdstore.sets.outcome import MaterializeOutcome
from emdstore.sets.publish import Publication, publish_set
from emdstore.sets.record import read_record
from emdstore.sets.releasing import Released
from emdstore.sets.result import LOG_NAME, ExecutionResult
from emdstore.sets.state import look_at_set
from emdstore.stores.checksums import sha256_of
from emdstore.stores.views import scoped
from emdstore.telemetry import operation
from emdstore.transfers import ProgressCallback, Unchanged

_log = logging.getLogger(__name__)

_SHIPPED = frozenset({"uploaded", "failed"})


@attrs.frozen(kw_only=True)
class Shipping:
    """The options of shipping an execution.

    Attributes
    ----------
    clean_folder
        Whether to remove the scratch folder when everything is proved to be published.
    unnamed
        Whether to remove it even if it contains files that no bundle names.
    unchanged, replace
        See `publish_set`.
    executor, on_progress
        See `transfer`.
    """

    clean_folder: bool = False
    unnamed: bool = False
    unchanged: Unchanged = "stat"
    replace: bool = False
    executor: Executor | None = None
    on_progress: ProgressCallback | None = None


def commit_execution(
    locations: Locations, fragment: str, shipping: Shipping, *, states: Collection[str] = COMMITTABLE
) -> UploadReport:
    """Ship one execution from one of some states; called by `Execution.commit_output_assets`, which describes it."""
    with operation("commit", fragment=fragment) as doing:
        report = _commit(locations, fragment, shipping, states)
        doing.note(status=report.statuses.get(fragment, ""))
        doing.count("bytes", report.bytes)
        for outcome, number in (("copied", report.uploaded), ("unchanged", report.unchanged)):
            doing.count("artifacts", number, outcome=outcome)
        return report


def _commit(locations: Locations, fragment: str, shipping: Shipping, states: Collection[str]) -> UploadReport:
    started = system.current().monotonic()
    locations.bind()
    before = locations.catalog.execution(fragment)
    if before.status in _SHIPPED.intersection(states) and not has_scratch_record(locations.scratch, fragment):
        # Shipped and cleaned up since; the catalog cannot be sure of that.
        return UploadReport(statuses={fragment: published_status(locations, fragment)})
    try:
        report = _ship(locations, before, shipping, states)
    except (ClaimLostError, OvertakenError):
        _have_it_shipped_again(locations, fragment)
        raise
    is_there = shipping.clean_folder and has_scratch_record(locations.scratch, fragment)
    kept = _clean_up(locations, fragment, shipping) if is_there else {}
    return attrs.evolve(report, seconds=system.current().monotonic() - started, kept=kept)


def _ship(locations: Locations, before: ExecutionRow, shipping: Shipping, states: Collection[str]) -> UploadReport:
    """Ship an execution under a claim of its own."""
    fragment = before.fragment
    with Lease(locations, before, states) as lease, remembering():  # what is shipped is read back
        try:
            locations.bind(publishing=True)
            publish = functools.partial(
                publish_stopped,
                locations,
                fragment,
                generation=lease.generation,
                before_record=lease.check,
                taken_over=before.status == "pending_upload",
            )
            publication, report = publish(shipping)
        except ArtifactNotFoundError:
            if (status := _shipped_meanwhile(locations, fragment)) is None:
                raise
            lease.give_back(status)
            return UploadReport(statuses={fragment: status})
        except DemotionRefusedError as error:
            # If nothing was changed, the status stays. The set may be open, since a commit was killed or since scratch
            # lost a file of what this one ships.
            stays = before.status != "pending_upload" and not _is_open(locations, fragment)
            lease.give_back(*((before.status, before.error) if stays else ("upload_failed", str(error))))
            raise
        if publication.record_written or before.record_digest != published_digest(locations, fragment):
            try:
                content = read_set(locations.results, fragment, vocabulary=locations.vocabulary)
            except IncompleteSetError:
                # Late bytes of another writer have the time of the record, and so were taken for the recorded ones.
                publication, report = publish(attrs.evolve(shipping, unchanged="never"))
                content = read_set(locations.results, fragment, vocabulary=locations.vocabulary)
            lease.finish(content)
            told = make_event("published", fragment, record=content.record_digest, generation=content.generation)
            report = attrs.evolve(report, events=(told,))
        else:
            lease.give_back(publication.decision.status)  # the catalog already has these rows
    return report


def _is_open(locations: Locations, fragment: str) -> bool:
    """Tell whether a set is open, or may be because it cannot be read."""
    with contextlib.suppress(EmdstoreError):
        record = read_record(scoped(locations.results, fragment))
        return record is not None and record.is_open
    return True


def _have_it_shipped_again(locations: Locations, fragment: str) -> None:
    """Look whether this commit, which came too late, has damaged what somebody else has published.

    Its last bytes may have landed after that. If scratch still has the run, the status says ``stopped`` again, so that
    the next commit ships it.
    """
    with contextlib.suppress(EmdstoreError):
        row = locations.catalog.execution(fragment)
        if row.status != "uploaded" or not has_scratch_record(locations.scratch, fragment):
            return
        with Lease(locations, row, ("uploaded",), to="uploaded") as lease:
            look = look_at_set(locations.results, fragment, bundles=False, every_digest=True)
            if look.state != "changed":
                lease.give_back("uploaded", row.error)
                return
            lease.give_back("stopped", str(look.error))
        _log.warning("a commit that came too late has damaged %r: it is called stopped again, commit it", fragment)


def _clean_up(locations: Locations, fragment: str, shipping: Shipping) -> dict[str, str]:
    """Remove the folder of a shipped execution, or return why it stays."""
    row = locations.catalog.execution(fragment)
    try:
        with Lease(locations, row, (row.status,), to=row.status) as lease:
            reason = remove_proved(locations, fragment, unnamed=shipping.unnamed, before_removal=lease.check)
            lease.give_back(row.status, row.error)
    except (ClaimHeldError, InvalidTransitionError, SourceChangedError) as error:
        reason = str(error)
    return {} if reason is None else {fragment: reason}


def publish_stopped(
    locations: Locations,
    fragment: str,
    shipping: Shipping,
    *,
    generation: int = 0,
    before_record: Callable[[], object] = lambda: None,
    taken_over: bool = False,
) -> tuple[Publication, UploadReport]:
    """Ship the bytes of a stopped execution, then its record: the steps of a commit that need no catalog.

    Parameters
    ----------
    locations
        The workspace.
    fragment
        The execution.
    shipping
        The options.
    generation
        The generation of the claim; 0 without one.
    before_record, taken_over
        See `publish_set`.

    Raises
    ------
    ArtifactNotFoundError, RecordError
        If its folder is gone from scratch, even during the commit, or its record has no outcome.
    UploadFailedError
        If something could not be shipped. Nothing was published.
    """
    started = system.current().monotonic()

    def permit_record() -> None:
        # The folder is removed as a whole: if its record is there, nothing is gone.
        if not has_scratch_record(locations.scratch, fragment):
            raise scratch_is_gone(locations.scratch, fragment)
        before_record()

    identity = attrs.evolve(
        read_stopped_record(locations.scratch, fragment), owner=None, program=None, generation=generation
    )
    assert identity.result is not None
    publication = publish_set(
        identity,
        identity.result,
        source=scoped(locations.scratch, fragment),
        dest=scoped(locations.results, fragment),
        unchanged=shipping.unchanged,
        replace=shipping.replace,
        on_progress=shipping.on_progress,
        before_record=permit_record,
        before_replacing=None if shipping.replace else partial(Released(locations.results).refuse, fragment),
        executor=shipping.executor,
        taken_over=taken_over,
    )
    report = _report(fragment, identity.result, publication, system.current().monotonic() - started)
    if publication.record is None:
        problem = publication.outcome.artifacts_failed[0]
        raise UploadFailedError(
            f"{fragment!r} {publication.decision.reason}: {problem.error}; commit it again",
            report=report,
            key=problem.key,
        ) from problem.error
    return publication, report


def _shipped_meanwhile(locations: Locations, fragment: str) -> str | None:
    """Return the status of an execution that somebody else has shipped and cleaned up."""
    if has_scratch_record(locations.scratch, fragment) or not scoped(locations.results, fragment).exists(RECORD_NAME):
        return None
    status = published_status(locations, fragment)
    known = locations.catalog.execution(fragment).record_digest
    return status if published_digest(locations, fragment) == known else None


def published_digest(locations: Locations, fragment: str) -> str:
    """Return the SHA-256 of the published record."""
    return sha256_of(scoped(locations.results, fragment).read_bytes(RECORD_NAME))


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
    return UploadReport(statuses=statuses, roles=roles, bytes=size, seconds=seconds, events=publication.events())
