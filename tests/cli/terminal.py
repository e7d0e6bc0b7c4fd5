"""The command line on a terminal of its own, of so many columns."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
from tests.cli.conftest import COMMAND, environment
from tests.processes import FORKS, become_module

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@attrs.frozen
class Seen:
    """What was on a terminal, and how the command ended."""

    code: int
    raw: str

    @property
    def lines(self) -> list[str]:
        """All lines that were ever there, without colours; one that was drawn anew is another line."""
        return [line for line in re.split(r"[\r\n]+", _CONTROL.sub("", self.raw)) if line.strip()]


def on_a_terminal(
    arguments: Sequence[object], *, cwd: Path, columns: int, until: str | None = None, **env: str
) -> Seen:
    """Run the command line in a fork that has a terminal, and return what it wrote there.

    A command that does not end by itself is ended by Ctrl-C, once it has said what is given.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = environment(TERM="xterm-256color", **env)
    call = (COMMAND[2], [*map(str, arguments)], cwd, variables, os.ttyname(theirs))
    process = FORKS.Process(target=_on_terminal, args=call)
    process.start()
    os.write(ours, b"n\n")  # to whatever is asked
    written, at_most = b"", time.monotonic() + 300
    while True:
        if time.monotonic() > at_most:
            process.kill()
        ended = process.exitcode is not None
        if select.select([ours], [], [], 0 if ended else 0.02)[0]:
            written += os.read(ours, 65536)
            if until is not None and until.encode() in written:
                os.write(ours, b"\x03")
                until = None
        elif ended:
            break
    os.close(ours)
    os.close(theirs)
    assert process.exitcode is not None
    return Seen(process.exitcode, written.decode())


def ended_in_a_pipe(arguments: Sequence[object], *, cwd: Path, until: str) -> subprocess.CompletedProcess[str]:
    """Run a command that does not end by itself, and end it as Ctrl-C does, once it has said what is given."""
    command = [*COMMAND, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=cwd, env=environment(), stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        said = ""
        while until not in said:
            line = process.stdout.readline()
            assert line, process.communicate()
            said += line
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, said + out, err)


def _on_terminal(module: str, arguments: list[str], cwd: Path, env: dict[str, str], terminal: str) -> None:
    os.setsid()
    streams = {fd: os.open(terminal, os.O_RDWR) for fd in (0, 1, 2)}
    for fd, opened in streams.items():
        os.dup2(opened, fd)
    # Those of the fork's parent believe that they are files.
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(fd, mode, encoding="utf-8", closefd=False) for fd, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    become_module(module, arguments, cwd, env, streams)
