"""What surrounds commits: recovering runs that were cut off, ingesting again, cleaning up."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.children import start_python
from tests.distant import Counting
from tests.executions.runs import (
    IDENTITY,
    committed,
    files_in,
    gone_pid,
    in_state,
    ran,
    snapshot,
    work,
)
from tests.sets.examples import held, put, rows_of

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactRetainedError, ExecutionNotFoundError, IncompleteSetError, TransferError
from emdstore.executions.execution import Execution
from emdstore.executions.housekeeping import Removal
from emdstore.executions.process import host_name
from emdstore.executions.transitions import STATUSES
from emdstore.executions.without_catalog import publish_execution
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.sets.record import decode_record, encode_record, read_record
from emdstore.sets.result import ExecutionResult
from emdstore.sets.seal import open_set, standing_of
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore, scoped
from emdstore.testing import Fault, FaultyStore

pytestmark = pytest.mark.once

HOUR = timedelta(hours=1)


def age(path: Path, hours: float = 2) -> None:
    """Make a file or folder look as if nothing had happened to it for hours."""
    then = time.time() - hours * 3600
    os.utime(path, (then, then), follow_symlinks=False)


# -- cleaning up ---------------------------------------------------------------------------------------------------


def test_a_preview_tells_what_would_go_and_removes_nothing(workspace: Workspace) -> None:
    execution = committed(workspace)
    before = snapshot(workspace)
    files = [path.stat().st_size for path in execution.output_directory.rglob("*") if path.is_file()]
    preview = workspace.gc_executions(dry_run=True)
    assert (preview.removed, preview.refused) == (
        (Removal("scratch", execution.fragment, len(files), sum(files)),),
        {},
    )
    assert snapshot(workspace) == before
    report = workspace.gc_executions()
    assert (report.removed, report.dry_run, preview.dry_run) == (preview.removed, False, True)
    assert not execution.output_directory.exists()
    assert execution.status == "uploaded"
    assert workspace.gc_executions().removed == ()


def test_folders_of_distant_results_are_looked_at_and_removed_several_at_a_time(workspace: Workspace) -> None:
    results = Counting(InMemoryArtifactStore())
    far = attrs.evolve(workspace, results=results)
    executions = [committed(far, selectors={"member": f"r{number}"}) for number in range(8)]
    lost = executions[3].fragment
    results.delete(f"{lost}/out.log")  # type: ignore[attr-defined]
    results.most = 0
    preview = far.gc_executions(dry_run=True)
    assert results.most == 8
    report = far.gc_executions()
    assert [each.name for each in report.removed] == [each.name for each in preview.removed]
    assert {each.name for each in report.removed} == {each.fragment for each in executions if each.fragment != lost}
    assert list(report.refused) == list(report.lost) == [lost]
    assert [each.output_directory.exists() for each in executions] == [number == 3 for number in range(8)]


def test_work_that_was_not_shipped_is_refused_unless_forced(workspace: Workspace) -> None:
    executions = {status: in_state(workspace, status) for status in STATUSES}
    report = workspace.gc_executions(status=STATUSES)
    refused = {"created", "running", "stopped", "pending_upload", "upload_failed"}
    assert set(report.refused) == {executions[status].fragment for status in refused}
    assert "scratch may hold the only copy; commit it, or force" in report.refused[executions["stopped"].fragment]
    report = workspace.gc_executions(status=STATUSES, force=True)
    assert report.refused == {
        executions["running"].fragment: "it is running; if its process is gone, recover it",
        executions["pending_upload"].fragment: "it is being committed; if its owner is gone, commit it again",
    }
    left = {status for status, execution in executions.items() if execution.output_directory.exists()}
    assert left == {"running", "pending_upload"}
    given_up = {status for status, execution in executions.items() if execution.status == "aborted"}
    assert given_up == {"created", "stopped", "upload_failed", "aborted"}


def test_what_was_shipped_without_the_catalog_is_not_given_up_by_force(workspace: Workspace) -> None:
    execution = ran(workspace)
    publish_execution(workspace, execution.fragment)
    workspace.gc_executions(status="stopped", force=True)
    assert (execution.status, execution.output_directory.exists()) == ("stopped", False)
    assert replay(workspace.results, workspace.catalog).counts["ingested"] == 1
    assert execution.status == "uploaded"


def test_only_chosen_states_and_only_old_ones_are_looked_at(workspace: Workspace) -> None:
    uploaded, aborted = committed(workspace), in_state(workspace, "aborted")
    assert workspace.gc_executions(older_than=HOUR).removed == ()
    assert [each.name for each in workspace.gc_executions(status="aborted").removed] == [aborted.fragment]
    assert uploaded.output_directory.exists()


def test_leftovers_of_what_was_killed_go_when_they_are_old(workspace: Workspace) -> None:
    execution = committed(workspace)
    scratch, results = workspace.scratch.root, Path(str(workspace.results.local_path()))  # type: ignore[attr-defined]
    leftovers = [
        scratch / execution.fragment / ".emdstore-torn",
        results / execution.fragment / "plots" / ".emdstore-torn",
        scratch / ".emdstore-trash-1" / "half" / "removed.nc",
        scratch / ".emdstore-inputs" / "arriving" / "abcd" / "tas.nc",
    ]
    for file in leftovers:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"torn")
    assert workspace.gc_executions(status="aborted").removed == ()  # they may belong to somebody who is at work
    for path in (*leftovers, leftovers[2].parents[1], leftovers[3].parent):
        age(path)
    preview = workspace.gc_executions(status="aborted", dry_run=True)
    assert all(file.exists() for file in leftovers)
    report = workspace.gc_executions(status="aborted")
    assert report.removed == preview.removed
    assert {each.name for each in report.removed} == {
        f"{execution.fragment}/.emdstore-torn",
        f"{execution.fragment}/plots/.emdstore-torn",
        ".emdstore-trash-1",
        ".emdstore-inputs/arriving/abcd",
    }
    assert {each.what for each in report.removed} == {"leftover"}
    assert not any(file.exists() for file in leftovers)
    assert execution.commit_output_assets().uploaded == 0


def test_a_start_that_was_cut_off_leaves_an_orphan_that_goes_when_it_is_old(workspace: Workspace) -> None:
    execution = workspace.start_execution(**IDENTITY)
    workspace.catalog.records.drop(execution.fragment)  # as if it had been killed before that row
    assert workspace.gc_executions().removed == ()
    age(execution.output_directory / RECORD_NAME)
    assert [(each.what, each.name) for each in workspace.gc_executions(dry_run=True).removed] == [
        ("orphan", execution.fragment)
    ]
    workspace.gc_executions()
    assert list(workspace.scratch.root.iterdir()) == []


def test_work_that_the_catalog_does_not_know_is_never_removed(workspace: Workspace) -> None:
    execution = ran(workspace)
    workspace.catalog.records.drop(execution.fragment)  # a catalog that was lost
    for path in execution.output_directory.rglob("*"):
        age(path)
    before = files_in(execution.output_directory)
    report = workspace.gc_executions(status=STATUSES, force=True)
    assert report.refused == {execution.fragment: "the catalog does not know it: remove it by hand"}
    assert files_in(execution.output_directory) == before


def test_what_a_folder_in_scratch_became_a_link_to_is_not_removed(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"")
    first, second = committed(workspace), committed(workspace)
    shutil.rmtree(first.output_directory)
    first.output_directory.symlink_to(outside)
    report = workspace.gc_executions()
    assert [each.name for each in report.removed] == [second.fragment]
    assert "is a link: remove it by hand" in report.refused[first.fragment]
    assert (outside / "precious").exists()


def test_stale_files_go_from_results_and_from_the_record(workspace: Workspace) -> None:
    execution = committed(workspace)
    put(workspace.results, {"old.png": b"of an earlier set"}, execution.fragment)
    assert workspace.gc_executions().removed[0].what == "scratch"
    assert "old.png" in held(workspace.results, execution.fragment)
    stale = Removal("stale", f"{execution.fragment}/old.png")
    assert workspace.gc_executions(stale=True, dry_run=True).removed == (stale,)
    assert "old.png" in held(workspace.results, execution.fragment)
    before = rows_of(workspace.catalog)
    assert workspace.gc_executions(stale=True).removed == (stale,)
    assert "old.png" not in held(workspace.results, execution.fragment)
    record = read_record(scoped(workspace.results, execution.fragment))
    assert record is not None
    assert record.stale == ()
    assert (execution.status, execution.row.owner) == ("uploaded", None)
    assert rows_of(workspace.catalog) == before
    assert replay(workspace.results, workspace.catalog).counts["unchanged"] == 1
    assert workspace.gc_executions(stale=True).removed == ()


def test_what_a_lock_keeps_is_called_retained_and_the_others_go(workspace: Workspace) -> None:
    execution = committed(workspace)
    put(workspace.results, {"locked.png": b"of an earlier set", "old.png": b"too"}, execution.fragment)
    locked = f"{execution.fragment}/locked.png"
    fault = Fault(verbs={"delete"}, keys={"locked.png"}, error=lambda _: ArtifactRetainedError("a rule keeps it"))
    report = attrs.evolve(workspace, results=FaultyStore(workspace.results, fault)).gc_executions(stale=True)
    assert report.refused == {locked: "retained: a rule keeps it"}
    assert Removal("stale", f"{execution.fragment}/old.png") in report.removed
    there = held(workspace.results, execution.fragment)
    assert ("locked.png" in there, "old.png" in there) == (True, False)
    assert execution.status == "uploaded"


class Meanwhile:
    """Stands for a fault of a store: does something when the store is listed, and lets it be listed."""

    def __init__(self, action: Callable[[], object], verb: str = "iter_keys") -> None:
        self._action, self._verb = action, verb

    def strike(self, verb: str, key: str) -> None:
        if verb == self._verb:
            self._action()


def test_stale_files_of_a_set_that_is_being_committed_stay(workspace: Workspace) -> None:
    execution = committed(workspace)
    put(workspace.results, {"new.png": b"of a commit that is going on"}, execution.fragment)

    def somebody_commits() -> None:
        workspace.catalog.claims.claim(
            execution.fragment, owner="elsewhere:1:1:ab", lease_seconds=60, allowed_from=("uploaded",)
        )

    meanwhile: Any = Meanwhile(somebody_commits)
    report = attrs.evolve(workspace, results=FaultyStore(workspace.results, meanwhile)).gc_executions(stale=True)
    assert "is being committed by elsewhere:1:1:ab" in report.refused[execution.fragment]
    assert "new.png" in held(workspace.results, execution.fragment)


def test_a_folder_stays_if_its_set_is_published_again_while_it_is_looked_at(workspace: Workspace) -> None:
    execution = committed(workspace)
    at = f"{execution.fragment}/execution.json"

    def somebody_publishes() -> None:
        record = decode_record(workspace.results.read_bytes(at))
        workspace.results.write_bytes(at, encode_record(attrs.evolve(record, state="publishing")))

    meanwhile: Any = Meanwhile(somebody_publishes, verb="iter_info")
    report = attrs.evolve(workspace, results=FaultyStore(workspace.results, meanwhile)).gc_executions()
    assert "execution.json was replaced" in report.refused[execution.fragment]
    assert execution.output_directory.exists()


def test_results_survive_a_power_cut_before_a_folder_goes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = committed(workspace)
    there = []
    monkeypatch.setattr(LocalArtifactStore, "flush", lambda _: there.append(execution.output_directory.exists()))
    workspace.gc_executions()
    assert there == [True]
    assert not execution.output_directory.exists()


def test_a_results_store_in_memory_has_nothing_to_clean(workspace: Workspace) -> None:
    in_memory = attrs.evolve(workspace, results=InMemoryArtifactStore("gc-test"))
    execution = committed(in_memory)
    assert [each.name for each in in_memory.gc_executions(stale=True).removed] == [execution.fragment]


def test_the_report_is_plain_values(workspace: Workspace) -> None:
    execution = committed(workspace)
    plain = workspace.gc_executions(dry_run=True).as_dict()
    assert plain["removed"][0]["name"] == execution.fragment
    assert (plain["dry_run"], plain["refused"], plain["bytes"] > 0) == (True, {}, True)


# -- recovering ----------------------------------------------------------------------------------------------------

RUN = """
import sys, time
from pathlib import Path
from emdstore import Workspace
here = Path(sys.argv[1])
workspace = Workspace(scratch=here / "ws-scratch", results=here / "ws-results", catalog=here / "catalog.db")
with workspace.start_execution(provider="pmp", diagnostic="enso_tel") as execution:
    (execution.output_directory / "half.nc").write_bytes(b"half")
    print("half way", flush=True)
    time.sleep(60)
