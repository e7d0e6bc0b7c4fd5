"""Checking a results store against its records, byte by byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from typing import Any, Literal, get_args

import attrs

from emdstore import system
from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import EmdstoreError, ExecutorError, Interrupted
from emdstore.progress import KEPT, Tally
from emdstore.selection import ALL, Selection
from emdstore.sets.finding import SetFolder, fragment_at
from emdstore.sets.listing import find_chosen
from emdstore.sets.proved import Proved
from emdstore.sets.record import RecordedArtifact
from emdstore.sets.releasing import expect_release
from emdstore.sets.state import SET_STATES, SetLook, SetState, look_at_set
from emdstore.shown import Shown
from emdstore.stores.left_out import FirstLeftOut
from emdstore.stores.port import ArtifactStore, LeftOut
from emdstore.stores.urls import StoreLike, as_source
from emdstore.workers.several import several_at_once

Finding = Literal["corrupt", "missing", "stale", "unreadable", "publishing", "incomplete", "bare", "newer-schema"]

FINDINGS: tuple[Finding, ...] = get_args(Finding)
HARMLESS: tuple[Finding, ...] = ("stale", "incomplete", "bare")

VerifyCallback = Callable[["VerifiedSet", int, int | None], object]


@attrs.frozen
class Problem:
    """Something that does not match a record.

    Attributes
    ----------
    fragment, key
        The artifact, or the record itself.
    finding
        For an artifact: ``corrupt``: other bytes; ``missing``; ``stale``: there, but not part of the set any more;
        ``unreadable``: the store failed. For a set, whose key is that of its record or empty: ``publishing``,
        ``incomplete``, ``bare``, ``unreadable`` or ``newer-schema``, as in `emdstore.sets.state.SetState`.
    detail
        What was found, for people.
    """

    fragment: str
    key: str
    finding: Finding
    detail: str = ""


@attrs.frozen
class VerifiedSet:
    """What was checked in one set: its state, the artifacts and bytes that match its record, the findings, whether it
    was retracted, and the SHA-256 of its record.
    """

    fragment: str
    state: SetState
    artifacts: int = 0
    bytes: int = 0
    problems: tuple[Problem, ...] = ()
    retracted: bool = False
    record: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all that its record names is there with its digest."""
        settled = self.record is not None and self.state in ("published", "failed", "incomplete")
        return settled and all(each.finding in HARMLESS for each in self.problems)


