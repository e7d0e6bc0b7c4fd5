"""The third verb: load into the catalog what the results store holds.

Reading and writing are apart. `read_set` turns one set into plain values and touches only the store; the catalog then
takes them in one transaction. `replay` does that for every set below a prefix, and needs neither scratch nor the
machine that ran anything: a results tree that was copied from elsewhere is as good.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

from emdstore.catalog import ExecutionContent, ReplaceResult
from emdstore.emds import (
    RECORD_NAME,
    BundleWarning,
    MetricBundle,
    OutputBundle,
    ResolvedOutput,
    Series,
    Vocabulary,
    artifact_set,
    decode_metric_bundle,
    decode_output_bundle,
    decode_series,
)
from emdstore.errors import (
    ArtifactNotFoundError,
    CatalogError,
    EmdstoreError,
    ExecutionNotFoundError,
    IncompleteSetError,
    RecordError,
)
from emdstore.lifecycle.record import ExecutionRecord, RecordedArtifact, decode_record
from emdstore.lifecycle.result import usual_result
from emdstore.lifecycle.sets import FoundSet, Stamp, find_sets, fragment_at
from emdstore.stores.port import ArtifactStore, SupportsInfo
from emdstore.stores.views import scoped

if TYPE_CHECKING:
    from emdstore.catalog import Catalog, RecordStamp

_log = logging.getLogger(__name__)

T = TypeVar("T")

_READERS = 8
_AHEAD = 16
_NAMED = 5

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
            if found.published and _digest(store.read_bytes(_in(found.location, RECORD_NAME))) == known.digest:
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


# -- reading one set -----------------------------------------------------------------------------------------------


def read_set(
    store: ArtifactStore,
    location: str,
    *,
    vocabulary: Vocabulary | None = None,
    stamp: Stamp | None = None,
) -> ExecutionContent:
    """Read one set from the results store, as the values that the catalog takes.

    Parameters
    ----------
    store
        The results store.
    location
        The set's folder; ``""`` if the store is that folder.
    vocabulary
        See `ingest`.
    stamp
        What a listing said of the record, to be kept for the next replay.

    Returns
    -------
    ExecutionContent
        Of a published set what its record says; values and outputs only if its status is ``uploaded``. Of a bare set
        what can be told from its files.

    Raises
    ------
    ExecutionNotFoundError, IncompleteSetError, RecordError, BundleError
        See `ingest`. Nothing was written anywhere.
    """
    folder = scoped(store, location)
    fragment = fragment_at(store, location)
    try:
        data = folder.read_bytes(RECORD_NAME)
    except ArtifactNotFoundError:
        return _read_bare(folder, fragment, vocabulary, stamp)
    record = decode_record(data, name=_in(location, RECORD_NAME))
    return _read_published(folder, fragment, record, _digest(data), vocabulary, stamp)


@attrs.frozen
class _Rows:
    """A bundle's scalars in the catalog's layout, made one by one when they are written; pickles as the bundle."""

    bundle: MetricBundle

    def __iter__(self) -> Iterator[tuple[float | None, Mapping[str, str], Mapping[str, object] | None]]:
        return ((value, dimensions, attributes) for _, dimensions, value, attributes in self.bundle.iter_rows())


def _read_published(
    folder: ArtifactStore,
    fragment: str,
    record: ExecutionRecord,
    digest: str,
    vocabulary: Vocabulary | None,
    stamp: Stamp | None,
) -> ExecutionContent:
    if record.status is None:
        raise RecordError(
            f"the record of {fragment!r} has no outcome: it is that of a run in scratch, not of a published set",
            key=fragment,
        )
    _check_complete(folder, fragment, record)
    by_role = {each.role: each for each in reversed(record.artifacts)}
    warnings = list(record.warnings)
    if record.fragment != fragment:
        warnings.append(BundleWarning("moved", f"the record says that this set is {record.fragment!r}", "fragment"))
    metric: MetricBundle | None = None
    outputs: tuple[ResolvedOutput, ...] = ()
    series: tuple[Series, ...] = ()
    if record.status == "uploaded":
        if (artifact := by_role.get("metric")) is not None:
            metric = decode_metric_bundle(_read_recorded(folder, fragment, artifact), name=artifact.key)
        if (artifact := by_role.get("series")) is not None:
            series = decode_series(_read_recorded(folder, fragment, artifact), name=artifact.key)
        if (artifact := by_role.get("output")) is not None:
            bundle = decode_output_bundle(_read_recorded(folder, fragment, artifact), name=artifact.key)
            ran_in = record.result.output_directory if record.result is not None else None
            outputs = artifact_set(bundle=bundle, ran_in=ran_in, fragment=record.fragment).outputs
        warnings.extend(_vocabulary_warnings(vocabulary, metric, series, outputs))
    return ExecutionContent(
        fragment=fragment,
        provider=record.provider,
        diagnostic=record.diagnostic,
        group=record.group,
        selectors=record.selectors or None,
        dataset_hash=record.dataset_hash,
        description=record.description,
        status=record.status,
        failure=record.failure,
        reason=record.reason,
        retryable=record.result.retryable if record.result is not None else None,
        dirty=record.dirty,
        host=record.host,
        pid=record.pid,
        created_at=record.created_at,
        started_at=record.started_at,
        stopped_at=record.stopped_at,
        published_at=record.published_at,
        uploaded_at=record.published_at if record.status == "uploaded" else None,
        upload_duration=record.upload_duration,
        artifacts=[
            (each.key, each.role, each.size, each.sha256, each.media_type, each.description)
            for each in record.artifacts
        ],
        **_parts(metric, outputs, series, warnings, digest, stamp),
    )


def _read_bare(
    folder: ArtifactStore, fragment: str, vocabulary: Vocabulary | None, stamp: Stamp | None
) -> ExecutionContent:
    """Read a set that nobody published: identity by its path, and what it names and lacks as warnings."""
    there = _listing(folder)
    result = usual_result(folder)
    if result.metric_bundle_filename is None:
        raise ExecutionNotFoundError(
            f"no set at {fragment!r} in {folder!r}: neither a record ({RECORD_NAME}) nor a metric bundle", key=fragment
        )
    digests = [data := folder.read_bytes(result.metric_bundle_filename)]
    metric = decode_metric_bundle(data, name=result.metric_bundle_filename)
    series: tuple[Series, ...] = ()
    if result.series_filename is not None:
        digests.append(data := folder.read_bytes(result.series_filename))
        series = decode_series(data, name=result.series_filename)
    bundle: OutputBundle | None = None
    if result.output_bundle_filename is not None:
        digests.append(data := folder.read_bytes(result.output_bundle_filename))
        bundle = decode_output_bundle(data, name=result.output_bundle_filename)
    found = artifact_set(
        metric=result.metric_bundle_filename,
        output=result.output_bundle_filename,
        series=result.series_filename,
        bundle=bundle,
        fragment=fragment,
    )
    missing = [
        BundleWarning("missing-artifact", f"{key!r} is named and not there", key)
        for key in found.keys
        if key not in there
    ]
    sizes = {key: there[key] for key in found.keys if key in there}
    digests.append(repr(sizes).encode())
    outputs = tuple(attrs.evolve(each, key=each.key if each.key in there else None) for each in found.outputs)
    warnings = [*metric.warnings, *found.warnings, *missing]
    warnings.extend(_vocabulary_warnings(vocabulary, metric, series, outputs))
    identity = ExecutionRecord.at(fragment)
    return ExecutionContent(
        fragment=fragment,
        provider=identity.provider,
        diagnostic=identity.diagnostic,
        group=identity.group,
        status="uploaded",
        reason="a bare set: read without a record",
        artifacts=[
            (each.key, each.role, sizes[each.key], None, each.media_type, each.description)
            for each in found.artifacts
            if each.key in sizes
        ],
        # What is missing may still come, and the stamp of the bundles would not show it: look again the next time.
        **_parts(
            metric,
            outputs,
            series,
            warnings,
            _digest(b"".join(map(_hashed, digests))),
            None if missing else stamp,
        ),
    )


def _parts(
    metric: MetricBundle | None,
    outputs: Iterable[ResolvedOutput],
    series: Iterable[Series],
    warnings: Iterable[BundleWarning],
    digest: str,
    stamp: Stamp | None,
) -> dict[str, Any]:
    """Return what a published and a bare set have in common, in the catalog's layout."""
    return {
        "outputs": [
            (each.kind, each.name, each.key, each.filename, each.long_name, each.description, each.dimensions)
            for each in outputs
        ],
        "scalars": () if metric is None else _Rows(metric),
        "series": [(each.dimensions, each.index_name, each.index, each.values, each.attributes) for each in series],
        "warnings": [(each.code, each.message, each.place or None) for each in warnings],
        "record_digest": digest,
        "record_size": None if stamp is None else stamp.size,
        "record_modified": None if stamp is None else stamp.modified,
        "record_version": None if stamp is None else stamp.version,
    }


