"""What changed from one day to another, exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.web.models import execution

from emdstore.catalog import Catalog
from emdstore.errors import QueryError
from emdstore.stores import InMemoryArtifactStore
from emdstore.web.app import make_app
from emdstore.web.changes import Change, read_changes
from emdstore.web.report import write_report
from emdstore.web.selection import PageSelection

FAILED: dict[str, Any] = {"status": "failed", "complete": False, "scalars": [], "failure": "diagnostic"}


def scalars(*values: float) -> list[tuple[float, dict[str, str], dict[str, str]]]:
    return [(value, {"metric": f"m{number}"}, {"units": "K"}) for number, value in enumerate(values)]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with Catalog(tmp_path_factory.mktemp("changes") / "catalog.db") as catalog:
        for content in (
            execution("same", "a", 1, scalars=scalars(1.0, math.nan)),
            execution("same", "a", 5, scalars=scalars(1.0, math.nan)),
            execution("moved", "a", 1, scalars=scalars(1.0, 10.0, 5.0)),
            execution("moved", "a", 5, scalars=scalars(1.3, 10.7, 5.01)),
            execution("vanished", "a", 1, scalars=scalars(1.0)),
            execution("vanished", "a", 5, scalars=scalars(math.nan)),
            execution("broken", "a", 1, scalars=scalars(1.0)),
            execution("broken", "a", 5, **FAILED),
            execution("mended", "a", 1, **FAILED),
            execution("mended", "a", 3, scalars=scalars(1.0)),
            execution("mended", "a", 5, scalars=scalars(1.0)),
            execution("left", "a", 1, scalars=scalars(1.0)),
            execution("new", "a", 5, scalars=scalars(1.0)),
        ):
            catalog.replace_execution(content)
        yield catalog


def groups(changes: tuple[Change, ...]) -> list[str]:
    return [change.line.row.group.removeprefix("cmip6_") for change in changes]


def test_each_kind_of_change_is_told_and_nothing_else(catalog: Catalog) -> None:
    page = read_changes(catalog, PageSelection(), "2025-01-01", "2025-01-05")
    assert groups(page.moved) == ["vanished", "moved"]  # the largest change first
    assert (groups(page.broken), groups(page.mended)) == (["broken"], ["mended"])
    assert (groups(page.new), groups(page.gone)) == (["new"], [])
    assert (page.same, page.untouched) == (1, 1)
    move = page.moved[1].move
    assert move is not None
    assert (move.percent, move.what, move.before, move.after) == (pytest.approx(30), "m0", 1.0, 1.3)
    assert (move.moved, move.compared) == (2, 3)


def test_only_what_moves_by_more_than_asked_is_listed(catalog: Catalog) -> None:
    page = read_changes(catalog, PageSelection(), "2025-01-01", "2025-01-05", 31)
    assert groups(page.moved) == ["vanished"]
    assert page.same == 2


def test_the_last_two_days_are_compared_if_nobody_says_which(catalog: Catalog) -> None:
    page = read_changes(catalog, PageSelection())
    assert (page.since, page.until) == ("2025-01-03", "2025-01-05")
    assert page.days == ("2025-01-05", "2025-01-03", "2025-01-01")
    assert page.mended == ()  # it was good on the third already
    backwards = read_changes(catalog, PageSelection(), "2025-01-05", "2025-01-01")
    assert groups(backwards.gone) == ["new"]


def test_a_selection_narrows_it_and_an_empty_catalog_has_no_changes(catalog: Catalog) -> None:
    page = read_changes(catalog, PageSelection(chosen={"group": ("cmip6_broken",)}), "2025-01-01", "2025-01-05")
    assert (groups(page.broken), page.moved, page.new) == (["broken"], (), ())
    with Catalog("sqlite://") as empty:
        assert read_changes(empty, PageSelection()).since == ""


def test_what_is_no_day_and_no_percentage_is_refused(catalog: Catalog, served: Callable[..., str]) -> None:
    with pytest.raises(QueryError, match="is no day"):
        read_changes(catalog, PageSelection(), "2025-02-30", "2025-01-05")
    home = served(make_app(catalog, InMemoryArtifactStore()))
    assert ">Moved <" in httpx.get(f"{home}changes?from=2025-01-01&to=2025-01-05").text
    for wrong in ("from=2025-99-01", "over=x", "over=nan", "over=-1", "from=no-such-release"):
        assert 400 <= httpx.get(f"{home}changes?{wrong}").status_code < 500, wrong


def test_a_report_tells_what_changed_last(catalog: Catalog, tmp_path: Path) -> None:
    write_report(tmp_path / "site", catalog, InMemoryArtifactStore())
    assert "From 2025-01-03 to 2025-01-05" in (tmp_path / "site/changes.html").read_text()
