"""Commands on the catalog's schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from emdstore.cli.executions import Config, catalog_is_configuration, find_workspace
from emdstore.cli.options import PLAIN, Output
from emdstore.cli.render import show_fields, show_json

if TYPE_CHECKING:
    from emdstore.catalog import Catalog, CatalogStatus

CatalogURL = Annotated[str | None, Parameter(name="--catalog", env_var="EMDSTORE_CATALOG")]

_MEANING = {
    "current": "ready",
    "empty": "the first use will set it up",
    "behind": "run `emdstore db upgrade`",
    "unknown": "a newer emdstore made it; upgrade emdstore",
    "foreign": "it holds tables of another program; give the catalog a database of its own",
}


def check(*, catalog: CatalogURL = None, config: Config = None, output: Output = PLAIN) -> int:
    """Tell which schema the catalog has, and change nothing. Exit code 1 if it cannot be used as it is.

    Parameters
    ----------
    catalog
        The database: a SQLite file, or a URL such as postgresql://host/name; by default the workspace's.
    config
        The workspace's file or folder; by default the emdstore.toml here or in a folder above.
    """
    with _catalog(catalog, config) as database:
        return _show(database.check(), output)


def upgrade(*, catalog: CatalogURL = None, config: Config = None, output: Output = PLAIN) -> int:
    """Bring the catalog's schema up to date; an empty database is set up. If it fails, all stays as it was.

    Parameters
    ----------
    catalog
        The database: a SQLite file, or a URL such as postgresql://host/name; by default the workspace's.
    config
        The workspace's file or folder; by default the emdstore.toml here or in a folder above.
    """
    with _catalog(catalog, config) as database:
        return _show(database.upgrade(), output)


@contextmanager
def _catalog(url: str | None, config: Config) -> Iterator[Catalog]:
    from emdstore.catalog import Catalog

    with catalog_is_configuration():
        chosen = Catalog(url) if url is not None else find_workspace(config, instead="--catalog").catalog
        with chosen as catalog:
            yield catalog


def _show(status: CatalogStatus, output: Output) -> int:
    if output.json:
        show_json(status)
    else:
        what = f"{status.state}: {_MEANING[status.state]}"
        show_fields({"catalog": status.url, "schema": status.version, "latest": status.latest, "state": what})
    return 0 if status.state in ("current", "empty") else 1
