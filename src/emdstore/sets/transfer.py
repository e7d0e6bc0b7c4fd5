"""Moving results from one store to another, set by set.

`emdstore.transfers` moves keys; this module tells it what a set is: the folder of a record. Each set is moved as a
unit: it is opened at the destination before its first byte changes there, and its record comes last, or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial

import attrs

from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    DemotionRefusedError,
    EmdstoreError,
    IntegrityError,
    RecordError,
    RecordVersionError,
    ReleaseChangedError,
    ReleaseError,
)
from emdstore.keys import join_key
from emdstore.selection import ALL, Selection, roots_of
from emdstore.sets.listing import find_chosen
from emdstore.sets.record import ExecutionRecord, RecordedArtifact, decode_record, encode_record, named_sizes
from emdstore.sets.release import ALIASES, RELEASES, continues, own_keys
from emdstore.sets.releasing import Released, expect_release
from emdstore.sets.result import METRIC_NAME, OUTPUT_NAME, SERIES_NAME
from emdstore.sets.retraction import Retraction, last_word
from emdstore.sets.seal import Standing, ask_to_replace, opened, read_back, standing_of
from emdstore.stores.checksums import has_checksum, sha256_of
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactInfo, ArtifactStore, SupportsPath
from emdstore.stores.sameness import refuse_same_place
from emdstore.stores.urls import StoreLike, as_source, as_store
from emdstore.stores.views import scoped
from emdstore.transfers import (
    Bandwidth,
    ProgressCallback,
    Step,
    TransferReport,
    Unchanged,
    digest_of,
    listing_of,
    move,
    plan_move,
)
from emdstore.transfers.patience import patiently
from emdstore.transfers.plan import Action, Pair, step_of
from emdstore.transfers.units import Group, Order, Unit, sealed_folders, steps_of

_RANKS = {"series": 1, "output": 1, "metric": 2}
_BARE_RANKS = {SERIES_NAME: 1, OUTPUT_NAME: 1, METRIC_NAME: 2}
_NAMED_ONCE = (f"{RELEASES}/", f"{ALIASES}/")


def transfer(
    source: StoreLike,
    dest: StoreLike,
    keys: Iterable[str] | None = None,
    *,
    selection: Selection = ALL,
    release: str | None = None,
    unchanged: Unchanged = "stat",
    replace: bool = False,
    max_workers: int | None = None,
    executor: Executor | None = None,
    on_progress: ProgressCallback | None = None,
    dry_run: bool = False,
    flush: bool = False,
    order: Order = "name",
    max_bytes: int | None = None,
    bandwidth: Bandwidth | None = None,
) -> TransferReport:
    """Copy artifacts from one store to another: verified, atomic one by one, resumable, and set by set.

    Each artifact arrives whole or not at all, and a failing key does not stop the others. Bytes are hashed on the way.
    A folder with a record is moved as a whole: it is opened at the destination (``publishing``) before its first byte
    changes there, and its record is written last. If one of its artifacts does not arrive, or does not match the
    record, there is no complete record at the destination. Sets do not depend on each other. After an interruption,
    call it again to resume. Nothing is deleted.

    Parameters
    ----------
    source, dest
        Any two stores, paths or URLs, in different places.
    keys
        The keys to move, in the order to start them, and folders, which stand for everything in them; None for
        everything in the source. If only some keys of a set are named, its record is written only if all of its
        artifacts are there.
    selection
        Which of these keys to move. Sets are selected as wholes by size, time and properties. Names may select a part
        of a set: its record is written only if everything that it names is there, and otherwise reported as ``left``.
    release
        A release of the source, or an alias: only its sets, and its own files, so that it can be verified at the
        destination. It takes the place of `keys`.
    unchanged
        What need not be copied again. ``"stat"``: within a set what its record proves; outside of sets what has the
        same size and is not older at the destination (between local files: has the same time). ``"digest"``: what has
        the same bytes, which are read and hashed. ``"never"``: copy everything.
    replace
        Whether a complete publication may be replaced with an incomplete set, or with an older one.
    max_workers
        The number of threads; by default few for local files, and as many as their latency requires for object stores.
        With an executor, how many batches it is given at a time.
    executor
        Does the work instead of threads of this call. Several calls may share it. For workers in other processes the
        stores must pickle; the work of a lost worker is given to another one.
    on_progress
        Called in this thread with a `TransferProgress`, at most a few times a second. Its exceptions are logged.
    dry_run
        Write nothing; the report says what would be done. What has to be compared is read.
    flush
        Return only when everything that was copied survives a power cut (for local stores; see
        `LocalArtifactStore.flush`).
    order
        The order in which to begin keys and sets: by name, or by size, which needs the whole plan in memory.
    max_bytes
        Stop before more than this would be moved. A set is begun only if all of it fits; the next call continues.
    bandwidth
        How many bytes a second may pass through this process at most, also those that are only compared.

    Returns
    -------
    TransferReport
        One outcome for each key, with the digest of what was copied, and one for each set. Transient errors are retried
        before they count.

    Raises
    ------
    SameStoreError
        If both stores are the same place, or one lies inside the other; nothing was moved.
    StoreNotFoundError
        If the source is a local folder that does not exist.
    StoreError
        If a store cannot be listed; what was copied until then is whole.
    ExecutorError
        If the executor accepts no work, a store cannot be sent to its workers, or these have another version of
        emdstore.
    TransferInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far. Sets in progress are visibly open.
    ReleaseChangedError
        If a set of the release is not there as it was released; nothing was moved. One that changes meanwhile is
        refused alone.
    ReleaseNotFoundError
        If the source has no such release.
    SelectionError
        If keys or sets are to be selected by something that the source does not know; nothing more was moved.
    TypeError
        If a store is none, and no path or URL either.
    ValueError
        If a bandwidth is given for an executor in other processes, which it cannot hold back.
    """
    to = as_store(dest)
    refuse_same_place(as_store(source), to)  # which may also hold for a folder that is not there yet
    opened = as_source(source)
    given = keys if keys is None or isinstance(keys, str) else tuple(keys)
    expected: Mapping[str, str] | None = None
    if release is not None:
        if given is not None:
            raise TypeError("the keys of a release are known: give keys or a release")
        found = expect_release(opened, release)
        expected = found.records
        given = (*expected, *own_keys(opened, found, release))
    return move(
        opened,
        to,
        given,
        unchanged=unchanged,
        max_workers=max_workers,
        executor=executor,
        on_progress=on_progress,
        dry_run=dry_run,
        flush=flush,
        sealing=_sealing(opened, to, given, selection, expected, replace=replace),
        order=order,
        max_bytes=max_bytes,
        bandwidth=bandwidth,
    )


def plan_transfer(
    source: StoreLike,
    dest: StoreLike,
    keys: Iterable[str] | None = None,
    *,
    selection: Selection = ALL,
    unchanged: Unchanged = "stat",
    replace: bool = False,
) -> Iterator[Step | Unit]:
    """Plan a transfer: list, and decide for each key and each set. Records are read; nothing is written.

    Parameters
    ----------
    source, dest, keys, selection, unchanged, replace
        See `transfer`.

    Yields
    ------
    Step or Unit
        A step for each key outside of sets, and a unit for each set, lazily.

    Raises
    ------
    StoreError
        If a store cannot be listed. An error with a single key is in its step.
    ValueError, TypeError
        If the rule is not one of the three, or `keys` is a single string.
    """
    opened = as_source(source)
    given = keys if keys is None or isinstance(keys, str) else tuple(keys)
    to = as_store(dest)
    sealing = _sealing(opened, to, given, selection, replace=replace)
    return plan_move(opened, to, given, unchanged=unchanged, sealing=sealing)


def _sealing(
    source: ArtifactStore,
    dest: ArtifactStore,
    keys: Collection[str] | None,
    selection: Selection,
    expected: Mapping[str, str] | None = None,
    *,
    replace: bool,
) -> SetSealing:
    """Find the sets that are chosen by what they are; whatever a set is, it is moved as a whole or not."""
    released = None if replace else Released(dest)
    if not (selection.by_meaning or selection.by_measure):
        return SetSealing(replace, selection, released=released, expected=expected)
    prefixes = [""] if keys is None or selection.latest else _set_or_folder(source, roots_of(keys))
    sets = (
        each.location
        for prefix in prefixes
        # `move` reports what is left out.
        for each in find_chosen(source, prefix, selection.without_names(), left_out=lambda _: None)
    )
    return SetSealing(replace, selection, frozenset(sets), released, expected)


def _set_or_folder(source: ArtifactStore, names: Iterable[str]) -> Iterator[str]:
    """Return where to look for the sets of some keys and folders."""
    for name in names:
        above = sealed_folders([name], RECORD_NAME, source, source).folders.get(name)
        yield name if above is None else above


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
    """

    replace: bool = False
    selection: Selection = ALL
    sets: frozenset[str] | None = None
    released: Released | None = attrs.field(default=None, eq=False)
    expected: Mapping[str, str] | None = None
    name = RECORD_NAME
    hint = METRIC_NAME

    def takes(self, pair: Pair) -> bool:
        """Tell whether a key outside of sets is chosen."""
        if self.selection.is_all:
            return True
        if self.selection.by_meaning or not self.selection.takes_name(pair.key):
            return False
        size, modified = (None, None) if pair.source is None else (pair.source.size, pair.source.modified)
        return self.selection.takes_measure(size, modified, what=pair.key)

    def step(self, pair: Pair, source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged) -> Step:
        """Decide for a key outside sets: a release that is there stays, and so does an alias that went another way."""
        key, size = pair.key, pair.size
        if not (pair.there and key.startswith(_NAMED_ONCE)):
            return step_of(pair, unchanged)
        try:
            here = patiently(lambda: source.read_bytes(key), source)
            there = patiently(lambda: dest.read_bytes(key), dest)
            if continues(there, here, key):  # the same, or pointed further over there
                return Step(key, "unchanged", size)
            if continues(here, there, key):
                return Step(key, "copy", size)
        except EmdstoreError as error:
            return Step(key, "failed", size, error)
        differs = ReleaseError(
            f"{key!r} is another one in {dest!r}, and stays: a release never changes, and an alias goes on from where "
            "it was; choose other names",
            key=key,
            store=repr(dest),
        )
        return Step(key, "left", size, differs)

    def plan_at_once(
        self, group: Group, source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged
    ) -> Unit | None:
        """Find a set to be unchanged by a local record and the checksum that the destination keeps of its own."""
        if unchanged != "stat" or self.sets is not None or not self.selection.is_all:
            return None
        if not isinstance(source, SupportsPath):
            return None
        found = {pair.key: pair for pair in group.pairs}
        record = found.get(join_key(group.folder, RECORD_NAME))
        if record is None or not record.here or record.dest is None or record.dest.checksum is None:
            return None
        try:
            data = source.read_bytes(record.key)
        except EmdstoreError:
            return None  # told by `plan`
        if not (_is_whole(group.folder, data, record, found) and _has_checksum_of(record.dest, data)):
            return None
        return Unit(group.folder, unchanged=tuple(pair for pair in group.pairs if pair.here))

    def plan(self, group: Group, source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged) -> Unit:
        """Decide what to do for a set."""
        here = [pair for pair in group.pairs if pair.here]
        if any(some is not None and group.folder not in some for some in (self.sets, self.expected)):
            here = []
        chosen = here if self.selection.is_all else [pair for pair in here if self.selection.takes_name(pair.key)]
        if not chosen:
            return Unit(group.folder)  # the destination alone holds it, or it is not chosen
        if len(chosen) < len(here):
            return self._plan_part(group, chosen, source, dest, unchanged)
        found = {pair.key: pair for pair in group.pairs}
        at = join_key(group.folder, RECORD_NAME)
        record = found.get(at)

        def decide() -> Unit:
            if self.expected is not None:
                self._expect(group.folder, source)
            if record is None or not record.here:
                guard = _standing(dest, at, found) if record is not None else None
                return _bare(group, guard, unchanged)
            data = source.read_bytes(at)
            if unchanged == "stat" and _is_whole(group.folder, data, record, found) and _has_it(dest, record, data):
                return Unit(group.folder, unchanged=tuple(here))
            standing = _standing(dest, at, found)
            if standing.was_open:  # who opened it may have come after the listing, which proves nothing then
                listed = _listed_anew(group, dest)
                there = {pair.key: pair.dest for pair in listed.pairs if pair.there}
                return _sealed(
                    listed, source, data, attrs.evolve(standing, found=there), unchanged, replace=self.replace
                )
            if self.released is not None and data != standing.data:
                ask_to_replace(standing, partial(self.released.refuse, group.folder))
            return _sealed(group, source, data, standing, unchanged, replace=self.replace)

        try:
            return patiently(lambda: _keep_later_word(decide(), found, source, dest), source, dest)
        except EmdstoreError as error:
            return _refused(group, error)

    def _expect(self, folder: str, source: ArtifactStore) -> None:
        assert self.expected is not None
        try:
            digest = sha256_of(source.read_bytes(join_key(folder, RECORD_NAME)))
        except ArtifactNotFoundError:
            digest = ""
        if digest != self.expected[folder]:
            raise ReleaseChangedError(f"{folder!r} is not what was released any more", key=folder)

    def _plan_part(
        self, group: Group, chosen: Sequence[Pair], source: ArtifactStore, dest: ArtifactStore, unchanged: Unchanged
    ) -> Unit:
        """Decide what to do where the names choose some keys of a set: nothing may look as if it were all of it."""
        at = join_key(group.folder, RECORD_NAME)
        steps = [step_of(pair, unchanged) for pair in chosen]

        def decide() -> Unit:
            inside = scoped(dest, group.folder)
            standing = standing_of(inside)
            record = _record_in(group, source)
            proved = _expected(group, chosen, record, unchanged, source)
            if record is None or all(step.key != at for step in steps):
                return _some_unsealed(group.folder, proved, standing, replace=self.replace)
            lacking = _lacking(group.folder, record, steps, inside, standing)
            if lacking is None:
                return _some_sealed(group.folder, steps, source, inside, standing, replace=self.replace)
            error = RecordError(
                f"the record of {group.folder!r} is not moved: {lacking!r} is not chosen and not at the destination; "
                "choose all of the set, or leave its record out, too",
                key=at,
            )
            rest = [step for step in proved if step.key != at]
            unit = _some_unsealed(group.folder, rest, standing, replace=self.replace)
            return attrs.evolve(unit, loose=(*unit.loose, Step(at, "left", error=error)), error=error)

        try:
            return patiently(decide, source, dest)
        except EmdstoreError as error:
            return Unit(
                group.folder, loose=tuple(Step(each.key, "left", each.size, error) for each in steps), error=error
            )

    def plan_some(self, folder: str, steps: Sequence[Step], source: ArtifactStore, dest: ArtifactStore) -> Unit:
        """Decide what to do where only some keys of a set are to be moved."""
        at = join_key(folder, RECORD_NAME)

        def decide() -> Unit:
            inside = scoped(dest, folder)
            standing = standing_of(inside)
            if any(step.key == at and step.action != "missing" for step in steps):
                return _some_sealed(folder, steps, source, inside, standing, replace=self.replace)
            return _some_unsealed(folder, steps, standing, replace=self.replace)

        try:
            return patiently(decide, source, dest)
        except EmdstoreError as error:
            return Unit(folder, loose=tuple(Step(step.key, "left", step.size, error) for step in steps), error=error)


