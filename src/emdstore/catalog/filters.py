"""Which rows a query is of: the filters, and the conditions in SQL that they mean."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypedDict, get_args

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from emdstore.catalog.database import Database
from emdstore.catalog.releases import sets_of
from emdstore.catalog.rows import Status
from emdstore.catalog.schema import dataset, diagnostic as diagnostic_table, execution, execution_group, execution_input
from emdstore.errors import QueryError
from emdstore.identifiers import bare_identifier
from emdstore.keys import validate_prefix

OneOrMore = str | Collection[str]

_MOST_DIMENSIONS = 50


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
        Versions of the provider and the diagnostic: one, or several.
    software
        By package its version, or several: ``{"numpy": ["2.0.1", "2.1.0"]}``; executions of which that is not known are
        left out.
    host
        The machine, or several.
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
    software: Mapping[str, OneOrMore]
    host: OneOrMore
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
    superseded
        False: no rows of a set if the latest complete one of its execution group is known to be of another version of
        the provider or the diagnostic; True: these, too. By default, False, unless somebody asks for certain versions:
        by `ids`, `release`, `provider_version`, `diagnostic_version`, `software`, or by `fragment` for the set in this
        very folder.
    """

    dimensions: Mapping[str, OneOrMore]
    complete: bool | None
    superseded: bool | None


class ScalarFilters(ValueFilters, total=False):
    """The filters of queries of scalars, in addition to `ValueFilters`.

    Attributes
    ----------
    outliers
        What to do with models whose values of a metric lie far from those of the others, by the interquartile range
        over the models that the other filters choose; see `emdstore.catalog.outliers`. None, the default: nothing;
        ``"hide"``: leave their rows out; ``"flag"``: tell of each row, by `FlaggedScalarRow.outlier`. They are looked
        for when the query is made.
    """

    outliers: Literal["flag", "hide"] | None


class SeriesFilters(ValueFilters, total=False):
    """The filters of queries of series, in addition to `ValueFilters`.

    Attributes
    ----------
    index_name
        The name of the series' index, such as ``time``.
    """

    index_name: OneOrMore


# -- what they mean --------------------------------------------------------------------------------------------------


