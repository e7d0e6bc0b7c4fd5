"""The command on snapshots: a catalog as Parquet files beside the results."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from emdstore.catalog.snapshots import Snapshot, list_snapshots, prune_snapshots, remove_snapshot
from emdstore.cli.options import PLAIN, OptionalCatalogURL, Output, WrongCallError, open_existing
from emdstore.cli.render import say, show_document, show_table, size_text, sum_up
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores, open_both
from emdstore.ingestion.snapshot import write_snapshot
from emdstore.stores import ArtifactStore
from emdstore.web.text import count_text

if TYPE_CHECKING:
    from emdstore.catalog import Catalog


def snapshot(
    store: str | None = None,
    /,
    *,
    catalog: OptionalCatalogURL = None,
    name: str | None = None,
    keep: int | None = None,
    listed: Annotated[bool, Parameter(name="--list")] = False,
    remove: str | None = None,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Write all tables of the catalog as Parquet files beside the results, for whoever has no database.

    Commands that only read take the results store (or the snapshot's folder) as --catalog then, from a folder, an
    object store or a web server. A snapshot is there as a whole or not at all, and never changes.

    Parameters
    ----------
    store
        The results store; by default the workspace's.
    name
        A new name; by default the time.
    keep
        Remove all snapshots but so many of the newest, after this one was written.
    listed
        Write nothing: list the snapshots that there are.
    remove
        Write nothing: remove this snapshot, also if it was never finished.
    """
    if (listed or remove is not None) and (name is not None or keep is not None or (listed and remove is not None)):
        raise WrongCallError("--list and --remove write nothing: give one of them, without --name and --keep")
    if keep is not None and keep < 1:
        raise WrongCallError(f"--keep is 1 or more, not {keep}")
    written: Snapshot | None = None
    gone: list[str] = []
    writes = not listed and remove is None
    opening: AbstractContextManager[tuple[Catalog | None, ArtifactStore]]
    if writes or store is None:
        opening = open_both(store, catalog, own)
    else:
        opening = nullcontext((None, open_existing(store, own.reach)))
    with opening as (database, results):
        if remove is not None:
            remove_snapshot(results, remove)
            gone = [remove]
        elif database is not None and writes:
            written = write_snapshot(database, results, name)
            gone = [] if keep is None else prune_snapshots(results, keep)
        found = list_snapshots(results)
    if output.json:
        document = {"snapshots": list(map(_told, found)), "written": written and written.name, "removed": gone}
        return show_document("snapshot", document)
    if listed:
        show_table(("snapshot", "written", "executions", "scalars", "series", "size"), map(_row, found))
    if written is not None:
        rows = sum(written.rows.values())
        say(f"snapshot {written.name}: {count_text(rows, 'row')}, {size_text(written.size)}")
    for each in gone:
        say(f"removed {each}")
    sum_up(f"{count_text(len(found), 'snapshot')} there")
    return 0


def _row(one: Snapshot) -> tuple[object, ...]:
    rows = one.rows
    counts = (rows["execution"], rows["scalar_value"], rows["series_value"])
    return (one.name, one.at, *counts, size_text(one.size))


def _told(one: Snapshot) -> Mapping[str, Any]:
    return {"name": one.name, "at": one.at, "schema": one.schema, "size": one.size, "rows": one.rows}
