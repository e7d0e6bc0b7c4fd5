"""What `emdstore.transfers` has to know of sets: which keys are moved as one, and how."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

import attrs

from emdstore.catalog import snapshots
from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    EmdstoreError,
    RecordError,
    ReleaseChangedError,
    ReleaseError,
    SnapshotError,
)
from emdstore.keys import join_key, key_below
from emdstore.selection import ALL, Selection
from emdstore.sets.parts import plan_part, plan_some
from emdstore.sets.proved import Proved
from emdstore.sets.release import ALIASES, RELEASES, continues
from emdstore.sets.releasing import Released
from emdstore.sets.result import METRIC_NAME
from emdstore.sets.retraction import Retraction, last_word
from emdstore.sets.seal import Standing, ask_to_replace, standing_at
from emdstore.sets.unchanged import holds_the_same
from emdstore.sets.vouching import plan_bare, plan_sealed
from emdstore.stores.checksums import has_checksum, sha256_of
from emdstore.stores.port import ArtifactInfo, ArtifactStore
from emdstore.stores.views import scoped
from emdstore.transfers import Step, Unchanged
from emdstore.transfers.patience import patiently
from emdstore.transfers.plan import KeyPair, step_of
from emdstore.transfers.units import Group, Reads, Unit, steps_of
from emdstore.workers.distance import noting_answer

_NAMED_ONCE = (f"{RELEASES}/", f"{ALIASES}/")


@attrs.frozen
class SetSealing:
    """What `emdstore.transfers` has to know of sets; see `Sealing`.

    Attributes
    ----------
    replace, selection
        See `transfer`.
    sets
        The sets that are chosen; None for all.
    released
        What must not be replaced; None for nothing.
    expected
        The only sets to move, with the SHA-256 that the record of each must have; None for any.
    proved
        The sets that were compared or copied before.
    """

    replace: bool = False
    selection: Selection = ALL
    sets: frozenset[str] | None = None
    released: Released | None = attrs.field(default=None, eq=False)
    expected: Mapping[str, str] | None = None
    proved: Proved | None = attrs.field(default=None, eq=False)
    name = RECORD_NAME
    hint = METRIC_NAME

    def takes(self, pair: KeyPair) -> bool:
        """Tell whether a key outside of sets is chosen."""
        if self.selection.is_all:
            return True
        if self.selection.by_meaning or not self.selection.takes_name(pair.key):
            return False
        size, modified = (None, None) if pair.source is None else (pair.source.size, pair.source.modified)
        return self.selection.takes_measure(size, modified, what=pair.key)

    def step(self, pair: KeyPair, source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged) -> Step:
        """Decide for a key outside sets: a release or snapshot that is there stays, and so does an alias that went
        another way.
        """
        key, size = pair.key, pair.size
        if not pair.there:
            return step_of(pair, unchanged)
        is_snapshot = snapshots.rank_of(key) > 0
        if not (is_snapshot or key.startswith(_NAMED_ONCE)):
            return step_of(pair, unchanged)
        may_follow = partial(snapshots.continues, store=dest) if is_snapshot else continues
        try:
            here = patiently(lambda: source.read_bytes(key), source)
            there = patiently(lambda: dest.read_bytes(key), dest)
            if may_follow(there, here, key):  # the same, or pointed further over there
                return Step(key, "unchanged", size)
            if may_follow(here, there, key):
                return Step(key, "copy", size)
        except EmdstoreError as error:
            return Step(key, "failed", size, error)
        kind = SnapshotError if is_snapshot else ReleaseError
        differs = kind(
            f"{key!r} is another one in {dest!r}, and stays: a release or snapshot never changes, and an alias goes on "
            "from where it was; choose other names",
            key=key,
            store=repr(dest),
        )
        return Step(key, "left", size, differs)

    def comes_last(self, key: str) -> int:
        """Have the list of a snapshot wait for its files, and the pointer for the list."""
        return snapshots.rank_of(key)

    def arrived(self, unit: Unit) -> None:
        """Keep that a set is whole at the destination."""
        if self.proved is not None and unit.seal is not None and unit.seal.data is not None:
            self.proved.note(unit.folder, sha256_of(unit.seal.data))

    def plan_at_once(self, group: Group, source: Reads, dest: Reads | None, unchanged: Unchanged) -> Unit | None:
        """Find a set to be unchanged by a local record, and that of the destination or the checksum that it keeps."""
        if unchanged != "stat" or self.sets is not None or self.expected is not None or not self.selection.is_all:
            return None
        found = {pair.key: pair for pair in group.pairs}
        record = found.get(join_key(group.folder, RECORD_NAME))
        if record is None or record.dest is None or (dest is None and record.dest.checksum is None):
            return None
        try:
            data = source.read_bytes(record.key)
            if not holds_the_same(group.folder, data, record, found):
                return None
            is_same = _has_checksum_of(record.dest, data) if dest is None else dest.read_bytes(record.key) == data
        except EmdstoreError:
            return None  # told by `plan`
        return Unit(group.folder, unchanged=tuple([pair for pair in group.pairs if pair.here])) if is_same else None

    def plan(self, group: Group, source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged) -> Unit:
        """Decide what to do for a set."""
        here = [pair for pair in group.pairs if pair.here]
        if any(some is not None and group.folder not in some for some in (self.sets, self.expected)):
            here = []
        chosen = here if self.selection.is_all else [pair for pair in here if self.selection.takes_name(pair.key)]
        if not chosen:
            return Unit(group.folder)  # the destination alone holds it, or it is not chosen
        if len(chosen) < len(here):
            return plan_part(group, chosen, source, dest, unchanged, replace=self.replace)
        found = {pair.key: pair for pair in group.pairs}
        at = join_key(group.folder, RECORD_NAME)
        record = found.get(at)

        def decide() -> Unit:
            if self.expected is not None:
                self._expect(group.folder, source)
            if record is None or not record.here:
                guard = _standing(dest, group) if record is not None else None
                return plan_bare(group, guard, unchanged)
            with noting_answer(source):
                data = source.read_bytes(at)
            was_proved = self.proved is not None and self.proved.record_of(group.folder) == sha256_of(data)
            rule: Unchanged = "stat" if was_proved else unchanged
            if rule == "stat" and holds_the_same(group.folder, data, record, found) and _has_it(dest, record, data):
                return Unit(group.folder, unchanged=tuple(here))
            standing = _standing(dest, group)
            listed = _listed_anew(group, standing) if standing.was_open else group
            if self.released is not None and data != standing.data:
                ask_to_replace(standing, partial(self.released.refuse, group.folder))
            return plan_sealed(listed, source, dest, data, standing, rule, replace=self.replace)

        try:
            return patiently(lambda: _keep_later_word(decide(), found, source, dest), source, dest)
        except EmdstoreError as error:
            return Unit(group.folder, loose=tuple(Step(pair.key, "left", error=error) for pair in here), error=error)

    def _expect(self, folder: str, source: ArtifactStore) -> None:
        assert self.expected is not None
        try:
            digest = sha256_of(source.read_bytes(join_key(folder, RECORD_NAME)))
        except ArtifactNotFoundError:
            digest = ""
        if digest != self.expected[folder]:
            raise ReleaseChangedError(f"{folder!r} is not what was released any more", key=folder)

    def plan_some(self, folder: str, steps: Sequence[Step], source: ArtifactStore, dest: ArtifactStore) -> Unit:
        """Decide what to do where only some keys of a set are to be moved."""
        return plan_some(folder, steps, source, dest, replace=self.replace)


def _standing(dest: ArtifactStore, group: Group) -> Standing:
    listing = {key_below(pair.key, group.folder): pair.dest for pair in group.pairs if pair.there}
    return standing_at(scoped(dest, group.folder), listing, name=join_key(group.folder, RECORD_NAME))


def _listed_anew(group: Group, standing: Standing) -> Group:
    """Return a folder with what the destination holds of it now."""
    there = {join_key(group.folder, key): info for key, info in standing.found.items()}
    pairs = [attrs.evolve(pair, there=pair.key in there, dest=there.pop(pair.key, None)) for pair in group.pairs]
    return attrs.evolve(group, pairs=(*pairs, *(KeyPair(key, False, True, None, info) for key, info in there.items())))


def _has_it(dest: ArtifactStore, record: KeyPair, data: bytes) -> bool:
    """Tell whether the destination has the same record; it is not read if it keeps the checksum of these bytes."""
    if record.dest is not None and _has_checksum_of(record.dest, data):
        return True
    try:
        with noting_answer(dest):
            return dest.read_bytes(record.key) == data
    except ArtifactNotFoundError:
        return False


def _has_checksum_of(there: ArtifactInfo, data: bytes) -> bool:
    return bool(has_checksum(there.checksum, there.size, [data]))


def _keep_later_word(unit: Unit, found: Collection[str], source: ArtifactStore, dest: ArtifactStore) -> Unit:
    """Let a retraction at the destination stay where it was said after the one that would replace it."""
    at = join_key(unit.folder, RETRACTION_NAME)
    if at not in found:
        return unit
    moved = [step for step in steps_of(unit) if step.key == at and step.action in ("copy", "compare")]
    if not moved or (there := word_at(dest, unit.folder)) is None:
        return unit
    here = word_at(source, unit.folder)
    if here is not None and here.at > there.at:
        return unit

    def kept(steps: Iterable[Step]) -> tuple[Step, ...]:
        return tuple(Step(at, "unchanged", step.size) if step.key == at else step for step in steps)

    return attrs.evolve(unit, ranks=tuple(map(kept, unit.ranks)), loose=kept(unit.loose))


def word_at(store: ArtifactStore, folder: str) -> Retraction | None:
    """Return the retraction or its withdrawal that a folder has; None if there is none that can be read."""
    try:
        return last_word(store, folder)
    except RecordError:
        return None
