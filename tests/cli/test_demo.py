from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import CLI
from tests.ensembles import FAILED, INCOMPLETE, KILLED, SMALL

from emdstore.demo import Ensemble

OPTIONS = ("--models", 4, "--diagnostics", 2, "--regions", 1, "--years", 20, "--pixels", 1)
"""What makes the small ensemble."""


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_demo_is_ready_and_the_second_time_there_is_nothing_to_do(cli: CLI, tmp_path: Path) -> None:
    first = cli("demo", *OPTIONS)
    assert first.out.startswith("7 executions ran, 7 were committed (")
    assert first.err == ""
    before = times(tmp_path / "emdstore-demo")
    second = cli("demo", *OPTIONS)
    assert second.out.startswith("Nothing to do: emdstore-demo holds all of it, as it was recorded")
    # A closed catalog leaves no write-ahead log behind; nothing else may differ.
    assert times(tmp_path / "emdstore-demo") == before
    troubled = {
        line.split()[0]: line.split()[1] for line in second.out.splitlines() if "historical_" in line.split(" ")[0]
    }
    assert troubled == {FAILED: "diagnostic", KILLED: "system", INCOMPLETE: "result"}


@pytest.mark.slow
def test_what_the_demo_says_to_try_next_works(cli: CLI, tmp_path: Path) -> None:
    said = cli("demo", "a folder", *OPTIONS).out
    # The one that shows it in a browser goes on until it is ended: tests/web/test_commands.py.
    commands = said.partition("Try next:")[2].partition("\n\n")[0].strip().splitlines()
    verbs = []
    for command in commands:
        program, *arguments = shlex.split(command)
        verbs.append("cat" if program == "cat" else arguments[0] if not arguments[0].startswith("-") else arguments[2])
        if program == "cat":
            shown = subprocess.run([program, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
            assert "\nTraceback (most recent call last):\n  File " in shown.stdout
        else:
            assert cli(*arguments[arguments.index(verbs[-1]) :]).out
    assert verbs == ["ls", "show", "show", "cat", "export", "verify", "transfer", "replay"]


def test_the_demo_as_json_has_the_places_and_the_executions(cli: CLI, tmp_path: Path) -> None:
    answer = cli("demo", "here", *OPTIONS, "--json").json
    assert (answer["changed"], answer["ran"], answer["ok"]) == (True, 7, True)
    assert answer["results"] == str(tmp_path / "here" / "results")
    assert sum(each["scalars"] for each in answer["items"] if each["complete"]) == SMALL.counts.scalars
    again = cli("demo", "here", *OPTIONS, "--json").json
    assert (again["changed"], again["ran"], again["committed"]["executions"]) == (False, 0, {})


def test_the_options_are_those_of_an_ensemble(cli: CLI) -> None:
    options = {"models": 2, "diagnostics": 3, "executions": 8, "regions": 2, "years": 5, "pixels": 2, "troubles": 0}
    given = [text for name, value in options.items() for text in (f"--{name}", value)]
    answer = cli("demo", *given, "--seed", -7, "--json").json
    counts = Ensemble(**options, seed=-7).counts
    assert len(answer["items"]) == counts.executions == 8
    assert sum(each["scalars"] for each in answer["items"]) == counts.scalars


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--models", "0"), "models must be at least 1, not 0"),
        (("--models=-1",), "models must be at least 1, not -1"),
        (("--diagnostics", "13"), "diagnostics must be from 1 to 12, not 13"),
        (("--executions", "5"), "executions must be at least 159, for 20 models and 8 diagnostics, not 5"),
        (("--executions=-1",), "executions must be at least 159"),
        (("--regions", "7"), "regions must be from 1 to 6, not 7"),
        (("--years", "1"), "years must be from 2 to 1000, not 1"),
        (("--pixels", "0"), "pixels must be from 1 to 100, not 0"),
        (("--troubles", "40"), "troubles must be at most 39, for 20 models and 8 diagnostics, not 40"),
        (("--seed", "x"), "--seed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_a_wrong_call(
    cli: CLI, tmp_path: Path, given: tuple[str, ...], message: str
) -> None:
    assert message in cli("demo", *given, code=2).err
    assert message in cli("demo", *given, "--json", code=2).json["error"]["message"]
    assert not (tmp_path / "emdstore-demo").exists()


def test_another_ensemble_or_workspace_in_the_folder_is_left_alone(cli: CLI, tmp_path: Path) -> None:
    cli("demo", *OPTIONS)
    before = times(tmp_path / "emdstore-demo" / "results")
    assert "another ensemble is already here" in cli("demo", *OPTIONS, "--seed", 1, code=2).err
    assert times(tmp_path / "emdstore-demo" / "results") == before
    cli("init", "mine", "--results", "elsewhere")
    assert "another workspace" in cli("demo", "mine", *OPTIONS, code=2).err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["emdstore.toml"]
    (tmp_path / "file").write_text("x")
    assert "file cannot be made a workspace" in cli("demo", "file", *OPTIONS, code=2).err


def test_the_demo_stays_in_its_folder_whatever_the_environment_says(cli: CLI, tmp_path: Path) -> None:
    places = {f"EMDSTORE_{name}": str(tmp_path / "mine" / name) for name in ("SCRATCH", "RESULTS", "CATALOG")}
    cli("demo", *OPTIONS, env=places)
    assert not (tmp_path / "mine").exists()
    assert len(cli("list", "--config", "emdstore-demo", "--json").json["items"]) == 7
