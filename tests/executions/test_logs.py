"""The log of a run takes what it can, and never decides how the run ends."""

from __future__ import annotations

import errno
import logging
import os
import signal
from pathlib import Path

import pytest
from tests.children import start_python
from tests.executions.runs import IDENTITY

from emdstore.errors import StoreError
from emdstore.executions import execution as execution_module
from emdstore.executions.logs import LogFile, capture_log
from emdstore.executions.scratch import write_scratch_record
from emdstore.executions.workspace import Workspace
from emdstore.sets.record import ExecutionRecord


def test_what_a_full_disk_does_not_take_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with LogFile(os.open("/dev/full", os.O_WRONLY), "out.log") as log:
        assert log.write("lost\n") == 5
        log.flush()
    assert "the log out.log lacks 5 bytes" in caplog.text
    assert os.strerror(errno.ENOSPC) in caplog.text


def test_a_gap_is_told_in_the_log_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "out.log", os.write
    full = False

    def written(fd: int, data: bytes) -> int:
        if full:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return write(fd, data)

    monkeypatch.setattr(os, "write", written)
    with LogFile(os.open(path, os.O_WRONLY | os.O_CREAT), str(path)) as log:
        log.write("before\n")
        full = True
        log.write("not ")
        log.write("this\n")
        full = False
        log.write("after\n")
    assert path.read_text() == "before\n\n[9 bytes of this log could not be written]\nafter\n"


def test_a_log_that_cannot_be_made_is_an_error_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "out.log").mkdir()
    with pytest.raises(StoreError, match=r"the log '.*out\.log' cannot be written"), capture_log(tmp_path / "out.log"):
        pass


RUN = """
import os, resource, sys
from pathlib import Path
from emdstore import Workspace
here = Path(sys.argv[1])
workspace = Workspace(scratch=here / "ws-scratch", results=here / "ws-results", catalog=here / "catalog.db")
with workspace.start_execution(provider="pmp", diagnostic="enso_tel") as execution:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    code = execution.run([sys.executable, "-c", "for n in range(60): print('x' * 10_000, flush=True)"])
sys.exit(code)
"""


def test_a_program_whose_log_is_over_quota_comes_to_its_own_end(workspace: Workspace, tmp_path: Path) -> None:
    runner = start_python(RUN, tmp_path)
    _, said = runner.communicate(timeout=60)
    (row,) = workspace.list_executions()
    assert (runner.returncode, row.status, row.retryable) == (0, "stopped", False)
    assert "out.log lacks" in said
    assert 0 < (workspace.scratch.local_path(row.fragment) / "out.log").stat().st_size <= 400_000


def test_an_outcome_that_could_not_be_recorded_at_once_is_not_turned_into_a_failure(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True

    def written(scratch: object, record: ExecutionRecord) -> None:
        nonlocal full
        if record.result is not None and full:
            full = False
            raise StoreError("no space left")
        write_scratch_record(workspace.scratch, record)

    monkeypatch.setattr(execution_module, "write_scratch_record", written)
    execution = workspace.start_execution(**IDENTITY)
    with pytest.raises(StoreError, match="no space left"), execution:
        execution.add_scalar(1.0, metric="rmse")
    assert (execution.status, execution.row.retryable) == ("stopped", False)
    assert workspace.commit_pending_executions().statuses == {execution.fragment: "uploaded"}


@pytest.mark.parametrize("first", [None, KeyboardInterrupt], ids=["at its end", "at once after another"])
def test_ctrl_c_while_the_outcome_is_recorded_waits_until_it_is(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, first: type[BaseException] | None
) -> None:
    def written(scratch: object, record: ExecutionRecord) -> None:
        if record.result is not None:
            signal.raise_signal(signal.SIGINT)
        write_scratch_record(workspace.scratch, record)

    monkeypatch.setattr(execution_module, "write_scratch_record", written)
    execution = workspace.start_execution(**IDENTITY)

    def run() -> None:
        with execution:
            if first is not None:
                raise first

    with pytest.raises(KeyboardInterrupt):
        run()
    assert (execution.status, execution.row.retryable) == ("stopped", first is not None)


def test_a_disk_that_stays_full_leaves_a_run_that_can_be_recovered(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(scratch: object, record: ExecutionRecord) -> None:
        if record.result is not None:
            raise StoreError("no space left")
        write_scratch_record(workspace.scratch, record)

    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(execution_module, "write_scratch_record", full)
        with pytest.raises(StoreError, match="no space left"), workspace.start_execution(**IDENTITY) as execution:
            pass
    assert "could not be recorded (no space left); recover it" in caplog.text
    assert execution.status == "running"
    assert workspace.recover() == (execution.fragment,)
    assert workspace.commit_pending_executions().statuses == {execution.fragment: "failed"}
