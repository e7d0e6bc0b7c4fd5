"""The event log of a results store: news of what was published, retracted, released and removed there.

An event is news, and proves nothing: records and retractions are the truth, and whoever acts on an event reads them. So
a lost event costs time and no results. It never fails what it tells of, and a listing of the whole store, now and then,
finds what no event told of.

A store has a log from the moment that it has an identity: when a workspace first publishes to it, or `begin_log` is
called; and until `end_log` is called, which its identity says. The entries of the log are create-once files named
``.emdstore/events/ID/DAY/TIME-TOKEN.json``, with the identity of the store; an entry holds the events of one writer. A
copy of a store has an identity and a log of its own; that of the original lies beside it and is not mixed up with it.

Names sort by the clocks of the writers, which may be wrong. What proves an order is in the store: of the records of one
set the higher ``generation`` is the later one, and ``replaces`` names the one before; of retractions and moves of an
alias, ``at`` always grows. Between different sets there is no order.
"""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Literal, TypeAlias

import attrs
import msgspec

from emdstore import system
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, StoreError
from emdstore.keys import join_key
from emdstore.sets.record import Moment
from emdstore.stores.identity import OWN_FOLDER, StoreIdentity, identity_of, switch_log
from emdstore.stores.port import ArtifactStore, SupportsDelete
from emdstore.stores.replacing import put_over
from emdstore.stores.urls import StoreLike, as_source, as_store
from emdstore.versioned import UnreadableError, VersionedDecoder

EVENTS = f"{OWN_FOLDER}/events"
EVENT_VERSION = 1
CURSOR_VERSION = 1

_MOST_IN_ENTRY = 1000
_WRITTEN_AT_ONCE = 200
_OLDEST_SECONDS = 5.0
_DAY = timedelta(days=1)
_CLOCKS_DIFFER = _DAY
"""By how much the clocks of writers and readers may differ, before news is left to the listing of the whole store."""

_log = logging.getLogger(__name__)

Kind: TypeAlias = Literal[
    "published", "repaired", "retracted", "unretracted", "released", "aliased", "removed", "cleaned"
]


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened in a results store.

    Attributes
    ----------
    kind
        ``published`` also for the log of a failed run: the record tells. ``removed``: by its name, a set or a key
        outside of sets. ``cleaned``: a key that no set needs was removed by ``gc --stale`` or ``transfer --delete``.
    name
        The set's folder or the key, the release or the alias.
    at
        When, by the writer's clock.
    record, generation
        Of a published set: the SHA-256 and the generation of its record, as far as the writer knew.
    about
        The reason for a retraction, the note of a release, the release that an alias points at, the repaired artifacts.
    by
        The user and host that wrote the entry.
    id
        The entry's name and the position in it. Whoever is told of an event twice knows it by this.
    """

    kind: Kind
    name: str
    at: Moment
    record: str | None = None
    generation: int | None = None
    about: str = ""
    by: str = ""
    id: str = ""


def make_event(
    kind: Kind, name: str, *, record: str | None = None, generation: int | None = None, about: str = ""
) -> Event:
    """Return an event of now."""
    now = system.current().now()
    return Event(kind=kind, name=name, at=now, record=record, generation=generation, about=about)


def announce(store: ArtifactStore, events: Iterable[Event]) -> None:
    """Write events into the log of a store, if it keeps one: one small put for up to 1,000 events.

    Call it after what it tells of. It never raises: what cannot be written is logged, and lost.

    Parameters
    ----------
    store
        The whole results store.
    events
        The events.
    """
    told = iter(events)
    here: StoreIdentity | None = None
    try:
        while some := tuple(islice(told, _MOST_IN_ENTRY)):
            here = here or identity_of(store)
            if here.id is None or not here.keeps_log:
                return
            now, token = system.current().now().astimezone(UTC), system.current().token(4)
            key = f"{EVENTS}/{here.id}/{now:%Y-%m-%d/%H%M%S.%fZ}-{token}.json"
            put_over(store, key, _encoder.encode(_Entry(by=whoever_says_so(), events=some)) + b"\n", None)
    except Exception as error:  # noqa: BLE001 - whatever it is, the work that it tells of is done
        _log.warning("events were lost: %s", error, extra={"store": repr(store), "error": type(error).__name__})


class News:
    """The events of work that makes many, written some at a time; the last ones when the block ends, however it ends.

    Parameters
    ----------
    store
        The whole results store.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._kept: list[Event] = []
        self._since = system.current().monotonic()

    def __enter__(self) -> News:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, events: Iterable[Event]) -> None:
        """Take events, and write what has gathered if that is much, or old."""
        self._kept += events
        if len(self._kept) >= _WRITTEN_AT_ONCE or system.current().monotonic() - self._since > _OLDEST_SECONDS:
            self._write()

    def _write(self) -> None:
        announce(self._store, self._kept)
        self._kept, self._since = [], system.current().monotonic()


