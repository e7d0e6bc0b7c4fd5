"""Charts as plain values. The browser draws them, and lists their numbers in a table."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

import attrs

from emdstore.catalog import ScalarRow, SeriesRow
from emdstore.web import text

MOST_TRACES = 12
"""More lines than this in one chart cannot be distinguished; further ones go into another chart."""

TOPICS = ("variable_id", "metric", "statistic")
"""Dimensions whose values are different quantities, with one chart for each."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@attrs.frozen
class Trace:
    """One line, or one set of dots. A missing value is None; `rows` are the table rows of the dots."""

    name: str
    x: tuple[str | float | None, ...]
    y: tuple[str | float | None, ...]
    reference: bool = False
    rows: tuple[int, ...] = ()


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
    """

    title: str
    caption: str
    kind: Literal["line", "points", "dots"]
    axis: Literal["date", "linear", "category"]
    x_title: str
    y_title: str
    traces: tuple[Trace, ...]

    @property
    def points(self) -> int:
        """How many values are drawn."""
        return sum(sum(one is not None for one in (t.x if self.kind == "dots" else t.y)) for t in self.traces)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return attrs.asdict(self)


def series_charts(named: Iterable[tuple[str, SeriesRow]]) -> tuple[Chart, ...]:
    """Arrange series in charts: those with the same index, units and topic share one.

    Parameters
    ----------
    named
        Series, each with the name of the execution that it belongs to, or ``""`` if there is only one.
    """
    groups: dict[tuple[str, ...], list[tuple[str, SeriesRow]]] = {}
    for name, row in named:
        topic = tuple(row.dimensions.get(one, "") for one in TOPICS)
        key = (*topic, row.index_name, _units(row), _text(row, "index_units"))
        groups.setdefault(key, []).append((name, row))
    return tuple(
        _series_chart(members[start : start + MOST_TRACES])
        for members in groups.values()
        for start in range(0, len(members), MOST_TRACES)
    )


def _series_chart(members: Sequence[tuple[str, SeriesRow]]) -> Chart:
    rows = [row for _, row in members]
    tell = [one for one in text.varying([row.dimensions for row in rows]) if one not in TOPICS]
    plain = [" · ".join(filter(None, (name, text.label(row.dimensions, tell)))) for name, row in members]
    seen: Counter[str] = Counter()
    traces = []
    for row, name in zip(rows, plain, strict=True):
        seen[name] += 1
        reference = _is_reference(row)
        shown = name or ("reference" if reference else text.label(row.dimensions, ["source_id"]) or "values")
        if reference and "reference" not in shown.lower():
            shown += " (reference)"
        if seen[name] > 1:
            shown += f" ({seen[name]})"
        traces.append(Trace(shown, row.index, tuple(map(_finite, row.values)), reference))
    first = next((row for row in rows if not _is_reference(row)), rows[0])
    topics = text.label(first.dimensions, TOPICS)
    long_name = " ".join(_text(first, "value_long_name", "long_name").split())
    axis = _axis(rows)
    runs = axis != "linear" or all(_runs(row.index) for row in rows)
    captions = {_text(row, "caption") for row in rows}
    caption = captions.pop() if len(captions) == 1 else ""
    if not caption:
        common = text.common([row.dimensions for row in rows])
        caption = ", ".join(f"{text.name_text(k)} {v}" for k, v in common.items() if k not in TOPICS)
    return Chart(
        title=" – ".join(dict.fromkeys(filter(None, (long_name, topics)))) or first.index_name,
        caption=caption,
        kind="line" if runs else "points",
        axis=axis,
        x_title=_with_units(
            _text(first, "index_long_name") or text.name_text(first.index_name), _text(first, "index_units")
        ),
        y_title=_with_units(_text(first, "values_name") or first.dimensions.get("variable_id", ""), _units(first)),
        traces=tuple(traces),
    )


@attrs.frozen
class Dot:
    """A value to be drawn as a dot: its label along y, and its table row."""

    label: str
    value: float
    row: int = 0


def dot_chart(title: str, caption: str, x_title: str, colours: Mapping[str, Sequence[Dot]]) -> Chart:
    """Draw values along x, with one line for each label and one colour for each named set of dots."""
    traces = tuple(
        Trace(
            name,
            tuple(_finite(dot.value) for dot in dots),
            tuple(dot.label for dot in dots),
            rows=tuple(dot.row for dot in dots),
        )
        for name, dots in colours.items()
    )
    return Chart(title, caption, "dots", "linear", x_title, "", traces)


def scalar_charts(rows: Sequence[ScalarRow], by: str = "") -> tuple[Chart, ...]:
    """Draw scalars as dots: one chart for each topic, a line for each label.

    Parameters
    ----------
    rows
        The scalars, in the order of the table beside the chart.
    by
        The dimension to colour by.
    """
    topics: dict[str, list[tuple[int, ScalarRow]]] = {}
    for number, row in enumerate(rows):
        topics.setdefault(topic_of(row.dimensions), []).append((number, row))
    return tuple(_scalar_chart(topic, members, by) for topic, members in topics.items())


def topic_of(dimensions: text.Dimensions) -> str:
    """Return the quantity of a value: values of different topics do not share an axis."""
    return text.label(dimensions, TOPICS)


def _scalar_chart(topic: str, members: Sequence[tuple[int, ScalarRow]], by: str) -> Chart:
    every = [row.dimensions for _, row in members]
    common = {name: value for name, value in text.common(every).items() if name not in TOPICS}
    tell = [one for one in text.varying(every) if one not in (*TOPICS, by)]
    several = len({row.execution_id for _, row in members}) > 1
    colours: dict[str, list[Dot]] = {}
    for number, row in members:
        where = row.group if several else ""
        name = " · ".join(filter(None, (text.label(row.dimensions, tell), where))) or topic or row.diagnostic
        colours.setdefault(row.dimensions.get(by, "") or topic or "value", []).append(Dot(name, row.value, number))
    units = next((found for _, row in members if (found := _text(row, "units", "value_units"))), "")
    caption = ", ".join(f"{text.name_text(name)} {value}" for name, value in common.items())
    return dot_chart(topic or "Values", caption, _with_units("value", units), colours)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_reference(row: SeriesRow) -> bool:
    return row.attributes.get("kind") == "reference" or row.dimensions.get("source_id", "").lower() == "reference"


def _text(row: SeriesRow | ScalarRow, *names: str) -> str:
    return next((value for name in names if isinstance(value := row.attributes.get(name), str)), "")


def _units(row: SeriesRow) -> str:
    return _text(row, "value_units", "units")


def _with_units(name: str, units: str) -> str:
    return f"{name} [{units}]" if name and units else name or units


def _axis(rows: Sequence[SeriesRow]) -> Literal["date", "linear", "category"]:
    index = [one for row in rows for one in row.index]
    if all(isinstance(one, int | float) for one in index):
        return "linear"
    return "date" if all(isinstance(one, str) and _is_date(one) for one in index) else "category"


def _is_date(text: str) -> bool:
    # Model calendars have days that real ones lack, such as 30 February.
    if not _DATE.match(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _runs(index: Sequence[Any]) -> bool:
    pairs = list(pairwise(index))
    return all(a <= b for a, b in pairs) or all(a >= b for a, b in pairs)
