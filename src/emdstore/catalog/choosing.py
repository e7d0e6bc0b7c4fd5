"""Selecting executions of a catalog with the same conditions as sets of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Unpack

from emdstore.catalog.catalog import Catalog
from emdstore.catalog.filters import Filters
from emdstore.catalog.rows import ExecutionRow
from emdstore.selection import Selection


def chosen_executions(catalog: Catalog, selection: Selection, **filters: Unpack[Filters]) -> Iterator[ExecutionRow]:
    """Return the selected executions, including retracted ones.

    Parameters
    ----------
    catalog
        The catalog.
    selection
        The selection. The time of an execution is that of its publication or, before that, of its last change; its size
        is that of its artifacts, of which it has none before its publication.
    filters
        As for `Catalog.executions`.

    Raises
    ------
    SelectionError
        If executions are to be selected by size, and that of an artifact is not known.
    """
    takes = takes_execution(catalog, selection)
    filters.setdefault("retracted", None)
    return (row for row in catalog.executions(**filters) if takes(row))


def takes_execution(
    catalog: Catalog, selection: Selection, size_of: Callable[[str], int] | None = None
) -> Callable[[ExecutionRow], bool]:
    """Return a function that tells whether an execution of the catalog is selected.

    Parameters
    ----------
    catalog, selection
        See `chosen_executions`.
    size_of
        Tells the size of an execution by its fragment, instead of the catalog.
    """
    if selection.is_all:
        return lambda _: True
    by_size = selection.min_size is not None or selection.max_size is not None
    sizes = catalog.records.sizes() if by_size and size_of is None else {}
    rows = catalog.executions(latest=True) if selection.latest else ()
    latest = {row.execution_id for row in rows}

    def takes(row: ExecutionRow) -> bool:
        if selection.latest and row.execution_id not in latest:
            return False
        return selection.takes_set(
            row.fragment,
            provider=row.provider,
            diagnostic=row.diagnostic,
            group=row.group,
            state=row.state,
            size=None if not by_size else size_of(row.fragment) if size_of else sizes.get(row.execution_id, 0),
            time=row.published_at or row.stopped_at or row.started_at or row.created_at,
        )

    return takes
