"""Making releases of sets, and telling whether they still are what was released."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Literal

import attrs

from emdstore import system
from emdstore.errors import (
    EmdstoreError,
    ExecutorError,
    LookRefusedError,
    ReleaseChangedError,
    ReleasedSetError,
    ReleaseError,
)
from emdstore.keys import validate_key
from emdstore.sets.events import announce, make_event, whoever_says_so
from emdstore.sets.finding import SetFolder, find_sets
from emdstore.sets.reading_records import reading_records
from emdstore.sets.release import (
    CheckVerdict,
    Release,
    ReleasedSet,
    encode_release,
    list_releases,
    own_keys,
    read_release,
    refuse_taken,
    write_release,
)
from emdstore.sets.state import SetState, look_at_set
from emdstore.shown import Shown
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore, SupportsDelete, SupportsPath
from emdstore.stores.urls import StoreLike, as_source, as_store
from emdstore.workers.several import several_at_once

_NAMED = 5

# A set in one of these states is about to change, or is damaged. To leave it out without a word would hide that.
_UNFIT: tuple[SetState, ...] = ("publishing", "changed", "unreadable", "newer-schema")

ReleaseFinding = Literal["missing", "changed", "publishing", "damaged", "unreadable"]


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


def create_release(
    store: StoreLike,
    name: str,
    fragments: Iterable[str] | None = None,
    *,
    prefix: str = "",
    note: str = "",
    by: str | None = None,
    promoted_from: str | None = None,
    checks: Sequence[CheckVerdict] = (),
    expected: Mapping[str, str] | None = None,
    key: str | os.PathLike[str] | None = None,
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
    promoted_from, checks
        See `Release`.
    expected
        The SHA-256 that the record of each set must have, by folder; any if None.
    key
        The SSH key to sign it with; see `sign_release`.
    executor
        Where sets are read and hashed; by default a few threads.

    Returns
    -------
    Release
        What was written.

    Raises
    ------
    ReleaseError
        If the name is taken or makes no sense; if it cannot be signed; if a set that is named is not published, not
        whole, retracted, or not as expected; if without names a set is in flux or damaged, or there is none; if
        somebody publishes one of them again meanwhile. Nothing was written, or it was removed again.
    StoreError
        If the store cannot be read or written.
    """
    results = as_source(store)
    refuse_taken(results, name)
    if fragments is None:
        found = list(find_sets(results, prefix))
    else:
        found = [SetFolder(validate_key(each), published=True) for each in sorted(set(fragments))]
    chosen = _fit(_look_at_each(results, found, executor), named=fragments is not None)
    if not chosen:
        raise ReleaseError(f"there is no published set below {prefix!r} in {results!r} to release", key=prefix)
    if expected is not None and (other := [each for each in chosen if each.record != expected.get(each.location)]):
        raise ReleaseError(f"{other[0].location!r} has changed since it was looked at: do it again")
    release = Release(
        name=name,
        at=system.current().now(),
        by=by or whoever_says_so(),
        note=note,
        sets=tuple(ReleasedSet(each.location, each.record) for each in chosen if each.record is not None),
        promoted_from=promoted_from,
        checks=tuple(checks),
    )
    signature = None
    if key is not None:
        from emdstore.sets.signing import make_signature  # slow to import

        signature = make_signature(encode_release(release), key)
    write_release(results, release, signature)
    _take_back_if_changed(results, release)
    announce(results, [make_event("released", name, about=note)])
    return release


def _take_back_if_changed(store: ArtifactStore, release: Release) -> None:
    """Remove a release that was just written, if somebody has begun to replace one of its sets meanwhile.

    Whoever asks from now on whether a release names the set finds this one; but they may have asked before.
    """
    try:
        expect_release(store, release.name)
    except ReleaseChangedError as error:
        kept = f"; the release {release.name!r} is written, and worth nothing"
        if isinstance(store, SupportsDelete):
            for key in reversed(own_keys(store, release, release.name)):
                store.delete(key)
            kept = ", and nothing was released"
        raise ReleaseError(
            f"{error.key!r} was published again, or removed, while it was released{kept}: try again", key=error.key
        ) from error


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
    with reading_records(results, expected) as records:
        for fragment, read in records:
            if isinstance(read, EmdstoreError):
                raise read
            if read is None or sha256_of(read) != expected[fragment]:
                findings[fragment] = "missing" if read is None else "changed"
    ReleaseCheck(release, len(expected) - len(findings), findings).raise_for_findings()
    return release


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
    sets = [SetFolder(fragment, published=True) for fragment in expected]
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


def _look_at_each(store: ArtifactStore, found: Iterable[SetFolder], executor: Executor | None) -> list[_Looked]:
    with several_at_once(_look_at_some, store, items=found, stores=[store], name="release", executor=executor) as looks:
        return [
            _Looked(each.location, "unreadable", error=str(looked)) if isinstance(looked, ExecutorError) else looked
            for each, looked in looks
        ]


def _look_at_some(store: ArtifactStore, batch: Sequence[SetFolder]) -> list[_Looked]:
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
