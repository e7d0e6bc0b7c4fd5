"""The third verb: load the contents of the results store into the catalog.

Reading and writing are separate. `emdstore.ingestion.reading` turns one set into plain values, using only the store;
then the catalog writes them in one transaction. `replay` does this for every set below a prefix. It needs neither
scratch nor the machine of the runs: a results tree that was copied from elsewhere is just as good.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Literal, Protocol

import attrs

from emdstore import system
from emdstore.catalog import ExecutionContent, RecordStamp, ReplaceResult
from emdstore.catalog.replays import ReplayNote
from emdstore.emds import RECORD_NAME, Vocabulary
from emdstore.errors import (
    ArtifactNotFoundError,
    CatalogError,
    DemotionRefusedError,
    EmdstoreError,
    ExecutionNotFoundError,
    ExecutorError,
    PruneRefusedError,
    ReleaseError,
    SelectionError,
    ShadowedSetError,
)
from emdstore.ingestion.binding import bind
from emdstore.ingestion.reading import content_of, read_set, retraction_columns
from emdstore.ingestion.report import Collected, IngestOutcome, ReplayCallback, ReplayInterrupted, ReplayReport, State
from emdstore.keys import join_key
from emdstore.selection import ALL, Selection
from emdstore.sets.finding import FoundSet, Stamp, fragment_at
from emdstore.sets.listing import find_chosen
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.release import RELEASES, list_all
from emdstore.sets.result import METRIC_NAME
from emdstore.sets.retraction import Retraction, read_retraction
from emdstore.sets.state import SetState, look_at_set
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore
from emdstore.stores.urls import StoreLike, as_source
from emdstore.workers.backlog import executor_or_threads, map_batches

if TYPE_CHECKING:
    from emdstore.catalog import Catalog

Prune = bool | Literal["any"]

_READERS = 8
_AHEAD = 16  # each may hold all values of a set
_AHEAD_ELSEWHERE = 32
_ASKED_AT_ONCE = 500
_SORTED_AT_ONCE = 4096

_NOT_TAKEN: Mapping[SetState, State] = {
    "publishing": "publishing",
    "incomplete": "incomplete",
    "changed": "changed",
    "unreadable": "unreadable",
    "newer-schema": "newer-schema",
}


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
    selection: Selection = ALL,
    vocabulary: Vocabulary | None = None,
    incomplete: bool = False,
    replace: bool = False,
    prune: Prune = False,
    executor: Executor | None = None,
    on_progress: ReplayCallback | None = None,
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
        If both a selection and `prune` are given; nothing was changed.
    ReplayInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far.
    """
    if prune and not selection.is_all:
        raise SelectionError("rows are removed only after a look at all sets: leave out either the selection or prune")
    results = as_source(store)
    bind(catalog, results, looking=True)
    sink = _CatalogSink(catalog, results, replace)
    reader = SetReader(results, vocabulary, incomplete)
    report = replay_into(sink, reader, prefix, selection, prune=prune, executor=executor, on_progress=on_progress)
    try:
        note_releases(results, catalog)
    except ReleaseError as error:  # the sets were ingested anyway
        outcome = IngestOutcome(error.key or RELEASES, "invalid", error=error)
        counts = {**report.counts, "invalid": report.counts.get("invalid", 0) + 1}
        report = attrs.evolve(report, counts=counts, outcomes=(*report.outcomes, outcome))
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
class ReadSet:
    """A set as it was read.

    Attributes
    ----------
    location
        Its folder in the store.
    content
        The values for a catalog.
    record
        Its record, if it has one.
    word
        Its last retraction, even if it was taken back.
    """

    location: str
    content: ExecutionContent
    record: ExecutionRecord | None
    word: Retraction | None = None


