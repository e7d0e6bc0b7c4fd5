"""A datastore that intake-esm opens: a table of the data files of published sets, and its description.

The format is that of https://github.com/NCAR/esm-collection-spec.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping

from emdstore.keys import join_key
from emdstore.sets.record import ExecutionRecord
from emdstore.stores.port import ArtifactStore
from emdstore.stores.urls import StoreLike, as_store

_COLUMNS = ("provider", "diagnostic", "group", "execution", "file", "format", "path")
_ZARR = ".zarr/"


def write_datastore(
    records: Mapping[str, ExecutionRecord], dest: StoreLike, *, place: str, name: str = "emdstore"
) -> int:
    """Write ``NAME.csv`` and, last, ``NAME.json``, which `intake.open_esm_datastore` takes.

    Parameters
    ----------
    records
        The records of the sets; see `choose_records`.
    dest
        Where to write it: a folder or another store.
    place
        The path or URL of the results store, as whoever opens the files reaches it.
    name
        The datastore's name.

    Returns
    -------
    int
        How many NetCDF files and Zarr groups it has.

    Raises
    ------
    StoreError
        If one of the two cannot be written. The JSON file is then as it was before; call it again.
    """
    selectors = sorted({name for record in records.values() for name in record.selectors} - set(_COLUMNS))
    columns = [*selectors, *_COLUMNS]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    count = 0
    for folder, record in records.items():
        told = {each: record.selectors.get(each, "") for each in selectors}
        told |= {"provider": record.provider, "diagnostic": record.diagnostic, "group": record.group}
        told["execution"] = record.fragment.rpartition("/")[2]
        for file, kind in sorted(set(_datasets(record))):
            path = f"{place.rstrip('/')}/{join_key(folder, file)}"
            table.writerow(told | {"file": file, "format": kind, "path": path})
            count += 1
    described = {
        "esmcat_version": "0.1.0",
        "id": name,
        "description": "Data files of published executions",
        "catalog_file": f"{name}.csv",
        "attributes": [{"column_name": each} for each in columns if each not in ("path", "format")],
        "assets": {"column_name": "path", "format_column_name": "format"},
    }
    store: ArtifactStore = as_store(dest)
    store.write_bytes(f"{name}.csv", text.getvalue().encode())
    store.write_bytes(f"{name}.json", json.dumps(described, indent=2).encode() + b"\n")
    return count


def _datasets(record: ExecutionRecord) -> Iterator[tuple[str, str]]:
    """Yield the data files of a set and its Zarr groups; a group is a folder of artifacts."""
    for artifact in record.artifacts:
        if _ZARR in artifact.key:
            yield artifact.key.partition(_ZARR)[0] + _ZARR.rstrip("/"), "zarr"
        elif artifact.role == "data" and artifact.key.endswith((".nc", ".nc4", ".cdf")):
            yield artifact.key, "netcdf"
