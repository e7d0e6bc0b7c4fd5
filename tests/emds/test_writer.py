"""What an author hands to the writer is in the files, or the call says what is wrong."""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from emdstore.emds import (
    OutputWriter,
    WrittenBundles,
    artifact_set,
    decode_metric_bundle,
    decode_output_bundle,
    decode_series,
)
from emdstore.errors import ArtifactNotFoundError, BundleError, InvalidKeyError, UnsafePathError

BUNDLES = {"diagnostic.json", "output.json", "series.json"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's directory with a plot and a data file, beside which lies something of another's."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    directory = tmp_path / "run"
    (directory / "plots").mkdir(parents=True)
    (directory / "plots" / "trend (°C).png").write_bytes(b"png")
    (directory / "values.nc").write_bytes(b"nc")
    (directory / "index.html").write_bytes(b"html")
    return directory


def rows(directory: Path) -> list[tuple[dict[str, str], float | None, Any]]:
    bundle = decode_metric_bundle((directory / "diagnostic.json").read_bytes())
    return [(dimensions, value, attributes) for value, dimensions, attributes in bundle.iter_rows()]


def test_everything_that_was_added_is_in_the_three_files(run: Path) -> None:
    writer = OutputWriter(run, index="index.html", provenance={"environment": {"HOME": None}, "commandLine": "x"})
    plot = writer.add_plot(
        "plots/trend (°C).png", long_name="Trend", description="Of ice", dimensions={"region": "arctic"}
    )
    writer.add_data(run / "values.nc", long_name="Values")
    writer.add_html("index.html", long_name="Report", name="report")
    writer.add_scalar(1.5, region="arctic", metric="bias")
    writer.add_scalar(None, dimensions={"metric": "rmse"}, region="arctic")
    writer.add_series(
        [1, None], ["a", "b"], index_name="x", dimensions={"region": "arctic"}, attributes={"kind": "model"}
    )
    assert writer.write() == WrittenBundles("diagnostic.json", "output.json", "series.json")

    bundle = decode_output_bundle((run / "output.json").read_bytes())
    assert [(entry.kind, entry.name, entry.filename) for entry in bundle.entries] == [
        ("plot", plot, "plots/trend (°C).png"),
        ("data", "values.nc", "values.nc"),
        ("html", "report", "index.html"),
    ]
    assert (bundle.entries[0].description, bundle.entries[0].dimensions) == ("Of ice", {"region": "arctic"})
    assert bundle.index == "index.html"
    assert bundle.provenance["environment"] == {"HOME": None}
    assert bundle.provenance["log"] == "out.log"
    assert rows(run) == [
        ({"region": "arctic", "metric": "bias"}, 1.5, None),
        ({"region": "arctic", "metric": "rmse"}, None, None),
    ]
    (series,) = decode_series((run / "series.json").read_bytes())
    assert series.index == ("a", "b")
    assert series.attributes == {"kind": "model"}
    whole = artifact_set(metric="diagnostic.json", output="output.json", series="series.json", bundle=bundle)
    assert all((run / key).is_file() for key in whole.keys if key != "out.log")


def test_nothing_added_makes_three_valid_files(run: Path) -> None:
    OutputWriter(run, dimensions=["region"]).write()
    bundle = decode_metric_bundle((run / "diagnostic.json").read_bytes())
    assert (bundle.dimensions, list(bundle.iter_rows())) == (("region",), [])
    assert decode_output_bundle((run / "output.json").read_bytes()).entries == ()
    assert decode_series((run / "series.json").read_bytes()) == ()


def test_the_files_have_the_names_that_were_asked_for(run: Path) -> None:
    files = OutputWriter(run, metric="m.json", output="o.json", series="s.json").write()
    assert files == WrittenBundles("m.json", "o.json", "s.json")
    assert all((run / name).is_file() for name in ("m.json", "o.json", "s.json"))


@pytest.mark.parametrize("name", ["", "a/b.json", "../a.json", "/a.json", "output.json", "execution.json", "a\nb"])
def test_a_bundle_needs_a_plain_name_of_its_own(run: Path, name: str) -> None:
    with pytest.raises(InvalidKeyError):
        OutputWriter(run, metric=name)


def test_writing_again_adds_what_came_since_and_equal_input_gives_equal_bytes(run: Path) -> None:
    writer = OutputWriter(run)
    writer.add_scalar(1, metric="bias")
    writer.write()
    first = (run / "diagnostic.json").read_bytes()
    writer.write()
    assert (run / "diagnostic.json").read_bytes() == first
    writer.add_scalar(2, metric="rmse")
    writer.write()
    assert len(rows(run)) == 2


# -- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("../secret.png", InvalidKeyError),
        ("/etc/passwd", InvalidKeyError),
        ("plots/../../secret.png", InvalidKeyError),
        ("a\x00b", InvalidKeyError),
        ("execution.json", InvalidKeyError),
        ("", InvalidKeyError),
        ("none.png", ArtifactNotFoundError),
        ("plots", ArtifactNotFoundError),
        ("link.png", UnsafePathError),
        ("link/secret.png", UnsafePathError),
        ("link-to-nothing.png", UnsafePathError),
    ],
)
def test_a_file_that_does_not_lie_in_the_directory_is_refused(run: Path, path: str, error: type[Exception]) -> None:
    (run / "link.png").symlink_to(run.parent / "secret.png")
    (run / "link").symlink_to(run.parent)
    (run / "link-to-nothing.png").symlink_to(run.parent / "nothing")
    writer = OutputWriter(run)
    with pytest.raises(error):
        writer.add_plot(path, long_name="x")
    writer.write()
    assert decode_output_bundle((run / "output.json").read_bytes()).entries == ()


