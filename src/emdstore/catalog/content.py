"""What goes into the catalog: one execution, whole, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

import attrs

Attributes: TypeAlias = "Mapping[str, Any] | None"
"""Free-form JSON; None is the same as none at all."""

Artifact: TypeAlias = "tuple[str, str, int | None, str | None, str | None, str | None]"
"""``(key, role, size, sha256, media_type, description)``; one row per key."""

Output: TypeAlias = "tuple[str, str, str | None, str, str, str, Mapping[str, str]]"
"""``(kind, name, key, filename, long_name, description, dimensions)``; no key where the filename was not resolved."""

Scalar: TypeAlias = "tuple[float | None, Mapping[str, str], Attributes]"
"""``(value, dimensions, attributes)``; None and NaN both mean "computed, no value" and become NULL."""

Series: TypeAlias = "tuple[Mapping[str, str], str, Iterable[str | float], Iterable[float | None], Attributes]"
"""``(dimensions, index_name, index, values, attributes)``."""

DatasetValue: TypeAlias = "tuple[str, str | None, str | None, str | None, str | None]"
"""``(name, version, pid, doi, sha256)`` of a dataset, as its framework calls it."""

StagedFile: TypeAlias = "tuple[str, str, int, str]"
"""``(store, key, size, sha256)`` of a file that a run read."""

Input: TypeAlias = "tuple[DatasetValue | None, str | None, str | None, StagedFile | None]"
"""``(dataset, role, variable, file)``: one thing that a run read, by name or as a file."""

IngestWarning: TypeAlias = "tuple[str, str, str | None]"
"""``(code, message, place)``: what was odd in the input, and where."""


@attrs.frozen(kw_only=True)
class ExecutionContent:
    """Everything that the catalog is to hold of one execution, in place of what it held before.

    Identity, outcome and times are plain values. The six parts are iterables of tuples, in file order, and are
    consumed while the database is locked for writing: let them come from memory, not from a slow store. Iterators can
    be consumed only once, so what has one is not tried again when the database goes away.

    Attributes
    ----------
    fragment
        The execution's folder, its natural identity.
    provider, diagnostic, group
        Slugs and the key of the execution group that it belongs to; made if they are not there yet.
    provider_name
        What people call the provider; None leaves a name that is there.
    selectors
        What the group's input datasets have in common, as JSON; None leaves what is there.
    dataset_hash
        Identifies the exact input datasets of this execution.
    description, status, failure, reason, error, retryable
        The outcome, in the words of the lifecycle. The catalog stores them as they are.
    state
        The state of the set that this was read from, such as ``published``, ``incomplete`` or ``bare``; None where no
        set was read. It decides what may take the place of what: see `emdstore.catalog.precedence`.
    complete
        False if something of the set is missing for good: its rows are left out of queries, unless they are asked for.
    dirty
        Whether the group still needs a run after this execution; None says nothing of it. A group goes by its latest
        execution that says something, whichever was written last.
    host, pid
        Where it runs or ran.
    provider_version, diagnostic_version, software
        What computed it: versions, and those of packages by name.
    wall_seconds, cpu_seconds, peak_memory_bytes, exit_code
        What that took, and how the program ended.
    created_at, started_at, stopped_at, published_at, uploaded_at
        Aware datetimes.
    upload_duration
        Seconds.
    generation
        How often the execution had been claimed when its set was published.
    retracted_at, retracted_by, retraction_reason, superseded_by
        When the set was retracted, by whom, why, and which fragment takes its place; None if it was not.
    record_digest
        SHA-256 of the record that this came from.
    record_size, record_modified, record_version
        The record's size in bytes, time in POSIX seconds and version, as the store's listing tells them.
    artifacts, outputs, scalars, series, inputs, warnings
        See `Artifact`, `Output`, `Scalar`, `Series`, `Input` and `IngestWarning` for the layouts.
    """

    fragment: str
    provider: str
    diagnostic: str
    group: str
    status: str
    state: str | None = None
    complete: bool = True
    provider_name: str | None = None
    selectors: Any = None
    dataset_hash: str | None = None
    description: str | None = None
    failure: str | None = None
    reason: str | None = None
    error: str | None = None
    retryable: bool | None = None
    dirty: bool | None = None
    host: str | None = None
    pid: int | None = None
    provider_version: str | None = None
    diagnostic_version: str | None = None
    software: Mapping[str, str] | None = None
    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    exit_code: int | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    published_at: datetime | None = None
    uploaded_at: datetime | None = None
    upload_duration: float | None = None
    generation: int = 0
    retracted_at: datetime | None = None
    retracted_by: str | None = None
    retraction_reason: str | None = None
    superseded_by: str | None = None
    record_digest: str | None = None
    record_size: int | None = None
    record_modified: float | None = None
    record_version: str | None = None
    artifacts: Iterable[Artifact] = ()
    outputs: Iterable[Output] = ()
    scalars: Iterable[Scalar] = ()
    series: Iterable[Series] = ()
    inputs: Iterable[Input] = ()
    warnings: Iterable[IngestWarning] = ()


@attrs.frozen
class ReplaceResult:
    """What a replacement did.

    Attributes
    ----------
    execution_id
        The execution's id, the same as before if it was there.
    created
        True if the catalog did not hold the execution before.
    artifacts, outputs, scalars, series, inputs, warnings
        How many rows of each it holds now.
    """

    execution_id: int
    created: bool
    artifacts: int
    outputs: int
    scalars: int
    series: int
    inputs: int
    warnings: int
