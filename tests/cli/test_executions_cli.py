"""The commands on executions, as a user runs them: in this process where that is enough, for real where it matters."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import sqlite3
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import CLI, COMMAND, Answer, Here, environment
from tests.executions.runs import committed, gone_pid, in_state, ran

from emdstore.executions.process import host_name
from emdstore.executions.transitions import STATUSES
from emdstore.executions.workspace import Workspace
from emdstore.stores import LocalArtifactStore

BUNDLE = '{"DIMENSIONS": {"json_structure": ["m"], "m": {"bias": {}}}, "RESULTS": {"bias": 0.5}}'
PROGRAM = ("sh", "-c", f"echo computing; printf '%s' '{BUNDLE}' > $EMDSTORE_OUTPUT_DIR/diagnostic.json")
RUN = ("run", "--provider", "pmp", "--diagnostic", "enso_tel")


@pytest.fixture
def workspace(here: Here, tmp_path: Path) -> Workspace:
    """The workspace that `emdstore init` has made in that folder."""
    here("init")
    with (tmp_path / "emdstore.toml").open("a") as file:
        file.write("clean_unnamed = true\n")  # nobody wants to keep the working files of these runs
    return Workspace.open(tmp_path)


def ids(said: Answer) -> list[str]:
    return [row["fragment"] for row in said.json["items"]]


# -- init ----------------------------------------------------------------------------------------------------------


def test_init_writes_a_file_that_the_other_commands_find(here: Here, tmp_path: Path) -> None:
    said = here("init", "project", "--results", "s3://bucket/results", "--scratch", "/tmp/s", "--json")
    assert said.json["config"] == str(tmp_path / "project" / "emdstore.toml")
    assert "S3ArtifactStore('s3://bucket/results'" in said.json["results"]
    assert here("init").out.splitlines()[-1] == "next: emdstore run --provider NAME --diagnostic NAME -- PROGRAM ..."
    assert here("list", "--json").json["items"] == []


def test_init_leaves_alone_what_is_there_and_keeps_no_mistake(here: Here, tmp_path: Path) -> None:
    here("init")
    before = (tmp_path / "emdstore.toml").read_text()
    assert "is there already" in here("init", "--scratch", "other", code=2).err
    assert (tmp_path / "emdstore.toml").read_text() == before
    assert "scratch is a folder of this machine" in here("init", "new", "--scratch", "s3://b/x", code=2).err
    assert "mysql" in here("init", "new", "--catalog", "mysql://host/x", "--json", code=2).json["error"]["message"]
    assert not (tmp_path / "new" / "emdstore.toml").exists()


# -- run -----------------------------------------------------------------------------------------------------------


def test_a_program_is_run_committed_and_shown(cli: CLI) -> None:
    cli("init")
    ran = cli(*RUN, "--group", "historical", "--selector", "a=b", "--description", "El Niño", "--", *PROGRAM)
    assert ran.out.startswith("computing\n")
    command = next(line for line in ran.out.splitlines() if line.startswith("next: "))
    assert command.startswith("next: emdstore commit pmp/enso_tel/historical/")
    committed = cli(*command.split()[2:])
    assert committed.out.startswith("uploaded  pmp/enso_tel/historical/")
    shown = cli("show", command.split("/")[-1]).out
    assert all(text in shown for text in ("uploaded", "El Niño", "diagnostic.json", "bias", "0.5"))
    (row,) = cli("list", "--json").json["items"]
    assert (row["status"], row["selectors"], row["scalars"]) == ("uploaded", {"a": "b"}, 1)


def test_the_catalog_of_a_workspace_hears_of_a_retraction_at_once(cli: CLI) -> None:
    cli("init")
    cli(*RUN, "--", *PROGRAM)
    cli("commit", "--pending")
    (row,) = cli("list", "--latest", "--json").json["items"]
    cli("retract", row["fragment"], "--reason", "wrong sign")
    cli("list", "--latest", code=4)
    assert "retracted: wrong sign" in cli("list").out
    cli("unretract", row["fragment"])
    assert ids(cli("list", "--latest", "--json")) == [row["fragment"]]


def test_run_in_json_is_one_document_whatever_the_program_prints(here: Here, workspace: Workspace) -> None:
    said = here(*RUN, "--json", "--", *PROGRAM)
    assert said.err == "computing\n"
    assert (said.json["program_exit_code"], said.json["execution"]["status"]) == (0, "stopped")
    assert (Path(said.json["output_directory"]) / "out.log").read_text() == "computing\n"


def test_a_program_that_fails_is_told_with_its_exit_code(here: Here, workspace: Workspace) -> None:
    said = here(*RUN, "--", "sh", "-c", "echo oh; exit 7", code=1)
    assert "exit code of the program  7" in said.out
    assert "next: emdstore commit" in said.out
    assert here(*RUN, "--json", "--", "sh", "-c", "kill -9 $$", code=1).json["program_exit_code"] == 137


def test_a_program_that_leaves_no_bundle_is_told_so(here: Here, workspace: Workspace) -> None:
    assert "the program left no diagnostic.json" in here(*RUN, "--", "true").err


def test_a_programs_own_options_are_its_own(here: Here, workspace: Workspace) -> None:
    said = here(*RUN, "--", "echo", "--json", "--provider", "x", "-v", "--")
    assert said.out.splitlines()[0] == "--json --provider x -v --"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*RUN,), "give the program to run"),
        ((*RUN, "--", "no-such-program", "--json"), "there is no program 'no-such-program'"),
        (("run", "--provider", "p", "--", "true"), "--diagnostic"),
        ((*RUN, "--selector", "a", "--", "true"), "a selector is NAME=VALUE, not 'a'"),
        (("run", "--provider", "a/b", "--diagnostic", "d", "--", "true"), "provider is one path segment"),
    ],
)
def test_a_run_that_makes_no_sense_starts_nothing(
    here: Here, workspace: Workspace, arguments: tuple[str, ...], message: str
) -> None:
    assert message in here(*arguments, code=2).err
    assert workspace.list_executions().count() == 0


def test_a_file_that_is_no_program_is_a_run_that_failed(here: Here, workspace: Workspace, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"\x7fELF no more")
    script.chmod(0o755)
    assert "could not be run: [Errno 8]" in here(*RUN, "--", script, code=1).err
    (row,) = workspace.list_executions()
    assert (row.status, row.retryable) == ("stopped", True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 1), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_program_and_leaves_a_run_that_can_be_committed(
    workspace: Workspace, tmp_path: Path, number: int, code: int
) -> None:
    program = "trap 'echo cleaning up; exit 3' TERM; echo $$ > pid; while :; do sleep 0.05; done"
    running = subprocess.Popen(
        [*COMMAND, *RUN, "--", "sh", "-c", program],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "pid").exists():
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(number)
    out, err = running.communicate()
    assert running.returncode == code, err
    assert "Traceback" not in err
    assert "next: emdstore commit" in out + err
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    (row,) = workspace.list_executions()
    assert (row.status, row.retryable) == ("stopped", number == signal.SIGINT)


# -- commit --------------------------------------------------------------------------------------------------------


def test_commit_of_all_that_waits_isolates_and_tells_which_failed(here: Here, workspace: Workspace) -> None:
    good, bad = ran(workspace), ran(workspace)
    (bad.output_directory / "execution.json").write_bytes(b"")
    said = here("commit", "--pending", code=1)
    assert f"uploaded  {good.fragment}" in said.out
    assert f"not committed  {bad.fragment}: {bad.fragment}/execution.json is no execution record" in said.out
    assert "1 execution committed" in said.out
    again = here("commit", "--pending", "--json", code=1).json
    assert (again["items"], again["ok"], again["errors"][0]["type"]) == ([], False, "RecordError")


def test_commit_of_named_executions(here: Here, workspace: Workspace) -> None:
    one, other = ran(workspace), ran(workspace)
    said = here("commit", one.fragment.rpartition("/")[2], "--clean-folder", "--json")
    assert said.json["items"] == [{"fragment": one.fragment, "status": "uploaded"}]
    assert (one.output_directory.exists(), other.status) == (False, "stopped")


def test_commit_of_a_failed_run_is_no_failure_and_of_an_incomplete_set_it_is(here: Here, workspace: Workspace) -> None:
    here(*RUN, "--", "false", code=1)
    assert ": diagnostic: the run failed" in here("commit", "--pending").out
    incomplete = ran(workspace)
    (incomplete.output_directory / "plots/map.png").unlink()
    said = here("commit", "--pending", code=1)
    assert f"failed  {incomplete.fragment}: result: missing: plots/map.png" in said.out


def test_what_somebody_else_commits_is_told_and_is_a_failure_only_if_it_was_named(
    here: Here, workspace: Workspace
) -> None:
    held = in_state(workspace, "pending_upload")
    assert "is being committed by elsewhere" in here("commit", held.fragment, code=1).out
    assert here("commit", "--pending").out.startswith("0 executions committed")


def test_commit_wants_to_know_what(here: Here, workspace: Workspace) -> None:
    assert "give --pending" in here("commit", code=2).err
    assert "give --pending" in here("commit", "x", "--pending", code=2).err
    assert "no execution 'nope'" in here("commit", "nope", code=4).err
    assert here("commit", "nope", "--json", code=4).json["error"]["type"] == "ExecutionNotFoundError"
    running = in_state(workspace, "running")
    assert "is running and cannot become pending_upload" in here("commit", running.fragment, code=1).out


# -- list and show -------------------------------------------------------------------------------------------------


def test_list_shows_what_there_is_by_state(here: Here, workspace: Workspace) -> None:
    executions = {status: in_state(workspace, status) for status in STATUSES}
    text = here("list").out
    assert all(execution.fragment in text for execution in executions.values())
    assert "held by elsewhere:1:1:abcd" in text
    assert "failed on purpose" in text
    assert ids(here("list", "--status", "aborted", "--json")) == [executions["aborted"].fragment]
    both = ids(here("list", "--status", "created", "--status", "stopped", "--json"))
    assert both == sorted(executions[status].fragment for status in ("created", "stopped"))
    assert ids(here("list", "--latest", "--json")) == [executions["uploaded"].fragment]
    assert "stoped" in here("list", "--status", "stoped", code=2).err


def test_show_takes_the_workspace_or_a_catalog(here: Here, workspace: Workspace, tmp_path: Path) -> None:
    execution = committed(workspace)
    name = execution.fragment.rpartition("/")[2]
    by_workspace = here("show", name, "--json").json
    assert by_workspace["execution"]["fragment"] == execution.fragment
    assert by_workspace == here("show", name, "--catalog", tmp_path / "catalog.db", "--json").json
    assert "plots/map.png" in here("show", name, "--config", tmp_path).out


# -- cleaning up ---------------------------------------------------------------------------------------------------


def test_gc_previews_and_removes_only_with_yes(here: Here, workspace: Workspace) -> None:
    execution, waiting = committed(workspace), ran(workspace)
    preview = here("gc")
    assert f"would remove  scratch  {execution.fragment}" in preview.out
    assert "nothing was removed; give --yes" in preview.err
    assert here("gc", "--json").json["dry_run"] is True
    assert execution.output_directory.exists()
    assert "0 things" in here("gc", "--yes", "--older-than", "7d").out
    assert f"removed  scratch  {execution.fragment}" in here("gc", "--yes").out
    assert not execution.output_directory.exists()
    refused = here("gc", "--status", "stopped", "--yes", "--json").json
    assert list(refused["refused"]) == [waiting.fragment]
    assert here("gc", "--status", "stopped", "--yes", "--force", "--json").json["items"][0]["what"] == "scratch"
    assert "--older-than" in here("gc", "--older-than", "soon", code=2).err


def test_gc_is_no_success_where_results_lack_what_was_published(here: Here, workspace: Workspace) -> None:
    execution = committed(workspace)
    results = workspace.results
    assert isinstance(results, LocalArtifactStore)
    shutil.rmtree(results.local_path(execution.fragment))
    assert "the results store lacks what was published" in here("gc", "--yes", code=1).out
    assert here("gc", "--json", "--status", "stopped").json["lost"] == []  # as it is called by now


@pytest.mark.parametrize(("answer", "removed"), [("y", True), ("n", False), ("", False)])
def test_gc_asks_on_a_terminal(
    here: Here, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, answer: str, removed: bool
) -> None:
    execution = committed(workspace)
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        said = here("gc")
    os.close(ours)
    assert said.err.startswith("remove it? [y/N]\n")
    assert execution.output_directory.exists() == (not removed)


def test_abort_recover_and_reingest(here: Here, workspace: Workspace) -> None:
    execution, uploaded, cut_off = ran(workspace), committed(workspace), in_state(workspace, "running")
    assert here("abort", execution.fragment, "--reason", "no use").out == f"aborted  {execution.fragment}\n"
    assert (execution.status, execution.row.reason) == ("aborted", "no use")
    assert "is uploaded and cannot become aborted" in here("abort", uploaded.fragment, code=1).err
    assert "name the executions" in here("abort", code=2).err
    assert here("recover", "--json").json["items"] == [{"fragment": cut_off.fragment}]
    assert "nothing was recovered" in here("recover").err
    (new,) = (each["fragment"] for each in here("reingest", uploaded.fragment, "--json").json["items"])
    assert workspace.catalog.execution(new).status == "uploaded"
    assert "has no published set" in here("reingest", execution.fragment, code=4).err


def test_recover_of_other_machines_needs_an_age(here: Here, workspace: Workspace) -> None:
    execution = in_state(workspace, "running")
    change: Any = {"host": "not-" + host_name(), "pid": gone_pid()}
    workspace.catalog.claims.transition(execution.fragment, allowed_from=("running",), to="running", **change)
    assert "nothing was recovered" in here("recover", "--older-than", "1d").err
    time.sleep(0.01)
    assert f"recovered  {execution.fragment}" in here("recover", "--older-than", "0.001s").out


# -- the catalog ---------------------------------------------------------------------------------------------------


def test_db_tells_and_upgrades_the_schema(here: Here, tmp_path: Path) -> None:
    here("init")
    assert "empty: the first use will set it up" in here("db", "check").out
    assert not (tmp_path / "catalog.db").exists()
    assert here("db", "upgrade", "--json").json["state"] == "current"
    assert "current: ready" in here("db", "check", "--catalog", "catalog.db").out
    with sqlite3.connect(tmp_path / "catalog.db") as database:
        database.execute("UPDATE catalog_version SET version_num = '9999'")
    assert "a newer emdstore made it" in here("db", "check", code=1).out
    for command in (("db", "upgrade"), ("list",), ("commit", "--pending"), ("gc",)):
        assert "a newer emdstore made it" in here(*command, code=2).err


@pytest.mark.parametrize(
    "command", ["list", "commit --pending", "gc", "recover", "run --provider p --diagnostic d -- true"]
)
def test_a_workspace_that_cannot_be_used_is_wrong_configuration(here: Here, tmp_path: Path, command: str) -> None:
    assert "`emdstore init` writes one" in here(*command.split(), code=2).err
    here("init")
    (tmp_path / "emdstore.toml").write_text("scratch = 3")
    assert "scratch is str, not 3" in here(*command.split(), code=2).err
    (tmp_path / "emdstore.toml").unlink()
    here("init", "--catalog", "no-such-folder/catalog.db")
    assert "check that the folder exists" in here(*command.split(), code=2).err
    assert not (tmp_path / "scratch").exists()


def test_two_workspaces_on_one_catalog_with_different_results_are_refused(
    here: Here, workspace: Workspace, tmp_path: Path
) -> None:
    ran(workspace)
    here("init", "other", "--catalog", tmp_path / "catalog.db")
    said = here("commit", "--pending", "--config", "other", code=2)
    assert f"belongs to the results store {tmp_path}/results, not to {tmp_path}/other/results" in said.err


def test_every_command_takes_json_and_tells_its_options(here: Here) -> None:
    commands = ["init", "run", "commit", "list", "show", "abort", "recover", "reingest", "gc"]
    for command in (*([each] for each in commands), ["db", "check"], ["db", "upgrade"]):
        help_text = here(*command, "--help").out
        assert "--json" in help_text
        assert (command == ["init"]) or "--config" in help_text
    overview = here("--help").out
    assert all(command in overview for command in (*commands, "db"))


# -- a configuration that holds a password -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "catalog",
    ["postgresql://loader:{secret}@127.0.0.1:1/x", "postgresql://loader@127.0.0.1:1/x?password={secret}"],
    ids=["userinfo", "query"],
)
def test_a_file_with_a_password_is_its_owners_alone_and_an_open_one_is_warned_of(
    here: Here, tmp_path: Path, catalog: str
) -> None:
    secret = "gr33n-Kettle"
    before = os.umask(0o022)
    try:
        said = here("init", "new", "--catalog", catalog.format(secret=secret))
        here("init", "plain")
    finally:
        os.umask(before)
    file = tmp_path / "new" / "emdstore.toml"
    assert secret in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "plain" / "emdstore.toml").stat().st_mode) == 0o644
    closed = here("list", "--config", "new", code=3)
    assert "chmod 600" not in closed.err
    file.chmod(0o640)
    opened = here("list", "--config", "new", code=3)
    assert opened.err.count(f"chmod 600 {file}") == 1
    assert secret not in said.out + said.err + closed.out + closed.err + opened.out + opened.err
