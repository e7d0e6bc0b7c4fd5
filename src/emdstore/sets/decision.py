"""The state in which an execution ends: a pure decision from what the run said and what arrived."""

from __future__ import annotations

from typing import Literal

import attrs

from emdstore.sets.outcome import MaterializeOutcome
from emdstore.sets.result import ResultLike, as_result

Failure = Literal["system", "diagnostic", "result"]
FinalStatus = Literal["uploaded", "failed", "upload_failed"]


@attrs.frozen
class StatusDecision:
    """The decision.

    Attributes
    ----------
    status
        ``uploaded``; ``failed``: the run itself failed; ``upload_failed``: the work is intact, but not shipped.
    failure
        What failed: the ``system`` (run it again), the ``diagnostic`` (running it again will not help), or the
        ``result`` (it lacks files that it names).
    dirty
        Whether the execution group still needs a run; None leaves the group's flag as it is.
    reason
        Why, for people.
    """

    status: FinalStatus
    failure: Failure | None
    dirty: bool | None
    reason: str


def resolve_status(result: ResultLike, outcome: MaterializeOutcome, *, update_dirty: bool = True) -> StatusDecision:
    """Decide in which state an execution ends.

    Parameters
    ----------
    result
        What the run said.
    outcome
        What arrived in the results store.
    update_dirty
        False leaves the group's flag as it is, for a reingest.

    Returns
    -------
    StatusDecision
        For every combination; nothing is raised.
    """
    decision = _decide(as_result(result).successful, as_result(result).retryable, result, outcome)
    return decision if update_dirty else attrs.evolve(decision, dirty=None)


def _decide(successful: bool, retryable: bool, result: ResultLike, outcome: MaterializeOutcome) -> StatusDecision:
    if outcome.log_missing:
        return StatusDecision("failed", "system", True, "the run left no log")
    if outcome.artifacts_failed:
        keys = ", ".join(each.key for each in outcome.artifacts_failed)
        return StatusDecision("upload_failed", "system", True, f"could not be shipped: {keys}")
    if not successful and retryable:
        return StatusDecision("failed", "system", True, "the run failed, and may succeed another time")
    if not successful:
        return StatusDecision("failed", "diagnostic", False, "the run failed")
    if as_result(result).metric_bundle_filename is None:
        return StatusDecision("failed", "diagnostic", False, "the run says it succeeded but names no metric bundle")
    for what, names in (
        ("missing", outcome.artifacts_missing),
        ("rejected", outcome.artifacts_rejected),
        ("unreadable", tuple(each.key for each in outcome.artifacts_unreadable)),
    ):
        if names:
            return StatusDecision("failed", "result", True, f"{what}: {', '.join(names)}")
    return StatusDecision("uploaded", None, False, "complete")
