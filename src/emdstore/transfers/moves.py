"""What to do for everything that is to be moved: keys alone, and folders that are moved as a whole, in the order to
start them.

What has to ask a store is asked ahead, in threads, unless both are local: each answer may take long.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import TypeAlias

import attrs

from emdstore.errors import ExecutorError
from emdstore.keys import in_folder
from emdstore.selection import folders_above, roots_of
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore, LeftOut, SupportsPath, SupportsSession
from emdstore.transfers.patience import patiently
from emdstore.transfers.plan import KeyPair, Listing, Step, Unchanged, check_rule, pairs_of, plan_steps
from emdstore.transfers.units import Group, Reads, Sealing, Unit, grouped, sealed_folders
from emdstore.workers.backlog import MAX_IN_FLIGHT
from emdstore.workers.distance import InFlight
from emdstore.workers.several import several_at_once
from emdstore.workers.together import answers_to

_ASKED_AT_ONCE = 16
_LISTED_AHEAD = 200

Asked: TypeAlias = Callable[[], Unit]
"""Asks a store what to do for a folder."""


def plan_move(
    source: ArtifactStore,
    dest: ArtifactStore,
    keys: Iterable[str] | None = None,
    *,
    unchanged: Unchanged = "stat",
    found: Listing | None = None,
    proved: Mapping[str, str] | None = None,
    expected: Mapping[str, str] | None = None,
    sealing: Sealing | None = None,
    left_out: Callable[[LeftOut], object] | None = None,
) -> Iterator[Step | Unit]:
    """Plan like `plan_steps`, with units for the folders that are moved as a whole."""
    if sealing is not None and keys is None:
        check_rule(unchanged)
        pairs = pairs_of(source, dest, left_out, also=sealing.name)
        return _planned(grouped(pairs, sealing, source, dest), sealing, source, dest, unchanged)
    steps = plan_steps(
        source, dest, keys, unchanged=unchanged, found=found, proved=proved, expected=expected, left_out=left_out
    )
    return steps if sealing is None else _named(steps, unchanged, sealing, source, dest, left_out)


def _named(
    steps: Iterator[Step],
    unchanged: Unchanged,
    sealing: Sealing,
    source: ArtifactStore,
    dest: ArtifactStore,
    left_out: Callable[[LeftOut], object] | None,
) -> Iterator[Step | Unit]:
    """Group the steps of given keys by sealed folder, each group at the place of its first key.

    The name of a folder stands for everything in it.
    """
    planned = list(steps)
    missing = [step.key for step in planned if step.action == "missing"]
    asked = [partial(_holds_something, source, key) for key in missing]
    names = set(itertools.compress(missing, answers_to(asked, at_once=place_of(source).remote)))
    folders = set(roots_of(names))
    outside = [
        step
        for step in planned
        if not (step.key in names or _lies_in(step.key, folders)) and sealing.takes(KeyPair(step.key, True, False))
    ]
    sealed_ones = sealed_folders(
        (*folders, *(step.key for step in outside if step.action != "rejected")), sealing.name, source, dest
    )
    inside = sealed_ones.folders
    for folder in sorted(folders & inside.keys()):  # a part of a set
        within = [key for key in source.iter_keys(folder) if sealing.takes(KeyPair(key, True, False))]
        outside += plan_steps(source, dest, within, unchanged=unchanged)
        inside |= {step.key: inside[folder] for step in outside if in_folder(step.key, folder)}
    whole = [step.key for step in planned if step.key in folders and step.key not in inside]
    together: dict[str, list[Step]] = {}
    for step in outside:
        if (sealed := inside.get(step.key)) is not None:
            together.setdefault(sealed, []).append(step)

    def parts() -> Iterator[Step | Asked]:
        for step in outside:
            sealed = inside.get(step.key)
            if sealed is None:
                yield attrs.evolve(step, once=step.key in sealed_ones.untold and not sealing.replace)
            elif (some := together.pop(sealed, None)) is not None:
                yield partial(sealing.plan_some, sealed, some, source, dest)

    yield from _asked_ahead(parts(), source, dest)
    yield from _planned(_below(whole, sealing, source, dest, left_out), sealing, source, dest, unchanged)


def _below(
    folders: Sequence[str],
    sealing: Sealing,
    source: ArtifactStore,
    dest: ArtifactStore,
    left_out: Callable[[LeftOut], object] | None,
) -> Iterator[KeyPair | Group]:
    """List folders in the order in which they are given, several at a time if a store is far away."""

    def begin(some: Sequence[str]) -> list[Iterator[KeyPair]]:
        return [_begun(pairs_of(source, dest, left_out, prefix=each, also=sealing.name)) for each in some]

    with several_at_once(begin, items=folders, stores=(source, dest), name="plan", only_servers=True) as listings:
        for folder, pairs in listings:
            if isinstance(pairs, ExecutorError):
                raise pairs
            yield from grouped(pairs, sealing, source, dest, above=["", *reversed(folders_above(folder))])


def _begun(pairs: Iterator[KeyPair]) -> Iterator[KeyPair]:
    """Begin to list: as much as a set has."""
    return itertools.chain(list(itertools.islice(pairs, _LISTED_AHEAD)), pairs)


def _holds_something(store: ArtifactStore, folder: str) -> bool:
    return patiently(lambda: next(iter(store.iter_keys(folder)), None) is not None, store)


def _lies_in(key: str, folders: Collection[str]) -> bool:
    return any(folder in folders for folder in folders_above(key))


def _planned(
    items: Iterator[KeyPair | Group], sealing: Sealing, source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged
) -> Iterator[Step | Unit]:
    """Plan what comes."""
    last: list[tuple[int, KeyPair]] = []

    def plans(here: Reads | None, there: Reads | None) -> Iterator[Step | Unit | Asked]:
        for item in items:
            if isinstance(item, Group):
                # A thread's turn takes longer than that.
                unit = None if here is None else sealing.plan_at_once(item, here, there, unchanged)
                yield unit or partial(sealing.plan, item, source, dest, unchanged)
            elif not item.here or not sealing.takes(item):
                continue
            elif rank := sealing.comes_last(item.key):
                last.append((rank, item))
            else:
                yield sealing.step(item, source, dest, unchanged)

    with ExitStack() as stack:
        here, there = (
            stack.enter_context(near) if (near := _nearby(each)) is not None else None for each in (source, dest)
        )
        yield from _asked_ahead(plans(here, there), source, dest)
    for _, pair in sorted(last, key=lambda each: each[0]):
        yield sealing.step(pair, source, dest, unchanged)


def _asked_ahead(
    plans: Iterator[Step | Unit | Asked], source: ArtifactStore, dest: ArtifactStore
) -> Iterator[Step | Unit]:
    """Yield what is planned, in order."""
    if isinstance(source, SupportsPath) and isinstance(dest, SupportsPath):
        yield from (plan if isinstance(plan, Step | Unit) else plan() for plan in plans)
        return
    in_flight = InFlight.of(source, dest, least=_ASKED_AT_ONCE, most=MAX_IN_FLIGHT)
    ahead: deque[Step | Unit | Future[Unit]] = deque()
    with ThreadPoolExecutor(in_flight.most, thread_name_prefix="emdstore-plan") as pool:
        for plan in plans:
            if isinstance(plan, Step | Unit) and not ahead:
                yield plan
                continue
            ahead.append(plan if isinstance(plan, Step | Unit) else pool.submit(plan))
            while ahead and (len(ahead) > in_flight() or not isinstance(ahead[0], Future) or ahead[0].done()):
                first = ahead.popleft()
                yield first.result() if isinstance(first, Future) else first
        for first in ahead:
            yield first.result() if isinstance(first, Future) else first


def _nearby(store: ArtifactStore) -> AbstractContextManager[Reads] | None:
    """Return what reads local files in the order of their keys; None if they are not local."""
    if not isinstance(store, SupportsPath):
        return None
    return store.session() if isinstance(store, SupportsSession) else nullcontext(store)
