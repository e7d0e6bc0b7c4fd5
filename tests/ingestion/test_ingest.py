"""Ingest: one set from the results store into the catalog, whole or not at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.sets.examples import (
    CURATED,
    FAILURE,
    FRAGMENT,
    NOON,
    SUCCESS,
    FourMethods,
    held,
    metric_bundle,
    one_series,
    output_bundle,
    promote,
    put,
    rows_of,
    small_run,
)

from emdstore.catalog import Catalog
from emdstore.emds import load_vocabulary
from emdstore.errors import (
    BundleError,
    CatalogError,
    DemotionRefusedError,
    EmdstoreError,
    ExecutionNotFoundError,
    IncompleteSetError,
    RecordError,
    RecordVersionError,
    StoreError,
)
from emdstore.ingestion.reading import read_set
from emdstore.ingestion.replay import ingest
from emdstore.sets.record import ExecutionRecord, encode_record, read_record
from emdstore.sets.result import ExecutionResult
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, scoped
from emdstore.testing import Fault, FaultyStore


def published(results: ArtifactStore, result: ExecutionResult = SUCCESS, **changes: Any) -> ExecutionRecord:
    return promote(result, put(InMemoryArtifactStore(), small_run(**changes)), results)[1]


# -- what a published set becomes --------------------------------------------------------------------------------------


def test_a_published_set_becomes_rows(results: ArtifactStore, catalog: Catalog) -> None:
    record = published(results)
    outcome = ingest(results, FRAGMENT, catalog)
    assert (outcome.state, outcome.status) == ("ingested", "uploaded")
    assert (outcome.artifacts, outcome.outputs, outcome.scalars, outcome.series, outcome.warnings) == (7, 3, 3, 1, 0)
    assert [row.key for row in catalog.artifacts()] == list(CURATED)
    assert [(row.sha256, row.size) for row in catalog.artifacts()] == [(a.sha256, a.size) for a in record.artifacts]
    assert [(row.dimensions, row.value) for row in catalog.scalars()] == [
        ({"region": "global", "metric": "bias"}, 0.5),
        ({"region": "global", "metric": "rmse"}, 1.5),
        ({"region": "arctic", "metric": "bias"}, -2.0),
    ]
    assert [(row.kind, row.key, row.dimensions) for row in catalog.outputs()] == [
        ("plot", "plots/map (°C).png", {"n": "0"}),
        ("data", "data/tas.nc", {"n": "0"}),
        ("html", "index.html", {"n": "0"}),
    ]
    (series,) = catalog.series()
    assert (series.index, series.values[0], math.isnan(series.values[1])) == ((1850, 1851), 1.0, True)
    execution = catalog.execution(FRAGMENT)
    assert (execution.provider, execution.diagnostic) == ("pmp", "enso_tel")
    assert execution.group == "historical_g58_v1_d905ddf2"
    assert (execution.status, execution.failure) == ("uploaded", None)
    assert execution.dirty is execution.group_dirty is False
    assert (execution.published_at, execution.uploaded_at, execution.upload_duration) == (NOON, NOON, 1.5)


def test_twice_is_the_same_as_once(results: ArtifactStore, catalog: Catalog) -> None:
    published(results)
    first = ingest(results, FRAGMENT, catalog)
    rows = rows_of(catalog)
    assert ingest(results, FRAGMENT, catalog) == first
    assert rows_of(catalog) == rows


def test_a_new_version_takes_the_place_of_the_old_one(results: ArtifactStore, catalog: Catalog) -> None:
    published(results)
    ingest(results, FRAGMENT, catalog)
    before = catalog.execution(FRAGMENT).execution_id
    published(results, diagnostic=metric_bundle({"global": {"bias": 7}}), series=[])
    ingest(results, FRAGMENT, catalog)
    assert [(row.position, row.value) for row in catalog.scalars()] == [(0, 7.0)]
    assert list(catalog.series()) == []
    assert catalog.executions().count() == 1
    assert catalog.execution(FRAGMENT).execution_id == before


def test_a_failed_execution_has_its_log_and_no_values(results: ArtifactStore, catalog: Catalog) -> None:
    published(results, FAILURE)
    outcome = ingest(results, FRAGMENT, catalog)
    assert (outcome.status, outcome.artifacts) == ("failed", 1)
    assert [row.role for row in catalog.artifacts()] == ["log"]
    execution = catalog.execution(FRAGMENT)
    assert (execution.failure, execution.dirty, execution.uploaded_at) == ("diagnostic", False, None)


def test_values_of_an_incomplete_run_are_there_for_those_who_ask(results: ArtifactStore, catalog: Catalog) -> None:
    published(results, tas=None)
    outcome = ingest(results, FRAGMENT, catalog)
    assert (outcome.status, outcome.set_state, outcome.artifacts) == ("failed", "incomplete", 6)
    for query in (catalog.outputs, catalog.scalars, catalog.series):
        assert query().count() == query(complete=True).count() == 0
        assert query(complete=None).count() == query(complete=False).count() > 0
    assert {row.name: row.key for row in catalog.outputs(complete=None)}["data 0"] is None
    assert [(row.code, row.place) for row in catalog.warnings()] == [("missing-artifact", "data/tas.nc")]
    execution = catalog.execution(FRAGMENT)
    assert (execution.failure, execution.group_dirty) == ("result", True)
    assert "data/tas.nc" in (execution.reason or "")


def test_whole_bundles_of_an_incomplete_run_give_values_beside_one_that_is_broken(catalog: Catalog) -> None:
    results = InMemoryArtifactStore()
    record = published(results, diagnostic=b"[]")
    assert (record.state, record.unreadable) == ("incomplete", ("diagnostic.json",))
    outcome = ingest(results, FRAGMENT, catalog)
    assert (outcome.scalars, outcome.series, outcome.outputs) == (0, 1, 3)


def test_values_of_a_version_that_was_well_go_only_if_somebody_asks(results: ArtifactStore, catalog: Catalog) -> None:
    published(results)
    ingest(results, FRAGMENT, catalog)
    rows = rows_of(catalog)
    published(results, FAILURE)
    with pytest.raises(DemotionRefusedError, match="replace"):
        ingest(results, FRAGMENT, catalog)
    assert rows_of(catalog) == rows
    ingest(results, FRAGMENT, catalog, replace=True)
    assert catalog.scalars().count() == catalog.series().count() == catalog.outputs().count() == 0
    assert [row.key for row in catalog.artifacts()] == ["out.log"]


def test_a_set_of_log_and_metric_bundle_only_is_a_whole_set(results: ArtifactStore, catalog: Catalog) -> None:
    published(results, ExecutionResult(successful=True, metric_bundle_filename="diagnostic.json"))
    outcome = ingest(results, FRAGMENT, catalog)
    assert (outcome.artifacts, outcome.outputs, outcome.scalars, outcome.series) == (2, 0, 3, 0)


def test_bundles_under_other_names_are_found_by_the_record(results: ArtifactStore, catalog: Catalog) -> None:
    files = small_run()
    renamed = {"out.log": b"", "cmec/metrics.json": files["diagnostic.json"], "all series.json": files["series.json"]}
    result = ExecutionResult(
        successful=True, metric_bundle_filename="cmec/metrics.json", series_filename="all series.json"
    )
    promote(result, put(InMemoryArtifactStore(), renamed), results)
    outcome = ingest(results, FRAGMENT, catalog)
    assert (outcome.scalars, outcome.series) == (3, 1)


def test_a_series_file_that_the_output_bundle_names_too_is_still_one(results: ArtifactStore, catalog: Catalog) -> None:
    published(results, output=output_bundle(data=["series.json", "data/tas.nc"]))
    outcome = ingest(results, FRAGMENT, catalog)
    assert (outcome.outputs, outcome.series) == (2, 1)


def test_absolute_names_lead_to_their_artifacts(results: ArtifactStore, catalog: Catalog) -> None:
    output = output_bundle(plots=["/scratch/run 1/plots/map (°C).png"], html=["/scratch/run 1/index.html"])
    published(results, attrs.evolve(SUCCESS, output_directory="/scratch/run 1"), output=output)
    ingest(results, FRAGMENT, catalog)
    assert [row.key for row in catalog.outputs()] == ["plots/map (°C).png", "index.html"]
    assert [row.filename for row in catalog.outputs()][1] == "/scratch/run 1/index.html"


# -- values ------------------------------------------------------------------------------------------------------------


def test_no_value_and_infinity_are_values(catalog: Catalog) -> None:
    """Python's json writes them as bare words; null and NaN are one thing, a row without a value."""
    results = InMemoryArtifactStore()
    values = {"global": {"null": None, "nan": math.nan, "inf": math.inf, "minus": -math.inf, "zero": -0.0, "int": 3}}
    published(
        results,
        diagnostic=metric_bundle(values),
        series=[one_series(values=[math.nan, -math.inf]), one_series(values=[None, 1e308])],
    )
    ingest(results, FRAGMENT, catalog)
    rows = {row.dimensions["metric"]: row.value for row in catalog.scalars()}
    assert math.isnan(rows.pop("null"))
    assert math.isnan(rows.pop("nan"))
    assert rows == {"inf": math.inf, "minus": -math.inf, "zero": 0.0, "int": 3.0}
    first, second = catalog.series()
    assert math.isnan(first.values[0])
    assert first.values[1] == -math.inf
    assert math.isnan(second.values[0])
    assert second.values[1] == 1e308


