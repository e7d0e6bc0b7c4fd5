"""Commands on stores: listing and copying artifacts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from emdstore.cli.bandwidth import parse_bandwidth
from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched, size_of
from emdstore.cli.deleting import Surplus
from emdstore.cli.engines import HERE, Workers
from emdstore.cli.options import (
    ALL_OF_IT,
    ANY,
    PLAIN,
    AcceptLeftOut,
    Access,
    Folder,
    Name,
    Output,
    ReleaseName,
    WrongCallError,
    open_dest,
    open_existing,
    refuse_empty,
    refuse_nothing,
)
from emdstore.cli.progress import transfer_progress
from emdstore.cli.protecting import refuse_protected
from emdstore.cli.render import note, say, say_first, show_document, show_event, show_left_out, size_text, sum_up
from emdstore.selection import Selection
from emdstore.sets.listing import iter_chosen
from emdstore.sets.transfer import transfer
from emdstore.stores import ArtifactInfo, ArtifactStore, LeftOut, SupportsInfo
from emdstore.transfers import TransferInterrupted, TransferReport
from emdstore.transfers.units import Order


def ls(
    store: str,
    prefix: Folder = "",
    /,
    *,
    long: Annotated[bool, Parameter(alias="-l")] = False,
    choosing: Choosing = ANYTHING,
    accept_left_out: AcceptLeftOut = False,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """List the artifacts of a store, one key on a line, in the order of their bytes.

    Things that are not artifacts, such as dangling links, are reported on stderr, and the exit code is 1.

    Parameters
    ----------
    store
        A folder or a URL.
    prefix
        Only this folder of the store.
    long
        With sizes and times.
    """
    opened, selection = open_existing(store, access), choosing.selection(names=choosing.names())
    left_out: list[LeftOut] = []
    listed = _listed(opened, prefix, selection, left_out.append, with_info=long or output.json)
    rows, count = [], 0
    for each in listed:
        count += 1
        if output.json_lines:  # at once, and none is kept
            show_event("ls", "item", {"item": each})
        elif output.json:
            rows.append(each)
        else:
            print(_line(each) if long else each["key"])
    _refuse_nothing_found(count + len(left_out), opened, prefix, selection)
    code = int(bool(left_out) and not accept_left_out)
    if output.json:
        counts = {"items": count, "errors": len(left_out)}
        told = [each.as_dict() for each in left_out]
        return show_document("ls", {"counts": counts, "artifacts": rows, "left_out": told}, code)
    show_left_out(left_out)
    return code


def _line(each: dict[str, Any]) -> str:
    when = f"{each['modified']:%Y-%m-%d %H:%M:%S}" if each["modified"] else "-"
    return f"{each['size']:>14} {when:>19} {each['key']}"


def _refuse_nothing_found(found: int, store: ArtifactStore, prefix: str, selection: Selection) -> None:
    refuse_unmatched(found, selection, "artifact", store=repr(store))
    refuse_empty(found, prefix, "artifact", store=repr(store))
    if not found:
        refuse_nothing(store)


def _listed(
    store: ArtifactStore,
    prefix: str,
    selection: Selection,
    left_out: Callable[[LeftOut], object],
    *,
    with_info: bool,
) -> Iterator[dict[str, Any]]:
    if with_info and not isinstance(store, SupportsInfo):
        raise WrongCallError(f"{store!r} does not tell sizes and times: leave out --long and --json")
    for each in iter_chosen(store, prefix, selection, left_out=left_out):
        if isinstance(each, ArtifactInfo):
            yield {"key": each.key, "size": each.size, "modified": time_of(each.modified)}
        else:
            yield {"key": each}


def time_of(modified: float) -> datetime | None:
    """Return when an artifact was written; None if its store does not tell."""
    return None if math.isnan(modified) else datetime.fromtimestamp(modified, UTC)


def transfer_artifacts(
    source: str,
    dest: str,
    /,
    *keys: Name,
    choosing: Choosing = ANYTHING,
    release: ReleaseName = None,
    dry_run: bool = False,
    unchanged: Literal["stat", "digest", "never"] | None = None,
    checksum: bool = False,
    replace: bool = False,
    max_transfer: Annotated[int | None, Parameter(converter=size_of)] = None,
    bwlimit: str | None = None,
    order: Order = "name",
    delete: bool = False,
    max_delete: int | None = None,
    backup_dir: str | None = None,
    yes: bool = False,
    flush: bool = False,
    state_file: Path | None = None,
    accept_left_out: AcceptLeftOut = False,
    on: Workers = HERE,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Copy artifacts from one store to another: verified, whole or not at all, set by set, and resumable.

    A set's record is written last, and only if all that it names has arrived; a set that is replaced is visibly open
    meanwhile. To resume after an interruption, run it again. Nothing is deleted without --delete.

    If --include, --exclude and the like select only part of a set, it gets no record, unless the rest is there.

    A protected target of the workspace gets nothing by this command: `emdstore promote` checks what it brings.

    Things at the source that are not artifacts, such as dangling links, are reported, and the exit code is 1.

    Parameters
    ----------
    source
        The store to copy from.
    dest
        The store to copy to.
    keys
        Only these artifacts, and everything in these folders.
    dry_run
        Only show what would be copied.
    unchanged
        What need not be copied again: "stat", within sets what their records prove, otherwise what has the same size
        and is not older at the destination; "digest", what has the same bytes, which are read; "never", nothing. By
        default "stat".
    checksum
        Another name of --unchanged digest.
    replace
        Allow a complete set to be replaced with an incomplete or older one.
    max_transfer
        Stop before more than this would be copied (500M, 20G); sets that do not fit are left for the next run.
    bwlimit
        Move no more than so many bytes a second: 20M (of 1000), 512KiB, or a timetable of the local clock, "8:00,2M
        19:00,off Sat-0:00,off". What object stores copy among themselves does not count.
    order
        What to copy first: "name", in the order of names; "smallest"; "largest".
    delete
        Afterwards remove what DST holds and SRC does not, as far as no set and no record of DST has anything to do with
        it; it is shown first, and removed if you agree on a terminal, or with --yes. Sets are never removed.
    max_delete
        Remove nothing if more than so many keys would go; by default more than half of what is there.
    backup_dir
        A store to which what is removed is copied first.
    yes
        Remove it without asking.
    flush
        Return only when everything that was copied survives a power cut.
    state_file
        Keep in this file which sets were compared or copied, so that --unchanged digest and never do not read or copy
        them again after an interruption, unless something was written since. When all has arrived it is removed.
    """
    if checksum and unchanged not in (None, "digest"):
        raise WrongCallError(f"--checksum is --unchanged digest, not --unchanged {unchanged}: give one of them")
    if not delete and (max_delete is not None or backup_dir is not None or yes):
        raise WrongCallError("--max-delete, --backup-dir and --yes are about --delete: give that, too")
    bandwidth = None if bwlimit is None else parse_bandwidth(bwlimit)
    if bandwidth is not None and (on.dask or on.parsl):
        raise WrongCallError("--bwlimit holds back the threads of this process: leave out --dask and --parsl")
    opened, to = open_existing(source, access), open_dest(dest, access)
    refuse_protected(dest, to, access)
    aside = None if backup_dir is None else open_dest(backup_dir, access)
    if backup_dir is not None and aside is not None:
        refuse_protected(backup_dir, aside, access)
    selection, listed = choosing.selection(), choosing.names()
    some = bool(keys) or listed is not None
    named = (*keys, *(listed or ())) if some and ALL_OF_IT not in keys else None
    if release is not None and named is not None:
        raise WrongCallError("a release names its sets: leave out other names")
    if delete and (named is not None or release is not None or not selection.is_all):
        raise WrongCallError("--delete is about all of both stores: leave out names, and what chooses some of them")
    try:
        with on.engine() as executor, transfer_progress("transfer") as on_progress:
            report = transfer(
                opened,
                to,
                named,
                selection=selection,
                release=release,
                unchanged="digest" if checksum else unchanged or "stat",
                replace=replace,
                max_workers=on.workers,
                executor=executor,
                dry_run=dry_run,
                flush=flush,
                order=order,
                max_bytes=max_transfer,
                bandwidth=bandwidth,
                on_progress=on_progress,
                state_file=state_file,
            )
    except TransferInterrupted as interrupted:
        return show_transfer("transfer", interrupted.report, output, interrupted=True)
    if not report.left_out and not report.is_cut:
        refuse_unmatched(len(report.outcomes), selection, "artifact", store=repr(opened))
    if not any(report.counts.values()) and named is None and not report.left_out and not report.is_cut:
        refuse_nothing(opened)
        if not output.json:
            note(f"there is nothing in {opened!r}")
    if not delete:
        return show_transfer("transfer", report, output, accept_left_out=accept_left_out)
    if not report.ok:
        note("nothing is removed, because not all has arrived")
        return show_transfer("transfer", report, output)
    removal = Surplus(opened, to, aside, max_delete=max_delete, only_show=dry_run)
    if (yes and not dry_run) or (not output.json and removal.ask()):
        removal.remove()
    return show_transfer("transfer", report, output, removal=removal)