def begin_log(store: StoreLike) -> str:
    """Have a store keep a log from now on, and return its identity, which it gets if it has none.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    return _switch(as_store(store), on=True)


def end_log(store: StoreLike) -> str:
    """Have a store keep no log from now on, whoever publishes to it, and return its identity. Its entries stay.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    return _switch(as_store(store), on=False)


def _switch(store: ArtifactStore, *, on: bool) -> str:
    number = switch_log(store, on).id
    if number is None:
        raise StoreError(f"{store!r} could not be given an identity: may it be written?", store=repr(store))
    return number


def read_events(
    store: StoreLike,
    since: datetime | None = None,
    *,
    unreadable: Callable[[EmdstoreError], object] | None = None,
) -> Iterator[Event]:
    """Yield the events of a store, sorted by the names of their entries.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    since
        Only events from then on.
    unreadable
        Called with the error for an entry that cannot be read; without it the error is raised.

    Raises
    ------
    StoreError
        If the store cannot be listed, or an entry cannot be read.
    """
    opened = as_source(store)
    number = identity_of(opened).id
    if number is not None:
        for key in _entries(opened, number, since):
            for event in _read(opened, key, unreadable):
                if since is None or event.at >= since:
                    yield event


def trim_events(store: StoreLike, before: datetime) -> int:
    """Remove the entries of days before a time; return how many. Nothing else depends on them.

    Raises
    ------
    StoreError
        If the store can remove nothing, or an entry cannot be removed.
    """
    opened = as_source(store)
    number = identity_of(opened).id
    if not isinstance(opened, SupportsDelete):
        raise StoreError(f"{opened!r} can remove nothing", store=repr(opened))
    first_kept = f"{before.astimezone(UTC):%Y-%m-%d}"
    old = [] if number is None else [key for key in _entries(opened, number, None) if key.split("/")[3] < first_kept]
    for key in old:
        opened.delete(key)
    return len(old)


@attrs.frozen
class EventCursor:
    """How far somebody has read the log of a store, so that they can go on from there later: see `Follower`.

    One event is not enough to go on from: entries appear late, and are named by clocks that may be wrong. So it holds
    which entries of the last days were read. As it is made, nothing was read yet.

    Attributes
    ----------
    store
        The identity of the store; None if it had none.
    read_at
        When the log was read; None: never.
    seen
        The entries that were read then, of those that will be looked at again.
    """

    store: str | None = None
    read_at: datetime | None = None
    seen: frozenset[str] = frozenset()
    cursor_version: int = CURSOR_VERSION

    def encode(self) -> bytes:
        """Return it as JSON, to be kept."""
        return msgspec.json.encode(self, order="deterministic") + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> EventCursor:
        """Return what `encode` has made of one.

        Raises
        ------
        StoreError
            If it is something else, or a newer emdstore made it.
        """
        try:
            return _cursor_decoder.decode(data, key="the cursor")
        except UnreadableError as error:
            raise StoreError(f"this is no cursor of an event log ({error}): begin without it") from error