@attrs.frozen
class SetReader:
    """What is needed to read sets, here or elsewhere.

    Attributes
    ----------
    store
        The results store, its path or URL.
    vocabulary, incomplete
        See `ingest`.
    """

    store: ArtifactStore
    vocabulary: Vocabulary | None = None
    incomplete: bool = False

    def read_if_changed(
        self, found: FoundSet, fragment: str, known: RecordStamp | None
    ) -> ReadSet | RecordStamp | IngestOutcome:
        """Read a set. If it turns out to be what the database has, return its current stamp."""
        state: SetState = "unreadable"
        try:
            record = join_key(found.location, RECORD_NAME)
            if found.published and known is not None and sha256_of(self.store.read_bytes(record)) == known.digest:
                retraction = read_retraction(self.store, found.location) if found.has_retraction else None
                return _restamped(known, found.stamp, retraction)
            look = look_at_set(self.store, found.location, stamp=found.stamp)
            state = look.state if look.error is not None else state
            content = content_of(look, vocabulary=self.vocabulary, incomplete=self.incomplete)
        except (ArtifactNotFoundError, ExecutionNotFoundError) as error:  # it was removed while it was read
            return IngestOutcome(fragment, "changed", error=error, set_state="changed")
        except EmdstoreError as error:
            return IngestOutcome(fragment, _NOT_TAKEN[state], error=error, set_state=state)
        if known is not None and content.record_digest == known.digest:
            return _restamped(known, found.stamp if content.record_version is not None else None, look.retraction)
        return ReadSet(found.location, content, look.record, look.word)


class Sink(Protocol):
    """A database that a replay fills. All calls come from the replaying thread."""

    def known(self, fragments: Collection[str]) -> Mapping[str, RecordStamp]:
        """Return the records that the database has of some executions; those without one are left out."""
        ...

    def put(self, read: ReadSet) -> IngestOutcome:
        """Write one set in one transaction, or change nothing and return why.

        Raises
        ------
        CatalogError
            If the database is gone, so that every other set would fail, too.
        """
        ...

    def note_stamps(self, stamps: Collection[RecordStamp]) -> None:
        """Record what the listing says of sets that the database has, so that they are not read next time."""
        ...

    def held(self, prefix: str) -> Iterator[RecordStamp]:
        """Return the executions below a prefix that the database has read from results."""
        ...

    def has_elsewhere(self, stamp: RecordStamp) -> bool:
        """Tell whether the database has the same record in another folder, too."""
        ...

    def drop(self, stamp: RecordStamp) -> bool:
        """Remove an execution if its rows still come from this record, and nobody works on it; return whether it was
        removed.
        """
        ...


def replay_into(
    sink: Sink,
    reader: SetReader,
    prefix: str = "",
    selection: Selection = ALL,
    *,
    prune: Prune = False,
    executor: Executor | None = None,
    on_progress: ReplayCallback | None = None,
) -> ReplayReport:
    """Load every set below a prefix into a database; see `replay`."""
    run = _Replay(sink, reader.store, on_progress)
    ahead = _AHEAD if executor is None else _AHEAD_ELSEWHERE
    changed = run.changed(prefix, selection)
    try:
        with (
            executor_or_threads(executor, _READERS, "read", only_read=True) as readers,
            closing(map_batches(readers, _read_changed, reader, items=changed, given=ahead)) as sets,
        ):
            for (_, fragment, known), read in sets:
                run.settle(
                    known,
                    IngestOutcome(fragment, "invalid", error=read) if isinstance(read, ExecutorError) else read,
                )
        run.note_stamps()
        if selection.is_all:  # what was not selected was not looked for
            run.settle_gone(prefix, prune)
    except KeyboardInterrupt:
        raise ReplayInterrupted(run.done.report()) from None
    return run.done.report()


