"""Retraction: the statement that a published set must not be used any more, kept beside its record.

It is a separate object, so that the record and every digest stay the same. Whoever cites the set still finds all of it,
and sees that it was retracted. The retraction travels with the set, and a rebuilt catalog knows it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs
import msgspec

from emdstore import system
from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import (
    ArtifactChangedError,
    ArtifactNotFoundError,
    ExecutionNotFoundError,
    RecordError,
    RecordVersionError,
)
from emdstore.keys import join_key, validate_key
from emdstore.sets.events import announce, make_event, whoever_says_so
from emdstore.sets.record import Moment
from emdstore.sets.result import METRIC_NAME
from emdstore.stores.checksums import sha256_of
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.port import ArtifactStore, SupportsFlush
from emdstore.stores.races import races
from emdstore.stores.replacing import put_over
from emdstore.stores.urls import StoreLike, as_source
from emdstore.transfers.seals import overtaken
from emdstore.versioned import UnreadableError, VersionedDecoder

RETRACTION_VERSION = 1
_TICK = timedelta(microseconds=1)


@attrs.frozen(kw_only=True)
class Retraction:
    """Why a set must not be used any more, or that it may be used again.

    Attributes
    ----------
    at
        When this was said.
    reason
        Why, for people.
    by
        Who said it.
    successor
        The fragment of the set to use instead, if there is one.
    retracted
        False if an earlier retraction was taken back. The object stays, so that copies of the set learn of it, too.
    retraction_version
        The version of the format; newer ones are refused.
    """

    at: Moment
    reason: str
    by: str | None = None
    successor: str | None = None
    retracted: bool = True
    retraction_version: int = RETRACTION_VERSION


def retract(
    store: StoreLike, fragment: str, *, reason: str, successor: str | None = None, by: str | None = None
) -> Retraction:
    """Declare that a set in a results store must not be used any more.

    Its record and artifacts do not change. Replay brings the retraction into catalogs, whose queries, exports and pages
    leave the set out unless they are asked for it. The last retraction counts.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    fragment
        The set's folder in it.
    reason
        Why, for people.
    successor
        The fragment of the set to use instead; it may be in another store.
    by
        Who retracts it; by default the user and the host.

    Returns
    -------
    Retraction
        What was written.

    Raises
    ------
    ExecutionNotFoundError
        If there is no set in the folder.
    ValueError
        If there is no reason, or the set would be its own successor; `InvalidKeyError` if the successor is not a
        fragment.
    RecordVersionError
        If a newer emdstore wrote the retraction that is there.
    OvertakenError
        If somebody else has written another one meanwhile, with a later time.
    StoreError
        If the store cannot be written. Nothing was changed.
    """
    if not reason.strip():
        raise ValueError("a retraction needs a reason: those who used the set will want to know")
    if successor is not None and validate_key(successor) == fragment:
        raise ValueError(f"{fragment!r} cannot be its own successor")
    return _say(
        as_source(store),
        fragment,
        Retraction(at=_now(), reason=reason, by=by or whoever_says_so(), successor=successor),
    )


def unretract(store: StoreLike, fragment: str, *, reason: str = "", by: str | None = None) -> Retraction | None:
    """Take a set's retraction back.

    Parameters
    ----------
    store, fragment, by
        See `retract`.
    reason
        Why, for people.

    Returns
    -------
    Retraction | None
        The retraction that was taken back. None if the set was not retracted; then nothing is written.

    Raises
    ------
    ExecutionNotFoundError, RecordError, StoreError
        See `retract`. Nothing was changed.
    """
    results = as_source(store)
    before = read_retraction(results, fragment)
    if before is None:
        expect_set(results, fragment)
    else:
        _say(results, fragment, Retraction(at=_now(), reason=reason, by=by or whoever_says_so(), retracted=False))
    return before


def read_retraction(store: StoreLike, fragment: str) -> Retraction | None:
    """Return the retraction of a set; None if it has none, or it was taken back.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    fragment
        The set's folder in it; ``""`` if the store is that folder.

    Raises
    ------
    RecordError
        If it cannot be read as one; `RecordVersionError` if a newer emdstore wrote it.
    StoreError
        If the store cannot be read.
    """
    said = last_word(as_source(store), fragment)
    return said if said is not None and said.retracted else None


def last_word(store: ArtifactStore, fragment: str) -> Retraction | None:
    """Return the last statement, even if it takes a retraction back; see `read_retraction`."""
    key = join_key(fragment, RETRACTION_NAME)
    try:
        data = store.read_bytes(key)
    except ArtifactNotFoundError:
        return None
    return decode_retraction(data, name=key)


def decode_retraction(data: bytes, *, name: str = RETRACTION_NAME) -> Retraction:
    """Read and check a retraction.

    Parameters
    ----------
    data
        The file's bytes.
    name
        What to call it in errors.

    Raises
    ------
    RecordVersionError
        If a newer emdstore wrote it.
    RecordError
        If it is not a retraction; the message says what is wrong.
    """
    try:
        return _retraction.decode(data, key=name)
    except UnreadableError as error:
        raise RecordError(
            f"{name!r} says that its set is retracted, and cannot be read ({error}): say it again with `emdstore "
            "retract`, or copy it from another store",
            key=name,
        ) from None


def expect_set(store: ArtifactStore, fragment: str) -> None:
    """Raise `ExecutionNotFoundError` if there is no set in a folder."""
    if not any(store.exists(join_key(fragment, name)) for name in (RECORD_NAME, METRIC_NAME)):
        raise ExecutionNotFoundError(
            f"no set at {fragment!r} in {store!r}: neither a record ({RECORD_NAME}) nor a metric bundle", key=fragment
        )


def _say(store: ArtifactStore, fragment: str, word: Retraction) -> Retraction:
    expect_set(store, fragment)
    key = join_key(fragment, RETRACTION_NAME)
    for attempt in races():
        data, before = _said(store, key)
        if before is not None and before.at >= word.at:
            if attempt:  # it was written after this one, whose writer was halted
                raise overtaken(fragment, store)
            word = attrs.evolve(word, at=before.at + _TICK)  # by a clock that is ahead of ours
        try:
            encoded = msgspec.json.format(msgspec.json.encode(word)) + b"\n"
            put_over(_lasting(store), key, encoded, None if data is None else sha256_of(data))
            break
        except ArtifactChangedError:
            continue
    else:
        raise overtaken(fragment, store)
    if isinstance(store, SupportsFlush):
        store.flush()
    announce(store, [make_event("retracted" if word.retracted else "unretracted", fragment, about=word.reason)])
    return word


def _lasting(store: ArtifactStore) -> ArtifactStore:
    """Return a store of files as one where bytes are on the disk before they have their name.

    Then a power cut leaves this word or the one before, and nothing that cannot be read. For records that would be
    dear, and they can be written again.
    """
    return attrs.evolve(store, durability="object") if isinstance(store, LocalArtifactStore) else store


def _said(store: ArtifactStore, key: str) -> tuple[bytes | None, Retraction | None]:
    """Return the bytes that are there, and their meaning: None if they cannot be read, and then they may be
    replaced.
    """
    try:
        data = store.read_bytes(key)
    except ArtifactNotFoundError:
        return None, None
    try:
        return data, decode_retraction(data, name=key)
    except RecordVersionError:
        raise
    except RecordError:
        return data, None


def _now() -> datetime:
    return system.current().now()


_retraction = VersionedDecoder(Retraction, "retraction_version", RETRACTION_VERSION, RecordVersionError)
