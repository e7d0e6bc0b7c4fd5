"""Commands on the catalog's schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from emdstore.cli.executions import find_workspace
from emdstore.cli.options import PLAIN, Config, OptionalCatalogURL, Output, catalog_is_configuration
from emdstore.cli.render import show_document, show_fields

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
    """Tell which schema the catalog has, and change nothing. Exit code 1 if it cannot be used as it is."""
    with _catalog(catalog, config) as database:
        return _show("db check", database.check(), output)


def upgrade(*, catalog: OptionalCatalogURL = None, config: Config = None, output: Output = PLAIN) -> int:
    """Bring the catalog's schema up to date; an empty database is set up. If it fails, all stays as it was."""
    with _catalog(catalog, config) as database:
        return _show("db upgrade", database.upgrade(), output)


@contextmanager
def _catalog(url: str | None, config: Config) -> Iterator[Catalog]:
    from emdstore.catalog import Catalog

    with catalog_is_configuration():
        chosen = Catalog(url) if url is not None else find_workspace(config, instead="--catalog").catalog
        with chosen as catalog:
            yield catalog


def _show(command: str, status: CatalogStatus, output: Output) -> int:
    code = 0 if status.state in ("current", "empty") else 1
    if output.json:
        return show_document(command, attrs.asdict(status), code)
    what = f"{status.state}: {_MEANING[status.state]}"
    show_fields({"catalog": status.url, "schema": status.version, "latest": status.latest, "state": what})
    return code
