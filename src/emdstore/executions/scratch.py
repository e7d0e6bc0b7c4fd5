"""What scratch knows about executions: their folders, and the records in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    RecordError,
    UnsafePathError,
)
from emdstore.keys import join_key
from emdstore.sets.finding import find_sets
from emdstore.sets.record import ExecutionRecord, decode_record, encode_record
from emdstore.stores.local import LocalArtifactStore


def read_scratch_record(scratch: LocalArtifactStore, fragment: str) -> ExecutionRecord | None:
    """Return an execution's record in scratch; None if its folder or record is gone."""
    key = join_key(fragment, RECORD_NAME)
    try:
        return decode_record(scratch.read_bytes(key), name=key)
    except ArtifactNotFoundError:
        return None


def size_in_scratch(scratch: LocalArtifactStore, fragment: str) -> int:
    """Return the bytes of all files in an execution's folder."""
    return sum(info.size for info in scratch.iter_info(fragment))


def read_stopped_record(scratch: LocalArtifactStore, fragment: str) -> ExecutionRecord:
    """Return the record of a stopped execution, which has an outcome.

    Raises
    ------
    ArtifactNotFoundError
        If its folder or record is gone.
    RecordError
        If the record has no outcome.
    """
    record = read_scratch_record(scratch, fragment)
    if record is None:
        raise scratch_is_gone(scratch, fragment)
    if record.result is None:
        raise RecordError(
            f"the record of {fragment!r} in {scratch!r} has no outcome, though the execution was stopped: the file was "
            "changed; stop a new run instead",
            key=fragment,
        )
    return record


def write_scratch_record(scratch: LocalArtifactStore, record: ExecutionRecord) -> None:
    """Write an execution's record in scratch."""
    scratch.scope(record.fragment).write_bytes(RECORD_NAME, encode_record(record))


def has_scratch_record(scratch: LocalArtifactStore, fragment: str) -> bool:
    """Tell by the record whether scratch has an execution's folder, which is only ever removed as a whole."""
    return scratch.exists(join_key(fragment, RECORD_NAME))


def scratch_is_gone(scratch: LocalArtifactStore, fragment: str) -> ArtifactNotFoundError:
    """Return the error for an execution that is gone from scratch."""
    return ArtifactNotFoundError(
        f"the scratch folder of execution {fragment!r} is gone from {scratch!r}: put it back and commit again, or "
        "abort the execution",
        key=fragment,
        store=repr(scratch),
    )


def executions_in(scratch: LocalArtifactStore) -> Iterator[str]:
    """Return the fragments of the executions in scratch."""
    return (found.location for found in find_sets(scratch) if found.published and found.location)


def readable_scratch_record(scratch: LocalArtifactStore, fragment: str) -> ExecutionRecord | None:
    """Return what scratch says of an execution; None if it has no record, or none that can be read."""
    with contextlib.suppress(RecordError, UnsafePathError):  # the commit will report it
        return read_scratch_record(scratch, fragment)
    return None
