"""The command that compares results by what they mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.catalog.examples import NOON, execution_of
from tests.cli.conftest import Here

from emdstore import Catalog
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
    assert here("compare", a, a).out.splitlines()[-1] == "2 pairs compared: 2 equal"
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
    assert "are not as they should be" in here("compare", a, b, "--tolerances", file, code=2).err
    assert "No such file" in here("compare", a, b, "--tolerances", folder / "none", code=2).err
    assert "0 or more" in here("compare", a, b, "--relative", "-1", code=2).err


def test_sides_are_executions_folders_and_catalogs(here: Here, folder: Path) -> None:
    catalog = ("--catalog", folder / "before.db")
    assert "1 pair compared" in here("compare", "pmp/enso/g1/1", "pmp/enso/g2/1", *catalog, code=1).out
    assert "2 pairs compared" in here("compare", "pmp/enso/", folder / "after.db", *catalog, code=1).out
    assert "selects no execution" in here("compare", "nobody", "pmp", *catalog, code=4).err
    assert "knows no release" in here("compare", "release:x", "pmp", *catalog, code=2).err
