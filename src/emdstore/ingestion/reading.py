"""Reading one published or bare set from a results store, as the values that the catalog takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from emdstore.catalog import ExecutionContent
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
from emdstore.errors import ArtifactNotFoundError, ExecutionNotFoundError, IncompleteSetError, RecordError
from emdstore.keys import join_key
from emdstore.sets.finding import Stamp, fragment_at, stamp_of
from emdstore.sets.record import ExecutionRecord, RecordedArtifact, decode_record
from emdstore.sets.result import usual_result
from emdstore.stores.port import ArtifactStore, SupportsStreaming
from emdstore.stores.views import scoped
from emdstore.transfers import listing_of

_NAMED = 5


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
        What a listing said of the record, to be kept for the next replay; by default what the store says of the record
        when it is read.

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
        data, told = _read_with_stamp(folder, RECORD_NAME)
    except ArtifactNotFoundError:
        return _read_bare(folder, fragment, vocabulary, stamp)
    record = decode_record(data, name=join_key(location, RECORD_NAME))
    return _read_published(folder, fragment, record, digest(data), vocabulary, stamp or told)


def _read_with_stamp(folder: ArtifactStore, key: str) -> tuple[bytes, Stamp | None]:
    """Read a file whole, and take what the store says of that very version along where it costs nothing."""
    if not isinstance(folder, SupportsStreaming):
        return folder.read_bytes(key), None
    with folder.open_reader(key) as reader:
        return b"".join(iter(reader.read, b"")), stamp_of(reader.info)


@attrs.frozen
class _Rows:
    """A bundle's scalars in the catalog's layout, made one by one when they are written; pickles as the bundle."""

    bundle: MetricBundle

    def __iter__(self) -> Iterator[tuple[float | None, Mapping[str, str], Mapping[str, object] | None]]:
        return self.bundle.iter_rows()


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
            digest(b"".join(map(_hashed, digests))),
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
    if digest(data) != artifact.sha256:
        raise IncompleteSetError(
            f"{artifact.key!r} of {fragment!r} is not what its record says (SHA-256 differs): copy it again",
            key=fragment,
        )
    return data


def _listing(folder: ArtifactStore) -> dict[str, int | None]:
    """Return what a set's folder holds, with sizes where the store tells them."""
    return {key: None if info is None else info.size for key, info in listing_of(folder).items()}


def _vocabulary_warnings(
    vocabulary: Vocabulary | None,
    metric: MetricBundle | None,
    series: Iterable[Series],
    outputs: Iterable[ResolvedOutput],
) -> list[BundleWarning]:
    if vocabulary is None:
        return []
    found: dict[BundleWarning, None] = {}
    for _, dimensions, _ in metric.iter_rows() if metric is not None else ():
        found.update(dict.fromkeys(vocabulary.check(dimensions)))
    for labels in (*(each.dimensions for each in series), *(each.dimensions for each in outputs)):
        found.update(dict.fromkeys(vocabulary.check(labels)))
    return list(found)


def digest(data: bytes) -> str:
    """Return the SHA-256 of some bytes, as a hex digest."""
    return hashlib.sha256(data).hexdigest()


def _hashed(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
