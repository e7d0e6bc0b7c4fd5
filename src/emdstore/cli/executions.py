"""Commands on the executions of a workspace: run, ship, list, clean up."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import msgspec
from cyclopts import Parameter

from emdstore.catalog.choosing import chosen_executions
from emdstore.catalog.filters import Filters
from emdstore.catalog.rows import Status
from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched
from emdstore.cli.engines import HERE, Workers
from emdstore.cli.options import (
    PATIENT,
    PLAIN,
    Config,
    Folder,
    OptionalCatalogURL,
    Output,
    Patience,
    WrongCallError,
    catalog_is_configuration,
    open_catalog,
)
from emdstore.cli.render import confirmed, note, say, set_progress, show_document, show_fields, show_table, size_text
from emdstore.errors import EmdstoreError, WorkspaceError
from emdstore.executions.batch import CommitInterrupted
from emdstore.executions.settings import write_config
from emdstore.executions.without_catalog import publish_pending_executions
from emdstore.executions.workspace import Workspace
from emdstore.selection import Selection
from emdstore.sets.origin import Dataset
from emdstore.sets.record import ExecutionRecord, read_record
from emdstore.sets.result import METRIC_NAME
from emdstore.stores.views import scoped
from emdstore.transfers import Unchanged
from emdstore.web.text import count_text

if TYPE_CHECKING:
    from emdstore.catalog import Catalog, ExecutionRow
    from emdstore.executions.execution import Execution
    from emdstore.executions.housekeeping import GcReport
    from emdstore.executions.report import UploadReport

Age = Annotated[timedelta, Parameter(name="--older-than")]

NoCatalog = Annotated[bool, Parameter(name="--no-catalog")]

_TOP_FOLDER = Path()
_IN_MEMORY = "sqlite://"


def find_workspace(
    config: Path | None, patience: Patience, *, instead: str | None = None, catalog: str | None = None
) -> Workspace:
    """Find the workspace of a command; `instead` is the option that makes it unnecessary."""
    try:
        return Workspace.open(config, catalog=catalog, results_options=patience.bounds())
    except WorkspaceError as error:
        if instead is None or config is not None:
            raise
        raise WorkspaceError(f"{error}; or give {instead}") from error


@contextmanager
def open_workspace(
    config: Path | None, patience: Patience, *, instead: str | None = None, no_catalog: bool = False
) -> Iterator[Workspace]:
    """Open the workspace of a command, and check that its catalog can be used.

    Without the catalog, an empty one in memory replaces it.
    """
    with find_workspace(config, patience, instead=instead, catalog=_IN_MEMORY if no_catalog else None) as workspace:
        with catalog_is_configuration():
            workspace.bind()
        yield workspace


@contextmanager
def open_catalog_of(url: str | None, config: Config, patience: Patience) -> Iterator[Catalog]:
    """Open the catalog for a command: the one at the URL, otherwise the workspace's."""
    if url is not None:
        with open_catalog(url, create=False) as catalog:
            yield catalog
        return
    with open_workspace(config, patience, instead="--catalog") as workspace:
        yield workspace.catalog


def init(
    folder: Path = _TOP_FOLDER,
    /,
    *,
    scratch: str = "scratch",
    results: str = "results",
    catalog: str = "catalog.db",
    vocabulary: str | None = None,
    output: Output = PLAIN,
) -> int:
    """Write the emdstore.toml of a new workspace. Relative paths in it are relative to the file.

    Parameters
    ----------
    folder
        The folder for it.
    scratch
        The folder in which executions run.
    results
        The store in which their sets are published: a folder or a URL.
    catalog
        The database: a SQLite file, or a URL such as postgresql://host/name.
    vocabulary
        A controlled vocabulary (YAML); what it does not know is stored and reported as a warning.
    """
    file = write_config(folder, scratch=scratch, results=results, catalog=catalog, vocabulary=vocabulary)
    try:
        workspace = Workspace.open(file)
    except EmdstoreError:
        file.unlink()  # a mistake in the arguments is not saved
        raise
    with workspace:
        places = {"scratch": workspace.scratch, "results": workspace.results, "catalog": workspace.catalog}
        if output.json:
            return show_document(
                "init", {"config": str(file.resolve())} | {name: repr(place) for name, place in places.items()}
            )
        show_fields({"config": file} | places)
        say("\nnext: emdstore run --provider NAME --diagnostic NAME -- PROGRAM ...")
    return 0


