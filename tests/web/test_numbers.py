"""The numbers of a page as files: exactly those that are shown, in forms that other programs read without loss."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.web.models import MODELS, execution

from emdstore.catalog import Catalog
from emdstore.stores import InMemoryArtifactStore
from emdstore.web.app import make_app
from emdstore.web.report import write_report

FORMULA = "=HYPERLINK(1)"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    series = [({"source_id": "best", "region": "global"}, "year", [2000, 2001], [1.5, None], {"value_units": "K"})]
    with Catalog(tmp_path_factory.mktemp("numbers") / "catalog.db") as catalog:
        for model in MODELS:
            catalog.replace_execution(execution(model, "a", series=series if model == "best" else []))
        catalog.replace_execution(
            execution(FORMULA, "a", scalars=[(7.0, {"metric": "rmse", "source_id": FORMULA}, {})])
        )
        lost: dict[str, Any] = {"status": "failed", "failure": "result", "complete": False, "state": "incomplete"}
        catalog.replace_execution(execution("lost", "a", scalars=[(9.0, {"metric": "rmse"}, {})], **lost))
        yield catalog


@pytest.fixture(scope="module")
def home(catalog: Catalog, served: Callable[..., str]) -> str:
    return served(make_app(catalog, InMemoryArtifactStore()))


def test_every_form_has_the_same_rows_and_ids_that_nobody_rounds(home: str, catalog: Catalog) -> None:
    query = "d.metric=rmse&d.region=global"
    wanted = list(catalog.scalars(latest=True, dimensions={"metric": "rmse", "region": "global"}))
    assert len(wanted) == 9
    lines = list(csv.DictReader(io.StringIO(httpx.get(f"{home}values.csv?{query}").text)))
    rows = httpx.get(f"{home}values.json?{query}").json()
    assert [(f"'{each.execution_id}", each.value) for each in wanted] == [
        (line["execution_id"], float(line["value"])) for line in lines
    ]
    assert [(str(each.execution_id), each.value) for each in wanted] == [(r["execution_id"], r["value"]) for r in rows]
    one = httpx.get(f"{home}values.jsonl?{query}").text.splitlines()
    assert [json.loads(line)["value"] for line in one] == [each.value for each in wanted]
    assert httpx.get(f"{home}values.json?d.region=tropics&group=none").json() == []


def test_parquet_has_them_too(home: str, catalog: Catalog) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(httpx.get(f"{home}values.parquet").content))
    assert table.column("value").to_pylist() == [each.value for each in catalog.scalars(latest=True)]


def test_series_of_chosen_executions_are_sent(home: str, catalog: Catalog) -> None:
    best = catalog.execution("p/a/best/1").execution_id
    lines = list(csv.DictReader(io.StringIO(httpx.get(f"{home}series.csv?e={best}").text)))
    assert [(line["index"], line["value"]) for line in lines] == [("2000", "1.5"), ("2001", "")]
    assert httpx.get(f"{home}series.csv?e=1").text.count("\n") == 1  # there is no such execution


def test_a_wide_file_has_a_column_for_each_metric_or_each_series(home: str, catalog: Catalog) -> None:
    lines = list(csv.DictReader(io.StringIO(httpx.get(f"{home}values.csv?wide=1&group=cmip6_best").text)))
    found = {line["region"] + line["season"]: line for line in lines}
    of_best = list(catalog.scalars(latest=True, group="cmip6_best"))
    assert 4 * len(found) == len(of_best) == 24
    for row in of_best:
        place = row.dimensions["region"] + row.dimensions["season"]
        assert float(found[place][row.dimensions["metric"]]) == row.value
    assert f"'{FORMULA}" in httpx.get(f"{home}values.csv?wide=1").text
    rows = list(csv.reader(io.StringIO(httpx.get(f"{home}series.csv?wide=1").text)))
    assert rows == [["index name", "index", "best"], ["year", "2000", "1.5"], ["year", "2001", ""]]


def test_netcdf_has_them_too(home: str, catalog: Catalog) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    with xarray.open_dataset(io.BytesIO(httpx.get(f"{home}values.nc").content)) as found:
        wanted = list(catalog.scalars(latest=True))
        assert found.value.values.tolist() == [each.value for each in wanted]
        assert found.season.values.tolist() == [each.dimensions.get("season", "") for each in wanted]


def test_the_table_of_models_is_a_wide_file_that_computes_nothing(home: str) -> None:
    rows = list(csv.reader(io.StringIO(httpx.get(f"{home}overview.csv").text)))
    assert rows[0] == ["model", "mean relative error", "a"]
    assert {row[0]: row[2] for row in rows[1:]} == {
        "best": "0.4", "typical": "1.0", "worst": "3.0", f"'{FORMULA}": "7.0", "lost": "",
    }  # fmt: skip
    parquet, xarray = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("xarray")
    table = parquet.read_table(io.BytesIO(httpx.get(f"{home}overview.parquet").content)).to_pydict()
    values = {row[0].removeprefix("'"): float(row[2]) if row[2] else None for row in rows[1:]}
    assert dict(zip(table["model"], table["a"], strict=True)) == values
    with xarray.open_dataset(io.BytesIO(httpx.get(f"{home}overview.nc").content)) as found:
        assert float(found["a"].sel(model="best")) == 0.4
    told = httpx.get(f"{home}overview.json?d.metric=corr").json()
    assert (told["metric"], told["perfect"]) == ("corr", 1.0)
    assert {row["name"] for row in told["models"]} >= set(MODELS)


def test_values_of_incomplete_sets_are_left_out_unless_asked_for_and_marked_then(home: str) -> None:
    page = httpx.get(f"{home}values").text
    assert 'data-value="9.0"' not in page
    assert ">1 scalar of incomplete sets</a>" in page
    asked = httpx.get(f"{home}values?incomplete=1").text
    assert asked.count('<td class="number" data-value=') == 1
    assert 'data-value="9.0"' in asked
    assert "something is missing" in asked


def test_the_tables_of_models_mark_what_is_of_an_incomplete_set_if_it_is_asked_for(home: str) -> None:
    cells = {row["name"]: row["cells"][0] for row in httpx.get(f"{home}overview.json").json()["models"]}
    assert (cells["lost"]["kind"], cells["lost"]["value"]) == ("incomplete", None)
    asked = {row["name"]: row["cells"][0] for row in httpx.get(f"{home}overview.json?incomplete=1").json()["models"]}
    assert (asked["lost"]["kind"], asked["lost"]["value"]) == ("value", 9.0)
    assert asked["best"]["value"] == cells["best"]["value"]
    for path in ("?", "diagnostic?d=p/a&"):
        assert "incomplete=1" in httpx.get(home + path).text
        page = httpx.get(f"{home}{path}incomplete=1").text
        assert len(re.findall(r"\d\*</(?:a|span)>", page)) == 1


def test_a_report_has_switches_to_pages_with_what_is_of_incomplete_sets_marked(
    catalog: Catalog, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    assert write_report(site, catalog, InMemoryArtifactStore()).ok
    lost = catalog.execution("lost/1").execution_id
    marked = re.compile(r"\d\*</(?:a|span)>")
    (diagnostic,) = (each for each in site.glob("diagnostic/*.html") if "incomplete" not in each.name)
    for path in (Path("index.html"), diagnostic.relative_to(site)):
        page = (site / path).read_text()
        assert not marked.search(page)
        (other,) = re.findall(r'class="switch" href="(.*?)"', page)
        switched = (site / path.parent / other).read_text()
        assert len(marked.findall(switched)) == 1
        assert 'class="switch" href' in switched  # and back
    (page,) = (each for each in site.glob("values/*.html") if "incomplete" not in each.name)
    assert f'data-e="{lost}"' not in page.read_text()
    (other,) = re.findall(r'href="(.*?)">1 scalar of incomplete sets</a>', page.read_text())
    assert re.findall(r'data-e="(\d+)"', (page.parent / other).read_text()) == [str(lost)]
    assert "something is missing" in (page.parent / other).read_text()
    assert len((page.parent / other).with_suffix(".csv").read_text().splitlines()) == 2
    assert "lost" not in page.with_suffix(".csv").read_text() + (site / "values.csv").read_text()
    assert f"../values/{other}?in=" in (site / f"execution/{lost}.html").read_text()
    assert f'"{lost}": ' in (site / "compare.html").read_text()  # for whoever ticks it


def test_the_call_that_a_page_shows_gives_what_it_shows(home: str, catalog: Catalog) -> None:
    pytest.importorskip("pandas")
    page = httpx.get(f"{home}values?d.metric=rmse&d.season=DJF").text
    code = page.split('<pre tabindex="0">')[1].split("</pre>")[0].replace("&#39;", "'")
    found: dict[str, Any] = {}
    exec(code, found)
    assert len(found["frame"]) == catalog.scalars(latest=True, dimensions={"metric": "rmse", "season": "DJF"}).count()


@pytest.mark.parametrize("path", ["nope.csv", "values.exe", "overview.jsonl", "executions.csv"])
def test_what_is_no_file_of_numbers_is_not_there(path: str, home: str) -> None:
    assert httpx.get(home + path).status_code == 404
