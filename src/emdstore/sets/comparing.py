"""What differs between two stores, set by set: proved by records and digests, never by times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from typing import Any, Literal, TypeAlias

import attrs

from emdstore.emds import RECORD_NAME, decode_metric_bundle
from emdstore.errors import EmdstoreError, ExecutorError
from emdstore.keys import join_key
from emdstore.selection import ALL, Selection
from emdstore.sets.listing import find_chosen
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import METRIC_NAME
from emdstore.sets.seal import Standing, standing_at
from emdstore.sets.transfer import SetSealing
from emdstore.stores.identity import IDENTITY_KEY
from emdstore.stores.port import ArtifactStore, LeftOut
from emdstore.stores.urls import StoreLike, as_source
from emdstore.stores.views import scoped
from emdstore.transfers import digest_of
from emdstore.transfers.patience import patiently
from emdstore.transfers.plan import Pair, pairs_of
from emdstore.transfers.units import Group, grouped
from emdstore.workers.backlog import executor_or_threads, map_batches

_READERS = 8

How = Literal["only-in-a", "only-in-b", "size", "digest", "record", "state", "value", "unreadable"]
HOWS: tuple[How, ...] = ("only-in-a", "only-in-b", "size", "digest", "record", "state", "value", "unreadable")
Kind = Literal["set", "key", "value"]
Dimensions: TypeAlias = Mapping[str, str]


@attrs.frozen
class Difference:
    """One thing that is not the same in two stores.

    Attributes
    ----------
    kind
        ``set``, ``key`` or ``value``.
    name
        The set's folder, or the key; of a value the set's folder.
    how
        ``only-in-a``, ``only-in-b``; ``size``; ``digest``; ``record``: the artifacts are equal, and the records are
        not; ``state``; ``value``; ``unreadable``: it could not be compared.
    a, b
        What each side has, if that is a word or a number.
    dimensions
        The dimensions of a value.
    """

    kind: Kind
    name: str
    how: How
    a: Any = None
    b: Any = None
    dimensions: Dimensions = attrs.field(factory=dict)


@attrs.frozen
class Compared:
    """A set, or a key outside of sets, that was compared; nothing differs if there are no differences."""

    kind: Literal["set", "key"]
    name: str
    differences: tuple[Difference, ...] = ()


@attrs.frozen
class Rule:
    """How to compare.

    Attributes
    ----------
    every_digest
        Whether to read and hash every artifact, also what the records prove.
    tolerance
        How far apart two scalars may be, relative to the larger one, as for `compare`. Then the scalars of sets are
        compared, and not their bytes. None to compare bytes.
    """

    every_digest: bool = False
    tolerance: float | None = None


def compare(
    a: StoreLike,
    b: StoreLike,
    prefix: str = "",
    *,
    selection: Selection = ALL,
    every_digest: bool = False,
    tolerance: float | None = None,
    executor: Executor | None = None,
    left_out: Callable[[LeftOut], object] | None = None,
) -> Iterator[Compared]:
    """Compare two stores, or two sets' folders: results and a mirror, scratch and results, a run and its repetition.

    Sets are compared by the digests in their records. What a record does not prove, because it was touched since or
    belongs to no set, is read and hashed on both sides, unless both stores keep equal checksums of it. Nothing is
    changed. Each side is listed once, in bounded memory.

    Parameters
    ----------
    a, b
        Stores, paths or URLs.
    prefix
        Only what lies in this folder.
    selection
        Only what is chosen, on either side.
    every_digest, tolerance
        See `Rule`.
    executor
        Where sets are read; by default a few threads.
    left_out
        Called with what a listing leaves out. Without it a folder that cannot be read raises.

    Yields
    ------
    Compared
        For each set, and each key outside of sets.

    Raises
    ------
    StoreError
        If a store cannot be listed. What cannot be read is a difference, ``unreadable``.
    """
    one, other = as_source(a), as_source(b)
    chosen = _Chosen.of(selection, one, other, prefix)
    pairs = pairs_of(one, other, left_out, prefix=prefix, whole=True)
    above, rule = _above(prefix), Rule(every_digest, tolerance)
    items = grouped((pair for pair in pairs if pair.key != IDENTITY_KEY), SetSealing(), one, other, above=above)
    with (
        executor_or_threads(executor, _READERS, "diff", only_read=True) as workers,
        closing(map_batches(workers, _compare_each, one, other, rule, items=chosen.among(items))) as compared,
    ):
        for item, found in compared:
            if isinstance(found, ExecutorError):
                yield _unreadable(item, found)
            else:
                yield found


def _above(prefix: str) -> list[str]:
    segments = prefix.split("/") if prefix else []
    return ["/".join(segments[:number]) for number in range(len(segments))]


@attrs.frozen
class _Chosen:
    """What is chosen: sets as wholes by what they are, on either side; keys by their names."""

    selection: Selection
    sets: frozenset[str] | None

    @classmethod
    def of(cls, selection: Selection, one: ArtifactStore, other: ArtifactStore, prefix: str) -> _Chosen:
        if not (selection.by_meaning or selection.by_measure):
            return cls(selection, None)
        of_sets = selection.without_names()
        stores = (one, other)
        found = (
            each.location for store in stores for each in find_chosen(store, prefix, of_sets, left_out=lambda _: None)
        )
        return cls(selection, frozenset(found))

    def among(self, items: Iterator[Pair | Group]) -> Iterator[Pair | Group]:
        for item in items:
            if isinstance(item, Pair):
                if self._takes(item):
                    yield item
            elif self.sets is None or item.folder in self.sets:
                pairs = tuple(pair for pair in item.pairs if self.selection.takes_name(pair.key))
                if pairs:
                    yield attrs.evolve(item, pairs=pairs)

    def _takes(self, pair: Pair) -> bool:
        if self.selection.by_meaning or not self.selection.takes_name(pair.key):
            return False
        info = pair.source or pair.dest
        size, modified = (None, None) if info is None else (info.size, info.modified)
        return self.selection.takes_measure(size, modified, what=pair.key)


def _compare_each(
    one: ArtifactStore, other: ArtifactStore, rule: Rule, batch: Sequence[Pair | Group]
) -> list[Compared]:
    return [_compared(one, other, rule, each) for each in batch]


def _compared(one: ArtifactStore, other: ArtifactStore, rule: Rule, item: Pair | Group) -> Compared:
    try:
        if isinstance(item, Group):
            return Compared("set", item.folder, tuple(_of_set(one, other, rule, item)))
        return Compared("key", item.key, tuple(_of_key(one, other, item, believes=not rule.every_digest)))
    except EmdstoreError as error:
        return _unreadable(item, error)


def _unreadable(item: Pair | Group, error: EmdstoreError) -> Compared:
    kind: Literal["set", "key"] = "set" if isinstance(item, Group) else "key"
    name = item.folder if isinstance(item, Group) else item.key
    return Compared(kind, name, (Difference(kind, name, "unreadable", str(error)),))


def _of_set(one: ArtifactStore, other: ArtifactStore, rule: Rule, group: Group) -> Iterator[Difference]:
    folder = group.folder
    if not any(pair.there for pair in group.pairs):
        yield Difference("set", folder, "only-in-a")
        return
    if not any(pair.here for pair in group.pairs):
        yield Difference("set", folder, "only-in-b")
        return
    a = _standing(one, folder, {pair.key: pair.source for pair in group.pairs if pair.here})
    b = _standing(other, folder, {pair.key: pair.dest for pair in group.pairs if pair.there})
    state_a, state_b = _state(a.record), _state(b.record)
    if state_a != state_b:
        yield Difference("set", folder, "state", state_a, state_b)
    if rule.tolerance is not None:
        yield from _of_values(one, other, folder, a, b, rule.tolerance)
        return
    at = join_key(folder, RECORD_NAME)
    proved_a, proved_b = ({}, {}) if rule.every_digest else (a.proved(), b.proved())
    inside = len(folder) + 1 if folder else 0
    for pair in group.pairs:
        if pair.key != at:
            key = pair.key[inside:]
            proved = proved_a.get(key), proved_b.get(key)
            yield from _of_key(one, other, pair, *proved, believes=not rule.every_digest)
    if state_a == state_b and a.data != b.data and any(pair.key == at for pair in group.pairs):
        yield Difference("key", at, "record", a.digest, b.digest)


def _standing(store: ArtifactStore, folder: str, found: Mapping[str, Any]) -> Standing:
    inside = len(folder) + 1 if folder else 0
    listing = {key[inside:]: info for key, info in found.items()}
    return patiently(lambda: standing_at(scoped(store, folder), listing), store)


def _state(record: ExecutionRecord | None) -> str | None:
    return None if record is None else record.state or "in scratch"


def _of_key(
    one: ArtifactStore,
    other: ArtifactStore,
    pair: Pair,
    proved_a: str | None = None,
    proved_b: str | None = None,
    *,
    believes: bool,
) -> Iterator[Difference]:
    key = pair.key
    if not (pair.here and pair.there):
        yield Difference("key", key, "only-in-a" if pair.here else "only-in-b")
        return
    if pair.source is not None and pair.dest is not None:
        if pair.source.size != pair.dest.size:
            yield Difference("key", key, "size", pair.source.size, pair.dest.size)
            return
        kept = pair.source.checksum
        if believes and proved_a is None and proved_b is None and kept is not None and kept == pair.dest.checksum:
            return
    digest_a = proved_a or patiently(lambda: digest_of(one, key)[1], one)
    digest_b = proved_b or patiently(lambda: digest_of(other, key)[1], other)
    if digest_a != digest_b:
        yield Difference("key", key, "digest", digest_a, digest_b)


def _of_values(
    one: ArtifactStore, other: ArtifactStore, folder: str, a: Standing, b: Standing, tolerance: float
) -> Iterator[Difference]:
    from emdstore.catalog.comparing import Tolerance  # only for values, because it takes a database along

    before, after, allowed = _values(one, folder, a), _values(other, folder, b), Tolerance(relative=tolerance)
    for told in dict.fromkeys((*before, *after)):
        left, right = before.get(told), after.get(told)
        how: How = "value" if told in before and told in after else "only-in-a" if told in before else "only-in-b"
        if how != "value" or not allowed.allows(left, right):
            yield Difference("value", folder, how, left, right, dict(told))


def _values(store: ArtifactStore, folder: str, standing: Standing) -> dict[tuple[tuple[str, str], ...], float | None]:
    record = standing.record
    named = [each.key for each in record.artifacts if each.role == "metric"] if record is not None else []
    name = named[0] if named else METRIC_NAME
    if name not in standing.found:
        return {}
    key = join_key(folder, name)
    bundle = decode_metric_bundle(patiently(lambda: store.read_bytes(key), store), name=key)
    return {tuple(sorted(dimensions.items())): value for value, dimensions, _ in bundle.iter_rows()}
