"""The table of all models: which value means which error, which model is best, and what has no value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.web.models import MODELS, execution

from emdstore.catalog import Catalog
from emdstore.errors import WorkspaceError
from emdstore.stores import InMemoryArtifactStore
from emdstore.web.app import make_app
from emdstore.web.memory import Memory
from emdstore.web.metrics import colour_of, known_metrics, relative_errors
from emdstore.web.overview import Overview, read_overview
from emdstore.web.report import write_report
from emdstore.web.selection import PageSelection


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    failed: dict[str, Any] = {
        "status": "failed",
        "complete": False,
        "scalars": [],
        "failure": "diagnostic",
        "error": "KeyError: 'tas'",
    }
    nothing = [(math.nan, {"source_id": "best", "region": "global", "season": "ANN", "metric": "rmse"}, {})]
    with Catalog(tmp_path_factory.mktemp("overview") / "catalog.db") as catalog:
        for content in (
            *(execution(model, "a") for model in MODELS),
            *(execution(model, "b") for model in MODELS),
            execution("best", "c", scalars=nothing),
            execution("typical", "c"),
            execution("typical", "c", day=2, **failed),
            execution("best", "d", **(failed | {"failure": "result"})),
            # What was made good since counts no more.
            execution("worst", "d", **failed),
            execution("worst", "d", day=2),
            execution("typical", "d", retracted_at=datetime(2025, 2, 1, tzinfo=UTC), retraction_reason="wrong sign"),
        ):
            catalog.replace_execution(content)
        yield catalog


def table(page: Overview) -> dict[str, dict[str, str]]:
    return {row.name: {h.name: c.shown for h, c in zip(page.heads, row.cells, strict=True)} for row in page.rows}


@pytest.mark.parametrize("metric", ["rmse", "bias", "corr", "sd_ratio"])
def test_every_metric_orders_the_models_by_their_error(metric: str, catalog: Catalog) -> None:
    page = read_overview(catalog, PageSelection(chosen={"d.metric": (metric,)}))
    assert [row.name for row in page.rows] == ["best", "typical", "worst"]
    shown = table(page)
    for diagnostic in ("a", "b"):  # in b biases are negative
        assert [shown[model][diagnostic] for model in MODELS] == ["−0.60", "+0.00", "+2.00"]
    colours = [row.cells[0].colour for row in page.rows]
    assert colours == ["e0", "e3", "e7"]


def test_what_has_no_value_is_said_in_its_own_words(catalog: Catalog) -> None:
    page = read_overview(catalog, PageSelection())
    shown = table(page)
    assert page.metric_name == "rmse"
    assert shown["best"]["c"] == "no value"
    assert shown["typical"]["c"] == "failed"
    assert shown["worst"]["c"] == "never run"
    assert shown["best"]["d"] == "incomplete"
    assert shown["typical"]["d"] == "retracted"
    assert shown["worst"]["d"] == "+0.00"  # the only one of its column
    assert page.kinds == {"value": 7, "empty": 1, "failed": 1, "never": 1, "incomplete": 1, "retracted": 1}
    (cell,) = [cell for row in page.rows for cell in row.cells if cell.kind == "failed"]
    assert cell.note == "KeyError: 'tas'; an older run has 1"


def test_models_and_diagnostics_of_projects_that_share_nothing_are_not_missing(served: Callable[..., str]) -> None:
    with Catalog("sqlite://") as catalog:
        for model, diagnostic in (("a", "x"), ("b", "x"), ("a", "y"), ("else", "z"), ("else", "w")):
            catalog.replace_execution(execution(model, diagnostic))
        page = read_overview(catalog, PageSelection())
        assert {name: [cells[each] for each in "xywz"] for name, cells in kinds(page).items()} == {
            "a": ["value", "value", "elsewhere", "elsewhere"],
            "b": ["value", "never", "elsewhere", "elsewhere"],
            "else": ["elsewhere", "elsewhere", "value", "value"],
        }
        catalog.replace_execution(execution("b", "z"))  # from then on there is something to compare with
        assert read_overview(catalog, PageSelection()).kinds == {"value": 6, "never": 4, "elsewhere": 2}
        assert "4 never run" in httpx.get(served(make_app(catalog, InMemoryArtifactStore()))).text


def kinds(page: Overview) -> dict[str, dict[str, str]]:
    return {row.name: {h.name: c.kind for h, c in zip(page.heads, row.cells, strict=True)} for row in page.rows}


def test_seasons_are_the_parts_of_a_portrait(catalog: Catalog) -> None:
    page = read_overview(catalog, PageSelection())
    assert page.seasons == ("DJF", "JJA")
    assert page.rows[0].cells[0].parts == pytest.approx((-0.6, -0.6))


def test_what_can_be_chosen_is_offered_and_what_does_not_exist_is_not_shown(catalog: Catalog) -> None:
    page = read_overview(catalog, PageSelection(chosen={"d.metric": ("nope",), "d.region": ("tropics",)}))
    assert page.metric_name == "rmse"
    assert {name: [each.value for each in options] for name, options in page.options.items()} == {
        "metric": ["rmse", "bias", "corr", "sd_ratio"],
        "region": ["global", "tropics"],
        "season": ["ANN", "DJF", "JJA"],
    }
    assert [each.value for each in page.options["region"] if each.chosen] == ["tropics"]


def test_the_page_leads_to_every_execution_and_stays_small(catalog: Catalog, served: Callable[..., str]) -> None:
    home = served(make_app(catalog, InMemoryArtifactStore()))
    for query in ("", "?view=portrait", "?d.metric=bias"):
        text = httpx.get(f"{home}{query}").text
        assert len(text) < 200_000
        linked = set(re.findall(r'href="execution/(\d+)"', text))
        assert linked == {str(row.execution_id) for row in catalog.survey(newest=True).rows(99)} | {
            str(row.execution_id) for row in catalog.executions(retracted=True)
        }
    assert httpx.get(f"{home}?view=portrait").text.count("<svg viewBox") == 7


def test_what_changed_in_the_catalog_is_in_the_next_table() -> None:
    memory = Memory()
    with Catalog("sqlite://") as catalog:
        assert read_overview(catalog, PageSelection(), memory=memory).rows == ()
        catalog.replace_execution(execution("best", "a"))
        assert read_overview(catalog, PageSelection(), memory=memory).metric_name == "rmse"
        assert read_overview(catalog, PageSelection(), memory=memory).kinds == {"value": 1}


def test_a_report_has_the_table_of_each_metric_and_region(catalog: Catalog, tmp_path: Path) -> None:
    write_report(tmp_path / "site", catalog, InMemoryArtifactStore())
    first = (tmp_path / "site/index.html").read_text()
    links = set(re.findall(r'href="(overview/[^"]+)"', first))
    assert len(links) == 1 + 3 + 1 + 2 + 1  # itself, other metrics, regions and seasons, and the portrait
    for link in links:
        assert (tmp_path / "site" / link).is_file()
    tropics = re.search(r'href="([^"]+)">tropics</a>', first)
    assert tropics is not None
    there = (tmp_path / "site" / tropics[1]).read_text()
    assert re.search(r'aria-current="true">tropics</a>', there)
    assert len(list((tmp_path / "site/overview").iterdir())) == 4 * 2 * 3 * 2


def test_a_relative_error_is_that_of_the_median() -> None:
    assert relative_errors([1.0, 2.0, 6.0, None, math.nan]) == [-0.5, 0.0, 2.0, None, None]
    assert relative_errors([0.0, 0.0, 1.0]) == [0.0, 0.0, math.inf]
    assert relative_errors([None]) == [None]
    assert [colour_of(each) for each in (-0.5, -0.49, 0.0, 1.0, math.inf, None)] == [
        "e0",
        "e1",
        "e3",
        "e6",
        "e7",
        "none",
    ]


def test_a_file_adds_metrics_and_replaces_some(tmp_path: Path) -> None:
    file = tmp_path / "metrics.toml"
    file.write_text('[rmse]\nperfect = 2\n["My Index"]\nperfect = 1\nalso = ["mi"]\n')
    known = known_metrics(file)
    assert known["rmse"].error(5.0) == 3.0
    assert known["my_index"].error(0.25) == known["mi"].error(0.25) == 0.75
    assert known["corr"].error(0.25) == 0.75
    for wrong in ("[rmse]\n", "rmse = 1\n", "[rmse", '[rmse]\nperfect = "x"\n'):
        file.write_text(wrong)
        with pytest.raises(WorkspaceError, match="no table of metrics"):
            known_metrics(file)
    with pytest.raises(WorkspaceError, match="no table of metrics"):
        known_metrics(tmp_path / "none.toml")


def test_the_list_of_executions_is_ordered_by_what_a_visitor_clicks(served: Callable[..., str]) -> None:
    with Catalog("sqlite://") as catalog:
        for number, name in enumerate(("b", "c", "a"), 1):
            scalars = [(1.0, {"metric": str(n)}, {}) for n in range(number)]
            catalog.replace_execution(execution(name, name, day=number, scalars=scalars))
        home = served(make_app(catalog, InMemoryArtifactStore()))

        def order(query: str) -> str:
            page = httpx.get(f"{home}executions?{query}").text
            return "".join(re.findall('<span class="group">cmip6_(.)</span>', page))

        found = {
            query: order(query) for query in ("", "sort=diagnostic", "sort=-diagnostic", "sort=-scalars", "sort=when")
        }
        assert list(found.values()) == ["acb", "abc", "cba", "acb", "bca"]
        assert order("sort=nothing") == "acb"
        assert 'aria-sort="descending"' in httpx.get(f"{home}executions?sort=-scalars").text
