"""What a key is, and what it is not."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import example, given, strategies as st

from emdstore import keys
from emdstore.errors import InvalidKeyError
from emdstore.keys import (
    MAX_KEY_BYTES,
    MAX_SEGMENT_BYTES,
    STAGING_PREFIX,
    in_folder,
    is_staging,
    is_valid_key,
    join_key,
    validate_key,
    validate_prefix,
)

VALID = [
    "a",
    "out.log",
    "run1/data/tas (°C).nc",
    "a b/ c /d ",
    ".hidden/.x",
    "a..b/...",
    "é",
    "e\u0301",
    "日本語/図.png",
    "%2e%2e/%2f",
    "~/a",
    "a:b*c?d<e>|f\"g'h",
    "-rf",
    "C:",
    "x" * MAX_SEGMENT_BYTES,
    "é" * (MAX_SEGMENT_BYTES // 2),
    "/".join(["x" * 204] * 5),
    ".emdstore",
    "\u202e.nc",
    "\ufeff",
    "😀",
]

INVALID = {
    "": "it is empty",
    "/": "an empty segment",
    "/a": "an empty segment",
    "a/": "an empty segment",
    "a//b": "an empty segment",
    ".": "the segment '.'",
    "a/./b": "the segment '.'",
    "..": "the segment '..'",
    "../a": "the segment '..'",
    "a/../b": "the segment '..'",
    "a/..": "the segment '..'",
    "a\\b": "a backslash",
    "a\x00b": "a control character",
    "a\nb": "a control character",
    "a\n": "a control character",
    "\x7f": "a control character",
    "a\x85b": "a control character",
    "\ud800": "cannot be written as UTF-8",
    "x" * (MAX_SEGMENT_BYTES + 1): "longer than 255 bytes",
    "é" * 128: "longer than 255 bytes",
    "a/" + "x" * (MAX_SEGMENT_BYTES + 1) + "/b": "longer than 255 bytes",
    "/".join(["x" * 204] * 5) + "x": "1025 bytes long, 1024 are allowed",
    f"{STAGING_PREFIX}0123": "kept for unfinished files",
    f"a/{STAGING_PREFIX}/b": "kept for unfinished files",
}


@pytest.mark.parametrize("key", VALID)
def test_a_canonical_key_is_taken_as_it_is(key: str) -> None:
    assert validate_key(key) is key
    assert is_valid_key(key)


@pytest.mark.parametrize(("key", "reason"), INVALID.items(), ids=map(ascii, INVALID))
def test_any_other_is_refused_with_the_reason(key: str, reason: str) -> None:
    with pytest.raises(InvalidKeyError, match=re.escape(reason)) as caught:
        validate_key(key)
    assert caught.value.key == key
    assert not is_valid_key(key)


@pytest.mark.parametrize("key", [None, b"a", 1, ("a",)])
def test_a_key_is_text(key: object) -> None:
    with pytest.raises(InvalidKeyError, match=f"not {type(key).__name__}"):
        validate_key(key)  # type: ignore[arg-type]


def test_a_message_about_an_endless_key_ends() -> None:
    with pytest.raises(InvalidKeyError) as caught:
        validate_key("x" * 900)
    assert len(str(caught.value)) < 1200


def test_a_prefix_is_everything_or_a_folder_spelled_like_a_key() -> None:
    assert validate_prefix("") == ""
    assert validate_prefix("a/b") == "a/b"
    for prefix in ("a/", "/", "../a"):
        with pytest.raises(InvalidKeyError):
            validate_prefix(prefix)


# A lone surrogate is what Python makes of a file name that is no UTF-8: each stands where a letter could.
lone_surrogates = st.characters(categories=["Cs"])
any_text = st.text(st.characters(codec=None) | lone_surrogates | st.sampled_from("/.\\\x00 aé"), max_size=12)


@given(any_text)
@example(f"{STAGING_PREFIX}x")
@example("a" * 256)
@example("é" * 200)
@example("a\n")
@example("\udcff")
def test_the_short_way_for_plain_keys_accepts_nothing_more(key: str) -> None:
    """Guards against a key that the short way lets through and the rules would not."""
    if keys._is_plain(key):
        assert keys.why_invalid(key) is None


@given(st.sampled_from(["", "a/", f"{'x' * 200}/"]), st.lists(any_text.filter(lambda name: name and "/" not in name)))
@example("", ["out.log", "\n"])
@example("a/", [f"{STAGING_PREFIX}x"])
@example("a/", ["b", "\udcff"])
@example(f"{'x' * 200}/", ["x" * 56])
def test_the_short_way_for_the_names_of_a_folder_accepts_nothing_more(folder: str, names: list[str]) -> None:
    if keys.are_plain(folder, names):
        assert names
        assert all(is_valid_key(folder + name) and not keys.is_staging(name) for name in names)


def test_the_names_of_a_usual_folder_are_looked_at_once() -> None:
    assert keys.are_plain(
        "pmp/enso_tel/historical/23/", ["diagnostic.json", "execution.json", "out.log", "tas (a).png"]
    )


@given(any_text, lone_surrogates, any_text)
@example("a", "\ud83d", "\ude00")  # halves of one character, which Python does not put together
@example("a/", os.fsdecode(b"\xff"), ".nc")
@example("", "\ud800", ";0=")  # looks like a parameter of a URL, and is none
def test_a_name_that_is_no_utf_8_is_refused_wherever_it_stands_and_the_message_can_be_printed(
    before: str, surrogate: str, after: str
) -> None:
    key = before + surrogate + after
    with pytest.raises(InvalidKeyError, match="cannot be written as UTF-8") as caught:
        validate_key(key)
    assert caught.value.key == key or "://" in key
    assert str(caught.value).encode()
    assert not is_valid_key(key)


segments = st.text(st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=["Cc"]), min_size=1)
valid_keys = st.lists(segments, min_size=1, max_size=4).map("/".join).filter(is_valid_key)


@given(st.lists(valid_keys))
def test_sorted_text_is_in_the_order_of_its_bytes(some: list[str]) -> None:
    assert [key.encode() for key in sorted(some)] == sorted(key.encode() for key in some)


@given(valid_keys, valid_keys)
def test_what_is_joined_lies_in_its_folder_and_in_no_namesake(folder: str, key: str) -> None:
    joined = join_key(folder, key)
    assert in_folder(joined, folder)
    assert in_folder(joined, "")
    assert not in_folder(folder + "x/" + key, folder)
    assert not in_folder(folder, folder)
    assert joined.removeprefix(folder + "/") == key


def test_joining_leaves_out_what_is_empty() -> None:
    assert join_key("", "a", "", "b/c") == "a/b/c"
    assert join_key("", "") == ""


def test_unfinished_files_are_known_by_their_name() -> None:
    assert is_staging(f"{STAGING_PREFIX}0123")
    assert not is_staging(".emdstore")
    assert MAX_KEY_BYTES == 1024
