"""Our handler beside theirs, each with a database of its own: the same files and rows, but where theirs is wrong.

The second half is the list of where it is, and what ours does there: the table of ``docs/climate-ref.md``.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import resource
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import pytest
from climate_ref_core.diagnostics import ExecutionResult
from sqlalchemy import text
from tests.integrations.climate_ref.frameworks import Framework, Rows, framework, make_template
from tests.integrations.climate_ref.sets import (
    entries,
    entry,
    generate,
    leaves,
    metric_bundle,
    output_bundle,
    write_set,
    write_vocabulary,
)
from tests.real_sets import RealSet, RealSets

_VERSION = tuple(map(int, version("climate-ref").split(".")[:2]))
STRICT, NEWER, CLEAN, TELLING = (since <= _VERSION for since in ((0, 15), (0, 16), (0, 17), (0, 19)))
"""Since when their handler fails what it cannot load; bears with what is missing; writes valid JSON; says why."""
FRAGMENT = "example/global-mean/historical_g1_v1_abcdef01/1"
# What their newer version writes into the published log of a run that failed.
_APPENDED = re.compile(rb"\nREF: execution failed [^\n]*\n\Z")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@attrs.frozen
class Both:
    """Two frameworks that have one scratch; in `ours` our handler is called, in `theirs` theirs."""

    theirs: Framework
    ours: Framework

    @property
    def scratch(self) -> Path:
        return self.ours.scratch

    def handle(self, fragment: str, *, dirty: bool = True, said: dict[str, Any] | None = None, **options: Any) -> int:
        """Handle the result of one run on both sides; return the execution's id, which is the same on both."""
        ids = set()
        for name, side in (("theirs", self.theirs), ("ours", self.ours)):
            execution = side.solved(fragment, dirty=dirty)
            side.handle(name, execution, side.result(fragment, **(said or {})), **options)
            ids.add(execution)
        (one,) = ids
        return one


@contextlib.contextmanager
def two_frameworks(template: Path, folder: Path, vocabulary: Path | None = None) -> Iterator[Both]:
    with (
        framework(template, folder, name="theirs", vocabulary=vocabulary) as theirs,
        framework(template, folder, name="ours", vocabulary=vocabulary) as ours,
    ):
        yield Both(theirs, ours)


@pytest.fixture
def both(template: Path, tmp_path: Path) -> Iterator[Both]:
    with two_frameworks(template, tmp_path) as both:
        yield both


def assert_equal(theirs: Rows, ours: Rows, directory: Path, columns: set[str]) -> None:
    """Check each row of ours against theirs, and that what they have no column for is among our attributes."""

    def without_attributes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in row.items() if name != "attributes"} for row in rows]

    def unlisted(labels: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in labels.items() if name not in columns}

    assert without_attributes(ours.scalars) == without_attributes(theirs.scalars)
    assert without_attributes(ours.series) == without_attributes(theirs.series)
    assert without_attributes(ours.outputs) == without_attributes(theirs.outputs)
    assert (ours.successful, ours.path, ours.dirty) == (theirs.successful, theirs.path, theirs.dirty)
    assert ours.failure_reason == theirs.failure_reason
    if ours.scalars:
        expected = [attributes | unlisted(labels) for labels, attributes in leaves(directory)]
        assert [row.get("attributes", {}) for row in ours.scalars] == expected
    if ours.series:
        known = {"dimensions", "values", "index", "index_name", "attributes"}
        for row, item in zip(ours.series, json.loads((directory / "series.json").read_bytes()), strict=True):
            beside = {name: value for name, value in item.items() if name not in known and value is not None}
            expected_here = (item.get("attributes") or {}) | unlisted(item["dimensions"] | beside)
            assert row.get("attributes", {}) == expected_here


# -- the same -----------------------------------------------------------------------------------------------------


def test_the_real_sets_end_in_the_same_files_and_rows(both: Both, real_sets: RealSets) -> None:
    for side in (both.theirs, both.ours):
        side.config.paths.scratch = real_sets.scratch
    columns = both.ours.columns()
    lost: list[RealSet] = []
    for one in real_sets:
        directory = real_sets.scratch / one.fragment
        execution = both.handle(one.fragment)
        theirs, ours = both.theirs.rows(execution), both.ours.rows(execution)
        without_column = {name for each in entries(directory) for name in each.get("dimensions") or {}} - columns
        assert theirs.successful is not (STRICT and bool(without_column)), one.fragment
        if without_column:
            assert theirs.counts == (0, 0, 0)
            lost.append(one)
            theirs = attrs.evolve(ours, successful=True, dirty=False)
        assert_equal(theirs, ours, directory, columns)
        assert ours.counts == (one.counts.scalars, one.counts.series, one.counts.files)
    # Plots of newer diagnostics have a dimension for which the older schema has no column.
    assert {one.provider for one in lost} == (set() if NEWER else {"ilamb"})
    assert both.ours.files() == both.theirs.files()


