"""Published sets in the formats of others, each read back by a reader of its field."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import bagit
import pytest
import rocrate
import yaml
from prov.model import ProvDocument
from rocrate.rocrate import ROCrate
from tests.cli.conftest import Here

from emdstore import (
    ArtifactExistsError,
    ExecutionResult,
    IncompleteSetError,
    ReleaseNotFoundError,
    TransferError,
    Workspace,
    create_release,
    retract,
)
from emdstore.exchange import as_bibtex, as_cff, as_prov_json, choose_records, deposit, write_datastore

MODEL = "CMIP6.CMIP.CSIRO.ACCESS-ESM1-5.historical.tos"
DOI = "10.22033/ESGF/CMIP6.4272"
PLOT = "maps (°C)/50% #1.png"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results store: two sets of one diagnostic, one that was retracted, and one that failed."""
    with Workspace(scratch=tmp_path / "scratch", results=tmp_path / "results", catalog="sqlite://") as workspace:
        for name in ("1", "2", "retracted", "failed"):
            with workspace.start_execution(
                provider="pmp",
                diagnostic="enso",
                group="h",
                name=name,
                provider_version="3.9",
                software={"numpy": "2.3.1"},
                selectors={"source_id": "ACCESS-ESM1-5"},
            ) as execution:
                plot = execution.output_directory / PLOT
                plot.parent.mkdir()
                plot.write_bytes(name.encode())
                (execution.output_directory / "tos.nc").write_bytes(b"CDF\x01")
                (execution.output_directory / "z.zarr").mkdir()
                (execution.output_directory / "z.zarr/zarr.json").write_text("{}")
                execution.add_plot(PLOT, long_name="Map", description="Mean & bias")
                execution.add_data("tos.nc", long_name="Temperature")
                execution.add_data("z.zarr/zarr.json", long_name="Temperature")
                execution.add_scalar(0.7, region="global", metric="rmse")
                execution.add_input(MODEL, version="v20191115", doi=DOI, role="model")
                execution.add_input("HadISST", pid="hdl:21.14100/x", role="reference")
                if name == "failed":
                    execution.stop(ExecutionResult(successful=False))
            execution.commit_output_assets()
    retract(tmp_path / "results", "pmp/enso/h/retracted", reason="wrong sign")
    return tmp_path / "results"


