"""What goes into the catalog: one whole execution, as plain values."""

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
"""``(kind, name, key, filename, long_name, description, dimensions)``; the key is None if the filename was not
resolved."""

Scalar: TypeAlias = "tuple[float | None, Mapping[str, str], Attributes]"
"""``(value, dimensions, attributes)``; None and NaN both mean "computed, no value" and become NULL."""

ScalarTable: TypeAlias = "tuple[Mapping[str, str], str, Attributes, Mapping[str, float | None]]"
"""``(dimensions, dimension, attributes, values)``: scalars that differ in one dimension; the values by their value of
it."""

Series: TypeAlias = "tuple[Mapping[str, str], str, Iterable[str | float], Iterable[float | None], Attributes]"
"""``(dimensions, index_name, index, values, attributes)``."""

DatasetValue: TypeAlias = "tuple[str, str | None, str | None, str | None, str | None]"
"""``(name, version, pid, doi, sha256)`` of a dataset, with its framework's name."""

StagedFile: TypeAlias = "tuple[str, str, int, str]"
"""``(store, key, size, sha256)`` of a file that a run read."""

Input: TypeAlias = "tuple[DatasetValue | None, str | None, str | None, StagedFile | None]"
"""``(dataset, role, variable, file)``: one input of a run, by name or as a file."""

IngestWarning: TypeAlias = "tuple[str, str, str | None]"
"""``(code, message, place)``: something odd in the files, and where."""


@attrs.frozen(kw_only=True)
class ExecutionContent:
    """Everything that the catalog should have of one execution, replacing what it had before.

    Identity, outcome and times are plain values. The six parts are iterables of tuples, in file order. They are
    consumed while the database is locked for writing, so they should come from memory, not from a slow store. An
    iterator can be consumed only once, so there is no retry if the database goes away.

    Attributes
    ----------
    fragment
        The execution's folder, its natural identity.
    provider, diagnostic, group
        Slugs, and the key of the execution group; created if necessary.
    provider_name
        The provider's display name; None keeps an existing one.
    selectors
        What the group's input datasets have in common, as JSON; None keeps an existing value.
    dataset_hash
        Identifies the exact input datasets of this execution.
    description, status, failure, reason, cause, error, retryable
        The outcome; stored unchanged.
    state
        The state of the set that this was read from, such as ``published``, ``incomplete`` or ``bare``; None if no set
        was read. It decides what may replace what: see `emdstore.catalog.precedence`.
    complete
        False if part of the set is missing for good. By default queries leave out its rows.
    dirty
        Whether the group still needs a run after this execution; None for no statement. The latest execution with a
        statement decides for the group, regardless of the order of writing.
    host, pid
        Where it runs or ran.
    provider_version, diagnostic_version, software
        The versions of the software, and of packages by name.
    wall_seconds, cpu_seconds, peak_memory_bytes, exit_code
        The resources that it used, and how the program ended.
    created_at, started_at, stopped_at, published_at, uploaded_at
        Aware datetimes.
    upload_duration
        Seconds.
    generation
        The generation in the set's record.
    retracted_at, retracted_by, retraction_reason, superseded_by
        When the set was retracted, by whom, why, and the fragment to use instead; None if it was not.
    record_digest
        SHA-256 of the record that this was read from.
    record_size, record_modified, record_version
        The record's size in bytes, time in POSIX seconds and version, from the store's listing.
    units
        Units that the bundle describes for values of a dimension, such as ``{"statistic": {"Bias": "K"}}``: those of
        the scalars with no units beside them.
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
    cause: str | None = None
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
    units: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
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
        The execution's id; unchanged if it was there before.
    created
        True if the execution is new in the catalog.
    artifacts, outputs, scalars, series, inputs, warnings
        The numbers of rows now.
    """

    execution_id: int
    created: bool
    artifacts: int
    outputs: int
    scalars: int
    series: int
    inputs: int
    warnings: int
