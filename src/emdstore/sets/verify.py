"""Checking a results store against its records, byte by byte."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from typing import Any, Literal

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, ExecutorError
from emdstore.sets.finding import FoundSet, find_sets, fragment_at
from emdstore.sets.record import decode_record, find_stale
from emdstore.sets.tally import KEPT, Tally
from emdstore.stores.port import ArtifactStore
from emdstore.stores.views import scoped
from emdstore.transfers import digest_of
from emdstore.workers.backlog import executor_or_threads, map_batches

_WORKERS = 8

Finding = Literal["corrupt", "missing", "stale", "invalid", "unreadable", "unpublished"]

FINDINGS: tuple[Finding, ...] = ("corrupt", "missing", "stale", "invalid", "unreadable", "unpublished")
_HARMLESS: tuple[Finding, ...] = ("stale", "unpublished")

VerifyCallback = Callable[["VerifiedSet", int, int | None], object]


@attrs.frozen
class Problem:
    """Something that is not as the record says.

    Attributes
    ----------
    fragment, key
        The artifact, or the record itself.
    finding
        ``corrupt``: other bytes; ``missing``; ``stale``: there, but not part of the set any more; ``unreadable``: the
        store failed; ``invalid``: the record cannot be read; ``unpublished``: a bare set, which nothing says how to
        check.
    detail
        What was found, for people.
    """

    fragment: str
    key: str
    finding: Finding
    detail: str = ""


@attrs.frozen
class VerifiedSet:
    """What was checked of one set: how many artifacts and bytes were as the record says, and what was not."""

    fragment: str
    artifacts: int
    bytes: int
    problems: tuple[Problem, ...] = ()


@attrs.frozen
class VerifyReport:
    """What was checked.

    Attributes
    ----------
    sets
        How many sets were found.
    artifacts, bytes
        How many were as their records say.
    counts
        How many findings there are of each kind.
    problems
        The findings: the first 10,000 that do harm, and as many of those that do not (stale files, bare sets).
    seconds
        How long it took.
    """

    sets: int
    artifacts: int
    bytes: int
    counts: Mapping[Finding, int]
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every artifact of every published set is whole; stale files and bare sets do no harm to that."""
        return not any(count for finding, count in self.counts.items() if finding not in _HARMLESS)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "seconds": round(self.seconds, 3),
            "sets": self.sets,
            "artifacts": self.artifacts,
            "bytes": self.bytes,
            "counts": dict(self.counts),
            "problems": [attrs.asdict(problem) for problem in self.problems],
        }


class VerifyInterrupted(KeyboardInterrupt):
    """Ctrl-C during a verification; `report` has what was checked until then."""

    def __init__(self, report: VerifyReport) -> None:
        super().__init__("the verification was interrupted")
        self.report = report


def verify(
    store: ArtifactStore,
    prefix: str = "",
    *,
    executor: Executor | None = None,
    on_progress: VerifyCallback | None = None,
) -> VerifyReport:
    """Hash every artifact again and compare it with its record. Nothing is changed.

    Memory does not grow with the store.

    Parameters
    ----------
    store
        The results store.
    prefix
        Only sets in this folder.
    executor
        Where artifacts are read and hashed; by default a few threads. The store must pickle for processes. What a lost
        worker had in hand is checked by another one.
    on_progress
        Called after each set with what was checked, the number done, and the number found; that is None until the
        listing has come to its end. What it raises is logged.

    Returns
    -------
    VerifyReport
        What is wrong is reported, not raised.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    ExecutorError
        If the executor takes no work, the store cannot be sent to its workers, or these have another emdstore.
    VerifyInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far.
    """
    run = _Verification(on_progress)
    found = run.tally.count(find_sets(store, prefix))
    try:
        with (
            executor_or_threads(executor, _WORKERS, "verify") as workers,
            closing(map_batches(workers, _verify_sets, store, items=found)) as sets,
        ):
            for each, checked in sets:
                run.add(_unchecked(store, each, checked) if isinstance(checked, ExecutorError) else checked)
    except KeyboardInterrupt:
        raise VerifyInterrupted(run.report()) from None
    return run.report()


class _Verification:
    """What one verification has come to."""

    def __init__(self, on_progress: VerifyCallback | None) -> None:
        self.tally = Tally(on_progress)
        self._sets = self._artifacts = self._bytes = 0
        self._counts = dict.fromkeys(FINDINGS, 0)
        self._problems: list[Problem] = []
        self._started = time.monotonic()

    def add(self, checked: VerifiedSet) -> None:
        self._sets += 1
        self._artifacts += checked.artifacts
        self._bytes += checked.bytes
        for problem in checked.problems:
            self._counts[problem.finding] += 1
            harmless = problem.finding in _HARMLESS
            if sum(n for finding, n in self._counts.items() if (finding in _HARMLESS) == harmless) <= KEPT:
                self._problems.append(problem)
        self.tally.done(checked)

    def report(self) -> VerifyReport:
        seconds = time.monotonic() - self._started
        counts = dict(self._counts)
        return VerifyReport(self._sets, self._artifacts, self._bytes, counts, tuple(self._problems), seconds)


def _verify_sets(store: ArtifactStore, batch: Sequence[FoundSet]) -> list[VerifiedSet]:
    return [verify_set(store, each) for each in batch]


def _unchecked(store: ArtifactStore, found: FoundSet, error: ExecutorError) -> VerifiedSet:
    fragment = fragment_at(store, found.location)
    return VerifiedSet(fragment, 0, 0, (Problem(fragment, "", "unreadable", str(error)),))


def verify_set(store: ArtifactStore, found: FoundSet) -> VerifiedSet:
    """Check one set; see `verify`."""
    fragment = fragment_at(store, found.location)
    folder = scoped(store, found.location)
    if not found.published:
        return VerifiedSet(fragment, 0, 0, (Problem(fragment, "", "unpublished", "a bare set: it has no record"),))
    try:
        record = decode_record(folder.read_bytes(RECORD_NAME))
    except EmdstoreError as error:
        return VerifiedSet(fragment, 0, 0, (Problem(fragment, RECORD_NAME, "invalid", str(error)),))
    problems = []
    whole = size = 0
    for artifact in record.artifacts:
        problem = _check(folder, fragment, artifact.key, (artifact.size, artifact.sha256))
        if problem is None:
            whole, size = whole + 1, size + artifact.size
        else:
            problems.append(problem)
    problems.extend(_stale(folder, fragment, [artifact.key for artifact in record.artifacts]))
    return VerifiedSet(fragment, whole, size, tuple(problems))


def _check(folder: ArtifactStore, fragment: str, key: str, recorded: tuple[int, str]) -> Problem | None:
    try:
        found = digest_of(folder, key)
    except ArtifactNotFoundError:
        return Problem(fragment, key, "missing", "the record names it and it is not there")
    except EmdstoreError as error:
        return Problem(fragment, key, "unreadable", str(error))
    if found == recorded:
        return None
    return Problem(
        fragment, key, "corrupt", f"{found[0]} bytes, SHA-256 {found[1]}; recorded: {recorded[0]} bytes, {recorded[1]}"
    )


def _stale(folder: ArtifactStore, fragment: str, keys: list[str]) -> Iterator[Problem]:
    try:
        for key in find_stale(folder, keys):
            yield Problem(fragment, key, "stale", "not part of the set that the record names")
    except EmdstoreError as error:
        yield Problem(fragment, "", "unreadable", str(error))
