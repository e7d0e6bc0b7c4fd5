"""The site over HTTP, read-only, with pages from the catalog and artifacts from the results store."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import logging
import math
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from emdstore import system
from emdstore.catalog import ArtifactRow, Catalog, ExecutionRow
from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    ExecutionNotFoundError,
    IncompleteSetError,
    QueryError,
    ReleaseError,
)
from emdstore.keys import is_valid_key
from emdstore.stores import ArtifactStore
from emdstore.web.access import COOKIE, PARAMETER, Access, same_origin
from emdstore.web.changes import USUAL_PERCENT, read_changes
from emdstore.web.compare import choose, read_comparison
from emdstore.web.diagnostic import read_diagnostic
from emdstore.web.execution import ExecutionPage, artifacts_of, read_execution
from emdstore.web.executions import read_executions
from emdstore.web.metrics import Known, known_metrics
from emdstore.web.numbers import MEDIA_TYPES, formats, overview_file, pieces_of
from emdstore.web.overview import Memory, read_overview
from emdstore.web.places import Places
from emdstore.web.reading import PATIENCE, ResultsReader
from emdstore.web.selection import Selection
from emdstore.web.site import OWN_FILES, POLICY, own_file, render, versions
from emdstore.web.thumbnails import has_thumbnail, make_thumbnail
from emdstore.web.values import read_values
from emdstore.web.views import View, Views, cards_of, read_view

_log = logging.getLogger(__name__)

_PAGE_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cache-Control": "private, no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_ARTIFACT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src 'self' data: blob:; media-src 'self' data:; font-src 'self' "
    "data:; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; frame-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'self'"
)
"""An artifact that is a page gets its own origin: its scripts reach neither this site nor any other."""

_LONGEST_FORM = 256 * 1024
_SECONDS_FOR_A_FORM = 20.0
_MOST_THUMBNAILS = 2000
_LONGEST_QUERY = 8 * 1024
_MOST_DOWNLOADS = 4  # of values at once, because each holds a database connection while its client reads
# A range with too many digits is ignored, and the whole artifact is sent, as HTTP requires.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z", re.ASCII)
_NUMBER = re.compile(r"\d{1,19}\Z", re.ASCII)


def make_app(
    catalog: Catalog,
    results: ArtifactStore,
    *,
    access: Access | None = None,
    patience: float = PATIENCE,
    metrics: Path | None = None,
) -> Starlette:
    """Return the site as an ASGI application.

    Parameters
    ----------
    catalog
        The catalog. It is only read.
    results
        Its results store. It is only read, and pages are shown without it if it does not answer.
    access
        Who has access; by default everyone who reaches this machine's loopback address.
    patience
        Seconds that a page waits for the results store.
    metrics
        A file that adds to the table of metrics; see docs/looking.md.

    Raises
    ------
    WorkspaceError
        If that file is no table of metrics.
    """
    access = access or Access("127.0.0.1")
    # Artifacts are sent as they are: their bytes are what the record and a range speak of.
    small = [Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)]
    site = _Site(
        catalog,
        ResultsReader(results, patience=patience),
        (access.token or system.current().token(32)).encode(),
        known_metrics(metrics),
    )
    return Starlette(
        routes=[
            Route("/", site.overview, middleware=small),
            Route("/view/{name}", site.view, middleware=small),
            Route("/executions", site.executions, middleware=small),
            Route("/execution/{execution_id}", site.execution, middleware=small),
            Route("/execution/{execution_id}/verify", site.verify, methods=["POST"]),
            Route("/diagnostic", site.diagnostic, middleware=small),
            Route("/changes", site.changes, middleware=small),
            Route("/releases", site.releases, middleware=small),
            Route("/compare", site.compare, middleware=small),
            Route("/values", site.values, middleware=small),
            Route("/{rows}.{format}", site.export, middleware=small),
            Route("/artifacts/{rest:path}", site.artifact),
            Route("/static/{name}", site.own_file, middleware=small),
        ],
        middleware=[Middleware(_Gate, access=access)],
        exception_handlers={
            HTTPException: _refuse,
            ExecutionNotFoundError: _not_found,
            IncompleteSetError: _corrupt,
            QueryError: _unclear,
            ReleaseError: _unclear,
            EmdstoreError: _unavailable,
        },
    )


class _Site:
    def __init__(self, catalog: Catalog, results: ResultsReader, secret: bytes, known: Known) -> None:
        self.catalog, self.results, self.secret, self.known = catalog, results, secret, known
        self.memory = Memory()
        self.views = Views(catalog, results)
        self.thumbnails: dict[str | None, bytes] = {}
        self._downloads = threading.BoundedSemaphore(_MOST_DOWNLOADS)

    def places(self, root: str = "") -> Places:
        return Places(root=root, secret=self.secret)

    def _catalog(self, request: Request) -> Catalog:
        """Return the catalog, or what it has of the release that is asked for."""
        release = request.query_params.get("release", "").strip()
        return self.catalog.of_release(release) if release else self.catalog

    def overview(self, request: Request) -> Response:
        selection = Selection.of(request.query_params.multi_items())
        page = read_overview(self._catalog(request), selection, self.known, self.memory)
        cards, problem = ([], None) if request.query_params else self._cards()
        told: dict[str, Any] = {"cards": cards, "views_problem": problem, "linked": _always, "there": _always}
        return _page("overview", self.places(), page=page, **told)

    def view(self, request: Request) -> Response:
        name = request.path_params["name"]
        view = next((each for each in self.views.read() if each.name == name), None)
        if view is None:
            raise HTTPException(404, f"There is no view {name!r}.")
        page = read_view(self.catalog, view, self.known, self.memory)
        return _page("view", self.places("../"), page=page, there=_always)

    def _cards(self) -> tuple[list[tuple[View, int]], str | None]:
        """Return the views, and how many gaps each has; or why they cannot be read."""
        try:
            views = self.views.read()
        except EmdstoreError as error:
            return [], str(error)
        return cards_of(self.catalog, views, self.known, self.memory), None

    def executions(self, request: Request) -> Response:
        page = read_executions(self._catalog(request), Selection.of(request.query_params.multi_items()))
        return _page("executions", self.places(), page=page)

    def execution(self, request: Request) -> Response:
        row = self._row(request.path_params["execution_id"])
        return self._execution(self.places("../"), read_execution(self._catalog(request), self.results, row))

    def diagnostic(self, request: Request) -> Response:
        provider, _, diagnostic = request.query_params.get("d", "").partition("/")
        selection = Selection.of(request.query_params.multi_items())
        mine = request.query_params.get("model", "")
        page = read_diagnostic(
            self._catalog(request), self.results, (provider, diagnostic), selection, self.known, mine
        )
        if not page.scores.shown.total:
            raise HTTPException(404, f"The catalog has no execution of the diagnostic {provider}/{diagnostic}.")
        places = self.places()
        more = {"model": mine} if mine else {}
        return _page(
            "diagnostic",
            places,
            page=page,
            there=_always,
            at=lambda query: places.diagnostic(provider, diagnostic, {**query, **more}),
        )

    def changes(self, request: Request) -> Response:
        asked = request.query_params
        selection = Selection.of(asked.multi_items())
        percent = _percent(asked.get("over", ""))
        page = read_changes(
            self._catalog(request), selection, asked.get("from", "").strip(), asked.get("to", "").strip(), percent
        )
        return _page("changes", self.places(), page=page)

    def releases(self, request: Request) -> Response:
        return _page("releases", self.places(), releases=self.catalog.releases.list())

    def compare(self, request: Request) -> Response:
        rows, unknown = choose(self._catalog(request), request.query_params.multi_items())
        part = Selection.of(request.query_params.multi_items()).page
        page = read_comparison(self._catalog(request), self.results, rows, unknown, part)
        places = self.places()
        return _page("compare", places, page=page, parts_at=lambda n: places.compare({**page.query, "page": str(n)}))

    def values(self, request: Request) -> Response:
        page = read_values(self._catalog(request), Selection.of(request.query_params.multi_items()))
        return _page("values", self.places(), page=page)

    def export(self, request: Request) -> Response:
        rows, format = request.path_params["rows"], request.path_params["format"]
        selection = Selection.of(request.query_params.multi_items())
        headers = {
            "Content-Disposition": f'attachment; filename="{_FILE_NAMES.get(rows)}.{format}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-cache",
        }
        if rows == "overview" and format in dict(formats()):
            page = read_overview(self._catalog(request), selection, self.known, self.memory)
            if format != "json":
                return Response(overview_file(page, format), headers=headers, media_type=MEDIA_TYPES[format])
            return JSONResponse(page.as_dict(), headers={**headers, "Content-Disposition": "inline"})
        asks: dict[str, Any] = {"values": self._catalog(request).scalars, "series": self._catalog(request).series}
        ask = asks.get(rows)
        if ask is None or format not in MEDIA_TYPES:
            raise HTTPException(404)
        query = ask(**(selection.scalar_filters if rows == "values" else selection.value_filters))
        if not self._downloads.acquire(blocking=False):
            raise HTTPException(503, "Others are downloading values; try again soon.", {"Retry-After": "10"})
        wide = request.query_params.get("wide") == "1"
        pieces = _released(pieces_of(query, format, wide=wide), self._downloads)
        first = next(pieces, b"")  # raises errors before the response has begun
        return StreamingResponse(itertools.chain([first], pieces), headers=headers, media_type=MEDIA_TYPES[format])

    async def verify(self, request: Request) -> Response:
        if not same_origin(request.headers):
            raise HTTPException(403, "The request comes from another site.")
        try:
            async with asyncio.timeout(_SECONDS_FOR_A_FORM):
                body = await _form(request)
        except TimeoutError:
            raise HTTPException(408) from None
        keys = {value for name, value in parse_qsl(body.decode("utf-8", "replace")) if name == "key"}
        return await run_in_threadpool(self._verify, request.path_params["execution_id"], keys)

    def _verify(self, execution_id: str, keys: set[str]) -> Response:
        row = self._row(execution_id)
        chosen = [each for each in artifacts_of(self.catalog, row) if not keys or each.key in keys]
        page = read_execution(self.catalog, self.results, row, self.results.check(chosen))
        return self._execution(self.places("../../"), page)

    def _execution(self, places: Places, page: ExecutionPage) -> Response:
        values = places.values({"in": page.line.row.fragment})
        return _page("execution", places, page=page, values=values)

    def artifact(self, request: Request) -> Response:
        segments = _segments(request)[1:]
        name, _, seal = segments[0].partition("-") if segments else ("", "", "")
        key = "/".join(segments[1:])
        if not _NUMBER.match(name) or not hmac.compare_digest(seal.encode(), self.places().seal(int(name)).encode()):
            raise HTTPException(404)
        row = self._row(name)
        artifact = next((each for each in artifacts_of(self.catalog, row) if each.key == key), None)
        if artifact is None:
            raise HTTPException(404, f"{key!r} is not in the record of this execution.")
        if request.query_params.get("small") == "1" and has_thumbnail(artifact):
            return self._small(request, artifact)
        return _send(request, self.results, artifact, _warning_of(row, artifact))

    def _small(self, request: Request, picture: ArtifactRow) -> Response:
        """Send a thumbnail, which is remembered; a picture that has none is sent as it is."""
        small = self.thumbnails.get(picture.sha256)
        if small is None:
            try:
                small = make_thumbnail(self.results.read(picture)) or b""
            except ArtifactNotFoundError:
                raise HTTPException(404, f"{picture.key!r} is missing from the results store.") from None
            if picture.sha256 is not None:
                if len(self.thumbnails) >= _MOST_THUMBNAILS:
                    self.thumbnails.clear()
                self.thumbnails[picture.sha256] = small
        if not small:
            return _send(request, self.results, picture, {})
        is_version = picture.sha256 and request.query_params.get("v") == picture.sha256[:16]
        kept = "max-age=31536000, immutable" if is_version else "no-cache"
        headers = {"Cache-Control": f"private, {kept}", "X-Content-Type-Options": "nosniff"}
        return Response(small, media_type="image/webp", headers=headers)

    def own_file(self, request: Request) -> Response:
        name = request.path_params["name"]
        data = own_file(name)
        if data is None:
            raise HTTPException(404)
        is_version = request.query_params.get("v") == versions()[name]
        kept = "max-age=31536000, immutable" if is_version else "no-cache"
        headers = {"Cache-Control": f"private, {kept}", "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type=OWN_FILES[name], headers=headers)

    def _row(self, execution_id: str) -> ExecutionRow:
        if not _NUMBER.match(execution_id):
            raise HTTPException(404)
        return self.catalog.execution(int(execution_id))


_FILE_NAMES = {"values": "scalars", "series": "series", "overview": "overview"}


def _always(_: object) -> bool:
    return True


def _percent(asked: str) -> float:
    try:
        found = float(asked or USUAL_PERCENT)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise QueryError(f"{asked!r} is no percentage: write it as 5 or 0.5", key=asked)
    return found


def _released(pieces: Iterator[bytes], place: threading.BoundedSemaphore) -> Iterator[bytes]:
    """Yield the pieces, and give the place back at the end, also if nobody takes them all."""
    try:
        yield from pieces
    finally:
        place.release()


async def _form(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise HTTPException(413)
    return body


# -- artifacts -------------------------------------------------------------------------------------------------------


def _warning_of(row: ExecutionRow, artifact: ArtifactRow) -> dict[str, str]:
    """Return the headers that warn of an artifact of a retracted set; its name when it is saved does so, too."""
    if row.retracted_at is None:
        return {}
    name = quote(artifact.key.rpartition("/")[2])
    reason = quote(row.retraction_reason or "", safe=" ,.;:()-")
    return {
        "Warning": f'299 emdstore "retracted: {reason}"',
        "Content-Disposition": f"inline; filename*=UTF-8''RETRACTED-{name}",
    }


def _send(request: Request, results: ResultsReader, artifact: ArtifactRow, warning: Mapping[str, str]) -> Response:
    """Send an artifact or the requested range, or say that the browser's copy is current."""
    media_type = artifact.media_type or "application/octet-stream"
    headers = {
        "Content-Security-Policy": _ARTIFACT_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "private, no-cache",
        **warning,
    }
    if artifact.sha256:
        headers["ETag"] = f'"{artifact.sha256}"'
        if request.query_params.get("v") == artifact.sha256[:16] and not warning:
            headers["Cache-Control"] = "private, max-age=31536000, immutable"
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
    if media_type.startswith("text/") and "charset" not in media_type:
        media_type += "; charset=utf-8"
    headers["Content-Type"] = media_type
    if artifact.size is not None:
        headers["Accept-Ranges"] = "bytes"
    try:
        part = _range(request, artifact, headers.get("ETag"))
        if part is None:
            chunks = results.read(artifact)
            length = artifact.size
        else:
            start, stop = part
            chunks = results.read_range(artifact, start, stop)
            length = stop - start
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{artifact.size}"
    except ArtifactNotFoundError:
        raise HTTPException(404, f"{artifact.key!r} is missing from the results store.") from None
    if length is not None:
        headers["Content-Length"] = str(length)
    return StreamingResponse(chunks, status_code=200 if part is None else 206, headers=headers)


