"""Commands to look at what was ingested: a site that is served, and one that is written to files."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from emdstore.cli.executions import Config, open_workspace
from emdstore.cli.options import ANY, PLAIN, Access, Output, WrongCallError, open_catalog, open_existing
from emdstore.cli.render import note, say, show_json
from emdstore.errors import MissingExtraError
from emdstore.stores import ArtifactStore

if TYPE_CHECKING:
    from emdstore.catalog import Catalog

OptionalCatalog = Annotated[str | None, Parameter(name="--catalog", env_var="EMDSTORE_CATALOG")]

_TOKEN = "EMDSTORE_TOKEN"


@contextmanager
def _opened(
    store: str | None, catalog: str | None, config: Path | None, access: Access
) -> Iterator[tuple[Catalog, ArtifactStore]]:
    """Open what is looked at: a results store with its catalog, or the workspace."""
    if store is None:
        with open_workspace(config, instead="STORE and --catalog") as workspace:
            yield workspace.catalog, workspace.results
        return
    if catalog is None:
        raise WrongCallError("give the catalog that was loaded from this store: --catalog URL")
    results = open_existing(store, access)
    with open_catalog(catalog, create=False) as database:
        yield database, results


def serve(
    store: str | None = None,
    /,
    *,
    catalog: OptionalCatalog = None,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(alias="-p")] = 8000,
    config: Config = None,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Look at what was ingested in a browser: executions, plots, values. Nothing is ever changed. Ctrl-C ends it.

    Only this machine may connect, unless --host says otherwise; then a token is wanted, which is part of the address
    that is printed. It is the one in EMDSTORE_TOKEN, or a new one.

    Parameters
    ----------
    store
        The results store; by default the workspace's.
    catalog
        The database that was loaded from it; by default the workspace's.
    host
        The address to listen on: 0.0.0.0 for any.
    port
        The port to listen on; 0 for any free one.
    config
        The workspace's file or folder; by default the emdstore.toml here or in a folder above.
    """
    try:
        import uvicorn

        from emdstore.web import access as access_to
        from emdstore.web.app import make_app
        from emdstore.web.site import chart_library

        chart_library()
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("`emdstore serve`", "web") from error
    admitted = access_to.Access.to(host, os.environ.get(_TOKEN) or None)
    with _opened(store, catalog, config, access) as (database, results), _listening(host, port) as listening:
        app = make_app(database, results, access=admitted)
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, server_header=False, timeout_graceful_shutdown=3, lifespan="off")
        )
        url = _url(listening, admitted.token)
        if output.json:
            show_json({"url": url})
        else:
            say(url)
            note("Ctrl-C ends it")
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            pass  # raised again by the server once it has closed its connections
    return 130


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise WrongCallError(
            f"cannot listen on port {port} of {host}: {getattr(error, 'strerror', None) or error}; give another --port "
            "(0 for any free one) or --host"
        ) from error
    with listening:
        yield listening


def _url(listening: socket.socket, token: str | None) -> str:
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/" + (f"?token={token}" if token else "")
