"""A query: rows that are read on iteration, and what can be made of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from html import escape
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

import attrs
import sqlalchemy as sa

from emdstore.catalog import frames
from emdstore.catalog.database import ROWS_AT_A_TIME, Database
from emdstore.catalog.export import Format, export_table
from emdstore.catalog.filters import refuse_unknown
from emdstore.catalog.rows import ScalarRow, SeriesRow
from emdstore.catalog.schema import Name
from emdstore.catalog.table import Table, open_table
from emdstore.errors import ExportError
from emdstore.shown import html_table

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow
    import xarray

Row = TypeVar("Row")

Test = Literal["<", "<=", ">", ">=", "==", "!=", "in", "between"]
"""How `Query.where` compares."""

_TESTS: Mapping[str, Callable[[Any, Any], sa.ColumnElement[bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "in": lambda column, values: column.in_(list(values)),
    "between": lambda column, ends: column.between(*ends),
}
_LONGEST_TOLD = 500
_SHOWN = 10
_FEW = 1000
_NOT_SHOWN = ("execution_id", "position", "dimensions", "attributes", "provider", "diagnostic", "group")


@attrs.frozen(repr=False)
class Query(Generic[Row]):
    """A query whose rows are read on iteration.

    Each iteration runs the query again and reads in bounded memory, in the order of fragment and position, all from the
    same instant; rows that are written meanwhile do not show.
    """

    row_type: Callable[..., Row]
    """The class of the rows."""
    _statement: sa.Select[Any]
    _database: Database
    _at_a_time: int = ROWS_AT_A_TIME
    _told: tuple[str, ...] = ()

    def where(self, name: str, test: Test, value: Any) -> Self:
        """Return the query of those rows of which a field passes a test.

        Parameters
        ----------
        name
            A field of the rows that is text, a number, a truth or a time. Dimensions are filters of their own.
        test
            ``"<"``, ``"<="``, ``">"``, ``">="``, ``"=="``, ``"!="``, ``"in"`` (of several values) or ``"between"`` (of
            two, which are included).
        value
            What to compare with. A value that is missing passes no test.

        Raises
        ------
        QueryError
            If there is no such field or test.
        """
        refuse_unknown("test", [test], tuple(_TESTS))
        condition = _TESTS[test](self._column(name), value)
        return self._with(self._statement.where(condition), f"{name} {test} {value!r}")

    def order_by(self, *names: str) -> Self:
        """Return the query with its rows in another order: by these fields, and then by fragment and position.

        Parameters
        ----------
        *names
            Fields as for `where`; one with ``-`` before it counts down. Missing values come last.

        Raises
        ------
        QueryError
            If there is no such field.
        """
        columns = [(self._column(name.removeprefix("-")), name.startswith("-")) for name in names]
        order = [(column.desc() if down else column.asc()).nulls_last() for column, down in columns]
        statement: Any = self._statement
        usual = list(statement._order_by_clauses)
        return self._with(statement.order_by(None).order_by(*order, *usual), f"by {', '.join(names)}")

    def limit(self, most: int) -> Self:
        """Return the query of the first rows, at most so many. What is called on it after that sees only these."""
        keys = [self._column(name) for name in ("execution_id", "position") if name in self._fields()]
        # By their keys, so that counts and exports are of these rows too.
        first: Any = self._statement.with_only_columns(*keys, maintain_column_froms=True).limit(max(0, most))
        if self._database.is_snapshot and most <= _FEW:  # which never changes, and has no index to look keys up in
            found = [tuple(row) for row in self._database.fetch(first)]
            condition: sa.ColumnElement[bool] = keys[0].in_({row[0] for row in found})
            if len(keys) > 1:
                condition = sa.and_(condition, sa.tuple_(*keys).in_(found))
        else:
            first = first.correlate(None)
            condition = sa.tuple_(*keys).in_(first) if len(keys) > 1 else keys[0].in_(first)
        return self._with(self._statement.where(condition), f"the first {most}")

    def _with(self, statement: Any, told: str) -> Self:
        return attrs.evolve(self, statement=statement, told=(*self._told, told))

    def _fields(self) -> list[str]:
        row_type: Any = self.row_type
        return [field.name for field in attrs.fields(row_type)]

    def _column(self, name: str) -> sa.ColumnElement[Any]:
        columns: dict[str, sa.ColumnElement[Any]] = dict(
            zip(self._fields(), self._statement.selected_columns, strict=True)
        )
        plain = [each for each, column in columns.items() if not isinstance(column.type, sa.JSON)]
        refuse_unknown("field", [name], plain)
        return columns[name]

    def __iter__(self) -> Iterator[Row]:
        for row in self._database.stream(self._statement, at_a_time=self._at_a_time):
            yield self.row_type(*row)

    def count(self) -> int:
        """Count the rows in the database, without reading them."""
        counting = self._statement.with_only_columns(sa.func.count(), maintain_column_froms=True).order_by(None)
        return int(self._database.fetch(counting)[0][0])

    def first(self) -> Row | None:
        """Return the first row, or None if there is none."""
        rows = self._database.fetch(self._statement.limit(1))
        return self.row_type(*rows[0]) if rows else None

    def export(
        self,
        format: Format,
        *,
        on_progress: Callable[[int, int], object] | None = None,
        for_spreadsheets: bool = False,
    ) -> Iterator[bytes]:
        """Return the rows as a file, piece by piece, in bounded memory; docs/query.md describes the layout.

        Parameters
        ----------
        format
            ``"csv"``, ``"jsonl"`` (a JSON object per line), ``"parquet"`` (needs the extra ``arrow``) or, for scalars
            and series, by way of memory and a file: ``"nc"``, NetCDF (needs the extra ``xarray``), or ``"zarr"``, a
            Zarr group in a zip file (needs the extra ``zarr``).
        on_progress
            Called with the number of rows done and the total number, as pieces are made.
        for_spreadsheets
            Whether to put an apostrophe, in CSV, before each text that a spreadsheet would take for a formula, and
            before each id, which it would round.

        Returns
        -------
        iterator of bytes
            The pieces, all from the same instant, for ``file.writelines``.

        Raises
        ------
        ExportError
            If the format is unknown, or is none for these rows. Nothing was read.
        MissingExtraError
            If the extra is not installed. Nothing was read.
        """
        if format == "nc" or format == "zarr":
            return frames.to_file(self._dataset(), format, on_progress)
        return export_table(self._table(), format, on_progress, for_spreadsheets=for_spreadsheets)

    def _dataset(self) -> Callable[[], xarray.Dataset]:
        raise ExportError("only scalars and series can be exported as NetCDF or Zarr: choose csv, jsonl or parquet")

    def to_arrow(self) -> pyarrow.Table:
        """Return the rows as an Arrow table, with a column for each dimension; needs the extra ``arrow``.

        Raises
        ------
        MissingExtraError
            If the extra is not installed.
        """
        return frames.to_arrow(self._table())

    def to_pandas(self) -> pandas.DataFrame:
        """Return the rows as a pandas frame, with a column for each dimension; needs the extra ``pandas``.

        The types do not depend on which values are missing: ``string``, ``Int64``, ``boolean``, ``float64`` (NaN if
        missing) and times in UTC. Attributes are dicts; a series' index and values are arrays.

        Raises
        ------
        MissingExtraError
            If the extra is not installed.
        """
        return frames.to_pandas(self._table())

    def to_polars(self) -> polars.DataFrame:
        """Return the rows as a Polars frame, with the columns of `to_arrow`; needs the extra ``polars``.

        Raises
        ------
        MissingExtraError
            If the extra is not installed.
        """
        return frames.to_polars(self._table())

    def _table(self) -> AbstractContextManager[Table]:
        return open_table(self._database, self._statement, self._fields(), self._at_a_time)

    def __repr__(self) -> str:
        told = "; ".join(self._told)
        told = told if len(told) <= _LONGEST_TOLD else told[:_LONGEST_TOLD] + "…"
        name = getattr(self.row_type, "__name__", "rows")
        return f"<Query for {name} in {self._database.safe_url}{': ' if told else ''}{told}>"

    def _repr_html_(self) -> str:
        """Return the first rows as a table, for notebooks."""
        rows = list(self.limit(_SHOWN))
        fields = [name for name in self._fields() if name not in _NOT_SHOWN]
        dimensions = list(dict.fromkeys(name for row in rows for name in getattr(row, "dimensions", ())))
        cells = [
            [
                *(getattr(row, name) for name in fields),
                *(getattr(row, "dimensions", {}).get(name) for name in dimensions),
            ]
            for row in rows
        ]
        table = html_table([*fields, *dimensions], cells)
        about = f"{len(rows):,} of {self.count():,}" if len(rows) == _SHOWN else f"{len(rows):,}"
        return f"<p>{escape(repr(self))}: {about} rows</p>{table}"


@attrs.frozen(repr=False)
class ValueQuery(Query[Row]):
    """A query of rows with dimensions, which can be counted by dimension."""

    def facets(self) -> dict[str, dict[str, int]]:
        """Count the rows in the database by each value of each dimension.

        Returns
        -------
        dict
            For every dimension of these rows, by name, its values and the number of rows with each.
        """
        entries = sa.func.jsonb_each_text if self._database.is_postgresql else sa.func.json_each
        dimensions: Any = self._statement.selected_columns.dimensions
        of_each = self._database.columns_of_dimensions(dimensions.table)
        if of_each is not None:
            counted = {name: self._counts(column) for name, column in sorted(of_each.items())}
            return {name: counts for name, counts in counted.items() if counts}
        entry = entries(dimensions).table_valued("key", "value", joins_implicitly=True)
        named = (sa.cast(entry.c.key, Name), sa.cast(entry.c.value, Name))  # sorted as keys are, byte by byte
        columns: list[Any] = [*named, sa.func.count()]
        counting: Any = self._statement.with_only_columns(*columns, maintain_column_froms=True)
        found: dict[str, dict[str, int]] = {}
        for name, value, count in self._database.fetch(counting.group_by(*named).order_by(None).order_by(*named)):
            found.setdefault(name, {})[value] = count
        return found

    def _counts(self, column: sa.ColumnElement[str]) -> dict[str, int]:
        counting: Any = self._statement.with_only_columns(column, sa.func.count(), maintain_column_froms=True)
        counting = counting.where(column.is_not(None)).group_by(column).order_by(None).order_by(column)
        found: Any = self._database.fetch(counting)
        return dict(found)


@attrs.frozen(repr=False)
class ScalarQuery(ValueQuery[ScalarRow]):
    """Scalars, which can be laid out along some of their dimensions."""

    def to_xarray(self, *over: str) -> xarray.DataArray:
        """Return the scalars as an array over some dimensions; needs the extra ``xarray``.

        Parameters
        ----------
        *over
            The dimensions of the array, in this order; by default all in which the scalars differ.

        Returns
        -------
        xarray.DataArray
            The values, NaN where there is none. Its coordinates are the values of the dimensions in the order of their
            first appearance; dimensions that all scalars share are scalar coordinates, and units that all have are in
            its attributes.

        Raises
        ------
        ExportError
            If two scalars have the same place in it, which says in what they differ; or if one lacks a dimension.
        MissingExtraError
            If the extra is not installed.
        """
        return frames.scalars_to_xarray(self, over)

    def _dataset(self) -> Callable[[], xarray.Dataset]:
        return lambda: frames.scalars_in_rows(self)


@attrs.frozen(repr=False)
class SeriesQuery(ValueQuery[SeriesRow]):
    """A query of series, which can be aligned along their index."""

    def to_xarray(self) -> xarray.Dataset:
        """Return the series as an xarray dataset along their common index; needs the extra ``xarray``.

        Returns
        -------
        xarray.Dataset
            ``value`` and ``given``, both with the dimensions ``series`` and the index's name. The index has every entry
            of any series; if a series lacks an entry, ``given`` is False and ``value`` NaN. Everything else in a row is
            a coordinate along ``series``.

        Raises
        ------
        ExportError
            If the series have different indices, such as time and latitude: select by ``series(index_name=...)``.
        MissingExtraError
            If the extra is not installed.
        """
        return frames.to_xarray(self)

    def _dataset(self) -> Callable[[], xarray.Dataset]:
        return self.to_xarray
