"""What a set says is text, and what its pages try comes to nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect
from tests.web.conftest import Site, decoded
from tests.web.library import HOSTILE, LINK, TEMPERATURE

from emdstore.web.access import Admission
from emdstore.web.app import make_app

pytestmark = [pytest.mark.slow, pytest.mark.once]

Visit = Callable[..., Page]
NAMES = "tests/hostile/names/1"


def test_hostile_names_are_text_on_every_page(site: Site, visit: Visit) -> None:
    dialogs: list[str] = []
    page = visit(site.execution(NAMES))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    assert page.locator(".plot figcaption strong").first.inner_text() == HOSTILE
    assert LINK in page.locator(".plot figcaption").first.inner_text()
    assert HOSTILE in page.locator("#scalar-table").inner_text()
    expect(page.locator("figure.chart h3").first).to_contain_text("<script>")
    expect(page.locator("figure.chart .x-title").first).to_contain_text("<script>")
    page.locator(".numbers summary").first.click()
    page.goto(site.values("tests", "hostile"))
    assert HOSTILE in page.locator("main").inner_text()
    page.goto(site.url(query="q=" + "%3Cscript%3Ealert(1)%3C/script%3E%22%27"))
    expect(page.locator("input[name=q]")).to_have_value("<script>alert(1)</script>\"'")
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("[href^='javascript:']").count() == 0
    page.wait_for_timeout(200)
    assert dialogs == []


def test_pictures_with_odd_names_are_shown_and_drawings_cannot_run(site: Site, visit: Visit) -> None:
    page = visit(site.execution(NAMES))
    assert all(width > 0 for width in decoded(page))
    assert "owned" not in page.title()


def said_by_the_intruder(page: Page) -> dict[str, object]:
    page.locator("details.framed summary").first.click()
    frame = page.frame_locator("details.framed iframe").first
    expect(frame.locator("#said")).to_contain_text("fetched")
    return json.loads(frame.locator("#said").inner_text())


def test_an_html_output_reaches_nothing(site: Site, visit: Visit) -> None:
    page = visit(site.execution(NAMES), tolerant=True)
    address, title = page.url, page.title()
    tried = said_by_the_intruder(page)
    assert tried["ran"] is True  # its script runs, and this is what it got:
    assert tried["origin"] == "null"
    assert {tried[name] for name in ("parent", "cookie", "storage", "top")} == {"SecurityError"}
    assert tried["fetched"] == "TypeError"
    assert (page.url, page.title()) == (address, title)
    # The pictures of its own set do come.
    frame = page.frames[1]
    assert frame.evaluate("document.getElementById('beside').naturalWidth") > 0


def test_an_html_output_that_is_opened_by_itself_reaches_nothing_either(
    sites: Callable[[str], Site], visit: Visit
) -> None:
    site = sites("local")
    page = visit(site.execution(NAMES), tolerant=True)
    address = page.locator("details.framed iframe").first.get_attribute("data-src") or ""
    page.goto(site.url("execution/") + address)
    expect(page.locator("#said")).to_contain_text("fetched")
    tried = json.loads(page.locator("#said").inner_text())
    assert (tried["origin"], tried["cookie"], tried["fetched"]) == ("null", "SecurityError", "TypeError")


def test_with_a_token_the_site_works_and_an_html_output_still_finds_its_pictures(
    sites: Callable[[str], Site], served: Callable[..., str], visit: Visit
) -> None:
    library = sites("local").library
    access = Admission.to("127.0.0.1", "a-token-of-some-length")
    home = served(make_app(library.catalog, library.results, access=access))
    assert httpx.get(home).status_code == 401
    page = visit(f"{home}?token={access.token}", tolerant=True)
    expect(page.locator("h1")).to_have_text("Overview")
    assert page.url == home
    page.goto(f"{home}execution/{library.id_of(NAMES)}")
    assert all(width > 0 for width in decoded(page))
    assert said_by_the_intruder(page)["cookie"] == "SecurityError"
    assert page.frames[1].evaluate("document.getElementById('beside').naturalWidth") > 0


@pytest.mark.parametrize("kind", ["missing", "corrupt"])
def test_a_plot_that_is_harmed_is_said_so_where_it_would_be(
    kind: str, sites: Callable[[str], Site], served: Callable[..., str], visit: Visit
) -> None:
    from emdstore.sets.transfer import transfer
    from emdstore.stores import InMemoryArtifactStore, scoped

    library, fragment, plot = sites("local").library, TEMPERATURE, "plots/tas_bias_map.png"
    store = InMemoryArtifactStore()
    transfer(scoped(library.results, fragment), scoped(store, fragment)).raise_for_failures()
    if kind == "missing":
        store.delete(f"{fragment}/{plot}")
    else:
        data = store.read_bytes(f"{fragment}/{plot}")
        store.write_bytes(f"{fragment}/{plot}", data[:-9] + b"123456789")  # as long as it was
    home = served(make_app(library.catalog, store))
    page = visit(f"{home}execution/{library.id_of(fragment)}", tolerant=True)
    figure = page.locator(f".plot[data-key='{plot}']")
    figure.scroll_into_view_if_needed()
    expect(figure.locator(".trouble")).to_contain_text("missing")
    assert figure.locator("img").count() == 0
    assert sum(width > 0 for width in decoded(page)) == page.locator(".plot").count() - 1
