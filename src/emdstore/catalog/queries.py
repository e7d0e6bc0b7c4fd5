"""Asking the catalog."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from difflib import get_close_matches
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypedDict, TypeVar, get_args

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from emdstore.catalog import frames
from emdstore.catalog.database import ROWS_AT_A_TIME, Database
from emdstore.catalog.export import Format, export_table
from emdstore.catalog.releases import sets_of
from emdstore.catalog.rows import (
    ArtifactRow,
    ExecutionRow,
    InputRow,
    OutputRow,
    ScalarRow,
    SeriesRow,
    Status,
    WarningRow,
)
from emdstore.catalog.schema import (
    Name,
    artifact,
    dataset,
    diagnostic,
    execution,
    execution_group,
    execution_input,
    ingest_warning,
    output,
    scalar_value,
    series_value,
)
from emdstore.catalog.table import Table, open_table
from emdstore.errors import ExecutionNotFoundError, QueryError
from emdstore.identifiers import bare_identifier
from emdstore.keys import validate_prefix

if TYPE_CHECKING:
    import pandas
    import pyarrow
    import xarray

Row = TypeVar("Row")
OneOrMore = str | Collection[str]

_MOST_DIMENSIONS = 50
_SERIES_AT_A_TIME = 50  # each may hold thousands of points


class Filters(TypedDict, total=False):
    """The filters of every query. All filters must hold; for a filter with several values, any of them.

    Attributes
    ----------
    fragment
        A folder: ``run1`` selects the execution ``run1`` and everything under ``run1/``, but not ``run10``.
    ids
        These executions, by `ExecutionRow.execution_id`.
    provider, diagnostic, group, status
        A value, or several. An unknown status is a `QueryError`.
    latest
        True for the latest set of each execution group only: of the complete sets that are published or bare, the one
        that was published last (if equal, started last). A set without such a time counts as the oldest. The latest set
        does not depend on the other filters: if they exclude it, no older one replaces it. A retracted set is never the
        latest.
    dataset
        What the executions read: a dataset's name, PID or DOI, or a staged file's key; ``*`` matches any text and ``?``
        one character. Case does not matter. `QueryError` if empty.
    provider_version, diagnostic_version
        Versions of the software: one, or several.
    release
        The name of a release or an alias: exactly its sets. `ReleaseChangedError` if the catalog does not have one of
        them as it was released, `ReleaseNotFoundError` if it does not know the release.
    retracted
        False, the default: sets that were not retracted; True: those that were; None: both.
    """

    fragment: str
    ids: Collection[int]
    provider: OneOrMore
    diagnostic: OneOrMore
    group: OneOrMore
    status: OneOrMore
    latest: bool
    dataset: OneOrMore
    provider_version: OneOrMore
    diagnostic_version: OneOrMore
    release: str
    retracted: bool | None


class ValueFilters(Filters, total=False):
    """The filters of queries of rows with dimensions, in addition to `Filters`.

    Attributes
    ----------
    dimensions
        For each named dimension its value, or several; rows without the dimension are left out. A dimension that no row
        has is a `QueryError`.
    complete
        True, the default: rows of complete sets; False: rows of sets of which something is missing for good; None:
        both.
    """

    dimensions: Mapping[str, OneOrMore]
    complete: bool | None


class SeriesFilters(ValueFilters, total=False):
    """The filters of queries of series, in addition to `ValueFilters`.

    Attributes
    ----------
    index_name
        The name of the series' index, such as ``time``.
    """

    index_name: OneOrMore


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
_LONGEST_CELL = 60


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + "…"


def _as_told(filters: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}={value!r}" for name, value in filters.items() if value is not None)


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
        _refuse_unknown("test", [test], tuple(_TESTS))
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
        _refuse_unknown("field", [name], plain)
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
            ``"csv"``, ``"jsonl"`` (a JSON object per line) or ``"parquet"`` (needs the extra ``arrow``).
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
            If the format is unknown. Nothing was read.
        MissingExtraError
            If the extra is not installed. Nothing was read.
        """
        return export_table(self._table(), format, on_progress, for_spreadsheets=for_spreadsheets)

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

    def _table(self) -> AbstractContextManager[Table]:
        return open_table(self._database, self._statement, self._fields(), self._at_a_time)

    def __repr__(self) -> str:
        told = "; ".join(self._told)
        told = told if len(told) <= _LONGEST_TOLD else told[:_LONGEST_TOLD] + "…"
        name = getattr(self.row_type, "__name__", "rows")
        return f"<Query for {name} in {self._database.safe_url}{': ' if told else ''}{told}>"

    def _repr_html_(self) -> str:
        """Return the first rows as a table, for notebooks."""
        rows = list(islice(self.limit(_SHOWN), _SHOWN))
        fields = self._fields()
        head = "".join(f"<th>{escape(name)}</th>" for name in fields)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(_short(getattr(row, name)))}</td>' for name in fields)}</tr>" for row in rows
        )
        about = f"{len(rows):,} of {self.count():,}" if len(rows) == _SHOWN else f"{len(rows):,}"
        return f"<p>{escape(repr(self))}: {about} rows</p><table><tr>{head}</tr>{body}</table>"


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
        dimensions = self._statement.selected_columns.dimensions
        entry = entries(dimensions).table_valued("key", "value", joins_implicitly=True)
        named = (sa.cast(entry.c.key, Name), sa.cast(entry.c.value, Name))  # sorted as keys are, byte by byte
        columns: list[Any] = [*named, sa.func.count()]
        counting: Any = self._statement.with_only_columns(*columns, maintain_column_froms=True)
        found: dict[str, dict[str, int]] = {}
        for name, value, count in self._database.fetch(counting.group_by(*named).order_by(None).order_by(*named)):
            found.setdefault(name, {})[value] = count
        return found


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


