"""The third verb: load the contents of the results store into the catalog.

Reading and writing are separate. `emdstore.ingestion.reading` turns one set into plain values, using only the store;
then the catalog writes them in one transaction. `replay` does this for every set below a prefix. It needs neither
scratch nor the machine of the runs: a results tree that was copied from elsewhere is just as good.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import attrs

from emdstore import system
from emdstore.catalog import ExecutionContent, RecordStamp, ReplaceResult
from emdstore.catalog.replays import ReplayNote
from emdstore.emds import Vocabulary
from emdstore.errors import (
    CatalogError,
    DemotionRefusedError,
    ReleaseError,
    SelectionError,
    ShadowedSetError,
)
from emdstore.ingestion.binding import bind
from emdstore.ingestion.filling import Prune, ReadSet, SetReader, replay_into
from emdstore.ingestion.reading import read_set
from emdstore.ingestion.replay_report import IngestOutcome, ReplayCallback, ReplayReport
from emdstore.selection import ALL, Selection
from emdstore.sets.proved import Proved
from emdstore.sets.release import RELEASES, list_all
from emdstore.stores.port import ArtifactStore
from emdstore.stores.urls import StoreLike, as_source
from emdstore.telemetry import operation

if TYPE_CHECKING:
    from emdstore.catalog import Catalog


def ingest(
    store: StoreLike,
    fragment: str,
    catalog: Catalog,
    *,
    vocabulary: Vocabulary | None = None,
    incomplete: bool = False,
    replace: bool = False,
) -> IngestOutcome:
    """Load one set into the catalog, replacing what the catalog had of it.

    Everything is read from the results store, and written in one transaction: afterwards the catalog has either all of
    the old rows or all of the new ones. Doing it twice is the same as once. Everything that is decoded has the recorded
    digest.

    Parameters
    ----------
    store
        The results store, its path or URL.
    fragment
        The set's folder: with a record, or bare with the usual metric bundle.
    catalog
        Where to.
    vocabulary
        Dimensions and values are checked against it; unknown ones are stored and reported as warnings.
    incomplete
        Whether to load a set without a record although its bundles name missing files, as in a tree that was published
        without data files. Each missing file is a warning.
    replace
        Whether a failed, incomplete or older set may replace the rows of a complete publication.

    Returns
    -------
    IngestOutcome
        With the counts of the rows in the catalog now.

    Raises
    ------
    ExecutionNotFoundError
        If there is no set in this folder.
    IncompleteSetError
        If the set is being published, its bytes do not match its record, or it has no record and its bundles name
        missing files.
    RecordError, BundleError
        If the record or a bundle cannot be read; `RecordVersionError` if a newer emdstore wrote the record.
    ShadowedSetError
        If the set is bare, and the catalog's rows of its folder come from a record or belong to a workspace.
    DemotionRefusedError
        If the set is less than what the catalog has, or older, and `replace` is not given.
    CatalogError
        If the database failed. After any error the catalog is unchanged.
    """
    content = read_set(as_source(store), fragment, vocabulary=vocabulary, incomplete=incomplete)
    return _ingested(content, catalog.replace_execution(content, replace=replace))


def replay(
    store: StoreLike,
    catalog: Catalog,
    prefix: str = "",
    *,
    only: Collection[str] | None = None,
    selection: Selection = ALL,
    vocabulary: Vocabulary | None = None,
    incomplete: bool = False,
    replace: bool = False,
    prune: Prune = False,
    executor: Executor | None = None,
    on_progress: ReplayCallback | None = None,
    state_file: str | os.PathLike[str] | None = None,
) -> ReplayReport:
    """Load every set below a prefix into the catalog: rebuild it, or bring it up to date.

    Finds published sets by their records, and bare ones (see `find_sets`), and also loads the store's releases. Each
    set is ingested separately, and a failure does not stop the others. A set that the catalog has already, by its
    record's digest, is not read again; if the store tells sizes, times and versions, this takes only the listing.
    Memory does not grow with the store.

    Parameters
    ----------
    store
        The results store, its path or URL.
    catalog
        Where to.
    prefix
        Only sets in this folder.
    only
        Of these only the sets in these folders, such as those that events tell of: each folder is listed by itself, and
        nothing else of the store.
    selection
        Only sets that are chosen. Then it is not checked whether the others still exist, so `prune` is refused.
    vocabulary, incomplete, replace
        See `ingest`.
    prune
        Whether to remove the rows of sets that are gone from the store. Without it they are counted as ``vanished``.
        True refuses if no set is found, or more than half of the rows would be removed, as for a disk that is not
        mounted; ``"any"`` removes any number. Rows of a set whose record is in another folder now are always removed.
    executor
        Reads and decodes sets ahead of this thread, which writes to the database; by default a few threads. For
        processes the store must pickle. The work of a lost worker is given to another one.
    on_progress
        Called after each set with its outcome, the number done, and the number found, which is None until the listing
        has ended. Its exceptions are logged.
    state_file
        A file that keeps which sets were loaded, for stores whose listing does not tell versions, so that records would
        be read to see what the catalog has. After an interruption the next call with it reads none of them again of
        which the catalog still has the same record. At the end it is removed, and the next call reads all records.

    Returns
    -------
    ReplayReport
        The number of sets with each outcome, and what was ingested or was not.

    Raises
    ------
    StoreError
        If the store cannot be listed; `StoreNotFoundError` if it is a folder that does not exist.
    CatalogError
        If the database cannot be used; what was ingested until then is complete. Also if the catalog belongs to another
        results store; then nothing was changed.
    PruneRefusedError
        If too many rows would be removed. None was, but the sets in the store have been ingested.
    ExecutorError
        If the executor accepts no work, the store cannot be sent to its workers, or these have another version of
        emdstore.
    SelectionError
        If both a selection and `prune` are given, or the state file is about another store or catalog, or cannot be
        used; nothing was changed.
    ReplayInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far.
    """
    if prune and not selection.is_all:
        raise SelectionError("rows are removed only after a look at all sets: leave out either the selection or prune")
    catalog.refuse_to_write()
    results = as_source(store)
    bind(catalog, results, looking=True)
    sink = _CatalogSink(catalog, results, replace)
    reader = SetReader(results, vocabulary, incomplete)
    proved = None if state_file is None else Proved(state_file, f"replay of {results!r} into {catalog.url}")
    with operation("replay", store=repr(results), whole=only is None and selection.is_all) as doing:
        report = replay_into(
            sink,
            reader,
            prefix,
            selection,
            only=only,
            prune=prune,
            executor=executor,
            on_progress=on_progress,
            proved=proved,
        )
        for state, number in report.counts.items():
            doing.count("sets", number, outcome=state)
    try:
        note_releases(results, catalog)
    except ReleaseError as error:  # the sets were ingested anyway
        outcome = IngestOutcome(error.key or RELEASES, "invalid", error=error)
        counts = {**report.counts, "invalid": report.counts.get("invalid", 0) + 1}
        report = attrs.evolve(report, counts=counts, outcomes=(*report.outcomes, outcome))
    if only is None:
        at, failed = system.current().now(), report.failed + len(report.left_out)
        catalog.replays.note(ReplayNote(at, report.seconds, report.sets, failed, prefix, selection.is_all))
    return report


def note_releases(store: StoreLike, catalog: Catalog) -> None:
    """Load the releases and aliases of a results store into a catalog.

    They replace those in the catalog, unless the store has none: then it may be part of a store, or a copy of some
    sets.

    Raises
    ------
    ReleaseError
        If one of them cannot be read. The catalog's are unchanged.
    """
    from emdstore.catalog.releases import ReleaseContent

    releases, aliases = list_all(store)
    contents = [
        ReleaseContent(each.name, each.at, each.by, each.note, [(one.fragment, one.record) for one in each.sets])
        for each in releases
    ]
    if contents:
        catalog.releases.replace(contents, {alias.name: alias.release for alias in aliases})


@attrs.frozen
class _CatalogSink:
    """Our own catalog."""

    catalog: Catalog
    store: ArtifactStore
    replace: bool

    def known(self, fragments: Collection[str]) -> Mapping[str, RecordStamp]:
        return self.catalog.records.of(fragments)

    def put(self, read: ReadSet) -> IngestOutcome:
        content = read.content
        bind(self.catalog, self.store)
        try:
            return _ingested(content, self.catalog.replace_execution(content, replace=self.replace))
        except ShadowedSetError as error:
            return IngestOutcome(content.fragment, "shadowed", content.status, error=error, set_state=content.state)
        except DemotionRefusedError as error:
            return IngestOutcome(content.fragment, "kept", content.status, error=error, set_state=content.state)
        except CatalogError as error:
            self.catalog.check()  # raises if the database is gone: every other set would fail, too
            return IngestOutcome(content.fragment, "invalid", content.status, error=error, set_state=content.state)

    def note_stamps(self, stamps: Collection[RecordStamp]) -> None:
        self.catalog.records.note(stamps)

    def held(self, prefix: str) -> Iterator[RecordStamp]:
        return self.catalog.records.below(prefix)

    def has_elsewhere(self, stamp: RecordStamp) -> bool:
        return self.catalog.records.holds(stamp.digest, besides=stamp.fragment)

    def drop(self, stamp: RecordStamp) -> bool:
        return self.catalog.records.drop(stamp.fragment, read_from=stamp.digest)


def _ingested(content: ExecutionContent, done: ReplaceResult) -> IngestOutcome:
    return IngestOutcome(
        content.fragment,
        "ingested",
        content.status,
        done.artifacts,
        done.outputs,
        done.scalars,
        done.series,
        done.warnings,
        set_state=content.state,
    )
