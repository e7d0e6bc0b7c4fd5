"""Cleaning up: removing what is proved to be published, and what nobody will use any more."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import attrs

from emdstore import system
from emdstore.catalog import ExecutionRow
from emdstore.catalog.choosing import takes_execution
from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactRetainedError, EmdstoreError
from emdstore.executions.commit import published_digest
from emdstore.executions.inputs import arriving
from emdstore.executions.lease import Lease
from emdstore.executions.locations import Locations
from emdstore.executions.process import is_gone, is_made_by_the_living, run_lives
from emdstore.executions.removal import (
    Proof,
    doubt_of_program,
    look_before_removal,
    published_status,
    remove_looked_at,
    remove_shipped,
)
from emdstore.executions.scratch import executions_in, readable_scratch_record, size_in_scratch
from emdstore.executions.starting import list_executions
from emdstore.executions.transitions import NOT_SHIPPED
from emdstore.ingestion.reading import read_set
from emdstore.keys import join_key
from emdstore.selection import ALL, Selection
from emdstore.sets.events import News, make_event
from emdstore.sets.record import ExecutionRecord, find_stale, publish_record, read_record
from emdstore.sets.releasing import Released
from emdstore.shown import Shown
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.local.trees import TRASH_PREFIX, Tree, look_at_tree, remove_at_once, trash_in
from emdstore.stores.port import ArtifactStore, SupportsDelete
from emdstore.stores.views import scoped
from emdstore.workers.several import several_at_once

_UPLOAD_AGE = timedelta(days=1)
_LEFTOVER_AGE = timedelta(hours=1)


@attrs.frozen
class Removal:
    """Something that was removed, or would be.

    Attributes
    ----------
    what
        ``scratch``: an execution's folder; ``orphan``: the folder of a start that was cut off, unknown to the catalog;
        ``leftover``: a staging file, a half-removed folder, an input that never arrived; ``stale``: a file in the
        results store that is not part of its set any more; ``upload``: an upload to S3 that nobody completed.
    name
        The fragment, or the path.
    files, bytes
        Their number and size.
    """

    what: str
    name: str
    files: int = 1
    bytes: int = 0


@attrs.frozen(repr=False)
class GcReport(Shown):
    """What `Workspace.gc_executions` removed, or would.

    Attributes
    ----------
    removed
        What was removed.
    refused
        What was kept, with reasons.
    dry_run
        Whether nothing was removed.
    unnamed
        By execution, the files in scratch that no bundle names.
    lost
        The executions of which the results store lacks something that was published; `refused` names the files.
    """

    removed: tuple[Removal, ...]
    refused: dict[str, str]
    dry_run: bool
    unnamed: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    lost: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether results hold what was published, as far as it was looked at. To keep something is no failure."""
        return not self.lost

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "dry_run": self.dry_run,
            "removed": [attrs.asdict(each) for each in self.removed],
            "refused": self.refused,
            "unnamed": {fragment: list(names) for fragment, names in self.unnamed.items()},
            "lost": list(self.lost),
            "bytes": sum(each.bytes for each in self.removed),
        }


