"""A snapshot by the command line: written, listed, asked by what only reads, refused by what writes."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from jsonschema import Draft202012Validator
from tests.catalog.examples import FULL, execution_of
from tests.cli.conftest import Here

from emdstore import Catalog
from emdstore.cli.documents import document_schema

assert duckdb


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    with Catalog(tmp_path / "catalog.db") as catalog:
        catalog.replace_execution(FULL)
        catalog.replace_execution(execution_of("ilamb/bias/1", provider="ilamb", status="failed"))
    return tmp_path


def test_what_only_reads_takes_a_snapshot_for_a_catalog(folder: Path, here: Here) -> None:
    written = here("snapshot", "results", "--catalog", "catalog.db", "--name", "first", "--json").json
    Draft202012Validator(document_schema("snapshot")).validate(written)
    assert (written["written"], written["items"][0]["rows"]["execution"]) == ("first", 2)
    calls = (
        ["list"],
        ["list", "--status", "failed", "--json"],
        ["show", FULL.fragment, "--json"],
        ["inputs", FULL.fragment],
        ["affected", "era5"],
        ["resources", "--provider", "pmp"],
        ["history", f"pmp/enso/{FULL.group}"],
        ["export", "scalars", "-o", "-", "--format", "csv"],
        ["compare", FULL.fragment, FULL.fragment],
    )
    for call in calls:
        asked = here(*call, "--catalog", "catalog.db", code=None)
        for place in ("results", "results/.emdstore/snapshots/first"):
            answer = here(*call, "--catalog", place, code=None)
            said = "json" if "--json" in call else "out"  # dimensions have no order
            assert (answer.code, getattr(answer, said)) == (asked.code, getattr(asked, said)), call
        assert asked.out


@pytest.mark.parametrize(
    "call",
    [
        ["replay", "results"],
        ["forget", FULL.fragment],
        ["db", "upgrade"],
        ["db", "rebind", "results"],
    ],
    ids=" ".join,
)
def test_what_writes_refuses_a_snapshot(folder: Path, here: Here, call: list[str]) -> None:
    here("snapshot", "results", "--catalog", "catalog.db")
    assert "is a snapshot, which can only be read: give a database" in here(*call, "--catalog", "results", code=2).err


def test_snapshots_are_listed_kept_and_removed(folder: Path, here: Here) -> None:
    at = ("results", "--catalog", "catalog.db")
    here("snapshot", *at, "--name", "first")
    here("snapshot", *at, "--name", "second")
    assert "removed first" in here("snapshot", *at, "--name", "third", "--keep", "2").out
    listed = here("snapshot", "results", "--list").out.splitlines()
    assert [line.split()[0] for line in listed[1:3]] == ["second", "third"]
    assert "there is no snapshot 'first'" in here("snapshot", "results", "--remove", "first", code=4).err
    here("snapshot", "results", "--remove", "third")
    assert len(here("snapshot", "results", "--list", "--json").json["items"]) == 1
    for wrong in (["--list", "--remove", "second"], ["--list", "--name", "x"], ["--keep", "0"]):
        here("snapshot", *at, *wrong, code=2)
    assert "there is no snapshot of a catalog in" in here("list", "--catalog", ".", code=2).err
