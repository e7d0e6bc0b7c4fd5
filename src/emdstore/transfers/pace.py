"""How many batches run at once, and how large they are."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable
from typing import ClassVar

from emdstore import system
from emdstore.stores.place import most_requests, place_of
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.transfers.batch import BatchResult

MOST_KEYS = 64


class Pace:
    """Decides how many batches to run at once, and how large they are, so that about one core is busy.

    The fastest batch so far shows how far away the other side is. Unlike the mean, its time does not grow when this
    machine is busy, so a fast store is not flooded, and a distant one gets many workers after the first answer. Handing
    over a batch takes as long as moving an artifact to a near store. So batches for near stores are longer, and those
    for distant stores are single artifacts, which can all be on their way at once.

    Where many small files travel together over one connection, few workers with long batches are faster than many with
    short ones: they would only wait for each other.

    What was learned about a server is reused by other transfers of this process for a while. What each of many
    simultaneous transfers measures itself shows only how busy this machine is.
    """

    _SMALL_PER_SECOND = 4000  # small artifacts that one core can move
    _BATCH_SECONDS = 0.02
    _FAR_SECONDS = 0.002
    _MEMORY_SECONDS = 60.0
    _known: ClassVar[dict[tuple[Hashable | None, ...], tuple[float, float]]] = {}

    def __init__(
        self, source: ArtifactStore, dest: ArtifactStore, fixed: int | None, batch_keys: int | None = None
    ) -> None:
        self.local = isinstance(source, SupportsPath) and isinstance(dest, SupportsPath)
        self.batch_keys = batch_keys or (MOST_KEYS if self.local else 1)
        self._least_keys = max(8, self.batch_keys)
        # Where two folders really are takes as long to find out as copying a small file, and does not matter here.
        places = () if self.local else (place_of(source), place_of(dest))
        self.together = 1
        if not self.local and isinstance(source, SupportsPath) | isinstance(dest, SupportsPath):
            self.together = max(place.together for place in places)
        self.most = fixed or min((place.requests for place in places), default=most_requests())
        self._least = self.limit = fixed or min(self.most, (os.cpu_count() or 1) if self.local else 4, 4)
        self._least_seconds = math.inf
        self._between = tuple(place.server for place in places)
        # What a server copies inside a bucket is only ordered here, and one listing proves a whole batch.
        is_inside = len(places) == 2 and places[0].server is not None and places[0].server == places[1].server
        self._longer = 2 if is_inside else 1
        seconds, noted = self._known.get(self._between, (math.inf, -math.inf))
        if system.current().monotonic() < noted + self._MEMORY_SECONDS:
            self._keep_to(seconds)

    def learn(self, result: BatchResult) -> None:
        """Record how long a batch of small artifacts took."""
        if result.outcomes and (seconds := result.seconds / len(result.outcomes)) < self._least_seconds:
            self._keep_to(seconds)
            if any(self._between):
                self._known[self._between] = seconds, system.current().monotonic()

    def _keep_to(self, seconds: float) -> None:
        self._least_seconds = seconds = max(seconds, 1e-6)
        self.limit = min(self.most, max(self._least, round(seconds * self._SMALL_PER_SECOND)))
        keys = max(self._least_keys, round(self._longer * self._BATCH_SECONDS / seconds))
        self.batch_keys = min(self._longer * MOST_KEYS, keys)

    def fix(self, limit: int) -> None:
        """Run so many batches at once from now on."""
        self._least = self.most = self.limit = limit

    @property
    def is_far(self) -> bool:
        """Whether waiting for the answers one after the other would take longer than starting threads."""
        return self._FAR_SECONDS < self._least_seconds < math.inf

    @property
    def is_near(self) -> bool:
        """Whether answers are known to come at once."""
        return self.local or self._least_seconds <= self._FAR_SECONDS

    @property
    def is_bound_by_cores(self) -> bool:
        """Whether there is hardly any waiting, so that more workers than cores would not be faster.

        On a busy machine, or with files that are just small enough, the first ones take twice as long as they should.
        """
        return self.local and self.limit <= 2 * self._least
