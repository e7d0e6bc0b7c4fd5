"""What a worker and whoever watches it share: bytes that have moved, and whether to stop."""

from __future__ import annotations

import threading
from typing import Protocol


class Stopped(BaseException):
    """Ends a worker in the middle of an artifact, which then stays as it was."""


class Monitor(Protocol):
    """Who watches a worker: called with the count of bytes that have just moved; raises `Stopped` to end it."""

    def __call__(self, count: int, /) -> None:
        """Take note of `count` bytes."""
        ...


class Watch:
    """What the calling thread and the threads of its pool share: a count of bytes, and whether to stop."""

    def __init__(self) -> None:
        self.bytes, self._stopped = 0, False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Have the workers stop in the middle of what they do."""
        self._stopped = True

    def __call__(self, count: int, /) -> None:
        """See `Monitor`."""
        if self._stopped:
            raise Stopped
        with self._lock:
            self.bytes += count
