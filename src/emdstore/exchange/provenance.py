"""PROV: which run made which file, from which datasets, by which software (https://www.w3.org/TR/prov-dm/)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from emdstore.errors import MissingExtraError
from emdstore.keys import join_key
from emdstore.sets.origin import Dataset
from emdstore.sets.record import ExecutionRecord

NAMESPACE = "urn:emdstore:"


def as_prov_json(records: Mapping[str, ExecutionRecord]) -> str:
    """Describe sets as PROV-JSON.

    Parameters
    ----------
    records
        Their records, by their folders; see `choose_records`.

    Returns
    -------
    str
        Each execution is an activity, each artifact and each dataset an entity, the software an agent.

    Raises
    ------
    MissingExtraError
        If prov is not installed.
    """
    try:
        from prov.model import ProvDocument
    except ImportError as error:
        raise MissingExtraError.of("PROV", "exchange") from error
    document = ProvDocument()
    document.add_namespace("emdstore", NAMESPACE)
    known: set[str] = set()

    def once(make: Any, name: str, /, **about: str | int | None) -> str:
        if name not in known:
            known.add(name)
            make(name, {f"emdstore:{what}": value for what, value in about.items() if value is not None})
        return name

    for folder, record in records.items():
        run = _named("execution", record.fragment)
        document.activity(run, record.started_at, record.stopped_at)
        by = once(document.agent, software_id(record), version=record.diagnostic_version or record.provider_version)
        document.wasAssociatedWith(run, by)
        for dataset in record.datasets:
            about = {"name": dataset.name, "version": dataset.version, "doi": dataset.doi, "pid": dataset.pid}
            document.used(run, once(document.entity, dataset_id(dataset), **about))
        for artifact in record.artifacts:
            made = _named("artifact", join_key(folder, artifact.key))
            once(document.entity, made, sha256=artifact.sha256, size=artifact.size, role=artifact.role)
            document.wasGeneratedBy(made, run, record.stopped_at)
    return str(document.serialize(format="json", indent=2))


def software_id(record: ExecutionRecord) -> str:
    """Name the diagnostic of an execution, with its version."""
    version = record.diagnostic_version or record.provider_version
    return _named("software", f"{record.provider}/{record.diagnostic}" + (f"@{version}" if version else ""))


def dataset_id(dataset: Dataset) -> str:
    """Name a dataset: the same for all runs that read it."""
    return _named("dataset", f"{dataset.name}@{dataset.version}" if dataset.version else dataset.name)


def _named(kind: str, name: str) -> str:
    return f"emdstore:{kind}/{quote(name, safe='/@')}"
