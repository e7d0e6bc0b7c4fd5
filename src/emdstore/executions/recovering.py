"""Recovering executions whose process is gone: what is known of them decides how they end."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from emdstore import system
from emdstore.executions.locations import Locations
from emdstore.executions.process import run_lives
from emdstore.executions.scratch import (
    executions_in,
    readable_scratch_record,
    write_scratch_record,
)
from emdstore.executions.starting import list_executions
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import LOG_NAME, ExecutionResult


def recover(locations: Locations, *, older_than: timedelta | None = None) -> tuple[str, ...]:
    """Stop runs whose processes are gone, so that their logs can be committed and they can run again.

    A run that was cut off counts as a failure of the system; one that had recorded its outcome keeps it. A run is gone
    if its process and everything that its program has started are gone. Runs that only scratch knows, because they ran
    without the catalog, are stopped in scratch.

    Parameters
    ----------
    locations
        The workspace.
    older_than
        Also those that started this long ago and cannot be seen from here, on other machines or in other containers.
        Runs that are known to live are left alone.

    Returns
    -------
    tuple of str
        The executions that were stopped.

    Raises
    ------
    StoreError
        If scratch cannot be written to. Earlier ones were stopped; another call continues.
    """
    locations.bind()
    now = system.current().now()
    stopped = []
    for row in list(list_executions(locations, status="running")):
        record = readable_scratch_record(locations.scratch, row.fragment)
        owner, program = (None, None) if record is None else (record.owner, record.program)
        lives = run_lives(owner, program, row.host, row.pid)
        if not _is_cut_off(lives, row.started_at, now, older_than):
            continue
        retryable = True if record is None else _with_outcome(locations, record, now).retryable
        if locations.catalog.claims.transition(
            row.fragment, allowed_from=("running",), to="stopped", stopped_at=now, retryable=retryable
        ):
            stopped.append(row.fragment)
    known = {row.fragment for row in locations.catalog.executions(retracted=None)}
    for fragment in executions_in(locations.scratch):
        record = None if fragment in known else readable_scratch_record(locations.scratch, fragment)
        if record is None or record.fragment != fragment or record.started_at is None or record.result is not None:
            continue
        lives = run_lives(record.owner, record.program, record.host, record.pid)
        if _is_cut_off(lives, record.started_at, now, older_than):
            _with_outcome(locations, record, now)
            stopped.append(fragment)
    return tuple(stopped)


def _is_cut_off(lives: bool | None, since: datetime | None, now: datetime, older_than: timedelta | None) -> bool:
    if lives is None:
        return older_than is not None and since is not None and now - since > older_than
    return not lives


def _with_outcome(locations: Locations, record: ExecutionRecord, now: datetime) -> ExecutionResult:
    """Return the outcome of a run that is gone: the recorded one, or else that it was cut off."""
    if record.result is not None:
        return record.result
    directory = str(locations.scratch.local_path(record.fragment))
    result = ExecutionResult(successful=False, retryable=True, output_directory=directory)
    folder = locations.scratch.scope(record.fragment)
    log = folder.read_bytes(LOG_NAME) if folder.exists(LOG_NAME) else b""
    end = f"the run was cut off: process {record.pid} on {record.host} is gone\n".encode()
    if not log.endswith(end):  # by a recovery that was itself cut off
        folder.write_bytes(LOG_NAME, log + end)
    stopped = attrs.evolve(record, stopped_at=now, result=result, owner=None, program=None)
    write_scratch_record(locations.scratch, stopped)
    return result
