"""Processes that tests start: interpreters that have everything imported, and servers that end with the tests."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

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
        "emdstore.cli.app",
        # What most commands import once they are called.
        "rich.table",
        "rich.progress",
        "sqlite3",
        "emdstore.ingestion.replay",
        *(
            f"emdstore.cli.{name}"
            for name in ("demo", "export", "listing", "look", "results", "sets", "status", "stores")
        ),
    ]
)


def run_forked(command: list[str], *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Do as `subprocess.run` does with ``python -m module ...``, in a fork that has nearly all of it imported."""
    python, option, module, *arguments = command
    assert (python, option) == (sys.executable, "-m")
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = FORKS.Process(target=_run_module, args=(module, arguments, cwd, dict(env), out, err))
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, 120, output=out.read_bytes(), stderr=err.read_bytes())
        return subprocess.CompletedProcess(command, process.exitcode, out.read_text("utf-8"), err.read_text("utf-8"))


def _run_module(module: str, arguments: list[str], cwd: Path, env: dict[str, str], out: Path, err: Path) -> None:
    streams = {fd: os.open(path, os.O_WRONLY | os.O_CREAT) for path, fd in ((out, 1), (err, 2))}
    become_module(module, arguments, cwd, env, streams)


def become_module(module: str, arguments: list[str], cwd: Path, env: dict[str, str], streams: dict[int, int]) -> None:
    """Go on as ``python -m module ...`` with these streams, in a process that was forked for it."""
    for fd, opened in streams.items():
        os.dup2(opened, fd)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


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
