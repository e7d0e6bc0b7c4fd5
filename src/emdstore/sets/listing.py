"""Listing the sets of a results store, each with its state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from datetime import datetime

import attrs

from emdstore.errors import EmdstoreError, ExecutorError
from emdstore.selection import ALL, Selection, folders_above
from emdstore.sets.finding import SetFolder, find_sets
from emdstore.sets.record import split_fragment
from emdstore.sets.retraction import Retraction
from emdstore.sets.state import SetLook, SetState, look_at_set
from emdstore.stores.left_out import iter_known
from emdstore.stores.port import ArtifactInfo, ArtifactStore, LeftOut
from emdstore.stores.urls import StoreLike, as_source
from emdstore.workers.several import several_at_once


@attrs.frozen(kw_only=True)
class ListedSet:
    """One set of a results store.

    Attributes
    ----------
    fragment
        The execution.
    state
        See `emdstore.sets.state.SetState`.
    provider, diagnostic, group
        Where it belongs, according to its record or else its location.
    reason
        Why it is in this state, for people.
    time
        When it was published, or opened; None without a record.
    artifacts, size
        How many artifacts are named, and their bytes.
    origin
        The host where it ran, or else what wrote its record; None without a record.
    generation
        The generation in its record.
    retraction
        Why it must not be used any more, if it was retracted.
    started_at
        When its run began, if its record tells.
    """

    fragment: str
    state: SetState
    provider: str = ""
    diagnostic: str = ""
    group: str = ""
    reason: str | None = None
    time: datetime | None = None
    artifacts: int = 0
    size: int = 0
    origin: str | None = None
    generation: int = 0
    retraction: Retraction | None = None
    started_at: datetime | None = None


def list_sets(
    store: StoreLike,
    prefix: str = "",
    *,
    selection: Selection = ALL,
    executor: Executor | None = None,
    left_out: Callable[[LeftOut], object] | None = None,
) -> Iterator[ListedSet]:
    """List the sets below a prefix, each with its state; memory does not grow with the store.

    Each set's record is read, and its folder is listed. Artifacts that are newer than the record are hashed; everything
    else is trusted, unlike in `verify`.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    prefix
        Only sets in this folder.
    selection
        Only sets that are chosen.
    executor
        Runs the work; by default a few threads.
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
    for _, listed in look_at_sets(as_source(store), prefix, selection, executor=executor, left_out=left_out):
        yield listed


def find_chosen(
    store: ArtifactStore,
    prefix: str = "",
    selection: Selection = ALL,
    *,
    left_out: Callable[[LeftOut], object] | None = None,
) -> Iterator[SetFolder]:
    """Find the sets below a prefix that are chosen; see `find_sets`. Records are read only if the choice needs them."""
    if selection.by_meaning or selection.by_measure:
        return (found for found, _ in look_at_sets(store, prefix, selection, left_out=left_out))
    found = find_sets(store, prefix, left_out=left_out)
    return found if selection.is_all else (each for each in found if selection.takes_folder(each.location))


def iter_chosen(
    store: ArtifactStore,
    prefix: str = "",
    selection: Selection = ALL,
    *,
    left_out: Callable[[LeftOut], object],
) -> Iterator[ArtifactInfo | str]:
    """List the selected keys below a prefix: by their own names, sizes and times, and by the sets that they are in.

    Parameters
    ----------
    store, prefix, left_out
        See `emdstore.stores.left_out.iter_known`.
    selection
        What is chosen.

    Raises
    ------
    SelectionError
        If the store does not tell the sizes or times that are asked for.
    """
    sets: frozenset[str] | None = None
    if selection.by_meaning:
        of_sets = attrs.evolve(selection.without_names(), min_size=None, max_size=None, newer=None, older=None)
        sets = frozenset(each.location for each in find_chosen(store, "", of_sets, left_out=lambda _: None))
    for each in iter_known(store, prefix, left_out=left_out):
        key, size, modified = (each, None, None) if isinstance(each, str) else (each.key, each.size, each.modified)
        if not selection.takes_name(key) or not selection.takes_measure(size, modified, what=key):
            continue
        if sets is None or "" in sets or any(folder in sets for folder in folders_above(key)):
            yield each


