"""RO-Crate: what a folder of sets holds, as a Process Run Crate (https://w3id.org/ro/wfrun/process/0.5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from emdstore import system
from emdstore.errors import MissingExtraError
from emdstore.exchange.provenance import NAMESPACE, dataset_id, software_id
from emdstore.keys import join_key
from emdstore.sets.record import ExecutionRecord

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
VERSION = "1.1"


def write_crate(
    folder: Path,
    records: Mapping[str, ExecutionRecord],
    *,
    title: str,
    description: str,
    license: str,
    others: Mapping[str, str],
) -> None:
    """Write ``ro-crate-metadata.json`` into a folder that holds sets.

    Each execution is a ``CreateAction``: its instrument is the diagnostic, its objects are the datasets that it read,
    its results are the artifacts.

    Parameters
    ----------
    folder
        Where the sets are.
    records
        Their records, by their folders in it.
    title, description, license
        Of the whole.
    others
        What else there is in the folder: what each file is, by its name.
    """
    try:
        from rocrate.model.contextentity import ContextEntity
        from rocrate.model.data_entity import DataEntity
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise MissingExtraError.of("RO-Crate", "exchange") from error
    crate: ROCrate = ROCrate(version=VERSION)
    crate.name, crate.description, crate.license = title, description, license
    crate.datePublished = system.current().now()
    crate.root_dataset["conformsTo"] = _entity(crate, ContextEntity, PROFILE, "CreativeWork", name="Process Run Crate")
    by = _entity(crate, ContextEntity, "#emdstore", "Organization", name="the makers of this deposit")
    actions = []
    for place, record in records.items():
        files = [
            _entity(
                crate,
                DataEntity,
                quote(join_key(place, each.key)),
                "File",
                name=each.key.rpartition("/")[2],
                description=each.description or None,
                encodingFormat=each.media_type,
                contentSize=str(each.size),
                sha256=each.sha256,
            )
            for each in record.artifacts
        ]
        inputs = [
            _entity(
                crate,
                ContextEntity,
                _external(dataset_id(each)),
                "CreativeWork",
                name=each.name,
                version=each.version,
                identifier=f"https://doi.org/{each.doi}" if each.doi else each.pid,
            )
            for each in record.datasets
        ]
        tool = _entity(
            crate,
            ContextEntity,
            _external(software_id(record)),
            "SoftwareApplication",
            name=f"{record.provider}/{record.diagnostic}",
            version=record.diagnostic_version or record.provider_version,
            softwareRequirements=[f"{name} {version}" for name, version in sorted(record.software.items())] or None,
        )
        action = _entity(
            crate,
            ContextEntity,
            f"#{quote(record.fragment)}",
            "CreateAction",
            name=f"Run of {record.provider}/{record.diagnostic} on {record.group}",
            description=record.description,
            startTime=record.started_at.isoformat() if record.started_at else None,
            endTime=record.stopped_at.isoformat() if record.stopped_at else None,
            agent=by,
            instrument=tool,
            object=inputs or None,
            result=files,
        )
        actions.append(action)
    for name, what in others.items():
        _entity(crate, DataEntity, quote(name), "File", name=name, description=what)
    crate.root_dataset["mentions"] = actions
    crate.metadata.write(folder)


def _entity(crate: ROCrate, kind: Any, identifier: str, of: str, /, **told: Any) -> Entity:
    """Add an entity, or return the one that is there."""
    known: Entity | None = crate.dereference(identifier)
    if known is not None:
        return known
    made: Entity = kind(crate, identifier, properties={"@type": of})
    crate.add(made)
    for what, value in told.items():
        if value is not None:
            made[what] = value
    return made


def _external(name: str) -> str:
    return name.replace("emdstore:", NAMESPACE, 1)
