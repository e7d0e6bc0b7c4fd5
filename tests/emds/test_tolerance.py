"""Bundles as tools of all ages write them: what is odd is taken in, kept whole, and told as a warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emdstore import (
    Catalog,
    ExecutionResult,
    InMemoryArtifactStore,
    LocalArtifactStore,
    materialize_outputs,
    scoped,
    transfer,
    verify,
)
from emdstore.emds import (
    artifact_set,
    bundle_schema,
    check_bundle,
    decode_metric_bundle,
    decode_output_bundle,
    encode_metric_bundle,
    encode_output_bundle,
)
from emdstore.ingestion.replay import replay
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord

RESULTS = {"global": {"bias": 1.0, "rmse": 2.0}, "arctic": {"bias": None}}
VALUES = {"region": {"global": {}, "arctic": {}}, "metric": {"bias": {}, "rmse": {}}}
STRUCTURE = ["region", "metric"]
PROVENANCE: dict[str, Any] = {"environment": {}, "modeldata": [], "obsdata": {}, "log": "out.log"}
PLOT = {"filename": "a.png", "long_name": "a", "description": ""}


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("described", "warned"),
    [
        (VALUES, []),
        ({"dimensions": VALUES}, []),
        ({"region": VALUES["region"]}, ["undescribed-dimension"]),
        ({}, ["undescribed-dimension", "undescribed-dimension"]),
        (VALUES | {"season": {"JJA": {}}}, ["unlisted-dimension"]),
        ({"dimensions": {"region": VALUES["region"]}}, ["undescribed-dimension"]),
    ],
    ids=["as it should be", "CMEC's first version", "one is not described", "none is", "one more is", "both"],
)
def test_however_dimensions_are_described_every_scalar_is_kept(described: dict[str, Any], warned: list[str]) -> None:
    data = as_json({"DIMENSIONS": {"json_structure": STRUCTURE, **described}, "RESULTS": RESULTS})
    bundle = decode_metric_bundle(data)
    assert [each.code for each in bundle.warnings] == warned
    assert [(each.dimensions, str(each.value)) for each in bundle.iter_scalars()] == [
        ({"region": "global", "metric": "bias"}, "1.0"),
        ({"region": "global", "metric": "rmse"}, "2.0"),
        ({"region": "arctic", "metric": "bias"}, "nan"),
    ]
    assert {name: list(values) for name, values in bundle.allowed.items()} == {
        "region": ["global", "arctic"],
        "metric": ["bias", "rmse"],
    }
    again = decode_metric_bundle(encode_metric_bundle(bundle))
    assert (again.allowed, again.results, again.warnings) == (bundle.allowed, bundle.results, ())


@pytest.mark.parametrize(
    ("provenance", "warned"),
    [
        (PROVENANCE, ""),
        (PROVENANCE | {"obsdata": None, "modeldata": None}, ""),
        (None, "does not name its input data"),
        ({"log": "out.log"}, "lacks environment, modeldata, obsdata"),
    ],
)
def test_an_output_bundle_says_what_it_can_of_where_it_came_from(provenance: Any, warned: str) -> None:
    data = as_json({"provenance": provenance, "plots": {"p": PLOT}})
    bundle = decode_output_bundle(data)
    assert [each.filename for each in bundle.entries] == ["a.png"]
    assert bool(bundle.warnings) == bool(warned)
    assert all(warned in each.message for each in bundle.warnings)
    assert decode_output_bundle(encode_output_bundle(bundle)) == bundle
    assert decode_output_bundle(as_json({"plots": {"p": PLOT}})).warnings


def test_the_files_of_the_metrics_section_belong_to_the_set() -> None:
    metrics = {"bundle": PLOT | {"filename": "diagnostic.json"}, "table": PLOT | {"filename": "tables/scores.csv"}}
    bundle = decode_output_bundle(as_json({"provenance": PROVENANCE, "metrics": metrics}))
    found = artifact_set(metric="diagnostic.json", output="output.json", bundle=bundle)
    roles = {each.key: each.role for each in found.artifacts}
    assert roles == {
        "out.log": "log", "diagnostic.json": "metric", "output.json": "output", "tables/scores.csv": "data",
    }  # fmt: skip
    assert found.outputs == ()


@pytest.fixture
def run(tmp_path: Path) -> LocalArtifactStore:
    """A run that left a zarr store, among its working files."""
    run = LocalArtifactStore(tmp_path / "scratch")
    for key, data in {
        "out.log": b"done", "cube.zarr/.zgroup": b"{}", "cube.zarr/tas/0.0": b"\1\2", "cube.zarr/tas/.zarray": b"{}",
        "work/cube.zarr/x": b"not named", "cube.zarr.bak": b"not named",
        "diagnostic.json": as_json({"DIMENSIONS": {"json_structure": ["metric"]}, "RESULTS": {"bias": 1.0}}),
        "output.json": as_json({"data": {"cube": PLOT | {"filename": "cube.zarr/", "long_name": "a cube"}}}),
    }.items():  # fmt: skip
        run.write_bytes(key, data)
    return run


RESULT = ExecutionResult(
    successful=True, metric_bundle_filename="diagnostic.json", output_bundle_filename="output.json"
)
CUBE = ["cube.zarr/.zgroup", "cube.zarr/tas/.zarray", "cube.zarr/tas/0.0"]


@pytest.mark.parametrize("remote", [False, True], ids=["from a folder", "from a store"])
def test_a_folder_is_one_output_of_many_artifacts(run: LocalArtifactStore, remote: bool, tmp_path: Path) -> None:
    source: Any = run
    if remote:
        source = InMemoryArtifactStore()
        transfer(run, source).raise_for_failures()
    results = InMemoryArtifactStore()
    outcome = materialize_outputs(RESULT, source=source, dest=results)
    assert [each.key for each in outcome.artifacts if each.role == "data"] == CUBE
    assert sorted(results.iter_keys("cube.zarr")) == CUBE
    assert not results.exists("cube.zarr.bak")
    assert {each.code for each in outcome.warnings} == {"undescribed-dimension", "no-provenance"}


def test_a_folder_without_an_ending_is_one_output_too_where_names_are_all_there_is() -> None:
    source, results = InMemoryArtifactStore(), InMemoryArtifactStore()
    for key, data in {
        "out.log": b"done", "plots/maps/a.png": b"a", "plots/maps/b.png": b"b", "plots/mapsort": b"not named",
        "diagnostic.json": as_json({"DIMENSIONS": {"json_structure": ["metric"]}, "RESULTS": {"bias": 1.0}}),
        "output.json": as_json({"plots": {"maps": PLOT | {"filename": "plots/maps"}}}),
    }.items():  # fmt: skip
        source.write_bytes(key, data)
    outcome = materialize_outputs(RESULT, source=source, dest=results)
    assert outcome.artifacts_missing == ()
    assert sorted(results.iter_keys("plots")) == ["plots/maps/a.png", "plots/maps/b.png"]


@pytest.mark.parametrize("place", ["folder", "memory"])
@pytest.mark.parametrize("bare", [False, True], ids=["with a record", "bare"])
def test_such_a_set_is_published_verified_and_replayed(
    run: LocalArtifactStore, bare: bool, place: str, tmp_path: Path
) -> None:
    results: Any = LocalArtifactStore(tmp_path / "results") if place == "folder" else InMemoryArtifactStore()
    fragment = "p/d/g/1"
    if bare:
        transfer(run, scoped(results, fragment)).raise_for_failures()
    else:
        publish_set(ExecutionRecord.at(fragment), RESULT, source=run, dest=scoped(results, fragment))
        assert verify(results).ok
    with Catalog(tmp_path / "c.db") as catalog:
        assert replay(results, catalog).ok
        (output,) = catalog.outputs()
        assert (output.key, output.long_name) == ("cube.zarr", "a cube")
        assert [each.key for each in catalog.artifacts() if each.role == "data"] == CUBE
        assert [row.value for row in catalog.scalars()] == [1.0]
        assert {each.code for each in catalog.warnings()} >= {"undescribed-dimension", "no-provenance"}
    if not bare:
        results.delete(f"{fragment}/cube.zarr/tas/0.0")
        assert not verify(results).ok


# -- checking on request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["metric", "output", "series"])
def test_a_schema_is_one(kind: Any) -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(bundle_schema(kind))


GOOD: dict[str, Any] = {
    "metric": {"DIMENSIONS": {"json_structure": STRUCTURE, **VALUES}, "RESULTS": {"global": {"bias": 1}, "arctic": {}}},
    "output": {"provenance": PROVENANCE, "plots": {"p": PLOT}, "html": None, "index": None, "mine": 1},
    "series": [
        {"dimensions": {"a": "b"}, "values": [1, None], "index": [1, "b"], "index_name": "time", "attributes": {}}
    ],
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_as_it_should_be_is_told_by_its_content(kind: str) -> None:
    check = check_bundle(as_json(GOOD[kind]), name="x")
    assert (check.kind, check.ok, check.warnings) == (kind, True, ())


@pytest.mark.parametrize(
    ("kind", "value", "where"),
    [
        ("metric", {"DIMENSIONS": {"json_structure": ["m"], "m": {}}, "RESULTS": {"a": "text"}}, "$.RESULTS.a"),
        ("metric", {"RESULTS": {}}, "$"),
        ("output", GOOD["output"] | {"plots": {"p": {"filename": "x"}}}, "$.plots.p"),
        ("output", GOOD["output"] | {"plots": {"p": PLOT | {"dimensions": {"a": 1}}}}, "$.plots.p.dimensions.a"),
        ("output", GOOD["output"] | {"provenance": PROVENANCE | {"obsdata": None}}, "$.provenance.obsdata"),
        ("series", [GOOD["series"][0] | {"values": ["1"]}], "$[0].values[0]"),
        ("series", [{}], "$[0]"),
    ],
)
def test_where_a_file_is_not_as_its_schema_says_is_told(kind: str, value: Any, where: str) -> None:
    check = check_bundle(as_json(value), name="x")
    assert (check.kind, check.ok) == (kind, False)
    assert where in {each.place for each in check.deviations}


def test_what_no_schema_says_is_checked_too() -> None:
    check = check_bundle(as_json([GOOD["series"][0] | {"index": [1]}]), name="x")
    assert (check.deviations, check.ok) == ((), False)
    assert "2 values, but 1 in the index" in (check.error or "")
    assert "not valid JSON" in (check_bundle(b"{", name="x").error or "")