def _some_sealed(
    folder: str,
    steps: Sequence[Step],
    source: ArtifactStore,
    inside: ArtifactStore,
    standing: Standing,
    *,
    replace: bool,
) -> Unit:
    """Move some artifacts and the record, which is written only if all the others are at the destination already."""
    at = join_key(folder, RECORD_NAME)
    data = source.read_bytes(at)
    record = decode_record(data, name=at)
    if record.state in (None, "publishing"):
        raise RecordError(
            f"{folder!r} is not published at the source (state {record.state!r}): its record is not moved", key=at
        )
    if not replace:
        _refuse_less(folder, record, standing)
    named = {step.key: step for step in steps}
    ranks: tuple[list[Step], ...] = ([], [], [])
    proved = standing.proved()
    for artifact in record.artifacts:
        key = join_key(folder, artifact.key)
        step = named.pop(key, None)
        if step is None:
            if not _has(inside, artifact, standing, proved):
                raise RecordError(
                    f"{key!r} is named by the record {at!r} and is not at the destination: name it, too, or move the "
                    "whole set",
                    key=at,
                )
        elif step.action in ("copy", "compare", "unchanged"):
            action: Action = "copy" if step.action == "copy" else "compare"
            told = Step(key, action, artifact.size, here=artifact.sha256, doubt=step.size != artifact.size)
            ranks[_RANKS.get(artifact.role, 0)].append(told)
        else:
            ranks[_RANKS.get(artifact.role, 0)].append(step)
    del named[at]
    opening = None
    if standing.data is not None or standing.is_bare or standing.is_hidden:
        planned = [artifact.key for artifact in record.artifacts]
        opening = Step(at, "write", data=encode_record(opened(standing, record, planned)), there=standing.digest)
    seal = Step(at, "write", len(data), data=data, there=standing.digest)
    sealed = standing.data == data
    in_turn = tuple(map(tuple, ranks)) if opening is None else _proved_first(ranks, source)
    again = read_back(record, folder) if standing.was_open else ()
    loose, vouched = _vouched_there(folder, named.values(), standing)
    return Unit(folder, _and_first(vouched, in_turn), loose, opening, seal, sealed=sealed, read_back=again)


