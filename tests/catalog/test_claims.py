"""Of all who try, one works on an execution; who lost that right changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from tests.catalog.examples import FULL, NOON, claim_each, everything, execution_of
from tests.processes import FORKS

from emdstore.catalog import Catalog, Claim, Holder
from emdstore.errors import CatalogError, ClaimLostError, ExecutionNotFoundError
from emdstore.stores.identity import StoreIdentity

STOPPED = ["stopped", "upload_failed"]


def _stopped(catalog: Catalog, fragment: str = "run/a") -> str:
    catalog.claims.create(execution_of(fragment, status="stopped", created_at=NOON))
    return fragment


def _claim(
    catalog: Catalog,
    owner: str = "me",
    lease_seconds: float = 60.0,
    fragment: str = "run/a",
    dead_owner: str | None = None,
) -> Claim:
    claim = catalog.claims.claim(
        fragment, owner=owner, lease_seconds=lease_seconds, allowed_from=STOPPED, dead_owner=dead_owner
    )
    assert isinstance(claim, Claim), claim
    return claim


def test_a_new_execution_is_entered_with_its_group(catalog: Catalog) -> None:
    created = attrs.evolve(FULL, status="created", dirty=None)
    execution_id = catalog.claims.create(attrs.evolve(created, host="node7", pid=42))
    row = catalog.execution(FULL.fragment)
    assert (row.execution_id, row.status, row.host, row.pid, row.created_at) == (
        execution_id,
        "created",
        "node7",
        42,
        NOON,
    )
    assert (row.group_dirty, row.lease_token, row.owner, row.artifacts) == (True, 0, None, 0)


def test_an_execution_that_is_there_is_not_created_again(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    before = everything(catalog)
    with pytest.raises(CatalogError, match="already"):
        catalog.claims.create(attrs.evolve(FULL, status="created", selectors={"changed": True}))
    assert everything(catalog) == before


def test_a_transition_happens_from_an_expected_state_only(catalog: Catalog) -> None:
    _stopped(catalog)
    before = everything(catalog)
    assert catalog.claims.transition("run/a", allowed_from=["created"], to="running") is None
    assert everything(catalog) == before
    moved = catalog.claims.transition(
        "run/a", allowed_from=["created", "stopped"], to="aborted", reason="by hand", stopped_at=NOON
    )
    assert moved == catalog.execution("run/a")
    assert (moved.status, moved.reason, moved.stopped_at) == ("aborted", "by hand", NOON)


def test_steps_of_an_unknown_execution_are_refused(catalog: Catalog) -> None:
    claim = Claim("run/x", "me", 1, NOON)
    steps: list[Callable[[], object]] = [
        lambda: catalog.claims.transition("run/x", allowed_from=["created"], to="running"),
        lambda: catalog.claims.claim("run/x", owner="me", lease_seconds=1, allowed_from=STOPPED),
        lambda: catalog.claims.renew(claim, lease_seconds=1),
        lambda: catalog.claims.release(claim, to="stopped"),
    ]
    for step in steps:
        with pytest.raises(ExecutionNotFoundError, match="run/x"):
            step()


def test_a_claim_keeps_others_out_and_tells_them_who_holds_it(catalog: Catalog) -> None:
    _stopped(catalog)
    claim = _claim(catalog)
    assert timedelta(seconds=50) < claim.expires - datetime.now(UTC) < timedelta(seconds=70)
    assert (claim.token, catalog.execution("run/a").status) == (1, "pending_upload")
    refusal = catalog.claims.claim("run/a", owner="you", lease_seconds=60, allowed_from=STOPPED)
    assert refusal == Holder("run/a", "pending_upload", "me", claim.expires)
    assert catalog.claims.transition("run/a", allowed_from=STOPPED, to="aborted") is None


def test_a_state_that_may_not_be_claimed_is_told(catalog: Catalog) -> None:
    catalog.claims.create(execution_of("run/a", status="running"))
    refusal = catalog.claims.claim("run/a", owner="me", lease_seconds=60, allowed_from=STOPPED)
    assert refusal == Holder("run/a", "running", None, None)


def test_a_dead_owners_claim_is_taken_over_and_the_dead_cannot_finish(catalog: Catalog) -> None:
    _stopped(catalog)
    dead = _claim(catalog, "dead")
    heir = _claim(catalog, "heir", dead_owner="dead")
    assert heir.token == dead.token + 1
    before = everything(catalog)
    content = execution_of("run/a", scalars=[(1.0, {}, None)])
    attempts: list[Callable[[], object]] = [
        lambda: catalog.claims.renew(dead, lease_seconds=60),
        lambda: catalog.claims.release(dead, to="upload_failed", error="too late"),
        lambda: catalog.replace_execution(content, claim=dead),
        # Another process of the same name is told apart by the token.
        lambda: catalog.replace_execution(content, claim=attrs.evolve(dead, owner="heir")),
    ]
    for attempt in attempts:
        with pytest.raises(ClaimLostError, match="and heir holds it now"):
            attempt()
    assert everything(catalog) == before
    assert catalog.replace_execution(content, claim=heir).scalars == 1
    row = catalog.execution("run/a")
    assert (row.status, row.owner, row.lease_expires, row.lease_token) == ("uploaded", None, None, 2)


def test_a_claim_is_not_taken_over_for_its_time_alone(catalog: Catalog) -> None:
    # The clock of its owner may be an hour slow, and the owner one who came after the caller had looked.
    _stopped(catalog)
    slow = _claim(catalog, "slow", lease_seconds=-3540)
    refusal = catalog.claims.claim("run/a", owner="you", lease_seconds=60, allowed_from=STOPPED, dead_owner="other")
    assert refusal == Holder("run/a", "pending_upload", "slow", slow.expires)
    assert catalog.claims.renew(slow, lease_seconds=60).token == slow.token


def test_a_claim_is_held_for_as_long_as_it_lasts_and_nobody_took_over(catalog: Catalog) -> None:
    _stopped(catalog)
    claim = _claim(catalog, lease_seconds=60)
    before = everything(catalog)
    assert catalog.claims.holds(claim, seconds=0)
    assert catalog.claims.holds(claim, seconds=50)
    assert not catalog.claims.holds(claim, seconds=70)
    assert not catalog.claims.holds(attrs.evolve(claim, owner="you"), seconds=0)
    assert not catalog.claims.holds(attrs.evolve(claim, token=claim.token + 1), seconds=0)
    assert not catalog.claims.holds(Claim("run/x", "me", 1, NOON), seconds=0)
    assert everything(catalog) == before
    catalog.claims.release(claim, to="stopped")
    assert not catalog.claims.holds(claim, seconds=0)


def test_a_renewed_claim_stays(catalog: Catalog) -> None:
    _stopped(catalog)
    claim = _claim(catalog, lease_seconds=0.2)
    renewed = catalog.claims.renew(claim, lease_seconds=60)
    assert renewed.expires > claim.expires
    assert isinstance(catalog.claims.claim("run/a", owner="you", lease_seconds=60, allowed_from=STOPPED), Holder)
    # What counts is that nobody took over, not that the lease ran: the old value of the claim works too.
    assert catalog.claims.release(claim, to="upload_failed", error="disk full").error == "disk full"
    assert _claim(catalog, "you").token == 2


def test_a_finished_claim_is_over(catalog: Catalog) -> None:
    _stopped(catalog)
    claim = _claim(catalog)
    catalog.replace_execution(execution_of("run/a"), claim=claim)
    with pytest.raises(ClaimLostError, match="nobody holds it now"):
        catalog.claims.release(claim, to="upload_failed")
    assert catalog.execution("run/a").status == "uploaded"


def test_a_replay_beside_a_claim_leaves_the_claim_alone(catalog: Catalog) -> None:
    _stopped(catalog)
    claim = _claim(catalog)
    catalog.replace_execution(execution_of("run/a"))
    assert catalog.claims.holds(claim, seconds=30)
    catalog.replace_execution(execution_of("run/a"), claim=claim)
    assert not catalog.claims.holds(claim, seconds=0)


def test_what_waits_is_listed_oldest_first_without_live_owners(catalog: Catalog) -> None:
    for day, fragment in enumerate(["run/e", "run/d", "run/c", "run/b", "run/a"]):
        catalog.claims.create(execution_of(fragment, status="stopped", created_at=NOON + timedelta(days=day)))
    catalog.claims.create(execution_of("run/f", status="running", created_at=NOON))
    _claim(catalog, "alive", fragment="run/d")
    _claim(catalog, "dead", 0.01, fragment="run/c")
    catalog.claims.release(_claim(catalog, fragment="run/b"), to="upload_failed")
    time.sleep(0.05)
    assert [row.fragment for row in catalog.claims.pending(STOPPED)] == ["run/e", "run/c", "run/b", "run/a"]
    assert [row.fragment for row in catalog.claims.pending(STOPPED, claimed=None)] == ["run/e", "run/b", "run/a"]
    assert catalog.claims.pending(["upload_failed"], claimed=None).count() == 1


def test_a_catalog_is_tied_to_the_store_of_whoever_was_first(catalog: Catalog) -> None:
    one, other = StoreIdentity("1", "s3://bucket/results"), StoreIdentity("2", "/r")
    assert catalog.bound_results() is None
    assert catalog.note_results(one, instead_of=None) == one
    assert catalog.note_results(other, instead_of=None) == one == catalog.bound_results()
    moved = StoreIdentity("1", "/r")
    assert catalog.note_results(moved, instead_of=StoreIdentity(None, "s3://bucket/results")) == one
    assert catalog.note_results(moved, instead_of=one) == moved == catalog.bound_results()


def test_of_many_processes_that_claim_at_once_each_execution_goes_to_one(shared_catalog_url: str) -> None:
    fragments = [f"run/{n}" for n in range(20)]
    with Catalog(shared_catalog_url) as catalog:
        for fragment in fragments:
            _stopped(catalog, fragment)
    with ProcessPoolExecutor(3, FORKS) as pool:
        tries = [pool.submit(claim_each, shared_catalog_url, f"owner {n}", fragments) for n in range(3)]
        claimed = [fragment for one in tries for fragment in one.result()]
    assert sorted(claimed) == sorted(fragments)
