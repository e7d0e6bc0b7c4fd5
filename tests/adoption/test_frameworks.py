"""What becomes of the values, files and origins of each framework."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from tests.adoption.outputs import PICTURE, cmec, esmvaltool, ilamb, pmp, pmp_metrics, write

from emdstore import InMemoryArtifactStore, Workspace
from emdstore.adoption import adopt
from emdstore.adoption.values import number, read_tree, split
from emdstore.emds import OutputBundle, decode_output_bundle
from emdstore.sets.origin import Dataset
from emdstore.sets.record import ExecutionRecord, read_record
from emdstore.stores.views import scoped


def published(store: InMemoryArtifactStore, fragment: str) -> tuple[ExecutionRecord, OutputBundle]:
    """Return the record and the output bundle of a set."""
    folder = scoped(store, fragment)
    record = read_record(folder)
    assert record is not None
    return record, decode_output_bundle(folder.read_bytes("output.json"))


def test_a_recipe_of_esmvaltool_tells_its_times_versions_inputs_and_captions(tmp_path: Path) -> None:
    store = InMemoryArtifactStore()
    (only,) = adopt(store, "esmvaltool", esmvaltool(tmp_path)).sets
    assert only.fragment == "esmvaltool/tcr/ACCESS-ESM1-5_1pctCO2_r1i1p1f1_tas/20260716_140604"
    record, bundle = published(store, only.fragment)
    assert (record.started_at, record.stopped_at) == (
        datetime(2026, 7, 16, 14, 6, 4, tzinfo=UTC),
        datetime(2026, 7, 16, 14, 8, 20, tzinfo=UTC),
    )
    assert record.software == {"ESMValCore": "2.13.0", "ESMValTool": "2.13.0"}
    assert (record.provider_version, record.description) == ("2.13.0", "Transient climate response")
    assert record.datasets == (
        Dataset(
            name="CMIP6.CMIP.CSIRO.ACCESS-ESM1-5.1pctCO2.r1i1p1f1.Amon.tas.gn",
            version="v20191115",
            pid="21.14100/b3f4469e-2417-4123-bfb9-ef2",
            variable="tas",
            role="model",
        ),
        Dataset(name="tas_mon_HadCRUT-5-0_gn_185001-202212.nc", version="v20240101", variable="tas", role="reference"),
    )
    plot = next(each for each in bundle.entries if each.kind == "plot")
    assert (plot.long_name, plot.description) == ("Warming over time", "diagnostic tcr, script calculate")
    assert plot.dimensions == {
        "source_id": "ACCESS-ESM1-5", "experiment_id": "1pctCO2", "member_id": "r1i1p1f1", "variable_id": "tas",
    }  # fmt: skip
    names = {each.filename: each.long_name for each in bundle.entries}
    assert names["plots/tcr/calculate/tas_citation.bibtex"] == "Citation for tas"
    assert names["run/recipe_tcr.yml"] == "The recipe"
    assert bundle.index == "index.html"
    assert b"Starting the Earth" in store.read_bytes(f"{only.fragment}/out.log")


def test_of_a_recipe_that_failed_the_log_is_published(tmp_path: Path) -> None:
    store = InMemoryArtifactStore()
    report = adopt(store, "esmvaltool", esmvaltool(tmp_path, end="ERROR: DiagnosticError: script failed"))
    (only,) = report.sets
    record, *_ = [read_record(scoped(store, only.fragment))]
    assert record is not None
    assert record.state == "failed"
    assert [each.key for each in record.artifacts] == ["out.log"]
    assert {"plots/", "work/", "index.html"} <= {each.name for each in report.left}


def test_a_provenance_that_cannot_be_read_is_told_and_the_plot_is_kept(tmp_path: Path) -> None:
    folder, store = esmvaltool(tmp_path), InMemoryArtifactStore()
    (folder / "plots/tcr/calculate/tas_provenance.xml").write_text("<prov:document")
    report = adopt(store, "esmvaltool", folder)
    assert [each.name for each in report.left if each.lost] == ["plots/tcr/calculate/tas_provenance.xml"]
    assert report.sets[0].plots == 1


def test_each_model_of_pmp_has_its_values_and_plots(tmp_path: Path) -> None:
    with Workspace.in_memory() as workspace:
        report = adopt(workspace, "pmp", pmp(tmp_path))
        one, other, everything = (each.fragment for each in report.sets)
        stem = "pmp/mean_climate/pr_2.5x2.5_regrid2_metrics"
        assert (one, other) == (
            f"{stem}/CESM2_r1i1p1f1/20260721T152420",
            f"{stem}/CESM2-WACCM_r2i1p1f1/20260721T152420",
        )
        assert everything == "pmp/mean_climate/all/20260721T152420"
        values = {tuple(sorted(row.dimensions.items())): row for row in workspace.catalog.scalars(fragment=one)}
        where = {
            "kind": "model", "source_id": "CESM2", "member_id": "r1i1p1f1", "reference_source_id": "GPCP-3-3",
            "variable_id": "pr", "region": "global", "statistic": "bias_xy", "season": "ann",
        }  # fmt: skip
        row = values[tuple(sorted(where.items()))]
        assert (row.value, row.units) == (0.25, "mm/day")
        assert [len([None for row in values.values() if row.value is None or math.isnan(row.value)]), len(values)] == [
            1,
            6,
        ]
        (line,) = workspace.catalog.series(fragment=other)
        assert line.index_name == "month"
        assert list(line.values)[:11] == [0.1] * 11
        assert list(line.values)[11] is None or math.isnan(list(line.values)[11])
        keys = {each: set(scoped(workspace.results, each).iter_keys()) for each in (one, other, everything)}
        assert "graphics/pr_CESM2_bias.png" in keys[one] - keys[other] - keys[everything]
        assert "graphics/pr_CESM2-WACCM_bias.png" in keys[other] - keys[one] - keys[everything]
        assert {"graphics/pr_portrait.png", "pr_2.5x2.5_regrid2_metrics.json"} <= keys[everything]
        record = read_record(scoped(workspace.results, one))
        assert record is not None
        assert record.provider_version == "3.9.1"
        assert record.software == {"PMP": "3.9.1", "numpy": "2.0.2"}
        assert (
            Dataset(name="pr_mon_GPCP-3-3_AC.nc", version="v20250211", variable="pr", role="reference")
            in record.datasets
        )


def test_values_of_pmp_that_fit_nowhere_are_told(tmp_path: Path) -> None:
    metrics = pmp_metrics()
    metrics["RESULTS"]["CESM2"]["default"]["r1i1p1f1"]["global"]["bias_xy"]["jja"] = {"mean": 1.0, "std": 2.0}
    write(tmp_path / "run", {"a.json": json.dumps(metrics), "b.json": "{", "c.json": '{"RESULTS": {"x": 1}}'})
    report = adopt(InMemoryArtifactStore(), "pmp", tmp_path / "run")
    assert {each.name for each in report.left if each.lost} == {
        "a.json: CESM2/default/r1i1p1f1/global/bias_xy/jja", "b.json", "c.json",
    }  # fmt: skip


def test_each_model_of_an_ilamb_comparison_has_its_scores_and_plots(tmp_path: Path) -> None:
    with Workspace.in_memory() as workspace:
        report = adopt(workspace, "ilamb", ilamb(tmp_path))
        names = [each.fragment.split("/")[2] for each in report.sets]
        assert names == ["CESM2", "CLM5", "all"]
        one, other, everything = (each.fragment for each in report.sets)
        assert one.startswith("ilamb/GPP-FLUXNET2015/")
        rows = {row.dimensions["statistic"]: row for row in workspace.catalog.scalars(fragment=one)}
        assert (rows["Bias"].value, rows["Bias"].units) == (-0.25, "g m-2 d-1")
        assert rows["Bias"].dimensions == {
            "kind": "model", "reference_source_id": "FLUXNET2015", "source_id": "CESM2", "region": "global",
            "metric": "MeanState", "statistic": "Bias",
        }  # fmt: skip
        bias = next(row for row in workspace.catalog.scalars(fragment=other) if row.dimensions["statistic"] == "Bias")
        assert bias.value is None or math.isnan(bias.value)
        bundle = json.loads(workspace.results.read_bytes(f"{one}/diagnostic.json"))
        assert bundle["DIMENSIONS"]["statistic"]["Bias"] == {"type": "scalar", "units": "g m-2 d-1"}
        keys = {each: set(scoped(workspace.results, each).iter_keys()) for each in (one, other, everything)}
        below = "Carbon/GPP/FLUXNET2015"
        assert f"{below}/CESM2_global_bias.png" in keys[one] - keys[other]
        assert {f"{below}/legend_bias.png", f"{below}/FLUXNET2015.html"} <= keys[everything]


def test_tables_of_ilamb_3_are_read_where_they_are(tmp_path: Path) -> None:
    header = "source,region,analysis,name,type,units,value\n"
    model = "ACCESS-ESM1-5-r1i1p1f1-gn"
    rows = f"Reference,,Bias,Period Mean [K],scalar,K,280.5\n{model},,Bias,Bias [K],scalar,K,-0.5\n"
    other = rows.replace(model, "CESM2-r1i1p1f1-gn").replace("-0.5", "0.75")
    write(
        tmp_path / "out",
        {
            f"Temperature/CRU/{model}.csv": header + rows,
            "Temperature/CRU/CESM2-r1i1p1f1-gn.csv": header + other,
            f"Temperature/CRU/{model}_None_bias.png": PICTURE,
            "Temperature/CRU/index.html": "<p>",
            "Temperature/CRU/table.csv": "a,b\n1,2\n",
        },
    )
    with Workspace.in_memory() as workspace:
        report = adopt(workspace, "ilamb", tmp_path / "out")
        assert report.ok
        where = {row.dimensions.get("source_id"): row for row in workspace.catalog.scalars()}
        assert where["ACCESS-ESM1-5"].dimensions["member_id"] == "r1i1p1f1"
        assert {name: row.value for name, row in where.items()} == {"ACCESS-ESM1-5": -0.5, "CESM2": 0.75, None: 280.5}
        assert where[None].kind == "reference"


def test_a_bundle_of_cmec_keeps_what_it_says(tmp_path: Path) -> None:
    store = InMemoryArtifactStore()
    report = adopt(store, "cmec", cmec(tmp_path))
    (only,) = report.sets
    assert only.fragment.startswith("mdtf/metrics/default/")
    record, bundle = published(store, only.fragment)
    assert {each.name: each.role for each in record.datasets} == {"CMIP6.CESM2": "model", "GPCP": "reference"}
    assert record.software == {"numpy": "2.0"}
    assert {each.filename: (each.kind, each.description) for each in bundle.entries} == {
        "bias.png": ("plot", "Bias of precipitation"),
        "index.html": ("html", "Bias of precipitation"),
    }
    assert json.loads(store.read_bytes(f"{only.fragment}/diagnostic.json"))["RESULTS"] == {
        "global": {"bias": 0.3, "rmse": 1.1}
    }
    assert store.read_bytes(f"{only.fragment}/out.log") == b"computed\n"
    assert [each.name for each in report.left] == ["notes.txt"]


def test_a_file_that_a_bundle_of_cmec_names_and_that_is_not_there_is_told(tmp_path: Path) -> None:
    folder = cmec(tmp_path)
    (folder / "bias.png").unlink()
    report = adopt(InMemoryArtifactStore(), "cmec", folder)
    assert [each.name for each in report.left if each.lost] == ["bias.png"]


@pytest.mark.parametrize(
    ("written", "read"),
    [("2.5e-01", 0.25), (3, 3.0), (None, math.nan), ("nan", math.nan), ("1.00000e+20", math.nan), (1e21, math.nan),
     ("inf", math.inf), (True, None), ("high", None), ([], None)],
)  # fmt: skip
def test_numbers_are_read_as_this_field_writes_them(written: object, read: float | None) -> None:
    found = number(written)
    assert found == read or (found is not None and read is not None and math.isnan(found) and math.isnan(read))


LEAVES = st.dictionaries(st.sampled_from("wxyz"), st.integers(0, 9), max_size=3)
TREES = st.dictionaries(st.sampled_from("abc"), st.dictionaries(st.sampled_from("mno"), LEAVES, max_size=3), max_size=3)


@given(TREES)
def test_no_scalar_of_an_irregular_table_is_lost_or_made_up(results: dict[str, dict[str, dict[str, int]]]) -> None:
    tree = read_tree(results, ["model", "region", "metric"])
    written = {(a, b, c): value for a, of in results.items() for b, inner in of.items() for c, value in inner.items()}
    read = {}
    for _, bundle in split(tree.points, ["source_id"]):
        for scalar in bundle.iter_scalars():
            place = tuple(scalar.dimensions[name] for name in ("source_id", "region", "metric"))
            assert place not in read
            read[place] = scalar.value
    assert read == written


def test_a_file_with_a_name_of_the_sets_own_files_is_told(tmp_path: Path) -> None:
    folder = pmp(tmp_path)
    write(folder, {"out.log": "which run?"})
    report = adopt(InMemoryArtifactStore(), "pmp", folder)
    assert [each.name for each in report.left if each.lost] == ["out.log"]
    assert {each.outcome for each in report.sets} == {"published"}
