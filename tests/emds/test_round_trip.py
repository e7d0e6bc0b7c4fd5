"""Whatever can be said in a bundle is read back as it was written."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

from hypothesis import given, strategies as st

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

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.floats(allow_nan=False) | st.integers(-(2**70), 2**70)
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
texts = st.dictionaries(text, text, max_size=3)
attributes = st.dictionaries(text.filter(lambda key: key != ""), plain, max_size=3)
RESERVED = {"attributes", "json_structure"}


@st.composite
def output_bundles(draw: st.DrawFn) -> OutputBundle:
    kinds = st.sampled_from(["plot", "data", "html"])
    labels = draw(st.lists(st.tuples(kinds, text), unique=True, max_size=5))
    entries = [OutputEntry(kind, name, draw(text), draw(text), draw(text), draw(texts)) for kind, name in labels]
    provenance = {"environment": draw(texts), "modeldata": draw(text), "obsdata": draw(attributes), "log": "out.log"}
    return OutputBundle(tuple(entries), draw(st.none() | text), provenance, {"mine": draw(plain)})


@st.composite
def metric_bundles(draw: st.DrawFn) -> MetricBundle:
    names = draw(st.lists(text.filter(lambda name: name not in RESERVED), min_size=1, max_size=4, unique=True))
    value_names = text.filter(lambda name: name not in RESERVED)
    values = {name: draw(st.lists(value_names, min_size=1, max_size=3, unique=True)) for name in names}

    def table(level: int) -> dict[str, Any]:
        here = values[names[level]]
        if level == len(names) - 1:
            here = [value for value in here if draw(st.booleans())]
            found: dict[str, Any] = {value: draw(st.none() | numbers) for value in here}
        else:
            found = {value: table(level + 1) for value in here}
        return found | ({"attributes": draw(attributes)} if draw(st.booleans()) else {})

    allowed = {name: {value: draw(attributes) for value in values[name]} for name in names}
    return MetricBundle(tuple(names), allowed, table(0), {"NOTES": draw(plain)})


@st.composite
def series_lists(draw: st.DrawFn) -> list[Series]:
    found = []
    for position in range(draw(st.integers(0, 3))):
        values = draw(st.lists(st.just(math.nan) | st.floats(allow_nan=False), max_size=5))
        finite = st.floats(allow_nan=False, allow_infinity=False)
        index = draw(st.lists(text | st.integers() | finite, min_size=len(values), max_size=len(values)))
        newer = draw(st.fixed_dictionaries({}, optional={"kind": text, "calendar": text, "value_units": st.none()}))
        found.append(Series(position, draw(texts), draw(text), tuple(index), tuple(values), draw(attributes) | newer))
    return found


def standard(data: bytes) -> None:
    """Fail on the words that only Python's json knows."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    json.loads(data.decode(), parse_constant=refuse)


@given(output_bundles())
def test_output_bundles(bundle: OutputBundle) -> None:
    data = encode_output_bundle(bundle)
    standard(data)
    assert decode_output_bundle(data) == bundle
    assert encode_output_bundle(decode_output_bundle(data)) == data


@given(metric_bundles())
def test_metric_bundles(bundle: MetricBundle) -> None:
    data = encode_metric_bundle(bundle)
    standard(data)
    found = decode_metric_bundle(data)
    assert (found.dimensions, found.allowed, found.results) == (bundle.dimensions, bundle.allowed, bundle.results)
    assert list(found.iter_rows()) == list(bundle.iter_rows())
    assert found.extra == bundle.extra
    assert encode_metric_bundle(found) == data


@given(series_lists())
def test_series(series: list[Series]) -> None:
    data = encode_series(series)
    standard(data)
    found = decode_series(data)
    assert list(found) == series
    assert [list(map(type, one.index)) for one in found] == [list(map(type, one.index)) for one in series]
    assert encode_series(found) == data


keys = st.sampled_from(["DIMENSIONS", "RESULTS", "json_structure", "attributes", "plots", "provenance", "values", "a"])
nearly = st.recursive(
    st.none() | st.booleans() | numbers | keys,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(nearly)
def test_any_json_is_read_or_refused_with_a_bundle_error(value: object) -> None:
    data = json.dumps(value).encode()
    for decode in (decode_output_bundle, decode_series):
        with contextlib.suppress(BundleError):
            decode(data)
    with contextlib.suppress(BundleError):
        list(decode_metric_bundle(data).iter_scalars())


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_with_a_bundle_error(data: bytes) -> None:
    for decode in (decode_output_bundle, decode_metric_bundle, decode_series):
        with contextlib.suppress(BundleError):
            decode(data)