def test_a_link_inside_the_directory_is_followed(run: Path) -> None:
    (run / "latest.png").symlink_to(run / "plots" / "trend (°C).png")
    assert OutputWriter(run).add_plot("latest.png", long_name="x") == "latest.png"


def test_the_directory_may_be_reached_by_a_link(run: Path) -> None:
    link = run.parent / "link"
    link.symlink_to(run)
    for directory, path in itertools.product([link, run], [link / "values.nc", run / "values.nc"]):
        if (directory, path) != (run, link / "values.nc"):
            assert OutputWriter(directory).add_data(path, long_name="x") == "values.nc"


def test_one_file_may_have_several_entries_but_each_its_own_name(run: Path) -> None:
    writer = OutputWriter(run)
    writer.add_data("values.nc", long_name="x")
    writer.add_plot("values.nc", long_name="x")
    writer.add_data("values.nc", long_name="x", name="again")
    with pytest.raises(BundleError, match="was already added"):
        writer.add_data("plots/../values.nc", long_name="x")
    with pytest.raises(BundleError, match=r"is already 'values\.nc', not 'index\.html'"):
        writer.add_data("index.html", long_name="x", name="again")


def test_texts_are_texts(run: Path) -> None:
    writer = OutputWriter(run)
    for wrong in ({"long_name": 3}, {"long_name": "x", "dimensions": {"year": 1850}}, {"long_name": "x", "name": 1}):
        with pytest.raises(BundleError, match="must be text"):
            writer.add_data("values.nc", **wrong)


# -- scalars ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, "1", [1.0], {"a": 1}, 1j, object(), 10**400])
def test_a_scalar_is_a_number(run: Path, value: object) -> None:
    writer = OutputWriter(run)
    with pytest.raises(BundleError):
        writer.add_scalar(value, metric="bias")
    writer.add_scalar(1, metric="bias")


def test_a_scalar_with_other_dimensions_is_refused(run: Path) -> None:
    writer = OutputWriter(run)
    writer.add_scalar(1, region="global", metric="bias")
    for wrong in ({"metric": "rmse"}, {"region": "x", "season": "y"}, {"region": "x", "metric": "y", "season": "z"}):
        with pytest.raises(BundleError, match="same dimensions: region, metric"):
            writer.add_scalar(1, dimensions=wrong)
    writer.add_scalar(2, metric="rmse", region="global")


@pytest.mark.parametrize(
    ("dimensions", "named", "what"),
    [
        ({}, {}, "at least one dimension"),
        ({"metric": "a"}, {"metric": "b"}, "given twice"),
        ({"metric": 1}, {}, "must be text"),
        ({1: "a"}, {}, "must be text"),
        ({"metric": "attributes"}, {}, "format reserves it"),
        ({"json_structure": "a"}, {}, "format reserves it"),
    ],
)
def test_dimensions_that_the_format_cannot_hold_are_refused(
    run: Path, dimensions: Any, named: dict[str, str], what: str
) -> None:
    with pytest.raises(BundleError, match=what):
        OutputWriter(run).add_scalar(1, dimensions=dimensions, **named)


