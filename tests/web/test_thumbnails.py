"""Pages with many pictures show small ones, of pictures that are large."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from PIL import Image
from tests.web.models import execution

from emdstore import Catalog, InMemoryArtifactStore
from emdstore.stores.checksums import sha256_of
from emdstore.web.app import make_app
from emdstore.web.report import write_report
from emdstore.web.thumbnails import WIDTH


def picture(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), os.urandom(width * height * 3)).save(file, "png")
    return file.getvalue()


PICTURES = {"small.png": picture(20, 20), "large.png": picture(800, 400), "broken.png": os.urandom(70_000)}


@pytest.fixture
def results() -> InMemoryArtifactStore:
    store = InMemoryArtifactStore()
    for key, data in PICTURES.items():
        store.write_bytes(f"p/a/best/1/{key}", data)
    return store


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(tmp_path / "catalog.db")
    told = [(key, "plot", len(data), sha256_of(data), "image/png", None) for key, data in PICTURES.items()]
    catalog.replace_execution(execution("best", "a", artifacts=told))
    return catalog


def shown(html: str) -> dict[str, str]:
    links = [link.replace("&amp;", "&") for link in re.findall(r'<img src="(.*?)" alt="(?!")', html)]
    return {name: link for name in PICTURES for link in links if name in link}


def test_a_page_shows_small_pictures_and_leads_to_the_large_ones(
    catalog: Catalog, results: InMemoryArtifactStore, served: Callable[..., str]
) -> None:
    home = served(make_app(catalog, results)) + "execution/"
    page = httpx.get(f"{home}{catalog.execution('p/a/best/1').execution_id}").text
    links = {name: httpx.get(home + link) for name, link in shown(page).items()}
    small = Image.open(io.BytesIO(links["large.png"].content))
    assert (small.format, small.size) == ("WEBP", (WIDTH, WIDTH // 2))
    assert "immutable" in links["large.png"].headers["cache-control"]
    assert links["small.png"].content == PICTURES["small.png"]
    assert links["broken.png"].content == PICTURES["broken.png"]
    whole = re.findall(r'<a href="([^"]*large.png[^"]*)" class="large"', page)[0]
    assert httpx.get(home + whole).content == PICTURES["large.png"]


def test_no_small_picture_is_made_of_other_bytes_than_were_published(
    catalog: Catalog, results: InMemoryArtifactStore, served: Callable[..., str]
) -> None:
    home = served(make_app(catalog, results)) + "execution/"
    link = shown(httpx.get(f"{home}{catalog.execution('p/a/best/1').execution_id}").text)["large.png"]
    data = bytearray(PICTURES["large.png"])
    data[-20] ^= 1
    results.write_bytes("p/a/best/1/large.png", bytes(data))
    assert httpx.get(home + link).status_code == 409


def test_a_report_has_them_beside_the_pictures(
    catalog: Catalog, results: InMemoryArtifactStore, tmp_path: Path
) -> None:
    write_report(tmp_path / "site", catalog, results)
    page = next((tmp_path / "site/execution").glob("*.html"))
    small = (page.parent / shown(page.read_text())["large.png"]).resolve()
    assert Image.open(small).size == (WIDTH, WIDTH // 2)
    before = small.stat().st_mtime_ns
    catalog.replace_execution(execution("typical", "a"))
    write_report(tmp_path / "site", catalog, results)
    assert small.stat().st_mtime_ns == before
