"""The Taylor diagram: how well the patterns of models agree with a reference, in correlation and in amplitude."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

import attrs

_SIZE = 300
_CORRELATIONS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.99)
_RINGS = (0.25, 0.5, 0.75, 1.0)
_LEAST_REACH = 1.3


@attrs.frozen
class TaylorPoint:
    """A model: its correlation with the reference, and its standard deviation relative to that of the reference."""

    name: str
    correlation: float
    deviation: float


@attrs.frozen
class _Frame:
    """Where things are: the angle is the correlation, the radius the deviation; two quarters if one is negative."""

    reach: float
    both: bool

    @property
    def centre(self) -> int:
        return _SIZE if self.both else 0

    def at(self, deviation: float, correlation: float) -> tuple[float, float]:
        angle, radius = math.acos(correlation), deviation * _SIZE / self.reach
        return self.centre + radius * math.cos(angle), _SIZE - radius * math.sin(angle)


def draw_taylor(points: Sequence[TaylorPoint], mine: str = "", hidden: str = "") -> str:
    """Return a Taylor diagram as HTML, with one model marked and hidden points mentioned. All text in it is escaped."""
    reach = 1.05 * max(_LEAST_REACH, *(point.deviation for point in points))
    frame = _Frame(reach, any(point.correlation < 0 for point in points))
    width = frame.centre + _SIZE
    ordered = sorted(points, key=lambda point: point.name.lower())
    models = "".join(_model(frame, number, point, point.name == mine) for number, point in enumerate(ordered, 1))
    names = "".join(f"<li>{escape(point.name)}</li>" for point in ordered)
    x, y = frame.at(1.0, 1.0)
    about = f"Taylor diagram of {len(points)} models; the table of scores has the numbers"
    return (
        '<figure class="chart taylor"><h3>Taylor diagram</h3>'
        f'<svg viewBox="-16 -24 {width + 48} {_SIZE + 46}" role="img" aria-label="{about}">'
        f'<g class="grid">{"".join(_grid(frame))}</g>'
        f'<circle class="reference" cx="{x:.0f}" cy="{y:.0f}" r="7"/>{models}</svg>'
        "<figcaption>Angle: correlation. Radius: standard deviation, relative to that of the reference, the black dot. "
        f"Rings around it: centred error.{f' {hidden}.' if hidden else ''}</figcaption>"
        f'<ol class="taylor-names">{names}</ol></figure>'
    )


def _grid(frame: _Frame) -> Iterator[str]:
    for ring in _RINGS:
        (x, y), radius = frame.at(1.0, 1.0), ring * _SIZE / frame.reach
        start, end = (f"{x + side * radius:.0f} {y:.0f}" for side in (1, -1))
        yield f'<path class="error" d="M{start}A{radius:.0f} {radius:.0f} 0 0 0 {end}"/>'
    step = 0.5 if frame.reach < 3 else max(1, round(frame.reach / 4))
    for number in range(1, int(frame.reach / step) + 1):
        deviation = number * step
        (x, y), (end_x, end_y) = frame.at(deviation, 1.0), frame.at(deviation, -1.0 if frame.both else 0.0)
        radius, kind = x - frame.centre, ' class="zero"' if deviation == 1 else ""
        yield f'<path{kind} d="M{x:.0f} {y:.0f}A{radius:.0f} {radius:.0f} 0 0 0 {end_x:.0f} {end_y:.0f}"/>'
        yield f'<text x="{x:.0f}" y="{y + 15:.0f}">{deviation:g}</text>'
    negative = [-each for each in _CORRELATIONS[1:]] if frame.both else []
    for correlation in (*negative, *_CORRELATIONS):
        (x, y), (text_x, text_y) = frame.at(frame.reach, correlation), frame.at(1.05 * frame.reach, correlation)
        yield f'<path d="M{frame.centre} {_SIZE}L{x:.0f} {y:.0f}"/>'
        yield f'<text x="{text_x:.0f}" y="{text_y + 4:.0f}">{f"{correlation:g}".replace("-", "−")}</text>'


def _model(frame: _Frame, number: int, point: TaylorPoint, marked: bool) -> str:
    x, y = frame.at(point.deviation, point.correlation)
    said = f"{point.name}: correlation {point.correlation:.3g}, ratio of standard deviations {point.deviation:.3g}"
    return (
        f'<g class="model{" mine" if marked else ""}"><title>{escape(said)}</title>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9"/><text x="{x:.1f}" y="{y + 3:.1f}">{number}</text></g>'
    )
