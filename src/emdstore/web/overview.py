"""The page to begin with: all models against all diagnostics, by one metric, with what failed and what is missing."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from emdstore.catalog import Catalog, ExecutionRow
from emdstore.catalog.browse import concern_of
from emdstore.catalog.export import defused
from emdstore.web import text
from emdstore.web.cells import Cell, GroupKey, Head, ModelRow, table_of
from emdstore.web.charts import SOURCES, TOPICS
from emdstore.web.memory import Memory
from emdstore.web.metrics import NAMES, Known, Metric, best_known, known_metrics, normal_name
from emdstore.web.placing import SEASON, Gathered, Placed, gather, group_of, mean_of, place_values
from emdstore.web.selection import PageSelection, dimension_facet

_WHOLE = ("global", "ann", "annual", "all", "mean", "none")
_MOST_VALUES = 60


@attrs.frozen
class Option:
    """A value of a dimension that can be chosen instead, and the query that does so."""

    value: str
    chosen: bool
    query: Mapping[str, str | Sequence[str]]


@attrs.frozen
class Overview:
    """All models against all diagnostics.

    Attributes
    ----------
    selection
        The request, with what was chosen for whoever asked.
    metric_name, metric
        The metric, and what is known of it.
    options
        By dimension, what else can be chosen; the metric first.
    heads, rows
        The table; the best model first.
    seasons
        The seasons of the portrait plot.
    kinds
        How many cells there are of each kind.
    executions, total
        How many executions are laid out, and how many there are.
    newest
        When the newest of them was published.
    """

    selection: PageSelection
    metric_name: str | None
    metric: Metric | None
    options: Mapping[str, tuple[Option, ...]]
    heads: tuple[Head, ...]
    rows: tuple[ModelRow, ...]
    seasons: tuple[str, ...]
    kinds: Mapping[str, int]
    executions: int
    total: int
    newest: datetime | None

    @property
    def query(self) -> dict[str, str | Sequence[str]]:
        """The query of this page."""
        return self.selection.query()

    def as_dict(self) -> dict[str, Any]:
        """Return the table as plain values, for JSON. Ids are text: they have more digits than JavaScript's numbers."""
        return {
            "metric": self.metric_name,
            "perfect": None if self.metric is None else self.metric.perfect,
            "dimensions": {name: values[0] for name, values in self.selection.dimensions.items()},
            "diagnostics": [attrs.asdict(head) for head in self.heads],
            "models": [
                {
                    "name": row.name,
                    "mean relative error": row.mean,
                    "cells": [
                        {
                            "kind": cell.kind,
                            "value": cell.value,
                            "units": cell.units,
                            "relative error": _plain(cell.relative),
                            "execution": None if cell.execution_id is None else str(cell.execution_id),
                        }
                        for cell in row.cells
                    ],
                }
                for row in self.rows
            ],
        }

    def as_csv(self) -> str:
        """Return the values as CSV for spreadsheets: a line for each model, a column for each diagnostic."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "mean relative error", *(defused(head.name) for head in self.heads)])
        for row in self.rows:
            values = ["" if cell.value is None or cell.kind != "value" else cell.value for cell in row.cells]
            writer.writerow([defused(row.name), "" if row.mean is None else row.mean, *values])
        return file.getvalue()


def read_overview(
    catalog: Catalog, selection: PageSelection, known: Known | None = None, memory: Memory | None = None
) -> Overview:
    """Read the table from the catalog.

    Parameters
    ----------
    catalog
        Where to ask.
    selection
        Which executions, and by which metric, region and so on; for what it does not say, something fitting is chosen.
    known
        The table of metrics.
    memory
        What was counted before.
    """
    return lay_out(gather(catalog, selection, memory), catalog, selection, known_metrics() if known is None else known)


def lay_out(gathered: Gathered, catalog: Catalog, selection: PageSelection, known: Known) -> Overview:
    """Return the table of one metric, region and so on."""
    facets, newest = gathered.facets, gathered.newest
    chosen = _choose(selection, facets, known)
    metric_name = next((chosen[name] for name in NAMES if name in chosen), None)
    metric = known.get(normal_name(metric_name)) if metric_name is not None else None
    seasons = _seasons(facets) if SEASON in facets else ()
    key = frozenset(chosen.items()), selection.hide_outliers
    if key not in gathered.tables:
        placed = place_values(gathered, catalog, chosen, hide_outliers=selection.hide_outliers)
        cells = _cells(gathered, placed, metric, chosen.get(SEASON), seasons)
        gathered.tables[key] = table_of(placed.rows, placed.columns, cells, len(seasons))
    table = gathered.tables[key]
    shown = attrs.evolve(
        selection, chosen=dict(selection.place_chosen) | {dimension_facet(k): (v,) for k, v in chosen.items()}
    )
    return Overview(
        selection=shown,
        metric_name=metric_name,
        metric=metric,
        options={name: _options(shown, name, facets[name], known) for name in chosen},
        heads=table.heads,
        rows=table.rows,
        seasons=seasons,
        kinds=Counter(cell.kind for line in table.rows for cell in line.cells),
        executions=len(newest),
        total=gathered.total,
        newest=max((row.published_at for row in newest if row.published_at is not None), default=None),
    )


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


# -- what is asked ---------------------------------------------------------------------------------------------------


def _choose(selection: PageSelection, facets: Mapping[str, Mapping[str, int]], known: Known) -> dict[str, str]:
    """Return a value of the metric's dimension, and of each other one that does not identify data."""
    asked = {name: values[0] for name, values in selection.dimensions.items() if values}
    chosen: dict[str, str] = {}
    metric = next((name for name in NAMES if name in facets), None)
    if metric is not None:
        best = best_known(facets[metric], known)
        chosen[metric] = asked[metric] if asked.get(metric) in facets[metric] else best or ""
    for name, counts in sorted(facets.items()):
        if name in (*SOURCES, *TOPICS, "kind") or not 1 < len(counts) <= _MOST_VALUES:
            continue
        usual = min(counts, key=lambda value: (value.lower() not in _WHOLE, -counts[value], value))
        chosen[name] = asked[name] if asked.get(name) in counts else usual
    return chosen


