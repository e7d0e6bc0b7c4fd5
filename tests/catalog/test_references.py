"""What values are of is in columns: a model or a reference, which one, in which units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.catalog.examples import execution_of

from emdstore.catalog import Catalog
from emdstore.catalog.references import conflicting_references, described_units, identities_of, subject_of

Said = Mapping[str, Any]


SAID: list[tuple[dict[str, str], Said | None, tuple[str, str | None, str | None]]] = [
    ({"source_id": "MIROC6"}, {"units": "K"}, ("model", None, "K")),
    ({"source_id": "Reference"}, {"value_units": "1", "units": "K"}, ("reference", None, "1")),
    ({}, {"kind": "reference", "reference_id": "HadISST"}, ("reference", "HadISST", None)),
    ({"kind": "Reference", "reference_source_id": "ERA5"}, {}, ("reference", "ERA5", None)),
    ({"reference_datasets": "GPCP"}, None, ("model", "GPCP", None)),
    ({"source_id": "Ensemble"}, {"units": ""}, ("ensemble", None, "")),
    ({}, {"kind": "multi-model statistic", "reference_id": 3, "units": None}, ("ensemble", None, None)),
]


@pytest.mark.parametrize(("dimensions", "attributes", "identity"), SAID)
def test_what_a_value_is_of_is_told_as_frameworks_write_it(
    dimensions: dict[str, str], attributes: Said | None, identity: tuple[str, str | None, str | None]
) -> None:
    assert subject_of(dimensions, attributes) == identity


def test_it_is_told_in_the_same_way_of_many_values_that_share_their_attributes() -> None:
    every_dimension = [dimensions for dimensions, _, _ in SAID] * 2
    for _, attributes, _ in SAID:
        of_each = [subject_of(dimensions, attributes) for dimensions in every_dimension]
        assert list(identities_of(every_dimension, [attributes] * len(every_dimension))) == of_each
    assert list(identities_of(*list(zip(*SAID, strict=True))[:2])) == [identity for _, _, identity in SAID]


def test_scalars_and_series_are_chosen_by_it(catalog: Catalog) -> None:
    said = {"kind": "reference", "reference_id": "HadISST", "value_units": "K"}
    catalog.replace_execution(
        execution_of(
            "a",
            scalars=[(1.0, {"metric": "rmse", "reference_source_id": "ERA5"}, {"units": "K"}), (2.0, {}, None)],
            series=[({"region": "x"}, "time", [1], [2.0], said), ({"region": "x"}, "time", [1], [3.0], None)],
        )
    )
    rows = list(catalog.scalars())
    assert [(row.kind, row.reference_id, row.units) for row in rows] == [("model", "ERA5", "K"), ("model", None, None)]
    assert [row.value for row in catalog.scalars().where("units", "==", "K")] == [1.0]
    (reference,) = catalog.series().where("kind", "==", "reference")
    assert (reference.reference_id, reference.units, reference.values) == ("HadISST", "K", (2.0,))
    assert reference.attributes == said
    assert [one.values for one in catalog.series().where("reference_id", "==", "HadISST")] == [(2.0,)]


def test_units_that_are_described_with_a_dimension_s_value_are_those_of_its_scalars(catalog: Catalog) -> None:
    told = {
        "metric": {"bias": {"units": "K"}, "score": {"long_name": "a score"}, "odd": "x"},
        "variable": {"pr": {"units": "mm"}},
    }
    units = described_units(told)
    assert units == {"metric": {"bias": "K"}, "variable": {"pr": "mm"}}
    own: list[tuple[float, dict[str, str], Said | None]] = [
        (1.0, {"metric": "bias"}, None),
        (2.0, {"metric": "bias"}, {"units": "degC"}),
        (3.0, {"metric": "score"}, None),
        (4.0, {"metric": "bias", "variable": "pr"}, None),
    ]
    catalog.replace_execution(execution_of("a", scalars=own, units=units))
    rows = {row.value: (row.units, row.attributes) for row in catalog.scalars()}
    assert rows == {1.0: ("K", {}), 2.0: ("degC", {"units": "degC"}), 3.0: (None, {}), 4.0: (None, {})}


def test_references_that_differ_under_one_label_are_named(catalog: Catalog) -> None:
    def run(fragment: str, *curves: float, label: str = "HadISST") -> None:
        said = {"kind": "reference", "reference_id": label}
        series = [({"region": "x"}, "time", [1], [value], said) for value in curves]
        model = ({"region": "x"}, "time", [1], [float(len(fragment))], {"kind": "model"})
        catalog.replace_execution(execution_of(fragment, series=[*series, model], scalars=[]))

    run("a", 1.0)
    run("bb", 1.0)
    assert conflicting_references(catalog.scalars(), catalog.series()) == []
    run("ccc", 2.0)
    run("dddd", 2.0, label="ERSST")
    (conflict,) = conflicting_references(catalog.scalars(), catalog.series())
    assert (conflict.reference_id, conflict.index_name, conflict.dimensions) == ("HadISST", "time", {"region": "x"})
    assert conflict.contents == (("a", "bb"), ("ccc",))
    assert "HadISST (region=x) has 2 different contents: a; ccc" in str(conflict)


def test_one_execution_with_two_curves_under_one_label_does_not_differ_from_itself(catalog: Catalog) -> None:
    said = {"kind": "reference"}
    for fragment in ("a", "b"):
        series = [({}, "time", [1], [value], said) for value in (1.0, 2.0)]
        catalog.replace_execution(execution_of(fragment, series=series, scalars=[]))
    assert conflicting_references((), catalog.series()) == []
