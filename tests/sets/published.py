"""Sets to move: published, bare, damaged, and what can be seen of them at a destination."""

from __future__ import annotations

import hashlib
from typing import Any

import attrs
from tests.sets.examples import FRAGMENT, SUCCESS, put, small_run

from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord, decode_record, encode_record, read_record
from emdstore.sets.result import ExecutionResult
from emdstore.sets.transfer import transfer
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, scoped

OTHER = "pmp/enso_tel/historical_g58_v1_d905ddf2/24"


def publish(
    store: ArtifactStore,
    fragment: str = FRAGMENT,
    *,
    result: ExecutionResult = SUCCESS,
    generation: int = 0,
    replace: bool = False,
    **files: object,
) -> ExecutionRecord:
    """Publish a small run, with files replaced as in `small_run`; return its record."""
    run = put(InMemoryArtifactStore(), small_run(**files))
    identity = attrs.evolve(ExecutionRecord.at(fragment), generation=generation)
    done = publish_set(identity, result, source=run, dest=scoped(store, fragment), replace=replace)
    assert done.record is not None
    return done.record


def publish_later_version(store: ArtifactStore, fragment: str = FRAGMENT) -> ExecutionRecord:
    """Publish the small run again, with other bytes of the same sizes."""
    return publish(store, fragment, map=b"\x89PNG PLOT", tas=b"CDF DATA", index=b"<HTML></HTML>")


def amend(store: ArtifactStore, fragment: str = FRAGMENT, **changes: Any) -> bytes:
    """Change a record behind everybody's back; return its bytes."""
    folder = scoped(store, fragment)
    data = encode_record(attrs.evolve(decode_record(folder.read_bytes(RECORD_NAME)), **changes))
    folder.write_bytes(RECORD_NAME, data)
    return data


def disagreeing(store: ArtifactStore, fragment: str = FRAGMENT) -> list[str]:
    """Return what a record that calls its set published names and that does not lie there with its digest."""
    folder = scoped(store, fragment)
    record = read_record(folder)
    if record is None or record.state != "published":
        return []
    return [each.key for each in record.artifacts if _digest(folder, each.key) != each.sha256]


def _digest(folder: ArtifactStore, key: str) -> str | None:
    try:
        return hashlib.sha256(folder.read_bytes(key)).hexdigest()
    except ArtifactNotFoundError:
        return None


def state(store: ArtifactStore, fragment: str = FRAGMENT) -> str | None:
    """Return the state that a set's record says; None if it has none."""
    record = read_record(scoped(store, fragment))
    return None if record is None else record.state


def looks_bare(store: ArtifactStore, fragment: str = FRAGMENT) -> bool:
    """Tell whether a folder would pass for a set that nobody vouches for."""
    folder = scoped(store, fragment)
    return folder.exists("diagnostic.json") and not folder.exists(RECORD_NAME)


def move_one_by_one(source: ArtifactStore, dest: ArtifactStore) -> bool:
    """Transfer all with a single worker, so that steps come in the same order each time."""
    return transfer(source, dest, max_workers=1).ok
