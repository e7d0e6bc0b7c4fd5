"""The identity of a Climate-REF execution in emdstore's record: enough to find or create it in another database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from climate_ref.models.dataset import Dataset, DatasetFile
from climate_ref.models.execution import Execution, execution_datasets
from sqlalchemy.orm import Session

from emdstore.sets.origin import Dataset as DatasetValue, Resources
from emdstore.sets.record import ExecutionRecord

OURS = "climate_ref"
"""The key of this integration's part of a record's `extra`."""

MEASURED = (
    "provider_version",
    "wall_seconds",
    "cpu_seconds",
    "peak_memory_bytes",
    "memory_source",
    "memory_limit_bytes",
    "cpu_limit",
    "resources_exclusive",
    "queue_seconds",
    "resource_context",
)
"""Columns of an execution that no artifact contains, if the version has them."""


def record_of_execution(session: Session, execution: Execution, detail: str | None = None) -> ExecutionRecord:
    """Return the record of an execution in Climate-REF's database, without its outcome."""
    group = execution.execution_group
    diagnostic = group.diagnostic
    provider = diagnostic.provider
    linked = sa.select(execution_datasets.c.dataset_id).where(execution_datasets.c.execution_id == execution.id)
    read = session.scalars(sa.select(Dataset).where(Dataset.id.in_(linked)).order_by(Dataset.slug)).all()
    files = session.execute(
        sa.select(DatasetFile.dataset_id, DatasetFile.tracking_id).where(DatasetFile.dataset_id.in_(linked))
    )
    tracking_ids: dict[int, list[str | None]] = {}
    for dataset_id, tracking_id in files:
        tracking_ids.setdefault(dataset_id, []).append(tracking_id)
    datasets: dict[str, list[str]] = {}
    for dataset in read:
        datasets.setdefault(dataset.dataset_type.value, []).append(dataset.slug)
    measured = {name: value for name in MEASURED if (value := getattr(execution, name, None)) is not None}
    ours = {
        "provider": {"name": provider.name, "version": provider.version},
        "diagnostic": {"name": diagnostic.name, "version": group.diagnostic_version},
        "datasets": datasets,
        "execution": measured,
    }
    return ExecutionRecord(
        fragment=execution.output_fragment,
        provider=provider.slug,
        diagnostic=diagnostic.slug,
        group=group.key,
        selectors=group.selectors or {},
        dataset_hash=execution.dataset_hash,
        # Climate-REF's times are UTC but have no zone.
        created_at=execution.created_at.replace(tzinfo=UTC),
        datasets=tuple(_dataset(dataset, tracking_ids.get(dataset.id, [])) for dataset in read),
        provider_version=measured.get("provider_version") or provider.version,
        diagnostic_version=None if (version := group.diagnostic_version) is None else str(version),
        resources=Resources(
            wall_seconds=measured.get("wall_seconds"),
            cpu_seconds=measured.get("cpu_seconds"),
            peak_memory_bytes=measured.get("peak_memory_bytes"),
        ),
        extra={OURS: ours | ({"detail": detail} if detail else {})},
    )


def _dataset(dataset: Dataset, tracking_ids: Sequence[str | None]) -> DatasetValue:
    """Convert one of Climate-REF's datasets; its columns depend on its type and the version.

    A tracking id belongs to a file, so it identifies the dataset only if that is one file.
    """
    return DatasetValue(
        name=dataset.slug,
        version=getattr(dataset, "version", None) or None,
        pid=tracking_ids[0] if len(tracking_ids) == 1 else None,
        variable=getattr(dataset, "variable_id", None) or None,
        role="model" if dataset.dataset_type.value in _MODELS else "reference",
    )


_MODELS = ("cmip6", "cmip7")
"""Climate-REF's types of model data. The others are observations, and climatologies made from them."""


def ours_in(record: ExecutionRecord | None) -> Mapping[str, Any]:
    """Return this integration's part of a record; empty if another program has put something else there."""
    found = record.extra.get(OURS) if record is not None else None
    return found if isinstance(found, Mapping) else {}
