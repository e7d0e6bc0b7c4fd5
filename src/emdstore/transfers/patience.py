"""Trying again what may pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from emdstore.errors import StoreUnavailableError

_ATTEMPTS = 5

Result = TypeVar("Result")


def patiently(call: Callable[[], Result]) -> Result:
    """Call, and again with growing pauses while the store is unavailable; at last its error passes through."""
    try:
        return call()
    except StoreUnavailableError:
        return _again(call)


def _again(call: Callable[[], Result]) -> Result:
    import stamina  # slow to import, and seldom needed

    for attempt in stamina.retry_context(on=StoreUnavailableError, attempts=_ATTEMPTS - 1, timeout=None):
        with attempt:
            return call()
    raise AssertionError("a retry context ends by returning or raising")
