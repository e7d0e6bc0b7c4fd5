"""Stores that wrap another and take notes, or fail on purpose: for the tests of what is built on a store.

As every view, they have the capabilities of what they wrap, no more and no fewer.
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
    """One call of a store: the verb, and the key or prefix that it was called with."""

    verb: str
    key: str


class RecordingStore(StoreView):
    """A store that remembers what was asked of it.

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
        """The calls so far, of all threads, in the order in which they came, with those of this store's scopes.

        A call with an invalid key is none, and those of a stream that was opened are not told apart. Keys are as the
        caller gave them: in a scope, relative to it. A pickled copy takes notes of its own.
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

    The calls that fit `verbs` and `keys` are counted from 1, over all threads; of those, `nth` and `every` say which
    fail. Without either, all of them do.

    Attributes
    ----------
    verbs
        Names of methods, such as ``{"write_bytes", "open_writer"}``; none stands for all.
    keys
        Keys or prefixes as the caller gives them; none stands for all.
    nth
        The numbers of the calls that fail.
    every
        Each call whose number is a multiple of this fails.
    error
        Makes the error from its message.

    Examples
    --------
    >>> busy = FaultyStore(InMemoryArtifactStore(), Fault(every=3))
    >>> full = FaultyStore(InMemoryArtifactStore(), Fault(verbs={"write_bytes"}, keys={"data.nc"}, error=StoreError))
    """

    verbs: Collection[str] = ()
    keys: Collection[str] = ()
    nth: Collection[int] = ()
    every: int | None = None
    error: Callable[[str], BaseException] = StoreUnavailableError
    _seen: int = attrs.field(default=0, init=False)

    def strike(self, verb: str, key: str) -> None:
        """Count the call if it fits, and raise if it is one that fails."""
        if (self.verbs and verb not in self.verbs) or (self.keys and key not in self.keys):
            return
        with _counting:
            self._seen += 1
            number = self._seen
        chosen = number in self.nth or (self.every is not None and number % self.every == 0)
        if chosen or (not self.nth and self.every is None):
            error = self.error(f"{verb} of {key!r} failed on purpose (call {number} of its kind)")
            if isinstance(error, EmdstoreError):
                error.key = key
            raise error


class FaultyStore(StoreView):
    """A store that fails on purpose, the same way every time.

    Parameters
    ----------
    inner
        The store that does the work of the calls that do not fail; those that fail do not reach it.
    *faults
        Which calls fail; each fault counts on its own, and goes on counting in this store's scopes.
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
