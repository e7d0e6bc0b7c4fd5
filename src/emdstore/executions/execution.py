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
from emdstore.catalog import ExecutionRow
from emdstore.emds import OutputWriter
from emdstore.errors import ArtifactNotFoundError, BundleError, CatalogError
from emdstore.executions.commit import Shipping, commit_execution
from emdstore.executions.inputs import fetch_input
from emdstore.executions.locations import Locations
from emdstore.executions.logs import LogFile, capture_log
from emdstore.executions.process import host_name, is_group_alive, new_owner, own_pid, retire
from emdstore.executions.program import SIGNALLED, run_program
from emdstore.executions.scratch import read_scratch_record, write_scratch_record
from emdstore.executions.shown import execution_as_html
from emdstore.executions.transitions import allowed_from, refuse_transition
from emdstore.executions.upload_report import UploadReport
from emdstore.sets.events import announce
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
    """Return a method of the execution that calls the writer's."""

    @functools.wraps(method)
    def called(execution: Execution, /, *args: P.args, **options: P.kwargs) -> R:
        return method(execution.writer, *args, **options)

    return called


class Execution:
    """An execution: a folder in scratch, a row in the catalog and, once it is committed, a set in the results store.

    Returned by `Workspace.start_execution` and `Workspace.resume_execution`. As a context manager it is the run::

        with workspace.start_execution(provider="pmp", diagnostic="enso_tel", group="historical") as execution:
            figure.savefig(execution.output_directory / "map.png")
            execution.add_plot("map.png", long_name="Sea surface temperature", dimensions={"region": "nino34"})
            execution.add_scalar(0.7, region="nino34", metric="rmse")
        execution.commit_output_assets()

    Everything that is logged and printed inside the block goes into ``out.log``. An exception in the block becomes the
    run's outcome, and is raised again: `OSError`, `MemoryError` and signals are failures of the system, and the run may
    be tried again; anything else is a failure of the diagnostic. Leaving the block stops the run, but ships nothing:
    committing is a separate step.
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

    def _repr_html_(self) -> str:
        """Return what it is, and its published plots, for notebooks."""
        return execution_as_html(self.workspace, self.fragment)

    @property
    def row(self) -> ExecutionRow:
        """Its current row in the catalog."""
        return self.workspace.catalog.execution(self.fragment)

    @property
    def status(self) -> str:
        """Its current state."""
        return self.row.status

    @property
    def output_directory(self) -> Path:
        """Its folder in scratch, to which the run writes."""
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
        """Make an exception the run's outcome, unless it has one already, which perhaps could not be recorded."""
        retryable = isinstance(error, OSError | MemoryError | KeyboardInterrupt | SystemExit | CatalogError)
        if self._log_file is not None:
            self._log_file.write("".join(traceback.format_exception(error)))
        self._writer, self._unwritten = None, False  # what was added belongs to a run that did not finish
        try:
            with uninterrupted():  # a second Ctrl-C at once must not leave it running
                if self.status == "running":
                    self.stop(self._outcome or ExecutionResult(successful=False, retryable=retryable))
        except Exception as another:  # noqa: BLE001 - the caller gets the error that ended the run, not this one
            _log.error("the end of %s could not be recorded (%s); recover it", self.fragment, another)

    def stop(self, result: ResultLike | None = None, *, resources: Resources | None = None) -> None:
        """End the run and record its outcome.

        Parameters
        ----------
        result
            The outcome. By default a success with what was added here, or with the bundles of the usual names in the
            output directory.
        resources
            The resources that the run used, as far as measured; the elapsed time is known anyway.

        Raises
        ------
        InvalidTransitionError
            If it is not running.
        BundleError
            If what was added does not make valid bundles, or would replace bundles that something else wrote. No file
            was touched, and the run goes on; at the end of the ``with`` block this is the run's outcome.
        """
        status = self.status
        if status != "running":  # only a clean-up sets an uploaded execution back to stopped
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
        # A program's background processes may still write, and whoever removes the folder must know this.
        program = program if is_group_alive(program) else None
        self._amend(stopped_at=now, result=outcome, owner=None, program=program, resources=took)
        self._move("stopped", ("running",), stopped_at=now, retryable=outcome.retryable)
        self._outcome = None

    def abort(self, reason: str | None = None) -> None:
        """Abandon the execution. Its scratch folder stays until `gc_executions` removes it.

        Raises
        ------
        InvalidTransitionError
            If it was shipped, or is being shipped.
        """
        self._move("aborted", reason=reason or "aborted")

    def run(self, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
        """Run a program as this execution, inside the ``with`` block, and stop the run with its outcome.

        The program finds its output directory in ``EMDSTORE_OUTPUT_DIR``. Everything that it prints, on both streams,
        is shown and logged. The bundles of the usual names that it writes there are the result. A program that was
        ended by a signal may be tried again; a nonzero exit code is a failure of the diagnostic. Signals that would end
        this process (SIGTERM, SIGHUP, SIGXCPU, SIGQUIT, SIGUSR1, ...) are passed on to the program, which decides what
        to do. If the system supports it, the program gets SIGTERM when this process is killed. Scratch records its
        process group: as long as any of its processes lives, the run does not count as gone.

        Parameters
        ----------
        command
            The program and its arguments.
        env
            Environment variables, in addition to those of this process.

        Returns
        -------
        int
            The program's exit code, 128 + n if signal n ended it.

        Raises
        ------
        OSError
            If it cannot be started. Like any exception in the block, this is the run's outcome.
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
        """The writer of the bundles, which writes them when the run stops and before each commit.

        Its methods are also those of this object. `BundleError` if there are bundles that this object did not write.
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
    add_figure = _by_the_writer(OutputWriter.add_figure)
    add_dataset = _by_the_writer(OutputWriter.add_dataset)
    add_table = _by_the_writer(OutputWriter.add_table)
    add_scalar = _by_the_writer(OutputWriter.add_scalar)
    add_series = _by_the_writer(OutputWriter.add_series)

    def input_artifact(
        self, store: ArtifactStore, key: str, *, sha256: str | None = None, tags: Collection[str] = ()
    ) -> Path:
        """Get an artifact that the run reads, verified; from the cache if it is there.

        Parameters
        ----------
        store, key
            Where the artifact is.
        sha256
            Its required digest.
        tags
            What the run uses it for; recorded together with its store, key, size and digest.

        Returns
        -------
        Path
            The file. It belongs to the cache; do not write to it.
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
        """Record that the run reads a dataset; see `Dataset`.

        It goes into the record and the catalog, where `Catalog.inputs` and the filter `dataset` find it. Nothing is
        read or staged; use `input_artifact` for a file. Recording it twice has no effect.

        Parameters
        ----------
        name, version, pid, doi, sha256, variable, role
            See `Dataset`.

        Returns
        -------
        Dataset
            The recorded dataset.
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
        """Ship the run's results: bytes, then the record, then the rows.

        The list of what is shipped is frozen at the start; what is added later waits for the next commit. After an
        interruption, another call continues. If there is nothing to do, nothing changes.

        Parameters
        ----------
        clean_folder
            Whether to remove the scratch folder when everything is proved to be published: everything that the bundles
            name, with the bytes in scratch. Otherwise it stays, and the report says why. None: as the workspace says
            (`clean_folder`).
        progress_callback
            Called with a `TransferProgress`. Its exceptions are logged.
        unnamed
            Whether to remove it even if it contains files that no bundle names, such as working files. None: as the
            workspace says (`clean_unnamed`).
        unchanged
            What need not be shipped again. ``"stat"``: files that are proved to be the same, without reading those that
            have not changed since they were last read; ``"digest"``: files with the same bytes, which are read;
            ``"never"``: ship everything.
        replace
            Whether a complete publication may be replaced with an incomplete set, because scratch has lost files or the
            run failed.

        Returns
        -------
        UploadReport
            The report. Of a failed run the log is shipped, and the status is ``failed``.

        Raises
        ------
        InvalidTransitionError
            If it has not been stopped. Nothing was changed.
        ClaimHeldError
            If somebody else is committing it. Nothing was changed.
        DemotionRefusedError
            If a complete publication would be replaced by less. Nothing was changed, including the status.
        EmdstoreError
            If it could not be shipped. The status is ``upload_failed`` then, with the error, and scratch is unchanged.
            What arrived is whole; nothing incomplete is published.
        """
        if self._unwritten and self.status in allowed_from("pending_upload"):
            self._write_bundles()
        clean = self.workspace.clean_folder if clean_folder is None else clean_folder
        shipping = Shipping(
            clean_folder=clean,
            unnamed=self.workspace.clean_unnamed if unnamed is None else unnamed,
            unchanged=unchanged,
            replace=replace,
            on_progress=progress_callback,
        )
        report = commit_execution(self.workspace, self.fragment, shipping)
        announce(self.workspace.results, report.events)
        return report

    # -- inside --------------------------------------------------------------------------------------------------

    def _own_result(self) -> ExecutionResult:
        """Return the outcome of a run that finished without stating one."""
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
