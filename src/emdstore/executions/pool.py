"""What a batch of commits runs on: a given executor, forks of this process, or threads."""

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

WORKERS = 4  # for local results: one fork more than cores, because each waits for its flush
_MOST_COMMITS = 24
_LEAST_SENDERS, _MOST_SENDERS = 16, 64
_WORTH_FORKING = 8


@contextmanager
def batch_workers(
    locations: Locations, executor: Executor | None, count: int
) -> Iterator[tuple[Executor, Executor | None]]:
    """Yield what commits the executions: the given executor, forks of this process, or threads.

    The second value is the executor that all commits send their files with, or None if each uses its own. For a distant
    object store each would start a dozen threads, for a dozen files.

    A commit to local results spends half its time in Python, where threads would wait for each other's lock. A fork
    sees only what is outside this process, so it must be certain that the results are.
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
    commits, senders = at_once(answer_seconds(results))
    with (
        executor_or_threads(None, senders, "send") as sending,
        executor_or_threads(None, commits, "commit") as pool,
    ):
        yield pool, sending


def answer_seconds(results: ArtifactStore) -> float:
    """Return how long the results store takes to answer; 0 if it does not, which each commit will report."""
    seconds = 0.0
    try:
        for _ in range(2):  # the first one may have to connect
            started = system.current().monotonic()
            results.exists(RECORD_NAME)
            seconds = system.current().monotonic() - started
    except StoreError:
        return 0.0
    return seconds


def at_once(answer_seconds: float) -> tuple[int, int]:
    """Return how many commits to run at once, and how many files to send, so that all these answers keep a core busy.

    Each commit waits for some answers one after the other, and sends a dozen files. It holds some MB meanwhile.
    """
    wanted = round(answer_seconds * 1000)
    return max(WORKERS, min(_MOST_COMMITS, wanted)), max(_LEAST_SENDERS, min(_MOST_SENDERS, wanted))
