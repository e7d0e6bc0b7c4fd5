"""The third verb: load into the catalog what the results store holds.

Reading and writing are apart. `emdstore.ingestion.reading` turns one set into plain values and touches only the store;
the catalog then takes them in one transaction. `replay` does that for every set below a prefix, and needs neither
scratch nor the machine that ran anything: a results tree that was copied from elsewhere is as good.
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

from emdstore.catalog import ExecutionContent, RecordStamp, ReplaceResult
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
    """Load one set into the catalog, in place of what the catalog held of it.

    Everything is read from the results store, and written in one transaction: afterwards the catalog says either all of
    the old or all of the new. Twice is the same as once. What is decoded has the digests of the record.

    Parameters
    ----------
    store
        The results store, its path or URL.
    fragment
        The set's folder: one with a record, or a bare one with the usual metric bundle.
    catalog
        Where to.
    vocabulary
        What dimensions and values are compared with; what it does not know is stored and reported as a warning.
    incomplete
        Whether to take a set without a record though its bundles name files that are not there, as in a tree that
        was published without its data files. Each of them is a warning.
    replace
        Whether a failed, incomplete or older set may take the place of a complete publication's rows.

    Returns
    -------
    IngestOutcome
        With the counts of what is in the catalog now.

    Raises
    ------
    ExecutionNotFoundError
        If there is no set in this folder.
    IncompleteSetError
        If the set is being published, its bytes are not what its record says, or it has no record and its bundles name
        what is not there.
    RecordError, BundleError
        If the record or a bundle cannot be read; `RecordVersionError` if a newer emdstore wrote the record.
    ShadowedSetError
        If the set is bare, and the catalog's rows of its folder are from a record or belong to a workspace.
    DemotionRefusedError
        If the set is less than what the catalog holds, or older, and `replace` is not given.
    CatalogError
        If the database failed. After any error the catalog is as it was.
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

    Finds published sets by their records, and bare ones (see `find_sets`); the store's releases come along. Each is
    ingested by itself, and one that fails stops no other. A set that the catalog has, by its record's digest, is
    not read again; where the store tells sizes, times and versions, that costs nothing but the listing. Memory does
    not grow with the store.

    Parameters
    ----------
    store
        The results store, its path or URL.
    catalog
        Where to.
    prefix
        Only what lies in this folder.
    selection
        Only sets that are chosen. Whether the store still holds the others is not asked then, so `prune` is refused.
    vocabulary, incomplete, replace
        See `ingest`.
    prune
        Whether to remove the rows of sets that the store does not hold any more. Without it they are counted as
        ``vanished``. True refuses where no set is found, or more than half of the rows would go, as of a disk that is
        not mounted; ``"any"`` removes any number. Rows of a set whose record lies in another folder now go in any case.
    executor
        Where sets are read and decoded, ahead of the database, which this thread writes; by default a few threads.
        The store must pickle for processes. What a lost worker had in hand is read by another one.
    on_progress
        Called after each set with its outcome, the number done, and the number found; that is None until the listing
        has come to its end. What it raises is logged.

    Returns
    -------
    ReplayReport
        How many sets there are of each outcome, and what was ingested or was not.

    Raises
    ------
    StoreError
        If the store cannot be listed; `StoreNotFoundError` if it is a folder that is not there.
    CatalogError
        If the database cannot be used; what was ingested until then is whole. Or if the catalog belongs to another
        results store; nothing was changed then.
    PruneRefusedError
        If too many rows would be removed: none was. What the store holds has been ingested.
    ExecutorError
        If the executor takes no work, the store cannot be sent to its workers, or these have another emdstore.
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
    except ReleaseError as error:  # the sets were taken all the same
        outcome = IngestOutcome(error.key or RELEASES, "invalid", error=error)
        counts = {**report.counts, "invalid": report.counts.get("invalid", 0) + 1}
        report = attrs.evolve(report, counts=counts, outcomes=(*report.outcomes, outcome))
    return report


def note_releases(store: StoreLike, catalog: Catalog) -> None:
    """Have a catalog know the releases and aliases of a results store.

    No others, unless the store has none at all: then it may be a part of one, or a copy of some sets.

    Raises
    ------
    ReleaseError
        If one of them cannot be read. The catalog knows those that it knew.
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
        What a catalog takes of it.
    record
        Its record, if it has one.
    word
        What was said last of its use: that it is retracted, or not any more.
    """

    location: str
    content: ExecutionContent
    record: ExecutionRecord | None
    word: Retraction | None = None


