"""What is known of metrics: the perfect value of each, and so the error that a value means."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import median

import attrs

from emdstore.errors import WorkspaceError

NAMES = ("metric", "statistic")
"""The dimensions that name a metric."""

Known = Mapping[str, "Metric"]
"""Metrics by each of their names."""


@attrs.frozen
class Metric:
    """A metric.

    Attributes
    ----------
    name
        For people.
    perfect
        The value of a perfect model.
    range
        The values that it can have.
    rank
        Its place in the table.
    """

    name: str
    perfect: float
    range: tuple[float, float] = (-math.inf, math.inf)
    rank: int = 0

    def error(self, value: float) -> float:
        """Return how far a value is from perfect."""
        return abs(value - self.perfect)


def known_metrics(override: Path | None = None) -> Known:
    """Return the table of metrics, with those of a file added to it or in place of its own.

    Raises
    ------
    WorkspaceError
        If the file cannot be read, or has something else in it.
    """
    known = dict(_own())
    if override is None:
        return known
    try:
        return known | _parsed(override.read_text())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WorkspaceError(
            f"{str(override)!r} is no table of metrics ({error}): each is a table with its perfect value, such as "
            "`[rmse]` and `perfect = 0`"
        ) from error


@cache
def _own() -> Known:
    return _parsed((files("emdstore.web") / "metrics.toml").read_text())


def _parsed(toml: str) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for rank, (name, told) in enumerate(tomllib.loads(toml).items()):
        low, high = told.get("range", (-math.inf, math.inf))
        metric = Metric(str(told.get("name", name)), float(told["perfect"]), (float(low), float(high)), rank)
        found |= {normal_name(each): metric for each in (name, *told.get("also", ()))}
    return found


def normal_name(name: str) -> str:
    """Return a metric's name as it is looked up."""
    return re.sub(r"[-\s]+", "_", name.strip().lower())


def relative_errors(errors: Sequence[float | None]) -> list[float | None]:
    """Return each error relative to the median of all: (x − median) / median.

    0 is the typical model, −0.5 has half its error, 1 twice. What has no value has none here; if the median is 0, what
    has no error is 0, and anything else infinitely worse.
    """
    numbers = [each for each in errors if each is not None and math.isfinite(each)]
    middle = median(numbers) if numbers else 0.0

    def relative(error: float | None) -> float | None:
        if error is None or not math.isfinite(error):
            return None
        if middle == 0:
            return 0.0 if error == 0 else math.inf
        return (error - middle) / middle

    return list(map(relative, errors))


STEPS = (-0.5, -0.25, -0.1, 0.1, 0.25, 0.5, 1.0)
"""Where the colours of relative errors change."""


def colour_of(relative: float | None) -> str:
    """Return the class of an error's colour: ``e0`` for half the median's or less, to ``e7`` for twice that or more."""
    return "none" if relative is None else f"e{sum(relative > step for step in STEPS)}"


def best_known(names: Iterable[str], known: Known) -> str | None:
    """Return the metric that a page shows by default: the first of the table, or else any."""
    ranked = sorted(names, key=lambda name: (found.rank if (found := known.get(normal_name(name))) else math.inf, name))
    return ranked[0] if ranked else None
