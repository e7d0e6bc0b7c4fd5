"""Who is alive: claims and runs belong to processes, whatever the clocks say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from tests.children import start_python
from tests.executions.crash import Before, Child, Linger, commit
from tests.executions.runs import IDENTITY, committed, in_state, owner_that_is_gone, process_that_is_gone, ran
from tests.servers.postgres import KeptDatabase

from emdstore import system
from emdstore.catalog import Catalog
from emdstore.catalog.schema import execution as executions
from emdstore.cli.app import run
from emdstore.errors import ClaimHeldError, RecordError
from emdstore.executions.process import host_name, is_gone, lease_of, new_owner, retire, run_lives
from emdstore.executions.scratch import read_scratch_record, write_scratch_record
from emdstore.executions.without_catalog import publish_pending_executions
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.stores import LocalArtifactStore

HOUR = timedelta(hours=1)
LEASE = 1.5


# -- processes -----------------------------------------------------------------------------------------------------


def changed(process: str, **parts: str) -> str:
    """Return what another process would be known by, of another boot, namespace, number or start."""
    names = ("boot", "namespace", "pid", "started")
    return ":".join(parts.get(name, part) for name, part in zip(names, process.split(":"), strict=True))


def test_this_process_is_alive_and_one_that_ended_is_not() -> None:
    here = system.current().whoami(None)
    assert system.current().is_alive(here) is True
    assert system.current().is_alive(process_that_is_gone()) is False


def test_a_process_that_ended_is_gone_also_while_nobody_asks_how_it_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    known = system.current().whoami(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert system.current().is_alive(known) is False
    child.wait()


def test_another_process_of_the_same_number_is_another_one() -> None:
    here = system.current().whoami(None)
    assert system.current().is_alive(changed(here, started="1")) is False
    assert system.current().is_alive(changed(here, started="1"), group=True) is False


@pytest.mark.parametrize("part", ["boot", "namespace"])
def test_of_another_boot_or_container_nothing_is_known(part: str) -> None:
    assert system.current().is_alive(changed(process_that_is_gone(), **{part: "4026"})) is None


@pytest.mark.parametrize("name", ["", "host:77:1:abcd", "elsewhere", "a:b:c:d:e:f"])
def test_a_name_that_says_nothing_is_nobody_who_is_gone(name: str) -> None:
    assert is_gone(name) is False


def test_an_owner_of_this_process_is_gone_when_its_work_has_ended() -> None:
    owner = new_owner(60)
    assert (is_gone(owner), lease_of(owner)) == (False, 60)
    retire(owner)
    assert is_gone(owner)
    assert is_gone(owner_that_is_gone())


def test_a_group_lives_as_long_as_any_of_its_processes() -> None:
    script = "import os, time; print(os.fork() or 0, flush=True) or time.sleep(60)"
    first = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, process_group=0)
    assert first.stdout is not None
    first.stdout.readline()
    known = system.current().whoami(first.pid)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    try:
        assert system.current().is_alive(known) is False
        assert system.current().is_alive(known, group=True) is True
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.stdout.close()
    deadline = time.monotonic() + 10
    while system.current().is_alive(known, group=True) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert system.current().is_alive(known, group=True) is False


def test_whoever_ran_before_this_machine_was_started_anew_is_gone() -> None:
    before = changed(system.current().whoami(None), boot="the-boot-before")
    owner = f"{host_name()}:{before}:abcd"
    assert run_lives(owner, before, host_name(), 1) is False
    assert run_lives(owner, before, "elsewhere", 1) is None
    assert not is_gone(owner)  # of a claim: its lease decides, which is not long


# -- claims --------------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path, empty_catalog: Path, database: KeptDatabase | None) -> Iterator[Workspace]:
    """A workspace for several processes, on both databases."""
    url = tmp_path / "catalog.db" if database is None else database.url
    with Workspace(
        scratch=tmp_path / "scratch", results=tmp_path / "results", catalog=Catalog(url), lease_seconds=LEASE
    ) as workspace:
        yield workspace


@pytest.fixture
def owner(shared: Workspace) -> Iterator[Child]:
    """A process that takes its time to commit the one execution, and renews its claim meanwhile."""
    fragment = ran(shared).fragment
    shared.catalog.release_connections()
    with Child(commit, shared, fragment, at=Before("os.rename"), action=Linger(60)) as child:
        deadline = time.monotonic() + 30
        while shared.catalog.execution(fragment).owner is None and time.monotonic() < deadline:
            time.sleep(0.01)
        yield child


def set_lease(workspace: Workspace, fragment: str, expires: datetime) -> None:
    """Have a claim end at some time: what a jump of the database's clock looks like to whoever looks at it."""
    with workspace.catalog._database.writing() as connection:
        change = sa.update(executions).where(executions.c.fragment == fragment)
        connection.execute(change.values(lease_expires=expires))


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_living_owner_keeps_its_claim_when_the_clock_jumps_and_a_dead_one_loses_it(
    shared: Workspace, owner: Child, jump: timedelta
) -> None:
    (row,) = shared.list_executions()
    assert row.lease_expires is not None
    set_lease(shared, row.fragment, row.lease_expires - jump)
    with pytest.raises(ClaimHeldError):
        commit(shared, row.fragment)
    set_lease(shared, row.fragment, row.lease_expires - jump)
    assert shared.commit_pending_executions().statuses == {}
    os.kill(owner.pid, signal.SIGKILL)
    owner.end()
    assert shared.commit_pending_executions().statuses == {row.fragment: "uploaded"}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_process_whose_clock_is_an_hour_ahead_takes_no_claim_from_a_living_owner(
    shared: Workspace, owner: Child
) -> None:
    (row,) = shared.list_executions()
    ahead = attrs.evolve(system.REAL, now=lambda: system.REAL.now() + HOUR)
    with system.using(ahead), pytest.raises(ClaimHeldError):
        # The owner's renewals, an hour behind, never look alive to this clock; but they come.
        commit(shared, row.fragment)
    assert shared.catalog.execution(row.fragment).owner == row.owner


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(
    ("left", "lease", "taken"),
    [(-1, LEASE, True), (3600, 3600, False), (3600, LEASE, True)],
    ids=["lapsed", "in time", "of a clock that was set back since"],
)
def test_in_another_container_the_lease_decides(shared: Workspace, left: float, lease: float, taken: bool) -> None:
    fragment = ran(shared).fragment
    owner = f"box:{changed(process_that_is_gone(), namespace='4026531999')}:abcd/{lease}"
    shared.catalog.claims.claim(fragment, owner=owner, lease_seconds=left, allowed_from=("stopped",))
    if taken:
        commit(shared, fragment)
        assert shared.catalog.execution(fragment).status == "uploaded"
    else:
        with pytest.raises(ClaimHeldError, match="box:"):
            commit(shared, fragment)


