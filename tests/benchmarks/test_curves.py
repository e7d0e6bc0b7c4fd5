"""The figure of the curves shows what was measured."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from benchmarks.measure import Run, Summary
from benchmarks.suites import Row

from benchmarks import curves

_SVG = "{http://www.w3.org/2000/svg}"


def _row(units: int, what: str, each: float) -> Row:
    run = Run(1.0, units * each / 1e6, 60.0, {"statements": 3})
    return Row(f"{units:,} keys", "curves", what, Summary([run], units))


def test_each_operation_is_a_curve_and_what_costs_the_same_is_level(tmp_path: Path) -> None:
    flat = [_row(10**exponent, "verify, a key", 70.0) for exponent in (3, 5, 4)]
    steep = [_row(10**exponent, "list, a key", 10.0**exponent / 100) for exponent in (3, 4, 5)]
    curves.draw([*flat, *steep], tmp_path / "curves.svg")
    drawn = ElementTree.parse(tmp_path / "curves.svg")
    lines = [
        [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
        for line in drawn.iter(f"{_SVG}polyline")
    ]
    (level,) = (line for line in lines if len({y for _, y in line}) == 1)
    (rising,) = (line for line in lines if line is not level)
    assert [x for x, _ in level] == sorted(x for x, _ in level) == [x for x, _ in rising]
    assert len(level) == len(rising) == 3
    assert rising == sorted(rising, key=lambda point: -point[1])
    texts = {text.text for text in drawn.iter(f"{_SVG}text")}
    assert texts >= {"verify, a key", "list, a key", "1,000", "100,000"}
    assert "| verify | 100,000 keys | 70.0 µs | 3 | 60 MB |" in curves.table(flat)
