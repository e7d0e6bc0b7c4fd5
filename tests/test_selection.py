"""What a selection chooses: the table of docs/choosing.md, and what no store can tell."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from emdstore.errors import SelectionError
from emdstore.selection import ALL, Rule, Selection, compiled, folders_above, parse_rules, roots_of

PAGE = Path(__file__).parents[1] / "docs" / "choosing.md"
SET: dict[str, Any] = {
    "provider": "pmp",
    "diagnostic": "enso",
    "group": "historical",
    "state": "published",
    "size": 1000,
    "time": datetime(2026, 5, 1, tzinfo=UTC),
}


def table_of_matches() -> list[tuple[str, str, str]]:
    """Return pattern, key and whether it matches, from the page."""
    rows = [line.strip("| ").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip().strip("`") for cell in row] for row in rows]
    return [(row[0], row[1], row[2]) for row in cells if len(row) == 3 and row[2] in ("yes", "no")]


@pytest.mark.parametrize(("pattern", "key", "matches"), table_of_matches())
def test_a_pattern_matches_what_the_page_says(pattern: str, key: str, matches: str) -> None:
    assert bool(compiled(pattern)(key)) == (matches == "yes")


def test_the_page_has_a_table_to_test() -> None:
    assert len(table_of_matches()) >= 15


@pytest.mark.parametrize("pattern", ["", "  ", "# a comment", "!kept", "/"])
def test_a_pattern_that_would_choose_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(SelectionError):
        Selection(include=[pattern])


def test_all_that_is_given_must_hold_and_exclude_wins() -> None:
    chosen = Selection(include=["*.png", "*.nc"], exclude=["plots/"])
    keys = ["a.png", "a.nc", "a.txt", "x/plots/b.png"]
    assert [key for key in keys if chosen.takes_name(key)] == ["a.png", "a.nc"]


def test_the_first_rule_of_a_filter_file_that_matches_decides() -> None:
    lines = ["# a comment", "", "+ pmp/enso/", "- pmp/\n", "+ *"]
    rules = parse_rules(lines, name="rules")
    assert rules == (Rule(True, "pmp/enso/"), Rule(False, "pmp/"), Rule(True, "*"))
    chosen = Selection(rules=rules)
    assert [chosen.takes_name(key) for key in ("pmp/enso/a", "pmp/mjo/a", "ilamb/a")] == [True, False, True]
    with pytest.raises(SelectionError, match="line 2 of rules"):
        parse_rules(["+ a", "pmp/"], name="rules")


def test_a_name_chooses_a_key_a_folder_and_the_set_that_the_key_lies_in() -> None:
    chosen = Selection(names=["pmp/enso/h/1/out.log", "ilamb"])
    assert [chosen.takes_name(key) for key in ("pmp/enso/h/1/out.log", "pmp/enso/h/1/x", "ilamb/a", "ilamb2/a")] == [
        True, False, True, False,
    ]  # fmt: skip
    folders = ("pmp/enso/h/1", "pmp/enso/h/2", "ilamb/bias/h/1")
    assert [chosen.takes_folder(folder) for folder in folders] == [True, False, True]


@pytest.mark.parametrize(
    ("chosen", "takes"),
    [
        ({"provider": ["pmp", "ilamb"]}, True),
        ({"provider": ["ilamb"]}, False),
        ({"provider": ["pmp"], "state": ["failed"]}, False),
        ({"execution": ["1"]}, True),
        ({"execution": ["h/1"]}, True),
        ({"execution": ["/1"]}, False),
        ({"include": ["*/enso/"]}, True),
        ({"include": ["*.png"]}, False),
        ({"exclude": ["*.png"]}, True),
        ({"min_size": 1000, "max_size": 1000}, True),
        ({"min_size": 1001}, False),
        ({"newer": datetime(2026, 4, 30, tzinfo=UTC).timestamp()}, True),
        ({"older": datetime(2026, 4, 30, tzinfo=UTC).timestamp()}, False),
    ],
    ids=str,
)
def test_a_set_is_chosen_by_what_it_is(chosen: dict[str, Any], takes: bool) -> None:
    assert Selection(**chosen).takes_set("pmp/enso/h/1", **SET) is takes


def test_what_nobody_knows_is_an_error_and_does_not_pass_for_no() -> None:
    with pytest.raises(SelectionError, match="size"):
        Selection(min_size=1).takes_measure(None, 0.0, what="a")
    with pytest.raises(SelectionError, match="written"):
        Selection(newer=1.0).takes_measure(1, float("nan"), what="a")
    assert not Selection(newer=1.0).takes_set("pmp/enso/h/1", **SET | {"time": None})


def test_a_selection_says_what_it_is() -> None:
    assert str(Selection(include=["*.png"], provider=["pmp"], latest=True)) == "--include *.png --provider pmp --latest"
    assert ALL.is_all
    assert not Selection(max_size=0).is_all


def test_folders_and_roots() -> None:
    assert folders_above("a/b/c") == ["a/b", "a"]
    assert roots_of(["a/x", "a-b", "a", "b/c"]) == ["a", "a-b", "b/c"]
