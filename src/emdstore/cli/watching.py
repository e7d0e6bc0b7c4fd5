"""The command that keeps a catalog up to date, as a service."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from emdstore.cli.choosing import ANYTHING, Choosing
from emdstore.cli.engines import HERE, Workers
from emdstore.cli.options import (
    ANY,
    PLAIN,
    AcceptLeftOut,
    Access,
    Config,
    Folder,
    OptionalCatalogURL,
    Output,
    WrongCallError,
    open_catalog,
    open_existing,
)
from emdstore.cli.progress import set_progress
from emdstore.cli.watch import watch as watch_store
from emdstore.cli.workspaces import open_workspace
from emdstore.ingestion.replay import replay
from emdstore.stores.urls import as_source

if TYPE_CHECKING:
    from emdstore.catalog import Catalog
    from emdstore.emds import Vocabulary
    from emdstore.ingestion.report import ReplayReport
    from emdstore.stores import ArtifactStore

_FIVE_MINUTES = timedelta(minutes=5)


def watch(
    store: str | None = None,
    /,
    *,
    every: timedelta = _FIVE_MINUTES,
    prefix: Folder = "",
    choosing: Choosing = ANYTHING,
    incomplete: bool = False,
    replace: bool = False,
    accept_left_out: AcceptLeftOut = False,
    on: Workers = HERE,
    catalog: OptionalCatalogURL = None,
    config: Config = None,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Replay a results store into the catalog again and again, with a line for each round.

    It survives outages of the store and of the database: they are reported, and the next round tries again. The
    configuration is read anew for each round; SIGHUP begins one at once, SIGTERM ends it, which is no failure. What the
    catalog already has is not read again.

    Parameters
    ----------
    store
        The results store; by default the workspace's.
    every
        How long to wait between two rounds: 30s, 5m, 1h.
    prefix
        Only sets in this folder.
    incomplete
        Also load sets without a record whose bundles name missing files.
    replace
        Let failed, incomplete and older sets replace complete publications in the catalog.
    """
    if every <= timedelta(0):
        raise WrongCallError("--every is more than nothing: 30s, 5m, 1h")
    selection = choosing.of_sets()

    def round_of(executor: Executor | None) -> ReplayReport:
        with _sides(store, catalog, config, access) as (results, database, vocabulary), set_progress("watch") as shown:
            return replay(
                results,
                database,
                prefix,
                selection=selection,
                vocabulary=vocabulary,
                incomplete=incomplete,
                replace=replace,
                executor=executor,
                on_progress=shown,
            )

    with on.executor() as executor:
        seconds = every.total_seconds()
        return watch_store(
            lambda: round_of(executor),
            seconds,
            output,
            accept_left_out=accept_left_out,
            command="watch",
            reloads=True,
        )


@contextmanager
def _sides(
    store: str | None, catalog: str | None, config: Config, access: Access
) -> Iterator[tuple[ArtifactStore, Catalog, Vocabulary | None]]:
    """Open what is given, and the rest as the workspace has it."""
    with ExitStack() as opened:
        results = open_existing(store, access) if store is not None else None
        database = opened.enter_context(open_catalog(catalog, create=True)) if catalog is not None else None
        if results is not None and database is not None:
            yield results, database, None
            return
        workspace = opened.enter_context(open_workspace(config, access, instead="STORE and --catalog"))
        yield results or as_source(workspace.results), database or workspace.catalog, workspace.vocabulary