def show_transfer(
    command: str,
    report: TransferReport,
    output: Output,
    *,
    interrupted: bool = False,
    accept_left_out: bool = False,
    removal: Surplus | None = None,
) -> int:
    """Show what a transfer did (until it was interrupted), and return the exit code."""
    ok = report.ok or (accept_left_out and not report.failures and not report.is_cut)
    code = 130 if interrupted else 0 if ok and (removal is None or removal.ok) else 1
    if output.json:
        removed = {} if removal is None else {"delete": removal.as_dict()}
        return show_document(command, report.as_dict() | removed | {"interrupted": interrupted}, code)
    if report.dry_run:
        for each in report.outcomes:
            if each.outcome == "copied":
                say(f"would copy  {each.key}" + (f"  ({size_text(each.size)})" if each.size is not None else ""))
    say_first([f"{each.outcome}  {each.key}: {each.error}" for each in report.failures], 0, "failures")
    show_left_out(report.left_out)
    copied = "would be copied" if report.dry_run else "copied"
    parts = [f"{report.counts['copied']} {copied} ({size_text(report.bytes_copied)})"]
    parts += [f"{count} {outcome}" for outcome, count in report.counts.items() if count and outcome != "copied"]
    parts += [f"{len(report.left_out)} left out"] if report.left_out else []
    sum_up(f"{', '.join(parts)}; {report.seconds:.1f} s")
    if report.sets:
        words = Counter(each.outcome for each in report.sets)
        sum_up("sets: " + ", ".join(f"{words[word]} {copied if word == 'copied' else word}" for word in sorted(words)))
    if interrupted:
        note("interrupted: run it again to go on")
    if removal is not None:
        removal.show()
    if report.is_cut:
        note("the next is more than --max-transfer allows: run it again to go on, or allow more")
    return code
