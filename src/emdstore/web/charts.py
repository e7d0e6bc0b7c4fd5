"""Charts as plain values: `drawing` draws them, and the browser lists their numbers in a table."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import attrs

from emdstore.catalog import ScalarRow, SeriesRow
from emdstore.catalog.references import REFERENCE, kind_of, units_of
from emdstore.web import text

MOST_TOGETHER = 12
"""More series than this share a chart only if all are of one place and season, which the chart's title says."""

SOURCES = (
    "source_id", "member_id", "variant_label", "grid_label", "experiment_id", "institution_id", "mip_id", "activity_id",
    "reference_source_id", "reference_datasets", "dataset", "model", "version",
)  # fmt: skip
"""Dimensions that identify the data of a value. They differ between executions that are compared."""

_MOST_LABELS = 40

TOPICS = ("variable_id", "metric", "statistic")
"""Dimensions whose values are different quantities, with one chart for each."""

_DATE = re.compile(r"\d{4,}-\d\d(-\d\d)?([T ]\d\d:\d\d\S*)?\Z")


@attrs.frozen
class Trace:
    """One line, or one set of dots.

    Attributes
    ----------
    name
        What it is called beside others.
    x, y
        Its values; a missing one is None.
    reference
        Whether it is what models are compared with.
    rows
        The table rows of the dots.
    notes
        What tells each dot from others with the same label.
    column
        The compared execution that it belongs to.
    """

    name: str
    x: tuple[str | float | None, ...]
    y: tuple[str | float | None, ...]
    reference: bool = False
    rows: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    column: int | None = None

    def as_dict(self, *, with_x: bool) -> dict[str, Any]:
        """Return what the browser needs of it."""
        told: dict[str, Any] = {"name": self.name, "y": self.y}
        more = {
            "x": self.x if with_x else (),
            "reference": self.reference,
            "rows": self.rows,
            "notes": self.notes,
        }
        return told | {name: value for name, value in more.items() if value}


@attrs.frozen
class Chart:
    """One chart.

    Attributes
    ----------
    title, caption
        What it shows, in the words of the diagnostic's author.
    kind
        ``line``; ``points``, if the index is not monotonic; ``dots``, with values along x and labels along y.
    axis
        What x is: ``date``, ``linear`` or ``category``.
    x_title, y_title
        With units.
    traces
        Its lines or dots.
    labels
        For dots: the labels from the top on, if not in the order of the dots.
    hidden
        What is hidden as an outlier, in words; ``""`` if nothing is.
    """

    title: str
    caption: str
    kind: Literal["line", "points", "dots"]
    axis: Literal["date", "linear", "category"]
    x_title: str
    y_title: str
    traces: tuple[Trace, ...]
    labels: tuple[str, ...] = ()
    hidden: str = ""

    @cached_property
    def points(self) -> int:
        """How many values are drawn."""
        return sum(sum(one is not None for one in (t.x if self.kind == "dots" else t.y)) for t in self.traces)

    def as_dict(self) -> dict[str, Any]:
        """Return what the browser needs besides the drawing; lines that share their index have it once."""
        first = self.traces[0].x if self.traces else ()
        alike = self.kind != "dots" and all(trace.x == first for trace in self.traces)
        traces = [trace.as_dict(with_x=not alike) for trace in self.traces]
        plain = {"kind": self.kind, "x_title": self.x_title, "y_title": self.y_title, "traces": traces}
        return plain | {"x": first} if alike else plain


@attrs.frozen
class SeriesLine:
    """A series to be drawn: its row, the name of its execution among others, and that execution's column."""

    row: SeriesRow
    name: str = ""
    column: int | None = None


def series_charts(lines: Iterable[SeriesLine]) -> tuple[Chart, ...]:
    """Arrange series in charts: those with the same index, units and topic share one.

    If some are references or if there are many, each combination of the other dimensions, such as region and season,
    gets a chart of its own, in which all executions meet their reference. A reference that several executions brought
    along is drawn once.
    """
    topics: dict[tuple[str, ...], list[SeriesLine]] = {}
    for line in lines:
        topic = tuple(line.row.dimensions.get(one, "") for one in TOPICS)
        key = (*topic, line.row.index_name, units_text(line.row), _text(line.row, "index_units"))
        topics.setdefault(key, []).append(line)
    charts = []
    for members in topics.values():
        several = any(_is_reference(each.row) or each.name for each in members) or len(members) > MOST_TOGETHER
        panels: dict[text.Place, list[SeriesLine]] = {}
        for each in members:
            panels.setdefault(text.key_of(_where(each.row)) if several else (), []).append(each)
        rows = [_where(each.row) for each in members]
        tell = [one for one in text.varying(rows) if one not in TOPICS] if len(panels) > 1 else []
        charts += [_series_chart(_each_reference_once(panel), tell) for panel in panels.values()]
    titles = Counter(chart.title for chart in charts)
    # The same quantity along time and along months, or in two units.
    return tuple(
        chart if titles[chart.title] == 1 else attrs.evolve(chart, title=f"{chart.title} – by {chart.x_title}")
        for chart in charts
    )


