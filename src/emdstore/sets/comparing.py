"""What differs between two stores, set by set: proved by records and digests, never by times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from math import inf, isnan
from typing import Any, Literal, TypeAlias, TypeVar

import attrs

from emdstore.emds import RECORD_NAME, Series, decode_metric_bundle, decode_series
from emdstore.errors import EmdstoreError, ExecutorError
from emdstore.keys import in_folder, join_key, key_below
from emdstore.selection import ALL, Selection
from emdstore.sets.events import EVENTS
from emdstore.sets.listing import find_chosen
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import METRIC_NAME, SERIES_NAME
from emdstore.sets.seal import Standing, standing_at
from emdstore.sets.sealing import SetSealing
from emdstore.stores.identity import IDENTITY_KEY
from emdstore.stores.port import ArtifactStore, LeftOut
from emdstore.stores.urls import StoreLike, as_source
from emdstore.stores.views import scoped
from emdstore.transfers import digest_of
from emdstore.transfers.patience import patiently
from emdstore.transfers.plan import KeyPair, pairs_of
from emdstore.transfers.units import Group, grouped
from emdstore.workers.several import several_at_once

_IN_SCRATCH = "in scratch"

How = Literal["only-in-a", "only-in-b", "size", "digest", "record", "state", "value", "index", "unreadable"]
Kind = Literal["set", "key", "value", "series"]
Dimensions: TypeAlias = Mapping[str, str]


@attrs.frozen
class Difference:
    """One thing that is not the same in two stores.

    Attributes
    ----------
    kind
        ``set``, ``key``, ``value`` for a scalar, or ``series``.
    name
        The set's folder, or the key; of a scalar or a series the set's folder.
    how
        ``only-in-a``, ``only-in-b``; ``size``; ``digest``; ``record``: the artifacts are equal, and the records are
        not; ``state``; ``value``; ``index``: a series has other points; ``unreadable``: it could not be compared.
    a, b
        What each side has, if that is a word or a number; of a series the numbers that are furthest apart, or how many
        points it has.
    dimensions
        The dimensions of a scalar or a series.
    at
        Where in a series these numbers are.
    """

    kind: Kind
    name: str
    how: How
    a: Any = None
    b: Any = None
    dimensions: Dimensions = attrs.field(factory=dict)
    at: str | float | None = None


@attrs.frozen
class Compared:
    """A set, or a key outside of sets, that was compared; nothing differs if there are no differences."""

    kind: Literal["set", "key"]
    name: str
    differences: tuple[Difference, ...] = ()


@attrs.frozen
class Strictness:
    """How to compare.

    Attributes
    ----------
    every_digest
        Whether to read and hash every artifact, also what the records prove.
    tolerance
        How far apart two numbers may be, relative to the larger one. Then the scalars and series of sets are compared,
        and not their bytes. None to compare bytes.
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
    changed. Each side is listed once, in bounded memory. The record of a run in scratch differs from that of what
    was published of it: this is no difference, while a file that no bundle names is one, as it is only in scratch.

    Parameters
    ----------
    a, b
        Stores, paths or URLs.
    prefix
        Only what lies in this folder.
    selection
        Only what is chosen, on either side.
    every_digest, tolerance
        See `Strictness`.
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
    above, rule = _above(prefix), Strictness(every_digest, tolerance)
    told = (pair for pair in pairs if pair.key != IDENTITY_KEY and not in_folder(pair.key, EVENTS))
    items = grouped(told, SetSealing(), one, other, above=above)
    with several_at_once(
        _compare_each, one, other, rule, items=chosen.among(items), stores=(one, other), name="diff", executor=executor
    ) as compared:
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

    def among(self, items: Iterator[KeyPair | Group]) -> Iterator[KeyPair | Group]:
        for item in items:
            if isinstance(item, KeyPair):
                if self._takes(item):
                    yield item
            elif self.sets is None or item.folder in self.sets:
                pairs = tuple(pair for pair in item.pairs if self.selection.takes_name(pair.key))
                if pairs:
                    yield attrs.evolve(item, pairs=pairs)

    def _takes(self, pair: KeyPair) -> bool:
        if self.selection.by_meaning or not self.selection.takes_name(pair.key):
            return False
        info = pair.source or pair.dest
        size, modified = (None, None) if info is None else (info.size, info.modified)
        return self.selection.takes_measure(size, modified, what=pair.key)


def _compare_each(
    one: ArtifactStore, other: ArtifactStore, rule: Strictness, batch: Sequence[KeyPair | Group]
) -> list[Compared]:
    return [_compared(one, other, rule, each) for each in batch]


def _compared(one: ArtifactStore, other: ArtifactStore, rule: Strictness, item: KeyPair | Group) -> Compared:
    try:
        if isinstance(item, Group):
            return Compared("set", item.folder, tuple(_of_set(one, other, rule, item)))
        return Compared("key", item.key, tuple(_of_key(one, other, item, believes=not rule.every_digest)))
    except EmdstoreError as error:
        return _unreadable(item, error)


