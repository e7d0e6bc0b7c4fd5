"""Series from NetCDF files, as ESMValTool and ILAMB write them."""

from __future__ import annotations

import math
from pathlib import Path

import h5netcdf
import numpy as np
import pytest
from tests.adoption.outputs import esmvaltool, ilamb

from emdstore import Workspace
from emdstore.adoption import adopt
from emdstore.adoption.netcdf import read_lines


def write_series(path: Path, *groups: str) -> None:
    """Write one-dimensional variables over time, months and names, and what is none, in a group."""
    with h5netcdf.File(path, "a") as file:
        file.attrs["title"] = "FLUXNET"
        at = file
        for name in groups:
            at = at.create_group(name)
        at.dimensions = {"time": 3, "month": 2, "model": 2, "text": 4, "bnds": 2, "lat": 2, "site": 2}
        time = at.create_variable("time", ("time",), data=np.array([15.5, 45.0, 74.5]))
        time.attrs.update(units="days since 1850-01-01", calendar="noleap", bounds="time_bnds")
        at.create_variable("time_bnds", ("time", "bnds"), data=np.zeros((3, 2)))
        at.create_variable("year", ("time",), data=np.array([1850, 1850, 1850]))
        at.create_variable("month", ("month",), data=np.array([1, 2]))
        names = at.create_variable(
            "dataset", ("model", "text"), data=np.array([list(b"CESM"), list(b"CLM\0")], "u1").view("S1")
        )
        names.attrs["long_name"] = "dataset"
        mean = at.create_variable("mean_of_gpp_over_global", ("time",), data=np.array([1.5, -999.0, 2.5]))
        mean.attrs.update(units="g m-2 d-1", long_name="Mean", coordinates="year", _FillValue=-999.0)
        at.create_variable("cycle_global", ("month",), data=np.array([1, 2], "f4"))
        at.create_variable("tcr", ("model",), data=np.array([1.9, 2.1])).attrs["coordinates"] = "dataset"
        at.create_variable("map", ("month", "lat"), data=np.zeros((2, 2)))
        at.create_variable("of_sites", ("site",), data=np.zeros(2))  # without a coordinate


@pytest.mark.parametrize("groups", [(), ("MeanState", "inner")])
def test_one_dimensional_variables_are_read_with_times_as_text(tmp_path: Path, groups: tuple[str, ...]) -> None:
    write_series(tmp_path / "a.nc", *groups)
    about, lines = read_lines(tmp_path / "a.nc")
    assert about["title"] == "FLUXNET"
    prefix = "".join(f"{name}/" for name in groups)
    found = {each.name.removeprefix(prefix): each for each in lines}
    assert found.keys() == {"mean_of_gpp_over_global", "cycle_global", "tcr"}
    mean = found["mean_of_gpp_over_global"]
    assert mean.index == ("1850-01-16T12:00:00", "1850-02-15T00:00:00", "1850-03-16T12:00:00")
    assert (mean.index_name, mean.values[0], math.isnan(mean.values[1])) == ("time", 1.5, True)
    assert mean.attributes == {"value_units": "g m-2 d-1", "value_long_name": "Mean", "calendar": "noleap"}
    assert (found["cycle_global"].index, found["cycle_global"].values) == ((1, 2), (1.0, 2.0))
    assert (found["tcr"].index_name, found["tcr"].index) == ("dataset", ("CESM", "CLM"))


def test_series_have_the_dimensions_of_their_file(tmp_path: Path) -> None:
    tool, benchmark = esmvaltool(tmp_path), ilamb(tmp_path)
    (tool / "plots/tcr/calculate/tas.png").rename(tool / "plots/tcr/calculate/tas.nc")
    provenance = tool / "plots/tcr/calculate/tas_provenance.xml"
    provenance.write_text(provenance.read_text().replace("tas.png", "tas.nc"))
    (tool / "plots/tcr/calculate/tas.nc").unlink()
    write_series(tool / "plots/tcr/calculate/tas.nc")
    for name in ("CESM2", "Benchmark"):
        write_series(benchmark / f"Carbon/GPP/FLUXNET2015/FLUXNET2015_{name}.nc", "MeanState")
    with Workspace.in_memory() as workspace:
        assert adopt(workspace, "esmvaltool", tool).ok
        assert adopt(workspace, "ilamb", benchmark).ok
        found = {(row.provider, row.kind, row.dimensions["metric"]): row for row in workspace.catalog.series()}
    of_tool = found["esmvaltool", "model", "tcr"]
    assert (of_tool.dimensions["source_id"], of_tool.dimensions["variable_id"]) == ("ACCESS-ESM1-5", "tas")
    of_model = found["ilamb", "model", "mean_of_gpp"]
    assert (of_model.dimensions["source_id"], of_model.dimensions["region"]) == ("CESM2", "global")
    assert of_model.units == "g m-2 d-1"
    assert found["ilamb", "reference", "cycle"].reference_id == "FLUXNET2015"
    assert len(found) == 9


def test_a_file_that_is_no_netcdf_4_is_told_and_kept(tmp_path: Path) -> None:
    tool = esmvaltool(tmp_path)
    (tool / "work/tcr/calculate/old.nc").write_bytes(b"CDF\x01")
    report = adopt(tmp_path / "results", "esmvaltool", tool)
    assert [each.name for each in report.left if each.lost] == ["work/tcr/calculate/old.nc"]
    assert (tmp_path / "results" / report.sets[0].fragment / "work/tcr/calculate/old.nc").is_file()
