from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import CLI
from tests.ensembles import GOOD, INCOMPLETE, SMALL

from emdstore import Catalog

BUNDLES = ("--metric", "diagnostic.json", "--output", "output.json", "--series", "series.json")
PLOT = "plots/tas_bias_map.png"


@pytest.fixture
def run(demo_folder: Path, tmp_path: Path) -> Path:
    """What a run left in scratch; it may be damaged."""
    shutil.copytree(demo_folder / "scratch" / GOOD, tmp_path / "run")
    return tmp_path / "run"


def record(folder: Path) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((folder / "execution.json").read_text())
    return loaded


def test_a_materialized_set_is_published_and_the_second_time_unchanged(cli: CLI, run: Path, tmp_path: Path) -> None:
    first = cli("materialize", run, "results/ilamb/nbp/g1/7", *BUNDLES, "--description", "By hand.")
    assert "uploaded" in first.out
    written = record(tmp_path / "results/ilamb/nbp/g1/7")
    named = [written[name] for name in ("fragment", "provider", "diagnostic", "group", "description", "status")]
    assert named == ["ilamb/nbp/g1/7", "ilamb", "nbp", "g1", "By hand.", "uploaded"]
    again = cli("materialize", run, "results/ilamb/nbp/g1/7", *BUNDLES, "--description", "By hand.", "--json").json
    assert (again["record"], again["outcome"]["artifacts_copied"]) == ("unchanged", [])


def test_who_the_execution_is_can_be_said(cli: CLI, run: Path, tmp_path: Path) -> None:
    identity = ("--fragment", "a/b/c", "--provider", "P", "--diagnostic", "D", "--group", "G")
    cli("materialize", run, "somewhere", *identity)  # its bundles have the usual names
    written = record(tmp_path / "somewhere")
    assert [written[name] for name in ("fragment", "provider", "diagnostic", "group")] == ["a/b/c", "P", "D", "G"]


def test_without_its_record_a_set_is_promoted_but_not_published(cli: CLI, run: Path, tmp_path: Path) -> None:
    cli("materialize", run, "results/x", *BUNDLES, "--no-record")
    assert not (tmp_path / "results/x/execution.json").exists()
    assert (tmp_path / "results/x/diagnostic.json").exists()


def test_a_failed_run_promotes_its_log_and_that_is_well(cli: CLI, run: Path, tmp_path: Path) -> None:
    answer = cli("materialize", run, "results/a/b/c/1", "--failed", "--retryable", "--json").json
    assert (answer["decision"]["status"], answer["decision"]["failure"]) == ("failed", "system")
    assert sorted(path.name for path in (tmp_path / "results/a/b/c/1").iterdir()) == ["execution.json", "out.log"]


@pytest.mark.parametrize(
    ("damage", "bundles", "reason"),
    [
        ("out.log", BUNDLES, "the run left no log"),
        (PLOT, BUNDLES, f"missing: {PLOT}"),
        ("diagnostic.json", (), "names no metric bundle"),
        ("", ("--metric", "../diagnostic.json"), "rejected: ../diagnostic.json"),
    ],
)
def test_a_set_that_is_not_complete_exits_1_and_says_why(
    cli: CLI, run: Path, damage: str, bundles: tuple[str, ...], reason: str
) -> None:
    if damage:
        (run / damage).unlink()
    assert reason in cli("materialize", run, "results/a/b/c/1", *bundles, code=1).out


