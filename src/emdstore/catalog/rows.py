"""The rows that come out of the catalog."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import attrs

from emdstore.shown import Shown

Status = Literal["created", "running", "stopped", "pending_upload", "uploaded", "failed", "upload_failed", "aborted"]
"""The states of an execution; `emdstore.executions.transitions` has the transitions between them."""


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _numbers(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(map(_number, values))


def _comparable(value: float) -> float | None:
    # Rows with missing values are equal, although NaN does not equal NaN.
    return None if value != value else value


def _comparable_all(values: tuple[float, ...]) -> tuple[float | None, ...]:
    return tuple(map(_comparable, values))


@attrs.frozen(repr=False)
class ExecutionRow(Shown):
    """One execution, with the counts of what belongs to it.

    Attributes
    ----------
    execution_id
        Derived from the fragment, and so the same in every catalog.
    fragment, provider, diagnostic, group
        Its folder and where it belongs.
    selectors
        What the group's input datasets have in common, or None.
    group_dirty
        Whether the group still needs a run.
    dataset_hash, description, status, state, complete, failure, reason, cause, error, retryable, dirty
        See `ExecutionContent`.
    owner, lease_token, lease_expires
        The owner of its claim, the number of claims so far, and when the claim expires; see `Claim`.
    host, pid
        Where it runs or ran.
    provider_version, diagnostic_version, software
        The versions of the software, and of packages by name.
    wall_seconds, cpu_seconds, peak_memory_bytes, exit_code
        The resources that it used, and how the program ended; None if not measured.
    created_at, started_at, stopped_at, published_at, uploaded_at
        Aware UTC datetimes; None for what has not happened yet.
    upload_duration
        Seconds.
    generation
        The generation in the set's record.
    retracted_at, retracted_by, retraction_reason, superseded_by
        When the set was retracted, by whom, why, and the fragment to use instead; None if it was not.
    record_digest, record_size, record_modified, record_version
        The record that the rows came from.
    artifacts, outputs, scalars, series, inputs, warnings
        The numbers of rows in the catalog.

    Notes
    -----
    Rows are equal if they say the same of the execution. The current claim, and what a listing once said of the record,
    are not compared, because a rebuilt catalog does not know them.
    """

    execution_id: int
    fragment: str
    provider: str
    diagnostic: str
    group: str
    selectors: Any
    group_dirty: bool
    dataset_hash: str | None
    description: str | None
    status: str
    state: str | None
    complete: bool
    failure: str | None
    reason: str | None
    cause: str | None
    error: str | None
    retryable: bool | None
    dirty: bool | None
    owner: str | None = attrs.field(eq=False)
    lease_token: int = attrs.field(eq=False)
    lease_expires: datetime | None = attrs.field(eq=False)
    host: str | None
    pid: int | None
    provider_version: str | None
    diagnostic_version: str | None
    software: Mapping[str, str] | None
    wall_seconds: float | None
    cpu_seconds: float | None
    peak_memory_bytes: int | None
    exit_code: int | None
    created_at: datetime | None
    started_at: datetime | None
    stopped_at: datetime | None
    published_at: datetime | None
    uploaded_at: datetime | None
    upload_duration: float | None
    generation: int
    retracted_at: datetime | None
    retracted_by: str | None
    retraction_reason: str | None
    superseded_by: str | None
    record_digest: str | None
    record_size: int | None = attrs.field(eq=False)
    record_modified: float | None = attrs.field(eq=False)
    record_version: str | None = attrs.field(eq=False)
    artifacts: int
    outputs: int
    scalars: int
    series: int
    inputs: int
    warnings: int


@attrs.frozen
class ArtifactRow:
    """One file of an execution's set, by its key inside the fragment; its asset role is ``Output``."""

    execution_id: int
    fragment: str
    provider: str
    diagnostic: str
    group: str
    position: int
    key: str
    role: str
    size: int | None
    sha256: str | None
    media_type: str | None
    description: str | None
    asset_role: str = "Output"


@attrs.frozen
class OutputRow:
    """One entry of the output bundle; `key` is the artifact that it names, or None if that was not resolved."""

    execution_id: int
    fragment: str
    provider: str
    diagnostic: str
    group: str
    position: int
    kind: str
    name: str
    key: str | None
    filename: str
    long_name: str
    description: str
    dimensions: Mapping[str, str]


@attrs.frozen
class ScalarRow:
    """One scalar of the metric bundle; NaN is a value that was computed and does not exist.

    Attributes
    ----------
    kind
        ``model``, ``reference`` or ``ensemble``: what it is of.
    reference_id
        The reference that it is of, or was compared with; None if the bundle does not say.
    units
        Its units; None if the bundle does not say.
    """

    execution_id: int
    fragment: str
    provider: str
    diagnostic: str
    group: str
    position: int
    value: float = attrs.field(converter=_number, eq=_comparable)
    dimensions: Mapping[str, str]
    attributes: Mapping[str, Any]
    kind: str = "model"
    reference_id: str | None = None
    units: str | None = None


@attrs.frozen(repr=False)
class FlaggedScalarRow(ScalarRow):
    """A scalar, and whether it is of a model whose values lie far from those of the others."""

    outlier: bool = attrs.field(default=False, converter=bool)


@attrs.frozen(repr=False)
class SeriesRow(Shown):
    """One series; `values` is as long as `index`, with NaN where a value is missing. See `ScalarRow` for the rest."""

    execution_id: int
    fragment: str
    provider: str
    diagnostic: str
    group: str
    position: int
    dimensions: Mapping[str, str]
    index_name: str
    index: tuple[str | float, ...] = attrs.field(converter=tuple)
    values: tuple[float, ...] = attrs.field(converter=_numbers, eq=_comparable_all)
    attributes: Mapping[str, Any]
    kind: str = "model"
    reference_id: str | None = None
    units: str | None = None


@attrs.frozen
class InputRow:
    """One input of an execution: a dataset by its name, a staged file, or both.

    Attributes
    ----------
    role, variable
        Its role in the run, and the variable that was read.
    dataset, version, pid, doi, dataset_sha256
        The dataset; None for a file of which only the place is known.
    store, key, size, sha256
        The file, its size and digest; None for a dataset of which only the name is known.
    asset_role
        ``Input`` for a staged file; None for a dataset of which only the name is known.
    """

    execution_id: int
    fragment: str
    provider: str
    diagnostic: str
    group: str
    position: int
    role: str | None
    variable: str | None
    dataset: str | None
    version: str | None
    pid: str | None
    doi: str | None
    dataset_sha256: str | None
    store: str | None
    key: str | None
    size: int | None
    sha256: str | None
    asset_role: str | None


@attrs.frozen
class WarningRow:
    """Something odd that ingest found in an execution's files, and where."""

    execution_id: int
    fragment: str
    provider: str
    diagnostic: str
    group: str
    position: int
    code: str
    message: str
    place: str | None