def test_a_second_scalar_of_the_same_dimensions_is_refused(run: Path) -> None:
    writer = OutputWriter(run)
    writer.add_scalar(1, region="global", metric="bias")
    with pytest.raises(BundleError, match="already"):
        writer.add_scalar(2, metric="bias", region="global")


def test_the_deepest_level_may_have_holes(run: Path) -> None:
    writer = OutputWriter(run)
    writer.add_scalar(1, region="global", metric="bias")
    writer.add_scalar(2, region="global", metric="rmse")
    writer.add_scalar(3, region="arctic", metric="bias")
    writer.write()
    assert [row[1] for row in rows(run)] == [1, 2, 3]


def sparse(writer: OutputWriter) -> None:
    """A season that only one metric has: valid only with the metric deepest... or the season, but not the region."""
    for region in ("global", "arctic"):
        writer.add_scalar(1, season="ann", metric="bias", region=region)
        writer.add_scalar(2, season="djf", metric="bias", region=region)
        writer.add_scalar(3, season="ann", metric="rmse", region=region)


def test_a_dimension_is_moved_deepest_if_only_so_the_scalars_fit(run: Path) -> None:
    writer = OutputWriter(run)
    sparse(writer)
    writer.write()
    bundle = decode_metric_bundle((run / "diagnostic.json").read_bytes())
    assert bundle.dimensions == ("season", "region", "metric")
    assert len(list(bundle.iter_rows())) == 6


def test_an_order_that_was_asked_for_is_kept_or_refused(run: Path) -> None:
    writer = OutputWriter(run, dimensions=["season", "metric", "region"])
    sparse(writer)
    with pytest.raises(BundleError, match=r"none for season='djf', metric='rmse'") as caught:
        writer.write()
    assert caught.value.key == "diagnostic.json"
    assert not BUNDLES & {path.name for path in run.iterdir()}, "nothing was written"
    for region in ("global", "arctic"):
        writer.add_scalar(None, season="djf", metric="rmse", region=region)
    writer.write()
    assert decode_metric_bundle((run / "diagnostic.json").read_bytes()).dimensions == ("season", "metric", "region")


def test_scalars_that_fit_in_no_order_are_refused_and_nothing_is_filled_in(run: Path) -> None:
    writer = OutputWriter(run)
    for step in range(3):
        writer.add_scalar(1, a=f"a{step}", b=f"b{step}", c=f"c{step}")
    with pytest.raises(BundleError, match="every combination of a, b"):
        writer.write()


def test_attributes_go_to_the_scalars_that_they_were_given_for(run: Path) -> None:
    writer = OutputWriter(run)
    for region, metric in itertools.product(("global", "arctic"), ("bias", "corr")):
        writer.add_scalar(1, region=region, metric=metric, attributes={"units": "K" if metric == "bias" else "1"})
    writer.write()
    assert {(row[0]["metric"], row[2]["units"]) for row in rows(run)} == {("bias", "K"), ("corr", "1")}


def test_attributes_that_the_format_cannot_tell_apart_are_refused(run: Path) -> None:
    writer = OutputWriter(run)
    writer.add_scalar(1, metric="bias", attributes={"units": "K"})
    writer.add_scalar(1, metric="corr")
    with pytest.raises(BundleError, match="one set of attributes for all scalars"):
        writer.write()


def test_attributes_are_copied_and_checked_at_once(run: Path) -> None:
    writer = OutputWriter(run)
    attributes: dict[str, object] = {"units": "K"}
    writer.add_scalar(1, metric="bias", attributes=attributes)
    attributes["units"] = "changed"
    with pytest.raises(BundleError, match="cannot be JSON"):
        writer.add_scalar(1, metric="rmse", attributes={"x": object()})
    writer.write()
    assert rows(run) == [({"metric": "bias"}, 1.0, {"units": "K"})]


# -- series ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "index", "what"),
    [
        ([1, 2], [1], "2 values, but 1 in the index"),
        ([True], [1], "value 0"),
        (["1"], [1], "value 0"),
        ([1], [None], "index 0"),
        ([1], [math.nan], "index 0"),
        ([1], [math.inf], "index 0"),
        ([1], [False], "index 0"),
        ("1", [1], "not one text"),
        ([1], "1", "not one text"),
    ],
)
def test_a_series_is_numbers_with_an_index(run: Path, values: Any, index: Any, what: str) -> None:
    writer = OutputWriter(run)
    with pytest.raises(BundleError, match=what):
        writer.add_series(values, index, index_name="x", dimensions={})
    writer.add_series([0, None, math.nan, math.inf], range(4), index_name="x", dimensions={})
    writer.write()
    (series,) = decode_series((run / "series.json").read_bytes())
    assert list(map(repr, series.values)) == ["0.0", "nan", "nan", "inf"]


