"""Who works on an execution: the steps of its life that must happen once, however many try.

Every step is one UPDATE that names the state it expects (compare-and-swap). The catalog does not know which
states there are or which may follow which; that is the lifecycle's, and comes in as arguments.

A claim is a lease with a fencing token. The token goes up with every claim, so an owner that slept through the end of
its lease, and wakes up when another one has taken over, finds that its token no longer counts: nothing it does
afterwards changes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

import attrs
import sqlalchemy as sa

from emdstore.catalog.clock import after
from emdstore.catalog.content import ExecutionContent
from emdstore.catalog.database import Database
from emdstore.catalog.lease import Claim, Holder
from emdstore.catalog.queries import Query, execution_not_found, select_executions
from emdstore.catalog.rows import ExecutionRow
from emdstore.catalog.schema import execution, execution_group, surrogate_id
from emdstore.catalog.writing import claim_lost, ensure_group, insert_execution
from emdstore.errors import CatalogError


class Changes(TypedDict, total=False):
    """What a transition may change of an execution, besides its status; see `ExecutionContent`."""

    description: str | None
    failure: str | None
    reason: str | None
    error: str | None
    retryable: bool | None
    host: str | None
    pid: int | None
    created_at: datetime | None
    started_at: datetime | None
    stopped_at: datetime | None
    published_at: datetime | None
    uploaded_at: datetime | None
    upload_duration: float | None


# Made once, as those in `writing`.
_SELECT = select_executions(execution.c.fragment == sa.bindparam("wanted"))
_IS_FREE = sa.or_(execution.c.owner.is_(None), execution.c.lease_expires.is_(None), execution.c.lease_expires < after())
_IS_OF = sa.and_(
    execution.c.fragment == sa.bindparam("of_fragment"),
    execution.c.lease_token == sa.bindparam("of_token"),
    execution.c.owner == sa.bindparam("of_owner"),
)
_CLAIM = (
    sa.update(execution)
    .where(
        execution.c.fragment == sa.bindparam("of_fragment"),
        execution.c.status.in_(sa.bindparam("of_statuses", expanding=True)),
        sa.or_(_IS_FREE, execution.c.owner == sa.bindparam("dead_owner")),
    )
    .values(
        status=sa.bindparam("to"),
        owner=sa.bindparam("for_owner"),
        lease_token=execution.c.lease_token + 1,
        lease_expires=after("lease"),
    )
)
_HOLDS = sa.select(execution.c.id).where(_IS_OF, execution.c.lease_expires > after("lease"))
_DOUBTFUL = sa.select(execution.c.owner, execution.c.lease_expires).where(
    execution.c.fragment == sa.bindparam("of_fragment"),
    execution.c.owner.is_not(None),
    sa.or_(execution.c.lease_expires < after(), execution.c.lease_expires > after("lease")),
)
_EVER = timedelta(days=36525)
_CHANGE = sa.update(execution).where(_IS_OF)
_RENEW = _CHANGE.values(lease_expires=after("lease"))


def create_execution(database: Database, content: ExecutionContent) -> int:
    """Enter a new execution; see `Catalog.create_execution`."""
    with database.writing() as connection:
        group_id = ensure_group(connection, content)
        if not insert_execution(connection, content, group_id):
            raise CatalogError(
                f"the catalog {database.safe_url} holds an execution {content.fragment} already; resume it, or start a "
                "new one under another fragment",
                key=content.fragment,
                store=database.safe_url,
            )
    return surrogate_id("execution", content.fragment)


def transition(
    database: Database, fragment: str, *, allowed_from: Collection[str], to: str, changes: Changes
) -> ExecutionRow | None:
    """Move an execution to another state if it is in an expected one; see `Catalog.transition`."""
    with database.writing() as connection:
        moved = connection.execute(
            sa.update(execution)
            .where(execution.c.fragment == fragment, execution.c.status.in_(allowed_from))
            .values({**changes, "status": to})
        )
        row = _row(database, connection, fragment)
    return row if moved.rowcount else None


def claim(
    database: Database,
    fragment: str,
    *,
    owner: str,
    lease_seconds: float,
    allowed_from: Collection[str],
    to: str,
    dead_owner: str | None,
) -> Claim | Holder:
    """Claim an execution, or tell who holds it; see `Catalog.claim`."""
    with database.writing() as connection:
        claimed = connection.execute(
            _CLAIM,
            {
                "of_fragment": fragment,
                "of_statuses": [*allowed_from, to],
                "dead_owner": dead_owner,
                "to": to,
                "for_owner": owner,
                "lease": timedelta(seconds=lease_seconds),
            },
        )
        row = _row(database, connection, fragment)
    if claimed.rowcount:
        assert row.lease_expires is not None
        return Claim(fragment, owner, row.lease_token, row.lease_expires)
    return Holder(fragment, row.status, row.owner, row.lease_expires)


def holds(database: Database, held: Claim, *, seconds: float) -> bool:
    """Tell whether a claim still counts, and will for some time; see `Catalog.holds`."""
    with database.reading() as connection:
        return connection.scalar(_HOLDS, {**_of(held), "lease": timedelta(seconds=seconds)}) is not None


def doubtful(database: Database, fragment: str, *, lease_seconds: float | None) -> tuple[str, datetime] | None:
    """Return who holds a claim for a time that makes no sense, and until when; see `Catalog.doubtful`."""
    with database.reading() as connection:
        found = connection.execute(
            _DOUBTFUL,
            {"of_fragment": fragment, "lease": _EVER if lease_seconds is None else timedelta(seconds=lease_seconds)},
        ).one_or_none()
    return None if found is None else (found.owner, found.lease_expires)


def renew(database: Database, held: Claim, *, lease_seconds: float) -> Claim:
    """Prolong a claim; see `Catalog.renew`."""
    row = _as_owner(database, held, _RENEW, lease=timedelta(seconds=lease_seconds))
    assert row.lease_expires is not None
    return attrs.evolve(held, expires=row.lease_expires)


def release(database: Database, held: Claim, *, to: str, changes: Changes) -> ExecutionRow:
    """Give a claim back; see `Catalog.release`."""
    return _as_owner(database, held, _CHANGE.values({**changes, "status": to, "owner": None, "lease_expires": None}))


def pending(database: Database, statuses: Collection[str], *, claimed: str | None) -> Query[ExecutionRow]:
    """List what waits for somebody, oldest first; see `Catalog.pending`."""
    waiting: sa.ColumnElement[bool] = execution.c.status.in_(list(statuses))
    if claimed is not None:
        waiting = sa.or_(waiting, sa.and_(execution.c.status == claimed, _IS_FREE))
    oldest_first = (execution.c.created_at.asc().nulls_first(), execution.c.fragment)
    return Query(ExecutionRow, select_executions(waiting).order_by(*oldest_first), database)


def set_dirty(database: Database, provider: str, slug: str, group: str, dirty: bool) -> bool:
    """Set a group's flag; see `Catalog.set_dirty`."""
    group_id = surrogate_id("execution_group", provider, slug, group)
    with database.writing() as connection:
        change = sa.update(execution_group).where(execution_group.c.id == group_id).values(dirty=dirty)
        return bool(connection.execute(change).rowcount)


def _of(held: Claim) -> dict[str, Any]:
    return {"of_fragment": held.fragment, "of_token": held.token, "of_owner": held.owner}


def _as_owner(database: Database, held: Claim, change: sa.Update, **parameters: Any) -> ExecutionRow:
    with database.writing() as connection:
        changed = connection.execute(change, _of(held) | parameters)
        row = _row(database, connection, held.fragment)
        if not changed.rowcount:
            raise claim_lost(database, held, row.owner)
    return row


def _row(database: Database, connection: sa.Connection, fragment: str) -> ExecutionRow:
    row: Sequence[Any] | None = connection.execute(_SELECT, {"wanted": fragment}).one_or_none()
    if row is None:
        raise execution_not_found(database, fragment)
    return ExecutionRow(*row)
