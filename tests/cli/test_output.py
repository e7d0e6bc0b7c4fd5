"""How a command reports while it works and at its end: progress, lines for programs, quiet, logs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from jsonschema import Draft202012Validator
from tests.cli.conftest import Here, run_command
from tests.cli.terminal import on_a_terminal
from tests.ensembles import GOOD

from emdstore import system
from emdstore.cli import documents, manners
from emdstore.cli.manners import Manners
from emdstore.cli.progress import Stand, set_progress, transfer_progress
from emdstore.cli.render import size_text
from emdstore.transfers import TransferProgress

SET = "pcmdi-metrics/extratropical-modes/cmip6_historical_r1i1p1f1/20260501T120000-abcdef"


@pytest.fixture(autouse=True)
def as_usual() -> Iterator[None]:
    yield
    manners.behave(Manners())


# -- progress ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", range(40, 121, 8))
def test_a_line_of_progress_fits_and_tells_first_how_much_how_fast_and_how_long(width: int) -> None:
    line = Stand("transfer", 1.2e9, 2.6e9, size_text, SET, 31.2e6).text(width)
    assert len(line) <= width
    assert line.startswith("transfer  46%")
    assert "31.2 MB/s" in line
    assert "0:00:45 left" in line or width < 44
    assert ("…" in line or SET in line) == (width >= 72)
    assert len(Stand("transfer", 1.2e9, None, size_text, "", 31.2e6).text(width)) <= width


def test_a_name_of_a_set_stands_in_the_progress_whole_where_there_is_room() -> None:
    assert Stand("verify", 3, 10, str, SET, 1).text(130).endswith(SET)
    assert Stand("verify", 3, 10, str, SET, 1).text(80).endswith(SET[-30:])


class Clock:
    """A clock that moves on only where a test says so."""

    seconds = 0.0

    def machine(self) -> system.System:
        return attrs.evolve(system.current(), monotonic=lambda: self.seconds)


@pytest.mark.parametrize(
    ("how", "lines"),
    [
        (Manners(), 2),
        (Manners(progress=True), 12),
        (Manners(progress=False), 0),
        (Manners(quiet=True), 0),
        (Manners(quiet=True, progress=True), 12),
    ],
)
def test_elsewhere_than_on_a_terminal_there_is_a_line_a_minute(
    how: Manners, lines: int, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    manners.behave(how)
    with system.using(clock.machine()), set_progress("verify") as show:
        for done in range(125):
            clock.seconds += 1
            show(SET, done + 1, 200)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == lines
    assert all(line.startswith("verify  ") and "1/s" in line and "left" in line and SET in line for line in said)


def test_the_rate_is_that_of_late_and_what_was_there_already_does_not_count_for_long(
    capfd: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    manners.behave(Manners(json=True, lines=True))
    with system.using(clock.machine()), transfer_progress("transfer") as show:
        for second in range(100):
            clock.seconds += 1
            show(TransferProgress(second, 10**9 + 100 * second, 200, 2 * 10**9, complete=True, latest=f"{SET}/a.nc"))
    last = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert last["per_second"] == pytest.approx(100)
    assert last["seconds_left"] == pytest.approx((10**9 - 9900) / 100)
    assert last["latest"] == SET


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_progress_on_a_terminal_never_takes_a_second_line(demo_folder: Path, tmp_path: Path, columns: int) -> None:
    call = ["transfer", demo_folder / "results", "copy", "--bwlimit", "4M"]
    said = on_a_terminal(call, cwd=tmp_path, columns=columns)
    assert said.code == 0
    drawn = [line for line in said.lines if line.startswith("transfer  ") or "━" in line]
    assert drawn
    assert max(map(len, drawn)) <= columns
    assert any("/s" in line for line in drawn)


# -- lines ---------------------------------------------------------------------------------------------------------


def lines_of(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    schema = Draft202012Validator(documents.document_schema("lines"))
    for line in lines:
        schema.validate(line)
    return lines


@pytest.mark.parametrize(
    ("call", "code", "events"),
    [
        ("transfer {} copy", 0, {"progress", "item"}),
        ("transfer {} copy nothing", 1, {"progress", "item", "error"}),
        ("verify {}", 0, {"progress", "set", "item"}),
        ("replay {} --catalog c.db", 0, {"progress", "set", "item"}),
        ("ls {}", 0, {"item"}),
        ("sets {}", 0, {"item"}),
        ("ls nowhere", 2, {"error"}),
        ("nonsense", 2, {"error"}),
    ],
)
def test_lines_are_the_document_in_parts_with_what_happens_before(
    here: Here, demo_folder: Path, call: str, code: int, events: set[str]
) -> None:
    words = call.format(demo_folder / "results").split()
    lines = lines_of(here(*words, "--json-lines", code=code).out)
    assert {line["event"] for line in lines} - {"end"} == events
    assert [line["event"] for line in lines].index("end") == len(lines) - 1
    whole = here(*(word.replace("c.db", "d.db").replace("copy", "copy2") for word in words), "--json", code=code).json
    assert {line["schema"] for line in lines} <= {whole["schema"], f"emdstore/{words[0]}/1"}
    assert [line["item"].keys() for line in lines if line["event"] == "item"] == [
        each.keys() for each in whole["items"]
    ]
    assert [line["error"]["type"] for line in lines if line["event"] == "error"] == [e["type"] for e in whole["errors"]]
    rest = lines[-1]
    assert rest.keys() - {"event", "time"} == whole.keys() - {"items", "errors"}
    assert (rest["ok"], rest["counts"]) == (whole["ok"], whole["counts"])


# -- quiet, and what is logged -------------------------------------------------------------------------------------


def test_a_quiet_command_says_nothing_but_results_and_failures(here: Here, demo_folder: Path) -> None:
    results = demo_folder / "results"
    for call in (["transfer", results, "copy", GOOD], ["verify", "copy"], ["replay", "copy", "--catalog", "c.db"]):
        answer = here(*call, "-q")
        assert (answer.out, answer.err) == ("", "")
    assert here("ls", results, GOOD, "-q").out == here("ls", results, GOOD).out
    (Path("copy") / GOOD / "out.log").write_bytes(b"other")
    assert here("verify", "copy", "--quiet", code=1).out.splitlines() == [
        line for line in here("verify", "copy", code=1).out.splitlines() if line.startswith("corrupt  ")
    ]
    assert here("transfer", results, "copy", "nothing", "-q", code=1).out.startswith("missing  nothing: ")
    assert "nowhere" in here("ls", "nowhere", "-q", code=2).err


def test_a_log_file_keeps_what_was_called_said_and_how_it_ended(
    here: Here, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "hunter2-hunter2"
    results = demo_folder / "results"
    here("transfer", results, "copy", "-q", "--log-file", "a.log")
    here("transfer", results, "copy", "nothing", "--log-file", "a.log", code=1)
    here("ls", f"ftp://me:{secret}@127.0.0.1:1/x", "--log-file", "a.log", "-v", "--retries", "0", code=None)
    text = Path("a.log").read_text()
    assert "INFO emdstore.said: emdstore transfer" in text
    assert "copied (" in text
    assert "ERROR emdstore.said: missing  nothing" in text
    assert [line.rpartition(" ")[2] for line in text.splitlines() if "ended with exit code" in line][:2] == ["0", "1"]
    assert secret not in text
    monkeypatch.setenv("EMDSTORE_LOG_FILE", "b.log")
    monkeypatch.setenv("EMDSTORE_LOG_FORMAT", "json")
    here("transfer", results, "copy", "nothing", code=1)
    lines = [json.loads(line) for line in Path("b.log").read_text().splitlines()]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    said = [line for line in lines if line["logger"] == "emdstore.said"]
    assert [line["level"] for line in said] == ["info", "error", "info", "info"]
    (did,) = [line for line in lines if line not in said]
    assert (did["operation"], did["artifacts.missing"], did["dry_run"]) == ("transfer", 1, False)
    assert did["seconds"] >= 0
    assert Path("a.log").read_text() == text
    assert "cannot be written" in here("ls", results, "--log-file", "no/such/folder/x", code=2).err


def test_stderr_is_for_programs_too_if_the_log_is(here: Here) -> None:
    said = [json.loads(line) for line in here("ls", "nowhere", "--log-format", "json", code=2).err.splitlines()]
    assert (said[0]["level"], "nowhere" in said[0]["message"]) == ("error", True)


def test_on_a_terminal_the_first_failures_are_named_and_where_the_rest_is(demo_folder: Path, tmp_path: Path) -> None:
    names = [f"gone-{number:02}" for number in range(25)]
    call = ["transfer", demo_folder / "results", "copy", *names]
    said = on_a_terminal([*call, "--log-file", "all.log"], cwd=tmp_path, columns=80)
    assert said.code == 1
    assert sum(line.startswith("missing  gone-") for line in said.lines) == 20
    assert "5 more failures: --json, a pipe or --log-file has them" in said.lines
    assert any(line.startswith("0 copied") for line in said.lines[-3:])
    assert all(name in (tmp_path / "all.log").read_text() for name in names)


# -- programs ------------------------------------------------------------------------------------------------------


def test_what_programs_print_is_told_apart_and_the_log_is_as_printed(here: Here) -> None:
    here("init")
    run = ("run", "--provider", "p", "--diagnostic", "d")
    program = ("--", "sh", "-c", "echo one; printf 'two\nthree'; echo err >&2")
    answer = here(*run, "--prefix", *program)
    name = next(line.split()[1] for line in answer.out.splitlines() if line.startswith("execution "))
    shown = [line.removeprefix(f"{name}  ") for line in answer.out.splitlines() if line.startswith(f"{name}  ")]
    assert shown == ["one", "two", "threeerr"]
    assert (Path("scratch") / name / "out.log").read_text() == "one\ntwo\nthreeerr\n"
    quiet = here(*run, "-q", *program)
    assert "two" not in quiet.out
    name = next(line.split()[1] for line in quiet.out.splitlines() if line.startswith("execution "))
    assert "two" in (Path("scratch") / name / "out.log").read_text()


def test_a_wrong_call_is_told_once_and_names_what_is_wrong(tmp_path: Path) -> None:
    done = run_command("release", "list", "results", "token=abc", cwd=tmp_path)
    told, hint = done.stderr.splitlines()
    assert (done.returncode, told) == (2, "error: there is no use for 'results', 'token=***'")
    assert hint.startswith("`emdstore --help`")
