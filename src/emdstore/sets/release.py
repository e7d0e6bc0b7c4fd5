"""Releases: a name for exactly these sets, as they are, kept in the results store beside them.

A release is a list of folders, each with the SHA-256 of its set's record, and so of every byte that the record vouches
for. It is written once and never again. Aliases such as ``production`` point at releases and may move; each move is
kept with who made it and why. Both are small JSON files below ``.emdstore/`` in the results store, so that they travel
with the sets, and a catalog that is rebuilt knows them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from functools import cached_property, partial
from typing import Any, Literal, TypeVar, get_args

import attrs
import msgspec

from emdstore import system
from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    ArtifactChangedError,
    ArtifactNotFoundError,
    EmdstoreError,
    ExecutorError,
    LookRefusedError,
    ReleaseChangedError,
    ReleasedSetError,
    ReleaseError,
    ReleaseNotFoundError,
)
from emdstore.keys import in_folder, join_key, validate_key
from emdstore.sets.finding import FoundSet, find_sets
from emdstore.sets.record import Moment
from emdstore.sets.retraction import whoever_says_so
from emdstore.sets.state import SetState, look_at_set
from emdstore.sets.versioned import UnreadableError, decode_versioned
from emdstore.shown import Shown
from emdstore.stores.checksums import sha256_of
from emdstore.stores.identity import OWN_FOLDER
from emdstore.stores.port import ArtifactStore, SupportsFlush, SupportsPath
from emdstore.stores.replacing import put_over
from emdstore.stores.urls import StoreLike, as_source, as_store
from emdstore.workers.backlog import executor_or_threads, map_batches

RELEASE_VERSION = 1
RELEASES = f"{OWN_FOLDER}/releases"
ALIASES = f"{OWN_FOLDER}/aliases"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUFFIX = ".json"
_WORKERS = 8
_NAMED = 5
_ATTEMPTS = 5

# In these a set is about to change or is damaged: to leave it out without a word would hide that.
_UNFIT: tuple[SetState, ...] = ("publishing", "changed", "unreadable", "newer-schema")

T = TypeVar("T", bound="Release | Alias")


@attrs.frozen
class ReleasedSet:
    """A set, by its folder, as it was when its record had this SHA-256."""

    fragment: str
    record: str


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
    release_version
        Of the format; a newer one is refused.
    """

    name: str
    at: Moment
    by: str
    note: str = ""
    sets: tuple[ReleasedSet, ...] = ()
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


ReleaseFinding = Literal["missing", "changed", "publishing", "damaged", "unreadable"]

RELEASE_FINDINGS: tuple[ReleaseFinding, ...] = get_args(ReleaseFinding)