def test_series_that_differ_in_nothing_but_values_are_both_kept(catalog: Catalog) -> None:
    results = InMemoryArtifactStore()
    published(results, series=[one_series(), one_series(values=[2.0, 3.0]), one_series()])
    ingest(results, FRAGMENT, catalog)
    assert [(row.position, row.values[0]) for row in catalog.series()] == [(0, 1.0), (1, 2.0), (2, 1.0)]


VOCABULARY = b"""
dimensions:
  - {name: region, long_name: Region, description: "", allow_extra_values: false, required: true,
     values: [{name: global, long_name: Global}]}
  - {name: metric, long_name: Metric, description: "", allow_extra_values: true, required: false, values: []}
"""


def test_what_a_vocabulary_does_not_know_is_told_and_stored_whole(results: ArtifactStore, catalog: Catalog) -> None:
    published(results)
    ingest(results, FRAGMENT, catalog, vocabulary=load_vocabulary(VOCABULARY))
    assert [row.value for row in catalog.scalars(dimensions={"region": "arctic"})] == [-2.0]
    assert [(row.code, row.place) for row in catalog.warnings()] == [
        ("unknown-value", "region"),
        ("unknown-dimension", "n"),
        ("missing-dimension", "region"),
    ]
    assert catalog.execution(FRAGMENT).status == "uploaded"


