"""Azure Blob Storage for tests: Azurite, from npm."""

from __future__ import annotations

import base64
import contextlib
import hmac
import http.client
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit
from xml.etree import ElementTree

import attrs
import pytest
from tests.servers.s3 import free_ports, run_process

_numbers = itertools.count(1)
_ACCOUNT = "testing"
_KEY = base64.b64encode(b"the key of nobody but of these tests, 64 bytes long, as Azure's are."[:64]).decode()
_VERSION = "2021-08-06"


@attrs.frozen
class AzureServer:
    """A server that is up.

    Attributes
    ----------
    endpoint_url
        Where the account is.
    account_key
        What lets one in.
    """

    endpoint_url: str
    account_key: str = attrs.field(repr=False)
    account: str = _ACCOUNT
    scheme: str = "az"

    @property
    def options(self) -> dict[str, Any]:
        """What `AzureArtifactStore` takes to get here."""
        return {"endpoint_url": self.endpoint_url, "account": self.account, "account_key": self.account_key}

    def make_bucket(self) -> str:
        """Make a container of its own for a test and return its name."""
        name = f"emdstore-{os.getpid()}-{next(_numbers)}"
        status, said = self.ask("PUT", f"/{name}?restype=container")
        assert status == 201, said
        return name

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Ask without the code under test, with a signature by the shared key."""
        sent = {"x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"), "x-ms-version": _VERSION}
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        parts = urlsplit(path)
        own = "".join(f"{name}:{sent[name]}\n" for name in sorted(sent) if name.startswith("x-ms-"))
        query = "".join(f"\n{name}:{value}" for name, value in sorted(parse_qsl(parts.query)))
        # Each of the other headers that count is one line, and only the length is there.
        length = str(len(body)) if body else ""
        text = f"{method}\n\n\n{length}\n" + "\n" * 8 + own + f"/{self.account}/{self.account}{parts.path}{query}"
        signature = hmac.digest(base64.b64decode(self.account_key), text.encode(), "sha256")
        sent["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(signature).decode()}"
        server = urlsplit(self.endpoint_url)
        connection = http.client.HTTPConnection(server.netloc, timeout=60)
        try:
            connection.request(method, f"{server.path}{path}", body, {**sent, "Content-Length": str(len(body))})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def hooks(self, bucket: str, folder: str) -> dict[str, Callable[..., Any]]:
        """Return the harness' hooks for a store in a folder of a container."""

        def place(key: str) -> str:
            return quote(f"/{bucket}/{folder}/{key}", safe="/")

        def put(key: str, data: bytes) -> None:
            status, said = self.ask("PUT", place(key), data, {"x-ms-blob-type": "BlockBlob"})
            assert status == 201, said

        def get(key: str) -> bytes | None:
            status, data = self.ask("GET", place(key))
            return data if status == 200 else None

        def keys() -> set[str]:
            _, said = self.ask("GET", f"/{bucket}?restype=container&comp=list&prefix={quote(folder + '/', safe='')}")
            names = [each.text or "" for each in ElementTree.fromstring(said.lstrip(b"\xef\xbb\xbf")).iter("Name")]
            return {name[len(folder) + 1 :] for name in names}

        return {"raw_put": put, "raw_get": get, "raw_keys": keys}


def find_azurite() -> str | None:
    """Return where Azurite's server of blobs is: beside this Python, or on the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
    return shutil.which("azurite-blob", path=path)


@contextlib.contextmanager
def run_azure() -> Iterator[AzureServer]:
    """Run Azurite with nothing on disk."""
    program = find_azurite()
    assert program is not None, "Azurite is not installed: npm install -g azurite"
    (port,) = free_ports(1)
    command = [program, "--inMemoryPersistence", "--disableTelemetry", "--silent", "--skipApiVersionCheck"]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{_ACCOUNT}:{_KEY}"}
    address = f"http://127.0.0.1:{port}/{_ACCOUNT}"
    with tempfile.TemporaryFile() as log, run_process(command, log, address, env=environment):
        yield AzureServer(address, _KEY)


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    """Run one server for the session."""
    with run_azure() as server:
        yield server
