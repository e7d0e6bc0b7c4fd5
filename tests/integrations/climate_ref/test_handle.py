"""Our handler by itself: what it leaves behind, that twice is once, and that a bad result is never raised."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from climate_ref.models import Execution, ExecutionGroup, MetricValue
from climate_ref.models.dataset import DatasetFile
from climate_ref.models.execution import ExecutionOutput, execution_datasets
from climate_ref_core.metric_values import SeriesMetricValue
from tests.integrations.climate_ref.frameworks import Framework, dataset_of, framework, make_template
from tests.integrations.climate_ref.sets import entry, metric_bundle, output_bundle, write_set
from tests.sets.late import Halting, Turn

from emdstore import CatalogVersionError, InMemoryArtifactStore, LocalArtifactStore, SameStoreError, scoped
from emdstore.integrations.climate_ref import handle_execution_result, handling, materialize_execution
from emdstore.integrations.climate_ref.schema import check_columns
from emdstore.sets.publish import publish_set
from emdstore.sets.record import read_record
from emdstore.sets.releasing import check_release, create_release
from emdstore.testing import Fault, FaultyStore

FRAGMENT = "example/global-mean/historical_g1_v1_abcdef01/1"
METRIC = metric_bundle({"global": {"bias": 0.5, "rmse": None}}, region=["global"], metric=["bias", "rmse"])
SERIES = {"dimensions": {"region": "global"}, "values": [1.0, None], "index": [1850, 1851], "index_name": "year"}


@pytest.fixture(scope="session")
def handled_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def ref(handled_template: Path, tmp_path: Path) -> Iterator[Framework]:
    with framework(handled_template, tmp_path) as framework_:
        yield framework_


def run(ref: Framework, *, metric: Any = METRIC, series: Any = (SERIES,), plot: bool = True) -> Path:
    """Leave in scratch what a run leaves there."""
    directory = ref.scratch / FRAGMENT
    write_set(directory, metric=metric, output=output_bundle(plots={"map": entry("map.png")}), series=list(series))
    if plot:
        (directory / "map.png").write_bytes(b"png")
    return directory


def test_twice_is_once_ids_included(ref: Framework) -> None:
    run(ref)
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT))
    once, ids = ref.rows(execution), _ids(ref)
    record = (ref.results / FRAGMENT / "execution.json").read_bytes()
    ref.handle("ours", execution, ref.result(FRAGMENT))
    assert (ref.rows(execution), _ids(ref)) == (once, ids)
    assert once.counts == (2, 1, 1)
    assert (ref.results / FRAGMENT / "execution.json").read_bytes() == record


def test_a_result_that_changed_replaces_the_rows(ref: Framework) -> None:
    run(ref)
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT))
    run(ref, metric=metric_bundle({"global": {"bias": 0.7}}, region=["global"], metric=["bias"]), series=())
    ref.handle("ours", execution, ref.result(FRAGMENT))
    rows = ref.rows(execution)
    assert rows.counts == (1, 0, 1)
    assert rows.scalars[0]["value"] == 0.7


def test_a_run_that_fails_the_second_time_leaves_what_was_published_and_its_rows(
    ref: Framework, caplog: pytest.LogCaptureFixture
) -> None:
    directory = run(ref)
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT))
    rows = ref.rows(execution)
    record = (ref.results / FRAGMENT / "execution.json").read_bytes()
    ref.handle("ours", execution, ref.result(FRAGMENT, successful=False, retryable=True))
    (directory / "map.png").unlink()
    ref.handle("ours", execution, ref.result(FRAGMENT))
    assert ref.rows(execution) == rows
    assert (ref.results / FRAGMENT / "execution.json").read_bytes() == record
    for reason in ("the run failed", "missing: map.png"):
        assert f"not complete ({reason}); the published set stays as it is" in caplog.text


def test_what_is_worth_telling_of_a_bundle_is_told_once(ref: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    log = logging.getLogger(handling.__name__)
    monkeypatch.setattr(log, "warning", lambda text, *values: told.append(text % values))
    metric = metric_bundle({"global": {"bias": 0.7}}, region=["global"], metric=["bias"])
    del metric["DIMENSIONS"]["metric"]
    run(ref, metric=metric)
    ref.handle("ours", ref.solved(FRAGMENT), ref.result(FRAGMENT))
    assert [each.partition(": ")[2] for each in told if "not described" in each] == [
        "dimension 'metric' is not described; its values are those in the results"
    ]


def test_results_may_be_any_store(ref: Framework) -> None:
    run(ref)
    results = InMemoryArtifactStore()
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT), results=results)
    assert ref.rows(execution).counts == (2, 1, 1)
    assert not ref.results.exists()
    record = read_record(scoped(results, FRAGMENT))
    assert record is not None
    assert (record.provider, record.diagnostic, record.group) == ("example", "global-mean", FRAGMENT)
    assert {each.key for each in record.artifacts} == {
        "out.log",
        "diagnostic.json",
        "output.json",
        "map.png",
        "series.json",
    }


def test_the_flag_stays_as_it_is_if_asked(ref: Framework) -> None:
    run(ref)
    execution = ref.solved(FRAGMENT, dirty=True)
    ref.handle("ours", execution, ref.result(FRAGMENT), update_dirty=False)
    assert (ref.rows(execution).successful, ref.rows(execution).dirty) == (True, True)
    record = read_record(scoped(_store(ref), FRAGMENT))
    assert record is not None
    assert record.dirty is None


@pytest.mark.parametrize(
    ("breaks", "dirty"),
    [
        ("no log", True),
        ("no plot", True),
        ("no metric bundle", True),
        ("half a metric bundle", True),
        ("an unknown kind", True),
        ("names no metric bundle", False),
        ("names a folder", True),
    ],
)
def test_a_bad_result_is_decided_and_never_raised(ref: Framework, breaks: str, dirty: bool) -> None:
    directory = run(ref, plot=breaks != "no plot")
    said: dict[str, Any] = {}
    if breaks == "no log":
        (directory / "out.log").unlink()
    elif breaks == "no metric bundle":
        said = {"metric_bundle_filename": Path("elsewhere.json")}
    elif breaks == "half a metric bundle":
        (directory / "diagnostic.json").write_text('{"DIMENSIONS": {')
    elif breaks == "an unknown kind":
        if "kind" not in ref.columns():
            pytest.skip("values have no role in this version")
        run(ref, series=[SERIES | {"kind": "guess"}])
    elif breaks == "names no metric bundle":
        said = {"metric_bundle_filename": None}
    elif breaks == "names a folder":
        said = {"metric_bundle_filename": Path(".")}
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT, **said))
    rows = ref.rows(execution)
    assert (rows.successful, rows.counts, rows.dirty) == (False, (0, 0, 0), dirty)


def test_a_store_that_refuses_fails_this_execution_only(ref: Framework) -> None:
    run(ref)
    execution = ref.solved(FRAGMENT)
    full = FaultyStore(
        InMemoryArtifactStore(), Fault(verbs={"write_bytes", "open_writer"}, keys={f"{FRAGMENT}/map.png"})
    )
    ref.handle("ours", execution, ref.result(FRAGMENT), results=full)
    rows = ref.rows(execution)
    assert (rows.successful, rows.counts, rows.dirty) == (False, (0, 0, 0), True)


def test_what_somebody_else_publishes_meanwhile_counts(ref: Framework) -> None:
    run(ref)
    execution, results = ref.solved(FRAGMENT), InMemoryArtifactStore()
    ref.handle("ours", execution, ref.result(FRAGMENT), results=results)

    def others() -> None:
        run(ref, metric=metric_bundle({"global": {"bias": 0.9}}, region=["global"], metric=["bias"]))
        record = read_record(scoped(results, FRAGMENT))
        assert record is not None
        assert record.result is not None
        scratch = LocalArtifactStore(ref.scratch / FRAGMENT)
        assert publish_set(record, record.result, source=scratch, dest=scoped(results, FRAGMENT)).record_written

    run(ref, metric=metric_bundle({"global": {"bias": 0.7}}, region=["global"], metric=["bias"]))
    late = Halting(results, Turn("execution.json", others))
    ref.handle("ours", execution, ref.result(FRAGMENT), results=late)
    rows = ref.rows(execution)
    assert (rows.successful, rows.scalars[0]["value"]) == (True, 0.9)


def test_what_the_database_refuses_is_a_failed_execution_and_leaves_no_rows(ref: Framework) -> None:
    run(ref)
    execution = ref.solved(FRAGMENT)
    with ref.database.session.begin():
        ref.database.session.execute(
            sa.text(
                "CREATE TRIGGER no_series BEFORE INSERT ON metric_value WHEN NEW.type = 'SERIES' "
                "BEGIN SELECT RAISE(ABORT, 'no series here'); END"
            )
        )
    ref.handle("ours", execution, ref.result(FRAGMENT))
    rows = ref.rows(execution)
    assert (rows.successful, rows.counts, rows.dirty) == (False, (0, 0, 0), True)


def test_a_transaction_that_is_rolled_back_leaves_nothing(ref: Framework) -> None:
    run(ref)
    execution = ref.solved(FRAGMENT)
    session = ref.database.session
    handle_execution_result(ref.config, ref.database, session.get(Execution, execution), ref.result(FRAGMENT))
    session.rollback()
    rows = ref.rows(execution)
    assert (rows.counts, rows.path, rows.dirty) == ((0, 0, 0), None, True)
    ref.handle("ours", execution, ref.result(FRAGMENT))
    assert ref.rows(execution).counts == (2, 1, 1)


def test_dimensions_without_a_column_are_kept_apart_from_attributes_of_the_same_name(ref: Framework) -> None:
    bundle = metric_bundle(
        {"attributes": {"realm": "ocean"}, "a": {"bias": 1.0}, "b": {"bias": 1.0}}, realm=["a", "b"], metric=["bias"]
    )
    run(ref, metric=bundle, series=())
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT))
    kept = [row["attributes"] for row in ref.rows(execution).scalars]
    assert kept == [{"realm": "ocean", "dimension realm": "a"}, {"realm": "ocean", "dimension realm": "b"}]


def test_equal_series_both_arrive(ref: Framework) -> None:
    run(ref, series=[SERIES, SERIES | {"values": [3.0, 4.0]}, SERIES])
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT))
    assert [row["values"] for row in ref.rows(execution).series] == [[1.0, None], [3.0, 4.0], [1.0, None]]


def test_an_observation_has_the_id_by_which_their_readers_find_equal_ones(ref: Framework) -> None:
    if "kind" not in ref.columns():
        pytest.skip("series have no role in this version")
    one = SERIES | {"kind": "reference", "values": [1, 2.5, None], "index": [1, 2, 3]}
    one["dimensions"] = {"reference_source_id": "HadISST"}
    run(ref, series=[one])
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT))
    read = SeriesMetricValue.load_from_json(ref.scratch / FRAGMENT / "series.json")[0]
    from climate_ref.models import SeriesMetricValue as Stored

    expected = Stored.compute_reference_id(read.values, read.index, "HadISST")
    assert [row["reference_id"] for row in ref.rows(execution).series] == [expected]


def test_the_record_says_who_the_execution_is(ref: Framework) -> None:
    run(ref)
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT), detail="the node went away")
    record = json.loads((ref.results / FRAGMENT / "execution.json").read_bytes())
    assert record["extra"]["climate_ref"]["provider"] == {"name": "example", "version": "1"}
    assert record["extra"]["climate_ref"]["detail"] == "the node went away"
    assert record["dataset_hash"] == "0" * 40


def test_the_record_says_what_the_execution_read_and_what_that_took(ref: Framework) -> None:
    run(ref)
    execution = ref.solved(FRAGMENT)
    session = ref.database.session
    with session.begin():
        session.add_all([dataset_of("CMIP6.a"), dataset_of("CMIP6.b")])
        session.flush()
        files = [(1, "hdl:21.14107/u"), (2, "hdl:21.14107/v"), (2, "hdl:21.14107/w")]
        session.add_all([DatasetFile(dataset_id=of, path=name, tracking_id=name) for of, name in files])
        session.execute(execution_datasets.insert(), [{"execution_id": execution, "dataset_id": of} for of in (1, 2)])
        row = session.get(Execution, execution)
        row.provider_version = "1.2.3"
        if is_measured := "wall_seconds" in ref.columns("execution"):
            row.wall_seconds, row.peak_memory_bytes = 12.5, 2**33
    ref.handle("ours", execution, ref.result(FRAGMENT))
    record = json.loads((ref.results / FRAGMENT / "execution.json").read_bytes())
    told = [(each["name"], each["version"], each["pid"], each["variable"], each["role"]) for each in record["datasets"]]
    assert told == [("CMIP6.a", "x", "21.14107/u", "x", "model"), ("CMIP6.b", "x", None, "x", "model")]
    assert (record["provider_version"], record["diagnostic_version"]) == ("1.2.3", "1")
    if is_measured:
        assert (record["resources"]["wall_seconds"], record["resources"]["peak_memory_bytes"]) == (12.5, 2**33)


def test_what_a_release_names_stays_as_it_was_published(ref: Framework) -> None:
    directory = run(ref)
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT))
    released = create_release(ref.results, "2026.1")
    (directory / "map.png").write_bytes(b"another plot")
    ref.handle("ours", execution, ref.result(FRAGMENT))
    assert check_release(ref.results, released).ok


def test_scratch_as_results_is_a_wrong_call(ref: Framework) -> None:
    run(ref)
    execution = ref.solved(FRAGMENT)
    ref.config.paths.results = ref.scratch
    with pytest.raises(SameStoreError):
        ref.handle("ours", execution, ref.result(FRAGMENT))
    assert ref.rows(execution).counts == (0, 0, 0)


def test_a_database_of_another_version_is_refused_with_those_that_work(ref: Framework) -> None:
    run(ref)
    execution = ref.solved(FRAGMENT)
    with ref.database.session.begin():
        ref.database.session.execute(sa.text("UPDATE alembic_version SET version_num = 'ffffffffffff'"))
    with pytest.raises(CatalogVersionError, match=r"ffffffffffff.*ref db migrate.*0\.14 to 0\.20"):
        ref.handle("ours", execution, ref.result(FRAGMENT))
    assert not ref.results.exists()


@pytest.mark.parametrize(
    ("table", "columns", "words"),
    [
        ("metric_value", {"units"}, "also has units"),
        ("execution_output", {"filename"}, "lacks filename"),
        ("metric_value", {"index_id", "index_name"}, "index of a series"),
    ],
)
def test_a_version_with_other_columns_than_we_fill_is_refused(table: str, columns: set[str], words: str) -> None:
    model = {"metric_value": MetricValue, "execution_output": ExecutionOutput}[table].__table__
    fixed = {column.name for column in model.c if not column.info.get("skip_autogenerate")}
    check_columns(table, fixed)
    with pytest.raises(CatalogVersionError, match=words):
        check_columns(table, fixed ^ columns if words != "index of a series" else fixed - columns)


def test_a_run_that_never_started_says_so(ref: Framework) -> None:
    execution = ref.solved(FRAGMENT)
    shutil.rmtree(ref.scratch / FRAGMENT, ignore_errors=True)
    ref.handle("ours", execution, ref.result(FRAGMENT, successful=False, retryable=True))
    rows = ref.rows(execution)
    assert (rows.successful, rows.dirty) == (False, True)
    assert rows.failure_reason in ("not_started", None)
    with ref.database.session.begin():
        assert ref.database.session.scalar(sa.select(ExecutionGroup.dirty)) is True


def _ids(ref: Framework) -> list[int]:
    with ref.database.session.begin():
        return list(ref.database.session.scalars(sa.text("SELECT id FROM metric_value ORDER BY id")))


def _store(ref: Framework) -> Any:
    from emdstore import LocalArtifactStore

    return LocalArtifactStore(ref.results)


def test_bytes_alone_are_promoted_by_their_own_configuration(ref: Framework) -> None:
    run(ref)
    execution = ref.database.session.get(Execution, ref.solved(FRAGMENT))
    once = materialize_execution(ref.config, execution, ref.result(FRAGMENT))
    assert once == materialize_execution(ref.config, execution, ref.result(FRAGMENT))
    assert {each.key for each in once.artifacts} == {
        "out.log", "diagnostic.json", "output.json", "map.png", "series.json"
    }  # fmt: skip
    assert (ref.results / FRAGMENT / "map.png").read_bytes() == b"png"
    assert not (ref.results / FRAGMENT / "execution.json").exists()
    assert execution.successful is None
