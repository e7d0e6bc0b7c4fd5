"""The handle of one execution: run, stop, commit."""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

import attrs

from emdstore.catalog import ExecutionContent, ExecutionRow
from emdstore.emds import OutputWriter
from emdstore.errors import ArtifactNotFoundError, BundleError, CatalogError
from emdstore.executions.commit import commit_execution, read_scratch_record, write_scratch_record
from emdstore.executions.inputs import fetch_input
from emdstore.executions.logs import capture_log
from emdstore.executions.process import host_name
from emdstore.executions.report import UploadReport
from emdstore.executions.transitions import allowed_from, refuse_transition
from emdstore.sets.materialize import MaterializeOutcome, materialize_outputs
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
from emdstore.transfers import ProgressCallback

if TYPE_CHECKING:
    from emdstore.executions.workspace import Workspace

_log = logging.getLogger(__name__)

_SIGNALLED = 128
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_READ_SIZE = 65536


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

    def __init__(self, workspace: Workspace, fragment: str) -> None:
        self.workspace = workspace
        self.fragment = fragment
        self._context = contextlib.ExitStack()
        self._log_file: TextIO | None = None
        self._writer: OutputWriter | None = None
        self._unwritten = False
        self._wrote = False

    @classmethod
    def enter(cls, workspace: Workspace, identity: ExecutionRecord) -> Self:
        """Make the folder and the row of a new execution; see `Workspace.start_execution`."""
        write_scratch_record(workspace.scratch, identity)
        workspace.catalog.create_execution(
            ExecutionContent(
                fragment=identity.fragment,
                provider=identity.provider,
                diagnostic=identity.diagnostic,
                group=identity.group,
                selectors=identity.selectors or None,
                dataset_hash=identity.dataset_hash,
                description=identity.description,
                status="created",
                created_at=identity.created_at,
            )
        )
        return cls(workspace, identity.fragment)

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
        now = datetime.now(UTC)
        self._move("running", started_at=now, host=host_name(), pid=os.getpid())
        try:
            self._amend(started_at=now, host=host_name(), pid=os.getpid())
            self._log_file = self._context.enter_context(capture_log(self.output_directory / LOG_NAME))
        except BaseException as error:
            self._fail(error)
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
                    result = self._own_result()
                except Exception as mistake:
                    self._fail(mistake)
                    raise
                self.stop(result)
        finally:
            self._context.close()
            self._log_file = None

    def _fail(self, error: BaseException) -> None:
        """Make an exception the run's outcome, unless the run had one already."""
        retryable = isinstance(error, OSError | MemoryError | KeyboardInterrupt | SystemExit | CatalogError)
        if self._log_file is not None:
            with contextlib.suppress(OSError):
                self._log_file.write("".join(traceback.format_exception(error)))
        self._writer, self._unwritten = None, False  # what was added is of a run that did not come to its end
        try:
            if self.status == "running":
                self.stop(ExecutionResult(successful=False, retryable=retryable))
        except Exception:  # noqa: BLE001 - the caller gets the error that ended the run, not this one
            _log.exception("the end of %s could not be recorded; recover it", self.fragment)

    def stop(self, result: ResultLike | None = None) -> None:
        """End the run and keep what it says of itself.

        Parameters
        ----------
        result
            The outcome. Without one: a success with what was added here, or with the bundles of the usual names that
            lie in the output directory.

        Raises
        ------
        InvalidTransitionError
            If it is not running.
        BundleError
            If what was added does not make valid bundles, or would replace bundles that something else wrote. No file
            was touched and it is still running then; where this ends the ``with`` block, it is the run's outcome.
        """
        status = self.status
        if status not in allowed_from("stopped"):
            raise refuse_transition(self.fragment, status, "stopped")
        outcome = self._own_result() if result is None else as_result(result)
        if outcome.successful:
            self._write_bundles()
        if outcome.output_directory is None:
            outcome = attrs.evolve(outcome, output_directory=os.fspath(self.output_directory))
        now = datetime.now(UTC)
        self._amend(stopped_at=now, result=outcome)
        self._move("stopped", stopped_at=now, retryable=outcome.retryable)

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
        process (SIGTERM, SIGHUP, SIGUSR1, SIGUSR2) are passed on to the program, which decides what comes of them.

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
        variables = {**os.environ, **(env or {}), "EMDSTORE_OUTPUT_DIR": os.fspath(self.output_directory)}
        with _signals_forwarded() as started:
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=variables
            )
            try:
                started(process)
                _show_output(process)
                code = process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
        code = code if code >= 0 else _SIGNALLED - code
        if code:
            print(f"{command[0]} ended with exit code {code}")  # noqa: T201 - into the log, as all that is printed
            self.stop(ExecutionResult(successful=False, retryable=code > _SIGNALLED))
        else:
            self.stop()
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

    def add_plot(
        self,
        path: Path | str,
        *,
        long_name: str,
        description: str = "",
        dimensions: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> str:
        """Register a plot; see `OutputWriter.add_plot`."""
        return self.writer.add_plot(
            path, long_name=long_name, description=description, dimensions=dimensions, name=name
        )

    def add_data(
        self,
        path: Path | str,
        *,
        long_name: str,
        description: str = "",
        dimensions: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> str:
        """Register a data file; see `OutputWriter.add_data`."""
        return self.writer.add_data(
            path, long_name=long_name, description=description, dimensions=dimensions, name=name
        )

    def add_html(
        self,
        path: Path | str,
        *,
        long_name: str,
        description: str = "",
        dimensions: Mapping[str, str] | None = None,
        name: str | None = None,
    ) -> str:
        """Register an html file; see `OutputWriter.add_html`."""
        return self.writer.add_html(
            path, long_name=long_name, description=description, dimensions=dimensions, name=name
        )

    def add_scalar(
        self,
        value: float | None,
        /,
        *,
        attributes: Mapping[str, object] | None = None,
        dimensions: Mapping[str, str] | None = None,
        **named: str,
    ) -> None:
        """Add a scalar; see `OutputWriter.add_scalar`."""
        self.writer.add_scalar(value, attributes=attributes, dimensions=dimensions, **named)

    def add_series(
        self,
        values: Iterable[float | None],
        index: Iterable[str | float],
        *,
        index_name: str,
        dimensions: Mapping[str, str],
        attributes: Mapping[str, object] | None = None,
    ) -> None:
        """Add a series; see `OutputWriter.add_series`."""
        self.writer.add_series(values, index, index_name=index_name, dimensions=dimensions, attributes=attributes)

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

    # -- shipping ------------------------------------------------------------------------------------------------

    def commit_output_assets(
        self, clean_folder: bool | None = None, progress_callback: ProgressCallback | None = None
    ) -> UploadReport:
        """Ship what the run made: bytes, then the record, then the rows.

        The list of what is shipped is frozen when it starts; what is added later waits for the next commit. To call it
        again after any interruption goes on where it was, and with nothing to do changes nothing.

        Parameters
        ----------
        clean_folder
            Whether to remove the scratch folder when all is done; None for what the workspace says.
        progress_callback
            Called with a `TransferProgress`. What it raises is logged.

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
        EmdstoreError
            If it could not be shipped: its status is ``upload_failed`` then, with the error, and scratch is as it was.
            What arrived is whole; nothing is published that is not complete.
        """
        if self._unwritten and self.status in allowed_from("pending_upload"):
            self._write_bundles()
        return commit_execution(
            self.workspace, self.fragment, clean_folder=clean_folder, progress_callback=progress_callback
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

    def _move(self, to: str, **changes: Any) -> None:
        if self.workspace.catalog.transition(self.fragment, allowed_from=allowed_from(to), to=to, **changes) is None:
            raise refuse_transition(self.fragment, self.status, to)


@contextlib.contextmanager
def _signals_forwarded() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Pass signals that nobody here handles on to a program: whoever ends this process means it.

    Yields what is to be called with the program when it has been started. Signals that come before wait for it.
    """
    programs: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def forward(number: int, _: object) -> None:
        if programs:
            programs[0].send_signal(number)
        else:
            early.append(number)

    def started(program: subprocess.Popen[bytes]) -> None:
        programs.append(program)
        for number in early:
            program.send_signal(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        unhandled = [number for number in _FORWARDED if signal.getsignal(number) == signal.SIG_DFL]
        before = {number: signal.signal(number, forward) for number in unhandled}
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_output(process: subprocess.Popen[bytes]) -> None:
    """Print what a program prints as it comes, also where it ends no lines, until it closes its output."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    assert process.stdout is not None
    with process.stdout as output:
        while data := os.read(output.fileno(), _READ_SIZE):
            sys.stdout.write(decoder.decode(data))
            sys.stdout.flush()
        sys.stdout.write(decoder.decode(b"", final=True))


def materialize_execution(
    workspace: Workspace, execution: Execution | str, result: ResultLike, *, on_progress: ProgressCallback | None = None
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
