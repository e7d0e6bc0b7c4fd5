"""What a batch of commits runs on: an executor that somebody gave, forks of this process, or threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from emdstore import system
from emdstore.emds import RECORD_NAME
from emdstore.errors import StoreError
from emdstore.executions.locations import Locations
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.stores.sameness import is_shared
from emdstore.workers.backlog import executor_or_threads

WORKERS = 4  # to local results: of forks one more than cores, as each waits for its flush
MOST_WORKERS = 16
_SENDERS = 16
_WORTH_FORKING = 8


@contextmanager
def batch_workers(
    locations: Locations, executor: Executor | None, count: int
) -> Iterator[tuple[Executor, Executor | None]]:
    """Give what is to commit so many executions: the executor; or forks of this process; or threads.

    The second is what they all send their files with, or None if each of them sees to that itself: to an object store
    far away each would start a dozen threads, for a dozen files.

    A commit to local results spends half its time in Python, whose lock threads would hand to one another, and forks
    do not. A fork sees only what is outside this process, so it has to be certain that the results are.
    """
    results = locations.results
    is_local = isinstance(results, SupportsPath)
    if executor is None and is_local and count >= _WORTH_FORKING and is_shared(results):
        from emdstore.workers.forks import Forks, can_fork  # slow to import

        if can_fork() and locations.catalog.release_connections():
            with Forks(min(WORKERS, (os.cpu_count() or 1) + 1)) as forks:
                yield forks, None
            return
    if executor is not None or count <= WORKERS or is_local:
        with executor_or_threads(executor, WORKERS, "commit") as pool:
            yield pool, None
        return
    with (
        executor_or_threads(None, _SENDERS, "send") as senders,
        executor_or_threads(None, commits_at_once(answer_seconds(results)), "commit") as pool,
    ):
        yield pool, senders


def answer_seconds(results: ArtifactStore) -> float:
    """Return how long the results store takes to answer; no time if it does not, as each commit will say."""
    seconds = 0.0
    try:
        for _ in range(2):  # the first one may have to connect
            started = system.current().monotonic()
            results.exists(RECORD_NAME)
            seconds = system.current().monotonic() - started
    except StoreError:
        return 0.0
    return seconds


def commits_at_once(answer_seconds: float) -> int:
    """Return how many commits to have under way: each asks the results store a dozen times, and waits for answers."""
    return max(WORKERS, min(MOST_WORKERS, round(answer_seconds * 1000)))
