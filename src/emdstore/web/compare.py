"""The page that compares executions: plots side by side, scalars with their differences, series overlaid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeGuard

import attrs

from emdstore.catalog import Catalog, ExecutionRow, ScalarRow, SeriesRow
from emdstore.errors import ExecutionNotFoundError, QueryError
from emdstore.web import text
from emdstore.web.charts import SOURCES, TOPICS, Chart, Dot, SeriesLine, dot_chart, series_charts, topic_of, units_text
from emdstore.web.content import Content, read_contents
from emdstore.web.execution import ShownArtifact, pair
from emdstore.web.executions import ListedExecution, listed_executions
from emdstore.web.reading import Look, Recheck, ResultsReader

MOST_DIFFERENCES = 6
"""Of more executions, the table has values, and no difference of each to the first."""

MOST_NUMBERS = 20_000
"""Pages with more points than this have no table of them beside each chart: the files of numbers have all."""

_MOST_SCALARS = 1000
_MOST_SERIES = 500
"""Of one execution; what is not compared is said."""

_MOST_POINTS = 80_000  # on one page
_MOST_LOOKED_AT = 24
_MOST_PEERS = 1000
_MOST_ASKED = 400

_REFERENCE = "reference"

Key = tuple[object, ...]


@attrs.frozen
class ComparedExecution:
    """A compared execution.

    Attributes
    ----------
    letter
        Its short name.
    name
        What tells it from the others, such as its model.
    line
        As it is in the list.
    sources
        Its data.
    """

    letter: str
    name: str
    line: ListedExecution
    sources: Mapping[str, str]


@attrs.frozen
class PlotRow:
    """One plot of each execution; None for those that lack it."""

    title: str
    dimensions: Mapping[str, str]
    cells: tuple[ShownArtifact | None, ...]


@attrs.frozen
class ValueRow:
    """One scalar of each execution; None for those that lack it, NaN where it could not be computed."""

    dimensions: Mapping[str, str]
    values: tuple[float | None, ...]
    units: str = ""

    def difference(self, column: int) -> float | None:
        """Return the difference to the first column, if both are numbers."""
        value, first = self.values[column], self.values[0]
        return value - first if _is_number(value) and _is_number(first) else None

    def percent(self, column: int) -> float | None:
        """Return the difference in percent of the first column, unless the sign changes: it would mean nothing."""
        difference, value, first = self.difference(column), self.values[column], self.values[0]
        return (
            100 * difference / abs(first) if difference is not None and first and value and value * first > 0 else None
        )


@attrs.frozen
class ComparePage:
    """Executions side by side.

    Attributes
    ----------
    columns
        The executions; fewer than two if too few were selected.
    unknown
        Requested executions that do not exist.
    diagnostics
        Diagnostics with several executions: provider, diagnostic, and their number.
    plots, common, names, values, dots
        The plots; the dimensions that all scalars share, and the names of the others; the scalars, also as charts.
    cuts
        What is not compared, in words.
    every, part
        The charts of series, divided among pages that can be loaded, and which part is on this page, from 1.
    problem
        Why the results store did not answer.
    where
        In a report: the comparison page of each execution, by id.
    first
        In a report: the columns that are shown if none were asked for.
    """

    columns: tuple[ComparedExecution, ...]
    unknown: tuple[str, ...] = ()
    diagnostics: tuple[tuple[str, str, int], ...] = ()
    plots: tuple[PlotRow, ...] = ()
    common: Mapping[str, str] = attrs.field(factory=dict)
    names: tuple[str, ...] = ()
    values: tuple[ValueRow, ...] = ()
    dots: tuple[Chart, ...] = ()
    cuts: tuple[str, ...] = ()
    every: tuple[tuple[Chart, ...], ...] = ((),)
    part: int = 1
    problem: str | None = None
    where: Mapping[str, str] = attrs.field(factory=dict)
    first: tuple[int, ...] = ()

    @property
    def charts(self) -> tuple[Chart, ...]:
        """The charts of series on this page."""
        return self.every[self.part - 1]

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return len(self.every)

    @property
    def title(self) -> str:
        """What is compared, for the window."""
        if len(self.columns) < 2:
            return "Compare"
        names = [column.name for column in self.columns]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        diagnostics = {column.line.row.diagnostic for column in self.columns}
        return " · ".join([f"Compare {shown}", *sorted(diagnostics)[:2]])

    @property
    def has_differences(self) -> bool:
        """Whether the table has the difference of each execution to the first."""
        return len(self.columns) <= MOST_DIFFERENCES

    @property
    def has_numbers(self) -> bool:
        """Whether the numbers of the charts are on the page."""
        return sum(chart.points for chart in self.charts) <= MOST_NUMBERS

    @property
    def has_units(self) -> bool:
        """Whether any scalar has units."""
        return any(row.units for row in self.values)

    @property
    def query(self) -> dict[str, list[str]]:
        """The query that selects the same executions."""
        return {"e": [str(column.line.row.execution_id) for column in self.columns]}


def choose(catalog: Catalog, items: Iterable[tuple[str, str]]) -> tuple[list[ExecutionRow], list[str]]:
    """Return the executions that a query selects, and the parts of it that do not exist.

    ``e`` is an execution's id; ``g`` is a group, ``provider/diagnostic/group``, and selects its latest execution;
    ``d`` is a diagnostic, ``provider/diagnostic``, and selects all its groups.

    Raises
    ------
    QueryError
        If it selects too many executions.
    """
    rows: dict[int, ExecutionRow] = {}
    unknown = []
    asked = dict.fromkeys((name, value) for name, value in items if name in ("e", "g", "d"))
    if len(asked) > _MOST_ASKED:
        raise QueryError(f"{len(asked)} executions are too many to ask for one by one: give {_MOST_ASKED} at most")
    for name, value in asked:
        found: list[ExecutionRow] = []
        if name == "e":
            try:
                is_id = value.isascii() and value.isdecimal() and len(value) < 20
                found = [catalog.execution(int(value))] if is_id else []
            except ExecutionNotFoundError:
                pass  # said below, with all others that were not found
        else:
            found = latest(catalog, value)
        if not found:
            unknown.append(value)
        rows |= {row.execution_id: row for row in found}
    return list(rows.values()), unknown


def latest(catalog: Catalog, place: str) -> list[ExecutionRow]:
    """Return the executions that represent a diagnostic or a group; see `peers`."""
    names = dict(zip(("provider", "diagnostic", "group"), place.split("/", 2), strict=False))
    rows = peers(catalog.survey(status="uploaded", **names).rows(_MOST_PEERS))  # type: ignore[arg-type]
    return rows[:1] if "group" in names else sorted(rows, key=lambda row: row.group.lower())


def peers(rows: Iterable[ExecutionRow]) -> list[ExecutionRow]:
    """Return the executions of one diagnostic that are worth comparing, newest first.

    These are the latest of each group or, if there is only one group, all its uploaded executions.
    """
    uploaded = [row for row in rows if row.status == "uploaded"]
    groups: dict[str, ExecutionRow] = {}
    for row in uploaded:
        groups.setdefault(row.group, row)
    return list(groups.values()) if len(groups) > 1 else uploaded


def comparable(catalog: Catalog) -> tuple[tuple[str, str, int], ...]:
    """Return the diagnostics with several uploaded executions."""
    found = []
    survey = catalog.survey(status="uploaded")
    for provider in survey.facets()["provider"]:
        counts = catalog.survey(status="uploaded", provider=provider).facets()["diagnostic"]
        found += [(provider, diagnostic, count) for diagnostic, count in sorted(counts.items()) if count > 1]
    return tuple(found)


def read_comparison(
    catalog: Catalog,
    results: ResultsReader,
    rows: Sequence[ExecutionRow],
    unknown: Iterable[str] = (),
    part: int = 1,
    contents: Mapping[int, Content] | None = None,
    checks: Mapping[int, Mapping[str, Recheck]] | None = None,
) -> ComparePage:
    """Read what executions have in common from the catalog, and from the results store if it answers.

    Parameters
    ----------
    catalog, results
        Where to ask.
    rows
        The executions.
    unknown
        What was asked for and does not exist.
    part
        Which part of the charts of series to show; from 1.
    contents, checks
        What the catalog has of each execution, and what came of hashing its artifacts, if that was done already.
    """
    if len(rows) < 2:
        return ComparePage(_columns(catalog, rows, {}), tuple(unknown), comparable(catalog))
    contents = contents or contents_of(catalog, rows)
    scalars = [contents[each.execution_id].scalars for each in rows]
    series = [contents[each.execution_id].series for each in rows]
    pictures, problem = [], None
    for each in rows:
        # Of many, the browser says itself which pictures do not come.
        is_asked = checks is None and len(rows) <= _MOST_LOOKED_AT
        look = results.look(each.fragment, None) if is_asked else Look()
        problem = problem or look.problem
        content = contents[each.execution_id]
        items, _ = pair(content.artifacts, content.outputs, look, (checks or {}).get(each.execution_id))
        pictures.append([item for item in items if item.is_image])
    sources = [
        _sources([*(r.dimensions for r in values), *(r.dimensions for r in lines), *(i.dimensions for i in images)])
        for values, lines, images in zip(scalars, series, pictures, strict=True)
    ]
    # A dimension with several values in one execution distinguishes its rows, not executions.
    kept = {name for found in sources for name, values in found.items() if len(values) > 1}
    columns = _columns(catalog, rows, {i: _only(found, kept) for i, found in enumerate(sources)})
    values = _value_rows(scalars, kept)
    parts = _in_parts(series_charts(_series(columns, series, kept)))
    return ComparePage(
        columns=columns,
        unknown=tuple(unknown),
        plots=_plot_rows(pictures, kept, [list(column.sources.values()) for column in columns]),
        common=text.common(row.dimensions for row in values) if len(values) > 1 else {},
        names=tuple(text.varying([row.dimensions for row in values]) if len(values) > 1 else _names(values)),
        values=values,
        every=tuple(parts),
        part=min(part, len(parts)),
        dots=_dots(columns, values),
        cuts=tuple(_cuts(columns)),
        problem=problem,
    )


def contents_of(catalog: Catalog, rows: Sequence[ExecutionRow]) -> dict[int, Content]:
    """Read of some executions what can be compared, by id."""
    return read_contents(catalog, rows, scalars=_MOST_SCALARS, series=_MOST_SERIES)


def _in_parts(charts: Iterable[Chart]) -> list[tuple[Chart, ...]]:
    """Divide charts among pages that can be loaded."""
    parts: list[list[Chart]] = [[]]
    points = 0
    for chart in charts:
        if points and points + chart.points > _MOST_POINTS:
            parts.append([])
            points = 0
        parts[-1].append(chart)
        points += chart.points
    return [tuple(part) for part in parts]


def _cuts(columns: Iterable[ComparedExecution]) -> Iterator[str]:
    for column in columns:
        row = column.line.row
        for what, there, most in (("scalars", row.scalars, _MOST_SCALARS), ("series", row.series, _MOST_SERIES)):
            if there > most:
                yield f"Of {column.letter}, the first {most:,} of {there:,} {what} are compared."


def _columns(
    catalog: Catalog, rows: Sequence[ExecutionRow], sources: Mapping[int, Mapping[str, str]]
) -> tuple[ComparedExecution, ...]:
    lines = listed_executions(catalog, rows)
    tell = text.varying([sources.get(number, {}) for number in range(len(rows))])
    names = [text.label(sources.get(number, {}), tell) or row.group for number, row in enumerate(rows)]
    if len({row.diagnostic for row in rows}) > 1:
        names = [f"{name} · {row.diagnostic}" for name, row in zip(names, rows, strict=True)]
    marks = [" (incomplete)" if line.concern == "incomplete" else "" for line in lines]
    names = list(map("".join, zip(names, marks, strict=True)))
    counts = Counter(names)
    return tuple(
        ComparedExecution(_letter(i), name if counts[name] == 1 else f"{name} · {line.run}", line, sources.get(i, {}))
        for i, (name, line) in enumerate(zip(names, lines, strict=True))
    )


def _letter(number: int) -> str:
    """Return A to Z, then AA, AB, as a spreadsheet does."""
    letter = ""
    while number >= 0:
        letter = chr(ord("A") + number % 26) + letter
        number = number // 26 - 1
    return letter


def _sources(rows: Iterable[text.Dimensions]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        for name in SOURCES:
            if name in row and row[name].lower() != _REFERENCE:
                found.setdefault(name, set()).add(row[name])
    return found


def _only(found: Mapping[str, set[str]], kept: set[str]) -> dict[str, str]:
    return {name: next(iter(values)) for name, values in found.items() if name not in kept}


def _without_sources(dimensions: text.Dimensions, kept: set[str]) -> dict[str, str]:
    """Leave out the dimensions that identify the data, so that rows of two executions match; references stay marked.

    Frameworks mark references in two ways, and models in one way or not at all.
    """
    is_reference = any(dimensions.get(name, "").lower() == _REFERENCE for name in ("kind", "source_id"))
    rest = {
        name: value
        for name, value in dimensions.items()
        if name != "kind" and (name not in SOURCES or (name in kept and value.lower() != _REFERENCE))
    }
    return {"kind": _REFERENCE, **rest} if is_reference else rest


def _numbered(keys: Iterable[Key]) -> list[Key]:
    """Distinguish equal keys by their order."""
    seen: Counter[Key] = Counter()
    numbered = []
    for key in keys:
        numbered.append((*key, seen[key]))
        seen[key] += 1
    return numbered


def _value_rows(scalars: Sequence[Sequence[ScalarRow]], kept: set[str]) -> tuple[ValueRow, ...]:
    dimensions: dict[Key, Mapping[str, str]] = {}
    units: dict[Key, str] = {}
    values: dict[Key, list[float | None]] = {}
    for column, rows in enumerate(scalars):
        stripped = [_without_sources(row.dimensions, kept) for row in rows]
        # What has another unit has another row.
        keys = [(units_text(row), *text.key_of(without)) for row, without in zip(rows, stripped, strict=True)]
        for key, row, without in zip(_numbered(keys), rows, stripped, strict=True):
            dimensions.setdefault(key, without)
            units.setdefault(key, units_text(row))
            values.setdefault(key, [None] * len(scalars))[column] = row.value
    return tuple(ValueRow(dimensions[key], tuple(found), units[key]) for key, found in values.items())


def _plot_rows(
    pictures: Sequence[Sequence[ShownArtifact]], kept: set[str], names: Sequence[Sequence[str]]
) -> tuple[PlotRow, ...]:
    cells: dict[Key, list[ShownArtifact | None]] = {}
    first: dict[Key, tuple[str, Mapping[str, str]]] = {}
    for column, items in enumerate(pictures):
        stripped = [_without_sources(item.dimensions, kept) for item in items]
        # Without dimensions in the bundle, use the file name without the model's name.
        plain = [
            text.key_of(without) if without else (_anonymous(item.name, names[column]),)
            for item, without in zip(items, stripped, strict=True)
        ]
        for key, item, without in zip(_numbered(plain), items, stripped, strict=True):
            first.setdefault(key, (_anonymous(item.title, names[column]), without))
            cells.setdefault(key, [None] * len(pictures))[column] = item
    # Plots of several executions come first.
    ranked = sorted(cells, key=lambda key: -sum(cell is not None for cell in cells[key]))
    return tuple(PlotRow(*first[key], tuple(cells[key])) for key in ranked)


def _anonymous(text: str, names: Sequence[str]) -> str:
    for name in names:
        if len(name) > 3:
            text = text.replace(name, "…")
    return text


def _names(rows: Sequence[ValueRow]) -> list[str]:
    return list(rows[0].dimensions) if rows else []


def _series(
    columns: Sequence[ComparedExecution], series: Sequence[Sequence[SeriesRow]], kept: set[str]
) -> Iterable[SeriesLine]:
    for number, (column, rows) in enumerate(zip(columns, series, strict=True)):
        for row in rows:
            yield SeriesLine(
                row, " · ".join(filter(None, (column.letter, column.name, text.label(row.dimensions, kept)))), number
            )


def _dots(columns: Sequence[ComparedExecution], rows: Sequence[ValueRow]) -> tuple[Chart, ...]:
    topics: dict[tuple[str, str], list[ValueRow]] = {}
    for row in rows:
        if sum(value is not None for value in row.values) > 1:
            topics.setdefault((topic_of(row.dimensions), row.units), []).append(row)
    charts = []
    for (topic, units), members in topics.items():
        tell = [one for one in text.varying([row.dimensions for row in members]) if one not in TOPICS]
        colours = {
            f"{column.letter} · {column.name}": [
                Dot(text.label(row.dimensions, tell) or topic or "value", value)
                for row in members
                if (value := row.values[i]) is not None
            ]
            for i, column in enumerate(columns)
        }
        title = f"value [{units}]" if units else "value"
        charts.append(dot_chart(topic or "Values", "", title, colours, columns=True))
    return tuple(charts)


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
