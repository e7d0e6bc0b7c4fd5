"""What emdstore asks of the machine that it runs on: the time, chance, and which processes live.

All of that is asked through one value, so that there is one place to look at, and so that whoever wants to see what a
clock that jumps or a process that dies does to it can put another value in its place (`using`).

A process is known by four things: the boot of the machine, the PID namespace, its number, and the tick of the boot's
clock at which it started. The wall clock is not among them, and the number alone is not enough: numbers are used again,
and a container has its own.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import attrs


class _IsAlive(Protocol):
    def __call__(self, process: str, /, *, group: bool = False) -> bool | None: ...


@attrs.frozen(kw_only=True)
class System:
    """The machine, as emdstore asks it.

    Attributes
    ----------
    now
        The wall clock, with its zone. It may jump.
    monotonic
        A clock in seconds that only goes forward, for spans of time.
    sleep
        Wait for so many seconds.
    token
        Return so many random bytes as hexadecimal digits.
    host
        The machine's name, for people.
    whoami
        This process, or one of another number that is there now, as `is_alive` takes it.
    is_alive
        Whether a process lives, or with ``group=True`` any of its process group; None if that cannot be told from here:
        it is of another boot, machine or PID namespace.
    every
        Call a function every so many seconds beside this one, for as long as this process lives and the function
        returns true; return what ends that.
    """

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], object]
    token: Callable[[int], str]
    host: Callable[[], str]
    whoami: Callable[[int | None], str]
    is_alive: _IsAlive
    every: Callable[[float, Callable[[], bool], str], Callable[[], object]]


def current() -> System:
    """Return the machine that is asked now: the real one, unless `using` says otherwise."""
    return _current.get()


def own_number() -> int:
    """Return the number of this very process: whose memory and whose descriptors these are, whichever machine is asked.

    Who it is among others says `System.whoami`.
    """
    return os.getpid()


@contextlib.contextmanager
def using(system: System) -> Iterator[System]:
    """Have another machine asked inside the block, in this thread and in what it has called every so many seconds."""
    token = _current.set(system)
    try:
        yield system
    finally:
        _current.reset(token)


# -- the real one --------------------------------------------------------------------------------------------------


@attrs.frozen
class _Stat:
    """What ``/proc/PID/stat`` says of a process."""

    state: str
    group: int
    started: int

    @property
    def lives(self) -> bool:
        return self.state not in "ZX"  # nobody has asked yet how it ended


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None if _has_proc() else _asked_psutil(pid)
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return _Stat(fields[0], int(fields[2]), int(fields[19]))


def _asked_psutil(pid: int) -> _Stat | None:
    import psutil  # only where there is no /proc

    try:
        process = psutil.Process(pid)
        state = "Z" if process.status() == psutil.STATUS_ZOMBIE else "S"
        return _Stat(state, os.getpgid(pid), int(process.create_time()))
    except (psutil.Error, OSError):
        return None


@functools.cache
def _has_proc() -> bool:
    return Path("/proc/self/stat").exists()


@functools.cache
def _boot() -> str:
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return text.strip().replace("-", "")[:16]
    except OSError:
        return socket.gethostname()


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return "0"


@functools.cache
def _identity(pid: int) -> str:
    stat = _stat(pid)
    return f"{_boot()}:{_namespace()}:{pid}:{0 if stat is None else stat.started}"


def _whoami(pid: int | None = None) -> str:
    if pid is None:
        return _identity(os.getpid())  # asked once for each fork: it cannot change
    return _identity.__wrapped__(pid)


def _is_alive(process: str, /, *, group: bool = False) -> bool | None:
    boot, namespace, pid, started, *_ = *process.split(":"), "", "", "", ""
    if not (pid.isdigit() and started.isdigit()) or (boot, namespace) != (_boot(), _namespace()):
        return None
    number = int(pid)
    found = _stat(number)
    if found is None and _is_hidden(number):
        return None
    if found is not None and found.started != int(started):
        return False  # the number was used again, for which the whole group had to be gone
    if found is not None and found.lives:
        return True
    return group and any(member.group == number and member.lives for member in _all_processes())


def _is_hidden(pid: int) -> bool:
    """Tell whether a process is there of which ``/proc`` does not tell, as some systems hide those of others."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return False  # it is ours, and has come or gone just now


def _all_processes() -> Iterator[_Stat]:
    if _has_proc():
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    else:
        import psutil

        numbers = psutil.pids()
    return (stat for number in numbers if (stat := _stat(number)) is not None)


def _every(seconds: float, function: Callable[[], bool], name: str) -> Callable[[], object]:
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds) and function():
            pass

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name, daemon=True).start()
    return over.set


REAL = System(
    now=lambda: datetime.now(UTC),
    monotonic=time.monotonic,
    sleep=time.sleep,
    token=secrets.token_hex,
    host=socket.gethostname,
    whoami=_whoami,
    is_alive=_is_alive,
    every=_every,
)
"""The machine that this process runs on."""

_current: contextvars.ContextVar[System] = contextvars.ContextVar("emdstore_system", default=REAL)