def test_values_that_differ_only_in_an_unlisted_dimension_stay_two(catalog: Catalog) -> None:
    values = {"bias": {"HadISST": 0.5, "OISST": 0.25}, "rmse": {"HadISST": 1.5, "OISST": 1.5}}
    bundle = metric_bundle({"global": values})
    bundle["DIMENSIONS"]["json_structure"].append("observations")
    bundle["DIMENSIONS"]["observations"] = {"HadISST": {}, "OISST": {}}
    results = InMemoryArtifactStore()
    published(results, diagnostic=bundle)
    ingest(results, FRAGMENT, catalog, vocabulary=load_vocabulary(VOCABULARY))
    assert [(row.value, row.dimensions["metric"], row.dimensions["observations"]) for row in catalog.scalars()] == [
        (0.5, "bias", "HadISST"),
        (0.25, "bias", "OISST"),
        (1.5, "rmse", "HadISST"),
        (1.5, "rmse", "OISST"),
    ]
    assert ("unknown-dimension", "observations") in [(row.code, row.place) for row in catalog.warnings()]


def test_series_that_differ_in_their_values_only_and_series_that_do_not_differ_are_all_kept(catalog: Catalog) -> None:
    results = InMemoryArtifactStore()
    published(results, series=[one_series(), one_series(values=[3.0, 4.0]), one_series()])
    ingest(results, FRAGMENT, catalog)
    first, other, again = catalog.series()
    assert first.values[0] == again.values[0] == 1.0
    assert other.values == (3.0, 4.0)
    assert first.dimensions == other.dimensions == again.dimensions


# -- what is refused, and leaves the catalog as it was -----------------------------------------------------------------


def spoil(results: ArtifactStore, key: str, data: bytes) -> None:
    results.write_bytes(f"{FRAGMENT}/{key}", data)


