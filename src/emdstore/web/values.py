"""The page of values: scalars filtered by dimension, as charts, a table and CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emdstore.catalog import Catalog, ScalarRow
from emdstore.catalog.browse import page_of
from emdstore.catalog.rows import FlaggedScalarRow
from emdstore.web.charts import Chart, scalar_charts
from emdstore.web.execution import ScalarTable
from emdstore.web.executions import ListedExecution, listed_executions
from emdstore.web.selection import Facet, PageSelection, dimension_facet, facet

ON_A_PAGE = 200

_MOST_COUNTED = 200_000
"""Counting more rows by each of their dimensions takes too long for a page."""


@attrs.frozen
class ValuesPage:
    """Scalars.

    Attributes
    ----------
    selection
        The request.
    table
        The scalars of this page, and the total number.
    pages
        The number of pages.
    facets
        The available filters.
    too_many
        Whether there are too many scalars to count them by dimension.
    charts
        The charts of this page.
    lines
        The executions of the scalars of this page, by id.
    dimensions
        The dimensions by which dots can be coloured.
    incomplete
        How many scalars of incomplete sets match, which are left out.
    hidden
        How many are hidden as outliers.
    python
        The call that gives the same scalars.
    """

    selection: PageSelection
    table: ScalarTable
    pages: int
    facets: tuple[Facet, ...]
    too_many: bool
    charts: tuple[Chart, ...]
    lines: Mapping[int, ListedExecution]
    dimensions: tuple[str, ...]
    incomplete: int = 0
    hidden: int = 0
    python: str = ""


def read_values(catalog: Catalog, selection: PageSelection, *, on_a_page: int = ON_A_PAGE) -> ValuesPage:
    """Read one page of scalars from the catalog."""
    filters = selection.value_filters
    query = catalog.scalars(**selection.scalar_filters)
    total = query.count()
    pages = max(1, -(-total // on_a_page))
    selection = attrs.evolve(selection, page=min(selection.page, pages))
    rows = page_of(query, on_a_page, (selection.page - 1) * on_a_page)
    too_many = total > _MOST_COUNTED
    facets: list[Facet] = []
    if not too_many:
        counts = catalog.scalar_facets(**filters)
        facets += [facet(selection, name, found) for name, found in counts.places.items()]
        facets += [
            facet(selection, dimension_facet(name), found)
            for name, found in sorted(counts.dimensions.items(), key=lambda item: (len(item[1]) == 1, item[0]))
        ]
    table = ScalarTable.of(rows, total)
    hidden = _outliers(catalog, filters) if selection.hide_outliers else []
    return ValuesPage(
        selection=selection,
        table=table,
        pages=pages,
        facets=tuple(facets),
        too_many=too_many,
        charts=scalar_charts(rows, selection.by, hidden),
        lines=lines_by_id(catalog, rows),
        dimensions=table.columns,
        incomplete=_count_incomplete(catalog, selection),
        hidden=len(hidden),
        python=as_python(catalog, "scalars", selection),
    )


def _outliers(catalog: Catalog, filters: Mapping[str, Any]) -> list[ScalarRow]:
    flagged = catalog.scalars(**filters, outliers="flag")
    return [row for row in flagged if isinstance(row, FlaggedScalarRow) and row.outlier]


def _count_incomplete(catalog: Catalog, selection: PageSelection) -> int:
    if selection.incomplete or selection.ids:
        return 0
    return catalog.scalars(**attrs.evolve(selection, incomplete=True).value_filters).count()


def as_python(catalog: Catalog, rows: str, selection: PageSelection) -> str:
    """Return the call of the library that gives the rows of a selection."""
    filters = selection.scalar_filters if rows == "scalars" else selection.value_filters
    told = ", ".join(f"{name}={value!r}" for name, value in filters.items())
    return (
        f"import emdstore\n\nrows = emdstore.Catalog({catalog.url!r}).{rows}({told})\n"
        "frame = rows.to_pandas()  # or rows.to_xarray(), rows.to_polars(), rows.to_arrow()"
    )


def lines_by_id(catalog: Catalog, rows: Iterable[ScalarRow]) -> Mapping[int, ListedExecution]:
    """Return the executions that some scalars are of."""
    ids = list(dict.fromkeys(row.execution_id for row in rows))
    found = catalog.survey().by_id(ids)
    lines = listed_executions(catalog, [found[each] for each in ids if each in found])
    return {line.row.execution_id: line for line in lines}
