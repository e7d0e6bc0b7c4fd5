"""The page of one diagnostic: all models by all metrics, as a table and as charts; their series; each plot of all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from emdstore.catalog import Catalog, ExecutionRow, ScalarRow
from emdstore.catalog.browse import concern_of
from emdstore.errors import QueryError
from emdstore.web import text
from emdstore.web.cells import Cell, Head, ModelRow, mean_of_cells
from emdstore.web.charts import Chart, Dot, SeriesLine, Trace, dot_chart, hidden_text, scalar_charts, series_charts
from emdstore.web.compare import ComparePage, latest, read_comparison
from emdstore.web.metrics import NAMES, Known, Metric, normal_name
from emdstore.web.overview import Overview, lay_out
from emdstore.web.placing import gather, without_outliers
from emdstore.web.reading import ResultsReader
from emdstore.web.selection import PageSelection, dimension_facet
from emdstore.web.taylor import TaylorPoint

_MOST_SERIES = 2000
_MOST_INCOMPLETE = 1000


@attrs.frozen
class Scores:
    """The scores of all models in one diagnostic.

    Attributes
    ----------
    shown
        The table of its chosen metric, with what else can be chosen.
    heads, rows
        Models by metrics: the metrics' names, and the cells of each model, the best one first.
    ranking, spread, profile
        Charts: the models in order by the chosen metric; how they spread by region, season and so on; each model by all
        metrics.
    taylor
        The points of a Taylor diagram, where there are correlations and ratios of standard deviations.
    mine
        The model that is marked.
    taylor_hidden
        What the Taylor diagram hides as outliers, in words.
    """

    shown: Overview
    heads: tuple[str, ...]
    rows: tuple[ModelRow, ...]
    ranking: Chart | None
    spread: tuple[Chart, ...]
    profile: Chart | None
    taylor: tuple[TaylorPoint, ...]
    mine: str = ""
    taylor_hidden: str = ""


@attrs.frozen
class DiagnosticPage:
    """One diagnostic: the scores of the models, and their series and plots."""

    provider: str
    diagnostic: str
    scores: Scores
    compared: ComparePage


def read_diagnostic(
    catalog: Catalog,
    results: ResultsReader,
    place: tuple[str, str],
    selection: PageSelection,
    known: Known,
    mine: str = "",
    compared: ComparePage | None = None,
) -> DiagnosticPage:
    """Read one diagnostic from the catalog, and from the results store if it answers.

    Parameters
    ----------
    catalog, results
        Where to ask.
    place
        The provider and the diagnostic.
    selection
        Which executions, and the metric, region and so on; for what it does not say, something fitting is chosen.
    known
        The table of metrics.
    mine
        A model to be marked in the charts.
    compared
        The series and plots of the models, if they were read already.
    """
    also: list[ExecutionRow] = []
    if selection.incomplete:
        newest = catalog.survey(provider=place[0], diagnostic=place[1], newest=True).rows(_MOST_INCOMPLETE)
        also = [row for row in newest if concern_of(row) == "incomplete"]
    return DiagnosticPage(
        *place,
        read_scores(catalog, place, selection, known, mine),
        compared or read_comparison(catalog, results, [*latest(catalog, "/".join(place)), *also]),
    )


def read_scores(
    catalog: Catalog, place: tuple[str, str], selection: PageSelection, known: Known, mine: str = ""
) -> Scores:
    """Read the scores of one diagnostic from the catalog; for the parameters see `read_diagnostic`."""
    provider, diagnostic = place
    here = attrs.evolve(
        selection, chosen={**selection.place_chosen, "provider": (provider,), "diagnostic": (diagnostic,)}
    )
    gathered = gather(catalog, here, with_values=True)
    of_dimensions = {dimension_facet(name): values for name, values in selection.dimensions.items()}
    asked = PageSelection(
        chosen=of_dimensions,
        incomplete=selection.incomplete,
        release=selection.release,
        hide_outliers=selection.hide_outliers,
    )
    shown = lay_out(gathered, catalog, asked, known)
    facet = next((dimension_facet(name) for name in NAMES if name in shown.options), "")
    tables = {
        option.value: lay_out(
            gathered,
            catalog,
            attrs.evolve(asked, chosen={**shown.selection.chosen, facet: (option.value,)}),
            known,
        )
        for option in shown.options.get(facet.removeprefix("d."), ())
    }
    heads, rows = _by_metric(tables)
    scores = {name: {row.name: row.cells[0] for row in table.rows} for name, table in tables.items()}
    taylor, taylor_hidden = _taylor(scores, known)
    return Scores(
        shown=shown,
        heads=heads,
        rows=rows,
        ranking=_ranking(shown, mine),
        spread=_spread(gathered.values or (), shown, mine),
        profile=_profile(heads, rows),
        taylor=taylor,
        mine=mine,
        taylor_hidden=taylor_hidden,
    )


def series_of(catalog: Catalog, place: tuple[str, str], dimensions: Mapping[str, str]) -> tuple[Chart, ...]:
    """Draw the series of all models and their reference, a chart for each region and season.

    Raises
    ------
    QueryError
        If there are too many.
    """
    provider, diagnostic = place
    query = catalog.series(latest=True, provider=provider, diagnostic=diagnostic, dimensions=dict(dimensions))
    if (number := query.count()) > _MOST_SERIES:
        raise QueryError(f"{number:,} series are too many to be drawn: choose some by dimensions", key=diagnostic)
    return series_charts(map(SeriesLine, query))


def _by_metric(tables: Mapping[str, Overview]) -> tuple[tuple[str, ...], tuple[ModelRow, ...]]:
    """Return models by metrics; a diagnostic of several subjects has a column for each."""
    heads: list[tuple[str, Head]] = [(name, head) for name, table in tables.items() for head in table.heads]
    cells: dict[str, dict[tuple[str, Head], Cell]] = {}
    for name, table in tables.items():
        for row in table.rows:
            for head, cell in zip(table.heads, row.cells, strict=True):
                cells.setdefault(row.name, {})[name, head] = cell
    rows = []
    for model, found in cells.items():
        of_model = tuple(found.get(head, Cell("never")) for head in heads)
        rows.append(ModelRow(model, mean_of_cells(of_model), of_model))
    rows.sort(key=lambda row: (row.mean is None, row.mean or 0.0, row.name))
    return tuple(" ".join(filter(None, (name, head.subject))) for name, head in heads), tuple(rows)


def _ranking(shown: Overview, mine: str) -> Chart | None:
    found = [(row.name, row.cells[0]) for row in shown.rows if row.cells and row.cells[0].value is not None]
    if len(found) < 2:
        return None
    found.sort(key=lambda each: (each[1].error is None, each[1].error or 0.0))
    units = next((cell.units for _, cell in found if cell.units), "")
    name = shown.metric_name or "value"
    dots = [Dot(model, cell.value or 0.0) for model, cell in found]
    where = ", ".join(
        f"{text.name_text(key)} {values[0]}" for key, values in shown.selection.dimensions.items() if key not in NAMES
    )
    colours = {"others": [dot for dot in dots if dot.label != mine], mine: [dot for dot in dots if dot.label == mine]}
    x_title = f"{name} [{units}]" if units else name
    chart = dot_chart(f"Ranking by {name}", where, x_title, {key: dots for key, dots in colours.items() if dots})
    hidden = hidden_text(sum(row.cells[0].kind == "outlier" for row in shown.rows if row.cells), "model")
    return attrs.evolve(chart, labels=tuple(model for model, _ in found), hidden=hidden)


def _spread(values: Iterable[ScalarRow], shown: Overview, mine: str) -> tuple[Chart, ...]:
    """Draw the chosen metric of all models in all regions, seasons and so on."""
    rows = [
        row
        for row in values
        if shown.metric_name in (None, *(row.dimensions.get(name) for name in NAMES))
        and row.dimensions.get("source_id", "").lower() != "reference"
    ]
    rows, hidden = without_outliers(rows) if shown.selection.hide_outliers else (rows, [])
    marked = [
        attrs.evolve(row, dimensions={**row.dimensions, _MARK: mine}) if _is_of(row, mine) else row for row in rows
    ]
    return scalar_charts(marked, _MARK if mine else "", hidden)


_MARK = "marked"


def _is_of(row: ScalarRow, model: str) -> bool:
    return bool(model) and model in (row.dimensions.get("source_id"), row.dimensions.get("model"), row.group)


def _profile(heads: Sequence[str], rows: Sequence[ModelRow]) -> Chart | None:
    """Draw each model as a line across all metrics: parallel coordinates."""
    traces = tuple(
        Trace(row.name, tuple(heads), tuple(_finite(cell.relative) for cell in row.cells))
        for row in rows
        if any(_finite(cell.relative) is not None for cell in row.cells)
    )
    if len(heads) < 3 or len(traces) < 2:
        return None
    caption = "Relative error of each model by each metric; lower is nearer to perfect."
    hidden = hidden_text(sum(cell.kind == "outlier" for row in rows for cell in row.cells), "value")
    return Chart("All metrics", caption, "line", "category", "", "relative error", traces, hidden=hidden)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _taylor(scores: Mapping[str, Mapping[str, Cell]], known: Known) -> tuple[tuple[TaylorPoint, ...], str]:
    """Return the points of a Taylor diagram, and what it hides as outliers."""
    correlation, deviation = (_metric(scores, known, name) for name in ("correlation", "standard_deviation_ratio"))
    if correlation is None or deviation is None:
        return (), ""
    both = [(model, cell, scores[deviation].get(model)) for model, cell in scores[correlation].items()]
    points = tuple(
        TaylorPoint(model, r, abs(ratio))
        for model, cell, other in both
        if (r := _finite(cell.value)) is not None
        and abs(r) <= 1
        and other is not None
        and (ratio := _finite(other.value)) is not None
    )
    hidden = sum("outlier" in (cell.kind, "" if other is None else other.kind) for _, cell, other in both)
    return points, hidden_text(hidden, "model")


def _metric(scores: Iterable[str], known: Known, wanted: str) -> str | None:
    metric: Metric = known[wanted]
    return next((name for name in scores if known.get(normal_name(name)) == metric), None)
