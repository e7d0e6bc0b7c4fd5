"""Folders that are moved as a whole, because one file in them vouches for the others.

This module does not know what such a file means. It is given a `Sealing` that does: it names the file, and turns the
contents of the folder on both sides into a `Unit`. This module finds the folders in two sorted listings, in as little
memory as possible.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Literal, Protocol

import attrs

from emdstore.errors import EmdstoreError, LookRefusedError, SelectionError
from emdstore.keys import in_folder, join_key
from emdstore.selection import folders_above
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore, StoreSession
from emdstore.transfers.patience import patiently
from emdstore.transfers.plan import KeyPair, Step, Unchanged
from emdstore.workers.together import answers_to

_MOST_WAITING = 2000

Kind = Literal["sealed", "bare"]


@attrs.frozen
class Group:
    """A folder that is moved as a whole, with all keys below it: ``sealed``, or ``bare`` if it only looks like one."""

    folder: str
    kind: Kind
    pairs: tuple[KeyPair, ...]


@attrs.frozen
class Unit:
    """What to do for such a folder.

    Attributes
    ----------
    folder
        The folder.
    ranks
        Its steps, in groups: a step begins after all earlier groups are done, and not at all if one of them failed.
    loose
        Steps for the same folder that the seal does not cover.
    opening
        Done before the first rank if any of them changes something; None if nothing vouches for what is there.
    seal
        Done last, if all ranks succeeded.
    sealed
        Whether the destination has exactly this seal, so that it need not be written if nothing changes.
    read_back
        If another writer, who may be halted and continue, had begun with the folder: a ``prove`` step for each
        artifact, done when the seal is written; see `emdstore.transfers.seals`.
    error
        Why nothing is done, or for a part, why the rest is not.
    is_part
        Whether only part of the folder is moved, so that it is not complete at the end.
    unchanged
        All of its keys at the source, if the folder is as it should be; then there is nothing else.
    """

    folder: str
    ranks: tuple[tuple[Step, ...], ...] = ()
    loose: tuple[Step, ...] = ()
    opening: Step | None = None
    seal: Step | None = None
    sealed: bool = False
    read_back: tuple[Step, ...] = ()
    error: EmdstoreError | None = None
    is_part: bool = False
    unchanged: tuple[KeyPair, ...] = ()


Reads = ArtifactStore | StoreSession


class Sealing(Protocol):
    """Knows which file of a folder vouches for the others, and how such a folder is moved; pickles."""

    @property
    def name(self) -> str:
        """The file that vouches for its folder."""
        ...

    @property
    def hint(self) -> str:
        """The file that makes a folder look like one; its name sorts before `name`."""
        ...

    def plan(self, group: Group, source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged) -> Unit:
        """Decide what to do for a folder. Its seals are read; nothing is written."""
        ...

    def plan_at_once(self, group: Group, source: Reads, dest: Reads | None, unchanged: Unchanged) -> Unit | None:
        """Decide by what is read from local files, where that proves that nothing is to be done; otherwise None.

        The destination is None if its files are not local.
        """
        ...

    def plan_some(self, folder: str, steps: Sequence[Step], source: ArtifactStore, dest: ArtifactStore) -> Unit:
        """Decide what to do if only some keys of a folder are to be moved, given the plan for each key alone."""
        ...

    @property
    def replace(self) -> bool:
        """Whether what is there may be replaced without the right to look at it."""
        ...

    def arrived(self, unit: Unit) -> None:
        """Take note that a folder is at the destination as it was planned."""
        ...

    def takes(self, pair: KeyPair) -> bool:
        """Tell whether a key outside such folders is to be moved."""
        ...

    def step(self, pair: KeyPair, source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged) -> Step:
        """Decide what to do for a key outside such folders."""
        ...

    def comes_last(self, key: str) -> int:
        """Return 0 for most keys outside such folders; those with a higher number wait for all with a lower one."""
        ...


@attrs.define
class _Folder:
    """A folder whose keys are being listed.

    Attributes
    ----------
    path
        Its path.
    kind
        What it is; None as long as it is not known.
    hinted
        Whether it contains the hint.
    held
        What was listed in it and not yet released.
    """

    path: str
    kind: Literal["sealed", "bare", "plain"] | None = None
    hinted: bool = False
    held: list[KeyPair | Group] = attrs.field(factory=list)


def grouped(
    pairs: Iterable[KeyPair], sealing: Sealing, source: ArtifactStore, dest: ArtifactStore, *, above: Sequence[str] = ()
) -> Iterator[KeyPair | Group]:
    """Group the keys that are moved as a whole.

    If very many keys would have to wait for a seal that may be listed after them, the stores are asked. The folders
    `above` all keys are known not to be sealed.
    """
    return _Grouping(sealing, source, dest, above).run(pairs)


class _Grouping:
    def __init__(self, sealing: Sealing, source: ArtifactStore, dest: ArtifactStore, above: Sequence[str]) -> None:
        self._name, self._hint = sealing.name, sealing.hint
        self._stores = source, dest
        self._open = [_Folder(path, "plain") for path in above] or [_Folder("")]
        self._waiting = 0
        self._certain_in: _Folder | None = None  # the last open folder, if no open folder holds anything back

    def run(self, pairs: Iterable[KeyPair]) -> Iterator[KeyPair | Group]:
        for pair in pairs:
            path, _, name = pair.key.rpartition("/")
            last = self._open[-1]
            if last is self._certain_in and last.path == path and name != self._name:
                yield pair
                continue
            if is_another := last.path != path:
                last = self._enter(path)
            if name == self._name:
                last.kind, self._certain_in = "sealed", None
            elif last.kind is None:
                self._pass(last, name)
                last.hinted |= name == self._hint and pair.here
            last.held.append(pair)
            self._waiting += 1
            if is_another or last.kind == "plain" or self._waiting > _MOST_WAITING:
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
        return last  # everything below a sealed folder is part of it

    def _pass(self, folder: _Folder, name: str) -> None:
        """Note a name in a folder: once past the seal's place, no seal will come."""
        if folder.kind is None and name > self._name:
            folder.kind = "bare" if folder.hinted else "plain"

    def _leave(self) -> list[KeyPair | Group]:
        """Leave the last folder, and return what was listed in it."""
        folder = self._open.pop()
        if folder.kind == "sealed":
            left: list[KeyPair | Group] = [Group(folder.path, "sealed", tuple(_flat(folder.held)))]
        elif folder.kind == "bare" or (folder.kind is None and folder.hinted):
            own = tuple(_flat(each for each in folder.held if not _is_sealed(each)))
            left = [*filter(_is_sealed, folder.held), Group(folder.path, "bare", own)]
        else:
            left = folder.held
        self._waiting -= len(folder.held) - len(left)  # a group waits as one
        return left

    def _certain(self) -> Iterator[KeyPair | Group]:
        """Release what does not belong to an open folder."""
        self._certain_in = None
        for folder in self._open:
            if folder.kind is None and self._waiting > _MOST_WAITING:
                self._ask(folder)
            if folder.kind != "plain":
                return
            self._waiting -= len(folder.held)
            yield from folder.held
            folder.held = []
        self._certain_in = self._open[-1]

    def _ask(self, folder: _Folder) -> None:
        if any(store.exists(join_key(folder.path, self._name)) for store in self._stores):
            folder.kind = "sealed"
        elif folder.hinted or self._stores[0].exists(join_key(folder.path, self._hint)):
            folder.kind = "bare"
        else:
            folder.kind = "plain"


