"""Views that somebody named for others: cards on the page to begin with, and a page for each."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.web.models import MODELS, execution

from emdstore import Catalog, InMemoryArtifactStore, WorkspaceError
from emdstore.web.app import make_app
from emdstore.web.report import write_report
from emdstore.web.views import FILE, read_views

VIEWS = """
views:
  - title: "All models, <b>one</b> look"
    text: In the tropics.
    dimensions: {metric: rmse, region: tropics}
  - {title: Ranking, chart: ranking, diagnostic: a, dimensions: {metric: bias}, mark: best}
  - {title: Boxes, chart: box, diagnostic: a}
  - {title: Pattern, chart: taylor, diagnostic: a, mark: worst}
  - {title: Lines, chart: series, diagnostic: a}
  - {title: Odd, chart: table, dimensions: {metric: odd, region: mars}, perfect: {odd: 5}}
  - {title: Not yet, chart: box, diagnostic: permafrost}
"""
GAPS = {"Ranking": 1, "Boxes": 1, "Pattern": 1, "Lines": 1, "Not yet": 1}


def catalog_in(folder: Path) -> Catalog:
    catalog = Catalog(folder / "catalog.db")
    series = [({"source_id": "best", "season": "DJF"}, "year", [2000, 2001], [1.5, 2.5], {})]
    for model in MODELS:
        odd = [
            (
                {"best": 5.0, "typical": 6.0, "worst": 9.0}[model],
                {"metric": "odd", "source_id": model, "region": "nh"},
                {},
            )
        ]
        catalog.replace_execution(execution(model, "a", series=series if model == "best" else []))
        catalog.replace_execution(execution(model, "o", scalars=odd))
    catalog.replace_execution(execution("broken", "a", status="failed", complete=False, scalars=[]))
    return catalog


@pytest.fixture(params=["beside the catalog", "in the results"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Catalog, InMemoryArtifactStore]:
    results = InMemoryArtifactStore()
    if request.param == "in the results":
        results.write_bytes(FILE, VIEWS.encode())
    else:
        (tmp_path / FILE).write_text(VIEWS)
    return catalog_in(tmp_path), results


def test_views_are_cards_and_each_has_its_page_where_gaps_are_said(
    place: tuple[Catalog, InMemoryArtifactStore], served: Callable[..., str]
) -> None:
    home = served(make_app(*place))
    start = httpx.get(home).text
    cards = re.findall(r'<li><a href="(.*?)"><strong>(.*?)</strong></a>(.*?)</li>', start)
    assert len(cards) == 7
    assert cards[0][1] == "All models, &lt;b&gt;one&lt;/b&gt; look"
    assert {
        title: int(number) for _, title, rest in cards for number in re.findall(r"(\d+) gap", rest) if title in GAPS
    } == GAPS
    pages = {title: httpx.get(home + link) for link, title, _ in cards}
    assert all(page.status_code == 200 for page in pages.values())
    assert "<li>broken: failed</li>" in pages["Ranking"].text
    assert pages["Ranking"].text.count("<figure") == 1
    assert 'class="model mine"><title>worst' in pages["Pattern"].text
    assert ">best</li>" in pages["Lines"].text or "best" in pages["Lines"].text
    assert "there is no execution of permafrost" in pages["Not yet"].text
    assert "no value has region = mars" in pages["Odd"].text
    assert re.findall(r'<th scope="row">(.*?)</th>', pages["Odd"].text)[0] == "best"
    assert "views" not in httpx.get(home + "?d.metric=rmse").text.lower()
    assert httpx.get(home + "view/nope").status_code == 404


def test_a_report_has_them_too(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(VIEWS)
    write_report(tmp_path / "site", catalog_in(tmp_path), InMemoryArtifactStore())
    links = re.findall(r'<li><a href="(view/.*?)"><strong>', (tmp_path / "site/index.html").read_text())
    assert len(links) == 7
    assert all("</main>" in (tmp_path / "site" / link).read_text() for link in links)
    (tmp_path / FILE).unlink()
    write_report(tmp_path / "site", catalog_in(tmp_path), InMemoryArtifactStore())
    assert not list((tmp_path / "site").glob("view/*"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("views: [{title: A, colour: red}]", "no 'colour'"),
        ("views: [{text: A}]", "title"),
        ("views: [{title: A, chart: pie}]", "pie"),
        ("views: [{title: A, chart: box}]", "needs the diagnostic"),
        ("views: [{title: A}, {title: a}]", "two views"),
        ("- A", "one key"),
        ("views: [", "understood"),
    ],
)
def test_a_file_that_is_not_understood_is_said_and_the_rest_is_shown(
    text: str, said: str, tmp_path: Path, served: Callable[..., str]
) -> None:
    (tmp_path / FILE).write_text(text)
    catalog, results = catalog_in(tmp_path), InMemoryArtifactStore()
    with pytest.raises(WorkspaceError, match=said):
        read_views(catalog, results)
    if said == "two views":
        page = httpx.get(served(make_app(catalog, results))).text
        assert "cannot be understood" in page
        assert page.count('<th scope="row">') == 4