# -- one query per kind of row ---------------------------------------------------------------------------------------

_PLACE = (
    execution.c.id,
    execution.c.fragment,
    diagnostic.c.provider,
    diagnostic.c.slug,
    execution_group.c.key,
)
_EXECUTIONS = execution.join(execution_group).join(diagnostic)
_DECIDED = [
    execution.c[field.name] if field.name in execution.c else execution.c[f"n_{field.name}"]
    for field in attrs.fields(ExecutionRow)[7:]
]


def select_executions(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return the statement whose rows are those of `ExecutionRow`."""
    columns = (*_PLACE, execution_group.c.selectors, execution_group.c.dirty, *_DECIDED)
    return sa.select(*columns).select_from(_EXECUTIONS).where(*conditions)


def executions(database: Database, **filters: Any) -> Query[ExecutionRow]:
    """Return one row per execution."""
    statement = select_executions(*_conditions(database, **filters)).order_by(execution.c.fragment)
    return Query(ExecutionRow, statement, database, ROWS_AT_A_TIME, _as_told(filters))


def artifacts(database: Database, **filters: Any) -> Query[ArtifactRow]:
    """Return one row per artifact."""
    columns = [artifact.c[name] for name in ("position", "key", "role", "size", "sha256", "media_type", "description")]
    return Query(ArtifactRow, _parts(database, artifact, columns, filters), database, ROWS_AT_A_TIME, _as_told(filters))


def outputs(database: Database, **filters: Any) -> ValueQuery[OutputRow]:
    """Return one row per entry of an output bundle."""
    told = _as_told(filters)
    return ValueQuery(OutputRow, _parts_with_dimensions(database, output, filters), database, ROWS_AT_A_TIME, told)


def scalars(database: Database, **filters: Any) -> ScalarQuery:
    """Return one row per scalar."""
    told = _as_told(filters)
    return ScalarQuery(
        ScalarRow, _parts_with_dimensions(database, scalar_value, filters), database, ROWS_AT_A_TIME, told
    )


def series(database: Database, *, index_name: OneOrMore | None = None, **filters: Any) -> SeriesQuery:
    """Return one row per series."""
    told = _as_told({"index_name": index_name, **filters})
    statement = _parts_with_dimensions(database, series_value, filters)
    if index_name is not None:
        statement = statement.where(series_value.c.index_name.in_(_as_list(index_name)))
    return SeriesQuery(SeriesRow, statement, database, _SERIES_AT_A_TIME, told)


def inputs(database: Database, **filters: Any) -> Query[InputRow]:
    """Return one row per input."""
    there, of = execution_input.c, dataset.c
    named = (of.name, of.version, of.pid, of.doi, of.sha256)
    columns = (*_PLACE, there.position, there.role, there.variable, *named, there.store, there.key)
    wanted = filters.get("dataset")
    conditions = _conditions(database, **filters)
    if wanted is not None:  # of these executions' inputs, only those that were asked for
        conditions.append(_is_called(wanted))
    statement: Any = (
        sa.select(*columns, there.size, there.sha256)
        .select_from(execution_input.join(_EXECUTIONS, there.execution_id == execution.c.id).outerjoin(dataset))
        .where(*conditions)
        .order_by(execution.c.fragment, there.position)
    )
    return Query(InputRow, statement, database, ROWS_AT_A_TIME, _as_told(filters))


def warnings(database: Database, **filters: Any) -> Query[WarningRow]:
    """Return one row per warning."""
    statement = _parts(database, ingest_warning, list(ingest_warning.c)[1:], filters)
    return Query(WarningRow, statement, database, ROWS_AT_A_TIME, _as_told(filters))


_CANDIDATES = 4
"""How many executions the message for an ambiguous name lists."""


def _meant(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return select_executions(condition).order_by(execution.c.fragment).limit(_CANDIDATES)


# Made once, because every step in an execution's life needs it.
_OF_FRAGMENT = _meant(execution.c.fragment == sa.bindparam("fragment"))
_OF_ID = _meant(execution.c.id == sa.bindparam("id"))
# Compared byte for byte, because LIKE would ignore case on SQLite.
_OF_ENDING = _meant(
    sa.func.substr(execution.c.fragment, sa.func.length(execution.c.fragment) - sa.bindparam("size", type_=sa.Integer))
    == sa.bindparam("ending")
)


def find_execution(database: Database, wanted: str | int) -> ExecutionRow:
    """Return exactly one execution; see `Catalog.execution`."""
    text = str(wanted)
    meanings: list[tuple[sa.Select[Any], dict[str, Any]]] = []
    if isinstance(wanted, str):
        meanings = [(_OF_FRAGMENT, {"fragment": text}), (_OF_ENDING, {"ending": "/" + text, "size": len(text)})]
    if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 2**63:
        meanings.append((_OF_ID, {"id": int(text)}))
    for statement, meant in meanings:
        found = database.fetch(statement, **meant)
        if len(found) == 1:
            return ExecutionRow(*found[0])
        if found:
            which = ", ".join(fragment for _, fragment, *_ in found)
            message = f"{text!r} may mean several executions ({which}): give the whole fragment"
            raise ExecutionNotFoundError(message, key=text, store=database.safe_url)
    raise execution_not_found(database, text)


def execution_not_found(database: Database, wanted: str) -> ExecutionNotFoundError:
    """Return the error for an unknown execution, which says how to find the known ones."""
    message = f"no execution {wanted!r} in the catalog {database.safe_url}: `emdstore list` shows those that are there"
    return ExecutionNotFoundError(message, key=wanted, store=database.safe_url)


# -- how they are built ----------------------------------------------------------------------------------------------


def _parts(
    database: Database, table: sa.Table, columns: list[sa.Column[Any]], filters: Mapping[str, Any]
) -> sa.Select[Any]:
    return (
        sa.select(*_PLACE, *columns)
        .select_from(table.join(_EXECUTIONS, table.c.execution_id == execution.c.id))
        .where(*_conditions(database, **filters))
        .order_by(execution.c.fragment, table.c.position)
    )


def _parts_with_dimensions(database: Database, table: sa.Table, filters: dict[str, Any]) -> sa.Select[Any]:
    dimensions: Mapping[str, OneOrMore] = filters.pop("dimensions", None) or {}
    _refuse_unknown_dimensions(database, table, list(dimensions))
    having = _has_postgresql if database.is_postgresql else _has_sqlite
    conditions = [having(table.c.dimensions, name, _as_list(values)) for name, values in dimensions.items()]
    complete: bool | None = filters.pop("complete", True)
    if complete is not None:
        conditions.append(execution.c.complete if complete else sa.not_(execution.c.complete))
    return _parts(database, table, list(table.c)[1:], filters).where(*conditions)


def _conditions(
    database: Database,
    *,
    fragment: str | None = None,
    ids: Collection[int] | None = None,
    provider: OneOrMore | None = None,
    diagnostic: OneOrMore | None = None,
    group: OneOrMore | None = None,
    status: OneOrMore | None = None,
    latest: bool = False,
    dataset: OneOrMore | None = None,
    provider_version: OneOrMore | None = None,
    diagnostic_version: OneOrMore | None = None,
    release: str | None = None,
    retracted: bool | None = False,
) -> list[sa.ColumnElement[bool]]:
    versions = (execution.c.provider_version, execution.c.diagnostic_version)
    columns = (_PLACE[2], _PLACE[3], execution_group.c.key, execution.c.status, *versions)
    asked = (provider, diagnostic, group, status, provider_version, diagnostic_version)
    wanted = zip(columns, asked, strict=True)
    if status is not None:
        _refuse_unknown("status", _as_list(status), get_args(Status))
    chosen: list[sa.ColumnElement[bool]]
    chosen = [column.in_(_as_list(values)) for column, values in wanted if values is not None]
    if ids is not None:  # as literals, because there may be more than the allowed number of parameters
        wanted_ids: sa.BindParameter[Any] = sa.bindparam(
            "ids", [int(each) for each in ids], expanding=True, literal_execute=True
        )
        chosen.append(execution.c.id.in_(wanted_ids))
    if latest:
        chosen.append(execution.c.id.in_(_LATEST))
    if dataset is not None:
        chosen.append(execution.c.id.in_(_reading.where(_is_called(dataset))))
    if release is not None:
        chosen.append(sets_of(database, release))
    if retracted is not None:
        chosen.append(execution.c.retracted_at.is_not(None) if retracted else execution.c.retracted_at.is_(None))
    return [*under(fragment or ""), *chosen]


def _latest_of_each_group() -> sa.Select[Any]:
    candidates = sa.select(
        execution.c.id,
        sa.func.row_number()
        .over(
            partition_by=execution.c.group_id,
            order_by=(
                execution.c.published_at.desc().nulls_last(),
                execution.c.started_at.desc().nulls_last(),
                execution.c.fragment.desc(),
            ),
        )
        .label("age"),
    ).where(execution.c.state.in_(("published", "bare")), execution.c.complete, execution.c.retracted_at.is_(None))
    ranked = candidates.subquery("ranked")
    return sa.select(ranked.c.id).where(ranked.c.age == 1)


_LATEST = _latest_of_each_group()


_reading = sa.select(execution_input.c.execution_id).select_from(execution_input.outerjoin(dataset))


def _is_called(wanted: OneOrMore) -> sa.ColumnElement[bool]:
    """Return the condition that an input has one of these names."""
    read = execution_input.c
    names = (dataset.c.name, dataset.c.pid, dataset.c.doi, dataset.c.sha256, read.key, read.sha256)
    patterns = []
    for each in _as_list(wanted):
        if not (text := bare_identifier(each)):
            raise QueryError(f"{each!r} names no dataset: give a name, PID or DOI, or a pattern such as 'CMIP6.*.tas'")
        patterns.append(text.translate(_TO_LIKE))
    return sa.or_(sa.false(), *(name.ilike(pattern, escape="\\") for pattern in patterns for name in names))


_TO_LIKE = str.maketrans({"*": "%", "?": "_", "%": "\\%", "_": "\\_", "\\": "\\\\"})


def _refuse_unknown(what: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse an unknown word: an empty answer would look as if there were no results."""
    for each in given:
        if each not in known:
            near = get_close_matches(each, known, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise QueryError(f"there is no {what} {each!r}: {meant}there are {', '.join(known)}", key=each)


def _refuse_unknown_dimensions(database: Database, table: sa.Table, names: list[str]) -> None:
    """Refuse a dimension that no row of this kind has, unless there are no rows."""
    if len(names) > _MOST_DIMENSIONS:
        raise QueryError(f"{len(names)} dimensions are too many to choose by: give {_MOST_DIMENSIONS} at most")
    if not names:
        return
    has = _names_postgresql if database.is_postgresql else _names_sqlite
    rows_of = sa.select(sa.literal(1)).select_from(table)
    known = [sa.exists(rows_of.where(has(table.c.dimensions, name))) for name in names]
    asking: Any = sa.select(sa.exists(rows_of), *known)
    (any_rows, *found), *_ = database.fetch(asking)
    unknown = [name for name, is_known in zip(names, found, strict=True) if not is_known]
    if any_rows and unknown:
        _refuse_unknown("dimension", unknown, _known_dimensions(database, table))


def _known_dimensions(database: Database, table: sa.Table) -> list[str]:
    keys = sa.func.jsonb_object_keys if database.is_postgresql else sa.func.json_each
    if database.is_postgresql:
        statement: sa.Select[Any] = sa.select(keys(table.c.dimensions)).distinct()
    else:
        entry = keys(table.c.dimensions).table_valued("key", joins_implicitly=True)
        statement = sa.select(entry.c.key).select_from(table).distinct()
    return sorted(name for (name,) in database.fetch(statement))


def _names_sqlite(column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    entry = sa.func.json_each(column).table_valued("key")
    return sa.exists(sa.select(sa.literal(1)).select_from(entry).where(entry.c.key == name))


def _names_postgresql(column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    return column.op("?", is_comparison=True)(sa.literal(name, sa.Text))


def under(prefix: str) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that select everything in a folder."""
    # A range uses the index, unlike some LIKEs, and needs no escaping; "0" follows "/".
    if not validate_prefix(prefix):
        return []
    fragment = execution.c.fragment
    return [sa.or_(fragment == prefix, sa.and_(fragment >= prefix + "/", fragment < prefix + "0"))]


def _has_sqlite(column: sa.Column[Any], name: str, values: list[str]) -> sa.ColumnElement[bool]:
    # Name and value are compared, not put into a JSON path, so quotes and dots in them have no meaning.
    entry = sa.func.json_each(column).table_valued("key", "atom")
    return sa.exists(sa.select(sa.literal(1)).select_from(entry).where(entry.c.key == name, entry.c.atom.in_(values)))


def _has_postgresql(column: sa.Column[Any], name: str, values: list[str]) -> sa.ColumnElement[bool]:
    # The GIN index supports containment.
    wanted = (sa.literal({name: value}, postgresql.JSONB) for value in values)
    return sa.or_(sa.false(), *(column.op("@>", is_comparison=True)(one) for one in wanted))


def _as_list(values: OneOrMore) -> list[str]:
    return [values] if isinstance(values, str) else list(values)
