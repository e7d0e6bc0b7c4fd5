"""Counting sets while they are found, and while something is done with each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from emdstore.sets.finding import FoundSet

_log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")

KEPT = 10_000
"""How many outcomes of one kind a report keeps; it counts all, and its memory does not grow with the store."""


class Tally(Generic[Outcome]):
    """How many sets were found, and how many are done.

    Parameters
    ----------
    on_progress
        Told each outcome, the number done, and the number found as soon as the listing has come to its end, before that
        None. What it raises is logged.
    """

    def __init__(self, on_progress: Callable[[Outcome, int, int | None], object] | None) -> None:
        self._on_progress = on_progress
        self._found = self._done = 0
        self._complete = False

    def count(self, sets: Iterable[FoundSet]) -> Iterator[FoundSet]:
        """Pass on sets as they are found."""
        for each in sets:
            self._found += 1
            yield each
        self._complete = True

    def done(self, outcome: Outcome) -> None:
        """Tell the outcome of one set."""
        self._done += 1
        if self._on_progress is not None:
            try:
                self._on_progress(outcome, self._done, self._found if self._complete else None)
            except Exception:  # noqa: BLE001 - a display must not cost the result
                _log.exception("the progress callback failed; the work goes on")
