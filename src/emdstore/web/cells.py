"""The cells of the table of all models: what each says, and how far it is from the others of its column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import attrs

from emdstore.web import text
from emdstore.web.metrics import colour_of, relative_errors

KINDS = {
    "failed": "failed",
    "incomplete": "incomplete",
    "unfinished": "not finished",
    "retracted": "retracted",
    "never": "never run",
    "elsewhere": "–",
    "empty": "no value",
    "outlier": "outlier",
}
"""What a cell says that has no value of this metric."""


@attrs.frozen
class Cell:
    """One model in one diagnostic.

    Attributes
    ----------
    kind
        ``value``, or a key of `KINDS`.
    execution_id
        The newest execution, if there is one.
    value, units
        The value of the metric.
    error
        Its distance from perfect; None if nobody knows what is perfect.
    relative
        That error relative to the median of all models.
    note
        More about it.
    is_incomplete
        Whether the value is of an incomplete set.
    parts
        By season: the relative errors of the portrait plot.
    """

    kind: str
    execution_id: int | None = None
    value: float | None = None
    units: str = ""
    error: float | None = None
    relative: float | None = None
    note: str = ""
    parts: tuple[float | None, ...] = ()
    is_incomplete: bool = False

    @property
    def colour(self) -> str:
        """The class of its colour."""
        return colour_of(self.relative)

    @property
    def shown(self) -> str:
        """What it says."""
        if self.kind != "value":
            return KINDS[self.kind]
        mark = "*" if self.is_incomplete else ""
        if self.relative is None:
            return text.number_text(self.value) + mark
        return ("∞" if math.isinf(self.relative) else f"{self.relative:+.2f}".replace("-", "−")) + mark

    @property
    def title(self) -> str:
        """The whole of it, in words."""
        value = f"{text.number_text(self.value)} {self.units}".strip() if self.kind == "value" else ""
        return "; ".join(filter(None, (value, self.note)))


@attrs.frozen
class Head:
    """A diagnostic, as the head of a column."""

    provider: str
    diagnostic: str
    subject: str = ""

    @property
    def name(self) -> str:
        """Its name in the table."""
        return " ".join(filter(None, (self.diagnostic, self.subject)))


@attrs.frozen
class ModelRow:
    """A model, its mean relative error, and its cells in the order of the columns."""

    name: str
    mean: float | None
    cells: tuple[Cell, ...]

    @property
    def shown(self) -> str:
        """The mean as text."""
        return "" if self.mean is None else f"{self.mean:+.2f}".replace("-", "−")


GroupKey = tuple[str, str, str]
"""Provider, diagnostic and group."""


@attrs.frozen
class ModelTable:
    """Columns, and rows with the best model first."""

    heads: tuple[Head, ...]
    rows: tuple[ModelRow, ...]


def table_of(
    rows: Mapping[GroupKey, str], columns: Mapping[GroupKey, Head], cells: Mapping[GroupKey, Cell], seasons: int
) -> ModelTable:
    """Put the cells of all groups in their rows and columns, with errors relative to each column's median."""
    heads = sorted(set(columns.values()), key=lambda head: (head.provider, head.diagnostic, head.subject))
    names = sorted(set(rows.values()), key=str.lower)
    table: dict[tuple[str, Head], Cell] = {}
    for key, cell in cells.items():
        place = rows[key], columns[key]
        # Of several groups in one place, the one with a value.
        if place not in table or (table[place].kind != "value" and cell.kind == "value"):
            table[place] = cell
    table = _made_relative(table, names, heads, seasons)
    missing = _missing(table)
    lines = [
        ModelRow(name, mean_of_cells(cells_of), cells_of)
        for name in names
        for cells_of in [tuple(table.get((name, h)) or (_NEVER if h in missing[name] else _ELSEWHERE) for h in heads)]
    ]
    lines.sort(key=lambda line: (line.mean is None, line.mean or 0.0))
    return ModelTable(tuple(heads), tuple(lines))


_NEVER = Cell("never")
_ELSEWHERE = Cell("elsewhere")


def _missing(places: Iterable[tuple[str, Head]]) -> dict[str, set[Head]]:
    """Return by model what it lacks: diagnostics that were run by a model with which it shares one.

    Projects that share nothing stand in one table, too, and nobody would run the one's models in the other.
    """
    ran: dict[str, set[Head]] = {}
    for name, head in places:
        ran.setdefault(name, set()).add(head)
    kinds = set(map(frozenset, ran.values()))  # most models ran the same
    return {name: set().union(*(kind for kind in kinds if kind & heads)) - heads for name, heads in ran.items()}


def _made_relative(
    table: Mapping[tuple[str, Head], Cell], names: Sequence[str], heads: Sequence[Head], seasons: int
) -> dict[tuple[str, Head], Cell]:
    """Give each cell its error relative to its column's median."""
    made = dict(table)
    for head in heads:
        column = [(name, head) for name in names if (name, head) in table]
        of_column = relative_errors([table[place].error for place in column])
        parts = [
            relative_errors([cell.parts[n] if cell.parts else None for cell in (table[place] for place in column)])
            for n in range(seasons)
        ]
        for number, place in enumerate(column):
            made[place] = attrs.evolve(
                table[place], relative=of_column[number], parts=tuple(part[number] for part in parts)
            )
    return made


def mean_of_cells(cells: Iterable[Cell]) -> float | None:
    """Return the mean of the relative errors; None if there are none."""
    found = [cell.relative for cell in cells if cell.relative is not None and math.isfinite(cell.relative)]
    return fmean(found) if found else None
