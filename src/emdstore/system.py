"""What emdstore asks of the machine that it runs on: the time, random numbers, and which processes are alive.

Everything goes through one value, `System`. Tests replace it (`using`) to simulate clocks that jump and processes that
die.

A process is identified by four things: the boot of the machine, the PID namespace, its process id, and the tick of the
boot's clock at which it started. The wall clock is not used, and the process id alone is not enough: ids are reused,
and a container has its own.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
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
    """The machine that emdstore runs on.

    Attributes
    ----------
    now
        The wall clock, with time zone. It may jump.
    monotonic
        A clock in seconds that only goes forward, for durations.
    sleep
        Wait for a number of seconds.
    token
        Return a number of random bytes as hexadecimal digits.
    host
        The machine's name, for people.
    whoami
        The identity of this process, or of a running one with another process id, as `is_alive` takes it.
    is_alive
        Whether a process is alive, or with ``group=True`` any process of its group; None if that cannot be seen from
        here, because it belongs to another boot, machine or PID namespace.
    every
        Call a function in the background every so many seconds, while this process lives and the function returns
        true; return a function that ends this.
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
    """Return the current machine: the real one, unless `using` has replaced it."""
    return _current.get()


def own_number() -> int:
    """Return the real process id of this process, whose memory and descriptors these are, even inside `using`.

    `System.whoami` identifies it among others.
    """
    return os.getpid()


@contextlib.contextmanager
def using(system: System) -> Iterator[System]:
    """Replace the machine inside the block, in this thread and in functions that it starts with `System.every`."""
    token = _current.set(system)
    try:
        yield system
    finally:
        _current.reset(token)


# -- the real one --------------------------------------------------------------------------------------------------


@attrs.frozen
class _Stat:
    """The state of a process, from ``/proc/PID/stat``."""

    state: str
    group: int
    started: int

    @property
    def lives(self) -> bool:
        return self.state not in "ZX"  # zombie or dead


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
        return os.uname().nodename


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
        return _identity(os.getpid())  # cached for each process: it cannot change
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
        return False  # the id was reused, which can happen only after the whole group was gone
    if found is not None and found.lives:
        return True
    return group and any(member.group == number and member.lives for member in _all_processes())


def _is_hidden(pid: int) -> bool:
    """Tell whether a process exists that ``/proc`` does not show, because some systems hide those of other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return False  # it is ours, and has just started or ended


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
    token=lambda size: os.urandom(size).hex(),
    host=lambda: os.uname().nodename,
    whoami=_whoami,
    is_alive=_is_alive,
    every=_every,
)
"""The machine that this process runs on."""

_current: contextvars.ContextVar[System] = contextvars.ContextVar("emdstore_system", default=REAL)
