"""The handle of one execution: run, stop, commit."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import attrs

from emdstore import system
from emdstore.catalog import ExecutionContent, ExecutionRow, Query
from emdstore.emds import OutputWriter
from emdstore.errors import ArtifactExistsError, ArtifactNotFoundError, BundleError, CatalogError, InvalidKeyError
from emdstore.executions.commit import Shipping, commit_execution
from emdstore.executions.inputs import fetch_input
from emdstore.executions.locations import Locations
from emdstore.executions.logs import LogFile, capture_log
from emdstore.executions.process import host_name, is_group_alive, new_owner, own_pid, retire
from emdstore.executions.program import SIGNALLED, run_program
from emdstore.executions.report import UploadReport
from emdstore.executions.scratch import read_scratch_record, write_scratch_record
from emdstore.executions.transitions import STATUSES, allowed_from, refuse_transition
from emdstore.keys import join_key, validate_key
from emdstore.sets.materialize import MaterializeOutcome, materialize_outputs
from emdstore.sets.origin import Dataset, Resources
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import (
    LOG_NAME,
    METRIC_NAME,
    OUTPUT_NAME,
    SERIES_NAME,
    ExecutionResult,
    ResultLike,
    as_result,
    usual_result,
)
from emdstore.stores.port import ArtifactStore
from emdstore.stores.views import scoped
from emdstore.transfers import ProgressCallback, Unchanged
from emdstore.workers.interrupts import uninterrupted

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def _by_the_writer(
    method: Callable[Concatenate[OutputWriter, P], R],
) -> Callable[Concatenate[Execution, P], R]:
    """Return a method of the execution that is one of its writer's."""

    @functools.wraps(method)
    def called(execution: Execution, /, *args: P.args, **options: P.kwargs) -> R:
        return method(execution.writer, *args, **options)

    return called


