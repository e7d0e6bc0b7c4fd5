"""Which scalars the table of all models shows, and in which row and column each group of executions stands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from statistics import fmean
from typing import Any

import attrs

from emdstore.catalog import Catalog, ExecutionRow, ScalarRow
from emdstore.catalog.outliers import find_outliers
from emdstore.web import text
from emdstore.web.cells import GroupKey, Head, ModelTable
from emdstore.web.charts import units_text
from emdstore.web.memory import Memory
from emdstore.web.metrics import NAMES
from emdstore.web.selection import PageSelection

MOST_EXECUTIONS = 20_000
"""More than this are not laid out as a table: a selection of them is."""
_MODELS = ("source_id", "model", "dataset")
_VARIANTS = ("experiment_id", "member_id", "variant_label", "grid_label")
_SUBJECTS = ("variable_id", "reference_source_id", "reference_datasets")
SEASON = "season"
_REFERENCE = "reference"


def group_of(row: ExecutionRow | ScalarRow) -> GroupKey:
    """Return the group of a row."""
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
    placed, tables
        What tables were made of, and the tables, by what was chosen: tables of other seasons are made of the same.
    """

    places: Mapping[str, Any]
    facets: Mapping[str, Mapping[str, int]]
    newest: Sequence[ExecutionRow]
    total: int
    retracted: Mapping[GroupKey, ExecutionRow]
    values: Sequence[ScalarRow] | None = None
    incomplete: Sequence[ScalarRow] = ()
    placed: dict[_Chosen, Placed] = attrs.field(factory=dict, repr=False)
    tables: dict[_Chosen, ModelTable] = attrs.field(factory=dict, repr=False)


_Chosen = tuple[frozenset[tuple[str, str]], bool]
"""What was chosen of each dimension, and whether outliers are hidden."""


@attrs.frozen
class Placed:
    """The scalars of one metric, region and so on, of all seasons, by group; and the row and column of each group.

    What is hidden as an outlier is not among the values.
    """

    values: Mapping[GroupKey, Sequence[ScalarRow]]
    hidden: Mapping[GroupKey, Sequence[ScalarRow]]
    rows: Mapping[GroupKey, str]
    columns: Mapping[GroupKey, Head]
    means: dict[tuple[GroupKey, int | None, str | None], tuple[float | None, str, str]] = attrs.field(factory=dict)

    def mean(self, key: GroupKey, season: str | None, own: int | None) -> tuple[float | None, str, str]:
        """Return the mean of a group in a season, or only of one execution of it, with its units and a note."""
        if (key, own, season) not in self.means:
            values = self.values.get(key, ())
            fitting = [row for row in values if own is None or row.execution_id == own]
            self.means[key, own, season] = mean_of(fitting, season)
        return self.means[key, own, season]


def gather(
    catalog: Catalog, selection: PageSelection, memory: Memory | None = None, *, with_values: bool = False
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
        retracted={group_of(row): row for row in catalog.executions(**retracted)},
        values=list(catalog.scalars(latest=True, **places)) if with_values else None,
    )


def place_values(gathered: Gathered, catalog: Catalog, chosen: Mapping[str, str], *, hide_outliers: bool) -> Placed:
    """Return the scalars of the metric, of all seasons; a row that lacks a dimension is of all its values."""
    wanted = {name: value for name, value in chosen.items() if name != SEASON}
    key = frozenset(wanted.items()), hide_outliers
    if key not in gathered.placed:
        values = _values_of(gathered, catalog, wanted)
        kept, hidden = without_outliers(values) if hide_outliers else (values, [])
        of_retracted = _identities(gathered.retracted.values(), {})
        axes = _axes(of_retracted | _identities(gathered.newest, _by_group(values)))
        gathered.placed[key] = Placed(_by_group(kept), _by_group(hidden), *axes)
    return gathered.placed[key]


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


def without_outliers(values: Sequence[ScalarRow]) -> tuple[list[ScalarRow], list[ScalarRow]]:
    """Divide scalars into those that are shown, and those of models that lie far from the others among these."""
    places = find_outliers(values)
    kept: list[ScalarRow] = []
    hidden: list[ScalarRow] = []
    for row in values:
        (hidden if (row.execution_id, row.position) in places else kept).append(row)
    return kept, hidden


def _identities(
    rows: Iterable[ExecutionRow], values: Mapping[GroupKey, Iterable[ScalarRow]]
) -> dict[GroupKey, dict[str, str]]:
    """Return for each group what identifies its data, by its selectors and by its values."""
    found: dict[GroupKey, dict[str, str]] = {}
    for row in rows:
        identity = found[group_of(row)] = dict(_pairs(row.selectors))
        for value in values.get(group_of(row), ()):
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


def _axes(identities: Mapping[GroupKey, Mapping[str, str]]) -> tuple[dict[GroupKey, str], dict[GroupKey, Head]]:
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


def _by_group(values: Iterable[ScalarRow]) -> dict[GroupKey, list[ScalarRow]]:
    found: dict[GroupKey, list[ScalarRow]] = {}
    for value in values:
        found.setdefault(group_of(value), []).append(value)
    return found


def mean_of(values: Sequence[ScalarRow], season: str | None) -> tuple[float | None, str, str]:
    """Return the mean of scalars in a season, their units, and a note; None if none is finite."""
    fitting = [row for row in values if season is None or row.dimensions.get(SEASON, season) == season]
    numbers = [row.value for row in fitting if math.isfinite(row.value)]
    if not numbers:
        return None, "", ""
    units = next(filter(None, map(units_text, fitting)), "")
    return fmean(numbers), units, f"the mean of {len(numbers)} values" if len(numbers) > 1 else ""
