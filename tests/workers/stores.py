"""Stores that are slow, or deadly to the worker that uses them, over one that is not."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

from emdstore.stores.port import ArtifactStore, SupportsCopyFrom, SupportsPath, SupportsStreaming
from emdstore.stores.views import StoreView


class Deadly(StoreView):
    """To use a key with this end kills the process that does it, as the system kills one that takes too much memory.

    Each death leaves a byte in a file; after so many it is a store like any other. Nobody else may kill a worker of an
    engine's: one that waits for work holds a lock that the others would wait for as well, for ever.
    """

    _withheld = frozenset({SupportsPath, SupportsCopyFrom, SupportsStreaming})

    def __init__(self, inner: ArtifactStore, verb: str, end: str, deaths: Path, most: int) -> None:
        super().__init__(inner)
        self._verb, self._end, self._deaths, self._most = verb, end, deaths, most

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, self._verb, self._end, self._deaths, self._most

    def _enter(self, verb: str, key: str) -> str:
        if verb == self._verb and key.endswith(self._end):
            with self._deaths.open("ab") as deaths:
                fcntl.flock(deaths, fcntl.LOCK_EX)  # until this process is dead: no two may die of one key
                if os.fstat(deaths.fileno()).st_size < self._most:
                    deaths.write(b"x")
                    deaths.flush()
                    time.sleep(0.1)  # a thread of the engine's may just be sending what was done before
                    os.kill(os.getpid(), signal.SIGKILL)
        return super()._enter(verb, key)