def _unreadable(item: KeyPair | Group, error: EmdstoreError) -> Compared:
    kind: Literal["set", "key"] = "set" if isinstance(item, Group) else "key"
    name = item.folder if isinstance(item, Group) else item.key
    return Compared(kind, name, (Difference(kind, name, "unreadable", str(error)),))


def _of_set(one: ArtifactStore, other: ArtifactStore, rule: Strictness, group: Group) -> Iterator[Difference]:
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
    in_scratch = _IN_SCRATCH in (state_a, state_b)
    if state_a != state_b and not (in_scratch and "published" in (state_a, state_b)):
        yield Difference("set", folder, "state", state_a, state_b)
    if rule.tolerance is not None:
        yield from _of_values(one, other, folder, a, b, rule.tolerance)
        return
    at = join_key(folder, RECORD_NAME)
    proved_a, proved_b = ({}, {}) if rule.every_digest else (a.proved(), b.proved())
    for pair in group.pairs:
        if pair.key != at:
            key = key_below(pair.key, folder)
            proved = proved_a.get(key), proved_b.get(key)
            yield from _of_key(one, other, pair, *proved, believes=not rule.every_digest)
    if not in_scratch and state_a == state_b and a.data != b.data and any(pair.key == at for pair in group.pairs):
        yield Difference("key", at, "record", a.digest, b.digest)


def _standing(store: ArtifactStore, folder: str, found: Mapping[str, Any]) -> Standing:
    listing = {key_below(key, folder): info for key, info in found.items()}
    return patiently(lambda: standing_at(scoped(store, folder), listing), store)


def _state(record: ExecutionRecord | None) -> str | None:
    return None if record is None else record.state or _IN_SCRATCH


def _of_key(
    one: ArtifactStore,
    other: ArtifactStore,
    pair: KeyPair,
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

    allowed = Tolerance(relative=tolerance)
    scalars = _scalars(one, folder, a), _scalars(other, folder, b)
    for name, left, right in _side_by_side(*scalars):
        how: How = "value" if name in scalars[0] and name in scalars[1] else _alone(name in scalars[0])
        if how != "value" or not allowed.allows(left, right):
            yield Difference("value", folder, how, left, right, dict(name[0]))
    for name, before, after in _side_by_side(_series(one, folder, a), _series(other, folder, b)):
        if before is None or after is None:
            yield Difference("series", folder, _alone(before is not None), dimensions=dict(name[0]))
        elif before.index != after.index:
            points = len(before.index), len(after.index)
            yield Difference("series", folder, "index", *points, dimensions=dict(name[0]))
        elif not all(map(allowed.allows, before.values, after.values)):
            points_of = zip(before.values, after.values, before.index, strict=True)
            apart = (each for each in points_of if not allowed.allows(*each[:2]))
            left, right, at = max(apart, key=lambda each: inf if isnan(each[0] - each[1]) else abs(each[0] - each[1]))
            yield Difference("series", folder, "value", left, right, dict(name[0]), at)


T = TypeVar("T")
_Name: TypeAlias = tuple[tuple[tuple[str, str], ...], str, int]


def _alone(in_a: bool) -> How:
    return "only-in-a" if in_a else "only-in-b"


def _side_by_side(a: Mapping[_Name, T], b: Mapping[_Name, T]) -> Iterator[tuple[_Name, T | None, T | None]]:
    for name in dict.fromkeys((*a, *b)):
        yield name, a.get(name), b.get(name)


def _named(values: Iterable[tuple[Dimensions, str, T]]) -> dict[_Name, T]:
    """Name values by their dimensions; those that share them are numbered, as real files have them."""
    seen: Counter[tuple[Any, str]] = Counter()
    named = {}
    for dimensions, along, value in values:
        about = tuple(sorted(dimensions.items())), along
        named[(*about, seen[about])] = value
        seen[about] += 1
    return named


def _scalars(store: ArtifactStore, folder: str, standing: Standing) -> dict[_Name, float | None]:
    data, key = _bundle(store, folder, standing, "metric", METRIC_NAME)
    rows = () if data is None else decode_metric_bundle(data, name=key).iter_rows()
    return _named((dimensions, "", value) for value, dimensions, _ in rows)


def _series(store: ArtifactStore, folder: str, standing: Standing) -> dict[_Name, Series]:
    data, key = _bundle(store, folder, standing, "series", SERIES_NAME)
    series = () if data is None else decode_series(data, name=key)
    return _named((each.dimensions, each.index_name, each) for each in series)


def _bundle(store: ArtifactStore, folder: str, standing: Standing, role: str, usual: str) -> tuple[bytes | None, str]:
    record = standing.record
    named = [each.key for each in record.artifacts if each.role == role] if record is not None else []
    name = named[0] if named else usual
    key = join_key(folder, name)
    return (patiently(lambda: store.read_bytes(key), store) if name in standing.found else None), key
