"""Stores for tests that wrap another store and record its calls, or fail on purpose.

Like every view, they have exactly the capabilities of the store they wrap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import NamedTuple

import attrs

from emdstore.errors import EmdstoreError, StoreUnavailableError
from emdstore.stores.port import ArtifactStore
from emdstore.stores.views import StoreView

_counting = threading.Lock()


class Call(NamedTuple):
    """One call of a store: the method, and its key or prefix."""

    verb: str
    key: str


class RecordingStore(StoreView):
    """A store that records its calls.

    Parameters
    ----------
    inner
        The store that does the work.

    Examples
    --------
    >>> store = RecordingStore(InMemoryArtifactStore())
    >>> store.write_bytes("run1/out.log", b"")
    >>> store.calls
    (Call(verb='write_bytes', key='run1/out.log'),)
    """

    def __init__(self, inner: ArtifactStore, notes: _Notes | None = None) -> None:
        super().__init__(inner)
        self._notes = _Notes() if notes is None else notes

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls so far, of all threads and of this store's scopes, in order.

        Calls with an invalid key and calls of an open stream are not recorded. Keys are as the caller gave them: in a
        scope, relative to it. A pickled copy records its own calls.
        """
        return tuple(self._notes.calls)

    def _enter(self, verb: str, key: str) -> str:
        entered = super()._enter(verb, key)
        self._notes.calls.append(Call(verb, key))
        return entered

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, self._notes

    def __repr__(self) -> str:
        return f"RecordingStore({self._inner!r})"


class _Notes:
    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __reduce__(self) -> tuple[type[_Notes], tuple[()]]:
        return _Notes, ()


@attrs.define(kw_only=True, eq=False)
class Fault:
    """Which calls of a `FaultyStore` fail, and how.

    Calls that match `verbs` and `keys` are counted from 1, over all threads; `nth` and `every` select which of them
    fail, or a `schedule` does. Without any of these, all of them fail.

    Attributes
    ----------
    verbs
        Names of methods, such as ``{"write_bytes", "open_writer"}``; all if empty.
    keys
        Keys or prefixes as the caller gives them; all if empty.
    nth
        The numbers of the calls that fail.
    every
        Calls whose number is a multiple of this fail.
    schedule
        One letter for each call, in order: ``x`` fails, anything else does not; calls after the last letter do not.
    error
        Creates the error from its message.

    Examples
    --------
    >>> busy = FaultyStore(InMemoryArtifactStore(), Fault(every=3))
    >>> full = FaultyStore(InMemoryArtifactStore(), Fault(verbs={"write_bytes"}, keys={"data.nc"}, error=StoreError))
    """

    verbs: Collection[str] = ()
    keys: Collection[str] = ()
    nth: Collection[int] = ()
    every: int | None = None
    schedule: str = ""
    error: Callable[[str], BaseException] = StoreUnavailableError
    _seen: int = attrs.field(default=0, init=False)

    def strike(self, verb: str, key: str) -> None:
        """Count a call that matches, and raise if it should fail."""
        if (self.verbs and verb not in self.verbs) or (self.keys and key not in self.keys):
            return
        with _counting:
            self._seen += 1
            number = self._seen
        chosen = number in self.nth or (self.every is not None and number % self.every == 0)
        chosen = chosen or self.schedule[number - 1 : number] == "x"
        if chosen or not (self.nth or self.every is not None or self.schedule):
            error = self.error(f"{verb} of {key!r} failed on purpose (matching call {number})")
            if isinstance(error, EmdstoreError):
                error.key = key
            raise error


class FaultyStore(StoreView):
    """A store that fails on purpose, deterministically.

    Parameters
    ----------
    inner
        The store that handles the calls that do not fail; failing calls do not reach it.
    *faults
        Which calls fail. Each fault counts separately, including calls of this store's scopes.
    """

    def __init__(self, inner: ArtifactStore, *faults: Fault) -> None:
        super().__init__(inner)
        self._faults = faults

    def _enter(self, verb: str, key: str) -> str:
        entered = super()._enter(verb, key)
        for fault in self._faults:
            fault.strike(verb, key)
        return entered

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, *self._faults
