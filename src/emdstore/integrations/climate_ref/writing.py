"""Writing one execution's rows into Climate-REF's database, replacing existing ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import msgspec
import sqlalchemy as sa
from climate_ref.models.metric_value import MetricValueType
from sqlalchemy.orm import Session

from emdstore.integrations.climate_ref.rows import Axis, RefRows, Row
from emdstore.integrations.climate_ref.schema import RefSchema

_ROWS_AT_A_TIME = 10_000
_SQLITE_VARIABLES = 999  # in one statement, by every version
_NOT_COMPARED = frozenset({"id", "execution_id", "type", "created_at", "updated_at"})
_OF_SCALARS = frozenset({"value"})
_OF_SERIES = frozenset({"values", "index", "index_name", "index_id", "reference_id"})


@attrs.frozen(eq=False)
class _Part:
    """The rows of one kind that an execution has in one table."""

    table: sa.TableClause
    constant: dict[str, Any]
    others: frozenset[str] = frozenset()
    """Columns that only the other kinds in this table fill."""

    @property
    def own(self) -> sa.ColumnElement[bool]:
        return sa.and_(*(self.table.c[name] == value for name, value in self.constant.items()))

    def is_held(self, connection: sa.Connection, rows: Sequence[Row]) -> bool:
        """Tell whether the database has exactly these rows, in this order."""
        count = sa.select(sa.func.count()).select_from(self.table).where(self.own)
        if connection.scalar(count) != len(rows):
            return False
        columns = [column for column in self.table.c if column.name not in _NOT_COMPARED | self.others]
        held = connection.execute(sa.select(*columns).where(self.own).order_by(self.table.c.id)).mappings()
        return all(
            all(_same(there[column.name], row.get(column.name)) for column in columns)
            for there, row in zip(held, rows, strict=True)
        )

    def insert(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        if rows and connection.dialect.name == "sqlite":
            self._insert_many_at_once(connection, rows)
            return
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            batch = rows[start : start + _ROWS_AT_A_TIME]
            connection.execute(sa.insert(self.table), [{**self.constant, **row} for row in batch])

    def _insert_many_at_once(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        """Insert with many rows in each statement: their tables have an index on nearly every column, and with one row
        in each SQLite takes twice as long over them.
        """
        names = [*self.constant, *rows[0]]
        encode = [self._encoder(connection.dialect, name) for name in names]
        constant = [code(value) for code, value in zip(encode, self.constant.values(), strict=False)]
        encode = encode[len(constant) :]
        quoted = ", ".join(map(connection.dialect.identifier_preparer.quote, names))
        one = f"({', '.join('?' * len(names))})"
        most = max(1, _SQLITE_VARIABLES // len(names))
        for start in range(0, len(rows), most):
            batch = rows[start : start + most]
            marks = ", ".join([one] * len(batch))
            flat: list[object] = []
            for row in batch:
                flat += constant
                flat += [code(value) for code, value in zip(encode, row.values(), strict=True)]
            connection.exec_driver_sql(f"INSERT INTO {self.table.name} ({quoted}) VALUES {marks}", tuple(flat))

    def _encoder(self, dialect: sa.Dialect, name: str) -> Callable[[object], object]:
        if isinstance(self.table.c[name].type, sa.JSON):
            return _as_json
        processor = self.table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
        return _as_it_is if processor is None else processor


def replace_rows(session: Session, schema: RefSchema, execution_id: int, rows: RefRows) -> bool:
    """Make the rows of one execution what they should be, in the session's transaction.

    Rows that are right already are left alone, including their ids. The new rows are written inside a savepoint: if the
    database refuses them, the old ones are gone and none of the new ones are there.

    Returns
    -------
    bool
        Whether anything was changed.

    Raises
    ------
    sqlalchemy.exc.SQLAlchemyError
        If the database refuses a row.
    """
    connection = session.connection()
    outputs = _Part(schema.outputs, {"execution_id": execution_id})
    scalars = _Part(schema.values, {"execution_id": execution_id, "type": MetricValueType.SCALAR}, _OF_SERIES)
    series = _Part(schema.values, {"execution_id": execution_id, "type": MetricValueType.SERIES}, _OF_SCALARS)
    wanted = {outputs: rows.outputs, scalars: rows.scalars, series: _on_axes(rows, _known_axes(session, rows.axes))}
    changed = [part for part, its_rows in wanted.items() if not part.is_held(connection, its_rows)]
    for part in changed:
        # Before the savepoint: on SQLite it is the first statement that writes which begins the transaction.
        connection.execute(sa.delete(part.table).where(part.own))
    if changed:
        with session.begin_nested():
            connection = session.connection()  # this creates the savepoint
            wanted[series] = _on_axes(rows, _ensure_axes(session, rows.axes))
            for part in changed:
                part.insert(connection, wanted[part])
    return bool(changed)


def _as_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _as_it_is(value: object) -> object:
    return value


def _same(there: object, wanted: object) -> bool:
    return there == wanted or (_is_nothing(there) and _is_nothing(wanted))


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


# -- axes: since 0.15, series with the same index share one row for it ------------------------------------


def _on_axes(rows: RefRows, ids: dict[str, int]) -> Sequence[Row]:
    if not rows.axes:
        return rows.series
    return [row | {"index_id": ids.get(axis.digest)} for row, axis in zip(rows.series, rows.axes, strict=True)]


def _known_axes(session: Session, axes: Sequence[Axis]) -> dict[str, int]:
    if not axes:
        return {}
    from climate_ref.models import SeriesIndex

    known = sa.select(SeriesIndex.hash, SeriesIndex.id).where(SeriesIndex.hash.in_({axis.digest for axis in axes}))
    return {row.hash: row.id for row in session.execute(known)}


def _ensure_axes(session: Session, axes: Sequence[Axis]) -> dict[str, int]:
    if not axes:
        return {}
    from climate_ref.models import SeriesIndex

    if not hasattr(SeriesIndex, "bulk_get_or_create"):  # 0.15 has none
        for axis in {axis.digest: axis for axis in axes}.values():
            SeriesIndex.get_or_create(session, axis.name, axis.values)
        return _known_axes(session, axes)
    ids: dict[str, int] = SeriesIndex.bulk_get_or_create(
        session, {axis.digest: (axis.name, axis.values) for axis in axes}
    )
    return ids