def test_a_set_of_which_something_is_missing_has_changed(catalog: Catalog) -> None:
    results = InMemoryArtifactStore()
    published(results)
    results.delete(f"{FRAGMENT}/data/tas.nc")
    with pytest.raises(IncompleteSetError, match=r"of 7 artifacts 1 is missing .'data/tas\.nc'.*copy") as caught:
        ingest(results, FRAGMENT, catalog)
    assert caught.value.key == FRAGMENT
    assert catalog.executions().count() == 0


@pytest.mark.parametrize(
    "store", [InMemoryArtifactStore, lambda: FourMethods(InMemoryArtifactStore())], ids=["sizes", "four methods"]
)
def test_a_bundle_of_other_bytes_is_not_decoded(store: Any, catalog: Catalog) -> None:
    results = store()
    published(results)
    ingest(results, FRAGMENT, catalog)
    rows = rows_of(catalog)
    good = results.read_bytes(f"{FRAGMENT}/diagnostic.json")
    spoil(results, "diagnostic.json", good.replace(b"0.5", b"0.6"))
    with pytest.raises(IncompleteSetError, match=r"1 is of another size or content .'diagnostic\.json'"):
        ingest(results, FRAGMENT, catalog)
    assert rows_of(catalog) == rows


def test_an_artifact_of_another_size_has_changed(catalog: Catalog) -> None:
    results = InMemoryArtifactStore()
    published(results)
    spoil(results, "plots/map (°C).png", b"\x89PNG pl")
    with pytest.raises(IncompleteSetError, match="another size"):
        ingest(results, FRAGMENT, catalog)


def test_a_record_of_a_run_in_scratch_is_refused(results: ArtifactStore, catalog: Catalog) -> None:
    record = ExecutionRecord.at(FRAGMENT, started_at=NOON)
    put(results, small_run() | {"execution.json": encode_record(record)}, FRAGMENT)
    with pytest.raises(RecordError, match=r"no outcome.*scratch"):
        ingest(results, FRAGMENT, catalog)
    assert catalog.executions().count() == 0


@pytest.mark.parametrize(
    ("record", "error"),
    [(b"", RecordError), (b"\xff\xfe", RecordError), (b'{"record_version": 99}', RecordVersionError)],
)
def test_a_record_that_cannot_be_read_is_named(record: bytes, error: type[Exception], catalog: Catalog) -> None:
    results = put(InMemoryArtifactStore(), small_run() | {"execution.json": record}, FRAGMENT)
    with pytest.raises(error, match=f"{FRAGMENT}/execution.json"):
        ingest(results, FRAGMENT, catalog)
    assert catalog.executions().count() == 0


def test_a_folder_without_a_set_is_told(results: ArtifactStore, catalog: Catalog) -> None:
    put(results, {f"{FRAGMENT}/out.log": b""})
    for fragment in (FRAGMENT, "no/such/folder"):
        with pytest.raises(ExecutionNotFoundError, match=f"no set at '{fragment}'.*execution.json"):
            ingest(results, fragment, catalog)


def test_a_store_that_fails_leaves_the_catalog_as_it_was(catalog: Catalog) -> None:
    results = InMemoryArtifactStore()
    published(results)
    ingest(results, FRAGMENT, catalog)
    rows = rows_of(catalog)
    published(results, diagnostic=metric_bundle({"global": {"bias": 7}}))
    for name in ("/series.json", "", "/execution.json"):
        failing = FaultyStore(results, Fault(keys={FRAGMENT + name}, error=StoreError))
        with pytest.raises(EmdstoreError):
            ingest(failing, FRAGMENT, catalog)
        assert rows_of(catalog) == rows


def test_a_value_that_the_database_refuses_leaves_the_catalog_as_it_was(catalog: Catalog) -> None:
    results = InMemoryArtifactStore()
    published(results)
    ingest(results, FRAGMENT, catalog)
    rows = rows_of(catalog)
    folder = scoped(results, FRAGMENT)
    record = read_record(folder)
    assert record is not None
    twice = attrs.evolve(record, artifacts=record.artifacts * 2)
    folder.write_bytes("execution.json", encode_record(twice))
    with pytest.raises(CatalogError):
        ingest(results, FRAGMENT, catalog)
    assert rows_of(catalog) == rows


