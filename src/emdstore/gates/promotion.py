"""Promoting what one target holds to another one: compared and checked, then made a release, moved and pointed at."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import attrs

from emdstore.catalog import Catalog
from emdstore.catalog.comparing import Pair, Rules, Side, compare_results
from emdstore.emds import Vocabulary
from emdstore.errors import (
    ExecutionNotFoundError,
    ExecutorError,
    ReleaseError,
    ReleaseNotFoundError,
    StoreNotFoundError,
)
from emdstore.gates.checks import Proposal, run_checks
from emdstore.ingestion.replay import replay
from emdstore.selection import Selection
from emdstore.sets.listing import list_sets
from emdstore.sets.release import CheckVerdict, Release, point_alias, read_release
from emdstore.sets.releasing import create_release, expect_release
from emdstore.sets.retraction import Retraction, last_word, retract
from emdstore.sets.transfer import transfer
from emdstore.stores.port import ArtifactStore
from emdstore.stores.sameness import is_same_place
from emdstore.stores.urls import StoreLike, as_source, as_store
from emdstore.workers.several import several_at_once


@attrs.frozen(kw_only=True)
class Promotion:
    """What a promotion would do.

    Attributes
    ----------
    source, dest
        The results stores of both targets; perhaps the same.
    from_target, to_target
        The names of the targets; what a target stands behind is the release at which the alias of its name points.
    records
        The proposed sets, by folder, with the SHA-256 of each record.
    before
        The release that the target stands behind now; None if there is none.
    pairs
        How the proposed sets compare with those.
    verdicts
        What the checks say.
    retracted
        The sets that the target stands behind and that were retracted at the source since, by folder. They are no part
        of the comparison, and are retracted at the target, too.
    """

    source: ArtifactStore
    dest: ArtifactStore
    from_target: str
    to_target: str
    records: Mapping[str, str]
    before: Release | None
    pairs: tuple[Pair, ...]
    verdicts: tuple[CheckVerdict, ...]
    retracted: Mapping[str, Retraction] = attrs.field(factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no check objects to it."""
        return all(each.ok for each in self.verdicts)

    @property
    def is_done(self) -> bool:
        """Whether the target stands behind exactly these sets already."""
        return self.before is not None and self.before.records == self.records and not self.retracted


def propose(
    source: StoreLike,
    dest: StoreLike,
    *,
    from_target: str,
    to_target: str,
    release: str | None = None,
    checks: Sequence[str] | None = None,
    rules: Rules | None = None,
    vocabulary: Vocabulary | None = None,
) -> Promotion:
    """Find what would be promoted, compare it with what the target stands behind now, and run the checks.

    Nothing is changed. All values of both are read from the stores, not from a catalog.

    Parameters
    ----------
    source, dest
        The results stores of both targets, paths or URLs.
    from_target, to_target
        The names of the targets.
    release
        Promote the sets of this release of the source. By default those of the release at which the alias of
        `from_target` points; if there is no such alias, the latest published set of each execution group that was not
        retracted.
    checks
        The names of the checks to run; by default all that are known.
    rules
        The tolerances; by default none.
    vocabulary
        The controlled vocabulary.

    Raises
    ------
    ReleaseChangedError
        If the release is not what it was, in one of the stores.
    ReleaseNotFoundError
        If there is no such release.
    ReleaseError
        If there is nothing to promote.
    WorkspaceError
        If there is no such check.
    """
    results, to = as_source(source), as_store(dest)
    fragments = _proposed(results, from_target, release)
    before = _stood_behind(to, to_target)
    retracted = {} if before is None else dict(_retracted_since(results, to, before.records))
    with ExitStack() as open_ones:
        now, records = open_ones.enter_context(_loaded(results, fragments, vocabulary))
        earlier = None
        kept = [] if before is None else [each for each in before.records if each not in retracted]
        if kept:
            earlier, _ = open_ones.enter_context(_loaded(to, kept, vocabulary))
        pairs = (
            ()
            if earlier is None
            else tuple(compare_results(Side(earlier, store=to), Side(now, store=results), rules or Rules()))
        )
        verdicts = run_checks(Proposal(catalog=now, before=earlier, pairs=pairs), checks)
    return Promotion(
        source=results,
        dest=to,
        from_target=from_target,
        to_target=to_target,
        records=records,
        before=before,
        pairs=pairs,
        verdicts=tuple(verdicts),
        retracted=retracted,
    )


def _retracted_since(
    source: ArtifactStore, dest: ArtifactStore, fragments: Iterable[str]
) -> Iterator[tuple[str, Retraction]]:
    """Yield the sets that were retracted at the source, and not yet at the destination."""
    if is_same_place(source, dest):
        return  # what is retracted is left out there anyway
    with several_at_once(_new_words, source, dest, items=fragments, stores=(source, dest), name="promote") as words:
        for fragment, word in words:
            if isinstance(word, ExecutorError):
                raise word
            if word is not None:
                yield fragment, word


