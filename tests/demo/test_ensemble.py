"""The values of an ensemble: they agree with each other, and are the same everywhere."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import attrs
import pytest

from emdstore.demo import DIAGNOSTICS, METRICS, Ensemble, Fate, Run, climate

DEFAULT = Ensemble()


def mean_over(region: str, domain: str, cells: list[float]) -> float:
    """Return an area mean, cell by cell, without the climate's own short cuts."""
    south, north = climate.REGIONS[region]
    total = area = 0.0
    for cell, value in enumerate(cells):
        latitude = 90 - climate.CELL * (cell // climate.COLUMNS)
        if south <= latitude <= north and climate.covers(domain, climate.is_land()[cell]):
            weight = math.cos(math.radians(latitude))
            total, area = total + weight * value, area + weight
    return total / area


def some_runs() -> list[Run]:
    return list(Ensemble(models=1, diagnostics=len(DIAGNOSTICS), regions=6, troubles=0).runs())


@pytest.mark.parametrize("run", some_runs(), ids=lambda run: run.diagnostic.name)
def test_scalars_say_what_the_fields_say(run: Run) -> None:
    domain = run.diagnostic.domain
    for region, season in (("global", "ANN"), ("tropics", "DJF"), ("arctic", "JJA")):
        error, reference = climate.cells(run.error(season)), climate.cells(run.reference(season))
        simulated = climate.cells(run.simulated(season))
        found = run.scalars(region, season)

        def over(cells: list[float], region: str = region) -> float:
            return mean_over(region, domain, cells)

        assert found["bias"] == pytest.approx(over(error), rel=1e-5, abs=1e-9)
        assert found["rmse"] == pytest.approx(math.sqrt(over([value * value for value in error])), rel=1e-5, abs=1e-9)
        means = over(reference), over(simulated)
        fields = zip((reference, simulated), means, strict=True)
        anomalies = [[value - mean for value in cells] for cells, mean in fields]
        spreads = [math.sqrt(over([value * value for value in cells])) for cells in anomalies]
        if min(spreads) < 1e-4:
            assert found["correlation"] is None
            assert found["standard_deviation_ratio"] is None
            continue
        product = over([one * other for one, other in zip(*anomalies, strict=True)])
        assert found["correlation"] == pytest.approx(product / (spreads[0] * spreads[1]), rel=1e-4, abs=1e-9)
        assert found["standard_deviation_ratio"] == pytest.approx(spreads[1] / spreads[0], rel=1e-4)


@pytest.mark.parametrize("run", some_runs(), ids=lambda run: run.diagnostic.name)
def test_series_say_what_scalars_say(run: Run) -> None:
    for region in run.regions:
        reference, simulated = run.yearly(region)
        differences = [own - truth for own, truth in zip(simulated, reference, strict=True)]
        size = max(map(abs, simulated)) + 1e-9
        bias = run.scalars(region, "ANN")["bias"]
        assert bias == pytest.approx(math.fsum(differences) / len(differences), abs=1e-5 * size)
        monthly = run.monthly(region)
        for season, months in climate.SEASONS.items():
            means = [math.fsum(course[month - 1] for month in months) / len(months) for course in monthly]
            assert run.scalars(region, season)["bias"] == pytest.approx(means[1] - means[0], abs=2e-5 * size)


def test_values_stay_within_what_their_quantities_can_be() -> None:
    limits = {
        "siconc": (0, 100),
        "clt": (0, 100),
        "pr": (0, 40),
        "gpp": (-0.5, 20),
        "lai": (-0.3, 12),
        "tas": (200, 320),
    }
    for run in Ensemble(models=20, diagnostics=len(DIAGNOSTICS)).runs():
        low, high = limits.get(run.diagnostic.variable, (-math.inf, math.inf))
        cells = [
            value
            for value, land in zip(climate.cells(run.simulated("ANN")), climate.is_land(), strict=True)
            if climate.covers(run.diagnostic.domain, land)
        ]
        assert low <= min(cells), run
        assert max(cells) <= high, run
        for season in climate.SEASONS:
            found = run.scalars("global", season)
            assert found["rmse"] is not None
            assert found["rmse"] >= abs(found["bias"] or 0)
            assert found["correlation"] is None or -1 <= found["correlation"] <= 1


def test_models_differ_and_a_good_one_is_good_in_most_of_it() -> None:
    rmse: dict[str, list[float]] = {}
    for run in DEFAULT.runs():
        rmse.setdefault(run.diagnostic.name, []).append(run.scalars("global", "ANN")["rmse"] or 0)
    for name, values in rmse.items():
        assert len(set(values)) == len(values), name
        assert max(values) > 2 * min(values), name


def test_what_there_is_of_it_is_said_beforehand() -> None:
    fates = Counter(run.fate for run in DEFAULT.runs())
    assert fates == {Fate.GOOD: 156, Fate.FAILED: 1, Fate.KILLED: 1, Fate.INCOMPLETE: 1}
    counts = DEFAULT.counts
    assert (counts.executions, counts.uploaded, counts.failed) == (159, 156, 3)
    assert counts.scalars == 156 * 3 * 5 * len(METRICS)
    assert len({run.diagnostic.provider for run in DEFAULT.runs()}) == 3
    assert len({run.fragment for run in DEFAULT.runs()}) == 159
    pairs = Counter((run.model, run.diagnostic.name) for run in DEFAULT.runs())
    assert len({model for model, _ in pairs}) == 20
    assert len(pairs) == 20 * 8 - 1  # one model lacks one diagnostic


def test_more_executions_go_round_again_and_leave_the_first_round_as_it_is() -> None:
    twice = attrs.evolve(DEFAULT, executions=400)
    first, again = list(DEFAULT.runs()), list(twice.runs())
    assert [run.fragment for run in again[: len(first)]] == [run.fragment for run in first]
    assert [run.dataset_hash for run in again[: len(first)]] == [run.dataset_hash for run in first]
    assert len(again) == len({run.fragment for run in again}) == 400
    assert [run.name for run in (again[0], again[159], again[318])] == ["20250106", "20250113", "20250120"]
    assert [fragment.rpartition("/")[0] for fragment in (again[0].fragment, again[159].fragment)] == [
        f"{again[0].diagnostic.provider}/{again[0].diagnostic.name}/{again[0].group}"
    ] * 2
    fates = Counter((run.round, run.fate) for run in again)
    assert [fates[0, Fate.FAILED], fates[1, Fate.FAILED], fates[1, Fate.KILLED], fates[1, Fate.INCOMPLETE]] == [1] * 4
    moved = {
        before.model
        for before, after in zip(first, again[159:], strict=False)
        if before.scalars("global", "ANN") != after.scalars("global", "ANN")
    }
    assert 0 < len(moved) < 10  # some models were published anew, and most were not


def test_there_are_always_names_for_more_models() -> None:
    models = list(dict.fromkeys(run.model for run in Ensemble(models=100, diagnostics=1, troubles=0).runs()))
    assert len(models) == 100
    assert models[40] == f"{models[0]}-p2"


def test_every_option_but_the_number_of_executions_makes_another_ensemble() -> None:
    small = Ensemble(models=5, diagnostics=3, years=10, pixels=1)
    others = [
        attrs.evolve(small, **{name: value})
        for name, value in {
            "models": 6, "diagnostics": 4, "regions": 2, "years": 11, "pixels": 2, "troubles": 0, "seed": 1,
        }.items()
    ]  # fmt: skip
    hashes = [next(ensemble.runs()).dataset_hash for ensemble in (small, *others)]
    assert len(set(hashes)) == len(hashes)


def test_another_seed_gives_other_values_of_the_same_kind() -> None:
    one, other = (next(Ensemble(seed=seed).runs()) for seed in (0, 1))
    assert one.fragment == other.fragment
    assert one.scalars("global", "ANN") != other.scalars("global", "ANN")
    assert one.yearly("global")[0] != other.yearly("global")[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": 0}, "models must be at least 1, not 0"),
        ({"diagnostics": 13}, "diagnostics must be from 1 to 12, not 13"),
        ({"models": 2, "diagnostics": 2}, "troubles must be at most 0, for 2 models and 2 diagnostics, not 1"),
        ({"executions": 0}, "executions must be at least 159"),
        ({"troubles": -1}, "troubles must be at least 0"),
    ],
)
def test_an_ensemble_that_makes_no_sense_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ensemble(**options)


def test_weather_is_weather_and_not_a_line() -> None:
    reference, _ = next(DEFAULT.runs()).yearly("global")
    steps = [after - before for before, after in pairwise(reference)]
    assert min(steps) < 0 < max(steps)
