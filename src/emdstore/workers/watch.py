"""Shared by a worker and its caller: the number of bytes copied, and whether to stop."""

from __future__ import annotations

import threading
from typing import Protocol


class Stopped(BaseException):
    """Ends a worker in the middle of an artifact, whose old value then stays."""


class Monitor(Protocol):
    """Called by a worker with the number of bytes that it has just copied; raises `Stopped` to end it."""

    def __call__(self, count: int, /) -> None:
        """Count these bytes."""
        ...


class Watch:
    """Shared by the calling thread and the threads of its pool: a count of bytes, and whether to stop."""

    def __init__(self) -> None:
        self.bytes, self._stopped = 0, False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Make the workers stop, even in the middle of an artifact."""
        self._stopped = True

    def __call__(self, count: int, /) -> None:
        """See `Monitor`."""
        if self._stopped:
            raise Stopped
        with self._lock:
            self.bytes += count
