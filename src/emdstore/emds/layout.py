"""Nesting separate scalars into the objects of a metric bundle.

Above the deepest level the format requires every combination of values, and the values in one innermost object share
its attributes. Scalars that do not fit are refused with the reason. Nothing is ever filled in, because null would mean
that a value was computed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from emdstore.emds.metric import ATTRIBUTES, MetricBundle
from emdstore.errors import BundleError

_NO_NOTES: Mapping[str, object] = {"PROVENANCE": None, "DISCLAIMER": None, "NOTES": None}


@attrs.frozen
class Point:
    """A scalar that has no position in a file yet; `value` is NaN for "no value"."""

    dimensions: Mapping[str, str]
    value: float
    attributes: Mapping[str, object]


def arrange(points: Sequence[Point], dimensions: Sequence[str], *, fixed: bool, name: str) -> MetricBundle:
    """Nest the points.

    Parameters
    ----------
    points
        All have exactly these dimensions, and no two the same values.
    dimensions
        Their names, outermost first.
    fixed
        Whether the order must stay. Otherwise, if the points do not fit with the last dimension deepest, one with which
        they fit is moved there.
    name
        The file's name in errors.

    Raises
    ------
    BundleError
        The points do not fit; the message has the missing combination and advice.
    """
    if not points:
        return MetricBundle(tuple(dimensions), {one: {} for one in dimensions}, {}, _NO_NOTES)
    order = _order(points, dimensions, fixed, name)
    results: dict[str, Any] = {}
    for point in points:
        *outer, value = (point.dimensions[one] for one in order)
        table = results
        for step in outer:
            table = table.setdefault(step, {})
        if point.attributes:
            table[ATTRIBUTES] = point.attributes
        table[value] = point.value
    allowed: dict[str, dict[str, object]] = {one: {value: {} for value in _seen(points, one)} for one in order}
    return MetricBundle(order, allowed, results, _NO_NOTES)


def spell(dimensions: Mapping[str, str]) -> str:
    """Return dimensions as text: ``region='arctic', metric='bias'``."""
    return ", ".join(f"{name}={value!r}" for name, value in dimensions.items())


def _order(points: Sequence[Point], dimensions: Sequence[str], fixed: bool, name: str) -> tuple[str, ...]:
    first_problem = ""
    for deepest in [dimensions[-1]] if fixed else reversed(dimensions):
        outer = tuple(one for one in dimensions if one != deepest)
        problem = _problem(points, outer)
        if problem is None:
            return (*outer, deepest)
        first_problem = first_problem or problem
    raise BundleError(f"{name}: {first_problem}", key=name)


def _problem(points: Sequence[Point], outer: tuple[str, ...]) -> str | None:
    """Return why the points do not fit below these levels; None if they do."""
    tables: dict[tuple[str, ...], Point] = {}
    for point in points:
        first = tables.setdefault(tuple(point.dimensions[one] for one in outer), point)
        if first.attributes != point.attributes:
            where = spell({one: first.dimensions[one] for one in outer}) or "all scalars"
            return f"the format allows one set of attributes for {where}, but several were given; give all the same"
    values = [_seen(points, one) for one in outer]
    if len(tables) == math.prod(len(one) for one in values):
        return None
    missing = next(steps for steps in itertools.product(*values) if steps not in tables)
    return (
        f"the format requires a value for every combination of {', '.join(outer)}, but there is none for "
        f"{spell(dict(zip(outer, missing, strict=True)))}; add one (None means: no value), or write the other "
        "combinations in a separate execution"
    )


def _seen(points: Sequence[Point], dimension: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(point.dimensions[dimension] for point in points))
