"""`Catalog.plot` draws what the pages show."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web.models import MODELS, execution

from emdstore import Catalog, QueryError

WHERE = {"region": "global", "season": "DJF"}


@pytest.fixture(scope="module")
def catalog() -> Iterator[Catalog]:
    with Catalog("sqlite://") as catalog:
        for model in MODELS:
            series = [
                ({"source_id": source, **where}, "year", [2000, 2001], [1.5, 2.5], {"kind": kind})
                for source, kind in ((model, "model"), ("Reference", "reference"))
                for where in (WHERE, WHERE | {"season": "JJA"})
            ]
            catalog.replace_execution(execution(model, "a", series=series))
            catalog.replace_execution(execution(model, "b"))
        yield catalog


def test_the_portrait_has_a_cell_for_each_model_and_diagnostic_and_leads_nowhere(catalog: Catalog) -> None:
    page = catalog.plot.portrait(dimensions={"region": "tropics"}).html
    rows = re.findall(r'<th scope="row">(.*?)</th>', page)
    assert rows == ["best", "typical", "worst"]
    assert page.count('role="img"') == 6
    assert "href=" not in page.split("<main")[1].split("<script")[0]
    assert catalog.plot.portrait(diagnostic="a").html.count('role="img"') == 3


def test_a_taylor_diagram_and_boxes_are_of_one_diagnostic_with_a_model_marked(catalog: Catalog) -> None:
    page = catalog.plot.taylor("a", mark="best").html
    assert len(re.findall('<g class="model(?: mine)?">', page)) == 3
    assert len(re.findall('<g class="model mine"><title>best:', page)) == 1
    boxes = catalog.plot.box("a", dimensions={"metric": "rmse"}, mark="worst").html
    assert ">worst</li>" in boxes
    assert "rmse" in boxes
    assert "sd_ratio" not in boxes.split("<main")[1].split("<script>")[0]


def test_series_have_their_reference_once_in_a_chart_for_each_place(catalog: Catalog) -> None:
    page = catalog.plot.series("a").html
    assert page.count("<figure") == 2
    one = catalog.plot.series("a", dimensions={"season": "JJA"}).html
    legend = re.findall(r'<ul class="legend">(.*?)</ul>', one)
    assert len(legend) == 1
    assert legend[0].count("(reference)") + legend[0].count(">reference<") == 1
    assert all(f">{model}<" in legend[0] for model in MODELS)


def test_a_drawing_is_a_page_of_its_own_also_in_a_notebook(catalog: Catalog, tmp_path: Path) -> None:
    drawing = catalog.plot.portrait()
    drawing.save(tmp_path / "portrait.html")
    page = (tmp_path / "portrait.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!#)', page.split("<script>")[0])
    frame = drawing._repr_html_()
    assert html.unescape(frame.split('srcdoc="')[1].split('" title=')[0]) == page
    assert len(repr(drawing)) < 100


@pytest.mark.parametrize("name", ["c", ""])
def test_a_diagnostic_that_is_not_there_is_an_error(catalog: Catalog, name: str) -> None:
    with pytest.raises(QueryError, match="no diagnostic"):
        catalog.plot.series(name)
