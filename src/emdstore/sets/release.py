"""Releases: a name for exactly these sets, as they are, kept in the results store beside them.

A release is a list of folders, each with the SHA-256 of its set's record, and so of every byte that the record vouches
for. It is written once and never again. Aliases such as ``production`` point at releases and may move; each move is
kept with who made it and why. Both are small JSON files below ``.emdstore/`` in the results store, so that they travel
with the sets, and a catalog that is rebuilt knows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import TypeVar

import attrs
import msgspec

from emdstore import system
from emdstore.errors import ArtifactChangedError, ArtifactNotFoundError, ReleaseError, ReleaseNotFoundError
from emdstore.keys import in_folder, join_key
from emdstore.sets.events import announce, make_event, whoever_says_so
from emdstore.sets.record import Moment
from emdstore.shown import Shown
from emdstore.stores.checksums import sha256_of
from emdstore.stores.identity import OWN_FOLDER
from emdstore.stores.port import ArtifactStore, SupportsFlush
from emdstore.stores.races import races
from emdstore.stores.replacing import put_over
from emdstore.stores.urls import StoreLike, as_source
from emdstore.versioned import UnreadableError, VersionedDecoder

RELEASE_VERSION = 1
RELEASES = f"{OWN_FOLDER}/releases"
ALIASES = f"{OWN_FOLDER}/aliases"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUFFIX = ".json"

T = TypeVar("T", bound="Release | Alias")


@attrs.frozen
class ReleasedSet:
    """A set, by its folder, as it was when its record had this SHA-256."""

    fragment: str
    record: str


@attrs.frozen
class CheckVerdict:
    """What a check said of the sets before they were promoted.

    Attributes
    ----------
    check
        Its name.
    findings
        The first hundred things that it objected to.
    count
        How many there were.
    """

    check: str
    findings: tuple[str, ...] = ()
    count: int = 0

    @property
    def ok(self) -> bool:
        """Whether it objected to nothing."""
        return not self.count


@attrs.frozen(kw_only=True, slots=False, repr=False)
class Release(Shown):
    """Exactly these sets, as they were.

    Attributes
    ----------
    name
        Unlike that of any other release or alias in the store.
    at, by
        When it was made, and by whom.
    note
        What it is for.
    sets
        In the order of their folders.
    promoted_from
        From which target they were promoted; None if nobody promoted them.
    checks
        What the checks said then.
    release_version
        Of the format; a newer one is refused.
    """

    name: str
    at: Moment
    by: str
    note: str = ""
    sets: tuple[ReleasedSet, ...] = ()
    promoted_from: str | None = None
    checks: tuple[CheckVerdict, ...] = ()
    release_version: int = RELEASE_VERSION

    def __contains__(self, one: ReleasedSet) -> bool:
        return one in self._sets

    @cached_property
    def _sets(self) -> frozenset[ReleasedSet]:
        return frozenset(self.sets)

    @property
    def records(self) -> dict[str, str]:
        """The SHA-256 of each set's record, by the set's folder."""
        return {each.fragment: each.record for each in self.sets}


@attrs.frozen(kw_only=True)
class Move:
    """To which release an alias was pointed, when, by whom, and why."""

    release: str
    at: Moment
    by: str
    why: str = ""


@attrs.frozen(kw_only=True)
class Alias:
    """A name that points at a release, and at which ones it pointed before.

    Attributes
    ----------
    name
        Unlike that of any release or other alias.
    moves
        From the first to the last, which is the one that counts.
    release_version
        Of the format; a newer one is refused.
    """

    name: str
    moves: tuple[Move, ...]
    release_version: int = RELEASE_VERSION

    @property
    def release(self) -> str:
        """The release that it points at now."""
        return self.moves[-1].release


@attrs.frozen(repr=False)
class ReleaseDiff(Shown):
    """What is different from one release to another: the folders of sets, sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    @classmethod
    def between(cls, one: Release, other: Release) -> ReleaseDiff:
        """Compare two releases."""
        before, after = one.records, other.records
        return cls(
            added=tuple(sorted(after.keys() - before.keys())),
            removed=tuple(sorted(before.keys() - after.keys())),
            changed=tuple(sorted(each for each in before.keys() & after.keys() if before[each] != after[each])),
        )


