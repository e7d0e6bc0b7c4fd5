"""The series file: a list of one-dimensional series, each with its index."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import attrs

from emdstore.emds.jsontext import convert, json_name, learnt, parse, place, reject, render

# Newer frameworks write these beside the values, and their readers look for them there first.
_BESIDE = ("kind", "reference_id", "value_units", "value_long_name", "index_units", "calendar")


@attrs.frozen
class Series:
    """One series.

    Attributes
    ----------
    position
        Its number in the file, from 0. This is its identity, because real files hold several series with the same
        dimensions and the same index.
    dimensions
        The dimensions and their values.
    index_name, index
        The index's name, such as ``"time"``, and a text or finite number for each value.
    values
        The same number of numbers; NaN where the file has null.
    attributes
        Everything else in the file, including the newer keys (``kind``, ``reference_id``, ``value_units``,
        ``value_long_name``, ``index_units``, ``calendar``) and unknown ones.
    """

    position: int
    dimensions: Mapping[str, str]
    index_name: str
    index: tuple[str | int | float, ...]
    values: tuple[float, ...]
    attributes: Mapping[str, object] = attrs.field(factory=dict)


@learnt
@attrs.frozen
class _Item:
    dimensions: dict[str, str]
    values: tuple[float | None, ...]
    index: tuple[str | int | float, ...]
    index_name: str
    attributes: dict[str, Any] | None = None


_ITEM_KEYS = frozenset(field.name for field in attrs.fields(_Item))


def decode_series(data: bytes, *, name: str = "series.json") -> tuple[Series, ...]:
    """Read and check a series file.

    Parameters
    ----------
    data
        The file's bytes.
    name
        The file's name in errors.

    Returns
    -------
    tuple of Series
        In file order.

    Raises
    ------
    BundleError
        The file is not valid; the message names the file and the position.
    """
    return series_in(parse(data, name), name)


def series_in(raw: Any, name: str) -> tuple[Series, ...]:
    """Check JSON that was read; see `decode_series`."""
    if not isinstance(raw, list):
        reject(name, "$", f"the file must hold a list of series, not {json_name(raw)}")
    return tuple(_series(position, item, name) for position, item in enumerate(raw))


def encode_series(series: Iterable[Series], *, name: str = "series.json") -> bytes:
    """Write series as JSON, in the given order; equal series give equal bytes. NaN becomes null, infinity ``1e999``.

    Raises
    ------
    BundleError
        A series is not valid, or a value cannot be written as JSON.
    """
    items = [
        {
            "dimensions": one.dimensions,
            "index_name": one.index_name,
            "index": one.index,
            "values": one.values,
            "attributes": {key: value for key, value in one.attributes.items() if not _goes_beside(key, value)},
            **{key: one.attributes[key] for key in _BESIDE if _goes_beside(key, one.attributes.get(key))},
        }
        for one in series
    ]
    data = render(items, name)
    decode_series(data, name=name)
    return data


def _goes_beside(key: str, value: object) -> bool:
    return key in _BESIDE and isinstance(value, str)


def _series(position: int, raw: Any, name: str) -> Series:
    item = convert(raw, _Item, name, f"$[{position}]")
    if len(item.index) != len(item.values):
        reject(name, place(position), f"{len(item.values)} values, but {len(item.index)} in the index")
    for i, at in enumerate(item.index if float in map(type, item.index) else ()):
        if isinstance(at, float) and not math.isfinite(at):
            reject(name, place(position, "index", i), "an index holds text and finite numbers")
    attributes = dict(item.attributes or {})
    for key, value in raw.items():
        if key not in _ITEM_KEYS and (value is not None or key not in attributes):
            attributes[key] = value
    return Series(
        position=position,
        dimensions=item.dimensions,
        index_name=item.index_name,
        index=item.index,
        values=_with_nan(item.values),
        attributes=attributes,
    )


def _with_nan(values: tuple[float | None, ...]) -> tuple[float, ...]:
    if None not in values:  # the usual case, and much quicker than testing each
        return cast("tuple[float, ...]", values)
    return tuple(math.nan if value is None else value for value in values)
