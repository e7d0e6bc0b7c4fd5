"""The values of several executions, by what they describe, for comparing executions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import sqlalchemy as sa

from emdstore.catalog.database import Database
from emdstore.catalog.schema import artifact, scalar_value, series_value

Labels: TypeAlias = "tuple[tuple[str, str], ...]"
"""Dimensions, sorted by name."""

_OF_SERIES = ("dimensions", "index_name", "index", "values")
_OUTPUT_ROLES = ("plot", "data", "html")


@attrs.frozen
class HeldValues:
    """The values of some executions, by execution id, and by what they are of.

    Of several values with the same dimensions in one execution, the names end with 0, 1, and so on.

    Attributes
    ----------
    scalars
        By dimensions.
    series
        By dimensions and the index's name: index and values.
    artifacts
        Plots, data and html by key: size and SHA-256.
    """

    scalars: Mapping[int, Mapping[tuple[Labels, int], float | None]]
    series: Mapping[int, Mapping[tuple[Labels, str, int], tuple[Any, Any]]]
    artifacts: Mapping[int, Mapping[tuple[str, int], tuple[int | None, str | None]]]

    @classmethod
    def of(cls, database: Database, executions: Sequence[int]) -> HeldValues:
        """Read them."""
        return cls(
            _gather(_rows(database, scalar_value, executions, "dimensions", "value"), _as_scalar),
            _gather(
                _rows(database, series_value, executions, "dimensions", "index_name", "index", "values"), _as_series
            ),
            _gather(_rows(database, artifact, executions, "role", "key", "size", "sha256"), _as_artifact),
        )


def _rows(database: Database, table: sa.Table, executions: Sequence[int], *columns: str) -> Iterator[Any]:
    chosen = sa.select(table.c.execution_id, *(table.c[name] for name in columns))
    statement = chosen.where(table.c.execution_id.in_(executions)).order_by(table.c.execution_id, table.c.position)
    return database.stream(statement)


def _gather(rows: Iterable[Any], read: Callable[..., tuple[Any, Any] | None]) -> dict[int, dict[Any, Any]]:
    found: dict[int, dict[Any, Any]] = {}
    for execution_id, *told in rows:
        of = found.setdefault(execution_id, {})
        if (one := read(*told)) is None:
            continue
        name, value = one
        number = 0
        while (*name, number) in of:  # the same dimensions again: the second is compared with the second
            number += 1
        of[(*name, number)] = value
    return found


def _labels(dimensions: Mapping[str, str]) -> Labels:
    return tuple(sorted(dimensions.items()))


def _as_scalar(dimensions: Mapping[str, str], value: float | None) -> tuple[Any, Any]:
    return (_labels(dimensions),), value


def _as_series(dimensions: Mapping[str, str], index_name: str, index: Any, values: Any) -> tuple[Any, Any]:
    return (_labels(dimensions), index_name), (index, values)


def _as_artifact(role: str, key: str, size: int | None, sha256: str | None) -> tuple[Any, Any] | None:
    return ((key,), (size, sha256)) if role in _OUTPUT_ROLES else None
