"""The processes that hold a claim, run an execution or are its program, and whether they are alive.

For processes that can be seen from here, being alive decides, and the wall clock does not matter. Others (on another
machine, of another boot, or in another container) never count as gone here: their lease decides.
"""

from __future__ import annotations

from emdstore import system

_at_work: set[str] = set()
"""The owners of this process whose work has not ended."""


def new_owner(lease_seconds: float | None = None) -> str:
    """Return a unique name for work of this process: the host, for people, the process, and a number.

    It contains how long its claims hold, so that others know when it should have renewed one. After `retire` it counts
    as gone.
    """
    machine = system.current()
    lease = "" if lease_seconds is None else f"/{lease_seconds:g}"
    owner = f"{machine.host()}:{machine.whoami(None)}:{machine.token(4)}{lease}"
    _at_work.add(owner)
    return owner


def lease_of(owner: str) -> float | None:
    """Return for how many seconds an owner's claims hold without renewal; None if its name does not say."""
    try:
        return float(owner.rpartition("/")[2])
    except ValueError:
        return None


def retire(owner: str) -> None:
    """Declare that an owner in this process has ended, even if the catalog could not be updated."""
    _at_work.discard(owner)


def host_name() -> str:
    """Return this machine's name."""
    return system.current().host()


def own_name() -> str:
    """Return a name for a file or folder that only this process works on; see `is_made_by_the_living`."""
    machine = system.current()
    return f"{machine.whoami(None).replace(':', '-')}-{machine.token(8)}"


def is_made_by_the_living(name: str) -> bool:
    """Tell whether the process that a file or folder is named after is known to live."""
    return bool(system.current().is_alive(name.rpartition("-")[0].replace("-", ":")))


def own_pid() -> int:
    """Return the number of this process."""
    return int(system.current().whoami(None).split(":")[2])


def is_gone(owner: str | None) -> bool:
    """Tell whether an owner is certainly gone: an ended process of this machine, or ended work in this process."""
    process = _process_of(owner)
    if process is None:
        return False  # no owner, or one named by an older emdstore, which depends on the wall clock
    machine = system.current()
    alive = machine.is_alive(process)
    if alive and process == machine.whoami(None):
        return owner not in _at_work
    return alive is False


def run_lives(owner: str | None, program: str | None, host: str | None, pid: int | None) -> bool | None:
    """Tell whether a run is alive: its process, or any process of its program; None if it cannot be seen from here.

    Parameters
    ----------
    owner, program
        Its process, and the process group of its program, as recorded in scratch.
    host, pid
        Where it ran. Without an owner, the number may belong to another process by now, so only its absence proves
        anything.
    """
    machine = system.current()
    answers: list[bool | None] = []
    if program is not None:
        answers.append(_lives(program, host, group=True))
    if owner is not None:
        answers.append(False if is_gone(owner) else _lives(_process_of(owner) or "", host))
    elif program is None:
        known = host == machine.host() and pid is not None and machine.is_alive(machine.whoami(pid)) is False
        answers.append(False if known else None)
    if True in answers:
        return True
    return None if None in answers else False


def is_group_alive(program: str | None) -> bool:
    """Tell whether any process of a program's group exists."""
    return program is not None and bool(system.current().is_alive(program, group=True))


def _lives(process: str, host: str | None, *, group: bool = False) -> bool | None:
    machine = system.current()
    alive = machine.is_alive(process, group=group)
    boot, here = process.partition(":")[0], machine.whoami(None).partition(":")[0]
    # This machine was rebooted since, so nothing from then runs now.
    return False if alive is None and host == machine.host() and boot not in ("", here) else alive


def _process_of(owner: str | None) -> str | None:
    parts = (owner or "").rsplit(":", 5)
    return ":".join(parts[1:5]) if len(parts) == 6 else None
