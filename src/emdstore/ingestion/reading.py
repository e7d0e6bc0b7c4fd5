"""Reading one published or bare set from a results store, as values for the catalog."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import attrs

from emdstore.catalog import ExecutionContent
from emdstore.catalog.content import Input, ScalarTable
from emdstore.catalog.references import described_units
from emdstore.emds import (
    BundleRole,
    BundleWarning,
    MetricBundle,
    OutputBundle,
    ResolvedOutput,
    Series,
    Vocabulary,
    artifact_set,
    read_bundle,
)
from emdstore.errors import BundleError
from emdstore.sets.finding import Stamp
from emdstore.sets.origin import Dataset, Resources, datasets_in, software_in
from emdstore.sets.record import ExecutionRecord, RecordedInput
from emdstore.sets.retraction import Retraction
from emdstore.sets.state import SetLook, look_at_set
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore

_ROLES: tuple[BundleRole, ...] = ("metric", "output", "series")


def read_set(
    store: ArtifactStore,
    location: str,
    *,
    vocabulary: Vocabulary | None = None,
    incomplete: bool = False,
    stamp: Stamp | None = None,
) -> ExecutionContent:
    """Read one set from the results store, as values for the catalog.

    Parameters
    ----------
    store
        The results store.
    location
        The set's folder; ``""`` if the store is that folder.
    vocabulary, incomplete
        See `ingest`.
    stamp
        The record's stamp from a listing, kept for the next replay; by default from the store when the record is read.

    Returns
    -------
    ExecutionContent
        See `content_of`.

    Raises
    ------
    ExecutionNotFoundError, IncompleteSetError, RecordError, BundleError
        See `ingest`. Nothing was written anywhere.
    """
    return content_of(look_at_set(store, location, stamp=stamp), vocabulary=vocabulary, incomplete=incomplete)


def content_of(look: SetLook, *, vocabulary: Vocabulary | None = None, incomplete: bool = False) -> ExecutionContent:
    """Turn a set that was looked at into values for the catalog.

    The same bundles give the same values, with or without a record.

    Parameters
    ----------
    look
        The set.
    vocabulary, incomplete
        See `replay`.

    Returns
    -------
    ExecutionContent
        For a set with a record, what the record says, and values and outputs if it is published; for an incomplete set
        those of its intact bundles. For a bare set, what its files tell.

    Raises
    ------
    EmdstoreError
        If the set may not be used (`SetLook.error`).
    BundleError
        If a bundle is malformed.
    """
    is_gappy = look.state == "incomplete" and look.record is None
    if look.error is not None and not (incomplete and is_gappy):
        raise look.error
    if look.record is None:
        return _bare_content(look, vocabulary)
    return _recorded_content(look, look.record, vocabulary)


@attrs.frozen
class _Rows:
    """A bundle's scalars in the catalog's layout, created one by one when they are written; pickles as the bundle."""

    bundle: MetricBundle

    def __iter__(self) -> Iterator[tuple[float | None, Mapping[str, str], Mapping[str, object] | None]]:
        return self.bundle.iter_rows()

    def iter_tables(self) -> Iterator[ScalarTable]:
        return self.bundle.iter_tables()


@attrs.frozen
class _Decoded:
    """The bundles of a set."""

    metric: MetricBundle | None = None
    output: OutputBundle | None = None
    series: tuple[Series, ...] = ()
    warnings: tuple[BundleWarning, ...] = ()


def _decode(look: SetLook, names: Mapping[str, str], *, leave_out: bool = False) -> _Decoded:
    found: dict[str, Any] = {}
    warnings: list[BundleWarning] = []
    for role in _ROLES:
        if role in look.bundles:
            try:
                found[role], odd = read_bundle(role, look.bundles[role], name=names[role])
            except BundleError:
                if leave_out:  # its record says that it is not right
                    continue
                raise
            warnings.extend(odd)
    return _Decoded(**found, warnings=tuple(warnings))


def _recorded_content(look: SetLook, record: ExecutionRecord, vocabulary: Vocabulary | None) -> ExecutionContent:
    names = {each.role: each.key for each in reversed(record.artifacts)}
    has_values = look.state in ("published", "incomplete")
    bundles = _decode(look, names, leave_out=look.state == "incomplete") if has_values else _Decoded()
    outputs: tuple[ResolvedOutput, ...] = ()
    if bundles.output is not None:
        ran_in = record.result.output_directory if record.result is not None else None
        outputs = artifact_set(bundle=bundles.output, ran_in=ran_in, fragment=record.fragment).outputs
        outputs = _resolved(outputs, {each.key for each in record.artifacts})
    warnings = list(record.warnings)
    if record.fragment != look.fragment:
        warnings.append(BundleWarning("moved", f"the record says that this set is {record.fragment!r}", "fragment"))
    warnings += bundles.warnings
    warnings += _vocabulary_warnings(vocabulary, bundles.metric, bundles.series, outputs)
    return ExecutionContent(
        fragment=look.fragment,
        provider=record.provider,
        diagnostic=record.diagnostic,
        group=record.group,
        selectors=record.selectors or None,
        dataset_hash=record.dataset_hash,
        description=record.description,
        status=record.status or "failed",
        failure=record.failure,
        reason=record.reason,
        cause=record.cause or look.cause,
        retryable=record.result.retryable if record.result is not None else None,
        dirty=record.dirty,
        host=record.host,
        pid=record.pid,
        provider_version=record.provider_version,
        diagnostic_version=record.diagnostic_version,
        **attrs.asdict(record.resources or Resources()),
        created_at=record.created_at,
        started_at=record.started_at,
        stopped_at=record.stopped_at,
        published_at=record.published_at,
        uploaded_at=record.published_at if record.status == "uploaded" else None,
        upload_duration=record.upload_duration,
        generation=record.generation,
        artifacts=[
            (each.key, each.role, each.size, each.sha256, each.media_type, each.description)
            for each in record.artifacts
        ],
        **_origin(bundles.output, record.datasets, record.inputs, record.software),
        **_parts(look, bundles, outputs, warnings, look.record_digest, look.stamp),
    )


def _resolved(outputs: Iterable[ResolvedOutput], there: Collection[str]) -> tuple[ResolvedOutput, ...]:
    """Keep the key only of outputs whose file or folder is part of the set."""
    folders = {key[:end] for key in there for end, letter in enumerate(key) if letter == "/"}
    return tuple(
        each if each.key is None or each.key in there or each.key in folders else attrs.evolve(each, key=None)
        for each in outputs
    )


def _bare_content(look: SetLook, vocabulary: Vocabulary | None) -> ExecutionContent:
    """Read a set without a record: its identity comes from its path, and what it lacks becomes warnings."""
    assert look.named is not None
    named, listing = look.named, look.listing
    names: dict[str, str] = {each.role: each.key for each in reversed(named.artifacts)}
    bundles = _decode(look, names)
    sizes = {key: None if (info := listing[key]) is None else info.size for key in named.keys if key in listing}
    missing = [
        BundleWarning("missing-artifact", f"{key!r} is named and not there", key)
        for key in named.keys
        if key not in listing
    ]
    warnings = [*bundles.warnings, *named.warnings, *missing]
    outputs = _resolved(named.outputs, listing)
    warnings += _vocabulary_warnings(vocabulary, bundles.metric, bundles.series, outputs)
    hashed = [sha256_of(look.bundles[role]) for role in ("metric", "series", "output") if role in look.bundles]
    identity = ExecutionRecord.at(look.fragment)
    return ExecutionContent(
        fragment=look.fragment,
        provider=identity.provider,
        diagnostic=identity.diagnostic,
        group=identity.group,
        status="uploaded",
        reason="a bare set: read without a record",
        artifacts=[
            (each.key, each.role, sizes[each.key], None, each.media_type, each.description)
            for each in named.artifacts
            if each.key in sizes
        ],
        **_origin(bundles.output),
        # Missing files may still arrive, and the stamp of the bundles would not show it, so look again next time.
        **_parts(
            look,
            bundles,
            outputs,
            warnings,
            sha256_of("\n".join((*hashed, repr(sizes))).encode()),
            None if missing else look.stamp,
        ),
    )


def _parts(
    look: SetLook,
    bundles: _Decoded,
    outputs: Iterable[ResolvedOutput],
    warnings: Iterable[BundleWarning],
    digest: str | None,
    stamp: Stamp | None,
) -> dict[str, Any]:
    """Return what all sets have, in the catalog's layout."""
    return {
        "state": "bare" if look.record is None else look.state,
        "complete": look.record is None or look.state != "incomplete",
        "outputs": [
            (each.kind, each.name, each.key, each.filename, each.long_name, each.description, each.dimensions)
            for each in outputs
        ],
        "scalars": () if bundles.metric is None else _Rows(bundles.metric),
        "units": {} if bundles.metric is None else described_units(bundles.metric.allowed),
        "series": [
            (each.dimensions, each.index_name, each.index, each.values, each.attributes) for each in bundles.series
        ],
        "warnings": [(each.code, each.message, each.place or None) for each in dict.fromkeys(warnings)],
        "record_digest": digest,
        **retraction_columns(look.retraction),
        "record_size": None if stamp is None else stamp.size,
        "record_modified": None if stamp is None else stamp.modified,
        "record_version": None if stamp is None else stamp.version,
    }


def _origin(
    bundle: OutputBundle | None,
    datasets: Iterable[Dataset] = (),
    files: Iterable[RecordedInput] = (),
    software: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return where the results came from, according to the record or else the provenance."""
    told = {} if bundle is None else bundle.provenance
    named = [*datasets]
    known = {each.name for each in named}
    named += [each for each in datasets_in(told) if each.name not in known]
    rows: list[Input] = [
        ((each.name, each.version, each.pid, each.doi, each.sha256), each.role, each.variable, None) for each in named
    ]
    rows += [
        (None, ", ".join(each.tags) or None, None, (each.store, each.key, each.size, each.sha256)) for each in files
    ]
    return {"inputs": [*dict.fromkeys(rows)], "software": software_in(told) | dict(software or {}) or None}


def retraction_columns(retraction: Retraction | None) -> dict[str, Any]:
    """Return a retraction's columns in the catalog."""
    return {
        "retracted_at": None if retraction is None else retraction.at,
        "retracted_by": None if retraction is None else retraction.by,
        "retraction_reason": None if retraction is None else retraction.reason,
        "superseded_by": None if retraction is None else retraction.successor,
    }


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