def _record_in(group: Group, source: ArtifactStore) -> ExecutionRecord | None:
    """Read the record of a set at the source; one in flux, or of a run in scratch, is refused."""
    at = join_key(group.folder, RECORD_NAME)
    if not any(pair.key == at and pair.here for pair in group.pairs):
        return None
    record = decode_record(source.read_bytes(at), name=at)
    if record.state in (None, "publishing"):
        raise RecordError(
            f"{group.folder!r} is not published at the source (state {record.state!r}): no part of it is moved", key=at
        )
    return record


def _expected(
    group: Group, chosen: Sequence[Pair], record: ExecutionRecord | None, unchanged: Unchanged, source: ArtifactStore
) -> list[Step]:
    """Return the steps for some artifacts of a set; what its record names has to be what it says."""
    pairs = {pair.key: pair for pair in group.pairs}
    listed = pairs[at].source if (at := join_key(group.folder, RECORD_NAME)) in pairs else None
    named = {} if record is None else {join_key(group.folder, each.key): each for each in record.artifacts}
    return [
        _step(pair.key, artifact, pair, listed, None, unchanged, source)
        if (artifact := named.get(pair.key)) is not None
        else step_of(pair, unchanged)
        for pair in chosen
    ]


def _lacking(
    folder: str, record: ExecutionRecord, steps: Sequence[Step], inside: ArtifactStore, standing: Standing
) -> str | None:
    """Return an artifact of a record that is neither to be moved nor at the destination; None if there is none."""
    moved, proved = {step.key for step in steps}, standing.proved()
    for artifact in record.artifacts:
        key = join_key(folder, artifact.key)
        if key not in moved and not _has(inside, artifact, standing, proved):
            return key
    return None


