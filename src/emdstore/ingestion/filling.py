"""The loop of every replay: find sets, read those that the database does not know, write them, and see what is gone.

The database is behind a `Sink`: our own catalog (`emdstore.ingestion.replay`) or that of Climate-REF.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal, Protocol

import attrs

from emdstore.catalog import ExecutionContent, RecordStamp
from emdstore.emds import RECORD_NAME, Vocabulary
from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    ExecutionNotFoundError,
    ExecutorError,
    PruneRefusedError,
)
from emdstore.ingestion.reading import content_of, retraction_columns
from emdstore.ingestion.replay_report import (
    Collected,
    IngestOutcome,
    ReplayCallback,
    ReplayInterrupted,
    ReplayReport,
    State,
)
from emdstore.keys import in_folder, join_key
from emdstore.selection import ALL, Selection, folders_above
from emdstore.sets.finding import SetFolder, Stamp, fragment_at
from emdstore.sets.listing import find_chosen
from emdstore.sets.proved import Proved, folder_number
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import METRIC_NAME
from emdstore.sets.retraction import Retraction, read_retraction
from emdstore.sets.state import SetState, look_at_set
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore
from emdstore.workers.several import several_at_once

if TYPE_CHECKING:
    pass


Prune = bool | Literal["any"]
_MOST_AHEAD = 32  # each may hold all values of a set
_ASKED_AT_ONCE = 500
_SORTED_AT_ONCE = 4096
_NOT_TAKEN: Mapping[SetState, State] = {
    "publishing": "publishing",
    "incomplete": "incomplete",
    "changed": "changed",
    "unreadable": "unreadable",
    "newer-schema": "newer-schema",
}


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
        self, found: SetFolder, fragment: str, known: RecordStamp | None
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
    only: Collection[str] | None = None,
    prune: Prune = False,
    executor: Executor | None = None,
    on_progress: ReplayCallback | None = None,
    proved: Proved | None = None,
) -> ReplayReport:
    """Load every set below a prefix into a database; see `replay`."""
    run = _Replay(sink, reader.store, on_progress, proved)
    prefixes = [prefix] if only is None else _folders(only, prefix)
    changed = run.changed(prefixes, selection)
    try:
        with (
            proved or nullcontext(),
            several_at_once(
                _read_changed,
                reader,
                items=changed,
                stores=[reader.store],
                name="read",
                executor=executor,
                most=_MOST_AHEAD,
            ) as sets,
        ):
            for (found, fragment, known), read in sets:
                run.settle(
                    found.location,
                    known,
                    IngestOutcome(fragment, "invalid", error=read) if isinstance(read, ExecutorError) else read,
                )
        run.note_stamps()
        if selection.is_all:  # what was not selected was not looked for
            for each in prefixes:
                run.settle_gone(each, prune)
    except KeyboardInterrupt:
        raise ReplayInterrupted(run.done.report()) from None
    if proved is not None:
        proved.forget()
    return run.done.report()


class _Replay:
    """One replay. It runs in the calling thread; only sets are read elsewhere."""

    def __init__(
        self, sink: Sink, store: ArtifactStore, on_progress: ReplayCallback | None, proved: Proved | None
    ) -> None:
        self._sink, self._store, self._proved = sink, store, proved
        self._stamps: list[RecordStamp] = []
        # Eight bytes for each, by hash: the folders of a million sets would take a hundred megabytes.
        self._seen: list[array[int]] = []
        self._fresh = array("Q")
        self._is_whole = True
        self.done = Collected(on_progress)

    def changed(
        self, prefixes: Sequence[str], selection: Selection
    ) -> Iterator[tuple[SetFolder, str, RecordStamp | None]]:
        """Find the sets; yield the arguments of `_read_changed` for each that is not certainly what the database
        has.
        """
        hidden = self.done.left_out.note
        sets = (find_chosen(self._store, each, selection, left_out=hidden) for each in prefixes)
        found = self.done.tally.count(chain.from_iterable(sets))
        # Some at a time: a query that stays open would hold back every writer of a database without write-ahead log.
        while some := list(islice(found, _ASKED_AT_ONCE)):
            named = [(each, fragment_at(self._store, each.location)) for each in some]
            known = self._sink.known([fragment for _, fragment in named])
            for each, fragment in named:
                self._fresh.append(folder_number(fragment))
                if len(self._fresh) == _SORTED_AT_ONCE:
                    self._sort_fresh()
                self._is_whole &= bool(each.location)
                before = known.get(fragment)
                if before is not None and self._has_it(each, before):
                    self.done.add(IngestOutcome(fragment, "unchanged"))
                else:
                    yield each, fragment, before

    def _has_it(self, found: SetFolder, known: RecordStamp) -> bool:
        """Tell whether a set is what the database has, by its listing, or else as the interrupted replay has seen."""
        if found.stamp is not None:
            return found.stamp == _stamp_of(known)
        was_seen = self._proved is not None and self._proved.record_of(found.location) == known.digest
        return was_seen and not found.has_retraction and known.retracted_at is None

    def settle(self, location: str, known: RecordStamp | None, read: ReadSet | RecordStamp | IngestOutcome) -> None:
        """Write what was read, if necessary; for a set that the database has, only what changed beside its record."""
        if isinstance(read, ReadSet):
            outcome = self._sink.put(read)
            if outcome.state == "ingested":
                self._note(location, read.content.record_digest)
            self.done.add(outcome)
        elif isinstance(read, RecordStamp):
            is_news = known is not None and _word_of(known) != _word_of(read)
            if read.version is not None or is_news:
                self._stamps.append(read)
                if len(self._stamps) == _ASKED_AT_ONCE:
                    self.note_stamps()
            self._note(location, read.digest)
            self.done.add(IngestOutcome(read.fragment, "ingested" if is_news else "unchanged"))
        else:
            self.done.add(read)

    def _note(self, location: str, digest: str | None) -> None:
        if self._proved is not None and digest is not None:
            self._proved.note(location, digest)

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
        wanted = folder_number(fragment)
        return any(_holds(some, wanted) for some in self._seen)

    def _is_there(self, fragment: str) -> bool:
        return any(self._store.exists(join_key(fragment, name)) for name in (RECORD_NAME, METRIC_NAME))


def _folders(names: Collection[str], prefix: str) -> list[str]:
    """Return folders within a prefix, without those that lie in another one of them."""
    given = frozenset(names)
    inside = (each for each in given if each == prefix or in_folder(each, prefix))
    return sorted(each for each in inside if given.isdisjoint(folders_above(each)))


def _holds(ordered: array[int], wanted: int) -> bool:
    at = bisect_left(ordered, wanted)
    return at < len(ordered) and ordered[at] == wanted


def _vanished(store: ArtifactStore, fragment: str) -> ExecutionNotFoundError:
    return ExecutionNotFoundError(
        f"the catalog has {fragment!r}, and {store!r} does not hold it any more: `emdstore replay --prune` removes "
        "such rows unless a release names them, `emdstore forget` those of one execution",
        key=fragment,
        store=repr(store),
    )


def _read_changed(
    reader: SetReader, batch: Sequence[tuple[SetFolder, str, RecordStamp | None]]
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
