"""OpenSSH's SFTP server as a child over two pipes, without SSH; and one that says what a script has it say."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emdstore.errors import EmdstoreError, StoreUnavailableError
from emdstore.per_process import PerProcess
from emdstore.stores.ssh.sftp import Sftp, wire

PLACES = ("/usr/lib/openssh", "/usr/lib/ssh", "/usr/libexec/openssh", "/usr/libexec")


def find_server() -> str | None:
    """Return the path of the program, which is on nobody's search path."""
    return next((found for place in PLACES if (found := shutil.which("sftp-server", path=place))), None)


class Pipes:
    """A connection to a child that speaks SFTP over its standard input and output."""

    asks = False

    def __init__(self, *options: str, env: dict[str, str] | None = None, restore_signals: bool = True) -> None:
        program = find_server()
        if program is None:
            pytest.skip("no sftp-server: install openssh-sftp-server")
        self.process = subprocess.Popen(
            [program, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            restore_signals=restore_signals,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.descriptors = self.process.stdout.fileno(), self.process.stdin.fileno()

    def error(self, doing: str) -> EmdstoreError:
        return StoreUnavailableError(f"cannot {doing} the store: the server has ended")

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        self.process.wait()
