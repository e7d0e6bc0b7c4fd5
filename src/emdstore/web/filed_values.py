"""The pages of values of a report: the scalars of each diagnostic, in pages that a browser can show."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import attrs

from emdstore.catalog import Catalog, ExecutionRow, Query as Rows, ScalarRow
from emdstore.web.charts import scalar_charts
from emdstore.web.execution import ScalarTable
from emdstore.web.filed import FiledSite
from emdstore.web.places import Places
from emdstore.web.selection import Facet, PageSelection, dimension_facet, facet
from emdstore.web.values import ValuesPage, lines_by_id

MOST_SCALARS = 1500
"""On one page of values; more are on further pages."""

_AT_ONCE = 50  # executions whose scalars are in memory


@attrs.frozen
class Contents:
    """The scalars of one diagnostic, or of its incomplete sets: how many, and where they are, without a suffix."""

    provider: str
    diagnostic: str
    total: int
    stem: str
    incomplete: bool = False


def write_values(
    site: FiledSite, catalog: Catalog, selection: PageSelection, rows: Sequence[ExecutionRow], current: set[int]
) -> dict[int, str]:
    """Write the scalars, diagnostic by diagnostic, and return on which page those of each execution begin.

    Those of incomplete sets have pages of their own.
    """
    latest = {row.execution_id for row in catalog.executions(latest=True, **selection.place_filters)}
    every = attrs.evolve(selection, all_runs=True)
    found: dict[int, str] = {}
    listed: list[Contents] = []
    for place in sorted({(row.provider, row.diagnostic) for row in rows}):
        of_place = dict(zip(("provider", "diagnostic"), place, strict=True))
        there: list[tuple[Contents, Rows[ScalarRow], Counter[int]]] = []
        for incomplete in (False, True):
            filters: dict[str, Any] = attrs.evolve(every, incomplete=incomplete).value_filters | of_place
            query: Rows[ScalarRow] = catalog.scalars(**filters)
            if sizes := Counter(row.execution_id for row in query):
                stem = Places(filed=True).values_of(*place, incomplete=incomplete)
                there.append((Contents(*place, sizes.total(), stem, incomplete), query, sizes))
        for each, query, sizes in there:
            first = current if each.incomplete else latest
            # What is shown if nobody asks for older runs comes first, so that as much of it as can be is together.
            ordered = {one: sizes[one] for one in sorted(sizes, key=lambda one: one not in first)}
            pages, begins = _in_pages(ordered)
            keys = [f"{each.stem}{f'-{number}' if number > 1 else ''}.html" for number in range(1, len(pages) + 1)]
            found |= {one: keys[number] for one, number in begins.items()}
            other = next((one for one, *_ in there if one != each), None)
            scalars = _scalars(catalog, list(ordered))
            for number, size in enumerate(pages):
                _write_page(site, catalog, each, other, keys, number, list(islice(scalars, size)), first)
            site.export(f"{each.stem}.csv", query)
            listed.append(each)
    site.page("values.html", "contents", listed=listed)
    site.export("values.csv", catalog.scalars(**every.value_filters))
    return found


def _scalars(catalog: Catalog, ids: Sequence[int]) -> Iterator[ScalarRow]:
    """Yield the scalars of executions, in their order."""
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        of_each: dict[int, list[ScalarRow]] = {each: [] for each in part}
        for row in catalog.scalars(ids=part, complete=None):
            of_each[row.execution_id].append(row)
        for each in part:
            yield from of_each[each]


def _write_page(
    site: FiledSite,
    catalog: Catalog,
    contents: Contents,
    other: Contents | None,
    keys: Sequence[str],
    number: int,
    rows: list[ScalarRow],
    latest: set[int],
) -> None:
    lines = {each: attrs.evolve(line, older=each not in latest) for each, line in lines_by_id(catalog, rows).items()}
    table = ScalarTable.of(rows, len(rows))
    counted = [table.facets(row) for row in rows if row.execution_id in latest]
    names = ["group", *(dimension_facet(name) for name in table.columns)]
    page = ValuesPage(
        selection=PageSelection(page=number + 1, incomplete=contents.incomplete),
        table=table,
        pages=len(keys),
        facets=facets_of(counted, names),
        too_many=False,
        charts=scalar_charts(rows),
        lines=lines,
        dimensions=(),
        incomplete=other.total if other is not None else 0,
    )
    here = {str(place + 1): posixpath.basename(key) for place, key in enumerate(keys)}
    title = f"{contents.provider} {contents.diagnostic}"
    csv = f"{posixpath.basename(contents.stem)}.csv"
    switch = other and f"{posixpath.basename(other.stem)}.html"
    site.page(
        keys[number], "values", page=page, title=title, csv=csv, here_are=here, switch=switch, of_all=contents.total
    )


def _in_pages(sizes: Mapping[int, int]) -> tuple[list[int], dict[int, int]]:
    """Divide rows among pages, not within an execution if it fits on one: the size of each, and where each begins."""
    pages, begins = [0], {}
    for each, size in sizes.items():
        if pages[-1] and pages[-1] + size > MOST_SCALARS:
            pages.append(0)
        begins[each] = len(pages) - 1
        while size > MOST_SCALARS:
            pages[-1] = MOST_SCALARS
            pages.append(0)
            size -= MOST_SCALARS
        pages[-1] += size
    return [size for size in pages if size], begins


def facets_of(rows: Iterable[Mapping[str, str | Sequence[str]]], names: Iterable[str]) -> tuple[Facet, ...]:
    """Count the values of each facet in the report; none is chosen in advance."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in row.items():
            counts.setdefault(name, Counter()).update([value] if isinstance(value, str) else value)
    return tuple(facet(PageSelection(), name, counts[name]) for name in names if name in counts)
