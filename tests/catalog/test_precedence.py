"""Which set's rows take the place of which: decided where they are written, on every database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import attrs
import pytest
from tests.catalog.examples import NOON, everything, execution_of

from emdstore.catalog import Catalog, ExecutionContent
from emdstore.catalog.precedence import Held, refusal
from emdstore.errors import DemotionRefusedError, EmdstoreError, ShadowedSetError

LATER = NOON + timedelta(hours=1)


def a_set(state: str | None, value: float = 1.0, **changes: Any) -> ExecutionContent:
    """Return what a set of this state gives, with its value and a record of its own."""
    told = {
        "state": state,
        "status": {"published": "uploaded", "bare": "uploaded", None: "stopped"}.get(state, "failed"),
        "complete": state != "incomplete",
        "scalars": [(value, {}, None)],
        "record_digest": f"digest of {value}",
        "published_at": None if state in ("bare", None) else NOON,
    }
    return execution_of("run/a", **told | changes)


BARE, PUBLISHED, FAILED, INCOMPLETE = (a_set(state) for state in ("bare", "published", "failed", "incomplete"))
OTHER = {state: a_set(state, 2.0) for state in ("bare", "published", "failed", "incomplete")}
OLDER = {state: attrs.evolve(content, published_at=NOON - timedelta(hours=1)) for state, content in OTHER.items()}


@pytest.mark.parametrize("held", [PUBLISHED, FAILED, INCOMPLETE, a_set(None, record_digest=None)])
def test_a_bare_set_replaces_nothing_but_a_bare_set(catalog: Catalog, held: ExecutionContent) -> None:
    catalog.replace_execution(held)
    before = everything(catalog)
    for replace in (False, True):
        with pytest.raises(ShadowedSetError, match="no record"):
            catalog.replace_execution(OTHER["bare"], replace=replace)
        assert everything(catalog) == before


def test_a_bare_set_never_takes_an_execution_that_a_workspace_has_entered(catalog: Catalog) -> None:
    catalog.claims.create(a_set(None, record_digest=None))
    with pytest.raises(ShadowedSetError, match="stopped"):
        catalog.replace_execution(BARE)
    assert [(row.status, row.scalars) for row in catalog.executions()] == [("stopped", 0)]


@pytest.mark.once
@pytest.mark.parametrize(
    "content",
    [
        OTHER["failed"],
        OTHER["incomplete"],
        OLDER["published"],
        attrs.evolve(OTHER["failed"], generation=9),
        attrs.evolve(OLDER["published"], generation=2),
        attrs.evolve(OTHER["published"], published_at=LATER, generation=1),
    ],
    ids=["failed", "incomplete", "older", "failed later", "of the same generation", "of a lower generation"],
)
def test_a_complete_publication_becomes_less_only_if_somebody_asks(catalog: Catalog, content: ExecutionContent) -> None:
    catalog.replace_execution(attrs.evolve(PUBLISHED, generation=2))
    before = everything(catalog)
    with pytest.raises(DemotionRefusedError, match="replace"):
        catalog.replace_execution(content)
    assert everything(catalog) == before
    catalog.replace_execution(content, replace=True)
    assert everything(catalog) != before


@pytest.mark.parametrize("less", ["failed", "incomplete"])
def test_a_set_without_a_record_is_not_replaced_by_a_failure_either(catalog: Catalog, less: str) -> None:
    catalog.replace_execution(BARE)
    before = everything(catalog)
    with pytest.raises(DemotionRefusedError, match="without a record"):
        catalog.replace_execution(OTHER[less])
    assert everything(catalog) == before
    catalog.replace_execution(OTHER[less], replace=True)
    assert everything(catalog) != before


@pytest.mark.once
@pytest.mark.parametrize(
    ("held", "content"),
    [
        (BARE, OTHER["bare"]),
        (BARE, OTHER["published"]),
        (a_set(None, record_digest=None), OTHER["failed"]),
        (PUBLISHED, PUBLISHED),
        (PUBLISHED, OTHER["published"]),
        (attrs.evolve(PUBLISHED, generation=1), attrs.evolve(OLDER["published"], generation=2)),
        (FAILED, OLDER["published"]),
        (INCOMPLETE, OTHER["failed"]),
        (attrs.evolve(INCOMPLETE, published_at=None), OLDER["failed"]),
    ],
)
def test_what_is_newer_or_more_takes_the_place(
    catalog: Catalog, held: ExecutionContent, content: ExecutionContent
) -> None:
    catalog.replace_execution(held)
    catalog.replace_execution(content)
    with Catalog("sqlite://") as other:
        other.replace_execution(content)
        assert everything(catalog) == everything(other)


def test_who_holds_the_claim_may_replace_what_it_published_itself(catalog: Catalog) -> None:
    catalog.replace_execution(PUBLISHED)
    claim: Any = catalog.claims.claim("run/a", owner="me", lease_seconds=60, allowed_from=["uploaded"])
    catalog.replace_execution(OTHER["failed"], claim=claim)
    assert catalog.execution("run/a").status == "failed"


def test_it_is_decided_when_it_is_written_and_not_before(shared_catalog_url: str) -> None:
    """A bare set comes while the same folder's publication is being written, and sees no row of it yet."""
    inside, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[Any]:
        inside.set()
        assert go_on.wait(30)
        yield (1.0, {}, None)

    with Catalog(shared_catalog_url) as catalog, Catalog(shared_catalog_url) as other, ThreadPoolExecutor(2) as pool:
        publishing = pool.submit(catalog.replace_execution, attrs.evolve(PUBLISHED, scalars=slowly()))
        assert inside.wait(30)
        shadowed = pool.submit(other.replace_execution, OTHER["bare"])
        time.sleep(0.3)  # it has begun by now
        go_on.set()
        publishing.result(30)
        with pytest.raises(ShadowedSetError):
            shadowed.result(30)
        assert [row.value for row in catalog.scalars()] == [1.0]


