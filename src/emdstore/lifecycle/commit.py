"""The one way to ship an execution: claim, freeze, bytes, record, rows, clean up.

Everything that commits comes through `commit_execution`: the library call, a resumed execution, the batch and the
command line. Killed between any two of its steps, running it again comes to the same end.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import attrs

from emdstore.catalog import Claim, ExecutionContent, ExecutionRow
from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    CatalogError,
    ClaimHeldError,
    ClaimLostError,
    RecordError,
    StoreError,
    TransferError,
)
from emdstore.keys import STAGING_PREFIX, join_key
from emdstore.lifecycle.materialize import MaterializeOutcome
from emdstore.lifecycle.process import is_gone, new_owner, retire
from emdstore.lifecycle.publish import Publication, publish_set
from emdstore.lifecycle.reading import read_set
from emdstore.lifecycle.record import ExecutionRecord, decode_record, encode_record
from emdstore.lifecycle.result import LOG_NAME, ExecutionResult
from emdstore.lifecycle.states import allowed_from, refuse_transition
from emdstore.stores.local import LocalStore
from emdstore.stores.views import scoped
from emdstore.transfer import ProgressCallback

if TYPE_CHECKING:
    from emdstore.lifecycle.workspace import Workspace

_log = logging.getLogger(__name__)

COMMITTABLE = allowed_from("pending_upload")
_SHIPPED = frozenset({"uploaded", "failed"})


@attrs.frozen
class RoleCounts:
    """How many artifacts of one role were uploaded, were there already, and could not be shipped."""

    uploaded: int = 0
    unchanged: int = 0
    failed: int = 0

    def __add__(self, other: RoleCounts) -> RoleCounts:
        return RoleCounts(self.uploaded + other.uploaded, self.unchanged + other.unchanged, self.failed + other.failed)


@attrs.frozen
class UploadError:
    """Why an execution was not committed."""

    fragment: str
    error: Exception = attrs.field(eq=str)


@attrs.frozen(kw_only=True)
class UploadReport:
    """What a commit, or several, did.

    Attributes
    ----------
    statuses
        For each execution that was committed its status now.
    roles
        For each role of artifacts what became of them.
    bytes
        How many were uploaded.
    seconds
        How long it took.
    errors
        The executions that could not be committed.
    skipped
        The executions that somebody else is committing, or has committed since they were listed.
    """

    statuses: Mapping[str, str] = attrs.field(factory=dict)
    roles: Mapping[str, RoleCounts] = attrs.field(factory=dict)
    bytes: int = 0
    seconds: float = 0.0
    errors: tuple[UploadError, ...] = ()
    skipped: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def uploaded(self) -> int:
        """How many artifacts were uploaded."""
        return sum(counts.uploaded for counts in self.roles.values())

    @property
    def unchanged(self) -> int:
        """How many artifacts were there already."""
        return sum(counts.unchanged for counts in self.roles.values())

    @property
    def failed(self) -> int:
        """How many artifacts could not be shipped."""
        return sum(counts.failed for counts in self.roles.values())

    @property
    def ok(self) -> bool:
        """Whether every execution was committed, or is being committed by somebody else."""
        return not self.errors

    @classmethod
    def merged(cls, reports: Iterable[UploadReport], *, seconds: float) -> UploadReport:
        """Return one report of several."""
        statuses: dict[str, str] = {}
        roles: dict[str, RoleCounts] = {}
        errors: list[UploadError] = []
        skipped: dict[str, str] = {}
        size = 0
        for report in reports:
            statuses |= report.statuses
            for role, counts in report.roles.items():
                roles[role] = roles.get(role, RoleCounts()) + counts
            errors += report.errors
            skipped |= report.skipped
            size += report.bytes
        return cls(statuses=statuses, roles=roles, bytes=size, seconds=seconds, errors=tuple(errors), skipped=skipped)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "executions": dict(self.statuses),
            "uploaded": self.uploaded,
            "unchanged": self.unchanged,
            "failed": self.failed,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "roles": {role: attrs.asdict(counts) for role, counts in self.roles.items()},
            "errors": [
                {"fragment": each.fragment, "type": type(each.error).__name__, "error": str(each.error)}
                for each in self.errors
            ],
            "skipped": dict(self.skipped),
        }


class UploadFailedError(TransferError):
    """Artifacts of an execution could not be shipped; those that could are in the results store, whole.

    Attributes
    ----------
    report
        What was shipped and what was not, by role.
    """

    def __init__(self, message: str = "", *, report: UploadReport | None = None, key: str | None = None) -> None:
        super().__init__(message, key=key)
        self.report = UploadReport() if report is None else report


def commit_execution(
    workspace: Workspace,
    fragment: str,
    *,
    clean_folder: bool | None = None,
    progress_callback: ProgressCallback | None = None,
    states: Collection[str] = COMMITTABLE,
) -> UploadReport:
    """Ship one execution from one of some states; see `Execution.commit_output_assets`, which is how it is called."""
    started = time.monotonic()
    workspace.bind()
    before = workspace.catalog.execution(fragment)
    if before.status in _SHIPPED.intersection(states) and not workspace.scratch.scope(fragment).exists(RECORD_NAME):
        return UploadReport(statuses={fragment: before.status})  # shipped, and cleaned up since
    with Lease(workspace, before, states) as lease:

        def permit_record() -> None:
            _stopped_record(workspace.scratch, fragment)  # it goes in one piece: if it is there, nothing went meanwhile
            lease.check()

        try:
            identity = _stopped_record(workspace.scratch, fragment)
            assert identity.result is not None
            publication = publish_set(
                identity,
                identity.result,
                source=scoped(workspace.scratch, fragment),
                dest=scoped(workspace.results, fragment),
                on_progress=progress_callback,
                before_record=permit_record,
            )
        except ArtifactNotFoundError:
            if (status := _shipped_meanwhile(workspace, fragment)) is None:
                raise
            lease.give_back(status)
            return UploadReport(statuses={fragment: status})
        if publication.record is None:
            problem = publication.outcome.artifacts_failed[0]
            raise UploadFailedError(
                f"{fragment!r} {publication.decision.reason}: {problem.error}; commit it again",
                report=_report(fragment, identity.result, publication, time.monotonic() - started),
                key=problem.key,
            ) from problem.error
        if publication.record_written or before.record_digest != _published_digest(workspace, fragment):
            lease.finish(read_set(workspace.results, fragment, vocabulary=workspace.vocabulary))
        else:
            lease.give_back(publication.decision.status)  # the catalog has these very rows
    if workspace.clean_folder if clean_folder is None else clean_folder:
        remove_scratch(workspace.scratch, fragment)
    return _report(fragment, identity.result, publication, time.monotonic() - started)


class Lease:
    """The claim of one commit: taken at its start, renewed while it lasts, and given back at its end, however it ends.

    Parameters
    ----------
    workspace
        Where the execution is.
    row
        The execution, as the catalog knows it.
    states
        Those from which it may be claimed.
    """

    def __init__(self, workspace: Workspace, row: ExecutionRow, states: Collection[str] = COMMITTABLE) -> None:
        self._catalog, self._seconds = workspace.catalog, workspace.lease_seconds
        self._row, self._states = row, states
        self._claim: Claim | None = None
        self._over = threading.Event()

    def __enter__(self) -> Self:
        """Claim the execution.

        Raises
        ------
        ClaimHeldError
            If another owner holds it, with its name.
        InvalidTransitionError
            If an execution in its state cannot be committed.
        """
        self._owner = new_owner()
        try:
            self._claim = self._take()
            threading.Thread(target=self._keep, name="emdstore-lease", daemon=True).start()
        except BaseException:  # also Ctrl-C when the catalog has noted the claim already
            retire(self._owner)
            raise
        return self

    def _take(self) -> Claim:
        fragment = self._row.fragment
        claimed = self._catalog.claim(
            fragment,
            owner=self._owner,
            lease_seconds=self._seconds,
            allowed_from=self._states,
            dead_owner=self._row.owner if is_gone(self._row.owner) else None,
        )
        if isinstance(claimed, Claim):
            return claimed
        if claimed.owner is not None and claimed.status == "pending_upload":
            raise ClaimHeldError(
                f"execution {fragment!r} is being committed by {claimed.owner}, whose claim holds until "
                f"{claimed.expires:%Y-%m-%d %H:%M:%S %Z} and is renewed while it lives",
                key=fragment,
            )
        raise refuse_transition(fragment, claimed.status, "pending_upload")

    def check(self) -> None:
        """Make sure that the claim is still ours, and renew it; `ClaimLostError` if it is not."""
        assert self._claim is not None
        self._claim = self._catalog.renew(self._claim, lease_seconds=self._seconds)

    def finish(self, content: ExecutionContent) -> None:
        """Write the rows and the status, and give the claim back, in one transaction that the claim must outlive."""
        self._catalog.replace_execution(content, claim=self._claim)
        self._claim = None

    def give_back(self, status: str, error: str | None = None) -> None:
        """Give the claim back without rows."""
        assert self._claim is not None
        claim, self._claim = self._claim, None
        self._catalog.release(claim, to=status, error=error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        try:
            if self._claim is not None and error is not None:
                # Where the catalog cannot be told, the lease runs out by itself; the error that led here matters more.
                with contextlib.suppress(CatalogError):
                    self.give_back("upload_failed", str(error) or type(error).__name__)
        finally:
            retire(self._owner)

    def _keep(self) -> None:
        while not self._over.wait(self._seconds / 3):
            claim = self._claim
            if claim is None:
                return
            try:
                self._catalog.renew(claim, lease_seconds=self._seconds)
            except ClaimLostError:
                return  # the next step of the commit will find out and stop
            except CatalogError:
                _log.warning("the claim of %s could not be renewed; trying again", claim.fragment)


def _stopped_record(scratch: LocalStore, fragment: str) -> ExecutionRecord:
    record = read_scratch_record(scratch, fragment)
    if record is None:
        raise ArtifactNotFoundError(
            f"the scratch folder of execution {fragment!r} is gone from {scratch!r}: put it back and commit again, or "
            "abort the execution",
            key=fragment,
            store=repr(scratch),
        )
    if record.result is None:
        raise RecordError(
            f"the record of {fragment!r} in {scratch!r} has no outcome, though the execution was stopped: the file was "
            "changed; stop a new run instead",
            key=fragment,
        )
    return record


def read_scratch_record(scratch: LocalStore, fragment: str) -> ExecutionRecord | None:
    """Return what scratch knows of an execution; None if its folder or its record is gone."""
    key = join_key(fragment, RECORD_NAME)
    try:
        return decode_record(scratch.read_bytes(key), name=key)
    except ArtifactNotFoundError:
        return None


def write_scratch_record(scratch: LocalStore, record: ExecutionRecord) -> None:
    """Keep in scratch what is known of an execution."""
    scratch.scope(record.fragment).write_bytes(RECORD_NAME, encode_record(record))


def remove_scratch(scratch: LocalStore, fragment: str) -> None:
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
        pass
    except OSError as error:
        raise StoreError(
            f"the scratch folder of {fragment!r} could not be removed, all else is done: {error}; "
            "`emdstore gc` removes it later",
            key=fragment,
            store=repr(scratch),
        ) from error
    scratch._prune(os.path.dirname(fragment))


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
