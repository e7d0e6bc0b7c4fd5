"""How far away a server is, and how many of its answers to wait for at a time.

The fastest answer so far tells how far away it is: on a busy machine most of them are slow.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Self

import attrs

from emdstore import system
from emdstore.per_process import PerProcess
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore, Place, SupportsPath

_FAR_SECONDS = 0.005  # from here on threads, which have to be started, save time
_PER_SECOND = 2000  # so many answers about sets keep one core busy
_fastest = PerProcess[dict[Hashable, float]](dict)


@contextmanager
def noting_answer(store: ArtifactStore) -> Iterator[None]:
    """Note how long a store takes for one answer, which is all that the block asks for; nothing if it fails."""
    began = system.current().monotonic()
    yield
    note_answer(store, system.current().monotonic() - began)


def note_answer(store: ArtifactStore, seconds: float) -> float:
    """Note how long an answer of a store took; return its fastest one, 0 for a store that is on no server."""
    if (place := _on_a_server(store)) is None:
        return 0.0
    known = _fastest.get()
    known[place.server] = least = min(seconds, known.get(place.server, math.inf))
    return least


def is_far(store: ArtifactStore, seconds: float) -> bool:
    """Tell whether a store's answers take long, after one that took so many seconds."""
    return note_answer(store, seconds) > _FAR_SECONDS


@attrs.frozen
class InFlight:
    """How many answers to wait for at a time, so that one core is busy; call it for the number.

    It is the least one until an answer was noted, and where the stores are near, or on no server.

    Attributes
    ----------
    servers
        What is asked.
    least, most
        The bounds.
    """

    servers: tuple[Hashable, ...]
    least: int
    most: int

    @classmethod
    def of(cls, *stores: ArtifactStore, least: int, most: int) -> Self:
        """Return the number for stores; never more than their servers take at a time."""
        places = [place for each in stores if (place := _on_a_server(each)) is not None]
        allowed = min([most, *(place.requests for place in places)]) if places else least
        return cls(tuple(place.server for place in places), min(least, allowed), allowed)

    def __call__(self) -> int:
        """Return how many answers to wait for now."""
        known = _fastest.get()
        slowest = max((known.get(server, 0.0) for server in self.servers), default=0.0)
        return max(self.least, min(self.most, round(slowest * _PER_SECOND)))


def _on_a_server(store: ArtifactStore) -> Place | None:
    """Return where a store is; None if it is on no server. Where a folder really is takes long to find out."""
    if isinstance(store, SupportsPath):
        return None
    place = place_of(store)
    return None if place.server is None else place