def _where(row: SeriesRow) -> dict[str, str]:
    """Return a series' dimensions without those that name its model or reference."""
    return {name: value for name, value in row.dimensions.items() if name not in SOURCES and name != "kind"}


def _each_reference_once(lines: Iterable[SeriesLine]) -> list[SeriesLine]:
    """Leave out references that are equal to an earlier one; those come first."""
    found: dict[tuple[object, ...], SeriesLine] = {}
    models = []
    for line in lines:
        if _is_reference(line.row):
            # NaN is not equal to itself, but what is missing in both is.
            found.setdefault((line.row.index, tuple(map(_finite, line.row.values))), line)
        else:
            models.append(line)
    return [*found.values(), *models]


def _series_chart(members: Sequence[SeriesLine], tell_panels: Sequence[str] = ()) -> Chart:
    rows = [member.row for member in members]
    told = [
        _where(row) | {k: v for k, v in row.dimensions.items() if k in SOURCES}
        for row in rows
        if not _is_reference(row)
    ]
    tell = [one for one in text.varying(told) if one not in TOPICS]
    seen: Counter[str] = Counter()
    traces = []
    references = sum(map(_is_reference, rows))
    for member in members:
        row, reference = member.row, _is_reference(member.row)
        if reference:
            whose = _text(row, "reference_id") or text.label(
                row.dimensions, ["reference_source_id", "reference_datasets"]
            )
            name = whose or (member.name if references > 1 else "")
        else:
            name = member.name or text.label(row.dimensions, tell)
            name = name or ("" if len(rows) == 1 else text.label(row.dimensions, ["source_id", "model"]) or "values")
        shown = f"{name} (reference)" if reference and name else "reference" if reference else name or "values"
        seen[shown] += 1
        if seen[shown] > 1:
            shown += f" ({seen[shown]})"
        # An equal reference of several executions belongs to none of them.
        traces.append(
            Trace(
                shown,
                row.index,
                tuple(map(_finite, row.values)),
                reference,
                column=None if reference else member.column,
            )
        )
    first = next((row for row in rows if not _is_reference(row)), rows[0])
    where = text.label(first.dimensions, tell_panels)
    topics = text.label(first.dimensions, TOPICS)
    long_name = " ".join(_text(first, "value_long_name", "long_name").split())
    axis = _axis(rows)
    runs = axis != "linear" or all(_runs(row.index) for row in rows)
    captions = {_text(row, "caption") for row in rows}
    caption = captions.pop() if len(captions) == 1 else ""
    if not caption and not tell_panels:
        common = text.common([row.dimensions for row in rows])
        caption = ", ".join(f"{text.name_text(k)} {v}" for k, v in common.items() if k not in TOPICS)
    return Chart(
        title=" – ".join(dict.fromkeys(filter(None, (long_name, topics, where)))) or first.index_name,
        caption=caption,
        kind="line" if runs else "points",
        axis=axis,
        x_title=_with_units(
            _text(first, "index_long_name") or text.name_text(first.index_name), _text(first, "index_units")
        ),
        y_title=_with_units(_text(first, "values_name") or first.dimensions.get("variable_id", ""), units_text(first)),
        traces=tuple(traces),
    )


@attrs.frozen
class Dot:
    """A value to be drawn as a dot: its label along y, its table row, and what tells it from others of its label."""

    label: str
    value: float
    row: int = 0
    note: str = ""


def dot_chart(
    title: str, caption: str, x_title: str, colours: Mapping[str, Sequence[Dot]], *, columns: bool = False
) -> Chart:
    """Draw values along x, with one line for each label and one colour for each named set of dots.

    Parameters
    ----------
    title, caption, x_title
        See `Chart`.
    colours
        The dots of each colour.
    columns
        Whether the colours are executions that are compared, in the order of their columns.
    """
    traces = tuple(
        Trace(
            name,
            tuple(_finite(dot.value) for dot in dots),
            tuple(dot.label for dot in dots),
            rows=tuple(dot.row for dot in dots),
            notes=tuple(dot.note for dot in dots) if any(dot.note for dot in dots) else (),
            column=number if columns else None,
        )
        for number, (name, dots) in enumerate(colours.items())
    )
    return Chart(title, caption, "dots", "linear", x_title, "", traces)