@attrs.frozen(repr=False)
class ReleaseCheck(Shown):
    """How a release compares with what a store holds.

    Attributes
    ----------
    release
        The release.
    whole
        How many of its sets are as they were released, with every byte of their artifacts.
    findings
        Of the others, by folder: ``missing``; ``changed``: its record is another one; ``publishing``: its bytes are
        changing; ``damaged``: its record is the one that was released, and its bytes are not those of the record;
        ``unreadable``: nobody can tell.
    retracted
        Which of its sets were retracted. They are part of it all the same.
    """

    release: Release
    whole: int
    findings: Mapping[str, ReleaseFinding]
    retracted: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every set is as it was released."""
        return not self.findings

    def raise_for_findings(self) -> None:
        """Raise `ReleaseChangedError` unless every set is as it was released."""
        if self.findings:
            few = [f"{fragment} ({finding})" for fragment, finding in self.findings.items()][:_NAMED]
            more = "; ..." if len(self.findings) > _NAMED else ""
            raise ReleaseChangedError(
                f"{len(self.findings)} of {len(self.release.sets)} sets of the release {self.release.name!r} are not "
                f"what they were: {'; '.join(few)}{more}",
                key=next(iter(self.findings)),
            )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        about = attrs.asdict(self.release, filter=attrs.filters.exclude("sets"))
        findings = [{"fragment": fragment, "finding": finding} for fragment, finding in self.findings.items()]
        counted = {"sets": len(self.release.sets), "whole": self.whole}
        return {"release": about, **counted, "findings": findings, "retracted": list(self.retracted)}


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


def create_release(
    store: StoreLike,
    name: str,
    fragments: Iterable[str] | None = None,
    *,
    prefix: str = "",
    note: str = "",
    by: str | None = None,
    executor: Executor | None = None,
) -> Release:
    """Make a release of sets as they are now. Every byte of them is read and compared with its record before.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    name
        A new name: letters, digits, ``.``, ``_`` and ``-``.
    fragments
        The folders of the sets. Without them, all published sets below `prefix` that were not retracted.
    prefix
        Only sets in this folder, where no fragments are given.
    note
        What the release is for.
    by
        Who makes it; by default the user and the host.
    executor
        Where sets are read and hashed; by default a few threads.

    Returns
    -------
    Release
        What was written.

    Raises
    ------
    ReleaseError
        If the name is taken or makes no sense; if a set that is named is not published, not whole, or retracted; if
        without names a set is in flux or damaged, or there is none. Nothing was written.
    StoreError
        If the store cannot be read or written.
    """
    results = as_source(store)
    _refuse_name(name)
    _refuse_taken(results, name)
    if fragments is None:
        found = list(find_sets(results, prefix))
    else:
        found = [FoundSet(validate_key(each), published=True) for each in sorted(set(fragments))]
    chosen = _fit(_look_at_each(results, found, executor), named=fragments is not None)
    if not chosen:
        raise ReleaseError(f"there is no published set below {prefix!r} in {results!r} to release", key=prefix)
    release = Release(
        name=name,
        at=system.current().now(),
        by=by or whoever_says_so(),
        note=note,
        sets=tuple(ReleasedSet(each.location, each.record) for each in chosen if each.record is not None),
    )
    try:
        put_over(results, _key(RELEASES, name), _encode(release), None)
    except ArtifactChangedError:
        raise _taken(name) from None
    if isinstance(results, SupportsFlush):
        results.flush()
    return release


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


def expect_release(store: StoreLike, name: str) -> Release:
    """Read a release, and make sure that the record of each of its sets is the one that was released.

    Only records are read; `check_release` reads every byte.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    name
        The release, or an alias.

    Raises
    ------
    ReleaseChangedError
        If a set is not there, or has another record.
    ReleaseNotFoundError, ReleaseError, StoreError
        See `read_release`.
    """
    results = as_source(store)
    release = read_release(results, name)
    expected = release.records
    findings: dict[str, ReleaseFinding] = {}
    with (
        executor_or_threads(None, _WORKERS, "release", only_read=True) as workers,
        closing(map_batches(workers, _digests_of_records, results, items=expected)) as digests,
    ):
        for fragment, found in digests:
            if isinstance(found, EmdstoreError | ExecutorError):
                raise found
            if found != expected[fragment]:
                findings[fragment] = "missing" if found is None else "changed"
    ReleaseCheck(release, len(expected) - len(findings), findings).raise_for_findings()
    return release


def _digests_of_records(store: ArtifactStore, fragments: Sequence[str]) -> list[str | EmdstoreError | None]:
    return [_digest_of_record(store, fragment) for fragment in fragments]


def _digest_of_record(store: ArtifactStore, fragment: str) -> str | EmdstoreError | None:
    try:
        data = _bytes_at(store, join_key(fragment, RECORD_NAME))
    except EmdstoreError as error:
        return error
    return None if data is None else sha256_of(data)


def own_keys(release: Release, name: str) -> list[str]:
    """Return the keys of a release's own files; also that of the alias, if this is how it was called."""
    keys = [_key(RELEASES, release.name)]
    return keys if name == release.name else [*keys, _key(ALIASES, name)]


def list_releases(store: StoreLike) -> list[Release]:
    """Read all releases of a store, by their names."""
    return list(_each(as_source(store), RELEASES, _release))


def list_aliases(store: StoreLike) -> list[Alias]:
    """Read all aliases of a store, by their names."""
    return list(_each(as_source(store), ALIASES, _alias))


