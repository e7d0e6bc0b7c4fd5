"""The page of values: scalars filtered by dimension, as charts, a table and CSV."""

from __future__ import annotations

import attrs

from emdstore.catalog import Catalog
from emdstore.catalog.browse import page_of
from emdstore.web.charts import Chart, scalar_charts
from emdstore.web.execution import ScalarTable
from emdstore.web.selection import Facet, Selection, dimension_facet, facet

ON_A_PAGE = 200
MOST_CHARTS = 12

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
    charts, more_charts
        The charts of this page, and the number of those left out.
    dimensions
        The dimensions by which dots can be coloured.
    """

    selection: Selection
    table: ScalarTable
    pages: int
    facets: tuple[Facet, ...]
    too_many: bool
    charts: tuple[Chart, ...]
    more_charts: int
    dimensions: tuple[str, ...]


def read_values(
    catalog: Catalog, selection: Selection, *, on_a_page: int = ON_A_PAGE, most_charts: int | None = MOST_CHARTS
) -> ValuesPage:
    """Read one page of scalars from the catalog."""
    filters = selection.value_filters
    query = catalog.scalars(**filters)
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
    charts = scalar_charts(rows, selection.by)
    return ValuesPage(
        selection=selection,
        table=table,
        pages=pages,
        facets=tuple(facets),
        too_many=too_many,
        charts=charts[:most_charts],
        more_charts=0 if most_charts is None else max(0, len(charts) - most_charts),
        dimensions=table.columns,
    )
