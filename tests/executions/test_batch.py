"""The batch drains what waits, oldest first, and one execution's failure is its own."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import attrs
import pytest
from tests.executions.runs import SET, WRITES, committed, faulty, in_state, owner_that_is_gone, ran, snapshot

from emdstore import system
from emdstore.errors import (
    ArtifactNotFoundError,
    ExecutionNotFoundError,
    InvalidTransitionError,
    StoreUnavailableError,
    UploadFailedError,
)
from emdstore.executions.batch import BatchProgress
from emdstore.executions.pool import answer_seconds, at_once
from emdstore.executions.transitions import STATUSES
from emdstore.executions.upload_report import RoleCounts, UploadReport
from emdstore.executions.workspace import Workspace
from emdstore.stores import InMemoryArtifactStore
from emdstore.stores.views import StoreView
from emdstore.testing import Fault, FaultyStore


def test_all_that_waits_is_committed_oldest_first(workspace: Workspace) -> None:
    waiting = [ran(workspace, diagnostic=name).fragment for name in ("c", "a", "b")]
    done: list[str] = []
    with ThreadPoolExecutor(1) as one_at_a_time:
        report = workspace.commit_pending_executions(
            executor=one_at_a_time, progress_callback=lambda progress: done.append(progress.fragment)
        )
    assert done == waiting
    assert report.statuses == dict.fromkeys(waiting, "uploaded")
    assert report.roles == dict.fromkeys(("log", "metric", "output", "plot", "series"), RoleCounts(uploaded=3))
    assert (report.uploaded, report.failed, report.ok, report.skipped) == (3 * len(SET), 0, True, {})
    assert report.seconds > 0


def test_only_what_waits_is_touched(workspace: Workspace) -> None:
    executions = {status: in_state(workspace, status) for status in STATUSES}
    before = {status: execution.row for status, execution in executions.items()}
    report = workspace.commit_pending_executions()
    assert set(report.statuses) == {executions["stopped"].fragment, executions["upload_failed"].fragment}
    changed = {status for status, execution in executions.items() if execution.row != before[status]}
    assert changed == {"stopped", "upload_failed"}


def test_what_a_dead_owner_left_waits_too_and_what_a_live_one_holds_does_not(workspace: Workspace) -> None:
    def held_by(owner: str, seconds: float) -> str:
        fragment = ran(workspace).fragment
        workspace.catalog.claims.claim(fragment, owner=owner, lease_seconds=seconds, allowed_from=("stopped",))
        return fragment

    workspace = attrs.evolve(workspace, lease_seconds=1)
    gone, lapsed = held_by(owner_that_is_gone(), 3600), held_by("elsewhere:1:1:bb", -1)
    held_by("elsewhere:1:1:cc", 3600)
    report = workspace.commit_pending_executions()
    assert report.statuses == {gone: "uploaded", lapsed: "uploaded"}
    assert (report.errors, report.skipped) == ((), {})


def test_one_that_fails_stops_no_other_and_is_named(workspace: Workspace) -> None:
    good, lost, also_good = ran(workspace), ran(workspace), ran(workspace)
    shutil.rmtree(lost.output_directory)
    report = workspace.commit_pending_executions()
    assert report.statuses == {good.fragment: "uploaded", also_good.fragment: "uploaded"}
    (problem,) = report.errors
    assert problem.fragment == lost.fragment
    assert isinstance(problem.error, ArtifactNotFoundError)
    assert (lost.status, report.ok) == ("upload_failed", False)


def test_what_failed_to_upload_is_counted_and_comes_with_the_next_batch(workspace: Workspace) -> None:
    execution, other = ran(workspace), ran(workspace)
    report = faulty(workspace, *WRITES, keys=["plots/map.png"], nth=[1]).commit_pending_executions()
    assert report.roles["plot"] == RoleCounts(uploaded=1, failed=1)
    assert [type(each.error) for each in report.errors] == [UploadFailedError]
    assert sorted([execution.status, other.status]) == ["upload_failed", "uploaded"]
    assert workspace.commit_pending_executions().roles["plot"] == RoleCounts(uploaded=1)
    assert {execution.status, other.status} == {"uploaded"}


def test_named_executions_are_committed_whatever_their_state(workspace: Workspace) -> None:
    stopped, uploaded, created = ran(workspace), committed(workspace), in_state(workspace, "created")
    left_alone = ran(workspace)
    names = [stopped.fragment, uploaded.fragment.rpartition("/")[2], created.fragment, stopped.fragment]
    report = workspace.commit_pending_executions(execution_ids=names)
    assert report.statuses == {stopped.fragment: "uploaded", uploaded.fragment: "uploaded"}
    assert report.roles["plot"] == RoleCounts(uploaded=1, unchanged=1)
    assert [(each.fragment, type(each.error)) for each in report.errors] == [(created.fragment, InvalidTransitionError)]
    assert (created.status, left_alone.status) == ("created", "stopped")


def test_an_unknown_name_is_refused_before_anything_is_committed(workspace: Workspace) -> None:
    execution = ran(workspace)
    before = snapshot(workspace)
    with pytest.raises(ExecutionNotFoundError):
        workspace.commit_pending_executions(execution_ids=[execution.fragment, "nope"])
    assert snapshot(workspace) == before


def test_nothing_to_do_is_an_empty_report(workspace: Workspace) -> None:
    committed(workspace)
    report = workspace.commit_pending_executions()
    assert attrs.evolve(report, seconds=0) == UploadReport()
    assert report.ok


def test_progress_is_told_after_each_and_a_display_that_fails_costs_nothing(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        ran(workspace)
    told: list[BatchProgress] = []

    def show(progress: BatchProgress) -> None:
        told.append(progress)
        raise ZeroDivisionError("a broken display")

    report = workspace.commit_pending_executions(progress_callback=show)
    assert [(progress.done, progress.total) for progress in told] == [(1, 3), (2, 3), (3, 3)]
    assert {progress.fragment for progress in told} == set(report.statuses)
    assert all(progress.report.statuses == {progress.fragment: "uploaded"} for progress in told)
    assert "a broken display" in caplog.text


def test_scratch_is_cleaned_up_for_all_if_that_is_asked(workspace: Workspace) -> None:
    good, lost = ran(workspace), ran(workspace, diagnostic="other")
    (lost.output_directory / "execution.json").write_bytes(b"")
    workspace.commit_pending_executions(clean_folder=True)
    assert (good.output_directory.exists(), lost.output_directory.exists()) == (False, True)


def test_the_commits_may_run_in_other_processes(workspace: Workspace) -> None:
    executions = [ran(workspace) for _ in range(3)]
    (executions[1].output_directory / "execution.json").write_bytes(b"")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        report = workspace.commit_pending_executions(executor=processes)
    assert [execution.status for execution in executions] == ["uploaded", "upload_failed", "uploaded"]
    assert [each.fragment for each in report.errors] == [executions[1].fragment]


def test_the_report_is_plain_values_for_json(workspace: Workspace) -> None:
    ran(workspace)
    (ran(workspace).output_directory / "execution.json").write_bytes(b"")
    plain = json.loads(json.dumps(workspace.commit_pending_executions().as_dict()))
    assert list(plain["executions"].values()) == ["uploaded"]
    assert plain["roles"]["plot"] == {"uploaded": 1, "unchanged": 0, "failed": 0}
    assert [each["type"] for each in plain["errors"]] == ["RecordError"]


@pytest.mark.parametrize(
    ("seconds", "commits", "senders"), [(0.0, 4, 16), (0.01, 10, 16), (0.02, 20, 20), (0.05, 24, 50), (1.0, 24, 64)]
)
def test_more_are_committed_and_sent_at_once_the_longer_the_results_take_to_answer(
    seconds: float, commits: int, senders: int
) -> None:
    now = 0.0

    class Distant(StoreView):
        def exists(self, key: str, /) -> bool:
            nonlocal now
            now += seconds
            return super().exists(key)

    with system.using(attrs.evolve(system.REAL, monotonic=lambda: now)):
        assert at_once(answer_seconds(Distant(InMemoryArtifactStore()))) == (commits, senders)


def test_results_that_do_not_answer_are_left_for_each_commit_to_tell_of() -> None:
    away = FaultyStore(InMemoryArtifactStore(), Fault(verbs=("exists",), error=StoreUnavailableError))
    assert at_once(answer_seconds(away)) == (4, 16)