def list_all(store: StoreLike) -> tuple[list[Release], list[Alias]]:
    """Read all releases and all aliases of a store, by one listing."""
    results = as_source(store)
    keys = list(results.iter_keys(OWN_FOLDER))
    releases = _each_at(results, (key for key in keys if in_folder(key, RELEASES)), _release)
    return list(releases), list(_each_at(results, (key for key in keys if in_folder(key, ALIASES)), _alias))


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
    for _ in range(_ATTEMPTS):
        data = _bytes_at(results, key)
        before = () if data is None else _decode(data, _alias, key).moves
        if before and before[-1].release == target.name:
            return Alias(name=name, moves=before)
        move = Move(release=target.name, at=system.current().now(), by=by or whoever_says_so(), why=why)
        alias = Alias(name=name, moves=(*before, move))
        try:
            put_over(results, key, _encode(alias), None if data is None else sha256_of(data))
        except ArtifactChangedError:
            continue  # somebody else moved it
        if isinstance(results, SupportsFlush):
            results.flush()
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
        True for equal bytes; otherwise only for an alias that has all moves of the other one, and more. A release never
        changes.

    Raises
    ------
    ReleaseError
        If one of them is no alias.
    """
    if later == earlier or not in_folder(key, ALIASES):
        return later == earlier
    before = _decode(earlier, _alias, key).moves
    return _decode(later, _alias, key).moves[: len(before)] == before


def check_release(store: StoreLike, release: Release, *, executor: Executor | None = None) -> ReleaseCheck:
    """Compare a release with what a store holds, byte by byte. Nothing is changed.

    Parameters
    ----------
    store
        A results store, its path or URL: the one that the release was made in, or a copy.
    release
        The release.
    executor
        Where sets are read and hashed; by default a few threads.

    Returns
    -------
    ReleaseCheck
        What is wrong is reported, not raised.
    """
    results = as_source(store)
    expected = release.records
    findings: dict[str, ReleaseFinding] = {}
    retracted = []
    sets = [FoundSet(fragment, published=True) for fragment in expected]
    for looked in _look_at_each(results, sets, executor):
        if (finding := _compare(looked, expected[looked.location])) is not None:
            findings[looked.location] = finding
        if looked.is_retracted:
            retracted.append(looked.location)
    return ReleaseCheck(release, len(expected) - len(findings), findings, tuple(retracted))


class Released:
    """What the releases of a store name, read when it is first asked for, and once."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._releases: list[Release] | None = None

    def naming(self, fragment: str, record: str) -> list[str]:
        """Return the names of the releases that name a set as its record with this SHA-256 has it."""
        if self._releases is None:
            self._releases = list_releases(self._store)
        return [each.name for each in self._releases if ReleasedSet(fragment, record) in each]

    def refuse(self, fragment: str, record: str) -> None:
        """Raise `ReleasedSetError` if a release names a set as it is published now.

        Parameters
        ----------
        fragment
            The set's folder, whose bytes or record are about to change.
        record
            The SHA-256 of the record that is there.
        """
        try:
            named = self.naming(fragment, record)
        except LookRefusedError as error:
            raise ReleasedSetError(
                f"{fragment!r} is published, and nobody may look whether a release names it ({error}); it stays as "
                "it is. Ask for the right to list, or use --replace (replace=True)",
                key=fragment,
            ) from error
        if named:
            raise ReleasedSetError(
                f"{fragment!r} is part of the release {', '.join(named)}, and would not be what was released any more; "
                "it stays as it is. Publish a new execution instead, have `emdstore repair` mend damaged bytes, or use "
                "--replace (replace=True) to break the release",
                key=fragment,
            )


def released_around(
    place: StoreLike, folder: ArtifactStore, fragment: str, results: StoreLike | None = None
) -> Callable[[str], None] | None:
    """Return what refuses to change a publication that a release names; None if nobody can tell which store that is.

    Parameters
    ----------
    place, folder
        The set's folder as it was given, and opened.
    fragment
        The set's folder in the whole store.
    results
        The whole store; by default it begins where the folder's place no longer ends with the fragment.
    """
    if results is None:
        if isinstance(folder, SupportsPath):
            place = folder.local_path()
        text = os.fspath(place).rstrip("/") if isinstance(place, str | os.PathLike) else ""
        if not text.endswith("/" + fragment):
            return None
        results = text.removesuffix("/" + fragment)
    return partial(Released(as_store(results)).refuse, fragment)


# -- looking at the sets ---------------------------------------------------------------------------------------------


@attrs.frozen
class _Looked:
    location: str
    state: SetState | None
    record: str | None = None
    is_retracted: bool = False
    error: str = ""