@attrs.frozen
class SetReader:
    """What it takes to read sets, here or elsewhere.

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
        """Read a set; of one that turns out to be as the database has it return the stamp that it has now."""
        state: SetState = "unreadable"
        try:
            record = join_key(found.location, RECORD_NAME)
            if found.published and known is not None and sha256_of(self.store.read_bytes(record)) == known.digest:
                retraction = read_retraction(self.store, found.location) if found.has_retraction else None
                return _restamped(known, found.stamp, retraction)
            look = look_at_set(self.store, found.location, stamp=found.stamp)
            state = look.state if look.error is not None else state
            content = content_of(look, vocabulary=self.vocabulary, incomplete=self.incomplete)
        except (ArtifactNotFoundError, ExecutionNotFoundError) as error:  # it went while it was read
            return IngestOutcome(fragment, "changed", error=error, set_state="changed")
        except EmdstoreError as error:
            return IngestOutcome(fragment, _NOT_TAKEN[state], error=error, set_state=state)
        if known is not None and content.record_digest == known.digest:
            return _restamped(known, found.stamp if content.record_version is not None else None, look.retraction)
        return ReadSet(found.location, content, look.record, look.word)


class Sink(Protocol):
    """A database that a replay fills. All calls come from the thread that replays."""

    def known(self, fragments: Collection[str]) -> Mapping[str, RecordStamp]:
        """Return which records the database has of some executions; those it has none of are left out."""
        ...

    def put(self, read: ReadSet) -> IngestOutcome:
        """Take one set, in one transaction, or leave everything as it was and tell why.

        Raises
        ------
        CatalogError
            If the database is gone: no other set would fare better.
        """
        ...

    def note_stamps(self, stamps: Collection[RecordStamp]) -> None:
        """Note what the listing says of sets that the database has: they will not be read the next time."""
        ...

    def held(self, prefix: str) -> Iterator[RecordStamp]:
        """Return what the database holds below a prefix that was read from results."""
        ...

    def has_elsewhere(self, stamp: RecordStamp) -> bool:
        """Tell whether the database holds the same record in another folder, too."""
        ...

    def drop(self, stamp: RecordStamp) -> bool:
        """Remove an execution if it is still that of this record, and nobody works on it; tell whether it went."""
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
        if selection.is_all:  # what was not chosen was not looked for
            run.settle_gone(prefix, prune)
    except KeyboardInterrupt:
        raise ReplayInterrupted(run.done.report()) from None
    return run.done.report()


class _Replay:
    """One replay. All of it happens in the calling thread; only sets are read elsewhere."""

    def __init__(self, sink: Sink, store: ArtifactStore, on_progress: ReplayCallback | None) -> None:
        self._sink, self._store = sink, store
        self._stamps: list[RecordStamp] = []
        # Eight bytes for each, by hash: the folders of a million sets would take a hundred megabytes.
        self._seen: list[array[int]] = []
        self._fresh = array("Q")
        self._is_whole = True
        self.done = Collected(on_progress)

    def changed(self, prefix: str, selection: Selection) -> Iterator[tuple[FoundSet, str, RecordStamp | None]]:
        """Find the sets; yield what `_read_changed` takes for each that is not surely as the database has it."""
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
        """Write what was read, if it has to be: of a set that the database has only what changed beside its record."""
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
        """Hand over the stamps that were gathered."""
        stamps, self._stamps = self._stamps, []
        if stamps:
            self._sink.note_stamps(stamps)

    def settle_gone(self, prefix: str, prune: Prune) -> None:
        """Look after what the database holds below the prefix and the listing did not: it moved, or is gone."""
        if not self._is_whole:
            return  # the store is one set's folder
        held, gone = 0, []
        self._sort_fresh()
        for stamp in self._sink.held(prefix):
            held += 1
            if self._has_seen(stamp.fragment) or self.done.left_out.hides(stamp.fragment):
                continue
            # The listing is some minutes old by now, and may have been of a store that was being filled.
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
        "such rows, `emdstore forget` those of one execution",
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
            self.catalog.check()  # raises if the database is gone: no other set would fare better
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
    """Return a stamp without what the listing said: two are equal if they say the same of a retraction."""
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
