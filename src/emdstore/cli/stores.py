"""Commands on stores: what is there, and moving it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from emdstore.cli.engines import HERE, Workers
from emdstore.cli.options import (
    ANY,
    PLAIN,
    Access,
    Folder,
    Output,
    WrongCallError,
    open_dest,
    open_existing,
    refuse_empty,
    refuse_nothing,
)
from emdstore.cli.render import (
    note,
    say,
    show_document,
    size_text,
    transfer_progress,
)
from emdstore.sets.transfer import transfer
from emdstore.stores import ArtifactStore, SupportsInfo
from emdstore.transfers import TransferInterrupted, TransferReport


def ls(
    store: str,
    prefix: Folder = "",
    /,
    *,
    long: Annotated[bool, Parameter(alias="-l")] = False,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """List the artifacts of a store, one key on a line, in the order of their bytes.

    Parameters
    ----------
    store
        A folder or a URL.
    prefix
        Only this folder of the store.
    long
        With sizes and times.
    """
    opened = open_existing(store, access)
    listed = _listed(opened, prefix, with_info=long or output.json)
    if output.json:
        rows = list(listed)
        refuse_empty(len(rows), prefix, "artifact", store=repr(opened))
        if not rows:
            refuse_nothing(opened)
        return show_document("ls", {"artifacts": rows})
    count = 0
    for each in listed:
        count += 1
        if not long:
            print(each["key"])
            continue
        when = f"{each['modified']:%Y-%m-%d %H:%M:%S}" if each["modified"] else "-"
        print(f"{each['size']:>14} {when:>19} {each['key']}")
    refuse_empty(count, prefix, "artifact", store=repr(opened))
    if not count:
        refuse_nothing(opened)
    return 0


def _listed(store: ArtifactStore, prefix: str, *, with_info: bool) -> Iterator[dict[str, Any]]:
    if not with_info:
        return ({"key": key} for key in store.iter_keys(prefix))
    if not isinstance(store, SupportsInfo):
        raise WrongCallError(f"{store!r} does not tell sizes and times: leave out --long and --json")
    return (
        {"key": info.key, "size": info.size, "modified": _time_of(info.modified)} for info in store.iter_info(prefix)
    )


def _time_of(modified: float) -> datetime | None:
    """Return when an artifact was written; None where its store does not tell."""
    return None if math.isnan(modified) else datetime.fromtimestamp(modified, UTC)


def transfer_artifacts(
    source: str,
    dest: str,
    /,
    *keys: str,
    dry_run: bool = False,
    unchanged: Literal["stat", "digest", "never"] = "stat",
    replace: bool = False,
    flush: bool = False,
    on: Workers = HERE,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Copy artifacts from one store to another: verified, whole or not at all, set by set, and resumable.

    A set's record is written last, and only if all that it names has arrived; a set that is replaced is visibly open
    meanwhile. To resume after an interruption, run it again. Nothing is deleted.

    Parameters
    ----------
    source
        The store to copy from.
    dest
        The store to copy to.
    keys
        Only these artifacts, instead of all.
    dry_run
        Only tell what would be copied.
    unchanged
        What need not be copied again: "stat", within sets what their records prove, otherwise what has the same size
        and is not older at the destination; "digest", what has the same bytes, for which they are read; "never",
        nothing.
    replace
        Let a complete set be replaced by one that is not complete, or by an older one.
    flush
        Return only when what was copied survives a power cut.
    """
    opened, to = open_existing(source, access), open_dest(dest, access)
    try:
        with on.engine() as executor, transfer_progress("transfer") as on_progress:
            report = transfer(
                opened,
                to,
                keys or None,
                unchanged=unchanged,
                replace=replace,
                max_workers=on.workers,
                executor=executor,
                dry_run=dry_run,
                flush=flush,
                on_progress=on_progress,
            )
    except TransferInterrupted as interrupted:
        return show_transfer("transfer", interrupted.report, output, interrupted=True)
    if not any(report.counts.values()) and not keys:
        refuse_nothing(opened)
        if not output.json:
            note(f"there is nothing in {opened!r}")
    return show_transfer("transfer", report, output)


def show_transfer(command: str, report: TransferReport, output: Output, *, interrupted: bool = False) -> int:
    """Show what a transfer did, or did until it was interrupted, and return the exit code."""
    code = 130 if interrupted else 0 if report.ok else 1
    if output.json:
        return show_document(command, report.as_dict() | {"interrupted": interrupted}, code)
    if report.dry_run:
        for each in report.outcomes:
            if each.outcome == "copied":
                say(f"would copy  {each.key}" + (f"  ({size_text(each.size)})" if each.size is not None else ""))
    for each in report.failures:
        say(f"{each.outcome}  {each.key}: {each.error}", style="red")
    for left in report.left_out:
        say(f"left out  {left.name}: {left.reason}", style="red")
    copied = "would be copied" if report.dry_run else "copied"
    parts = [f"{report.counts['copied']} {copied} ({size_text(report.bytes_copied)})"]
    parts += [f"{count} {outcome}" for outcome, count in report.counts.items() if count and outcome != "copied"]
    say(f"{', '.join(parts)}; {report.seconds:.1f} s")
    if report.sets:
        words = Counter(each.outcome for each in report.sets)
        say("sets: " + ", ".join(f"{words[word]} {copied if word == 'copied' else word}" for word in sorted(words)))
    if interrupted:
        note("interrupted: run it again to go on")
    return code
