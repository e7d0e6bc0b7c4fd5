"""Shared by a worker and its caller: the number of bytes copied, and whether to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol


class Stopped(BaseException):
    """Ends a worker in the middle of an artifact, whose old value then stays."""


class Monitor(Protocol):
    """Called by a worker with the number of bytes that it has just copied; raises `Stopped` to end it."""

    def __call__(self, count: int, /) -> None:
        """Count these bytes."""
        ...


class Brake(Protocol):
    """Makes threads wait until the bytes that they have moved were allowed."""

    def wait(self, count: int, is_over: Callable[[], bool]) -> None:
        """Count these bytes, and wait until they are allowed, or something is over."""
        ...


class Watch:
    """Shared by the calling thread and the threads of its pool: a count of bytes, how fast they may be, and whether to
    stop.
    """

    def __init__(self, throttle: Brake | None = None) -> None:
        self.bytes, self._stopped = 0, False
        self._throttle = throttle
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Make the workers stop, even in the middle of an artifact."""
        self._stopped = True

    def __call__(self, count: int, /) -> None:
        """See `Monitor`."""
        self.count(count)
        if self._throttle is not None:
            self.slow_down(count)

    def count(self, count: int) -> None:
        """Count bytes that were copied without passing through this process."""
        if self._stopped:
            raise Stopped
        with self._lock:
            self.bytes += count

    def slow_down(self, count: int) -> None:
        """Wait for bytes that passed, whether they are copied or only compared."""
        if self._throttle is not None:
            self._throttle.wait(count, lambda: self._stopped)
        if self._stopped:
            raise Stopped


_is_fork = False


def mark_as_fork() -> None:
    """Note that this process is one of as many forks as there are cores."""
    global _is_fork
    _is_fork = True


def is_fork() -> bool:
    """Tell whether other forks keep the other cores busy, so that threads of this one would only wait for them."""
    return _is_fork