def gc_executions(
    locations: Locations,
    *,
    status: str | Collection[str] = ("uploaded", "failed", "aborted"),
    selection: Selection = ALL,
    older_than: timedelta = timedelta(0),
    force: bool = False,
    unnamed: bool | None = None,
    stale: bool = False,
    uploads: bool = False,
    dry_run: bool = False,
) -> GcReport:
    """Remove from scratch what is no longer needed, and what killed processes have left behind.

    The folder of an execution is removed only if it is proved now, regardless of the catalog, that everything its
    bundles name is published: each file has the digest in the published record, and the object is in the results store.
    Otherwise the folder stays, and the report names the files that are the reason. If the results store lacks what was
    published and scratch has all of it, the status becomes ``stopped`` again, and the next commit ships it.

    Leftovers are staging files, half-removed folders, inputs that never arrived, and folders of starts that were cut
    off before the catalog knew of them.

    Parameters
    ----------
    locations
        The workspace.
    status
        Executions in these states; by default those that need nothing from scratch any more.
    selection
        Which of them. With a selection leftovers stay, because they belong to no known execution.
    older_than
        Only if nothing has changed in them for this long; also the age of leftovers, but at least an hour.
    force
        Also what is not shipped, or not proved to be: scratch may hold the only copy. What was not shipped becomes
        ``aborted``. Executions that run or are being committed are still refused.
    unnamed
        Also folders with files that no bundle names, such as working files, which were never shipped. None: as the
        workspace says (`clean_unnamed`).
    stale
        Also files in a set's folder in the results store that are not part of the set nor, unless `force` is given, of
        one that it replaced. Those of a set that a release names stay, because its record would change.
    uploads
        Also uploads to a results store on S3 that were begun and never completed, at least a day ago. A writer that is
        alive and needs longer would fail, and have to begin again.
    dry_run
        Only report what would be removed.

    Returns
    -------
    GcReport
        What was removed, what was refused, and why.
    """
    from emdstore.stores.s3 import S3ArtifactStore  # here, so that a workspace of folders does not load them
    from emdstore.stores.ssh import SSHArtifactStore

    locations.bind()
    now = system.current().now()
    age = max(older_than, _LEFTOVER_AGE)
    also = locations.clean_unnamed if unnamed is None else unnamed
    cleaning = _Cleaning(locations, force=force, unnamed=also, dry_run=dry_run)
    takes = takes_execution(locations.catalog, selection, partial(size_in_scratch, locations.scratch))
    rows = filter(takes, list_executions(locations, status=status))
    due = [row for row in rows if now - _last_moved(row) >= older_than]
    with several_at_once(
        cleaning.clean_each, items=due, stores=[locations.results], name="gc", only_servers=True, only_read=False
    ) as outcomes:
        for row, outcome in outcomes:
            cleaning.note(row, outcome)
    removed, refused = cleaning.removed, cleaning.refused
    if selection.is_all:
        cleaning.finish_what_was_killed()
        cleaning.remove_orphans(now - age)
        for store in (locations.scratch, locations.results):
            if isinstance(store, LocalArtifactStore | SSHArtifactStore):
                names = store.remove_staging(older_than=age.total_seconds(), dry_run=dry_run)
                removed += [Removal("leftover", name) for name in names]
        removed += _cut_off(locations.scratch, now - age, dry_run)
    if stale:
        for row in list(filter(takes, list_executions(locations, status=("uploaded", "failed")))):
            try:
                keys, kept = _stale(locations, row, force=force, dry_run=dry_run)
            except EmdstoreError as error:
                refused[row.fragment] = f"its stale files stay: {error}"
            else:
                removed += [Removal("stale", f"{row.fragment}/{key}") for key in keys]
                refused |= {f"{row.fragment}/{key}": f"retained: {error}" for key, error in kept.items()}
    if uploads and isinstance(locations.results, S3ArtifactStore):
        try:
            begun = max(older_than, _UPLOAD_AGE).total_seconds()
            removed += [
                Removal("upload", key) for key in locations.results.remove_uploads(older_than=begun, dry_run=dry_run)
            ]
        except EmdstoreError as error:
            refused[repr(locations.results)] = f"its unfinished uploads stay: {error}"
    return GcReport(tuple(removed), refused, dry_run, cleaning.unnamed, tuple(sorted(set(cleaning.lost))))


