"""What a plan has to ask for is asked ahead, several at a time, where an answer takes long."""

from __future__ import annotations

import threading

import pytest
from tests.distant import Distant
from tests.sets.examples import held
from tests.sets.published import publish

from emdstore import InMemoryArtifactStore, LocalArtifactStore, transfer
from emdstore.sets.sealing import SetSealing
from emdstore.stores import ArtifactStore
from emdstore.transfers import plan_move
from emdstore.transfers.plan import plan_steps

SETS = [f"pmp/enso/historical/{number}" for number in range(8)]


@pytest.fixture
def results() -> ArtifactStore:
    store = InMemoryArtifactStore()
    for each in SETS:
        publish(store, each)
    return store


def test_keys_that_a_listing_does_not_show_are_asked_for_at_once() -> None:
    source = Distant(InMemoryArtifactStore(), lambda verb, key: verb in ("info", "exists"), 10)
    steps = list(plan_steps(source, InMemoryArtifactStore(), [f"a/{number}" for number in range(10)]))
    assert [(each.key, each.action) for each in steps] == [(f"a/{number}", "missing") for number in range(10)]


def test_keys_of_a_destination_that_cannot_be_listed_are_asked_for_at_once() -> None:
    source, inner = InMemoryArtifactStore(), InMemoryArtifactStore()
    for number in range(10):
        source.write_bytes(f"a/{number}", b"x")
    for number in range(20_000):
        inner.write_bytes(f"a/0{number}", b"x")
    dest = Distant(inner, lambda verb, key: verb == "info", 10)
    steps = list(plan_steps(source, dest, [f"a/{number}" for number in range(10)]))
    assert {each.action for each in steps} == {"copy"}


def test_folders_that_are_named_are_looked_for_and_listed_at_once(results: ArtifactStore) -> None:
    for verbs in (["iter_keys"], ["iter_info", "iter_found"]):
        source = Distant(results, lambda verb, key, verbs=verbs: verb in verbs and key in SETS, len(SETS))  # type: ignore[misc]
        dest = InMemoryArtifactStore()
        report = transfer(source, dest, SETS)
        assert report.ok
        assert held(dest) == held(results)


def test_parts_of_many_sets_are_planned_at_once(results: ArtifactStore) -> None:
    there = InMemoryArtifactStore()
    assert transfer(results, there).ok
    dest = Distant(there, lambda verb, key: verb == "read_bytes", len(SETS))
    sealing = SetSealing(False)
    units = list(plan_move(results, dest, [f"{each}/out.log" for each in SETS], sealing=sealing))
    assert [getattr(each, "folder", None) for each in units] == SETS


def test_what_is_named_of_local_stores_is_planned_in_this_thread(
    results: ArtifactStore, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dest = LocalArtifactStore(f"{tmp_path}/a"), LocalArtifactStore(f"{tmp_path}/b")
    assert transfer(results, source).ok
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread was started"))
    plan = list(plan_move(source, dest, [*SETS, "no/such"], sealing=SetSealing(False)))
    assert [getattr(each, "folder", None) for each in plan] == [None, *SETS]