def test_the_decision_needs_no_database() -> None:
    held = Held("published", 1, NOON, "d", "uploaded")
    assert isinstance(refusal(held, a_set("failed")), DemotionRefusedError)
    assert refusal(held, a_set("published", published_at=LATER, generation=1)) is None


@pytest.mark.parametrize(
    ("held", "content", "kind", "why"),
    [
        ("published", BARE, ShadowedSetError, "those of a published record: they stay. Publish"),
        (None, BARE, ShadowedSetError, "those of an execution of a workspace (uploaded): they stay. Publish"),
        (
            "published",
            FAILED,
            DemotionRefusedError,
            "is failed by its record, and the catalog has the rows of a complete publication: they",
        ),
        ("bare", INCOMPLETE, DemotionRefusedError, "complete publication without a record: they stay, unless you ask"),
        ("published", OLDER["published"], DemotionRefusedError, "is an older publication (generation 1, "),
    ],
)
def test_a_refusal_says_which_set_stays_and_why(
    held: str | None, content: ExecutionContent, kind: type[EmdstoreError], why: str
) -> None:
    error = refusal(Held(held, 1, NOON, "d", "uploaded"), attrs.evolve(content, generation=1))
    assert isinstance(error, kind)
    assert error.key == "run/a"
    assert why in str(error)


@pytest.mark.parametrize(
    ("held", "content"),
    [
        (Held(None, 5, LATER, None, "stopped"), attrs.evolve(FAILED, generation=1)),  # no rows yet that could be newer
        (Held("bare", 5, LATER, None, "uploaded"), attrs.evolve(OTHER["bare"], generation=1)),
        (Held("bare", 5, LATER, None, "uploaded"), attrs.evolve(PUBLISHED, generation=1)),
    ],
    ids=["an execution without rows", "a set without a record by another one", "and by a publication"],
)
def test_what_has_no_record_is_replaced_whatever_numbers_it_has(held: Held, content: ExecutionContent) -> None:
    assert refusal(held, content) is None


def test_what_is_older_is_refused_with_both_times_and_by_name() -> None:
    held = Held("published", 3, LATER, "another", "uploaded")
    refused = refusal(held, attrs.evolve(PUBLISHED, generation=2, published_at=None))
    assert isinstance(refused, DemotionRefusedError)
    assert refused.key == "run/a"
    assert f"(generation 2, no time) than the catalog has (3, {LATER})" in str(refused)
