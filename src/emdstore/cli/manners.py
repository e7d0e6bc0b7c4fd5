"""How the command of this process reports what it does: its options say so once, and all output keeps to it."""

from __future__ import annotations

import attrs


@attrs.frozen
class Manners:
    """How a command reports.

    Attributes
    ----------
    json
        One document, or lines, for programs, and nothing else on stdout.
    lines
        JSON Lines: what happens as it happens, then what else there is to say.
    quiet
        No progress, no hints, no summary: only results and errors.
    progress
        Whether to show progress; None for the usual.
    log_as_json
        Whether what goes to stderr beside results is JSON, a line each.
    """

    json: bool = False
    lines: bool = False
    quiet: bool = False
    progress: bool | None = None
    log_as_json: bool = False


_current = Manners()


def manners() -> Manners:
    """Return those of the command that runs."""
    return _current


def behave(how: Manners) -> None:
    """Set those of the command that runs from here on."""
    global _current
    _current = how
