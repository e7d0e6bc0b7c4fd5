"""What surrounds commits: recovering, repeating, and cleaning up."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from emdstore import system
from emdstore.catalog import ExecutionRow
from emdstore.emds import RECORD_NAME
from emdstore.errors import EmdstoreError, ExecutionNotFoundError, RecordError, UnsafePathError
from emdstore.executions.execution import list_executions, start_execution
from emdstore.executions.inputs import ARRIVING
from emdstore.executions.lease import Lease
from emdstore.executions.locations import Locations
from emdstore.executions.process import run_lives
from emdstore.executions.report import UploadReport
from emdstore.executions.scratch import executions_in, read_scratch_record, remove_scratch, write_scratch_record
from emdstore.executions.transitions import NOT_SHIPPED
from emdstore.ingestion.reading import read_set
from emdstore.keys import STAGING_PREFIX, is_staging
from emdstore.sets.record import ExecutionRecord, find_stale, publish_record, read_record
from emdstore.sets.result import LOG_NAME, ExecutionResult
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.port import ArtifactStore, SupportsDelete
from emdstore.stores.views import scoped
from emdstore.transfers import move

_LEFTOVER_AGE = timedelta(hours=1)


@attrs.frozen
class Removal:
    """Something that was removed, or would be.

    Attributes
    ----------
    what
        ``scratch``: an execution's folder; ``orphan``: the folder of a start that was cut off, which the catalog does
        not know; ``leftover``: a staging file, a half-removed folder, an input that never arrived; ``stale``: a file in
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
    locations: Locations,
    *,
    status: str | Collection[str] = ("uploaded", "failed", "aborted"),
    older_than: timedelta = timedelta(0),
    force: bool = False,
    stale: bool = False,
    dry_run: bool = False,
) -> GcReport:
    """Remove from scratch what is not needed any more, with what was left behind by whatever was killed.

    Leftovers are staging files, half-removed folders, inputs that never arrived, and folders of starts that were
    cut off, which the catalog does not know.

    Parameters
    ----------
    locations
        The workspace.
    status
        Executions in these states. The default are those of which nothing more is expected from scratch.
    older_than
        Only if nothing has happened to them for so long; also the age of leftovers, but at least an hour.
    force
        Also what was not shipped: scratch may hold the only copy. Running executions are refused all the same.
    stale
        Also files in the results store that lie in a set's folder and are not part of it any more.
    dry_run
        Only tell what would be removed.

    Returns
    -------
    GcReport
        What was removed, what was refused, and why.
    """
    locations.bind()
    now = system.current().now()
    age = max(older_than, _LEFTOVER_AGE)
    removed: list[Removal] = []
    refused: dict[str, str] = {}
    due = (row for row in list_executions(locations, status=status) if now - _last_moved(row) >= older_than)
    folders = [("scratch", row.fragment, _refusal(row, force)) for row in due]
    for what, fragment, reason in (*folders, *_orphans(locations, now - age)):
        try:
            folder = locations.scratch.local_path(fragment)
            if not folder.is_dir():
                continue
            if reason is None:
                removal = Removal(what, fragment, *_measure(folder))
                if not dry_run:
                    remove_scratch(locations.scratch, fragment)
                removed.append(removal)
        except OSError as error:  # the file system's, or ours of a link that leads out of scratch
            reason = f"it could not be removed: {error}"
        if reason is not None:
            refused[fragment] = reason
    for store in (locations.scratch, locations.results):
        if isinstance(store, LocalArtifactStore):
            names = store.remove_staging(older_than=age.total_seconds(), dry_run=dry_run)
            removed += [Removal("leftover", name) for name in names]
    removed += _cut_off(locations.scratch, now - age, dry_run)
    if stale:
        for row in list(list_executions(locations, status=("uploaded", "failed"))):
            try:
                removed += [Removal("stale", f"{row.fragment}/{key}") for key in _stale(locations, row, dry_run)]
            except EmdstoreError as error:
                refused[row.fragment] = f"its stale files stay: {error}"
    return GcReport(tuple(removed), refused, dry_run)


