"""The numbers of pages as files: in the formats that other programs read, and wide ones for spreadsheets."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from emdstore.catalog import Query, ScalarQuery, ScalarRow, SeriesQuery, frames
from emdstore.catalog.export import defused
from emdstore.errors import QueryError
from emdstore.web import text
from emdstore.web.charts import run_of, units_text
from emdstore.web.metrics import NAMES
from emdstore.web.overview import Overview

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
    "nc": "application/x-netcdf",
}

_NEEDED = {"parquet": ("pyarrow",), "nc": ("xarray", "h5netcdf", "h5py")}
_TITLES = {"csv": "CSV", "json": "JSON", "parquet": "Parquet", "nc": "NetCDF"}
_MOST_WIDE = 2_000_000
_ID = re.compile(rb'^\{"execution_id":(\d+)', re.MULTILINE)


@cache
def formats() -> tuple[tuple[str, str], ...]:
    """Return the formats that can be made here, each with its title."""
    there = {name: all(map(find_spec, needed)) for name, needed in _NEEDED.items()}
    return tuple((name, title) for name, title in _TITLES.items() if there.get(name, True))


def pieces_of(query: Query[Any], format: str, *, wide: bool = False) -> Iterator[bytes]:
    """Yield the rows of a query as a file; of a wide CSV, each metric or each series is a column."""
    if wide and format == "csv":
        yield _as_csv(_wide_series(query) if isinstance(query, SeriesQuery) else _wide_scalars(query))
        return
    if format != "json":
        yield from query.export(format, for_spreadsheets=True)  # type: ignore[arg-type]
        return
    before = b"["
    for piece in query.export("jsonl"):
        piece = _ID.sub(rb'{"execution_id":"\1"', piece)  # JavaScript would round it
        yield before + piece.rstrip(b"\n").replace(b"\n", b",\n")
        before = b",\n"
    yield b"]" if before != b"[" else b"[]"


def overview_file(page: Overview, format: str) -> bytes:
    """Return the values in the table of models as ``csv``, ``parquet`` or ``nc``."""
    if format == "csv":
        return page.as_csv().encode()
    models = [row.name for row in page.rows]
    columns: dict[str, list[float | None]] = {"mean relative error": [row.mean for row in page.rows]}
    for number, head in enumerate(page.heads):
        name = head.name if head.name not in columns else f"{head.provider} {head.name}"
        cells = [row.cells[number] for row in page.rows]
        columns[name] = [cell.value if cell.kind == "value" else None for cell in cells]
    if format == "parquet":
        file = io.BytesIO()
        table = frames.load_pyarrow("Parquet").table({"model": models, **columns})
        import_module("pyarrow.parquet").write_table(table, file)
        return file.getvalue()

    def dataset() -> Any:
        xarray = import_module("xarray")
        numbers = {
            name: ("model", [math.nan if one is None else one for one in told]) for name, told in columns.items()
        }
        return xarray.Dataset(numbers, {"model": models}, {"metric": page.metric_name or ""})

    return b"".join(frames.to_file(dataset, "nc"))


def _wide_scalars(query: Query[Any]) -> Iterator[Sequence[object]]:
    """Yield a line for each place, with a column for each metric and unit."""
    rows: list[ScalarRow] = list(query.limit(_MOST_WIDE + 1)) if isinstance(query, ScalarQuery) else []
    _refuse_too_many(len(rows))
    others = list(dict.fromkeys(name for row in rows for name in row.dimensions if name not in NAMES))
    columns: dict[str, None] = {}
    lines: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        metric = next((row.dimensions[name] for name in NAMES if name in row.dimensions), "value")
        units = units_text(row)
        column = f"{metric} [{units}]" if units not in ("", "1") else metric
        place = (row.fragment, *(row.dimensions.get(name, "") for name in others))
        columns[column] = None
        while column in (line := lines.setdefault(place, {})):  # a bundle may say the same twice
            place = (*place, "again")
        line[column] = row.value
    yield ["execution", *others, *columns]
    for place, line in lines.items():
        yield [*place[: 1 + len(others)], *(_number(line.get(name)) for name in columns)]


def _wide_series(query: SeriesQuery) -> Iterator[Sequence[object]]:
    """Yield a line for each entry of the index, with a column for each series."""
    rows = list(query)
    _refuse_too_many(sum(len(row.index) for row in rows))
    tell = text.varying([row.dimensions for row in rows])
    names = [text.label(row.dimensions, tell or ("source_id", "model")) or row.group for row in rows]
    for more in (lambda row: row.group, lambda row: run_of(row.fragment), lambda row: str(row.position)):
        counts = Counter(names)
        names = [name if counts[name] == 1 else f"{name} · {more(row)}" for name, row in zip(names, rows, strict=True)]
    lines: dict[tuple[str, str | float, int], dict[int, float]] = {}
    for number, row in enumerate(rows):
        seen: Counter[str | float] = Counter()
        for entry, value in zip(row.index, row.values, strict=True):
            lines.setdefault((row.index_name, entry, seen[entry]), {})[number] = value
            seen[entry] += 1
    yield ["index name", "index", *names]
    for (name, entry, _), line in lines.items():
        yield [name, entry, *(_number(line.get(number)) for number in range(len(rows)))]


def _refuse_too_many(number: int) -> None:
    if number > _MOST_WIDE:
        raise QueryError(f"more than {_MOST_WIDE:,} values are too many for a wide file: choose some of them")


def _number(value: float | None) -> float | str:
    return "" if value is None or math.isnan(value) else value


def _as_csv(lines: Iterable[Sequence[object]]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([defused(cell) if isinstance(cell, str) else cell for cell in line] for line in lines)
    return file.getvalue().encode()
