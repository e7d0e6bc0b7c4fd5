"""Adopt emdstore in Climate-REF: compare a solve with either handler, and rebuild a lost database.

    pip install 'emdstore[climate-ref]' climate-ref climate-ref-example
    python climate_ref_adoption.py [FOLDER]

It writes a small dataset, runs `ref datasets ingest` and `ref solve` on it with Climate-REF's example provider, and
needs no network. Climate-REF's log goes to FOLDER/*/ref.log.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr
from climate_ref.cli import app
from climate_ref.config import Config, DiagnosticProviderConfig
from climate_ref_core.logging import remove_log_handler

from emdstore import LocalArtifactStore, verify
from emdstore.integrations import climate_ref

FACETS = {
    "activity_id": "CMIP",
    "institution_id": "CSIRO",
    "source_id": "ACCESS-ESM1-5",
    "experiment_id": "historical",
    "variant_label": "r1i1p1f1",
    "grid_label": "gn",
}
COMMON = {
    "mip_era": "CMIP6",
    "product": "model-output",
    "nominal_resolution": "250 km",
    "source_type": "AOGCM",
    "sub_experiment_id": "none",
    "parent_activity_id": "CMIP",
    "parent_experiment_id": "piControl",
    "parent_source_id": "ACCESS-ESM1-5",
    "parent_time_units": "days since 1850-01-01",
    "parent_variant_label": "r1i1p1f1",
    "branch_method": "standard",
    "branch_time_in_child": 0.0,
    "branch_time_in_parent": 0.0,
}
VALUES = "SELECT type, source_id, variable_id, region, metric, statistic, value, attributes FROM metric_value"
LINKS = "SELECT slug FROM dataset JOIN execution_dataset ON dataset.id = dataset_id"


def main(root: Path) -> None:
    write_datasets(root / "cmip6")

    theirs = solve(root / "theirs", root / "cmip6")
    with climate_ref.install():  # this line adopts emdstore; without `with`, call `climate_ref.uninstall()` to undo it
        ours = solve(root / "ours", root / "cmip6")
        show("ours", ours)
        show("theirs", theirs)
    print("the values are the same:", ask(ours, VALUES) == ask(theirs, VALUES) != [])

    # A set from emdstore can be verified: a changed file is found although it is still valid JSON. A set from
    # Climate-REF's handler has no record, so `verify` only reports it as bare.
    for name, config in (("theirs", theirs), ("ours", ours)):
        with next(config.paths.results.rglob("output.json")).open("ab") as file:
            file.write(b"\n")
        print(
            f"{name}, damaged:",
            [problem.finding for problem in verify(LocalArtifactStore(config.paths.results)).problems],
        )
    for config in (theirs, ours):
        shutil.copy(next(config.paths.scratch.rglob("output.json")), next(config.paths.results.rglob("output.json")))

    # Clean up scratch. Climate-REF's reingest needs it, emdstore's does not.
    for config in (theirs, ours):
        shutil.rmtree(config.paths.scratch)
    ref(theirs, "executions", "reingest", "--provider", "example", "--force")
    with climate_ref.install():
        ref(ours, "executions", "reingest", "--provider", "example", "--force")
    for name, config in (("theirs", theirs), ("ours", ours)):
        print(f"{name}, reingested without scratch: {len(ask(config, 'SELECT id FROM execution'))} executions")

    # Lose the database, and rebuild it from the results tree.
    before = [ask(ours, what) for what in (VALUES, LINKS)]
    database(ours).unlink()
    ref(ours, "datasets", "ingest", "--source-type", "cmip6", str(root / "cmip6"))
    report = climate_ref.replay(LocalArtifactStore(ours.paths.results), database(ours))
    print(f"replayed: {report.counts['ingested']} executions")
    print("the rows are back:", [ask(ours, what) for what in (VALUES, LINKS)] == before)
    print(
        "replayed again:",
        climate_ref.replay(LocalArtifactStore(ours.paths.results), database(ours)).counts["unchanged"],
        "unchanged",
    )


def solve(folder: Path, datasets: Path) -> Config:
    """Set Climate-REF up in a folder, and run there everything that can be computed from the datasets."""
    folder.mkdir(parents=True)
    os.environ["REF_CONFIGURATION"] = str(folder)
    config = Config.default()
    config.diagnostic_providers = [DiagnosticProviderConfig(provider="climate_ref_example")]
    config.executor.executor = "climate_ref.executor.SynchronousExecutor"
    config.ignore_datasets_file = folder / "nothing-to-ignore.yaml"  # the default is fetched from the network
    config.ignore_datasets_file.write_text("{}\n")
    config.save()
    ref(config, "datasets", "ingest", "--source-type", "cmip6", str(datasets))
    ref(config, "solve")
    return config


def ref(config: Config, *command: str) -> None:
    """Run `ref COMMAND...` in this process, with the handler that is installed."""
    folder = config.paths.results.parent
    os.environ["REF_CONFIGURATION"] = str(folder)
    with (folder / "ref.log").open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        app(command, standalone_mode=False)
        remove_log_handler()


def ask(config: Config, question: str) -> list[tuple[object, ...]]:
    """Query Climate-REF's database, which is a SQLite file, and return sorted rows."""
    with contextlib.closing(sqlite3.connect(database(config))) as connection:
        return sorted(connection.execute(question).fetchall(), key=repr)


def database(config: Config) -> Path:
    return Path(config.db.database_url.removeprefix("sqlite:///"))


def show(name: str, config: Config) -> None:
    files = sorted(path.name for path in config.paths.results.rglob("*") if path.is_file())
    print(f"{name}: {len(ask(config, VALUES))} values; in results: {', '.join(files)}")


def write_datasets(folder: Path) -> None:
    """Write two years of temperature, and the cell areas, on a coarse grid, as CMIP6 datasets."""
    latitude, longitude = np.arange(-75.0, 90.0, 30.0), np.arange(0.0, 360.0, 60.0)
    time = xr.date_range("2000-01-01", periods=24, freq="MS", use_cftime=True)
    on_grid = {"lat": latitude, "lon": longitude}
    areas = np.repeat(np.cos(np.deg2rad(latitude))[:, None], longitude.size, axis=1)
    temperatures = 280.0 + 0.1 * np.arange(24)[:, None, None] + np.zeros((24, *areas.shape))
    area = xr.DataArray(areas, on_grid, ["lat", "lon"], attrs={"units": "m2", "standard_name": "cell_area"})
    tas = xr.DataArray(temperatures, {"time": time, **on_grid}, ["time", "lat", "lon"])
    tas.attrs = {"units": "K", "standard_name": "air_temperature"}
    write_dataset(folder, area, "areacella", "fx", "fx")
    write_dataset(folder, tas, "tas", "Amon", "mon", "_200001-200112")


def write_dataset(folder: Path, data: xr.DataArray, variable: str, table: str, frequency: str, span: str = "") -> None:
    more = {"table_id": table, "variable_id": variable, "frequency": frequency, "realm": "atmos", **COMMON}
    place = folder.joinpath(*list(FACETS.values())[:5], table, variable, "gn", "v20200101")
    place.mkdir(parents=True)
    name = "_".join([variable, table, *list(FACETS.values())[2:]])
    data.to_dataset(name=variable).assign_attrs(FACETS | more).to_netcdf(place / f"{name}{span}.nc")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