def recover(locations: Locations, *, older_than: timedelta | None = None) -> tuple[str, ...]:
    """Stop runs that nobody works on any more, so that their logs can be committed and they can run again.

    A run that was cut off counts as a failure of the system. One that had recorded its outcome keeps it. Nobody works
    on a run if the process that ran it is gone, and all that its program has started. Runs that scratch knows and the
    catalog does not, as they ran without it, are stopped in scratch.

    Parameters
    ----------
    locations
        The workspace.
    older_than
        Also those that started so long ago of which nothing is known here: what runs on other machines, or in other
        containers, cannot be seen. What is seen to live is left alone.

    Returns
    -------
    tuple of str
        The executions that were stopped.

    Raises
    ------
    StoreError
        If scratch cannot be written to. Those before it were stopped; to call it again goes on from there.
    """
    locations.bind()
    now = system.current().now()
    stopped = []
    for row in list(list_executions(locations, status="running")):
        record = _record_or_none(locations, row.fragment)
        owner, program = (None, None) if record is None else (record.owner, record.program)
        lives = run_lives(owner, program, row.host, row.pid)
        if not _is_cut_off(lives, row.started_at, now, older_than):
            continue
        retryable = True if record is None else _with_outcome(locations, record, now).retryable
        if locations.catalog.transition(
            row.fragment, allowed_from=("running",), to="stopped", stopped_at=now, retryable=retryable
        ):
            stopped.append(row.fragment)
    known = {row.fragment for row in locations.catalog.executions()}
    for fragment in executions_in(locations.scratch):
        record = None if fragment in known else _record_or_none(locations, fragment)
        if record is None or record.fragment != fragment or record.started_at is None or record.result is not None:
            continue
        lives = run_lives(record.owner, record.program, record.host, record.pid)
        if _is_cut_off(lives, record.started_at, now, older_than):
            _with_outcome(locations, record, now)
            stopped.append(fragment)
    return tuple(stopped)


def _record_or_none(locations: Locations, fragment: str) -> ExecutionRecord | None:
    with contextlib.suppress(RecordError, UnsafePathError):  # the commit will say so
        return read_scratch_record(locations.scratch, fragment)
    return None


def _is_cut_off(lives: bool | None, since: datetime | None, now: datetime, older_than: timedelta | None) -> bool:
    if lives is None:
        return older_than is not None and since is not None and now - since > older_than
    return not lives


def _with_outcome(locations: Locations, record: ExecutionRecord, now: datetime) -> ExecutionResult:
    """Return the outcome of a run that nobody works on: the one that it recorded, or else that it was cut off."""
    if record.result is not None:
        return record.result
    directory = str(locations.scratch.local_path(record.fragment))
    result = ExecutionResult(successful=False, retryable=True, output_directory=directory)
    folder = locations.scratch.scope(record.fragment)
    log = folder.read_bytes(LOG_NAME) if folder.exists(LOG_NAME) else b""
    end = f"the run was cut off: process {record.pid} on {record.host} is gone\n".encode()
    if not log.endswith(end):  # by a recovery that was cut off itself
        folder.write_bytes(LOG_NAME, log + end)
    stopped = attrs.evolve(record, stopped_at=now, result=result, owner=None, program=None)
    write_scratch_record(locations.scratch, stopped)
    return result


def reingest(locations: Locations, execution: str) -> UploadReport:
    """Publish and ingest an execution's set again, as a new execution of the same group; the old one is untouched.

    Nothing runs: the new execution takes the published files of the old one. The group's flag stays as it is.

    Parameters
    ----------
    locations
        The workspace.
    execution
        The fragment of a published execution, or its last segment.

    Returns
    -------
    UploadReport
        Of the new execution's commit; its fragment is the only one in it.

    Raises
    ------
    ExecutionNotFoundError
        If there is no such execution, or its set is not published.
    """
    locations.bind()
    fragment = locations.catalog.execution(execution).fragment
    published = scoped(locations.results, fragment)
    old = read_record(published)
    if old is None or old.result is None:
        raise ExecutionNotFoundError(
            f"execution {fragment!r} has no published set to ingest again: commit it first", key=fragment
        )
    new = start_execution(
        locations,
        provider=old.provider,
        diagnostic=old.diagnostic,
        group=old.group,
        selectors=old.selectors,
        dataset_hash=old.dataset_hash,
        description=old.description,
    )
    try:
        record = read_scratch_record(locations.scratch, new.fragment)
        assert record is not None
        write_scratch_record(locations.scratch, attrs.evolve(record, reingest_of=fragment, inputs=old.inputs))
        with new:
            keys = [artifact.key for artifact in old.artifacts if artifact.key != LOG_NAME]
            # What the record does not vouch for any more is refused: a new record would bless the damage.
            digests = {artifact.key: artifact.sha256 for artifact in old.artifacts}
            bring = functools.partial(move, published, locations.scratch.scope(new.fragment), expected=digests)
            bring(keys).raise_for_failures()
            new.stop(old.result)
        # The log is the old run's: nothing ran here.
        bring([LOG_NAME], unchanged="never").raise_for_failures()
    except EmdstoreError as error:
        new.abort(f"{fragment!r} could not be ingested again: {error}")
        raise
    return new.commit_output_assets()


