"""How the cost of one key, set or scalar changes with how many there are: a table, and a figure for the documentation.

What stays flat in the figure grows with nothing but its own number.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import scale
from benchmarks.contenders import environment
from benchmarks.measure import Summary, run
from benchmarks.suites import Bench, Row

_KEYS = (10**3, 10**4, 10**5)
_SHAPES = {10**4: (10, 10, 10, 10), 10**5: (10, 20, 50, 10), 10**6: (20, 50, 100, 10)}
_SETS = frozenset({"replay, all new", "replay, unchanged"})
_COLOURS = ("#1b6ca8", "#c8553d", "#2f8f5b", "#7a4fa3", "#b8860b", "#444444", "#d1478f")
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 400, 60, 16, 190, 44


def measure(bench: Bench) -> list[Row]:
    """Measure what is done with keys, sets and scalars, for ten times as many, and again unless it is to be quick.

    `benchmarks.scale` has a million keys.
    """
    rows = []
    for keys in _KEYS[:-1] if bench.quick else _KEYS:
        for row in scale.measure_one(bench, "local", keys):
            units = keys // scale.KEYS_PER_SET if row.contender in _SETS else keys
            unit = "sets" if row.contender in _SETS else "keys"
            rows.append(Row(f"{units:,} {unit}", "curves", f"{row.contender}, a {unit[:-1]}", _of(row.summary, units)))
    env = environment(None, bench.cache)
    for scalars, shape in [*_SHAPES.items()][: 2 if bench.quick else 3]:
        with TemporaryDirectory(dir=bench.disks.work) as folder:
            inside = [sys.executable, "-m", "benchmarks.inside"]
            run([*inside, "publish-scalars", folder, *map(str, shape)], env)
            done = run([*inside, "ingest", folder], env)
        rows.append(Row(f"{scalars:,} scalars", "curves", "ingest, a scalar", Summary([done], scalars)))
        bench.report(f"{scalars:>9,} scalars ingested in {done.seconds:.2f} s")
    return rows


def _of(summary: Summary, units: int) -> Summary:
    return Summary(summary.runs, units)


def table(rows: Iterable[Row]) -> str:
    """Return the CPU time of each unit, and the statements of SQL and the memory of all, in Markdown."""
    lines = ["| | how many | CPU, each | SQL statements, all | peak memory |", "|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (row.contender, row.summary.files)):
        each, statements = row.summary.cpu_seconds / row.summary.files, row.summary.runs[-1].told.get("statements", "")
        lines.append(
            f"| {row.contender.rpartition(',')[0]} | {row.workload} | {each * 1e6:,.1f} µs | {statements} "
            f"| {row.summary.peak_mb:.0f} MB |"
        )
    return "\n".join(lines)


def draw(rows: Iterable[Row], to: Path) -> None:
    """Draw the CPU time of each unit over their number, both on logarithmic axes, as SVG."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        each = max(row.summary.cpu_seconds / row.summary.files * 1e6, 0.1)
        curves.setdefault(row.contender, []).append((row.summary.files, each))
    to.write_text(_svg({name: sorted(points) for name, points in curves.items()}), encoding="utf-8")


def _svg(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    across = _decades(number for points in curves.values() for number, _ in points)
    up = _decades(each for points in curves.values() for _, each in points)

    def place(number: float, each: float) -> tuple[float, float]:
        x = (math.log10(number) - across[0]) / (across[-1] - across[0])
        y = (math.log10(each) - up[0]) / (up[-1] - up[0])
        return _LEFT + x * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - y * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for decade in across:
        x, bottom = place(10.0**decade, 10.0 ** up[0])
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{10**decade:,}</text>')
    for decade in up:
        left, y = place(10.0 ** across[0], 10.0**decade)
        parts.append(f'<path d="M{left:.1f} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>')
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 8}">how many keys, sets or scalars; CPU time of each in µs</text>')
    named: list[float] = []
    for colour, (name, points) in zip(_COLOURS, sorted(curves.items(), key=lambda each: each[1][-1][1]), strict=False):
        at = [place(*point) for point in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        y = min(at[-1][1] + 4, *(other - 14 for other in named)) if named else at[-1][1] + 4
        named.append(y)
        parts.append(f'<text x="{_WIDTH - _RIGHT + 8}" y="{y:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _decades(values: Iterable[float]) -> range:
    logarithms = [math.log10(value) for value in values]
    least, most = math.floor(min(logarithms)), math.ceil(max(logarithms))
    return range(least, max(most, least + 1) + 1)
