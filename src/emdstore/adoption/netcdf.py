"""Series in NetCDF files: their one-dimensional variables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from emdstore.errors import MissingExtraError

_MOST_VALUES = 1_000_000


@attrs.frozen
class Line:
    """A one-dimensional variable over its coordinate.

    Attributes
    ----------
    name
        The variable, and its groups: ``MeanState/cycle``.
    index_name, index
        The coordinate.
    values
        The numbers; NaN for missing ones.
    attributes
        ``value_units``, ``value_long_name``, ``index_units`` and ``calendar``, where the file has them.
    """

    name: str
    index_name: str
    index: tuple[str | int | float, ...]
    values: tuple[float, ...]
    attributes: Mapping[str, object]


def read_lines(path: Path) -> tuple[dict[str, str], list[Line]]:
    """Return a NetCDF file's attributes that are text, and its one-dimensional variables that have a coordinate.

    Raises
    ------
    MissingExtraError
        If h5netcdf is not installed.
    OSError
        If this is no NetCDF-4 file.
    """
    try:
        import h5netcdf
    except ImportError:
        raise MissingExtraError.of(f"reading {path.name}", "adopt") from None

    with h5netcdf.File(path, "r") as file:
        return _texts(file.attrs), list(_lines(file, ""))


def _lines(group: Any, prefix: str) -> Iterator[Line]:
    not_values = {name for one in group.variables.values() for name in _mentioned(_texts(one.attrs))}
    for name, variable in group.variables.items():
        if variable.dtype.kind not in "fiu" or len(variable.dimensions) != 1 or name in not_values:
            continue
        dimension, size = variable.dimensions[0], variable.shape[0]
        if name == dimension or not 0 < size <= _MOST_VALUES:
            continue
        found = _index_of(group, dimension, _texts(variable.attrs).get("coordinates", "").split())
        if found is None or len(found[1]) != size:
            continue
        about, of_index = _texts(variable.attrs), found[2]
        told = {
            "value_units": about.get("units"),
            "value_long_name": about.get("long_name"),
            "index_units": None if isinstance(found[1][0], str) else of_index.get("units"),
            "calendar": of_index.get("calendar"),
        }
        attributes = {key: value for key, value in told.items() if value is not None}
        yield Line(prefix + name, found[0], found[1], _numbers(variable), attributes)
    for name, inner in group.groups.items():
        yield from _lines(inner, f"{prefix}{name}/")


def _mentioned(attributes: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that another one names as its bounds or coordinates."""
    for key in ("bounds", "coordinates", "climatology"):
        yield from attributes.get(key, "").split()


def _index_of(
    group: Any, dimension: str, coordinates: list[str]
) -> tuple[str, tuple[str | int | float, ...], dict[str, str]] | None:
    """Return the coordinate of a dimension, which may be text: its name, its values and its attributes."""
    there = group
    while there is not None:
        for name in (dimension, *coordinates):
            variable = there.variables.get(name)
            if variable is None or variable.dimensions[:1] != (dimension,):
                continue
            if variable.dtype.kind in "fiu" and len(variable.dimensions) == 1:
                index = variable[...]
                if all(math.isfinite(one) for one in index.tolist()):
                    return name, _moments(index, _texts(variable.attrs)), _texts(variable.attrs)
            elif variable.dtype.kind in "SO":
                return name, tuple(_text_rows(variable[...])), _texts(variable.attrs)
        there = there.parent if there.parent is not there else None
    return None


def _moments(index: Any, attributes: Mapping[str, str]) -> tuple[str | int | float, ...]:
    """Return numbers; of times, the times as text."""
    units = attributes.get("units", "")
    if " since " not in units:
        return tuple(index.tolist())
    try:
        import cftime
    except ImportError:
        raise MissingExtraError.of("reading times", "adopt") from None
    try:
        found = cftime.num2date(index, units, attributes.get("calendar", "standard"))
    except ValueError:  # units that only this file has
        return tuple(index.tolist())
    return tuple(one.isoformat() for one in found)


def _text_rows(table: Any) -> Iterator[str]:
    for row in table:
        parts = row.tolist() if hasattr(row, "tolist") else row
        joined = b"".join(parts) if isinstance(parts, list) else parts
        yield joined.decode("utf-8", "replace").rstrip("\0 ") if isinstance(joined, bytes) else str(joined)


def _numbers(variable: Any) -> tuple[float, ...]:
    missing = {float(variable.attrs[key]) for key in ("_FillValue", "missing_value") if _is_number(variable, key)}
    return tuple(math.nan if one in missing else float(one) for one in variable[...].tolist())


def _is_number(variable: Any, key: str) -> bool:
    try:
        return key in variable.attrs and math.isfinite(float(variable.attrs[key]))
    except (TypeError, ValueError):
        return False


def _texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key, value in attributes.items():
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(text, str):
            found[key] = str(text)
    return found
