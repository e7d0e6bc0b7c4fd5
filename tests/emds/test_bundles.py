"""The three files: what is read from them, and what is refused, where."""

from __future__ import annotations

import json
import math
import pickle
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from emdstore.emds import (
    MetricBundle,
    OutputBundle,
    OutputEntry,
    Series,
    decode_metric_bundle,
    decode_output_bundle,
    decode_series,
    encode_metric_bundle,
    encode_output_bundle,
    encode_series,
)
from emdstore.errors import BundleError

PROVENANCE = {"environment": {"A": None}, "modeldata": [], "obsdata": {}, "log": "out.log"}
ENTRY = {"filename": "a.png", "long_name": "A", "description": ""}
METRIC = {
    "DIMENSIONS": {
        "json_structure": ["region", "metric"],
        "region": {"global": {}, "arctic": {}},
        "metric": {"bias": {}, "rmse": {}},
    },
    "RESULTS": {
        "attributes": {"units": "K", "from": "top"},
        "global": {"attributes": {"from": "global"}, "bias": 1, "rmse": 2.5},
        "arctic": {"bias": None},
    },
}
SERIES = {"dimensions": {"region": "global"}, "values": [1, None], "index": ["a", 2], "index_name": "x"}

DECODERS: list[Callable[[bytes], object]] = [decode_output_bundle, decode_metric_bundle, decode_series]


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def metric(results: object, structure: object = ("region", "metric"), **declared: object) -> bytes:
    dimensions = METRIC["DIMENSIONS"] | {"json_structure": structure} | declared
    return as_json({"DIMENSIONS": dimensions, "RESULTS": results})


# -- any file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (b"\xef\xbb\xbf{}", "byte-order mark"),
        (b'{"a":\n "\xff"}', "line 2"),
        (json.dumps({"a": 1}).encode("utf-16"), "not UTF-8"),
        (b'{"plots": {"a": {"fil', "truncated"),
        (b'{"plots": ', "truncated"),
        (b'{"a": 1,\n "b" 2}', "line 2"),
        (b"{} x", "Extra data"),
        (b"<html></html>", "line 1"),
        (b'{"a": NULL}', "line 1"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not valid JSON"),
        (b"[" * 1000 + b"]" * 1000, "nested"),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "nested"),
        (b"[" * 200 + b"NaN" + b"]" * 200, "nested"),
        (b"[" * 1_000_000, "nested"),
        (b"null", "null"),
        (b'"text"', "text"),
        (b"7", "number"),
    ],
)
def test_bytes_that_are_no_bundle_are_refused_by_name(decode: Callable[..., object], data: bytes, what: str) -> None:
    with pytest.raises(BundleError, match=what) as caught:
        decode(data, name="some/file.json")
    assert caught.value.key == "some/file.json"
    assert str(caught.value).startswith("some/file.json: ")