class Execution:
    """One execution: a folder in scratch, a row in the catalog, and, once it is committed, a set in the results store.

    It comes from `Workspace.start_execution` or `Workspace.resume_execution`. As a context manager it is the run::

        with workspace.start_execution(provider="pmp", diagnostic="enso_tel", group="historical") as execution:
            figure.savefig(execution.output_directory / "map.png")
            execution.add_plot("map.png", long_name="Sea surface temperature", dimensions={"region": "nino34"})
            execution.add_scalar(0.7, region="nino34", metric="rmse")
        execution.commit_output_assets()

    What is logged and printed inside the block is in ``out.log``. An exception in the block is the run's outcome, and
    is raised again: `OSError`, `MemoryError` and signals are the system's, and the run may be tried again; anything
    else is the diagnostic's own. Leaving the block stops the run. It ships nothing: committing is a visible step.
    """

    def __init__(self, workspace: Locations, fragment: str) -> None:
        self.workspace = workspace
        self.fragment = fragment
        self._context = contextlib.ExitStack()
        self._log_file: LogFile | None = None
        self._outcome: ExecutionResult | None = None  # until it is recorded
        self._writer: OutputWriter | None = None
        self._unwritten = False
        self._wrote = False
        self._owner: str | None = None

    def __repr__(self) -> str:
        return f"Execution({self.fragment!r})"

    @property
    def row(self) -> ExecutionRow:
        """What the catalog knows of it now."""
        return self.workspace.catalog.execution(self.fragment)

    @property
    def status(self) -> str:
        """The state that it is in now."""
        return self.row.status

    @property
    def output_directory(self) -> Path:
        """Its folder in scratch, where the run writes what it makes."""
        return self.workspace.scratch.local_path(self.fragment)

    # -- the run -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Start the run.

        Raises
        ------
        InvalidTransitionError
            If it has run already, or was aborted.
        """
        now = system.current().now()
        here: dict[str, Any] = {"host": host_name(), "pid": own_pid()}
        self._move("running", started_at=now, **here)
        self._owner = new_owner()
        try:
            self._amend(started_at=now, owner=self._owner, **here)
            self._log_file = self._context.enter_context(capture_log(self.output_directory / LOG_NAME))
        except BaseException as error:
            self._fail(error)
            retire(self._owner)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._fail(error)
            elif self.status == "running":
                try:
                    with uninterrupted():
                        self.stop(self._own_result())
                except Exception as mistake:
                    self._fail(mistake)
                    raise
        finally:
            if self._owner is not None:
                retire(self._owner)
            self._context.close()
            self._log_file = None

    def _fail(self, error: BaseException) -> None:
        """Make an exception the run's outcome, unless the run had one already, which perhaps could not be recorded."""
        retryable = isinstance(error, OSError | MemoryError | KeyboardInterrupt | SystemExit | CatalogError)
        if self._log_file is not None:
            self._log_file.write("".join(traceback.format_exception(error)))
        self._writer, self._unwritten = None, False  # what was added is of a run that did not come to its end
        try:
            with uninterrupted():  # a second Ctrl-C at once must not leave it running
                if self.status == "running":
                    self.stop(self._outcome or ExecutionResult(successful=False, retryable=retryable))
        except Exception as another:  # noqa: BLE001 - the caller gets the error that ended the run, not this one
            _log.error("the end of %s could not be recorded (%s); recover it", self.fragment, another)

    def stop(self, result: ResultLike | None = None, *, resources: Resources | None = None) -> None:
        """End the run and keep what it says of itself.

        Parameters
        ----------
        result
            The outcome. Without one: a success with what was added here, or with the bundles of the usual names that
            lie in the output directory.
        resources
            What the run took, as far as it was measured; the time since it started is known anyway.

        Raises
        ------
        InvalidTransitionError
            If it is not running.
        BundleError
            If what was added does not make valid bundles, or would replace bundles that something else wrote. No file
            was touched and it is still running then; where this ends the ``with`` block, it is the run's outcome.
        """
        status = self.status
        if status != "running":  # only a clean-up calls one that was uploaded stopped again
            raise refuse_transition(self.fragment, status, "stopped")
        outcome = self._own_result() if result is None else as_result(result)
        if outcome.successful:
            self._write_bundles()
        if outcome.output_directory is None:
            outcome = attrs.evolve(outcome, output_directory=os.fspath(self.output_directory))
        self._outcome = outcome
        now = system.current().now()
        record = self._record()
        program = record.program
        took = resources or Resources()
        if took.wall_seconds is None and record.started_at is not None:
            took = attrs.evolve(took, wall_seconds=max(0.0, (now - record.started_at).total_seconds()))
        # What a program has left running in the background may still write, which whoever removes the folder must know.
        program = program if is_group_alive(program) else None
        self._amend(stopped_at=now, result=outcome, owner=None, program=program, resources=took)
        self._move("stopped", ("running",), stopped_at=now, retryable=outcome.retryable)
        self._outcome = None

    def abort(self, reason: str | None = None) -> None:
        """Give the execution up. Its scratch folder stays until `gc_executions` removes it.

        Raises
        ------
        InvalidTransitionError
            If it was shipped, or is being shipped.
        """
        self._move("aborted", reason=reason or "aborted")

    def run(self, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
        """Run a program as this execution, inside the ``with`` block, and stop with its outcome.

        The program finds its output directory in ``EMDSTORE_OUTPUT_DIR``. What it prints, on both streams, is shown and
        goes into the log. The bundles of the usual names that it leaves there make the result. A program that a signal
        ended may be tried again; another exit code than 0 is a failure of the diagnostic. Signals that would end this
        process (SIGTERM, SIGHUP, SIGXCPU, SIGQUIT, SIGUSR1, ...) are passed on to the program, which decides what comes
        of them. Where the system can do that, the program is sent SIGTERM if this process is killed; scratch knows its
        process group, and while anything of that lives, nobody calls the run gone.

        Parameters
        ----------
        command
            The program and its arguments.
        env
            Environment variables, besides those of this process.

        Returns
        -------
        int
            The program's exit code, 128 + n if signal n ended it.

        Raises
        ------
        OSError
            If it cannot be started. As an exception in the block this is the run's outcome.
        """
        took = run_program(
            command,
            {**os.environ, **(env or {}), "EMDSTORE_OUTPUT_DIR": os.fspath(self.output_directory)},
            lambda group: self._amend(program=system.current().whoami(group)),
        )
        code = took.exit_code or 0
        if code:
            print(f"{command[0]} ended with exit code {code}")  # noqa: T201 - into the log, as all that is printed
            self.stop(ExecutionResult(successful=False, retryable=code > SIGNALLED), resources=took)
        else:
            self.stop(resources=took)
        return code

    # -- what the run makes and reads ------------------------------------------------------------------------------

    @property
    def writer(self) -> OutputWriter:
        """The writer of the bundles, which are written when the run stops and before each commit.

        Its methods are those of this object. `BundleError` if bundles lie there that this object did not write.
        """
        if self._writer is None:
            self._refuse_other_bundles()
            self._writer = OutputWriter(
                self.output_directory, metric=METRIC_NAME, output=OUTPUT_NAME, series=SERIES_NAME
            )
        self._unwritten = True
        return self._writer

    add_plot = _by_the_writer(OutputWriter.add_plot)
    add_data = _by_the_writer(OutputWriter.add_data)
    add_html = _by_the_writer(OutputWriter.add_html)
    add_scalar = _by_the_writer(OutputWriter.add_scalar)
    add_series = _by_the_writer(OutputWriter.add_series)

    def input_artifact(
        self, store: ArtifactStore, key: str, *, sha256: str | None = None, tags: Collection[str] = ()
    ) -> Path:
        """Bring in an artifact that the run reads, verified, from the cache where it is there already.

        Parameters
        ----------
        store, key
            Where it is.
        sha256
            The digest that it must have.
        tags
            What the run takes it for; kept in the record with its store, key, size and digest.

        Returns
        -------
        Path
            The file. It belongs to the cache: do not write to it.
        """
        path, used = fetch_input(self.workspace.scratch, store, key, sha256=sha256, tags=tags)
        inputs = self._record().inputs
        if used not in inputs:
            self._amend(inputs=(*inputs, used))
        return path

    def add_input(
        self,
        name: str,
        *,
        version: str | None = None,
        pid: str | None = None,
        doi: str | None = None,
        sha256: str | None = None,
        variable: str | None = None,
        role: str | None = None,
    ) -> Dataset:
        """Note that the run reads a dataset, which is then found by what it was called: see `Dataset`.

        It goes into the record and the catalog, where `Catalog.inputs` and the filter `dataset` ask for it. Nothing is
        read or staged: `input_artifact` does that with a file. To note it twice is to note it once.

        Parameters
        ----------
        name, version, pid, doi, sha256, variable, role
            See `Dataset`.

        Returns
        -------
        Dataset
            What was noted.
        """
        dataset = Dataset(name=name, version=version, pid=pid, doi=doi, sha256=sha256, variable=variable, role=role)
        record = self._record()
        if dataset not in record.datasets:
            self._amend(datasets=(*record.datasets, dataset))
        return dataset

    # -- shipping ------------------------------------------------------------------------------------------------

    def commit_output_assets(
        self,
        clean_folder: bool | None = None,
        progress_callback: ProgressCallback | None = None,
        *,
        unnamed: bool | None = None,
        unchanged: Unchanged = "stat",
        replace: bool = False,
    ) -> UploadReport:
        """Ship what the run made: bytes, then the record, then the rows.

        The list of what is shipped is frozen when it starts; what is added later waits for the next commit. To call it
        again after any interruption goes on where it was, and with nothing to do changes nothing.

        Parameters
        ----------
        clean_folder
            Whether to remove the scratch folder when all is done and proved to be: what the bundles name is published,
            with the bytes that scratch has. Otherwise it stays, and the report says why. None for what the workspace
            says (`clean_folder`).
        progress_callback
            Called with a `TransferProgress`. What it raises is logged.
        unnamed
            Whether to remove it also if files lie there that no bundle names, such as working files. None for what the
            workspace says (`clean_unnamed`).
        unchanged
            What need not be shipped again. ``"stat"``: what is proved to have the same bytes, without reading files
            about which nothing has changed since they were; ``"digest"``: what has the same bytes, which are read;
            ``"never"``: ship all.
        replace
            Whether a complete publication may be replaced by a set that is not, as scratch lost files since or the run
            failed.

        Returns
        -------
        UploadReport
            Also of a run whose own outcome is a failure: its log is shipped, and its status is ``failed``.

        Raises
        ------
        InvalidTransitionError
            If it has not been stopped. Nothing was changed.
        ClaimHeldError
            If somebody else is committing it. Nothing was changed.
        DemotionRefusedError
            If a complete publication would be replaced by less. Nothing was changed, also not its status.
        EmdstoreError
            If it could not be shipped: its status is ``upload_failed`` then, with the error, and scratch is as it was.
            What arrived is whole; nothing is published that is not complete.
        """
        if self._unwritten and self.status in allowed_from("pending_upload"):
            self._write_bundles()
        clean = self.workspace.clean_folder if clean_folder is None else clean_folder
        return commit_execution(
            self.workspace,
            self.fragment,
            Shipping(
                clean_folder=clean,
                unnamed=self.workspace.clean_unnamed if unnamed is None else unnamed,
                unchanged=unchanged,
                replace=replace,
                on_progress=progress_callback,
            ),
        )

    # -- inside --------------------------------------------------------------------------------------------------

    def _own_result(self) -> ExecutionResult:
        """Return the outcome of a run that came to its end and says nothing else of itself."""
        self._write_bundles()
        return attrs.evolve(usual_result(scoped(self.workspace.scratch, self.fragment)), successful=True)

    def _write_bundles(self) -> None:
        if self._unwritten and self._writer is not None:
            if not self._wrote:
                self._refuse_other_bundles()
            self._writer.write()
            self._unwritten, self._wrote = False, True

    def _refuse_other_bundles(self) -> None:
        folder = scoped(self.workspace.scratch, self.fragment)
        for name in (METRIC_NAME, OUTPUT_NAME, SERIES_NAME):
            if folder.exists(name):
                raise BundleError(
                    f"{name!r} of execution {self.fragment!r} is there already, written by something else, and would "
                    "be replaced: write the bundles with the add_... methods of one run, or all of them by other means",
                    key=f"{self.fragment}/{name}",
                )

    def _record(self) -> ExecutionRecord:
        record = read_scratch_record(self.workspace.scratch, self.fragment)
        if record is None:
            raise ArtifactNotFoundError(
                f"the scratch folder of execution {self.fragment!r} is gone; abort it and start a new one",
                key=self.fragment,
            )
        return record

    def _amend(self, **changes: Any) -> None:
        write_scratch_record(self.workspace.scratch, attrs.evolve(self._record(), **changes))

    def _move(self, to: str, states: Collection[str] | None = None, **changes: Any) -> None:
        states = allowed_from(to) if states is None else states
        if self.workspace.catalog.claims.transition(self.fragment, allowed_from=states, to=to, **changes) is None:
            raise refuse_transition(self.fragment, self.status, to)


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
    """Enter a new execution, and return its handle: a context manager to run it in.

    Parameters
    ----------
    locations
        The workspace.
    provider, diagnostic
        Who made the diagnostic, and its name: one path segment each.
    group
        The key of the group of input datasets; it may have several segments.
    selectors, dataset_hash
        What the group's datasets have in common, and which datasets exactly.
    description
        In your words; kept in the record and in the catalog.
    provider_version, diagnostic_version, software
        What computes it: the versions of the provider and of the diagnostic, and those of packages by name.
    name
        The execution's own name, the last segment of its fragment; by default the time and a random number.

    Returns
    -------
    Execution
        In state ``created``, with a folder of its own in scratch.

    Raises
    ------
    InvalidKeyError
        If one of the names cannot be part of a path.
    ArtifactExistsError
        If the group has an execution of this name already, in the catalog or in scratch. Nothing was changed.
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
    """Return the executions that the catalog holds, by fragment, also those whose set was retracted.

    Parameters
    ----------
    locations
        The stores and the catalog.
    status
        Only those in this state, or one of several.
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
    """Make the folder of an execution whose name was chosen: of several who choose the same one, one gets it."""
    taken = locations.catalog.executions(fragment=fragment, retracted=None).count() > 0
    if not taken:
        try:
            locations.scratch.local_path(fragment).mkdir(parents=True)
        except FileExistsError:
            taken = True
        except OSError:
            pass  # the store, which writes there next, says what is wrong
    if taken:
        raise ArtifactExistsError(
            f"there is an execution {fragment!r} already: resume it, or start one of another name",
            key=fragment,
            store=repr(locations.scratch),
        )


def materialize_execution(
    workspace: Locations, execution: Execution | str, result: ResultLike, *, on_progress: ProgressCallback | None = None
) -> MaterializeOutcome:
    """Promote one execution's set from a workspace's scratch to its results; see `materialize_outputs`.

    Parameters
    ----------
    workspace
        Where both stores are.
    execution
        The execution, or its fragment.
    result
        What the run says of itself.
    on_progress
        See `transfer`.
    """
    fragment = execution if isinstance(execution, str) else execution.fragment
    source, dest = scoped(workspace.scratch, fragment), scoped(workspace.results, fragment)
    return materialize_outputs(result, source=source, dest=dest, fragment=fragment, on_progress=on_progress)