def _has(inside: ArtifactStore, artifact: RecordedArtifact, standing: Standing, proved: Mapping[str, str]) -> bool:
    if artifact.key not in standing.found:
        return False
    digest = proved.get(artifact.key) or digest_of(inside, artifact.key)[1]
    return digest == artifact.sha256


def _some_unsealed(folder: str, steps: Sequence[Step], standing: Standing, *, replace: bool) -> Unit:
    """Move some artifacts without the record: what a record at the destination names may only become what it says."""
    if standing.data is None:  # the bundles come last, so that it looks like a set only with all that was chosen
        inside = len(folder) + 1 if folder else 0
        ranks: tuple[list[Step], ...] = ([], [], [])
        for step in steps:
            ranks[_BARE_RANKS.get(step.key[inside:], 0)].append(step)
        return Unit(folder, tuple(map(tuple, ranks)), is_part=True)
    record = standing.record
    if record is None or record.state == "publishing":
        raise RecordError(
            f"{folder!r} has an open or unreadable record at the destination: move the whole set", key=folder
        )
    named = {join_key(folder, each.key): each for each in record.artifacts}
    return Unit(
        folder,
        loose=tuple(
            step
            if (artifact := named.get(step.key)) is None or step.action not in ("copy", "compare", "unchanged")
            else Step(step.key, "compare", artifact.size, here=artifact.sha256, doubt=True)
            for step in steps
        ),
    )