def _refusal(row: ExecutionRow, force: bool) -> str | None:
    if row.status == "running":
        return "it is running; if its process is gone, recover it"
    if row.status == "pending_upload":
        return "it is being committed; if its owner is gone, commit it again"
    if row.status in NOT_SHIPPED and not force:
        return f"it is {row.status} and was not shipped: scratch may hold the only copy; commit it, or force"
    return None


def _last_moved(row: ExecutionRow) -> datetime:
    moments = (row.created_at, row.started_at, row.stopped_at, row.published_at)
    return max((moment for moment in moments if moment is not None), default=datetime.fromtimestamp(0, UTC))


def _measure(folder: Path) -> tuple[int, int]:
    sizes = [path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()]
    return len(sizes), sum(sizes)


def _orphans(locations: Locations, before: datetime) -> Iterator[tuple[str, str, str | None]]:
    """Find executions in scratch that the catalog does not know, and say why they have to stay.

    A start that was cut off leaves a record and nothing else. Anything more may be the only copy of some work: of
    another catalog, or of one that was lost.
    """
    known = {row.fragment for row in locations.catalog.executions()}
    root = os.fspath(locations.scratch.root)
    for path, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not is_staging(name)]
        fragment = os.path.relpath(path, root).replace(os.sep, "/")
        if RECORD_NAME not in names or fragment == ".":
            continue
        only_record = names == [RECORD_NAME] and not folders
        folders.clear()  # what lies below belongs to it
        if fragment in known or datetime.fromtimestamp(os.lstat(path).st_mtime, UTC) > before:
            continue
        yield "orphan", fragment, None if only_record else "the catalog does not know it: remove it by hand"


def _cut_off(scratch: LocalArtifactStore, before: datetime, dry_run: bool) -> Iterator[Removal]:
    """Remove folders whose removal was cut off, and inputs that never arrived."""
    for folder in (*scratch.root.glob(f"{STAGING_PREFIX}trash-*"), *scratch.root.glob(f"{ARRIVING}/*")):
        if folder.lstat().st_mtime <= before.timestamp():
            yield Removal("leftover", folder.relative_to(scratch.root).as_posix(), *_measure(folder))
            if not dry_run:
                shutil.rmtree(folder, ignore_errors=True)


def _stale(locations: Locations, row: ExecutionRow, dry_run: bool) -> tuple[str, ...]:
    """Remove from a published set what its record does not name, and have the record say so."""
    folder = scoped(locations.results, row.fragment)
    if not isinstance(folder, SupportsDelete):
        return ()
    record, keys = _find_stale(folder)
    if dry_run or not keys:
        return keys
    with Lease(locations, row) as lease:  # a commit at the same time brings files that no record names yet
        try:
            record, keys = _find_stale(folder)
            for key in keys:
                folder.delete(key)
            if record is not None:
                publish_record(attrs.evolve(record, stale=()), folder)
            content = read_set(locations.results, row.fragment, vocabulary=locations.vocabulary)
        except BaseException:
            lease.give_back(row.status, row.error)
            raise
        lease.finish(content)
    return keys


def _find_stale(folder: ArtifactStore) -> tuple[ExecutionRecord | None, tuple[str, ...]]:
    record = read_record(folder)
    return record, () if record is None else find_stale(folder, (artifact.key for artifact in record.artifacts))