def test_a_claim_of_an_older_emdstore_is_left_to_its_lease(shared: Workspace) -> None:
    fragment = ran(shared).fragment
    old = f"{host_name()}:{os.getpid()}:1700000000:abcd"
    shared.catalog.claims.claim(fragment, owner=old, lease_seconds=0.5, allowed_from=("stopped",))
    with pytest.raises(ClaimHeldError):
        commit(shared, fragment)
    time.sleep(0.5)
    commit(shared, fragment)


# -- runs ----------------------------------------------------------------------------------------------------------

RUN = """
import sys
from pathlib import Path
from typing import Any
from emdstore import Workspace
here = Path(sys.argv[1])
workspace = Workspace(scratch=here / "ws-scratch", results=here / "ws-results", catalog=here / "catalog.db")
with workspace.start_execution(provider="pmp", diagnostic="enso_tel") as execution:
    execution.run(["sh", "-c", sys.argv[2]])
"""

WORKER = "echo $$ > $EMDSTORE_OUTPUT_DIR/first; (echo > $EMDSTORE_OUTPUT_DIR/ready; exec sleep 60) & wait"


def started(tmp_path: Path, script: str, workspace: Workspace) -> tuple[subprocess.Popen[str], Path]:
    """Start a runner and wait until its program says that it is ready; return the folder, too."""
    runner = start_python(RUN, tmp_path, script)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := list(workspace.scratch.root.glob("*/*/*/*/ready")):
            record = read_scratch_record(workspace.scratch, fragment_of(workspace, found[0].parent))
            if record is not None and record.program is not None:
                return runner, found[0].parent
        time.sleep(0.01)
    raise TimeoutError("the program has not begun")


