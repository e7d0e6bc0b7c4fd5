"""The command that compares results by what they mean."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
from tests.catalog.examples import NOON, execution_of
from tests.cli.conftest import Here

from emdstore import Catalog, Workspace
from emdstore.catalog import ExecutionContent


def _content(group: str, value: float, *plots: str) -> ExecutionContent:
    return execution_of(
        f"pmp/enso/{group}/1",
        state="published",
        group=group,
        published_at=NOON,
        scalars=[(value, {"metric": "rmse", "region": "a|b"}, None)],
        artifacts=[(plot, "plot", 1, None, None, None) for plot in plots],
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A value has moved in one group, and a plot was lost in the other."""
    with Catalog(tmp_path / "before.db") as before, Catalog(tmp_path / "after.db") as after:
        for catalog, value, plots in ((before, 1.0, ["map.png", "old.png"]), (after, 1.001, ["map.png"])):
            catalog.replace_execution(_content("g1", value))
            catalog.replace_execution(_content("g2", 1.0, *plots))
    return tmp_path


def test_what_moved_is_told_and_the_exit_code_says_whether_anything_did(here: Here, folder: Path) -> None:
    a, b = folder / "before.db", folder / "after.db"
    said = here("compare", a, b, code=1)
    assert said.out.splitlines() == [
        "changed  pmp/enso/g1 (pmp/enso/g1/1 → pmp/enso/g1/1)",
        "  changed  metric=rmse, region=a|b: 1.0 → 1.001",
        "missing  pmp/enso/g2 (pmp/enso/g2/1 → pmp/enso/g2/1)",
        "  missing  old.png",
        "",
        "2 pairs compared: 1 missing, 1 changed",
    ]
    assert here("compare", a, a).out == "2 pairs compared: 2 equal\n"
    within = here("compare", a, b, "--group", "g1", "--relative", "0.01")
    assert within.out.splitlines()[-1] == "1 pair compared: 1 within tolerance"
    markdown = here("compare", a, b, "--markdown", code=1).out
    assert "| pmp/enso/g1 (pmp/enso/g1/1 → pmp/enso/g1/1) | changed | changed: metric=rmse, region=a\\|b" in markdown
    document = here("compare", a, b, "--json", code=1).json
    assert (document["counts"]["changed"], document["counts"]["missing"]) == (1, 1)
    assert document["items"][0]["items"][0]["b"] == 1.001


def test_tolerances_of_metrics_come_from_a_file(here: Here, folder: Path) -> None:
    a, b, file = folder / "before.db", folder / "after.db", folder / "tolerances.json"
    file.write_text(json.dumps({"rmse": {"absolute": 0.1}}))
    assert "within" in here("compare", a, b, "--group", "g1", "--tolerances", file).out
    file.write_text(json.dumps({"rmse": {"absolute": -1}}))
    assert "cannot be read: 'absolute' must be >= 0" in here("compare", a, b, "--tolerances", file, code=2).err
    assert "No such file" in here("compare", a, b, "--tolerances", folder / "none", code=2).err
    assert "0 or more" in here("compare", a, b, "--relative", "-1", code=2).err


def test_sides_are_executions_folders_and_catalogs(here: Here, folder: Path) -> None:
    catalog = ("--catalog", folder / "before.db")
    with Catalog(folder / "before.db") as before:
        before.replace_execution(attrs.evolve(_content("g1", 1.0), retracted_at=NOON, retraction_reason="wrong"))
    # A run that is named is compared, whatever was said of it since.
    assert "1 pair compared" in here("compare", "pmp/enso/g1/1", "pmp/enso/g2/1", *catalog, code=1).out
    assert (
        "2 pairs compared: 1 missing, 1 new" in here("compare", "pmp/enso/", folder / "after.db", *catalog, code=1).out
    )
    assert "selects no execution" in here("compare", "nobody", "pmp", *catalog, code=4).err
    assert "knows no release" in here("compare", "release:x", "pmp", *catalog, code=4).err


def test_a_catalog_leads_to_its_artifacts_or_is_told_where_they_are(here: Here, tmp_path: Path) -> None:
    for name, cell in (("before", "1.0"), ("after", "1.5")):
        results, catalog = tmp_path / name, tmp_path / f"{name}.db"
        with Workspace(scratch=tmp_path / f"{name}-runs", results=results, catalog=str(catalog)) as workspace:
            with workspace.start_execution(provider="p", diagnostic="d", group="g", name="1") as execution:
                (execution.output_directory / "t.csv").write_text(f"bias\n{cell}\n")
                execution.add_data("t.csv", long_name="a table")
                execution.add_scalar(1.0, metric="bias")
            execution.commit_output_assets()
    compare = ("compare", "before.db", "after.db", "--contents")
    assert "  changed  t.csv: 1 cell differs; row 2, bias: 1.0 → 1.5" in here(*compare, code=1).out
    assert "not the results store of after.db" in here(*compare, "--b-results", "before", code=2).err
    (tmp_path / "after").rename(tmp_path / "moved")
    assert "so they are not looked into: give --b-results" in here(*compare).err
    assert "1 cell differs" in here(*compare, "--b-results", "moved", "--page", "page.html", code=1).out
    assert "t.csv: 1 cell differs" in (tmp_path / "page.html").read_text()
    (tmp_path / "moved/p/d/g/1/t.csv").write_text("bias\n1.0\n")
    assert "it is not as recorded" in here(*compare, "--b-results", "moved", code=1).out
