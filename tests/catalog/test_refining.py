"""Queries that are narrowed by comparisons, ordered and cut, and scalars as arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from emdstore.catalog import Catalog, ExecutionContent
from emdstore.errors import ExportError, QueryError

VALUES = (3.0, -1.0, math.nan, 2.0, 0.5, 2.0)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with Catalog(tmp_path_factory.mktemp("refining") / "catalog.db") as catalog:
        for number in range(4):
            regions, seasons = ("north", "south"), ("DJF", "JJA", "SON")
            places = [(region, season) for region in regions for season in seasons]
            catalog.replace_execution(
                ExecutionContent(
                    fragment=f"p/d/g{number}/1", provider="p", diagnostic="d", group=f"g{number}", status="uploaded",
                    published_at=datetime(2025, 1, 1 + number, tzinfo=UTC), state="published",
                    scalars=[
                        (value + number, {"model": f"m{number}", "region": r, "season": s, "kind": "x"}, {"units": "K"})
                        for value, (r, s) in zip(VALUES, places, strict=True)
                    ],
                )
            )  # fmt: skip
        yield catalog


@pytest.mark.parametrize(
    ("test", "value", "expected"),
    [
        ("<", 0.5, [-1.0]),
        ("<=", 0.5, [-1.0, 0.5]),
        (">", 2, [3.0]),
        (">=", 2, [3.0, 2.0, 2.0]),
        ("==", 2, [2.0, 2.0]),
        ("!=", 2, [3.0, -1.0, 0.5]),
        ("in", (3.0, 0.5), [3.0, 0.5]),
        ("between", (0.5, 2), [2.0, 0.5, 2.0]),
    ],
)
def test_rows_are_compared_and_what_is_missing_passes_no_test(
    test: Any, value: Any, expected: list[float], catalog: Catalog
) -> None:
    query = catalog.scalars(group="g0").where("value", test, value)
    assert [row.value for row in query] == expected
    assert query.count() == len(expected)


def test_times_and_texts_are_compared_too(catalog: Catalog) -> None:
    late = catalog.executions().where("published_at", ">=", datetime(2025, 1, 3, tzinfo=UTC))
    assert [row.group for row in late] == ["g2", "g3"]
    assert [row.group for row in late.where("group", "!=", "g2")] == ["g3"]


def test_rows_come_in_the_order_that_is_asked_for_and_then_in_their_own(catalog: Catalog) -> None:
    rows = list(catalog.scalars(group=["g0", "g1"]).order_by("-value"))
    assert [row.value for row in rows[:3]] == [4.0, 3.0, 3.0]
    assert [row.group for row in rows[1:3]] == ["g0", "g1"]
    assert all(math.isnan(row.value) for row in rows[-2:])
    up = [row.value for row in catalog.scalars(group="g0").order_by("value")]
    assert up[:2] == [-1.0, 0.5]
    assert math.isnan(up[-1])
    assert [row.group for row in catalog.executions().order_by("-published_at")] == ["g3", "g2", "g1", "g0"]


def test_a_limit_holds_for_counts_facets_and_exports(catalog: Catalog) -> None:
    query = catalog.scalars().order_by("-value").limit(5)
    assert [row.value for row in query] == [6.0, 5.0, 5.0, 5.0, 4.0]
    assert query.count() == 5
    assert sum(query.facets()["region"].values()) == 5
    assert b"".join(query.export("csv")).count(b"\n") == 6
    assert query.limit(2).count() == 2
    assert query.where("value", "<", 5).count() == 1  # of the five
    assert catalog.executions().limit(3).count() == 3
    assert catalog.executions().limit(0).first() is None


def test_what_is_no_field_or_test_is_refused(catalog: Catalog) -> None:
    for call in (
        lambda: catalog.scalars().where("valeu", "<", 1),
        lambda: catalog.scalars().where("dimensions", "==", "x"),
        lambda: catalog.scalars().where("value", "like", 1),  # type: ignore[arg-type]
        lambda: catalog.executions().order_by("-nothing"),
    ):
        with pytest.raises(QueryError, match="there is no"):
            call()


def test_a_query_tells_what_it_asks_for_and_shows_its_first_rows(catalog: Catalog) -> None:
    query = catalog.scalars(group="g0", latest=True).where("value", "<", 2).order_by("-value").limit(3)
    told = repr(query)
    for part in ("group='g0'", "latest=True", "value < 2", "by -value", "the first 3"):
        assert part in told
    assert len(repr(catalog.scalars(group=["x" * 100] * 1000))) < 2000
    html = catalog.scalars()._repr_html_()
    assert html.count("<tr>") == 11
    assert "10 of 24 rows" in html
    with Catalog("sqlite://") as other:
        hostile = ExecutionContent(fragment="<b>", provider="<i>", diagnostic="d", group="g", status="uploaded")
        other.replace_execution(hostile)
        assert "<b>" not in other.executions()._repr_html_()


def test_scalars_are_laid_out_over_their_dimensions(catalog: Catalog) -> None:
    pytest.importorskip("xarray")
    array = catalog.scalars().to_xarray("season", "model", "region")
    assert array.dims == ("season", "model", "region")
    assert array.shape == (3, 4, 2)
    assert float(array.sel(model="m1", region="north", season="JJA")) == 0.0
    assert math.isnan(float(array.sel(model="m1", region="north", season="SON")))
    assert array.attrs == {"units": "K"}
    assert str(array.coords["kind"].item()) == "x"
    assert set(catalog.scalars().to_xarray().dims) == {"model", "region", "season"}
    with pytest.raises(ExportError, match="they differ in model"):
        catalog.scalars().to_xarray("region", "season")
    with pytest.raises(ExportError, match="has no nothing"):
        catalog.scalars().to_xarray("nothing")