class Follower:
    """Tells what is new in a store's log, again and again.

    Each call lists the entries of the last days. Entries that appear late, or are named by a clock that is up to a day
    wrong, are told all the same.

    Parameters
    ----------
    store
        The results store.
    since
        Begin with the events since then; by default with what is written from the first call on.
    cursor
        Go on from there instead; an `EventCursor()` begins with the first event of the log.
    unreadable
        See `read_events`.
    """

    def __init__(
        self,
        store: ArtifactStore,
        since: datetime | None = None,
        *,
        cursor: EventCursor | None = None,
        unreadable: Callable[[EmdstoreError], object] | None = None,
    ) -> None:
        self.store = store
        """Another handle of the same store may take its place."""
        self._since, self._unreadable = since, unreadable
        self.cursor = cursor
        """How far the log is read; None before the first call. Save it after the events are handled."""
        self.has_log = False
        """Whether the last call has found that a log is kept there."""

    def news(self) -> list[Event]:
        """Return the events that no call has returned before.

        Raises
        ------
        StoreError
            If the store cannot be read, or is another one than before. The next call returns what this one would have.
        """
        here, now, cursor = identity_of(self.store), system.current().now(), self.cursor
        if cursor is None:
            cursor, since, tells = EventCursor(read_at=self._since or now), self._since, self._since is not None
        else:
            since, tells = None, True
        if cursor.store not in (None, here.id):
            raise StoreError(
                f"{self.store!r} is another store than the one whose events were read until now: is it mounted?",
                store=repr(self.store),
            )
        begin = None if cursor.read_at is None else cursor.read_at - _CLOCKS_DIFFER
        keys = [] if here.id is None else list(_entries(self.store, here.id, begin))
        told: list[Event] = []
        for key in keys:
            if tells and _name_of(key) not in cursor.seen:
                events = _read(self.store, key, self._unreadable)
                told += (each for each in events if since is None or each.at >= since)
        begun = here.id is not None and (self.has_log or bool(keys) or _is_begun(self.store, here.id))
        self.has_log = begun and here.keeps_log
        again = _day_of(now - _CLOCKS_DIFFER).isoformat()
        self.cursor = EventCursor(here.id, now, frozenset(name for name in map(_name_of, keys) if name >= again))
        return told


def _entries(store: ArtifactStore, number: str, since: datetime | None) -> Iterator[str]:
    """Yield the keys of a log's entries, sorted, from a day on."""
    folder = join_key(EVENTS, number)
    if since is None:
        yield from store.iter_keys(folder)
        return
    day, last = _day_of(since), _day_of(system.current().now() + _CLOCKS_DIFFER)
    while day <= last:
        yield from store.iter_keys(join_key(folder, day.isoformat()))
        day += _DAY


def _name_of(key: str) -> str:
    return "/".join(key.split("/")[3:]).removesuffix(".json")


def _is_begun(store: ArtifactStore, number: str) -> bool:
    return next(iter(store.iter_keys(join_key(EVENTS, number))), None) is not None


def _day_of(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _read(store: ArtifactStore, key: str, unreadable: Callable[[EmdstoreError], object] | None) -> Sequence[Event]:
    try:
        data = store.read_bytes(key)
    except ArtifactNotFoundError:
        return ()  # trimmed meanwhile
    if not data:
        return ()  # the power was cut before it was on the disk
    try:
        entry = _decoder.decode(data, key=key)
    except UnreadableError as error:
        wrong: EmdstoreError = StoreError(
            f"{key!r} is no entry of an event log ({error}): remove it; `emdstore replay` finds what it told of",
            key=key,
        )
    except StoreError as error:
        wrong = error
    else:
        return [attrs.evolve(each, by=entry.by, id=f"{_name_of(key)}/{at}") for at, each in enumerate(entry.events)]
    if unreadable is None:
        raise wrong
    unreadable(wrong)
    return ()


def whoever_says_so() -> str:
    """Return the user and the host, the default for who says something."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = str(os.getuid())
    return f"{user}@{system.current().host()}"


@attrs.frozen(kw_only=True)
class _Entry:
    by: str
    events: tuple[Event, ...]
    event_version: int = EVENT_VERSION


_encoder = msgspec.json.Encoder()
_decoder = VersionedDecoder(_Entry, "event_version", EVENT_VERSION, StoreError)
_cursor_decoder = VersionedDecoder(EventCursor, "cursor_version", CURSOR_VERSION, StoreError)
