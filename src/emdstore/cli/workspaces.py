"""The workspace, or the catalog, that a command works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import attrs
from cyclopts import Parameter

from emdstore.cli.options import (
    ANY,
    PATIENT,
    Access,
    Config,
    OptionalCatalogURL,
    Patience,
    WrongCallError,
    catalog_is_configuration,
    open_catalog,
    open_existing,
)
from emdstore.errors import WorkspaceError
from emdstore.stores import ArtifactStore

if TYPE_CHECKING:
    from emdstore.catalog import Catalog
    from emdstore.executions.workspace import Workspace

NoCatalog = Annotated[bool, Parameter(name="--no-catalog")]

_IN_MEMORY = "sqlite://"


@Parameter(name="*")
@attrs.frozen
class Own:
    """The workspace of a command, and how long to wait for its servers."""

    config: Config = None
    reach: Patience = PATIENT

    def find(self, *, instead: str | None = None, catalog: str | None = None) -> Workspace:
        """Find the workspace; `instead` is the option that makes it unnecessary."""
        from emdstore.executions.workspace import Workspace  # with SQLAlchemy, which many calls do not need

        try:
            return Workspace.open(self.config, catalog=catalog, results_options=self.reach.bounds())
        except WorkspaceError as error:
            if instead is None or self.config is not None:
                raise
            raise WorkspaceError(f"{error}; or give {instead}") from error

    @contextmanager
    def open(self, *, instead: str | None = None, no_catalog: bool = False) -> Iterator[Workspace]:
        """Open the workspace, and check that its catalog can be used.

        Without the catalog, an empty one in memory replaces it.
        """
        with self.find(instead=instead, catalog=_IN_MEMORY if no_catalog else None) as workspace:
            with catalog_is_configuration():
                workspace.bind()
            yield workspace


@Parameter(name="*")
@attrs.frozen
class OwnAndStores(Own):
    """The workspace of a command that takes other stores, too, and how to reach all of them."""

    reach: Access = ANY


@Parameter(name="*")
@attrs.frozen
class OwnCatalog:
    """The catalog that a command reads: the one at a URL, or the workspace's."""

    url: OptionalCatalogURL = None
    own: Own = Own()

    @contextmanager
    def open(self) -> Iterator[Catalog]:
        """Open it."""
        if self.url is not None:
            with open_catalog(self.url, self.own.reach, create=False) as catalog:
                yield catalog
            return
        with self.own.open(instead="--catalog") as workspace:
            yield workspace.catalog


OWN = Own()
OWN_AND_STORES = OwnAndStores()
OWN_CATALOG = OwnCatalog()


@contextmanager
def open_both(store: str | None, catalog: str | None, own: OwnAndStores) -> Iterator[tuple[Catalog, ArtifactStore]]:
    """Open a catalog and the results store that it was loaded from: those at the URLs, otherwise the workspace's."""
    if store is None:
        with own.open(instead="STORE and --catalog") as workspace:
            yield workspace.catalog, workspace.results
        return
    if catalog is None:
        raise WrongCallError("give the catalog that was loaded from this store: --catalog URL")
    results = open_existing(store, own.reach)
    with open_catalog(catalog, own.reach, create=False) as database:
        yield database, results