"""


def test_a_run_whose_process_was_killed_is_recovered_and_its_log_is_shipped(
    workspace: Workspace, tmp_path: Path
) -> None:
    child = start_python(RUN, tmp_path)
    assert child.stdout is not None
    assert child.stdout.readline() == "half way\n"
    (row,) = workspace.list_executions(status="running")
    assert row.pid == child.pid
    assert workspace.recover() == ()  # it is alive
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert workspace.recover() == (row.fragment,)  # also while nobody has asked for its exit code
    child.communicate()
    assert workspace.recover() == ()
    execution = workspace.resume_execution(row.fragment)
    assert (execution.status, execution.row.retryable) == ("stopped", True)
    workspace.commit_pending_executions()
    row = execution.row
    assert (row.status, row.failure, row.group_dirty) == ("failed", "system", True)
    shipped = held(workspace.results, row.fragment)
    assert list(shipped) == [RECORD_NAME, "out.log"]
    assert (
        shipped["out.log"].decode() == f"half way\nthe run was cut off: process {child.pid} on {host_name()} is gone\n"
    )


def running(workspace: Workspace, **changes: Any) -> Execution:
    execution = in_state(workspace, "running")
    workspace.catalog.claims.transition(execution.fragment, allowed_from=("running",), to="running", **changes)
    return execution


def test_what_runs_on_other_machines_is_left_to_them_unless_it_is_old(workspace: Workspace) -> None:
    elsewhere = running(workspace, host="elsewhere", pid=gone_pid(), started_at=datetime.now(UTC) - 3 * HOUR)
    assert workspace.recover() == ()
    assert workspace.recover(older_than=4 * HOUR) == ()
    assert workspace.recover(older_than=2 * HOUR) == (elsewhere.fragment,)


def test_a_run_that_had_recorded_its_outcome_keeps_it(workspace: Workspace) -> None:
    execution = ran(workspace)
    # Killed between the record and the row: the catalog still says that it runs.
    workspace.catalog.claims.transition(
        execution.fragment, allowed_from=("stopped",), to="running", pid=gone_pid(), host=host_name()
    )
    log = (execution.output_directory / "out.log").read_bytes()
    assert workspace.recover() == (execution.fragment,)
    assert execution.row.retryable is False
    assert (execution.output_directory / "out.log").read_bytes() == log
    execution.commit_output_assets()
    assert execution.status == "uploaded"


@pytest.mark.parametrize("left", ["nothing", "a torn record"])
def test_a_run_that_left_no_record_is_recovered_to_be_aborted(workspace: Workspace, left: str) -> None:
    execution = running(workspace)
    if left == "nothing":
        shutil.rmtree(execution.output_directory)
    else:
        (execution.output_directory / RECORD_NAME).write_bytes(b"{")
    assert workspace.recover() == (execution.fragment,)
    assert len(workspace.commit_pending_executions().errors) == 1
    execution.abort()
    assert execution.status == "aborted"


# -- ingesting again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dirty", [True, False])
@pytest.mark.parametrize("cleaned", [True, False])
def test_a_reingest_is_a_new_execution_and_leaves_the_old_one_and_the_group_alone(
    workspace: Workspace, dirty: bool, cleaned: bool
) -> None:
    old = ran(workspace)
    old.commit_output_assets(clean_folder=cleaned)
    workspace.catalog.claims.set_dirty("pmp", "enso_tel", "historical", dirty)
    before = held(workspace.results, old.fragment), old.row, rows_of(workspace.catalog, old.fragment)
    report = workspace.reingest(old.fragment)
    assert (held(workspace.results, old.fragment), old.row, rows_of(workspace.catalog, old.fragment)) == before
    ((fragment, status),) = report.statuses.items()
    assert (status, fragment != old.fragment) == ("uploaded", True)
    new = workspace.resume_execution(fragment)
    record = read_record(scoped(workspace.results, fragment))
    assert record is not None
    assert {name: getattr(record, name) for name in IDENTITY} == IDENTITY
    assert (record.reingest_of, record.dirty) == (old.fragment, None)
    assert (new.row.group, new.row.group_dirty, old.row.group_dirty) == ("historical", dirty, dirty)
    files = {key: data for key, data in held(workspace.results, fragment).items() if key != RECORD_NAME}
    assert files == {key: data for key, data in before[0].items() if key != RECORD_NAME}  # also the old run's log
    values = [
        (row.value != row.value or row.value, row.dimensions) for row in workspace.catalog.scalars(superseded=True)
    ]
    assert values[:2] == values[2:]


def test_a_failed_execution_can_be_ingested_again(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as old:
        print("it went wrong")  # noqa: T201 - into the log
        old.stop(ExecutionResult(successful=False))
    old.commit_output_assets()
    ((fragment, status),) = workspace.reingest(old.fragment).statuses.items()
    assert status == "failed"
    assert held(workspace.results, fragment)["out.log"] == b"it went wrong\n"


def test_absolute_names_of_the_first_run_are_understood_again(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as old:
        work(old)
        old.stop()
        output = old.output_directory / "output.json"
        output.write_text(output.read_text().replace('"plots/map.png",', f'"{old.output_directory}/plots/map.png",', 1))
    old.commit_output_assets(clean_folder=True)
    assert old.status == "uploaded"
    ((fragment, status),) = workspace.reingest(old.fragment).statuses.items()
    assert status == "uploaded"
    assert [row.key for row in workspace.catalog.outputs(fragment=fragment)] == ["plots/map.png"]


def test_what_was_not_published_cannot_be_ingested_again(workspace: Workspace) -> None:
    execution = ran(workspace)
    with pytest.raises(ExecutionNotFoundError, match="has no published set to ingest again: commit it first"):
        workspace.reingest(execution.fragment)
    assert workspace.list_executions().count() == 1


def test_a_set_that_is_being_published_is_not_ingested_again(workspace: Workspace) -> None:
    old = committed(workspace)
    folder = scoped(workspace.results, old.fragment)
    standing = standing_of(folder)
    assert standing.record is not None
    open_set(folder, standing, standing.record, ["plots/map.png"])
    with pytest.raises(IncompleteSetError, match="is being published"):
        workspace.reingest(old.fragment)
    assert workspace.list_executions().count() == 1


def test_a_published_set_that_is_not_whole_any_more_leaves_nothing_that_waits(workspace: Workspace) -> None:
    old = committed(workspace)
    results = workspace.results
    assert isinstance(results, LocalArtifactStore)
    results.delete(f"{old.fragment}/plots/map.png")
    with pytest.raises(TransferError, match=r"plots/map\.png"):
        workspace.reingest(old.fragment)
    (aborted,) = workspace.list_executions(status="aborted")
    assert f"'{old.fragment}' could not be ingested again" in (aborted.reason or "")
    assert workspace.commit_pending_executions().statuses == {}