def of_dimensions(database: Database, table: sa.Table, filters: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of the filters that only rows with dimensions have; see `ValueFilters`."""
    dimensions: Mapping[str, OneOrMore] = filters.get("dimensions") or {}
    _refuse_unknown_dimensions(database, table, list(dimensions))
    chosen = [_has(database, table, name, as_list(values)) for name, values in dimensions.items()]
    complete: bool | None = filters.get("complete", True)
    if complete is not None:
        chosen.append(execution.c.complete if complete else sa.not_(execution.c.complete))
    superseded: bool | None = filters.get("superseded")
    if superseded is None and any(filters.get(name) is not None for name in _CERTAIN_VERSIONS):
        superseded = True
    if not superseded:
        latest = execution.c.id.not_in(_SUPERSEDED)
        fragment = filters.get("fragment") if superseded is None else None
        chosen.append(sa.or_(latest, execution.c.fragment == fragment) if fragment else latest)
    return chosen


def _has(database: Database, table: sa.Table, name: str, values: list[str]) -> sa.ColumnElement[bool]:
    columns = database.columns_of_dimensions(table)
    if columns is not None:
        return columns[name].in_(values) if name in columns else sa.false()
    return (_has_postgresql if database.is_postgresql else _has_sqlite)(table.c.dimensions, name, values)


_CERTAIN_VERSIONS = ("ids", "release", "provider_version", "diagnostic_version", "software")


def conditions(
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
    software: Mapping[str, OneOrMore] | None = None,
    host: OneOrMore | None = None,
    release: str | None = None,
    retracted: bool | None = False,
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of the filters that all queries have; see `Filters`."""
    columns = (
        diagnostic_table.c.provider,
        diagnostic_table.c.slug,
        execution_group.c.key,
        execution.c.status,
        *_VERSIONS,
        execution.c.host,
    )
    asked = (provider, diagnostic, group, status, provider_version, diagnostic_version, host)
    wanted = zip(columns, asked, strict=True)
    if status is not None:
        refuse_unknown("status", as_list(status), get_args(Status))
    chosen: list[sa.ColumnElement[bool]]
    chosen = [column.in_(as_list(values)) for column, values in wanted if values is not None]
    chosen += [_is_version(database, name, as_list(versions)) for name, versions in (software or {}).items()]
    if ids is not None:  # as literals, because there may be more than the allowed number of parameters
        wanted_ids: sa.BindParameter[Any] = sa.bindparam(
            "ids", [int(each) for each in ids], expanding=True, literal_execute=True
        )
        chosen.append(execution.c.id.in_(wanted_ids))
    if latest:
        chosen.append(execution.c.id.in_(_LATEST))
    if dataset is not None:
        chosen.append(execution.c.id.in_(_reading.where(is_called(dataset))))
    if release is not None:
        chosen.append(sets_of(database, release))
    if retracted is not None:
        chosen.append(execution.c.retracted_at.is_not(None) if retracted else execution.c.retracted_at.is_(None))
    return [*under(fragment or ""), *chosen]


_VERSIONS = (execution.c.provider_version, execution.c.diagnostic_version)


def _by_age() -> sa.Subquery:
    """Return the complete sets, each with its place among those of its group (the latest is 1), and whether it is known
    to be of another version than that.
    """
    window: dict[str, Any] = {
        "partition_by": execution.c.group_id,
        "order_by": (
            execution.c.published_at.desc().nulls_last(),
            execution.c.started_at.desc().nulls_last(),
            execution.c.fragment.desc(),
        ),
    }
    candidates = sa.select(
        execution.c.id,
        sa.func.row_number().over(**window).label("age"),
        sa.or_(*(each != sa.func.first_value(each).over(**window) for each in _VERSIONS)).label("is_other"),
    ).where(execution.c.state.in_(("published", "bare")), execution.c.complete, execution.c.retracted_at.is_(None))
    return candidates.subquery("ranked")


_ranked = _by_age()
_LATEST = sa.select(_ranked.c.id).where(_ranked.c.age == 1)
_SUPERSEDED = sa.select(_ranked.c.id).where(_ranked.c.is_other)  # null, and so not, where a version is unknown


_reading = sa.select(execution_input.c.execution_id).select_from(execution_input.outerjoin(dataset))


def is_called(wanted: OneOrMore) -> sa.ColumnElement[bool]:
    """Return the condition that an input has one of these names."""
    read = execution_input.c
    names = (dataset.c.name, dataset.c.pid, dataset.c.doi, dataset.c.sha256, read.key, read.sha256)
    patterns = []
    for each in as_list(wanted):
        if not (text := bare_identifier(each)):
            raise QueryError(f"{each!r} names no dataset: give a name, PID or DOI, or a pattern such as 'CMIP6.*.tas'")
        patterns.append(text.translate(_TO_LIKE))
    return sa.or_(sa.false(), *(name.ilike(pattern, escape="\\") for pattern in patterns for name in names))


_TO_LIKE = str.maketrans({"*": "%", "?": "_", "%": "\\%", "_": "\\_", "\\": "\\\\"})


def refuse_unknown(what: str, given: Collection[str], known: Collection[str]) -> None:
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
    columns = database.columns_of_dimensions(table)
    known: list[sa.ColumnElement[bool]] = [
        sa.exists(rows_of.where(has(table.c.dimensions, name)))
        if columns is None
        else sa.true()
        if name in columns
        else sa.false()
        for name in names
    ]
    asking: Any = sa.select(sa.exists(rows_of), *known)
    (any_rows, *found), *_ = database.fetch(asking)
    unknown = [name for name, is_known in zip(names, found, strict=True) if not is_known]
    if any_rows and unknown:
        refuse_unknown("dimension", unknown, _known_dimensions(database, table))


def _known_dimensions(database: Database, table: sa.Table) -> list[str]:
    if (columns := database.columns_of_dimensions(table)) is not None:
        return sorted(columns)
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


def _is_version(database: Database, package: str, versions: list[str]) -> sa.ColumnElement[bool]:
    column = execution.c.software
    if database.is_postgresql:
        return sa.func.json_extract_path_text(column, package).in_(versions)
    return _has_sqlite(column, package, versions)


def _has_postgresql(column: sa.Column[Any], name: str, values: list[str]) -> sa.ColumnElement[bool]:
    # The GIN index supports containment.
    wanted = (sa.literal({name: value}, postgresql.JSONB) for value in values)
    return sa.or_(sa.false(), *(column.op("@>", is_comparison=True)(one) for one in wanted))


def as_list(values: OneOrMore) -> list[str]:
    """Return the values of a filter."""
    return [values] if isinstance(values, str) else list(values)
