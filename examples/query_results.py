"""Query a catalog for tables and curves, and export a selection.

    python query_results.py [FOLDER]

It needs pandas, xarray and DuckDB: `pip install 'emdstore[pandas,snapshot,xarray]'`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from emdstore import Catalog, write_snapshot
from emdstore.demo import Ensemble, write_ensemble


def main(root: Path) -> None:
    write_ensemble(root, Ensemble(models=5, diagnostics=3))  # made-up results; use your own
    with Catalog(root / "catalog.db") as catalog:
        # A query reads nothing until it is used.
        errors = catalog.scalars(diagnostic="surface-temperature", dimensions={"metric": "rmse", "season": "ANN"})
        print(f"{errors.count()} errors")

        # Each dimension is a column.
        frame = errors.to_pandas()
        print(frame.pivot(index="source_id", columns="region", values="value").round(2).to_string())

        # Series are aligned along their index; their dimensions are coordinates.
        curves = catalog.series(index_name="year", diagnostic="surface-temperature").to_xarray()
        print(dict(curves.sizes))
        print(f"{int(curves['given'].sum())} points, {curves['value'].attrs['units']}")

        # Exports are streamed: a million rows take no more memory than a thousand.
        with (root / "errors.csv").open("wb") as file:
            file.writelines(errors.export("csv"))
        print(f"{len((root / 'errors.csv').read_text().splitlines()) - 1} rows in errors.csv")

        # Beside the results, the catalog can be asked by everybody who can read them, without the database.
        write_snapshot(catalog, root / "results")
    with Catalog(root / "results") as catalog:
        best = catalog.scalars(diagnostic="surface-temperature").where("value", "<", 0.5).order_by("value")
        print(f"{best.count()} errors below 0.5 in the snapshot")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
