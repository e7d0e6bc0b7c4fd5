"""What a process has once: made when it is first asked for, and made anew after a fork.

A fork copies the memory of its parent but not its threads, and both would talk over the same connections. So whatever
holds threads, connections or locks is kept here: a child finds nothing of its parent's, and leaves it alone.
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
        Makes the value. If several threads ask first at the same time it may be called several times; one value stays.

    Examples
    --------
    >>> clients = PerProcess(dict)
    >>> clients.get()["server"] = object()
    """

    __slots__ = ("_make", "_values")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        # By generation, not by process id, which may come again. A parent's value is kept: to let go of a connection
        # could close it for the parent, too.
        self._values: dict[int, T] = {}

    def get(self) -> T:
        """Return this process' value."""
        try:
            return self._values[_generation]
        except KeyError:
            return self._values.setdefault(_generation, self._make())
