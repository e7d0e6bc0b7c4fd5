"""Deferring Ctrl-C where it would do harm between two instructions."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


class _Deferral:
    """What the open blocks of the main thread share.

    The blocks of greenlets and generators overlap without being nested, so it is the last to end that brings the
    handler back, and not each its own.
    """

    blocks = 0
    came = False
    handler: Callable[..., Any]

    def remember(self, *_: object) -> None:
        self.came = True


_deferral = _Deferral()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block.

    A `KeyboardInterrupt` can come between any two instructions of the main thread: between reading something and
    storing it, or while that thread holds a lock that others wait for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not _deferral.blocks:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):
            yield
            return
        _deferral.handler, _deferral.came = handler, False
        signal.signal(signal.SIGINT, _deferral.remember)
    _deferral.blocks += 1
    try:
        yield
    finally:
        _deferral.blocks -= 1
        if not _deferral.blocks:
            signal.signal(signal.SIGINT, _deferral.handler)
            if _deferral.came:  # also if the block failed: whoever expects its error would go on
                _deferral.handler(signal.SIGINT, None)
