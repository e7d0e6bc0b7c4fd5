"""Commands on the sets of a results store: listing, repairing and retracting them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from cyclopts import Parameter

from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched
from emdstore.cli.options import (
    ANY,
    PLAIN,
    AcceptLeftOut,
    Access,
    Folder,
    NothingMatchedError,
    Output,
    WrongCallError,
    open_existing,
    refuse_empty,
)
from emdstore.cli.render import counts_text, note, say, show_document, show_left_out, show_table, size_text, sum_up
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores
from emdstore.selection import Selection
from emdstore.sets.listing import list_sets
from emdstore.sets.repair import repair
from emdstore.sets.retraction import retract, unretract
from emdstore.stores import ArtifactStore
from emdstore.stores.left_out import FirstLeftOut
from emdstore.web.text import count_text

Results = Annotated[str | None, Parameter(help="The results store; by default the workspace's.")]

_LATEST = "latest"
_NOT_READ = ("unreadable", "newer-schema")


def show_sets(
    store: str,
    prefix: Folder = "",
    /,
    *,
    choosing: Choosing = ANYTHING,
    retracted: bool = False,
    accept_left_out: AcceptLeftOut = False,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """List the sets of a results store, each with its state, time, size and origin.

    published: complete. failed: the run itself failed. publishing: its bytes are changing, or a writer was stopped.
    incomplete: something is missing for good. changed: its bytes do not match its record. bare: it has no record.
    unreadable, newer-schema: it cannot be read, which is a failure.

    Only artifacts that are newer than their record are hashed; `emdstore verify` hashes everything.

    Parameters
    ----------
    store
        The results store.
    prefix
        Only the sets in this folder.
    retracted
        Only sets that were retracted.
    """
    opened, selection = open_existing(store, access), choosing.of_sets()
    counts: Counter[str] = Counter()
    found = 0
    shown = []
    left_out = FirstLeftOut()
    for each in list_sets(opened, prefix, selection=selection, left_out=left_out.note):
        found += 1
        if retracted and each.retraction is None:
            continue
        counts[each.state] += 1
        shown.append(each)
    refuse_unmatched(found, selection, "set", store=repr(opened))
    refuse_empty(found, prefix, "set", store=repr(opened))
    refused = bool(left_out.kept) and not accept_left_out
    code = 1 if refused or any(counts[name] for name in _NOT_READ) else 0
    if output.json:
        told = [each.as_dict() for each in left_out.kept]
        return show_document("sets", {"counts": dict(counts), "sets": shown, "left_out": told}, code)
    if shown:
        rows = [(each.state, each.time, size_text(each.size), each.origin, each.fragment) for each in shown]
        show_table(("state", "time", "size", "origin", "fragment"), rows)
    for each in shown:
        if each.state not in ("published", "bare") and each.reason:
            note(each.reason if each.fragment in each.reason else f"{each.fragment}: {each.reason}")
        if each.retraction is not None:
            instead = f"; use {each.retraction.successor}" if each.retraction.successor else ""
            note(f"{each.fragment} is retracted: {each.retraction.reason}{instead}")
    show_left_out(left_out.kept)
    sum_up(f"{count_text(len(shown), 'set')}: {counts_text(counts)}" if shown else "no sets")
    return code


def repair_set(
    store: str,
    fragment: Folder,
    /,
    *,
    source: Annotated[str, Parameter(name="--from")],
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Mend a damaged set from a good copy of its bytes.

    Every artifact is hashed. A missing or damaged artifact is copied from the other store only if it has the recorded
    digest there. The record does not change.

    Parameters
    ----------
    store
        The results store.
    fragment
        The set's folder in it.
    source
        Another site's store, a backup or scratch: with the set in the same folder, or the set's folder itself.
    """
    report = repair(open_existing(store, access), fragment, source=open_existing(source, access))
    code = 0 if report.ok else 1
    if output.json:
        return show_document("repair", report.as_dict(), code)
    for key in report.repaired:
        say(f"repaired  {key}")
    for each in report.not_repaired:
        say(f"not repaired  {each.key}: {each.reason}", style="red")
    sum_up(f"{report.fragment}: {len(report.repaired)} repaired, {len(report.not_repaired)} not; it is {report.state}")
    return code


