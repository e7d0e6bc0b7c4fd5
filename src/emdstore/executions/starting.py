"""Starting executions, and finding those that were started."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from emdstore import system
from emdstore.catalog import ExecutionContent, ExecutionRow, Query
from emdstore.errors import ArtifactExistsError, InvalidKeyError
from emdstore.executions.execution import Execution
from emdstore.executions.locations import Locations
from emdstore.executions.scratch import write_scratch_record
from emdstore.executions.transitions import STATUSES
from emdstore.keys import join_key, validate_key
from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.outcome import MaterializeOutcome
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import (
    ResultLike,
)
from emdstore.stores.views import scoped
from emdstore.transfers import ProgressCallback


def start_execution(
    locations: Locations,
    *,
    provider: str,
    diagnostic: str,
    group: str = "default",
    selectors: Mapping[str, Any] | None = None,
    dataset_hash: str | None = None,
    description: str | None = None,
    provider_version: str | None = None,
    diagnostic_version: str | None = None,
    software: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Execution:
    """Create a new execution, and return its handle, a context manager to run it in.

    Parameters
    ----------
    locations
        The workspace.
    provider, diagnostic
        The diagnostic's provider and name; one path segment each.
    group
        The key of the group of input datasets; it may have several segments.
    selectors, dataset_hash
        What the group's datasets have in common, and a hash of exactly these datasets.
    description
        Any text; kept in the record and the catalog.
    provider_version, diagnostic_version, software
        The versions of the provider, of the diagnostic, and of packages by name.
    name
        The execution's name, the last segment of its fragment; by default the time and a random number.

    Returns
    -------
    Execution
        The execution, in state ``created``, with its own folder in scratch.

    Raises
    ------
    InvalidKeyError
        If one of the names cannot be part of a path.
    ArtifactExistsError
        If the group already has an execution of this name, in the catalog or in scratch. Nothing was changed.
    CatalogError
        If the catalog cannot be used. An empty folder may be left in scratch; `gc_executions` removes it.
    """
    now = system.current().now()
    own = f"{now:%Y%m%dT%H%M%S}-{system.current().token(4)}" if name is None else name
    for what, value in (("provider", provider), ("diagnostic", diagnostic), ("name", own)):
        if "/" in value:
            raise InvalidKeyError(f"{what} is one path segment, without '/': {value!r}", key=value)
    identity = ExecutionRecord(
        fragment=join_key(*map(validate_key, (provider, diagnostic, group, own))),
        provider=provider,
        diagnostic=diagnostic,
        group=group,
        selectors=dict(selectors or {}),
        dataset_hash=dataset_hash,
        description=description,
        created_at=now,
        provider_version=provider_version,
        diagnostic_version=diagnostic_version,
        software=dict(software or {}),
    )
    locations.bind()
    if name is not None:
        _take(locations, identity.fragment)
    write_scratch_record(locations.scratch, identity)
    locations.catalog.claims.create(
        ExecutionContent(
            fragment=identity.fragment,
            provider=identity.provider,
            diagnostic=identity.diagnostic,
            group=identity.group,
            selectors=identity.selectors or None,
            dataset_hash=identity.dataset_hash,
            description=identity.description,
            provider_version=identity.provider_version,
            diagnostic_version=identity.diagnostic_version,
            software=dict(identity.software) or None,
            status="created",
            created_at=identity.created_at,
        )
    )
    return Execution(locations, identity.fragment)


def resume_execution(locations: Locations, execution: str) -> Execution:
    """Return the handle of an execution that another process, or this one, started.

    Parameters
    ----------
    locations
        The workspace.
    execution
        Its fragment, or its last segment.

    Raises
    ------
    ExecutionNotFoundError
        If the catalog holds no such execution, or more than one.
    """
    locations.bind()
    return Execution(locations, locations.catalog.execution(execution).fragment)


def list_executions(
    locations: Locations, *, status: str | Collection[str] | None = None, latest: bool = False
) -> Query[ExecutionRow]:
    """Return the executions in the catalog, by fragment, including those whose set was retracted.

    Parameters
    ----------
    locations
        The stores and the catalog.
    status
        Only those in this state, or in one of several.
    latest
        Only the latest complete set of each execution group; see `Catalog.executions`.
    """
    if status is None:
        return locations.catalog.executions(latest=latest, retracted=None)
    wanted = {status} if isinstance(status, str) else set(status)
    if unknown := wanted.difference(STATUSES):
        raise ValueError(f"no such status: {', '.join(sorted(unknown))}; there are {', '.join(STATUSES)}")
    return locations.catalog.executions(status=wanted, latest=latest, retracted=None)


def _take(locations: Locations, fragment: str) -> None:
    """Create the folder of an execution with a chosen name. If several choose the same name, one gets it."""
    taken = locations.catalog.executions(fragment=fragment, retracted=None).count() > 0
    if not taken:
        try:
            locations.scratch.local_path(fragment).mkdir(parents=True)
        except FileExistsError:
            taken = True
        except OSError:
            pass  # the store, which writes there next, reports the error
    if taken:
        raise ArtifactExistsError(
            f"there is an execution {fragment!r} already: resume it, or start one of another name",
            key=fragment,
            store=repr(locations.scratch),
        )


def materialize_execution(
    workspace: Locations, execution: Execution | str, result: ResultLike, *, on_progress: ProgressCallback | None = None
) -> MaterializeOutcome:
    """Promote one execution's set from a workspace's scratch to its results store; see `materialize_outputs`.

    Parameters
    ----------
    workspace
        The workspace with both stores.
    execution
        The execution, or its fragment.
    result
        What the run says of itself.
    on_progress
        See `transfer`.
    """
    fragment = execution if isinstance(execution, str) else execution.fragment
    source, dest = scoped(workspace.scratch, fragment), scoped(workspace.results, fragment)
    return materialize_outputs(
        result, source=source, dest=dest, fragment=fragment, results=workspace.results, on_progress=on_progress
    )
