"""Commands on the catalog itself: its schema, its results store, and removing executions."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from emdstore.cli.options import (
    PLAIN,
    Config,
    Folder,
    OptionalCatalogURL,
    Output,
    catalog_is_configuration,
)
from emdstore.cli.render import say, show_document, show_fields
from emdstore.cli.workspaces import OWN_AND_STORES, Own, OwnAndStores

if TYPE_CHECKING:
    from emdstore.catalog import Catalog, CatalogStatus

_MEANING = {
    "current": "ready",
    "empty": "the first use will set it up",
    "behind": "run `emdstore db upgrade`",
    "unknown": "a newer emdstore made it; upgrade emdstore",
    "foreign": "it holds tables of another program; give the catalog a database of its own",
}


def check(*, catalog: OptionalCatalogURL = None, config: Config = None, output: Output = PLAIN) -> int:
    """Tell which schema the catalog has; nothing is changed. Exit code 1 if it cannot be used as it is."""
    with _catalog(catalog, config) as database:
        return _show("db check", database.check(), output)


def upgrade(*, catalog: OptionalCatalogURL = None, config: Config = None, output: Output = PLAIN) -> int:
    """Bring the catalog's schema up to date; an empty database is set up. If it fails, nothing changes."""
    with _catalog(catalog, config) as database:
        return _show("db upgrade", database.upgrade(), output)


def rebind(
    results: str | None = None,
    /,
    *,
    force: bool = False,
    catalog: OptionalCatalogURL = None,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Tell the catalog where its results store is now, after checking that it is the same one.

    A store that emdstore has published to is recognised wherever it is moved. This command is for a store that is known
    only by its place, or has lost its identity.

    Parameters
    ----------
    results
        The results store; the workspace's by default.
    force
        Do so even if the records that were looked for are missing or different.
    """
    from emdstore.catalog import Catalog
    from emdstore.cli.options import open_existing
    from emdstore.ingestion.binding import rebind as bind_anew

    with catalog_is_configuration():
        ours = functools.cache(lambda: own.find(instead="the results store and --catalog"))
        store = ours().results if results is None else open_existing(results, own.reach)
        chosen = ours().catalog if catalog is None else Catalog(catalog, create=False)
    with chosen as database:
        report = bind_anew(database, store, force=force)
    if output.json:
        return show_document("db rebind", attrs.asdict(report))
    before = "none" if report.before is None else report.before.url
    compared = f"{report.equal} of {report.compared + len(report.missing)} records that were looked for are as expected"
    show_fields({"before": before, "now": report.now.url, "identity": report.now.id, "compared": compared})
    return 0


def forget(
    execution: Folder,
    /,
    *,
    catalog: OptionalCatalogURL = None,
    config: Config = None,
    output: Output = PLAIN,
) -> int:
    """Remove one execution from the catalog, with its values. The results store is not touched.

    If the store still has the set, the next replay brings it back.

    Parameters
    ----------
    execution
        Its fragment, the end of it, or its id.
    """
    with _catalog(catalog, config) as database:
        gone = database.forget(execution)
    if output.json:
        return show_document("forget", {"fragment": gone.fragment, "status": gone.status})
    say(f"{gone.fragment} ({gone.status}, {gone.scalars} scalars, {gone.series} series) is gone from the catalog")
    return 0


@contextmanager
def _catalog(url: str | None, config: Config) -> Iterator[Catalog]:
    from emdstore.catalog import Catalog

    with catalog_is_configuration():
        chosen = Catalog(url) if url is not None else Own(config).find(instead="--catalog").catalog
        with chosen as catalog:
            yield catalog


def _show(command: str, status: CatalogStatus, output: Output) -> int:
    code = 0 if status.state in ("current", "empty") else 1
    if output.json:
        return show_document(command, attrs.asdict(status), code)
    what = f"{status.state}: {_MEANING[status.state]}"
    show_fields({"catalog": status.url, "schema": status.version, "latest": status.latest, "state": what})
    return code
