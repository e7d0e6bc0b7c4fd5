"""Doing the same for many items, several at a time: more of them, the farther away a store is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from typing import TypeVar

from emdstore.errors import ExecutorError
from emdstore.stores.port import ArtifactStore
from emdstore.workers.backlog import MAX_IN_FLIGHT, executor_or_threads, map_batches
from emdstore.workers.distance import InFlight

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS = 8


@contextmanager
def several_at_once(
    function: Callable[..., Sequence[Result]],
    *common: object,
    items: Iterable[Item],
    stores: Sequence[ArtifactStore],
    name: str,
    executor: Executor | None = None,
    most: int = MAX_IN_FLIGHT,
    only_servers: bool = False,
    nearby: int = 1,
    only_read: bool = True,
) -> Iterator[Iterator[tuple[Item, Result | ExecutorError]]]:
    """Call a function on many items, and yield what yields each with its result, in order.

    Parameters
    ----------
    function, common, items
        See `map_batches`.
    stores
        What is asked; how long the answers take decides how many threads there are (`noting_answer`).
    name
        What the threads are called.
    executor
        Does it instead of threads.
    most
        How many items are in progress at a time, at most.
    only_servers
        Whether stores that are on no server are used in this thread.
    nearby
        How many items a thread takes at once from such stores: several, if each takes less time than handing it over.
    only_read
        Whether the function changes nothing: then nobody waits after Ctrl-C for what is in progress.
    """
    in_flight = InFlight.of(*stores, least=_THREADS, most=most)
    if executor is None and only_servers and not in_flight.servers:
        yield ((item, function(*common, [item])[0]) for item in items)
        return
    given, size = in_flight if executor is None else lambda: most, 1 if in_flight.servers else nearby
    with (
        executor_or_threads(executor, in_flight.most, name, only_read=only_read) as workers,
        closing(map_batches(workers, function, *common, items=items, size=size, given=given)) as results,
    ):
        yield results
