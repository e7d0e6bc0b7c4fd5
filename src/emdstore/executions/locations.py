"""Where a project's executions are: the plain value that every verb takes."""

from __future__ import annotations

import os

import attrs

from emdstore.catalog import Catalog
from emdstore.emds import Vocabulary
from emdstore.errors import WorkspaceError
from emdstore.ingestion.binding import bind, bind_place
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.port import ArtifactStore
from emdstore.stores.urls import open_store


def _scratch(value: str | os.PathLike[str] | LocalArtifactStore) -> LocalArtifactStore:
    if isinstance(value, LocalArtifactStore):
        return value
    if "://" in os.fspath(value) and not os.fspath(value).startswith("file://"):
        raise WorkspaceError(f"scratch is a folder of this machine, where programs write files; not {value!r}")
    store = open_store(value)
    assert isinstance(store, LocalArtifactStore)
    return store


def _results(value: str | os.PathLike[str] | ArtifactStore) -> ArtifactStore:
    return open_store(value) if isinstance(value, str | os.PathLike) else value


def _catalog(value: str | os.PathLike[str] | Catalog) -> Catalog:
    return value if isinstance(value, Catalog) else Catalog(os.fspath(value))


@attrs.frozen(kw_only=True)
class Locations:
    """A scratch folder, a results store and a catalog that belong together: a `Workspace` without its verbs."""

    scratch: LocalArtifactStore = attrs.field(converter=_scratch)
    results: ArtifactStore = attrs.field(converter=_results)
    catalog: Catalog = attrs.field(converter=_catalog)
    vocabulary: Vocabulary | None = attrs.field(default=None, repr=False)
    clean_folder: bool = False
    clean_unnamed: bool = False
    lease_seconds: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))

    def bind(self, *, publishing: bool = False) -> None:
        """Tie the catalog to the results store; `CatalogError` if it is tied to another one.

        Parameters
        ----------
        publishing
            Whether to check the store's identity, and to give it one if it has none. Otherwise a store in the same
            place counts as the catalog's store.
        """
        if publishing:
            bind(self.catalog, self.results, publishing=True)
        else:
            bind_place(self.catalog, self.results)
