"""Three models whose errors are known, evaluated by diagnostics whose metrics all say so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from emdstore.catalog import ExecutionContent

MODELS = ("best", "typical", "worst")
ERRORS = {"best": 0.4, "typical": 1.0, "worst": 3.0}
SEASONS = ("ANN", "DJF", "JJA")


def values_of(model: str, sign: int = 1) -> dict[str, float]:
    """Return metrics that order the models alike, each in its own way."""
    error = ERRORS.get(model, 1.0)
    return {"rmse": error, "bias": sign * error, "corr": 1 - error / 10, "sd_ratio": 1 - sign * error / 10}


def execution(model: str, diagnostic: str, day: int = 1, **more: Any) -> ExecutionContent:
    """Return a good execution, but for what is told otherwise."""
    at = datetime(2025, 1, day, tzinfo=UTC)
    where = {"source_id": model, "variable_id": "tas"}
    scalars = [
        (value if season == "ANN" else 2 * value, where | {"region": region, "season": season, "metric": metric}, {})
        for region in ("global", "tropics")
        for season in SEASONS
        for metric, value in values_of(model, -1 if diagnostic == "b" else 1).items()
    ]
    told: dict[str, Any] = {"status": "uploaded", "state": "published", "scalars": scalars} | more
    return ExecutionContent(
        fragment=f"p/{diagnostic}/{model}/{day}",
        provider="p",
        diagnostic=diagnostic,
        group=f"cmip6_{model}",
        selectors={"cmip6": [["source_id", model], ["variable_id", "tas"]]},
        started_at=at,
        published_at=at,
        **told,
    )