def _new_words(source: ArtifactStore, dest: ArtifactStore, fragments: Sequence[str]) -> list[Retraction | None]:
    """Return the retraction of each set that the destination does not know yet."""
    return [_new_word(source, dest, each) for each in fragments]


def _new_word(source: ArtifactStore, dest: ArtifactStore, fragment: str) -> Retraction | None:
    word = last_word(source, fragment)
    if word is None or not word.retracted:
        return None
    there = last_word(dest, fragment)
    return word if there is None or (not there.retracted and there.at < word.at) else None


def promote(
    promotion: Promotion,
    name: str,
    *,
    note: str = "",
    by: str | None = None,
    on_step: Callable[[str], object] | None = None,
) -> Release:
    """Carry out a promotion: make the release with the verdicts in it, move its sets, and point the target at it.

    If it is interrupted, the same call goes on. The target stands behind what it did before, or all of the new one.

    Parameters
    ----------
    promotion
        What `propose` returned.
    name
        The name of the new release.
    note
        What it is for.
    by
        Who promotes; by default the user and the host.
    on_step
        Called with what is done next, in a few words.

    Returns
    -------
    Release
        What the target stands behind now.

    Raises
    ------
    ReleaseError
        If the name is that of another release, or a set has changed since it was checked. Nothing was changed.
    TransferError
        If not all arrived. The target stands behind what it did before.
    """
    tell = on_step or (lambda _: None)
    tell(f"reading what goes into the release {name}")
    release = _made_before(promotion, name)
    if release is None:
        release = create_release(
            promotion.source,
            name,
            promotion.records,
            note=note,
            by=by,
            promoted_from=promotion.from_target,
            checks=promotion.verdicts,
            expected=promotion.records,
        )
    if not is_same_place(promotion.source, promotion.dest):
        tell("moving what is not there yet")
        transfer(promotion.source, promotion.dest, release=name).raise_for_failures()
    for fragment, word in promotion.retracted.items():
        tell(f"retracting {fragment}")
        retract(promotion.dest, fragment, reason=word.reason, successor=word.successor, by=word.by)
    why = note or f"promoted from {promotion.from_target}"
    point_alias(promotion.dest, promotion.to_target, name, why=why, by=by)
    return release


def name_for(promotion: Promotion, wanted: str) -> str:
    """Return a name for the release: the one that is wanted, numbered if that is another release's already.

    A promotion that was interrupted gets the name that it had.
    """
    for number in itertools.count(1):
        name = wanted if number == 1 else f"{wanted}.{number}"
        try:
            if _is_made_by(promotion, name, read_release(promotion.source, name)):
                return name
        except ReleaseNotFoundError:
            return name
    raise AssertionError("numbers do not end")


def _made_before(promotion: Promotion, name: str) -> Release | None:
    """Return the release if an earlier call was interrupted after it had made it."""
    try:
        release = read_release(promotion.source, name)
    except ReleaseNotFoundError:
        return None
    if not _is_made_by(promotion, name, release):
        raise ReleaseError(f"there is another release {name!r} already: choose another name", key=name)
    expect_release(promotion.source, name)
    return release


def _is_made_by(promotion: Promotion, name: str, release: Release) -> bool:
    made = (release.name, release.records, release.promoted_from)
    return made == (name, promotion.records, promotion.from_target)


def _proposed(store: ArtifactStore, target: str, release: str | None) -> list[str]:
    if release is not None:
        return list(expect_release(store, release).records)
    if (standing := _stood_behind(store, target)) is not None:
        return list(standing.records)
    latest = Selection(latest=True, state=("published",))
    fragments = [each.fragment for each in list_sets(store, selection=latest) if each.retraction is None]
    if not fragments:
        raise ReleaseError(f"there is no published set in {store!r} to promote")
    return fragments


def _stood_behind(store: ArtifactStore, target: str) -> Release | None:
    try:
        return expect_release(store, target)
    except (ReleaseNotFoundError, StoreNotFoundError):  # the first promotion makes the store
        return None


@contextmanager
def _loaded(
    store: ArtifactStore, fragments: Sequence[str], vocabulary: Vocabulary | None
) -> Iterator[tuple[Catalog, dict[str, str]]]:
    """Load sets into a catalog of their own; also return the SHA-256 of each record."""
    with Catalog("sqlite://") as catalog:
        replay(store, catalog, selection=Selection(names=fragments), vocabulary=vocabulary)
        rows = {row.fragment: row.record_digest for row in catalog.executions(retracted=None)}
        for each in fragments:
            if rows.get(each) is None:
                raise ExecutionNotFoundError(f"{each!r} in {store!r} has no values that could be checked", key=each)
        for each in rows.keys() - set(fragments):  # inside the folder of another set
            catalog.forget(each)
        yield catalog, {each: str(rows[each]) for each in sorted(fragments)}
