"""The site tells what results came from, what changed from version to version, and which releases name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from emdstore import Workspace, create_release, point_alias, replay, retract
from emdstore.errors import ReleaseChangedError
from emdstore.stores import scoped
from emdstore.web.app import make_app
from emdstore.web.views import FILE

VIEWS = b"""
views:
  - {title: All, chart: table}
  - {title: Relied on, chart: table, release: production}
  - {title: No such, chart: table, release: x}
"""
DATASET = "CMIP6.CMIP.MIROC6.historical.Amon.tas"


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """Two versions of one group, and one of another; a release names the first version alone."""
    with Workspace.in_memory() as opened:
        for group, name, value in (("a", "v1", 1.0), ("a", "v2", 2.0), ("b", "v1", 3.0)):
            with opened.start_execution(
                provider="p", diagnostic="d", group=group, name=name, provider_version=name
            ) as execution:
                execution.add_input(DATASET, version="2019", role="model", variable="tas")
                execution.add_scalar(value, metric="m")
                (execution.output_directory / "map.png").write_bytes(b"\x89PNG" + name.encode())
                execution.add_plot("map.png", long_name="a map")
            execution.commit_output_assets()
        create_release(opened.results, "2026.1", ["p/d/a/v1"], note="the report")
        point_alias(opened.results, "production", "2026.1")
        opened.results.write_bytes(FILE, VIEWS)
        replay(opened.results, opened.catalog)
        yield opened


@pytest.fixture
def site(served: Callable[..., str]) -> Iterator[Callable[..., httpx.Client]]:
    """Serves a workspace, or what a release of it has, and returns a visitor."""
    with ExitStack() as visitors:

        def visit(workspace: Workspace, release: str | None = None) -> httpx.Client:
            catalog = workspace.catalog if release is None else workspace.catalog.of_release(release)
            return visitors.enter_context(
                httpx.Client(base_url=served(make_app(catalog, workspace.results)), timeout=60)
            )

        yield visit


def page_of(workspace: Workspace, fragment: str) -> str:
    return f"/execution/{workspace.catalog.execution(fragment).execution_id}"


def test_an_execution_tells_what_it_came_from_what_changed_and_which_releases_name_it(
    workspace: Workspace, site: Callable[..., httpx.Client]
) -> None:
    text = site(workspace).get(page_of(workspace, "p/d/a/v2")).text
    assert DATASET in text
    assert "dataset=CMIP6" in text
    assert re.search(r"v2</strong> <span class=\"quiet\">latest", text)
    assert "2 changed" in text
    assert "p v1 → v2" in text
    assert "Part of" not in text
    first = site(workspace).get(page_of(workspace, "p/d/a/v1")).text
    assert 'href="../group?g=p%2Fd%2Fa&amp;release=2026.1"' in first
    assert "(production)" in first


def test_the_page_of_a_group_lasts_and_tells_versions_changes_reasons_and_releases(
    workspace: Workspace, site: Callable[..., httpx.Client]
) -> None:
    visitor = site(workspace)
    assert 'href="../group?g=p%2Fd%2Fa"' in visitor.get(page_of(workspace, "p/d/a/v2")).text
    text = visitor.get("/group?g=p/d/a").text
    newest, oldest = re.findall(r"<tr><td>.*?</tr>", text, re.DOTALL)
    assert "v2" in newest
    assert 'href="verdicts?a=p%2Fd%2Fa%2Fv1&amp;b=p%2Fd%2Fa%2Fv2">2 changed' in newest
    assert "p v1 → v2" in newest
    assert "2026.1</a> (production)" in oldest
    retract(workspace.results, "p/d/a/v1", reason="wrong sign")
    replay(workspace.results, workspace.catalog)
    assert visitor.get("/group?g=p/d/a").text.count("wrong sign") == 2  # of it, and as a reason of the next
    released = visitor.get("/group?g=p/d/a&release=production").text
    assert "1 version of the release" in released
    assert "v2" not in released
    for nothing in ("", "?g=", "?g=p/d", "?g=p/d/none", "?g=p/d/b&release=2026.1"):
        assert visitor.get(f"/group{nothing}").status_code == 404, nothing
    assert visitor.get("/group?g=p/d/a&release=none").status_code == 400


@pytest.mark.parametrize("release", ["2026.1", "production"])
def test_an_address_that_names_a_release_shows_exactly_its_sets(
    workspace: Workspace, release: str, site: Callable[..., httpx.Client]
) -> None:
    visitor = site(workspace)
    listed = visitor.get(f"/executions?release={release}").text
    assert "of the release" in listed
    assert "v1" in listed
    assert "1 execution<" in listed
    values = visitor.get(f"/values.csv?release={release}").text
    assert [line.split(",")[6] for line in values.splitlines()[1:]] == ["1.0"]
    assert visitor.get(f"/?release={release}").status_code == 200
    assert f"release={release}" in visitor.get(f"/values?release={release}").text
    assert 'href="verdicts?a=release%3A2026.1"' in visitor.get("/releases").text
    assert "knows no release" in visitor.get("/executions?release=x").text


def test_views_are_of_a_release_if_the_address_the_view_or_the_site_is(
    workspace: Workspace, site: Callable[..., httpx.Client]
) -> None:
    def rows(visitor: httpx.Client, address: str) -> list[str]:
        return re.findall(r'<th scope="row">(.*?)</th>', visitor.get(address).text)

    whole = site(workspace)
    assert rows(whole, "/view/all") == ["a", "b"]
    assert rows(whole, "/view/relied-on") == ["a"]
    cards = re.findall(r'<a href="(view/all[^"]*)"', whole.get("/?release=production").text)
    assert cards == ["view/all?release=production"]
    assert rows(whole, f"/{cards[0]}") == ["a"]
    assert "knows no release" in whole.get("/view/no-such").text
    assert rows(whole, "/") == ["a", "b"]
    assert rows(site(workspace, "2026.1"), "/view/all") == ["a"]


def test_a_site_of_a_release_has_nothing_else(workspace: Workspace, site: Callable[..., httpx.Client]) -> None:
    visitor = site(workspace, "production")
    assert "1 execution<" in visitor.get("/executions?runs=all").text
    assert "1 execution<" in visitor.get("/executions?release=x").text  # and nobody gets out by an address
    assert visitor.get(page_of(workspace, "p/d/a/v1")).status_code == 200
    assert visitor.get(page_of(workspace, "p/d/b/v1")).status_code == 404
    execution = workspace.resume_execution("p/d/a/v1")
    (execution.output_directory / "out.log").write_text("another log")
    execution.commit_output_assets(replace=True)
    with pytest.raises(ReleaseChangedError):
        workspace.catalog.of_release("production").scalars()


def test_what_read_a_dataset_is_listed(workspace: Workspace, site: Callable[..., httpx.Client]) -> None:
    assert "2 executions<" in site(workspace).get("/executions?dataset=cmip6.*.MIROC6.*").text
    assert "0 executions<" in site(workspace).get("/executions?dataset=other").text


def test_a_download_of_a_retracted_set_warns(workspace: Workspace, site: Callable[..., httpx.Client]) -> None:
    visitor = site(workspace)
    page = visitor.get(page_of(workspace, "p/d/b/v1")).text
    (address,) = set(re.findall(r'"\.\./(artifacts/[^"]+map\.png[^"]*)', page))
    assert "warning" not in visitor.get(f"/{address}").headers
    retract(workspace.results, "p/d/b/v1", reason="wrong sign", successor="p/d/b/v2")
    replay(workspace.results, workspace.catalog)
    page = visitor.get(page_of(workspace, "p/d/b/v1")).text
    assert "Retracted: do not use it" in page
    assert '<span class="badge retracted">' in page
    answer = visitor.get(f"/{address}")
    assert answer.headers["warning"] == '299 emdstore "retracted: wrong sign"'
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''RETRACTED-map.png"
    assert "immutable" not in answer.headers["cache-control"]
    assert answer.content == scoped(workspace.results, "p/d/b/v1").read_bytes("map.png")


def test_the_page_of_values_hides_outliers_for_who_asks_and_says_how_many(site: Callable[..., httpx.Client]) -> None:
    with Workspace.in_memory() as workspace:
        with workspace.start_execution(provider="p", diagnostic="d", group="g") as execution:
            for number, value in enumerate((1.0, 1.1, 1.2, 1.3, 1.4, 99.5)):
                execution.add_scalar(value, metric="m", source_id=f"model-{number}")
        execution.commit_output_assets()
        visitor = site(workspace)
        assert "99.5" in visitor.get("/values").text
        hidden = visitor.get("/values?outliers=hide").text
        assert "1 scalar of outliers hidden" in hidden
        assert "99.5" not in hidden
        assert "outliers=&#39;hide&#39;" in hidden
        assert len(visitor.get("/values.csv?outliers=hide").text.splitlines()) == 6
