"""The status decision is a table: every row of it, and that nothing lies outside."""

from __future__ import annotations

from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from emdstore.errors import BundleError, StoreError
from emdstore.sets.curated import ArtifactProblem
from emdstore.sets.decision import StatusDecision, resolve_status
from emdstore.sets.outcome import MaterializeOutcome
from emdstore.sets.result import ExecutionResult

WELL = ExecutionResult(successful=True, metric_bundle_filename="diagnostic.json")
WITHOUT_METRIC = ExecutionResult(successful=True)
FAILED = ExecutionResult(successful=False)
RETRYABLE = ExecutionResult(successful=False, retryable=True)

COMPLETE = MaterializeOutcome(log_copied=True, artifacts_copied=("diagnostic.json",))
NO_LOG = MaterializeOutcome(log_copied=False)
MISSING = attrs.evolve(COMPLETE, artifacts_missing=("plots/a.png", "plots/b.png"))
REJECTED = attrs.evolve(COMPLETE, artifacts_rejected=("../../etc/passwd",))
UNREADABLE = attrs.evolve(
    COMPLETE, artifacts_unreadable=(ArtifactProblem("diagnostic.json", BundleError("diagnostic.json: empty")),)
)
UNSHIPPED = attrs.evolve(COMPLETE, artifacts_failed=(ArtifactProblem("plots/a.png", StoreError("no space left")),))
LOG_UNSHIPPED = MaterializeOutcome(
    log_copied=False, artifacts_failed=(ArtifactProblem("out.log", StoreError("no space left")),)
)

RETRY = ("failed", "system", True)
GIVE_UP = ("failed", "diagnostic", False)
BROKEN = ("failed", "result", True)
SHIP_AGAIN = ("upload_failed", "system", True)
DONE = ("uploaded", None, False)

TABLE: dict[str, tuple[ExecutionResult, MaterializeOutcome, tuple[str, str | None, bool]]] = {
    "no log, successful": (WELL, NO_LOG, RETRY),
    "no log, failed": (FAILED, NO_LOG, RETRY),
    "no log, retryable": (RETRYABLE, NO_LOG, RETRY),
    "failed, retryable": (RETRYABLE, COMPLETE, RETRY),
    "failed, not retryable": (FAILED, COMPLETE, GIVE_UP),
    "successful, no metric bundle named": (WITHOUT_METRIC, COMPLETE, GIVE_UP),
    "successful, something missing": (WELL, MISSING, BROKEN),
    "successful, something rejected": (WELL, REJECTED, BROKEN),
    "successful, something unreadable": (WELL, UNREADABLE, BROKEN),
    "successful, complete": (WELL, COMPLETE, DONE),
    "successful, something could not be shipped": (WELL, UNSHIPPED, SHIP_AGAIN),
    "the log could not be shipped": (WELL, LOG_UNSHIPPED, SHIP_AGAIN),
    "failed, the log could not be shipped": (FAILED, LOG_UNSHIPPED, SHIP_AGAIN),
}


@pytest.mark.parametrize("row", TABLE)
def test_every_row_of_the_table(row: str) -> None:
    result, outcome, expected = TABLE[row]
    decision = resolve_status(result, outcome)
    assert (decision.status, decision.failure, decision.dirty) == expected
    assert decision.reason


@pytest.mark.parametrize("row", TABLE)
def test_a_reingest_decides_the_same_but_leaves_the_group_alone(row: str) -> None:
    result, outcome, _ = TABLE[row]
    expected = attrs.evolve(resolve_status(result, outcome), dirty=None)
    assert resolve_status(result, outcome, update_dirty=False) == expected


@pytest.mark.parametrize(
    ("outcome", "named"),
    [
        (MISSING, "plots/a.png, plots/b.png"),
        (REJECTED, "../../etc/passwd"),
        (UNREADABLE, "diagnostic.json"),
        (UNSHIPPED, "plots/a.png"),
    ],
)
def test_the_reason_names_what_is_wrong(outcome: MaterializeOutcome, named: str) -> None:
    assert named in resolve_status(WELL, outcome).reason


def test_a_result_of_another_framework_is_decided_on_as_it_is() -> None:
    theirs: Any = SimpleNamespace(successful=True, metric_bundle_filename=PurePosixPath("diagnostic.json"))
    assert resolve_status(theirs, COMPLETE).status == "uploaded"
    assert resolve_status(theirs, MISSING).failure == "result"


names = st.lists(st.text(), max_size=2).map(tuple)
problems = st.lists(st.builds(ArtifactProblem, st.text(), st.builds(StoreError, st.text())), max_size=2).map(tuple)
some_results = st.builds(
    ExecutionResult,
    successful=st.booleans(),
    retryable=st.booleans(),
    metric_bundle_filename=st.none() | st.text(),
    output_bundle_filename=st.none() | st.text(),
)
some_outcomes = st.builds(
    MaterializeOutcome,
    log_copied=st.booleans(),
    artifacts_copied=names,
    artifacts_unchanged=names,
    artifacts_missing=names,
    artifacts_rejected=names,
    artifacts_failed=problems,
    artifacts_unreadable=problems,
)


@given(some_results, some_outcomes, st.booleans())
def test_every_combination_ends_in_a_decision(
    result: ExecutionResult, outcome: MaterializeOutcome, update_dirty: bool
) -> None:
    decision = resolve_status(result, outcome, update_dirty=update_dirty)
    assert isinstance(decision, StatusDecision)
    assert (decision.status, decision.failure) in {
        ("uploaded", None),
        ("failed", "system"),
        ("failed", "diagnostic"),
        ("failed", "result"),
        ("upload_failed", "system"),
    }
    assert (decision.dirty is None) is not update_dirty
    whole = not (outcome.artifacts_missing or outcome.artifacts_rejected or outcome.artifacts_unreadable)
    shipped = outcome.log_copied and not outcome.artifacts_failed
    well = result.successful and result.metric_bundle_filename is not None
    assert (decision.status == "uploaded") is (well and shipped and whole)
    if decision.status in ("uploaded", "upload_failed") and update_dirty:
        assert decision.dirty is (decision.status == "upload_failed")