class _Cleaning:
    """Removes executions' folders from scratch. Several may be cleaned at once, in threads."""

    def __init__(self, locations: Locations, *, force: bool, unnamed: bool, dry_run: bool) -> None:
        self._locations, self._force, self._with_unnamed, self._dry_run = locations, force, unnamed or force, dry_run
        self.removed: list[Removal] = []
        self.refused: dict[str, str] = {}
        self.unnamed: dict[str, tuple[str, ...]] = {}
        self.lost: list[str] = []

    def clean_each(self, rows: Sequence[ExecutionRow]) -> list[Removal | str | None]:
        """Remove the folders of executions; return what was removed, or why it stays; None where there is nothing."""
        return [self._clean_one(row) for row in rows]

    def note(self, row: ExecutionRow, outcome: Removal | str | EmdstoreError | None) -> None:
        """Keep what became of an execution's folder, for the report."""
        if isinstance(outcome, Removal):
            self.removed.append(outcome)
        elif outcome is not None:
            self.refused[row.fragment] = str(outcome)

    def _clean_one(self, row: ExecutionRow) -> Removal | str | None:
        fragment = row.fragment
        try:
            tree = look_at_tree(self._locations.scratch.ground, fragment)
            if tree is None:
                return None
            reason = _refusal(row, self._force) or self._clean(row, tree)
        except (EmdstoreError, OSError) as error:
            return f"it stays: {error}"
        return reason or Removal("scratch", fragment, len(tree.files), tree.bytes)

    def _clean(self, row: ExecutionRow, tree: Tree) -> str | None:
        fragment, locations = row.fragment, self._locations
        if row.status in ("created", "aborted"):
            # There is nothing to claim: the work was abandoned, or has not begun.
            if (reason := _still_writes(locations, fragment)) is None and not self._dry_run:
                if row.status == "created" and not _give_up(locations, fragment):
                    return "it has been started meanwhile"
                remove_looked_at(locations, fragment, tree)
            return reason
        if self._dry_run:
            return self._judged(row)[0]
        with Lease(locations, row, (row.status,), to=row.status) as lease:
            reason, proof = self._judged(row)
            status, error = row.status, row.error
            if reason is None:
                remove_shipped(locations, fragment, proof.tree or tree, lease.check)
                if status in NOT_SHIPPED and not _is_published(locations, fragment):
                    status, error = "aborted", "its scratch folder was removed before it was shipped, by force"
            elif proof.lost and proof.whole and status == "uploaded":
                status, error = "stopped", reason
                reason += "; scratch has all of it, so it is called stopped again: commit it"
            lease.give_back(status, error)
        return reason

    def _judged(self, row: ExecutionRow) -> tuple[str | None, Proof]:
        fragment = row.fragment
        if self._force:
            proof = Proof(tree=look_at_tree(self._locations.scratch.ground, fragment))
            return _still_writes(self._locations, fragment), proof
        proof = look_before_removal(self._locations, fragment)
        if proof.unnamed:
            self.unnamed[fragment] = proof.unnamed
        if proof.lost and row.status not in NOT_SHIPPED:
            self.lost.append(fragment)
        return proof.refusal(unnamed=self._with_unnamed), proof

    def finish_what_was_killed(self) -> None:
        """Release the claim of a killed clean-up, writing the rows of the record that it has written."""
        for row in list(list_executions(self._locations, status=("uploaded", "failed"))):
            if self._dry_run or not is_gone(row.owner):
                continue
            try:
                with Lease(self._locations, row, (row.status,), to=row.status) as lease:
                    if row.record_digest == published_digest(self._locations, row.fragment):
                        lease.give_back(row.status, row.error)
                    else:
                        lease.finish(
                            read_set(self._locations.results, row.fragment, vocabulary=self._locations.vocabulary)
                        )
            except EmdstoreError as error:
                self.refused[row.fragment] = f"a clean-up of it was killed, and is not finished: {error}"

    def remove_orphans(self, before: datetime) -> None:
        """Remove what is left of starts that were cut off before the catalog knew of them.

        Such a start leaves only a record. Anything more may be the only copy of some work, known to another catalog or
        to one that was lost.
        """
        scratch = self._locations.scratch
        known = {row.fragment for row in self._locations.catalog.executions(retracted=None)}
        for fragment in executions_in(scratch):
            if fragment in known:
                continue
            try:
                tree = look_at_tree(scratch.ground, fragment)
                if tree is None or tree.newest > before.timestamp():
                    continue
                if tree.files.keys() != {RECORD_NAME}:
                    self.refused[fragment] = "the catalog does not know it: remove it by hand"
                    continue
                if not self._dry_run:
                    remove_looked_at(self._locations, fragment, tree)
                self.removed.append(Removal("orphan", fragment, len(tree.files), tree.bytes))
            except (EmdstoreError, OSError) as error:
                self.refused[fragment] = f"it stays: {error}"


def _still_writes(locations: Locations, fragment: str) -> str | None:
    """Return why something may still write to an execution's folder; None if nothing is known to."""
    record = readable_scratch_record(locations.scratch, fragment)
    if record is None:
        return None
    if record.result is None and record.owner is not None and run_lives(record.owner, None, record.host, record.pid):
        return f"process {record.pid} on {record.host} still runs it"
    return doubt_of_program(record)


