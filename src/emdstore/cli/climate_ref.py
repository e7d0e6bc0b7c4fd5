"""Commands for sites that run Climate-REF."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from emdstore.cli.options import (
    ANY,
    PLAIN,
    AcceptLeftOut,
    Access,
    Folder,
    Output,
    open_existing,
    refuse_empty,
    refuse_nothing,
)
from emdstore.cli.progress import set_progress
from emdstore.cli.render import counts_text, note, say, show_document, show_left_out, sum_up
from emdstore.ingestion.replay_report import ReplayInterrupted, ReplayReport


def replay(
    store: str,
    /,
    *,
    database: Annotated[str, Parameter(env_var="REF_DATABASE_URL")],
    prefix: Folder = "",
    refuse_unknown: bool = False,
    accept_left_out: AcceptLeftOut = False,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Load every set of a results store into Climate-REF's own database, without any scratch folder.

    Groups and executions are created if necessary; datasets are linked if the database knows them. What the database
    already has is left alone. A set that cannot be loaded does not stop the others.

    Parameters
    ----------
    store
        The results store.
    database
        Climate-REF's database, a SQLite file or a URL; `ref db migrate` sets one up.
    prefix
        Only sets in this folder.
    refuse_unknown
        Refuse sets of providers and diagnostics that the database does not know, instead of creating them.
    """
    # The store first: a wrong call should not wait for climate-ref, which takes seconds to import.
    opened = open_existing(store, access)
    from emdstore.integrations import climate_ref

    try:
        with set_progress("replay") as on_progress:
            report = climate_ref.replay(
                opened, database, prefix, create_unknown=not refuse_unknown, on_progress=on_progress
            )
    except ReplayInterrupted as interrupted:
        return _show(interrupted.report, output, interrupted=True)
    refuse_empty(report.sets + len(report.left_out), prefix, "set", store=repr(opened))
    if not report.sets and not report.left_out:
        refuse_nothing(opened)
    return _show(report, output, accept_left_out=accept_left_out)


def retractions(
    store: str,
    /,
    *,
    database: Annotated[str, Parameter(env_var="REF_DATABASE_URL")],
    reason: str | None = None,
    by: str | None = None,
    take_back: bool = False,
    dry_run: bool = False,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Retract in a results store the sets of executions that Climate-REF's own database flags as retracted.

    `emdstore climate-ref replay` carries retractions the other way, from the results store into the database.

    Parameters
    ----------
    store
        The results store.
    database
        Climate-REF's database, a SQLite file or a URL. It is only read.
    reason
        Why, for those who used the sets.
    by
        Who retracts them; by default the user and the host.
    take_back
        Also take back the retractions of sets that the database does not flag. Run `climate-ref replay` first, because
        a database does not flag a retraction that it does not know.
    dry_run
        Only show what would be done.
    """
    opened = open_existing(store, access)
    from emdstore.integrations import climate_ref

    said = {} if reason is None else {"reason": reason}
    report = climate_ref.carry_retractions(database, opened, by=by, take_back=take_back, dry_run=dry_run, **said)
    code = 0 if report.ok else 1
    if output.json:
        return show_document("climate-ref retractions", report.as_dict(), code)
    would = "would be " if dry_run else ""
    for fragment in report.retracted:
        say(f"{would}retracted  {fragment}")
    for fragment in report.taken_back:
        say(f"{would}taken back  {fragment}")
    for each in report.failed:
        say(f"failed  {each.fragment}: {each.error}", style="red")
    retracted, back, failed = len(report.retracted), len(report.taken_back), len(report.failed)
    sum_up(f"{retracted} retracted, {back} taken back, {report.unchanged} unchanged, {failed} failed")
    return code


def _show(report: ReplayReport, output: Output, *, interrupted: bool = False, accept_left_out: bool = False) -> int:
    ok = report.ok or (accept_left_out and not report.failed)
    code = 130 if interrupted else 0 if ok else 1
    if output.json:
        return show_document("climate-ref replay", report.as_dict() | {"interrupted": interrupted}, code)
    for each in report.failures:
        say(f"{each.state}  {each.fragment}: {each.error}", style="red")
    for each in report.outcomes:
        for one in each.notes:
            say(f"note  {each.fragment}: {one}", style="yellow")
    show_left_out(report.left_out)
    sum_up(f"{counts_text(report.counts)}; {report.seconds:.1f} s")
    if not report.sets:
        note("no sets were found")
    if interrupted:
        note("interrupted: run it again to go on")
    return code