def _options(selection: PageSelection, name: str, counts: Mapping[str, int], known: Known) -> tuple[Option, ...]:
    def rank(value: str) -> tuple[Any, ...]:
        found = known.get(normal_name(value)) if name in NAMES else None
        return (found.rank if found is not None else math.inf, value.lower() not in _WHOLE, value)

    facet = dimension_facet(name)
    now = selection.chosen.get(facet, ())
    return tuple(
        Option(value, value in now, selection.query(chosen={**selection.chosen, facet: (value,)}))
        for value in sorted(counts, key=rank)
    )


def _seasons(facets: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    parts = [value for value in facets[SEASON] if value.lower() not in _WHOLE]
    usual = ["djf", "mam", "jja", "son"]
    parts.sort(key=lambda value: (usual.index(value.lower()) if value.lower() in usual else 9, value))
    return tuple(parts) if 1 < len(parts) <= 4 else ()


# -- rows and columns ------------------------------------------------------------------------------------------------


# -- cells -----------------------------------------------------------------------------------------------------------


def _cells(
    gathered: Gathered, placed: Placed, metric: Metric | None, season: str | None, seasons: Sequence[str]
) -> dict[GroupKey, Cell]:
    cells = {
        key: Cell("retracted", row.execution_id, note=row.retraction_reason or "")
        for key, row in gathered.retracted.items()
    }
    for row in gathered.newest:
        key = group_of(row)
        cell = _cell(row, placed, metric, season, seasons)
        if cell.kind == "empty" and key in placed.hidden:
            value, units, _ = mean_of(placed.hidden[key], season)
            cell = Cell("outlier", row.execution_id, note=f"hidden: {text.number_text(value)} {units}".strip())
        cells[key] = cell
    return cells


def _cell(row: ExecutionRow, placed: Placed, metric: Metric | None, season: str | None, seasons: Sequence[str]) -> Cell:
    key, concern = group_of(row), concern_of(row)
    # Of an incomplete set there are values only if somebody asked.
    is_incomplete = concern == "incomplete" and any(
        each.execution_id == row.execution_id for each in placed.values.get(key, ())
    )
    own = row.execution_id if is_incomplete else None
    value, units, note = placed.mean(key, season, own)
    if not is_incomplete and (concern is not None or row.status != "uploaded"):
        kind = {"failed": "failed", "incomplete": "incomplete"}.get(concern or "", "unfinished")
        kind = "failed" if row.status == "failed" and kind == "unfinished" else kind
        before = f"an older run has {text.number_text(value)} {units}".strip() if value is not None else ""
        return Cell(
            kind, row.execution_id, note="; ".join(filter(None, (row.error or row.cause or row.reason or "", before)))
        )
    if value is None or not math.isfinite(value):
        return Cell("empty", row.execution_id)

    def error(one: float | None) -> float | None:
        return None if metric is None or one is None or not math.isfinite(one) else metric.error(one)

    note = "; ".join(filter(None, (note, f"an incomplete set: {row.reason}" if is_incomplete else "")))
    told = tuple(error(placed.mean(key, one, own)[0]) for one in seasons)
    return Cell("value", row.execution_id, value, units, error(value), None, note, told, is_incomplete)
