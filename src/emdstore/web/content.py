"""What a catalog has of executions: read for one of them, or for many together, which costs much less."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

import attrs

from emdstore.catalog import (
    ArtifactRow,
    Catalog,
    ExecutionRow,
    InputRow,
    OutputRow,
    ScalarRow,
    SeriesRow,
    WarningRow,
)

_AT_ONCE = 200  # executions


class _OfExecution(Protocol):
    @property
    def execution_id(self) -> int: ...


Row = TypeVar("Row", bound=_OfExecution)


@attrs.frozen
class Content:
    """What a catalog has of one execution: of many scalars and series, the first ones."""

    artifacts: Sequence[ArtifactRow] = ()
    outputs: Sequence[OutputRow] = ()
    scalars: Sequence[ScalarRow] = ()
    series: Sequence[SeriesRow] = ()
    warnings: Sequence[WarningRow] = ()
    inputs: Sequence[InputRow] = ()


def read_contents(catalog: Catalog, rows: Sequence[ExecutionRow], *, scalars: int, series: int) -> dict[int, Content]:
    """Read what a catalog has of some executions, by id; of each at most a number of scalars and series."""
    found: dict[int, Content] = {}
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        ids = [row.execution_id for row in part]
        every: dict[str, Any] = {"ids": ids, "retracted": None}
        artifacts = _by_execution(catalog.artifacts(**every))
        outputs = _by_execution(catalog.outputs(complete=None, **every))
        warnings, inputs = _by_execution(catalog.warnings(**every)), _by_execution(catalog.inputs(**every))
        values = _first(catalog.scalars, {row.execution_id: row.scalars for row in part}, scalars)
        curves = _first(catalog.series, {row.execution_id: row.series for row in part}, series)
        for each in ids:
            found[each] = Content(
                artifacts.get(each, ()),
                outputs.get(each, ()),
                values.get(each, ()),
                curves.get(each, ()),
                warnings.get(each, ()),
                inputs.get(each, ()),
            )
    return found


def _by_execution(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row.execution_id, []).append(row)
    return found


def _first(ask: Callable[..., Iterable[Row]], counts: Mapping[int, int], most: int) -> dict[int, list[Row]]:
    """Ask for the rows of executions together, and one by one for the first rows of those that have too many."""
    few = [each for each, count in counts.items() if 0 < count <= most]
    found = _by_execution(ask(ids=few, retracted=None, complete=None)) if few else {}
    for each, count in counts.items():
        if count > most:
            found[each] = list(islice(ask(ids=[each], retracted=None, complete=None), most))
    return found