def test_two_series_of_the_same_dimensions_are_both_kept(run: Path) -> None:
    writer = OutputWriter(run)
    for value in (1, 2):
        writer.add_series([value], ["a"], index_name="x", dimensions={"region": "global"})
    writer.write()
    assert [one.values for one in decode_series((run / "series.json").read_bytes())] == [(1.0,), (2.0,)]


# -- numpy -----------------------------------------------------------------------------------------------------------


@pytest.mark.needs("tables")
def test_numpys_numbers_are_numbers_and_what_is_masked_is_no_value(run: Path) -> None:
    import numpy as np

    writer = OutputWriter(run)
    numbers = [np.float32(0.5), np.float64(0.5), np.int16(2), np.array(0.5), np.longdouble(0.5)]
    nothing = [np.float32("nan"), np.ma.masked, np.ma.masked_array(7.0, mask=True)]
    for i, value in enumerate([*numbers, *nothing]):
        writer.add_scalar(value, number=str(i))
    writer.add_series(np.ma.masked_invalid([1, np.nan]), np.arange(2), index_name="x", dimensions={})
    writer.add_series([1.0], [1], index_name="x", dimensions={}, attributes={"n": np.int64(3), "x": np.float32(0.5)})
    writer.write()
    assert [row[1] for row in rows(run)] == [0.5, 0.5, 2.0, 0.5, 0.5, None, None, None]
    first, second = decode_series((run / "series.json").read_bytes())
    assert (list(map(repr, first.values)), first.index) == (["1.0", "nan"], (0, 1))
    assert second.attributes == {"n": 3, "x": 0.5}
    for wrong in (np.bool_(True), np.array([1.0]), np.str_("1"), np.datetime64("2000-01-01")):
        with pytest.raises(BundleError):
            writer.add_scalar(wrong, number="wrong")


# -- writing ---------------------------------------------------------------------------------------------------------


def test_a_link_in_the_way_is_replaced_and_not_written_through(run: Path) -> None:
    (run / "diagnostic.json").symlink_to(run.parent / "secret.png")
    OutputWriter(run).write()
    assert (run.parent / "secret.png").read_bytes() == b"secret"
    assert not (run / "diagnostic.json").is_symlink()


def test_a_failed_write_leaves_the_old_file_and_no_staging_file(run: Path) -> None:
    (run / "output.json").mkdir()
    with pytest.raises(OSError):
        OutputWriter(run).write()
    assert not [path for path in run.iterdir() if path.name.startswith(".emdstore-")]


def test_a_directory_that_is_not_there_is_an_error_of_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        OutputWriter(tmp_path / "none").write()


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(
    lambda name: name not in ("attributes", "json_structure")
)


@given(
    dimensions=st.dictionaries(names, st.lists(names, min_size=1, max_size=3, unique=True), min_size=1, max_size=3),
    data=st.data(),
)
def test_what_write_accepts_is_read_back_and_what_fits_is_accepted(
    dimensions: dict[str, list[str]], data: st.DataObject
) -> None:
    combinations = list(itertools.product(*dimensions.values()))
    chosen = data.draw(st.lists(st.sampled_from(combinations), unique=True, min_size=1))
    value = st.none() | st.floats(allow_nan=False)
    added = {combination: data.draw(value) for combination in chosen}
    with tempfile.TemporaryDirectory() as directory:
        writer = OutputWriter(directory)
        for combination, number in added.items():
            writer.add_scalar(number, dimensions=dict(zip(dimensions, combination, strict=True)))
        try:
            writer.write()
        except BundleError:
            assert len(chosen) < len(combinations), "a full rectangle always fits"
            assert not any(Path(directory).iterdir())
        else:
            found = {tuple(row[0][name] for name in dimensions): row[1] for row in rows(Path(directory))}
            assert found == added


def test_the_files_are_plain_json(run: Path) -> None:
    writer = OutputWriter(run)
    writer.add_scalar(math.nan, metric="a")
    writer.add_scalar(-math.inf, metric="b")
    writer.write()
    refuse: Callable[[str], object] = pytest.fail
    for name in BUNDLES:
        json.loads((run / name).read_text(), parse_constant=refuse)
