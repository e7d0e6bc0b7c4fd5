"""Promote one execution from scratch to results on this machine, and query the catalog.

    python promote_local.py [FOLDER]

Everything goes to FOLDER, by default a temporary one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from emdstore import (
    Catalog,
    ExecutionRecord,
    ExecutionResult,
    LocalArtifactStore,
    OutputWriter,
    ingest,
    materialize_outputs,
    publish_record,
    resolve_status,
    scoped,
)
from emdstore.sets.publish import record_of

FRAGMENT = "mytool/sea-ice/historical/1"


def run_diagnostic(folder: Path) -> ExecutionResult:
    """Stand in for a diagnostic: write a log, a data file and the bundles that describe them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "out.log").write_text("computed the trend of sea ice area\n")
    (folder / "trend.csv").write_text("region,trend\narctic,-0.52\nantarctic,0.02\n")
    writer = OutputWriter(folder)
    writer.add_data("trend.csv", long_name="Trend of sea ice area", description="In million km2 per decade.")
    writer.add_scalar(-0.52, region="arctic", metric="trend")
    writer.add_scalar(0.02, region="antarctic", metric="trend")
    bundles = writer.write()
    return ExecutionResult(
        successful=True,
        metric_bundle_filename=bundles.metric,
        output_bundle_filename=bundles.output,
        series_filename=bundles.series,
    )


def main(root: Path) -> None:
    scratch, results = LocalArtifactStore(root / "scratch"), LocalArtifactStore(root / "results")
    result = run_diagnostic(scratch.local_path(FRAGMENT))

    # Bytes first: the log, then what the bundles name. Missing artifacts are in the outcome; they raise nothing.
    source, dest = scoped(scratch, FRAGMENT), scoped(results, FRAGMENT)
    outcome = materialize_outputs(result, source=source, dest=dest, fragment=FRAGMENT)

    # Then decide the status, and publish the set by writing its record.
    decision = resolve_status(result, outcome)
    publish_record(record_of(ExecutionRecord.at(FRAGMENT), result, outcome, decision), dest)

    # Rows last, and only from the results store.
    with Catalog(root / "catalog.db") as catalog:
        ingest(results, FRAGMENT, catalog)
        print(f"{FRAGMENT}: {decision.status}, {len(outcome.artifacts)} artifacts")
        for scalar in catalog.scalars(dimensions={"metric": "trend"}):
            print(f"  {scalar.dimensions['region']}: {scalar.value}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