def run(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    provider: str,
    diagnostic: str,
    group: str = "default",
    description: str | None = None,
    dataset_hash: str | None = None,
    selector: tuple[str, ...] = (),
    reads: Annotated[tuple[str, ...], Parameter(name="--input")] = (),
    inputs: Path | None = None,
    provider_version: str | None = None,
    diagnostic_version: str | None = None,
    software: tuple[str, ...] = (),
    no_catalog: NoCatalog = False,
    config: Config = None,
    patience: Patience = PATIENT,
    output: Output = PLAIN,
) -> int:
    """Run a program as an execution: emdstore run --provider pmp --diagnostic enso -- python enso.py.

    The program writes to the folder that EMDSTORE_OUTPUT_DIR names; what it prints becomes out.log; the bundles
    diagnostic.json, output.json and series.json that it leaves there make its result. Signals are passed on to it.
    Nothing is shipped: `emdstore commit` does that. The exit code is 0 if the program's is, otherwise 1.

    Parameters
    ----------
    command
        The program and its arguments, after `--`.
    provider
        The diagnostic's provider.
    diagnostic
        Its name.
    group
        The group of input datasets that it runs over.
    description
        What the execution is about, in a sentence.
    dataset_hash
        Identifies the exact input datasets.
    selector
        What the group's datasets have in common, as NAME=VALUE; may be given several times.
    reads
        A dataset that the program reads, by its name; may be given several times.
    inputs
        A JSON file with a list of such datasets: each an object with name and, where known, version, pid, doi, sha256,
        variable and role.
    provider_version
        The version of the provider's software.
    diagnostic_version
        The version of the diagnostic.
    software
        The version of a package that it computes with, as NAME=VERSION; may be given several times.
    no_catalog
        Do not use the catalog: the execution is known only in scratch, until `emdstore commit --no-catalog` publishes
        it and `emdstore replay` loads it.
    """
    if not command:
        raise WrongCallError("give the program to run, and its arguments, after --")
    if shutil.which(command[0]) is None:
        raise WrongCallError(f"there is no program {command[0]!r} that can be run")
    selectors = dict(_name_and_value(each, "a selector is NAME=VALUE") for each in selector)
    versions = dict(_name_and_value(each, "--software is NAME=VERSION") for each in software)
    datasets = [*(Dataset(name=name) for name in reads), *(_datasets_in(inputs) if inputs is not None else ())]
    with open_workspace(config, patience, no_catalog=no_catalog) as workspace:
        execution = workspace.start_execution(
            provider=provider,
            diagnostic=diagnostic,
            group=group,
            selectors=selectors,
            dataset_hash=dataset_hash,
            description=description,
            provider_version=provider_version,
            diagnostic_version=diagnostic_version,
            software=versions,
        )
        for dataset in datasets:
            execution.add_input(**attrs.asdict(dataset))
        code: int | None = None
        try:
            # If stdout gets a JSON document, it gets nothing else.
            with redirect_stdout(sys.stderr) if output.json else nullcontext(), execution:
                code = execution.run(command)
        except EmdstoreError:
            raise
        except OSError as error:
            note(f"error: {command[0]!r} could not be run: {error}")
        except KeyboardInterrupt:
            note(f"interrupted: {execution.fragment} is {execution.status}; {_next_step(execution, no_catalog)}")
            raise
        return _show_run(execution, code, no_catalog, output)