def scalar_charts(rows: Sequence[ScalarRow], by: str = "", hidden: Iterable[ScalarRow] = ()) -> tuple[Chart, ...]:
    """Draw scalars as dots: one chart for each topic and unit, a line for each label.

    Parameters
    ----------
    rows
        The scalars, in the order of the table beside the chart.
    by
        The dimension to colour by.
    hidden
        Scalars that are left out as outliers: each chart says how many of its own there are.
    """
    topics: dict[tuple[str, str], list[tuple[int, ScalarRow]]] = {}
    for number, row in enumerate(rows):
        topics.setdefault(_axis_of(row), []).append((number, row))
    counts = Counter(map(_axis_of, hidden))
    return tuple(
        attrs.evolve(_scalar_chart(*axis, members, by), hidden=hidden_text(counts[axis], "value"))
        for axis, members in topics.items()
    )


def hidden_text(number: int, one: str) -> str:
    """Say how many are hidden as outliers; ``""`` for none."""
    return f"{text.count_text(number, one)} hidden as outliers" if number else ""


def _axis_of(row: ScalarRow) -> tuple[str, str]:
    """Return the quantity and the units, which values in one chart share."""
    return topic_of(row.dimensions), units_text(row)


def run_of(fragment: str) -> str:
    """Return what tells an execution from other runs of its group: the end of its folder's name."""
    return fragment.rpartition("/")[2]


def topic_of(dimensions: text.Dimensions) -> str:
    """Return the quantity of a value: values of different topics do not share an axis."""
    return text.label(dimensions, TOPICS)


def units_text(row: ScalarRow | SeriesRow) -> str:
    """Return the units of a value; empty if nothing says so."""
    return units_of(row.attributes) or ""


def _scalar_chart(topic: str, units: str, members: Sequence[tuple[int, ScalarRow]], by: str) -> Chart:
    every = [dict(row.dimensions) for _, row in members]
    # Where executions have the same dimensions, their groups tell them apart, and where these are the same, their runs.
    for name, told in (
        ("group", [row.group for _, row in members]),
        ("run", [run_of(row.fragment) for _, row in members]),
    ):
        if len(set(map(text.key_of, every))) < len(every):
            every = [one | {name: each} for one, each in zip(every, told, strict=True)]
    common = {name: value for name, value in text.common(every).items() if name not in TOPICS}
    tell = [one for one in text.varying(every) if one not in (*TOPICS, by)]
    aside: list[str] = []
    # Too many labels to look through: what has the most values, such as the model, is told by the dot instead.
    while len(tell) > 1 and len({text.label(one, tell) for one in every}) > _MOST_LABELS:
        aside.append(max(tell, key=lambda name: (name in SOURCES, len({one.get(name) for one in every}))))
        tell.remove(aside[-1])
    colours: dict[str, list[Dot]] = {}
    for one, (number, row) in zip(every, members, strict=True):
        label = text.label(one, tell) or topic or row.diagnostic
        colours.setdefault(one.get(by, "") or topic or "value", []).append(
            Dot(label, row.value, number, text.label(one, aside))
        )
    caption = ", ".join(f"{text.name_text(name)} {value}" for name, value in common.items())
    if aside:
        caption = "; ".join(filter(None, (caption, f"a dot for each {text.name_text(aside[0])}")))
    return dot_chart(topic or "Values", caption, _with_units("value", units), colours)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_reference(row: SeriesRow) -> bool:
    return kind_of(row.dimensions, row.attributes) == REFERENCE


def _text(row: SeriesRow | ScalarRow, *names: str) -> str:
    return next((value for name in names if isinstance(value := row.attributes.get(name), str)), "")


def _with_units(name: str, units: str) -> str:
    return f"{name} [{units}]" if name and units else name or units


def _axis(rows: Sequence[SeriesRow]) -> Literal["date", "linear", "category"]:
    index = [one for each in {row.index for row in rows} for one in each]
    if all(isinstance(one, int | float) for one in index):
        return "linear"
    return "date" if all(isinstance(one, str) and _DATE.match(one) for one in index) else "category"


def _runs(index: Sequence[Any]) -> bool:
    pairs = list(pairwise(index))
    return all(a <= b for a, b in pairs) or all(a >= b for a, b in pairs)
