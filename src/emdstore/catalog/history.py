"""The versions of an execution group side by side: what changed from each to the next, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import attrs

from emdstore.catalog.catalog import Catalog
from emdstore.catalog.comparing import VERDICTS, Rules, Side, Verdict, compare_results
from emdstore.catalog.rows import ExecutionRow

_MOST_NAMED = 3


@attrs.frozen
class Version:
    """One execution of a group.

    Attributes
    ----------
    row
        The execution.
    is_latest
        Whether its set is the latest of the group.
    before
        The fragment of the version that it is compared with, which is the one before that has values; None for the
        first one, and for one without values.
    changes
        How many values and outputs compare how with those.
    why
        What is different in what they came from: software, inputs; and why the one before was retracted.
    """

    row: ExecutionRow
    is_latest: bool
    before: str | None = None
    changes: Mapping[Verdict, int] = attrs.field(factory=dict)
    why: tuple[str, ...] = ()

    @property
    def changed(self) -> str:
        """What changed, in a few words; ``""`` if it was not compared."""
        if self.before is None:
            return ""
        told = ", ".join(f"{self.changes[each]} {each}" for each in VERDICTS[:-1] if self.changes.get(each))
        return told or "nothing"


def history_of(
    catalog: Catalog, provider: str, diagnostic: str, group: str, rules: Rules | None = None, *, most: int | None = None
) -> list[Version]:
    """Return all executions of a group, the newest first, each compared with the version before it.

    Parameters
    ----------
    catalog
        The catalog.
    provider, diagnostic, group
        The group.
    rules
        What counts as a change; by default also other bytes of plots and data.
    most
        Only so many of the newest; all by default.

    Returns
    -------
    list of Version
        Empty if there is no such group.
    """
    of: dict[str, Any] = {"provider": provider, "diagnostic": diagnostic, "group": group}
    rows = sorted(catalog.executions(**of, retracted=None), key=_when, reverse=True)[:most]
    latest = {row.execution_id for row in catalog.executions(**of, latest=True)}
    how = rules or Rules(artifacts=True)
    told = {later.execution_id: _compared(catalog, earlier, later, how) for later, earlier in _neighbours(rows)}
    versions = (told.get(row.execution_id) or Version(row, False) for row in rows)
    return [attrs.evolve(each, is_latest=each.row.execution_id in latest) for each in versions]


def _neighbours(rows: Sequence[ExecutionRow]) -> Iterator[tuple[ExecutionRow, ExecutionRow]]:
    return pairwise(row for row in rows if row.state in ("published", "bare"))


def _compared(catalog: Catalog, earlier: ExecutionRow, later: ExecutionRow, rules: Rules) -> Version:
    one, other = (
        Side(catalog, {"ids": [row.execution_id], "latest": False, "retracted": None}) for row in (earlier, later)
    )
    (pair,) = compare_results(one, other, rules)
    return Version(later, False, earlier.fragment, pair.counts, tuple(reasons(catalog, earlier, later)))


def reasons(
    catalog: Catalog, earlier: ExecutionRow, later: ExecutionRow, before: Catalog | None = None
) -> Iterator[str]:
    """Yield what is different in what two executions came from: software, inputs; and a retraction.

    Parameters
    ----------
    catalog
        The catalog of the later one.
    earlier, later
        The executions.
    before
        The catalog of the earlier one, if that is another.
    """
    if earlier.retraction_reason is not None:
        yield f"{earlier.fragment} was retracted: {earlier.retraction_reason}"
    versions = (
        (later.provider, earlier.provider_version, later.provider_version),
        (later.diagnostic, earlier.diagnostic_version, later.diagnostic_version),
        *_packages(earlier.software or {}, later.software or {}),
    )
    yield from (f"{name} {before or '?'} → {now or '?'}" for name, before, now in versions if before != now)
    read_before, read_now = _inputs(before or catalog, earlier), _inputs(catalog, later)
    if read_before and read_now:
        yield from _named("no longer reads", read_before - read_now)
        yield from _named("now reads", read_now - read_before)


def _packages(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in sorted(before.keys() & now.keys()):
        yield name, before[name], now[name]


def _inputs(catalog: Catalog, row: ExecutionRow) -> set[str]:
    read = catalog.inputs(ids=[row.execution_id], retracted=None)
    return {" ".join(filter(None, (each.dataset or each.key, each.version))) for each in read}


def _named(what: str, names: set[str]) -> Iterator[str]:
    if names:
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        yield f"{what} {', '.join(sorted(names)[:_MOST_NAMED])}{more}"


def when(row: ExecutionRow) -> datetime:
    """Return the time of an execution's last step; the earliest there is if it has none."""
    moment = row.published_at or row.stopped_at or row.started_at or row.created_at
    return moment or datetime.min.replace(tzinfo=UTC)


def _when(row: ExecutionRow) -> tuple[datetime, str]:
    return when(row), row.fragment
