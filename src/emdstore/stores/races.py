"""Trying again what others undo between two steps: a folder that is pruned, a pointer that is moved."""

from __future__ import annotations

from collections.abc import Iterator

from emdstore import system

_MOST = 100
_AT_ONCE = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1


def races() -> Iterator[int]:
    """Yield the numbers of the attempts, and wait between them; it takes about five seconds to run out.

    The waits are random: on a busy machine, processes that take turns would otherwise meet in the same step each time,
    and the same one would lose each time.
    """
    machine, longest = system.current(), _FIRST_PAUSE
    for attempt in range(_MOST):
        yield attempt
        if attempt + 1 >= _AT_ONCE:
            machine.sleep(longest * int(machine.token(1), 16) / 255)
            longest = min(2 * longest, _LONGEST_PAUSE)
