"""The third verb: load into the catalog what the results store holds.

Reading and writing are apart. `emdstore.ingestion.reading` turns one set into plain values and touches only the store;
the catalog then takes them in one transaction. `replay` does that for every set below a prefix, and needs neither
scratch nor the machine that ran anything: a results tree that was copied from elsewhere is as good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import attrs

from emdstore.catalog import ExecutionContent, RecordStamp, ReplaceResult
from emdstore.emds import RECORD_NAME, Vocabulary
from emdstore.errors import ArtifactNotFoundError, CatalogError, EmdstoreError, ExecutorError, IncompleteSetError
from emdstore.ingestion.reading import digest, read_set
from emdstore.keys import join_key
from emdstore.sets.finding import FoundSet, Stamp, find_sets, fragment_at
from emdstore.sets.tally import KEPT, Tally
from emdstore.stores.port import ArtifactStore
from emdstore.workers.backlog import executor_or_threads, map_batches

if TYPE_CHECKING:
    from emdstore.catalog import Catalog

_READERS = 8
_AHEAD = 16  # each may hold all values of a set
_AHEAD_ELSEWHERE = 32
_ASKED_AT_ONCE = 500

State = Literal["ingested", "unchanged", "incomplete", "invalid"]
STATES: tuple[State, ...] = ("ingested", "unchanged", "incomplete", "invalid")
_FAILED: tuple[State, ...] = ("incomplete", "invalid")

ReplayCallback = Callable[["IngestOutcome", int, int | None], object]


@attrs.frozen
class IngestOutcome:
    """What became of one set.

    Attributes
    ----------
    fragment
        The execution.
    state
        ``ingested``; ``unchanged``: the catalog had it; ``incomplete``: not all that its record names is there (yet);
        ``invalid``: the record or a bundle cannot be read, the database refuses what it says, or each worker that read
        it was lost. The last two leave the catalog as it was.
    status
        The execution's status, where it was read.
    artifacts, outputs, scalars, series, warnings
        How many rows the catalog took.
    error
        Why it is incomplete or invalid.
    """

    fragment: str
    state: State
    status: str | None = None
    artifacts: int = 0
    outputs: int = 0
    scalars: int = 0
    series: int = 0
    warnings: int = 0
    error: EmdstoreError | None = attrs.field(default=None, eq=str)


@attrs.frozen
class ReplayReport:
    """What became of the sets that were found.

    Attributes
    ----------
    counts
        How many sets there are of each state.
    outcomes
        Of those that were ingested, and of those that could not be, the first 10,000 each, in the order in which they
        were found. What is unchanged is only counted: to see every set, pass `on_progress` to `replay`.
    seconds
        How long it took.
    """

    counts: Mapping[State, int]
    outcomes: tuple[IngestOutcome, ...] = ()
    seconds: float = 0.0

    @property
    def sets(self) -> int:
        """How many sets were found."""
        return sum(self.counts.values())

    @property
    def failures(self) -> tuple[IngestOutcome, ...]:
        """The sets that could not be ingested, as far as `outcomes` has them."""
        return tuple(each for each in self.outcomes if each.state in _FAILED)

    @property
    def ok(self) -> bool:
        """Whether the catalog holds every set that was found."""
        return not any(self.counts[state] for state in _FAILED)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "seconds": round(self.seconds, 3),
            "counts": dict(self.counts),
            "executions": [
                attrs.asdict(each) | {"error": None if each.error is None else str(each.error)}
                for each in self.outcomes
            ],
        }


class ReplayInterrupted(KeyboardInterrupt):
    """Ctrl-C during a replay. What was ingested is whole; running it again goes on from here.

    Attributes
    ----------
    report
        What was done until then.
    """

    def __init__(self, report: ReplayReport) -> None:
        super().__init__("the replay was interrupted; run it again to go on")
        self.report = report


def ingest(
    store: ArtifactStore, fragment: str, catalog: Catalog, *, vocabulary: Vocabulary | None = None
) -> IngestOutcome:
    """Load one set into the catalog, in place of what the catalog held of it.

    Everything is read from the results store, and written in one transaction: afterwards the catalog says either all of
    the old or all of the new. Twice is the same as once.

    Parameters
    ----------
    store
        The results store.
    fragment
        The set's folder: one with a record, or a bare one with the usual metric bundle.
    catalog
        Where to.
    vocabulary
        What dimensions and values are compared with; what it does not know is stored and reported as a warning.

    Returns
    -------
    IngestOutcome
        With the counts of what is in the catalog now.

    Raises
    ------
    ExecutionNotFoundError
        If there is no set in this folder.
    IncompleteSetError
        If the record names what is not there, or not as the record says.
    RecordError, BundleError
        If the record or a bundle cannot be read.
    CatalogError
        If the database failed. After any error the catalog is as it was.
    """
    content = read_set(store, fragment, vocabulary=vocabulary)
    return _ingested(content, catalog.replace_execution(content))


def replay(
    store: ArtifactStore,
    catalog: Catalog,
    prefix: str = "",
    *,
    vocabulary: Vocabulary | None = None,
    executor: Executor | None = None,
    on_progress: ReplayCallback | None = None,
) -> ReplayReport:
    """Load every set below a prefix into the catalog: rebuild it, or bring it up to date.

    Finds published sets by their records, and bare ones (see `find_sets`). Each is ingested by itself, and one that
    fails stops no other. A set that the catalog has, by its record's digest, is not read again; where the store tells
    sizes, times and versions, that costs nothing but the listing. Memory does not grow with the store.

    Parameters
    ----------
    store
        The results store.
    catalog
        Where to.
    prefix
        Only what lies in this folder.
    vocabulary
        See `ingest`.
    executor
        Where sets are read and decoded, ahead of the database, which this thread writes; by default a few threads.
        The store must pickle for processes. What a lost worker had in hand is read by another one.
    on_progress
        Called after each set with its outcome, the number done, and the number found; that is None until the listing
        has come to its end. What it raises is logged.

    Returns
    -------
    ReplayReport
        How many sets there are of each state, and what was ingested or could not be.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    CatalogError
        If the database cannot be used. What was ingested until then is whole.
    ExecutorError
        If the executor takes no work, the store cannot be sent to its workers, or these have another emdstore.
    ReplayInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far.
    """
    run = _Replay(store, catalog, on_progress)
    ahead = _AHEAD if executor is None else _AHEAD_ELSEWHERE
    try:
        with (
            executor_or_threads(executor, _READERS, "read") as readers,
            closing(
                map_batches(readers, _read_changed, store, vocabulary, items=run.changed(prefix), given=ahead)
            ) as sets,
        ):
            for (_, fragment, _), read in sets:
                run.settle(IngestOutcome(fragment, "invalid", error=read) if isinstance(read, ExecutorError) else read)
        run.note_stamps()
    except KeyboardInterrupt:
        raise ReplayInterrupted(run.report()) from None
    return run.report()


class _Replay:
    """What one replay has come to. All of it happens in the calling thread; only sets are read elsewhere."""

    def __init__(
        self,
        store: ArtifactStore,
        catalog: Catalog,
        on_progress: ReplayCallback | None,
    ) -> None:
        self._store, self._catalog = store, catalog
        self._tally = Tally(on_progress)
        self._counts = dict.fromkeys(STATES, 0)
        self._kept: list[IngestOutcome] = []
        self._stamps: list[RecordStamp] = []
        self._started = time.monotonic()

    def changed(self, prefix: str) -> Iterator[tuple[FoundSet, str, RecordStamp | None]]:
        """Find the sets; yield what `_read_changed` takes for each that is not surely as the catalog has it."""
        found = self._tally.count(find_sets(self._store, prefix))
        # Some at a time: a query that stays open would hold back every writer of a database without write-ahead log.
        while some := list(islice(found, _ASKED_AT_ONCE)):
            named = [(each, fragment_at(self._store, each.location)) for each in some]
            known = self._catalog.record_stamps([fragment for _, fragment in named])
            for each, fragment in named:
                before = known.get(fragment)
                if before is not None and each.stamp is not None and each.stamp == _stamp_of(before):
                    self._done(IngestOutcome(fragment, "unchanged"))
                else:
                    yield each, fragment, before

    def settle(self, read: ExecutionContent | RecordStamp | IngestOutcome) -> None:
        """Write what was read, if it has to be."""
        if isinstance(read, ExecutionContent):
            self._done(self._replace(read))
        elif isinstance(read, RecordStamp):
            if read.version is not None:
                self._stamps.append(read)
                if len(self._stamps) == _ASKED_AT_ONCE:
                    self.note_stamps()
            self._done(IngestOutcome(read.fragment, "unchanged"))
        else:
            self._done(read)

    def note_stamps(self) -> None:
        """Have the catalog note what the listing says now of sets that it has: they will not be read the next time."""
        stamps, self._stamps = self._stamps, []
        if stamps:
            self._catalog.note_stamps(stamps)

    def report(self) -> ReplayReport:
        return ReplayReport(dict(self._counts), tuple(self._kept), time.monotonic() - self._started)

    def _done(self, outcome: IngestOutcome) -> None:
        self._counts[outcome.state] += 1
        kind: tuple[State, ...] = _FAILED if outcome.state in _FAILED else (outcome.state,)
        if outcome.state != "unchanged" and sum(self._counts[state] for state in kind) <= KEPT:
            self._kept.append(outcome)
        self._tally.done(outcome)

    def _replace(self, content: ExecutionContent) -> IngestOutcome:
        try:
            return _ingested(content, self._catalog.replace_execution(content))
        except CatalogError as error:
            self._catalog.check()  # raises if the database is gone: no other set would fare better
            return IngestOutcome(content.fragment, "invalid", error=error)


def _read_changed(
    store: ArtifactStore, vocabulary: Vocabulary | None, batch: Sequence[tuple[FoundSet, str, RecordStamp | None]]
) -> list[ExecutionContent | RecordStamp | IngestOutcome]:
    return [_read_if_changed(store, *each, vocabulary) for each in batch]


def _read_if_changed(
    store: ArtifactStore, found: FoundSet, fragment: str, known: RecordStamp | None, vocabulary: Vocabulary | None
) -> ExecutionContent | RecordStamp | IngestOutcome:
    """Read a set; of one that turns out to be as the catalog has it return the stamp that it has now."""
    try:
        record = join_key(found.location, RECORD_NAME)
        if found.published and known is not None and digest(store.read_bytes(record)) == known.digest:
            return _restamped(known, found.stamp)
        content = read_set(store, found.location, vocabulary=vocabulary, stamp=found.stamp)
        if known is not None and content.record_digest == known.digest:
            return _restamped(known, found.stamp if content.record_version is not None else None)
        return content
    except (IncompleteSetError, ArtifactNotFoundError) as error:
        return IngestOutcome(fragment, "incomplete", error=error)
    except EmdstoreError as error:
        return IngestOutcome(fragment, "invalid", error=error)


def _restamped(known: RecordStamp, stamp: Stamp | None) -> RecordStamp:
    told = (None, None, None) if stamp is None else (stamp.size, stamp.modified, stamp.version)
    return RecordStamp(known.fragment, known.digest, *told)


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
    )
