"""The resources that executions used, summed up by diagnostic, for planning nodes and hours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from emdstore.catalog.rows import ExecutionRow

_MEASURED = ("wall_seconds", "cpu_seconds", "peak_memory_bytes")


@attrs.frozen
class Percentiles:
    """How one measure is spread over executions, by nearest rank: each number is one that was measured.

    Attributes
    ----------
    count
        How many executions it was measured for.
    median, p90, most
        What half of the executions, nine out of ten, and all of them stayed within.
    """

    count: int
    median: float
    p90: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Percentiles | None:
        """Return the percentiles of some numbers; None if there are none."""
        ranked = sorted(values)
        if not ranked:
            return None
        return cls(len(ranked), _nearest(ranked, 50), _nearest(ranked, 90), ranked[-1])


def _nearest(ranked: Sequence[float], percent: int) -> float:
    return ranked[-(-percent * len(ranked) // 100) - 1]


@attrs.frozen
class DiagnosticResources:
    """What the executions of one diagnostic took.

    Attributes
    ----------
    provider, diagnostic
        The diagnostic.
    executions
        How many there are, measured or not.
    wall_seconds, cpu_seconds, peak_memory_bytes
        Their percentiles; None where nothing was measured.
    """

    provider: str
    diagnostic: str
    executions: int
    wall_seconds: Percentiles | None
    cpu_seconds: Percentiles | None
    peak_memory_bytes: Percentiles | None


def resources_by_diagnostic(rows: Iterable[ExecutionRow]) -> list[DiagnosticResources]:
    """Sum up what executions took, by diagnostic, in the order of their names.

    Parameters
    ----------
    rows
        The executions, such as ``catalog.executions(provider="pmp")``. They are read one by one.

    Returns
    -------
    list of DiagnosticResources
        One for each diagnostic that has an execution among them.
    """
    counts: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        which = row.provider, row.diagnostic
        counts[which] = counts.get(which, 0) + 1
        measures = found.setdefault(which, {name: [] for name in _MEASURED})
        for name, values in measures.items():
            if (value := getattr(row, name)) is not None:
                values.append(value)
    return [
        DiagnosticResources(*which, counts[which], *(Percentiles.of(found[which][name]) for name in _MEASURED))
        for which in sorted(found)
    ]
