"""Results are compared by what they mean: paired by what they are of, and by dimensions, within tolerances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from tests.catalog.examples import FULL, NOON, execution_of

from emdstore.catalog import Catalog, ExecutionContent
from emdstore.catalog.comparing import Item, Pair, Rules, Side, Tolerance, compare_results

SHA = "ab" * 32


@pytest.fixture
def other(url: str) -> Iterator[Catalog]:
    """The catalog of what is now; what was before is in memory."""
    with Catalog(url) as catalog:
        yield catalog


def run(fragment: str, *scalars: tuple[float | None, dict[str, str]], **changes: Any) -> ExecutionContent:
    rows = [(value, labels, None) for value, labels in scalars]
    return execution_of(fragment, state="published", published_at=NOON, scalars=rows, **changes)


def compare(before: list[ExecutionContent], after: list[ExecutionContent], other: Catalog, **rules: Any) -> list[Pair]:
    with Catalog("sqlite://") as catalog:
        for content in before:
            catalog.replace_execution(content)
        for content in after:
            other.replace_execution(content)
        return list(compare_results(Side(catalog), Side(other), Rules(**rules)))


def test_equal_results_are_equal_wherever_they_lie_and_in_whatever_order(other: Catalog) -> None:
    one, two = (1.5, {"region": "a", "metric": "rmse"}), (math.nan, {"metric": "bias", "region": "a"})
    (pair,) = compare([run("x/1", one, two)], [run("y/2", two, one)], other)
    assert (pair.verdict, pair.counts, pair.items) == ("equal", {"equal": 2}, ())
    assert (pair.a, pair.b, pair.diagnostic) == ("x/1", "y/2", "enso")


def test_each_value_that_moved_is_told_the_worst_first(other: Catalog) -> None:
    before = run("x/1", (1.0, {"m": "same"}), (2.0, {"m": "near"}), (3.0, {"m": "far"}), (4.0, {"m": "gone"}))
    after = run("x/1", (1.0, {"m": "same"}), (2.0000001, {"m": "near"}), (None, {"m": "far"}), (5.0, {"m": "come"}))
    (pair,) = compare([before], [after], other, tolerance=Tolerance(relative=1e-6))
    assert pair.verdict == "missing"
    assert pair.counts == {"equal": 1, "within": 1, "changed": 1, "missing": 1, "new": 1}
    missing, new, changed, within = pair.items
    assert missing == Item("scalar", "missing", dimensions={"m": "gone"}, a=4.0)
    assert new == Item("scalar", "new", dimensions={"m": "come"}, b=5.0)
    assert (changed.dimensions, changed.a, changed.b, changed.distance) == ({"m": "far"}, 3.0, None, None)
    assert within.distance == pytest.approx(1e-7)


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "allowed"),
    [
        (1.0, 1.0 + 1e-9, Tolerance(), False),
        (1.0, 1.0 + 1e-9, Tolerance(relative=1e-8), True),
        (1e-12, 0.0, Tolerance(relative=1e-3), False),
        (1e-12, 0.0, Tolerance(absolute=1e-9), True),
        (0.0, -0.0, Tolerance(), True),
        (math.nan, None, Tolerance(), True),
        (math.nan, 1.0, Tolerance(absolute=1e9), False),
        (math.inf, math.inf, Tolerance(), True),
        (math.inf, -math.inf, Tolerance(relative=1.0), False),
        (math.inf, 1e308, Tolerance(absolute=1e300), False),
    ],
)
def test_a_tolerance_is_relative_or_absolute_and_never_hides_what_is_missing(
    a: float | None, b: float | None, tolerance: Tolerance, allowed: bool
) -> None:
    assert tolerance.allows(a, b) == tolerance.allows(b, a) == allowed


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="must be >= 0"):
        Tolerance(relative=-1.0)


def test_metrics_have_tolerances_of_their_own(other: Catalog) -> None:
    before = run("x/1", (1.0, {"metric": "rmse"}), (1.0, {"metric": "bias"}))
    after = run("x/1", (1.1, {"metric": "rmse"}), (1.1, {"metric": "bias"}))
    (pair,) = compare([before], [after], other, of_metric={"rmse": Tolerance(absolute=0.2)})
    assert [(item.dimensions["metric"], item.verdict) for item in pair.items] == [
        ("bias", "changed"),
        ("rmse", "within"),
    ]


def test_executions_are_paired_by_what_they_are_of_the_latest_of_each(other: Catalog) -> None:
    def of(group: str, name: str, value: float, hour: int) -> ExecutionContent:
        return attrs.evolve(run(name, (value, {"m": "x"}), group=group), published_at=NOON.replace(hour=hour))

    before = [of("g1", "a/1", 0.0, 1), of("g1", "a/2", 1.0, 2), of("g2", "a/3", 1.0, 1), of("g3", "a/4", 1.0, 1)]
    after = [of("g1", "b/9", 1.0, 1), of("g4", "b/8", 1.0, 1), of("g2", "b/7", 2.0, 1)]
    found = compare(before, after, other)
    assert [(pair.group, pair.a, pair.b, pair.verdict) for pair in found] == [
        ("g3", "a/4", None, "missing"),
        ("g4", None, "b/8", "new"),
        ("g1", "a/2", "b/9", "equal"),
        ("g2", "a/3", "b/7", "changed"),
    ]


def test_two_single_executions_are_compared_whatever_they_are_of(other: Catalog) -> None:
    (pair,) = compare([run("x/1", group="one")], [run("x/2", group="two", diagnostic="another")], other)
    assert (pair.verdict, pair.a, pair.b, pair.diagnostic) == ("equal", "x/1", "x/2", "another")


def test_series_are_compared_point_by_point(other: Catalog) -> None:
    def series(values: list[float | None], index: list[Any] | None = None, region: str = "a") -> ExecutionContent:
        points = index if index is not None else list(range(len(values)))
        return run("x/1", series=[({"region": region}, "time", points, values, None)])

    def judged(a: ExecutionContent, b: ExecutionContent) -> list[tuple[str, float | None, str]]:
        (pair,) = compare([a], [b], other, tolerance=Tolerance(absolute=0.1))
        return [(item.verdict, item.distance, item.detail) for item in pair.items]

    assert judged(series([1.0, None, math.inf]), series([1.0, math.nan, math.inf])) == []
    assert judged(series([1.0, 2.0]), series([1.0, 2.0625])) == [("within", 0.0625, "")]
    assert judged(series([1.0, 2.0]), series([1.5, 2.0])) == [("changed", 0.5, "")]
    assert judged(series([1.0, None]), series([1.0, 2.0])) == [("changed", 0.0, "")]
    assert judged(series([1.0]), series([1.0, 2.0])) == [("changed", None, "1 points and 2")]
    assert judged(series([1.0], ["1850"]), series([1.0], ["1851"])) == [("changed", None, "other points")]
    assert [verdict for verdict, *_ in judged(series([1.0]), series([1.0], region="b"))] == ["missing", "new"]


def test_a_lost_plot_is_missing_and_other_bytes_count_only_if_asked_for(other: Catalog) -> None:
    def plots(**of: tuple[int, str | None]) -> ExecutionContent:
        rows: list[Any] = [(name, "plot", size, sha, None, None) for name, (size, sha) in of.items()]
        return run("x/1", artifacts=[*rows, ("out.log", "log", len(of), None, None, None)])

    before, after = (
        plots(kept=(1, SHA), lost=(1, SHA), drawn=(1, SHA), bare=(1, None)),
        plots(kept=(1, SHA), drawn=(2, "cd" * 32), bare=(1, SHA)),
    )
    (pair,) = compare([before], [after], other)
    assert [(item.name, item.verdict) for item in pair.items] == [("lost", "missing")]
    (pair,) = compare([before], [after], other, artifacts=True)
    assert [(item.name, item.verdict, item.detail) for item in pair.items] == [
        ("lost", "missing", ""),
        ("drawn", "changed", "1 bytes and 2"),
    ]


def test_values_with_the_same_dimensions_are_compared_one_by_one(other: Catalog) -> None:
    twice = {"m": "x"}
    (pair,) = compare([run("x/1", (1.0, twice), (2.0, twice))], [run("x/1", (1.0, twice), (3.0, twice))], other)
    assert [(item.a, item.b) for item in pair.items] == [(2.0, 3.0)]


def test_everything_that_a_catalog_can_hold_equals_itself(other: Catalog) -> None:
    full = attrs.evolve(FULL, state="published")
    (pair,) = compare([full], [full], other, artifacts=True)
    assert pair.verdict == "equal"
    assert pair.counts == {"equal": 6 + 3 + 2}
