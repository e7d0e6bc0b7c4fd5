"""Removing from a mirror what its source does not hold any more, as far as it is proved to be a leftover.

A set is never removed here: published work becomes less only when someone asks for it by name (P4). What may go is what
belongs to no set of the mirror, nor to a folder that looks like one that is not whole, and what lies in a set's folder
but is named by no record, neither the one that is there nor one before it (P2). Each is looked at once more at the time
of its removal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

import attrs

from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import EmdstoreError, PruneRefusedError, RecordError, UnsupportedError
from emdstore.keys import join_key
from emdstore.selection import folders_above
from emdstore.sets.events import News, make_event
from emdstore.sets.finding import find_sets
from emdstore.sets.record import decode_record
from emdstore.sets.result import LOG_NAME, METRIC_NAME, OUTPUT_NAME, SERIES_NAME
from emdstore.stores.checksums import sha256_of
from emdstore.stores.identity import is_own
from emdstore.stores.port import ArtifactStore, LeftOut, SupportsDelete
from emdstore.stores.urls import StoreLike, as_source, as_store
from emdstore.transfers import digest_of, move
from emdstore.transfers.patience import patiently
from emdstore.transfers.plan import pairs_of

_LEFT_BY_RUNS = (METRIC_NAME, OUTPUT_NAME, SERIES_NAME, LOG_NAME, RETRACTION_NAME)


@attrs.frozen
class Leftover:
    """A key that a mirror holds and its source does not.

    Attributes
    ----------
    key
        The key.
    size
        Bytes, where the store tells.
    folder
        The set in whose folder it lies, named by no record; None outside of sets.
    record
        The SHA-256 of that set's record.
    """

    key: str
    size: int | None = None
    folder: str | None = None
    record: str | None = None


@attrs.frozen
class Leftovers:
    """What a mirror holds and its source does not.

    Attributes
    ----------
    removable
        Proved to be leftovers.
    kept
        What stays, with the reason: whole sets, and what a record names.
    held
        How many keys the mirror holds.
    """

    removable: tuple[Leftover, ...]
    kept: dict[str, str]
    held: int


def find_leftovers(source: StoreLike, mirror: StoreLike) -> Leftovers:
    """Find what a mirror holds and its source does not, and decide what of it is a leftover. Nothing is changed.

    Parameters
    ----------
    source, mirror
        Two stores, paths or URLs.

    Raises
    ------
    PruneRefusedError
        If the source holds nothing, or something in it cannot be read: what is missing may only be hidden.
    StoreError
        If a store cannot be listed.
    """
    origin, copy = as_source(source), as_store(mirror)
    hidden: list[LeftOut] = []
    sets = {each.location: each.published for each in find_sets(copy)}
    records, runs = MirrorRecords(copy, sets), _Runs(copy)
    removable: list[Leftover] = []
    kept: dict[str, str] = {}
    held = at_source = 0
    for pair in pairs_of(origin, copy, hidden.append, whole=True):
        held += pair.there
        at_source += pair.here
        if pair.here or is_own(pair.key):
            continue
        folder = next((each for each in (*folders_above(pair.key), "") if each in sets), None)
        size = None if pair.dest is None else pair.dest.size
        if folder is None and (run := runs.around(pair.key)) is not None:
            kept[pair.key] = f"{run or 'the store'!r} looks like the folder of a set that is not whole"
        elif folder is None:
            removable.append(Leftover(pair.key, size))
        elif not _holds_set(origin, folder):
            kept[folder] = "the source does not hold this set any more: a set is removed only by its name"
        elif (reason := records.names(folder, pair.key)) is not None:
            kept[pair.key] = reason
        else:
            removable.append(Leftover(pair.key, size, folder, records.digest(folder)))
    if not at_source or hidden:
        why = f"something in it cannot be read ({hidden[0].name})" if hidden else "it holds nothing"
        raise PruneRefusedError(f"nothing is removed that {origin!r} lacks: {why}", store=repr(origin))
    return Leftovers(tuple(removable), kept, held)


def refuse_too_many(leftovers: Leftovers, most: int | None) -> None:
    """Refuse to remove more than somebody allows or, if nobody said how many, more than half of what is there.

    Raises
    ------
    PruneRefusedError
        Nothing was removed.
    """
    count = len(leftovers.removable)
    if most is None and 2 * count > leftovers.held:
        raise PruneRefusedError(
            f"{count} of {leftovers.held} keys would be removed: is the source mounted, and the right one? None was "
            "removed; allow as many by --max-delete if they are to go all the same"
        )
    if most is not None and count > most:
        raise PruneRefusedError(f"{count} keys would be removed, and --max-delete allows {most}: none was removed")


def remove_leftovers(
    source: StoreLike,
    mirror: StoreLike,
    leftovers: Collection[Leftover],
    *,
    backup: StoreLike | None = None,
    on_removed: Callable[[Leftover], object] | None = None,
) -> Iterator[tuple[Leftover, EmdstoreError]]:
    """Remove leftovers, each after another look: the source still lacks it, and no record names it now either.

    Parameters
    ----------
    source, mirror
        As for `find_leftovers`.
    leftovers
        What it has found.
    backup
        A store to which each is copied first; what does not arrive there with its digest stays.
    on_removed
        Called with each that is gone.

    Yields
    ------
    tuple
        What was not removed, and why.

    Raises
    ------
    UnsupportedError
        If the mirror can remove nothing. Nothing was removed.
    """
    origin, copy = as_source(source), as_store(mirror)
    if not isinstance(copy, SupportsDelete):
        raise UnsupportedError(f"{copy!r} can remove nothing", store=repr(copy))
    aside = None if backup is None else as_store(backup)
    with News(copy) as news:
        for each in leftovers:
            try:
                _look_again(origin, copy, each)
                if aside is not None:
                    _back_up(copy, aside, each.key)
                copy.delete(each.key)
            except EmdstoreError as error:
                yield each, error
            else:
                news.add([make_event("cleaned", each.key)])
                if on_removed is not None:
                    on_removed(each)


def _look_again(source: ArtifactStore, mirror: ArtifactStore, leftover: Leftover) -> None:
    if patiently(lambda: source.exists(leftover.key), source):
        raise PruneRefusedError(f"{leftover.key!r} is at the source again: it stays", key=leftover.key)
    if set_around(mirror, leftover.key) != (leftover.folder, leftover.record):
        raise PruneRefusedError(
            f"{leftover.key!r} lies in a set that came, went or changed meanwhile: it stays", key=leftover.key
        )


def set_around(store: ArtifactStore, key: str) -> tuple[str | None, str | None]:
    """Return the set in whose folder a key lies now, and the SHA-256 of its record; None for a bare one's."""
    for folder in (*folders_above(key), ""):
        record = join_key(folder, RECORD_NAME)
        if patiently(partial(store.exists, record), store):
            return folder, sha256_of(patiently(partial(store.read_bytes, record), store))
    return _Runs(store).around(key), None


