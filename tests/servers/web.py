"""A web server for tests: folders of this machine, with index pages."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class Pages(http.server.SimpleHTTPRequestHandler):
    """The files of a folder, and pages that link to them."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Keep the tests' output free of it."""


@contextlib.contextmanager
def run_web(root: Path, kind: type[Pages] = Pages) -> Iterator[str]:
    """Serve a folder, and give the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(root)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def web_server() -> Iterator[Callable[[Path], str]]:
    """Serve folders for as long as a module's tests run."""
    with contextlib.ExitStack() as serving:
        yield lambda root: serving.enter_context(run_web(root))
