"""Commands on executions' results: publishing a set, checking it, loading the catalog, looking at what it holds."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
from cyclopts import Parameter

from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched
from emdstore.cli.engines import HERE, Workers
from emdstore.cli.options import (
    ANY,
    PLAIN,
    AcceptLeftOut,
    Access,
    CatalogURL,
    Folder,
    LocalName,
    Output,
    ReleaseName,
    WrongCallError,
    fragment_of,
    open_catalog,
    open_dest,
    open_existing,
    refuse_empty,
    refuse_nothing,
)
from emdstore.cli.progress import set_progress, transfer_progress
from emdstore.cli.protecting import refuse_protected
from emdstore.cli.render import (
    counts_text,
    note,
    say_first,
    show_document,
    show_fields,
    show_left_out,
    show_table,
    size_text,
    sum_up,
)
from emdstore.cli.stores import show_transfer
from emdstore.cli.watch import watch as watch_store
from emdstore.emds import load_vocabulary
from emdstore.errors import LookRefusedError, redact_url
from emdstore.ingestion.replay_report import ReplayInterrupted, ReplayReport
from emdstore.keys import join_key, validate_key
from emdstore.selection import Selection
from emdstore.sets.decision import StatusDecision, resolve_status
from emdstore.sets.events import announce
from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.outcome import MaterializeOutcome
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord, read_record
from emdstore.sets.releasing import released_around
from emdstore.sets.result import METRIC_NAME, OUTPUT_NAME, SERIES_NAME, ExecutionResult
from emdstore.sets.verify import HARMLESS, VerifyInterrupted, VerifyReport, verify
from emdstore.stores import ArtifactStore
from emdstore.transfers import TransferInterrupted, Unchanged
from emdstore.web.text import count_text

if TYPE_CHECKING:
    from emdstore.catalog.references import Conflict

    pass


def materialize(
    source: str,
    dest: str,
    /,
    *,
    metric: str | None = None,
    output_bundle: Annotated[str | None, Parameter(name="--output")] = None,
    series: str | None = None,
    failed: bool = False,
    retryable: bool = False,
    output_directory: LocalName | None = None,
    fragment: Folder | None = None,
    provider: str | None = None,
    diagnostic: str | None = None,
    group: str | None = None,
    description: str | None = None,
    record: Annotated[bool, Parameter(negative="--no-record")] = True,
    unchanged: Unchanged = "stat",
    replace: bool = False,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Promote one execution's artifact set from scratch to results, and publish it.

    The log goes first, then the files that the output bundle names, then the bundles, and the record last. If something
    cannot be shipped, the set stays unpublished: run the command again to continue.

    Parameters
    ----------
    source
        The execution's own folder in scratch.
    dest
        The execution's own folder in results.
    metric
        The metric bundle's name; by default diagnostic.json, if the run did not fail and that is there.
    output_bundle
        The output bundle's name; by default output.json, likewise.
    series
        The series file's name; by default series.json, likewise.
    failed
        The run failed: only its log is promoted.
    retryable
        The failed run may succeed another time.
    output_directory
        Where the run took place, if not in SOURCE; absolute names in its bundles are relative to it.
    fragment
        The execution's path below the root of results; by default the last four segments of DEST.
    provider
        The diagnostic's provider; by default the fragment's first segment.
    diagnostic
        The diagnostic; by default the fragment's second segment.
    group
        The group of input datasets; by default the segments between diagnostic and execution.
    description
        What the run is about, in a sentence.
    record
        Whether to publish the set by writing its record. It is withheld from a set that could not be shipped.
    unchanged
        What need not be copied again: "stat", what is proved to have the same bytes by the record that is there or by
        reading; "digest", what has the same bytes, which are all read; "never", nothing.
    replace
        Allow this set to replace a complete published one even if it is incomplete.
    """
    if retryable and not failed:
        raise WrongCallError("--retryable is about a failed run: give --failed too")
    run, results = open_existing(source, access), open_dest(dest, access)
    refuse_protected(dest, results, access)
    published = None
    if fragment is None:
        with contextlib.suppress(LookRefusedError):
            published = read_record(results)
    identity = ExecutionRecord.at(
        validate_key(fragment or (published.fragment if published else fragment_of(dest))),
        **{"description": description}
        | {
            name: value
            for name, value in (("provider", provider), ("diagnostic", diagnostic), ("group", group))
            if value
        },
    )

    def usual(name: str) -> str | None:
        return name if not failed and run.exists(name) else None

    result = ExecutionResult(
        successful=not failed,
        metric_bundle_filename=metric or usual(METRIC_NAME),
        output_bundle_filename=output_bundle or usual(OUTPUT_NAME),
        series_filename=series or usual(SERIES_NAME),
        retryable=retryable,
        output_directory=output_directory,
    )
    # Releases are kept where the whole store begins; a folder of another name is part of none.
    above = dest.rstrip("/").removesuffix("/" + identity.fragment)
    whole = None if above == dest.rstrip("/") else open_dest(above, access)
    said = "left out"
    try:
        with transfer_progress("materialize") as on_progress:
            how: dict[str, Any] = {"unchanged": unchanged, "replace": replace, "on_progress": on_progress}
            if record:
                refuse = None if replace else released_around(dest, results, identity.fragment, whole)
                done = publish_set(identity, result, source=run, dest=results, before_replacing=refuse, **how)
                outcome, decision = done.outcome, done.decision
                if whole is not None:
                    announce(whole, done.events())
                said = "withheld" if done.record is None else "written" if done.record_written else "unchanged"
            else:
                how |= {"fragment": identity.fragment, "results": whole}
                outcome = materialize_outputs(result, source=run, dest=results, **how)
                decision = resolve_status(result, outcome)
    except TransferInterrupted as interrupted:
        return show_transfer("materialize", interrupted.report, output, interrupted=True)
    as_told = decision.status == "uploaded" or (failed and outcome.log_copied and decision.status == "failed")
    code = 0 if as_told else 1
    if output.json:
        document = {"fragment": identity.fragment, "decision": decision, "record": said, "outcome": outcome}
        return show_document("materialize", document, code)
    _show_materialized(identity.fragment, outcome, decision, said)
    return code


