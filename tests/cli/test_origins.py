"""The commands on what results came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.catalog.examples import FULL, execution_of
from tests.cli.conftest import CLI, Here
from tests.cli.test_export import answers_to

from emdstore import Catalog, Workspace

ERA5 = (("ERA5", None, None, None, None), "reference", None, None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Catalog(tmp_path / "catalog.db") as catalog:
        catalog.replace_execution(FULL)
        catalog.replace_execution(execution_of("ilamb/bias/1", provider="ilamb", diagnostic="bias", inputs=[ERA5]))
    return tmp_path


def test_what_an_execution_came_from_and_what_depends_on_a_dataset(folder: Path) -> None:
    said, nothing, affected, pattern, document, nobody, some, all_of_them, no_run, took, exported = answers_to(
        [
            f"inputs {FULL.fragment} --catalog catalog.db",
            "show ilamb/bias/1 --catalog catalog.db",
            "affected doi:10.22033/esgf/X --catalog catalog.db",
            "affected 'CMIP6.*' era5 --catalog catalog.db",
            "affected era5 --json --catalog catalog.db",
            "affected ERA --catalog catalog.db",
            "affected era5 ERA --catalog catalog.db",
            "affected --catalog catalog.db",
            "resources --catalog catalog.db --provider nobody",
            "resources --catalog catalog.db --provider pmp",
            "export inputs -o inputs.csv --catalog catalog.db",
        ],
        folder,
        COLUMNS="200",
    )
    for text in ("pmp 3.9", "enso 2", "CMIP6.CMIP.x.tas_1%", "10.22033/ESGF/x", "masks/land.nc", "numpy", "240.25"):
        assert text in said.out
    assert "ERA5" in nothing.out
    assert [line.split()[0] for line in affected.out.splitlines()] == ["execution", FULL.fragment]
    assert [line.split()[0] for line in pattern.out.splitlines()][1:] == ["ilamb/bias/1", *[FULL.fragment] * 2]
    assert [(row["fragment"], row["role"]) for row in document.json["inputs"]] == [
        ("ilamb/bias/1", "reference"),
        (FULL.fragment, "reference"),
    ]
    assert {row["fragment"] for row in document.json["items"]} == {FULL.fragment, "ilamb/bias/1"}
    assert (nobody.code, nobody.out) == (4, "")
    assert "no execution is known to have read ERA" in nobody.err
    assert (some.code, some.err) == (1, "no execution is known to have read ERA\n")
    assert (all_of_them.code, no_run.code) == (2, 4)
    assert took.out.splitlines()[1].split() == ["pmp/enso", "1", *["61.5"] * 3, *["240.25"] * 2, *["8.6", "GB"] * 2]
    assert exported.code == 0
    assert len((folder / "inputs.csv").read_text().splitlines()) == 5


def test_a_program_is_run_with_what_it_reads(cli: CLI, tmp_path: Path) -> None:
    cli("init")
    (tmp_path / "in.json").write_text('[{"name": "CMIP6.tas", "version": "v1", "role": "model"}]')
    (tmp_path / "bad.json").write_text('[{"version": "v1"}]')
    run = ("run", "--provider", "p", "--diagnostic", "d", "--json")
    for wrong, message in {
        ("--inputs", "bad.json"): "missing required field `name`",
        ("--inputs", "none.json"): "No such file",
        ("--software", "numpy"): "NAME=VERSION",
    }.items():
        assert message in cli(*run, *wrong, "--", "true", code=2).out
    told = ("--input", "ERA5", "--inputs", "in.json", "--software", "numpy=2", "--diagnostic-version", "7")
    done = cli(*run, *told, "--", "true").json["execution"]
    assert (done["diagnostic_version"], done["software"]) == ("7", {"numpy": "2"})
    record = json.loads((tmp_path / "scratch" / done["fragment"] / "execution.json").read_text())
    assert [(each["name"], each["version"]) for each in record["datasets"]] == [("ERA5", None), ("CMIP6.tas", "v1")]
    assert record["resources"]["exit_code"] == 0


def test_all_that_read_a_dataset_is_retracted(cli: CLI, tmp_path: Path) -> None:
    cli("init")
    run = ("run", "--provider", "p", "--json")
    bundle = '{"DIMENSIONS": {"json_structure": ["m"], "m": {"x": {}}}, "RESULTS": {"x": 1}}'
    program = ("sh", "-c", f"echo '{bundle}' > $EMDSTORE_OUTPUT_DIR/diagnostic.json")
    for diagnostic, dataset in (("one", "ERA5"), ("two", "ERA5"), ("three", "HadISST")):
        cli(*run, "--diagnostic", diagnostic, "--input", dataset, "--", *program)
    cli("commit", "--pending")
    done = cli("retract", "--dataset", "era*", "--reason", "withdrawn", "--json").json
    assert [each["fragment"].split("/")[1] for each in done["items"]] == ["one", "two"]
    left = cli("export", "executions", "-o", "-", "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["diagnostic"] for line in left] == ["three"]
    assert "no set that is not retracted" in cli("retract", "--dataset", "ERA5", "--reason", "x", code=4).err
    for wrong in ((), ("p/one/default/1", "--dataset", "x"), ("--dataset", "x", "--successor", "y")):
        cli("retract", *wrong, "--reason", "x", code=2)


def test_sets_are_retracted_by_what_they_are_with_the_latest_of_their_group_instead(here: Here, tmp_path: Path) -> None:
    here("init")
    with Workspace.open() as workspace:
        for diagnostic, name in (("one", "1"), ("one", "2"), ("two", "1")):
            with workspace.start_execution(provider="p", diagnostic=diagnostic, group="g", name=name) as execution:
                execution.add_input("ERA5")
                execution.add_scalar(1.0, metric="m")
            execution.commit_output_assets()
    here("release", "create", "r1", "--latest")
    said = ("--reason", "wrong sign")
    shown = here("retract", "--dataset", "era5", "--diagnostic", "one", *said, "--dry-run", "--json").json["items"]
    assert [(each["fragment"], each["retraction"]) for each in shown] == [("p/one/g/1", None), ("p/one/g/2", None)]
    assert "nobody" in here("retract", "--provider", "nobody", *said, code=4).err
    one = here("retract", "p/one/g/1", *said, "--successor", "latest").out
    assert one == "p/one/g/1 is retracted: wrong sign; use p/one/g/2\n"
    rest = here("retract", "--provider", "p", "--successor", "latest", *said, "--results", "results").out
    assert rest.splitlines() == ["p/one/g/2 is retracted: wrong sign", "p/two/g/1 is retracted: wrong sign"]
    # What is left out because of it is told.
    here("replay", "results", "--catalog", "catalog.db")
    assert "3 executions that read it left out, because retracted" in here("affected", "era5").err
    assert "2 sets of the release left out" in here("export", "scalars", "--release", "r1", "-o", "x.csv").err
    assert "left out" not in here("export", "scalars", "--release", "r1", "--retracted", "-o", "x.csv").err
