"""A small run to promote, and what the tests have in common: writing it, publishing it, looking at the rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from emdstore.catalog import Catalog
from emdstore.keys import join_key
from emdstore.sets.decision import resolve_status
from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.outcome import MaterializeOutcome
from emdstore.sets.publish import record_of
from emdstore.sets.record import ExecutionRecord, publish_record
from emdstore.sets.result import ExecutionResult
from emdstore.stores import ArtifactStore, scoped
from emdstore.stores.identity import is_own

FRAGMENT = "pmp/enso_tel/historical_g58_v1_d905ddf2/23"
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)

SUCCESS = ExecutionResult(
    successful=True,
    metric_bundle_filename="diagnostic.json",
    output_bundle_filename="output.json",
    series_filename="series.json",
)
FAILURE = ExecutionResult(successful=False)
CURATED = (
    "out.log",
    "diagnostic.json",
    "output.json",
    "plots/map (°C).png",
    "data/tas.nc",
    "index.html",
    "series.json",
)
"""The keys of the small run's set."""


def encode(value: object) -> bytes:
    """Write JSON as frameworks do, with Python's json: NaN and Infinity are bare words."""
    return json.dumps(value).encode()


def metric_bundle(values: Mapping[str, Mapping[str, object]] | None = None) -> dict[str, Any]:
    """Return a bundle of two levels: region, metric."""
    results = {"global": {"bias": 0.5, "rmse": 1.5}, "arctic": {"bias": -2}} if values is None else values
    metrics = {metric: {} for table in results.values() for metric in table if metric != "attributes"}
    structure = {"json_structure": ["region", "metric"], "region": {name: {} for name in results}, "metric": metrics}
    return {"DIMENSIONS": structure, "RESULTS": results}


def output_bundle(**sections: Iterable[str]) -> dict[str, Any]:
    """Return a bundle with the file names of each section."""
    entries = {
        section: {
            f"{section} {n}": {"filename": name, "long_name": "Long", "description": "", "dimensions": {"n": str(n)}}
            for n, name in enumerate(names)
        }
        for section, names in sections.items()
    }
    return {
        "provenance": {"environment": {}, "modeldata": [], "obsdata": {}, "log": "out.log"},
        "diagnostics": {},
    } | entries


def one_series(**changes: object) -> dict[str, Any]:
    """Return one item of a series file."""
    item = {"dimensions": {"region": "global"}, "index_name": "year", "index": [1850, 1851], "values": [1.0, None]}
    return item | changes


def small_run(**changes: object) -> dict[str, bytes]:
    """Return the files that a run leaves: its set, and a working file that does not belong to it.

    Keywords replace files by the first word of their name; None leaves one out.
    """
    files: dict[str, object] = {
        "out.log": b"it ran\n",
        "diagnostic.json": metric_bundle(),
        "output.json": output_bundle(plots=["plots/map (°C).png"], data=["data/tas.nc"], html=["index.html"]),
        "series.json": [one_series()],
        "plots/map (°C).png": b"\x89PNG plot",
        "data/tas.nc": b"CDF data",
        "index.html": b"<html></html>",
        "climate_data/working.nc": b"not part of the set",
    }
    for name in list(files):
        stem = re.split(r"[ .]", name.rpartition("/")[2])[0]
        files[name] = changes.pop(stem, files[name])
    assert not changes, f"no such files: {changes}"
    return {
        name: content if isinstance(content, bytes) else encode(content)
        for name, content in files.items()
        if content is not None
    }


def put(store: ArtifactStore, files: Mapping[str, bytes], folder: str = "") -> ArtifactStore:
    """Write files, and return the store."""
    for name, data in files.items():
        store.write_bytes(join_key(folder, name), data)
    return store


def held(store: ArtifactStore, folder: str = "") -> dict[str, bytes]:
    """Return all that lies in a folder of a store, but for what emdstore keeps of its own."""
    inside = scoped(store, folder)
    return {key: inside.read_bytes(key) for key in inside.iter_keys() if not is_own(key)}


def recorded(
    result: ExecutionResult, outcome: MaterializeOutcome, fragment: str = FRAGMENT, **more: Any
) -> ExecutionRecord:
    """Return the record of what was promoted, as it was decided, always of the same time."""
    decision = resolve_status(result, outcome)
    identity = ExecutionRecord.at(fragment, published_at=NOON, upload_duration=1.5)
    return attrs.evolve(record_of(identity, result, outcome, decision), **more)


def promote(
    result: ExecutionResult, source: ArtifactStore, results: ArtifactStore, fragment: str = FRAGMENT, **more: Any
) -> tuple[MaterializeOutcome, ExecutionRecord]:
    """Promote one execution from its own folder into a results store, and publish it."""
    dest = scoped(results, fragment)
    outcome = materialize_outputs(result, source=source, dest=dest, fragment=fragment, replace=True)
    record = recorded(result, outcome, fragment, **more)
    publish_record(record, dest)
    return outcome, record


def rows_of(catalog: Catalog, fragment: str = "") -> dict[str, list[Any]]:
    """Return every row of every kind, but for what differs from one store to another: when the record was written."""
    elsewhere = {"record_size": None, "record_modified": None, "record_version": None}
    queries = ("artifacts", "outputs", "scalars", "series", "warnings")
    rows = {name: list(getattr(catalog, name)(fragment=fragment)) for name in queries}
    return rows | {"executions": [attrs.evolve(row, **elsewhere) for row in catalog.executions(fragment=fragment)]}


def nonzero(counts: Mapping[Any, int]) -> dict[str, int]:
    """Return the counts of what there is."""
    return {name: count for name, count in counts.items() if count}


@attrs.frozen
class FourMethods:
    """A store of four methods and nothing else."""

    inner: ArtifactStore

    def exists(self, key: str, /) -> bool:
        return self.inner.exists(key)

    def read_bytes(self, key: str, /) -> bytes:
        return self.inner.read_bytes(key)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        self.inner.write_bytes(key, data)

    def iter_keys(self, prefix: str = "", /) -> Any:
        return self.inner.iter_keys(prefix)