def _back_up(mirror: ArtifactStore, aside: ArtifactStore, key: str) -> None:
    move(mirror, aside, [key], unchanged="digest").raise_for_failures()
    if digest_of(mirror, key) != digest_of(aside, key):
        raise PruneRefusedError(f"the backup of {key!r} is not what it was made from: it stays", key=key)


def _holds_set(source: ArtifactStore, folder: str) -> bool:
    return patiently(lambda: source.exists(join_key(folder, RECORD_NAME)), source)


class _Runs:
    """The folders of a store that hold what a run leaves; each is looked at once."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._known: dict[str, bool] = {}

    def around(self, key: str) -> str | None:
        """Return the folder of a run in which a key lies; None if it lies in none."""
        return next((folder for folder in (*folders_above(key), "") if self._is_run(folder)), None)

    def _is_run(self, folder: str) -> bool:
        if folder not in self._known:
            names = (join_key(folder, name) for name in _LEFT_BY_RUNS)
            self._known[folder] = any(patiently(partial(self._store.exists, name), self._store) for name in names)
        return self._known[folder]


class MirrorRecords:
    """The records of a store's sets, each read once."""

    def __init__(self, mirror: ArtifactStore, sets: dict[str, bool]) -> None:
        self._mirror, self._sets = mirror, sets
        self._folder: str | None = None
        self._named: frozenset[str] = frozenset()
        self._before: frozenset[str] = frozenset()
        self._digest = ""
        self._doubt: str | None = None

    def digest(self, folder: str) -> str:
        """Return the SHA-256 of a set's record."""
        self._read(folder)
        return self._digest

    def names(self, folder: str, key: str, *, only_now: bool = False) -> str | None:
        """Tell why a key in a set's folder is no leftover; None if no record names it, nor one before if it counts."""
        if not self._sets[folder]:
            return "its set has no record that would tell what belongs to it"
        self._read(folder)
        if self._doubt is not None:
            return self._doubt
        inside = key[len(folder) + 1 :] if folder else key
        if inside in self._before:
            return None if only_now else "a record that was replaced names it"
        return "the record names it" if inside in self._named else None

    def _read(self, folder: str) -> None:
        if folder == self._folder:
            return
        at = join_key(folder, RECORD_NAME)
        data = patiently(lambda: self._mirror.read_bytes(at), self._mirror)
        self._folder, self._digest, self._doubt = folder, sha256_of(data), None
        try:
            record = decode_record(data, name=at)
        except RecordError as error:
            self._doubt = f"the record of its set cannot be read: {error}"
            return
        if record.state not in ("published", "failed", "incomplete"):
            self._doubt = f"its set is not settled (state {record.state})"
        artifacts = (each.key for each in record.artifacts)
        self._named = frozenset({RECORD_NAME, RETRACTION_NAME, *artifacts, *record.missing, *record.unreadable})
        self._before = frozenset(record.superseded) - self._named