def _is_published(locations: Locations, fragment: str) -> bool:
    """Tell whether an execution was shipped without the catalog; then the next replay ingests it."""
    with contextlib.suppress(EmdstoreError):
        return bool(published_status(locations, fragment))
    return False


def _give_up(locations: Locations, fragment: str) -> bool:
    return bool(
        locations.catalog.claims.transition(
            fragment, allowed_from=("created",), to="aborted", reason="its scratch folder was removed"
        )
    )


def _last_moved(row: ExecutionRow) -> datetime:
    moments = (row.created_at, row.started_at, row.stopped_at, row.published_at)
    return max((moment for moment in moments if moment is not None), default=datetime.fromtimestamp(0, UTC))


def _cut_off(scratch: LocalArtifactStore, before: datetime, dry_run: bool) -> Iterator[Removal]:
    """Remove folders whose removal was cut off, and inputs that never arrived."""
    left = [name for name in trash_in(scratch.ground) if not is_made_by_the_living(name.removeprefix(TRASH_PREFIX))]
    for folder in (*left, *arriving(scratch)):
        tree = look_at_tree(scratch.ground, folder)
        # What was to be removed may be of any age. What is still arriving is being written, perhaps by a process that
        # cannot be seen from here.
        if tree is None or max(tree.changed, 0 if folder in left else tree.newest) > before.timestamp():
            continue
        yield Removal("leftover", folder, len(tree.files), tree.bytes)
        if not dry_run:
            remove_at_once(scratch.ground, folder)


def _stale(
    locations: Locations, row: ExecutionRow, *, force: bool, dry_run: bool
) -> tuple[Sequence[str], Mapping[str, ArtifactRetainedError]]:
    """Remove files that no record has named from a published set's folder, and update its record.

    Returns
    -------
    tuple
        The keys that were removed, or would be, and those that a lock of the store keeps.
    """
    kept: dict[str, ArtifactRetainedError] = {}
    folder = scoped(locations.results, row.fragment)
    if not isinstance(folder, SupportsDelete):
        return (), kept
    record, keys = _find_stale(folder, force)
    if not keys:
        return (), kept
    if record is not None and Released(locations.results).naming(
        row.fragment, published_digest(locations, row.fragment)
    ):
        return (), kept  # the record tells of stale files, and a release names the record as it is
    if dry_run:
        return keys, kept
    # A simultaneous commit brings files that no record names yet.
    with Lease(locations, row, (row.status,), to=row.status) as lease, News(locations.results) as news:
        record, keys = _find_stale(folder, force)
        for key in keys:
            lease.check()
            try:
                folder.delete(key)
            except ArtifactRetainedError as error:
                kept[key] = error
            else:
                news.add([make_event("cleaned", join_key(row.fragment, key))])
        removed = [key for key in keys if key not in kept]
        if record is not None:
            left = tuple(key for key in record.stale if key not in removed)
            if publish_record(attrs.evolve(record, stale=left), folder, over=record, before_write=lease.check):
                news.add([make_event("published", row.fragment)])
        lease.finish(read_set(locations.results, row.fragment, vocabulary=locations.vocabulary))
    return removed, kept


def _find_stale(folder: ArtifactStore, force: bool) -> tuple[ExecutionRecord | None, tuple[str, ...]]:
    record = read_record(folder)
    if record is None or record.is_open:
        return record, ()  # it is not known yet what is part of it
    # What a record lists as missing is not stale either: if it is there, somebody has restored it.
    named = {artifact.key for artifact in record.artifacts}.union(record.missing, record.rejected, record.unreadable)
    kept = () if force else record.superseded
    return record, find_stale(folder, named.union(kept))


def _refusal(row: ExecutionRow, force: bool) -> str | None:
    if row.status == "running":
        return "it is running; if its process is gone, recover it"
    if row.status == "pending_upload":
        return "it is being committed; if its owner is gone, commit it again"
    if row.status in NOT_SHIPPED and not force:
        return f"it is {row.status} and was not shipped: scratch may hold the only copy; commit it, or force"
    return None
