"""What a worker and whoever watches it share: bytes that have moved, and whether to stop."""

from __future__ import annotations

from typing import Protocol


class Stopped(BaseException):
    """Ends a worker in the middle of an artifact, which then stays as it was."""


class Monitor(Protocol):
    """Who watches a worker: called with the count of bytes that have just moved; raises `Stopped` to end it."""

    def __call__(self, count: int, /) -> None:
        """Take note of `count` bytes."""
        ...