def _standing(dest: ArtifactStore, at: str, found: dict[str, Pair]) -> Standing:
    pair = found[at]
    there = {key: each.dest for key, each in found.items() if each.there}
    if not pair.there:
        return Standing(there)
    try:
        data = dest.read_bytes(at)
    except ArtifactNotFoundError:
        return Standing(there)
    try:
        record = decode_record(data, name=at)
        return Standing(there, data, record, was_open=record.state == "publishing")
    except RecordVersionError:
        raise
    except RecordError:
        return Standing(there, data)


def _listed_anew(group: Group, dest: ArtifactStore) -> Group:
    """Return a folder with what the destination holds of it now."""
    there = {join_key(group.folder, key): info for key, info in listing_of(scoped(dest, group.folder)).items()}
    pairs = [attrs.evolve(pair, there=pair.key in there, dest=there.pop(pair.key, None)) for pair in group.pairs]
    return attrs.evolve(group, pairs=(*pairs, *(Pair(key, False, True, None, info) for key, info in there.items())))


def _has_it(dest: ArtifactStore, record: Pair, data: bytes) -> bool:
    """Tell whether the destination has the same record; it is not read if it keeps the checksum of these bytes."""
    if record.dest is not None and _has_checksum_of(record.dest, data):
        return True
    try:
        return dest.read_bytes(record.key) == data
    except ArtifactNotFoundError:
        return False


