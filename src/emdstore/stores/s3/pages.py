"""Pages of a bucket's listing, asked for and read without the engine: ListObjectsV2 of the S3 API.

The engine takes whatever a server answers with status 200 for a listing: of an error, of a gateway's login page or of
nothing it makes the end of the bucket. It also drops slashes from names, and stops at some. So listings are read here,
and an answer that is not a whole page is an error like any other of the server's.
"""

from __future__ import annotations

import http.client
import random
import ssl
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree import ElementTree

import attrs

from emdstore.errors import StoreUnavailableError
from emdstore.stores.s3.bucket import Bucket

Entry = Any
"""What is said of an object: ``path``, ``size``, ``last_modified`` and ``e_tag``, as the engine has it."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0


@attrs.frozen
class Page:
    """Some of what lies in a folder of a bucket, with the names as they are.

    Attributes
    ----------
    objects
        The objects.
    folders
        Where folders are asked for: their names, each with a slash at its end.
    """

    objects: list[Entry]
    folders: list[str]


def iter_pages(bucket: Bucket, folder: str, *, after: str = "", delimiter: str = "") -> Iterator[Page]:
    """Yield what lies in a folder of a bucket, page by page, in the server's order.

    Parameters
    ----------
    bucket, folder
        What to list; ``""`` for all of the bucket.
    after
        The name that the listing begins after, for a server that lists in order.
    delimiter
        ``"/"`` to have the folders in the folder instead of what lies in them.

    Raises
    ------
    StoreUnavailableError
        If the server does not answer, or with something else than a page of this listing, again and again.
    """
    prefix = folder and folder + "/"
    query = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "start-after": after, "delimiter": delimiter}
    with _Connection(bucket) as connection:
        while True:
            page, token = _ask(bucket, connection, folder, prefix, query)
            yield page
            if token is None:
                return
            query["continuation-token"] = token


def _ask(
    bucket: Bucket, connection: _Connection, folder: str, prefix: str, query: dict[str, str]
) -> tuple[Page, str | None]:
    """Return the page, and the token of the next one; try again as often, and as long, as the engine would."""
    began, pause = time.monotonic(), _FIRST_PAUSE
    for attempt in range(bucket.retries + 1):
        try:
            with bucket.errors.translating("list", folder):
                return _read(connection.get(query), prefix, query)
        except StoreUnavailableError:
            if attempt == bucket.retries or time.monotonic() - began > bucket.patience:
                raise
        time.sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, _LONGEST_PAUSE)
    raise AssertionError("a loop of attempts ends by returning or raising")


class _Connection:
    """A connection to the server that stays open between pages, unless a proxy is on the way."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._open: http.client.HTTPConnection | None = None

    def get(self, query: dict[str, str]) -> bytes:
        """Return the body of an answer with status 200; anything else is an `OSError` in the words that are read."""
        asked = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items() if value)
        url = self._bucket.signed_listing(asked)
        try:
            status, body = self._get(url)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise OSError(f"HTTP error: {type(error).__name__}: {error}") from None
        if status != 200:
            raise OSError(f"status code: {status} {body.decode(errors='replace')}")
        return body

    def _get(self, url: str) -> tuple[int, bytes]:
        parts = urlsplit(url)
        if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or ""):
            with _opener(self._bucket).open(url, timeout=self._bucket.timeout) as answer:
                return answer.status, answer.read()
        if self._open is None:
            self._open = self._connect(parts.scheme, parts.netloc)
        assert self._open.sock is not None
        self._open.sock.settimeout(self._bucket.timeout)
        self._open.request("GET", f"{parts.path or '/'}?{parts.query}")
        answer = self._open.getresponse()
        body = answer.read()
        if answer.will_close:
            self.close()
        return answer.status, body

    def _connect(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        patience = self._bucket.connect_timeout
        connection = (
            http.client.HTTPConnection(netloc, timeout=patience)
            if scheme == "http"
            else http.client.HTTPSConnection(netloc, timeout=patience, context=_context(self._bucket))
        )
        connection.connect()
        return connection

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self.close()


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Lets every status pass, so that one place reads them."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response

    https_response = http_response


def _opener(bucket: Bucket) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_AnyStatus, urllib.request.HTTPSHandler(context=_context(bucket)))


def _context(bucket: Bucket) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if bucket.trusts_any_certificate:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# -- reading a page ----------------------------------------------------------------------------------------------------


def _read(body: bytes, prefix: str, query: dict[str, str]) -> tuple[Page, str | None]:
    try:
        root = ElementTree.fromstring(body)
        if _local(root.tag) != "ListBucketResult":
            # With S3's own code, if it is an error that came after the status.
            raise ValueError(f"<{_local(root.tag)}> {body[:1000].decode(errors='replace')}")
        return _page(root, prefix, query)
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise OSError(f"HTTP error: the answer is not a listing, or only a part of one: {error}") from None


def _page(root: ElementTree.Element, prefix: str, query: dict[str, str]) -> tuple[Page, str | None]:
    objects: list[Entry] = []
    folders: list[str] = []
    is_truncated = token = ""
    for child in root:
        kind = _local(child.tag)
        if kind == "Contents":
            objects.append(_object({_local(each.tag): each.text or "" for each in child}))
        elif kind == "CommonPrefixes":
            folders.extend(unquote_plus(each.text or "") for each in child)
        elif kind == "IsTruncated":
            is_truncated = (child.text or "").strip()
        elif kind == "NextContinuationToken":
            token = child.text or ""
    stray = next(
        (name for name in (*(each["path"] for each in objects), *folders) if not name.startswith(prefix)), None
    )
    if stray is not None:
        raise ValueError(f"{stray!r} does not lie in {prefix!r}")
    if is_truncated not in ("true", "false"):
        raise ValueError("it does not say whether it goes on")
    if is_truncated == "false":
        return Page(objects, folders), None
    if not token or token == query.get("continuation-token"):
        raise ValueError("it goes on, and does not say where")
    return Page(objects, folders), token


def _object(fields: dict[str, str]) -> Entry:
    return {
        "path": unquote_plus(fields["Key"]) if fields.get("Key") else _missing("Key"),
        "size": int(fields.get("Size") or _missing("Size")),
        "last_modified": datetime.fromisoformat(fields.get("LastModified") or _missing("LastModified")),
        "e_tag": fields.get("ETag"),
    }


def _missing(what: str) -> str:
    raise ValueError(f"an object has no {what}")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
