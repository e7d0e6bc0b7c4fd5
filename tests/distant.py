"""Stores that say that they are on a server, and show what they are asked at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.stores import ArtifactStore, Place
from emdstore.stores.views import StoreView


class Distant(StoreView):
    """A store on a server. A call that `meets`, by verb and key, waits until so many others that do have come."""

    def __init__(
        self, inner: ArtifactStore, meets: Callable[[str, str], bool] = lambda verb, key: False, count: int = 1
    ) -> None:
        super().__init__(inner)
        self._meets, self._count = meets, count
        self._all_ask = threading.Barrier(count)

    def _within(self, place: Place) -> Place:
        return attrs.evolve(place, remote=True)

    def _enter(self, verb: str, key: str) -> str:
        entered = super()._enter(verb, key)
        if self._meets(verb, key):
            self._all_ask.wait(10)
        return entered

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, self._meets, self._count


class Counting(StoreView):
    """A store on a server, which takes its time for each record, and counts how many are being read at once."""

    def __init__(self, inner: ArtifactStore) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def _within(self, place: Place) -> Place:
        return attrs.evolve(place, remote=True)

    def _enter(self, verb: str, key: str) -> str:
        entered = super()._enter(verb, key)
        if verb in ("read_bytes", "open_reader") and key.endswith(RECORD_NAME):
            with self._lock:
                self._now += 1
                self.most = max(self.most, self._now)
            threading.Event().wait(0.1)
            with self._lock:
                self._now -= 1
        return entered

    def _arguments(self) -> tuple[object, ...]:
        return (self._inner,)