def _check_complete(folder: ArtifactStore, fragment: str, record: ExecutionRecord) -> None:
    there = _listing(folder)
    wrong = [each.key for each in record.artifacts if each.key not in there or there[each.key] not in (None, each.size)]
    if wrong:
        named = ", ".join(repr(key) for key in wrong[:_NAMED]) + (", ..." if len(wrong) > _NAMED else "")
        raise IncompleteSetError(
            f"{fragment!r} is not complete: of {len(record.artifacts)} artifacts that its record names, {len(wrong)} "
            f"are missing or of another size: {named}; copy them again, or wait until the copy is done",
            key=fragment,
        )


def _read_recorded(folder: ArtifactStore, fragment: str, artifact: RecordedArtifact) -> bytes:
    data = folder.read_bytes(artifact.key)
    if _digest(data) != artifact.sha256:
        raise IncompleteSetError(
            f"{artifact.key!r} of {fragment!r} is not what its record says (SHA-256 differs): copy it again",
            key=fragment,
        )
    return data


def _listing(folder: ArtifactStore) -> dict[str, int | None]:
    """Return what a set's folder holds, with sizes where the store tells them."""
    if isinstance(folder, SupportsInfo):
        return {info.key: info.size for info in folder.iter_info()}
    return dict.fromkeys(folder.iter_keys())


def _vocabulary_warnings(
    vocabulary: Vocabulary | None,
    metric: MetricBundle | None,
    series: Iterable[Series],
    outputs: Iterable[ResolvedOutput],
) -> list[BundleWarning]:
    if vocabulary is None:
        return []
    found: dict[BundleWarning, None] = {}
    for _, dimensions, _, _ in metric.iter_rows() if metric is not None else ():
        found.update(dict.fromkeys(vocabulary.check(dimensions)))
    for labels in (*(each.dimensions for each in series), *(each.dimensions for each in outputs)):
        found.update(dict.fromkeys(vocabulary.check(labels)))
    return list(found)


def _in(location: str, name: str) -> str:
    return f"{location}/{name}" if location else name


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hashed(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
