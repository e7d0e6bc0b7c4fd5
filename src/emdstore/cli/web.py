"""Commands to look at what was ingested: a served site, and one that is written to files."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from emdstore import system
from emdstore.catalog.rows import Status
from emdstore.cli.options import (
    PLAIN,
    Folder,
    NothingMatchedError,
    OptionalCatalogURL,
    Output,
    ReleaseName,
    WrongCallError,
)
from emdstore.cli.progress import set_progress
from emdstore.cli.render import note, say, show_document, size_text, sum_up
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores, open_both
from emdstore.errors import ArtifactExistsError, MissingExtraError
from emdstore.ingestion.replay import note_releases
from emdstore.sets.releasing import expect_release
from emdstore.stores import ArtifactStore
from emdstore.web.text import count_text

if TYPE_CHECKING:
    from emdstore.catalog import Catalog

_TOKEN = "EMDSTORE_TOKEN"


@contextmanager
def _opened(
    store: str | None, catalog: str | None, release: str | None, own: OwnAndStores
) -> Iterator[tuple[Catalog, ArtifactStore]]:
    """Open what to show: a results store with its catalog, or the workspace; or only the sets of a release."""
    with open_both(store, catalog, own) as (database, results):
        if release is None:
            yield database, results
            return
        note_releases(results, database)
        expect_release(results, release)
        narrowed = database.of_release(release)
        narrowed.executions(retracted=None).first()
        yield narrowed, results


def serve(
    store: str | None = None,
    /,
    *,
    catalog: OptionalCatalogURL = None,
    release: ReleaseName = None,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(alias="-p")] = 8000,
    metrics: Path | None = None,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Look at what was ingested in a browser: executions, plots, values. Nothing is ever changed. Ctrl-C ends it.

    Only this machine may connect, unless --host says otherwise. Then visitors need a token, which is part of the
    printed address: the one in EMDSTORE_TOKEN, or a new one.

    Parameters
    ----------
    store
        The results store; by default the workspace's.
    host
        The address to listen on: 0.0.0.0 for any.
    port
        The port to listen on; 0 for any free one.
    metrics
        A file that tells the perfect values of metrics, besides those that are known.
    """
    try:
        from emdstore.web.access import Admission
        from emdstore.web.app import make_app
        from emdstore.web.server import make_server
        from emdstore.web.site import require_extra

        require_extra()
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("`emdstore serve`", "web") from error
    admitted = Admission.to(host, os.environ.get(_TOKEN) or None)
    with _opened(store, catalog, release, own) as (database, results), _listening(host, port) as listening:
        server = make_server(make_app(database, results, access=admitted, metrics=metrics))
        url = _url(listening, admitted.token)
        if output.json:
            show_document("serve", {"url": url}, one_line=True)
        else:
            say(url)
            note("Ctrl-C ends it")
        sys.stdout.flush()  # the reader of a pipe is waiting for it
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            pass  # raised again by the server once it has closed its connections
    return 130


def report(
    store: str | None = None,
    /,
    *,
    folder: Annotated[Path, Parameter(name=("--output", "-o"))],
    catalog: OptionalCatalogURL = None,
    release: ReleaseName = None,
    status: tuple[Status, ...] = (),
    provider: tuple[str, ...] = (),
    diagnostic: tuple[str, ...] = (),
    group: tuple[str, ...] = (),
    fragment: Folder = "",
    data: Annotated[bool, Parameter(negative="--no-data")] = True,
    metrics: Path | None = None,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Write the pages of `emdstore serve` as files, to be opened, put on a web server or into a bucket.

    The folder also gets the artifacts, each checked against its record. What is missing or does not match is named on
    its page and here, and the exit code is 1. An option that is given several times selects any of its values.

    Parameters
    ----------
    store
        The results store; by default the workspace's.
    folder
        A new or empty folder, or an earlier report, which is brought up to date.
    status
        Only executions in this state.
    provider
        Only of this provider.
    diagnostic
        Only of this diagnostic.
    group
        Only of this group.
    fragment
        Only the executions in this folder.
    data
        Whether to write data files too; they may be large.
    metrics
        A file that tells the perfect values of metrics, besides those that are known.
    """
    from emdstore.web.report import write_report
    from emdstore.web.selection import PageSelection

    chosen = {"status": status, "provider": provider, "diagnostic": diagnostic, "group": group}
    selection = PageSelection(chosen={name: values for name, values in chosen.items() if values}, fragment=fragment)
    with _opened(store, catalog, release, own) as (database, results):
        asked = [f"{name} {' or '.join(values)}" for name, values in selection.chosen.items()]
        asked += [f"folder {fragment}"] if fragment else []
        filters: dict[str, Any] = {**selection.chosen}
        if asked and not database.executions(**filters, fragment=fragment, retracted=None).count():
            raise NothingMatchedError(
                f"no execution of {database.url} is of the {', '.join(asked)}", store=database.url
            )
        try:
            with set_progress("report") as on_progress:
                written = write_report(
                    folder, database, results, selection, data=data, metrics=metrics, on_progress=on_progress
                )
        except ArtifactExistsError as error:
            raise WrongCallError(str(error), store=error.store) from error
    code = 0 if written.ok else 1
    if output.json:
        return show_document("report", written.as_dict(), code)
    for each in written.troubles:
        say(f"{each.outcome}  {each.fragment}/{each.key}: {each.detail}", style="red")
    if written.left_out:
        say(f"{written.left_out} more executions were left out: select fewer for a report", style="red")
    shown = f"{count_text(written.executions, 'execution')}, {count_text(written.files, 'file')}"
    sum_up(f"{shown} ({size_text(written.bytes)}); open {written.index}")
    return code


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
        host = system.current().host()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/" + (f"?token={token}" if token else "")
