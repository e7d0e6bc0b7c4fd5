"""Small folders as the frameworks leave them, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prov.model import ProvDocument

ESMVALTOOL = "https://www.esmvaltool.org/"
RUN = "recipe_tcr_20260716_140604"
PICTURE = b"\x89PNG\r\n\x1a\n a picture"
CMIP6 = {
    "mip_era": "CMIP6", "activity_id": "CMIP", "institution_id": "CSIRO", "source_id": "ACCESS-ESM1-5",
    "experiment_id": "1pctCO2", "variant_label": "r1i1p1f1", "table_id": "Amon", "variable_id": "tas",
    "grid_label": "gn", "tracking_id": "hdl:21.14100/b3f4469e-2417-4123-bfb9-ef2",
}  # fmt: skip
FACETS = {"project": "CMIP6", "dataset": "ACCESS-ESM1-5", "exp": "1pctCO2", "ensemble": "r1i1p1f1", "short_name": "tas"}
LOG = """INFO    [7] ESMValCore: 2.13.0
INFO    [7] ESMValTool: v2.13.0
INFO    [7] Starting the Earth System Model Evaluation Tool at time: 2026-07-16 14:06:04 UTC
INFO    [7] Ending the Earth System Model Evaluation Tool at time: 2026-07-16 14:08:20 UTC
INFO    [7] {end}
"""


def write(folder: Path, files: Mapping[str, bytes | str]) -> None:
    """Write files, each with its folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def provenance(folder: Path, key: str, caption: str) -> bytes:
    """Return the provenance of an output, as PROV-XML: made from a preprocessed file, made from a file of CMIP6."""
    document = ProvDocument()
    for name in ("file", "attribute", "task"):
        document.add_namespace(name, ESMVALTOOL + name)
    task = document.activity("task:tcr/calculate")
    read = "/data/CMIP6/CMIP/CSIRO/ACCESS-ESM1-5/1pctCO2/r1i1p1f1/Amon/tas/gn/v20191115/tas_Amon_0101-0250.nc"
    reference = "/data/obs4MIPs/HadCRUT/v20240101/tas_mon_HadCRUT-5-0_gn_185001-202212.nc"
    made: list[tuple[str, Mapping[str, str]]] = [
        (str(folder / key), {"caption": caption}),
        (str(folder / "preproc/tcr/tas/CMIP6_tas.nc"), FACETS),
        (read, CMIP6),
        (reference, {"activity_id": "obs4MIPs", "variable_id": "tas"}),
    ]
    output, preprocessed, *inputs = (
        document.entity(f"file:{path}", {f"attribute:{name}": told for name, told in about.items()})
        for path, about in made
    )
    output.wasDerivedFrom(preprocessed, task)
    for one in inputs:
        preprocessed.wasDerivedFrom(one, task)
    return (document.serialize(format="xml") or "").encode()


def esmvaltool(place: Path, *, end: str = "Run was successful") -> Path:
    """Write the output folder of a recipe."""
    folder = place / RUN
    plot, data = "plots/tcr/calculate/tas.png", "work/tcr/calculate/tcr.csv"
    write(
        folder,
        {
            "index.html": "<h1>TCR</h1>",
            plot: PICTURE,
            plot.replace(".png", "_provenance.xml"): provenance(folder, plot, "Warming over time"),
            plot.replace(".png", "_citation.bibtex"): "@misc{tcr}",
            data: "dataset,tcr\nACCESS-ESM1-5,1.97\n",
            "preproc/tcr/tas/CMIP6_tas.nc": b"large",
            "run/main_log.txt": LOG.format(end=end),
            "run/main_log_debug.txt": "details",
            "run/recipe_tcr.yml": "documentation:\n  title: Transient climate response\ndatasets: []\n",
            "run/tcr/calculate/settings.yml": "script: calculate\n",
        },
    )
    return folder


