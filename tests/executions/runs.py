"""Executions to commit: work that a diagnostic does, an execution in each state, and what is left at the end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
from tests.sets.examples import put, rows_of

from emdstore import system
from emdstore.emds import RECORD_NAME
from emdstore.errors import StoreError
from emdstore.executions.execution import Execution
from emdstore.executions.process import host_name
from emdstore.executions.workspace import Workspace
from emdstore.keys import DIGESTS_NAME, is_staging
from emdstore.sets.record import read_record
from emdstore.sets.result import ExecutionResult
from emdstore.stores import LocalArtifactStore, scoped
from emdstore.testing import Fault, FaultyStore

IDENTITY: dict[str, Any] = {
    "provider": "pmp",
    "diagnostic": "enso_tel",
    "group": "historical",
    "selectors": {"experiment": "historical"},
    "dataset_hash": "d905ddf2",
    "description": "Teleconnections of El Niño",
}
SET = ("out.log", "diagnostic.json", "output.json", "plots/map.png", "series.json")
"""The keys of what `work` leaves, in curated order."""

WRITES = ("write_bytes", "open_writer", "create_bytes", "replace_bytes", "copy")
ALL = (*WRITES, "exists", "read_bytes", "iter_keys", "info", "iter_info", "iter_found", "open_reader")


def let_go(workspace: Workspace) -> None:
    """Close what a workspace has open, as its files are about to be others; the next use opens them."""
    workspace.catalog.release_connections()
    workspace.catalog._seen = ()


def work(execution: Execution) -> None:
    """Do what a diagnostic does: print, leave files, add values."""
    print("computing")  # noqa: T201 - into the log
    put(
        LocalArtifactStore(execution.output_directory),
        {"plots/map.png": b"\x89PNG", "work/half.nc": b"not part of the set"},
    )
    execution.add_plot("plots/map.png", long_name="Map", description="A map.", dimensions={"region": "nino34"})
    execution.add_scalar(0.7, region="nino34", metric="rmse", attributes={"units": "K"})
    execution.add_scalar(None, region="nino34", metric="bias", attributes={"units": "K"})
    execution.add_series([1.0, None], [1850, 1851], index_name="year", dimensions={"region": "nino34"})


def ran(workspace: Workspace, **changes: Any) -> Execution:
    """Return an execution that has run well and waits to be committed."""
    with workspace.start_execution(**IDENTITY | changes) as execution:
        work(execution)
    return execution


def committed(workspace: Workspace, **changes: Any) -> Execution:
    """Return an execution that was shipped."""
    execution = ran(workspace, **changes)
    execution.commit_output_assets()
    return execution


def again(workspace: Workspace, execution: Execution) -> Execution:
    """Return another handle of an execution, on another workspace."""
    return workspace.resume_execution(execution.fragment)


def faulty(workspace: Workspace, *verbs: str, **fault: Any) -> Workspace:
    """Return the workspace with a results store of which these calls fail, or all."""
    fault = {"verbs": verbs or ALL, "error": StoreError} | fault
    return attrs.evolve(workspace, results=FaultyStore(workspace.results, Fault(**fault)))


def gone_pid() -> int:
    """Return the id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def process_that_is_gone() -> str:
    """Return what a process that has ended was known by."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    known = system.current().whoami(child.pid)
    child.communicate()
    return known


def owner_that_is_gone() -> str:
    """Return the name of an owner whose process has ended."""
    return f"{host_name()}:{process_that_is_gone()}:abcd/3600"


def in_state(workspace: Workspace, status: str) -> Execution:
    """Return an execution in a state, come to as it is come to in life."""
    if status in ("created", "aborted"):
        execution = workspace.start_execution(**IDENTITY)
        if status == "aborted":
            execution.abort("enough")
    elif status == "running":  # its process has ended since
        execution = workspace.start_execution(**IDENTITY)
        child = {"host": host_name(), "pid": gone_pid(), "started_at": execution.row.created_at}
        workspace.catalog.claims.transition(execution.fragment, allowed_from=("created",), to="running", **child)
    elif status == "failed":
        with workspace.start_execution(**IDENTITY) as execution:
            execution.stop(ExecutionResult(successful=False))
        execution.commit_output_assets()
    else:
        execution = ran(workspace)
    if status == "uploaded":
        execution.commit_output_assets()
    elif status == "upload_failed":
        with contextlib.suppress(StoreError):
            again(faulty(workspace), execution).commit_output_assets()
    elif status == "pending_upload":  # by a process of another machine, of which nothing is known here
        workspace.catalog.claims.claim(
            execution.fragment, owner="elsewhere:1:1:abcd", lease_seconds=3600, allowed_from=("stopped",)
        )
    assert execution.status == status
    return workspace.resume_execution(execution.fragment)


def files_in(folder: Path) -> dict[str, bytes | str]:
    """Return every file below a folder with its bytes, and every link with its target, but for what only saves time."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if (path.is_symlink() or path.is_file()) and path.name != DIGESTS_NAME
    }