def retract_set(
    *fragments: Folder,
    reason: str,
    dataset: tuple[str, ...] = (),
    choosing: Choosing = ANYTHING,
    successor: str | None = None,
    dry_run: bool = False,
    by: str | None = None,
    results: Results = None,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Say that published sets are not to be used any more. Their records and artifacts stay as they are.

    Sets are named, or chosen: by what they read (--dataset), by what they are (--provider, --older and so on), or both.

    The retraction is kept beside each record, and travels with the set. Queries, exports and pages leave the sets out,
    unless they are asked for retracted sets.

    emdstore retract pmp/enso/historical/1 --reason "wrong sign" --successor pmp/enso/historical/2

    emdstore retract --dataset 'CMIP6.*.ACCESS-ESM1-5.*' --reason "the model data were withdrawn"

    Parameters
    ----------
    fragments
        The sets' folders in the results store.
    reason
        Why, for those who used them.
    dataset
        All sets that read this dataset, by the workspace's catalog: its name, PID or DOI; `*` stands for any text. May
        be given several times; `emdstore affected` shows which they are.
    successor
        The set to use instead of a single one; "latest" for the latest set of the execution group of each.
    dry_run
        Only tell which sets would be retracted.
    by
        Who says so; by default the user and the host.
    """
    chosen = choosing.of_sets()
    if bool(fragments) == bool(dataset or not chosen.is_all):
        raise WrongCallError("name the sets to retract, or choose them: by --dataset, --provider, --older and so on")
    if successor not in (None, _LATEST) and len(fragments) != 1:
        raise WrongCallError(f"--successor is for a single set, or {_LATEST!r}")
    if dataset and results is not None:
        raise WrongCallError("--dataset asks the catalog of a workspace, which --results has not: name the sets")
    wanted = list(fragments)
    if dataset:
        with own.open() as workspace:
            wanted = [row.fragment for row in workspace.catalog.executions(dataset=list(dataset)) if row.state]
        if not wanted:
            raise NothingMatchedError(f"no set that is not retracted is known to have read {', '.join(dataset)}")
    said: list[dict[str, Any]] = []
    with _results_store(results, own, wanted) as store:
        if not chosen.is_all:
            listed = [each.fragment for each in list_sets(store, selection=chosen) if each.retraction is None]
            wanted[:] = [each for each in listed if not dataset or each in wanted]
            if not wanted:
                raise NothingMatchedError(f"no set of {store!r} that is not retracted matches {chosen}")
        instead = _successors(store, wanted) if successor == _LATEST else dict.fromkeys(wanted, successor)
        for fragment in wanted:
            if dry_run:
                said.append({"fragment": fragment, "retraction": None})
                if not output.json:
                    say(f"would be retracted  {fragment}")
                continue
            try:
                word = retract(store, fragment, reason=reason, successor=instead[fragment], by=by)
            except ValueError as error:
                raise WrongCallError(str(error)) from error
            said.append({"fragment": fragment, "retraction": word})
            if not output.json:
                use = f"; use {word.successor}" if word.successor else ""
                say(f"{fragment} is retracted: {reason}{use}")
    return show_document("retract", {"sets": said}) if output.json else 0


def _successors(store: ArtifactStore, fragments: Sequence[str]) -> dict[str, str | None]:
    """Return the latest set of the group of each set; None where there is none, or it is to go with it."""
    sets = {each.fragment: each for each in list_sets(store)}
    latest = {
        (each.provider, each.diagnostic, each.group): each.fragment
        for each in list_sets(store, selection=Selection(latest=True))
        if each.fragment not in fragments
    }
    of = {name: (sets[name].provider, sets[name].diagnostic, sets[name].group) for name in fragments if name in sets}
    return {name: latest.get(of[name]) if name in of else None for name in fragments}


def unretract_set(
    fragment: Folder,
    /,
    *,
    reason: str = "",
    by: str | None = None,
    results: Results = None,
    own: OwnAndStores = OWN_AND_STORES,
    output: Output = PLAIN,
) -> int:
    """Take a set's retraction back.

    Parameters
    ----------
    fragment
        The set's folder in the results store.
    reason
        Why, for those who know of the retraction.
    by
        Who says so; by default the user and the host.
    """
    with _results_store(results, own, [fragment]) as store:
        before = unretract(store, fragment, reason=reason, by=by)
    if output.json:
        return show_document("unretract", {"fragment": fragment, "taken_back": before})
    said = "was not retracted" if before is None else f"is not retracted any more; the reason was: {before.reason}"
    say(f"{fragment} {said}")
    return 0


@contextmanager
def _results_store(place: str | None, own: OwnAndStores, fragments: Sequence[str]) -> Iterator[ArtifactStore]:
    """Open the results store in which sets are retracted, and then update the workspace's catalog."""
    if place is not None:
        yield open_existing(place, own.reach)
        note("catalogs learn of it by `emdstore replay`")
        return
    from emdstore.ingestion.replay import replay

    with own.open(instead="--results") as workspace:
        try:
            yield workspace.results
        finally:  # also for those that were reached before one failed
            for fragment in fragments:
                report = replay(workspace.results, workspace.catalog, fragment, vocabulary=workspace.vocabulary)
                for each in report.failures:
                    note(f"the catalog could not take {each.fragment} as it is now: {each.error}")