@attrs.frozen(repr=False)
class VerifyReport(Shown):
    """What was checked.

    Attributes
    ----------
    sets
        How many sets were found.
    artifacts, bytes
        How many match their records.
    counts
        How many findings there are of each kind.
    problems
        The first 10,000 harmful findings, and as many harmless ones (stale files, bare sets, sets whose record says
        that they are incomplete).
    seconds
        How long it took.
    states
        How many sets there are in each state.
    retracted
        How many of them were retracted.
    left_out
        The first 10,000 things in the store that are not artifacts, because no key can name them or they cannot be
        read.
    """

    sets: int
    artifacts: int
    bytes: int
    counts: Mapping[Finding, int]
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0
    states: Mapping[SetState, int] = attrs.field(factory=dict)
    retracted: int = 0
    left_out: tuple[LeftOut, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every artifact that a record names is whole, no set is being published, and nothing was left out or
        unreadable.
        """
        harm = sum(count for finding, count in self.counts.items() if finding not in HARMLESS)
        return not harm and not self.left_out

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "seconds": round(self.seconds, 3),
            "sets": self.sets,
            "states": dict(self.states),
            "retracted": self.retracted,
            "artifacts": self.artifacts,
            "bytes": self.bytes,
            "counts": dict(self.counts),
            "problems": [attrs.asdict(problem) for problem in self.problems],
            "left_out": [each.as_dict() for each in self.left_out],
        }


class VerifyInterrupted(Interrupted):
    """Ctrl-C during a verification; `report` has what was checked until then. See `Interrupted`."""

    _what = "the verification"
    report: VerifyReport


def verify(
    store: StoreLike,
    prefix: str = "",
    *,
    selection: Selection = ALL,
    release: str | None = None,
    executor: Executor | None = None,
    on_progress: VerifyCallback | None = None,
    state_file: str | os.PathLike[str] | None = None,
) -> VerifyReport:
    """Hash every artifact again and compare it with its record. Nothing is changed.

    Memory does not grow with the store, except for what a state file holds.

    Parameters
    ----------
    store
        The results store.
    prefix
        Only sets in this folder.
    selection
        Only sets that are chosen.
    release
        Only sets of this release, or of the one that this alias points at.
    executor
        Does the work; by default a few threads. For processes the store must pickle. The work of a lost worker is given
        to another one.
    on_progress
        Called after each set with what was checked, the number done, and the number found, which is None until the
        listing has ended. Its exceptions are logged.
    state_file
        A file that keeps which sets were found whole. The next call with it reads none of them again whose record is
        the same, and whose files are there, in their sizes, and were not written since. When all is well it is removed,
        and the next call reads everything.

    Returns
    -------
    VerifyReport
        What is wrong is reported, not raised.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    ReleaseChangedError
        If a set of the release is not there, or has another record than the one that was released.
    ReleaseNotFoundError
        If the store has no such release.
    SelectionError
        If the state file is about another store, or cannot be used.
    ExecutorError
        If the executor accepts no work, the store cannot be sent to its workers, or these have another version of
        emdstore.
    VerifyInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far.
    """
    store = as_source(store)
    run = _Verification(on_progress)
    chosen = find_chosen(store, prefix, selection, left_out=run.left_out.note)
    if release is not None:
        released = expect_release(store, release).records
        chosen = (each for each in chosen if each.location in released)
    proved = Proved(state_file, f"verify of {store!r}") if state_file is not None else None
    found = ((each, proved and proved.record_of(each.location)) for each in run.tally.count(chosen))
    try:
        with (
            proved or nullcontext(),
            several_at_once(_verify_sets, store, items=found, stores=[store], name="verify", executor=executor) as sets,
        ):
            for (each, _), checked in sets:
                if isinstance(checked, ExecutorError):
                    checked = _unchecked(store, each, checked)
                if proved is not None and checked.is_whole:
                    proved.note(each.location, checked.record or "")
                run.add(checked)
    except KeyboardInterrupt:
        raise VerifyInterrupted(run.report()) from None
    report = run.report()
    if proved is not None and report.ok:
        proved.forget()
    return report


class _Verification:
    """The progress of one verification."""

    def __init__(self, on_progress: VerifyCallback | None) -> None:
        self.tally = Tally(on_progress)
        self._sets = self._artifacts = self._bytes = self._retracted = 0
        self._counts = dict.fromkeys(FINDINGS, 0)
        self._states = dict.fromkeys(SET_STATES, 0)
        self._problems: list[Problem] = []
        self.left_out = FirstLeftOut()
        self._started = system.current().monotonic()

    def add(self, checked: VerifiedSet) -> None:
        self._sets += 1
        self._retracted += checked.retracted
        self._states[checked.state] += 1
        self._artifacts += checked.artifacts
        self._bytes += checked.bytes
        for problem in checked.problems:
            self._counts[problem.finding] += 1
            harmless = problem.finding in HARMLESS
            if sum(n for finding, n in self._counts.items() if (finding in HARMLESS) == harmless) <= KEPT:
                self._problems.append(problem)
        self.tally.done(checked)

    def report(self) -> VerifyReport:
        seconds = system.current().monotonic() - self._started
        return VerifyReport(
            self._sets,
            self._artifacts,
            self._bytes,
            dict(self._counts),
            tuple(self._problems),
            seconds,
            dict(self._states),
            self._retracted,
            self.left_out.kept,
        )


def _verify_sets(store: ArtifactStore, batch: Sequence[tuple[SetFolder, str | None]]) -> list[VerifiedSet]:
    return [verify_set(store, each, proved) for each, proved in batch]


def _unchecked(store: ArtifactStore, found: SetFolder, error: ExecutorError) -> VerifiedSet:
    fragment = fragment_at(store, found.location)
    return VerifiedSet(fragment, "unreadable", problems=(Problem(fragment, "", "unreadable", str(error)),))


def verify_set(store: ArtifactStore, found: SetFolder, proved: str | None = None) -> VerifiedSet:
    """Check one set; see `verify`. If it was proved with this record, only what was touched since is read again."""
    try:
        look = look_at_set(store, found.location, bundles=False, every_digest=proved is None)
        verdict = look.judgement
        if proved is not None and (
            look.record_digest != proved or verdict.lacking or verdict.differing or verdict.unread
        ):
            return verify_set(store, found)
    except EmdstoreError as error:  # it was removed meanwhile
        fragment = found.location
        return VerifiedSet(fragment, "unreadable", problems=(Problem(fragment, "", "unreadable", str(error)),))
    problems = [*_of_artifacts(look), *_of_set(look), *_stale(look)]
    wrong = {*look.judgement.lacking, *look.judgement.differing, *look.judgement.unread}
    known = look.digests if proved is None else {each.key for each in _recorded(look)}
    whole = [each.size for each in _recorded(look) if each.key not in wrong and each.key in known]
    retracted = look.retraction is not None
    return VerifiedSet(
        look.fragment, look.state, len(whole), sum(whole), tuple(problems), retracted, look.record_digest
    )


def _recorded(look: SetLook) -> tuple[RecordedArtifact, ...]:
    return look.record.artifacts if look.record is not None else ()


def _of_artifacts(look: SetLook) -> Iterator[Problem]:
    for artifact in _recorded(look):
        found = look.digests.get(artifact.key)
        if artifact.key in look.judgement.lacking:
            yield Problem(look.fragment, artifact.key, "missing", "the record names it and it is not there")
        elif artifact.key in look.judgement.unread:
            yield Problem(look.fragment, artifact.key, "unreadable", str(found))
        elif artifact.key in look.judgement.differing and isinstance(found, tuple):
            detail = f"{found[0]} bytes, SHA-256 {found[1]}; recorded: {artifact.size} bytes, {artifact.sha256}"
            yield Problem(look.fragment, artifact.key, "corrupt", detail)


def _of_set(look: SetLook) -> Iterator[Problem]:
    state, detail = look.state, str(look.error or "")
    if state == "bare":
        yield Problem(look.fragment, "", "bare", "it has no record, so nothing says how to check it")
    elif state == "incomplete":
        reason = look.record.reason if look.record is not None else None
        yield Problem(look.fragment, "" if look.record is None else RECORD_NAME, "incomplete", reason or detail)
    elif state in ("publishing", "newer-schema") or (state == "unreadable" and not look.judgement.unread):
        yield Problem(look.fragment, RECORD_NAME if look.record_digest else "", state, detail)


def _stale(look: SetLook) -> Iterator[Problem]:
    if look.state in ("published", "failed", "incomplete", "changed") and look.record is not None:
        known = {RECORD_NAME, RETRACTION_NAME, *(artifact.key for artifact in look.record.artifacts)}
        for key in sorted(look.listing.keys() - known):
            yield Problem(look.fragment, key, "stale", "not part of the set that the record names")
