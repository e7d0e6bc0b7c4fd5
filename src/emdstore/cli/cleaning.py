"""Commands that give up executions, and remove what is not needed any more."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from emdstore.catalog.rows import Status
from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched
from emdstore.cli.options import PLAIN, Folder, Output, WrongCallError
from emdstore.cli.render import confirmed, note, say, show_document, size_text, sum_up
from emdstore.cli.workspaces import OWN, NoCatalog, Own
from emdstore.selection import Selection
from emdstore.web.text import count_text

if TYPE_CHECKING:
    from emdstore.executions.housekeeping import GcReport
    from emdstore.executions.workspace import Workspace

Age = Annotated[timedelta, Parameter(name="--older-than")]


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
    own: Own = OWN,
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
    with own.open() as workspace:
        if not yes:
            preview = workspace.gc_executions(**what, dry_run=True)
            _refuse_unmatched(preview, selection, workspace)
            code = 0 if preview.ok else 1
            if output.json:
                return show_document("gc", preview.as_dict(), code)
            _show_gc(preview)
            if not preview.removed:
                return code
            if not confirmed("remove it?"):
                note("nothing was removed; give --yes to remove it")
                return code
        report = workspace.gc_executions(**what)
        _refuse_unmatched(report, selection, workspace)
    code = 0 if report.ok else 1
    if output.json:
        return show_document("gc", report.as_dict(), code)
    _show_gc(report)
    return code


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
    sum_up(f"{total} {'would be removed' if report.dry_run else 'removed'}, {len(report.refused)} kept")


def abort(
    *executions: Folder,
    reason: str | None = None,
    own: Own = OWN,
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
    with own.open() as workspace:
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
    own: Own = OWN,
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
    with own.open(no_catalog=no_catalog) as workspace:
        stopped = workspace.recover(older_than=older_than)
        known = set(stopped) - {row.fragment for row in workspace.list_executions(status="stopped")}
    if output.json:
        return show_document("recover", {"recovered": list(stopped)})
    for fragment in stopped:
        say(f"recovered  {fragment}")
    if stopped:
        sum_up(f"next: emdstore commit {'--no-catalog ' if known else ''}--pending")
    else:
        note("nothing was recovered")
    return 0
