"""Writing a snapshot of a catalog beside the results that it was loaded from."""

from __future__ import annotations

from collections.abc import Callable

from emdstore.catalog import Catalog
from emdstore.catalog.snapshots import Snapshot
from emdstore.ingestion.binding import bind
from emdstore.stores.urls import StoreLike, as_source


def write_snapshot(
    catalog: Catalog,
    store: StoreLike,
    name: str | None = None,
    *,
    on_progress: Callable[[str, int], object] | None = None,
) -> Snapshot:
    """Write all tables of a catalog, as they are now, as Parquet files beside its results.

    Whoever can read the results store can ask the snapshot by `Catalog` as if it were the database, from a folder, an
    object store or plain HTTP. It is there as a whole or not at all, and never changes. Memory does not grow with it.

    Parameters
    ----------
    catalog
        The catalog.
    store
        The results store that it was loaded from, a path or a URL.
    name
        A new name; by default the time. If there is a snapshot of this name with the same rows, nothing is written.
    on_progress
        Called with the name of each table and the number of its rows, once it is written.

    Returns
    -------
    Snapshot
        What was written.

    Raises
    ------
    SnapshotError
        If another snapshot has this name, or it makes no sense.
    CatalogError
        If the catalog cannot be read, or belongs to another results store. Nothing was written.
    MissingExtraError
        If the extra ``snapshot`` is not installed. Nothing was written.
    StoreError
        If the store cannot be read or written. There is no snapshot of this name then; what is there of its files is
        used by the next call with this name, and removed by `remove_snapshot`.
    """
    results = as_source(store)
    bind(catalog, results, looking=True)
    return catalog.write_snapshot(results, name, on_progress)