def _range(request: Request, artifact: ArtifactRow, tag: str | None) -> tuple[int, int] | None:
    """Return the requested range as start and stop; None for the whole artifact."""
    asked = _RANGE.match(request.headers.get("range", ""))
    if asked is None or not artifact.size or request.headers.get("if-range", tag) != tag:
        return None
    first, last = asked.groups()
    if first:
        start, stop = int(first), min(int(last) + 1 if last else artifact.size, artifact.size)
    elif last:
        start, stop = max(0, artifact.size - int(last)), artifact.size
    else:
        return None
    if start >= stop:
        raise HTTPException(416, headers={"Content-Range": f"bytes */{artifact.size}"})
    return start, stop


def _segments(request: Request) -> list[str]:
    """Return the segments of the path, decoded separately: an encoded slash is not a separator."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    root = request.scope.get("root_path", "").encode()
    try:
        segments = [unquote_to_bytes(each).decode() for each in raw.removeprefix(root).split(b"/")[1:]]
    except UnicodeDecodeError:
        raise HTTPException(404) from None
    if any("/" in each for each in segments) or not is_valid_key("/".join(segments)):
        raise HTTPException(404)
    return segments


# -- pages and answers -----------------------------------------------------------------------------------------------


def _page(template: str, places: Places, *, status: int = 200, **values: object) -> Response:
    return HTMLResponse(render(template, places, **values), status, _PAGE_HEADERS)


def _message(request: Request, status: int, title: str, text: str, headers: dict[str, str] | None = None) -> Response:
    depth = request.url.path.removeprefix(request.scope.get("root_path", "")).count("/") - 1
    page = _page("message", Places("../" * depth), status=status, title=title, text=text)
    page.headers.update(headers or {})
    return page


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = {404: "There is nothing here", 403: "Not allowed"}.get(error.status_code, error.detail)
    text = "" if error.detail in (title, "Not Found") else error.detail
    return _message(request, error.status_code, title, text, dict(error.headers or {}))


def _not_found(request: Request, error: Exception) -> Response:
    return _message(request, 404, "There is no such execution", str(error))


def _corrupt(request: Request, error: Exception) -> Response:
    return _message(request, 409, "This file is not as recorded", str(error))


def _unclear(request: Request, error: Exception) -> Response:
    return _message(request, 400, "This request is not valid", str(error))


def _unavailable(request: Request, error: Exception) -> Response:
    _log.warning("%s: %s", request.url.path, error)
    return _message(request, 503, "This cannot be shown at the moment", str(error))


class _Gate:
    """Admits visitors with access; see `Access`."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if len(scope.get("query_string", b"")) > _LONGEST_QUERY:
            await _plain(414, "This address is too long.")(scope, receive, send)
            return
        request = Request(scope)
        if not _is_host(request.headers.get("host", "")):
            await _plain(400, "The request does not say which server it is for.")(scope, receive, send)
            return
        answer = self._answer(request)
        await (answer or self._app)(scope, receive, send)

    def _answer(self, request: Request) -> Response | None:
        if not self._access.knows_host(request.headers.get("host", "")):
            return _message(request, 421, "Wrong host name", "Open the site with the address that it printed.")
        if self._access.token is None or request.url.path.startswith(("/artifacts/", "/static/")):
            return None  # an artifact's address is signed; the site's own files are public
        offered = request.query_params.get(PARAMETER)
        if offered is not None and self._access.admits(offered):
            return _welcome(request, offered)
        if self._access.admits(request.cookies.get(COOKIE)):
            return None
        return _message(request, 401, "This site requires a token", "Open it with the whole address that it printed.")


def _plain(status: int, text: str) -> Response:
    """Return a plain response to an invalid request, without parsing its address."""
    return Response(f"{text}\n", status, _PAGE_HEADERS, media_type="text/plain")


def _is_host(header: str) -> bool:
    try:
        parts = urlsplit(f"//{header}")
        return parts.port is None or parts.port >= 0
    except ValueError:
        return False


def _welcome(request: Request, token: str) -> Response:
    """Store the token in a cookie, and go to the same page without the token in its address.

    The page refreshes itself: after a redirect from another site the browser would not send the cookie.
    """
    rest = URL(str(request.url)).remove_query_params(PARAMETER)
    page = _message(request, 200, "Welcome", "")
    # Relative, like all links: the site may lie below a path that only a proxy knows.
    page.headers["Refresh"] = f"0; url={rest.path.rpartition('/')[2] or './'}{'?' + rest.query if rest.query else ''}"
    page.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return page
