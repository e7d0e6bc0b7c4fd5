"""Browsing the catalog: what needs attention first, page by page, with facets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import attrs
import sqlalchemy as sa

from emdstore import system
from emdstore.catalog import queries
from emdstore.catalog.clock import after
from emdstore.catalog.database import Database
from emdstore.catalog.query import Query, Row
from emdstore.catalog.rows import ExecutionRow
from emdstore.catalog.schema import artifact, diagnostic, execution, execution_group

FACETS = ("status", "provider", "diagnostic", "group")
"""The facets by which executions are counted."""

Counts = Mapping[str, Mapping[str, int]]
"""For each facet, the number of rows with each value."""

_FACET_COLUMNS = dict(
    zip(FACETS, (execution.c.status, diagnostic.c.provider, diagnostic.c.slug, execution_group.c.key), strict=True)
)
_CALM = 9

ORDERS = ("diagnostic", "when", "outputs", "scalars", "series")
"""What a page of executions can be ordered by."""


def _in_order(order: str, when: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
    c = execution.c
    columns = (diagnostic.c.slug, when, c.n_outputs, c.n_scalars, c.n_series)
    known: dict[str, sa.ColumnElement[Any]] = dict(zip(ORDERS, columns, strict=True))
    column = known.get(order.removeprefix("-"))
    return (
        [] if column is None else [column.desc().nulls_last() if order.startswith("-") else column.asc().nulls_last()]
    )


def concern_of(row: ExecutionRow, now: datetime | None = None) -> str | None:
    """Return why an execution needs attention; None if it does not.

    Parameters
    ----------
    row
        The execution.
    now
        The time to compare leases with; by default this host's.

    Returns
    -------
    str | None
        ``upload_failed``; ``lease``: the process that was committing it is gone; ``incomplete``: part of the set is
        missing or unreadable; ``failed``: the run itself failed.
    """
    if row.status == "upload_failed":
        return "upload_failed"
    if row.status == "pending_upload" and (
        row.lease_expires is None or row.lease_expires < (now or system.current().now())
    ):
        return "lease"
    if row.status == "failed":
        return "incomplete" if row.failure == "result" else "failed"
    return None


def _newest_of_each_group() -> sa.Select[Any]:
    # A run that has not begun counts, too, by the time of its creation.
    begun = sa.func.coalesce(
        execution.c.started_at, execution.c.created_at, execution.c.stopped_at, execution.c.published_at
    )
    age = sa.func.row_number().over(
        partition_by=execution.c.group_id, order_by=(begun.desc().nulls_last(), execution.c.fragment.desc())
    )
    ranked = sa.select(execution.c.id, age.label("age")).where(execution.c.retracted_at.is_(None)).subquery("ranked")
    return sa.select(ranked.c.id).where(ranked.c.age == 1)


_NEWEST = _newest_of_each_group()


@attrs.frozen
class Survey:
    """The matching executions: those that need attention first, then by time, newest first.

    Attributes
    ----------
    search
        Words that must all occur in the fragment, the description, the reason, the cause or the error, in any case.
    concerns
        Only executions that need attention.
    newest
        Only the newest run of each execution group, whatever its outcome: a failure that has been repeated since needs
        no attention. A retracted set is never the newest.
    filters
        As for `Catalog.executions`.
    """

    _database: Database = attrs.field(repr=False)
    search: str = ""
    concerns: bool = False
    newest: bool = False
    filters: Mapping[str, Any] = attrs.field(factory=dict)

    def rows(self, limit: int, offset: int = 0, order: str = "") -> list[ExecutionRow]:
        """Return one page of them; `order` is one of `ORDERS`, with ``-`` before it for a descending order."""
        when = sa.func.coalesce(
            execution.c.published_at, execution.c.stopped_at, execution.c.started_at, execution.c.created_at
        )
        statement = (
            self._matching()
            .order_by(None)
            .order_by(*_in_order(order, when), self._rank(), when.desc().nulls_last(), execution.c.fragment)
            .limit(limit)
            .offset(offset)
        )
        return [ExecutionRow(*row) for row in self._database.fetch(statement)]

    def count(self) -> int:
        """Count them."""
        counting = self._matching().with_only_columns(sa.func.count(), maintain_column_froms=True).order_by(None)
        return int(self._database.fetch(counting)[0][0])

    def count_concerns(self) -> int:
        """Count those that need attention."""
        return attrs.evolve(self, concerns=True).count()

    def causes(self) -> list[str]:
        """Return the cause of each of them that failed, as far as it is known."""
        cause = execution.c.cause
        failed: Any = attrs.evolve(self, concerns=True)._matching().where(cause.is_not(None)).order_by(None)
        return [each for (each,) in self._database.fetch(failed.with_only_columns(cause, maintain_column_froms=True))]

    def facets(self) -> Counts:
        """Count them by status, provider, diagnostic and group, the most frequent first.

        Each count ignores the filter on its own facet, so it shows what another choice would select.
        """
        return {name: self._facet(name, column) for name, column in _FACET_COLUMNS.items()}

    def sizes(self, rows: Collection[ExecutionRow]) -> Mapping[int, int]:
        """Return the total size of the artifacts of each execution, by id."""
        ids = [row.execution_id for row in rows]
        statement: Any = (
            sa.select(artifact.c.execution_id, sa.func.sum(artifact.c.size))
            .where(artifact.c.execution_id.in_(ids))
            .group_by(artifact.c.execution_id)
        )
        return {each: int(size or 0) for each, size in self._database.fetch(statement)}

    def signs_of_change(self) -> tuple[Any, ...]:
        """Return a value that changes when any execution is added, replaced, removed or retracted."""
        c = execution.c
        signs = (sa.func.count(), sa.func.sum(c.n_scalars), sa.func.sum(c.generation), sa.func.count(c.retracted_at))
        times = (sa.func.max(c.uploaded_at), sa.func.max(c.published_at))
        digests = (
            sa.func.count(sa.distinct(c.record_digest)),
            sa.func.max(c.record_digest),
            sa.func.min(c.record_digest),
        )
        return tuple(self._database.fetch(sa.select(*signs, *times, *digests))[0])

    def by_id(self, ids: Collection[int]) -> Mapping[int, ExecutionRow]:
        """Return some executions, by their ids."""
        rows = self._database.fetch(queries.select_executions(execution.c.id.in_(ids)))
        return {row[0]: ExecutionRow(*row) for row in rows}

    def _facet(self, name: str, column: sa.ColumnElement[str]) -> Mapping[str, int]:
        others = attrs.evolve(self, filters={each: value for each, value in self.filters.items() if each != name})
        number = sa.func.count()
        statement: Any = others._matching().order_by(None)
        counting = statement.with_only_columns(column, number, maintain_column_froms=True).group_by(column)
        found: Any = self._database.fetch(counting.order_by(number.desc(), column))
        return dict(found)

    def _matching(self) -> sa.Select[Any]:
        texts = [
            sa.func.lower(sa.func.coalesce(execution.c[name], ""))
            for name in ("fragment", "description", "reason", "cause", "error")
        ]
        statement = queries.executions(self._database, **self.filters)._statement
        for word in self.search.split():
            statement = statement.where(sa.or_(*(text.contains(word.lower(), autoescape=True) for text in texts)))
        if self.newest:
            statement = statement.where(execution.c.id.in_(_NEWEST))
        return statement.where(self._rank() != _CALM) if self.concerns else statement

    def _rank(self) -> sa.ColumnElement[int]:
        # The same decision as `concern_of`, in SQL, so that the database can sort and count by it.
        c = execution.c
        lapsed = sa.or_(c.lease_expires.is_(None), c.lease_expires < after())
        return sa.case(
            (c.status == "upload_failed", 0),
            (sa.and_(c.status == "pending_upload", lapsed), 1),
            (sa.and_(c.status == "failed", c.failure == "result"), 2),
            (c.status == "failed", 3),
            else_=_CALM,
        )


@attrs.frozen
class ScalarFacets:
    """The number of scalars by provider, diagnostic and group, and by each dimension."""

    places: Counts
    dimensions: Counts


def scalar_facets(database: Database, filters: Mapping[str, Any]) -> ScalarFacets:
    """Count scalars; see `Catalog.scalar_facets`."""
    places = {}
    for name in FACETS[1:]:
        others = {each: value for each, value in filters.items() if each != name}
        number, column = sa.func.count(), _FACET_COLUMNS[name]
        statement: Any = queries.scalars(database, **others)._statement.order_by(None)
        counting = statement.with_only_columns(column, number, maintain_column_froms=True).group_by(column)
        found: Any = database.fetch(counting.order_by(number.desc(), column))
        places[name] = dict(found)
    dimensions = dict(queries.scalars(database, **filters).facets())
    chosen: Mapping[str, Any] = filters.get("dimensions") or {}
    for name in chosen:
        rest = {each: value for each, value in chosen.items() if each != name}
        dimensions[name] = queries.scalars(database, **{**filters, "dimensions": rest}).facets().get(name, {})
    return ScalarFacets(places, dimensions)


def page_of(query: Query[Row], limit: int, offset: int = 0) -> list[Row]:
    """Return some of a query's rows, in its order."""
    rows = query._database.fetch(query._statement.limit(limit).offset(offset))
    return [query.row_type(*row) for row in rows]
