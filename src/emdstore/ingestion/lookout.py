"""Which sets a catalog that is kept up to date has to look at: those that events tell of, and rarely all of them."""

from __future__ import annotations

import logging

from emdstore import system
from emdstore.catalog import Catalog
from emdstore.errors import StoreError
from emdstore.ingestion.replay_report import ReplayReport
from emdstore.keys import is_valid_key
from emdstore.sets.events import Follower
from emdstore.stores.identity import identity_of
from emdstore.stores.port import ArtifactStore

_log = logging.getLogger(__name__)

_OF_SETS = ("published", "repaired", "retracted", "unretracted", "removed")
_PASSING = ("publishing", "changed", "unreadable")


class Lookout:
    """What the next replay of a store has to look at.

    Events may be missing: of writers that were killed, of those who copy files by other means, of older versions of
    emdstore. So all of the store is listed as well: the first time, when so many seconds have passed, after a failure,
    and always where nobody writes a log.

    Parameters
    ----------
    list_every
        After how many seconds to list all of the store again.
    """

    def __init__(self, list_every: float) -> None:
        self._list_every = list_every
        self._follower: Follower | None = None
        self._identity: str | None = None
        self._listed_at: float | None = None
        self._began = 0.0
        self._waiting: frozenset[str] = frozenset()

    def due(self, store: ArtifactStore, catalog: Catalog) -> frozenset[str] | None:
        """Return the folders of the sets to look at; None for all of the store.

        Until `done` is called, the next call returns them again.

        Raises
        ------
        StoreError
            If nobody can tell which store it is.
        """
        self._began = system.current().monotonic()
        number = identity_of(store).id
        if self._follower is None or number != self._identity:
            self._follower, self._identity, self._listed_at = Follower(store), number, None
        self._follower.store = store
        try:
            # What comes after this is news the next time, even if all of the store is listed now.
            told = self._follower.news()
        except StoreError as error:
            _log.warning("the event log cannot be read, so all is listed: %s", error, extra={"store": repr(store)})
            return None
        self._waiting |= {each.name for each in told if each.kind in _OF_SETS and is_valid_key(each.name)}
        is_due = self._listed_at is None or self._began - self._listed_at >= self._list_every
        if is_due or not self._follower.has_log or catalog.replays.last() is None:
            return None
        return self._waiting

    def done(self, report: ReplayReport, *, only: frozenset[str] | None) -> None:
        """Note what a replay of what was due has done; what may be in order soon is due again."""
        if only is None:
            self._listed_at, self._waiting = self._began, frozenset()
        else:
            self._waiting = frozenset(each.fragment for each in report.failures if each.state in _PASSING)
