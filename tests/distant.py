"""A store that says that it is on a server, and calls that only return when others are under way, too."""

from __future__ import annotations

import threading
from collections.abc import Callable

import attrs

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