def _has_checksum_of(there: ArtifactInfo, data: bytes) -> bool:
    return bool(has_checksum(there.checksum, there.size, [data]))


def _is_whole(folder: str, data: bytes, record: Pair, found: Mapping[str, Pair]) -> bool:
    """Tell whether, if the destination has the same record, both sides hold all that it names, and nothing is to be
    moved.

    The bytes at the destination are those of the record if nothing touched them since it was written. Then those at the
    source need not be looked at: whatever they are by now, nothing of them is moved.
    """
    if record.source is None or record.dest is None or not record.source.size == record.dest.size == len(data):
        return False
    if (sizes := named_sizes(data)) is None:
        return False
    inside, named = len(folder) + 1 if folder else 0, 0
    for key, pair in found.items():
        here, there = pair.source, pair.dest
        if (size := sizes.get(key[inside:])) is not None:
            named += 1
            if here is None or there is None or not here.size == there.size == size or there.is_newer(record.dest):
                return False
        elif pair.here and not _untouched(pair, record):
            return False
    return named == len(sizes)


def _keep_later_word(unit: Unit, found: Collection[str], source: ArtifactStore, dest: ArtifactStore) -> Unit:
    """Let a retraction at the destination stay where it was said after the one that would replace it."""
    at = join_key(unit.folder, RETRACTION_NAME)
    if at not in found:
        return unit
    moved = [step for step in steps_of(unit) if step.key == at and step.action in ("copy", "compare")]
    if not moved or (there := _word_at(dest, unit.folder)) is None:
        return unit
    here = _word_at(source, unit.folder)
    if here is not None and here.at > there.at:
        return unit

    def kept(steps: Iterable[Step]) -> tuple[Step, ...]:
        return tuple(Step(at, "unchanged", step.size) if step.key == at else step for step in steps)

    return attrs.evolve(unit, ranks=tuple(map(kept, unit.ranks)), loose=kept(unit.loose))


def _word_at(store: ArtifactStore, folder: str) -> Retraction | None:
    try:
        return last_word(store, folder)
    except RecordError:
        return None  # it cannot be read


def _untouched(pair: Pair, record: Pair) -> bool:
    """Tell whether an artifact is as large on both sides, and was not touched since the records were written."""
    here, there = pair.source, pair.dest
    if here is None or there is None or record.source is None or record.dest is None:
        return False
    return here.size == there.size and not here.is_newer(record.source) and not there.is_newer(record.dest)


def _sealed(
    group: Group, source: ArtifactStore, data: bytes, standing: Standing, unchanged: Unchanged, *, replace: bool
) -> Unit:
    at = join_key(group.folder, RECORD_NAME)
    try:
        record = decode_record(data, name=at)
    except RecordVersionError:
        raise
    except RecordError as error:
        if standing.record is not None:
            raise
        del error  # of some other program, perhaps: it vouches for nothing, and is a file like others
        return _unvouched(group, data, standing, unchanged)
    if record.state == "publishing":
        raise RecordError(
            f"{group.folder!r} is in flux at the source (publishing since {record.opened_at}, by {record.opened_by}): "
            "it is left for the next run",
            key=at,
        )
    if record.state is None:
        if standing.record is not None and standing.record.state is not None:
            raise DemotionRefusedError(
                f"{group.folder!r} is published at the destination, and at the source it is that of a run in scratch: "
                "commit it instead",
                key=at,
            )
        return _unvouched(group, data, standing, unchanged)
    if not replace:
        _refuse_less(group.folder, record, standing)
    return _vouched(group, source, data, record, standing, unchanged)


