"""`sets`, `repair` and `schema`: which sets there are, mending one, and what a record looks like."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import CLI
from tests.lifecycle.examples import FRAGMENT, SUCCESS, promote, put, small_run

from emdstore.sets.schema import record_schema
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifactStore:
    """A results store with a published set, and a copy of it beside."""
    results = LocalArtifactStore(tmp_path / "results")
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    shutil.copytree(tmp_path / "results", tmp_path / "backup")
    return results


def test_sets_are_listed_with_state_time_size_and_origin(cli: CLI, store: LocalArtifactStore) -> None:
    put(store, small_run(), "bare/x/y/1")
    lines = cli("sets", "results").out.splitlines()
    assert lines[0].split() == ["state", "time", "size", "origin", "fragment"]
    assert [(line.split()[0], line.split()[-1]) for line in lines[1:3]] == [
        ("bare", "bare/x/y/1"),
        ("published", FRAGMENT),
    ]
    assert "2025-06-01 12:00:00" in lines[2]
    told = cli("sets", "results", "--state", "published", "--json").json
    assert [(each["fragment"], each["state"]) for each in told["sets"]] == [(FRAGMENT, "published")]
    assert told["counts"] == {"published": 1}


def test_what_cannot_be_read_is_a_failure(cli: CLI, store: LocalArtifactStore) -> None:
    store.write_bytes(f"{FRAGMENT}/execution.json", b'{"record_version": 99}')
    told = cli("sets", "results", "--json", code=1).json
    assert [each["state"] for each in told["sets"]] == ["newer-schema"]
    assert "upgrade emdstore" in told["sets"][0]["reason"]


def test_a_damaged_set_is_mended_from_a_copy(cli: CLI, store: LocalArtifactStore) -> None:
    good = store.read_bytes(f"{FRAGMENT}/data/tas.nc")
    store.write_bytes(f"{FRAGMENT}/data/tas.nc", good[::-1])
    assert cli("sets", "results", "--json").json["sets"][0]["state"] == "changed"
    told = cli("repair", "results", FRAGMENT, "--from", "backup", "--json").json
    assert (told["repaired"], told["not_repaired"], told["state"]) == (["data/tas.nc"], [], "published")
    assert store.read_bytes(f"{FRAGMENT}/data/tas.nc") == good
    cli("verify", "results")


def test_what_no_copy_has_is_named(cli: CLI, store: LocalArtifactStore, tmp_path: Path) -> None:
    for folder in ("results", "backup"):
        (tmp_path / folder / FRAGMENT / "index.html").write_bytes(b"lost")
    answer = cli("repair", "results", FRAGMENT, "--from", "backup", code=1)
    assert "not repaired  index.html: " in answer.out
    assert "it is changed" in answer.out


def test_the_schema_is_the_packages(cli: CLI) -> None:
    assert cli("schema", "record").json == record_schema()
