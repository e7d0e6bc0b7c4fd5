"""The report as files: what is in it, what is not, and what becomes of it the second time."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.web.library import OTHER_TEMPERATURE, TEMPERATURE, Library

from emdstore.errors import ArtifactExistsError, StoreUnavailableError
from emdstore.sets.transfer import transfer
from emdstore.stores import LocalArtifactStore, S3ArtifactStore, scoped
from emdstore.web.report import write_report
from emdstore.web.selection import Selection
from emdstore.web.site import chart_library

BOTH = Selection(chosen={"diagnostic": ("surface-temperature",)})


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
    assert (tmp_path / "site/static/plotly.min.js").read_bytes() == chart_library().read_bytes()


@pytest.mark.slow
def test_a_report_holds_what_was_selected_and_no_more(library: Library, tmp_path: Path) -> None:
    write_report(tmp_path / "site", library.catalog, library.results, BOTH)
    text = (tmp_path / "site/index.html").read_text()
    assert text.count("<strong>surface-temperature</strong>") == 2
    assert "precipitation" not in text
    rows = list(csv.DictReader((tmp_path / "site/values.csv").open()))
    assert {row["diagnostic"] for row in rows} == {"surface-temperature"}
    assert len(rows) == library.catalog.scalars(diagnostic="surface-temperature").count()


def test_a_report_is_brought_up_to_date(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_report(folder, library.catalog, library.results, BOTH)
    before = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    one = Selection(fragment=TEMPERATURE)
    write_report(folder, library.catalog, library.results, one, data=False)
    after = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert after < before
    other = str(library.id_of(OTHER_TEMPERATURE))
    assert not any(other in str(path) for path in after)
    assert set(json.loads((folder / "report.json").read_bytes())["files"]) == {
        str(path) for path in after if path.name != "report.json"
    }


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
    report = write_report(tmp_path / "site", library.catalog, store, Selection(fragment=TEMPERATURE))
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
    write_report(tmp_path / "site", library.catalog, library.results, Selection(fragment=TEMPERATURE))
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
        write_report(tmp_path / "site", library.catalog, down, Selection(fragment=TEMPERATURE))
    assert (tmp_path / "site/index.html").read_bytes() == index
