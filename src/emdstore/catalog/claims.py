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
from typing import Any, TypedDict, Unpack

import attrs
import sqlalchemy as sa

from emdstore.catalog.clock import after
from emdstore.catalog.content import ExecutionContent
from emdstore.catalog.database import Database
from emdstore.catalog.lease import Claim, Holder
from emdstore.catalog.queries import execution_not_found, select_executions
from emdstore.catalog.query import Query
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
_SELECT_HOLDER = sa.select(
    execution.c.status, execution.c.owner, execution.c.lease_token, execution.c.lease_expires
).where(execution.c.fragment == sa.bindparam("wanted"))
_IS_FREE = sa.or_(execution.c.owner.is_(None), execution.c.lease_expires.is_(None), execution.c.lease_expires < after())
_IS_OF = sa.and_(
    execution.c.fragment == sa.bindparam("of_fragment"),
    execution.c.lease_token == sa.bindparam("of_token"),
    execution.c.owner == sa.bindparam("of_owner"),
)
# The record of a later claim has a higher generation, also where the catalog was built anew from records, or somebody
# has published without it.
_LAST = sa.case(
    (execution.c.lease_token < execution.c.generation, execution.c.generation), else_=execution.c.lease_token
)
_CLAIM = (
    sa.update(execution)
    .where(
        execution.c.fragment == sa.bindparam("of_fragment"),
        execution.c.status.in_(sa.bindparam("of_statuses", expanding=True)),
        # Not for its time alone: that may be of another clock, and of an owner who came after the caller looked.
        sa.or_(execution.c.owner.is_(None), execution.c.owner == sa.bindparam("dead_owner")),
    )
    .values(
        status=sa.bindparam("to"),
        owner=sa.bindparam("for_owner"),
        lease_token=_LAST + 1,
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


class Claims:
    """The steps of executions' lives, in one catalog; see `Catalog.claims`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, content: ExecutionContent) -> int:
        """Enter a new execution, with its group; the parts of `content` are not looked at.

        Parameters
        ----------
        content
            Identity, status, place and times.

        Returns
        -------
        int
            The execution's id.

        Raises
        ------
        CatalogError
            If the catalog holds an execution of this fragment already. It was left alone.
        """
        with self._database.writing() as connection:
            group_id = ensure_group(connection, content)
            if not insert_execution(connection, content, group_id):
                raise CatalogError(
                    f"the catalog {self._database.safe_url} holds an execution {content.fragment} already; resume it, "
                    "or start a new one under another fragment",
                    key=content.fragment,
                    store=self._database.safe_url,
                )
        return surrogate_id("execution", content.fragment)

    def transition(
        self, fragment: str, *, allowed_from: Collection[str], to: str, **changes: Unpack[Changes]
    ) -> ExecutionRow | None:
        """Move an execution to another state, if it is in one of the expected ones (compare-and-swap).

        Returns
        -------
        ExecutionRow | None
            The execution as it is now, or None if its state was another; nothing was changed then.

        Raises
        ------
        ExecutionNotFoundError
            If the catalog does not hold the execution.
        """
        with self._database.writing() as connection:
            moved = connection.execute(
                sa.update(execution)
                .where(execution.c.fragment == fragment, execution.c.status.in_(allowed_from))
                .values({**changes, "status": to})
            )
            row = _row(self._database, connection, fragment)
        return row if moved.rowcount else None

    def claim(
        self,
        fragment: str,
        *,
        owner: str,
        lease_seconds: float,
        allowed_from: Collection[str],
        to: str = "pending_upload",
        dead_owner: str | None = None,
    ) -> Claim | Holder:
        """Claim an execution: move it to a state in which only its owner works on it, for a time.

        It succeeds from an expected state, and also from the claimed state itself if its owner is gone: none is
        named, or the one whom the caller knows to be gone. That its lease ran out proves nothing by itself, as clocks
        differ and are set; see `doubtful`. Of several callers at once, one succeeds.

        Parameters
        ----------
        fragment
            The execution.
        owner
            A name for the caller, for messages; the token tells callers apart.
        lease_seconds
            How long the claim holds unless it is renewed.
        allowed_from
            The states in which an execution may be claimed.
        to
            The claimed state.
        dead_owner
            An owner that the caller knows to be gone, or has watched for long enough.

        Returns
        -------
        Claim | Holder
            The claim, or who or what stands in the way; nothing was changed then.

        Raises
        ------
        ExecutionNotFoundError
            If the catalog does not hold the execution.
        """
        with self._database.writing() as connection:
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
            row = connection.execute(_SELECT_HOLDER, {"wanted": fragment}).one_or_none()
        if row is None:
            raise execution_not_found(self._database, fragment)
        if claimed.rowcount:
            assert row.lease_expires is not None
            return Claim(fragment, owner, row.lease_token, row.lease_expires)
        return Holder(fragment, row.status, row.owner, row.lease_expires)

    def holds(self, claim: Claim, *, seconds: float) -> bool:
        """Tell whether a claim still counts, and will for so many seconds more; nothing is changed."""
        with self._database.reading() as connection:
            return connection.scalar(_HOLDS, {**_of(claim), "lease": timedelta(seconds=seconds)}) is not None

    def doubtful(self, fragment: str, *, lease_seconds: float | None) -> tuple[str, datetime] | None:
        """Return the owner of a claim whose time cannot be right if its owner lives, and the end of that time.

        It ran out though a living owner would have renewed it, or it holds for longer than the owner's claims do.
        Either the owner is gone, or the clock was set: who renews it is alive.
        """
        with self._database.reading() as connection:
            lease = _EVER if lease_seconds is None else timedelta(seconds=lease_seconds)
            found = connection.execute(_DOUBTFUL, {"of_fragment": fragment, "lease": lease}).one_or_none()
        return None if found is None else (found.owner, found.lease_expires)

    def renew(self, claim: Claim, *, lease_seconds: float) -> Claim:
        """Prolong a claim from now on, also a lapsed one that was not taken over.

        Raises
        ------
        ClaimLostError
            If somebody else has claimed the execution since. Nothing was changed.
        """
        row = _as_owner(self._database, claim, _RENEW, lease=timedelta(seconds=lease_seconds))
        assert row.lease_expires is not None
        return attrs.evolve(claim, expires=row.lease_expires)

    def release(self, claim: Claim, *, to: str, **changes: Unpack[Changes]) -> ExecutionRow:
        """Give a claim back, move the execution to another state, and return it as it is now.

        Raises
        ------
        ClaimLostError
            If somebody else has claimed the execution since. Nothing was changed.
        """
        change = _CHANGE.values({**changes, "status": to, "owner": None, "lease_expires": None})
        return _as_owner(self._database, claim, change)

    def pending(self, statuses: Collection[str], *, claimed: str | None = "pending_upload") -> Query[ExecutionRow]:
        """Return the executions that wait for somebody, oldest first.

        Parameters
        ----------
        statuses
            States in which an execution waits.
        claimed
            The claimed state: those whose owner is gone wait too. None leaves them out.
        """
        waiting: sa.ColumnElement[bool] = execution.c.status.in_(list(statuses))
        if claimed is not None:
            waiting = sa.or_(waiting, sa.and_(execution.c.status == claimed, _IS_FREE))
        oldest_first = (execution.c.created_at.asc().nulls_first(), execution.c.fragment)
        return Query(ExecutionRow, select_executions(waiting).order_by(*oldest_first), self._database)

    def set_dirty(self, provider: str, diagnostic: str, group: str, dirty: bool) -> bool:
        """Say whether a group needs a run; False if the catalog does not hold the group."""
        group_id = surrogate_id("execution_group", provider, diagnostic, group)
        with self._database.writing() as connection:
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
