"""Which record each execution's rows came from: what a replay asks, so that it reads again only what changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any

import attrs
import sqlalchemy as sa

from emdstore.catalog.database import Database
from emdstore.catalog.queries import under
from emdstore.catalog.schema import execution
from emdstore.keys import validate_prefix


@attrs.frozen
class RecordStamp:
    """Which record an execution's rows came from.

    Attributes
    ----------
    fragment
        The execution.
    digest
        SHA-256 of the record.
    size, modified, version
        What the store's listing said of the record then, as `ArtifactInfo` has it; None where it was not noted.
    retracted_at, retracted_by, retraction_reason, superseded_by
        What the set's retraction says, as `ExecutionRow` has it.
    """

    fragment: str
    digest: str
    size: int | None
    modified: float | None
    version: str | None
    retracted_at: datetime | None = None
    retracted_by: str | None = None
    retraction_reason: str | None = None
    superseded_by: str | None = None


_RETRACTION = ("retracted_at", "retracted_by", "retraction_reason", "superseded_by")
_KNOWN: sa.Select[Any] = sa.select(
    *(execution.c[name if name in execution.c else f"record_{name}"] for name in attrs.fields_dict(RecordStamp))
).where(execution.c.record_digest.is_not(None))
_STAMPS = _KNOWN.where(execution.c.fragment.in_(sa.bindparam("fragments", expanding=True)))


_NOTE_STAMP = (
    sa.update(execution)
    .where(execution.c.fragment == sa.bindparam("of_fragment"), execution.c.record_digest == sa.bindparam("of_digest"))
    .values({f"record_{name}": sa.bindparam(f"of_{name}") for name in ("size", "modified", "version")})
    .values({name: sa.bindparam(f"of_{name}", type_=execution.c[name].type) for name in _RETRACTION})
)


class Records:
    """Which records were read into one catalog; see `Catalog.records`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, fragments: Collection[str]) -> dict[str, RecordStamp]:
        """Return, for some executions at once, which record each was read from; those that have none are left out."""
        rows = self._database.patiently(lambda: self._database.fetch(_STAMPS, fragments=list(fragments)))
        return {row[0]: RecordStamp(*row) for row in rows}

    def below(self, prefix: str = "") -> Iterator[RecordStamp]:
        """Return, for every execution below a prefix that was read from results, which record that was."""
        statement = _KNOWN.where(*under(validate_prefix(prefix))).order_by(execution.c.fragment)
        return (RecordStamp(*row) for row in self._database.stream(statement, at_a_time=500))

    def holds(self, digest: str, *, besides: str) -> bool:
        """Tell whether rows of another execution than this one were read from the record with this digest."""
        other = sa.select(execution.c.id).where(
            execution.c.record_digest == digest, execution.c.fragment != besides, execution.c.state != "bare"
        )
        return bool(self._database.fetch(other.limit(1)))

    def note(self, stamps: Iterable[RecordStamp]) -> None:
        """Note what a listing says now of records that are the same as before, in one transaction.

        An execution whose record is another one by now is left as it is.
        """
        in_order = sorted(stamps, key=lambda stamp: stamp.fragment)  # as everyone does it, so that nobody deadlocks
        values = [{f"of_{name}": value for name, value in attrs.asdict(stamp).items()} for stamp in in_order]

        def note() -> None:
            with self._database.writing() as connection:
                connection.execute(_NOTE_STAMP, values)

        self._database.patiently(note)

    def drop(self, fragment: str, *, read_from: str | None = None) -> bool:
        """Remove an execution and all that belongs to it. Its group stays.

        Parameters
        ----------
        fragment
            The execution.
        read_from
            Only if its rows are still those of the record with this digest, and no claim is held.

        Returns
        -------
        bool
            False if there was none, or none like that.
        """
        doomed = sa.delete(execution).where(execution.c.fragment == fragment)
        if read_from is not None:
            doomed = doomed.where(execution.c.record_digest == read_from, execution.c.owner.is_(None))
        with self._database.writing() as connection:
            return bool(connection.execute(doomed).rowcount)
