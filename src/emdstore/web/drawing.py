"""Drawing charts as SVG, which prints, needs no script, and takes its colours from the style sheet.

Lines are drawn in a box of fixed units that is stretched to the width of the page; text and strokes are not stretched
with it. So one drawing fits a phone and a wide screen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from statistics import quantiles
from typing import Any

import attrs

from emdstore.web import text
from emdstore.web.cells import Cell
from emdstore.web.charts import Chart, Trace
from emdstore.web.metrics import colour_of

HEIGHT = 230
"""Of a chart of lines, in pixels."""

ROW = 24
"""Of a label in a chart of dots, in pixels."""

COLOURS = 8
"""More lines than this cannot be told apart by colour: all are grey, and the one under the pointer stands out."""

_WIDE, _HIGH = 1000, 500
_MOST_POINTS = 2 * _WIDE  # of one line; of more, those that reach farthest are drawn
_MARKED = 40
_MOST_LETTERS, _FEW_LETTERS = 28, 18  # of all labels along an axis, and along a shorter one: they fit a phone
_MOST_DIGITS = 6  # before the point; larger numbers are told by their power of ten
_MOST_WITHOUT_A_BOX = 6
_DATE = re.compile(r"(\d{4,})-(\d\d)(?:-(\d\d))?(?:[T ](\d\d):(\d\d))?")
_STEPS = (1, 2, 5, 10)


@attrs.frozen
class Scale:
    """Where values lie between the two ends of an axis.

    Attributes
    ----------
    low, high
        The values at the ends; `high` is larger.
    ticks
        The values that are labelled, with their labels.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Return where a value lies: 0 at the low end, 1 at the high end."""
        return (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)  # halved: the largest numbers, too


def scale_of(values: Sequence[float], *, most: int = 6, margin: float = 0.04, letters: int | None = None) -> Scale:
    """Return the scale that holds some values, with round ticks; if their labels have too many letters, with fewer."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        pad = abs(low) / 10 or 1.0
        low, high = low - pad, high + pad
    elif math.isfinite(high - low):
        pad = margin * (high - low)
        low, high = low - pad, high + pad
    ticks = tuple(_ticks(low, high, most))
    every = 1 if letters is None else max(1, -(-sum(len(label) for _, label in ticks) // letters))
    return Scale(low, high, ticks[::every])


def _ticks(low: float, high: float, most: int) -> Iterator[tuple[float, str]]:
    rough = (high / 2 - low / 2) / most * 2
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((each * power for each in _STEPS if each * power >= rough * (1 - 1e-9)), 10 * power)
    if not step or not math.isfinite(step) or low + step == low:
        yield from ((each, text.number_text(each)) for each in (low, high))
        return
    largest = max(abs(low), abs(high))
    whole = min(_MOST_DIGITS, math.floor(math.log10(largest)) + 1)  # 250, and not 2.5e+02
    digits = min(15, max(1, whole, math.ceil(math.log10(largest / step)) + 1))
    first = math.ceil(low / step)
    for number in range(first, math.floor(high / step) + 1):
        value = number * step
        yield value, f"{value:.{digits}g}".replace("-", "−")


@lru_cache(maxsize=64)  # a report has charts on two pages, one after the other
def draw_chart(chart: Chart) -> str:
    """Return a chart as HTML: the axes, the drawing, and the legend.

    All text in it is escaped. It has no style of its own: classes say what is what.
    """
    return _draw_dots(chart) if chart.kind == "dots" else _draw_lines(chart)


def draw_portrait(cell: Cell) -> str:
    """Return a cell of the portrait plot as SVG: a triangle for each season, from the top on clockwise."""
    corners = ((0, 0), (40, 0), (40, 28), (0, 28))
    triangles = []
    for number, relative in enumerate(cell.parts):
        (x1, y1), (x2, y2) = corners[number], corners[(number + 1) % 4]
        triangles.append(f'<path class="{colour_of(relative)}" d="M{x1} {y1}L{x2} {y2}L20 14z"/>')
    label = escape(cell.shown)
    head = f'<svg viewBox="0 0 40 28" preserveAspectRatio="none" role="img" aria-label="{label}">'
    return f"{head}{''.join(triangles)}</svg>"


def draw_cell(cell: Cell, href: str | None, *, portrait: bool) -> str:
    """Return a cell of the table of models as HTML: a table has hundreds, which a template would draw slowly."""
    is_value = cell.kind == "value"
    number: object = "nan" if not is_value else cell.value if cell.relative is None else cell.relative
    title = f' title="{escape(cell.title)}"' if cell.title else ""
    shown = draw_portrait(cell) if portrait and is_value else escape(cell.shown)
    inside = f"<span>{shown}</span>" if href is None else f'<a href="{escape(href)}">{shown}</a>'
    kind = cell.colour if is_value else f"kind {cell.kind}"
    return f'<td class="{kind}" data-value="{number}"{title}>{inside}</td>'


# -- lines -----------------------------------------------------------------------------------------------------------


def _draw_lines(chart: Chart) -> str:
    x_of, x_scale = _along(chart)
    y_scale = scale_of([value for trace in chart.traces for value in trace.y if isinstance(value, float | int)])
    paths = []
    placed: dict[tuple[Any, ...], list[float]] = {}
    for number, trace in enumerate(chart.traces):
        if trace.x not in placed:
            placed[trace.x] = [_WIDE * x_scale.place(x) for x in x_of(trace)]
        low, reach = y_scale.low / 2, (y_scale.high / 2 - y_scale.low / 2) / _HIGH  # as in Scale.place, for many
        points = [
            None if y is None else (x, _HIGH - (y / 2 - low) / reach)  # type: ignore[operator]
            for x, y in zip(placed[trace.x], trace.y, strict=True)
        ]
        attributes = f'{_classes(chart, number)} data-n="{number}"{_column(trace)}'
        if chart.kind == "line":
            paths.append(f'<path {attributes} d="{_line(points)}"/>')
        if chart.kind == "points" or len(points) < _MARKED:
            paths.append(f'<path {attributes.replace("class=", "data-marks class=", 1)} d="{_dots(points)}"/>')
    width = 12 + 7 * max((len(label) for _, label in y_scale.ticks), default=0)
    places = [(label, (1 - y_scale.place(value)) * HEIGHT) for value, label in y_scale.ticks]
    labels = "".join(f'<text x="{width - 6}" y="{y + 4:.0f}">{escape(label)}</text>' for label, y in places)
    across = "".join(f'<line x1="0" x2="100%" y1="{y:.0f}" y2="{y:.0f}"/>' for _, y in places)
    return (
        (f'<p class="y-title">{escape(chart.y_title)}</p>' if chart.y_title else "")
        + f'<div class="drawing"><svg class="y-axis" width="{width}" height="{HEIGHT}">{labels}</svg>'
        + _area(
            across,
            x_scale,
            "".join(paths),
            HEIGHT,
            _HIGH,
            f'data-low="{y_scale.low!r}" data-high="{y_scale.high!r}"',
        )
        + _x_axis(x_scale)
        + f'</div><p class="x-title">{escape(chart.x_title)}</p>{_legend(chart)}'
    )


def _along(chart: Chart) -> tuple[Any, Scale]:
    """Return how a trace's x becomes numbers, and their scale."""
    if chart.axis == "category":
        names = list(dict.fromkeys(str(x) for trace in chart.traces for x in trace.x))
        place = {name: float(number) for number, name in enumerate(names)}
        every = max(1, -(-len(names) // 6))
        ticks = tuple((float(n), names[n]) for n in range(0, len(names), every))
        edge = 0.5 if len(names) > 1 else 1.0
        return lambda trace: [place[str(x)] for x in trace.x], Scale(-edge, len(names) - 1 + edge, ticks)
    number = _year if chart.axis == "date" else float
    memory: dict[tuple[Any, ...], list[float]] = {}  # many lines share one index

    def x_of(trace: Trace) -> list[float]:
        if trace.x not in memory:
            memory[trace.x] = [number(x) for x in trace.x]  # type: ignore[arg-type]
        return memory[trace.x]

    every_x = [x for trace in {trace.x: trace for trace in chart.traces}.values() for x in x_of(trace)]
    scale = scale_of(every_x, most=5, margin=0.0, letters=_MOST_LETTERS)
    if chart.axis == "date" and scale.high - scale.low < 3:  # years
        named = sorted(
            {x: str(name) for trace in chart.traces for x, name in zip(x_of(trace), trace.x, strict=True)}.items()
        )
        chosen = named[:: max(1, -(-len(named) // 4))]
        scale = attrs.evolve(scale, ticks=tuple((x, name[:10] if "T00:00" in name else name) for x, name in chosen))
    elif chart.axis == "date":
        scale = attrs.evolve(scale, ticks=tuple((x, f"{x:.0f}") for x, _ in scale.ticks if x == int(x)))
    return x_of, scale


@lru_cache(maxsize=10_000)
def _year(date: str) -> float:
    """Return a date as years: of any calendar, also of those that have a 30 February."""
    found = _DATE.match(str(date))
    assert found is not None  # the chart's axis says that all are dates
    year, month, day, hour, minute = (int(part or 0) for part in found.groups())
    days = max(0, day - 1) + hour / 24 + minute / 1440
    return year + (month - 1) / 12 + days / 372


def _line(points: Sequence[tuple[float, float] | None]) -> str:
    """Return a path in whole units, relative from point to point, which is the shortest."""
    if len(points) > _MOST_POINTS:
        points = list(_farthest(points))
    parts = []
    last: tuple[int, int] | None = None
    for point in points:
        if point is None:
            last = None
            continue
        x, y = round(point[0]), round(point[1])
        if last is None:
            parts.append(f"M{x} {y}l0 0")  # a point by itself is a dot
        else:
            right, down = x - last[0], y - last[1]
            parts.append(f"{'' if right < 0 else ' '}{right}{'' if down < 0 else ' '}{down}")
        last = x, y
    return "".join(parts)


def _farthest(points: Sequence[tuple[float, float] | None]) -> Iterator[tuple[float, float] | None]:
    """Yield of each column of the box the first, lowest, highest and last point, and the gaps."""
    column: list[tuple[float, float]] = []
    for point in [*points, None]:
        if column and (point is None or int(point[0]) != int(column[0][0])):
            ends = {column[0], min(column, key=lambda p: p[1]), max(column, key=lambda p: p[1]), column[-1]}
            yield from (each for each in dict.fromkeys(column) if each in ends)
            column = []
        if point is None:
            yield None
        else:
            column.append(point)


def _dots(points: Sequence[tuple[float, float] | None]) -> str:
    return "".join(f"M{point[0]:.0f} {point[1]:.0f}h0" for point in points if point is not None)


# -- dots ------------------------------------------------------------------------------------------------------------


def _draw_dots(chart: Chart) -> str:
    names = list(chart.labels or dict.fromkeys(str(name) for trace in chart.traces for name in trace.y))
    row = {name: number for number, name in enumerate(names)}
    scale = scale_of(
        [x for trace in chart.traces for x in trace.x if isinstance(x, float | int)], most=5, letters=_FEW_LETTERS
    )
    height = ROW * len(names)
    paths: list[str] = []
    for number, trace in enumerate(chart.traces):
        dots = "".join(
            # What has no value keeps its place in the path, so that the n-th dot is the n-th number.
            f"M{scale.place(x) * _WIDE:.0f} {row[str(name)] * ROW + ROW // 2}h0"
            if isinstance(x, float | int)
            else "M-9-9"
            for x, name in zip(trace.x, trace.y, strict=True)
        )
        paths.append(f'<path data-marks {_classes(chart, number)} data-n="{number}"{_column(trace)} d="{dots}"/>')
    across = "".join(
        f'<line x1="0" x2="100%" y1="{n * ROW + ROW // 2}" y2="{n * ROW + ROW // 2}"/>' for n in range(len(names))
    )
    boxes = "".join(_box(chart, scale, name, number * ROW) for name, number in row.items())
    box = f'viewBox="0 0 {_WIDE} {height}" preserveAspectRatio="none" width="100%" height="100%"'
    across += f'</g><svg class="boxes" {box}>{boxes}</svg><g>'
    labels = "".join(f'<li title="{escape(name)}">{escape(name)}</li>' for name in names)
    return (
        f'<div class="drawing dotted"><ol class="labels">{labels}</ol>'
        + _area(across, scale, "".join(paths), height, height)
        + _x_axis(scale)
        + f'</div><p class="x-title">{escape(chart.x_title)}</p>{_legend(chart)}'
    )


def _box(chart: Chart, scale: Scale, label: str, top: int) -> str:
    """Return the box plot of a label that has enough dots: from the first to the third quartile, and the median."""
    found = sorted(
        scale.place(x)
        for trace in chart.traces
        for x, name in zip(trace.x, trace.y, strict=True)
        if name == label and isinstance(x, float | int)
    )
    if len(found) < _MOST_WITHOUT_A_BOX:
        return ""
    low, middle, high = (round(_WIDE * each) for each in quantiles(found, n=4, method="inclusive"))
    box = f'<path class="box" d="M{low} {top + 4}H{high}V{top + 20}H{low}z"/>'
    return f'{box}<path class="median" d="M{middle} {top + 4}v16"/>'


# -- parts -----------------------------------------------------------------------------------------------------------


def _area(across: str, x_scale: Scale, paths: str, height: int, units: int, more: str = "") -> str:
    down = "".join(
        f'<line{" class=zero" if value == 0 else ""} x1="{place}" x2="{place}" y1="0" y2="100%"/>'
        for value, place in ((value, f"{100 * x_scale.place(value):.1f}%") for value, _ in x_scale.ticks)
    )
    return (
        f'<svg class="area" width="100%" height="{height}" {more}><g class="grid">{across}{down}</g>'
        f'<svg class="lines" viewBox="0 0 {_WIDE} {units}" preserveAspectRatio="none" width="100%" height="100%">'
        f"{paths}</svg></svg>"
    )


def _x_axis(scale: Scale) -> str:
    labels = []
    for value, label in scale.ticks:
        place = 100 * scale.place(value)
        anchor = "start" if place < 5 else "end" if place > 95 else "middle"
        shown = label if len(label) <= 20 else label[:19] + "…"
        labels.append(f'<text x="{place:.1f}%" y="14" text-anchor="{anchor}">{escape(shown)}</text>')
    return f'<svg class="x-axis" width="100%" height="20">{"".join(labels)}</svg>'


def _classes(chart: Chart, number: int) -> str:
    trace = chart.traces[number]
    if trace.reference:
        return 'class="trace reference"'
    if sum(not each.reference for each in chart.traces) > COLOURS:
        return 'class="trace many"'
    return f'class="trace c{sum(not each.reference for each in chart.traces[:number])}"'


def _column(trace: Trace) -> str:
    return "" if trace.column is None else f' data-column="{trace.column}"'


def _legend(chart: Chart) -> str:
    if len(chart.traces) < 2:
        return ""
    entries = "".join(
        f'<li {_classes(chart, number)} data-n="{number}"{_column(trace)}>{escape(trace.name)}</li>'
        for number, trace in enumerate(chart.traces)
    )
    return f'<ul class="legend">{entries}</ul>'
