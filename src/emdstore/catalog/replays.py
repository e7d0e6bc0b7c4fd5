"""When a catalog was last brought up to date with its results store."""

from __future__ import annotations

from datetime import datetime

import attrs
import sqlalchemy as sa

from emdstore.catalog.database import Database
from emdstore.catalog.schema import last_replay


@attrs.frozen
class ReplayNote:
    """The last replay that came to its end.

    Attributes
    ----------
    at
        When it ended.
    seconds
        How long it took.
    sets
        How many sets it found.
    failed
        How many of them were not loaded.
    prefix
        The folder that it looked at; ``""`` for all of the store.
    whole
        Whether it looked at all sets there.
    """

    at: datetime
    seconds: float
    sets: int
    failed: int
    prefix: str = ""
    whole: bool = True


_FORGET, _KEEP = sa.delete(last_replay), sa.insert(last_replay)


class Replays:
    """The replays that a catalog remembers; see `Catalog.replays`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, replay: ReplayNote) -> None:
        """Remember a replay that has ended, in place of the previous one."""

        def put() -> None:
            with self._database.replacing(last_replay) as connection:
                connection.execute(_FORGET)
                connection.execute(_KEEP, {"id": 1, **attrs.asdict(replay)})

        self._database.patiently(put)

    def last(self) -> ReplayNote | None:
        """Return the last one; None if there was none yet."""
        columns = [last_replay.c[field.name] for field in attrs.fields(ReplayNote)]
        rows = self._database.fetch(sa.select(*columns))
        return ReplayNote(*rows[0]) if rows else None
