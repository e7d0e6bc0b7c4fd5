"""The page that compares releases, groups and runs by verdict, served and as a file of its own."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from emdstore import Workspace, create_release, replay
from emdstore.catalog.comparing import Item, Pair, Rules, Tolerance, compare_results, side_of
from emdstore.web.app import make_app
from emdstore.web.report import write_report
from emdstore.web.selection import PageSelection
from emdstore.web.verdicts import ComparedPair, comparison_file

pytest.importorskip("imagehash")


def picture(shade: int, written: str) -> bytes:
    """A picture, with a note in it that nobody sees."""
    drawn = Image.new("RGB", (64, 64), "white")
    drawn.paste((shade, 0, 0), (0, 0, 32, shade // 4 + 1))
    file = io.BytesIO()
    drawn.save(file, "png", pnginfo=_note(written))
    return file.getvalue()


def _note(written: str) -> PngInfo:
    info = PngInfo()
    info.add_text("Creation Time", written)
    return info


def run(workspace: Workspace, group: str, name: str, value: float, plots: dict[str, bytes]) -> None:
    with workspace.start_execution(
        provider="p", diagnostic="d", group=group, name=name, provider_version=name
    ) as execution:
        for region in ("north", "south"):
            execution.add_scalar(value if region == "north" else 1.0, metric="bias", region=region)
        for key, data in plots.items():
            (execution.output_directory / key).write_bytes(data)
            execution.add_plot(key, long_name=f"the {key[:-4]}")
    execution.commit_output_assets()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Two runs of four groups: a value and a map have moved, a plot is lost, a value is near, and all is equal."""
    with Workspace.in_memory() as opened:
        for name in ("1", "2"):
            later = name == "2"
            maps = {"map.png": picture(200 if later else 20, name), "same.png": picture(90, name)}
            run(opened, "moved", name, 1.5 if later else 1.0, maps)
            run(opened, "vanished", name, 1.0, {} if later else {"map.png": picture(20, "")})
            run(opened, "near", name, 1.0 + 1e-9 * later, {})
            run(opened, "equal", name, 1.0, {"map.png": picture(20, name)})
            create_release(
                opened.results, f"r{name}", [f"p/d/{each}/{name}" for each in ("moved", "vanished", "near", "equal")]
            )
        replay(opened.results, opened.catalog)
        yield opened


@pytest.fixture(scope="module")
def page(workspace: Workspace, served: Callable[..., str]) -> Iterator[Callable[..., str]]:
    """Returns the page of a query."""
    with httpx.Client(base_url=served(make_app(workspace.catalog, workspace.results)), timeout=60) as visitor:

        def get(code: int = 200, **query: str) -> str:
            answer = visitor.get("/verdicts", params=query)
            assert answer.status_code == code, answer.text
            return answer.text

        yield get


def pairs(text: str) -> list[tuple[str, str]]:
    """Return the verdict and the group of each pair."""
    return re.findall(r'data-verdict="(\w+)">\s*<h2>.*?<span class="group">(\w+)<', text, re.DOTALL)


RELEASES = {"a": "release:r1", "b": "release:r2"}


def test_each_pair_has_its_verdict_the_worst_first_and_what_is_equal_is_counted(page: Callable[..., str]) -> None:
    text = page(**RELEASES)
    assert pairs(text) == [("missing", "vanished"), ("changed", "moved"), ("changed", "near")]
    for told in ("1 missing<", "2 changed<", "1 equal<", "4 pairs, missing"):
        assert told in text
    assert pairs(page(**RELEASES, relative="1e-6"))[2] == ("within", "near")
    assert pairs(page(**RELEASES, verdict="missing")) == [("missing", "vanished")]
    assert pairs(page(**RELEASES, group="near")) == [("changed", "near")]
    assert pairs(page(a="release:r2")) == []
    assert "Nothing differs" in page(a="release:r2")


def test_plots_that_show_something_else_are_side_by_side_and_others_are_not(page: Callable[..., str]) -> None:
    text = page(**RELEASES)
    moved = text[text.index('"group">moved<') : text.index('"group">near<')]
    assert re.findall(r"<h3>(.*?) <span", moved) == ["the map"]
    assert "of 256 bits" in moved
    assert re.findall(r'alt="(.*?)"', moved) == ["A: the map", "B: the map"]
    assert "p 1 → 2" in moved
    assert "B has none" in text[: text.index('"group">moved<')]
    # Nobody looked: what has other bytes is shown, and is no verdict.
    assert pairs(page(**RELEASES, look="values"))[0] == ("missing", "vanished")
    assert page(**RELEASES, look="values").count("other bytes") == 2
    assert ("changed", "equal") in pairs(page(**RELEASES, look="bytes"))


