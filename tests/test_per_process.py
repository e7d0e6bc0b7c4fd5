"""What a process has once is not what its parent had."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection

from emdstore.per_process import PerProcess

_made: PerProcess[list[int]] = PerProcess(lambda: [os.getpid()])


def _tell(connection: Connection) -> None:
    connection.send((_made.get(), os.getpid()))


def test_a_value_is_made_once() -> None:
    assert _made.get() is _made.get()
    assert _made.get() == [os.getpid()]


def test_a_fork_makes_its_own_and_leaves_its_parents_alone() -> None:
    before = _made.get()
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_tell, args=(there,))
    child.start()
    made, pid = here.recv()
    child.join()
    assert made == [pid]
    assert pid != os.getpid()
    assert _made.get() is before
