"""Who an execution of Climate-REF is, in the words of our record: enough to find or make it in another database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from climate_ref.models.dataset import Dataset
from climate_ref.models.execution import Execution, execution_datasets
from sqlalchemy.orm import Session

from emdstore.sets.record import ExecutionRecord

OURS = "climate_ref"
"""Where our part of a record's `extra` stands."""

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
"""Columns of an execution that no artifact tells, as far as their version has them."""


def record_of_execution(session: Session, execution: Execution, detail: str | None = None) -> ExecutionRecord:
    """Return the record of an execution that their database knows, without its outcome."""
    group = execution.execution_group
    diagnostic = group.diagnostic
    provider = diagnostic.provider
    datasets: dict[str, list[str]] = {}
    linked = sa.select(Dataset.dataset_type, Dataset.slug).join(
        execution_datasets, execution_datasets.c.dataset_id == Dataset.id
    )
    rows = session.execute(linked.where(execution_datasets.c.execution_id == execution.id).order_by(Dataset.slug))
    for dataset_type, slug in rows:
        datasets.setdefault(dataset_type.value, []).append(slug)
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
        # Their times are UTC and do not say so.
        created_at=execution.created_at.replace(tzinfo=UTC),
        extra={OURS: ours | ({"detail": detail} if detail else {})},
    )


def ours_in(record: ExecutionRecord | None) -> Mapping[str, Any]:
    """Return our part of a record, whatever another program may have put in its place."""
    found = record.extra.get(OURS) if record is not None else None
    return found if isinstance(found, Mapping) else {}