def _refuse_less(folder: str, record: ExecutionRecord, standing: Standing) -> None:
    before = standing.record
    if before is None or not standing.is_publication:
        return
    less = None
    if record.state != "published":
        less = f"is {record.state} at the source"
    elif before.state == "published" and record.fragment == before.fragment and record.is_older_than(before):
        less = (
            f"is an older publication at the source (generation {record.generation}, "
            f"{record.published_at or 'no time'}; here {before.generation}, {before.published_at or 'no time'})"
        )
    if less is not None:
        raise DemotionRefusedError(
            f"{folder!r} is published at the destination, and {less}; the published set stays as it is. Use --replace "
            "(replace=True) to have the other one",
            key=join_key(folder, RECORD_NAME),
        )


def _vouched(
    group: Group,
    source: ArtifactStore,
    data: bytes,
    record: ExecutionRecord,
    standing: Standing,
    unchanged: Unchanged,
) -> Unit:
    at = join_key(group.folder, RECORD_NAME)
    found = {pair.key: pair for pair in group.pairs}
    listed = found[at].source
    proved = _proved(group.folder, standing)
    ranks: tuple[list[Step], ...] = ([], [], [])
    named = set()
    for artifact in record.artifacts:
        key = join_key(group.folder, artifact.key)
        named.add(key)
        step = _step(key, artifact, found.get(key), listed, proved.get(key), unchanged, source)
        ranks[_RANKS.get(artifact.role, 0)].append(step)
    rest = [step_of(pair, unchanged) for pair in group.pairs if pair.here and pair.key not in named and pair.key != at]
    loose, vouched = _vouched_there(group.folder, rest, standing)
    opening = None
    if standing.data is not None or join_key(group.folder, METRIC_NAME) in standing.found:
        planned = [artifact.key for artifact in record.artifacts]
        opening = Step(at, "write", data=encode_record(opened(standing, record, planned)), there=standing.digest)
    seal = Step(at, "write", len(data), data=data, there=standing.digest)
    return Unit(
        group.folder,
        _and_first(vouched, tuple(map(tuple, ranks)) if opening is None else _proved_first(ranks, source)),
        loose,
        opening,
        seal,
        sealed=standing.data == data,
        read_back=read_back(record, group.folder) if standing.was_open else (),
    )


def _vouched_there(folder: str, steps: Iterable[Step], standing: Standing) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Split what the source's record does not name into what nothing vouches for, and what the destination's names.

    The latter may change only while the set is open, as all else that it vouches for.
    """
    there = () if standing.record is None else standing.record.artifacts
    named = {join_key(folder, each.key) for each in there}
    loose, vouched = [], []
    for step in steps:
        if step.key in named and step.action in ("copy", "compare"):
            vouched.append(attrs.evolve(step, action="copy"))
        else:
            loose.append(step)
    return tuple(loose), tuple(vouched)


def _and_first(steps: tuple[Step, ...], ranks: tuple[tuple[Step, ...], ...]) -> tuple[tuple[Step, ...], ...]:
    return ((*steps, *ranks[0]), *ranks[1:])


def _proved_first(ranks: Iterable[Iterable[Step]], source: ArtifactStore) -> tuple[tuple[Step, ...], ...]:
    """Have what is damaged at the source found before the set at the destination is opened for it, and stays so.

    To read everything twice is cheap only nearby. Elsewhere what was written after its record is read twice.
    """
    if place_of(source).remote:
        return tuple(map(tuple, ranks))
    return tuple(
        tuple(attrs.evolve(step, doubt=True) if step.action in ("copy", "compare") else step for step in rank)
        for rank in ranks
    )


def _proved(folder: str, standing: Standing) -> dict[str, str]:
    """Return what the destination's record proves, by whole keys."""
    inside = len(folder) + 1 if folder else 0
    local = attrs.evolve(standing, found={key[inside:]: info for key, info in standing.found.items()})
    return {join_key(folder, key): digest for key, digest in local.proved().items()}


