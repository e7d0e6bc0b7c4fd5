"""Which versions of results queries give, and what they do with outliers: both are for whoever reads to say."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from tests.catalog.examples import NOON, execution_of

from emdstore.catalog import Catalog
from emdstore.catalog.history import history_of
from emdstore.catalog.releases import ReleaseContent
from emdstore.catalog.rows import FlaggedScalarRow
from emdstore.errors import QueryError


def put(catalog: Catalog, fragment: str, day: int, *values: tuple[float, dict[str, str]], **changes: Any) -> int:
    scalars = [(value, labels, None) for value, labels in values] or [(float(day), {"metric": "m"}, None)]
    content = execution_of(
        fragment,
        **{"state": "published", "published_at": NOON + timedelta(days=day), "record_digest": fragment} | changes,
        scalars=scalars,
    )
    return catalog.replace_execution(content).execution_id


def test_values_are_of_the_latest_version_of_each_group_unless_somebody_asks_for_others(catalog: Catalog) -> None:
    old = put(catalog, "x/old", 1, provider_version="1")
    put(catalog, "x/new", 2, provider_version="2")
    put(catalog, "x/bad", 3, complete=False, state="incomplete")
    put(catalog, "y/only", 1, group="other")

    def found(**filters: Any) -> list[str]:
        return [row.fragment for row in catalog.scalars(**filters)]

    assert found() == ["x/new", "y/only"]
    assert found(superseded=True) == ["x/new", "x/old", "y/only"]
    assert found(fragment="x") == ["x/new"]
    assert found(fragment="x/old") == found(ids=[old]) == found(provider_version="1") == ["x/old"]
    assert found(ids=[old], superseded=False) == []
    assert found(complete=None) == ["x/bad", "x/new", "y/only"]
    catalog.releases.replace([ReleaseContent("r", NOON, "ann", "", [("x/old", "x/old")])], {})
    assert found(release="r") == ["x/old"]
    assert [row.fragment for row in catalog.executions()] == ["x/bad", "x/new", "x/old", "y/only"]
    put(catalog, "x/new", 2, retracted_at=NOON)
    assert found() == ["x/old", "y/only"]  # what replaced it is not to be used


@pytest.mark.parametrize(
    ("before", "after", "both"),
    [
        ({}, {}, True),
        ({}, {"provider_version": "2"}, True),
        ({"provider_version": "2"}, {"provider_version": "2"}, True),
        ({"diagnostic_version": "1"}, {"diagnostic_version": "2"}, False),
        ({"provider_version": "2"}, {"provider_version": "1"}, False),
    ],
)
def test_a_run_is_superseded_only_by_one_that_is_known_to_be_of_another_version(
    catalog: Catalog, before: dict[str, str], after: dict[str, str], both: bool
) -> None:
    put(catalog, "first", 1, **before)
    put(catalog, "second", 2, **after)
    assert [row.fragment for row in catalog.scalars()] == (["first", "second"] if both else ["second"])


def model(name: str, value: float, **more: str) -> tuple[float, dict[str, str]]:
    return value, {"source_id": name, "metric": "rmse", **more}


def test_models_far_from_the_others_are_flagged_or_hidden_and_stay_by_default(catalog: Catalog) -> None:
    usual = [model(f"m{n}", 1 + n / 10, region=region) for n in range(6) for region in ("a", "b")]
    far = [model("far", 9.0, region="a"), model("far", 1.3, region="b"), model("endless", math.inf)]
    aside = [(50.0, {"metric": "rmse", "source_id": "Reference"}), model("none", math.nan)]
    put(catalog, "x", 1, *usual, *far, *aside, model("far", 1.0, metric="bias"))
    assert catalog.scalars().count() == 18
    flagged = catalog.scalars(outliers="flag")
    assert flagged.row_type is FlaggedScalarRow
    assert [(row.dimensions["source_id"], row.value) for row in flagged if row.outlier] == [  # type: ignore[attr-defined]
        ("far", 9.0),
        ("far", 1.3),  # its mean is far, so all of it is
        ("endless", math.inf),
    ]
    assert flagged.count() == 18
    hidden = catalog.scalars(outliers="hide")
    assert hidden.count() == 15
    assert [row.value for row in hidden][-3:-1] == [50.0, pytest.approx(math.nan, nan_ok=True)]
    assert catalog.scalars(outliers="hide", dimensions={"region": "b"}).count() == 7  # of these alone none is far
    assert b"outlier" in b"".join(flagged.export("csv")).splitlines()[0]
    with pytest.raises(QueryError, match="no way to treat outliers 'drop'"):
        catalog.scalars(outliers="drop")  # type: ignore[arg-type]


def test_of_few_models_none_is_an_outlier(catalog: Catalog) -> None:
    put(catalog, "x", 1, *(model(f"m{n}", 1.0) for n in range(3)), model("far", 9.0))
    assert catalog.scalars(outliers="hide").count() == 4


def test_a_groups_history_tells_what_changed_from_each_version_to_the_next_and_why(catalog: Catalog) -> None:
    def read(version: str) -> Any:
        return (("CMIP6.tas", version, None, None, None), "model", "tas", None)

    same = (1.0, {"metric": "m"})
    of = {"provider": "p", "diagnostic": "d", "group": "g"}
    put(catalog, "v1", 1, same, (2.0, {"metric": "n"}), **of, provider_version="1", inputs=[read("2019")])
    put(catalog, "broken", 2, **of, status="failed", state="failed")
    said = {"retracted_at": NOON, "retraction_reason": "wrong sign"}
    put(catalog, "v2", 3, same, **of, provider_version="1", inputs=[read("2019")], **said)
    put(catalog, "v3", 4, (1.5, {"metric": "m"}), **of, provider_version="2", inputs=[read("2020")])
    third, second, broken, first = history_of(catalog, "p", "d", "g")
    assert [each.row.fragment for each in (third, second, broken, first)] == ["v3", "v2", "broken", "v1"]
    assert [each.is_latest for each in (third, second, broken, first)] == [True, False, False, False]
    assert (first.changed, broken.changed) == ("", "")
    assert (second.before, second.changed, second.why) == ("v1", "1 missing", ())
    assert (third.before, third.changed) == ("v2", "1 changed")
    assert third.why == (
        "v2 was retracted: wrong sign",
        "p 1 → 2",
        "no longer reads CMIP6.tas 2019",
        "now reads CMIP6.tas 2020",
    )
    put(catalog, "v4", 5, (1.5, {"metric": "m"}), **of, provider_version="2", inputs=[read("2020")])
    assert history_of(catalog, "p", "d", "g")[0].changed == "nothing"
