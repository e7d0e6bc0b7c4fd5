"""Figures, datasets and tables become files of a set with one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pytest
import xarray as xr

from emdstore import BundleError, InvalidKeyError, OutputWriter
from emdstore.emds import decode_output_bundle

mpl.use("agg")

from matplotlib.figure import Figure


def drawn() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    return figure


FRAME = {"model": ["CESM2", "=x"], "rmse": [0.5, 1.5]}


@pytest.mark.parametrize(
    ("method", "make", "name", "kind"),
    [
        ("add_figure", drawn, "maps/a.png", "plot"),
        ("add_figure", lambda: drawn().axes[0], "a.svg", "plot"),
        ("add_figure", lambda: go.Figure(go.Scatter(y=[1, 2])), "a.html", "html"),
        ("add_dataset", lambda: xr.Dataset({"tas": ("time", [1.5, 2.5])}), "a.nc", "data"),
        ("add_dataset", lambda: xr.DataArray([1.5, 2.5], name="tas"), "a.nc", "data"),
        ("add_table", lambda: pd.DataFrame(FRAME), "a.csv", "data"),
        ("add_table", lambda: pd.DataFrame(FRAME), "a.parquet", "data"),
        ("add_table", lambda: pd.DataFrame(FRAME), "a.html", "html"),
        ("add_table", lambda: pl.DataFrame(FRAME), "a.parquet", "data"),
    ],
)
def test_it_is_saved_and_registered(method: str, make: Callable[[], Any], name: str, kind: str, tmp_path: Path) -> None:
    value = make()
    writer = OutputWriter(tmp_path)
    assert getattr(writer, method)(value, name, long_name="A thing", dimensions={"region": "nh"}) == name
    data = (tmp_path / name).read_bytes()
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".nc": b"\x89HDF", ".parquet": b"PAR1", ".csv": b",model"}
    assert data.startswith(begins.get(Path(name).suffix, b"<"))
    if "plotly" in type(value).__module__:
        assert b"plotly.js v" in data
        assert b"<script src=" not in data
    writer.write()
    (entry,) = decode_output_bundle((tmp_path / "output.json").read_bytes()).entries
    assert (entry.kind, entry.filename, entry.long_name, entry.dimensions) == (kind, name, "A thing", {"region": "nh"})
    assert sorted(each.name for each in tmp_path.rglob("*.*")) == sorted(
        [Path(name).name, "diagnostic.json", "output.json", "series.json"]
    )


@pytest.mark.parametrize(
    ("method", "make", "name"),
    [
        ("add_figure", lambda: "map", "a.png"),
        ("add_figure", drawn, "a.html"),
        ("add_figure", drawn, "a"),
        ("add_dataset", lambda: pd.DataFrame(FRAME), "a.nc"),
        ("add_dataset", xr.Dataset, "a.csv"),
        ("add_table", lambda: pl.DataFrame(FRAME), "a.html"),
    ],
)
def test_what_cannot_be_saved_so_is_said(method: str, make: Callable[[], Any], name: str, tmp_path: Path) -> None:
    value = make()
    with pytest.raises(BundleError, match="name that ends in"):
        getattr(OutputWriter(tmp_path), method)(value, name, long_name="A thing")
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_that_could_not_be_registered(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    writer = OutputWriter(tmp_path / "in")
    with pytest.raises(InvalidKeyError):
        writer.add_figure(drawn(), "../out.png", long_name="Out")
    writer.add_table(pd.DataFrame(FRAME), "a.csv", long_name="A")
    with pytest.raises(BundleError, match="already added"):
        writer.add_table(pd.DataFrame({"other": [1]}), "a.csv", long_name="A again")
    assert "other" not in (tmp_path / "in" / "a.csv").read_text()
    assert [each.name for each in tmp_path.rglob("*.*")] == ["a.csv"]


def test_an_error_of_the_library_leaves_the_old_file(tmp_path: Path) -> None:
    class Broken:
        def savefig(self, path: Path) -> None:
            path.write_bytes(b"half")
            raise ValueError("no font")

    (tmp_path / "a.png").write_bytes(b"old")
    writer = OutputWriter(tmp_path)
    with pytest.raises(ValueError, match="no font"):
        writer.add_figure(Broken(), "a.png", long_name="A")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.png", b"old")]
    assert writer.add_figure(drawn(), "a.png", long_name="A") == "a.png"
