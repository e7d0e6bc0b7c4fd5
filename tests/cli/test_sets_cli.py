"""`sets`, `repair` and `schema`: which sets there are, mending one, and what a record looks like."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import CLI
from tests.sets.examples import FRAGMENT, SUCCESS, promote, put, small_run

from emdstore.emds import RETRACTION_NAME
from emdstore.sets.schema import record_schema, retraction_schema
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
    assert [(each["fragment"], each["state"]) for each in told["items"]] == [(FRAGMENT, "published")]
    assert told["counts"] == {"published": 1}


def test_what_cannot_be_read_is_a_failure(cli: CLI, store: LocalArtifactStore) -> None:
    store.write_bytes(f"{FRAGMENT}/execution.json", b'{"record_version": 99}')
    told = cli("sets", "results", "--json", code=1).json
    assert [each["state"] for each in told["items"]] == ["newer-schema"]
    assert "upgrade emdstore" in told["items"][0]["reason"]


def test_a_damaged_set_is_mended_from_a_copy(cli: CLI, store: LocalArtifactStore) -> None:
    good = store.read_bytes(f"{FRAGMENT}/data/tas.nc")
    store.write_bytes(f"{FRAGMENT}/data/tas.nc", good[::-1])
    assert cli("sets", "results", "--json").json["items"][0]["state"] == "changed"
    told = cli("repair", "results", FRAGMENT, "--from", "backup", "--json").json
    assert (told["items"], told["errors"], told["state"]) == ([{"key": "data/tas.nc"}], [], "published")
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
    assert cli("schema", "retraction").json == retraction_schema()


def test_a_set_is_retracted_and_taken_back_in_a_store(cli: CLI, store: LocalArtifactStore) -> None:
    said = cli("retract", FRAGMENT, "--reason", "wrong sign", "--successor", "a/b/c/2", "--results", "results")
    assert said.out == f"{FRAGMENT} is retracted: wrong sign; use a/b/c/2\n"
    assert "emdstore replay" in said.err
    shown = cli("sets", "results")
    assert f"{FRAGMENT} is retracted: wrong sign; use a/b/c/2" in shown.err
    assert cli("sets", "results", "--json").json["items"][0]["retraction"]["reason"] == "wrong sign"
    assert "1 published; 1 of them retracted" in cli("verify", "results").out
    shutil.copytree(store.root / FRAGMENT, store.root / "a/b/c/2")
    (store.root / "a/b/c/2" / RETRACTION_NAME).unlink()
    assert [each["fragment"] for each in cli("sets", "results", "--retracted", "--json").json["items"]] == [FRAGMENT]
    shutil.rmtree(store.root / "a")
    cli("replay", "results", "--catalog", "catalog.db")
    assert "wrong sign" in cli("show", FRAGMENT, "--catalog", "catalog.db").out
    export = ("export", "scalars", "-o", "x.csv", "--catalog", "catalog.db")
    assert cli(*export).out.startswith("0 scalars")
    assert not cli(*export, "--retracted").out.startswith("0 scalars")
    told = cli("unretract", FRAGMENT, "--results", "results").out
    assert told == f"{FRAGMENT} is not retracted any more; the reason was: wrong sign\n"
    assert cli("unretract", FRAGMENT, "--results", "results").out == f"{FRAGMENT} was not retracted\n"
    cli("unretract", "p/no/such", "--results", "results", code=4)


def test_a_retraction_that_makes_no_sense_is_a_wrong_call(cli: CLI, store: LocalArtifactStore) -> None:
    assert "no set at 'x/y'" in cli("retract", "x/y", "--reason", "wrong", "--results", "results", code=4).err
    assert "reason" in cli("retract", FRAGMENT, "--results", "results", code=2).err
    assert "needs a reason" in cli("retract", FRAGMENT, "--reason", " ", "--results", "results", code=2).err
    assert "give --results" in cli("retract", FRAGMENT, "--reason", "wrong", code=2).err
