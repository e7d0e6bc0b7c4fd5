"""What surrounds commits: recovering, repeating, and cleaning up."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from emdstore.catalog import ExecutionRow
from emdstore.errors import EmdstoreError, ExecutionNotFoundError, RecordError
from emdstore.keys import STAGING_PREFIX
from emdstore.lifecycle.commit import UploadReport, read_scratch_record, remove_scratch, write_scratch_record
from emdstore.lifecycle.process import is_runner_gone
from emdstore.lifecycle.record import find_stale, publish_record, read_record
from emdstore.lifecycle.result import LOG_NAME, ExecutionResult
from emdstore.lifecycle.states import NOT_SHIPPED
from emdstore.stores.local import LocalStore
from emdstore.stores.port import SupportsDelete
from emdstore.stores.views import scoped
from emdstore.transfer import transfer

if TYPE_CHECKING:
    from emdstore.lifecycle.workspace import Workspace

_LEFTOVER_AGE = timedelta(hours=1)


@attrs.frozen
class Removal:
    """Something that was removed, or would be.

    Attributes
    ----------
    what
        ``scratch``: an execution's folder; ``leftover``: a staging file or a half-removed folder; ``stale``: a file in
        the results store that is not part of its set any more.
    name
        The fragment, or the path.
    files, bytes
        How much.
    """

    what: str
    name: str
    files: int = 1
    bytes: int = 0


@attrs.frozen
class GcReport:
    """What `Workspace.gc_executions` removed, or would.

    Attributes
    ----------
    removed
        What is gone.
    refused
        What was kept, with the reason.
    dry_run
        Whether nothing was removed.
    """

    removed: tuple[Removal, ...]
    refused: dict[str, str]
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "dry_run": self.dry_run,
            "removed": [attrs.asdict(each) for each in self.removed],
            "refused": self.refused,
            "bytes": sum(each.bytes for each in self.removed),
        }


def gc_executions(
    workspace: Workspace,
    states: Collection[str],
    older_than: timedelta,
    *,
    force: bool,
    stale: bool,
    dry_run: bool,
) -> GcReport:
    """Clean up; see `Workspace.gc_executions`."""
    workspace.bind()
    now = datetime.now(UTC)
    removed: list[Removal] = []
    refused: dict[str, str] = {}
    for row in workspace.list_executions(status=states):
        folder = workspace.scratch.local_path(row.fragment)
        if not folder.is_dir() or now - _last_moved(row) < older_than:
            continue
        reason = _refusal(row, force)
        if reason is not None:
            refused[row.fragment] = reason
            continue
        removed.append(Removal("scratch", row.fragment, *_measure(folder)))
        if not dry_run:
            remove_scratch(workspace.scratch, row.fragment)
    age = max(older_than, _LEFTOVER_AGE).total_seconds()
    stores = [store for store in (workspace.scratch, workspace.results) if isinstance(store, LocalStore)]
    for store in stores:
        removed += [Removal("leftover", name) for name in store.remove_staging(older_than=age, dry_run=dry_run)]
    removed += _trash(workspace.scratch, now.timestamp() - age, dry_run)
    if stale:
        removed += _stale(workspace, dry_run)
    return GcReport(tuple(removed), refused, dry_run)


def recover(workspace: Workspace, older_than: timedelta | None) -> tuple[str, ...]:
    """Stop runs whose process is gone; see `Workspace.recover`."""
    workspace.bind()
    now = datetime.now(UTC)
    stopped = []
    for row in list(workspace.list_executions(status="running")):
        old = older_than is not None and row.started_at is not None and now - row.started_at > older_than
        if not old and not is_runner_gone(row.host, row.pid, row.started_at):
            continue
        with contextlib.suppress(EmdstoreError):  # no scratch, or a record that cannot be read: the commit will say so
            _record_cut_off(workspace, row, now)
        if workspace.catalog.transition(
            row.fragment, allowed_from=("running",), to="stopped", stopped_at=now, retryable=True
        ):
            stopped.append(row.fragment)
    return tuple(stopped)


def _record_cut_off(workspace: Workspace, row: ExecutionRow, now: datetime) -> None:
    record = read_scratch_record(workspace.scratch, row.fragment)
    if record is None or record.result is not None:
        return
    folder = workspace.scratch.scope(row.fragment)
    log = folder.read_bytes(LOG_NAME) if folder.exists(LOG_NAME) else b""
    folder.write_bytes(LOG_NAME, log + f"the run was cut off: process {row.pid} on {row.host} is gone\n".encode())
    directory = str(workspace.scratch.local_path(row.fragment))
    result = ExecutionResult(successful=False, retryable=True, output_directory=directory)
    write_scratch_record(workspace.scratch, attrs.evolve(record, stopped_at=now, result=result))


def reingest(workspace: Workspace, execution: str) -> UploadReport:
    """Publish a set again under a new execution; see `Workspace.reingest`."""
    workspace.bind()
    fragment = workspace.catalog.execution(execution).fragment
    published = scoped(workspace.results, fragment)
    old = read_record(published)
    if old is None or old.result is None:
        raise ExecutionNotFoundError(
            f"execution {fragment!r} has no published set to ingest again: commit it first", key=fragment
        )
    new = workspace.start_execution(
        provider=old.provider,
        diagnostic=old.diagnostic,
        group=old.group,
        selectors=old.selectors,
        dataset_hash=old.dataset_hash,
        description=old.description,
    )
    new._amend(reingest_of=fragment, inputs=old.inputs)
    with new:
        keys = [artifact.key for artifact in old.artifacts if artifact.key != LOG_NAME]
        transfer(published, workspace.scratch.scope(new.fragment), keys).raise_for_failures()
        new.stop(old.result)
    # The log is the old run's: nothing ran here.
    transfer(published, workspace.scratch.scope(new.fragment), [LOG_NAME], unchanged="never").raise_for_failures()
    return new.commit_output_assets()


def _refusal(row: ExecutionRow, force: bool) -> str | None:
    if row.status in ("running", "pending_upload"):
        return f"it is {row.status}"
    if row.status in NOT_SHIPPED and not force:
        return f"it is {row.status} and was not shipped: scratch may hold the only copy; commit it, or force"
    return None


def _last_moved(row: ExecutionRow) -> datetime:
    moments = (row.created_at, row.started_at, row.stopped_at, row.published_at)
    return max((moment for moment in moments if moment is not None), default=datetime.fromtimestamp(0, UTC))


def _measure(folder: Path) -> tuple[int, int]:
    sizes = [path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()]
    return len(sizes), sum(sizes)


def _trash(scratch: LocalStore, before: float, dry_run: bool) -> Iterator[Removal]:
    """Remove folders whose removal was cut off."""
    for folder in scratch.root.glob(f"{STAGING_PREFIX}trash-*"):
        if folder.lstat().st_mtime <= before:
            yield Removal("leftover", folder.name, *_measure(folder))
            if not dry_run:
                shutil.rmtree(folder)


def _stale(workspace: Workspace, dry_run: bool) -> Iterator[Removal]:
    """Remove from published sets what their records do not name, and have the records say so."""
    for row in workspace.list_executions(status=("uploaded", "failed")):
        folder = scoped(workspace.results, row.fragment)
        try:
            record = read_record(folder)
        except RecordError:
            continue
        if record is None or not isinstance(folder, SupportsDelete):
            continue
        keys = find_stale(folder, (artifact.key for artifact in record.artifacts))
        for key in keys:
            yield Removal("stale", f"{row.fragment}/{key}")
            if not dry_run:
                folder.delete(key)
        if keys and not dry_run:
            publish_record(attrs.evolve(record, stale=()), folder)
