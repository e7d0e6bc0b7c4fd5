"""A bundle of CMEC, as EMDS was called before: ``output.json``, files with metrics, plots, data and pages.

Values that already are as EMDS wants them stay as they are, each file of metrics in a set of its own. Others are
distributed as those of PMP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from emdstore.adoption.found import FoundOutput, FoundSet, Source
from emdstore.adoption.pmp import MetricsFile, read_metrics, sets_of
from emdstore.emds import (
    OutputBundle,
    Rejection,
    decode_metric_bundle,
    decode_output_bundle,
    decode_series,
    resolve_name,
)
from emdstore.errors import BundleError
from emdstore.sets.origin import Dataset, datasets_in, software_in
from emdstore.sets.result import LOG_NAME, METRIC_NAME, OUTPUT_NAME, SERIES_NAME


def find_sets(source: Source) -> Iterable[FoundSet]:
    """Find the sets of a bundle of CMEC."""
    if OUTPUT_NAME not in source.keys:
        raise BundleError(f"{str(source.path)!r} is no bundle of CMEC: there is no {OUTPUT_NAME}")
    bundle = decode_output_bundle(source.read(OUTPUT_NAME))
    source.used(OUTPUT_NAME)
    outputs = list(_outputs(source, bundle))
    files = read_metrics(source, [key for key in source.keys if key not in (OUTPUT_NAME, SERIES_NAME)])
    found: list[FoundSet] = []
    for file in files:
        found += _of_file(source, file)
    if not found:
        source.leave_out(OUTPUT_NAME, "names no file with metrics that are there", lost=bool(bundle.metrics))
        found = [FoundSet(provider="cmec", diagnostic=source.path.name)]
    told = {(each.name, each.role): each for each in (*datasets_in(bundle.provenance), *_all_datasets(found))}
    log = bundle.provenance.get("log")
    key = resolve_name(log, ran_in=str(source.path)) if isinstance(log, str) else LOG_NAME
    known = {each.key for each in outputs}
    first, *others = (
        attrs.evolve(
            each,
            datasets=tuple(told.values()),
            software={**each.software, **software_in(bundle.provenance)},
            log=key if isinstance(key, str) and key in source.keys else None,
        )
        for each in found
    )
    more = tuple(each for each in first.outputs if each.key not in known)
    series = decode_series(source.read(SERIES_NAME)) if SERIES_NAME in source.keys else ()
    source.used(*(name for name in (METRIC_NAME, SERIES_NAME) if name in source.keys))
    yield attrs.evolve(first, outputs=(*outputs, *more), series=(*first.series, *series), index=bundle.index)
    yield from others


def _all_datasets(found: Iterable[FoundSet]) -> Iterator[Dataset]:
    for each in found:
        yield from each.datasets


def _of_file(source: Source, file: MetricsFile) -> Iterator[FoundSet]:
    schema = file.content.get("SCHEMA")
    package = schema.get("package") if isinstance(schema, dict) else None
    provider = package.lower() if isinstance(package, str) and package else "cmec"
    diagnostic = source.path.name if file.key == METRIC_NAME else file.stem
    try:
        metric = decode_metric_bundle(source.read(file.key), name=file.key)
    except BundleError:
        yield from sets_of(source, provider, diagnostic, [file], [])
        return
    source.used(file.key)
    yield FoundSet(
        provider=provider,
        diagnostic=diagnostic,
        metric=metric,
        software=file.software,
        provider_version=file.software.get("PMP"),
        stopped_at=file.date,
        name=None if file.date is None else f"{file.date:%Y%m%dT%H%M%S}",
    )


def _outputs(source: Source, bundle: OutputBundle) -> Iterator[FoundOutput]:
    """Yield the files that the bundle names, each once, and tell of those that are not there."""
    seen = set()
    for entry in bundle.entries:
        key = resolve_name(entry.filename, ran_in=str(source.path), fragment=source.path.name)
        if isinstance(key, Rejection):
            source.leave_out(entry.filename, f"is not followed: {key.reason}", lost=True)
        elif key not in source.keys:
            source.leave_out(key, f"is named by {OUTPUT_NAME}, but is not there", lost=True)
        elif key not in seen:
            seen.add(key)
            yield FoundOutput(
                key=key,
                kind=entry.kind,
                long_name=entry.long_name,
                description=entry.description,
                dimensions=entry.dimensions,
            )
