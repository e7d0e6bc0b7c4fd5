"""The first verb: promote the files that make up one execution's result, and tell what arrived.

It knows two stores and a result. There is no configuration in it, no database and no status.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor

import attrs

from emdstore.emds import (
    RECORD_NAME,
    ArtifactSet,
    BundleWarning,
    OutputBundle,
    ResolvedOutput,
    artifact_set,
    decode_metric_bundle,
    decode_output_bundle,
    decode_series,
)
from emdstore.errors import (
    ArtifactNotFoundError,
    BundleError,
    EmdstoreError,
    RecordError,
    StoreError,
)
from emdstore.sets.record import RecordedArtifact, decode_record
from emdstore.sets.result import LOG_NAME, ExecutionResult, ResultLike, as_result
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.transfers import (
    KeyOutcome,
    Listing,
    ProgressCallback,
    TransferProgress,
    TransferReport,
    Unchanged,
    digest_of,
    listing_of,
    transfer,
)

_log = logging.getLogger(__name__)


@attrs.frozen
class ArtifactProblem:
    """An artifact that did not arrive, or cannot be read, and why."""

    key: str
    error: Exception = attrs.field(eq=str)


@attrs.frozen(kw_only=True)
class MaterializeOutcome:
    """What `materialize_outputs` did.

    Attributes
    ----------
    log_copied, log_missing
        Whether the log is in the results store (copied now, or unchanged); whether the run left none.
    artifacts_copied, artifacts_unchanged
        Keys of the payload (all but the log) that were copied, or were there already.
    artifacts_missing
        Keys that the result or the output bundle names and the source does not hold.
    artifacts_rejected
        Names, as they are written, that lead out of the fragment or are no keys. They were not followed.
    artifacts_failed
        What could not be shipped, the log among it: the store failed, or the source changed meanwhile. Doing it again
        may help.
    artifacts_unreadable
        Bundles that arrived but do not follow the format.
    artifacts
        All that is in the results store of this set, in curated order, with digests.
    outputs
        The output bundle's entries, with the keys that their names became.
    stale
        Keys that lay in the results store before and are not of this set; not compared.
    log_unchanged
        Whether the log was there already; not compared.
    warnings
        What is worth telling.
    seconds
        How long it took; not compared.
    """

    log_copied: bool
    artifacts_copied: tuple[str, ...] = ()
    artifacts_unchanged: tuple[str, ...] = ()
    artifacts_missing: tuple[str, ...] = ()
    artifacts_rejected: tuple[str, ...] = ()
    artifacts_failed: tuple[ArtifactProblem, ...] = ()
    artifacts_unreadable: tuple[ArtifactProblem, ...] = ()
    artifacts: tuple[RecordedArtifact, ...] = ()
    outputs: tuple[ResolvedOutput, ...] = ()
    stale: tuple[str, ...] = attrs.field(default=(), eq=False)
    log_unchanged: bool = attrs.field(default=False, eq=False)
    warnings: tuple[BundleWarning, ...] = ()
    seconds: float = attrs.field(default=0.0, eq=False)

    @property
    def log_missing(self) -> bool:
        """Whether the run left no log; one that is there and could not be shipped is in `artifacts_failed`."""
        return not self.log_copied and all(each.key != LOG_NAME for each in self.artifacts_failed)


def materialize_outputs(
    result: ResultLike,
    *,
    source: ArtifactStore,
    dest: ArtifactStore,
    fragment: str | None = None,
    on_progress: ProgressCallback | None = None,
    executor: Executor | None = None,
) -> MaterializeOutcome:
    """Promote one execution's artifact set.

    The log goes first, always; a failed result promotes nothing else. Then the bundles that the result names and the
    files that the output bundle names, and no others. A set that is not complete is promoted as far as it goes. Calling
    it again copies only what changed. Nothing is removed, and no record is written: see `publish_record`.

    Parameters
    ----------
    result
        What the run says of itself: an `ExecutionResult` of ours or of ``climate_ref_core``.
    source, dest
        The execution's folder in the scratch store and in the results store, as stores of their own (`scoped`).
    fragment
        The folder's path below the stores' roots. It finds the place of absolute names from another machine.
    on_progress, executor
        See `transfer`.

    Returns
    -------
    MaterializeOutcome
        Also for what is missing, rejected or unreadable: that is reported, not raised.

    Raises
    ------
    SameStoreError
        If source and destination are one place, also through a link.
    StoreError
        If one of the stores cannot be used at all. Whatever has arrived is whole.
    """
    started = time.monotonic()
    known = as_result(result)
    progress = _JoinedProgress(on_progress)
    found = listing_of(dest)  # once: each question to an object store takes as long as to send it a small file
    # This also refuses two stores that are one place, before anything moves.
    send = functools.partial(transfer, dest=dest, found=found, executor=executor)
    log = send(source, keys=[LOG_NAME], on_progress=progress.part()).outcomes[0]
    if isinstance(log.error, StoreError):
        raise log.error
    if log.error is not None:
        return MaterializeOutcome(
            log_copied=False,
            stale=_stale(found, ()),
            artifacts_rejected=(LOG_NAME,) if log.outcome == "rejected" else (),
            artifacts_failed=(ArtifactProblem(LOG_NAME, log.error),) if log.outcome == "failed" else (),
            warnings=(BundleWarning("no-log", str(log.error), LOG_NAME),),
            seconds=time.monotonic() - started,
        )
    if known.successful:
        read = _Bundles(source, known, fragment)
        payload = _ship(read, source, send, progress)
    else:
        read = _Bundles(source, ExecutionResult(successful=False), fragment)
        payload = TransferReport(())
    progress.end()
    return _outcome(log, payload, read, dest, found, time.monotonic() - started)


class _JoinedProgress:
    """The progress of several transfers as that of one, which only goes up and is complete once."""

    def __init__(self, callback: ProgressCallback | None) -> None:
        self._callback = callback
        self._so_far = TransferProgress(0, 0, 0, 0, complete=False)

    def part(self) -> ProgressCallback | None:
        """Return the callback for the next transfer."""
        before = self._so_far
        return None if self._callback is None else functools.partial(self._tell, before)

    def end(self) -> None:
        """Tell that there is no further transfer."""
        if self._callback is not None:
            try:
                self._callback(attrs.evolve(self._so_far, complete=True))
            except Exception:  # noqa: BLE001 - a display must not cost the result
                _log.exception("the progress callback failed")

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


class _Bundles:
    """The set that a result describes, frozen: its bundles as they are now, and the list of files that they name.

    The bundles are shipped as they were read here. A run that adds a plot meanwhile, and writes its bundles anew, does
    not mix two states: what it adds waits for the next time.
    """

    def __init__(self, source: ArtifactStore, result: ExecutionResult, fragment: str | None) -> None:
        self._source = source
        self.frozen = InMemoryArtifactStore()
        self.unread: dict[str, EmdstoreError] = {}
        self.unreadable: list[ArtifactProblem] = []
        self.warnings: list[BundleWarning] = []
        named = functools.partial(
            artifact_set,
            log=LOG_NAME,
            metric=result.metric_bundle_filename,
            output=result.output_bundle_filename,
            series=result.series_filename,
            ran_in=_places(source, result),
            fragment=fragment,
        )
        self.set: ArtifactSet = named(bundle=self._read_all(named()))
        self.warnings.extend(self.set.warnings)

    def _read_all(self, named: ArtifactSet) -> OutputBundle | None:
        bundle = None
        for artifact in named.artifacts:
            if artifact.role == "log":
                continue
            try:
                data = self._source.read_bytes(artifact.key)
            except EmdstoreError as error:
                self.unread[artifact.key] = error
                continue
            self.frozen.write_bytes(artifact.key, data)
            try:
                if artifact.role == "metric":
                    self.warnings.extend(decode_metric_bundle(data, name=artifact.key).warnings)
                elif artifact.role == "series":
                    decode_series(data, name=artifact.key)
                else:
                    bundle = decode_output_bundle(data, name=artifact.key)
            except BundleError as error:
                self.unreadable.append(ArtifactProblem(artifact.key, error))
        return bundle


def _ship(
    read: _Bundles, source: ArtifactStore, send: Callable[..., TransferReport], progress: _JoinedProgress
) -> TransferReport:
    """Ship all but the log: the bundles, then the files that they name; told in curated order."""
    payload = [artifact.key for artifact in read.set.artifacts if artifact.role != "log"]
    bundles = [key for key in payload if read.frozen.exists(key)]
    files = [key for key in payload if not read.frozen.exists(key)]
    # A frozen bundle has been read anyway: comparing its bytes spares writing it again for its newer time.
    groups: list[tuple[ArtifactStore, list[str], Unchanged]] = [
        (read.frozen, bundles, "digest"),
        (source, files, "stat"),
    ]
    outcomes: dict[str, KeyOutcome] = {}
    for store, keys, unchanged in groups:
        if not keys:
            continue
        report = send(store, keys=keys, unchanged=unchanged, on_progress=progress.part())
        outcomes.update((each.key, each) for each in report.outcomes)
    return TransferReport(tuple(outcomes[key] for key in payload))


def _places(source: ArtifactStore, result: ExecutionResult) -> tuple[str, ...]:
    """Return the paths under which the run may have known its output directory."""
    here = [os.fspath(source.local_path())] if isinstance(source, SupportsPath) else []
    ran_in = [result.output_directory] if result.output_directory is not None else []
    return tuple(dict.fromkeys([*ran_in, *here, *map(os.path.realpath, here)]))


def _outcome(
    log: KeyOutcome,
    payload: TransferReport,
    read: _Bundles,
    dest: ArtifactStore,
    found: Listing,
    seconds: float,
) -> MaterializeOutcome:
    arrived = {each.key: each for each in (log, *payload.outcomes) if each.outcome in ("copied", "unchanged")}
    failed = [
        ArtifactProblem(each.key, each.error) for each in payload.failures if each.outcome == "failed" and each.error
    ]
    # A bundle that could not be read and arrived all the same has not been looked at.
    failed += [ArtifactProblem(key, error) for key, error in read.unread.items() if key in arrived]
    known = _digests_of_record(dest, found) if any(each.sha256 is None for each in arrived.values()) else {}
    artifacts = []
    for ref in read.set.artifacts:
        if (there := arrived.get(ref.key)) is not None:
            size, digest = _size_and_digest(there, known, dest)
            artifacts.append(RecordedArtifact(ref.key, ref.role, size, digest, ref.media_type, ref.description))
    missing = [
        BundleWarning("missing-artifact", f"{key!r} is named and not there", key) for key in payload.keys("missing")
    ]
    return MaterializeOutcome(
        log_copied=True,
        log_unchanged=log.outcome == "unchanged",
        artifacts_copied=payload.keys("copied"),
        artifacts_unchanged=payload.keys("unchanged"),
        artifacts_missing=payload.keys("missing"),
        artifacts_rejected=(*(each.filename for each in read.set.rejected), *payload.keys("rejected")),
        artifacts_failed=tuple(failed),
        artifacts_unreadable=tuple(read.unreadable),
        artifacts=tuple(artifacts),
        outputs=read.set.outputs,
        stale=_stale(found, arrived),
        warnings=(*read.warnings, *missing),
        seconds=seconds,
    )


def _size_and_digest(there: KeyOutcome, known: Mapping[tuple[str, int], str], dest: ArtifactStore) -> tuple[int, str]:
    """Return what the record says of an artifact; hash it only if nobody has."""
    if there.size is not None:
        digest = there.sha256 or known.get((there.key, there.size))
        if digest is not None:
            return there.size, digest
    return digest_of(dest, there.key)


def _stale(found: Listing, arrived: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(key for key in found if key not in arrived and key != RECORD_NAME))


def _digests_of_record(dest: ArtifactStore, found: Listing) -> dict[tuple[str, int], str]:
    """Return what the record in the destination says of artifacts that were not written since.

    A promotion that was cut off leaves new bytes, perhaps of the same size, beside the old record.
    """
    published = found.get(RECORD_NAME)
    if published is None:
        return {}
    try:
        record = decode_record(dest.read_bytes(RECORD_NAME))
    except (ArtifactNotFoundError, RecordError):
        return {}
    # Many stores keep whole seconds, so what is as old as the record may be newer.
    older = {key for key, info in found.items() if info is not None and info.modified < published.modified}
    return {(each.key, each.size): each.sha256 for each in record.artifacts if each.key in older}
