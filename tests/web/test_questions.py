"""What analysts ask, answered in a browser, in as few clicks as promised."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect
from tests.ensembles import FAILED
from tests.web.conftest import Site, decoded

from emdstore.catalog import Catalog
from emdstore.stores import LocalArtifactStore
from emdstore.web.app import make_app

pytestmark = pytest.mark.slow

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def home(demo: Path, served: Callable[..., str]) -> str:
    """The address of a site over the small ensemble."""
    catalog = Catalog(demo / "catalog.db", create=False)
    return served(make_app(catalog, LocalArtifactStore(demo / "results")))


def test_the_best_models_of_a_diagnostic_in_a_season_take_two_clicks(home: str, visit: Visit, demo: Path) -> None:
    page = visit(home)
    page.click(".options a:text-is('DJF')")
    page.click(".matrix thead th:nth-child(3) button")
    best = page.locator(".matrix tbody tr").first.locator("th").inner_text()
    name = page.locator(".matrix thead th:nth-child(3)").get_attribute("title") or ""
    provider, diagnostic = name.split(" ")
    where = {"metric": "rmse", "season": "DJF"}
    with Catalog(demo / "catalog.db", create=False) as catalog:
        rows = catalog.scalars(latest=True, provider=provider, diagnostic=diagnostic, dimensions=where)
        errors = {row.dimensions["source_id"]: row.value for row in rows}
    assert best == min(errors, key=lambda model: errors[model])


def test_what_is_missing_is_said_on_the_first_page_and_why_runs_failed_one_click_away(home: str, visit: Visit) -> None:
    page = visit(home)
    assert page.locator(".kinds .never").inner_text() == "1 never run"
    page.click(".kinds a.failed")
    _, diagnostic, group, _ = FAILED.split("/")
    row = page.locator(".executions tr").filter(has_text=diagnostic).filter(has_text=group)
    assert re.search(r"\w+Error: ", row.locator(".why").inner_text())


def test_all_series_with_their_reference_and_all_plots_take_two_clicks(home: str, visit: Visit) -> None:
    page = visit(home)
    page.click(".matrix thead th:nth-child(3) a")
    page.click(".sections a[href='#series']")
    chart = page.locator("#series figure.chart").first
    expect(chart).to_be_visible()
    assert "(reference)" in chart.locator(".legend").inner_text()
    models = page.locator(".pivot tbody tr").filter(has_not_text="failed").filter(has_not_text="incomplete").count()
    assert chart.locator(".lines path:not([data-marks])").count() == 1 + models
    assert all(width > 0 for width in decoded(page, ".all-models[open] img"))


def test_the_numbers_are_one_click_more(home: str, visit: Visit) -> None:
    page = visit(home)
    link = page.locator("a[href^='overview.csv']").get_attribute("href") or ""
    assert httpx.get(home + link).text.count("\n") == 1 + page.locator(".matrix tbody tr").count()
    page.click("nav >> text=Values")
    page.click("text=This selection in Python")
    expect(page.locator(".python pre")).to_contain_text(".scalars(latest=True).to_pandas()")


def test_what_changed_takes_two_clicks(sites: Callable[[str], Site], visit: Visit) -> None:
    site = sites("local")
    page = visit(site.root)
    page.click("nav >> text=Changes")
    page.fill("#from", "2025-10-06")  # before anything ran
    page.click("button:text-is('Show')")
    groups = {(row.provider, row.diagnostic, row.group) for row in site.library.catalog.executions()}
    expect(page.locator("#new tbody tr")).to_have_count(len(groups))


def test_a_stretch_of_a_chart_is_shown_in_the_whole_width_until_escape(home: str, visit: Visit) -> None:
    page = visit(home)
    page.click(".matrix thead th:nth-child(3) a")
    area = page.locator("#series .area").first
    area.scroll_into_view_if_needed()
    page.locator("#series figure .tip").first.wait_for(state="attached")
    box = area.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.25 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], middle, steps=3)
    page.mouse.up()
    lines = area.locator(".lines")
    left, _, width, _ = map(float, (lines.get_attribute("viewBox") or "").split())
    assert (round(left, -1), round(width, -1)) == (250, 250)
    assert not page.locator("#series .pinned").count()
    page.keyboard.press("Escape")
    expect(lines).to_have_attribute("viewBox", "0 0 1000 500")
