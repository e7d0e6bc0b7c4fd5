"""Every page in a real browser: served from a local store, served from S3, and as files without a network."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.web.conftest import Site, decoded, drawn_charts
from tests.web.library import OTHER_TEMPERATURE, PRODUCTION, TEMPERATURE

pytestmark = pytest.mark.slow

Visit = Callable[..., Page]
ROWS = ".executions tbody tr:visible"


def drawn(page: Page) -> list[list[list[float | None]]]:
    """Return what the chart library has drawn: for each chart, the y values of each trace."""
    drawn_charts(page)
    return page.evaluate(
        """() => [...document.querySelectorAll("figure.chart .canvas")].map(
             (canvas) => canvas.data.map((trace) => [...trace.y]))"""
    )


def test_what_needs_attention_comes_first_and_says_why(site: Site, visit: Visit) -> None:
    page = visit(site.url())
    states = page.locator(".executions .badge").all_inner_texts()
    assert states[:4] == ["not shipped", "left behind", "incomplete", "failed"]
    assert set(states[4:]) == {"uploaded"}
    assert "the disk of the results store is full" in page.locator(ROWS).first.inner_text()
    assert len(states) == site.library.catalog.executions().count()


def test_a_facet_changes_the_address_and_the_rows(site: Site, visit: Visit) -> None:
    page = visit(site.url())
    wanted = site.library.catalog.executions(provider="meanstate")
    page.click("a[data-facet=provider][data-value=meanstate]")
    expect(page.locator(ROWS)).to_have_count(wanted.count())
    assert page.url == site.url(query="provider=meanstate")
    assert page.locator("a[data-facet=provider][aria-current]").inner_text().startswith("meanstate")
    # The other facets count what is left.
    assert page.locator("a[data-facet=diagnostic]:visible").count() == len({row.diagnostic for row in wanted})
    page.click("a[data-facet=diagnostic][data-value=precipitation]")
    expect(page.locator(ROWS)).to_have_count(2)
    page.click("a[data-facet=provider][data-value=meanstate]")
    expect(page.locator("a[data-facet=provider][aria-current]")).to_have_count(0)
    page.go_back()
    expect(page.locator(ROWS)).to_have_count(2)
    assert "provider=meanstate" in page.url


def test_a_search_finds_words_of_the_name_and_of_the_reason(site: Site, visit: Visit) -> None:
    page = visit(site.url())
    page.fill("input[name=q]", "DISK enso")
    page.press("input[name=q]", "Enter")
    expect(page.locator(ROWS)).to_have_count(1)
    assert "not shipped" in page.locator(ROWS).inner_text()
    page.goto(site.url(query="attention=1"))
    expect(page.locator(ROWS)).to_have_count(4)
    assert page.input_value("input[name=q]") == ""


def test_the_gallery_shows_every_plot_with_its_caption(any_site: Site, visit: Visit) -> None:
    site = any_site
    page = visit(site.execution(TEMPERATURE))
    row = site.library.catalog.execution(TEMPERATURE)
    plots = list(site.library.catalog.outputs(fragment=row.fragment))
    plots = [each for each in plots if each.kind == "plot"]
    widths = decoded(page)
    assert len(widths) == len(plots) > 5
    assert all(width > 0 for width in widths)
    captions = page.locator(".plot figcaption strong").all_inner_texts()
    assert captions == [each.long_name for each in plots]


def test_a_chart_has_the_points_of_its_series_and_their_table(any_site: Site, visit: Visit) -> None:
    site = any_site
    page = visit(site.execution(TEMPERATURE))
    series = list(site.library.catalog.series(fragment=TEMPERATURE))
    charts = drawn(page)
    shown = sorted(tuple(trace) for chart in charts for trace in chart)
    assert shown == sorted(tuple(each.values) for each in series)
    assert page.locator("figure.chart h3").first.inner_text().startswith("Near-surface air temperature")
    page.locator("figure.chart .numbers summary").first.click()
    table = page.locator("figure.chart .numbers table").first
    expect(table.locator("tbody tr")).to_have_count(len(series[0].index))
    assert table.locator("tbody tr").first.inner_text().split("\t")[0] == str(series[0].index[0])


def test_scalars_are_sorted_by_any_column_and_by_keyboard(site: Site, visit: Visit) -> None:
    page = visit(site.execution(PRODUCTION))
    column = "#scalar-table tbody td.number"
    page.focus("#scalar-table th.number button")
    page.keyboard.press("Enter")
    values = page.locator(column).evaluate_all("(cells) => cells.map((cell) => cell.dataset.value)")
    numbers = [float(value) for value in values if value != "nan"]
    assert numbers == sorted(numbers)
    assert len(values) == site.library.catalog.scalars(fragment=PRODUCTION).count()
    expect(page.locator("#scalar-table th[aria-sort=ascending]")).to_have_count(1)
    page.keyboard.press("Enter")
    again = page.locator(column).evaluate_all("(cells) => cells.map((cell) => cell.dataset.value)")
    assert [value for value in again if value != "nan"] == [value for value in reversed(values) if value != "nan"]


def test_a_failed_run_shows_why_and_the_end_of_its_log(any_site: Site, visit: Visit) -> None:
    site = any_site
    page = visit(site.execution("enso/historical/10"))
    assert "the run failed" in page.locator(".failure").inner_text()
    log = page.locator(".failure pre").inner_text()
    assert log.rstrip().endswith("ValueError: 3 time steps are not enough")
    assert len(log.splitlines()) == 60
    incomplete = visit(site.execution("enso/historical/11"))
    assert "diagnostic.json" in incomplete.locator(".failure").inner_text()


def test_an_executions_life_is_told(site: Site, visit: Visit) -> None:
    page = visit(site.execution(TEMPERATURE))
    steps = page.locator(".timeline strong").all_inner_texts()
    assert steps == ["created", "started", "stopped", "published", "uploaded"]
    row = site.library.catalog.execution(TEMPERATURE)
    assert row.started_at is not None
    assert f"{row.started_at:%Y-%m-%d %H:%M}" in page.locator(".timeline").inner_text()
    assert page.locator(".files tbody tr").count() == row.artifacts


def test_compare_shows_plots_side_by_side_and_the_difference_that_the_data_has(any_site: Site, visit: Visit) -> None:
    site = any_site
    page = visit(site.url())
    for ending in (TEMPERATURE, OTHER_TEMPERATURE):
        page.check(f"input[value='{site.library.id_of(ending)}']")
    page.click("text=Compare those ticked")
    expect(page.locator(".compared > li:visible")).to_have_count(2)
    assert all(width > 0 for width in decoded(page, ".side-by-side img"))
    both = page.locator(".pair").filter(has=page.locator(".side-by-side > div:nth-child(2) img"))
    assert both.first.locator("img").count() == 2
    where = {"metric": "bias", "region": "tropics", "season": "DJF"}
    found = site.library.catalog.scalars(diagnostic="surface-temperature", dimensions=where)
    bias = {row.fragment: row.value for row in found}
    assert set(bias) == {TEMPERATURE, OTHER_TEMPERATURE}
    first, second = page.locator(".compared > li").all_inner_texts()
    numbers = page.locator(".differences tbody tr")
    for word in where.values():
        numbers = numbers.filter(has_text=word)
    cells = numbers.first.locator("td.number").evaluate_all("(cells) => cells.map((cell) => cell.dataset.value)")
    a, b, difference, percent = map(float, cells)
    models = {fragment: fragment.split("historical_")[1].split("_")[0] for fragment in bias}
    assert [a, b] == [bias[name] for text in (first, second) for name, model in models.items() if model in text]
    assert difference == pytest.approx(b - a)
    assert percent == pytest.approx(100 * (b - a) / abs(a))


def test_compare_has_the_differences_of_all_scalars_and_overlays_the_series(site: Site, visit: Visit) -> None:
    page = visit(site.url("compare"))
    page.click("text=surface-temperature")
    expect(page.locator(".compared > li")).to_have_count(2)
    rows = page.locator(".differences tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.querySelectorAll('td.number')].map((cell) => cell.dataset.value))"
    )
    both = [tuple(map(float, row)) for row in rows]
    assert len(both) == 80
    assert all(difference == pytest.approx(b - a) for a, b, difference, _ in both)
    assert all(percent == pytest.approx(100 * (b - a) / abs(a)) for a, b, _, percent in both)
    values = {row.value for row in site.library.catalog.scalars(diagnostic="surface-temperature")}
    assert {value for a, b, *_ in both for value in (a, b)} == values
    shown = [json.loads(text) for text in page.locator(".chart-data").all_text_contents()]
    dots = [chart for chart in shown if chart["kind"] == "dots"]
    assert {trace["name"] for chart in dots for trace in chart["traces"]} == {"A", "B"}
    assert {x for chart in dots for trace in chart["traces"] for x in trace["x"]} == values
    lines = [tuple(line) for chart in drawn(page) for line in chart if len(line) in (12, 40)]
    series = list(site.library.catalog.series(diagnostic="surface-temperature"))
    assert sorted(lines) == sorted(each.values for each in series)


def test_values_are_chosen_by_dimension_and_drawn(site: Site, visit: Visit) -> None:
    page = visit(site.url("values", "provider=landmark"))
    page.click("a[data-facet='d.region'][data-value=tropics]")
    wanted = list(site.library.catalog.scalars(provider="landmark", dimensions={"region": "tropics"}))
    rows = page.locator("#value-table tbody tr:visible")
    expect(rows).to_have_count(len(wanted))
    assert page.url == site.url("values", "provider=landmark&d.region=tropics")
    cells = rows.locator("td.number").evaluate_all("(cells) => cells.map((cell) => cell.dataset.value)")
    assert sorted(map(str, (row.value for row in wanted))) == sorted(cells)
    drawn(page)
    dots = page.evaluate(
        """() => [...document.querySelectorAll("figure.chart:not([hidden])")].flatMap(
             (figure) => figure.chart.traces.flatMap((trace) => trace.x))"""
    )
    numbers = sorted(row.value for row in wanted if math.isfinite(row.value))
    assert sorted(one for one in dots if one is not None) == numbers


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["local", "report"])
def test_axe_finds_nothing(kind: str, scheme: str, sites: Callable[[str], Site], visit: Visit) -> None:
    site = sites(kind)
    page = visit(site.url(), tolerant=True, color_scheme=scheme)  # axe itself tries to fetch style sheets
    pages = [
        site.url(),
        site.url("values", "provider=meanstate&diagnostic=precipitation"),
        site.execution(TEMPERATURE),
        site.execution(PRODUCTION) if scheme == "light" else site.execution("historical/10"),
        site.url("compare"),
    ]
    # The pages are the same as files, but for what only one of the two has: the form that verifies, the list's script.
    for url in pages if kind == "local" else pages[:3:2]:
        page.goto(url)
        page.wait_for_timeout(100)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == [], url


def test_nothing_is_wider_than_a_phone(site: Site, visit: Visit) -> None:
    page = visit(site.url(), viewport={"width": 390, "height": 844})
    for url in (site.url(), site.execution(TEMPERATURE), site.url("values"), site.url("compare")):
        page.goto(url)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, url
    page.goto(site.url())
    assert page.locator(".facets summary").is_visible()
    assert not page.locator("a[data-facet]").first.is_visible()


def test_the_keyboard_reaches_the_content_first(site: Site, visit: Visit) -> None:
    page = visit(site.url())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
