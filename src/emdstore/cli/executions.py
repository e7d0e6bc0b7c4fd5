"""Commands on the executions of a workspace: run, ship, list, clean up."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
from cyclopts import Parameter

from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched
from emdstore.cli.engines import HERE, Workers
from emdstore.cli.options import (
    PLAIN,
    Folder,
    Output,
    WrongCallError,
)
from emdstore.cli.progress import set_progress
from emdstore.cli.render import (
    note,
    say,
    say_first,
    show_document,
    show_fields,
    show_table,
    size_text,
    sum_up,
)
from emdstore.cli.workspaces import OWN, NoCatalog, Own
from emdstore.errors import EmdstoreError
from emdstore.executions.batch import CommitInterrupted
from emdstore.executions.settings import write_config
from emdstore.executions.without_catalog import known_only_to_scratch, publish_pending_executions
from emdstore.executions.workspace import Workspace
from emdstore.sets.record import ExecutionRecord, read_record
from emdstore.stores.views import scoped
from emdstore.transfers import Unchanged
from emdstore.web.text import count_text

if TYPE_CHECKING:
    from emdstore.executions.upload_report import UploadReport

_TOP_FOLDER = Path()


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
        sum_up("\nnext: emdstore run --provider NAME --diagnostic NAME -- PROGRAM ...")
    return 0


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
    own: Own = OWN,
    output: Output = PLAIN,
) -> int:
    """Ship executions: bytes first, then the record, then the rows in the catalog.

    A failure does not stop the others. After an interruption, run it again to continue.

    With --no-catalog no rows are written, and the catalog is not used: `emdstore replay` loads the executions later.
    --pending then means all stopped executions in scratch; what is published already is compared and left alone.
    Without it, --pending names what ran without the catalog, and leaves it alone.

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
    with own.open(no_catalog=no_catalog) as workspace:
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
        if pending and not no_catalog:
            beside = known_only_to_scratch(workspace, selection)
            report = attrs.evolve(
                report, errors=(*report.errors, *beside.errors), skipped={**report.skipped, **beside.skipped}
            )
        told = len(report.statuses) + len(report.skipped) + len(report.errors)
        refuse_unmatched(told, selection, "waiting execution", store=repr(workspace.scratch))
        return _show_report(
            "commit", workspace, report, output, no_catalog=no_catalog, failed=bool(report.skipped) and not pending
        )


def reingest(execution: Folder, /, *, own: Own = OWN, output: Output = PLAIN) -> int:
    """Publish and ingest an execution's set again, as a new execution of the same group. Nothing runs.

    Parameters
    ----------
    execution
        Its fragment, or the end of it.
    """
    with own.open() as workspace:
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
    say_first([f"not committed  {each.fragment}: {each.error}" for each in report.errors], 0, "errors")
    if report.roles:
        counted = [
            (role, counts.uploaded, counts.unchanged, counts.failed) for role, counts in sorted(report.roles.items())
        ]
        show_table(("artifacts", "uploaded", "unchanged", "failed"), counted)
    done = "published" if no_catalog else "committed"
    sum_up(f"{count_text(len(rows), 'execution')} {done} ({size_text(report.bytes)} uploaded); {report.seconds:.1f} s")
    if interrupted:
        note("interrupted: run it again to go on")
    return code


def _record_of(workspace: Workspace, fragment: str) -> ExecutionRecord:
    record = read_record(scoped(workspace.results, fragment))
    assert record is not None, "it was published"
    return record
