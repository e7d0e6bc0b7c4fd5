"""The first verb: promote the files of one execution's result, and report what arrived.

It needs two stores and a result: no configuration, no database and no status.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor

import attrs

from emdstore import system
from emdstore.emds import RECORD_NAME, RETRACTION_NAME, BundleWarning
from emdstore.errors import ArtifactNotFoundError, EmdstoreError, StoreError, StoreUnavailableError
from emdstore.progress import tell
from emdstore.sets.cause import read_cause
from emdstore.sets.curated import ArtifactProblem, Curated
from emdstore.sets.digests import DigestIndex
from emdstore.sets.finding import fragment_at
from emdstore.sets.outcome import MaterializeOutcome
from emdstore.sets.record import ExecutionRecord, RecordedArtifact
from emdstore.sets.releasing import released_around
from emdstore.sets.result import LOG_NAME, ExecutionResult, ResultLike, as_result
from emdstore.sets.seal import Standing, ask_to_replace, next_generation, open_set, refuse_demotion, standing_of
from emdstore.sets.state import is_whole_and_bare
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactStore, SupportsInfo, SupportsPath
from emdstore.stores.sameness import refuse_same_place
from emdstore.stores.urls import StoreLike, as_store
from emdstore.transfers import (
    KeyOutcome,
    Outcome,
    ProgressCallback,
    Step,
    TransferProgress,
    Unchanged,
    digest_of,
    move,
    move_in_order,
    outcome_of,
)


def materialize_outputs(
    result: ResultLike,
    *,
    source: StoreLike,
    dest: StoreLike,
    fragment: str | None = None,
    unchanged: Unchanged = "stat",
    replace: bool = False,
    results: StoreLike | None = None,
    on_progress: ProgressCallback | None = None,
    executor: Executor | None = None,
) -> MaterializeOutcome:
    """Promote one execution's artifact set.

    The log always goes first; of a failed result nothing else is promoted. Then come exactly the files that the output
    bundle names, and at the end the bundles, the metric bundle last. An incomplete set is promoted as far as possible.
    Another call copies only what changed. Nothing is removed, and no final record is written: see `publish_record`. If
    there is a set already, with a record or only bundles, and part of it will change, it is opened first: its record
    says ``publishing`` until `publish_record` writes another one.

    Parameters
    ----------
    result
        What the run says of itself: emdstore's `ExecutionResult` or that of ``climate_ref_core``.
    source, dest
        The execution's folder in the scratch store and in the results store: scoped stores (`scoped`), paths or URLs.
    fragment
        The folder's path below the stores' roots. It resolves absolute names from another machine.
    unchanged
        What need not be copied again. ``"stat"``: files that are proved to be the same, by the record and the digests
        of files that have not changed since; all others are read. ``"digest"``: files with the same bytes, which are
        always read; for an object its store's checksum is enough. ``"never"``: copy everything.
    replace
        Whether a complete publication may be replaced by a set that is not complete, or although a release names it.
    results
        The whole results store, whose releases are asked before a publication changes; the set's folder in it is
        `fragment`. By default the folder above `dest`, where `dest` is a folder or URL that ends with the fragment.
    on_progress, executor
        See `transfer`.

    Returns
    -------
    MaterializeOutcome
        What is missing, rejected or unreadable is reported, not raised. Two calls return equal outcomes.

    Raises
    ------
    SameStoreError
        If source and destination are the same place, even through a link.
    DemotionRefusedError
        If a complete publication would be replaced by less. Nothing was changed.
    ReleasedSetError
        If a release of `results` names the publication as it is. Nothing was changed.
    RecordVersionError
        If a newer emdstore wrote the record that is there. Nothing was changed.
    OvertakenError
        If somebody else has written the record since it was read, so that the set could not be opened. Nothing was
        changed.
    StoreError
        If one of the stores cannot be used. Everything that has arrived is whole.
    TypeError
        If a store is none, and no path or URL either.
    """
    to = as_store(dest)
    released = None if replace or fragment is None else released_around(dest, to, fragment, results)
    outcome, _, _ = promote_set(
        result,
        source=as_store(source),
        dest=to,
        fragment=fragment,
        unchanged=unchanged,
        replace=replace,
        before_replacing=released,
        on_progress=on_progress,
        executor=executor,
    )
    return outcome


def promote_set(
    result: ResultLike,
    *,
    source: ArtifactStore,
    dest: ArtifactStore,
    identity: ExecutionRecord | None = None,
    fragment: str | None = None,
    unchanged: Unchanged = "stat",
    replace: bool = False,
    on_progress: ProgressCallback | None = None,
    before_write: Callable[[], object] | None = None,
    before_replacing: Callable[[str], object] | None = None,
    executor: Executor | None = None,
) -> tuple[MaterializeOutcome, Standing, int]:
    """Promote a set as `materialize_outputs` does; also return what is there now, and the next generation."""
    refuse_same_place(source, dest)
    with DigestIndex.of_run(source, believed=unchanged == "stat") as index:
        return _promote(
            result,
            source=source,
            dest=dest,
            index=index,
            identity=identity,
            fragment=fragment,
            unchanged=unchanged,
            replace=replace,
            on_progress=on_progress,
            before_write=before_write,
            before_replacing=before_replacing,
            executor=executor,
        )


def _promote(
    result: ResultLike,
    *,
    source: ArtifactStore,
    dest: ArtifactStore,
    index: DigestIndex,
    identity: ExecutionRecord | None,
    fragment: str | None,
    unchanged: Unchanged,
    replace: bool,
    on_progress: ProgressCallback | None,
    before_write: Callable[[], object] | None,
    before_replacing: Callable[[str], object] | None,
    executor: Executor | None,
) -> tuple[MaterializeOutcome, Standing, int]:
    started = system.current().monotonic()
    known = as_result(result)
    standing = standing_of(dest)  # each request to an object store costs as much as a small file
    name = fragment or (standing.record.fragment if standing.record is not None else repr(dest))
    read = Curated(source, known if known.successful else ExecutionResult(successful=False), fragment)
    plan = _prove(read, source, dest, standing, index, unchanged, executor)
    lacks = plan.lacks(known, read)
    is_published = standing.is_publication or (
        standing.is_bare and bool(lacks or plan.failed) and is_whole_and_bare(dest)
    )
    if not replace and is_published and lacks:
        if before_write is not None:
            before_write()  # knows better what it means if everything is gone: somebody has shipped it and cleaned up
        refuse_demotion(standing, name, lacks)
    generation = next_generation(standing, 0 if identity is None else identity.generation)
    log = plan.outcomes[LOG_NAME]
    if log.outcome in ("missing", "rejected") or (plan.failed and is_published):
        # Without a log nothing is promoted, and a publication is not opened for something that cannot be finished.
        outcome = _outcome(plan.outcomes, read, source, standing, known.successful, started)
        return outcome, standing, generation
    if plan.todo and (standing.data is not None or standing.is_bare or standing.is_hidden):
        who = identity or standing.record or ExecutionRecord.at(fragment or fragment_at(dest, ""))
        ask_to_replace(standing, before_replacing)
        standing = open_set(dest, standing, attrs.evolve(who, generation=generation), read.set.keys, before_write)
    outcomes = _ship(plan, read, source, dest, executor, _JoinedProgress(on_progress))
    shipped = {key: each.sha256 for key in plan.todo if (each := outcomes[key]).outcome == "copied" and each.sha256}
    index.learn(source, shipped)
    index.learn_copies(source, dest, shipped)
    return _outcome(outcomes, read, source, standing, known.successful, started), standing, generation


@attrs.frozen
class _Plan:
    """What to do for each key of a set, in curated order; ``copied`` means that it is to be copied."""

    outcomes: dict[str, KeyOutcome]

    @property
    def todo(self) -> list[str]:
        return [key for key, each in self.outcomes.items() if each.outcome == "copied"]

    @property
    def failed(self) -> bool:
        return any(each.outcome == "failed" for each in self.outcomes.values())

    def lacks(self, result: ExecutionResult, read: Curated) -> list[str]:
        """Return what the set lacks, for people; nothing if it seems complete."""
        if not result.successful:
            return ["the run failed"]
        lacks = [] if result.metric_bundle_filename is not None else ["the run names no metric bundle"]
        lacks += [f"missing: {key}" for key, each in self.outcomes.items() if each.outcome == "missing"]
        lacks += [f"rejected: {key}" for key, each in self.outcomes.items() if each.outcome == "rejected"]
        lacks += [f"rejected: {each.filename}" for each in read.set.rejected]
        return lacks + [f"unreadable: {each.key}" for each in read.unreadable]


def _prove(
    read: Curated,
    source: ArtifactStore,
    dest: ArtifactStore,
    standing: Standing,
    index: DigestIndex,
    unchanged: Unchanged,
    executor: Executor | None,
) -> _Plan:
    """Find out what has to be copied. Bytes are compared if there are any to compare with; nothing is written."""
    outcomes = dict.fromkeys(read.set.keys, KeyOutcome("", "copied"))
    outcomes.update((key, outcome_of(key, error)) for key, error in read.unread.items())
    files = [key for key in outcomes if not read.frozen.exists(key) and key not in read.unread]
    known = index.look(source, files)
    if standing.data is not None or any(key in standing.found for key in outcomes):
        # A local file is read, unless it is unchanged since it was: times alone do not reveal damage.
        is_here = isinstance(dest, SupportsPath)
        there = [key for key in outcomes if key in standing.found]
        proved = index.look(dest, there) if is_here else standing.proved() if unchanged == "stat" else {}
        certain = {} if unchanged == "never" else _certain(read.frozen, known, standing, proved)
        outcomes.update(certain)
        copies: tuple[tuple[ArtifactStore, Iterable[str], Executor | None], ...] = (
            (read.frozen, read.frozen.iter_keys(), None),
            (source, files, executor),
        )
        for store, all_keys, workers in copies:
            keys = [key for key in all_keys if key not in certain]
            if not keys:
                continue
            report = move(
                store,
                dest,
                keys,
                unchanged="never" if unchanged == "never" else "digest",  # times prove nothing
                found=standing.found,
                proved=proved,
                expected=known if store is source else None,
                prove=True,
                executor=workers,
            )
            outcomes.update((each.key, each) for each in report.outcomes)
        compared = {key: each.sha256 for key, each in outcomes.items() if each.sha256 is not None}
        index.learn(source, compared)
        index.learn(dest, {key: digest for key, digest in compared.items() if outcomes[key].outcome == "unchanged"})
        for key in known.keys() - compared.keys():
            outcomes[key] = attrs.evolve(outcomes[key], sha256=known[key])
    else:
        outcomes[LOG_NAME] = _log_of(source)
    return _Plan(outcomes)


def _certain(
    frozen: InMemoryArtifactStore, known: Mapping[str, str], standing: Standing, proved: Mapping[str, str]
) -> dict[str, KeyOutcome]:
    """Return what is unchanged according to known digests, without another look."""
    certain = {}
    for key, there in proved.items():
        here = digest_of(frozen, key)[1] if frozen.exists(key) else known.get(key)
        if here == there and (info := standing.found.get(key)) is not None:
            certain[key] = KeyOutcome(key, "unchanged", info.size, here)
    return certain


def _log_of(source: ArtifactStore) -> KeyOutcome:
    """Tell whether there is a log to copy."""
    try:
        if isinstance(source, SupportsInfo):
            return KeyOutcome(LOG_NAME, "copied", source.info(LOG_NAME).size)
        if not source.exists(LOG_NAME):
            raise ArtifactNotFoundError(f"no artifact {LOG_NAME!r} in {source!r}", key=LOG_NAME, store=repr(source))
    except StoreUnavailableError:  # it will be tried again
        pass
    except EmdstoreError as error:
        return outcome_of(LOG_NAME, error)
    return KeyOutcome(LOG_NAME, "copied")


def _ship(
    plan: _Plan,
    read: Curated,
    source: ArtifactStore,
    dest: ArtifactStore,
    executor: Executor | None,
    progress: _JoinedProgress,
) -> dict[str, KeyOutcome]:
    """Ship the log, the files that the bundles name, and the bundles."""
    outcomes = dict(plan.outcomes)
    todo = plan.todo
    if LOG_NAME in todo:
        moved = move_in_order(source, dest, [Step(LOG_NAME, "copy", outcomes[LOG_NAME].size)])
        outcomes[LOG_NAME] = moved[0]
        progress.add(moved)
    if (error := outcomes[LOG_NAME].error) is not None:
        if isinstance(error, StoreError):
            raise error
        return outcomes
    if files := [key for key in todo if key != LOG_NAME and not read.frozen.exists(key)]:
        report = move(source, dest, files, unchanged="never", executor=executor, on_progress=progress.part())
        outcomes.update((each.key, each) for each in report.outcomes)
    late = {each.key: each.role for each in read.set.artifacts if each.key in todo and read.frozen.exists(each.key)}
    metric = [key for key, role in late.items() if role == "metric"]
    if bundles := [key for key in late if key not in metric]:
        report = move(read.frozen, dest, bundles, unchanged="never")  # at once, if the other side is far away
        outcomes.update((each.key, each) for each in report.outcomes)
        progress.add(list(report.outcomes))
    lost = (key for key in bundles if outcomes[key].outcome != "copied")
    if broken := [*(key for key, each in outcomes.items() if each.outcome == "failed"), *lost]:
        # The metric bundle makes a folder look like a set, so it waits for what did not arrive.
        for key in metric:
            held = StoreError(f"{key!r} waits until all of its set has arrived, and {broken[0]!r} did not", key=key)
            outcomes[key] = KeyOutcome(key, "left", error=held)
        metric = []
    moved = move_in_order(read.frozen, dest, [Step(key, "copy", len(read.frozen.read_bytes(key))) for key in metric])
    outcomes.update((each.key, each) for each in moved)
    progress.add(moved, complete=True)
    return outcomes


class _JoinedProgress:
    """The progress of several transfers as that of one: it only increases, and is complete once."""

    def __init__(self, callback: ProgressCallback | None) -> None:
        self._callback = callback
        self._so_far = TransferProgress(0, 0, 0, 0, complete=False)

    def part(self) -> ProgressCallback | None:
        """Return the callback for the next transfer."""
        before = self._so_far
        return None if self._callback is None else functools.partial(self._tell, before)

    def add(self, moved: Sequence[KeyOutcome], *, complete: bool = False) -> None:
        """Report what else was moved, and whether this is all."""
        keys, size, before = len(moved), sum(each.size or 0 for each in moved), self._so_far
        done, planned = before.bytes_done + size, before.bytes_planned + size
        self._so_far = TransferProgress(before.keys_done + keys, done, before.keys_planned + keys, planned, complete)
        tell(self._callback, self._so_far)

    def _tell(self, before: TransferProgress, now: TransferProgress) -> None:
        assert self._callback is not None
        self._so_far = TransferProgress(
            before.keys_done + now.keys_done,
            before.bytes_done + now.bytes_done,
            before.keys_planned + now.keys_planned,
            before.bytes_planned + now.bytes_planned,
            complete=False,
        )
        self._callback(self._so_far)


def _outcome(
    outcomes: Mapping[str, KeyOutcome],
    read: Curated,
    source: ArtifactStore,
    standing: Standing,
    successful: bool,
    started: float,
) -> MaterializeOutcome:
    log = outcomes[LOG_NAME]
    arrived = {key: each for key, each in outcomes.items() if each.outcome in ("copied", "unchanged")}
    if log.key not in arrived:
        arrived = {}  # nothing was promoted
    payload = {key: each for key, each in outcomes.items() if key != LOG_NAME} if arrived else {}
    failed = [
        ArtifactProblem(key, each.error) for key, each in outcomes.items() if each.outcome == "failed" and each.error
    ]
    artifacts = []
    for ref in read.set.artifacts:
        if (there := arrived.get(ref.key)) is not None:
            size, digest = there.size, there.sha256
            if size is None or digest is None:  # the server copied it
                size, digest = digest_of(source, ref.key)
            artifacts.append(RecordedArtifact(ref.key, ref.role, size, digest, ref.media_type, ref.description))
    cause = _cause(source, artifacts) if not successful else None
    warnings = [*read.warnings]
    if not arrived:
        warnings = [BundleWarning("no-log", str(log.error), LOG_NAME)]
    for key in _with(payload, "missing"):
        warnings.append(BundleWarning("missing-artifact", f"{key!r} is named and not there", key))
    rejected = [each.filename for each in read.set.rejected] if arrived else []
    return MaterializeOutcome(
        log_copied=bool(arrived),
        log_unchanged=log.outcome == "unchanged",
        artifacts_copied=_with(payload, "copied"),
        artifacts_unchanged=_with(payload, "unchanged"),
        artifacts_missing=_with(payload, "missing"),
        artifacts_rejected=(*rejected, *_with(payload if arrived else outcomes, "rejected")),
        artifacts_failed=tuple(failed),
        artifacts_held_back=_with(payload, "left"),
        artifacts_unreadable=tuple(read.unreadable) if arrived else (),
        artifacts=tuple(artifacts),
        outputs=read.set.outputs if arrived else (),
        cause=cause,
        stale=tuple(
            sorted(key for key in standing.found if key not in arrived and key not in (RECORD_NAME, RETRACTION_NAME))
        ),
        warnings=tuple(warnings),
        seconds=system.current().monotonic() - started,
    )


def _cause(source: ArtifactStore, artifacts: Iterable[RecordedArtifact]) -> str | None:
    """Return what the log says of the failure, if it is still the one that was shipped."""
    log = next((each for each in artifacts if each.key == LOG_NAME), None)
    if log is None:
        return None
    try:
        cause, size, digest = read_cause(source, LOG_NAME)
    except StoreError:
        return None
    return cause if (size, digest) == (log.size, log.sha256) else None


def _with(outcomes: Mapping[str, KeyOutcome], outcome: Outcome) -> tuple[str, ...]:
    return tuple(key for key, each in outcomes.items() if each.outcome == outcome)
