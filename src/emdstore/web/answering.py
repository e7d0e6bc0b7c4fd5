"""How the site answers over HTTP: with pages, messages, and artifacts or ranges of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import ExceptionHandler

from emdstore.catalog import ArtifactRow, ExecutionRow
from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    ExecutionNotFoundError,
    IncompleteSetError,
    QueryError,
    ReleaseError,
)
from emdstore.web.places import Places
from emdstore.web.reading import ResultsReader
from emdstore.web.site import POLICY, render

_log = logging.getLogger(__name__)
PAGE_HEADERS = {
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

# A range with too many digits is ignored, and the whole artifact is sent, as HTTP requires.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z", re.ASCII)


def warning_of(row: ExecutionRow, artifact: ArtifactRow) -> dict[str, str]:
    """Return the headers that warn of an artifact of a retracted set; its name when it is saved does so, too."""
    if row.retracted_at is None:
        return {}
    name = quote(artifact.key.rpartition("/")[2])
    reason = quote(row.retraction_reason or "", safe=" ,.;:()-")
    return {
        "Warning": f'299 emdstore "retracted: {reason}"',
        "Content-Disposition": f"inline; filename*=UTF-8''RETRACTED-{name}",
    }


def send_artifact(
    request: Request, results: ResultsReader, artifact: ArtifactRow, warning: Mapping[str, str]
) -> Response:
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


def page_of(template: str, places: Places, *, status: int = 200, **values: object) -> Response:
    """Answer with a page, made of a template and values."""
    return HTMLResponse(render(template, places, **values), status, PAGE_HEADERS)


def message(request: Request, status: int, title: str, text: str, headers: dict[str, str] | None = None) -> Response:
    """Answer with a page that says one thing."""
    depth = request.url.path.removeprefix(request.scope.get("root_path", "")).count("/") - 1
    page = page_of("message", Places("../" * depth), status=status, title=title, text=text)
    page.headers.update(headers or {})
    return page


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = {404: "There is nothing here", 403: "Not allowed"}.get(error.status_code, error.detail)
    text = "" if error.detail in (title, "Not Found") else error.detail
    return message(request, error.status_code, title, text, dict(error.headers or {}))


def _not_found(request: Request, error: Exception) -> Response:
    return message(request, 404, "There is no such execution", str(error))


def _corrupt(request: Request, error: Exception) -> Response:
    return message(request, 409, "This file is not as recorded", str(error))


def _unclear(request: Request, error: Exception) -> Response:
    return message(request, 400, "This request is not valid", str(error))


def _unavailable(request: Request, error: Exception) -> Response:
    _log.warning("%s: %s", request.url.path, error)
    return message(request, 503, "This cannot be shown at the moment", str(error))


ANSWERS_TO_ERRORS: Mapping[Any, ExceptionHandler] = {
    HTTPException: _refuse,
    ExecutionNotFoundError: _not_found,
    IncompleteSetError: _corrupt,
    QueryError: _unclear,
    ReleaseError: _unclear,
    EmdstoreError: _unavailable,
}
