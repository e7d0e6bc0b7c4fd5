"""An FTP server for tests: pyftpdlib, with a folder of this machine behind it."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from tests.servers.s3 import free_ports, run_process

_PROGRAM = """
import os, sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

root, port, commands = sys.argv[1:]
users = DummyAuthorizer()
users.add_anonymous(root)
users.add_user("me", "ftp-secret", root, perm="elradfmwMT")
for user in ("anonymous", "me") if os.path.isdir(root + "/closed") else ():
    users.override_perm(user, root + "/closed", "", recursive=True)
FTPHandler.authorizer = users
FTPHandler.auth_failed_timeout = 0
if commands == "old":
    FTPHandler.proto_cmds = {name: each for name, each in FTPHandler.proto_cmds.items() if name not in ("MLSD", "MLST")}

class Terse(FTPHandler):
    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self._current_facts = ["type"]

FTPServer(("127.0.0.1", int(port)), Terse if commands == "terse" else FTPHandler).serve_forever()
"""


@attrs.frozen
class FTPServer:
    """A server that is up: anonymous may read, ``me`` may write, and nobody may look into the folder ``closed``."""

    root: Path
    port: int

    def url(self, folder: str = "", user: str = "") -> str:
        """Return the URL of a folder there."""
        return f"ftp://{user}127.0.0.1:{self.port}/{folder}"


@contextlib.contextmanager
def run_ftp(root: Path, *, port: int | None = None, kind: str = "new") -> Iterator[FTPServer]:
    """Run a server. An ``old`` one lists folders for people only; a ``terse`` one tells neither sizes nor times."""
    if port is None:
        (port,) = free_ports(1)
    server = FTPServer(root, port)
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-c", _PROGRAM, str(root), str(port), kind]
        with run_process(command, log, server.url()):
            yield server


@pytest.fixture(scope="module")
def ftp_server() -> Iterator[Callable[[Path], FTPServer]]:
    """Run servers with folders behind them, until the tests of a file have ended."""
    with contextlib.ExitStack() as stack:
        yield lambda root: stack.enter_context(run_ftp(root))
