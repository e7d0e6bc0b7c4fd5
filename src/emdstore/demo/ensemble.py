"""The content of an ensemble: models, runs and their values. This module writes nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from enum import StrEnum
from functools import cache
from itertools import count, islice, product
from typing import Any, TypeAlias

import attrs

from emdstore.demo import climate
from emdstore.demo.diagnostics import DIAGNOSTICS, METRICS, Diagnostic
from emdstore.stores.checksums import sha256_of

_UNITLESS = ("correlation", "standard_deviation_ratio")
_MEMBER = "r1i1p1f1"
_FIRST_DAY = date(2025, 1, 6)
_LAST_YEAR = 2014
_MOVED = 0.15  # the share of models whose data is published anew between two rounds

_MODELS = (
    "ACCESS-ESM1-5", "BCC-CSM2-MR", "CESM2", "CNRM-ESM2-1", "CanESM5", "E3SM-1-0", "EC-Earth3", "FGOALS-g3",
    "GFDL-ESM4", "GISS-E2-1-G", "HadGEM3-GC31-LL", "INM-CM5-0", "IPSL-CM6A-LR", "KACE-1-0-G", "MIROC6",
    "MPI-ESM1-2-HR", "MRI-ESM2-0", "NorESM2-LM", "TaiESM1", "UKESM1-0-LL", "ACCESS-CM2", "AWI-CM-1-1-MR", "BCC-ESM1",
    "CAMS-CSM1-0", "CAS-ESM2-0", "CESM2-WACCM", "CIESM", "CMCC-CM2-SR5", "CNRM-CM6-1", "EC-Earth3-Veg", "FIO-ESM-2-0",
    "GFDL-CM4", "IITM-ESM", "INM-CM4-8", "MIROC-ES2L", "MPI-ESM1-2-LR", "NESM3", "NorESM2-MM", "SAM0-UNICON",
    "MCM-UA-1-0",
)  # fmt: skip


_Validator: TypeAlias = Callable[[Any, "attrs.Attribute[int]", int], None]


class Fate(StrEnum):
    """How a run ends."""

    GOOD = "good"
    FAILED = "failed"
    KILLED = "killed"
    INCOMPLETE = "incomplete"


@attrs.frozen
class Counts:
    """The size of an ensemble once all of it is committed.

    Attributes
    ----------
    executions
        The number of executions; `uploaded` of them are complete, and `failed` are not.
    scalars, series, outputs
        Those of the complete ones. Outputs are plots, data files and pages.
    artifacts
        Those of all executions.
    """

    executions: int
    uploaded: int
    failed: int
    scalars: int
    series: int
    outputs: int
    artifacts: int


def _between(least: int, most: int | None = None) -> list[_Validator]:
    def check(_: object, attribute: attrs.Attribute[int], value: int) -> None:
        if value < least or (most is not None and value > most):
            known = f"at least {least}" if most is None else f"from {least} to {most}"
            raise ValueError(f"{attribute.name} must be {known}, not {value}")

    return [attrs.validators.instance_of(int), check]


@attrs.frozen(kw_only=True)
class Ensemble:
    """Models that are evaluated by diagnostics. Equal values give equal ensembles, to the last byte.

    Attributes
    ----------
    models
        How many models are evaluated.
    diagnostics
        By how many of twelve diagnostics. The first three belong to three providers.
    executions
        The number of runs. When each diagnostic has run on each model, the next round begins, a week later: the same
        groups again, with new data of some models. By default one round.
    regions
        In how many of six regions. Each has its own scalars, series and a plot.
    years
        How long the yearly series are.
    pixels
        How large a cell of a map is drawn. A map has 90 x 46 cells.
    troubles
        How many runs of each round fail, how many are killed, and how many forget a plot; and how many pairs of model
        and diagnostic never run.
    seed
        What chance decides, it decides by this number.

    Raises
    ------
    ValueError
        If a number makes no sense, with its name and what would.
    """

    models: int = attrs.field(default=20, validator=_between(1))
    diagnostics: int = attrs.field(default=8, validator=_between(1, len(DIAGNOSTICS)))
    executions: int | None = None
    regions: int = attrs.field(default=3, validator=_between(1, len(climate.REGIONS)))
    years: int = attrs.field(default=65, validator=_between(2, 1000))
    pixels: int = attrs.field(default=4, validator=_between(1, 100))
    troubles: int = attrs.field(default=1, validator=_between(0))
    seed: int = attrs.field(default=0, validator=attrs.validators.instance_of(int))

    def __attrs_post_init__(self) -> None:
        pairs = self.models * self.diagnostics
        if self.troubles * 4 >= pairs:
            raise ValueError(
                f"troubles must be at most {(pairs - 1) // 4}, for {self.models} models and {self.diagnostics} "
                f"diagnostics, not {self.troubles}"
            )
        if self.executions is not None and self.executions < pairs - self.troubles:
            raise ValueError(
                f"executions must be at least {pairs - self.troubles}, for {self.models} models and {self.diagnostics} "
                f"diagnostics, not {self.executions}"
            )

    def runs(self) -> Iterator[Run]:
        """Return all runs, in the order in which they run."""
        pairs = list(product(range(self.models), range(self.diagnostics)))
        never_run = self._drawn(pairs, "never")[: self.troubles]
        pairs = [pair for pair in pairs if pair not in never_run]
        every = (run for number in count() for run in self._round(number, pairs))
        return islice(every, len(pairs) if self.executions is None else self.executions)

    def _round(self, number: int, pairs: list[tuple[int, int]]) -> Iterator[Run]:
        drawn = self._drawn(pairs, number)
        troubled = (Fate.FAILED, Fate.KILLED, Fate.INCOMPLETE)
        fates = {pair: fate for i, fate in enumerate(troubled) for pair in drawn[i * self.troubles :][: self.troubles]}
        for model, diagnostic in pairs:
            name = _MODELS[model % len(_MODELS)] + (f"-p{model // len(_MODELS) + 1}" if model >= len(_MODELS) else "")
            yield Run(self, name, DIAGNOSTICS[diagnostic], number, fates.get((model, diagnostic), Fate.GOOD))

    def _drawn(self, pairs: list[tuple[int, int]], what: object) -> list[tuple[int, int]]:
        return sorted(pairs, key=lambda pair: climate.uniform(self.seed, "draw", what, *pair))

    @property
    def counts(self) -> Counts:
        """Its size in the catalog once everything is committed."""
        fates = Counter(run.fate for run in self.runs())
        good, incomplete, executions = fates[Fate.GOOD], fates[Fate.INCOMPLETE], fates.total()
        outputs = 2 + self.regions + 2  # two maps and a plot for each region, a table and a page
        return Counts(
            executions=executions,
            uploaded=good,
            failed=executions - good,
            scalars=good * self.regions * len(climate.SEASONS) * len(METRICS),
            series=good * self.regions * 4,
            outputs=good * outputs,
            artifacts=executions + (good + incomplete) * (3 + outputs) - incomplete,
        )


@attrs.frozen
class Run:
    """One diagnostic on one model, once.

    Attributes
    ----------
    ensemble
        The ensemble that it belongs to.
    model, diagnostic
        What is evaluated, and how.
    round
        The number of earlier runs of the same group.
    fate
        How it ends.
    """

    ensemble: Ensemble = attrs.field(repr=False)
    model: str
    diagnostic: Diagnostic
    round: int
    fate: Fate

    @property
    def name(self) -> str:
        """The execution's name: the day of the round."""
        return f"{_FIRST_DAY + timedelta(weeks=self.round):%Y%m%d}"

    @property
    def group(self) -> str:
        """The group of its input datasets."""
        return f"historical_{self.model}_{_MEMBER}"

    @property
    def fragment(self) -> str:
        """Its folder."""
        return f"{self.diagnostic.provider}/{self.diagnostic.name}/{self.group}/{self.name}"

    @property
    def description(self) -> str:
        """A description for people."""
        return f"{self.diagnostic.long_name} of {self.model} against {self.diagnostic.reference} (made up)"

    @property
    def selectors(self) -> dict[str, str]:
        """What its input has in common."""
        return {"source_id": self.model, "member_id": _MEMBER, "variable_id": self.diagnostic.variable}

    @property
    def dataset_hash(self) -> str:
        """Identifies its input and everything else that determines its output."""
        decides = attrs.evolve(self.ensemble, executions=None)
        return sha256_of(f"{decides!r} {self.fragment} {self.fate}".encode())

    @property
    def dimensions(self) -> dict[str, str]:
        """The dimensions of all its values."""
        return {"experiment_id": "historical", **self.selectors}

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that it evaluates."""
        return tuple(islice(climate.REGIONS, self.ensemble.regions))

    # -- values --------------------------------------------------------------------------------------------------------

    def error(self, season: str) -> dict[str, float]:
        """Return the model's error field in a season."""
        means, summers = self._errors
        part = climate.phase(season)
        return {name: value + part * summers[name] for name, value in means.items()}

    def reference(self, season: str) -> dict[str, float]:
        """Return the reference's field in a season."""
        part = climate.phase(season)
        return {name: amount.mean + part * amount.summer for name, amount in self.diagnostic.patterns.items()}

    def simulated(self, season: str) -> dict[str, float]:
        """Return the model's field in a season."""
        error = self.error(season)
        return {name: value + error[name] for name, value in self.reference(season).items()}

    def scalars(self, region: str, season: str) -> dict[str, float | None]:
        """Return the metrics over a region; None for a correlation with a constant reference."""
        over = region, self.diagnostic.domain
        error, reference, simulated = self.error(season), self.reference(season), self.simulated(season)
        bias = climate.mean(*over, error)
        rmse = math.sqrt(bias * bias + max(0.0, climate.covariance(*over, error, error)))
        spread, own = (climate.covariance(*over, field, field) for field in (reference, simulated))
        varies = min(spread, own) > 1e-9
        correlation = climate.covariance(*over, reference, simulated) / math.sqrt(spread * own) if varies else None
        ratio = math.sqrt(own / spread) if varies else None
        values = zip(METRICS, (bias, rmse, correlation, ratio), strict=True)
        return {metric: None if value is None else significant(value) for metric, value in values}

    def units(self, metric: str) -> str:
        """Return the units of a metric."""
        return "1" if metric in _UNITLESS else self.diagnostic.units

    @property
    def years(self) -> range:
        """The years of the yearly series."""
        return range(_LAST_YEAR + 1 - self.ensemble.years, _LAST_YEAR + 1)

    def yearly(self, region: str) -> tuple[list[float], list[float]]:
        """Return yearly values of the reference and of the model."""
        seed, of = self.ensemble.seed, self.diagnostic
        response = 1 + 0.3 * climate.normal(seed, "response", self.model)
        reference, simulated = (
            climate.mean(region, of.domain, field) for field in (self.reference("ANN"), self.simulated("ANN"))
        )
        return (
            self._course(reference, of.change * reference, (seed, of.name, region, "weather")),
            self._course(simulated, of.change * reference * response, (seed, of.name, region, "weather", self.model)),
        )

    def monthly(self, region: str) -> tuple[list[float], list[float]]:
        """Return monthly means of the reference and of the model."""
        means, summers = self._errors
        over = region, self.diagnostic.domain
        patterns = self.diagnostic.patterns.items()
        mean, summer = ({name: getattr(amount, part) for name, amount in patterns} for part in ("mean", "summer"))
        reference = climate.mean(*over, mean), climate.mean(*over, summer)
        error = climate.mean(*over, means), climate.mean(*over, summers)
        phases = climate.PHASES.values()
        return (
            [significant(reference[0] + part * reference[1]) for part in phases],
            [significant(reference[0] + error[0] + part * (reference[1] + error[1])) for part in phases],
        )

    def _course(self, mean: float, change: float, weather: tuple[object, ...]) -> list[float]:
        """Return values around a mean, with an accelerating trend and noise."""
        steps = len(self.years)
        moved = [
            change * (step * step / (steps * steps)) + self.diagnostic.noise * mean * noise
            for step, noise in enumerate(climate.normals(steps, *weather))
        ]
        middle = math.fsum(moved) / steps
        return [significant(mean + value - middle) for value in moved]

    @property
    def _errors(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        return _errors_of(self.ensemble.seed, self.model, self.diagnostic, self.round)


@cache
def _errors_of(
    seed: int, model: str, diagnostic: Diagnostic, round_number: int
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Return a model's errors in each pattern: in the yearly mean, and in summer.

    Each model has its own skill and a bias that all variables share; the rest is specific to the variable.
    """
    skill = 0.5 + 1.1 * climate.uniform(seed, "skill", model)
    for earlier in range(1, round_number + 1):
        if climate.uniform(seed, "moved", model, earlier) < _MOVED:
            skill *= 0.8 + 0.4 * climate.uniform(seed, "by", model, earlier)
    means, summers = {}, {}
    for name, amount in diagnostic.patterns.items():
        shared, own = climate.normal(seed, model, name), climate.normal(seed, model, name, diagnostic.name)
        means[name] = skill * amount.error * (0.6 * shared + 0.8 * own)
        seasonal = climate.normal(seed, model, name, diagnostic.name, "summer") if amount.summer else 0.0
        summers[name] = 0.4 * skill * amount.error * seasonal
    return means, summers


def significant(value: float) -> float:
    """Round to six significant digits, so that the numbers are the same everywhere."""
    return float(f"{value:.6g}")
