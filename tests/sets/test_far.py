"""Many sets of a distant store are read at once, by each verb that reads them: an answer shows how far it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.distant import Counting
from tests.sets.published import publish

from emdstore import Catalog, compare, list_sets, replay, transfer, verify
from emdstore.per_process import PerProcess
from emdstore.sets.manifest import iter_manifest
from emdstore.sets.releasing import check_release, create_release, expect_release
from emdstore.stores import ArtifactStore, InMemoryArtifactStore
from emdstore.workers import distance
from emdstore.workers.distance import note_answer

SETS = 60


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "_fastest", PerProcess(dict))


@pytest.fixture(scope="module")
def results() -> ArtifactStore:
    store = InMemoryArtifactStore()
    for number in range(SETS):
        publish(store, f"pmp/enso/historical/{number:03}")
    create_release(store, "v1")
    return store


def _replay(store: ArtifactStore) -> object:
    with Catalog("sqlite://") as catalog:
        return replay(store, catalog)


VERBS: dict[str, Callable[[ArtifactStore], object]] = {
    "list": lambda store: list(list_sets(store)),
    "verify": verify,
    "manifest": lambda store: list(iter_manifest(store)),
    "compare": lambda store: list(compare(store, store)),
    "expect a release": lambda store: expect_release(store, "v1"),
    "check a release": lambda store: check_release(store, expect_release(store, "v1")),
    "replay": _replay,
    "transfer from": lambda store: transfer(store, InMemoryArtifactStore()),
}


@pytest.mark.parametrize("verb", VERBS)
def test_many_records_are_read_at_once_from_afar(verb: str, results: ArtifactStore) -> None:
    far = Counting(results)
    note_answer(far, 1.0)
    VERBS[verb](far)
    assert far.most > 24


@pytest.mark.parametrize("verb", VERBS)
def test_few_are_read_at_once_where_answers_come_soon(verb: str, results: ArtifactStore) -> None:
    near = Counting(results)
    note_answer(near, 0.001)
    VERBS[verb](near)
    assert 1 < near.most <= 17


@pytest.mark.parametrize("verb", VERBS)
def test_reading_shows_how_far_a_store_is(verb: str, results: ArtifactStore) -> None:
    far = Counting(results)
    VERBS[verb](far)
    assert note_answer(far, 99) < 10


def test_what_a_destination_holds_is_read_at_once(results: ArtifactStore) -> None:
    there = InMemoryArtifactStore()
    assert transfer(results, there).ok
    far = Counting(there)
    note_answer(far, 1.0)
    assert transfer(results, far).ok
    assert far.most > 24