def _look_at_each(store: ArtifactStore, found: Iterable[FoundSet], executor: Executor | None) -> list[_Looked]:
    with (
        executor_or_threads(executor, _WORKERS, "release", only_read=True) as workers,
        closing(map_batches(workers, _look_at_some, store, items=found)) as looks,
    ):
        return [
            _Looked(each.location, "unreadable", error=str(looked)) if isinstance(looked, ExecutorError) else looked
            for each, looked in looks
        ]


def _look_at_some(store: ArtifactStore, batch: Sequence[FoundSet]) -> list[_Looked]:
    return [_look(store, each.location) for each in batch]


def _look(store: ArtifactStore, location: str) -> _Looked:
    try:
        look = look_at_set(store, location, bundles=False, every_digest=True)
    except LookupError as error:
        return _Looked(location, None, error=str(error))
    except EmdstoreError as error:
        return _Looked(location, "unreadable", error=str(error))
    return _Looked(location, look.state, look.record_digest, look.retraction is not None, str(look.error or ""))


def _fit(looks: Sequence[_Looked], *, named: bool) -> list[_Looked]:
    """Return the sets that can be released, sorted; refuse them all for one that must not be passed over."""
    fit = [each for each in looks if each.state == "published" and not each.is_retracted]
    others = [each for each in looks if each not in fit]
    unfit = [each for each in others if named or each.state in _UNFIT]
    if unfit:
        few = "; ".join(f"{each.location} is {_word(each)}" for each in unfit[:_NAMED])
        more = f"; and {len(unfit) - _NAMED} more" if len(unfit) > _NAMED else ""
        raise ReleaseError(
            f"{few}{more}: only sets that are published, whole and not retracted are released; `emdstore verify` tells "
            "more",
            key=unfit[0].location,
        )
    return sorted(fit, key=lambda each: each.location.encode())


def _word(looked: _Looked) -> str:
    return "no set" if looked.state is None else "retracted" if looked.is_retracted else looked.state


def _compare(looked: _Looked, record: str) -> ReleaseFinding | None:
    if looked.state is None:
        return "missing"
    if looked.state == "unreadable":
        return "unreadable"
    if looked.state == "publishing":
        return "publishing"
    if looked.record != record:
        return "missing" if looked.record is None else "changed"
    return None if looked.state == "published" else "damaged"


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


def _refuse_taken(store: ArtifactStore, name: str) -> None:
    if store.exists(_key(RELEASES, name)):
        raise _taken(name)
    if store.exists(_key(ALIASES, name)):
        raise ReleaseError(f"{name!r} is an alias: a release needs a name of its own", key=name)


def _taken(name: str) -> ReleaseError:
    return ReleaseError(
        f"there is a release {name!r} already, and releases never change: choose another name", key=name
    )


def _encode(value: Release | Alias) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def _bytes_at(store: ArtifactStore, key: str) -> bytes | None:
    try:
        return store.read_bytes(key)
    except ArtifactNotFoundError:
        return None


def _read(store: ArtifactStore, folder: str, name: str, decoder: msgspec.json.Decoder[T]) -> T | None:
    data = _bytes_at(store, _key(folder, name))
    return None if data is None else _decode(data, decoder, _key(folder, name))


def _each(store: ArtifactStore, folder: str, decoder: msgspec.json.Decoder[T]) -> Iterator[T]:
    return _each_at(store, store.iter_keys(folder), decoder)


def _each_at(store: ArtifactStore, keys: Iterable[str], decoder: msgspec.json.Decoder[T]) -> Iterator[T]:
    for key in keys:
        if key.endswith(_SUFFIX) and (data := _bytes_at(store, key)) is not None:
            yield _decode(data, decoder, key)


def _decode(data: bytes, decoder: msgspec.json.Decoder[T], key: str) -> T:
    try:
        return decode_versioned(
            data,
            decoder,
            version=lambda data: _head.decode(data).release_version,
            newest=RELEASE_VERSION,
            key=key,
            newer=ReleaseError,
        )
    except UnreadableError as error:
        raise ReleaseError(f"{key!r} cannot be read as what it should be: {error}", key=key) from None


@attrs.frozen
class _Head:
    release_version: int


_head = msgspec.json.Decoder(_Head)
_release = msgspec.json.Decoder(Release)
_alias = msgspec.json.Decoder(Alias)
