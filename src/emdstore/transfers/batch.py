"""Running one batch of steps, anywhere: plain data in, outcomes out; errors become outcomes."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence

import attrs

from emdstore import system
from emdstore.errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    EmdstoreError,
    IntegrityError,
    InvalidKeyError,
    LookRefusedError,
    StoreAccessError,
    StoreUnavailableError,
    UnsafePathError,
    UnsupportedError,
)
from emdstore.stores.checksums import Check, sha256_of
from emdstore.stores.port import ArtifactStore, Copied, SupportsCreate
from emdstore.transfers.outcomes import KeyOutcome, Outcome
from emdstore.transfers.patience import patiently
from emdstore.transfers.plan import Step
from emdstore.transfers.routes import Route, Stores, digest_of
from emdstore.transfers.seals import write_seal
from emdstore.workers.watch import Monitor, Stopped

SMALL_SIZE = 1024 * 1024
"""The size up to which an artifact may be moved together with others."""

_log = logging.getLogger(__name__)


_ONCE_BYTES = 64 * 1024 * 1024


Batch = Sequence[tuple[int, Step]]
"""Steps with their positions in the report."""


@attrs.frozen
class BatchResult:
    """What a worker returns: outcomes in the order of its steps (fewer if it was stopped), and the time it took."""

    outcomes: list[KeyOutcome]
    seconds: float


def run_batch(stores: Stores, monitor: Monitor | None, batch: Batch) -> BatchResult:
    """Do the steps of one batch, one after the other; errors become outcomes."""
    started = system.current().monotonic()
    outcomes: list[KeyOutcome] = []
    with contextlib.suppress(Stopped):
        for outcome in run_steps(stores, [step for _, step in batch], monitor):
            outcomes.append(outcome)  # noqa: PERF402 - kept when a later step is stopped
    return BatchResult(outcomes, system.current().monotonic() - started)


def run_steps(stores: Stores, steps: Sequence[Step], monitor: Monitor | None) -> Iterator[KeyOutcome]:
    """Do steps and yield their outcomes in order; errors become outcomes."""
    source, dest = stores.source, stores.dest
    with Route(stores, monitor) as route:
        for are_plain, group in itertools.groupby(steps, is_plain_copy):
            run = list(group)
            copies = route.copy_many(run) if are_plain and len(run) > 1 else None
            if copies is None:
                for step in run:
                    yield _run_step(source, dest, step, route)
                continue
            for step in run:
                copied = _next_of(copies)
                if isinstance(copied, Copied) and step.here is None:
                    yield KeyOutcome(step.key, "copied", copied.size, copied.sha256)
                    continue
                again = isinstance(copied, StoreUnavailableError)
                yield _run_step(source, dest, step, route, None if again else copied)


def is_plain_copy(step: Step) -> bool:
    """Tell whether a step is to copy something small, and nothing else, so that it can be copied with others."""
    is_certain = step.action == "copy" and not step.doubt and not step.once
    return is_certain and step.size is not None and step.size <= SMALL_SIZE


def _next_of(copies: Iterator[Copied | EmdstoreError]) -> Copied | EmdstoreError | None:
    """Return the next copy that was made; None if the step has to be done alone, as after an unexpected error."""
    try:
        return next(copies, None)
    except Exception:  # noqa: BLE001 - each is tried again alone, and what it raises then is its outcome
        _log.warning("copying several at once failed; going on one by one", exc_info=True)
        return None


def move_in_order(source: ArtifactStore, dest: ArtifactStore, steps: Iterable[Step]) -> list[KeyOutcome]:
    """Do a few steps in this thread, up to the first that fails; errors become outcomes."""
    outcomes: list[KeyOutcome] = []
    with Route(Stores(source, dest)) as route:
        for step in steps:
            outcomes.append(_run_step(source, dest, step, route))
            if outcomes[-1].outcome not in ("copied", "unchanged"):
                break
    return outcomes


def _run_step(
    source: ArtifactStore, dest: ArtifactStore, step: Step, route: Route, copied: Copied | EmdstoreError | None = None
) -> KeyOutcome:
    """Do one step. If it was already done together with others, only judge the result."""
    try:
        if isinstance(copied, EmdstoreError):
            raise copied
        if copied is not None:
            _check(step, source, copied.sha256)
            return KeyOutcome(step.key, "copied", copied.size, copied.sha256 or step.here)
        return patiently(functools.partial(_move, source, dest, step, route), source, dest)
    except Exception as error:  # noqa: BLE001 - whatever a store raises is this key's outcome and stops no other
        return outcome_of(step.key, error, step.size)


def _move(source: ArtifactStore, dest: ArtifactStore, step: Step, route: Route) -> KeyOutcome:
    if step.action == "write":
        data = step.data or b""
        write_seal(dest, step.key, data, step.there, folder=step.key.rpartition("/")[0])
        return KeyOutcome(step.key, "copied", len(data), sha256_of(data))
    if step.doubt or step.action == "check":
        here = route.digest_of(source, step.key)
        _check(step, source, here[1])
        if step.action == "check":
            return KeyOutcome(step.key, "copied", *here)
    if step.action in ("compare", "prove"):
        here, same = _compare(source, dest, step, route)
        if same or step.action == "prove":
            return KeyOutcome(step.key, "unchanged" if same else "copied", *here)
    if step.once:
        return _put_once(source, dest, step)
    copied = route.copy(step.key, step.size, step.here, step.version)
    if step.here is not None:
        _check(step, source, copied.sha256)
    return KeyOutcome(step.key, "copied", copied.size, copied.sha256 or step.here)


def _put_once(source: ArtifactStore, dest: ArtifactStore, step: Step) -> KeyOutcome:
    """Copy an artifact only where there is nothing, or the same bytes: an unseen set may vouch for others."""
    needs = "s3:ListBucket, which tells whether it belongs to a set, or --replace (replace=True) to write over it"
    if not isinstance(dest, SupportsCreate) or step.size is None or step.size > _ONCE_BYTES:
        raise _hidden(
            dest, step, f"only an artifact of up to {_ONCE_BYTES >> 20} MiB can be put where nothing lies", needs
        )
    data = source.read_bytes(step.key)
    digest = sha256_of(data)
    _check(step, source, digest)
    try:
        dest.create_bytes(step.key, data)
    except UnsupportedError:
        raise _hidden(dest, step, "the server knows no conditional puts", needs) from None
    except ArtifactExistsError:
        with contextlib.suppress(LookRefusedError):
            if digest_of(dest, step.key) == (len(data), digest):
                return KeyOutcome(step.key, "unchanged", len(data), digest)
        raise _hidden(dest, step, "something else is there already", needs) from None
    return KeyOutcome(step.key, "copied", len(data), digest)


def _hidden(dest: ArtifactStore, step: Step, why: str, needs: str) -> StoreAccessError:
    return StoreAccessError(
        f"cannot put {step.key!r} in {dest!r}, which does not tell what lies beside it: {why}; use credentials with "
        f"{needs}",
        key=step.key,
        store=repr(dest),
    )


def _compare(source: ArtifactStore, dest: ArtifactStore, step: Step, route: Route) -> tuple[tuple[int, str], bool]:
    """Return the size and digest of the source's bytes, and whether the destination has the same.

    If the source's bytes match a checksum that the destination keeps, the destination is not read. If they do not, it
    may not be a real checksum: see `has_checksum`.
    """
    if step.checksum is not None and step.size is not None and step.there is None:
        check = Check(step.checksum, step.size)
        if check.fits() is not None:
            here = route.digest_of(source, step.key, check)
            if check.fits() and step.here in (None, here[1]):
                return here, True
    here = (step.size, step.here) if step.size is not None and step.here else route.digest_of(source, step.key)
    return here, here == ((here[0], step.there) if step.there else _digest_or_none(dest, step.key, route))


def _check(step: Step, source: ArtifactStore, digest: str | None) -> None:
    if step.here is not None and digest not in (None, step.here):
        raise IntegrityError(
            f"{step.key!r} is not what its record says: its bytes at the source have the SHA-256 {digest}, and the "
            f"record has {step.here}; bring the good bytes back there first",
            key=step.key,
            store=repr(source),
        )


def _digest_or_none(store: ArtifactStore, key: str, route: Route) -> tuple[int, str] | None:
    try:
        return route.digest_of(store, key)
    except ArtifactNotFoundError:  # removed since it was planned
        return None


def outcome_of(key: str, error: Exception, size: int | None = None) -> KeyOutcome:
    """Return the outcome of a key for an error."""
    if isinstance(error, InvalidKeyError | UnsafePathError):
        return KeyOutcome(key, "rejected", size, error=error)
    if isinstance(error, ArtifactNotFoundError):
        return KeyOutcome(key, "missing", size, error=error)
    return KeyOutcome(key, "failed", size, error=error)


def foreseen(step: Step) -> KeyOutcome:
    """Return the outcome that a step will have, or has: ``copied`` if there is something to do."""
    outcome: Outcome
    match step.action:
        case "copy" | "compare" | "prove" | "check" | "write":
            outcome = "copied"
        case settled:
            outcome = settled
    return KeyOutcome(step.key, outcome, step.size, error=step.error)
