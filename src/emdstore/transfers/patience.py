"""Retrying transient failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from emdstore import system
from emdstore.errors import StoreUnavailableError
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore

_RETRIES = 4
_SECONDS = 60.0

Result = TypeVar("Result")


def patiently(call: Callable[[], Result], *stores: ArtifactStore) -> Result:
    """Call a function, and retry with growing pauses while a store is unavailable; the last error passes through.

    This takes about a minute at most, and as many tries as the stores allow. A store that retries itself uses up this
    time.
    """
    began = system.current().monotonic()
    try:
        return call()
    except StoreUnavailableError:
        left = _SECONDS - (system.current().monotonic() - began)
        attempts = min((place_of(store).retries for store in stores), default=_RETRIES)
        if left <= 0 or attempts <= 0:
            raise
        return _again(call, min(attempts, _RETRIES), left)


def _again(call: Callable[[], Result], attempts: int, seconds: float) -> Result:
    import stamina  # slow to import, and seldom needed

    for attempt in stamina.retry_context(on=StoreUnavailableError, attempts=attempts, timeout=seconds):
        with attempt:
            return call()
    raise AssertionError("a retry context ends by returning or raising")
