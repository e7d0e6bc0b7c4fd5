"""Which artifacts of a set are unchanged, by what its record and the times beside it prove.

An artifact of the recorded size that was not touched since its record was written has the recorded bytes. Everything
here is pure. What was hashed before is in `digests`; `emdstore.transfers.plan.decide` is for artifacts outside of sets.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError, IntegrityError
from emdstore.keys import key_below
from emdstore.sets.record import ExecutionRecord, RecordedArtifact, named_sizes
from emdstore.stores.port import ArtifactInfo, ArtifactStore
from emdstore.transfers import Listing, Step, Unchanged
from emdstore.transfers.plan import KeyPair


def proved_by(record: ExecutionRecord, found: Listing) -> dict[str, str]:
    """Return the SHA-256 of each artifact that a record proves to be unchanged: it has the recorded size, and was not
    touched since.

    In an open set only artifacts older than the record count, because whoever opened it may have written all others.
    """
    listed = found.get(RECORD_NAME)
    if listed is None:
        return {}
    return {
        each.key: each.sha256
        for each in record.artifacts
        if (info := found.get(each.key)) is not None
        and info.size == each.size
        and (listed.is_newer(info) if record.is_open else not info.is_newer(listed))
    }


def step_of_artifact(
    key: str,
    artifact: RecordedArtifact,
    pair: KeyPair | None,
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
    version = None if here is None else here.version
    told = Step(key, "copy", artifact.size, here=artifact.sha256, doubt=doubt, version=version)
    if not pair.there or unchanged == "never" or (dest is not None and dest.size != artifact.size):
        return told
    if unchanged == "stat" and there is not None:
        return told if there != artifact.sha256 else Step(key, "unchanged", artifact.size)
    return attrs.evolve(told, action="compare", checksum=None if dest is None else dest.checksum)


def holds_the_same(folder: str, data: bytes, record: KeyPair, found: Mapping[str, KeyPair]) -> bool:
    """Tell whether, if the destination has the same record, both sides hold all that it names, and nothing is to be
    moved.

    The bytes at the destination are those of the record if nothing touched them since it was written. Then those at the
    source need not be looked at: whatever they are by now, nothing of them is moved.
    """
    if record.source is None or record.dest is None or not record.source.size == record.dest.size == len(data):
        return False
    if (sizes := named_sizes(data)) is None:
        return False
    named = 0
    for key, pair in found.items():
        here, there = pair.source, pair.dest
        if (size := sizes.get(key_below(key, folder))) is not None:
            named += 1
            if here is None or there is None or not here.size == there.size == size or there.is_newer(record.dest):
                return False
        elif pair.here and not _untouched(pair, record):
            return False
    return named == len(sizes)


def _untouched(pair: KeyPair, record: KeyPair) -> bool:
    """Tell whether an artifact is as large on both sides, and was not touched since the records were written."""
    here, there = pair.source, pair.dest
    if here is None or there is None or record.source is None or record.dest is None:
        return False
    return here.size == there.size and not here.is_newer(record.source) and not there.is_newer(record.dest)
