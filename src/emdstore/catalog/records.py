"""The record that each execution's rows came from, so that a replay reads only what changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any

import attrs
import sqlalchemy as sa

from emdstore.catalog.database import Database
from emdstore.catalog.filters import under
from emdstore.catalog.schema import artifact, execution, release_set
from emdstore.keys import validate_prefix


@attrs.frozen
class RecordStamp:
    """The record that an execution's rows came from.

    Attributes
    ----------
    fragment
        The execution.
    digest
        SHA-256 of the record.
    size, modified, version
        What the store's listing said of the record, as in `ArtifactInfo`; None if not known.
    retracted_at, retracted_by, retraction_reason, superseded_by
        What the set's retraction says, as in `ExecutionRow`.
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
    """The records that were read into one catalog; see `Catalog.records`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, fragments: Collection[str]) -> dict[str, RecordStamp]:
        """Return the record that each of some executions was read from; those without one are left out."""
        rows = self._database.patiently(lambda: self._database.fetch(_STAMPS, fragments=list(fragments)))
        return {row[0]: RecordStamp(*row) for row in rows}

    def below(self, prefix: str = "") -> Iterator[RecordStamp]:
        """Return the record of every execution below a prefix that was read from results."""
        statement = _KNOWN.where(*under(validate_prefix(prefix))).order_by(execution.c.fragment)
        return (RecordStamp(*row) for row in self._database.stream(statement, at_a_time=500))

    def holds(self, digest: str, *, besides: str) -> bool:
        """Tell whether another execution's rows were read from the record with this digest."""
        other = sa.select(execution.c.id).where(
            execution.c.record_digest == digest, execution.c.fragment != besides, execution.c.state != "bare"
        )
        return bool(self._database.fetch(other.limit(1)))

    def sizes(self) -> dict[int, int | None]:
        """Return the bytes of all artifacts of each execution that has some; None if not all sizes are known."""
        of, size = artifact.c.execution_id, artifact.c.size
        statement = sa.select(of, sa.func.sum(size), sa.func.count() - sa.func.count(size)).group_by(of)
        rows = self._database.fetch(statement)
        return {execution_id: None if unknown else int(size) for execution_id, size, unknown in rows}

    def note(self, stamps: Iterable[RecordStamp]) -> None:
        """Store what a listing now says of unchanged records, in one transaction.

        An execution that has another record by now is left alone.
        """
        in_order = sorted(stamps, key=lambda stamp: stamp.fragment)  # the same order everywhere prevents deadlocks
        values = [{f"of_{name}": value for name, value in attrs.asdict(stamp).items()} for stamp in in_order]

        def note() -> None:
            with self._database.writing() as connection:
                connection.execute(_NOTE_STAMP, values)

        self._database.patiently(note)

    def drop(self, fragment: str, *, read_from: str | None = None) -> bool:
        """Remove an execution with everything that belongs to it. Its group stays.

        Parameters
        ----------
        fragment
            The execution.
        read_from
            Only if its rows still come from the record with this digest, no release names that, and nobody holds a
            claim.

        Returns
        -------
        bool
            False if there was none, or not one like that.
        """
        doomed = sa.delete(execution).where(execution.c.fragment == fragment)
        if read_from is not None:
            released = sa.exists().where(release_set.c.fragment == fragment, release_set.c.record_digest == read_from)
            doomed = doomed.where(execution.c.record_digest == read_from, execution.c.owner.is_(None), ~released)
        with self._database.writing() as connection:
            return bool(connection.execute(doomed).rowcount)
