"""Loading the rows of executions anew from what is published."""

from __future__ import annotations

import functools

import attrs

from emdstore.errors import (
    EmdstoreError,
    ExecutionNotFoundError,
    IncompleteSetError,
)
from emdstore.executions.locations import Locations
from emdstore.executions.scratch import (
    read_scratch_record,
    write_scratch_record,
)
from emdstore.executions.starting import start_execution
from emdstore.executions.upload_report import UploadReport
from emdstore.sets.record import read_record
from emdstore.sets.result import LOG_NAME
from emdstore.stores.views import scoped
from emdstore.transfers import move


def reingest(locations: Locations, execution: str) -> UploadReport:
    """Publish and ingest an execution's set again, as a new execution of the same group; the old one does not change.

    Nothing runs: the new execution takes the published files of the old one. The group's flag stays as it is.

    Parameters
    ----------
    locations
        The workspace.
    execution
        The fragment of a published execution, or its last segment.

    Returns
    -------
    UploadReport
        The report of the new execution's commit; it contains only this fragment.

    Raises
    ------
    ExecutionNotFoundError
        If there is no such execution, or its set is not published.
    IncompleteSetError
        If its set is being published, or whoever did so was stopped.
    """
    locations.bind()
    fragment = locations.catalog.execution(execution).fragment
    published = scoped(locations.results, fragment)
    old = read_record(published)
    if old is None or old.result is None:
        raise ExecutionNotFoundError(
            f"execution {fragment!r} has no published set to ingest again: commit it first", key=fragment
        )
    if old.is_open:  # what it says is of the new version, and what it names of the one before
        raise IncompleteSetError(
            f"{fragment!r} is being published, or whoever did so was stopped: wait, or commit it again", key=fragment
        )
    new = start_execution(
        locations,
        provider=old.provider,
        diagnostic=old.diagnostic,
        group=old.group,
        selectors=old.selectors,
        dataset_hash=old.dataset_hash,
        description=old.description,
        provider_version=old.provider_version,
        diagnostic_version=old.diagnostic_version,
        software=old.software,
    )
    try:
        record = read_scratch_record(locations.scratch, new.fragment)
        assert record is not None
        kept = attrs.evolve(record, reingest_of=fragment, inputs=old.inputs, datasets=old.datasets)
        write_scratch_record(locations.scratch, kept)
        with new:
            keys = [artifact.key for artifact in old.artifacts if artifact.key != LOG_NAME]
            # Bytes that do not match the record are refused: a new record would hide the damage.
            digests = {artifact.key: artifact.sha256 for artifact in old.artifacts}
            bring = functools.partial(move, published, locations.scratch.scope(new.fragment), expected=digests)
            bring(keys).raise_for_failures()
            new.stop(old.result, resources=old.resources)
        # The log is that of the old run, because nothing ran here.
        bring([LOG_NAME], unchanged="never").raise_for_failures()
    except EmdstoreError as error:
        new.abort(f"{fragment!r} could not be ingested again: {error}")
        raise
    return new.commit_output_assets()
