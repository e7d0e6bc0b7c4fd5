"""Progress callbacks of transfers, commits, replays and checks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, ParamSpec, TypeVar

_log = logging.getLogger(__name__)

Told = ParamSpec("Told")
Found = TypeVar("Found")
Outcome = TypeVar("Outcome")

KEPT = 10_000
"""How many outcomes of one kind a report keeps. It counts all of them, but its memory is bounded."""


def tell(callback: Callable[Told, object] | None, *what: Told.args, **more: Told.kwargs) -> None:
    """Call a callback, if there is one. Its exceptions are only logged: a display must not cost the result."""
    if callback is not None:
        try:
            callback(*what, **more)
        except Exception:  # noqa: BLE001 - whatever it is
            _log.exception("the progress callback failed; the work continues")


class Tally(Generic[Outcome]):
    """Counts what was found and what is done.

    Parameters
    ----------
    on_progress
        Called with each outcome, the number done, and the number found (None until the listing has ended). Its
        exceptions are logged.
    """

    def __init__(self, on_progress: Callable[[Outcome, int, int | None], object] | None) -> None:
        self._on_progress = on_progress
        self._found = self._done = 0
        self._complete = False

    def count(self, found: Iterable[Found]) -> Iterator[Found]:
        """Yield things as they are found, and count them."""
        for each in found:
            self._found += 1
            yield each
        self._complete = True

    def done(self, outcome: Outcome) -> None:
        """Count one outcome, and report it."""
        self._done += 1
        tell(self._on_progress, outcome, self._done, self._found if self._complete else None)
