"""A WebDAV server for tests: WsgiDAV, with a folder of this machine behind it."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.servers.s3 import free_ports, run_process


@attrs.frozen
class WebdavServer:
    """A server that is up.

    Attributes
    ----------
    endpoint_url
        Where it is, as a web server.
    root
        The folder behind it.
    password
        That of the user ``me``.
    """

    endpoint_url: str
    root: Path
    password: str = attrs.field(default="dav p@ss", repr=False)

    @property
    def address(self) -> str:
        """Its host and port."""
        return self.endpoint_url.removeprefix("http://")

    @property
    def options(self) -> dict[str, str]:
        """What a store takes to get here."""
        return {"user": "me", "password": self.password}

    def url(self, folder: str) -> str:
        """Return the URL of a folder there."""
        return f"dav://{self.address}/{folder}"


@contextlib.contextmanager
def run_webdav() -> Iterator[WebdavServer]:
    """Run a server with an empty folder, for one user."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="webdav-") as folder, tempfile.TemporaryFile() as log:
        root = Path(folder) / "root"
        root.mkdir()
        server = WebdavServer(f"http://127.0.0.1:{port}", root)
        settings = {
            "host": "127.0.0.1",
            "port": port,
            "provider_mapping": {"/": {"class": "tests.servers.webdav_moves.Provider", "args": [str(root)]}},
            "simple_dc": {"user_mapping": {"*": {"me": {"password": server.password}}}},
            "logging": {"enable": False},
            "verbose": 0,
        }
        config = Path(folder) / "wsgidav.json"
        config.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "wsgidav.server.server_cli", "--config", str(config)]
        with run_process(command, log, f"http://{server.address}/", cwd=Path(__file__).parents[2]):
            yield server


@pytest.fixture(scope="session")
def webdav_server() -> Iterator[WebdavServer]:
    """Run one server for the session."""
    with run_webdav() as server:
        yield server