def pmp_metrics(bias: str = "2.5e-01") -> dict[str, Any]:
    """Return what PMP writes of the mean climate of two models: numbers as text, and attributes beside the values."""

    def of(run: str, value: str, *, ragged: bool = False) -> dict[str, Any]:
        def statistics(bias: str | None) -> dict[str, Any]:
            months = ["1.0e-01"] * 11 + ["1.00000e+20"]
            return {
                "bias_xy": {"ann": bias, "djf": "1.0e-01", "CalendarMonths": months},
                "rms_xyt": {"ann": "1.74e+00"},
            }

        regions = {"global": statistics(value)} | ({} if ragged else {"TROPICS": statistics(None)})
        return {
            "units": "mm/day",
            "default": {"source": "GPCP-3-3", run: {"InputClimatologyFileName": "x.nc", **regions}},
        }

    return {
        "json_version": 3.0,
        "json_structure": ["model", "reference", "rip", "region", "statistic", "season"],
        "provenance": {
            "commandLine": "/opt/pmp/bin/mean_climate_driver.py -p param.py --vars pr",
            "date": "2026-07-21 15:24:20",
            "packages": {"PMP": "3.9.1", "numpy": "2.0.2", "PMPObs": "See 'References' key below", "vcs": None},
        },
        "Variable": {"id": "pr"},
        "References": {
            "default": {"template": "pr/gr/v20250211/pr_mon_GPCP-3-3_AC.nc", "filename": "pr_mon_GPCP-3-3_AC.nc"}
        },
        "RESULTS": {"CESM2": of("r1i1p1f1", bias), "CESM2-WACCM": of("r2i1p1f1", "0.5", ragged=True)},
    }


def pmp(place: Path) -> Path:
    """Write a folder of PMP's results."""
    folder = place / "pmp_results"
    write(
        folder,
        {
            "pr_2.5x2.5_regrid2_metrics.json": json.dumps(pmp_metrics()),
            "pr_2.5x2.5_regrid2_metrics_cmec.json": json.dumps({"DIMENSIONS": {}, "RESULTS": {}}),
            "graphics/pr_CESM2_bias.png": PICTURE,
            "graphics/pr_CESM2-WACCM_bias.png": PICTURE,
            "graphics/pr_portrait.png": PICTURE,
        },
    )
    return folder


ILAMB_ROW = '"Carbon","GPP","FLUXNET2015","{model}","{name}","MeanState","{region}","{kind}","{units}","{value}","1"'


def ilamb(place: Path) -> Path:
    """Write a folder as ILAMB 2 leaves it."""
    folder = place / "build"
    header = "Section,Variable,Source,Model,ScalarName,AnalysisType,Region,ScalarType,Units,Data,Weight"
    rows = [",".join(f'"{name}"' for name in header.split(","))]
    for model, bias in (("CESM2", "-0.25"), ("CLM5", "nan")):
        rows.append(
            ILAMB_ROW.format(model=model, name="Bias", region="global", kind="scalar", units="g m-2 d-1", value=bias)
        )
        rows.append(
            ILAMB_ROW.format(model=model, name="Bias Score", region="global", kind="score", units="1", value="0.62")
        )
    below = "Carbon/GPP/FLUXNET2015"
    write(
        folder,
        {
            "scalar_database.csv": "\n".join(rows),
            "index.html": "<h1>ILAMB</h1>",
            "ilamb.cfg": "[h1: Carbon]",
            "ILAMB00.log": "started",
            f"{below}/FLUXNET2015.html": "<h1>GPP</h1>",
            f"{below}/CESM2_global_bias.png": PICTURE,
            f"{below}/CLM5_global_bias.png": PICTURE,
            f"{below}/legend_bias.png": PICTURE,
        },
    )
    return folder


def cmec(place: Path) -> Path:
    """Write a bundle of CMEC."""
    folder = place / "cmec_bundle"
    entry = {"long_name": "Bias", "description": "Bias of precipitation"}
    metrics = {
        "SCHEMA": {"name": "CMEC", "package": "MDTF", "version": "v1"},
        "DIMENSIONS": {
            "json_structure": ["region", "metric"],
            "dimensions": {"region": {"global": {}}, "metric": {"bias": {}, "rmse": {}}},
        },
        "RESULTS": {"global": {"bias": 0.3, "rmse": 1.1}},
    }
    output = {
        "index": "page",
        "provenance": {
            "environment": {"numpy": "2.0"},
            "modeldata": "CMIP6.CESM2",
            "obsdata": {"GPCP": {"version": "3"}},
            "log": "run.log",
        },
        "plots": {"bias": {"filename": str(folder / "bias.png"), **entry}},
        "html": {"page": {"filename": "index.html", **entry}},
        "metrics": {"all": {"filename": "metrics.json", **entry}},
    }
    write(
        folder,
        {
            "output.json": json.dumps(output),
            "metrics.json": json.dumps(metrics),
            "bias.png": PICTURE,
            "index.html": "<p>",
            "run.log": "computed\n",
            "notes.txt": "nothing names this",
        },
    )
    return folder


OUTPUTS: Mapping[str, Callable[[Path], Path]] = {"esmvaltool": esmvaltool, "pmp": pmp, "ilamb": ilamb, "cmec": cmec}