def _step(
    key: str,
    artifact: RecordedArtifact,
    pair: Pair | None,
    listed: ArtifactInfo | None,
    there: str | None,
    unchanged: Unchanged,
    source: ArtifactStore,
) -> Step:
    """Decide for one artifact that the source's record names."""
    if pair is None or not pair.here:
        error = ArtifactNotFoundError(
            f"{key!r} is named by the record of its set and is not in {source!r}", key=key, store=repr(source)
        )
        return Step(key, "missing", artifact.size, error)
    here, dest = pair.source, pair.dest
    if here is not None and here.size != artifact.size:
        damage = IntegrityError(
            f"{key!r} is damaged at the source: it has {here.size} bytes, and its record says {artifact.size} with the "
            f"SHA-256 {artifact.sha256}",
            key=key,
            store=repr(source),
        )
        return Step(key, "failed", here.size, damage)
    doubt = here is not None and listed is not None and here.is_newer(listed)
    told = Step(key, "copy", artifact.size, here=artifact.sha256, doubt=doubt)
    if not pair.there or unchanged == "never" or (dest is not None and dest.size != artifact.size):
        return told
    if unchanged == "stat" and there is not None:
        return told if there != artifact.sha256 else Step(key, "unchanged", artifact.size)
    return attrs.evolve(told, action="compare", checksum=None if dest is None else dest.checksum)


def _unvouched(group: Group, data: bytes | None, standing: Standing | None, unchanged: Unchanged) -> Unit:
    """Move a folder that looks like a set: its bundles after everything else, the metric bundle at the very end.

    If it has a record all the same, with this data, that comes after them.
    """
    ranks: tuple[list[Step], ...] = ([], [], [])
    at = join_key(group.folder, RECORD_NAME)
    for pair in group.pairs:
        if pair.here and (data is None or pair.key != at):
            name = pair.key[len(group.folder) + 1 :] if group.folder else pair.key
            ranks[_BARE_RANKS.get(name, 0)].append(step_of(pair, unchanged))
    unit = Unit(group.folder, tuple(map(tuple, ranks)))
    if data is None or standing is None:
        return unit
    seal = Step(at, "write", len(data), data=data, there=standing.digest)
    return attrs.evolve(unit, seal=seal, sealed=standing.data == data)


def _bare(group: Group, standing: Standing | None, unchanged: Unchanged) -> Unit:
    """Move a folder without a record. Over one that has a record it only brings back what that record names."""
    if standing is None or standing.data is None:
        return _unvouched(group, None, standing, unchanged)
    record, inside = standing.record, len(group.folder) + 1 if group.folder else 0
    named = {} if record is None or record.state == "publishing" else {each.key: each for each in record.artifacts}
    proved = _proved(group.folder, standing)
    steps = []
    for pair in group.pairs:
        if not pair.here:
            continue
        if (artifact := named.get(pair.key[inside:])) is None:
            steps.append(_beside(pair, group.folder, named=bool(named), unchanged=unchanged))
        elif proved.get(pair.key) == artifact.sha256 and unchanged == "stat" and _equal_sizes(pair):
            steps.append(Step(pair.key, "unchanged", artifact.size))
        else:
            steps.append(Step(pair.key, "compare", artifact.size, here=artifact.sha256, doubt=True))
    return Unit(group.folder, loose=tuple(steps))


def _equal_sizes(pair: Pair) -> bool:
    return pair.source is None or pair.dest is None or pair.source.size == pair.dest.size


def _beside(pair: Pair, folder: str, *, named: bool, unchanged: Unchanged) -> Step:
    """Decide for a key of a bare folder that the destination's record does not name."""
    if named:
        return step_of(pair, unchanged)
    error = DemotionRefusedError(
        f"{pair.key!r} is not moved: at the destination {folder!r} has a record, though not of a published set, and at "
        "the source it has none; remove the record there, or publish the set",
        key=pair.key,
    )
    return Step(pair.key, "left", error=error)


def _refused(group: Group, error: EmdstoreError) -> Unit:
    steps = tuple(Step(pair.key, "left", error=error) for pair in group.pairs if pair.here)
    return Unit(group.folder, loose=steps, error=error)
