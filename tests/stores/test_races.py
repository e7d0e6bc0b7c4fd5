"""Steps that others undo."""

from __future__ import annotations

import itertools

import attrs

from emdstore import system
from emdstore.stores.races import races


def waits(seed: int) -> list[float]:
    """Return how long each attempt waits before the next."""
    slept: list[float] = []
    numbers = itertools.count(seed, 89)
    machine = attrs.evolve(system.current(), sleep=slept.append, token=lambda size: f"{next(numbers) % 256:02x}")
    with system.using(machine):
        assert list(races()) == list(range(len(slept) + 2))
    return slept


def test_the_first_attempts_are_made_at_once_and_the_others_within_some_seconds() -> None:
    slept = waits(0)
    assert len(slept) > 50
    assert max(slept) <= 0.1
    assert 2 < sum(slept) < 10


def test_two_that_meet_do_not_meet_each_time() -> None:
    """Guards against processes in step, of which the same one finds its folder removed each time."""
    assert all(one != other for one, other in zip(waits(0), waits(40), strict=True))