@attrs.frozen
class Sealed:
    """Which folder vouches for each of some keys.

    Attributes
    ----------
    folders
        It, on either side; keys without one are left out.
    untold
        Keys of which the destination does not tell: nobody may look whether there is one.
    """

    folders: dict[str, str]
    untold: frozenset[str] = frozenset()


def sealed_folders(keys: Iterable[str], name: str, source: ArtifactStore, dest: ArtifactStore) -> Sealed:
    """Find the folder that vouches for each of some keys, on either side.

    A seal at the source that nobody may look at could not be moved, and counts for none.
    """
    stores = (source, dest) if source is not dest else (dest,)
    is_remote = any(place_of(store).remote for store in stores)
    inside = {key: key.rpartition("/")[0] for key in keys}
    sealed: dict[str, str] = {}
    hidden: set[str] = set()
    left = {folder: ("", *reversed(folders_above(f"{folder}/"))) if folder else ("",) for folder in inside.values()}
    for depth in itertools.count():
        left = {folder: above for folder, above in left.items() if folder not in sealed and depth < len(above)}
        if not left:
            break
        asked = list(dict.fromkeys(above[depth] for above in left.values()))
        answers = answers_to([partial(_is_there, stores, join_key(each, name)) for each in asked], at_once=is_remote)
        told = dict(zip(asked, answers, strict=True))
        sealed |= {folder: above[depth] for folder, above in left.items() if told[above[depth]]}
        hidden |= {folder for folder, above in left.items() if told[above[depth]] is None}
    found = {key: sealed[folder] for key, folder in inside.items() if folder in sealed}
    return Sealed(found, frozenset(key for key, folder in inside.items() if folder in hidden) - found.keys())


