"""How fast a transfer may go: so many bytes a second, always the same or by the time of the week."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable
from datetime import datetime

import attrs

from emdstore import system

MINUTES_OF_DAY = 24 * 60
_WEEK = 7 * MINUTES_OF_DAY
_TICK_SECONDS = 0.1


def _is_rising(_: object, __: object, changes: tuple[tuple[int, float | None], ...]) -> None:
    minutes = [minute for minute, _ in changes]
    if not minutes or minutes != sorted(set(minutes)) or minutes[0] < 0 or minutes[-1] >= _WEEK:
        raise ValueError("a timetable has minutes of the week, each once and in order")
    if any(rate is not None and not rate > 0 for _, rate in changes):
        raise ValueError("bytes per second are more than 0, or None for no limit")


@attrs.frozen
class Bandwidth:
    """How many bytes a second may be moved.

    Attributes
    ----------
    changes
        The minutes of the week, from Monday 0:00 by the local clock, at which another limit begins, with this limit;
        None for no limit. Before the first change that of the last one holds.
    """

    changes: tuple[tuple[int, float | None], ...] = attrs.field(validator=_is_rising)

    @classmethod
    def always(cls, rate: float | None) -> Bandwidth:
        """Return the same limit at any time."""
        return cls(((0, rate),))

    def at(self, moment: datetime) -> float | None:
        """Return the bytes per second that may be moved at a moment, which is local; None for any number."""
        minute = (moment.weekday() * 24 + moment.hour) * 60 + moment.minute
        return self.changes[bisect_right(self.changes, minute, key=lambda change: change[0]) - 1][1]


class Throttle:
    """Makes threads wait until the bytes that they have moved together were allowed.

    No credit is collected while nothing moves, so that the line is never busier than it may be. When the limit changes,
    it also holds for those who wait.

    Parameters
    ----------
    bandwidth
        The limit.
    """

    def __init__(self, bandwidth: Bandwidth) -> None:
        self._bandwidth = bandwidth
        self._moved = self._allowed = 0.0
        self._looked = system.current().monotonic()
        self._lock = threading.Lock()

    def wait(self, count: int, is_over: Callable[[], bool]) -> None:
        """Count bytes that were moved, and wait until they are allowed, or something is over."""
        with self._lock:
            self._allow()
            self._moved += count
            mine = self._moved
        while not is_over():
            with self._lock:
                rate = self._allow()
                missing = mine - self._allowed
            if rate is None or missing <= 0:
                return
            system.current().sleep(min(missing / rate, _TICK_SECONDS))

    def _allow(self) -> float | None:
        machine = system.current()
        now, rate = machine.monotonic(), self._bandwidth.at(machine.now().astimezone())
        if rate is None:
            self._allowed = self._moved
        else:
            self._allowed = min(self._moved, self._allowed + (now - self._looked) * rate)
        self._looked = now
        return rate