def test_a_published_bundle_that_is_no_bundle_is_told(catalog: Catalog) -> None:
    """Its record is consistent, so some other program published it."""
    results = InMemoryArtifactStore()
    record = published(results, diagnostic=b"[]")
    scoped(results, FRAGMENT).write_bytes(
        "execution.json", encode_record(attrs.evolve(record, state="published", status="uploaded"))
    )
    with pytest.raises(BundleError, match=r"diagnostic\.json"):
        ingest(results, FRAGMENT, catalog)
    assert catalog.executions().count() == 0


# -- bare sets ---------------------------------------------------------------------------------------------------------


def test_a_bare_set_is_known_by_its_path_and_its_usual_names(results: ArtifactStore, catalog: Catalog) -> None:
    put(results, small_run(), FRAGMENT)
    outcome = ingest(results, FRAGMENT, catalog)
    assert (outcome.artifacts, outcome.outputs, outcome.scalars, outcome.series, outcome.warnings) == (7, 3, 3, 1, 0)
    execution = catalog.execution(FRAGMENT)
    assert (execution.provider, execution.diagnostic) == ("pmp", "enso_tel")
    assert execution.group == "historical_g58_v1_d905ddf2"
    assert execution.status == "uploaded"
    assert {row.sha256 for row in catalog.artifacts()} == {None}


def test_a_bare_set_without_a_log_is_taken_and_that_is_told(results: ArtifactStore, catalog: Catalog) -> None:
    put(results, small_run(out=None), FRAGMENT)
    ingest(results, FRAGMENT, catalog)
    assert [(row.code, row.place) for row in catalog.warnings()] == [("missing-artifact", "out.log")]
    assert catalog.scalars().count() == 3


def test_a_bare_set_is_taken_only_if_all_is_there_that_its_bundles_name(
    results: ArtifactStore, catalog: Catalog
) -> None:
    """It may still be on its way, and there is no record to say how it ends."""
    files = small_run()
    late = {"data/tas.nc": files.pop("data/tas.nc")}
    put(results, files, FRAGMENT)
    with pytest.raises(IncompleteSetError, match=r"data/tas\.nc"):
        ingest(results, FRAGMENT, catalog)
    assert catalog.executions().count() == 0
    put(results, late, FRAGMENT)
    assert ingest(results, FRAGMENT, catalog).scalars == 3


@pytest.mark.parametrize("moved_to", ["", "archive/2025", "archive/by year/2025/ref"])
def test_absolute_names_of_another_machine_are_matched_also_after_a_move(moved_to: str, catalog: Catalog) -> None:
    elsewhere = f"/data/projects/climate-ref/results/{FRAGMENT}"
    output = output_bundle(plots=[f"{elsewhere}/plots/map (°C).png"], html=["/somewhere/else/entirely/index.html"])
    fragment = f"{moved_to}/{FRAGMENT}" if moved_to else FRAGMENT
    results = put(InMemoryArtifactStore(), small_run(output=output), fragment)
    ingest(results, fragment, catalog)
    assert [row.key for row in catalog.outputs()] == ["plots/map (°C).png", None]
    assert [row.code for row in catalog.warnings()] == ["unmatched-path"]
    assert "/somewhere/else/entirely/index.html" in next(iter(catalog.warnings())).message


def test_a_set_that_was_moved_after_it_was_published_is_where_it_lies(catalog: Catalog) -> None:
    results = InMemoryArtifactStore()
    published(results)
    moved = put(InMemoryArtifactStore(), held(results, FRAGMENT), "a/b/c/d")
    ingest(moved, "a/b/c/d", catalog)
    execution = catalog.execution("a/b/c/d")
    assert (execution.provider, execution.diagnostic) == ("pmp", "enso_tel")
    assert [(row.code, FRAGMENT in row.message) for row in catalog.warnings()] == [("moved", True)]


# -- reading alone -----------------------------------------------------------------------------------------------------


def test_reading_a_set_needs_no_catalog(scratch: LocalArtifactStore, tmp_path: Path) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    promote(SUCCESS, scratch, results)
    content = read_set(results, FRAGMENT)
    assert (content.fragment, content.status) == (FRAGMENT, "uploaded")
    assert [value for value, _, _ in content.scalars] == [0.5, 1.5, -2.0]
