"""Values that exist once per process: created on first use, and again after a fork.

A fork copies the memory of its parent but not its threads, and both would use the same connections. So everything that
has threads, connections or locks is kept here: a child neither uses nor closes what belongs to its parent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_generation = 0


def _note_fork() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class PerProcess(Generic[T]):
    """A value that belongs to one process.

    Parameters
    ----------
    make
        Creates the value. If several threads ask at once, it may be called several times; one value is kept.

    Examples
    --------
    >>> clients = PerProcess(dict)
    >>> clients.get()["server"] = object()
    """

    __slots__ = ("_make", "_values")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        # By generation, not by process id, which may be reused. A parent's value is kept, because releasing a
        # connection could close it for the parent, too.
        self._values: dict[int, T] = {}

    def get(self) -> T:
        """Return this process' value."""
        try:
            return self._values[_generation]
        except KeyError:
            return self._values.setdefault(_generation, self._make())

    def inherited(self) -> list[T]:
        """Return the values of the processes that this one was forked from."""
        return [value for generation, value in self._values.items() if generation != _generation]
