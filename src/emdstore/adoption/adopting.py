"""Adopting what another framework has written: find the sets, copy their files, publish them as all others are.

Found sets are put together in a temporary folder, and published from there by `publish_pending_executions`, as
executions that ran on a machine without the catalog. So all its promises hold, and a second call changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from itertools import islice
from typing import Any, Literal, TypeAlias

import attrs

from emdstore.adoption import cmec, esmvaltool, ilamb, pmp
from emdstore.adoption.found import Adopter, FoundSet, Left, Source
from emdstore.emds import (
    RECORD_NAME,
    RETRACTION_NAME,
    MetricBundle,
    OutputBundle,
    OutputEntry,
    encode_metric_bundle,
    encode_output_bundle,
    encode_series,
)
from emdstore.errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    EmdstoreError,
    SourceChangedError,
    WorkspaceError,
)
from emdstore.executions.locations import Locations
from emdstore.executions.scratch import write_scratch_record
from emdstore.executions.without_catalog import publish_pending_executions
from emdstore.ingestion.replay import ingest
from emdstore.keys import join_key
from emdstore.progress import tell
from emdstore.sets.record import ExecutionRecord, read_record
from emdstore.sets.result import LOG_NAME, METRIC_NAME, OUTPUT_NAME, SERIES_NAME, ExecutionResult
from emdstore.shown import Shown
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore
from emdstore.stores.sameness import refuse_same_place
from emdstore.stores.urls import StoreLike, as_store
from emdstore.stores.views import scoped
from emdstore.transfers import move

ENTRY_POINTS = "emdstore.adopters"

AdoptionOutcome: TypeAlias = Literal["published", "updated", "unchanged", "failed", "would be published", "is there"]

_OURS: Mapping[str, Adopter] = {
    each.__name__.rpartition(".")[2]: each.find_sets for each in (cmec, esmvaltool, ilamb, pmp)
}

_AT_ONCE = 16
"""How many sets are put together before they are published, so that their copies never need much space."""

_OUR_NAMES = (LOG_NAME, METRIC_NAME, OUTPUT_NAME, SERIES_NAME, RECORD_NAME, RETRACTION_NAME)
_MARK = "adopted"
_NOT_IN_A_SEGMENT = re.compile(r"[^\w.+-]+")


@attrs.frozen(kw_only=True)
class AdoptedSet:
    """One set that was adopted, or would be.

    Attributes
    ----------
    fragment
        Its folder in the results store.
    outcome
        ``published``: it is new; ``updated``: it replaced another version; ``unchanged``: exactly this was published
        already, byte by byte; ``failed``: see `error`. Of a dry run: ``would be published``, or ``is there``, so that
        it would be compared.
    scalars, series, plots, data, html, datasets
        How much is in it.
    error
        Why it could not be published, or loaded into the catalog.
    """

    fragment: str
    outcome: AdoptionOutcome
    scalars: int = 0
    series: int = 0
    plots: int = 0
    data: int = 0
    html: int = 0
    datasets: int = 0
    error: Exception | None = attrs.field(default=None, eq=str)


@attrs.frozen(kw_only=True, repr=False)
class AdoptionReport(Shown):
    """What `adopt` did.

    Attributes
    ----------
    framework
        The adopter.
    sets
        The sets that were found.
    left
        What is in the folder and in no set, with reasons.
    """

    framework: str
    sets: tuple[AdoptedSet, ...]
    left: tuple[Left, ...]

    @property
    def ok(self) -> bool:
        """Whether every set was adopted, and no results were lost on the way."""
        return all(each.error is None for each in self.sets) and not any(each.lost for each in self.left)


@attrs.frozen
class _Packed:
    """A found set, with its identity and its bundles."""

    fragment: str
    found: FoundSet
    bundles: dict[str, bytes]
    about: AdoptedSet


def adopt(
    place: Locations | StoreLike,
    framework: str,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    dry_run: bool = False,
    on_progress: Callable[[str, int, int], object] | None = None,
) -> AdoptionReport:
    """Publish what another framework has written as sets. The folder is read, and never changed.

    Once more changes nothing: the files are compared with what is published, byte by byte. If the folder has changed,
    a set of the same name is replaced, as by a commit: never with less, and never against a release. Copies of the
    files are made in the system's temporary folder (``TMPDIR``), some sets at a time.

    Parameters
    ----------
    place
        The workspace, whose catalog gets the rows; or only a results store, its path or URL.
    framework
        The adopter: ``esmvaltool``, ``pmp``, ``ilamb``, ``cmec``, or that of an installed package.
    path
        The folder.
    name
        What to call the execution, instead of what the adopter takes from the folder.
    dry_run
        Only find the sets.
    on_progress
        Called with the last set's fragment, the number of sets done, and the total. Its exceptions are logged.

    Returns
    -------
    AdoptionReport
        The sets, and what was left out. A set that could not be published is among them, and does not stop the others.

    Raises
    ------
    WorkspaceError
        If there is no such adopter.
    StoreNotFoundError
        If there is no such folder.
    BundleError
        If the folder does not hold what this framework writes. Nothing was changed.
    MissingExtraError
        If the adopter needs more than is installed. Nothing was changed.
    SameStoreError
        If the folder is the results store.
    """
    adopters = known_adopters()
    if framework not in adopters:
        raise WorkspaceError(f"nothing here adopts {framework!r}: there are {', '.join(adopters)}")
    source = Source(path)
    workspace = place if isinstance(place, Locations) else None
    results = as_store(place) if workspace is None else workspace.results  # type: ignore[arg-type]
    if workspace is not None:
        workspace.bind()
    refuse_same_place(source.store, results)
    packed = _pack_all(adopters[framework](source), source, name)
    taken = {key for each in packed for key in _keys_of(each.found)}
    left = (*source.left, *source.untold(taken))
    if dry_run:
        told = tuple(attrs.evolve(each.about, outcome=_would_be(results, each.fragment)) for each in packed)
        return AdoptionReport(framework=framework, sets=told, left=left)
    if workspace is not None:
        workspace.bind(publishing=True)
    done: list[AdoptedSet] = []
    rest = iter(packed)
    while some := list(islice(rest, _AT_ONCE)):
        for each in _publish(some, source, results, workspace, framework):
            done.append(each)
            tell(on_progress, each.fragment, len(done), len(packed))
    return AdoptionReport(framework=framework, sets=tuple(done), left=left)


def known_adopters() -> dict[str, Adopter]:
    """Return all adopters by name: emdstore's own, and those of installed packages.

    Raises
    ------
    WorkspaceError
        If one of an installed package cannot be loaded.
    """
    found: dict[str, Adopter] = dict(_OURS)
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            found[entry.name] = entry.load()
        except Exception as error:
            raise WorkspaceError(f"the adopter {entry.name} ({entry.value}) cannot be loaded: {error}") from error
    return found


# -- what is to be published -----------------------------------------------------------------------------------------


def _pack_all(found: Iterable[FoundSet], source: Source, name: str | None) -> list[_Packed]:
    """Give each set its identity and its bundles; `SourceChangedError` if two have the same identity."""
    packed: dict[str, _Packed] = {}
    for each in found:
        one = _pack(_without_our_names(each, source), name)
        if one.fragment in packed:
            raise WorkspaceError(f"two sets in {str(source.path)!r} would have the same name, {one.fragment!r}")
        packed[one.fragment] = one
    return list(packed.values())


def _without_our_names(found: FoundSet, source: Source) -> FoundSet:
    kept = tuple(each for each in found.outputs if each.key not in _OUR_NAMES)
    for each in found.outputs:
        if each.key in _OUR_NAMES:
            source.leave_out(each.key, "has a name that is reserved for a file of the set itself", lost=True)
    return attrs.evolve(found, outputs=kept)


def _pack(found: FoundSet, name: str | None) -> _Packed:
    entries = tuple(
        OutputEntry(each.kind, each.key, each.key, each.long_name, each.description, each.dimensions)
        for each in found.outputs
    )
    provenance: dict[str, Any] = {
        "environment": dict(found.software),
        "modeldata": [each.name for each in found.datasets if each.role != "reference"],
        "obsdata": {each.name: {"version": each.version} for each in found.datasets if each.role == "reference"},
        "log": LOG_NAME,
    }
    series = [attrs.evolve(each, position=number) for number, each in enumerate(found.series)]
    bundles = {
        METRIC_NAME: encode_metric_bundle(found.metric, name=METRIC_NAME),
        OUTPUT_NAME: encode_output_bundle(OutputBundle(entries, found.index, provenance), name=OUTPUT_NAME),
        SERIES_NAME: encode_series(series, name=SERIES_NAME),
    }
    own = name or found.name or _digest(bundles[METRIC_NAME], bundles[SERIES_NAME], *sorted(_keys_of(found)))
    group = [segment(each) for each in found.group.split("/")]
    fragment = join_key(segment(found.provider), segment(found.diagnostic), *group, segment(own))
    kinds = [each.kind for each in found.outputs]
    about = AdoptedSet(
        fragment=fragment,
        outcome="published",
        scalars=_count(found.metric),
        series=len(series),
        plots=kinds.count("plot"),
        data=kinds.count("data"),
        html=kinds.count("html"),
        datasets=len(found.datasets),
    )
    return _Packed(fragment, found, bundles, about)


def segment(text: str) -> str:
    """Return a text as one segment of a fragment."""
    return _NOT_IN_A_SEGMENT.sub("-", text).strip("-.") or "unnamed"


def _count(metric: MetricBundle) -> int:
    return sum(1 for _ in metric.iter_rows())


def _digest(*parts: bytes | str) -> str:
    told = b"\0".join(each if isinstance(each, bytes) else each.encode() for each in parts)
    return hashlib.sha256(told).hexdigest()[:12]


def _keys_of(found: FoundSet) -> Iterator[str]:
    yield from (each.key for each in found.outputs)
    if found.log is not None:
        yield found.log


# -- publishing ------------------------------------------------------------------------------------------------------


def _would_be(results: ArtifactStore, fragment: str) -> AdoptionOutcome:
    return "would be published" if _record_there(results, fragment) is None else "is there"


def _record_there(results: ArtifactStore, fragment: str) -> str | None:
    try:
        return sha256_of(scoped(results, fragment).read_bytes(RECORD_NAME))
    except ArtifactNotFoundError:
        return None


def _publish(
    packed: list[_Packed], source: Source, results: ArtifactStore, workspace: Locations | None, framework: str
) -> Iterator[AdoptedSet]:
    """Put some sets together, publish them, and load them into the catalog if there is one."""
    with tempfile.TemporaryDirectory(prefix="emdstore-adopt-") as folder:
        here = Locations(scratch=folder, results=results, catalog="sqlite://")
        before: dict[str, str | None] = {}
        failed: dict[str, Exception] = {}
        for each in packed:
            try:
                before[each.fragment] = _record_there(results, each.fragment)
                _refuse_others(results, each.fragment)
                _stage(each, source, here, framework)
            except EmdstoreError as error:
                failed[each.fragment] = error
        staged = [each.fragment for each in packed if each.fragment not in failed]
        if staged:
            report = publish_pending_executions(here, execution_ids=staged)
            failed |= {each.fragment: each.error for each in report.errors}
            failed |= {name: SourceChangedError(why, key=name) for name, why in report.skipped.items()}
    for each in packed:
        problem = failed.get(each.fragment)
        if problem is None and workspace is not None:
            problem = _load(workspace, each.fragment)
        if problem is not None:
            yield attrs.evolve(each.about, outcome="failed", error=problem)
            continue
        there = before[each.fragment]
        same = _record_there(results, each.fragment) == there
        yield attrs.evolve(each.about, outcome="published" if there is None else "unchanged" if same else "updated")


def _refuse_others(results: ArtifactStore, fragment: str) -> None:
    """Refuse to replace a set that was not adopted and has the same name by chance."""
    record = read_record(scoped(results, fragment))
    if record is not None and not record.is_open and _MARK not in record.extra:
        raise ArtifactExistsError(
            f"{fragment!r} in {results!r} is the set of a run, and was not adopted: give another name",
            key=fragment,
            store=repr(results),
        )


def _load(workspace: Locations, fragment: str) -> EmdstoreError | None:
    try:
        ingest(workspace.results, fragment, workspace.catalog, vocabulary=workspace.vocabulary)
    except EmdstoreError as error:
        return error
    return None


def _stage(packed: _Packed, source: Source, here: Locations, framework: str) -> None:
    """Copy the files of a set, and write its bundles and its record, which comes last."""
    found, folder = packed.found, here.scratch.scope(packed.fragment)
    log = b"" if found.log is None else source.read(found.log)
    folder.write_bytes(LOG_NAME, log or f"Adopted from what {framework} has written, which holds no log.\n".encode())
    if found.successful:
        move(source.store, folder, [each.key for each in found.outputs], unchanged="never").raise_for_failures()
        for name, data in packed.bundles.items():
            folder.write_bytes(name, data)
    provider, diagnostic, *_ = packed.fragment.split("/")
    record = ExecutionRecord(
        fragment=packed.fragment,
        provider=provider,
        diagnostic=diagnostic,
        group="/".join(packed.fragment.split("/")[2:-1]),
        selectors=found.selectors,
        description=found.description,
        created_at=found.started_at,
        started_at=found.started_at,
        stopped_at=found.stopped_at,
        datasets=found.datasets,
        provider_version=found.provider_version,
        software=found.software,
        extra={_MARK: framework},
        result=ExecutionResult(
            successful=found.successful,
            metric_bundle_filename=METRIC_NAME if found.successful else None,
            output_bundle_filename=OUTPUT_NAME if found.successful else None,
            series_filename=SERIES_NAME if found.successful else None,
            output_directory=os.fspath(source.path),  # the same at each call, as the temporary folder is not
        ),
    )
    write_scratch_record(here.scratch, record)
