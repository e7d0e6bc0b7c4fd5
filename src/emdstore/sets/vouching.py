"""How one set is moved as a whole, decided from its record at the source and what is at the destination.

The set is opened before its first byte changes, its bundles come after everything else, and its record comes last. What
vouches for nothing (no record, or one of some other program) is moved in the same order, without being opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    DemotionRefusedError,
    RecordError,
    RecordVersionError,
)
from emdstore.keys import join_key, key_below
from emdstore.sets.record import ExecutionRecord, decode_record, encode_record
from emdstore.sets.result import METRIC_NAME, OUTPUT_NAME, SERIES_NAME
from emdstore.sets.seal import Standing, opened, read_back
from emdstore.sets.state import is_whole_and_bare
from emdstore.sets.unchanged import step_of_artifact
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore
from emdstore.stores.views import scoped
from emdstore.transfers import Step, Unchanged
from emdstore.transfers.plan import KeyPair, step_of
from emdstore.transfers.units import Group, Unit

_RANKS = {"series": 1, "output": 1, "metric": 2}
_BARE_RANKS = {SERIES_NAME: 1, OUTPUT_NAME: 1, METRIC_NAME: 2}


def plan_sealed(
    group: Group,
    source: ArtifactStore,
    dest: ArtifactStore,
    data: bytes,
    standing: Standing,
    unchanged: Unchanged,
    *,
    replace: bool,
) -> Unit:
    """Move a folder with a record, which is `data` at the source."""
    at = join_key(group.folder, RECORD_NAME)
    try:
        record = decode_record(data, name=at)
    except RecordVersionError:
        raise
    except RecordError:
        if standing.record is not None:
            raise
        # Of some other program, perhaps: it vouches for nothing, and is a file like others.
        return _unvouched(group, data, standing, unchanged)
    if record.is_open:
        raise RecordError(
            f"{group.folder!r} is in flux at the source (publishing since {record.opened_at}, by {record.opened_by}): "
            "it is left for the next run",
            key=at,
        )
    if record.state is None:
        if standing.record is not None and standing.record.state is not None:
            raise DemotionRefusedError(
                f"{group.folder!r} is published at the destination, and at the source it is that of a run in scratch: "
                "commit it instead",
                key=at,
            )
        return _unvouched(group, data, standing, unchanged)
    if not replace:
        refuse_less(group.folder, record, standing, scoped(dest, group.folder))
    return _vouched(group, source, data, record, standing, unchanged)


def refuse_less(folder: str, record: ExecutionRecord, standing: Standing, inside: ArtifactStore) -> None:
    """Refuse to replace a complete publication with an incomplete set or an older one: `DemotionRefusedError`.

    Parameters
    ----------
    folder, record
        The set at the source.
    standing, inside
        What is at the destination, and its folder there.
    """
    before, less = standing.record, None
    if standing.data is None and record.state != "published":
        if not (standing.is_bare and is_whole_and_bare(inside)):
            return
    elif before is None or not standing.is_publication:
        return
    if record.state != "published":
        less = f"is {record.state} at the source"
    elif (
        before is not None
        and before.state == "published"
        and record.fragment == before.fragment
        and record.is_older_than(before)
    ):
        less = (
            f"is an older publication at the source (generation {record.generation}, "
            f"{record.published_at or 'no time'}; here {before.generation}, {before.published_at or 'no time'})"
        )
    if less is not None:
        without = " without a record" if before is None else ""
        raise DemotionRefusedError(
            f"{folder!r} is published{without} at the destination, and {less}; the published set stays as it "
            "is. Use --replace (replace=True) to have the other one",
            key=join_key(folder, RECORD_NAME),
        )


def _vouched(
    group: Group,
    source: ArtifactStore,
    data: bytes,
    record: ExecutionRecord,
    standing: Standing,
    unchanged: Unchanged,
) -> Unit:
    at = join_key(group.folder, RECORD_NAME)
    found = {pair.key: pair for pair in group.pairs}
    listed, proved = found[at].source, standing.proved()
    steps = {}
    for artifact in record.artifacts:
        key = join_key(group.folder, artifact.key)
        there = proved.get(artifact.key)
        steps[key] = step_of_artifact(key, artifact, found.get(key), listed, there, unchanged, source)
    rest = [step_of(pair, unchanged) for pair in group.pairs if pair.here and pair.key not in steps and pair.key != at]
    return sealed_unit(group.folder, source, data, record, standing, steps, rest)


def sealed_unit(
    folder: str,
    source: ArtifactStore,
    data: bytes,
    record: ExecutionRecord,
    standing: Standing,
    steps: Mapping[str, Step],
    rest: Iterable[Step],
) -> Unit:
    """Put together how a set with a record is moved.

    Parameters
    ----------
    folder, source, data, record
        The set, and its record at the source.
    standing
        What is at the destination.
    steps
        What to do for each artifact that the record names and that is moved, by whole keys.
    rest
        What to do for all other keys.
    """
    at = join_key(folder, RECORD_NAME)
    ranks: tuple[list[Step], ...] = ([], [], [])
    loose = []
    there = () if standing.record is None else standing.record.artifacts
    named_there = {join_key(folder, each.key) for each in there}
    for step in rest:
        if step.key in named_there and step.action in ("copy", "compare"):
            # The record at the destination vouches for it, so it may change only while the set is open.
            ranks[0].append(attrs.evolve(step, action="copy"))
        else:
            loose.append(step)
    opening = None
    if standing.data is not None or standing.is_bare or standing.is_hidden:
        planned = [artifact.key for artifact in record.artifacts]
        opening = Step(at, "write", data=encode_record(opened(standing, record, planned)), there=standing.digest)
    # What is damaged at the source should be found before the set is opened for it, and stays open. To read everything
    # twice is cheap only nearby; elsewhere only what was written after its record is read twice.
    doubts = opening is not None and not place_of(source).remote
    for artifact in record.artifacts:
        if (moved := steps.get(join_key(folder, artifact.key))) is not None:
            doubted = doubts and moved.action in ("copy", "compare")
            ranks[_RANKS.get(artifact.role, 0)].append(attrs.evolve(moved, doubt=True) if doubted else moved)
    return Unit(
        folder,
        tuple(map(tuple, ranks)),
        tuple(loose),
        opening,
        Step(at, "write", len(data), data=data, there=standing.digest),
        sealed=standing.data == data,
        read_back=read_back(record, folder) if standing.was_open else (),
    )


def _unvouched(group: Group, data: bytes | None, standing: Standing | None, unchanged: Unchanged) -> Unit:
    """Move a folder that looks like a set. If it has a record all the same, with this data, that comes last."""
    at = join_key(group.folder, RECORD_NAME)
    chosen = [pair for pair in group.pairs if pair.here and (data is None or pair.key != at)]
    unit = Unit(group.folder, bundles_last(group.folder, [step_of(pair, unchanged) for pair in chosen]))
    if data is None or standing is None:
        return unit
    seal = Step(at, "write", len(data), data=data, there=standing.digest)
    return attrs.evolve(unit, seal=seal, sealed=standing.data == data)


def bundles_last(folder: str, steps: Iterable[Step]) -> tuple[tuple[Step, ...], ...]:
    """Have the bundles of a folder without a record follow everything else, and the metric bundle come at the very end.

    So it looks like a set only when everything is there.
    """
    ranks: tuple[list[Step], ...] = ([], [], [])
    for step in steps:
        ranks[_BARE_RANKS.get(key_below(step.key, folder), 0)].append(step)
    return tuple(map(tuple, ranks))


def plan_bare(group: Group, standing: Standing | None, unchanged: Unchanged) -> Unit:
    """Move a folder without a record. Over one that has a record it only brings back what that record names."""
    if standing is None or standing.data is None:
        return _unvouched(group, None, standing, unchanged)
    record, proved = standing.record, standing.proved()
    named = {} if record is None or record.is_open else {each.key: each for each in record.artifacts}
    steps = []
    for pair in group.pairs:
        if not pair.here:
            continue
        if (artifact := named.get(key_below(pair.key, group.folder))) is None:
            steps.append(_beside(pair, group.folder, named=bool(named), unchanged=unchanged))
        elif proved.get(artifact.key) == artifact.sha256 and unchanged == "stat" and _equal_sizes(pair):
            steps.append(Step(pair.key, "unchanged", artifact.size))
        else:
            steps.append(Step(pair.key, "compare", artifact.size, here=artifact.sha256, doubt=True))
    return Unit(group.folder, loose=tuple(steps))


def _equal_sizes(pair: KeyPair) -> bool:
    return pair.source is None or pair.dest is None or pair.source.size == pair.dest.size


def _beside(pair: KeyPair, folder: str, *, named: bool, unchanged: Unchanged) -> Step:
    """Decide for a key of a bare folder that the destination's record does not name."""
    if named:
        return step_of(pair, unchanged)
    error = DemotionRefusedError(
        f"{pair.key!r} is not moved: at the destination {folder!r} has a record, though not of a published set, and at "
        "the source it has none; remove the record there, or publish the set",
        key=pair.key,
    )
    return Step(pair.key, "left", error=error)
