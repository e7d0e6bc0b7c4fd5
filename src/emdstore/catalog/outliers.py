"""Outliers: models whose values of a metric lie far from those of the others.

A policy of whoever reads, never of the data: nothing is left out of bundles, and by default of no query.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import quantiles

from emdstore.catalog.references import MODEL
from emdstore.catalog.rows import ScalarRow

FENCE = 1.5
"""How many interquartile ranges beyond the quartiles the fences are (Tukey, Exploratory Data Analysis, 1977)."""

FEWEST = 5
"""With fewer models there is no telling what is usual."""

_QUANTITY = ("metric", "statistic", "variable_id", "variable")
_MODELS = ("source_id", "model", "model_id")


def find_outliers(rows: Iterable[ScalarRow]) -> frozenset[tuple[int, int]]:
    """Return the scalars of models that are outliers, each by its execution's id and its position.

    For each metric of each diagnostic (and each statistic and variable) the values of each model are averaged, over
    regions, seasons and executions. A model is an outlier if its mean lies more than 1.5 interquartile ranges below the
    first or above the third quartile of all models' means, or is infinite. Of a metric with fewer than five models none
    is.

    Parameters
    ----------
    rows
        Scalars; those that are of no model, or have no value, are passed over.
    """
    values: dict[tuple[str, ...], dict[str, list[float]]] = {}
    places: dict[tuple[tuple[str, ...], str], list[tuple[int, int]]] = {}
    for row in rows:
        if row.kind != MODEL or math.isnan(row.value):
            continue
        metric = (row.provider, row.diagnostic, *(row.dimensions.get(name, "") for name in _QUANTITY))
        model = next((row.dimensions[name] for name in _MODELS if name in row.dimensions), row.group)
        values.setdefault(metric, {}).setdefault(model, []).append(row.value)
        places.setdefault((metric, model), []).append((row.execution_id, row.position))
    return frozenset(
        place
        for metric, of_models in values.items()
        for model in _outlying({model: math.fsum(each) / len(each) for model, each in _summed(of_models)})
        for place in places[metric, model]
    )


def _summed(of_models: Mapping[str, list[float]]) -> Iterable[tuple[str, list[float]]]:
    """Return the values of each model; infinite ones stand for all, because they cannot be added up."""
    for model, each in of_models.items():
        yield model, each if all(map(math.isfinite, each)) else [math.inf]


def _outlying(means: Mapping[str, float]) -> list[str]:
    if len(means) < FEWEST:
        return []
    finite = [mean for mean in means.values() if math.isfinite(mean)]
    if len(finite) < 2:
        return []
    first, _, third = quantiles(finite, method="inclusive")
    reach = FENCE * (third - first)
    return [model for model, mean in means.items() if not first - reach <= mean <= third + reach]
