"""Which files make up a set, and which names are not followed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, strategies as st

from emdstore.emds import (
    ArtifactRef,
    OutputBundle,
    OutputEntry,
    OutputKind,
    Rejection,
    artifact_set,
    media_type,
    resolve_name,
)
from emdstore.keys import is_valid_key

FRAGMENT = "pmp/enso_tel/historical_g58/23"


def entry(kind: OutputKind, filename: str, name: str = "", description: str = "") -> OutputEntry:
    return OutputEntry(kind, name or filename, filename, "a long name", description)


def test_the_order_is_log_bundles_plots_data_html_series_whatever_the_entries_order() -> None:
    entries = (entry("html", "index.html"), entry("data", "b.nc"), entry("plot", "z.png"), entry("plot", "a.png"))
    whole = artifact_set(
        metric="diagnostic.json", output="output.json", series="series.json", bundle=OutputBundle(entries)
    )
    assert [(artifact.role, artifact.key) for artifact in whole.artifacts] == [
        ("log", "out.log"),
        ("metric", "diagnostic.json"),
        ("output", "output.json"),
        ("plot", "z.png"),
        ("plot", "a.png"),
        ("data", "b.nc"),
        ("html", "index.html"),
        ("series", "series.json"),
    ]
    assert [(output.position, output.key) for output in whole.outputs] == list(
        enumerate(["z.png", "a.png", "b.nc", "index.html"])
    )


def test_a_failed_result_has_a_log_only() -> None:
    assert artifact_set().keys == ("out.log",)


def test_a_file_named_by_several_entries_is_one_artifact_and_several_outputs() -> None:
    entries = (entry("plot", "a.png", "one", "first"), entry("plot", "x/../a.png", "two"), entry("data", "./a.png"))
    whole = artifact_set(bundle=OutputBundle(entries))
    assert whole.artifacts[1:] == (ArtifactRef("a.png", "plot", "first", "image/png"),)
    assert [output.key for output in whole.outputs] == ["a.png"] * 3
    assert [output.filename for output in whole.outputs] == ["a.png", "x/../a.png", "./a.png"]


@pytest.mark.parametrize("filename", ["out.log", "diagnostic.json", "output.json"])
def test_an_entry_may_name_the_log_or_a_bundle_which_keeps_its_first_role(filename: str) -> None:
    bundle = OutputBundle((entry("data", filename),))
    whole = artifact_set(metric="diagnostic.json", output="output.json", bundle=bundle)
    assert [artifact.role for artifact in whole.artifacts] == ["log", "metric", "output"]
    assert whole.outputs[0].key == filename


def test_an_artifact_without_a_description_is_described_by_its_long_name() -> None:
    whole = artifact_set(bundle=OutputBundle((entry("plot", "a.png"),)))
    assert whole.artifacts[1].description == "a long name"
    assert whole.outputs[0].description == ""


def test_what_is_rejected_is_named_with_its_place_and_the_rest_stays() -> None:
    entries = (entry("plot", "../secret.png", "fig 1"), entry("plot", "ok.png"))
    whole = artifact_set(metric="/elsewhere/diagnostic.json", bundle=OutputBundle(entries), fragment=FRAGMENT)
    assert whole.keys == ("out.log", "ok.png")
    assert [(one.role, one.name, one.filename, one.code) for one in whole.rejected] == [
        ("metric", "", "/elsewhere/diagnostic.json", "unmatched-path"),
        ("plot", "fig 1", "../secret.png", "outside-fragment"),
    ]
    assert [(output.name, output.key) for output in whole.outputs] == [("fig 1", None), ("ok.png", "ok.png")]
    assert [(warning.code, warning.place) for warning in whole.warnings] == [
        ("unmatched-path", ""),
        ("outside-fragment", '$.plots["fig 1"].filename'),
    ]
    assert all("is not followed" in warning.message for warning in whole.warnings)


@pytest.mark.parametrize("filename", ["sub/diagnostic.json", "./sub//diagnostic.json", "/run/sub/diagnostic.json"])
def test_the_results_own_names_are_resolved_the_same_way(filename: str) -> None:
    assert artifact_set(metric=filename, ran_in="/run").keys == ("out.log", "sub/diagnostic.json")


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "key"),
    [
        ("plots/a.png", "plots/a.png"),
        ("plots/../plots/a.png", "plots/a.png"),
        ("./a.png", "a.png"),
        ("a//b.png", "a/b.png"),
        ("a/./b/../c.png", "a/c.png"),
        ("...", "..."),
        ("..a/b..", "..a/b.."),
        ("~/a.png", "~/a.png"),
        # taken literally: nothing is decoded, nothing is folded
        ("%2e%2e/secret", "%2e%2e/secret"),
        ("..%2fsecret", "..%2fsecret"),
        ("\uff0e\uff0e/secret", "\uff0e\uff0e/secret"),
        ("\u2025/secret", "\u2025/secret"),
        ("..\u2215secret", "..\u2215secret"),
        (unicodedata.normalize("NFD", "é (°C).png"), unicodedata.normalize("NFD", "é (°C).png")),
        (unicodedata.normalize("NFC", "é (°C).png"), unicodedata.normalize("NFC", "é (°C).png")),
        ("x" * 242 + ".png", "x" * 242 + ".png"),
    ],
)
def test_a_relative_name_becomes_a_key(filename: str, key: str) -> None:
    assert resolve_name(filename) == key


@pytest.mark.parametrize(
    ("filename", "key"),
    [
        ("/scratch/run/a.png", "a.png"),
        ("/scratch/run/x/../a.png", "a.png"),
        ("//scratch//run/./a.png", "a.png"),
        ("/scratch/other/../run/a.png", "a.png"),
        ("/scratch/run/../run/a.png", "a.png"),
        ("/../scratch/run/a.png", "a.png"),
    ],
)
def test_an_absolute_name_is_made_relative_to_where_it_ran(filename: str, key: str) -> None:
    assert resolve_name(filename, ran_in="/scratch/run/") == key
    assert resolve_name(filename, ran_in="/scratch/x/../run") == key


@pytest.mark.parametrize(
    ("filename", "key"),
    [
        (f"/data/results/{FRAGMENT}/plots/a.png", "plots/a.png"),
        (f"/{FRAGMENT}/a.png", "a.png"),
        (f"/data/{FRAGMENT}/{FRAGMENT}/a.png", "a.png"),
        (f"/data/{FRAGMENT}/x/{FRAGMENT}", f"x/{FRAGMENT}"),
        (f"/data/{FRAGMENT}/x/../a.png", "a.png"),
    ],
)
def test_an_absolute_name_of_another_machine_is_matched_by_the_fragment(filename: str, key: str) -> None:
    assert resolve_name(filename, fragment=FRAGMENT) == key
    assert resolve_name(filename, ran_in="/scratch/run", fragment=FRAGMENT) == key


@pytest.mark.parametrize(
    ("filename", "code"),
    [
        ("../a.png", "outside-fragment"),
        ("plots/../../a.png", "outside-fragment"),
        ("a/../../run/a.png", "outside-fragment"),
        ("../../a.png", "outside-fragment"),
        ("../../../../etc/passwd", "outside-fragment"),
        ("..", "outside-fragment"),
        ("/scratch/run/../other/a.png", "outside-fragment"),
        (f"/data/{FRAGMENT}/../../../../etc/passwd", "outside-fragment"),
        ("/etc/passwd", "unmatched-path"),
        ("/scratch/run2/a.png", "unmatched-path"),
        (f"/data/x{FRAGMENT}/a.png", "unmatched-path"),
        (f"/data/{FRAGMENT}0/a.png", "unmatched-path"),
        ("/", "unmatched-path"),
        ("", "invalid-name"),
        (".", "invalid-name"),
        ("a/..", "invalid-name"),
        ("/scratch/run/", "invalid-name"),
        ("..\\secret", "invalid-name"),
        ("C:\\secret", "invalid-name"),
        ("a\x00.png", "invalid-name"),
        ("a\n.png", "invalid-name"),
        ("a\x7f", "invalid-name"),
        ("x" * 256, "invalid-name"),
        ("x/" * 600 + "a", "invalid-name"),
        ("a\udcff.png", "invalid-name"),
        ("plots/.emdstore-1", "invalid-name"),
        ("execution.json", "reserved-name"),
        ("a/../execution.json", "reserved-name"),
        ("/scratch/run/execution.json", "reserved-name"),
    ],
)
def test_a_name_that_is_not_followed_says_why(filename: str, code: str) -> None:
    found = resolve_name(filename, ran_in="/scratch/run", fragment=FRAGMENT)
    assert isinstance(found, Rejection)
    assert found.code == code
    assert found.reason


@pytest.mark.parametrize("ran_in", [None, "", "relative/run"])
def test_an_absolute_name_without_a_place_to_compare_with_is_unmatched(ran_in: str | None) -> None:
    found = resolve_name("/relative/run/a.png", ran_in=ran_in, fragment="")
    assert isinstance(found, Rejection)
    assert found.code == "unmatched-path"


pieces = st.sampled_from(["..", ".", "", "a", "run", "%2e", "\\", "é", "pmp", "23", "\x00"])
paths = st.lists(pieces, max_size=8).map("/".join)


@given(paths, paths | st.none(), paths | st.none())
def test_every_name_becomes_a_valid_key_or_a_rejection(filename: str, ran_in: str | None, fragment: str | None) -> None:
    found = resolve_name(filename, ran_in=ran_in, fragment=fragment)
    if isinstance(found, str):
        assert is_valid_key(found)
        assert resolve_name(found) == found


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a/b.png", "image/png"),
        ("b.PNG", "image/png"),
        ("b.nc", "application/x-netcdf"),
        ("output.json", "application/json"),
        ("index.html", "text/html"),
        ("t.csv", "text/csv"),
        ("out.log", "text/plain"),
        ("p.pdf", "application/pdf"),
        ("p.svg", "image/svg+xml"),
        ("recipe.yml", "application/yaml"),
        ("png", "application/octet-stream"),
        ("a.png/b", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
    ],
)
def test_media_types_are_the_same_on_every_machine(key: str, expected: str) -> None:
    assert media_type(key) == expected


def test_a_tree_that_lies_below_further_folders_now_keeps_its_absolute_names() -> None:
    there = "/data/scratch/esmvaltool/sea-ice/historical_g32/15/plots/a.png"
    assert resolve_name(there, fragment="site-a/2026/esmvaltool/sea-ice/historical_g32/15") == "plots/a.png"
    assert isinstance(resolve_name(there, fragment="site-a/ilamb/sea-ice/historical_g32/15"), Rejection)
