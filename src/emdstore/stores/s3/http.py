"""Requests without the engine, if the engine does not send them or hides the answer."""

from __future__ import annotations

import contextlib
import http.client
import random
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

import attrs

from emdstore import system
from emdstore.errors import StoreUnavailableError
from emdstore.stores.s3.bucket import SignedBucket

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
_IDLE_SECONDS = 4.0  # after which a server may have closed a connection; most wait longer
_MOST_IDLE = 16
_T = TypeVar("_T")


@attrs.frozen
class Answer:
    """What the server said.

    Attributes
    ----------
    headers
        By their names in lower case.
    body
        The whole body.
    """

    headers: Mapping[str, str]
    body: bytes


class ServerConnection:
    """A connection to a bucket's server that stays open between requests, unless a proxy is on the way."""

    def __init__(self, bucket: SignedBucket) -> None:
        self.bucket = bucket
        self._open: http.client.HTTPConnection | None = None

    def get(self, query: Mapping[str, str]) -> Answer:
        """Ask for a listing; any other status than 200 is an `OSError` in the words that `ErrorTranslator` reads."""
        return self._ask("GET", *self.bucket.signed("GET", "", query))

    def head(self, object_name: str, query: Mapping[str, str] = {}) -> Answer:
        """Ask for an object's headers."""
        return self._ask("HEAD", *self.bucket.signed("HEAD", object_name, query))

    def delete(self, object_name: str, query: Mapping[str, str]) -> Answer:
        """Delete what the query names of an object, such as an upload."""
        return self._ask("DELETE", *self.bucket.signed("DELETE", object_name, query))

    def put(self, object_name: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Write an object, or a part of one, that the headers say where to copy from."""
        return self._ask("PUT", *self.bucket.signed("PUT", object_name, query, headers))

    def post(
        self, object_name: str, query: Mapping[str, str], headers: Mapping[str, str] = {}, body: bytes = b""
    ) -> Answer:
        """Begin or complete an upload."""
        return self._ask("POST", *self.bucket.signed("POST", object_name, query, headers, body), body)

    def _ask(self, method: str, url: str, headers: Mapping[str, str], sent: bytes = b"") -> Answer:
        try:
            status, said, body = self._send(method, url, headers, sent)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise OSError(f"HTTP error: {type(error).__name__}: {error}") from None
        if status not in (200, 204 if method == "DELETE" else 200, 206):
            raise OSError(f"status code: {status} {body.decode(errors='replace')}")
        return Answer({name.lower(): value for name, value in said}, body)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], sent: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        data = sent if method in ("PUT", "POST") else None
        parts = urlsplit(url)
        if self._open is None and _is_behind_proxy(parts):
            request = urllib.request.Request(url, data, dict(headers), method=method)
            with _opener(self.bucket).open(request, timeout=self.bucket.timeout) as answer:
                return answer.status, answer.getheaders(), answer.read()
        answer = self._answer(method, parts, headers, data)
        body = answer.read()
        if answer.will_close:
            self.close()
        return answer.status, answer.getheaders(), body

    def _answer(
        self, method: str, parts: SplitResult, headers: Mapping[str, str], data: bytes | None
    ) -> http.client.HTTPResponse:
        was_open = self._open is not None
        if self._open is None:
            self._open = self._connect(parts.scheme, parts.netloc)
        if self._open.sock is not None:
            self._open.sock.settimeout(self.bucket.timeout)
        try:
            self._open.request(method, f"{parts.path or '/'}?{parts.query}", data, dict(headers))
            return self._open.getresponse()
        except ConnectionError:
            # The server may have closed a connection that was idle. It may also have done what it was asked.
            if not was_open or method == "POST":
                raise
            self.close()
            return self._answer(method, parts, headers, data)

    def _connect(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        patience = self.bucket.connect_timeout
        connection = (
            http.client.HTTPConnection(netloc, timeout=patience)
            if scheme == "http"
            else http.client.HTTPSConnection(netloc, timeout=patience, context=_context(self.bucket))
        )
        connection.connect()
        return connection

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self.close()


@contextlib.contextmanager
def lent_connection(bucket: SignedBucket) -> Iterator[ServerConnection]:
    """Lend a connection that is open from before, or a new one, and keep it open unless the block fails."""
    idle, now = bucket.connection.idle.get(), system.current().monotonic()
    connection = ServerConnection(bucket)
    while idle:
        with contextlib.suppress(IndexError):  # another thread was faster
            left, since = idle.pop()
            if now - since < _IDLE_SECONDS:
                connection = left
                break
            left.close()
    connection.bucket = bucket  # which may be more patient than the last one
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    if len(idle) < _MOST_IDLE:
        idle.append((connection, system.current().monotonic()))
    else:
        connection.close()


def asked_patiently(bucket: SignedBucket, ask: Callable[[], _T]) -> _T:
    """Ask, and ask again, as often and as long as the engine would, while the server is unavailable."""
    began, pause = system.current().monotonic(), _FIRST_PAUSE
    for attempt in range(bucket.retries + 1):
        try:
            return ask()
        except StoreUnavailableError:
            if attempt == bucket.retries or system.current().monotonic() - began > bucket.patience:
                raise
        system.current().sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, _LONGEST_PAUSE)
    raise AssertionError("a loop of attempts ends by returning or raising")


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Lets every status pass, because they are handled in one place."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response

    https_response = http_response


def _is_behind_proxy(parts: SplitResult) -> bool:
    return parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or "")


def _opener(bucket: SignedBucket) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_AnyStatus, urllib.request.HTTPSHandler(context=_context(bucket)))


def _context(bucket: SignedBucket) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if (trusted := bucket.ca_bundle()) is not None:
        context.load_verify_locations(cadata=trusted)
    if bucket.trusts_any_certificate:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
