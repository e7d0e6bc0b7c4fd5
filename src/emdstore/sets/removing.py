"""Removing a set, or one key, from a store by its name (P4), as far as it is proved that nothing is lost (P2).

The bytes of a set go only if another store has them: its record of the set names the same digests, and the bytes that
lie there, all of which are read, have them. While they go, the record says ``publishing`` and plans nothing, so that no
reader takes the set for complete, and the same command goes on after any end. The record goes last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs

from emdstore import system
from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    ArtifactRetainedError,
    ExecutionNotFoundError,
    ReleasedSetError,
    UnsupportedError,
)
from emdstore.keys import join_key, validate_key
from emdstore.sets.events import announce, make_event
from emdstore.sets.finding import find_sets
from emdstore.sets.mirroring import MirrorRecords, set_around
from emdstore.sets.record import ExecutionRecord, encode_record
from emdstore.sets.releasing import Released
from emdstore.sets.result import METRIC_NAME
from emdstore.sets.seal import opened, standing_at
from emdstore.sets.state import SetLook, look_at_set
from emdstore.stores.checksums import sha256_of
from emdstore.stores.identity import OWN_FOLDER, is_own
from emdstore.stores.port import ArtifactStore, SupportsDelete
from emdstore.stores.urls import StoreLike, as_source, as_store
from emdstore.stores.views import scoped
from emdstore.transfers import digest_of, listing_of
from emdstore.transfers.patience import patiently
from emdstore.transfers.seals import overtaken, write_seal

_FORCE = "--force (force=True) removes it"
_SETTLED = ("published", "failed", "incomplete")
_NAMED = 5


@attrs.frozen
class Doomed:
    """What would be removed under a name, or why it stays.

    Attributes
    ----------
    name
        The key, or the set's folder.
    kind
        ``set`` or ``key``.
    keys
        What goes, in this order.
    bytes
        Their size together, as far as the store tells.
    others
        What lies in the set's folder besides, named by no record; it goes only if that is asked for.
    refusal
        Why all of it stays; None if it may go.
    """

    name: str
    kind: Literal["set", "key"]
    keys: tuple[str, ...] = ()
    bytes: int = 0
    others: tuple[str, ...] = ()
    refusal: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return attrs.asdict(self) | {"keys": list(self.keys), "others": list(self.others)}


@attrs.frozen
class RemovalRules:
    """What may be removed.

    Attributes
    ----------
    copy
        Another store, which must have what goes.
    force
        Also what may be the only copy, what a release names, and sets that are not whole.
    unnamed
        Also what lies in a set's folder and is named by no record.
    """

    copy: ArtifactStore | None = None
    force: bool = False
    unnamed: bool = False


def expand(store: StoreLike, folder: str) -> tuple[list[str], list[str]]:
    """Return the sets in a folder, and the keys in it that belong to none of them."""
    place = as_source(store)
    sets = [each.location for each in find_sets(place, folder)]
    inside = tuple(f"{each}/" for each in sets)
    keys = [key for key in place.iter_keys(folder) if not key.startswith(inside) and not is_own(key)]
    return sets, keys


def plan_removal(store: StoreLike, name: str, rules: RemovalRules = RemovalRules()) -> Doomed:
    """Tell what would be removed under a name, and why it would stay. Nothing is changed; bytes are not read yet.

    Parameters
    ----------
    store
        A store, a path or a URL.
    name
        A set's folder, or a key.
    rules
        What may be removed.

    Raises
    ------
    ArtifactNotFoundError
        If the store has neither such a set nor such a key.
    StoreError
        If it cannot be read.
    """
    place = as_source(store)
    if is_own(validate_key(name)):
        return Doomed(name, "key", refusal="emdstore keeps it for itself")
    if patiently(lambda: place.exists(name), place):
        return _look_at_key(place, name, rules)
    try:
        return _doomed_set(place, look_at_set(place, name), rules)
    except ExecutionNotFoundError:
        raise ArtifactNotFoundError(
            f"{place!r} has no set and no artifact {name!r}", key=name, store=repr(place)
        ) from None


def remove(
    store: StoreLike,
    name: str,
    rules: RemovalRules = RemovalRules(),
    *,
    before_write: Callable[[], object] = lambda: None,
) -> Doomed:
    """Remove a set or a key by its name, after another look at everything.

    Parameters
    ----------
    store, name, rules
        See `plan_removal`.
    before_write
        Called before each step that changes something. What it raises passes through.

    Returns
    -------
    Doomed
        What was removed; with a refusal nothing was.

    Raises
    ------
    ArtifactNotFoundError
        See `plan_removal`.
    OvertakenError
        If somebody else wrote the set meanwhile. What they wrote stays.
    UnsupportedError
        If the store can remove nothing.
    StoreError
        If a store cannot be used. The set is as it was, or visibly open: the same call goes on. If the store retains
        its first artifact (`ArtifactRetainedError`), it is as it was.
    """
    place = as_store(store)
    if not isinstance(place, SupportsDelete):
        raise UnsupportedError(f"{place!r} can remove nothing", store=repr(place))
    doomed = plan_removal(place, name, rules)
    if doomed.refusal is not None:
        return doomed
    if doomed.kind == "key":
        before_write()
        place.delete(name)
    else:
        doomed = _remove_set(place, place, doomed, rules, before_write)
    if doomed.refusal is None:
        announce(place, [make_event("removed", name)])
    return doomed


def _look_at_key(store: ArtifactStore, key: str, rules: RemovalRules) -> Doomed:
    folder, record = set_around(store, key)
    refusal = None
    if folder is not None and record is None and not rules.force:
        refusal = f"{folder or 'the store'!r} looks like the folder of a set that is not whole; {_FORCE}"
    elif folder is not None and record is not None:
        refusal = MirrorRecords(store, {folder: True}).names(folder, key, only_now=rules.force)
        if refusal is not None:
            refusal += f": remove all of {folder!r}" + (
                "" if rules.force else f", or, if nobody needs it, use {_FORCE}"
            )
    return Doomed(key, "key", (key,), refusal=refusal)


def _doomed_set(store: ArtifactStore, look: SetLook, rules: RemovalRules) -> Doomed:
    found = listing_of(scoped(store, look.location))
    if look.record is not None:
        named = [each.key for each in look.record.artifacts]
    else:  # the metric bundle makes the folder look like a set, so it goes first
        named = [METRIC_NAME, *(look.named.keys if look.named is not None else ())]
    own = (RETRACTION_NAME, RECORD_NAME)
    others = sorted(found.keys() - {*named, *own})
    going = [key for key in (*named, *(others if rules.unnamed else ()), *own) if key in found]
    return Doomed(
        look.location,
        "set",
        tuple(join_key(look.location, key) for key in dict.fromkeys(going)),
        sum(info.size for key in set(going) if (info := found[key]) is not None),
        () if rules.unnamed else tuple(join_key(look.location, key) for key in others),
        _refusal(store, look, rules),
    )


def is_being_removed(look: SetLook) -> bool:
    """Tell whether the removal of a set was begun: it is open, and nothing will be published."""
    return look.record is not None and look.record.is_open and not look.record.planned


def _refusal(store: ArtifactStore, look: SetLook, rules: RemovalRules) -> str | None:
    state = look.state
    if state == "newer-schema":
        return "a newer emdstore wrote its record, whose meaning is not known here"
    if look.record is not None and look.record.state is None and look.record.status is None:
        return "it is a run in scratch: `emdstore gc` removes it once it is published, or given up by `emdstore abort`"
    if rules.force:
        return None
    if look.record_digest is not None:
        try:
            Released(store).refuse(look.fragment, look.record_digest)
        except ReleasedSetError as error:
            return f"{error}".partition("; it stays as it is.")[0] + f"; {_FORCE}"
    if state == "publishing" and not is_being_removed(look):
        return f"somebody publishes it, or was stopped while they did: commit or transfer it again; {_FORCE}"
    if state not in (*_SETTLED, "publishing", "bare"):
        return f"it is {state}: `emdstore repair` mends it; {_FORCE}"
    if rules.copy is None:
        return f"nothing proves that its bytes are anywhere else: name a store that has them by --copy; {_FORCE}"
    return None


def _remove_set(
    store: ArtifactStore,
    deleting: SupportsDelete,
    doomed: Doomed,
    rules: RemovalRules,
    before_write: Callable[[], object],
) -> Doomed:
    folder = scoped(store, doomed.name)
    standing = standing_at(folder, listing_of(folder))
    sealed = None
    if standing.record is not None:
        going = attrs.evolve(
            opened(standing, standing.record, ()),
            artifacts=standing.record.artifacts,
            reason="it is being removed, or was when whoever removes it was stopped; the same command goes on",
        )
        sealed = encode_record(going)
        before_write()
        write_seal(folder, RECORD_NAME, sealed, standing.digest, folder=doomed.name)
    try:
        doubts = () if rules.force or rules.copy is None else _unproved(store, rules.copy, doomed, standing.record)
    except BaseException:
        _close_again(folder, standing.data, sealed, doomed.name)
        raise
    if doubts:
        _close_again(folder, standing.data, sealed, doomed.name)
        named = "; ".join(doubts[:_NAMED]) + ("; ..." if len(doubts) > _NAMED else "")
        return attrs.evolve(doomed, refusal=f"the copy does not prove it: {named}")
    record = join_key(doomed.name, RECORD_NAME)
    for nth, key in enumerate(doomed.keys):
        before_write()
        if key == record and sealed is not None and folder.read_bytes(RECORD_NAME) != sealed:
            raise overtaken(doomed.name, store)
        try:
            deleting.delete(key)
        except ArtifactRetainedError:
            if nth == 0:
                _close_again(folder, standing.data, sealed, doomed.name)
            raise
    return doomed


def _close_again(folder: ArtifactStore, before: bytes | None, sealed: bytes | None, name: str) -> None:
    """Put the record back that was there before: nothing was removed."""
    if before is not None and sealed is not None:
        write_seal(folder, RECORD_NAME, before, sha256_of(sealed), folder=name)


def _unproved(
    store: ArtifactStore, copy: ArtifactStore, doomed: Doomed, record: ExecutionRecord | None
) -> Sequence[str]:
    """Return what of a set the copy is not proved to have, after reading all of both."""
    try:
        theirs = look_at_set(copy, doomed.name, bundles=False, every_digest=True)
    except ExecutionNotFoundError:
        return [f"{copy!r} has no set {doomed.name!r}"]
    own = [join_key(doomed.name, name) for name in (RECORD_NAME, RETRACTION_NAME)]
    if record is None:  # which would have been opened, and the copy seen to be open, too, if it is this very store
        if _is_seen_in(store, copy):
            return [f"{copy!r} is this very store"]
        return [key for key in doomed.keys if key not in own and _digest(store, key) != _digest(copy, key)]
    if theirs.state not in _SETTLED or theirs.record is None:
        return [f"in {copy!r} it is {theirs.state}"]
    # All that it names was read, and is there.
    known = {each.key: (each.size, each.sha256) for each in theirs.record.artifacts}
    doubts = []
    for each in record.artifacts:
        key, wanted = join_key(doomed.name, each.key), (each.size, each.sha256)
        if key not in doomed.keys and record.is_open:
            continue  # it went before
        if _digest(store, key) != wanted:
            doubts.append(f"{each.key}: here it is not what its record says")
        elif known.get(each.key) != wanted:
            doubts.append(f"{each.key}: the copy has other bytes, or none")
    return doubts


def _is_seen_in(store: ArtifactStore, copy: ArtifactStore) -> bool:
    """Tell whether what is written to a store appears in another one, whatever road or link leads there."""
    probe = f"{OWN_FOLDER}/probe-{system.current().token(8)}"
    store.write_bytes(probe, b"")
    try:
        return copy.exists(probe)
    finally:
        if isinstance(store, SupportsDelete):
            store.delete(probe)


def _digest(store: ArtifactStore, key: str) -> tuple[int, str] | None:
    try:
        return digest_of(store, key)
    except ArtifactNotFoundError:
        return None
