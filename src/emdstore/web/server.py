"""The site's server, with limits on slow clients and on the number of connections."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 256
"""Requests beyond this number get a 503."""

SECONDS_FOR_A_REQUEST = 20.0
"""A client that has not sent the head of a request in this time is disconnected."""

SECONDS_FOR_A_PIECE = 60.0
"""A client that reads nothing of a response for this time is disconnected."""


def make_server(app: ASGIApp, **more: Any) -> uvicorn.Server:
    """Return a server for the site.

    Parameters
    ----------
    app
        What `emdstore.web.app.make_app` returned.
    **more
        Settings of uvicorn, in addition to the defaults here or instead of them.
    """
    ours: dict[str, Any] = {
        "http": BoundedProtocol,
        "ws": "none",
        "lifespan": "off",
        "limit_concurrency": MOST_CONNECTIONS,
        "log_config": None,
        "server_header": False,
        "timeout_graceful_shutdown": 3,
    }
    return uvicorn.Server(uvicorn.Config(app, **{**ours, **more}))


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 that disconnects clients that send or read too slowly."""

    _waiting: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Receive part of a request. Slow trickles do not extend the time limit for its head."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait()
        else:
            self._cancel()

    def pause_writing(self) -> None:
        """Note that the client has stopped reading."""
        super().pause_writing()
        self._stuck = self.loop.call_later(SECONDS_FOR_A_PIECE, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cancel()
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(SECONDS_FOR_A_REQUEST, self.transport.abort)

    def _cancel(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
