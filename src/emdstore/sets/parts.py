"""How a part of a set is moved: nothing may look as if it were all of it.

A record is moved only if everything that it names is moved, too, or is at the destination. Without its record, a part
only brings back what the record at the destination names.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import EmdstoreError, RecordError
from emdstore.keys import join_key
from emdstore.sets.record import ExecutionRecord, decode_record
from emdstore.sets.seal import Standing, standing_of
from emdstore.sets.unchanged import step_of_artifact
from emdstore.sets.vouching import bundles_last, refuse_less, sealed_unit
from emdstore.stores.port import ArtifactStore
from emdstore.stores.views import scoped
from emdstore.transfers import Step, Unchanged, digest_of
from emdstore.transfers.patience import patiently
from emdstore.transfers.plan import Action, KeyPair, step_of
from emdstore.transfers.units import Group, Unit


def plan_part(
    group: Group,
    chosen: Sequence[KeyPair],
    source: ArtifactStore,
    dest: ArtifactStore,
    unchanged: Unchanged,
    *,
    replace: bool,
) -> Unit:
    """Decide what to do where a selection takes some keys of a set; a record that would lack some is left."""
    folder = group.folder
    at = join_key(folder, RECORD_NAME)
    steps = [step_of(pair, unchanged) for pair in chosen]

    def decide() -> Unit:
        inside = scoped(dest, folder)
        standing = standing_of(inside)
        has_record = any(pair.key == at and pair.here for pair in group.pairs)
        data, record = _read_record(folder, source) if has_record else (b"", None)
        proved = _steps_of(group, chosen, record, unchanged, source)
        if record is None or all(step.key != at for step in steps):
            return _without_record(folder, proved, standing)
        lacking = _lacking(folder, record, steps, inside, standing)
        if lacking is None:
            if not replace:
                refuse_less(folder, record, standing, inside)
            return _with_record(folder, steps, source, data, record, standing)
        error = RecordError(
            f"the record of {folder!r} is not moved: {lacking!r} is not chosen and not at the destination; "
            "choose all of the set, or leave its record out, too",
            key=at,
        )
        unit = _without_record(folder, [step for step in proved if step.key != at], standing)
        return attrs.evolve(unit, loose=(*unit.loose, Step(at, "left", error=error)), error=error)

    try:
        return patiently(decide, source, dest)
    except EmdstoreError as error:
        return _left(folder, steps, error)


def plan_some(folder: str, steps: Sequence[Step], source: ArtifactStore, dest: ArtifactStore, *, replace: bool) -> Unit:
    """Decide what to do where somebody names some keys of a set; a record that would lack some is an error."""
    at = join_key(folder, RECORD_NAME)

    def decide() -> Unit:
        inside = scoped(dest, folder)
        standing = standing_of(inside)
        if all(step.key != at or step.action == "missing" for step in steps):
            return _without_record(folder, steps, standing)
        data, record = _read_record(folder, source)
        if not replace:
            refuse_less(folder, record, standing, inside)
        if (lacking := _lacking(folder, record, steps, inside, standing)) is not None:
            raise RecordError(
                f"{lacking!r} is named by the record {at!r} and is not at the destination: name it, too, or move the "
                "whole set",
                key=at,
            )
        return _with_record(folder, steps, source, data, record, standing)

    try:
        return patiently(decide, source, dest)
    except EmdstoreError as error:
        return _left(folder, steps, error)


def _left(folder: str, steps: Sequence[Step], error: EmdstoreError) -> Unit:
    return Unit(folder, loose=tuple(Step(step.key, "left", step.size, error) for step in steps), error=error)


def _read_record(folder: str, source: ArtifactStore) -> tuple[bytes, ExecutionRecord]:
    """Read the record of a set at the source; one in flux, or of a run in scratch, is refused."""
    at = join_key(folder, RECORD_NAME)
    data = source.read_bytes(at)
    record = decode_record(data, name=at)
    if record.state in (None, "publishing"):
        raise RecordError(
            f"{folder!r} is not published at the source (state {record.state!r}): no part of it is moved", key=at
        )
    return data, record


def _steps_of(
    group: Group, chosen: Sequence[KeyPair], record: ExecutionRecord | None, unchanged: Unchanged, source: ArtifactStore
) -> list[Step]:
    """Return the steps for some artifacts of a set; what its record names has to be what it says."""
    pairs = {pair.key: pair for pair in group.pairs}
    listed = pairs[at].source if (at := join_key(group.folder, RECORD_NAME)) in pairs else None
    named = {} if record is None else {join_key(group.folder, each.key): each for each in record.artifacts}
    return [
        step_of_artifact(pair.key, artifact, pair, listed, None, unchanged, source)
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
        if (key := join_key(folder, artifact.key)) in moved:
            continue
        if artifact.key not in standing.found:
            return key
        if (proved.get(artifact.key) or digest_of(inside, artifact.key)[1]) != artifact.sha256:
            return key
    return None


def _with_record(
    folder: str,
    steps: Sequence[Step],
    source: ArtifactStore,
    data: bytes,
    record: ExecutionRecord,
    standing: Standing,
) -> Unit:
    """Move some artifacts and the record, where all the others are at the destination."""
    moved = {step.key: step for step in steps if step.key != join_key(folder, RECORD_NAME)}
    named = {}
    for artifact in record.artifacts:
        key = join_key(folder, artifact.key)
        if (step := moved.pop(key, None)) is None:
            continue
        if step.action in ("copy", "compare", "unchanged"):
            action: Action = "copy" if step.action == "copy" else "compare"
            step = Step(key, action, artifact.size, here=artifact.sha256, doubt=step.size != artifact.size)
        named[key] = step
    return sealed_unit(folder, source, data, record, standing, named, moved.values())


def _without_record(folder: str, steps: Sequence[Step], standing: Standing) -> Unit:
    """Move some artifacts without the record: what a record at the destination names may only become what it says."""
    if standing.data is None:
        return Unit(folder, bundles_last(folder, steps), is_part=True)
    record = standing.record
    if record is None or record.is_open:
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