def snapshot(workspace: Workspace) -> tuple[Any, ...]:
    """Return all that a workspace holds: what nothing has changed is equal to it."""
    rows = [attrs.asdict(row) for row in workspace.catalog.executions()]
    results = {key: workspace.results.read_bytes(key) for key in workspace.results.iter_keys()}
    return files_in(workspace.scratch.root), results, rows, rows_of(workspace.catalog)


def end_state(workspace: Workspace, fragment: str) -> dict[str, Any]:
    """Return everything that a commit leaves of an execution, but for what differs from one run to another.

    Those are its id, its times and places, which must be set, and the digests of what holds them.
    """
    row = workspace.catalog.execution(fragment)
    record = read_record(scoped(workspace.results, fragment))
    assert record is not None
    assert record.result is not None
    times = ("created_at", "started_at", "stopped_at", "published_at")
    by_run = dict.fromkeys((*times, "upload_duration", "host", "pid"))
    assert all(getattr(each, name) is not None for name in by_run for each in (row, record))
    assert row.upload_duration == record.upload_duration
    assert record.resources is not None
    assert row.wall_seconds == record.resources.wall_seconds is not None
    assert row.uploaded_at == (record.published_at if row.status == "uploaded" else None)
    log = next(each for each in record.artifacts if each.role == "log")
    here = {"execution_id": 0, "fragment": ""}
    rows = {name: rows for name, rows in rows_of(workspace.catalog, fragment).items() if name != "executions"}
    rows = {name: [attrs.evolve(each, **here) for each in each_kind] for name, each_kind in rows.items()}
    rows["artifacts"] = [_without_log(each) for each in rows["artifacts"]]
    return {
        "record": attrs.evolve(
            record,
            **by_run,
            fragment="",
            generation=0,
            replaces=None,  # how often it was published before
            result=attrs.evolve(record.result, output_directory=None),
            resources=None,
            artifacts=tuple(_without_log(each) for each in record.artifacts),
        ),
        "row": attrs.evolve(
            row, **by_run, **here, uploaded_at=None, record_digest=None, generation=0, wall_seconds=None
        ),
        "lease": (row.owner, row.lease_expires),
        "rows": rows,
        "log": log.size > 0,
        "files": {key: data for key, data in _held(workspace, fragment).items() if key not in (RECORD_NAME, log.key)},
    }


def _without_log(artifact: Any) -> Any:
    # What the log says of times is of each run alone.
    return attrs.evolve(artifact, size=0, sha256="") if artifact.role == "log" else artifact


def _held(workspace: Workspace, fragment: str) -> dict[str, bytes]:
    inside = scoped(workspace.results, fragment)
    found = {key: inside.read_bytes(key) for key in inside.iter_keys()}
    assert not any(is_staging(key.rpartition("/")[2]) for key in found)
    return found
