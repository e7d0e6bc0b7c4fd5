"""Listing the sets of a results store, each with its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from datetime import datetime

import attrs

from emdstore.errors import EmdstoreError, ExecutorError
from emdstore.sets.finding import FoundSet, find_sets
from emdstore.sets.retraction import Retraction
from emdstore.sets.state import SetLook, SetState, look_at_set
from emdstore.stores.port import ArtifactStore, LeftOut
from emdstore.stores.urls import StoreLike, as_source
from emdstore.workers.backlog import executor_or_threads, map_batches

_READERS = 8


@attrs.frozen(kw_only=True)
class ListedSet:
    """One set of a results store.

    Attributes
    ----------
    fragment
        The execution.
    state
        See `emdstore.sets.state.SetState`.
    reason
        Why it is in this state, for people.
    time
        When it was published, or opened; None without a record.
    artifacts, size
        How many artifacts are named, and their bytes.
    origin
        The host where it ran, or else what wrote its record; None without a record.
    generation
        How often it had been claimed when it was published.
    retraction
        Why it is not to be used any more, if it was retracted.
    """

    fragment: str
    state: SetState
    reason: str | None = None
    time: datetime | None = None
    artifacts: int = 0
    size: int = 0
    origin: str | None = None
    generation: int = 0
    retraction: Retraction | None = None


def list_sets(
    store: StoreLike,
    prefix: str = "",
    *,
    executor: Executor | None = None,
    left_out: Callable[[LeftOut], object] | None = None,
) -> Iterator[ListedSet]:
    """List the sets below a prefix, each with its state; memory does not grow with the store.

    Of each set the record is read and its folder is listed. What the record names and is newer than it is hashed;
    everything else is believed, as `verify` does not.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    prefix
        Only sets in this folder.
    executor
        Where sets are looked at; by default a few threads.
    left_out
        See `find_sets`.

    Yields
    ------
    ListedSet
        In the order in which they are found.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    """
    opened = as_source(store)
    with (
        executor_or_threads(executor, _READERS, "sets", only_read=True) as workers,
        closing(map_batches(workers, _list_each, opened, items=find_sets(opened, prefix, left_out=left_out))) as sets,
    ):
        for found, listed in sets:
            if isinstance(listed, ExecutorError):
                yield ListedSet(fragment=found.location, state="unreadable", reason=str(listed))
            else:
                yield listed


def _list_each(store: ArtifactStore, batch: Sequence[FoundSet]) -> list[ListedSet]:
    return [_listed(store, each) for each in batch]


def _listed(store: ArtifactStore, found: FoundSet) -> ListedSet:
    try:
        look = look_at_set(store, found.location, bundles=False)
    except EmdstoreError as error:  # it went meanwhile
        return ListedSet(fragment=found.location, state="unreadable", reason=str(error))
    return summary_of(look)


def summary_of(look: SetLook) -> ListedSet:
    """Return one line of a listing for a set that was looked at."""
    record = look.record
    reason = str(look.error) if look.error is not None else record.reason if record is not None else None
    return ListedSet(
        fragment=look.fragment,
        state=look.state,
        reason=reason,
        time=None if record is None else record.published_at or record.opened_at,
        artifacts=len(record.artifacts) if record is not None else len(look.named.keys) if look.named else 0,
        size=look.size,
        origin=None if record is None else record.host or record.producer,
        generation=0 if record is None else record.generation,
        retraction=look.retraction,
    )
