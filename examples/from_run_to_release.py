"""From run to release: what a new run changes, results that others rely on, and an input that was wrong.

    pip install emdstore
    python from_run_to_release.py [PUBLIC]

It runs the ensemble of the demo twice, in a temporary folder. In the second run one diagnostic gives other values, and
one plot is lost. Both are promoted to PUBLIC, a folder or a URL such as s3://bucket/results (else a folder), after
a look at what changed. Then the data of one model turn out to be wrong.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs

from emdstore import Catalog, ReleasedSetError, Workspace, check_release, read_release, replay, retract, transfer
from emdstore.catalog.comparing import Rules, Side, Tolerance, compare_results
from emdstore.demo import Ensemble, write_set
from emdstore.gates.promotion import promote, propose

ENSEMBLE = Ensemble(models=3, diagnostics=2, regions=1, years=10, pixels=1, troubles=0)
CHANGED, LOST = "gross-primary-production", ("surface-temperature", "CESM2")
WITHDRAWN = "CESM2"
RULES = Rules(Tolerance(relative=1e-9))


def run(workspace: Workspace, version: str) -> list[str]:
    """Evaluate all models with both diagnostics, and publish; return the fragments."""
    fragments = []
    for each in ENSEMBLE.runs():
        provider, diagnostic = each.diagnostic.provider, each.diagnostic.name
        about: Any = {"provider": provider, "diagnostic": diagnostic, "group": each.group, "name": version}
        if version == "v2" and diagnostic == CHANGED:
            each = attrs.evolve(each, ensemble=attrs.evolve(ENSEMBLE, seed=1))
        with workspace.start_execution(**about, diagnostic_version=version) as execution:
            execution.add_input(f"CMIP6.CMIP.{each.model}.historical.r1i1p1f1", role="model", version="20190308")
            execution.add_input(each.diagnostic.reference, role="reference")
            result = write_set(execution.output_directory, each)
            if version == "v2" and (diagnostic, each.model) == LOST:
                lose_a_plot(execution.output_directory)
            execution.stop(result)
        execution.commit_output_assets()
        fragments.append(execution.fragment)
    return fragments


def lose_a_plot(folder: Path) -> None:
    bundle = json.loads((folder / "output.json").read_text())
    bundle["plots"].popitem()
    (folder / "output.json").write_text(json.dumps(bundle))


def main(folder: Path, public: str) -> None:
    with Workspace(scratch=folder / "scratch", results=folder / "results", catalog=folder / "catalog.db") as workspace:
        results, catalog = workspace.results, workspace.catalog
        how: Any = {"from_target": "staging", "to_target": "production", "rules": RULES}
        first = run(workspace, "v1")
        promote(propose(results, public, **how), "2026.1", note="the report")
        second = run(workspace, "v2")
        replay(results, catalog)  # it learns of the release

        # What did the second run change?
        for pair in compare_results(Side(catalog, {"release": "2026.1"}), Side(catalog), RULES):
            if pair.verdict != "equal":
                told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(pair.counts.items()))
                print(f"{pair.diagnostic} of {pair.group.split('_')[1]}: {told}")

        # The checks object to that. Here somebody has looked at it; a protected target would let nothing in.
        proposal = propose(results, public, **how)
        print("objections:", ", ".join(f"{each.count} by {each.check}" for each in proposal.verdicts if not each.ok))
        release = promote(proposal, "2026.2", note="the plot can be spared, and the values were wrong before")
        assert [each.fragment for each in release.sets] == sorted(second)

        # It stays what it is: a later commit cannot change it by mistake.
        execution = workspace.resume_execution(second[0])
        (execution.output_directory / "out.log").write_text("another run wrote here")
        try:
            execution.commit_output_assets()
        except ReleasedSetError:
            print("refused: a commit that would change the release")

        # In public it is verified byte by byte.
        check = check_release(public, read_release(public, "production"))
        print(f"public: {check.whole} of {len(check.release.sets)} sets as released in {check.release.name}")

        # A model's data turn out to be wrong: whatever depends on them is retracted, and a rebuilt catalog knows it.
        for row in catalog.executions(dataset=f"CMIP6.*.{WITHDRAWN}.*"):
            retract(results, row.fragment, reason="the model's data were withdrawn")
    transfer(folder / "results", public, [*first, *second]).raise_for_failures()
    with Catalog("sqlite://") as rebuilt:
        replay(public, rebuilt)
        left = sorted({row.group.split("_")[1] for row in rebuilt.executions(release="production")})
        print(f"left of the release in a rebuilt catalog: {', '.join(left)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary), sys.argv[1] if len(sys.argv) > 1 else f"{temporary}/public")
