"""An S3 server on this machine, for tests."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import attrs

from emdstore.errors import MissingExtraError

_numbers = itertools.count(1)
_SECONDS = 60.0


@attrs.frozen
class S3Server:
    """An S3 server that is up.

    Attributes
    ----------
    endpoint_url
        Where it listens, on the loopback interface.
    access_key_id, secret_access_key, region
        What opens it.
    """

    endpoint_url: str
    access_key_id: str = "testing"
    secret_access_key: str = attrs.field(default="testing", repr=False)
    region: str = "us-east-1"

    @property
    def options(self) -> dict[str, Any]:
        """What `emdstore.open_store` takes beside the URL to get here."""
        return attrs.asdict(self)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a program gets here, such as the ``emdstore`` command."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": self.region,
        }

    def make_bucket(self) -> str:
        """Make an empty bucket, and return its name."""
        name = f"emdstore-{os.getpid()}-{next(_numbers)}"
        request = urllib.request.Request(f"{self.endpoint_url}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        return name


@contextmanager
def run_s3_server() -> Iterator[S3Server]:
    """Run moto's S3 server in a process of its own, until the block ends.

    Raises
    ------
    MissingExtraError
        If it is not installed: it comes with ``pip install 'moto[server]'``.
    """
    if find_spec("moto") is None or find_spec("flask") is None:
        raise MissingExtraError("the S3 server for tests needs moto: pip install 'moto[server]'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = S3Server(f"http://127.0.0.1:{port}")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + _SECONDS
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"moto's server did not start: {log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.05)
            yield server
        finally:
            process.terminate()
            process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
