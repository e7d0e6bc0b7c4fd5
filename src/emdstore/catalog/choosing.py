"""Choosing executions of a catalog by the same words as sets of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Unpack

from emdstore.catalog.catalog import Catalog
from emdstore.catalog.queries import Filters
from emdstore.catalog.rows import ExecutionRow
from emdstore.selection import Selection


def chosen_executions(catalog: Catalog, selection: Selection, **filters: Unpack[Filters]) -> Iterator[ExecutionRow]:
    """Return the executions that are chosen, also retracted ones.

    Parameters
    ----------
    catalog
        Where they are.
    selection
        What is chosen. An execution's time is that at which it was published or, before that, at which anything
        happened to it last; how many bytes it has is not known here.
    filters
        As for `Catalog.executions`.

    Raises
    ------
    SelectionError
        If executions are to be chosen by their size.
    """
    takes = takes_execution(catalog, selection)
    filters.setdefault("retracted", None)
    return (row for row in catalog.executions(**filters) if takes(row))


def takes_execution(catalog: Catalog, selection: Selection) -> Callable[[ExecutionRow], bool]:
    """Return what tells whether an execution of the catalog is chosen."""
    if selection.is_all:
        return lambda _: True
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
            size=None,
            time=row.published_at or row.stopped_at or row.started_at or row.created_at,
        )

    return takes