def as_list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def test_a_deposit_is_a_process_run_crate_with_every_file(results: Path, tmp_path: Path) -> None:
    made = deposit(results, tmp_path / "crate", title="ENSO metrics")
    crate = ROCrate(tmp_path / "crate")
    assert crate.name == "ENSO metrics"
    assert crate.root_dataset["conformsTo"].id == "https://w3id.org/ro/wfrun/process/0.5"
    files = {unquote(each.id): each for each in crate.data_entities}
    there = {
        os.path.relpath(os.path.join(folder, name), tmp_path / "crate")
        for folder, _, names in os.walk(tmp_path / "crate")
        for name in names
    }
    assert there == files.keys() | {"ro-crate-metadata.json"}
    entry = files[f"pmp/enso/h/1/{PLOT}"]
    assert (entry["sha256"], entry["contentSize"]) == (hashlib.sha256(b"1").hexdigest(), "1")
    runs = {each.id: each for each in as_list(crate.root_dataset["mentions"])}
    assert runs.keys() == {"#pmp/enso/h/1", "#pmp/enso/h/2"}
    run = runs["#pmp/enso/h/1"]
    assert (run.type, run["instrument"]["version"]) == ("CreateAction", "3.9")
    assert {each["name"]: each["identifier"] for each in run["object"]} == {
        MODEL: f"https://doi.org/{DOI}",
        "HadISST": "21.14100/x",
    }
    assert entry in run["result"]
    assert run["endTime"] >= run["startTime"]
    assert made.left == {"pmp/enso/h/failed": "failed", "pmp/enso/h/retracted": "retracted"}


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.needs("crate-validator")
def test_the_validator_of_ro_crate_finds_nothing(results: Path, tmp_path: Path) -> None:
    deposit(results, tmp_path / "crate")
    metadata = tmp_path / "crate" / "ro-crate-metadata.json"
    crate = json.loads(metadata.read_text())
    # The context is fetched from the network; rocrate brings it as a file.
    context = json.loads((Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text())["@context"]

    def issues() -> list[dict[str, Any]]:
        metadata.write_text(json.dumps({**crate, "@context": context}))
        found = tmp_path / "found.json"
        command = ["rocrate-validator", "validate", "--offline", "--profile-identifier", "process-run-crate"]
        form = ["--output-format", "json", "--output-file", str(found)]
        subprocess.run([*command, *form, str(tmp_path / "crate")], check=False, capture_output=True)
        return list(json.loads(found.read_text())["issues"])

    assert issues() == []
    for entity in crate["@graph"]:
        if entity["@type"] == "CreateAction":
            del entity["instrument"]
    assert "instrument" in str(issues())


def test_a_bag_is_valid_until_a_byte_changes(results: Path, tmp_path: Path) -> None:
    made = deposit(results, tmp_path / "bag", bag=True)
    bag = bagit.Bag(str(tmp_path / "bag"))
    assert bag.validate()
    assert made.bag
    assert ROCrate(tmp_path / "bag/data").root_dataset["mentions"]
    (tmp_path / "bag/data/pmp/enso/h/1/tos.nc").write_bytes(b"CDF\x02")
    assert not bag.is_valid()


def test_what_is_there_is_not_touched_and_a_deposit_that_fails_leaves_nothing(results: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ArtifactExistsError, match="mine"):
        deposit(results, tmp_path / "mine")
    before = sorted(os.listdir(tmp_path))
    chosen = choose_records(results)
    (results / "pmp/enso/h/2/tos.nc").write_bytes(b"CDF\x09")  # since it was chosen
    with pytest.raises(TransferError, match=r"tos\.nc"):
        deposit(results, tmp_path / "crate", chosen=chosen)
    assert choose_records(results).doubtful == {"pmp/enso/h/2": "changed"}
    with pytest.raises(IncompleteSetError, match="no published set"):
        deposit(results / "pmp/enso/h/failed", tmp_path / "crate")
    assert sorted(os.listdir(tmp_path)) == before


def test_a_release_is_deposited_as_it_was_or_not_at_all(results: Path, tmp_path: Path) -> None:
    create_release(results, "2026.1", ["pmp/enso/h/2"])
    made = deposit(results, tmp_path / "crate", chosen=choose_records(results, release="2026.1"))
    assert (made.sets, ROCrate(tmp_path / "crate").name) == (1, "Release 2026.1")
    with pytest.raises(ReleaseNotFoundError):
        choose_records(results, release="2026.2")
    record = results / "pmp/enso/h/2/execution.json"
    record.write_bytes(record.read_bytes() + b"\n")
    with pytest.raises(IncompleteSetError, match="not as they were released: pmp/enso/h/2"):
        choose_records(results, release="2026.1")


def test_provenance_leads_from_each_file_to_its_datasets_and_software(results: Path) -> None:
    document = ProvDocument.deserialize(content=as_prov_json(choose_records(results).records), format="json")
    told = document.get_provn()
    run = "emdstore:execution/pmp/enso/h/1"
    plot = "emdstore:artifact/pmp/enso/h/1/maps%20%28%C2%B0C%29/50%25%20%231.png"
    assert f"used({run}, emdstore:dataset/{MODEL}@v20191115, -)" in told
    assert f"wasGeneratedBy({plot}, {run}, " in told
    assert f"wasAssociatedWith({run}, emdstore:software/pmp/enso@3.9, -)" in told
    assert told.count(f"entity(emdstore:dataset/{MODEL}@v20191115,") == 1  # once, although two runs read it
    assert "failed" not in told


@pytest.mark.needs("exchange")
def test_bibtex_names_each_dataset_and_package_once(results: Path) -> None:
    import bibtexparser

    library = bibtexparser.parse_string(as_bibtex(choose_records(results).records))
    assert not library.failed_blocks
    found = {entry["title"]: entry for entry in library.entries}
    assert len(library.entries) == len(found) == 5
    assert found[MODEL.replace("_", "\\_")]["doi"] == DOI.replace("_", "\\_")
    assert found["pmp"]["version"] == "3.9"
    assert found["numpy"].entry_type == "software"


def test_a_citation_file_names_what_was_read_and_what_computed(results: Path) -> None:
    told = yaml.safe_load(as_cff(choose_records(results).records, title='The "best": results'))
    assert told["title"] == 'The "best": results'
    by_title = {each["title"]: each for each in told["references"]}
    assert by_title[MODEL]["identifiers"] == [{"type": "doi", "value": DOI}]
    assert by_title["HadISST"]["type"] == "data"
    assert (by_title["pmp"]["type"], by_title["pmp"]["version"]) == ("software", "3.9")


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.needs("exchange")
def test_intake_esm_opens_the_data_files(results: Path, tmp_path: Path) -> None:
    import intake
    import xarray

    for name in ("1", "2"):  # real files, in place of the four bytes
        xarray.Dataset({"tos": ("time", [1.0, 2.0])}, {"time": [0, 1]}).to_netcdf(
            results / f"pmp/enso/h/{name}/tos.nc", engine="h5netcdf"
        )
    assert write_datastore(choose_records(results).records, tmp_path / "store", place=str(results)) == 0
    with Workspace(scratch=tmp_path / "s2", results=tmp_path / "r2", catalog="sqlite://") as workspace:
        with workspace.start_execution(
            provider="pmp", diagnostic="enso", group="h", name="3", selectors={"source_id": "CESM2"}
        ) as execution:
            (execution.output_directory / "tos.nc").write_bytes((results / "pmp/enso/h/1/tos.nc").read_bytes())
            execution.add_data("tos.nc", long_name="Temperature")
            execution.add_scalar(0.7, metric="rmse")
        execution.commit_output_assets()
    count = write_datastore(choose_records(tmp_path / "r2").records, tmp_path / "store", place=str(tmp_path / "r2"))
    catalog = intake.open_esm_datastore(str(tmp_path / "store/emdstore.json"))
    found = catalog.search(source_id="CESM2", provider="pmp").df
    assert (count, list(found["execution"].astype(str)), list(found["format"])) == (1, ["3"], ["netcdf"])
    with xarray.open_dataset(found["path"][0], engine="h5netcdf") as opened:
        assert list(opened["tos"].values) == [1.0, 2.0]


def test_a_zarr_group_is_one_entry_of_a_datastore(results: Path, tmp_path: Path) -> None:
    assert write_datastore(choose_records(results).records, tmp_path, place="s3://bucket/results", name="pmp") == 4
    table = (tmp_path / "pmp.csv").read_text().splitlines()
    assert table[0] == "source_id,provider,diagnostic,group,execution,file,format,path"
    assert table[2] == "ACCESS-ESM1-5,pmp,enso,h,1,z.zarr,zarr,s3://bucket/results/pmp/enso/h/1/z.zarr"


def test_the_commands_do_the_same(here: Here, results: Path) -> None:
    answer = here("deposit", results, "-o", "crate", "--bag")
    assert "2 sets" in answer.err + answer.out
    assert "left out: pmp/enso/h/failed (failed)" in answer.err
    assert bagit.Bag("crate").is_valid()
    assert "already" in here("deposit", results, "-o", "crate", code=None).err
    assert MODEL in here("cite", results).out
    assert yaml.safe_load(here("cite", results, "--format", "cff").out)["cff-version"] == "1.2.0"
    assert ProvDocument.deserialize(content=here("provenance", results).out, format="json").records
    here("datastore", results, "-o", "catalogs")
    assert str(results / "pmp/enso/h/1/tos.nc") in Path("catalogs/emdstore.csv").read_text()
    assert "no published set" in here("deposit", results, "-o", "none", "--state", "failed", code=4).err
