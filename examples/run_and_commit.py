"""Run a diagnostic in a workspace, commit its results, and query the catalog.

    python run_and_commit.py [FOLDER]

Everything goes to FOLDER, by default a temporary one.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from emdstore import Execution, LocalArtifactStore, Workspace

OBSERVED = {"arctic": -0.52, "antarctic": 0.02}


def run(workspace: Workspace, observations: LocalArtifactStore, region: str) -> Execution:
    """Compute one region's trend. Printed output goes to the log; an exception makes the run a failure."""
    with workspace.start_execution(
        provider="mytool",
        diagnostic="sea-ice",
        group=region,
        selectors={"region": region},
        description=f"Trend of sea ice area, {region}",
    ) as execution:
        # Inputs are fetched once for all runs, verified, and listed in the record.
        source = execution.input_artifact(observations, f"{region}.csv", tags=["reference"])
        print(f"reading {source.name}")
        trend = float(source.read_text().split(",")[1])
        if region == "antarctic":
            raise ValueError("the series is too short for a trend")
        # Outputs go to the execution's own folder.
        (execution.output_directory / "trend.csv").write_text(f"region,trend\n{region},{trend}\n")
        execution.add_data("trend.csv", long_name="Trend of sea ice area", description="In million km2 per decade.")
        execution.add_scalar(trend, region=region, metric="trend", attributes={"units": "1e6 km2 / decade"})
    return execution


def main(root: Path) -> None:
    observations = LocalArtifactStore(root / "observations")
    for region, value in OBSERVED.items():
        observations.write_bytes(f"{region}.csv", f"trend,{value}\n".encode())

    with Workspace(scratch=root / "scratch", results=root / "results", catalog=root / "catalog.db") as workspace:
        # Leaving the block ships nothing. Committing is a separate step, which another process may do.
        execution = run(workspace, observations, "arctic")
        report = execution.commit_output_assets()
        print(f"{execution.row.group}: {execution.status}, {report.uploaded} artifacts")

        # Nothing has changed, so committing again uploads nothing.
        assert execution.commit_output_assets().uploaded == 0

        # A failed run is shipped, too: its log. Its group still counts as done, because it would fail again.
        try:
            run(workspace, observations, "antarctic")
        except ValueError as error:
            print(f"antarctic: {error}")
        workspace.commit_pending_executions(clean_folder=True)

        for row in workspace.list_executions():
            print(f"{row.group}: {row.status}, {row.failure or 'no'} failure, {row.scalars} values")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
