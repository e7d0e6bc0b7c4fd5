"""The site over HTTP, read-only, with pages from the catalog and artifacts from the results store."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import attrs
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from emdstore import system
from emdstore.catalog import ArtifactRow, Catalog, ExecutionRow
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, QueryError
from emdstore.keys import is_valid_key
from emdstore.stores import ArtifactStore
from emdstore.web.access import Admission, same_origin
from emdstore.web.answering import ANSWERS_TO_ERRORS, page_of, send_artifact, warning_of
from emdstore.web.changes import USUAL_PERCENT, read_changes
from emdstore.web.compare import choose, read_comparison
from emdstore.web.diagnostic import read_diagnostic
from emdstore.web.execution import ExecutionPage, artifacts_of, read_execution
from emdstore.web.executions import read_executions
from emdstore.web.gate import AdmissionGate
from emdstore.web.group import read_group
from emdstore.web.memory import Memory
from emdstore.web.metrics import Known, known_metrics
from emdstore.web.numbers import MEDIA_TYPES, formats, overview_file, pieces_of
from emdstore.web.overview import read_overview
from emdstore.web.places import Places
from emdstore.web.reading import PATIENCE, ResultsReader
from emdstore.web.selection import PageSelection
from emdstore.web.site import OWN_FILES, own_file, versions
from emdstore.web.thumbnails import has_thumbnail, make_thumbnail
from emdstore.web.values import read_values
from emdstore.web.verdicts import LOOKS, WORDS, read_verdicts
from emdstore.web.views import View, Views, cards_of, read_view

_LONGEST_FORM = 256 * 1024
_SECONDS_FOR_A_FORM = 20.0
_MOST_THUMBNAILS = 2000
_MOST_COMPARISONS = 3  # in memory; each has all that moved
_MOST_DOWNLOADS = 4  # of values at once, because each holds a database connection while its client reads
_NUMBER = re.compile(r"\d{1,19}\Z", re.ASCII)


def make_app(
    catalog: Catalog,
    results: ArtifactStore,
    *,
    access: Admission | None = None,
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
    access = access or Admission("127.0.0.1")
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
            Route("/group", site.group, middleware=small),
            Route("/changes", site.changes, middleware=small),
            Route("/verdicts", site.verdicts, middleware=small),
            Route("/releases", site.releases, middleware=small),
            Route("/compare", site.compare, middleware=small),
            Route("/values", site.values, middleware=small),
            Route("/{rows}.{format}", site.export, middleware=small),
            Route("/artifacts/{rest:path}", site.artifact),
            Route("/static/{name}", site.own_file, middleware=small),
        ],
        middleware=[Middleware(AdmissionGate, access=access)],
        exception_handlers=ANSWERS_TO_ERRORS,
    )


class _Site:
    def __init__(self, catalog: Catalog, results: ResultsReader, secret: bytes, known: Known) -> None:
        self.catalog, self.results, self.secret, self.known = catalog, results, secret, known
        self.memory = Memory()
        self.compared = Memory(most=_MOST_COMPARISONS)
        self.views = Views(catalog, results)
        self.thumbnails: dict[str | None, bytes] = {}
        self._downloads = threading.BoundedSemaphore(_MOST_DOWNLOADS)

    def places(self, root: str = "") -> Places:
        return Places(root=root, secret=self.secret)

    def _catalog(self, request: Request) -> Catalog:
        """Return the catalog, or its part in the requested release."""
        release = request.query_params.get("release", "").strip()
        return self.catalog.of_release(release) if release else self.catalog

    def overview(self, request: Request) -> Response:
        selection = PageSelection.of(request.query_params.multi_items())
        page = read_overview(self._catalog(request), selection, self.known, self.memory)
        is_first = request.query_params.keys() <= {"release"}
        cards, problem = self._cards(selection.release) if is_first else ([], None)
        told: dict[str, Any] = {"cards": cards, "views_problem": problem, "linked": _always, "there": _always}
        return page_of("overview", self.places(), page=page, **told)

    def view(self, request: Request) -> Response:
        name = request.path_params["name"]
        view = next((each for each in self.views.read() if each.name == name), None)
        if view is None:
            raise HTTPException(404, f"There is no view {name!r}.")
        view = attrs.evolve(view, release=request.query_params.get("release", "").strip() or view.release)
        page = read_view(self.catalog, view, self.known, self.memory)
        return page_of("view", self.places("../"), page=page, there=_always)

    def _cards(self, release: str) -> tuple[list[tuple[View, int]], str | None]:
        """Return the views, of a release if one is asked for, and the number of their gaps; or why there are none."""
        try:
            views = self.views.read()
        except EmdstoreError as error:
            return [], str(error)
        asked = [attrs.evolve(view, release=release or view.release) for view in views]
        return cards_of(self.catalog, asked, self.known, self.memory), None

    def executions(self, request: Request) -> Response:
        page = read_executions(self._catalog(request), PageSelection.of(request.query_params.multi_items()))
        return page_of("executions", self.places(), page=page)

    def execution(self, request: Request) -> Response:
        row = self._row(request.path_params["execution_id"])
        return self._execution(self.places("../"), read_execution(self._catalog(request), self.results, row))

    def diagnostic(self, request: Request) -> Response:
        provider, _, diagnostic = request.query_params.get("d", "").partition("/")
        selection = PageSelection.of(request.query_params.multi_items())
        mine = request.query_params.get("model", "")
        page = read_diagnostic(
            self._catalog(request), self.results, (provider, diagnostic), selection, self.known, mine
        )
        if not page.scores.shown.total:
            raise HTTPException(404, f"The catalog has no execution of the diagnostic {provider}/{diagnostic}.")
        places = self.places()
        more = {"model": mine} if mine else {}
        return page_of(
            "diagnostic",
            places,
            page=page,
            there=_always,
            at=lambda query: places.diagnostic(provider, diagnostic, {**query, **more}),
            has_switch=True,
        )

    def group(self, request: Request) -> Response:
        place = request.query_params.get("g", "")
        page = read_group(self._catalog(request), place, request.query_params.get("release", "").strip())
        if not page.versions:
            raise HTTPException(404, f"The catalog has no execution of the group {place}.")
        return page_of("group", self.places(), page=page, there=_always)

    def changes(self, request: Request) -> Response:
        asked = request.query_params
        selection = PageSelection.of(asked.multi_items())
        percent = _percent(asked.get("over", ""))
        page = read_changes(
            self._catalog(request), selection, asked.get("from", "").strip(), asked.get("to", "").strip(), percent
        )
        return page_of("changes", self.places(), page=page)

    def verdicts(self, request: Request) -> Response:
        asked = request.query_params
        selection = PageSelection.of(asked.multi_items())
        page = read_verdicts(self._catalog(request), self.results, selection, asked, self.compared)
        places = self.places()
        told: dict[str, Any] = {"words": WORDS, "looks": LOOKS, "there": _always}
        return page_of("verdicts", places, page=page, src=lambda _, picture: places.thumbnail(picture), **told)

    def releases(self, request: Request) -> Response:
        named = self.catalog.releases.list()
        return page_of("releases", self.places(), releases=named, linked=lambda query: query["a"] != "release:")

    def compare(self, request: Request) -> Response:
        rows, unknown = choose(self._catalog(request), request.query_params.multi_items())
        part = PageSelection.of(request.query_params.multi_items()).page
        page = read_comparison(self._catalog(request), self.results, rows, unknown, part)
        places = self.places()
        return page_of("compare", places, page=page, parts_at=lambda n: places.compare({**page.query, "page": str(n)}))

    def values(self, request: Request) -> Response:
        page = read_values(self._catalog(request), PageSelection.of(request.query_params.multi_items()))
        return page_of("values", self.places(), page=page)

    def export(self, request: Request) -> Response:
        rows, format = request.path_params["rows"], request.path_params["format"]
        selection = PageSelection.of(request.query_params.multi_items())
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
        return page_of("execution", places, page=page, values=values, there=_always)

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
        return send_artifact(request, self.results, artifact, warning_of(row, artifact))

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
            return send_artifact(request, self.results, picture, {})
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
    """Yield the pieces, and free the place at the end, even if not all are taken."""
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