@pytest.mark.parametrize("seed", range(2))
def test_generated_sets_end_in_the_same_files_and_rows(template: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    succeeded = 0
    with two_frameworks(template, tmp_path, write_vocabulary(tmp_path / "vocabulary.yaml")) as both:
        columns = both.ours.columns()
        for number in range(30):
            fragment = f"example/generated/group_g{number}_v1_{seed:08}/{number + 1}"
            said = generate(rng, both.scratch / fragment)
            execution = both.handle(fragment, said=said, update_dirty=rng.random() < 0.9)
            theirs, ours = both.theirs.rows(execution), both.ours.rows(execution)
            assert_equal(theirs, ours, both.scratch / fragment, columns)
            succeeded += bool(ours.successful)
        assert both.ours.files() == {
            key: _APPENDED.sub(b"", data) if key.endswith("/out.log") else data
            for key, data in both.theirs.files().items()
        }
    assert 18 < succeeded < 30


# -- where theirs is wrong ----------------------------------------------------------------------------------------

Write = Callable[..., None]


@attrs.frozen
class One:
    """One run on one side, to be handled."""

    side: Framework
    name: str
    execution: int
    result: ExecutionResult

    def handle(self) -> Rows:
        self.side.handle(self.name, self.execution, self.result)
        return self.rows()

    def rows(self) -> Rows:
        return self.side.rows(self.execution)

    @property
    def published(self) -> dict[str, bytes]:
        """What lies below the results, by its name in the fragment; a name of another place begins with ``..``."""
        folder = f"{FRAGMENT}/"
        files = self.side.files()
        return {key.removeprefix(folder) if key.startswith(folder) else f"../{key}": files[key] for key in files}

    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.side.results / FRAGMENT / "execution.json").read_bytes()))


def run(both: Both, **bundles: object) -> tuple[One, One, Path]:
    """Lay out a run and put its execution into both databases; return both sides and its folder in scratch."""
    directory = both.scratch / FRAGMENT
    write_set(directory, **bundles)
    sides = {"theirs": both.theirs, "ours": both.ours}
    theirs, ours = (One(side, name, side.solved(FRAGMENT), side.result(FRAGMENT)) for name, side in sides.items())
    return theirs, ours, directory


SCALARS = metric_bundle({"global": {"bias": 0.5, "rmse": 1.5}}, region=["global"], metric=["bias", "rmse"])
SERIES = [{"dimensions": {"region": "global"}, "values": [1.0, 2.0], "index": [1850, 1851], "index_name": "year"}]


def test_a_name_that_leads_out_is_written_outside_the_fragment_by_theirs(both: Both) -> None:
    theirs, ours, directory = run(both, metric=SCALARS, output=output_bundle(plots={"a": entry("../../other/a.png")}))
    stolen = directory / "../../other/a.png"
    stolen.parent.mkdir()
    stolen.write_bytes(b"of another execution")

    assert theirs.handle().successful
    assert theirs.published["../example/global-mean/other/a.png"] == b"of another execution"

    told = ours.handle()
    assert (told.successful, told.dirty, told.counts) == (False, True, (0, 0, 0))
    assert not [name for name in ours.published if name.startswith("../")]
    assert "../../other/a.png" in json.dumps(ours.record())


def test_bytes_from_outside_are_published_through_a_link_by_theirs(both: Both, tmp_path: Path) -> None:
    theirs, ours, directory = run(both, metric=SCALARS, output=output_bundle(data={"a": entry("a.txt")}))
    (tmp_path / "secret.txt").write_bytes(b"a private key")
    (directory / "a.txt").symlink_to(tmp_path / "secret.txt")

    assert theirs.handle().successful
    assert theirs.published["a.txt"] == b"a private key"

    told = ours.handle()
    assert (told.successful, told.dirty) == (False, True)
    assert b"a private key" not in ours.published.values()