def read_release(store: StoreLike, name: str) -> Release:
    """Read a release by its own name or by that of an alias.

    Raises
    ------
    ReleaseNotFoundError
        If there is none; the message names those that there are.
    ReleaseError
        If it cannot be read as one.
    StoreError
        If the store cannot be read.
    """
    results = as_source(store)
    _refuse_name(name)
    release = _read(results, RELEASES, name, _release)
    if release is None and (alias := _read(results, ALIASES, name, _alias)) is not None:
        release = _read(results, RELEASES, alias.release, _release)
    if release is None:
        known = ", ".join(
            [each.name for each in list_releases(results)] + [each.name for each in list_aliases(results)]
        )
        there = f"there are {known}" if known else "there is none yet: `emdstore release create` makes one"
        raise ReleaseNotFoundError(f"no release {name!r} in {results!r}: {there}", key=name)
    return release


def write_release(store: ArtifactStore, release: Release, signature: bytes | None = None) -> None:
    """Write a new release, and then its signature.

    Raises
    ------
    ReleaseError
        If its name is taken or makes no sense. Nothing was written.
    """
    refuse_taken(store, release.name)
    try:
        put_over(store, _key(RELEASES, release.name), encode_release(release), None)
    except ArtifactChangedError:
        raise _taken(release.name) from None
    if signature is not None:
        put_over(store, signature_key(release.name), signature, None)
    if isinstance(store, SupportsFlush):
        store.flush()


def own_keys(store: ArtifactStore, release: Release, name: str) -> list[str]:
    """Return the keys of a release's own files: the list, its signature, and the alias by which it was called."""
    keys = [_key(RELEASES, release.name)]
    if store.exists(signature_key(release.name)):
        keys.append(signature_key(release.name))
    return keys if name == release.name else [*keys, _key(ALIASES, name)]


def signature_key(name: str) -> str:
    """Return where the signature of a release lies."""
    return _key(RELEASES, name) + ".sig"


def release_bytes(store: ArtifactStore, name: str) -> bytes:
    """Return a release's file as it is, which is what is signed.

    Raises
    ------
    ReleaseNotFoundError
        If there is none by this very name.
    """
    data = _bytes_at(store, _key(RELEASES, read_release(store, name).name))
    assert data is not None
    return data


def list_releases(store: StoreLike) -> list[Release]:
    """Read all releases of a store, by their names."""
    return list(_each(as_source(store), RELEASES, _release))


def list_aliases(store: StoreLike) -> list[Alias]:
    """Read all aliases of a store, by their names."""
    return list(_each(as_source(store), ALIASES, _alias))


def list_all(store: StoreLike) -> tuple[list[Release], list[Alias]]:
    """Read all releases and all aliases of a store."""
    results = as_source(store)
    return list_releases(results), list_aliases(results)


