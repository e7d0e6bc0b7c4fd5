"""Formatting numbers, sizes, times and dimensions for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

Dimensions = Mapping[str, str]

Place = tuple[tuple[str, str], ...]
"""Dimensions that can be compared and counted."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def number_text(value: float | None) -> str:
    """Format a number with six digits; NaN is "no value"."""
    if value is None or math.isnan(value):
        return "no value"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.6g}".replace("-", "−")


def short_text(value: float | None) -> str:
    """Format a number with three digits, for tables of many."""
    return "" if value is None else f"{value:.3g}".replace("-", "−")


def percent_text(value: float) -> str:
    """Format a change in percent."""
    return "∞" if math.isinf(value) else f"{value:.3g} %"


def size_text(size: float | None) -> str:
    """Format a number of bytes."""
    if size is None:
        return ""
    step = 0
    while size >= 1000 and step < len(_UNITS) - 1:
        size, step = size / 1000, step + 1
    return f"{size:.0f} {_UNITS[step]}" if step == 0 or size >= 100 else f"{size:.1f} {_UNITS[step]}"


def duration_text(seconds: float | None) -> str:
    """Format a duration."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def time_text(moment: datetime | None) -> str:
    """Format a point in time."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"


def day_text(moment: datetime | None) -> str:
    """Format the day of a point in time."""
    return "" if moment is None else f"{moment:%Y-%m-%d}"


def count_text(number: int, one: str, many: str | None = None) -> str:
    """Format a number of things."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def name_text(name: str) -> str:
    """Return the name of a dimension or a field as words. Values are never changed."""
    return name.replace("_", " ")


def common(rows: Iterable[Dimensions]) -> dict[str, str]:
    """Return the dimensions that have the same value in all rows."""
    found: dict[str, str] | None = None
    for row in rows:
        found = dict(row) if found is None else {k: v for k, v in found.items() if row.get(k) == v}
    return found or {}


def varying(rows: Sequence[Dimensions]) -> list[str]:
    """Return the names of the dimensions in which rows differ, in order of appearance."""
    same = common(rows)
    return list(dict.fromkeys(name for row in rows for name in row if name not in same))


def key_of(dimensions: Dimensions) -> Place:
    """Return dimensions as a key, whatever their order."""
    return tuple(sorted(dimensions.items()))


def label(dimensions: Dimensions, names: Iterable[str]) -> str:
    """Return the values of some dimensions in one line."""
    return " · ".join(dimensions[name] for name in names if name in dimensions)
