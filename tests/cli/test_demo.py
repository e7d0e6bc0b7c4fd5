from __future__ import annotations

import shlex
from pathlib import Path

from tests.cli.conftest import CLI

from emdstore.demo import RUNS, run_demo


def test_the_demo_promotes_its_sets_and_the_second_time_there_is_nothing_to_do(cli: CLI, tmp_path: Path) -> None:
    first = cli("demo")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "emdstore-demo" / "results").rglob("*")}
    second = cli("demo")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "emdstore-demo" / "results").rglob("*")}
    assert first.out.startswith("Promoted 5 executions")
    assert second.out.startswith("Nothing to do")
    assert before == after
    table = {line.split()[0]: line.split()[1:7] for line in first.out.splitlines() if line.partition(" ")[0] in RUNS}
    assert {fragment: row[0] for fragment, row in table.items()} == dict.fromkeys(RUNS, "uploaded") | {
        "ilamb/csoil-hwsd2/cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5/1": "failed",
        "pmp/enso_proc/historical_gn_r1i1p1f1_ACCESS-ESM1-5_obs4MIPs_g58_v1_d905ddf2/23": "failed",
    }
    assert table["esmvaltool/sea-ice-sensitivity/cmip6_historical/1"] == ["uploaded", "11", "7", "30", "0", "0"]


def test_what_the_demo_says_to_try_next_works(cli: CLI) -> None:
    said = cli("demo", "a folder").out
    # The one that shows it in a browser goes on until it is ended: tests/web/test_commands.py.
    commands = said.partition("Try next:")[2].partition("\n\n")[0].strip().splitlines()
    assert len(commands) >= 4
    for command in commands:
        arguments = shlex.split(command)
        start = next(
            position
            for position, each in enumerate(arguments)
            if each in ("ls", "show", "verify", "transfer", "replay")
        )
        assert cli(*arguments[start:]).out


def test_the_demo_as_json_has_the_places_and_the_executions(cli: CLI, tmp_path: Path) -> None:
    answer = cli("demo", "here", "--json").json
    assert answer["changed"] is True
    assert answer["results"] == str(tmp_path / "here" / "results")
    assert sum(each["scalars"] for each in answer["executions"]) == 35


def test_the_demo_heals_what_was_lost_meanwhile(tmp_path: Path) -> None:
    first = run_demo(tmp_path)
    (lost,) = first.results.rglob("None_None_accumulation.png")
    lost.unlink()
    assert run_demo(tmp_path).changed
    assert lost.exists()
    assert not run_demo(tmp_path).changed
