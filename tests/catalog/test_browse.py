"""Looking around in a catalog: the same order, pages and counts on every database."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.catalog.examples import FULL, NOON, execution_of

from emdstore.catalog import Catalog, ExecutionContent
from emdstore.catalog.browse import page_of

EXECUTIONS = [
    execution_of("pmp/enso/g/1", published_at=NOON),
    execution_of("pmp/enso/g/2", published_at=NOON + timedelta(hours=1)),
    execution_of("pmp/enso/g/3", status="failed", failure="diagnostic", reason="the RUN said so", published_at=NOON),
    execution_of("pmp/mode/g/1", diagnostic="mode", status="failed", failure="result", published_at=NOON),
    execution_of("pmp/mode/g/2", diagnostic="mode", status="upload_failed", error="100% full", created_at=NOON),
]


@pytest.fixture
def looked_at(catalog: Catalog) -> Catalog:
    for each in [*EXECUTIONS, FULL]:
        catalog.replace_execution(each)
    return catalog


def names(catalog: Catalog, **choice: object) -> list[str]:
    return [row.fragment for row in catalog.survey(**choice).rows(10)]  # type: ignore[arg-type]


def test_what_needs_attention_comes_first_then_the_newest(looked_at: Catalog) -> None:
    attention = ["pmp/mode/g/2", "pmp/mode/g/1", "pmp/enso/g/3"]
    assert names(looked_at) == [*attention, FULL.fragment, "pmp/enso/g/2", "pmp/enso/g/1"]
    assert names(looked_at, concerns=True) == attention
    survey = looked_at.survey()
    assert (survey.count(), survey.count_concerns()) == (6, 3)
    assert [row.fragment for row in survey.rows(2, 2)] == [attention[2], FULL.fragment]


@pytest.mark.parametrize(
    ("words", "found"),
    [("the run", ["pmp/enso/g/3"]), ("100%", ["pmp/mode/g/2"]), ("1_0", []), ("EL niño", [FULL.fragment])],
)
def test_words_are_looked_for_whatever_their_case(looked_at: Catalog, words: str, found: list[str]) -> None:
    assert names(looked_at, search=words) == found


def test_a_facet_tells_what_another_choice_would_select(looked_at: Catalog) -> None:
    facets = looked_at.survey(status="failed").facets()
    assert dict(facets["status"]) == {"uploaded": 3, "failed": 2, "upload_failed": 1}
    assert dict(facets["diagnostic"]) == {"enso": 1, "mode": 1}


def test_sizes_are_those_of_the_artifacts(looked_at: Catalog) -> None:
    survey = looked_at.survey(fragment=FULL.fragment)
    (row,) = survey.rows(1)
    assert survey.sizes([row]) == {row.execution_id: 2**40 + 12}


def test_scalars_are_counted_by_place_and_by_each_dimension(looked_at: Catalog) -> None:
    other: ExecutionContent = execution_of(
        "pmp/mode/g/9", diagnostic="mode", scalars=[(1.0, {"region": "global"}, None)]
    )
    looked_at.replace_execution(other)
    facets = looked_at.scalar_facets(dimensions={"season": "DJF"})
    assert dict(facets.places["diagnostic"]) == {"enso": 2}
    assert dict(facets.dimensions["season"]) == {"DJF": 2, "JJA": 1}
    assert dict(facets.dimensions["region"]) == {"global": 1, "NINO3.4": 1}
    assert [row.value for row in page_of(looked_at.scalars(dimensions={"region": "global"}), 1, 1)] == [1.0]