def test_what_could_not_be_shipped_is_not_published(cli: CLI, run: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "results/a/b/c/1/index.html"
    in_the_way.mkdir(parents=True)
    (in_the_way / "x").write_text("x")
    answer = cli("materialize", run, "results/a/b/c/1", *BUNDLES, "--json", code=1).json
    assert (answer["decision"]["status"], answer["record"]) == ("upload_failed", "withheld")
    assert record(tmp_path / "results/a/b/c/1")["state"] == "publishing"


def test_replay_rebuilds_the_catalog_and_the_second_time_nothing_changes(cli: CLI, demo_folder: Path) -> None:
    results = demo_folder / "results"
    assert cli("replay", results, "--catalog", "new.db").out.startswith("7 ingested, 0 unchanged")
    assert cli("replay", results, env={"EMDSTORE_CATALOG": "new.db"}).out.startswith("0 ingested, 7 unchanged")
    assert cli("replay", results, "--catalog", "part.db", "--prefix", "landmark").out.startswith("4 ingested")


def test_replay_tells_which_set_is_not_whole_and_takes_the_others(cli: CLI, demo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_folder / "results", tmp_path / "torn")
    (tmp_path / "torn" / GOOD / "index.html").unlink()
    answer = cli("replay", "torn", "--catalog", "new.db", code=1)
    assert f"changed  {GOOD}" in answer.out
    assert "6 ingested" in answer.out
    report = cli("replay", "torn", "--catalog", "new.db", "--json", code=1).json
    assert [each["fragment"] for each in report["items"] if each["error"]] == [GOOD]


def test_replay_warns_of_what_the_vocabulary_does_not_know(cli: CLI, demo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text("dimensions: []\n")
    cli("replay", demo_folder / "results", "--catalog", "new.db", "--vocabulary", "words.yaml")
    assert cli("show", GOOD, "--catalog", "new.db", "--json").json["execution"]["warnings"] > 0


def test_show_has_what_the_catalog_holds(cli: CLI, demo_folder: Path) -> None:
    catalog = ("--catalog", demo_folder / "catalog.db")
    shown = cli("show", GOOD, *catalog, "--json").json
    assert shown["execution"]["status"] == "uploaded"
    counts = {kind: len(shown[kind]) for kind in ("artifacts", "outputs", "scalars", "series", "warnings")}
    assert counts == {"artifacts": 9, "outputs": 5, "scalars": 20, "series": 4, "warnings": 0}
    assert len(shown["series"][0]["values"]) == SMALL.years
    text = cli("show", GOOD.split("/", 1)[1], *catalog, "--limit", 3).out
    assert "scalars: 3 of 20" in text
    assert "MAM" in text
    series = text[text.index("series: ") :].splitlines()
    assert series[1].split()[-2:] == ["over", "points"]
    assert series[2].split()[-2:] == ["year", str(SMALL.years)]


def test_show_tells_why_a_set_has_no_values(cli: CLI, demo_folder: Path) -> None:
    text = cli("show", INCOMPLETE, "--catalog", demo_folder / "catalog.db").out
    assert "missing: plots/" in text
    assert "missing-artifact" in text


def test_a_published_set_is_replaced_by_less_only_if_asked(cli: CLI, run: Path, tmp_path: Path) -> None:
    results = tmp_path / "results/p/d/g/1"
    cli("materialize", run, results, *BUNDLES)
    (run / PLOT).unlink()
    refused = cli("materialize", run, results, *BUNDLES, code=1)
    assert "--replace" in refused.err
    assert record(results)["state"] == "published"
    cli("materialize", run, results, *BUNDLES, "--replace", "--unchanged", "never", code=1)  # not complete
    assert record(results)["state"] == "incomplete"


def test_a_catalog_is_tied_anew_from_the_command_line(cli: CLI, demo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_folder / "results", tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / ".emdstore")
    shutil.copy(demo_folder / "catalog.db", tmp_path / "catalog.db")
    refused = cli("replay", "moved", "--catalog", "catalog.db", code=1)
    assert "`emdstore db rebind`" in refused.err
    said = cli("db", "rebind", "moved", "--catalog", "catalog.db", "--json").json
    assert (said["ok"], said["equal"] == said["compared"] > 0) == (True, True)
    assert cli("replay", "moved", "--catalog", "catalog.db", "--json", code=None).json["counts"]["vanished"] == 0


def test_one_execution_is_forgotten_by_name(cli: CLI, demo_folder: Path, tmp_path: Path) -> None:
    shutil.copy(demo_folder / "catalog.db", tmp_path / "catalog.db")
    with Catalog(tmp_path / "catalog.db") as catalog:
        row = next(row for row in catalog.executions(status="uploaded"))
    assert row.fragment in cli("forget", row.fragment, "--catalog", "catalog.db").out
    assert "no execution" in cli("show", row.fragment, "--catalog", "catalog.db", code=4).err
