"""Repairing a damaged set from a good copy; its record says which bytes are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from emdstore.errors import ArtifactNotFoundError, EmdstoreError, IntegrityError, RecordError
from emdstore.sets.events import announce, make_event
from emdstore.sets.record import ExecutionRecord, RecordedArtifact, read_record
from emdstore.sets.state import SetLook, SetState, look_at_set, names_of
from emdstore.shown import Shown
from emdstore.stores.port import ArtifactStore, SupportsFlush
from emdstore.stores.urls import StoreLike, as_source
from emdstore.stores.views import scoped
from emdstore.transfers import digest_of, move
from emdstore.transfers.seals import overtaken

_BUNDLES_LAST = {"series": 1, "output": 1, "metric": 2}


@attrs.frozen
class NotRepaired:
    """An artifact that could not be repaired, and why."""

    key: str
    reason: str


@attrs.frozen(kw_only=True, repr=False)
class RepairReport(Shown):
    """What `repair` did.

    Attributes
    ----------
    fragment
        The execution.
    repaired
        The artifacts that were restored.
    not_repaired
        Those that are still missing or damaged, and why.
    state
        The set's state now, from the digest of every artifact.
    """

    fragment: str
    repaired: tuple[str, ...] = ()
    not_repaired: tuple[NotRepaired, ...] = ()
    state: SetState

    @property
    def ok(self) -> bool:
        """Whether the set matches its record."""
        return not self.not_repaired and self.state in ("published", "failed", "incomplete")

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return attrs.asdict(self)


def repair(store: StoreLike, fragment: str, *, source: StoreLike) -> RepairReport:
    """Repair a set whose bytes do not match its record, from another copy.

    Every artifact is hashed. A missing or damaged artifact is copied from the source only if it has the recorded digest
    there; bundles come last. The record does not change. As long as something is wrong, readers see the set as
    ``changed``.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    fragment
        The set's folder in it.
    source
        Another site's store, a backup or scratch: a store with the set in the same folder, or in the one that its
        record names, or the set's folder itself.

    Returns
    -------
    RepairReport
        What was restored, and what was not found. Another call, perhaps with another source, continues from there.

    Raises
    ------
    ExecutionNotFoundError
        If there is no set in this folder.
    RecordError
        If no record says what is right: there is none, it cannot be read, a newer emdstore wrote it, or the set is
        being published. Nothing was changed.
    OvertakenError
        If somebody else has written the record meanwhile. What was restored until then may belong to the old set: check
        the new one with `verify`, and repair that.
    StoreError
        If a store cannot be used.
    """
    results, other = as_source(store), as_source(source)
    look = look_at_set(results, fragment, bundles=False, every_digest=True)
    record = _record_to_go_by(look)
    folder = scoped(results, fragment)
    verdict = look.judgement
    wrong = {*verdict.lacking, *verdict.differing, *verdict.unread}
    damaged = sorted((each for each in record.artifacts if each.key in wrong), key=_rank)
    brought, left = [], []
    for artifact in damaged:
        if read_record(folder) != record:
            raise overtaken(look.fragment, results)
        reason = _bring(artifact, folder, list(_copies(other, fragment, record)))
        if reason is None:
            brought.append(artifact.key)
        else:
            left.append(NotRepaired(artifact.key, reason))
    if not brought:
        return RepairReport(fragment=look.fragment, not_repaired=tuple(left), state=look.state)
    if isinstance(folder, SupportsFlush):
        folder.flush()
    announce(results, [make_event("repaired", look.fragment, about=names_of(brought))])
    now = look_at_set(results, fragment, bundles=False, every_digest=True)
    if now.record != record:
        raise overtaken(look.fragment, results)
    return RepairReport(fragment=look.fragment, repaired=tuple(brought), not_repaired=tuple(left), state=now.state)


def prove_set(store: StoreLike, fragment: str) -> SetLook:
    """Hash every artifact of a set, and check them against its record, before they are used for anything.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    fragment
        The set's folder in it.

    Returns
    -------
    SetLook
        The set as it is. Without a record nothing says what its bytes should be.

    Raises
    ------
    IntegrityError
        If artifacts are missing or do not match the record; the message names them, with both digests of the first.
    EmdstoreError
        If the set may not be used for another reason; see `ingest`.
    """
    look = look_at_set(as_source(store), fragment, bundles=False, every_digest=True)
    if look.state == "changed" and look.record is not None:
        verdict = look.judgement
        details = [f"not there: {names_of(verdict.lacking)}"] if verdict.lacking else []
        if verdict.differing:
            details.append(f"damaged: {names_of(verdict.differing)}")
            first = next(each for each in look.record.artifacts if each.key == verdict.differing[0])
            found = look.digests.get(first.key)
            if isinstance(found, tuple):
                details.append(f"{first.key!r} has SHA-256 {found[1]}, recorded is {first.sha256}")
        raise IntegrityError(
            f"{look.fragment!r} is not what its record says ({'; '.join(details)}): mend it with `emdstore repair` "
            "from a good copy first",
            key=look.fragment,
        )
    if look.error is not None:
        raise look.error
    return look


def _record_to_go_by(look: SetLook) -> ExecutionRecord:
    if look.record is None or look.state == "publishing":
        if look.error is not None and (look.state == "newer-schema" or not isinstance(look.error, RecordError)):
            raise look.error
        why = str(look.error) if look.error is not None else "it has no record"
        raise RecordError(
            f"{look.fragment!r} cannot be repaired, since nothing says which bytes are right: {why}", key=look.fragment
        )
    return look.record


def _rank(artifact: RecordedArtifact) -> int:
    return _BUNDLES_LAST.get(artifact.role, 0)


def _copies(other: ArtifactStore, fragment: str, record: ExecutionRecord) -> Iterator[ArtifactStore]:
    """Yield the folders of another store that may contain the set's artifacts."""
    for location in dict.fromkeys((fragment, record.fragment, "")):
        yield scoped(other, location)


def _bring(artifact: RecordedArtifact, folder: ArtifactStore, copies: list[ArtifactStore]) -> str | None:
    """Restore an artifact from the first copy with the right bytes; return the reason if there is none."""
    reasons = []
    for copy in copies:
        try:
            found = digest_of(copy, artifact.key)
        except ArtifactNotFoundError:
            continue
        except EmdstoreError as error:
            reasons.append(str(error))
            continue
        if found != (artifact.size, artifact.sha256):
            reasons.append(f"what lies in {copy!r} has other bytes, too (SHA-256 {found[1]})")
            continue
        outcome = move(
            copy, folder, [artifact.key], unchanged="never", expected={artifact.key: artifact.sha256}
        ).outcomes[0]
        if outcome.error is None:
            return None
        reasons.append(str(outcome.error))
    return "; ".join(reasons) or "the source does not have it"