def test_groups_and_runs_are_compared_like_releases(page: Callable[..., str]) -> None:
    assert pairs(page(a="p/d/moved/1", b="p/d/moved/2")) == [("changed", "moved")]
    assert "1 pair, new" in page(a="p/d/near", b="p/d/moved", look="values")
    assert pairs(page(a="p/d/nobody", b="p/d/near")) == [("new", "near")]


@pytest.mark.parametrize(
    "wrong", [{"a": "release:none"}, {"a": "\0"}, {"relative": "x"}, {"absolute": "-1"}, {"relative": "inf"}]
)
def test_what_is_no_release_and_no_tolerance_is_refused(page: Callable[..., str], wrong: dict[str, str]) -> None:
    page(400, **wrong)


def test_a_file_of_its_own_has_the_pictures_in_it_and_needs_no_other_file(workspace: Workspace) -> None:
    names = ("release:r1", "release:r2")
    before, after = (side_of(workspace.catalog, name, {}, workspace.results) for name in names)
    rules = Rules(Tolerance(relative=1e-6), contents=True)
    text = comparison_file(before, after, names, list(compare_results(before, after, rules)), rules)
    assert pairs(text) == [("missing", "vanished"), ("changed", "moved"), ("within", "near")]
    assert text.count('src="data:image/png;base64,') == 3
    assert not re.search(r'(?:src|href)="(?!data:)', text)


def test_a_report_has_the_pages_of_groups_and_releases_and_no_link_that_leads_nowhere(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "site"
    assert write_report(folder, workspace.catalog, workspace.results).ok

    def linked(page: Path, words: str) -> Path:
        (link,) = re.findall(rf'href="([^"]+)">{words}</a>', page.read_text())
        return page.parent / link

    releases = folder / "releases.html"
    assert linked(folder / "index.html", "Releases") == releases
    text = linked(releases, "compared with r1").read_text()
    assert pairs(text) == [("missing", "vanished"), ("changed", "moved"), ("changed", "near")]
    assert "of 256 bits" in text  # somebody looked into the plots
    assert "<form" not in text
    later = workspace.catalog.execution("p/d/moved/2").execution_id
    group = linked(folder / f"execution/{later}.html", "The page of this group")
    assert re.findall(r"<strong>|<td>(r\d)</td>", group.read_text()) == ["r2", "r1"]
    (moved,) = re.findall(r'<a href="([^"]+)">\d changed</a>', group.read_text())
    text = (group.parent / moved).read_text()
    assert pairs(text) == [("changed", "moved")]
    assert "p/d/moved/1" in text
    assert re.findall('<img src="../artifacts/[^"]*" alt="(.*?)"', text) == ["A: the map", "B: the map"]
    for page in (each for each in folder.rglob("*.html") if "artifacts" not in each.parts):
        for link in re.findall(r'(?:href|src|action)="([^"#]+)"', page.read_text()):
            assert (page.parent / unquote(link.partition("?")[0])).is_file(), (page, link)


def test_a_report_of_a_part_compares_nothing_that_is_not_in_it(workspace: Workspace, tmp_path: Path) -> None:
    one = PageSelection(fragment="p/d/moved/2")
    assert write_report(tmp_path / "site", workspace.catalog, workspace.results, one).ok
    (group,) = (tmp_path / "site/group").iterdir()
    assert "changed</td>" in group.read_text()
    for page in (tmp_path / "site").rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"#]+)"', page.read_text()):
            assert (page.parent / unquote(link.partition("?")[0])).is_file(), (page, link)


def test_dimensions_that_all_series_share_are_told_once() -> None:
    items = [
        Item("series", "changed", "time", {"region": region, "source_id": "MIROC6"}, distance=1.0)
        for region in ("north", "south")
    ]
    two, one = (ComparedPair(Pair("p", "d", "g", "1", "2", {}, tuple(some)), None, None) for some in (items, items[:1]))
    assert two.shared == {"source_id": "MIROC6"}
    assert two.told(items[0]) == "series over time, region=north: up to 1 apart"
    assert one.told(items[0]) == "series over time, region=north, source_id=MIROC6: up to 1 apart"
