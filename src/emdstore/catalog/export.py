"""A table as a file for other programs, in pieces: CSV, JSON lines, Parquet."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from emdstore.catalog import frames
from emdstore.catalog.table import Kind, Table, Values
from emdstore.errors import ExportError

Format = Literal["csv", "jsonl", "parquet", "nc", "zarr"]
"""The formats of an export."""

Pieces: TypeAlias = Iterator[bytes]

_ROW_GROUP_BYTES = 8 * 1024 * 1024


def export_table(
    opened: AbstractContextManager[Table],
    format: Format,
    on_progress: Callable[[int, int], object] | None,
    *,
    for_spreadsheets: bool = False,
) -> Pieces:
    """Write a table piece by piece; see `Query.export`."""
    if format not in get_args(Format):
        raise ExportError(f"nothing can be exported as {format!r}: choose one of {', '.join(get_args(Format))}")
    if format == "parquet":
        frames.load_pyarrow("parquet")
    csv = _csv_for_spreadsheets if for_spreadsheets else _csv
    return _export(opened, {"csv": csv, "jsonl": _json_lines, "parquet": _parquet}[format], on_progress)


def _export(
    opened: AbstractContextManager[Table],
    write: Callable[[Table], Pieces],
    on_progress: Callable[[int, int], object] | None,
) -> Pieces:
    with opened as table:
        if on_progress is None:
            yield from write(table)
            return
        on_progress(0, table.total)
        yield from write(Table(table.columns, table.total, _counted(table, on_progress)))


def _counted(table: Table, on_progress: Callable[[int, int], object]) -> Iterator[list[Values]]:
    done = 0
    for batch in table.batches:
        yield batch
        done += len(batch)
        on_progress(done, table.total)


# -- CSV -------------------------------------------------------------------------------------------------------------


def _csv(table: Table) -> Pieces:
    """Text is always quoted, and nothing else is, so that missing values differ from empty text, and "1" from 1."""
    return _csv_lines(table, _quoted)


def _csv_for_spreadsheets(table: Table) -> Pieces:
    """What a spreadsheet would compute or round gets an apostrophe before it, which makes it text: formulas and ids."""
    return _csv_lines(table, lambda text: _quoted(defused(text)), _id_as_text)


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_MOST_EXACT = 2**53  # a spreadsheet's numbers are doubles


def defused(text: str) -> str:
    """Return text as a cell that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(_FORMULA) else text


def _id_as_text(value: int) -> str:
    return repr(value) if abs(value) <= _MOST_EXACT else _quoted(f"'{value}")


def _csv_lines(table: Table, quoted: Callable[[str], str], integer: Callable[[int], str] = repr) -> Pieces:
    def entry(value: str | float) -> str:
        return quoted(value) if isinstance(value, str) else repr(value)

    names = [column.name for column in table.columns]
    own: dict[Kind, Callable[[Any], str]] = {"text": quoted, "integer": integer}
    write = [own.get(column.kind) or _CSV.get(column.kind, entry) for column in table.columns]
    is_series = "values" in names
    index, values = (names.index("index"), names.index("values")) if is_series else (0, 0)
    yield _line([quoted("value" if is_series and name == "values" else name) for name in names])
    for batch in table.batches:
        rows = (point for row in batch for point in _points(row, index, values)) if is_series else batch
        yield b"".join(
            _line(["" if value is None else one(value) for one, value in zip(write, row, strict=True)]) for row in rows
        )


def _points(row: Values, index: int, values: int) -> Iterator[Values]:
    """Make a row for each point; a series without points becomes a row without index and value."""
    for at, value in zip(row[index] or [None], row[values] or [None], strict=True):
        yield (*row[:index], at, *row[index + 1 : values], value, *row[values + 1 :])


def _line(cells: list[str]) -> bytes:
    return (",".join(cells) + "\n").encode()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


_CSV: dict[Kind, Callable[[Any], str]] = {
    "boolean": lambda value: "true" if value else "false",
    "time": lambda value: value.isoformat(),
    "json": lambda value: _quoted(msgspec.json.encode(value).decode()),
}


# -- JSON lines ------------------------------------------------------------------------------------------------------


def _json_lines(table: Table) -> Pieces:
    names = [column.name for column in table.columns]
    write = [_JSON.get(column.kind) for column in table.columns]
    encode = msgspec.json.Encoder().encode
    for batch in table.batches:
        yield b"".join(
            encode(
                {
                    name: value if one is None or value is None else one(value)
                    for name, one, value in zip(names, write, row, strict=True)
                }
            )
            + b"\n"
            for row in batch
        )


def _json_number(value: float | None) -> float | str | None:
    return str(value) if value is not None and math.isinf(value) else value


_JSON: dict[Kind, Callable[[Any], Any]] = {
    "time": lambda value: value.isoformat(),
    "number": _json_number,
    "numbers": lambda values: list(map(_json_number, values)),
}


# -- Parquet ---------------------------------------------------------------------------------------------------------


def _parquet(table: Table) -> Pieces:
    from pyarrow import parquet

    sink = io.BytesIO()  # holds what was written since the last piece
    schema, batches = frames.record_batches(table)
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for group in _row_groups(batches):
            whole = frames.joined(schema, group)
            writer.write_table(whole, row_group_size=whole.num_rows)
            yield _taken(sink)
    yield _taken(sink)


def _row_groups(batches: Iterator[Any]) -> Iterator[list[Any]]:
    """Collect batches until they make a row group worth its overhead."""
    group: list[Any] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += batch.nbytes
        if size >= _ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _taken(sink: io.BytesIO) -> bytes:
    piece = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return piece