@pytest.mark.parametrize("decode", [decode_output_bundle, decode_metric_bundle])
def test_a_list_is_no_bundle(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(BundleError, match="one object, not a list"):
        decode(b"[]")


def test_an_object_is_no_list_of_series() -> None:
    with pytest.raises(BundleError, match="list of series, not an object"):
        decode_series(b"{}")


# -- output bundle ---------------------------------------------------------------------------------------------------


def output(**sections: object) -> bytes:
    return as_json({"provenance": PROVENANCE, **sections})


def test_entries_come_as_plots_data_html_each_in_the_files_order() -> None:
    data = output(html={"h": ENTRY}, plots={"z": ENTRY, "a": ENTRY}, data={"d": ENTRY | {"dimensions": None}})
    entries = decode_output_bundle(data).entries
    assert [(entry.kind, entry.name) for entry in entries] == [
        ("plot", "z"),
        ("plot", "a"),
        ("data", "d"),
        ("html", "h"),
    ]
    assert entries[2].dimensions == {}


def test_unknown_keys_are_kept_at_every_level() -> None:
    data = output(plots={"a": ENTRY | {"more": [1]}}, metrics=None, diagnostics={}, mine={"x": 1})
    bundle = decode_output_bundle(data)
    assert bundle.entries[0].extra == {"more": [1]}
    assert bundle.extra == {"metrics": None, "diagnostics": {}, "mine": {"x": 1}}
    assert decode_output_bundle(encode_output_bundle(bundle)) == bundle


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (as_json({"provenance": []}), "$.provenance"),
        (as_json({"provenance": PROVENANCE | {"environment": {"A": 1}}}), "$.provenance.environment"),
        (as_json({"provenance": PROVENANCE | {"obsdata": 3}}), "$.provenance.obsdata"),
        (output(index=3), "$.index"),
        (output(plots=[]), "$.plots"),
        (output(plots={"fig 1": "a.png"}), '$.plots["fig 1"]'),
        (output(html={"h": ENTRY | {"filename": None}}), "$.html.h.filename"),
        (
            output(data={"d": {"filename": "a", "long_name": "b"}}),
            "$.data.d: Object missing required field 'description'",
        ),
        (output(metrics={"m": {"filename": "a"}}), "$.metrics.m"),
        (output(plots={"p": ENTRY | {"dimensions": {"region": 1}}}), "$.plots.p.dimensions"),
        (output(plots={"p": ENTRY | {"dimensions": ["region"]}}), "$.plots.p.dimensions"),
    ],
)
def test_an_invalid_output_bundle_names_the_place(data: bytes, place: str) -> None:
    with pytest.raises(BundleError) as caught:
        decode_output_bundle(data)
    assert place in str(caught.value)


def test_two_entries_of_one_name_cannot_be_written() -> None:
    entry = OutputEntry("plot", "a", "a.png", "A", "")
    with pytest.raises(BundleError, match="two entries"):
        encode_output_bundle(OutputBundle((entry, entry), None, PROVENANCE))


# -- metric bundle ---------------------------------------------------------------------------------------------------


def test_rows_come_in_file_order_with_the_innermost_attributes_first() -> None:
    assert list(decode_metric_bundle(as_json(METRIC)).iter_rows()) == [
        (1.0, {"region": "global", "metric": "bias"}, {"units": "K", "from": "global"}),
        (2.5, {"region": "global", "metric": "rmse"}, {"units": "K", "from": "global"}),
        (None, {"region": "arctic", "metric": "bias"}, {"units": "K", "from": "top"}),
    ]


def test_scalars_are_the_rows_with_nan_for_null() -> None:
    bundle = decode_metric_bundle(as_json(METRIC))
    for position, (scalar, row) in enumerate(zip(bundle.iter_scalars(), bundle.iter_rows(), strict=True)):
        value = None if math.isnan(scalar.value) else scalar.value
        assert (value, scalar.dimensions, scalar.attributes) == row
        assert scalar.position == position


def test_the_words_of_pythons_json_are_understood() -> None:
    leaves = {"bias": math.nan, "rmse": -math.inf}
    data = metric({"global": leaves, "arctic": {"attributes": {"bound": math.inf, "none": math.nan}, "bias": 0}})
    assert b"NaN" in data
    rows = list(decode_metric_bundle(data).iter_rows())
    assert [row[0] for row in rows] == [None, -math.inf, 0.0]
    assert rows[2][2] == {"bound": math.inf, "none": None}


def test_infinity_is_written_as_standard_json_and_comes_back() -> None:
    bundle = decode_metric_bundle(metric({"global": {"bias": math.inf, "rmse": -math.inf}, "arctic": {}}))
    data = encode_metric_bundle(bundle)
    assert b"Infinity" not in data
    assert b"NaN" not in data
    assert json.loads(data)["RESULTS"]["global"] == {"bias": math.inf, "rmse": -math.inf}
    assert decode_metric_bundle(data) == bundle


def test_a_nan_is_written_as_null() -> None:
    bundle = MetricBundle(("metric",), {"metric": {"bias": {}}}, {"bias": math.nan})
    assert [row[0] for row in bundle.iter_rows()] == [None]
    assert json.loads(encode_metric_bundle(bundle))["RESULTS"] == {"bias": None}


