"""Which process holds a claim or runs an execution, and whether it is still there."""

from __future__ import annotations

import functools
import os
import secrets
import socket
from datetime import datetime

_CLOCK_SECONDS = 2
"""By how much the time at which a process began may differ between two looks: it is counted from the boot."""


_at_work: set[str] = set()
"""The owners of this process whose work has not ended."""


def new_owner() -> str:
    """Return a name for a claim of this process: host, process id, when it began, and a number of its own.

    The time tells the process from a later one with the same id. It counts as gone after `retire`.
    """
    owner = f"{host_name()}:{os.getpid()}:{_began_here(os.getpid())}:{secrets.token_hex(4)}"
    _at_work.add(owner)
    return owner


def retire(owner: str) -> None:
    """Say that an owner of this process works no more, whether or not the catalog could be told."""
    _at_work.discard(owner)


def host_name() -> str:
    """Return this machine's name."""
    return socket.gethostname()


def is_gone(owner: str | None) -> bool:
    """Tell whether an owner is surely gone: a process of this machine that ended, or work in this one that did.

    Of other machines nothing is known.
    """
    host, pid, began, *_ = *(owner or "").rsplit(":", 3), "", "", ""
    if host != host_name() or not pid.isdigit() or not began.isdigit():
        return False
    now = _began(int(pid))
    if now is None or abs(now - int(began)) > _CLOCK_SECONDS:
        return True
    return int(pid) == os.getpid() and owner not in _at_work


def is_runner_gone(host: str | None, pid: int | None, since: datetime | None) -> bool:
    """Tell whether the process that started an execution on this machine has ended."""
    if host != host_name() or pid is None:
        return False
    began = _began(pid)
    # A process of the same id that began after the execution is another one.
    return began is None or (since is not None and began > since.timestamp() + _CLOCK_SECONDS)


@functools.cache
def _began_here(own_pid: int) -> int | None:
    return _began(own_pid)  # asked once: it takes as long as a claim, and cannot change


def _began(pid: int) -> int | None:
    import psutil  # only where processes are asked for

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time())
    except psutil.NoSuchProcess:
        return None
