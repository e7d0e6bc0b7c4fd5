"""Writing a catalog into a results store as Parquet files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from emdstore import system
from emdstore.catalog import frames
from emdstore.catalog.database import Database, Instant
from emdstore.catalog.schema import PARTS, SCHEMA_VERSION, execution, metadata
from emdstore.catalog.snapshots import SNAPSHOTS, Part, Snapshot, SnapshotTable, publish, taken, written_as
from emdstore.catalog.table import open_table
from emdstore.keys import join_key
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore
from emdstore.stores.replacing import put_over

_ROWS_AT_A_TIME = 10_000
_ROWS_OF_PART = 500_000
_BYTES_OF_PART = 128 * 1024 * 1024  # in memory; far less as a file
_ROWS_OF_GROUP = 100_000

_AS_JSON = {"index": "index_json", "values": "values_json"}  # the series of one table need not be of one type


def write_tables(
    database: Database,
    store: ArtifactStore,
    name: str | None = None,
    on_progress: Callable[[str, int], object] | None = None,
) -> Snapshot:
    """Write all tables, as they are at one instant; see `emdstore.write_snapshot`."""
    frames.load_pyarrow("a snapshot", "snapshot")
    at = system.current().now()
    name = at.strftime("%Y%m%dT%H%M%S.%fZ") if name is None else name
    before = written_as(store, name)

    def put(key: str, data: bytes) -> None:
        if before is None:
            put_over(store, join_key(SNAPSHOTS, name, key), data, None)

    tables = {}
    with database.one_instant() as instant:
        for table in metadata.sorted_tables:
            tables[str(table.name)] = written = _write(database, instant, table, put)
            if on_progress is not None:
                on_progress(str(table.name), written.rows)
    if before is not None and before.tables != tables:
        raise taken(name)
    snapshot = before or Snapshot(name=name, at=at, schema=SCHEMA_VERSION, tables=tables)
    publish(store, snapshot)
    return snapshot


def _write(database: Database, instant: Instant, table: sa.Table, put: Callable[[str, bytes], object]) -> SnapshotTable:
    """Write one table, and return what was written."""
    fields = [_AS_JSON.get(name, name) for name in map(str, table.c.keys())]
    statement: sa.Select[Any] = sa.select(*table.c).order_by(*table.primary_key)
    if is_sorted := table in PARTS.values():
        # Its executions' folders first, so that what is near in the tree is near in the files.
        fields.insert(0, "fragment")
        statement = sa.select(execution.c.fragment, *table.c).join_from(execution, table)
        statement = statement.order_by(execution.c.fragment, table.c.position)
    parts = []
    with open_table(database, statement, fields, _ROWS_AT_A_TIME, instant) as opened:
        columns = tuple(column.name for column in opened.columns)
        schema, batches = frames.record_batches(opened)
        for group in _grouped(batches):
            whole = frames.joined(schema, group)
            data = _as_parquet(whole)
            digest = sha256_of(data)
            ends = [whole[0][place].as_py() for place in (0, -1)] if is_sorted and whole.num_rows else [None, None]
            parts.append(Part(f"{table.name}-{digest[:32]}.parquet", len(data), digest, whole.num_rows, *ends))
            put(parts[-1].name, data)
    # As `open_table` names columns: those that are no fields are dimensions, in their order.
    return SnapshotTable(columns, _dimensions(columns, fields), tuple(parts))


def _dimensions(columns: tuple[str, ...], fields: list[str]) -> dict[str, str]:
    escape = "dimension."
    return {column.removeprefix(escape): column for column in columns if column not in fields}


def _grouped(batches: Iterator[Any]) -> Iterator[list[Any]]:
    """Collect batches until they make a file; an empty table is one file without rows."""
    group: list[Any] = []
    rows = size = 0
    is_empty = True
    for batch in batches:
        group.append(batch)
        rows, size, is_empty = rows + batch.num_rows, size + batch.nbytes, False
        if rows >= _ROWS_OF_PART or size >= _BYTES_OF_PART:
            yield group
            group, rows, size = [], 0, 0
    if group or is_empty:
        yield group


def _as_parquet(whole: Any) -> bytes:
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(whole, sink, compression="zstd", row_group_size=_ROWS_OF_GROUP)
    return sink.getvalue()