def test_a_missing_plot_leaves_a_partial_tree_by_theirs_of_which_nothing_says_so(both: Both) -> None:
    plots = {"a": entry("a.png"), "b": entry("b.png"), "c": entry("c.png")}
    theirs, ours, directory = run(both, metric=SCALARS, output=output_bundle(plots=plots), series=SERIES)
    (directory / "a.png").write_bytes(b"a")
    (directory / "c.png").write_bytes(b"c")

    with contextlib.nullcontext() if NEWER else pytest.raises(FileNotFoundError, match=r"b\.png"):
        theirs.handle()
    assert theirs.rows().successful is (False if NEWER else None)
    assert theirs.published.keys() == {"out.log", "diagnostic.json", "output.json", "a.png"}

    told = ours.handle()
    assert (told.successful, told.dirty, told.counts) == (False, True, (0, 0, 0))
    assert ours.published.keys() == {"out.log", "diagnostic.json", "output.json", "a.png", "c.png", "series.json"}
    assert ours.record()["status"] == "failed"
    assert "b.png" in json.dumps(ours.record())


def test_a_malformed_output_bundle_is_an_exception_by_theirs_and_the_status_stays_undecided(both: Both) -> None:
    theirs, ours, _ = run(both, metric=SCALARS, output={"plots": []})

    with pytest.raises(ValueError, match="provenance"):
        theirs.handle()
    assert theirs.rows().successful is None

    told = ours.handle()
    assert (told.successful, told.dirty, told.counts) == (False, True, (0, 0, 0))
    assert "output.json" in json.dumps(ours.record())


def test_a_malformed_metric_bundle_is_a_success_without_values_by_their_older_version(both: Both) -> None:
    theirs, ours, _ = run(both, metric={"DIMENSIONS": {"json_structure": ["region"], "region": {}}, "RESULTS": []})

    told = theirs.handle()
    assert (told.successful, told.dirty, told.counts) == (not STRICT, STRICT, (0, 0, 0))

    told = ours.handle()
    assert (told.successful, told.dirty, told.counts) == (False, True, (0, 0, 0))


def test_values_of_a_dimension_that_is_not_described_are_lost_by_theirs(both: Both) -> None:
    undescribed = {"DIMENSIONS": {"json_structure": ["region", "metric"], "region": {"global": {}}}}
    theirs, ours, _ = run(both, metric={**undescribed, "RESULTS": {"global": {"bias": 0.5}}})

    told = theirs.handle()
    assert (told.successful, told.counts) == (not STRICT, (0, 0, 0))

    told = ours.handle()
    assert (told.successful, told.dirty) == (True, False)
    assert [(row["region"], row["metric"], row["value"]) for row in told.scalars] == [("global", "bias", 0.5)]
    assert "undescribed-dimension" in json.dumps(ours.record())


def test_handling_a_result_twice_doubles_the_rows_by_theirs(both: Both) -> None:
    five = metric_bundle({"global": dict.fromkeys("abcde", 1.5)}, region=["global"], metric=list("abcde"))
    theirs, ours, directory = run(both, metric=five, output=output_bundle(plots={"a": entry("a.png")}), series=SERIES)
    (directory / "a.png").write_bytes(b"a")

    assert [theirs.handle().counts for _ in range(2)] == [(5, 1, 1), (10, 2, 2)]
    assert [ours.handle().counts for _ in range(2)] == [(5, 1, 1), (5, 1, 1)]


def test_a_dimension_without_a_column_is_dropped_by_theirs(both: Both) -> None:
    values = {"HadISST": {"bias": 0.1}, "ERA5": {"bias": 0.2}}
    unlisted = metric_bundle(values, reference_datasets=["HadISST", "ERA5"], metric=["bias"])
    theirs, ours, _ = run(both, metric=unlisted)

    rows = theirs.handle().scalars
    assert [row["value"] for row in rows] == [0.1, 0.2]
    assert "HadISST" not in str(rows)

    rows = ours.handle().scalars
    assert [(row["value"], row["attributes"]["reference_datasets"]) for row in rows] == [
        (0.1, "HadISST"),
        (0.2, "ERA5"),
    ]
    assert [row["metric"] for row in rows] == ["bias", "bias"]


def test_an_output_with_such_a_dimension_loses_all_rows_by_theirs(both: Both) -> None:
    plots = {"a": entry("a.png", region="global", panel="left")}
    theirs, ours, directory = run(both, metric=SCALARS, output=output_bundle(plots=plots), series=SERIES)
    (directory / "a.png").write_bytes(b"a")

    told = theirs.handle()
    assert (told.successful, told.dirty, told.counts) == (not STRICT, STRICT, (0, 0, 0))

    told = ours.handle()
    assert (told.successful, told.dirty, told.counts) == (True, False, (2, 1, 1))
    assert told.outputs[0]["region"] == "global"


