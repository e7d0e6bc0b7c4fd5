"""What a transfer will do, decided before a byte moves.

`decide` is the rule for one key and takes only values. `plan_steps` feeds it from listings: for whole stores it
merges the two sorted listings, so its memory does not grow with their length; for given keys it looks up just those.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Literal

import attrs

from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    InvalidKeyError,
    LookRefusedError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.keys import validate_key
from emdstore.stores.identity import IDENTITY_KEY
from emdstore.stores.left_out import iter_known
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactInfo, ArtifactStore, LeftOut, SupportsInfo, SupportsPath
from emdstore.workers.together import answers_to

Unchanged = Literal["stat", "digest", "never"]
"""When an artifact at the destination counts as unchanged; see `emdstore.transfers.transfer`."""

Listing = Mapping[str, ArtifactInfo | None]
"""The artifacts of a store by key; None if it tells no more than the key."""

Action = Literal["copy", "compare", "prove", "check", "write", "unchanged", "missing", "rejected", "failed", "left"]

_LOOK_UP = 1000
_LISTED_AHEAD = 1000
"""How many keys of the source are read while the destination connects; some 250 kB."""

# Two changes within one tick of the clock may leave the same time.
_FINE_GRAIN, _COARSE_GRAIN = 0.02, 2.0
_LISTING_PER_KEY = 4

_END: tuple[None, None] = None, None


@attrs.frozen
class Step:
    """What to do for one key.

    Attributes
    ----------
    key
        The artifact's key, the same in both stores.
    action
        ``copy``; ``compare``: copy if the bytes of both sides differ; ``prove``: compare them, but copy nothing;
        ``check``: hash the source's bytes, but copy nothing; ``write``: the data of this step; or an outcome, if it is
        known already.
    size
        Bytes at the source, if known.
    error
        Why the key is rejected, missing, failed or left.
    here
        SHA-256 that the source's bytes must have; others are not copied, or do not count.
    there
        SHA-256 of the bytes at the destination, if proved. For ``write``, of the bytes that may be replaced; None if
        there must be none.
    checksum
        The checksum that the destination keeps of its bytes, if any; then they need not be read.
    doubt
        Whether the source's bytes are hashed before anything changes, and not only during the copy.
    data
        The bytes to write, if this is not a copy.
    once
        Whether it is put only where nothing lies: nobody may look whether its place belongs to a set.
    version
        What the source's listing said of the version to copy, if anything.
    """

    key: str
    action: Action
    size: int | None = None
    error: EmdstoreError | None = None
    here: str | None = None
    there: str | None = None
    checksum: str | None = None
    doubt: bool = False
    data: bytes | None = None
    once: bool = False
    version: str | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return Step, _values_of(self)  # that goes to forks by the thousand, and attrs' own way takes five times as long


_values_of = operator.attrgetter(*(field.name for field in attrs.fields(Step)))


def decide(source: ArtifactInfo, dest: ArtifactInfo | None, unchanged: Unchanged = "stat") -> Action:
    """Decide for one artifact, from its infos in the two stores.

    Parameters
    ----------
    source
        The artifact at the source.
    dest
        The artifact at the destination, or None if there is none.
    unchanged
        The rule.

    Returns
    -------
    ``"copy"``, ``"compare"`` or ``"unchanged"``
        With ``"digest"``, artifacts with equal checksums in both stores are unchanged; otherwise the bytes are
        compared. With ``"stat"``, an artifact is unchanged if the sizes are equal and the destination is not older.
        Object stores and SFTP keep whole seconds: if both were written within the same second, their order is not
        known, and the bytes are compared, as they are if a store has no times. A copy between local files keeps the
        time: with equal size and time it is unchanged, unless the source changed in any way after the copy was made;
        otherwise the bytes are compared.
    """
    if dest is None or unchanged == "never" or source.size != dest.size:
        return "copy"
    if unchanged == "digest":
        return "unchanged" if source.checksum is not None and source.checksum == dest.checksum else "compare"
    if source.changed is not None and dest.changed is not None:
        grain = _COARSE_GRAIN if _is_whole(source.changed) else _FINE_GRAIN
        untouched = dest.modified == source.modified and source.changed + grain < dest.changed
        return "unchanged" if untouched else "compare"
    if math.isnan(source.modified) or math.isnan(dest.modified):
        return "compare"
    if dest.modified >= source.modified:
        is_known = source.changed is not None or not _is_whole(source.modified)
        return "unchanged" if is_known or dest.modified >= source.modified + 1 else "compare"
    return "compare" if _is_whole(dest.modified) and dest.modified + 1 > source.modified else "copy"


def _is_whole(seconds: float) -> bool:
    return seconds == int(seconds)


@attrs.define  # never changed, but each key has one, and making a frozen one takes four times as long
class KeyPair:
    """One key on both sides.

    Attributes
    ----------
    key
        The key.
    here, there
        Whether it is at the source and at the destination.
    source, dest
        Its infos in the two stores, if they have any.
    """

    key: str
    here: bool
    there: bool
    source: ArtifactInfo | None = None
    dest: ArtifactInfo | None = None

    @property
    def size(self) -> int | None:
        """Bytes at the source, if known."""
        return None if self.source is None else self.source.size


def pairs_of(
    source: ArtifactStore,
    dest: ArtifactStore,
    left_out: Callable[[LeftOut], object] | None = None,
    *,
    prefix: str = "",
    also: str | None = None,
    whole: bool = False,
) -> Iterator[KeyPair]:
    """Merge two listings in bounded memory.

    Parameters
    ----------
    source, dest
        The stores. The destination's listing is read up to the last top-level folder in which the source has keys.
    left_out
        Called with what the source's listing leaves out. Without it, a folder that cannot be read raises.
    prefix
        Only this folder; all of it on both sides.
    whole
        Whether to read both listings to the end, and to report what both leave out.
    also
        A name that is reported even if it comes later at the destination's root.
    """
    listed = _listed(source, prefix, left_out, without=IDENTITY_KEY)  # a copy is another store
    below = _listed(dest, prefix, left_out if whole else None)  # which begins to connect
    ahead = list(itertools.islice(listed, _LISTED_AHEAD))
    sides = itertools.chain(ahead, listed), below
    (here, info), (there, known) = (next(each, _END) for each in sides)
    last = ""
    while here is not None and there is not None:
        last = here
        if here == there:
            yield KeyPair(here, True, True, info, known)
            here, info = next(sides[0], _END)
            there, known = next(sides[1], _END)
        elif here < there:
            yield KeyPair(here, True, False, info)
            here, info = next(sides[0], _END)
        else:
            yield KeyPair(there, False, True, None, known)
            there, known = next(sides[1], _END)
    while here is not None:
        last = here
        yield KeyPair(here, True, False, info)
        here, info = next(sides[0], _END)
    while there is not None and (whole or (also is not None and _is_near(there, last, prefix))):
        yield KeyPair(there, False, True, None, known)
        there, known = next(sides[1], _END)
    if also is not None and not prefix and last and there is not None and there <= also and dest.exists(also):
        yield KeyPair(also, False, True)


def _is_near(key: str, last: str, prefix: str) -> bool:
    return bool(prefix) or key.partition("/")[0] == last.partition("/")[0]


def _listed(
    store: ArtifactStore, prefix: str, left_out: Callable[[LeftOut], object] | None, *, without: str = ""
) -> Iterator[tuple[str, ArtifactInfo | None]]:
    if left_out is not None:
        return _keyed(iter_known(store, prefix, left_out=left_out), without)
    return _keyed(store.iter_info(prefix) if isinstance(store, SupportsInfo) else store.iter_keys(prefix), without)


def _keyed(found: Iterable[ArtifactInfo | str], without: str) -> Iterator[tuple[str, ArtifactInfo | None]]:
    for each in found:
        key, info = (each, None) if isinstance(each, str) else (each.key, each)
        if key != without:
            yield key, info


def step_of(pair: KeyPair, unchanged: Unchanged) -> Step:
    """Decide for one key at the source that no record vouches for."""
    source = pair.source
    size, version = (None, None) if source is None else (source.size, source.version)
    if not pair.there or unchanged == "never":
        return Step(pair.key, "copy", size, version=version)
    if source is None or pair.dest is None:
        return Step(pair.key, "compare", size)
    action = decide(source, pair.dest, unchanged)
    return Step(pair.key, action, size, checksum=pair.dest.checksum, version=version)


def check_rule(unchanged: str) -> None:
    """Raise `ValueError` if this is not a rule of `decide`."""
    if unchanged not in ("stat", "digest", "never"):
        raise ValueError(f"unchanged is 'stat', 'digest' or 'never', not {unchanged!r}")


def listing_of(store: ArtifactStore) -> Listing:
    """List a store, with infos if it has them."""
    if isinstance(store, SupportsInfo):
        return {info.key: info for info in store.iter_info()}
    return dict.fromkeys(store.iter_keys())


def plan_steps(
    source: ArtifactStore,
    dest: ArtifactStore,
    keys: Iterable[str] | None = None,
    *,
    unchanged: Unchanged = "stat",
    found: Listing | None = None,
    proved: Mapping[str, str] | None = None,
    expected: Mapping[str, str] | None = None,
    left_out: Callable[[LeftOut], object] | None = None,
) -> Iterator[Step]:
    """Plan a transfer: list, and decide for each key. Nothing is read or written.

    Parameters
    ----------
    source, dest
        The two stores. Stores without sizes and times (`SupportsInfo`) are compared by their bytes.
    keys
        The keys to move, in this order; None for everything in the source.
    unchanged
        The rule of `decide`.
    found
        With `keys`, the artifacts at the destination, if known; then it is not asked.
    proved
        SHA-256 of artifacts at the destination, by key, if proved; then they need not be read for comparison.
    expected
        SHA-256 that the source's bytes must have, by key; others are not copied, or do not count.
    left_out
        Called with what a listing of the source leaves out. Without it, a folder that cannot be read raises.

    Yields
    ------
    Step
        One step for each key, lazily. A repeated key is planned once.

    Raises
    ------
    StoreError
        If a store cannot be listed. An error with a single key is in its step.
    ValueError, TypeError
        If the rule is not one of the three, or `keys` is a single string.
    """
    check_rule(unchanged)
    if isinstance(keys, str):
        raise TypeError(f"keys is an iterable of keys, not one key: [{keys!r}]")
    if keys is not None:
        steps = _plan_keys(source, dest, keys, unchanged, found)
        if not proved and not expected:
            return steps
        here, there = expected or {}, proved or {}
        return (attrs.evolve(each, here=here.get(each.key), there=there.get(each.key)) for each in steps)
    return (step_of(pair, unchanged) for pair in pairs_of(source, dest, left_out) if pair.here)


def _plan_keys(
    source: ArtifactStore, dest: ArtifactStore, keys: Iterable[str], unchanged: Unchanged, found: Listing | None
) -> Iterator[Step]:
    remaining = iter(dict.fromkeys(keys))
    sides = _Side.of(source), _Side.of(dest)
    found = {} if unchanged == "never" else found  # what is there does not matter
    while some := list(itertools.islice(remaining, _LOOK_UP)):
        valid = [key for key in some if _error_of(key) is None]
        at_source, at_dest = _list_some(source, valid), _list_some(dest, valid) if found is None else found
        plan = partial(_plan_key, *sides, at_source=at_source, at_dest=at_dest, unchanged=unchanged)
        # What a listing of the source does not show is asked for: it may have come meanwhile, or be a folder.
        asked = [source] if any(key not in (at_source or ()) for key in some) else []
        asked += [dest] if at_dest is None else []
        if any(not isinstance(store, SupportsPath) and place_of(store).remote for store in asked):
            yield from answers_to([partial(plan, key) for key in some], at_once=True)
        else:
            yield from map(plan, some)


def _error_of(key: str) -> InvalidKeyError | None:
    try:
        validate_key(key)
    except InvalidKeyError as error:
        return error
    return None


@attrs.frozen
class _Side:
    """One of the two stores, and whether it has infos, which is determined once, because that takes time."""

    store: ArtifactStore
    infos: SupportsInfo | None

    @classmethod
    def of(cls, store: ArtifactStore) -> _Side:
        return cls(store, store if isinstance(store, SupportsInfo) else None)


def _plan_key(
    source: _Side,
    dest: _Side,
    key: str,
    *,
    at_source: Listing | None,
    at_dest: Listing | None,
    unchanged: Unchanged,
) -> Step:
    invalid = _error_of(key)
    if invalid is not None:
        return Step(key, "rejected", error=invalid)
    try:
        here = (at_source or {}).get(key) or (source.infos.info(key) if source.infos is not None else None)
        if here is None and not source.store.exists(key):
            name = repr(source.store)
            raise ArtifactNotFoundError(f"no artifact {key!r} in {name}", key=key, store=name)
        if here is None or dest.infos is None:
            there = unchanged != "never" and (dest.store.exists(key) if at_dest is None else key in at_dest)
            return Step(key, "compare" if there else "copy", here.size if here else None)
        try:
            there_info = _info_or_none(dest.infos, key, at_dest)
        except LookRefusedError:
            return Step(key, "copy", here.size, once=True)
        checksum = None if there_info is None else there_info.checksum
        return Step(key, decide(here, there_info, unchanged), here.size, checksum=checksum)
    except StoreUnavailableError:  # the worker will ask again, repeatedly if necessary
        return Step(key, "copy" if unchanged == "never" else "compare")
    except UnsafePathError as error:
        return Step(key, "rejected", error=error)
    except ArtifactNotFoundError as error:
        return Step(key, "missing", error=error)
    except EmdstoreError as error:
        return Step(key, "failed", error=error)


def _info_or_none(dest: SupportsInfo, key: str, listed: Listing | None) -> ArtifactInfo | None:
    if listed is not None:
        return listed.get(key)
    try:
        return dest.info(key)
    except ArtifactNotFoundError:
        return None


def _list_some(store: ArtifactStore, keys: list[str]) -> Listing | None:
    """Look up many keys by listing their common folder, instead of by one request each.

    Returns None if that is not worthwhile: for local files, or if the folder contains much else.
    """
    if not isinstance(store, SupportsInfo) or isinstance(store, SupportsPath) or len(keys) < 2:
        return None
    wanted = set(keys)
    first, last = min(wanted), max(wanted)
    common = _common_folder(first, last)
    found = {}
    try:
        for seen, info in enumerate(store.iter_info(common)):
            if info.key > last:
                break
            if seen > _LISTING_PER_KEY * len(wanted) + _LOOK_UP:
                return None
            if info.key in wanted:
                found[info.key] = info
    except LookRefusedError:  # to ask for each may be allowed
        return None
    return found


def _common_folder(first: str, last: str) -> str:
    folders = zip(first.split("/")[:-1], last.split("/")[:-1], strict=False)
    return "/".join(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], folders))
