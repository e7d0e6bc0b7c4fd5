"""The states of an execution, and the transitions between them: values and pure functions."""

from __future__ import annotations

from emdstore.errors import InvalidTransitionError

TRANSITIONS: dict[str, frozenset[str]] = {
    "created": frozenset({"running", "aborted"}),
    "running": frozenset({"stopped", "aborted"}),
    "stopped": frozenset({"pending_upload", "aborted"}),
    "pending_upload": frozenset({"uploaded", "failed", "upload_failed"}),
    "upload_failed": frozenset({"pending_upload", "aborted"}),
    "failed": frozenset({"pending_upload"}),
    "uploaded": frozenset({"pending_upload", "stopped"}),
    "aborted": frozenset(),
}
"""The states that may follow each state; see the table in ``docs/workspace.md``."""

STATUSES = tuple(TRANSITIONS)

NOT_SHIPPED = frozenset({"created", "running", "stopped", "pending_upload", "upload_failed"})
"""States in which scratch may hold the only copy of the work."""

_ADVICE = {
    "created": "enter its `with` block first, or abort it",
    "running": "stop it first; if its process is gone, recover it",
    "stopped": "commit it, or abort it",
    "pending_upload": "it is being committed; if its owner is gone, commit it again",
    "upload_failed": "commit it again, or abort it",
    "failed": "it was committed; start a new execution to run it again",
    "uploaded": "it was committed; start a new execution to run it again",
    "aborted": "it was abandoned; start a new execution",
}


def allowed_from(to: str) -> frozenset[str]:
    """Return the states from which a state can be reached."""
    return frozenset(state for state, following in TRANSITIONS.items() if to in following)


def refuse_transition(fragment: str, state: str, to: str) -> InvalidTransitionError:
    """Return the error for a transition that is not allowed, with what to do instead."""
    return InvalidTransitionError(
        f"execution {fragment!r} is {state} and cannot become {to}: {_ADVICE.get(state, 'unknown state')}", key=fragment
    )
