"""Moving results from one store to another, set by set.

`emdstore.transfers` moves keys; this module tells it what a set is: the folder of a record. Each set is moved as a
unit: it is opened at the destination before its first byte changes there, and its record comes last, or not at all.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import nullcontext

import attrs

from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.selection import ALL, Selection, roots_of
from emdstore.sets.events import Event, announce, make_event
from emdstore.sets.listing import find_chosen
from emdstore.sets.proved import Proved
from emdstore.sets.release import ALIASES, RELEASES, own_keys
from emdstore.sets.releasing import Released, expect_release
from emdstore.sets.result import METRIC_NAME, OUTPUT_NAME, SERIES_NAME
from emdstore.sets.sealing import SetSealing, word_at
from emdstore.stores.port import ArtifactStore
from emdstore.stores.sameness import refuse_same_place
from emdstore.stores.urls import StoreLike, as_source, as_store
from emdstore.telemetry import Operation, operation
from emdstore.transfers import (
    Bandwidth,
    ProgressCallback,
    Step,
    TransferInterrupted,
    TransferReport,
    Unchanged,
    move,
    plan_move,
)
from emdstore.transfers.units import Order, Unit, sealed_folders

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
    state_file: str | os.PathLike[str] | None = None,
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
    state_file
        A file that keeps which sets were compared or copied. The next call with it takes these by their records, as
        ``"stat"`` takes all sets, instead of reading or copying them again. When everything has arrived it is removed.

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
        If keys or sets are to be selected by something that the source does not know; nothing more was moved. If the
        state file is about other stores or another rule, or cannot be used; nothing was moved.
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
    proved = None if state_file is None else Proved(state_file, f"transfer ({unchanged}) from {opened!r} to {to!r}")
    sealing = attrs.evolve(_sealing(opened, to, given, selection, expected, replace=replace), proved=proved)
    about: dict[str, str | bool] = {"source": repr(opened), "dest": repr(to), "dry_run": dry_run}
    with operation("transfer", **about) as doing, nullcontext() if proved is None or dry_run else proved:
        try:
            report = move(
                opened,
                to,
                given,
                unchanged=unchanged,
                max_workers=max_workers,
                executor=executor,
                on_progress=on_progress,
                dry_run=dry_run,
                flush=flush,
                sealing=sealing,
                order=order,
                max_bytes=max_bytes,
                bandwidth=bandwidth,
            )
        except TransferInterrupted as interrupted:
            announce(to, _events_of(interrupted.report, to))
            _count(interrupted.report, doing)
            raise
        _count(report, doing)
    announce(to, _events_of(report, to))
    if proved is not None and report.ok and not dry_run:
        proved.forget()
    return report


def _count(report: TransferReport, doing: Operation) -> None:
    doing.count("bytes", 0 if report.dry_run else report.bytes_copied)
    for outcome, number in report.counts.items():
        doing.count("artifacts", number, outcome=outcome)
    for word, number in Counter(each.outcome for each in report.sets).items():
        doing.count("sets", number, outcome=word)


def _events_of(report: TransferReport, dest: ArtifactStore) -> Iterator[Event]:
    """Yield what a transfer has published; of a release also that it is there now."""
    if report.dry_run:
        return
    digests: dict[str, str | None] = {}
    for each in report.outcomes.ending_in(".json", "copied"):
        folder, _, name = each.key.rpartition("/")
        if name == RECORD_NAME:
            digests[folder] = each.sha256
        elif name == RETRACTION_NAME and (word := word_at(dest, folder)) is not None:
            yield make_event("retracted" if word.retracted else "unretracted", folder, about=word.reason)
        elif folder in (RELEASES, ALIASES) and name.endswith(".json"):
            yield make_event("released" if folder == RELEASES else "aliased", name.removesuffix(".json"))
    for one in report.sets:
        if one.outcome == "copied":
            yield make_event("published", one.folder, record=digests.get(one.folder))


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
