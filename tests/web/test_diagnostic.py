"""The page of one diagnostic: all models by all metrics, drawn and in numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

import httpx
import pytest
from tests.web.models import MODELS, execution, values_of

from emdstore.catalog import Catalog
from emdstore.errors import QueryError
from emdstore.stores import InMemoryArtifactStore
from emdstore.web.app import make_app
from emdstore.web.diagnostic import Scores, read_scores
from emdstore.web.metrics import known_metrics
from emdstore.web.selection import PageSelection
from emdstore.web.taylor import TaylorPoint, draw_taylor


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with Catalog(tmp_path_factory.mktemp("diagnostic") / "catalog.db") as catalog:
        for model in MODELS:
            catalog.replace_execution(execution(model, "a"))
        catalog.replace_execution(execution("broken", "a", status="failed", complete=False, scalars=[]))
        catalog.replace_execution(execution("broken", "failing", status="failed", complete=False, scalars=[]))
        yield catalog


def scores_of(catalog: Catalog, mine: str = "", **chosen: str) -> Scores:
    selection = PageSelection(chosen={f"d.{name}": (value,) for name, value in chosen.items()})
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
    assert "No execution of this diagnostic has values" in httpx.get(f"{home}diagnostic?d=p/failing").text
    assert httpx.get(f"{home}diagnostic?d=p/nothing").status_code == 404
    assert httpx.get(f"{home}diagnostic").status_code == 404


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """Six models, one of which is far from the others by one metric, and none by the others."""
    with Catalog(tmp_path_factory.mktemp("far") / "catalog.db") as catalog:
        for number in range(6):
            model = f"m{number}"
            found = {"rmse": 99.0 if number == 5 else 1 + number / 10, "corr": 0.9 + number / 100, "sd_ratio": 1.0}
            scalars = [
                (
                    value,
                    {"source_id": model, "region": region, "metric": metric},
                    {"units": "K"} if metric == "rmse" else {},
                )
                for region in ("global", "tropics")
                for metric, value in found.items()
            ]
            catalog.replace_execution(execution(model, "a", scalars=scalars))
        yield catalog


def test_each_chart_says_how_many_outliers_it_hides_and_none_hides_any_unless_asked(far: Catalog) -> None:
    asked = PageSelection(chosen={"d.metric": ("rmse",)}, hide_outliers=True)
    shown, page = scores_of(far, metric="rmse"), read_scores(far, ("p", "a"), asked, known_metrics())
    for scores, hidden in ((shown, ("", "", "", "")), (page, ("1 model", "2 values", "1 value", ""))):
        assert scores.ranking is not None
        assert scores.profile is not None
        told = scores.ranking.hidden, scores.spread[0].hidden, scores.profile.hidden, scores.taylor_hidden
        assert told == tuple(f"{each} hidden as outliers" if each else "" for each in hidden)
    assert page.ranking is not None
    assert "m5" not in page.ranking.labels
    assert {row.name for row in page.rows if row.cells[page.heads.index("rmse")].kind == "outlier"} == {"m5"}
    assert len(page.taylor) == 6
    cell = next(row.cells[0] for row in page.shown.rows if row.name == "m5")
    assert (cell.value, cell.note) == (None, "hidden: 99 K")
    # What is usual is decided among those that are shown.
    assert [row.cells[0].relative for row in page.shown.rows][2] == 0


def test_the_pages_offer_to_hide_outliers_and_say_how_many_are_hidden(far: Catalog, served: Callable[..., str]) -> None:
    home = served(make_app(far, InMemoryArtifactStore()))
    for address in ("?d.metric=rmse", "diagnostic?d=p/a&d.metric=rmse", "values?d.metric=rmse"):
        text = httpx.get(f"{home}{address}").text
        assert "hide outliers" in text
        assert "as outliers" not in text
        text = httpx.get(f"{home}{address}&outliers=hide").text
        assert re.search(r"1 outlier hidden|2 scalars of outliers hidden", text), address
        if not address.startswith("?"):
            assert "2 values hidden as outliers</figcaption>" in text
    assert "2 values hidden as outliers" in far.plot.box("a", dimensions={"metric": "rmse"}, outliers="hide").html
    assert far.plot.portrait(dimensions={"metric": "rmse"}, outliers="hide").html.count("hidden: 99") == 1
    with pytest.raises(QueryError, match="no way to draw outliers"):
        far.plot.taylor("a", outliers="flag")  # type: ignore[arg-type]


def test_a_metric_with_units_has_them_in_its_head(far: Catalog, served: Callable[..., str]) -> None:
    text = httpx.get(f"{served(make_app(far, InMemoryArtifactStore()))}diagnostic?d=p/a").text
    assert re.findall(r'number">(\w+) <span class="units">\[(\w+)\]', text) == [("rmse", "K")]
