"""The page to begin with: all models against all diagnostics, by one metric, with what failed and what is missing."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from statistics import fmean
from typing import Any, TypeVar

import attrs

from emdstore.catalog import Catalog, ExecutionRow, ScalarRow
from emdstore.catalog.browse import concern_of
from emdstore.catalog.export import defused
from emdstore.web import text
from emdstore.web.charts import SOURCES, TOPICS, units_of
from emdstore.web.metrics import (
    NAMES,
    Known,
    Metric,
    best_known,
    colour_of,
    known_metrics,
    normal_name,
    relative_errors,
)
from emdstore.web.selection import Selection, dimension_facet

T = TypeVar("T")

MOST_EXECUTIONS = 20_000
"""More than this are not laid out as a table: a selection of them is."""

_MODELS = ("source_id", "model", "dataset")
_VARIANTS = ("experiment_id", "member_id", "variant_label", "grid_label")
_SUBJECTS = ("variable_id", "reference_source_id", "reference_datasets")
_WHOLE = ("global", "ann", "annual", "all", "mean", "none")
_MOST_VALUES = 60
_MOST_REMEMBERED = 50
_SEASON = "season"
_REFERENCE = "reference"

KINDS = {
    "failed": "failed",
    "incomplete": "incomplete",
    "unfinished": "not finished",
    "retracted": "retracted",
    "never": "never run",
    "empty": "no value",
}
"""What a cell says that has no value of this metric."""


@attrs.frozen
class Cell:
    """One model in one diagnostic.

    Attributes
    ----------
    kind
        ``value``, or a key of `KINDS`.
    execution_id
        The newest execution, if there is one.
    value, units
        The value of the metric.
    error
        Its distance from perfect; None if nobody knows what is perfect.
    relative
        That error relative to the median of all models.
    note
        More about it.
    is_incomplete
        Whether the value is of an incomplete set.
    parts
        By season: the relative errors of the portrait plot.
    """

    kind: str
    execution_id: int | None = None
    value: float | None = None
    units: str = ""
    error: float | None = None
    relative: float | None = None
    note: str = ""
    parts: tuple[float | None, ...] = ()
    is_incomplete: bool = False

    @property
    def colour(self) -> str:
        """The class of its colour."""
        return colour_of(self.relative)

    @property
    def shown(self) -> str:
        """What it says."""
        if self.kind != "value":
            return KINDS[self.kind]
        mark = "*" if self.is_incomplete else ""
        if self.relative is None:
            return text.number_text(self.value) + mark
        return ("∞" if math.isinf(self.relative) else f"{self.relative:+.2f}".replace("-", "−")) + mark

    @property
    def title(self) -> str:
        """The whole of it, in words."""
        value = f"{text.number_text(self.value)} {self.units}".strip() if self.kind == "value" else ""
        return "; ".join(filter(None, (value, self.note)))


@attrs.frozen
class Head:
    """A diagnostic, as the head of a column."""

    provider: str
    diagnostic: str
    subject: str = ""

    @property
    def name(self) -> str:
        """Its name in the table."""
        return " ".join(filter(None, (self.diagnostic, self.subject)))


@attrs.frozen
class ModelRow:
    """A model, its mean relative error, and its cells in the order of the columns."""

    name: str
    mean: float | None
    cells: tuple[Cell, ...]

    @property
    def shown(self) -> str:
        """The mean as text."""
        return "" if self.mean is None else f"{self.mean:+.2f}".replace("-", "−")


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

    selection: Selection
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


_Key = tuple[str, str, str]
"""Provider, diagnostic and group."""


def _key(row: ExecutionRow | ScalarRow) -> _Key:
    return row.provider, row.diagnostic, row.group


@attrs.frozen
class Gathered:
    """What tables of all metrics are made of: counts of scalars, the newest executions, and those that were retracted.

    Attributes
    ----------
    places
        Which executions, as filters.
    facets
        The scalars of the latest sets, counted by dimension.
    newest, total, retracted
        The executions.
    values
        All these scalars, for whoever makes many tables; None to ask for those of one.
    incomplete
        The scalars of the newest sets that are incomplete, if they were asked for.
    found
        Those that tables were made of, by what was chosen: tables of other seasons are made of the same.
    """

    places: Mapping[str, Any]
    facets: Mapping[str, Mapping[str, int]]
    newest: Sequence[ExecutionRow]
    total: int
    retracted: Mapping[_Key, ExecutionRow]
    values: Sequence[ScalarRow] | None = None
    incomplete: Sequence[ScalarRow] = ()
    found: dict[frozenset[tuple[str, str]], list[ScalarRow]] = attrs.field(factory=dict, repr=False)


Facets = Mapping[str, Mapping[str, int]]


@attrs.define
class Memory:
    """What was computed last and costs much, by what it is, and what the catalog was like then."""

    signs: tuple[Any, ...] = ()
    found: dict[str, Any] = attrs.field(factory=dict)

    def recall(self, catalog: Catalog, what: object, compute: Callable[[], T]) -> T:
        """Return something from memory if nothing has changed, and otherwise compute it."""
        signs = catalog.survey().signs_of_change()
        if signs != self.signs or len(self.found) > _MOST_REMEMBERED:
            self.signs, self.found = signs, {}
        found = self.found  # another thread may begin anew meanwhile
        key = repr(what)
        if key not in found:
            found[key] = compute()
        value: T = found[key]
        return value

    def facets_of(self, catalog: Catalog, places: Mapping[str, Any]) -> Facets:
        """Return the counts of scalars."""
        return self.recall(catalog, sorted(places.items()), lambda: catalog.scalars(latest=True, **places).facets())


def gather(
    catalog: Catalog, selection: Selection, memory: Memory | None = None, *, with_values: bool = False
) -> Gathered:
    """Read from the catalog what tables are made of."""
    places = {name: values for name, values in selection.place_filters.items() if name != "retracted"}
    survey = catalog.survey(newest=True, **places)
    retracted: dict[str, Any] = {**places, "retracted": True}
    newest = survey.rows(MOST_EXECUTIONS)
    gappy = [row.execution_id for row in newest if selection.incomplete and not row.complete]
    return Gathered(
        places=places,
        facets=(memory or Memory()).facets_of(catalog, places),
        newest=newest,
        incomplete=list(catalog.scalars(ids=gappy, complete=False)) if gappy else (),
        total=survey.count(),
        retracted={_key(row): row for row in catalog.executions(**retracted)},
        values=list(catalog.scalars(latest=True, **places)) if with_values else None,
    )


def read_overview(
    catalog: Catalog, selection: Selection, known: Known | None = None, memory: Memory | None = None
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


def lay_out(gathered: Gathered, catalog: Catalog, selection: Selection, known: Known) -> Overview:
    """Return the table of one metric, region and so on."""
    facets, newest, retracted = gathered.facets, gathered.newest, gathered.retracted
    chosen = _choose(selection, facets, known)
    metric_name = next((chosen[name] for name in NAMES if name in chosen), None)
    metric = known.get(normal_name(metric_name)) if metric_name is not None else None
    values = _values(gathered, catalog, chosen)
    of_retracted = _identities(retracted.values(), [])
    rows, columns = _axes(of_retracted | _identities(newest, values))
    seasons = _seasons(facets) if _SEASON in facets else ()
    cells = _cells(newest, values, retracted, metric, chosen, seasons)
    heads = sorted(set(columns.values()), key=lambda head: (head.provider, head.diagnostic, head.subject))
    names = sorted(set(rows.values()), key=str.lower)
    table: dict[tuple[str, Head], Cell] = {}
    for key, cell in cells.items():
        place = rows[key], columns[key]
        # Of several groups in one place, the one with a value.
        if place not in table or (table[place].kind != "value" and cell.kind == "value"):
            table[place] = cell
    table = _made_relative(table, names, heads, len(seasons))
    lines = [
        ModelRow(name, mean_of_cells(cells_of), cells_of)
        for name in names
        for cells_of in [tuple(table.get((name, head), Cell("never")) for head in heads)]
    ]
    lines.sort(key=lambda line: (line.mean is None, line.mean or 0.0))
    shown = attrs.evolve(
        selection, chosen=dict(selection.place_chosen) | {dimension_facet(k): (v,) for k, v in chosen.items()}
    )
    return Overview(
        selection=shown,
        metric_name=metric_name,
        metric=metric,
        options={name: _options(shown, name, facets[name], known) for name in chosen},
        heads=tuple(heads),
        rows=tuple(lines),
        seasons=seasons,
        kinds=Counter(cell.kind for line in lines for cell in line.cells),
        executions=len(newest),
        total=gathered.total,
        newest=max((row.published_at for row in newest if row.published_at is not None), default=None),
    )


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


# -- what is asked ---------------------------------------------------------------------------------------------------


def _choose(selection: Selection, facets: Mapping[str, Mapping[str, int]], known: Known) -> dict[str, str]:
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


def _options(selection: Selection, name: str, counts: Mapping[str, int], known: Known) -> tuple[Option, ...]:
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
    parts = [value for value in facets[_SEASON] if value.lower() not in _WHOLE]
    usual = ["djf", "mam", "jja", "son"]
    parts.sort(key=lambda value: (usual.index(value.lower()) if value.lower() in usual else 9, value))
    return tuple(parts) if 1 < len(parts) <= 4 else ()


def _values(gathered: Gathered, catalog: Catalog, chosen: Mapping[str, str]) -> list[ScalarRow]:
    """Return the scalars of the metric, of all seasons; a row that lacks a dimension is of all its values."""
    wanted = {name: value for name, value in chosen.items() if name != _SEASON}
    key = frozenset(wanted.items())
    if key not in gathered.found:
        gathered.found[key] = _values_of(gathered, catalog, wanted)
    return gathered.found[key]


def _values_of(gathered: Gathered, catalog: Catalog, wanted: Mapping[str, str]) -> list[ScalarRow]:
    rows: Iterable[ScalarRow]
    if gathered.values is not None:
        rows, others = gathered.values, wanted
    else:
        total = max((sum(counts.values()) for counts in gathered.facets.values()), default=0)
        everywhere = {name: value for name, value in wanted.items() if sum(gathered.facets[name].values()) == total}
        rows = catalog.scalars(latest=True, dimensions=everywhere, **gathered.places)
        others = wanted if gathered.incomplete else {n: v for n, v in wanted.items() if n not in everywhere}
    return [
        row
        for row in chain(rows, gathered.incomplete)
        if all(row.dimensions.get(name, value) == value for name, value in others.items())
        and not any(row.dimensions.get(name, "").lower() == _REFERENCE for name in ("kind", "source_id"))
        and all(name in row.dimensions for name in wanted if name in NAMES)
    ]


# -- rows and columns ------------------------------------------------------------------------------------------------


def _identities(rows: Iterable[ExecutionRow], values: Iterable[ScalarRow]) -> dict[_Key, dict[str, str]]:
    """Return for each group what identifies its data, by its selectors and by its values."""
    found: dict[_Key, dict[str, str]] = {_key(row): dict(_pairs(row.selectors)) for row in rows}
    for value in values:
        if (identity := found.get(_key(value))) is not None:
            for name in (*_MODELS, *_VARIANTS, *_SUBJECTS):
                if name in value.dimensions:
                    identity.setdefault(name, value.dimensions[name])
    return found


def _pairs(selectors: Any) -> Iterator[tuple[str, str]]:
    """Yield the names and values in selectors: a mapping, or for each kind of dataset a list of pairs."""
    for name, told in selectors.items() if isinstance(selectors, Mapping) else ():
        if isinstance(told, str):
            yield name, told
        elif isinstance(told, list | tuple):
            for pair in told:
                if isinstance(pair, list | tuple) and len(pair) == 2:
                    yield str(pair[0]), str(pair[1])


def _axes(identities: Mapping[_Key, Mapping[str, str]]) -> tuple[dict[_Key, str], dict[_Key, Head]]:
    """Name the row and the column of each group; variants and subjects are named where they tell groups apart."""
    models = {key: next((one[name] for name in _MODELS if name in one), key[2]) for key, one in identities.items()}
    same: dict[tuple[str, str, str], list[Mapping[str, str]]] = {}
    for key, one in identities.items():
        same.setdefault((*key[:2], models[key]), []).append(one)
    variants = _telling(same.values(), _VARIANTS)
    subjects = _telling(same.values(), _SUBJECTS)
    rows = {key: text.label({"": models[key], **one}, ("", *variants)) for key, one in identities.items()}
    columns = {key: Head(key[0], key[1], text.label(one, subjects)) for key, one in identities.items()}
    return rows, columns


def _telling(groups: Iterable[Sequence[Mapping[str, str]]], names: Sequence[str]) -> list[str]:
    groups = list(groups)
    return [name for name in names if any(len({one.get(name) for one in group}) > 1 for group in groups)]


# -- cells -----------------------------------------------------------------------------------------------------------


def _cells(
    newest: Iterable[ExecutionRow],
    values: Iterable[ScalarRow],
    retracted: Mapping[_Key, ExecutionRow],
    metric: Metric | None,
    chosen: Mapping[str, str],
    seasons: Sequence[str],
) -> dict[_Key, Cell]:
    found: dict[_Key, list[ScalarRow]] = {}
    for value in values:
        found.setdefault(_key(value), []).append(value)
    cells = {
        key: Cell("retracted", row.execution_id, note=row.retraction_reason or "") for key, row in retracted.items()
    }
    for row in newest:
        of_group = found.get(_key(row), [])
        cells[_key(row)] = _cell(row, of_group, metric, chosen.get(_SEASON), seasons)
    return cells


def _cell(
    row: ExecutionRow, values: Sequence[ScalarRow], metric: Metric | None, season: str | None, seasons: Sequence[str]
) -> Cell:
    concern = concern_of(row)
    own = [each for each in values if each.execution_id == row.execution_id]
    is_incomplete = concern == "incomplete" and bool(own)  # of which there are values only if somebody asked
    values = own if is_incomplete else values
    value, units, note = _mean_of(values, season)
    if not is_incomplete and (concern is not None or row.status != "uploaded"):
        kind = {"failed": "failed", "incomplete": "incomplete"}.get(concern or "", "unfinished")
        kind = "failed" if row.status == "failed" and kind == "unfinished" else kind
        before = f"an older run has {text.number_text(value)} {units}".strip() if value is not None else ""
        return Cell(
            kind, row.execution_id, note="; ".join(filter(None, (row.error or row.cause or row.reason or "", before)))
        )
    if value is None or not math.isfinite(value):
        return Cell("empty", row.execution_id)
    parts = [_mean_of(values, one)[0] for one in seasons]

    def error(one: float | None) -> float | None:
        return None if metric is None or one is None or not math.isfinite(one) else metric.error(one)

    note = "; ".join(filter(None, (note, f"an incomplete set: {row.reason}" if is_incomplete else "")))
    told = tuple(map(error, parts))
    return Cell("value", row.execution_id, value, units, error(value), None, note, told, is_incomplete)


def _mean_of(values: Sequence[ScalarRow], season: str | None) -> tuple[float | None, str, str]:
    fitting = [row for row in values if season is None or row.dimensions.get(_SEASON, season) == season]
    numbers = [row.value for row in fitting if math.isfinite(row.value)]
    if not numbers:
        return None, "", ""
    units = next(filter(None, map(units_of, fitting)), "")
    return fmean(numbers), units, f"the mean of {len(numbers)} values" if len(numbers) > 1 else ""


def _made_relative(
    table: Mapping[tuple[str, Head], Cell], names: Sequence[str], heads: Sequence[Head], seasons: int
) -> dict[tuple[str, Head], Cell]:
    """Give each cell its error relative to its column's median."""
    made = dict(table)
    for head in heads:
        column = [(name, head) for name in names if (name, head) in table]
        of_column = relative_errors([table[place].error for place in column])
        parts = [
            relative_errors([cell.parts[n] if cell.parts else None for cell in (table[place] for place in column)])
            for n in range(seasons)
        ]
        for number, place in enumerate(column):
            made[place] = attrs.evolve(
                table[place], relative=of_column[number], parts=tuple(part[number] for part in parts)
            )
    return made


def mean_of_cells(cells: Iterable[Cell]) -> float | None:
    """Return the mean of the relative errors; None if there are none."""
    found = [cell.relative for cell in cells if cell.relative is not None and math.isfinite(cell.relative)]
    return fmean(found) if found else None