@pytest.mark.parametrize(
    ("bundle", "scalars"),
    [(metric_bundle({"bias": 0.5}, metric=["bias"]), 1), (metric_bundle({}, region=["global"], metric=["bias"]), 0)],
    ids=["one dimension", "no results"],
)
def test_a_valid_bundle_of_such_a_shape_is_refused_by_theirs(both: Both, bundle: object, scalars: int) -> None:
    theirs, ours, _ = run(both, metric=bundle, series=SERIES)

    told = theirs.handle()
    assert (told.successful, told.dirty, told.counts) == (not STRICT, STRICT, (0, 0, 0))

    told = ours.handle()
    assert (told.successful, told.dirty, told.counts) == (True, False, (scalars, 1, 0))


def test_attributes_that_stand_further_out_are_dropped_by_theirs(both: Both) -> None:
    results = {"attributes": {"units": "K"}, "global": {"attributes": {"n": 3}, "bias": 0.5}}
    theirs, ours, _ = run(both, metric=metric_bundle(results, region=["global"], metric=["bias"]))

    assert theirs.handle().scalars[0]["attributes"] == {"n": 3}
    assert ours.handle().scalars[0]["attributes"] == {"units": "K", "n": 3}


def test_what_stands_beside_a_series_is_dropped_by_theirs(both: Both) -> None:
    series = [{**SERIES[0], "value_units": "K", "calendar": "360_day", "attributes": {"n": 3}}]
    theirs, ours, _ = run(both, metric=SCALARS, series=series)

    assert theirs.handle().series[0]["attributes"] == {"n": 3}
    assert ours.handle().series[0]["attributes"] == {"n": 3, "value_units": "K", "calendar": "360_day"}


def test_null_in_a_series_is_no_json_in_the_database_by_their_older_version(both: Both) -> None:
    theirs, ours, _ = run(both, metric=SCALARS, series=[{**SERIES[0], "values": [1.0, None]}])
    texts = []
    for one in (theirs, ours):
        one.handle()
        with one.side.database.session.begin():
            found = one.side.database.session.scalars(text("SELECT \"values\" FROM metric_value WHERE type = 'SERIES'"))
            texts.append(found.one().replace(" ", ""))
    assert texts == ["[1.0,null]" if CLEAN else "[1.0,NaN]", "[1.0,null]"]


def test_a_name_with_dots_is_stored_as_it_stands_by_theirs(both: Both) -> None:
    plots = {"a": entry("plots/../plots/a.png")}
    theirs, ours, directory = run(both, metric=SCALARS, output=output_bundle(plots=plots))
    (directory / "plots").mkdir()
    (directory / "plots/a.png").write_bytes(b"a")

    assert [row["filename"] for row in theirs.handle().outputs] == ["plots/../plots/a.png"]
    assert [row["filename"] for row in ours.handle().outputs] == ["plots/a.png"]
    assert ours.published == theirs.published


def test_the_log_of_a_failed_run_is_altered_by_their_newer_version(both: Both) -> None:
    theirs, ours, directory = run(both)
    log = (directory / "out.log").read_bytes()
    for one in (theirs, ours):
        failed = attrs.evolve(one, result=one.side.result(FRAGMENT, successful=False))
        assert failed.handle().successful is False
    assert (theirs.published["out.log"] == log) is not TELLING
    assert ours.published == {"out.log": log}
    assert ours.record()["reason"] == "the run failed"


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the kernel refuse to write on at a size, as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_good_file_is_truncated_by_theirs_when_the_disk_is_full(both: Both) -> None:
    theirs, ours, directory = run(both, metric=SCALARS, output=output_bundle(data={"a": entry("a.nc")}))
    good, newer, room = b"good" * 2**20, b"newer" * 2**20, 3 * 2**20
    for one in (theirs, ours):
        (directory / "a.nc").write_bytes(good)
        assert one.handle().successful
        assert one.published["a.nc"] == good
        (directory / "a.nc").write_bytes(newer)
        with (
            files_no_larger_than(room),
            contextlib.nullcontext() if one is ours or NEWER else pytest.raises(OSError, match="File too large"),
        ):
            one.handle()

    assert theirs.published["a.nc"] == newer[:room]

    assert ours.published["a.nc"] == good
    told = ours.rows()
    assert (told.successful, told.dirty) == (False, True)
    assert ours.handle().successful
    assert ours.published["a.nc"] == newer
