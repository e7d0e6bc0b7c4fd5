"""The metric bundle: scalars in nested objects, one level for each dimension.

::

    {"DIMENSIONS": {"json_structure": ["region", "metric"],
                    "region": {"global": {}, "arctic": {}}, "metric": {"bias": {}, "rmse": {}}},
     "RESULTS":    {"global": {"attributes": {"units": "K"}, "bias": 0.3, "rmse": 1.1},
                    "arctic": {"bias": null}}}

Every level but the deepest has exactly the declared values. ``attributes`` may occur at any level and is never a
value. null means that the value was computed but does not exist: it is a row. A dimension that is listed but not
described has the values of the results; CMEC's first version describes all of them in ``DIMENSIONS.dimensions``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs

from emdstore.emds.jsontext import as_object, convert, json_name, learnt, parse, place, reject, render
from emdstore.emds.warning import BundleWarning

ATTRIBUTES = "attributes"
STRUCTURE = "json_structure"

ScalarRow: TypeAlias = tuple[float | None, dict[str, str], Mapping[str, object] | None]

ScalarTable: TypeAlias = tuple[dict[str, str], str, Mapping[str, object] | None, dict[str, float | None]]
"""An innermost object: the outer dimensions and their values, the innermost dimension, the attributes that all of its
scalars have, and these by their value of the innermost dimension."""

# (the dimensions so far, the attributes that apply here, the content): an inner object, or at the end a leaf.
_Cell: TypeAlias = tuple[dict[str, str], Mapping[str, object] | None, Any]

_LARGEST = int(sys.float_info.max)


@attrs.frozen
class Scalar:
    """One value of a metric bundle.

    Attributes
    ----------
    position
        Its number in the file, from 0: its identity.
    dimensions
        The dimensions and their values, outermost first.
    value
        The number; NaN where the bundle has null.
    attributes
        The innermost ``attributes`` around it; outer ones add the keys that it lacks.
    """

    position: int
    dimensions: Mapping[str, str]
    value: float
    attributes: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen
class MetricBundle:
    """The content of a metric bundle. `decode_metric_bundle` returns one that is complete and valid.

    Attributes
    ----------
    dimensions
        The dimensions' names, outermost first.
    allowed
        For each dimension its declared values, with their descriptions in the bundle.
    results
        The nested objects of the file. Do not change them.
    extra
        The other keys of the file, unchanged: provenance, notes, disclaimer.
    warnings
        Values that are not declared, and dimensions that are not described or not listed. All were kept.
    """

    dimensions: tuple[str, ...]
    allowed: Mapping[str, Mapping[str, object]]
    results: Mapping[str, Any]
    extra: Mapping[str, object] = attrs.field(factory=dict)
    warnings: tuple[BundleWarning, ...] = ()

    def iter_rows(self) -> Iterator[ScalarRow]:
        """Iterate over ``(value or None, dimensions, attributes or None)``, lazily and in file order.

        The plain form of `iter_scalars`, for loading a database. Rows of one innermost object share their attributes:
        do not change them.
        """
        for path, dimension, attributes, table in self.iter_tables():
            for value, number in table.items():
                yield number, {**path, dimension: value}, attributes

    def iter_tables(self) -> Iterator[ScalarTable]:
        """Iterate over the innermost objects, lazily and in file order; see `ScalarTable`."""
        if not self.results:
            return
        *outer, deepest = self.dimensions
        cells: Iterable[_Cell] = [({}, None, self.results)]
        for dimension in outer:
            cells = _descend(cells, dimension)
        for path, inherited, table in cells:
            attributes = _attributes_in(table, inherited)
            numbers = {
                value: None if leaf is None or leaf != leaf else float(leaf)
                for value, leaf in table.items()
                if value != ATTRIBUTES
            }
            yield path, deepest, attributes, numbers

    def iter_scalars(self) -> Iterator[Scalar]:
        """Iterate over the scalars, lazily and in file order."""
        for position, (value, dimensions, attributes) in enumerate(self.iter_rows()):
            yield Scalar(position, dimensions, math.nan if value is None else value, attributes or {})


@learnt
@attrs.frozen
class _Head:
    DIMENSIONS: dict[str, Any]
    RESULTS: dict[str, Any]


def decode_metric_bundle(data: bytes, *, name: str = "diagnostic.json") -> MetricBundle:
    """Read a metric bundle and check all of it.

    Parameters
    ----------
    data
        The file's bytes.
    name
        The file's name in errors.

    Returns
    -------
    MetricBundle
        Fully validated: iterating over it raises nothing.

    Raises
    ------
    BundleError
        The bundle is not valid; the message names the file and the position.
    """
    return metric_bundle_in(parse(data, name), name)


def metric_bundle_in(value: Any, name: str) -> MetricBundle:
    """Check JSON that was read; see `decode_metric_bundle`."""
    raw = as_object(value, name)
    head = convert(raw, _Head, name, "$")
    dimensions, allowed, odd = _declared(head.DIMENSIONS, head.RESULTS, name)
    return MetricBundle(
        dimensions=dimensions,
        allowed=allowed,
        results=head.RESULTS,
        extra={key: raw[key] for key in raw if key not in ("DIMENSIONS", "RESULTS")},
        warnings=(*odd, *_check_results(head.RESULTS, dimensions, allowed, name)),
    )


def encode_metric_bundle(bundle: MetricBundle, *, name: str = "diagnostic.json") -> bytes:
    """Write a metric bundle as JSON; equal bundles give equal bytes. NaN becomes null, infinity ``1e999``.

    Raises
    ------
    BundleError
        The bundle is not valid, or a value cannot be written as JSON.
    """
    declared = {STRUCTURE: list(bundle.dimensions), **bundle.allowed}
    data = render({**bundle.extra, "DIMENSIONS": declared, "RESULTS": bundle.results}, name)
    decode_metric_bundle(data, name=name)
    return data


def _descend(cells: Iterable[_Cell], dimension: str) -> Iterator[_Cell]:
    """Go one level deeper, in order. Chained, this walks the whole tree without recursion, object by object."""
    for outer, inherited, table in cells:
        attributes = _attributes_in(table, inherited)
        for value, inner in table.items():
            if value != ATTRIBUTES:
                yield {**outer, dimension: value}, attributes, inner


def _attributes_in(table: Mapping[str, Any], inherited: Mapping[str, object] | None) -> Mapping[str, object] | None:
    own = table.get(ATTRIBUTES)
    return {**inherited, **own} if inherited and own else own or inherited


_VALUES = "dimensions"
"""The key under which the first version of the format (CMEC) describes the values of all dimensions."""

_Declared: TypeAlias = tuple[tuple[str, ...], dict[str, dict[str, object]], tuple[BundleWarning, ...]]


def _declared(raw: dict[str, Any], results: Mapping[str, Any], name: str) -> _Declared:
    """Return the dimensions, their values, and warnings about their declarations."""
    if STRUCTURE not in raw:
        reject(name, "$.DIMENSIONS", f"{STRUCTURE!r} is missing: the list of dimensions, outermost first")
    structure = convert(raw[STRUCTURE], tuple[str, ...], name, place("DIMENSIONS", STRUCTURE))
    at: tuple[str, ...] = ("DIMENSIONS",)
    described = {key: raw[key] for key in raw if key != STRUCTURE}
    if list(described) == [_VALUES] and _VALUES not in structure:
        at = ("DIMENSIONS", _VALUES)
        described = convert(described[_VALUES], dict[str, Any], name, place(*at))
    if len(set(structure)) != len(structure):
        reject(name, place("DIMENSIONS", STRUCTURE), f"a dimension is listed twice: {', '.join(structure)}")
    for dimension, values in described.items():
        convert(values, dict[str, Any], name, place(*at, dimension))
    warnings = []
    for one in structure:
        if one not in described:
            what = f"dimension {one!r} is not described; its values are those in the results"
            warnings.append(BundleWarning("undescribed-dimension", what, place(*at)))
    for one in described:
        if one not in structure:
            what = f"dimension {one!r} is described but not listed in {STRUCTURE!r}"
            warnings.append(BundleWarning("unlisted-dimension", what, place(*at, one)))
    found = _found(structure, results) if len(described.keys() & set(structure)) < len(structure) else {}
    return structure, {one: described.get(one, found.get(one, {})) for one in structure}, tuple(warnings)


def _found(structure: tuple[str, ...], results: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """Return the values that each dimension has in the results, in file order."""
    values: dict[str, dict[str, object]] = {}
    level: list[Any] = [results]
    for dimension in structure:
        tables = [each for each in level if isinstance(each, dict)]
        values[dimension] = {value: {} for table in tables for value in table if value != ATTRIBUTES}
        level = [inner for table in tables for value, inner in table.items() if value != ATTRIBUTES]
    return values


def _check_results(
    results: dict[str, Any], dimensions: tuple[str, ...], allowed: Mapping[str, Mapping[str, object]], name: str
) -> tuple[BundleWarning, ...]:
    if not results:
        return ()
    if not dimensions:
        reject(name, "$.RESULTS", f"holds values, but {STRUCTURE!r} lists no dimension")
    *outer, deepest = dimensions
    tables: list[_Cell] = [({}, None, results)]
    for dimension in outer:
        for path, _, table in tables:
            _check_table(path, table, dimension, name)
            if difference := (table.keys() - {ATTRIBUTES}) ^ allowed[dimension].keys():
                odd = sorted(difference)[0]
                why = "is not declared in DIMENSIONS" if odd in table else "is missing"
                reject(name, place("RESULTS", *path.values()), f"{dimension} {odd!r} {why}")
        tables = list(_descend(tables, dimension))
    warnings: dict[str, BundleWarning] = {}
    for path, _, table in tables:
        _check_table(path, table, deepest, name)
        for value, leaf in table.items():
            kind = type(leaf)
            if value == ATTRIBUTES:
                continue
            if not (kind is float or leaf is None or (kind is int and -_LARGEST <= leaf <= _LARGEST)):
                why = "too large for a number" if kind is int else f"a value is a number or null, not {json_name(leaf)}"
                reject(name, place("RESULTS", *path.values(), value), why)
            if value not in allowed[deepest] and value not in warnings:
                at = place("RESULTS", *path.values(), value)
                message = f"{deepest} {value!r} is not declared in DIMENSIONS; its values are kept"
                warnings[value] = BundleWarning("undeclared-value", message, at)
    return tuple(warnings.values())


def _check_table(path: Mapping[str, str], table: object, dimension: str, name: str) -> None:
    at = ("RESULTS", *path.values())
    if not isinstance(table, dict):
        reject(name, place(*at), f"must be an object with a key for each {dimension}, not {json_name(table)}")
    attributes = table.get(ATTRIBUTES)
    if attributes is not None and not isinstance(attributes, dict):
        reject(name, place(*at, ATTRIBUTES), f"attributes are an object or null, not {json_name(attributes)}")
