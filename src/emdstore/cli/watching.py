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
    PLAIN,
    AcceptLeftOut,
    Folder,
    OptionalCatalogURL,
    Output,
    WrongCallError,
    open_catalog,
    open_existing,
)
from emdstore.cli.progress import set_progress
from emdstore.cli.watch import watch as watch_store
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores
from emdstore.ingestion.lookout import Lookout
from emdstore.ingestion.replay import replay
from emdstore.stores.urls import as_source

if TYPE_CHECKING:
    from emdstore.catalog import Catalog
    from emdstore.emds import Vocabulary
    from emdstore.ingestion.replay_report import ReplayReport
    from emdstore.stores import ArtifactStore

_FIVE_MINUTES = timedelta(minutes=5)
_AN_HOUR = timedelta(hours=1)


def watch(
    store: str | None = None,
    /,
    *,
    every: timedelta = _FIVE_MINUTES,
    list_every: timedelta = _AN_HOUR,
    prefix: Folder = "",
    choosing: Choosing = ANYTHING,
    incomplete: bool = False,
    replace: bool = False,
    accept_left_out: AcceptLeftOut = False,
    on: Workers = HERE,
    catalog: OptionalCatalogURL = None,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Replay a results store into the catalog again and again, with a line for each round.

    Where the store keeps an event log, a round looks at the sets that events tell of, and all of the store is listed
    only once an hour; elsewhere each round lists all of it.

    It survives outages of the store and of the database: they are reported, and the next round tries again. The
    configuration is read anew for each round; SIGHUP begins one at once, SIGTERM ends it, which is no failure. What the
    catalog already has is not read again.

    Parameters
    ----------
    store
        The results store; by default the workspace's.
    every
        How long to wait between two rounds: 30s, 5m, 1h.
    list_every
        When to list all of the store again, because events may be missing.
    prefix
        Only sets in this folder.
    incomplete
        Also load sets without a record whose bundles name missing files.
    replace
        Let failed, incomplete and older sets replace complete publications in the catalog.
    """
    if every <= timedelta(0):
        raise WrongCallError("--every takes a time above 0: 30s, 5m, 1h")
    selection, lookout = choosing.of_sets(), Lookout(list_every.total_seconds())

    def round_of(executor: Executor | None) -> ReplayReport:
        with _sides(store, catalog, own) as (results, database, vocabulary), set_progress("watch") as shown:
            # Which set is the latest of its group tell all of them together.
            only = None if selection.latest else lookout.due(results, database)
            report = replay(
                results,
                database,
                prefix,
                only=only,
                selection=selection,
                vocabulary=vocabulary,
                incomplete=incomplete,
                replace=replace,
                executor=executor,
                on_progress=shown,
            )
            lookout.done(report, only=only)
            return report

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
    store: str | None, catalog: str | None, own: OwnAndStores
) -> Iterator[tuple[ArtifactStore, Catalog, Vocabulary | None]]:
    """Open what is given, and the rest as the workspace has it."""
    with ExitStack() as opened:
        results = open_existing(store, own.reach) if store is not None else None
        database = opened.enter_context(open_catalog(catalog, create=True)) if catalog is not None else None
        if results is not None and database is not None:
            yield results, database, None
            return
        workspace = opened.enter_context(own.open(instead="STORE and --catalog"))
        yield results or as_source(workspace.results), database or workspace.catalog, workspace.vocabulary
