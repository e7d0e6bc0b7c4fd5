"""What the frameworks' own code has written is adopted: `nox -s adopters` installs it, and runs this."""

from __future__ import annotations

import warnings
from pathlib import Path

import ilamb3
import ilamb3.run
import netCDF4
import numpy as np
import pandas as pd
import xarray as xr
from esmvalcore import _provenance
from ILAMB.Post import HarvestScalarDatabase
from PIL import Image
from tests.adoption.outputs import CMIP6, FACETS, RUN, esmvaltool, write

from emdstore import Workspace, verify
from emdstore.adoption import AdoptionReport, adopt
from emdstore.sets.record import read_record
from emdstore.stores.views import scoped


def adopted_twice(workspace: Workspace, framework: str, folder: Path) -> AdoptionReport:
    report = adopt(workspace, framework, folder)
    assert report.ok, report
    assert {each.outcome for each in adopt(workspace, framework, folder).sets} == {"unchanged"}
    assert verify(workspace.results).ok
    return report


def test_the_provenance_of_esmvalcore(tmp_path: Path) -> None:
    folder = esmvaltool(tmp_path)
    plot = folder / "plots/tcr/calculate/Warming, all models.png"
    Image.new("RGB", (2, 2)).save(plot)
    documentation = {
        "description": "TCR",
        "authors": [{"name": "Schlund, Manuel", "orcid": "0"}],
        "projects": ["EU H2020"],
    }
    recipe = _provenance.get_recipe_provenance(documentation, "recipe_tcr.yml")
    made_from = tmp_path / "data/v20191115/tas_Amon_ACCESS-ESM1-5.nc"
    task = type("Task", (), {"name": "tcr/calculate"})
    activity = _provenance.get_task_provenance(task, recipe)
    read = _provenance.TrackedFile(str(made_from), dict(CMIP6))
    preprocessed = _provenance.TrackedFile(str(folder / "preproc/tcr/tas/CMIP6_tas.nc"), dict(FACETS), [read])
    about = {"caption": "All models", "authors": documentation["authors"]}
    output = _provenance.TrackedFile(str(plot), about, [preprocessed])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preprocessed.initialize_provenance(activity)
        output.initialize_provenance(activity)
        output.save_provenance()
    with Workspace.in_memory() as workspace:
        (only,) = adopted_twice(workspace, "esmvaltool", folder).sets
        outputs = {row.long_name: row for row in workspace.catalog.outputs()}
        assert outputs["All models"].dimensions == {
            "source_id": "ACCESS-ESM1-5", "experiment_id": "1pctCO2", "member_id": "r1i1p1f1", "variable_id": "tas",
        }  # fmt: skip
        record = read_record(scoped(workspace.results, only.fragment))
        assert record is not None
        names = {each.name: each.version for each in record.datasets}
        assert names["CMIP6.CMIP.CSIRO.ACCESS-ESM1-5.1pctCO2.r1i1p1f1.Amon.tas.gn"] == "v20191115"
        assert only.fragment.endswith(RUN.partition("tcr_")[2])


def test_the_database_of_ilamb_2(tmp_path: Path) -> None:
    below = tmp_path / "build/Carbon/GPP/FLUXNET2015"
    write(below, {"CESM2_global_bias.png": b"a picture"})
    for model, score in (("CESM2", 0.5), ("CLM5", np.ma.masked)):
        with netCDF4.Dataset(below / f"FLUXNET2015_{model}.nc", "w") as file:
            file.setncatts({"name": model, "weight": 5, "complete": 1})
            group = file.createGroup("MeanState").createGroup("scalars")
            variable = group.createVariable("Bias Score global", "f8")
            variable.units = "1"
            variable[...] = score
    HarvestScalarDatabase(str(tmp_path / "build"))
    with Workspace.in_memory() as workspace:
        report = adopted_twice(workspace, "ilamb", tmp_path / "build")
        assert [each.fragment.split("/")[2] for each in report.sets] == ["CESM2", "CLM5"]
        found = {row.dimensions["source_id"]: row for row in workspace.catalog.scalars()}
        assert found["CESM2"].value == 0.5
        assert np.isnan(found["CLM5"].value)
        assert found["CESM2"].dimensions["statistic"] == "Bias Score"


def _climate(seed: int) -> xr.Dataset:
    time = xr.date_range("2000-01-15", periods=24, freq="MS", calendar="noleap", use_cftime=True)
    lat, lon = np.linspace(-67.5, 67.5, 4), np.linspace(22.5, 337.5, 8)
    values = 15 + np.random.default_rng(seed).random((24, 4, 8))
    where = {"time": time, "lat": lat, "lon": lon}
    return xr.Dataset({"tas": xr.DataArray(values, coords=where, dims=list(where), attrs={"units": "degC"})})


def test_a_block_of_ilamb_3(tmp_path: Path) -> None:
    block = tmp_path / "output/Temperature/CRU"
    block.mkdir(parents=True)
    _climate(1).to_netcdf(tmp_path / "reference.nc")
    models = []
    for seed, model in ((2, "CESM2"), (3, "ACCESS-ESM1-5")):
        _climate(seed).to_netcdf(tmp_path / f"{model}.nc")
        facets = {"experiment_id": "historical", "member_id": "r1i1p1f1", "variable_id": "tas", "grid_label": "gn"}
        models.append({"source_id": model, **facets, "path": tmp_path / f"{model}.nc"})
    ilamb3.conf.set(prefer_regional_quantiles=False, use_uncertainty=False, regions=[None])
    references = pd.DataFrame([{"key": "CRU", "path": tmp_path / "reference.nc"}])
    ilamb3.run.run_single_block("CRU", references, pd.DataFrame(models), block, sources={"tas": "CRU"})
    with Workspace.in_memory() as workspace:
        report = adopted_twice(workspace, "ilamb", tmp_path / "output")
        assert {each.fragment.split("/")[2] for each in report.sets} == {
            "ACCESS-ESM1-5-r1i1p1f1-gn", "CESM2-r1i1p1f1-gn", "all",
        }  # fmt: skip
        table = pd.read_csv(block / "CESM2-r1i1p1f1-gn.csv")
        written = table[table["source"] != "Reference"]
        read = [row for row in workspace.catalog.scalars() if row.dimensions.get("source_id") == "CESM2"]
        assert len(read) == len(written)
        (score,) = (row.value for row in read if row.dimensions["statistic"] == "Bias Score")
        assert score == written[written["name"] == "Bias Score [1]"]["value"].item()
        assert any(row.dimensions["metric"].startswith(("cycle", "trace")) for row in workspace.catalog.series())
