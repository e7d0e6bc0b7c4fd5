"""Processes that tests start: interpreters that have everything imported, and servers that end with the tests."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable

# A server that forks children: some 10 ms each, where a fresh interpreter takes 500. What it imports opens nothing.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pytest",
        "psutil",
        "alembic.command",
        "sqlalchemy.dialects.sqlite",
        "sqlalchemy.dialects.postgresql.psycopg",
        "tests.catalog.examples",
        "tests.executions.crash",
    ]
)

_PR_SET_PDEATHSIG = 1


def ends_with_us(number: signal.Signals = signal.SIGKILL) -> Callable[[], None] | None:
    """Return what has a server ended when this process is killed, as its first act; None where the system cannot.

    A test run that is killed, as by `timeout`, ends no fixtures.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None:
        return None
    us = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != us:  # it was before that
            os.kill(os.getpid(), number)

    return ask
