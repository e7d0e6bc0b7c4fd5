"""Every state meets every operation: it ends in a named state, or in a named error that changed nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.executions.runs import ALL, IDENTITY, again, faulty, in_state, snapshot, work

from emdstore.errors import ClaimHeldError, ExecutionNotFoundError, InvalidTransitionError, StoreError
from emdstore.executions.execution import Execution
from emdstore.executions.transitions import NOT_SHIPPED, STATUSES, TRANSITIONS, allowed_from
from emdstore.executions.workspace import Workspace
from emdstore.sets.result import ExecutionResult

DESIGN = """
created         running, aborted
running         stopped, aborted
stopped         pending_upload, aborted
pending_upload  uploaded, failed, upload_failed
upload_failed   pending_upload, aborted
failed          pending_upload
uploaded        pending_upload, stopped
aborted
"""


def test_the_transitions_are_those_of_the_design() -> None:
    lines = (line.partition(" ") for line in DESIGN.strip().splitlines())
    design = {state: frozenset(to.replace(",", "").split()) for state, _, to in lines}
    assert design == TRANSITIONS
    assert set().union(*TRANSITIONS.values()) == set(STATUSES) - {"created"}
    assert allowed_from("pending_upload") == {"stopped", "upload_failed", "failed", "uploaded"}


def run(execution: Execution) -> None:
    with execution:
        work(execution)


def fail(execution: Execution) -> None:
    with contextlib.suppress(ZeroDivisionError), execution:
        raise ZeroDivisionError


def stop(execution: Execution) -> None:
    execution.stop(ExecutionResult(successful=False))


def commit_to_a_broken_store(execution: Execution) -> None:
    again(faulty(execution.workspace, *ALL), execution).commit_output_assets()


OPERATIONS: dict[str, Callable[[Execution], Any]] = {
    "run": run,
    "fail": fail,
    "stop": stop,
    "abort": lambda execution: execution.abort(),
    "commit": lambda execution: execution.commit_output_assets(),
    "commit to a broken store": commit_to_a_broken_store,
    "commit all that waits": lambda execution: execution.workspace.commit_pending_executions(),
    "recover": lambda execution: execution.workspace.recover(),
    "clean up": lambda execution: execution.workspace.gc_executions(status=STATUSES),
    "reingest": lambda execution: execution.workspace.reingest(execution.fragment),
}

WRONG = InvalidTransitionError
UNKNOWN = ExecutionNotFoundError
SAME = None

# What each operation makes of each state: another state, the same one, or an error. Where a store fails, both.
END: dict[str, dict[str, Any]] = {
    "run": {"created": "stopped"},
    "fail": {"created": "stopped"},
    "stop": {"running": "stopped"},
    "abort": dict.fromkeys(("created", "running", "stopped", "upload_failed"), "aborted"),
    "commit": {
        "stopped": "uploaded",
        "upload_failed": "uploaded",
        "uploaded": SAME,
        "failed": SAME,
        "pending_upload": ClaimHeldError,
    },
    "commit to a broken store": dict.fromkeys(("stopped", "upload_failed", "uploaded", "failed"), "upload_failed")
    | {"pending_upload": ClaimHeldError},
    "commit all that waits": dict.fromkeys(STATUSES, SAME) | {"stopped": "uploaded", "upload_failed": "uploaded"},
    "recover": dict.fromkeys(STATUSES, SAME) | {"running": "stopped"},
    "clean up": dict.fromkeys(STATUSES, SAME),
    "reingest": dict.fromkeys(STATUSES, UNKNOWN) | {"uploaded": SAME, "failed": SAME},
}


@pytest.mark.once
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_in_every_state(workspace: Workspace, operation: str, status: str) -> None:
    execution = in_state(workspace, status)
    before = snapshot(workspace)
    end = END[operation].get(status, WRONG)
    if isinstance(end, type):
        with pytest.raises(end) as caught:
            OPERATIONS[operation](execution)
        assert type(caught.value) is end
        assert execution.fragment in str(caught.value)
        assert snapshot(workspace) == before
        return
    expected = pytest.raises(StoreError) if operation == "commit to a broken store" else contextlib.nullcontext()
    with expected:
        OPERATIONS[operation](execution)
    assert execution.status == (end or status)
    row = execution.row
    assert (row.owner is not None) == (row.status == "pending_upload")
    assert (row.error is not None) == ("upload_failed" in (row.status, status) and row.status != "uploaded")


@pytest.mark.parametrize("status", STATUSES)
def test_a_wrong_transition_says_the_state_and_what_to_do(workspace: Workspace, status: str) -> None:
    execution = in_state(workspace, status)
    wrong = "stop" if status != "running" else "run"
    advice = {
        "created": "enter its `with` block first",
        "running": "recover it",
        "stopped": "commit it, or abort it",
        "pending_upload": "if its owner is gone, commit it again",
        "upload_failed": "commit it again, or abort it",
    }.get(status, "start a new execution")
    with pytest.raises(InvalidTransitionError, match=f"is {status} and cannot become") as caught:
        OPERATIONS[wrong](execution)
    assert advice in str(caught.value)
    assert caught.value.key == execution.fragment


@pytest.mark.parametrize("status", STATUSES)
def test_cleaning_up_never_removes_what_was_not_shipped(workspace: Workspace, status: str) -> None:
    execution = in_state(workspace, status)
    report = workspace.gc_executions(status=STATUSES)
    assert execution.output_directory.exists() == (status in NOT_SHIPPED)
    assert list(report.refused) == ([execution.fragment] if status in NOT_SHIPPED else [])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=7))
def test_whatever_is_done_in_whatever_order_ends_as_the_table_says(workspace: Workspace, operations: list[str]) -> None:
    execution = workspace.start_execution(**IDENTITY)
    outcome, published, cleaned = "failed", False, False
    for operation in operations:
        row = execution.row
        end = END[operation].get(row.status, WRONG) or row.status
        if operation == "reingest":  # what was published stays so, whatever became of the execution since
            end = row.status if published else UNKNOWN
        if operation == "commit to a broken store" and cleaned:  # there is nothing left to ship
            end = row.status
        if end == "uploaded":
            end = outcome
        try:
            OPERATIONS[operation](execution)
        except (InvalidTransitionError, ExecutionNotFoundError):
            assert end in (WRONG, UNKNOWN)
            assert execution.row == row
        except StoreError:
            assert (execution.status, operation) == (end, "commit to a broken store")
        else:
            assert execution.status == end
        outcome = "uploaded" if operation == "run" and row.status == "created" else outcome
        published = published or end == outcome
        cleaned = cleaned or (operation == "clean up" and end == outcome)
