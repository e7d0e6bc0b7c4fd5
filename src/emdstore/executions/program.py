"""A program that does an execution's work: starting it, showing its output, passing signals on, and waiting for its
end.

It gets its own process group, so that it and everything it starts can be recognised and signalled together. If the
system supports it, it gets SIGTERM when this process dies (Linux' ``PR_SET_PDEATHSIG``). Processes that it has started
may go on anyway; they can be found by the group.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType

from emdstore import system
from emdstore.sets.origin import Resources
from emdstore.workers.interrupts import uninterrupted

SIGNALLED = 128
"""Added to a signal's number, this is the exit code of a program that the signal ended."""

# All signals that end a process by default, except those that cannot be handled, those that report a fault of this
# process itself, and Ctrl-C, which arrives as `KeyboardInterrupt`.
_NOT_FORWARDED = {
    *("SIGKILL", "SIGSTOP", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGWINCH"),
    *("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGIOT", "SIGTRAP", "SIGSYS", "SIGPIPE", "SIGINT"),
}
# These come from a terminal, which would send them to everything that the program has started. All others are meant for
# the program itself; its helpers do not expect them, and would only die.
_FROM_TERMINALS = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
_READ_SIZE = 65536
_PATIENCE_SECONDS = 10.0
_TICK_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


def run_program(command: Sequence[str], env: Mapping[str, str], started: Callable[[int], object]) -> Resources:
    """Run a program to its end, show its output, and return the resources that it used, with its exit code.

    Signals that would end this process go to the program, which decides what to do. Ctrl-C ends it: it gets SIGINT,
    then SIGTERM after ten seconds, and SIGKILL at a second Ctrl-C.

    Parameters
    ----------
    command, env
        The command, and its complete environment.
    started
        Called with its process group after the start. If it raises, the program is ended.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    since = system.current().monotonic()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    output: _Output | None = None
    with _signals_forwarded() as forward_to:
        try:
            with uninterrupted():  # nobody else could end a program that was just started
                output = _start(command, env)
            started(output.process.pid)
            forward_to(output.process.pid)
            output.show_all()
            used = _wait(output.process)
            code = output.process.returncode
        except BaseException as error:
            if output is not None:
                _end(output, signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
            raise
        finally:
            if output is not None:
                output.close()
    return Resources(
        wall_seconds=round(system.current().monotonic() - since, 3),
        exit_code=code if code >= 0 else SIGNALLED - code,
        cpu_seconds=None if used is None else round(used.ru_utime + used.ru_stime, 3),
        peak_memory_bytes=None if used is None else _peak_memory(used.ru_maxrss, own),
    )


def _start(command: Sequence[str], env: Mapping[str, str]) -> _Output:
    return _Output(
        subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            process_group=0,
            preexec_fn=_dies_with_us(),
        )
    )


def _wait(process: subprocess.Popen[bytes]) -> resource.struct_rusage | None:
    """Wait for a program, and return what it used, including children that it waited for; None if not known."""
    try:
        pause = 0.001
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:  # lets signals in between
            system.current().sleep(pause)
            pause = min(2 * pause, _TICK_SECONDS)
        with uninterrupted():  # from here on another process may get its number, which whoever ends it must know
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    except ChildProcessError:  # other code in this process waits for any child
        process.wait()
        return None
    return used


def _peak_memory(peak: int, own: int) -> int | None:
    """Return a program's peak memory in bytes; None if it may be that of its parent.

    A child begins as a copy of its parent, whose memory counts as the child's (exec does not reset it).
    """
    unit = 1 if sys.platform == "darwin" else 1024  # see getrusage(2) of each
    return peak * unit if peak > own else None


def _dies_with_us() -> Callable[[], None] | None:
    """Return the function by which a child asks for SIGTERM when this process dies; None if the system cannot do
    that.
    """
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    parent = system.own_number()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before
            os.kill(system.own_number(), signal.SIGTERM)

    return ask


def _end(output: _Output, first: int) -> None:
    """End a program and its whole group; a second Ctrl-C does not stop this, but speeds it up."""
    number = first
    while True:
        _signal(output.process.pid, number)
        try:
            if output.show_until_end(_PATIENCE_SECONDS):
                return
            number = signal.SIGTERM if number == signal.SIGINT else signal.SIGKILL
        except KeyboardInterrupt:
            number = signal.SIGKILL


def _signal(group: int, number: int, *, to_all: bool = True) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if to_all else os.kill)(group, number)


@contextlib.contextmanager
def _signals_forwarded() -> Iterator[Callable[[int], None]]:
    """Pass unhandled signals on to a process group: whoever ends or stops this process means the group, too.

    Yields a function to call with the group when it exists. Earlier signals wait for it.
    """
    groups: list[int] = []
    early: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        if groups:
            _signal(groups[0], number, to_all=number in _FROM_TERMINALS)
        else:
            early.append(number)

    def stop(number: int, _: FrameType | None) -> None:
        # Ctrl-Z reaches only this process, because the program has its own group.
        for group in groups:
            _signal(group, number)
        os.kill(system.own_number(), signal.SIGSTOP)
        for group in groups:
            _signal(group, signal.SIGCONT)

    def forward_to(group: int) -> None:
        groups.append(group)
        for number in early:
            _signal(group, number, to_all=number in _FROM_TERMINALS)

    before = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {each: forward for each in signal.valid_signals() if _name(each) not in _NOT_FORWARDED}
        unhandled = {each: act for each, act in handlers.items() if signal.getsignal(each) == signal.SIG_DFL}
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
            unhandled[signal.SIGTSTP] = stop
        before = {each: signal.signal(each, act) for each, act in unhandled.items()}
    try:
        yield forward_to
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _name(number: int) -> str:
    return number.name if isinstance(number, signal.Signals) else str(number)


class _Output:
    """A program's output, on both streams."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self.process, self._stream = process, process.stdout
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._poll = select.poll()
        self._poll.register(self._stream, select.POLLIN)

    def show_all(self) -> None:
        """Print it as it comes, even without line ends, until the program closes it."""
        is_open = True
        while is_open:
            # Never without end: a signal that comes just before the call does not interrupt it, and is seen after it.
            if self._poll.poll(_TICK_SECONDS * 1000):
                is_open = self._show_some()

    def show_until_end(self, seconds: float) -> bool:
        """Print it until the program has ended, or for a number of seconds; tell whether it has ended.

        Processes that it has started may keep the stream open longer.
        """
        machine = system.current()
        until = machine.monotonic() + seconds
        is_open = True
        while True:
            ended = self.process.poll() is not None
            wait = 0.0 if ended else min(_TICK_SECONDS, max(0.0, until - machine.monotonic()))
            if is_open and self._poll.poll(wait * 1000):
                is_open = self._show_some()
            elif ended:
                return True
            elif machine.monotonic() >= until:
                return False
            elif not is_open:
                machine.sleep(wait)

    def _show_some(self) -> bool:
        with uninterrupted():  # what was read is shown
            data = os.read(self._stream.fileno(), _READ_SIZE)
            _show(self._decoder.decode(data))
        return bool(data)

    def close(self) -> None:
        """Print the rest of an incomplete character, and close the stream."""
        _show(self._decoder.decode(b"", final=True))
        self._stream.close()


def _show(text: str) -> None:
    # The reader may have gone, like `head`, which is no reason to end the program. The log has everything anyway.
    with contextlib.suppress(OSError):
        sys.stdout.write(text)
        sys.stdout.flush()
