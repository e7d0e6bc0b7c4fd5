"""Asking the catalog: one query for each kind of row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import sqlalchemy as sa

from emdstore.catalog.database import ROWS_AT_A_TIME, Database
from emdstore.catalog.filters import OneOrMore, as_list, conditions, is_called, of_dimensions, refuse_unknown
from emdstore.catalog.outliers import find_outliers
from emdstore.catalog.query import Query, ScalarQuery, SeriesQuery, ValueQuery
from emdstore.catalog.rows import (
    ArtifactRow,
    ExecutionRow,
    FlaggedScalarRow,
    InputRow,
    OutputRow,
    ScalarRow,
    SeriesRow,
    WarningRow,
)
from emdstore.catalog.schema import (
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
from emdstore.errors import ExecutionNotFoundError

_SERIES_AT_A_TIME = 50  # each may hold thousands of points

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
_OF_EXECUTIONS: sa.Select[Any] = sa.select(
    *_PLACE, execution_group.c.selectors, execution_group.c.dirty, *_DECIDED
).select_from(_EXECUTIONS)


def select_executions(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return the statement whose rows are those of `ExecutionRow`."""
    return _OF_EXECUTIONS.where(*conditions)


def executions(database: Database, **filters: Any) -> Query[ExecutionRow]:
    """Return one row per execution."""
    statement = select_executions(*conditions(database, **filters)).order_by(execution.c.fragment)
    return Query(ExecutionRow, statement, database, ROWS_AT_A_TIME, _as_told(filters))


def artifacts(database: Database, **filters: Any) -> Query[ArtifactRow]:
    """Return one row per artifact."""
    names = ("position", "key", "role", "size", "sha256", "media_type", "description")
    columns = [*(artifact.c[name] for name in names), sa.literal_column("'Output'", sa.Text).label("asset_role")]
    return Query(ArtifactRow, _parts(database, artifact, columns, filters), database, ROWS_AT_A_TIME, _as_told(filters))


def outputs(database: Database, **filters: Any) -> ValueQuery[OutputRow]:
    """Return one row per entry of an output bundle."""
    told = _as_told(filters)
    return ValueQuery(OutputRow, _parts_with_dimensions(database, output, filters), database, ROWS_AT_A_TIME, told)


def scalars(database: Database, *, outliers: str | None = None, **filters: Any) -> ScalarQuery:
    """Return one row per scalar."""
    told = _as_told({**filters, "outliers": outliers})
    statement = _parts_with_dimensions(database, scalar_value, filters)
    found = ScalarQuery(ScalarRow, statement, database, ROWS_AT_A_TIME, told)
    if outliers is None:
        return found
    refuse_unknown("way to treat outliers", [outliers], ("flag", "hide"))
    places = list(find_outliers(found))
    key = sa.tuple_(scalar_value.c.execution_id, scalar_value.c.position)
    is_outlier: Any = key.in_(sa.bindparam("outliers", places, expanding=True, literal_execute=True))
    is_outlier = is_outlier if places else sa.false()
    if outliers == "hide":
        return attrs.evolve(found, statement=statement.where(sa.not_(is_outlier)))
    flagged = statement.add_columns(sa.cast(is_outlier, sa.Boolean).label("outlier"))
    return attrs.evolve(found, row_type=FlaggedScalarRow, statement=flagged)


def series(database: Database, *, index_name: OneOrMore | None = None, **filters: Any) -> SeriesQuery:
    """Return one row per series."""
    told = _as_told({"index_name": index_name, **filters})
    statement = _parts_with_dimensions(database, series_value, filters)
    if index_name is not None:
        statement = statement.where(series_value.c.index_name.in_(as_list(index_name)))
    return SeriesQuery(SeriesRow, statement, database, _SERIES_AT_A_TIME, told)


def inputs(database: Database, **filters: Any) -> Query[InputRow]:
    """Return one row per input."""
    there, of = execution_input.c, dataset.c
    named = (of.name, of.version, of.pid, of.doi, of.sha256)
    columns = (*_PLACE, there.position, there.role, there.variable, *named, there.store, there.key)
    wanted = filters.get("dataset")
    chosen = conditions(database, **filters)
    if wanted is not None:  # of these executions' inputs, only those that were asked for
        chosen.append(is_called(wanted))
    asset_role = sa.case((there.key.is_not(None), sa.literal_column("'Input'", sa.Text))).label("asset_role")
    statement: Any = (
        sa.select(*columns, there.size, there.sha256, asset_role)
        .select_from(execution_input.join(_EXECUTIONS, there.execution_id == execution.c.id).outerjoin(dataset))
        .where(*chosen)
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


def _as_told(filters: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}={value!r}" for name, value in filters.items() if value is not None)


def _parts(
    database: Database, table: sa.Table, columns: Sequence[sa.ColumnElement[Any]], filters: Mapping[str, Any]
) -> sa.Select[Any]:
    return (
        sa.select(*_PLACE, *columns)
        .select_from(table.join(_EXECUTIONS, table.c.execution_id == execution.c.id))
        .where(*conditions(database, **filters))
        .order_by(execution.c.fragment, table.c.position)
    )


_OF_DIMENSIONS = ("dimensions", "complete", "superseded")


def _parts_with_dimensions(database: Database, table: sa.Table, filters: Mapping[str, Any]) -> sa.Select[Any]:
    rest = {name: value for name, value in filters.items() if name not in _OF_DIMENSIONS}
    return _parts(database, table, list(table.c)[1:], rest).where(*of_dimensions(database, table, filters))
