"""Commands about the state of a workspace: what waits, an execution's log, the history of a group."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from typing import Annotated, Any

from cyclopts import Parameter

from emdstore import system
from emdstore.catalog import ExecutionRow
from emdstore.catalog.history import history_of, when
from emdstore.cli.options import (
    PLAIN,
    Folder,
    NothingMatchedError,
    Output,
)
from emdstore.cli.render import note, say, show_document, show_table, size_text, sum_up
from emdstore.cli.workspaces import OWN, OWN_CATALOG, Own, OwnCatalog
from emdstore.executions.process import is_gone
from emdstore.executions.workspace import Workspace
from emdstore.sets.result import LOG_NAME
from emdstore.stores import ArtifactStore, SupportsPath
from emdstore.stores.views import scoped
from emdstore.web.text import count_text

_SHOWN = 20
_LIVE = ("created", "running")
_FOLLOW_SECONDS = 0.5


def status(*, own: Own = OWN, output: Output = PLAIN) -> int:
    """Tell where the workspace stands: what runs, waits and failed, who holds it, the disks, and the last replay.

    Exit code 1 if something failed to upload, or is held by a process that is gone: commit it again.
    """
    with own.open() as workspace:
        rows = list(workspace.list_executions())
        disks, replayed = _disks(workspace), workspace.catalog.replays.last()
    counts = Counter(row.status for row in rows)
    concerns = [(row, word) for row in rows if (word := _concern(row)) is not None]
    code = int(any(is_failure for _, (_, is_failure) in concerns))
    if output.json:
        told = [
            {"fragment": row.fragment, "status": row.status, "concern": word, "owner": row.owner, "reason": _why(row)}
            for row, (word, _) in concerns
        ]
        document = {"counts": dict(counts), "executions": told, "disks": disks, "last_replay": replayed}
        return show_document("status", document, code)
    say(", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "no executions")
    if concerns:
        shown = [(row.fragment, row.status, word, _why(row)) for row, (word, _) in concerns[:_SHOWN]]
        show_table(("execution", "status", "what", "why"), shown)
    if len(concerns) > _SHOWN:
        note(f"{len(concerns) - _SHOWN} more: `emdstore list` shows them")
    for disk in disks:
        full = f"{100 * (1 - disk['free'] / disk['total']):.0f}% full" if disk["total"] else "of unknown size"
        say(f"{disk['what']}: {disk['place']}: {full}, {size_text(disk['free'])} free of {size_text(disk['total'])}")
    if replayed is not None:
        sets = f"{count_text(replayed.sets, 'set')}{f' in {replayed.prefix}' if replayed.prefix else ''}"
        some = "" if replayed.whole else ", chosen ones only"
        say(f"last replay: {replayed.at:%Y-%m-%d %H:%M:%S %Z}, {sets}, {replayed.failed} not loaded{some}")
    if counts["stopped"] or counts["upload_failed"]:
        sum_up("next: emdstore commit --pending")
    return code


def _concern(row: ExecutionRow) -> tuple[str, bool] | None:
    """Return what there is to say of an execution that is not done with, and whether it is a failure."""
    if row.status == "upload_failed":
        return "failed to upload", True
    if row.status == "pending_upload":
        gone = is_gone(row.owner)
        return ("left behind by a process that is gone", True) if gone else ("is being committed", False)
    if row.status in _LIVE:
        return ("runs" if row.status == "running" else "was started"), False
    if row.status == "stopped":
        return "waits to be committed", False
    if row.status == "failed":
        return "incomplete" if row.failure == "result" else "failed", False
    return None


def _why(row: ExecutionRow) -> str | None:
    return row.error or row.cause or row.reason or (f"held by {row.owner}" if row.owner else None)


def _disks(workspace: Workspace) -> list[dict[str, Any]]:
    """Return how full the disks of a workspace are, as far as they are disks."""
    found = []
    places: dict[str, ArtifactStore] = {"scratch": workspace.scratch, "results": workspace.results}
    for what, store in places.items():
        if isinstance(store, SupportsPath) and (path := store.local_path()).exists():
            disk = shutil.disk_usage(path)
            found.append({"what": what, "place": str(path), "total": disk.total, "free": disk.free})
    return found


def logs(
    execution: Folder,
    /,
    *,
    follow: Annotated[bool, Parameter(alias="-f")] = False,
    own: Own = OWN,
    output: Output = PLAIN,
) -> int:
    """Write an execution's log to stdout: from scratch while it is there, otherwise from the results store.

    Parameters
    ----------
    execution
        Its fragment, or the end of it, or its id.
    follow
        Go on as it grows, until the execution has stopped.
    """
    with own.open() as workspace:
        fragment = workspace.catalog.execution(execution).fragment
        folders = [scoped(store, fragment) for store in (workspace.scratch, workspace.results)]
        folder = next((each for each in folders if each.exists(LOG_NAME)), None)
        if folder is None:
            raise NothingMatchedError(f"{fragment!r} has no {LOG_NAME} in scratch or in results", key=fragment)
        data = folder.read_bytes(LOG_NAME)
        if output.json:
            text = data.decode(errors="backslashreplace")
            return show_document("logs", {"fragment": fragment, "place": repr(folder), "log": text})
        _write(data)
        while follow and workspace.catalog.execution(fragment).status in _LIVE:
            system.current().sleep(_FOLLOW_SECONDS)
            data = _write_more(folder, data)
        if follow:
            _write_more(folder, data)
    return 0


def _write_more(folder: ArtifactStore, before: bytes) -> bytes:
    now = folder.read_bytes(LOG_NAME)
    _write(now[len(before) :] if now.startswith(before) else now)
    return now


def _write(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def history(
    group: Folder,
    /,
    *,
    catalog: OwnCatalog = OWN_CATALOG,
    output: Output = PLAIN,
) -> int:
    """Tell what became of an execution group: each of its executions, the newest first, and which one is the latest.

    Each is compared with the version before it: how many values and outputs are missing, new or changed, and what of
    its software and inputs is different.

    Parameters
    ----------
    group
        The group, alone or after its provider and diagnostic, as provider/diagnostic/group.
    """
    with catalog.open() as database:
        groups = {
            (row.provider, row.diagnostic, row.group): None
            for row in database.executions(retracted=None)
            if _is_of(row, group)
        }
        versions = [each for of in groups for each in history_of(database, *of)]
        where = database.url
    if not versions:
        raise NothingMatchedError(f"there is no execution of a group {group!r} in {where}", key=group)
    versions.sort(key=lambda each: (when(each.row), each.row.fragment), reverse=True)
    if output.json:
        told = [
            {
                "latest": each.is_latest,
                "execution": each.row,
                "before": each.before,
                "changes": each.changes,
                "why": each.why,
            }
            for each in versions
        ]
        return show_document("history", {"executions": told})
    shown = [
        (
            each.row.fragment,
            "latest" if each.is_latest else None,
            each.row.status,
            when(each.row),
            each.row.scalars,
            each.changed,
            "; ".join(filter(None, (each.row.retraction_reason or each.row.reason, *each.why))),
        )
        for each in versions
    ]
    show_table(("execution", "latest", "status", "when", "scalars", "changed", "why"), shown)
    return 0


def _is_of(row: ExecutionRow, group: str) -> bool:
    return group in (row.group, f"{row.diagnostic}/{row.group}", f"{row.provider}/{row.diagnostic}/{row.group}")
