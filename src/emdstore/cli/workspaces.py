"""The workspace, or the catalog, that a command works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from emdstore.cli.options import Config, Patience, catalog_is_configuration, open_catalog
from emdstore.errors import WorkspaceError
from emdstore.executions.workspace import Workspace

if TYPE_CHECKING:
    from emdstore.catalog import Catalog

NoCatalog = Annotated[bool, Parameter(name="--no-catalog")]

_IN_MEMORY = "sqlite://"


def find_workspace(
    config: Path | None, patience: Patience, *, instead: str | None = None, catalog: str | None = None
) -> Workspace:
    """Find the workspace of a command; `instead` is the option that makes it unnecessary."""
    try:
        return Workspace.open(config, catalog=catalog, results_options=patience.bounds())
    except WorkspaceError as error:
        if instead is None or config is not None:
            raise
        raise WorkspaceError(f"{error}; or give {instead}") from error


@contextmanager
def open_workspace(
    config: Path | None, patience: Patience, *, instead: str | None = None, no_catalog: bool = False
) -> Iterator[Workspace]:
    """Open the workspace of a command, and check that its catalog can be used.

    Without the catalog, an empty one in memory replaces it.
    """
    with find_workspace(config, patience, instead=instead, catalog=_IN_MEMORY if no_catalog else None) as workspace:
        with catalog_is_configuration():
            workspace.bind()
        yield workspace


@contextmanager
def open_catalog_of(url: str | None, config: Config, patience: Patience) -> Iterator[Catalog]:
    """Open the catalog for a command: the one at the URL, otherwise the workspace's."""
    if url is not None:
        with open_catalog(url, create=False) as catalog:
            yield catalog
        return
    with open_workspace(config, patience, instead="--catalog") as workspace:
        yield workspace.catalog
