"""A program that does an execution's work: started, shown, given the signals that are meant for it."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

SIGNALLED = 128
"""What an exit code is above of if a signal ended the program."""

_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_READ_SIZE = 65536


def run_program(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a program to its end, show what it prints, and return its exit code, 128 + n if signal n ended it.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    with _signals_forwarded() as started:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(env)
        )
        try:
            started(process)
            _show_output(process)
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return code if code >= 0 else SIGNALLED - code


@contextlib.contextmanager
def _signals_forwarded() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Pass signals that nobody here handles on to a program: whoever ends this process means it.

    Yields what is to be called with the program when it has been started. Signals that come before wait for it.
    """
    programs: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def forward(number: int, _: object) -> None:
        if programs:
            programs[0].send_signal(number)
        else:
            early.append(number)

    def started(program: subprocess.Popen[bytes]) -> None:
        programs.append(program)
        for number in early:
            program.send_signal(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        unhandled = [number for number in _FORWARDED if signal.getsignal(number) == signal.SIG_DFL]
        before = {number: signal.signal(number, forward) for number in unhandled}
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_output(process: subprocess.Popen[bytes]) -> None:
    """Print what a program prints as it comes, also where it ends no lines, until it closes its output."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    assert process.stdout is not None
    with process.stdout as output:
        while data := os.read(output.fileno(), _READ_SIZE):
            sys.stdout.write(decoder.decode(data))
            sys.stdout.flush()
        sys.stdout.write(decoder.decode(b"", final=True))
