"""A store that lets somebody else go first, at one moment: what a writer meets that was halted there for long."""

from __future__ import annotations

from collections.abc import Callable

from emdstore.stores import ArtifactStore
from emdstore.stores.views import StoreView

_CHANGES = {"write_bytes", "create_bytes", "replace_bytes", "open_writer", "copy"}


class Turn:
    """The moment: before the `nth` change of a key with this end."""

    def __init__(self, end: str, others: Callable[[], object], nth: int = 1) -> None:
        self._end, self._others, self._left = end, others, nth

    def at(self, verb: str, key: str) -> None:
        """Let the others go first, if this is the moment."""
        if verb in _CHANGES and key.endswith(self._end):
            self._left -= 1
            if not self._left:
                self._others()

    @property
    def has_come(self) -> bool:
        return self._left <= 0


class Halting(StoreView):
    """A store as the writer sees it that is halted."""

    def __init__(self, inner: ArtifactStore, turn: Turn) -> None:
        super().__init__(inner)
        self._turn = turn

    def _enter(self, verb: str, key: str) -> str:
        entered = super()._enter(verb, key)
        self._turn.at(verb, key)
        return entered

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, self._turn