def point_alias(store: StoreLike, name: str, release: str, *, why: str = "", by: str | None = None) -> Alias:
    """Point an alias at a release; it is made if it is not there. Where it points already, nothing is written.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    name
        The alias.
    release
        The release's own name.
    why
        Why it moves, for those who wonder.
    by
        Who moves it; by default the user and the host.

    Returns
    -------
    Alias
        With all its moves.

    Raises
    ------
    ReleaseNotFoundError
        If there is no such release.
    ReleaseError
        If the name is that of a release or makes no sense, or somebody else moves the alias again and again.
    """
    results = as_source(store)
    _refuse_name(name)
    target = read_release(results, release)
    if results.exists(_key(RELEASES, name)):
        raise ReleaseError(f"{name!r} is a release: an alias needs a name of its own", key=name)
    key = _key(ALIASES, name)
    for _ in races():
        data = _bytes_at(results, key)
        before = () if data is None else _decode(data, _alias, key).moves
        if before and before[-1].release == target.name:
            return Alias(name=name, moves=before)
        move = Move(release=target.name, at=system.current().now(), by=by or whoever_says_so(), why=why)
        alias = Alias(name=name, moves=(*before, move))
        try:
            put_over(results, key, encode_release(alias), None if data is None else sha256_of(data))
        except ArtifactChangedError:
            continue  # somebody else moved it
        if isinstance(results, SupportsFlush):
            results.flush()
        announce(results, [make_event("aliased", name, about=target.name)])
        return alias
    raise ReleaseError(f"the alias {name!r} is being moved by others again and again: try again", key=name)


def continues(later: bytes, earlier: bytes, key: str) -> bool:
    """Tell whether one version of a release or alias may take the place of another one.

    Parameters
    ----------
    later, earlier
        What lies at the key in two stores.
    key
        A key in `RELEASES` or `ALIASES`.

    Returns
    -------
    bool
        True for equal bytes, and if nothing is left of the earlier one after a power cut; otherwise only for an alias
        that has all moves of the other one, and more. A release never changes.

    Raises
    ------
    ReleaseError
        If one of them is no alias.
    """
    if not (later and earlier):
        return not earlier
    if later == earlier or not in_folder(key, ALIASES):
        return later == earlier
    before = _decode(earlier, _alias, key).moves
    return _decode(later, _alias, key).moves[: len(before)] == before


# -- the files -------------------------------------------------------------------------------------------------------


def _key(folder: str, name: str) -> str:
    return join_key(folder, name + _SUFFIX)


def _refuse_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ReleaseError(
            f"{name!r} cannot be the name of a release: take up to 100 letters, digits, '.', '_' and '-', the first a "
            "letter or digit",
            key=name,
        )


def refuse_taken(store: ArtifactStore, name: str) -> None:
    """Raise `ReleaseError` if a new release cannot have this name."""
    _refuse_name(name)
    if _bytes_at(store, _key(RELEASES, name)) is not None:
        raise _taken(name)
    if _bytes_at(store, _key(ALIASES, name)) is not None:
        raise ReleaseError(f"{name!r} is an alias: a release needs a name of its own", key=name)


def _taken(name: str) -> ReleaseError:
    return ReleaseError(
        f"there is a release {name!r} already, and releases never change: choose another name", key=name
    )


def encode_release(value: Release | Alias) -> bytes:
    """Return the file of a release or an alias."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def _bytes_at(store: ArtifactStore, key: str) -> bytes | None:
    try:
        # An empty file is none: the power was cut while it was written, before anybody was told of it.
        return store.read_bytes(key) or None
    except ArtifactNotFoundError:
        return None


def _read(store: ArtifactStore, folder: str, name: str, decoder: VersionedDecoder[T]) -> T | None:
    data = _bytes_at(store, _key(folder, name))
    return None if data is None else _decode(data, decoder, _key(folder, name))


def _each(store: ArtifactStore, folder: str, decoder: VersionedDecoder[T]) -> Iterator[T]:
    for key in store.iter_keys(folder):
        if key.endswith(_SUFFIX) and (data := _bytes_at(store, key)) is not None:
            yield _decode(data, decoder, key)


def _decode(data: bytes, decoder: VersionedDecoder[T], key: str) -> T:
    try:
        return decoder.decode(data, key=key)
    except UnreadableError as error:
        raise ReleaseError(f"{key!r} cannot be read as what it should be: {error}", key=key) from None


_release = VersionedDecoder(Release, "release_version", RELEASE_VERSION, ReleaseError)
_alias = VersionedDecoder(Alias, "release_version", RELEASE_VERSION, ReleaseError)
