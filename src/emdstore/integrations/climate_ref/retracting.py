"""Retracting in a results store what is retracted in Climate-REF's database; `replay` does the opposite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import sqlalchemy as sa
from climate_ref.models.execution import Execution
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from emdstore.errors import EmdstoreError
from emdstore.integrations.climate_ref.opening import engine_of, look_at, refused
from emdstore.sets.retraction import expect_set, read_retraction, retract, unretract
from emdstore.stores import ArtifactStore
from emdstore.stores.urls import StoreLike, as_source

if TYPE_CHECKING:
    from climate_ref.database import Database

REASON = "retracted in Climate-REF's database"


@attrs.frozen
class NotCarried:
    """A set that could not be retracted, and why."""

    fragment: str
    error: EmdstoreError = attrs.field(eq=str)


@attrs.frozen(kw_only=True)
class CarriedRetractions:
    """What `carry_retractions` did, or would do.

    Attributes
    ----------
    retracted, taken_back
        The sets that were retracted, and those whose retraction was taken back.
    unchanged
        How many were retracted already.
    failed
        Sets that are flagged and not in the store, or could not be retracted.
    dry_run
        Whether nothing was written.
    """

    retracted: tuple[str, ...] = ()
    taken_back: tuple[str, ...] = ()
    unchanged: int = 0
    failed: tuple[NotCarried, ...] = ()
    dry_run: bool = False

    @property
    def ok(self) -> bool:
        """Whether all flagged sets are retracted in the store."""
        return not self.failed

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        failed = [{"fragment": each.fragment, "error": str(each.error)} for each in self.failed]
        return attrs.asdict(self, recurse=False) | {"failed": failed}


def carry_retractions(
    database: Database | str | Path,
    store: StoreLike,
    *,
    reason: str = REASON,
    by: str | None = None,
    take_back: bool = False,
    dry_run: bool = False,
) -> CarriedRetractions:
    """Retract in a results store the sets of the executions that Climate-REF's database flags as retracted.

    Each gets a retraction as `retract` writes it; an existing one is kept. A failure does not stop the others.

    Parameters
    ----------
    database
        Climate-REF's database, or its URL or SQLite file. It is only read.
    store
        The results store, a path or a URL.
    reason, by
        See `retract`.
    take_back
        Also take back the retractions of sets whose executions are not flagged. Replay first, because a database does
        not flag a retraction that it does not know.
    dry_run
        Only tell.

    Returns
    -------
    CarriedRetractions
        With the sets that were retracted or taken back, and those that failed.

    Raises
    ------
    CatalogError
        If the database cannot be used, or has an unknown version (`CatalogVersionError`).
    StoreError
        If the store cannot be opened.
    """
    results = as_source(store)
    done = CarriedRetractions(dry_run=dry_run)
    for fragment, flagged in _flags(database, everything=take_back):
        try:
            done = _carry(done, results, fragment, flagged, reason, by)
        except EmdstoreError as error:
            done = attrs.evolve(done, failed=(*done.failed, NotCarried(fragment, error)))
    return done


def _carry(
    done: CarriedRetractions, results: ArtifactStore, fragment: str, flagged: bool, reason: str, by: str | None
) -> CarriedRetractions:
    is_retracted = read_retraction(results, fragment) is not None
    if flagged == is_retracted:
        return attrs.evolve(done, unchanged=done.unchanged + flagged)
    if flagged:
        expect_set(results, fragment)
        if not done.dry_run:
            retract(results, fragment, reason=reason, by=by)
        return attrs.evolve(done, retracted=(*done.retracted, fragment))
    if not done.dry_run:
        unretract(results, fragment, reason="not retracted any more in Climate-REF's database", by=by)
    return attrs.evolve(done, taken_back=(*done.taken_back, fragment))


def _flags(database: Database | str | Path, *, everything: bool) -> list[tuple[str, bool]]:
    """Return the folders of the flagged executions, or of all, in order."""
    wanted = sa.select(Execution.output_fragment, Execution.retracted).order_by(Execution.output_fragment)
    if not everything:
        wanted = wanted.where(Execution.retracted.is_(True))
    with engine_of(database) as engine:
        look_at(engine)
        try:
            with Session(engine) as session:
                return [(fragment, flagged) for fragment, flagged in session.execute(wanted)]
        except SQLAlchemyError as error:
            raise refused(engine, error) from error
