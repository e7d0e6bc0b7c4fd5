"""What pages are made of: plain values, without a browser."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from emdstore.catalog import Catalog, ExecutionContent, SeriesRow
from emdstore.catalog.browse import concern_of
from emdstore.stores import InMemoryArtifactStore
from emdstore.web import text
from emdstore.web.charts import Chart, SeriesLine, series_charts
from emdstore.web.compare import _letter, peers, read_comparison
from emdstore.web.drawing import draw_chart, scale_of
from emdstore.web.places import Places, framed_key
from emdstore.web.reading import ResultsReader
from emdstore.web.selection import PageSelection


def one(values: tuple[float, ...] = (1.0, 2.0), index: tuple[Any, ...] = (1, 2), **more: Any) -> SeriesRow:
    told: dict[str, Any] = {"dimensions": {"region": "global"}, "attributes": {}, "position": 0} | more
    place = {"execution_id": 1, "fragment": "f", "provider": "p", "diagnostic": "d", "group": "g"}
    return SeriesRow(index_name="time", index=index, values=values, **place, **told)  # type: ignore[arg-type]


def charts(*rows: SeriesRow) -> tuple[Chart, ...]:
    return series_charts(map(SeriesLine, rows))


def test_series_with_the_same_dimensions_are_both_drawn() -> None:
    (chart,) = charts(one(), one((3.0, math.nan)))
    assert [trace.y for trace in chart.traces] == [(1.0, 2.0), (3.0, None)]
    assert len({trace.name for trace in chart.traces}) == 2
    assert chart.points == 3


def test_what_has_other_units_or_is_another_statistic_gets_a_chart_of_its_own() -> None:
    found = charts(
        one(attributes={"value_units": "K"}),
        one(attributes={"value_units": "°C"}),
        one(dimensions={"metric": "bias"}),
    )
    assert [chart.y_title for chart in found] == ["K", "°C", ""]


def test_models_meet_their_reference_in_one_chart_for_each_region_and_season() -> None:
    reference = {"kind": "reference", "reference_id": "ERA-5"}
    lines = []
    for column, model in enumerate(("CESM2", "MIROC6")):
        for place, region in enumerate(("global", "tropics")):
            for season in ("DJF", "JJA"):
                where = {"region": region, "season": season}
                lines.append(
                    SeriesLine(one((float(column), 1.0), dimensions={"source_id": model, **where}), model, column)
                )
                seen = one((9.0, float(place)), dimensions={"source_id": "Reference", **where}, attributes=reference)
                lines.append(SeriesLine(seen, model, column))
    found = series_charts(lines)
    assert [chart.title.split(" – ")[-1] for chart in found] == [
        "global · DJF", "global · JJA", "tropics · DJF", "tropics · JJA",
    ]  # fmt: skip
    for chart in found:
        # The same observations, which both executions brought along, are there once, and belong to neither.
        assert [(trace.name, trace.column) for trace in chart.traces] == [
            ("ERA-5 (reference)", None),
            ("CESM2", 0),
            ("MIROC6", 1),
        ]


def test_references_that_differ_are_both_drawn() -> None:
    told: dict[str, Any] = {"dimensions": {"source_id": "Reference", "region": "global"}}
    (chart,) = charts(one((1.0, math.nan), **told), one((1.0, math.nan), **told), one((1.0, 2.0), **told))
    assert [trace.y for trace in chart.traces] == [(1.0, None), (1.0, 2.0)]


def test_a_line_is_drawn_where_its_values_are_and_broken_where_they_are_missing() -> None:
    (chart,) = charts(one((0.0, 10.0, math.nan, 5.0, math.inf), (0, 1, 2, 3, 4)))
    drawn = draw_chart(chart)
    low, high = 0.0 - 0.4, 10.0 + 0.4
    first, second = (round((1 - (value - low) / (high - low)) * 500) for value in (0.0, 10.0))
    assert f'd="M0 {first}l0 0 250{second - first}M750 250l0 0"' in drawn
    assert drawn.count("h0") == 3  # each of so few points is marked


@pytest.mark.parametrize(
    "values", [(1.0, 1.0), (0.0, 0.0), (-1e308, 1e308), (1e-310, 2e-310), (1e16, 1e16 + 2), (5.0,), ()], ids=str
)
def test_any_numbers_have_a_scale(values: tuple[float, ...]) -> None:
    scale = scale_of(values)
    assert scale.ticks
    assert all(-0.01 <= scale.place(value) <= 1.01 for value in values)
    assert all(math.isfinite(scale.place(value)) for value, _ in scale.ticks)
    few = scale_of(values, most=5, letters=18).ticks
    assert len(few) == 1 or sum(len(label) for _, label in few) <= 18 + max(len(label) for _, label in few)


def test_labels_of_an_axis_are_numbers_as_people_write_them() -> None:
    def labels(*ends: float) -> list[str]:
        return [label for _, label in scale_of(ends).ticks]

    assert labels(150, 280) == ["150", "200", "250"]
    assert labels(-250, 0) == ["−250", "−200", "−150", "−100", "−50", "0"]
    assert labels(0, 1) == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert labels(0, 2e9)[1] == "5e+08"


def test_names_in_a_drawing_are_text() -> None:
    (chart,) = charts(one(attributes={"value_units": "<i>", "index_units": "<b>"}, index=("<u>", "x")))
    assert not [tag for tag in ("<b>", "<i>", "<u>") if tag in draw_chart(chart)]
    assert "&lt;u&gt;" in draw_chart(chart)


def test_the_hundredth_execution_has_a_letter() -> None:
    assert [_letter(number) for number in (0, 25, 26, 51, 52, 702)] == ["A", "Z", "AA", "AZ", "BA", "AAA"]


@pytest.mark.parametrize(
    ("index", "axis", "kind"),
    [
        (("2000-01-01", "2000-02-01T12:00:00"), "date", "line"),
        (("2000-02-29", "2000-02-30"), "date", "line"),  # a calendar of 360 days
        (("DJF", "MAM"), "category", "line"),
        ((1, 2.5), "linear", "line"),
        ((3, 1, 2), "linear", "points"),
    ],
)
def test_the_axis_is_what_the_index_is(index: tuple[Any, ...], axis: str, kind: str) -> None:
    (chart,) = charts(one(tuple(map(float, range(len(index)))), index))
    assert (chart.axis, chart.kind) == (axis, kind)
    assert draw_chart(chart).count("h0") == len(index)


@pytest.fixture
def two_models() -> Any:
    """Two executions whose frameworks tell a reference in two ways."""
    with Catalog("sqlite://") as catalog:
        for model, said in (("CanESM5", {"kind": "reference"}), ("ACCESS", {"source_id": "Reference"})):
            model_said = {"source_id": model, "member_id": "r1"} | ({"kind": "model"} if model == "CanESM5" else {})
            values = [
                (0, len(model), {"region": "global", **model_said}, {}),
                (1, 100, {"region": "global", **said}, {}),
                (2, math.nan, {"region": "arctic", **model_said}, {}),
            ]
            catalog.replace_execution(
                ExecutionContent(
                    fragment=f"p/d/{model}/1",
                    provider="p",
                    diagnostic="d",
                    group=model,
                    status="uploaded",
                    scalars=[(value, dimensions, attributes) for _, value, dimensions, attributes in values],
                )
            )
        yield catalog


def test_the_same_of_two_models_is_found_and_a_reference_stays_one(two_models: Catalog) -> None:
    rows = sorted(two_models.executions(), key=lambda row: row.group, reverse=True)
    page = read_comparison(two_models, ResultsReader(InMemoryArtifactStore()), rows)
    found = {tuple(sorted(row.dimensions.items())): row for row in page.values}
    assert found.keys() == {
        (("region", "global"),),
        (("kind", "reference"), ("region", "global")),
        (("region", "arctic"),),
    }
    model = found[("region", "global"),]
    assert (model.values, model.difference(1)) == ((7.0, 6.0), -1.0)
    assert model.percent(1) == pytest.approx(-100 / 7)
    assert found[("region", "arctic"),].difference(1) is None
    assert [column.sources["source_id"] for column in page.columns] == ["CanESM5", "ACCESS"]


def test_the_latest_of_each_group_is_compared_or_all_of_the_only_one(two_models: Catalog) -> None:
    rows = list(two_models.executions())
    again = attrs.evolve(rows[0], execution_id=1, fragment="older")
    failed = attrs.evolve(rows[0], execution_id=2, status="failed")
    assert peers([failed, rows[0], again, rows[1]]) == [rows[0], rows[1]]
    assert peers([rows[0], again, failed]) == [rows[0], again]


def test_what_needs_attention_is_told_by_the_row(two_models: Catalog) -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    row = two_models.executions().first()
    assert row is not None
    assert concern_of(row, now) is None
    claimed = attrs.evolve(row, status="pending_upload", lease_expires=now + timedelta(seconds=1))
    assert concern_of(claimed, now) is None
    assert concern_of(claimed, now + timedelta(seconds=2)) == "lease"
    assert concern_of(attrs.evolve(row, status="failed", failure="result"), now) == "incomplete"
    assert concern_of(attrs.evolve(row, status="failed", failure="system"), now) == "failed"
    assert concern_of(attrs.evolve(row, status="upload_failed"), now) == "upload_failed"


def test_a_selection_survives_its_own_address() -> None:
    asked = [
        ("provider", "a&b"),
        ("d.region", "x"),
        ("d.region", "y"),
        ("q", " two words "),
        ("page", "3"),
        ("in", "p/d"),
    ]
    selection = PageSelection.of(asked)
    pairs = [
        (name, each)
        for name, value in selection.query(page=3).items()
        for each in ([value] if isinstance(value, str) else value)
    ]
    assert PageSelection.of(pairs) == selection
    assert selection.value_filters == {
        "provider": ["a&b"],
        "fragment": "p/d",
        "dimensions": {"region": ["x", "y"]},
        "superseded": True,  # whoever opens a folder sees all of its runs
    }
    assert attrs.evolve(selection, fragment="").value_filters["latest"] is True
    assert "page" not in selection.toggled("provider", "a&b")
    assert "provider" not in selection.toggled("provider", "a&b")


@pytest.mark.parametrize("nonsense", ["0", "-1", "x", "", "9" * 5000, "١"])
def test_a_page_that_is_no_number_is_the_first(nonsense: str) -> None:
    assert PageSelection.of([("page", nonsense), ("in", "../x")]) == PageSelection()


def test_links_are_relative_and_quoted() -> None:
    served, filed = Places(root="../"), Places(root="../", filed=True)
    assert (served.overview(), filed.overview()) == ("../", "../index.html")
    assert (served.executions(), filed.executions()) == ("../executions", "../executions.html")
    assert Places().overview({"q": "a b"}) == "./?q=a+b"
    assert filed.artifact(7, "a 'b' #1?.png", "0" * 64) == "../artifacts/7/a%20%27b%27%20%231%3F.png"
    assert served.artifact(7, "a", "f" * 64).endswith("/a?v=ffffffffffffffff")
    assert (framed_key("x/index.html"), framed_key("x.y/index")) == ("x/index.framed.html", "x.y/index.framed.html")


def test_numbers_are_written_for_people() -> None:
    assert [text.number_text(value) for value in (-0.5, 1234567.0, math.nan, math.inf)] == [
        "−0.5",
        "1.23457e+06",
        "no value",
        "∞",
    ]
    assert [text.size_text(size) for size in (0, 999, 1500, 5_700_000)] == ["0 bytes", "999 bytes", "1.5 kB", "5.7 MB"]
    assert [text.duration_text(each) for each in (0.4, 90, 3600 * 3)] == ["0.4 s", "90 s", "3 h 0 min"]
