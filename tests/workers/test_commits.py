"""Commits that others do: what a lost worker held is waited for, and Ctrl-C tells what was done."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
from tests.executions.runs import committed, ran

from emdstore.executions.batch import BatchProgress, CommitInterrupted, CommitJob, commit_job
from emdstore.executions.commit import Shipping
from emdstore.executions.workspace import Workspace


def held_elsewhere(workspace: Workspace, seconds: float) -> str:
    """Return an execution that a worker on another machine holds; nobody here can tell whether it lives."""
    fragment = ran(workspace).fragment
    workspace.catalog.claims.claim(fragment, owner="elsewhere:1:1:aa", lease_seconds=seconds, allowed_from=("stopped",))
    return fragment


@pytest.mark.slow
def test_the_claim_of_a_lost_worker_is_waited_for_until_it_runs_out(workspace: Workspace) -> None:
    fragment = held_elsewhere(workspace, 1.5)
    workspace = attrs.evolve(workspace, lease_seconds=1.5)
    assert fragment in commit_job(workspace, CommitJob(fragment), Shipping()).skipped
    report = commit_job(workspace, CommitJob(fragment).after_a_loss(), Shipping())
    assert report.statuses == {fragment: "uploaded"}


def test_a_claim_that_is_renewed_belongs_to_a_worker_that_lives(workspace: Workspace) -> None:
    """Guards against a worker that was only cut off: two would commit at once, or one would wait for ever."""
    fragment = held_elsewhere(workspace, 3600)
    started = time.monotonic()
    quick = attrs.evolve(workspace, lease_seconds=0.5)
    assert fragment in commit_job(quick, CommitJob(fragment).after_a_loss(), Shipping()).skipped
    assert time.monotonic() - started < 10


def test_what_a_lost_worker_had_committed_before_it_died_counts_as_committed(workspace: Workspace) -> None:
    fragment = committed(workspace).fragment
    report = commit_job(workspace, CommitJob(fragment).after_a_loss(), Shipping())
    assert (report.statuses, report.uploaded, report.skipped) == ({fragment: "uploaded"}, 0, {})


def test_ctrl_c_cancels_what_has_not_started_and_tells_what_was_done(workspace: Workspace) -> None:
    fragments = [ran(workspace, group=f"group{number}").fragment for number in range(6)]

    def ctrl_c(progress: BatchProgress) -> None:
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool, pytest.raises(CommitInterrupted) as caught:
        workspace.commit_pending_executions(executor=pool, progress_callback=ctrl_c)
    now = {row.fragment: row.status for row in workspace.list_executions()}
    told = caught.value.report.statuses
    assert told == {fragment: status for fragment, status in now.items() if status == "uploaded"}
    assert 0 < len(told) < len(fragments)
    assert set(now.values()) == {"uploaded", "stopped"}
