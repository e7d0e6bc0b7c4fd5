"""A bundle of any role is read at once, and not twice in the block that says so."""

from __future__ import annotations

import json

import pytest

from emdstore.emds import (
    BundleRole,
    decode_metric_bundle,
    decode_output_bundle,
    decode_series,
    read_bundle,
    remembering,
)
from emdstore.errors import BundleError

METRIC = b'{"DIMENSIONS": {"json_structure": ["m"], "m": {"a": {}}}, "RESULTS": {"a": 1.0, "b": 2.0, "a": 3.0}}'
OUTPUT = json.dumps({"plots": {"p": {"filename": "p.png", "long_name": "P", "description": ""}}}).encode()
SERIES = json.dumps([{"dimensions": {}, "index_name": "t", "index": [1], "values": [2.0], "attributes": {}}]).encode()


def test_it_is_what_the_decoder_of_its_role_gives_with_all_warnings() -> None:
    metric, warnings = read_bundle("metric", METRIC, name="m.json")
    assert metric == decode_metric_bundle(METRIC, name="m.json")
    assert [each.code for each in warnings] == ["undeclared-value", "duplicate-key"]
    output, warnings = read_bundle("output", OUTPUT, name="o.json")
    assert output == decode_output_bundle(OUTPUT, name="o.json")
    assert [each.code for each in warnings] == ["no-provenance"]
    assert read_bundle("series", SERIES, name="s.json") == (decode_series(SERIES), ())


@pytest.mark.parametrize(("role", "data"), [("metric", METRIC), ("output", OUTPUT), ("series", SERIES)])
def test_the_same_bytes_are_parsed_once_in_a_block_that_remembers_and_others_are_not_taken_for_them(
    role: BundleRole, data: bytes
) -> None:
    def read(data: bytes) -> object:
        return read_bundle(role, data, name="x.json")[0]

    assert read(data) is not read(data)
    with remembering():
        first = read(data)
        assert read(bytes(bytearray(data))) is first
        assert read(data.replace(b"2.0", b"4.0").replace(b"P", b"Q")) != first
        with pytest.raises(BundleError):
            read(data[:-1])
        with pytest.raises(BundleError):
            read(data[:-1])
    assert read(data) is not first