def test_an_undeclared_leaf_is_kept_and_told_once() -> None:
    data = metric({"global": {"corr": 1}, "arctic": {"corr": 2, "bias": 3}})
    bundle = decode_metric_bundle(data)
    assert len(list(bundle.iter_rows())) == 3
    (warning,) = bundle.warnings
    assert (warning.code, warning.place) == ("undeclared-value", "$.RESULTS.global.corr")
    assert "'corr'" in warning.message


@pytest.mark.parametrize("structure", [[], ["region", "metric"]])
def test_results_may_be_empty(structure: list[str]) -> None:
    dimensions = {"json_structure": structure, **{name: {} for name in structure}}
    bundle = decode_metric_bundle(as_json({"DIMENSIONS": dimensions, "RESULTS": {}}))
    assert bundle.dimensions == tuple(structure)
    assert list(bundle.iter_scalars()) == []


ARCTIC: dict[str, Any] = {"arctic": {}}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (as_json({"RESULTS": {}}), "'DIMENSIONS'"),
        (as_json({"DIMENSIONS": {"json_structure": []}}), "'RESULTS'"),
        (metric(None), "$.RESULTS"),
        (metric([]), "$.RESULTS"),
        (as_json({"DIMENSIONS": {"region": {}}, "RESULTS": {}}), "'json_structure' is missing"),
        (metric({}, structure="region"), "$.DIMENSIONS.json_structure"),
        (metric({}, structure=["region", 3]), "$.DIMENSIONS.json_structure[1]"),
        (metric({}, structure=["region", "metric", "region"]), "listed twice"),
        (metric({}, region=["global"]), "$.DIMENSIONS.region"),
        (as_json({"DIMENSIONS": {"json_structure": []}, "RESULTS": {"a": 1}}), "lists no dimension"),
        (metric({"global": {}}), "region 'arctic' is missing"),
        (metric({"global": {}, "arctic": {}, "tropics": {}}), "region 'tropics' is not declared"),
        (metric({"bias": 1, "rmse": 2}), "$.RESULTS"),
        (metric({"global": 1.0, **ARCTIC}), "$.RESULTS.global: must be an object"),
        (
            metric({"global": {"bias": True}, **ARCTIC}),
            "$.RESULTS.global.bias: a value is a number or null, not a boolean",
        ),
        (metric({"global": {"bias": "1"}, **ARCTIC}), "not text"),
        (metric({"global": {"bias": [1]}, **ARCTIC}), "not a list"),
        (metric({"global": {"bias": {"ann": 1}}, **ARCTIC}), "not an object"),
        (metric({"global": {"bias": 10**400}, **ARCTIC}), "too large"),
        (metric({"attributes": "K", "global": {}, **ARCTIC}), "$.RESULTS.attributes"),
        (metric({"global": {"attributes": [1]}, **ARCTIC}), "$.RESULTS.global.attributes"),
    ],
)
def test_an_invalid_metric_bundle_names_the_place(data: bytes, what: str) -> None:
    with pytest.raises(BundleError) as caught:
        decode_metric_bundle(data)
    assert what in str(caught.value)


def test_an_invalid_metric_bundle_cannot_be_written() -> None:
    bundle = MetricBundle(("metric",), {"metric": {}}, {"bias": "high"})
    with pytest.raises(BundleError, match="not text"):
        encode_metric_bundle(bundle)


def big_bundle(tables: int, padding: str = "") -> bytes:
    regions = [f"r{i}" for i in range(tables)]
    metrics = [f"m{i}" for i in range(100)]
    table = {name: i + 0.125 for i, name in enumerate(metrics)}
    dimensions = {"json_structure": ["region", "metric"], "region": {key: {} for key in regions}}
    dimensions["metric"] = {key: {} for key in metrics}
    return as_json({"DIMENSIONS": dimensions, "RESULTS": dict.fromkeys(regions, table), "NOTES": padding})