def fragment_of(workspace: Workspace, folder: Path) -> str:
    return folder.relative_to(workspace.scratch.root).as_posix()


def group_of(workspace: Workspace, folder: Path) -> str:
    record = read_scratch_record(workspace.scratch, fragment_of(workspace, folder))
    assert record is not None
    assert record.program is not None
    return record.program


def wait_for(what: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 10
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(what())


def test_a_run_whose_worker_outlives_its_runner_is_not_gone_until_the_worker_is(
    workspace: Workspace, tmp_path: Path
) -> None:
    runner, folder = started(tmp_path, WORKER, workspace)
    program, fragment = group_of(workspace, folder), fragment_of(workspace, folder)
    runner.kill()
    runner.communicate()
    assert wait_for(lambda: system.current().is_alive(program) is False)  # the first one is told, its worker is not
    assert workspace.recover() == ()
    assert workspace.commit_pending_executions().skipped == {}
    workspace.gc_executions(status=("running",), force=True)
    assert folder.is_dir()
    os.killpg(int(program.split(":")[2]), signal.SIGKILL)
    assert wait_for(lambda: system.current().is_alive(program, group=True) is False)
    assert "recover it" in workspace.commit_pending_executions().skipped[fragment]
    assert workspace.recover() == (fragment,)
    assert workspace.commit_pending_executions().statuses == {fragment: "failed"}


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(
    "number", [signal.SIGXCPU, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM]
)
def test_what_would_end_the_runner_ends_the_program_and_is_its_end(
    workspace: Workspace, tmp_path: Path, number: signal.Signals
) -> None:
    runner, folder = started(tmp_path, "echo > $EMDSTORE_OUTPUT_DIR/ready; exec sleep 60", workspace)
    program = group_of(workspace, folder)
    runner.send_signal(number)
    runner.communicate(timeout=30)
    assert system.current().is_alive(program, group=True) is False
    (row,) = workspace.list_executions()
    assert (row.status, row.retryable) == ("stopped", True)
    assert f"exit code {128 + number}" in (folder / "out.log").read_text()


def test_a_second_ctrl_c_ends_a_program_that_takes_no_notice_of_the_first(workspace: Workspace, tmp_path: Path) -> None:
    script = "trap '' INT TERM; echo > $EMDSTORE_OUTPUT_DIR/ready; while :; do sleep 0.1; done"
    runner, folder = started(tmp_path, script, workspace)
    program = group_of(workspace, folder)
    runner.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert system.current().is_alive(program)
    again = time.monotonic()
    runner.send_signal(signal.SIGINT)
    _, said = runner.communicate(timeout=30)
    assert time.monotonic() - again < 8  # a single one gives the program ten seconds
    assert "KeyboardInterrupt" in said
    assert wait_for(lambda: system.current().is_alive(program, group=True) is False)
    (row,) = workspace.list_executions()
    assert (row.status, row.retryable) == ("stopped", True)
    assert workspace.commit_pending_executions().statuses == {row.fragment: "failed"}


def test_what_a_program_leaves_in_the_background_is_known_when_the_run_has_stopped(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        execution.run(["sh", "-c", "sleep 60 > /dev/null 2>&1 & exit 0"])
    record = read_scratch_record(workspace.scratch, execution.fragment)
    assert record is not None
    assert record.program is not None
    os.killpg(int(record.program.split(":")[2]), signal.SIGKILL)
    published = committed(workspace)
    assert '"program": null' in (published.output_directory / "execution.json").read_text()


def test_whoever_looks_on_may_go_and_the_program_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    script = "echo > $EMDSTORE_OUTPUT_DIR/ready; for n in 1 2 3 4 5; do echo line $n; sleep 0.1; done"
    runner, folder = started(tmp_path, script, workspace)
    assert runner.stdout is not None
    runner.stdout.close()  # as `head` does
    runner.wait(30)
    assert (folder / "out.log").read_text().endswith("line 4\nline 5\n")
    (row,) = workspace.list_executions()
    assert (row.status, row.retryable) == ("stopped", False)


# -- runs that only scratch knows ----------------------------------------------------------------------------------


def cut_off(workspace: Workspace) -> str:
    """Return a run whose process is gone, and of which the catalog knows nothing."""
    fragment = in_state(workspace, "running").fragment
    record = read_scratch_record(workspace.scratch, fragment)
    assert record is not None
    row = workspace.catalog.execution(fragment)
    owner = owner_that_is_gone()
    write_scratch_record(
        workspace.scratch, attrs.evolve(record, owner=owner, host=row.host, pid=row.pid, started_at=row.started_at)
    )
    workspace.catalog.records.drop(fragment)
    return fragment


def test_a_lost_run_that_only_scratch_knows_is_named_recovered_and_published(workspace: Workspace) -> None:
    fragment = cut_off(workspace)
    report = publish_pending_executions(workspace)
    ((told, error),) = [(each.fragment, each.error) for each in report.errors]
    assert (told, type(error), report.ok) == (fragment, RecordError, False)
    assert "emdstore recover --no-catalog" in str(error)
    assert fragment in json.dumps(report.as_dict())
    assert workspace.recover() == (fragment,)
    assert workspace.recover() == ()
    assert publish_pending_executions(workspace).statuses == {fragment: "failed"}


def test_a_commit_of_all_that_waits_names_what_only_scratch_knows(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fragment = cut_off(workspace)
    for name in ("scratch", "results"):
        monkeypatch.setenv(f"EMDSTORE_{name.upper()}", str(getattr(workspace, name).root))
    monkeypatch.setenv("EMDSTORE_CATALOG", workspace.catalog.url)

    def commit() -> dict[str, Any]:
        capsys.readouterr()
        code = run(["commit", "--pending", "--json"])
        return {"code": code, **json.loads(capsys.readouterr().out)}

    lost = commit()
    assert (lost["code"], lost["errors"][0]["name"]) == (1, fragment)
    workspace.recover()
    waits = commit()
    assert (waits["code"], waits["errors"], waits["items"]) == (0, [], [])
    assert "replay" in waits["skipped"][fragment]
    publish_pending_executions(workspace)
    replay(workspace.results, workspace.catalog)
    assert commit()["skipped"] == {}


def test_a_run_of_another_machine_that_only_scratch_knows_is_named_as_what_may_still_run(workspace: Workspace) -> None:
    fragment = cut_off(workspace)
    record = read_scratch_record(workspace.scratch, fragment)
    assert record is not None
    elsewhere = f"node7:{changed(process_that_is_gone(), boot='other')}:abcd"
    write_scratch_record(workspace.scratch, attrs.evolve(record, owner=elsewhere, host="node7"))
    report = publish_pending_executions(workspace)
    assert report.errors == ()
    assert "on node7" in report.skipped[fragment]
    assert workspace.recover() == ()
    assert workspace.recover(older_than=timedelta(0)) == (fragment,)


def test_a_recovery_that_was_cut_off_says_once_what_happened(workspace: Workspace) -> None:
    fragment = cut_off(workspace)
    record = read_scratch_record(workspace.scratch, fragment)
    assert record is not None
    workspace.recover()
    write_scratch_record(workspace.scratch, record)  # the log was written, and the record was not
    workspace.recover()
    log = LocalArtifactStore(workspace.scratch.root).read_bytes(f"{fragment}/out.log")
    assert log.count(b"the run was cut off") == 1
