"""Values of other frameworks as scalars and series: numbers, names of dimensions, and tables that are not regular."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from emdstore.emds import MetricBundle, Series
from emdstore.emds.layout import Point, arrange
from emdstore.errors import BundleError

MISSING = 1e20
"""What this field writes for a missing value, or something larger."""

NAMES: Mapping[str, str] = {
    "model": "source_id", "models": "source_id", "dataset": "source_id",
    "reference": "reference_source_id", "obs": "reference_source_id", "ref": "reference_source_id",
    "rip": "member_id", "realization": "member_id", "run": "member_id", "ensemble": "member_id",
    "exp": "experiment_id", "experiment": "experiment_id", "mip": "mip_id",
    "variable": "variable_id", "var": "variable_id", "short_name": "variable_id", "grid": "grid_label",
    "domain": "region", "regions": "region", "monsoon_region": "region",
    "stat": "statistic", "statistics": "statistic", "metrics": "metric", "seasons": "season", "modes": "mode",
}  # fmt: skip
"""Names of dimensions that frameworks use, and those of the EMDS vocabulary."""

_NEVER_A_VALUE = ("attributes", "metadata", "provenance", "SimulationDescription")


def number(value: object) -> float | None:
    """Return a number, also one that is written as text; NaN for a missing one, None for what is no number."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return math.nan if MISSING <= abs(found) < math.inf else found


@attrs.define
class ValueTree:
    """The values in nested results, one level a dimension.

    Attributes
    ----------
    points
        The scalars, with the attributes around them.
    series
        Lists of numbers where the others have one number.
    odd
        What fits nowhere, with its place.
    """

    points: list[Point] = attrs.field(factory=list)
    series: list[Series] = attrs.field(factory=list)
    odd: list[str] = attrs.field(factory=list)


def read_tree(results: Mapping[str, Any], structure: Sequence[str], *, index_name: str = "index") -> ValueTree:
    """Read nested results that are looser than EMDS: numbers may be text, and anything may stand beside the values.

    Parameters
    ----------
    results
        The nested objects.
    structure
        The names of the levels, outermost first. They become those of the EMDS vocabulary.
    index_name
        The name for the index of lists.
    """
    tree = ValueTree()
    names = [NAMES.get(name, name) for name in structure]
    if len(set(names)) < len(names):
        names = list(structure)
    if names:
        _walk(results, names, {}, {}, tree, index_name)
    return tree


def _walk(
    table: Mapping[str, Any],
    names: Sequence[str],
    at: Mapping[str, str],
    inherited: Mapping[str, object],
    tree: ValueTree,
    index_name: str,
) -> None:
    name, *deeper = names
    attributes = dict(inherited)
    inner: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and key in _NEVER_A_VALUE:
            attributes |= value if key == "attributes" else {key: value}
        elif not deeper:
            if (found := number(value)) is not None:
                inner[key] = found
            elif isinstance(value, list) and value and all(number(one) is not None for one in value):
                inner[key] = value
            elif isinstance(value, dict):
                tree.odd.append("/".join([*at.values(), key]))
            else:
                attributes[key] = value
        elif isinstance(value, dict):
            inner[key] = value
        else:
            attributes[key] = value
    for key, value in inner.items():
        here = {**at, name: key or "unspecified"}
        if deeper and _reaches(value, len(deeper)):
            _walk(value, deeper, here, attributes, tree, index_name)
        elif deeper:
            tree.odd.append("/".join([*at.values(), key]))
        elif isinstance(value, list):
            values = tuple(read for one in value if (read := number(one)) is not None)
            index = tuple(range(1, len(values) + 1))
            tree.series.append(Series(0, {**at, name: key}, index_name, index, values, attributes))
        else:
            tree.points.append(Point(here, value, attributes))


def _reaches(value: Any, depth: int) -> bool:
    """Tell whether something has values so many levels below."""
    if not isinstance(value, dict):
        return depth == 0
    return depth > 0 and any(_reaches(inner, depth - 1) for key, inner in value.items() if key not in _NEVER_A_VALUE)


def split(
    points: Sequence[Point], by: Sequence[str], described: Mapping[str, Mapping[str, object]] | None = None
) -> list[tuple[dict[str, str], MetricBundle]]:
    """Distribute scalars over as many metric bundles as they need.

    The format requires a value for every combination but those of the deepest dimension, and nothing is ever filled in.

    Parameters
    ----------
    points
        All with the same dimensions.
    by
        The dimensions whose every combination gets a bundle of its own; those that there are.
    described
        What is known of the dimensions' values.

    Returns
    -------
    list of (dict, MetricBundle)
        Each with the dimensions by which it was told from the others.
    """
    found = []
    for chosen, part in _grouped(points, [name for name in by if points and name in points[0].dimensions]):
        for more, bundle in _fitting(part):
            allowed = {
                name: {value: (described or {}).get(name, {}).get(value, {}) for value in values}
                for name, values in bundle.allowed.items()
            }
            found.append(({**chosen, **more}, attrs.evolve(bundle, allowed=allowed)))
    return found


def _grouped(points: Sequence[Point], by: Sequence[str]) -> Iterator[tuple[dict[str, str], list[Point]]]:
    groups: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        groups.setdefault(tuple(point.dimensions[name] for name in by), []).append(point)
    for values, part in groups.items():
        yield dict(zip(by, values, strict=True)), part


def _fitting(points: Sequence[Point]) -> Iterator[tuple[dict[str, str], MetricBundle]]:
    """Yield the points as one bundle, or divided by the dimension that has fewest values, but several."""
    names = tuple(points[0].dimensions)
    try:
        yield {}, arrange(points, names, fixed=False, name="RESULTS")
        return
    except BundleError:
        values = {name: len({point.dimensions[name] for point in points}) for name in names}
        several = [name for name in names if values[name] > 1]
        if not several:
            raise
    for chosen, part in _grouped(points, [min(several, key=values.__getitem__)]):
        for more, bundle in _fitting(part):
            yield {**chosen, **more}, bundle
