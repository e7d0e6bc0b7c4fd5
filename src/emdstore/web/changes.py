"""The page of changes: what is new, gone, broken, mended or has moved from one day, or one release, to another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time

import attrs

from emdstore.catalog import Catalog, ExecutionRow, ScalarRow
from emdstore.catalog.browse import concern_of
from emdstore.errors import QueryError
from emdstore.web import text
from emdstore.web.executions import ListedExecution, listed_executions
from emdstore.web.selection import PageSelection

USUAL_PERCENT = 5.0
"""What moves by less is not listed unless somebody asks."""

_MOST_COMPARED = 2000
_AT_A_TIME = 200
_MOST_DAYS = 30

_Group = tuple[str, str, str]


@attrs.frozen
class ScalarMove:
    """How the scalars of a group have changed.

    Attributes
    ----------
    percent
        The largest change, in percent of the value before.
    what
        The scalar that changed most, by its dimensions.
    before, after
        Its values.
    moved, compared
        How many scalars moved by more than what was asked, of how many that are in both runs.
    """

    percent: float
    what: str
    before: float
    after: float
    moved: int
    compared: int


@attrs.frozen
class Change:
    """One execution group: its runs then and now; None where there was none."""

    before: ListedExecution | None
    after: ListedExecution | None
    move: ScalarMove | None = None

    @property
    def line(self) -> ListedExecution:
        """The newer run, or the only one."""
        line = self.after or self.before
        assert line is not None
        return line

    @property
    def query(self) -> dict[str, list[str]]:
        """The query that compares the two."""
        return {"e": [str(each.row.execution_id) for each in (self.before, self.after) if each is not None]}


@attrs.frozen
class ChangesPage:
    """What changed.

    Attributes
    ----------
    selection
        Of which executions.
    since, until
        The two days or releases.
    percent
        By how much a scalar must change to be listed.
    days
        The days on which anything ran, newest first.
    new, gone, broken, mended, moved
        The changes.
    same
        How many groups were run again and are what they were.
    untouched
        How many groups were not run again.
    not_compared
        How many groups were run again and not compared, because there are too many.
    """

    selection: PageSelection
    since: str
    until: str
    percent: float
    days: tuple[str, ...]
    new: tuple[Change, ...] = ()
    gone: tuple[Change, ...] = ()
    broken: tuple[Change, ...] = ()
    mended: tuple[Change, ...] = ()
    moved: tuple[Change, ...] = ()
    same: int = 0
    untouched: int = 0
    not_compared: int = 0


def read_changes(
    catalog: Catalog, selection: PageSelection, since: str = "", until: str = "", percent: float = USUAL_PERCENT
) -> ChangesPage:
    """Compare two states of the catalog.

    Parameters
    ----------
    catalog
        Where to ask.
    selection
        Of which executions.
    since, until
        Each a day, ``2025-11-03``, for the newest run of each group that had begun by its end (UTC); or the name of a
        release. By default the newest day on which anything ran, and the one before.
    percent
        A group has moved if any scalar that is in both runs changed by more than this.

    Raises
    ------
    QueryError
        If a day is none.
    """
    filters = {name: value for name, value in selection.place_filters.items() if name != "retracted"}
    rows = list(catalog.executions(**filters))
    days = sorted({f"{began:%Y-%m-%d}" for row in rows if (began := began_at(row)) is not None}, reverse=True)
    until = until or (days[0] if days else "")
    since = since or next((day for day in days if day < until), "")
    page = ChangesPage(selection, since, until, percent, tuple(days[:_MOST_DAYS]))
    if not since or not until:
        return page
    before, after = (_state(catalog, filters, rows, each) for each in (since, until))
    return _compared(catalog, page, before, after)


def began_at(row: ExecutionRow) -> datetime | None:
    """Return when an execution began, or else the earliest time known of it."""
    return row.started_at or row.created_at or row.stopped_at or row.published_at


def _state(
    catalog: Catalog, filters: Mapping[str, object], rows: Iterable[ExecutionRow], when: str
) -> dict[_Group, ExecutionRow]:
    """Return the newest run of each group as of a day, or what a release names."""
    if when[:1].isdigit() and when.count("-") == 2:
        try:
            end = datetime.combine(date.fromisoformat(when), time.max, UTC)
        except ValueError as error:
            raise QueryError(f"{when!r} is no day: write it as 2025-11-03", key=when) from error
        begun = [(began, row) for row in rows if (began := began_at(row)) is not None and began <= end]
        begun.sort(key=lambda each: (each[0], each[1].fragment))
        return {_group(row): row for _, row in begun}
    named: dict[str, object] = {**filters, "release": when, "retracted": None}
    return {_group(row): row for row in catalog.executions(**named)}  # type: ignore[arg-type]


def _group(row: ExecutionRow) -> _Group:
    return row.provider, row.diagnostic, row.group


def _compared(
    catalog: Catalog, page: ChangesPage, before: Mapping[_Group, ExecutionRow], after: Mapping[_Group, ExecutionRow]
) -> ChangesPage:
    kinds: dict[str, list[tuple[ExecutionRow | None, ExecutionRow | None]]] = {}
    for group in sorted({*before, *after}):
        pair = before.get(group), after.get(group)
        kinds.setdefault(_kind(*pair), []).append(pair)
    again = [(old, new) for old, new in kinds.pop("again", []) if old is not None and new is not None]
    moves = _moves(catalog, again[:_MOST_COMPARED], page.percent)
    moved = [(old, new) for old, new in again if moves.get(new.execution_id) is not None]
    kinds["moved"] = [*moved]
    shown = [row for pairs in kinds.values() for pair in pairs for row in pair if row is not None]
    lines = {line.row.execution_id: line for line in listed_executions(catalog, shown)}

    def changes(kind: str) -> tuple[Change, ...]:
        found = [
            Change(
                lines[old.execution_id] if old is not None else None,
                lines[new.execution_id] if new is not None else None,
                moves.get(new.execution_id) if kind == "moved" and new is not None else None,
            )
            for old, new in kinds.get(kind, [])
        ]
        return tuple(sorted(found, key=lambda each: -each.move.percent if each.move is not None else 0.0))

    return attrs.evolve(
        page,
        new=changes("new"),
        gone=changes("gone"),
        broken=changes("broken"),
        mended=changes("mended"),
        moved=changes("moved"),
        same=min(len(again), _MOST_COMPARED) - len(moved),
        untouched=len(kinds.get("untouched", [])),
        not_compared=max(0, len(again) - _MOST_COMPARED),
    )


def _kind(old: ExecutionRow | None, new: ExecutionRow | None) -> str:
    if old is None or new is None:
        return "new" if old is None else "gone"
    if old.execution_id == new.execution_id:
        return "untouched"
    good = [row.status == "uploaded" and concern_of(row) is None for row in (old, new)]
    if good[0] != good[1]:
        return "mended" if good[1] else "broken"
    return "again" if good[0] else "untouched"


def _moves(
    catalog: Catalog, pairs: Sequence[tuple[ExecutionRow, ExecutionRow]], percent: float
) -> dict[int, ScalarMove]:
    """Return how each pair has moved, by the id of the newer run; those that have not are left out."""
    found = {}
    for start in range(0, len(pairs), _AT_A_TIME):
        some = pairs[start : start + _AT_A_TIME]
        values: dict[int, dict[text.Place, float]] = {}
        rows: Iterable[ScalarRow] = catalog.scalars(
            ids=[row.execution_id for pair in some for row in pair], retracted=None, complete=None
        )
        for row in rows:
            values.setdefault(row.execution_id, {}).setdefault(text.key_of(row.dimensions), row.value)
        for old, new in some:
            move = _move(values.get(old.execution_id, {}), values.get(new.execution_id, {}), percent)
            if move is not None:
                found[new.execution_id] = move
    return found


def _move(old: Mapping[text.Place, float], new: Mapping[text.Place, float], percent: float) -> ScalarMove | None:
    both = [(place, old[place], new[place]) for place in old if place in new]
    changed = [(_percent(a, b), place, a, b) for place, a, b in both]
    moved = [each for each in changed if each[0] > percent]
    if not moved:
        return None
    most, place, a, b = max(moved, key=lambda each: each[0])
    rest = text.common([dict(place) for place, _, _ in both]) if len(both) > 1 else {}
    what = " · ".join(value for name, value in place if name not in rest) or "value"
    return ScalarMove(most, what, a, b, len(moved), len(both))


def _percent(old: float, new: float) -> float:
    """Return by how many percent a value changed; what appears, vanishes or leaves zero changed without bound."""
    if (math.isnan(old) and math.isnan(new)) or old == new:
        return 0.0
    if not (math.isfinite(old) and math.isfinite(new)) or old == 0:
        return math.inf
    return 100 * abs(new - old) / abs(old)
