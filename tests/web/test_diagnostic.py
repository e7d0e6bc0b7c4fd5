"""The page of one diagnostic: all models by all metrics, drawn and in numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

import httpx
import pytest
from tests.web.models import MODELS, execution, values_of

from emdstore.catalog import Catalog
from emdstore.stores import InMemoryArtifactStore
from emdstore.web.app import make_app
from emdstore.web.diagnostic import Scores, read_scores
from emdstore.web.metrics import known_metrics
from emdstore.web.selection import Selection
from emdstore.web.taylor import TaylorPoint, draw_taylor


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with Catalog(tmp_path_factory.mktemp("diagnostic") / "catalog.db") as catalog:
        for model in MODELS:
            catalog.replace_execution(execution(model, "a"))
        catalog.replace_execution(execution("broken", "a", status="failed", complete=False, scalars=[]))
        yield catalog


def scores_of(catalog: Catalog, mine: str = "", **chosen: str) -> Scores:
    selection = Selection(chosen={f"d.{name}": (value,) for name, value in chosen.items()})
    return read_scores(catalog, ("p", "a"), selection, known_metrics(), mine)


def test_models_by_metrics_have_the_values_of_the_chosen_season(catalog: Catalog) -> None:
    page = scores_of(catalog, season="DJF")
    assert page.heads == ("rmse", "bias", "corr", "sd_ratio")
    found = {row.name: [cell.value for cell in row.cells] for row in page.rows if row.name != "broken"}
    assert found == {model: [2 * value for value in values_of(model).values()] for model in MODELS}
    assert [row.name for row in scores_of(catalog).rows] == ["best", "typical", "worst", "broken"]
    assert page.rows[-1].cells[0].kind == "failed"


def test_the_ranking_is_by_the_chosen_metric_and_marks_ones_own_model(catalog: Catalog) -> None:
    chart = scores_of(catalog, "typical", metric="corr").ranking
    assert chart is not None
    assert chart.labels == ("best", "typical", "worst")
    assert {trace.name: trace.y for trace in chart.traces} == {"others": ("best", "worst"), "typical": ("typical",)}
    assert {x for trace in chart.traces for x in trace.x} == {values_of(model)["corr"] for model in MODELS}


def test_the_spread_has_every_model_in_every_region_and_season(catalog: Catalog) -> None:
    (chart,) = scores_of(catalog, metric="rmse").spread
    assert sum(len(trace.x) for trace in chart.traces) == len(MODELS) * 2 * 3


def test_a_taylor_diagram_is_drawn_where_its_two_metrics_are(catalog: Catalog) -> None:
    page = scores_of(catalog)
    assert {(each.name, each.correlation, each.deviation) for each in page.taylor} == {
        (model, values_of(model)["corr"], values_of(model)["sd_ratio"]) for model in MODELS
    }
    with Catalog("sqlite://") as other:
        other.replace_execution(execution("best", "a", scalars=[(1.0, {"metric": "corr", "source_id": "best"}, {})]))
        assert scores_of(other).taylor == ()


def test_a_model_is_where_its_correlation_and_deviation_are() -> None:
    drawn = draw_taylor([TaylorPoint("<one>", 0.6, 1.0), TaylorPoint("two", 1.0, 0.5)], mine="two")
    assert "<one>" not in drawn
    places = [tuple(map(float, each)) for each in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="9"', drawn)]
    (one_x, one_y), (two_x, two_y) = places
    assert two_y == 300  # on the axis: perfect correlation
    radius = 2 * two_x
    assert math.hypot(one_x, 300 - one_y) == pytest.approx(radius, abs=0.2)
    assert one_x / radius == pytest.approx(0.6, abs=0.01)
    assert drawn.count("model mine") == 1
    assert "nan" not in draw_taylor([TaylorPoint("negative", -1.0, 9.0)])


def test_the_page_is_served_and_what_is_not_there_is_not(catalog: Catalog, served: Callable[..., str]) -> None:
    home = served(make_app(catalog, InMemoryArtifactStore()))
    page = httpx.get(f"{home}diagnostic?d=p/a&model=best&d.metric=bias")
    assert page.status_code == 200
    assert ">Ranking by bias</h3>" in page.text
    assert "model=best" in re.findall(r'href="(diagnostic\?[^"]+)"', page.text)[0]
    assert httpx.get(f"{home}diagnostic?d=p/nothing").status_code == 404
    assert httpx.get(f"{home}diagnostic").status_code == 404
