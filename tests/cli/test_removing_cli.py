"""`emdstore rm`: shown first, by name, and in a workspace under the claim of the execution."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from tests.cli.conftest import Here
from tests.distant import Distant
from tests.ensembles import GOOD, INCOMPLETE

from emdstore import InMemoryArtifactStore
from emdstore.catalog import Catalog
from emdstore.cli.removing import told_of_each
from emdstore.errors import StoreError
from emdstore.sets.removing import Doomed, RemovalRules

CATALOG = "sqlite:///catalog.db"


@pytest.fixture
def results(here: Here, demo_folder: Path) -> Path:
    shutil.copytree(demo_folder / "results", "results")
    shutil.copytree(demo_folder / "results", "copy")
    return Path("results")


def test_it_is_shown_first_and_goes_if_somebody_agrees(here: Here, results: Path) -> None:
    call = ("rm", results, f"{GOOD}/", "--copy", "copy")
    shown = here(*call)
    assert f"would remove  set {GOOD}" in shown.out
    assert "--yes" in shown.err
    assert here(*call, "--dry-run").out.count(f"set {GOOD}") == 1
    assert (results / GOOD / "execution.json").is_file()
    done = here(*call, "--yes")
    assert f"removed  set {GOOD}" in done.out
    assert not (results / GOOD / "execution.json").exists()
    here(*call, "--yes", code=4)


def test_what_stays_is_told_with_the_reason_and_stops_no_other(here: Here, results: Path) -> None:
    (results / "notes.txt").write_text("mine")
    answer = here("rm", results, f"{GOOD}/out.log", GOOD, "notes.txt", "--yes", "--json", code=1).json
    assert [(each["name"], each["outcome"]) for each in answer["items"]] == [
        (f"{GOOD}/out.log", "kept"),
        (GOOD, "kept"),
        ("notes.txt", "removed"),
    ]
    assert [each["name"] for each in answer["errors"]] == [f"{GOOD}/out.log", GOOD]
    assert not (results / "notes.txt").exists()
    assert (results / GOOD / "out.log").exists()


def test_names_in_a_distant_store_are_taken_several_at_a_time_and_told_in_order() -> None:
    meeting = threading.Barrier(8)

    def act(name: str, rules: RemovalRules, dry_run: bool) -> Doomed:
        meeting.wait(10)
        if name == "5":
            raise StoreError("it is locked")
        return Doomed(name, "set")

    names = [str(number) for number in range(16)]
    stores = [Distant(InMemoryArtifactStore())]
    found = list(told_of_each(act, names, RemovalRules(), stores, dry_run=False))
    assert [each.name for each in found] == names
    assert {each.name: each.refusal for each in found if each.refusal} == {"5": "it is locked"}


def test_a_folder_with_several_sets_is_meant_only_if_that_is_said(here: Here, results: Path) -> None:
    provider = GOOD.partition("/")[0]
    assert "--recursive" in here("rm", results, provider, "--copy", "copy", "--yes", code=2).err
    here("rm", results, provider, "-r", "--copy", "copy", "--yes", code=None)
    assert not (results / GOOD / "execution.json").exists()
    assert "name the sets" in here("rm", results, code=2).err


def test_a_workspaces_set_goes_from_the_catalog_too_and_not_while_scratch_would_bring_it_back(here: Here) -> None:
    here("init")
    ran = here("run", "--provider", "p", "--diagnostic", "d", "--json", "--", "true").json
    name = ran["execution"]["fragment"]
    here("commit", "--pending")
    here("transfer", "results", "copy")
    call = ("rm", "results", name, "--copy", "copy", "--yes")
    assert "emdstore gc" in here(*call, code=1).out
    here("gc", "--yes")
    with Catalog(CATALOG) as catalog:
        assert [row.fragment for row in catalog.executions()] == [name]
    assert f"removed  set {name}" in here(*call).out
    with Catalog(CATALOG) as catalog:
        assert not list(catalog.executions())
    assert not list(Path("results").rglob("execution.json"))
    here("replay", "results", "--catalog", "catalog.db")


def test_what_is_inside_a_results_store_is_claimed_too(here: Here) -> None:
    here("init")
    ran = here("run", "--provider", "p", "--diagnostic", "d", "--json", "--", "true").json
    name = ran["execution"]["fragment"].removeprefix("p/")
    here("commit", "--pending")
    assert "scratch still holds it" in here("rm", "results/p", name, "--force", "--yes", code=1).out


def test_a_set_whose_execution_runs_stays(here: Here, demo_folder: Path) -> None:
    here("init")
    shutil.rmtree("results", ignore_errors=True)
    shutil.copytree(demo_folder / "results", "results")
    here("replay", "results", "--catalog", "catalog.db", code=None)
    with Catalog(CATALOG) as catalog:
        claimed = catalog.claims.claim(
            INCOMPLETE, owner="somebody:1:1:1", lease_seconds=600, allowed_from=("uploaded", "failed"), to="uploaded"
        )
        assert claimed.owner == "somebody:1:1:1"
    said = here("rm", "results", INCOMPLETE, "--force", "--yes", code=1).out
    assert "in use by somebody:1:1:1" in said
    assert (Path("results") / INCOMPLETE / "execution.json").exists()
