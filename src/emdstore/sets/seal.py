"""What is at a set's destination, and opening the set before its first byte changes.

A record vouches for the bytes beside it. So whoever is about to change these bytes first replaces the record with one
that says ``publishing``: from then on no reader takes the set for complete, whatever happens to the writer. The final
record comes last. This module decides what may replace what (P4), and which bytes are proved by the existing record
(R2).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import NoReturn

import attrs

from emdstore import system
from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    DemotionRefusedError,
    LookRefusedError,
    RecordError,
    RecordVersionError,
)
from emdstore.keys import join_key
from emdstore.sets.record import ExecutionRecord, decode_record, encode_record
from emdstore.sets.result import METRIC_NAME
from emdstore.sets.unchanged import proved_by
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactInfo, ArtifactStore, SupportsFlush, SupportsInfo
from emdstore.transfers import Listing, Step, listing_of
from emdstore.transfers.seals import write_seal
from emdstore.workers.distance import noting_answer

_NAMED = 5


@attrs.frozen
class Standing:
    """What is at a set's destination.

    Attributes
    ----------
    found
        The infos of the files there.
    data
        The bytes of the existing record; None if there is none.
    record
        The decoded record; None if there is none, or it cannot be read.
    was_open
        Whether another writer, who may be halted and continue, had opened the set before.
    is_hidden
        Whether the credentials may not read what is there. Then the set is opened first, on the condition that it has
        no record: if the server creates the record, there was none.
    """

    found: Listing
    data: bytes | None = None
    record: ExecutionRecord | None = None
    was_open: bool = False
    is_hidden: bool = False

    @property
    def digest(self) -> str | None:
        """The SHA-256 of the existing record; None if there is none."""
        return None if self.data is None else sha256_of(self.data)

    @property
    def is_publication(self) -> bool:
        """Whether a complete set was published here, even if a writer was stopped while replacing it."""
        record = self.record
        return record is not None and (record.state == "published" or (record.is_open and bool(record.artifacts)))

    @property
    def is_bare(self) -> bool:
        """Whether this looks like a set without a record."""
        return self.data is None and METRIC_NAME in self.found

    def proved(self) -> dict[str, str]:
        """Return the SHA-256 of each artifact that the record proves to be unchanged; see `proved_by`."""
        return {} if self.record is None else proved_by(self.record, self.found)


def standing_at(dest: ArtifactStore, found: Listing, *, name: str = RECORD_NAME) -> Standing:
    """Read what is at a set's destination.

    Parameters
    ----------
    dest
        The set's folder, as a scoped store.
    found
        The infos of the files there.
    name
        What to call its record in errors.

    Raises
    ------
    RecordVersionError
        If a newer emdstore wrote the record. Its meaning is unknown, so it is never replaced.
    """
    if RECORD_NAME not in found:
        return Standing(found)
    try:
        with noting_answer(dest):
            data = dest.read_bytes(RECORD_NAME)
    except ArtifactNotFoundError:
        return Standing(found)
    try:
        record = decode_record(data, name=name)
    except RecordVersionError:
        raise
    except RecordError:
        return Standing(found, data)
    if record.is_open:  # it may have been opened after the listing, which then proves nothing
        return Standing(list_set(dest, record), data, record, was_open=True)
    return Standing(found, data, record)


def standing_of(dest: ArtifactStore) -> Standing:
    """Look what stands at a set's destination, also where nobody may list it.

    Then the record is asked for by its name, and what it names. If even that is refused, nobody knows what stands there
    (`is_hidden`).

    Raises
    ------
    RecordVersionError
        See `standing_at`.
    """
    try:
        return standing_at(dest, listing_of(dest))
    except LookRefusedError:
        pass  # it may not be listed, but its record may be read by name
    try:
        standing = standing_at(dest, {RECORD_NAME: None})
    except LookRefusedError:
        return Standing({}, is_hidden=True)
    if standing.data is None:
        return Standing({})
    return attrs.evolve(standing, found=list_set(dest, standing.record))


def list_set(folder: ArtifactStore, record: ExecutionRecord | None) -> Listing:
    """List a set's folder; without the right to list it, look up what its record names."""
    try:
        return listing_of(folder)
    except LookRefusedError:
        found: dict[str, ArtifactInfo | None] = {}
        for key in (RECORD_NAME, *(each.key for each in (record.artifacts if record is not None else ()))):
            with contextlib.suppress(ArtifactNotFoundError, LookRefusedError):
                if isinstance(folder, SupportsInfo):
                    found[key] = folder.info(key)
                elif folder.exists(key):
                    found[key] = None
        return found