def test_a_hundred_thousand_scalars_stream_in_well_under_a_second() -> None:
    data = big_bundle(1000)
    started = time.perf_counter()
    bundle = decode_metric_bundle(data)
    assert sum(1 for _ in bundle.iter_rows()) == 100_000
    assert time.perf_counter() - started < 1
    tracemalloc.start()
    for _ in bundle.iter_rows():
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000, "rows are made one by one"


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: big_bundle(40_000), lambda: big_bundle(1, "x" * 50_000_000)])
def test_a_bundle_of_fifty_megabytes_is_read(make: Callable[[], bytes]) -> None:
    data = make()
    assert len(data) > 50_000_000
    started = time.perf_counter()
    assert next(decode_metric_bundle(data).iter_rows())[0] == 0.125
    assert time.perf_counter() - started < 20


# -- series ----------------------------------------------------------------------------------------------------------


def test_a_series_keeps_its_types_and_its_unknown_keys() -> None:
    item = SERIES | {"kind": "model", "calendar": None, "mine": {"x": 1}, "attributes": {"calendar": "noleap"}}
    (series,) = decode_series(as_json([item]))
    assert series.index == ("a", 2)
    assert series.values[0] == 1.0
    assert math.isnan(series.values[1])
    assert series.attributes == {"calendar": "noleap", "kind": "model", "mine": {"x": 1}}


def test_series_are_kept_whatever_they_have_in_common() -> None:
    other = SERIES | {"values": [7.0, 8.0]}
    series = decode_series(as_json([SERIES, other, SERIES]))
    assert [one.position for one in series] == [0, 1, 2]
    assert [one.values[0] for one in series] == [1.0, 7.0, 1.0]
    assert len({(tuple(one.dimensions.items()), one.index_name, one.index) for one in series}) == 1


def test_the_newer_keys_are_written_where_readers_look_for_them() -> None:
    attributes = {"kind": "reference", "calendar": "noleap", "units": "K"}
    series = Series(0, {}, "time", (1,), (2.0,), attributes)
    data = encode_series([series])
    (item,) = json.loads(data)
    assert (item["kind"], item["calendar"], item["attributes"]) == ("reference", "noleap", {"units": "K"})
    assert decode_series(data) == (series,)


def test_an_empty_list_is_no_series() -> None:
    assert decode_series(b"[]") == ()
    assert encode_series([]) == b"[]\n"


@pytest.mark.parametrize(
    ("item", "what"),
    [
        ([], "$[1]"),
        ({"values": [], "index": [], "index_name": "x"}, "$[1]: Object missing required field 'dimensions'"),
        (SERIES | {"values": [1]}, "$[1]: 1 values, but 2 in the index"),
        (SERIES | {"values": None}, "$[1].values"),
        (SERIES | {"values": [1, True]}, "$[1].values[1]"),
        (SERIES | {"values": ["1", 2]}, "$[1].values[0]"),
        (SERIES | {"values": [1, 10**400]}, "$[1].values[1]"),
        (SERIES | {"index": [1, None]}, "$[1].index[1]"),
        (SERIES | {"index": [1, False]}, "$[1].index[1]"),
        (SERIES | {"index": [1, math.nan]}, "$[1].index[1]"),
        (SERIES | {"index": [1, math.inf]}, "$[1].index[1]"),
        (SERIES | {"index_name": None}, "$[1].index_name"),
        (SERIES | {"dimensions": {"region": 1}}, "$[1].dimensions"),
        (SERIES | {"attributes": "K"}, "$[1].attributes"),
    ],
)
def test_an_invalid_series_names_the_place(item: object, what: str) -> None:
    with pytest.raises(BundleError) as caught:
        decode_series(as_json([SERIES, item]))
    assert what in str(caught.value)


def test_a_series_that_could_not_be_read_back_is_not_written() -> None:
    with pytest.raises(BundleError, match="1 values, but 0"):
        encode_series([Series(0, {}, "time", (), (1.0,))])


@pytest.mark.parametrize("value", [object(), {1: "x"}, "\ud800", {"a": {1, 2}}])
def test_what_has_no_form_in_json_is_refused(value: object) -> None:
    with pytest.raises(BundleError, match=r"series\.json"):
        encode_series([Series(0, {}, "time", (), (), {"x": value})])


def test_the_values_cross_process_boundaries() -> None:
    for value in (decode_output_bundle(output(plots={"a": ENTRY})), decode_metric_bundle(as_json(METRIC))):
        assert pickle.loads(pickle.dumps(value)) == value
