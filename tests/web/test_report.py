"""The report as files: what is in it, what is not, and what becomes of it the second time."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.web.library import OTHER_TEMPERATURE, TEMPERATURE, Library

from emdstore import Workspace, create_release, point_alias, replay, retract
from emdstore.catalog import Catalog, ExecutionContent
from emdstore.errors import ArtifactExistsError, StoreUnavailableError
from emdstore.sets.transfer import transfer
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore, S3ArtifactStore, scoped
from emdstore.web.report import write_report
from emdstore.web.selection import PageSelection

BOTH = PageSelection(chosen={"diagnostic": ("surface-temperature",)})


def test_every_link_of_a_report_leads_to_a_file_of_it(library: Library, tmp_path: Path) -> None:
    report = write_report(tmp_path / "site", library.catalog, library.results, BOTH)
    assert (report.ok, report.executions) == (True, 2)
    pages = list((tmp_path / "site").rglob("*.html"))
    checked = 0
    for page in (each for each in pages if "artifacts" not in each.parts):
        for link in re.findall(r'(?:href|src|action)="([^"#]+)"', page.read_text()):
            assert not re.match(r"[a-z]+:|/", link), link
            assert (page.parent / unquote(link.partition("?")[0])).is_file(), (page, link)
            checked += 1
    assert checked > 100


@pytest.mark.slow
def test_a_report_holds_what_was_selected_and_no_more(library: Library, tmp_path: Path) -> None:
    write_report(tmp_path / "site", library.catalog, library.results, BOTH)
    text = (tmp_path / "site/executions.html").read_text()
    assert text.count("<strong>surface-temperature</strong>") == 2
    assert "precipitation" not in text
    rows = list(csv.DictReader((tmp_path / "site/values.csv").open()))
    assert {row["diagnostic"] for row in rows} == {"surface-temperature"}
    assert len(rows) == library.catalog.scalars(diagnostic="surface-temperature").count()


def wide_catalog(catalog: Catalog) -> None:
    """Fill a catalog with two weeks of eight models, each with more scalars than fit on one page together."""
    for week, model in product((1, 8), range(8)):
        at = datetime(2025, 1, week, model, tzinfo=UTC)
        where = {"source_id": f"model-{model}", "metric": "rmse"}
        years = tuple(range(5))
        catalog.replace_execution(
            ExecutionContent(
                fragment=f"p/d/model-{model}/{week}", provider="p", diagnostic="d", group=f"model-{model}",
                status="uploaded", state="published", complete=True, started_at=at, published_at=at,
                scalars=[(n + model / 10, where | {"region": f"r{n}"}, {"units": "K"}) for n in range(200)],
                series=[
                    ({"source_id": source, "region": region}, "year", years, years, {})
                    for source, region in product((f"model-{model}", "Reference"), ("north", "south"))
                ],
            )
        )  # fmt: skip


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Catalog, Path]]:
    """A catalog with more than a page of everything, and its report."""
    root = tmp_path_factory.mktemp("wide")
    with Catalog(root / "catalog.db") as catalog:
        wide_catalog(catalog)
        assert write_report(root / "site", catalog, InMemoryArtifactStore()).ok
        yield catalog, root / "site"


def test_a_report_has_every_scalar_of_every_execution(wide: tuple[Catalog, Path]) -> None:
    catalog, site = wide
    shown: Counter[str] = Counter()
    for page in (site / "values").glob("*.html"):
        text = page.read_text()
        assert len(text) < 1_000_000
        shown.update(re.findall(r'<tr data-e="(\d+)"', text))
    assert shown == {str(row.execution_id): row.scalars for row in catalog.executions()}
    # What is shown if nobody asks for older runs is together, and each page says that there are more.
    (first,) = (each for each in (site / "values").glob("*.html") if not re.search(r"-\d+\.html$", each.name))
    newest = {str(row.execution_id) for row in catalog.executions(latest=True)}
    assert set(re.findall(r'<tr data-e="(\d+)"', first.read_text())) < newest
    assert "part 1 of 3, of 3,200 in all" in first.read_text()
    for row in catalog.executions():
        page = (site / f"execution/{row.execution_id}.html").read_text()
        link = re.search(r'href="\.\./(values/[^"?]+)\?in=([^"]+)"', page)
        assert link is not None
        assert unquote(link[2]) == row.fragment
        assert f'<tr data-e="{row.execution_id}"' in (site / link[1]).read_text()
    total = sum(row.scalars for row in catalog.executions())
    assert f">{total:,}<" in (site / "values.html").read_text()
    assert len((site / "values.csv").read_text().splitlines()) == total + 1


def test_a_report_compares_any_executions_of_a_diagnostic_and_those_of_other_weeks(wide: tuple[Catalog, Path]) -> None:
    catalog, site = wide
    where = json.loads(re.findall(r'id="comparisons">(.*?)</script>', (site / "compare.html").read_text())[0])
    assert set(where) == {str(row.execution_id) for row in catalog.executions()}
    (key,) = set(where.values())
    page = (site / key).read_text()
    columns = dict(re.findall(r'<li data-column="(\d+)" data-execution="(\d+)"', page))
    assert set(columns.values()) == set(where)
    # The newest are shown first; the others are there for whoever ticks them.
    first = re.findall(r'data-first="([\d ]+)"', page)[0].split()
    newest = {str(row.execution_id) for row in catalog.executions(latest=True)}
    assert {columns[each] for each in first} == newest
    # One chart for each region, with all executions, and the reference once.
    charts = re.findall(r'id="series-\d+".*?</figure>', page, re.DOTALL)
    assert [re.findall(r"<h3>(.*?)</h3>", chart)[0] for chart in charts] == ["north", "south"]
    for chart in charts:
        lines = re.findall(r'<path class="trace (\w+)" data-n="\d+"(?: data-column="(\d+)")?', chart)
        assert [kind for kind, _ in lines] == ["reference", *["many"] * 16]
        assert {column for _, column in lines} == {"", *columns}


@pytest.mark.slow
@pytest.mark.once
def test_a_few_that_were_ticked_of_many_have_a_colour_each_and_name_the_page(
    wide: tuple[Catalog, Path], visit: Callable[..., Any]
) -> None:
    catalog, site = wide
    rows = catalog.executions(latest=True, group=["model-2", "model-5"])
    page = visit(f"{(site / 'compare.html').as_uri()}?{'&'.join(f'e={row.execution_id}' for row in rows)}")
    assert page.locator(".compared > li:visible").count() == 2
    lines = page.locator("#series-1 .lines path[data-column]:not([hidden])")
    assert set(lines.evaluate_all("(lines) => lines.map((line) => line.classList[1])")) == {"c0", "c1"}
    assert re.match("Compare model-2.*, model-5[^,]* · emdstore", page.title())


def test_a_report_is_brought_up_to_date(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_report(folder, library.catalog, library.results, BOTH)
    before = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    one = PageSelection(fragment=TEMPERATURE)
    write_report(folder, library.catalog, library.results, one, data=False)
    after = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert after < before
    other = str(library.id_of(OTHER_TEMPERATURE))
    assert not any(other in str(path) for path in after)
    assert set(json.loads((folder / "report.json").read_bytes())["files"]) == {
        str(path) for path in after if path.name != "report.json"
    }


def test_a_report_of_a_part_leads_nowhere_else(library: Library, tmp_path: Path) -> None:
    one = PageSelection(fragment=TEMPERATURE)
    assert write_report(tmp_path / "site", library.catalog, library.results, one).ok
    for page in (each for each in (tmp_path / "site").rglob("*.html") if "artifacts" not in each.parts):
        for link in re.findall(r'(?:href|src)="([^"#]+)"', page.read_text()):
            assert (page.parent / unquote(link.partition("?")[0])).is_file(), (page, link)


def test_only_what_changed_is_written_and_nothing_if_nothing_did(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "site"

    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    first = write_report(folder, library.catalog, library.results, BOTH)
    before = written()
    assert write_report(folder, library.catalog, library.results, BOTH) == first
    assert written() == before
    # A page that is gone or cut comes again, and no other is touched.
    page = folder / "values.html"
    page.write_bytes(b"cut")
    assert write_report(folder, library.catalog, library.results, BOTH) == first
    after = written()
    assert {path.name for path in after if after[path] != before[path]} <= {
        "values.html", "report.json", "values.csv", *(path.name for path in folder.glob("values/*.csv")),
    }  # fmt: skip
    assert b"<html" in page.read_bytes()
    # Something else is another report.
    changed = write_report(folder, library.catalog, library.results, PageSelection(fragment=TEMPERATURE))
    assert changed.executions == 1


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(library: Library, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ArtifactExistsError, match="is not a report"):
        write_report(tmp_path, library.catalog, library.results)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "report.json").write_text("[]")  # somebody else's
    with pytest.raises(ArtifactExistsError, match="is not a report"):
        write_report(tmp_path, library.catalog, library.results)


def test_what_is_missing_or_not_as_recorded_is_named_and_not_shown(library: Library, tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path / "results")
    transfer(scoped(library.results, TEMPERATURE), scoped(store, TEMPERATURE)).raise_for_failures()
    store.delete(f"{TEMPERATURE}/plots/tas_mean_map.png")
    store.write_bytes(f"{TEMPERATURE}/plots/tas_bias_map.png", b"other bytes")
    report = write_report(tmp_path / "site", library.catalog, store, PageSelection(fragment=TEMPERATURE))
    assert not report.ok
    assert {(each.key, each.outcome) for each in report.troubles} == {
        ("plots/tas_mean_map.png", "missing"),
        ("plots/tas_bias_map.png", "corrupt"),
    }
    page = (tmp_path / f"site/execution/{library.id_of(TEMPERATURE)}.html").read_text()
    assert "tas_mean_map.png: missing" in page
    assert "tas_bias_map.png: not as recorded" in page
    assert not list((tmp_path / "site").rglob("tas_bias_map.png"))


def test_a_store_that_is_down_leaves_an_earlier_report_as_it_begins(library: Library, tmp_path: Path) -> None:
    write_report(tmp_path / "site", library.catalog, library.results, PageSelection(fragment=TEMPERATURE))
    index = (tmp_path / "site/index.html").read_bytes()
    down = S3ArtifactStore(
        "s3://nowhere/x",
        endpoint_url="http://127.0.0.1:9",
        region="us-east-1",
        access_key_id="a",
        secret_access_key="b",
        retries=0,
    )
    with pytest.raises(StoreUnavailableError):
        write_report(tmp_path / "site", library.catalog, down, PageSelection(fragment=TEMPERATURE))
    assert (tmp_path / "site/index.html").read_bytes() == index


@pytest.mark.slow
@pytest.mark.once
def test_the_list_of_a_report_shows_what_a_release_or_an_alias_names(tmp_path: Path, visit: Callable[..., Any]) -> None:
    with Workspace.in_memory() as workspace:
        for group, name in (("a", "v1"), ("a", "v2"), ("b", "v1"), ("c", "v1")):
            with workspace.start_execution(provider="p", diagnostic="d", group=group, name=name) as execution:
                execution.add_scalar(1.0, metric="m")
            execution.commit_output_assets()
        create_release(workspace.results, "2026.1", ["p/d/a/v1", "p/d/b/v1"])
        create_release(workspace.results, "2026.2", ["p/d/a/v2", "p/d/c/v1"])
        point_alias(workspace.results, "production", "2026.1")
        retract(workspace.results, "p/d/c/v1", reason="wrong")
        replay(workspace.results, workspace.catalog)
        assert write_report(tmp_path / "site", workspace.catalog, workspace.results).ok
    page = visit((tmp_path / "site" / "releases.html").as_uri())
    assert "1 of 2 sets in this report" in page.locator("tr", has_text="2026.2").inner_text()
    assert page.locator("text=in this report").count() == 1
    page.locator("a", has_text="production").click()
    assert shown(page) == ["p/d/a/v1", "p/d/b/v1"]  # also what was run again since
    assert page.locator("[data-total]").inner_text() == "2 of 3 executions"
    page.locator('a[data-facet=release][data-value="production"]').click()
    page.locator('a[data-facet=release][data-value="2026.2"]').click()
    assert shown(page) == ["p/d/a/v2"]


def shown(page: Any) -> list[str]:
    """Return the executions that a list shows, by name."""
    labels = page.locator("table.executions tbody tr:visible input").evaluate_all("all => all.map(e => e.ariaLabel)")
    return sorted(label.removeprefix("Compare ") for label in labels)
