"""Folders that are moved as a whole, because one file in them vouches for the others.

What such a file means is not known here. A `Sealing` is handed down by whoever does know: it names the file, and turns
what lies in the folder on both sides into a `Unit`. This module finds the folders in two sorted listings, while they go
by and without keeping more of them than it must.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol

import attrs

from emdstore.errors import EmdstoreError
from emdstore.keys import in_folder, join_key
from emdstore.stores.port import ArtifactInfo, ArtifactStore, SupportsInfo
from emdstore.transfers.plan import Step, Unchanged, decide

_MOST_WAITING = 2000

Kind = Literal["sealed", "bare"]


@attrs.frozen
class Pair:
    """One key on both sides.

    Attributes
    ----------
    key
        The key.
    here, there
        Whether the source and the destination hold it.
    source, dest
        What the two stores tell of it, if they do.
    """

    key: str
    here: bool
    there: bool
    source: ArtifactInfo | None = None
    dest: ArtifactInfo | None = None


@attrs.frozen
class Group:
    """A folder that is moved as a whole, with all keys below it: ``sealed``, or ``bare`` where it only looks so."""

    folder: str
    kind: Kind
    pairs: tuple[Pair, ...]


@attrs.frozen
class Unit:
    """What is to be done for such a folder.

    Attributes
    ----------
    folder
        The folder.
    ranks
        Its steps, in groups: no step begins before all of the groups before it are done, and none of a later group at
        all if one of them failed.
    loose
        Steps of the same folder that the seal does not vouch for.
    opening
        Done before the first of the `ranks`, if any of them changes anything; None where nothing vouches for what is
        there.
    seal
        Done last, if all of the `ranks` arrived.
    sealed
        Whether the destination has that very seal, so that it need not be written if nothing changes.
    error
        Why nothing is done at all.
    """

    folder: str
    ranks: tuple[tuple[Step, ...], ...] = ()
    loose: tuple[Step, ...] = ()
    opening: Step | None = None
    seal: Step | None = None
    sealed: bool = False
    error: EmdstoreError | None = None


class Sealing(Protocol):
    """Knows which file of a folder vouches for the others, and how such a folder is moved; pickles."""

    @property
    def name(self) -> str:
        """The file that vouches for its folder."""
        ...

    @property
    def hint(self) -> str:
        """The file that makes a folder look as if it were such a one; it comes before `name` in the order of names."""
        ...

    def plan(self, group: Group, source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged) -> Unit:
        """Decide what to do for a folder. Its seals are read; nothing is written."""
        ...


def pairs_of(source: ArtifactStore, dest: ArtifactStore, name: str) -> Iterator[Pair]:
    """Merge two listings, to the end of the last folder at the root that the source has keys of.

    A seal of this name at the root of the destination is found also beyond that.
    """
    told = _infos(source), _infos(dest)
    here, there = (next(each, None) for each in told)
    last = ""
    while here is not None:
        last = here[0]
        if there is None or here[0] < there[0]:
            yield Pair(here[0], True, False, here[1])
            here = next(told[0], None)
        elif here[0] == there[0]:
            yield Pair(here[0], True, True, here[1], there[1])
            here, there = next(told[0], None), next(told[1], None)
        else:
            yield Pair(there[0], False, True, None, there[1])
            there = next(told[1], None)
    while there is not None and there[0].partition("/")[0] == last.partition("/")[0]:
        yield Pair(there[0], False, True, None, there[1])
        there = next(told[1], None)
    if last and there is not None and there[0] <= name and dest.exists(name):
        yield Pair(name, False, True)


def _infos(store: ArtifactStore) -> Iterator[tuple[str, ArtifactInfo | None]]:
    if isinstance(store, SupportsInfo):
        return ((info.key, info) for info in store.iter_info())
    return ((key, None) for key in store.iter_keys())


@attrs.define
class _Folder:
    """A folder in the middle of whose keys the listing is.

    Attributes
    ----------
    path
        Its path.
    kind
        What it is; None as long as nobody knows.
    hinted
        Whether it holds the hint.
    held
        What was listed in it and is not given away yet.
    """

    path: str
    kind: Literal["sealed", "bare", "plain"] | None = None
    hinted: bool = False
    held: list[Pair | Group] = attrs.field(factory=list)


def grouped(
    pairs: Iterable[Pair], sealing: Sealing, source: ArtifactStore, dest: ArtifactStore
) -> Iterator[Pair | Group]:
    """Put keys that are moved as a whole together.

    Where very many keys would have to wait for a seal that may only be listed after them, the stores are asked.
    """
    return _Grouping(sealing, source, dest).run(pairs)


class _Grouping:
    def __init__(self, sealing: Sealing, source: ArtifactStore, dest: ArtifactStore) -> None:
        self._name, self._hint = sealing.name, sealing.hint
        self._stores = source, dest
        self._open = [_Folder("")]
        self._waiting = 0

    def run(self, pairs: Iterable[Pair]) -> Iterator[Pair | Group]:
        for pair in pairs:
            path, _, name = pair.key.rpartition("/")
            last = self._open[-1]
            if last.path != path:
                last = self._enter(path)
            if name == self._name:
                last.kind = "sealed"
            elif last.kind is None:
                self._pass(last, name)
                last.hinted |= name == self._hint and pair.here
            last.held.append(pair)
            self._waiting += 1
            if self._open[0].kind == "plain" or self._waiting > _MOST_WAITING:
                yield from self._certain()
        while len(self._open) > 1:
            held = self._leave()
            self._open[-1].held += held
        yield from self._leave()

    def _enter(self, path: str) -> _Folder:
        last = self._open[-1]
        while not (last.path == path or in_folder(path, last.path)):
            held = self._leave()
            last = self._open[-1]
            last.held += held
        while last.path != path and last.kind != "sealed":
            segment = path[len(last.path) + 1 if last.path else 0 :].partition("/")[0]
            self._pass(last, segment + "/")
            last = _Folder(join_key(last.path, segment))
            self._open.append(last)
        return last  # all below what is sealed is a part of it

    def _pass(self, folder: _Folder, name: str) -> None:
        """Take note of a name in a folder: the seal will not come if it is past its place."""
        if folder.kind is None and name > self._name:
            folder.kind = "bare" if folder.hinted else "plain"

    def _leave(self) -> list[Pair | Group]:
        """Leave the last folder, and return what was listed in it."""
        folder = self._open.pop()
        if folder.kind == "sealed":
            pairs = tuple(_flat(folder.held))
            self._waiting -= len(pairs) - 1
            return [Group(folder.path, "sealed", pairs)]
        if folder.kind == "bare" or (folder.kind is None and folder.hinted):
            inside = [each for each in folder.held if _is_sealed(each)]
            own = tuple(_flat(each for each in folder.held if not _is_sealed(each)))
            return [*inside, Group(folder.path, "bare", own)]
        return folder.held

    def _certain(self) -> Iterator[Pair | Group]:
        """Give away what belongs to no folder that is open still."""
        for folder in self._open:
            if folder.kind is None and self._waiting > _MOST_WAITING:
                self._ask(folder)
            if folder.kind != "plain":
                return
            self._waiting -= len(folder.held)
            yield from folder.held
            folder.held = []

    def _ask(self, folder: _Folder) -> None:
        if any(store.exists(join_key(folder.path, self._name)) for store in self._stores):
            folder.kind = "sealed"
        elif folder.hinted or self._stores[0].exists(join_key(folder.path, self._hint)):
            folder.kind = "bare"
        else:
            folder.kind = "plain"


def _is_sealed(held: Pair | Group) -> bool:
    return isinstance(held, Group) and held.kind == "sealed"


def _flat(held: Iterable[Pair | Group]) -> Iterator[Pair]:
    for each in held:
        if isinstance(each, Group):
            yield from each.pairs
        else:
            yield each


def step_of(pair: Pair, unchanged: Unchanged) -> Step:
    """Decide for one key that the source holds and that nothing vouches for."""
    size = None if pair.source is None else pair.source.size
    if not pair.there or unchanged == "never":
        return Step(pair.key, "copy", size)
    if pair.source is None or pair.dest is None:
        return Step(pair.key, "compare", size)
    return Step(pair.key, decide(pair.source, pair.dest, unchanged), size, checksum=pair.dest.checksum)


def steps_of(unit: Unit) -> Sequence[Step]:
    """Return all steps of a unit that have an outcome of their own, in the order of their keys."""
    steps = [step for rank in unit.ranks for step in rank]
    steps += unit.loose
    if unit.seal is not None:
        steps.append(unit.seal)
    return sorted(steps, key=lambda step: step.key)
