"""Every page in a real browser: served from a local store, served from S3, and as files without a network."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.web.conftest import Site, decoded
from tests.web.library import OTHER_TEMPERATURE, PRODUCTION, TEMPERATURE

pytestmark = [pytest.mark.slow, pytest.mark.once]

Visit = Callable[..., Page]
ROWS = ".executions tbody tr:visible"


def charts_of(page: Page) -> list[dict[str, Any]]:
    """Return what the charts of a page are made of."""
    return [json.loads(text) for text in page.locator(".chart-data").all_text_contents()]


def drawn(page: Page) -> list[list[int]]:
    """Return how many points each line has, as it is drawn."""
    return page.evaluate(
        """() => [...document.querySelectorAll("figure.chart:not([hidden])")].map((figure) =>
             [...figure.querySelectorAll(".lines path:not([data-marks])")].map((path) => pointsOf(path).length))"""
    )


def test_what_needs_attention_comes_first_and_says_why(site: Site, visit: Visit) -> None:
    page = visit(site.url(query="runs=all"))
    states = page.locator(".executions .badge").all_inner_texts()
    assert states[:4] == ["not shipped", "left behind", "incomplete", "failed"]
    assert set(states[4:]) == {"uploaded"}
    assert "the disk of the results store is full" in page.locator(ROWS).first.inner_text()
    assert len(states) == site.library.catalog.executions().count()
    assert [run for run in page.locator(".executions .run").all_inner_texts() if run in ("10", "13")] == ["13", "10"]
    # Three of the four are of one group, and were run again since.
    page.goto(site.url())
    expect(page.locator(ROWS)).to_have_count(len(states) - 3)
    assert page.locator(".concerns").inner_text() == "1 needs attention"
    page.click("a.switch:visible >> text=older run")
    expect(page.locator(ROWS)).to_have_count(len(states))
    assert page.url == site.url(query="runs=all")


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
    page = visit(site.url(query="runs=all"))
    page.fill("input[name=q]", "DISK enso")
    page.press("input[name=q]", "Enter")
    expect(page.locator(ROWS)).to_have_count(1)
    assert "not shipped" in page.locator(ROWS).inner_text()
    page.goto(site.url(query="attention=1&runs=all"))
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
    shown = sorted(tuple(trace["y"]) for chart in charts_of(page) for trace in chart["traces"])
    assert shown == sorted(tuple(each.values) for each in series)
    assert sorted(points for chart in drawn(page) for points in chart) == sorted(len(each.index) for each in series)
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
    assert percent == pytest.approx(100 * (b - a) / abs(a) if a * b > 0 else math.nan, nan_ok=True)


def test_two_plots_are_laid_over_each_other_under_a_slider_or_as_their_difference(
    sites: Callable[[str], Site], visit: Visit
) -> None:
    site = sites("local")
    ids = [site.library.id_of(each) for each in (TEMPERATURE, OTHER_TEMPERATURE)]
    page = visit(site.url("compare", "&".join(f"e={each}" for each in ids)))
    pair = page.locator(".pair").first
    expect(pair.locator(".over")).to_be_hidden()
    pair.get_by_role("button", name="swipe").click()
    expect(pair.locator(".side-by-side")).to_be_hidden()
    expect(pair.locator(".over img")).to_have_count(2)
    pair.get_by_role("slider").fill("20")
    second = pair.locator(".over img").nth(1)
    assert second.evaluate("(image) => getComputedStyle(image).clipPath") == "inset(0px 0px 0px 20%)"
    pair.get_by_role("button", name="difference").click()
    assert second.evaluate("(image) => getComputedStyle(image).mixBlendMode") == "difference"
    expect(pair.get_by_role("slider")).to_be_hidden()
    pair.get_by_role("button", name="side by side").click()
    expect(pair.locator(".over")).to_be_hidden()
    expect(pair.locator(".side-by-side")).to_be_visible()


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
    # What changes its sign has not become more or less by a part of itself.
    assert all(percent == pytest.approx(100 * (b - a) / abs(a)) for a, b, _, percent in both if a * b > 0)
    assert all(math.isnan(percent) for a, b, _, percent in both if a * b < 0)
    values = {row.value for row in site.library.catalog.scalars(diagnostic="surface-temperature")}
    assert {value for a, b, *_ in both for value in (a, b)} == values
    shown = charts_of(page)
    dots = [chart for chart in shown if chart["kind"] == "dots"]
    assert {trace["name"][0] for chart in dots for trace in chart["traces"]} == {"A", "B"}
    assert {x for chart in dots for trace in chart["traces"] for x in trace["x"]} == values
    # Both models and the reference are in each chart, and there is one chart for each region.
    series = list(site.library.catalog.series(diagnostic="surface-temperature"))
    lines = [chart for chart in shown if chart["kind"] == "line"]
    models = sorted(tuple(trace["y"]) for chart in lines for trace in chart["traces"] if not trace.get("reference"))
    assert models == sorted(each.values for each in series if each.attributes.get("kind") != "reference")
    assert all(len(chart["traces"]) == 3 for chart in lines)
    titles = page.locator("#series figure.chart h3").all_inner_texts()
    assert len(set(titles)) == len(titles) == len(lines)


def test_a_chart_tells_the_value_under_the_pointer_and_keeps_a_line_in_front(site: Site, visit: Visit) -> None:
    page = visit(site.execution(TEMPERATURE))
    figure = page.locator("#series figure.chart").first
    figure.scroll_into_view_if_needed()
    expect(figure.locator(".tip")).to_have_count(1)
    trace = charts_of(page)[0]["traces"][1]
    place = figure.evaluate(
        """(figure) => { const box = figure.querySelector(".area").getBoundingClientRect();
             const [x, y] = pointsOf(figure.querySelector('.lines path[data-n="1"]'))[3];
             return [box.left + x * box.width / 1000, box.top + y * box.height / 500] }"""
    )
    page.mouse.move(*place)
    expect(figure.locator(".tip")).to_be_visible()
    said = figure.locator(".tip").inner_text()
    assert said.startswith(trace["name"])
    assert float(said.rsplit(" ", 1)[1].replace("−", "-")) == pytest.approx(trace["y"][3], rel=1e-5)
    page.mouse.click(*place)
    page.mouse.move(0, 0)
    expect(figure.locator(".tip")).to_be_hidden()
    expect(figure.locator(".lines .pinned").first).to_have_attribute("data-n", "1")


def test_values_are_chosen_by_dimension_and_drawn(site: Site, visit: Visit) -> None:
    row = site.library.catalog.execution(PRODUCTION)
    page = visit(site.values(row.provider, row.diagnostic))
    page.click("a[data-facet='d.region'][data-value=tropics]")
    chosen: dict[str, Any] = {"diagnostic": row.diagnostic, "latest": True, "dimensions": {"region": "tropics"}}
    wanted = list(site.library.catalog.scalars(**chosen))
    rows = page.locator("#value-table tbody tr:visible")
    expect(rows).to_have_count(len(wanted))
    assert page.url == site.values(row.provider, row.diagnostic, "d.region=tropics")
    cells = rows.locator("td.number").evaluate_all("(cells) => cells.map((cell) => cell.dataset.value)")
    assert sorted(map(str, (row.value for row in wanted))) == sorted(cells)
    dots = page.evaluate(
        """() => [...document.querySelectorAll("figure.chart:not([hidden])")].flatMap(
             (figure) => numbersOf(figure).traces.flatMap((trace) => trace.x))"""
    )
    numbers = sorted(row.value for row in wanted if math.isfinite(row.value))
    assert sorted(one for one in dots if one is not None) == numbers
    ends = page.locator(".lines path").evaluate_all(
        """(paths) => paths.flatMap((path) => pointsOf(path).filter(([x, y]) => y > 0).map(([x, y]) =>
             y < path.parentElement.viewBox.baseVal.height))"""
    )
    assert ends == [True] * len(numbers)
    left_over = """(lines) => lines.filter((line) => !line.hasAttribute("hidden") &&
        parseFloat(line.getAttribute("y1")) >= line.closest(".area").getAttribute("height")).length"""
    assert page.locator(".grid line").evaluate_all(left_over) == 0


def test_an_execution_leads_to_its_own_values(site: Site, visit: Visit) -> None:
    page = visit(site.execution(TEMPERATURE))
    page.click("text=Look through them")
    count = site.library.catalog.scalars(fragment=TEMPERATURE).count()
    expect(page.locator("#value-table tbody tr:visible")).to_have_count(count)
    assert str(count) in page.locator("[data-total]").inner_text().split(" of ")[0]


def test_the_table_of_models_is_walked_by_arrows_turned_and_sorted(site: Site, visit: Visit) -> None:
    page = visit(site.url("index" if site.filed else ""))
    rows, columns = page.locator(".matrix tbody tr").count(), page.locator(".matrix thead th").count()
    cell = page.locator(".matrix tbody td a")
    expect(page.locator(".matrix a[tabindex='0']")).to_have_count(1)
    cell.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('tr').rowIndex") == 2
    assert page.evaluate("document.activeElement.closest('td').cellIndex") == 3
    page.click(".matrix thead th.number:nth-child(3) button")
    values = page.locator(".matrix tbody td:nth-child(3)").evaluate_all("(cells) => cells.map((c) => c.dataset.value)")
    numbers = [float(value) for value in values if value != "nan"]
    assert numbers == sorted(numbers)
    page.click("text=Transpose")
    assert page.locator(".matrix tbody tr").count() == columns - 1
    assert page.locator(".matrix thead th").count() == rows + 1
    page.click("text=Hide rows and columns")
    page.locator(".matrix tbody th").first.click()
    expect(page.locator(".matrix tbody tr:visible")).to_have_count(columns - 2)
    page.click("text=Show all")
    expect(page.locator(".matrix tbody tr:visible")).to_have_count(columns - 1)
    where = page.locator(".matrix td a").first.get_attribute("href") or ""
    page.locator(".matrix td a").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".timeline")).to_be_visible()
    assert page.url.endswith(where)


def test_a_plot_of_all_models_is_looked_at_in_large_by_keys_and_under_a_slider(site: Site, visit: Visit) -> None:
    page = visit(site.diagnostic("meanstate", "surface-temperature"))
    gallery = page.locator(".all-models[open] .gallery")
    expect(gallery.locator("img")).to_have_count(2)
    gallery.locator("[data-look]").first.click()
    dialog = page.locator("dialog.look")
    first = dialog.locator(".stage img").first
    alt = first.get_attribute("alt")
    page.keyboard.press("ArrowRight")
    expect(first).not_to_have_attribute("alt", alt or "")
    dialog.locator("select").select_option("0")
    assert all(width > 0 for width in decoded(page, "dialog .stage img"))
    dialog.locator("input[type=range]").fill("25")
    assert page.evaluate("document.querySelector('.stage .over').style.clipPath") == "inset(0px 0px 0px 25%)"
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


@pytest.mark.parametrize(("kind", "scheme"), [("local", "light"), ("local", "dark"), ("report", "dark")])
def test_axe_finds_nothing(kind: str, scheme: str, sites: Callable[[str], Site], visit: Visit) -> None:
    site = sites(kind)
    page = visit(site.url(), tolerant=True, color_scheme=scheme)  # axe itself tries to fetch style sheets
    pages = [
        site.url("index" if site.filed else ""),
        site.url(),
        site.values("meanstate", "precipitation"),
        site.execution(TEMPERATURE),
        site.diagnostic("meanstate", "surface-temperature"),
        site.execution(PRODUCTION) if scheme == "light" else site.execution("historical/10"),
        site.url("compare"),
    ]
    # Only colours differ in the dark.
    rules = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
    options = rules if (kind, scheme) == ("local", "dark") else None
    # The pages are the same as files, but for what only one of the two has: the form that verifies, the list's script.
    for url in pages if kind == "local" else pages[:4:3]:
        page.goto(url)
        page.wait_for_timeout(100)
        found = Axe().run(page, options=options).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == [], url


def test_nothing_is_wider_than_a_phone(site: Site, visit: Visit) -> None:
    page = visit(site.url(), viewport={"width": 390, "height": 844})
    for url in (
        site.url(),
        site.execution(TEMPERATURE),
        site.values("meanstate", "precipitation"),
        site.url("compare"),
    ):
        page.goto(url)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, url
    page.goto(site.url())
    assert page.locator(".facets summary").is_visible()
    assert not page.locator(".facets a[data-facet]").first.is_visible()


def test_a_print_of_a_dark_page_is_dark_on_white_and_has_its_charts(site: Site, visit: Visit) -> None:
    page = visit(site.execution(TEMPERATURE), color_scheme="dark")
    ink = "getComputedStyle(document.body).color"
    before = page.evaluate(ink)
    page.emulate_media(media="print", color_scheme="dark")
    assert sum(map(int, re.findall(r"\d+", page.evaluate(ink))[:3])) < 150
    assert sum(map(int, re.findall(r"\d+", before)[:3])) > 600
    stroke = page.evaluate("getComputedStyle(document.querySelector('.lines .c0')).stroke")
    assert stroke == "rgb(0, 114, 178)"
    assert page.locator("#series .area").last.bounding_box()["height"] > 100  # type: ignore[index]
    assert not page.locator("nav.sections").is_visible()


def test_the_keyboard_reaches_the_content_first(site: Site, visit: Visit) -> None:
    page = visit(site.url())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
