"""Who may enter the site, before any page is asked for."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from emdstore.web.access import COOKIE, PARAMETER, Admission
from emdstore.web.answering import PAGE_HEADERS, message

_LONGEST_QUERY = 8 * 1024


class AdmissionGate:
    """Admits visitors with access; see `Admission`."""

    def __init__(self, app: ASGIApp, access: Admission) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
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
            return message(request, 421, "Wrong host name", "Open the site with the address that it printed.")
        if self._access.token is None or request.url.path.startswith(("/artifacts/", "/static/")):
            return None  # an artifact's address is signed; the site's own files are public
        offered = request.query_params.get(PARAMETER)
        if offered is not None and self._access.admits(offered):
            return _welcome(request, offered)
        if self._access.admits(request.cookies.get(COOKIE)):
            return None
        return message(request, 401, "This site requires a token", "Open it with the whole address that it printed.")


def _plain(status: int, text: str) -> Response:
    """Return a plain response to an invalid request, without parsing its address."""
    return Response(f"{text}\n", status, PAGE_HEADERS, media_type="text/plain")


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
    page = message(request, 200, "Welcome", "")
    # Relative, like all links: the site may lie below a path that only a proxy knows.
    page.headers["Refresh"] = f"0; url={rest.path.rpartition('/')[2] or './'}{'?' + rest.query if rest.query else ''}"
    page.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return page