def refuse_demotion(standing: Standing, fragment: str, lacks: Collection[str]) -> NoReturn:
    """Refuse to replace a complete publication with an incomplete set: `DemotionRefusedError`."""
    named = "; ".join([*lacks][:_NAMED]) + ("; ..." if len(lacks) > _NAMED else "")
    state = "stays as it is" if standing.record is None or standing.record.state == "published" else "stays open"
    without = " without a record" if standing.record is None else ""
    raise DemotionRefusedError(
        f"{fragment!r} is published{without}, and what would replace it is not complete ({named}); the published set "
        f"{state}. "
        "Bring back what is missing and do it again, or use --replace (replace=True) to have the less complete one",
        key=fragment,
    )


def ask_to_replace(standing: Standing, before_replacing: Callable[[str], object] | None) -> None:
    """Call `before_replacing` with the SHA-256 of the record, if a complete publication is about to change."""
    if before_replacing is not None and standing.digest is not None:
        record = standing.record
        if record is not None and record.state == "published":
            before_replacing(standing.digest)


def read_back(record: ExecutionRecord, folder: str = "") -> tuple[Step, ...]:
    """Return how to read back a set that was sealed over an open one; see `emdstore.transfers.seals`.

    Parameters
    ----------
    record
        The record that was written.
    folder
        The set's folder in the store that is read; ``""`` if the store is that folder.
    """
    return tuple(Step(join_key(folder, each.key), "prove", each.size, here=each.sha256) for each in record.artifacts)


def next_generation(standing: Standing, claimed: int) -> int:
    """Return the generation of a new record over the existing one.

    It is the generation of the claim, or the one after the existing record's if that is higher, because a writer
    without a catalog has no claim, and a rebuilt catalog counts from 1 again.
    """
    return max(claimed, 1 + (0 if standing.record is None else standing.record.generation))


def opened(standing: Standing, identity: ExecutionRecord, planned: Collection[str]) -> ExecutionRecord:
    """Return the record that says that a set's bytes are changing."""
    machine, before = system.current(), standing.record
    replaces = standing.digest
    if before is not None and before.is_open:
        replaces = before.replaces  # a writer was stopped, so what it replaced is what counts
    return attrs.evolve(
        identity,
        state="publishing",
        status=None,
        failure=None,
        dirty=None,
        reason="its bytes are being replaced, or were when the writer was stopped; the same command goes on",
        published_at=None,
        upload_duration=None,
        artifacts=before.artifacts if before is not None and standing.is_publication else (),
        superseded=() if before is None else before.superseded,
        generation=max(identity.generation, 0 if before is None else before.generation),
        replaces=replaces,
        planned=tuple(sorted(planned)),
        opened_at=machine.now(),
        opened_by=f"{machine.host()}:{machine.whoami(None).split(':')[2]}",
    )


def open_set(
    dest: ArtifactStore,
    standing: Standing,
    identity: ExecutionRecord,
    planned: Collection[str],
    before_write: Callable[[], object] | None = None,
) -> Standing:
    """Open a set: write the record that says that its bytes are changing, and make it durable.

    Parameters
    ----------
    dest
        The set's folder, as a scoped store.
    standing
        What is there; nothing else is replaced. A set that is open already is opened again, so that a writer that was
        only halted finds out.
    identity
        The set's identity.
    planned
        What will be published.
    before_write
        Called right before the record is written; what it raises passes through, and nothing is written.

    Returns
    -------
    Standing
        What is there now.

    Raises
    ------
    OvertakenError
        If somebody else has written the record meanwhile. It stays.
    """
    record = opened(standing, identity, planned)
    data = encode_record(record)
    if before_write is not None:
        before_write()
    write_seal(dest, RECORD_NAME, data, standing.digest, folder=record.fragment)
    if isinstance(dest, SupportsFlush):
        dest.flush()
    return Standing(standing.found, data, record, was_open=standing.was_open)