def _is_there(stores: Sequence[ArtifactStore], key: str) -> bool | None:
    """Tell whether any of the stores holds a key; None if the last one does not tell, and no other one has it."""
    told = [_holds(store, key) for store in stores]
    return True if any(told) else None if told[-1] is None else False


def _holds(store: ArtifactStore, key: str) -> bool | None:
    """Tell whether a store holds a key; None if it does not tell."""
    try:
        return patiently(partial(store.exists, key), store)
    except LookRefusedError:
        return None


def _is_sealed(held: KeyPair | Group) -> bool:
    return isinstance(held, Group) and held.kind == "sealed"


def _flat(held: Iterable[KeyPair | Group]) -> Iterator[KeyPair]:
    for each in held:
        if isinstance(each, Group):
            yield from each.pairs
        else:
            yield each


Order = Literal["name", "smallest", "largest"]
"""The order in which keys and sets are moved: as listed, or by size."""


def ordered(plan: Iterator[Step | Unit], order: Order) -> Iterator[Step | Unit]:
    """Sort a plan. Except for the order of names, the whole plan has to be in memory."""
    if order == "name":
        return plan
    return iter(sorted(plan, key=bytes_to_move, reverse=order == "largest"))


def bytes_to_move(item: Step | Unit) -> int:
    """Return how many bytes a step or unit may move, at most.

    Raises
    ------
    SelectionError
        If the source does not tell.
    """
    steps = (item,) if isinstance(item, Step) else steps_of(item)
    moved = [step for step in steps if step.action in ("copy", "compare", "prove", "write")]
    for step in moved:
        if step.size is None and step.data is None:
            raise SelectionError(f"nobody knows the size of {step.key!r}: its store does not tell", key=step.key)
    return sum(step.size or 0 for step in moved)


class Limited:
    """A plan that ends before more bytes than allowed are moved; a set is begun only if all of it fits.

    Attributes
    ----------
    is_cut
        Whether it ended early.
    """

    def __init__(self, plan: Iterator[Step | Unit], most: int | None) -> None:
        self._plan, self._left, self.is_cut = plan, most, False

    def __iter__(self) -> Iterator[Step | Unit]:
        for item in self._plan:
            if self._left is not None:
                size = bytes_to_move(item)
                if size > self._left:
                    self.is_cut = True
                    return
                self._left -= size
            yield item


def steps_of(unit: Unit) -> Sequence[Step]:
    """Return the steps of a unit that have their own outcomes, in the order of their keys."""
    steps = [Step(pair.key, "unchanged", pair.size) for pair in unit.unchanged]
    steps += (step for rank in unit.ranks for step in rank)
    steps += unit.loose
    if unit.seal is not None:
        steps.append(unit.seal)
    return sorted(steps, key=lambda step: step.key)
