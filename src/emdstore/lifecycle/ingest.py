"""The third verb: load into the catalog what the results store holds.

Reading and writing are apart. `emdstore.lifecycle.reading` turns one set into plain values and touches only the store;
the catalog then takes them in one transaction. `replay` does that for every set below a prefix, and needs neither
scratch nor the machine that ran anything: a results tree that was copied from elsewhere is as good.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

from emdstore.catalog import ExecutionContent, ReplaceResult
from emdstore.emds import RECORD_NAME, Vocabulary
from emdstore.errors import ArtifactNotFoundError, CatalogError, EmdstoreError, IncompleteSetError
from emdstore.keys import join_key
from emdstore.lifecycle.reading import digest, read_set
from emdstore.lifecycle.sets import FoundSet, Stamp, find_sets, fragment_at
from emdstore.stores.port import ArtifactStore

if TYPE_CHECKING:
    from emdstore.catalog import Catalog, RecordStamp

_log = logging.getLogger(__name__)

T = TypeVar("T")

_READERS = 8
_AHEAD = 16

State = Literal["ingested", "unchanged", "incomplete", "invalid"]
STATES: tuple[State, ...] = ("ingested", "unchanged", "incomplete", "invalid")

ReplayCallback = Callable[["IngestOutcome", int, int], object]


@attrs.frozen
class IngestOutcome:
    """What became of one set.

    Attributes
    ----------
    fragment
        The execution.
    state
        ``ingested``; ``unchanged``: the catalog had it; ``incomplete``: not all that its record names is there (yet);
        ``invalid``: the record or a bundle cannot be read, or the database refuses what it says. The last two leave the
        catalog as it was.
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
    """One outcome for each set that was found.

    Attributes
    ----------
    outcomes
        In the order of their folders.
    seconds
        How long it took.
    """

    outcomes: tuple[IngestOutcome, ...]
    seconds: float = 0.0

    @property
    def counts(self) -> dict[State, int]:
        """How many sets there are of each state."""
        return {state: sum(each.state == state for each in self.outcomes) for state in STATES}

    @property
    def failures(self) -> tuple[IngestOutcome, ...]:
        """The sets that could not be ingested."""
        return tuple(each for each in self.outcomes if each.state in ("incomplete", "invalid"))

    @property
    def ok(self) -> bool:
        """Whether the catalog holds every set that was found."""
        return not self.failures

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
    sizes, times and versions, that costs nothing but the listing.

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
    on_progress
        Called after each set with its outcome, the number done, and the number found. What it raises is logged.

    Returns
    -------
    ReplayReport
        One outcome for each set.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    CatalogError
        If the database cannot be used. What was ingested until then is whole.
    ReplayInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far.
    """
    started = time.monotonic()
    known = {stamp.fragment: stamp for stamp in catalog.record_stamps(prefix)}
    found = find_sets(store, prefix)
    calls = ((store, each, known.get(fragment_at(store, each.location)), vocabulary) for each in found)
    outcomes: list[IngestOutcome] = []
    own = ThreadPoolExecutor(_READERS, thread_name_prefix="emdstore-read") if executor is None else None
    try:
        for read in bounded_map(executor or own, _read_if_changed, calls):
            if isinstance(read, ExecutionContent):
                read = _replace(read, catalog)
            outcomes.append(read)
            _tell(on_progress, read, len(outcomes), len(found))
    except KeyboardInterrupt:
        raise ReplayInterrupted(ReplayReport(tuple(outcomes), time.monotonic() - started)) from None
    finally:
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)
    return ReplayReport(tuple(outcomes), time.monotonic() - started)


def bounded_map(executor: Executor | None, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> Iterator[T]:
    """Call a function in an executor for each tuple of arguments; yield what it returns in order, a few calls ahead.

    What the function raises is raised here. Calls that have not started when the iteration ends are cancelled.
    """
    assert executor is not None
    running: deque[Future[T]] = deque()
    try:
        for arguments in calls:
            running.append(executor.submit(function, *arguments))
            if len(running) > _AHEAD:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


def _read_if_changed(
    store: ArtifactStore, found: FoundSet, known: RecordStamp | None, vocabulary: Vocabulary | None
) -> ExecutionContent | IngestOutcome:
    fragment = fragment_at(store, found.location)
    try:
        if known is not None:
            if found.stamp is not None and found.stamp == _stamp_of(known):
                return IngestOutcome(fragment, "unchanged")
            if found.published and digest(store.read_bytes(join_key(found.location, RECORD_NAME))) == known.digest:
                return IngestOutcome(fragment, "unchanged")
        content = read_set(store, found.location, vocabulary=vocabulary, stamp=found.stamp)
        if known is not None and content.record_digest == known.digest:
            return IngestOutcome(fragment, "unchanged")
        return content
    except (IncompleteSetError, ArtifactNotFoundError) as error:
        return IngestOutcome(fragment, "incomplete", error=error)
    except EmdstoreError as error:
        return IngestOutcome(fragment, "invalid", error=error)


def _stamp_of(known: RecordStamp) -> Stamp | None:
    if known.size is None or known.modified is None or known.version is None:
        return None
    return Stamp(known.size, known.modified, known.version)


def _replace(content: ExecutionContent, catalog: Catalog) -> IngestOutcome:
    try:
        return _ingested(content, catalog.replace_execution(content))
    except CatalogError as error:
        catalog.check()  # raises if the database is gone: no other set would fare better
        return IngestOutcome(content.fragment, "invalid", error=error)


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


def _tell(on_progress: ReplayCallback | None, outcome: IngestOutcome, done: int, total: int) -> None:
    if on_progress is not None:
        try:
            on_progress(outcome, done, total)
        except Exception:  # noqa: BLE001 - a display must not cost the result
            _log.exception("the progress callback failed; the replay goes on")
