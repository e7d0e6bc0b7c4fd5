"""A run: its folder, its log, what it adds, and how it ends."""

# ruff: noqa: PT012, T201 - blocks that print and raise are what is tested

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest
from tests.executions.runs import IDENTITY, SET, again, files_in, ran, snapshot, work
from tests.sets.examples import FAILURE, SUCCESS, encode, metric_bundle, put, small_run

from emdstore.errors import (
    ArtifactNotFoundError,
    BundleError,
    DemotionRefusedError,
    InvalidKeyError,
    InvalidTransitionError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.executions.execution import Execution
from emdstore.executions.starting import materialize_execution
from emdstore.executions.workspace import Workspace
from emdstore.sets.record import ExecutionRecord, read_record
from emdstore.sets.result import ExecutionResult
from emdstore.stores import LocalArtifactStore


def record_of(execution: Execution) -> ExecutionRecord:
    record = read_record(LocalArtifactStore(execution.output_directory))
    assert record is not None
    return record


def result_of(execution: Execution) -> ExecutionResult:
    result = record_of(execution).result
    assert result is not None
    return result


def log_of(execution: Execution) -> str:
    return (execution.output_directory / "out.log").read_text()


# -- from start to stop --------------------------------------------------------------------------------------------


def test_the_record_in_scratch_grows_with_the_run(workspace: Workspace) -> None:
    execution = workspace.start_execution(**IDENTITY)
    created = record_of(execution)
    assert {name: getattr(created, name) for name in IDENTITY} == IDENTITY
    assert (created.fragment, created.started_at, created.result) == (execution.fragment, None, None)
    with execution as entered:
        assert entered is execution
        running = record_of(execution)
        assert (running.host, running.pid, running.result) == (execution.row.host, os.getpid(), None)
    stopped = record_of(execution)
    assert stopped.result == ExecutionResult(successful=True, output_directory=str(execution.output_directory))
    row = execution.row
    assert (row.created_at, row.started_at, row.stopped_at) == (
        created.created_at,
        running.started_at,
        stopped.stopped_at,
    )
    assert created.created_at < running.started_at < stopped.stopped_at  # type: ignore[operator]
    assert (stopped.status, stopped.artifacts) == (None, ())


def test_leaving_the_block_ships_nothing(workspace: Workspace) -> None:
    execution = ran(workspace)
    assert execution.status == "stopped"
    assert list(workspace.results.iter_keys()) == []
    assert execution.row.artifacts == 0


def test_a_started_execution_can_be_run_by_another_handle(workspace: Workspace) -> None:
    started = workspace.start_execution(**IDENTITY)
    with again(workspace, started) as execution:
        work(execution)
    assert started.status == "stopped"
    with pytest.raises(InvalidTransitionError, match="is stopped and cannot become running: commit it"), started:
        raise AssertionError("the block must not be entered")


def test_a_result_given_in_the_block_is_the_outcome(workspace: Workspace) -> None:
    given = ExecutionResult(successful=True, metric_bundle_filename="mine.json", output_directory="/where/it/ran")
    with workspace.start_execution(**IDENTITY) as execution:
        execution.stop(given)
        assert execution.status == "stopped"
    assert result_of(execution) == given


def test_a_result_of_another_framework_is_taken_as_it_is(workspace: Workspace) -> None:
    theirs: Any = SimpleNamespace(
        successful=True,
        metric_bundle_filename=PurePosixPath("diagnostic.json"),
        output_bundle_filename=Path("output.json"),
        series_filename=None,
        definition=SimpleNamespace(output_directory=Path("/their/place")),
    )
    with workspace.start_execution(**IDENTITY) as execution:
        execution.stop(theirs)
    assert result_of(execution) == ExecutionResult(
        successful=True,
        metric_bundle_filename="diagnostic.json",
        output_bundle_filename="output.json",
        output_directory="/their/place",
    )


def test_bundles_of_the_usual_names_make_the_result(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        put(LocalArtifactStore(execution.output_directory), {"diagnostic.json": b"{}", "series.json": b"[]"})
    result = result_of(execution)
    assert (result.metric_bundle_filename, result.output_bundle_filename) == ("diagnostic.json", None)
    assert (result.series_filename, result.successful) == ("series.json", True)


# -- the log -------------------------------------------------------------------------------------------------------


def test_what_is_printed_and_logged_is_in_the_log_and_still_shown(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        print("printed (°C)")
        print("to stderr", file=sys.stderr)
        logging.getLogger("some.diagnostic").info("logged %s", "lazily")
        logging.getLogger("some.diagnostic").debug("too quiet")
        threading.Thread(target=lambda: print("from a thread")).start()
        time.sleep(0.05)
    log = log_of(execution)
    assert all(text in log for text in ("printed (°C)\n", "to stderr\n", "from a thread\n"))
    assert re.search(r"INFO some\.diagnostic: logged lazily\n", log)
    assert "too quiet" not in log
    shown = capsys.readouterr()
    assert "printed (°C)" in shown.out
    assert "to stderr" in shown.err


def test_after_the_block_nothing_more_goes_into_the_log(workspace: Workspace) -> None:
    level, handlers, streams = logging.getLogger().level, logging.getLogger().handlers[:], (sys.stdout, sys.stderr)
    execution = ran(workspace)
    assert (logging.getLogger().level, logging.getLogger().handlers) == (level, handlers)
    assert (sys.stdout, sys.stderr) == streams
    before = log_of(execution)
    print("later")
    logging.getLogger("late").error("later")
    assert log_of(execution) == before


@pytest.mark.parametrize("name", ["out.log", "diagnostic.json"])
def test_nothing_is_written_through_a_link_that_lies_in_scratch(
    workspace: Workspace, tmp_path: Path, name: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    execution = workspace.start_execution(**IDENTITY)
    (execution.output_directory / name).symlink_to(victim)
    with pytest.raises((OSError, BundleError)), execution:
        work(execution)
    assert victim.read_bytes() == b"precious"
    assert (execution.status, result_of(execution).successful) == ("stopped", False)


def test_a_log_that_becomes_a_link_in_the_run_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    with pytest.raises(ZeroDivisionError), workspace.start_execution(**IDENTITY) as execution:
        (execution.output_directory / "out.log").unlink()
        (execution.output_directory / "out.log").symlink_to(victim)
        print("on it goes")
        raise ZeroDivisionError
    assert victim.read_bytes() == b"precious"
    execution.commit_output_assets()
    assert (execution.status, execution.row.failure) == ("failed", "system")  # it has no log of its own any more
    assert b"precious" not in b"".join(map(workspace.results.read_bytes, workspace.results.iter_keys()))


# -- how it fails --------------------------------------------------------------------------------------------------

THE_SYSTEMS = (OSError("disk"), FileNotFoundError("gone"), MemoryError(), KeyboardInterrupt(), SystemExit(1))
ITS_OWN = (ValueError("no such variable"), ZeroDivisionError(), AssertionError("impossible"), BundleError("not valid"))


@pytest.mark.parametrize(
    "error", [*THE_SYSTEMS, StoreUnavailableError("busy"), *ITS_OWN], ids=lambda e: type(e).__name__
)
def test_an_exception_is_the_outcome_and_is_raised_again(workspace: Workspace, error: BaseException) -> None:
    execution = workspace.start_execution(**IDENTITY)
    with pytest.raises(type(error)) as caught, execution:
        print("so far so good")
        raise error
    assert caught.value is error
    retryable = not isinstance(error, ITS_OWN_KINDS)
    assert (result_of(execution).successful, result_of(execution).retryable) == (False, retryable)
    assert (execution.status, execution.row.retryable) == ("stopped", retryable)
    log = log_of(execution)
    assert log.startswith("so far so good\nTraceback (most recent call last):\n")
    assert type(error).__name__ in log
    assert f"line {caught.traceback[0].lineno + 1}" in log
    execution.commit_output_assets()
    row = execution.row
    assert (row.status, row.failure) == ("failed", "system" if retryable else "diagnostic")
    assert row.group_dirty == retryable
    assert list(workspace.results.iter_keys(execution.fragment)) == [
        f"{execution.fragment}/{name}" for name in ("execution.json", "out.log")
    ]


ITS_OWN_KINDS = tuple(type(error) for error in ITS_OWN)


def test_ctrl_c_is_a_failure_of_the_system(workspace: Workspace) -> None:
    with pytest.raises(KeyboardInterrupt), workspace.start_execution(**IDENTITY) as execution:
        signal.raise_signal(signal.SIGINT)
    assert (execution.status, execution.row.retryable) == ("stopped", True)


def test_what_a_failed_run_added_is_not_shipped_and_cannot_get_in_the_way(workspace: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), workspace.start_execution(**IDENTITY) as execution:
        execution.add_scalar(1.0, region="a", model="x", metric="m")
        execution.add_scalar(1.0, region="b", model="y", metric="n")  # with the first, not a valid bundle
        raise ZeroDivisionError
    execution.commit_output_assets()
    assert (execution.status, execution.row.scalars) == ("failed", 0)
    assert not (execution.output_directory / "diagnostic.json").exists()


def test_bundles_that_cannot_be_written_are_the_runs_own_failure(workspace: Workspace) -> None:
    with (
        pytest.raises(BundleError, match="a value for every combination"),
        workspace.start_execution(**IDENTITY) as execution,
    ):
        execution.add_scalar(1.0, region="a", model="x", metric="m")
        execution.add_scalar(1.0, region="b", model="y", metric="n")
    assert (execution.status, execution.row.retryable) == ("stopped", False)
    assert "BundleError: diagnostic.json: " in log_of(execution)


def test_an_exception_after_the_outcome_changes_nothing_of_it(workspace: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), workspace.start_execution(**IDENTITY) as execution:
        work(execution)
        execution.stop()
        raise ZeroDivisionError
    assert result_of(execution).successful
    assert "ZeroDivisionError" in log_of(execution)


def test_an_execution_that_is_aborted_in_its_block_stays_aborted(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        again(workspace, execution).abort("no use")
    assert (execution.status, execution.row.reason) == ("aborted", "no use")


def test_a_scratch_folder_that_vanishes_in_the_run_is_named(workspace: Workspace) -> None:
    with (
        pytest.raises(ArtifactNotFoundError, match=r"the scratch folder of execution .* is gone; abort it"),
        workspace.start_execution(**IDENTITY) as execution,
    ):
        shutil.rmtree(execution.output_directory)
    execution.abort()
    assert execution.status == "aborted"


# -- what it adds --------------------------------------------------------------------------------------------------


def test_what_is_added_is_in_the_bundles_when_the_run_stops(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        folder = LocalArtifactStore(execution.output_directory)
        put(folder, {"a.png": b"", "b.nc": b"", "c.html": b""})
        assert execution.add_plot("a.png", long_name="A", description="First", dimensions={"d": "1"}) == "a.png"
        assert execution.add_data(execution.output_directory / "b.nc", long_name="B", name="the data") == "b.nc"
        assert execution.add_html("c.html", long_name="C") == "c.html"
        execution.add_scalar(1.5, dimensions={"metric": "bias"}, attributes={"units": "K"})
        execution.add_series([1.0], ["a"], index_name="i", dimensions={"metric": "bias"}, attributes={"units": "K"})
    output = json.loads(folder.read_bytes("output.json"))
    assert output["plots"]["a.png"] == {
        "filename": "a.png", "long_name": "A", "description": "First", "dimensions": {"d": "1"},
    }  # fmt: skip
    assert (output["data"]["the data"]["filename"], list(output["html"])) == ("b.nc", ["c.html"])
    assert json.loads(folder.read_bytes("diagnostic.json"))["RESULTS"] == {"attributes": {"units": "K"}, "bias": 1.5}
    assert json.loads(folder.read_bytes("series.json"))[0]["values"] == [1.0]


def test_the_writer_itself_is_as_good_as_its_methods_here(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        execution.writer.add_scalar(1.0, metric="bias")
    execution.commit_output_assets()
    assert [row.value for row in workspace.catalog.scalars()] == [1.0]


def test_what_was_added_is_also_there_for_a_result_that_is_given(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        execution.add_scalar(1.0, metric="bias")
        execution.stop(ExecutionResult(successful=True, metric_bundle_filename="diagnostic.json"))
    workspace.commit_pending_executions()
    assert [row.value for row in workspace.catalog.scalars()] == [1.0]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("nope.png", ArtifactNotFoundError),
        ("../other/a.png", InvalidKeyError),
        ("/etc/passwd", InvalidKeyError),
        ("link.png", UnsafePathError),
        ("execution.json", (InvalidKeyError, BundleError)),
    ],
)
def test_what_cannot_be_added_is_refused_at_once(workspace: Workspace, tmp_path: Path, path: str, error: Any) -> None:
    (tmp_path / "outside.png").write_bytes(b"")
    with workspace.start_execution(**IDENTITY) as execution:
        (execution.output_directory / "link.png").symlink_to(tmp_path / "outside.png")
        with pytest.raises(error):
            execution.add_plot(path, long_name="A")
        execution.add_scalar(1.0, metric="bias")
    execution.commit_output_assets()
    assert execution.status == "uploaded"


def test_two_different_files_under_one_name_are_refused_before_anything_is_written(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        put(LocalArtifactStore(execution.output_directory), {"a.png": b"a", "b.png": b"b"})
        execution.add_plot("a.png", long_name="A", name="map")
        before = files_in(execution.output_directory)
        with pytest.raises(BundleError, match=r"'map' is already 'a\.png', not 'b\.png'"):
            execution.add_plot("b.png", long_name="B", name="map")
        assert files_in(execution.output_directory) == before


@pytest.mark.parametrize("name", ["diagnostic.json", "output.json", "series.json"])
def test_bundles_of_another_writer_are_not_written_over(workspace: Workspace, name: str) -> None:
    before = small_run()[name]
    with (
        pytest.raises(BundleError, match=f"'{name}' .* is there already, written by something else"),
        workspace.start_execution(**IDENTITY) as execution,
    ):
        execution.add_scalar(1.0, metric="bias")
        put(LocalArtifactStore(execution.output_directory), {name: before})
    assert (execution.output_directory / name).read_bytes() == before
    assert (execution.status, result_of(execution).successful) == ("stopped", False)


def test_a_resumed_execution_does_not_write_over_the_bundles_of_its_run(workspace: Workspace) -> None:
    execution = ran(workspace)
    before = snapshot(workspace)
    resumed = again(workspace, execution)
    with pytest.raises(BundleError, match="is there already"):
        resumed.add_scalar(2.0, metric="bias")
    assert snapshot(workspace) == before
    resumed.commit_output_assets()
    assert execution.row.scalars == 2


# -- programs ------------------------------------------------------------------------------------------------------


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_a_program_is_run_in_its_output_directory_and_its_output_is_the_log(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = encode(metric_bundle()).decode()
    script = "echo out; echo err >&2; printf '(°C) without an end'; "
    script += f"printf '%s' '{bundle}' > $EMDSTORE_OUTPUT_DIR/diagnostic.json"
    with workspace.start_execution(**IDENTITY) as execution:
        assert execution.run(sh(script)) == 0
        assert execution.status == "stopped"
    assert log_of(execution) == "out\nerr\n(°C) without an end"
    assert "out\nerr\n" in capfd.readouterr().out
    assert result_of(execution).metric_bundle_filename == "diagnostic.json"
    execution.commit_output_assets()
    assert (execution.status, execution.row.scalars) == ("uploaded", 3)


def test_a_program_gets_the_environment_and_no_input(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        execution.run(sh('cat; echo "$MORE $HOME" > $EMDSTORE_OUTPUT_DIR/seen'), env={"MORE": "yes"})
    assert (execution.output_directory / "seen").read_text() == f"yes {os.environ['HOME']}\n"


def test_bytes_that_are_no_text_are_logged_as_what_they_are(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        execution.run([sys.executable, "-c", "import os; os.write(1, b'\\xff\\xfe ' + 'é'.encode()[:1])"])
    assert log_of(execution) == "\\xff\\xfe \\xc3"


def test_much_output_without_a_line_end_comes_through(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        execution.run([sys.executable, "-c", "print('é' * 300_000, end='')"])
    assert log_of(execution) == "é" * 300_000


@pytest.mark.parametrize(
    ("script", "code", "retryable", "failure"),
    [
        ("exit 3", 3, False, "diagnostic"),
        ("exit 128", 128, False, "diagnostic"),
        ("kill -KILL $$", 137, True, "system"),
        ("kill -TERM $$", 143, True, "system"),
        ("exit 137", 137, True, "system"),  # how a shell tells that what it ran was killed
    ],
)
def test_how_a_program_ends_is_the_outcome(
    workspace: Workspace, script: str, code: int, retryable: bool, failure: str
) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        assert execution.run(sh(f"echo begun; {script}")) == code
    assert log_of(execution) == f"begun\nsh ended with exit code {code}\n"
    execution.commit_output_assets()
    row = execution.row
    assert (row.status, row.failure, row.retryable, row.group_dirty) == ("failed", failure, retryable, retryable)


def test_a_program_that_cannot_be_started_is_a_failure_of_the_system(workspace: Workspace) -> None:
    with pytest.raises(FileNotFoundError), workspace.start_execution(**IDENTITY) as execution:
        execution.run(["no-such-program"])
    assert (execution.status, execution.row.retryable) == ("stopped", True)
    assert "no-such-program" in log_of(execution)


def test_a_program_that_leaves_no_metric_bundle_is_no_success(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        execution.run(["true"])
    execution.commit_output_assets()
    assert (execution.status, execution.row.reason) == (
        "failed",
        "the run says it succeeded but names no metric bundle",
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_is_passed_on_to_the_program(workspace: Workspace, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 0' {name}; touch $EMDSTORE_OUTPUT_DIR/ready; while :; do sleep 0.05; done"
    with workspace.start_execution(**IDENTITY) as execution:
        sender = threading.Thread(target=_send_when_there, args=(execution.output_directory / "ready", number))
        sender.start()
        assert execution.run(sh(script)) == 0
        sender.join()
    assert log_of(execution) == f"got {name}\n"
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("output", ["", "exec >/dev/null 2>&1; "], ids=["silent", "output-closed"])
def test_a_signal_that_interrupts_no_wait_is_passed_on_all_the_same(workspace: Workspace, output: str) -> None:
    # Another thread gets it, as happens to one that comes just before the main thread begins to wait.
    script = f"{output}trap 'exit 3' USR1; touch $EMDSTORE_OUTPUT_DIR/ready; while :; do sleep 0.05; done"

    def send(file: Path) -> None:
        wait_for(file)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    with workspace.start_execution(**IDENTITY) as execution:
        sender = threading.Thread(target=send, args=(execution.output_directory / "ready",))
        sender.start()
        assert execution.run(sh(script)) == 3
        sender.join()


def test_ctrl_c_ends_the_program_and_the_run(workspace: Workspace) -> None:
    script = "echo $$; touch $EMDSTORE_OUTPUT_DIR/ready; exec sleep 60"
    with pytest.raises(KeyboardInterrupt), workspace.start_execution(**IDENTITY) as execution:
        sender = threading.Thread(target=_send_when_there, args=(execution.output_directory / "ready", signal.SIGINT))
        sender.start()
        execution.run(sh(script))
    sender.join()
    assert (execution.status, execution.row.retryable) == ("stopped", True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(log_of(execution).split()[0]), 0)


def test_ctrl_c_loses_nothing_that_the_program_printed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.read

    def read_as_ctrl_c_comes(*given: int) -> bytes:
        data = read(*given)
        if data == b"printed\n":
            os.kill(os.getpid(), signal.SIGINT)
        return data

    monkeypatch.setattr("emdstore.executions.program.os.read", read_as_ctrl_c_comes)
    with pytest.raises(KeyboardInterrupt), workspace.start_execution(**IDENTITY) as execution:
        execution.run(sh("echo printed; exec sleep 60"))
    assert log_of(execution).startswith("printed\n")


def _send_when_there(file: Path, number: signal.Signals) -> None:
    wait_for(file)
    os.kill(os.getpid(), number)


def wait_for(file: Path) -> None:
    give_up = time.monotonic() + 20
    while not file.exists() and time.monotonic() < give_up:
        time.sleep(0.01)


# -- materialize_execution -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [True, False])
def test_materialize_execution_joins_the_fragment_to_both_stores(workspace: Workspace, by_name: bool) -> None:
    fragment = "pmp/enso_tel/historical/23"
    put(workspace.scratch, small_run(), fragment)
    outcome = materialize_execution(workspace, fragment if by_name else Execution(workspace, fragment), SUCCESS)
    assert outcome.log_copied
    assert sorted(workspace.results.iter_keys()) == sorted(f"{fragment}/{each.key}" for each in outcome.artifacts)


def test_the_set_is_what_work_leaves(workspace: Workspace) -> None:
    execution = ran(workspace)
    outcome = materialize_execution(workspace, execution, result_of(execution))
    assert tuple(each.key for each in outcome.artifacts) == SET
    with pytest.raises(DemotionRefusedError):
        materialize_execution(workspace, execution, FAILURE)