def _show_materialized(fragment: str, outcome: MaterializeOutcome, decision: StatusDecision, record: str) -> None:
    show_fields(
        {
            "fragment": fragment,
            "status": decision.status,
            "failure": decision.failure,
            "reason": decision.reason,
            "log": "missing" if outcome.log_missing else "unchanged" if outcome.log_unchanged else "copied",
            "artifacts": f"{len(outcome.artifacts_copied)} copied, {len(outcome.artifacts_unchanged)} unchanged",
            "record": record,
        }
    )
    problems = [("missing", key, "") for key in outcome.artifacts_missing]
    problems += [("rejected", name, "") for name in outcome.artifacts_rejected]
    problems += [("failed", each.key, str(each.error)) for each in outcome.artifacts_failed]
    problems += [("unreadable", each.key, str(each.error)) for each in outcome.artifacts_unreadable]
    problems += [("warning", each.place or "", each.message) for each in outcome.warnings]
    if problems:
        show_table(("finding", "artifact", "detail"), problems)


def replay_store(
    store: str,
    /,
    *,
    catalog: CatalogURL,
    prefix: Folder = "",
    choosing: Choosing = ANYTHING,
    vocabulary: Path | None = None,
    incomplete: bool = False,
    replace: bool = False,
    prune: bool = False,
    prune_any: bool = False,
    watch: float | None = None,
    state_file: Path | None = None,
    accept_left_out: AcceptLeftOut = False,
    on: Workers = HERE,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Load every set of a results store into the catalog: rebuild it, or bring it up to date.

    What the catalog already has is not read again. A set that cannot be ingested does not stop the others.

    With --watch it runs until SIGTERM (which is not a failure) or Ctrl-C, and prints a line after each round (with
    --json, a JSON document on one line). If the store or database cannot be reached, this is reported, and the next
    round tries again.

    Parameters
    ----------
    store
        The results store.
    prefix
        Only sets in this folder.
    vocabulary
        A controlled vocabulary (YAML); what it does not know is stored and reported as a warning.
    incomplete
        Also load sets without a record whose bundles name missing files.
    replace
        Let failed, incomplete and older sets replace complete publications in the catalog.
    prune
        Remove the rows of sets that are gone from the store; refused if no set is found or more than half would be
        removed.
    prune_any
        Remove any number of rows.
    watch
        Replay repeatedly, with this many seconds in between.
    state_file
        After an interruption the same call goes on, because the catalog keeps what is loaded. Of a store whose
        listing tells no versions, each record is read to see that: this file keeps which need not be read again.
    """
    from emdstore.ingestion.replay import replay as replay_sets  # with SQLAlchemy, which other commands do not need

    terms = load_vocabulary(vocabulary) if vocabulary is not None else None
    selection = choosing.of_sets()
    if not selection.is_all and (prune or prune_any):
        raise WrongCallError("--prune is about all sets of the store: leave out what chooses some of them")

    def replay_once(executor: Executor | None) -> ReplayReport:
        opened = open_existing(store, access)
        with open_catalog(catalog, create=True) as database, set_progress("replay") as on_progress:
            return replay_sets(
                opened,
                database,
                prefix,
                selection=selection,
                vocabulary=terms,
                incomplete=incomplete,
                replace=replace,
                prune="any" if prune_any else prune,
                executor=executor,
                on_progress=on_progress,
                state_file=state_file,
            )

    try:
        with on.executor() as executor:
            if watch is not None:
                return watch_store(lambda: replay_once(executor), watch, output, accept_left_out=accept_left_out)
            report = replay_once(executor)
    except ReplayInterrupted as interrupted:
        return _show_replayed(interrupted.report, output, interrupted=True)
    refuse_unmatched(report.sets + len(report.left_out), selection, "set", store=redact_url(store))
    refuse_empty(report.sets + len(report.left_out), prefix, "set", store=redact_url(store))
    if not report.sets and not report.left_out:
        refuse_nothing(open_existing(store, access))
    return _show_replayed(report, output, accept_left_out=accept_left_out)


def _show_replayed(
    report: ReplayReport, output: Output, *, interrupted: bool = False, accept_left_out: bool = False
) -> int:
    ok = report.ok or (accept_left_out and not report.failed)
    code = 130 if interrupted else 0 if ok else 1
    if output.json:
        return show_document("replay", report.as_dict() | {"interrupted": interrupted}, code)
    failures = [f"{each.state}  {each.fragment}: {each.error}" for each in report.failures]
    say_first(failures, report.failed, "failures")
    show_left_out(report.left_out)
    sum_up(f"{counts_text(report.counts)}; {report.seconds:.1f} s")
    if not report.sets:
        note("no sets were found")
    if interrupted:
        note("interrupted: run it again to go on")
    return code


def verify_store(
    store: str,
    prefix: Folder = "",
    /,
    *,
    choosing: Choosing = ANYTHING,
    release: ReleaseName = None,
    references: bool = False,
    state_file: Path | None = None,
    accept_left_out: AcceptLeftOut = False,
    on: Workers = HERE,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Hash every artifact again and compare it with its record. Nothing is changed.

    Corrupt, missing and unreadable artifacts are failures, and so are sets that are being published, and unreadable
    records. Stale files, which no record names any more, sets without a record and sets whose record says that they are
    incomplete are shown, but are not failures.

    Parameters
    ----------
    store
        The results store.
    prefix
        Only the sets in this folder.
    state_file
        Keep in this file which sets are proved, and do not read them again after an interruption, or after a repair.
        When all is well it is removed, and the next call begins anew.
    references
        Also load all values, and name references that are not the same in all executions of a diagnostic, which is a
        failure.
    """
    opened, selection = open_existing(store, access), choosing.of_sets()
    try:
        with on.executor() as executor, set_progress("verify") as on_progress:
            report = verify(
                opened,
                prefix,
                selection=selection,
                release=release,
                executor=executor,
                on_progress=on_progress,
                state_file=state_file,
            )
    except VerifyInterrupted as interrupted:
        return _show_verified(interrupted.report, output, interrupted=True)
    refuse_unmatched(report.sets + len(report.left_out), selection, "set", store=repr(opened))
    refuse_empty(report.sets + len(report.left_out), prefix, "set", store=repr(opened))
    if not report.sets and not report.left_out:
        refuse_nothing(opened)
    conflicts = _conflicting_references(opened, prefix, selection, release) if references else []
    return _show_verified(report, output, conflicts, accept_left_out=accept_left_out)


def _conflicting_references(
    store: ArtifactStore, prefix: str, selection: Selection, release: str | None
) -> list[Conflict]:
    from emdstore.catalog import Catalog
    from emdstore.catalog.references import REFERENCE, conflicting_references
    from emdstore.ingestion.replay import replay as replay_sets

    filters: dict[str, Any] = {} if release is None else {"release": release}
    with Catalog("sqlite://") as values:
        replay_sets(store, values, prefix, selection=selection)
        scalars, series = values.scalars(**filters), values.series(**filters)
        return conflicting_references(scalars.where("kind", "==", REFERENCE), series.where("kind", "==", REFERENCE))


def _show_verified(
    report: VerifyReport,
    output: Output,
    conflicts: Sequence[Conflict] = (),
    *,
    interrupted: bool = False,
    accept_left_out: bool = False,
) -> int:
    ok = (report.ok or (accept_left_out and attrs.evolve(report, left_out=()).ok)) and not conflicts
    code = 130 if interrupted else 0 if ok else 1
    if output.json:
        return show_document("verify", report.as_dict() | {"interrupted": interrupted, "references": conflicts}, code)
    say_first([f"reference  {conflict}" for conflict in conflicts], len(conflicts), "references")
    findings = sum(report.counts.values())
    for harm, style in ((True, "red"), (False, None)):
        some = [each for each in report.problems if (each.finding not in HARMLESS) == harm]
        count = sum(number for finding, number in report.counts.items() if (finding not in HARMLESS) == harm)
        lines = [f"{each.finding}  {join_key(each.fragment, each.key)}: {each.detail}" for each in some]
        say_first(lines, count, "findings", style=style)
    show_left_out(report.left_out)
    artifacts, sets = count_text(report.artifacts, "artifact"), count_text(report.sets, "set")
    whole = f"{artifacts} ({size_text(report.bytes)}) in {sets} as recorded"
    sum_up(f"{whole}, {count_text(findings, 'finding')}; {report.seconds:.1f} s")
    if states := [f"{count} {state}" for state, count in report.states.items() if count]:
        retracted = f"; {report.retracted} of them retracted" if report.retracted else ""
        sum_up(f"sets: {', '.join(states)}{retracted}")
    if not report.sets:
        note("no sets were found")
    if interrupted:
        note("interrupted: what is above was checked; with --state-file the next call goes on from there")
    return code
