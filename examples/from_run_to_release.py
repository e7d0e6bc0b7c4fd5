"""From run to release: what a new run changes, a name for results that others rely on, and an input that was wrong.

    pip install emdstore
    python from_run_to_release.py [MIRROR]

It runs two small diagnostics over three models twice, in a temporary folder. The second run has one value that moved,
one plot that was lost, and a model that is withdrawn later. MIRROR is where the results are published to: a folder or a
URL such as s3://bucket/results; by default another folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from emdstore import (
    Catalog,
    ReleasedSetError,
    Workspace,
    check_release,
    create_release,
    point_alias,
    read_release,
    replay,
    retract,
    transfer,
)
from emdstore.catalog.comparing import Rules, Side, Tolerance, compare_results

MODELS = {"ACCESS-ESM1-5": 0.5, "CanESM5": 1.2, "MIROC6": -0.3}
PNG = b"\x89PNG\r\n\x1a\n"  # a real diagnostic would draw


def run(workspace: Workspace, version: str, *, moved: float = 0.0, lost_plot: bool = False) -> list[str]:
    """Evaluate all models with both diagnostics, and publish; return the fragments."""
    fragments = []
    for diagnostic in ("bias", "trend"):
        for model, value in MODELS.items():
            with workspace.start_execution(
                provider="example", diagnostic=diagnostic, group=model, name=version, diagnostic_version=version
            ) as execution:
                execution.add_input(f"CMIP6.CMIP.{model}.historical.r1i1p1f1.Amon.tas", role="model", variable="tas")
                execution.add_input("HadCRUT5", doi="10.1029/2019JD032361", role="reference")
                is_other = diagnostic == "trend" and model == "CanESM5"
                execution.add_scalar(value + (moved if is_other else 1e-12), metric=diagnostic, region="global")
                if not (lost_plot and diagnostic == "bias" and model == "MIROC6"):
                    (execution.output_directory / "map.png").write_bytes(PNG)
                    execution.add_plot("map.png", long_name=f"{diagnostic} of {model}")
            execution.commit_output_assets()
            fragments.append(execution.fragment)
    return fragments


def main(folder: Path, mirror: str) -> None:
    with Workspace(scratch=folder / "scratch", results=folder / "results", catalog=folder / "catalog.db") as workspace:
        first = run(workspace, "v1")
        create_release(workspace.results, "2026.1", first, note="the report")
        second = run(workspace, "v2", moved=0.25, lost_plot=True)
        replay(workspace.results, workspace.catalog)  # it learns of the release

        # What did the second run change?
        before = Side(workspace.catalog, {"release": "2026.1"})
        for pair in compare_results(before, Side(workspace.catalog), Rules(Tolerance(relative=1e-9))):
            for item in pair.items:
                if item.verdict != "within":
                    what = item.name or f"{item.a} -> {item.b}"
                    print(f"{item.verdict}: {pair.diagnostic} of {pair.group}: {what}")

        # The value is right, and the plot can be spared: this is what we stand behind now.
        release = create_release(workspace.results, "2026.2", second)
        point_alias(workspace.results, "production", "2026.1", why="the report")
        point_alias(workspace.results, "production", "2026.2", why="the trend of CanESM5 was wrong")
        print(f"release {release.name}: {len(release.sets)} sets")

        # It stays what it is: a later commit cannot change it by mistake.
        execution = workspace.resume_execution(second[0])
        (execution.output_directory / "out.log").write_text("another run wrote here")
        try:
            execution.commit_output_assets()
        except ReleasedSetError:
            print("refused: a commit that would change the release")

        # Published elsewhere, and verified there byte by byte.
        transfer(workspace.results, mirror).raise_for_failures()
        check = check_release(mirror, read_release(mirror, "production"))
        print(f"in the mirror: {check.whole} of {len(check.release.sets)} sets as released")

        # A model's data turn out to be wrong: whatever depends on them is retracted, and a rebuilt catalog knows it.
        for row in workspace.catalog.executions(dataset="CMIP6.*.MIROC6.*"):
            retract(workspace.results, row.fragment, reason="the model's data were withdrawn")
    transfer(folder / "results", mirror).raise_for_failures()
    with Catalog("sqlite://") as rebuilt:
        replay(mirror, rebuilt)
        left = sorted({row.group for row in rebuilt.executions(release="production")})
        print(f"left of the release in a rebuilt catalog: {', '.join(left)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary), sys.argv[1] if len(sys.argv) > 1 else f"{temporary}/mirror")