def _name_and_value(text: str, rule: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise WrongCallError(f"{rule}, not {text!r}")
    return name, value


def _datasets_in(file: Path) -> list[Dataset]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Dataset])
    except OSError as error:
        raise WrongCallError(f"--inputs {str(file)!r} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WrongCallError(f"--inputs {str(file)!r} is no list of datasets: {error}") from error


def _next_step(execution: Execution, no_catalog: bool) -> str:
    return f"next: emdstore commit {'--no-catalog ' if no_catalog else ''}{shlex.quote(execution.fragment)}"


def _show_run(execution: Execution, code: int | None, no_catalog: bool, output: Output) -> int:
    row, folder, exit_code = execution.row, execution.output_directory, 0 if code == 0 else 1
    if output.json:
        document = {"execution": row, "program_exit_code": code, "output_directory": str(folder)}
        return show_document("run", document, exit_code)
    show_fields(
        {"execution": row.fragment, "status": row.status, "exit code of the program": code, "output directory": folder}
    )
    if code == 0 and not (folder / METRIC_NAME).is_file():
        note(f"the program left no {METRIC_NAME}: committed as it is, this counts as a failure of the diagnostic")
    say(_next_step(execution, no_catalog))
    return exit_code


def commit(
    *executions: Folder,
    pending: bool = False,
    choosing: Choosing = ANYTHING,
    clean_folder: Annotated[bool | None, Parameter(negative="--no-clean-folder")] = None,
    unnamed: Annotated[bool | None, Parameter(negative="--no-unnamed")] = None,
    unchanged: Unchanged = "stat",
    replace: bool = False,
    no_catalog: NoCatalog = False,
    on: Workers = HERE,
    config: Config = None,
    patience: Patience = PATIENT,
    output: Output = PLAIN,
) -> int:
    """Ship executions: bytes first, then the record, then the rows in the catalog.

    A failure does not stop the others. After an interruption, run it again to continue.

    With --no-catalog no rows are written, and the catalog is not used: `emdstore replay` loads the executions later.
    --pending then means all stopped executions in scratch; what is published already is compared and left alone.

    Parameters
    ----------
    executions
        Their fragments, or the ends of them.
    pending
        All that wait: stopped, failed to upload, or left behind by a killed commit.
    clean_folder
        Remove each scratch folder when everything is proved to be published; by default as the workspace says.
    unnamed
        Remove it even if it contains files that no bundle names, such as working files; by default as the workspace
        says.
    unchanged
        What need not be shipped again. stat: files that are proved to be the same, without reading those that have not
        changed since they were last read; digest: files with the same bytes, which are read; never: ship everything.
    replace
        Also replace a complete publication with an incomplete set, because scratch has lost files or the run failed.
        Requires the executions' names.
    no_catalog
        Publish them, but do not use the catalog.
    """
    if pending == bool(executions):
        raise WrongCallError("name the executions to commit, or give --pending for all that wait")
    if pending and replace:
        raise WrongCallError("name the executions whose publications --replace may replace")
    selection = choosing.of_sets()
    if executions and not selection.is_all:
        raise WrongCallError(f"{selection} chooses among all that wait: give --pending, and no names")
    with open_workspace(config, patience, no_catalog=no_catalog) as workspace:
        ship = partial(publish_pending_executions, workspace) if no_catalog else workspace.commit_pending_executions
        try:
            with on.executor() as executor, set_progress("commit") as on_progress:
                report = ship(
                    execution_ids=None if pending else executions,
                    selection=selection,
                    clean_folder=workspace.clean_folder if clean_folder is None else clean_folder,
                    unnamed=unnamed,
                    unchanged=unchanged,
                    replace=replace,
                    executor=executor,
                    progress_callback=lambda so_far: on_progress(so_far.fragment, so_far.done, so_far.total),
                )
        except CommitInterrupted as interrupted:
            return _show_report(
                "commit", workspace, interrupted.report, output, interrupted=True, no_catalog=no_catalog
            )
        told = len(report.statuses) + len(report.skipped) + len(report.errors)
        refuse_unmatched(told, selection, "waiting execution", store=repr(workspace.scratch))
        return _show_report(
            "commit", workspace, report, output, no_catalog=no_catalog, failed=bool(report.skipped) and not pending
        )


def reingest(
    execution: Folder, /, *, config: Config = None, patience: Patience = PATIENT, output: Output = PLAIN
) -> int:
    """Publish and ingest an execution's set again, as a new execution of the same group. Nothing runs.

    Parameters
    ----------
    execution
        Its fragment, or the end of it.
    """
    with open_workspace(config, patience) as workspace:
        return _show_report("reingest", workspace, workspace.reingest(execution), output)


def _show_report(
    command: str,
    workspace: Workspace,
    report: UploadReport,
    output: Output,
    *,
    interrupted: bool = False,
    no_catalog: bool = False,
    failed: bool = False,
) -> int:
    """Show the outcomes of executions, and return the exit code: 0 if all is well."""
    known = partial(_record_of, workspace) if no_catalog else workspace.catalog.execution
    rows = [known(fragment) for fragment in report.statuses]
    ok = report.ok and not failed and not any(row.failure == "result" for row in rows)
    code = 130 if interrupted else 0 if ok else 1
    if output.json:
        return show_document(command, report.as_dict() | {"interrupted": interrupted}, code)
    for row in rows:
        why = f": {row.failure}: {row.reason}" if row.failure else ""
        say(f"{row.status}  {row.fragment}{why}", style="red" if row.failure == "result" else None)
    for fragment, holder in report.skipped.items():
        say(f"skipped  {fragment}: {holder}")
    for fragment, reason in report.kept.items():
        say(f"kept in scratch  {fragment}: {reason}")
    for each in report.errors:
        say(f"not committed  {each.fragment}: {each.error}", style="red")
    if report.roles:
        counted = [
            (role, counts.uploaded, counts.unchanged, counts.failed) for role, counts in sorted(report.roles.items())
        ]
        show_table(("artifacts", "uploaded", "unchanged", "failed"), counted)
    done = "published" if no_catalog else "committed"
    say(f"{count_text(len(rows), 'execution')} {done} ({size_text(report.bytes)} uploaded); {report.seconds:.1f} s")
    if interrupted:
        note("interrupted: run it again to go on")
    return code


def _record_of(workspace: Workspace, fragment: str) -> ExecutionRecord:
    record = read_record(scoped(workspace.results, fragment))
    assert record is not None, "it was published"
    return record


def list_executions(
    *,
    status: Annotated[tuple[Status, ...], Parameter()] = (),
    choosing: Choosing = ANYTHING,
    catalog: OptionalCatalogURL = None,
    config: Config = None,
    patience: Patience = PATIENT,
    output: Output = PLAIN,
) -> int:
    """List the executions of the workspace, or of a catalog.

    Parameters
    ----------
    status
        Only those in this state; may be given several times.
    """
    selection = choosing.of_sets()
    with open_catalog_of(catalog, config, patience) as database:
        filters: Filters = {"status": status} if status else {}
        rows = list(chosen_executions(database, selection, **filters))
        refuse_unmatched(len(rows), selection, "execution", store=database.url)
    if output.json:
        return show_document("list", {"executions": rows})
    columns = ("execution", "status", "created", "artifacts", "scalars", "description", "note")
    show_table(columns, map(_listed, rows))
    return 0


def _listed(row: ExecutionRow) -> tuple[object, ...]:
    return (
        row.fragment,
        row.status,
        row.created_at,
        row.artifacts,
        row.scalars,
        row.description,
        _word(row)
        or row.error
        or row.cause
        or (f"held by {row.owner}" if row.owner else row.reason if row.failure else None),
    )


def _word(row: ExecutionRow) -> str | None:
    return None if row.retracted_at is None else f"retracted: {row.retraction_reason}"


def show(
    execution: Folder,
    /,
    *,
    catalog: OptionalCatalogURL = None,
    limit: Annotated[int, Parameter(alias="-n")] = 20,
    config: Config = None,
    patience: Patience = PATIENT,
    output: Output = PLAIN,
) -> int:
    """Show what the catalog holds of one execution: status, counts, warnings, artifacts, values.

    Parameters
    ----------
    execution
        Its fragment, or the end of it, or its id.
    limit
        How many rows to show of each kind; 0 for all. JSON has all.
    """
    from emdstore.cli.results import show_execution

    with open_catalog_of(catalog, config, patience) as database:
        return show_execution(database, execution, limit=limit, output=output)


def gc(
    *,
    status: tuple[Status, ...] = ("uploaded", "failed", "aborted"),
    choosing: Choosing = ANYTHING,
    older_than: Age = timedelta(0),
    force: bool = False,
    unnamed: Annotated[bool | None, Parameter(negative="--no-unnamed")] = None,
    stale: bool = False,
    uploads: bool = False,
    yes: bool = False,
    config: Config = None,
    patience: Patience = PATIENT,
    output: Output = PLAIN,
) -> int:
    """Remove scratch folders that are no longer needed, and what killed commands have left behind.

    It first shows what it would remove, and removes it if you agree on a terminal, or with --yes.

    Parameters
    ----------
    status
        Folders of executions in this state; may be given several times.
    older_than
        Only if nothing has happened in them for this long: 7d, 12h.
    force
        Also what was not shipped, or is not proved to be: scratch may have the only copy.
    unnamed
        Also folders with files that no bundle names, such as working files, which were never shipped; by default as the
        workspace says.
    stale
        Also files in a set's folder in the results store that are not part of the set nor, without --force, of one that
        it replaced.
    uploads
        Also uploads to results on S3 that were begun more than a day ago and never completed.
    yes
        Remove it without asking.
    """
    selection = choosing.of_sets()
    what: dict[str, Any] = {
        "status": status,
        "selection": selection,
        "older_than": older_than,
        "force": force,
        "unnamed": unnamed,
        "stale": stale,
        "uploads": uploads,
    }
    with open_workspace(config, patience) as workspace:
        if not yes:
            preview = workspace.gc_executions(**what, dry_run=True)
            _refuse_unmatched(preview, selection, workspace)
            if output.json:
                return show_document("gc", preview.as_dict())
            _show_gc(preview)
            if not preview.removed:
                return 0
            if not confirmed("remove it?"):
                note("nothing was removed; give --yes to remove it")
                return 0
        report = workspace.gc_executions(**what)
        _refuse_unmatched(report, selection, workspace)
    if output.json:
        return show_document("gc", report.as_dict())
    _show_gc(report)
    return 0


def _refuse_unmatched(report: GcReport, selection: Selection, workspace: Workspace) -> None:
    found = len(report.removed) + len(report.refused)
    refuse_unmatched(found, selection, "scratch folder", store=repr(workspace.scratch))


def _show_gc(report: GcReport) -> None:
    for fragment, reason in report.refused.items():
        say(f"kept  {fragment}: {reason}")
    for each in report.removed:
        size = f"  ({count_text(each.files, 'file')}, {size_text(each.bytes)})" if each.bytes else ""
        say(f"{'would remove' if report.dry_run else 'removed'}  {each.what}  {each.name}{size}")
    total = f"{len(report.removed)} things ({size_text(sum(each.bytes for each in report.removed))})"
    say(f"{total} {'would be removed' if report.dry_run else 'removed'}, {len(report.refused)} kept")


def abort(
    *executions: Folder,
    reason: str | None = None,
    config: Config = None,
    patience: Patience = PATIENT,
    output: Output = PLAIN,
) -> int:
    """Abandon executions that were not shipped. Their scratch folders stay until gc removes them.

    Parameters
    ----------
    executions
        Their fragments, or the ends of them.
    reason
        Why, in a sentence; the catalog keeps it.
    """
    if not executions:
        raise WrongCallError("name the executions to abandon")
    with open_workspace(config, patience) as workspace:
        handles = [workspace.resume_execution(each) for each in executions]
        for execution in handles:
            execution.abort(reason)
    if output.json:
        return show_document("abort", {"aborted": [each.fragment for each in handles]})
    for each in handles:
        say(f"aborted  {each.fragment}")
    return 0


def recover(
    *,
    older_than: Annotated[timedelta | None, Parameter()] = None,
    no_catalog: NoCatalog = False,
    config: Config = None,
    patience: Patience = PATIENT,
    output: Output = PLAIN,
) -> int:
    """Stop running executions whose processes are gone, so that their logs can be committed.

    Parameters
    ----------
    older_than
        Also those on other machines that started this long ago (7d, 12h); what runs there cannot be seen from here.
    no_catalog
        Only those that ran without the catalog, which is not used.
    """
    with open_workspace(config, patience, no_catalog=no_catalog) as workspace:
        stopped = workspace.recover(older_than=older_than)
        known = set(stopped) - {row.fragment for row in workspace.list_executions(status="stopped")}
    if output.json:
        return show_document("recover", {"recovered": list(stopped)})
    for fragment in stopped:
        say(f"recovered  {fragment}")
    if stopped:
        say(f"next: emdstore commit {'--no-catalog ' if known else ''}--pending")
    else:
        note("nothing was recovered")
    return 0
