"""Checking a results store against its records, byte by byte."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Literal

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, EmdstoreError
from emdstore.lifecycle.ingest import bounded_map
from emdstore.lifecycle.record import decode_record, find_stale
from emdstore.lifecycle.sets import FoundSet, find_sets, fragment_at
from emdstore.stores.port import ArtifactStore
from emdstore.stores.views import scoped
from emdstore.transfer import digest_of

_log = logging.getLogger(__name__)

_WORKERS = 8

Finding = Literal["corrupt", "missing", "stale", "invalid", "unreadable", "unpublished"]

VerifyCallback = Callable[["VerifiedSet", int, int], object]


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
        One for each set that was found.
    seconds
        How long it took.
    """

    sets: tuple[VerifiedSet, ...]
    seconds: float = 0.0

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All findings."""
        return tuple(problem for each in self.sets for problem in each.problems)

    @property
    def ok(self) -> bool:
        """Whether every artifact of every published set is whole; stale files and bare sets do no harm to that."""
        return all(problem.finding in ("stale", "unpublished") for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "seconds": round(self.seconds, 3),
            "sets": len(self.sets),
            "artifacts": sum(each.artifacts for each in self.sets),
            "bytes": sum(each.bytes for each in self.sets),
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

    Parameters
    ----------
    store
        The results store.
    prefix
        Only sets in this folder.
    executor
        Where artifacts are read and hashed; by default a few threads.
    on_progress
        Called after each set with what was checked, the number done, and the number found. What it raises is logged.

    Returns
    -------
    VerifyReport
        What is wrong is reported, not raised.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    VerifyInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far.
    """
    started = time.monotonic()
    found = find_sets(store, prefix)
    checked: list[VerifiedSet] = []
    own = ThreadPoolExecutor(_WORKERS, thread_name_prefix="emdstore-verify") if executor is None else None
    try:
        for each in bounded_map(executor or own, verify_set, ((store, one) for one in found)):
            checked.append(each)
            if on_progress is not None:
                try:
                    on_progress(each, len(checked), len(found))
                except Exception:  # noqa: BLE001 - a display must not cost the result
                    _log.exception("the progress callback failed; the verification goes on")
    except KeyboardInterrupt:
        raise VerifyInterrupted(VerifyReport(tuple(checked), time.monotonic() - started)) from None
    finally:
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)
    return VerifyReport(tuple(checked), time.monotonic() - started)


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