class _Replay:
    """One replay. It runs in the calling thread; only sets are read elsewhere."""

    def __init__(self, sink: Sink, store: ArtifactStore, on_progress: ReplayCallback | None) -> None:
        self._sink, self._store = sink, store
        self._stamps: list[RecordStamp] = []
        # Eight bytes for each, by hash: the folders of a million sets would take a hundred megabytes.
        self._seen: list[array[int]] = []
        self._fresh = array("Q")
        self._is_whole = True
        self.done = Collected(on_progress)

    def changed(self, prefix: str, selection: Selection) -> Iterator[tuple[FoundSet, str, RecordStamp | None]]:
        """Find the sets; yield the arguments of `_read_changed` for each that is not certainly what the database
        has.
        """
        found = self.done.tally.count(find_chosen(self._store, prefix, selection, left_out=self.done.left_out.note))
        # Some at a time: a query that stays open would hold back every writer of a database without write-ahead log.
        while some := list(islice(found, _ASKED_AT_ONCE)):
            named = [(each, fragment_at(self._store, each.location)) for each in some]
            known = self._sink.known([fragment for _, fragment in named])
            for each, fragment in named:
                self._fresh.append(_short(fragment))
                if len(self._fresh) == _SORTED_AT_ONCE:
                    self._sort_fresh()
                self._is_whole &= bool(each.location)
                before = known.get(fragment)
                if before is not None and each.stamp is not None and each.stamp == _stamp_of(before):
                    self.done.add(IngestOutcome(fragment, "unchanged"))
                else:
                    yield each, fragment, before

    def settle(self, known: RecordStamp | None, read: ReadSet | RecordStamp | IngestOutcome) -> None:
        """Write what was read, if necessary; for a set that the database has, only what changed beside its record."""
        if isinstance(read, ReadSet):
            self.done.add(self._sink.put(read))
        elif isinstance(read, RecordStamp):
            is_news = known is not None and _word_of(known) != _word_of(read)
            if read.version is not None or is_news:
                self._stamps.append(read)
                if len(self._stamps) == _ASKED_AT_ONCE:
                    self.note_stamps()
            self.done.add(IngestOutcome(read.fragment, "ingested" if is_news else "unchanged"))
        else:
            self.done.add(read)

    def note_stamps(self) -> None:
        """Write the collected stamps."""
        stamps, self._stamps = self._stamps, []
        if stamps:
            self._sink.note_stamps(stamps)

    def settle_gone(self, prefix: str, prune: Prune) -> None:
        """Handle executions in the database that the listing did not show: they moved, or are gone."""
        if not self._is_whole:
            return  # the store is one set's folder
        held, gone = 0, []
        self._sort_fresh()
        for stamp in self._sink.held(prefix):
            held += 1
            if self._has_seen(stamp.fragment) or self.done.left_out.hides(stamp.fragment):
                continue
            # The listing may be minutes old, and the store may have been filling up.
            if not self._is_there(stamp.fragment):
                gone.append(stamp)
        vanished = []
        for stamp in gone:
            if self._sink.has_elsewhere(stamp) and self._sink.drop(stamp):
                self.done.add(IngestOutcome(stamp.fragment, "moved"))
                held -= 1
            else:
                vanished.append(stamp)
        refused = bool(vanished) and prune is True and (not self._seen or 2 * len(vanished) > held)
        for stamp in vanished:
            pruned = bool(prune) and not refused and self._sink.drop(stamp)
            error = None if pruned else _vanished(self._store, stamp.fragment)
            self.done.add(IngestOutcome(stamp.fragment, "pruned" if pruned else "vanished", error=error))
        if refused:
            raise PruneRefusedError(
                f"{len(vanished)} of {held} executions of the catalog are not in {self._store!r}: is it mounted, and "
                "the right one? None was removed; use --prune-any (prune='any') if they are to go all the same",
                store=repr(self._store),
            )

    def _sort_fresh(self) -> None:
        if self._fresh:
            self._seen.append(array("Q", sorted(self._fresh)))
            self._fresh = array("Q")

    def _has_seen(self, fragment: str) -> bool:
        wanted = _short(fragment)
        return any(_holds(some, wanted) for some in self._seen)

    def _is_there(self, fragment: str) -> bool:
        return any(self._store.exists(join_key(fragment, name)) for name in (RECORD_NAME, METRIC_NAME))


def _holds(ordered: array[int], wanted: int) -> bool:
    at = bisect_left(ordered, wanted)
    return at < len(ordered) and ordered[at] == wanted


def _short(fragment: str) -> int:
    return int.from_bytes(hashlib.blake2b(fragment.encode(), digest_size=8).digest())


def _vanished(store: ArtifactStore, fragment: str) -> ExecutionNotFoundError:
    return ExecutionNotFoundError(
        f"the catalog has {fragment!r}, and {store!r} does not hold it any more: `emdstore replay --prune` removes "
        "such rows unless a release names them, `emdstore forget` those of one execution",
        key=fragment,
        store=repr(store),
    )


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


def _read_changed(
    reader: SetReader, batch: Sequence[tuple[FoundSet, str, RecordStamp | None]]
) -> list[ReadSet | RecordStamp | IngestOutcome]:
    return [reader.read_if_changed(*each) for each in batch]


def _restamped(known: RecordStamp, stamp: Stamp | None, retraction: Retraction | None) -> RecordStamp:
    told = (None, None, None) if stamp is None else (stamp.size, stamp.modified, stamp.version)
    return RecordStamp(known.fragment, known.digest, *told, **retraction_columns(retraction))


def _word_of(stamp: RecordStamp) -> RecordStamp:
    """Return a stamp without the listing's part: two are equal if they agree about the retraction."""
    return attrs.evolve(stamp, size=None, modified=None, version=None)


def _stamp_of(known: RecordStamp) -> Stamp | None:
    if known.size is None or known.modified is None or known.version is None:
        return None
    return Stamp(known.size, known.modified, known.version)


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
