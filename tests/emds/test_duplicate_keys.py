"""A key that stands twice in one object, of which every reader of JSON keeps the last: told, never lost in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from emdstore.emds import artifact_set, decode_output_bundle, duplicate_keys


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('{"a": 1, "a": 2}', ["$.a"]),
        ('{"a" : 1,\n"a"\t:\n2}', ["$.a"]),
        ('{"a": {"b": 1, "b": 1}, "c": {"b": 2}}', ["$.a.b"]),
        ('[{"a": 1}, {"a": 1}, {"b c": [{"a": NaN, "a": NaN, "a": 3}]}]', ['$[2]["b c"][0].a']),
        ('{"a": 1, "\\u0061": 2}', ["$.a"]),
        ('{"\\": ": 1, "\\": ": 2}', ['$["\\": "]']),
        ('{"a": {"x": 1}, "b": {"y": 1, "y": 2}, "a": {"x": 2, "x": 3}}', ["$.a", "$.a.x", "$.b.y"]),
        ('{"a": "\\"a\\": 1, \\"a\\": 2", "b": ":"}', []),
        ('{"a": {"a": {"a": 1}}}', []),
        ('{"a":1,"a" \n\t:2}', ["$.a"]),
        ("[]", []),
    ],
)
def test_each_key_that_stands_twice_is_told_with_its_place(text: str, places: list[str]) -> None:
    warnings = duplicate_keys(text.encode(), name="output.json")
    assert sorted(warning.place for warning in warnings) == places
    assert {warning.code for warning in warnings} <= {"duplicate-key"}
    assert all(warning.message.startswith("output.json: ") for warning in warnings)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text('":,\\ a', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('":,\\ a', max_size=6), inner, max_size=3),
)


@given(JSON)
def test_what_has_no_key_twice_gives_no_warning(value: Any) -> None:
    assert duplicate_keys(json.dumps(value).encode(), name="x") == ()


def test_of_very_many_the_first_are_told_and_the_others_counted() -> None:
    text = "{" + ", ".join(f'"{n}": 1, "{n}": 2' for n in range(250)) + "}"
    *first, last = duplicate_keys(text.encode(), name="x")
    assert len(first) == 100
    assert "150 more" in last.message


def test_a_file_that_two_entries_name_is_one_artifact_and_that_is_told() -> None:
    entry = {"filename": "a.png", "long_name": "First", "description": ""}
    second = entry | {"filename": "./a.png", "long_name": "Second"}
    provenance = {"environment": {}, "modeldata": [], "obsdata": {}, "log": "out.log"}
    text = json.dumps({"provenance": provenance, "plots": {"one": entry}, "html": {"two": second}})
    found = artifact_set(bundle=decode_output_bundle(text.encode()))
    assert [(each.key, each.description) for each in found.artifacts if each.role != "log"] == [("a.png", "First")]
    assert [each.key for each in found.outputs] == ["a.png", "a.png"]
    assert [(each.code, each.place) for each in found.warnings] == [("shared-artifact", "$.html.two.filename")]