def look_at_sets(
    store: ArtifactStore,
    prefix: str = "",
    selection: Selection = ALL,
    *,
    executor: Executor | None = None,
    left_out: Callable[[LeftOut], object] | None = None,
) -> Iterator[tuple[SetFolder, ListedSet]]:
    """Look at the sets below a prefix that are chosen, as `list_sets` does."""
    latest = _latest_of(store, executor) if selection.latest else None
    looked = _looked_at(store, find_sets(store, prefix, left_out=left_out), selection, executor)
    for found, listed in looked:
        chosen = selection.takes_set(
            listed.fragment,
            provider=listed.provider,
            diagnostic=listed.diagnostic,
            group=listed.group,
            state=listed.state,
            size=listed.size,
            time=listed.time,
        )
        if chosen and (latest is None or listed.fragment in latest):
            yield found, listed


def _latest_of(store: ArtifactStore, executor: Executor | None) -> frozenset[str]:
    """Return the latest complete set of each execution group, as a catalog of the store would have it."""
    best: dict[tuple[str, str, str], ListedSet] = {}
    # The listing that selects reports what is left out.
    for _, each in _looked_at(store, find_sets(store, left_out=lambda _: None), ALL, executor):
        if each.state in ("published", "bare") and each.retraction is None:
            group = each.provider, each.diagnostic, each.group
            best[group] = max(best.get(group, each), each, key=_age)
    return frozenset(each.fragment for each in best.values())


def _age(listed: ListedSet) -> tuple[float, float, str]:
    def seconds(moment: datetime | None) -> float:
        return -math.inf if moment is None else moment.timestamp()

    return seconds(listed.time), seconds(listed.started_at), listed.fragment


def _looked_at(
    store: ArtifactStore, found: Iterator[SetFolder], selection: Selection, executor: Executor | None
) -> Iterator[tuple[SetFolder, ListedSet]]:
    named = (each for each in found if not each.location or selection.takes_folder(each.location))
    with several_at_once(_list_each, store, items=named, stores=[store], name="sets", executor=executor) as sets:
        for each, listed in sets:
            if isinstance(listed, ExecutorError):
                yield each, ListedSet(fragment=each.location, state="unreadable", reason=str(listed))
            else:
                yield each, listed


def _list_each(store: ArtifactStore, batch: Sequence[SetFolder]) -> list[ListedSet]:
    return [_listed(store, each) for each in batch]


def _listed(store: ArtifactStore, found: SetFolder) -> ListedSet:
    try:
        look = look_at_set(store, found.location, bundles=False)
    except EmdstoreError as error:  # it was removed meanwhile
        return ListedSet(fragment=found.location, state="unreadable", reason=str(error))
    return summary_of(look)


def summary_of(look: SetLook) -> ListedSet:
    """Return one line of a listing for a set that was looked at."""
    record = look.record
    told = (record.provider, record.diagnostic, record.group) if record is not None else split_fragment(look.fragment)
    provider, diagnostic, group = told
    reason = str(look.error) if look.error is not None else record.reason if record is not None else None
    return ListedSet(
        fragment=look.fragment,
        state=look.state,
        provider=provider,
        diagnostic=diagnostic,
        group=group,
        reason=reason,
        time=None if record is None else record.published_at or record.opened_at,
        artifacts=len(record.artifacts) if record is not None else len(look.named.keys) if look.named else 0,
        size=look.size,
        origin=None if record is None else record.host or record.producer,
        generation=0 if record is None else record.generation,
        retraction=look.retraction,
        started_at=None if record is None else record.started_at,
    )
