"""What analysts ask, answered in a browser, in as few clicks as promised."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect
from tests.web.conftest import decoded

from emdstore.catalog import Catalog
from emdstore.demo import Ensemble, Fate, write_ensemble
from emdstore.stores import LocalArtifactStore
from emdstore.web.app import make_app

pytestmark = [pytest.mark.slow, pytest.mark.once]

Visit = Callable[..., Page]


ENSEMBLE = Ensemble(models=4, diagnostics=2, executions=14, regions=2, years=20, pixels=1, seed=2)
"""Two rounds of seven runs each; in each round one fails, one is killed, and one lacks a plot."""


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results and catalog of the ensemble, as if its first round had run a week ago."""
    folder = tmp_path_factory.mktemp("ensemble")
    write_ensemble(folder, ENSEMBLE)
    first = next(ENSEMBLE.runs()).name
    with sqlite3.connect(folder / "catalog.db") as database:
        for name in ("created_at", "started_at", "stopped_at", "published_at"):
            earlier = f"strftime('%Y-%m-%d %H:%M:%f', {name}, '-7 days')"
            database.execute(f"UPDATE execution SET {name} = {earlier} WHERE fragment LIKE '%/{first}'")
    return folder


@pytest.fixture(scope="module")
def catalog(ensemble: Path) -> Iterator[Catalog]:
    with Catalog(ensemble / "catalog.db", create=False) as catalog:
        yield catalog


@pytest.fixture(scope="module")
def home(ensemble: Path, catalog: Catalog, served: Callable[..., str]) -> str:
    """The address of a site over it."""
    return served(make_app(catalog, LocalArtifactStore(ensemble / "results")))


def test_the_best_models_of_a_diagnostic_in_a_region_take_two_clicks(home: str, visit: Visit, catalog: Catalog) -> None:
    page = visit(home)
    page.click(".options a:text-is('tropics')")
    page.click(".matrix thead th:nth-child(3) button")
    best = page.locator(".matrix tbody tr").first.locator("th").inner_text()
    name = page.locator(".matrix thead th:nth-child(3)").get_attribute("title") or ""
    provider, diagnostic = name.split(" ")
    where = {"metric": "rmse", "season": "ANN", "region": "tropics"}
    rows = catalog.scalars(latest=True, provider=provider, diagnostic=diagnostic, dimensions=where)
    newest = {
        row.execution_id for row in catalog.survey(newest=True).rows(20)
    }  # of what failed since, no value is shown
    errors = {row.dimensions["source_id"]: row.value for row in rows if row.execution_id in newest}
    assert best == min(errors, key=lambda model: errors[model])


def test_what_is_missing_is_said_on_the_first_page_and_why_runs_failed_one_click_away(home: str, visit: Visit) -> None:
    page = visit(home)
    assert page.locator(".kinds .never").inner_text() == "1 never run"
    page.click(".kinds a.failed")
    (failed,) = (run for run in ENSEMBLE.runs() if run.round == 1 and run.fate is Fate.FAILED)
    row = page.locator(".executions tr").filter(has_text=failed.diagnostic.name).filter(has_text=failed.group)
    assert re.search(r"\w+Error: ", row.locator(".why").inner_text())


def test_all_series_with_their_reference_and_all_plots_take_two_clicks(
    home: str, visit: Visit, catalog: Catalog
) -> None:
    page = visit(home)
    page.click(".matrix thead th:nth-child(3) a")
    page.click(".sections a[href='#series']")
    chart = page.locator("#series figure.chart").first
    expect(chart).to_be_visible()
    assert "(reference)" in chart.locator(".legend").inner_text()
    models = catalog.executions(latest=True, diagnostic=page.locator("h1").inner_text()).count()
    assert chart.locator(".lines path:not([data-marks])").count() == 1 + models
    assert all(width > 0 for width in decoded(page, ".all-models[open] img"))


def test_the_numbers_are_one_click_more(home: str, visit: Visit) -> None:
    page = visit(home)
    link = page.locator("a[href^='overview.csv']").get_attribute("href") or ""
    assert httpx.get(home + link).text.count("\n") == 1 + page.locator(".matrix tbody tr").count()
    page.click("nav >> text=Values")
    page.click("text=This selection in Python")
    expect(page.locator(".python pre")).to_contain_text(".scalars(latest=True)")
    expect(page.locator(".python pre")).to_contain_text("rows.to_xarray()")


def test_what_changed_since_a_date_takes_two_clicks(home: str, visit: Visit, catalog: Catalog) -> None:
    page = visit(home)
    page.click("nav >> text=Changes")
    since = min(row.published_at for row in catalog.executions() if row.published_at is not None)
    page.fill("#from", f"{since:%Y-%m-%d}")
    page.click("button:text-is('Show')")

    def listed(section: str) -> set[str]:
        rows = page.locator(f"#{section} tbody tr")
        return {" ".join(row.locator("td").all_inner_texts()[:2]) for row in rows.all()}

    was_good: dict[str, list[bool]] = {}
    values: dict[str, list[list[float]]] = {}
    for run in ENSEMBLE.runs():
        name = f"{run.diagnostic.name} {run.group}"
        was_good.setdefault(name, []).append(run.fate is Fate.GOOD)
        values.setdefault(name, []).append([row.value for row in catalog.scalars(fragment=run.fragment)])
    assert listed("broken") == {name for name, good in was_good.items() if good == [True, False]}
    assert listed("mended") == {name for name, good in was_good.items() if good == [False, True]}
    moved = {
        name
        for name, (before, after) in values.items()
        if was_good[name] == [True, True]
        and any(abs(b - a) > 0.05 * abs(a) for a, b in zip(before, after, strict=True))
    }
    assert listed("moved") == moved
    assert all(map(len, (listed("broken"), listed("mended"), moved)))


def test_a_stretch_of_a_chart_is_shown_in_the_whole_width_by_mouse_finger_and_keys(home: str, visit: Visit) -> None:
    page = visit(home, has_touch=True)
    page.click(".matrix thead th:nth-child(3) a")
    area = page.locator("#series .area").first
    area.scroll_into_view_if_needed()
    tip = page.locator("#series figure .tip").first
    tip.wait_for(state="attached")
    box = area.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    lines = area.locator(".lines")

    def shown() -> tuple[float, float]:
        left, _, width, _ = map(float, (lines.get_attribute("viewBox") or "").split())
        return round(left, -1), round(width, -1)

    page.mouse.move(box["x"] + 0.25 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], middle, steps=3)
    page.mouse.up()
    assert shown() == (250, 250)
    assert not page.locator("#series .pinned").count()
    page.keyboard.press("Escape")
    assert shown() == (0, 1000)

    fingers = page.context.new_cdp_session(page)
    for kind, place in (("touchStart", 0.5), ("touchMove", 0.6), ("touchMove", 0.75), ("touchEnd", None)):
        points = [] if place is None else [{"x": box["x"] + place * box["width"], "y": middle}]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert shown() == (500, 250)
    page.click("#series .all >> visible=true")
    assert shown() == (0, 1000)

    page.locator("#series .canvas").first.focus()
    page.keyboard.press("+")
    assert shown() == (250, 500)
    page.keyboard.press("ArrowDown")
    assert shown() == (0, 500)  # where the line begins
    first = tip.inner_text()
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() != first
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#series figure").first.locator(".legend .pinned").count() == 1
    page.keyboard.press("Escape")
    assert shown() == (0, 1000)
