"""Removing by name: what goes is proved to be elsewhere, and a set is never half there without saying so."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from tests.sets.examples import FRAGMENT, held, put
from tests.sets.published import OTHER, amend, disagreeing, publish, publish_later_version

from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import ArtifactNotFoundError, ArtifactRetainedError, OvertakenError, StoreError, UnsupportedError
from emdstore.sets.record import read_record
from emdstore.sets.releasing import create_release
from emdstore.sets.removing import RemovalRules, expand, plan_removal, remove
from emdstore.sets.retraction import retract
from emdstore.sets.transfer import transfer
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, ReadOnlyStore, scoped
from emdstore.stores.identity import IDENTITY_KEY
from emdstore.testing import Fault, FaultyStore

DATA = f"{FRAGMENT}/data/tas.nc"


@pytest.fixture
def results() -> InMemoryArtifactStore:
    store = InMemoryArtifactStore()
    publish(store)
    publish(store, OTHER)
    put(store, {"README.md": b"about", f"{FRAGMENT}/notes.txt": b"mine", IDENTITY_KEY: b"{}"})
    return store


@pytest.fixture
def copy(results: InMemoryArtifactStore) -> InMemoryArtifactStore:
    store = InMemoryArtifactStore()
    assert transfer(results, store).ok
    return store


def of(store: InMemoryArtifactStore, fragment: str = FRAGMENT) -> set[str]:
    return set(store.iter_keys(fragment))


def test_a_set_goes_if_a_copy_has_all_its_bytes_and_what_no_record_names_stays(
    results: InMemoryArtifactStore, copy: InMemoryArtifactStore
) -> None:
    retract(results, FRAGMENT, reason="wrong sign")
    before, others = of(results), of(results, OTHER)
    looked = plan_removal(results, FRAGMENT, RemovalRules(copy))
    done = remove(results, FRAGMENT, RemovalRules(copy))
    assert done == looked
    assert (done.refusal, done.kind, done.others) == (None, "set", (f"{FRAGMENT}/notes.txt",))
    assert set(done.keys) == before - {f"{FRAGMENT}/notes.txt"}
    assert {f"{FRAGMENT}/{RECORD_NAME}", f"{FRAGMENT}/{RETRACTION_NAME}"} <= set(done.keys)
    assert done.keys[-1] == f"{FRAGMENT}/{RECORD_NAME}"
    assert of(results) == {f"{FRAGMENT}/notes.txt"}
    assert of(results, OTHER) == others
    assert remove(results, OTHER, RemovalRules(copy, unnamed=True)).refusal is None
    with pytest.raises(ArtifactNotFoundError, match="no set and no artifact"):
        remove(results, FRAGMENT, RemovalRules(copy))


def test_what_the_store_retains_stays_and_is_published_as_before(
    results: InMemoryArtifactStore, copy: InMemoryArtifactStore
) -> None:
    before = held(results)
    locked = FaultyStore(results, Fault(verbs={"delete"}, error=ArtifactRetainedError))
    with pytest.raises(ArtifactRetainedError):
        remove(locked, FRAGMENT, RemovalRules(copy))
    assert held(results) == before


def lose_data(copy: InMemoryArtifactStore) -> None:
    copy.delete(DATA)


def damage_data(copy: InMemoryArtifactStore) -> None:
    copy.write_bytes(DATA, copy.read_bytes(DATA)[::-1])


def lose_the_record(copy: InMemoryArtifactStore) -> None:
    copy.delete(f"{FRAGMENT}/{RECORD_NAME}")


def lose_the_set(copy: InMemoryArtifactStore) -> None:
    for key in of(copy):
        copy.delete(key)


def have_another_version(copy: InMemoryArtifactStore) -> None:
    publish_later_version(copy)


def be_open(copy: InMemoryArtifactStore) -> None:
    amend(copy, state="publishing")


@pytest.mark.parametrize(
    "spoil", [lose_data, damage_data, lose_the_record, lose_the_set, have_another_version, be_open]
)
def test_a_set_stays_as_it_was_if_the_copy_does_not_prove_it(
    results: InMemoryArtifactStore, copy: InMemoryArtifactStore, spoil: Callable[[InMemoryArtifactStore], None]
) -> None:
    spoil(copy)
    before = held(results)
    done = remove(results, FRAGMENT, RemovalRules(copy))
    assert done.refusal is not None
    assert "copy does not prove it" in done.refusal
    assert held(results) == before


def test_bytes_that_are_not_what_was_published_stay(
    results: InMemoryArtifactStore, copy: InMemoryArtifactStore
) -> None:
    results.write_bytes(DATA, results.read_bytes(DATA)[::-1])
    amend(results)  # so that no time tells
    before = held(results)
    for unchecked in (results, copy):
        assert remove(results, FRAGMENT, RemovalRules(unchecked)).refusal
    assert held(results) == before


@pytest.mark.parametrize("kind", ["ours", "bare"])
def test_a_store_is_no_copy_of_itself_whatever_it_is_called(tmp_path: Path, kind: str) -> None:
    store = LocalArtifactStore(tmp_path / "results")
    publish(store)
    if kind == "bare":
        store.delete(f"{FRAGMENT}/{RECORD_NAME}")
    (tmp_path / "copy").symlink_to("results")
    before = held(store)
    assert remove(store, FRAGMENT, RemovalRules(LocalArtifactStore(tmp_path / "copy"))).refusal
    assert held(store) == before
    assert transfer(store, tmp_path / "other").ok
    assert remove(store, FRAGMENT, RemovalRules(LocalArtifactStore(tmp_path / "other"))).refusal is None


def test_the_only_copy_stays_unless_somebody_insists(results: InMemoryArtifactStore) -> None:
    before = held(results)
    refusal = remove(results, FRAGMENT).refusal
    assert refusal is not None
    assert "--copy" in refusal
    assert held(results) == before
    assert remove(results, FRAGMENT, RemovalRules(force=True)).refusal is None
    assert of(results) == {f"{FRAGMENT}/notes.txt"}


def test_what_a_release_names_stays(results: InMemoryArtifactStore, copy: InMemoryArtifactStore) -> None:
    create_release(results, "2026.1", [FRAGMENT])
    refusal = remove(results, FRAGMENT, RemovalRules(copy)).refusal
    assert refusal is not None
    assert "part of the release 2026.1" in refusal
    assert read_record(scoped(results, FRAGMENT))
    assert not disagreeing(results)
    assert remove(results, FRAGMENT, RemovalRules(copy, force=True)).refusal is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (DATA, "the record names it"),
        (f"{FRAGMENT}/{RECORD_NAME}", "the record names it"),
        (IDENTITY_KEY, "emdstore keeps it for itself"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_a_key_that_vouches_or_is_vouched_for_stays(
    results: InMemoryArtifactStore, name: str, told: str, force: bool
) -> None:
    refusal = remove(results, name, RemovalRules(results, force=force)).refusal
    assert refusal is not None
    assert told in refusal
    assert results.exists(name)


def test_a_key_that_no_record_names_goes(results: InMemoryArtifactStore) -> None:
    for name in ("README.md", f"{FRAGMENT}/notes.txt"):
        assert remove(results, name).keys == (name,)
        assert not results.exists(name)


def test_what_a_record_named_before_goes_only_if_somebody_insists(results: InMemoryArtifactStore) -> None:
    old = f"{FRAGMENT}/plots/old.png"
    put(results, {old: b"old"})
    amend(results, superseded=("plots/old.png",))
    assert remove(results, old).refusal
    assert remove(results, old, RemovalRules(force=True)).refusal is None
    assert not results.exists(old)


def test_what_lies_in_a_folder_that_may_be_a_set_stays(results: InMemoryArtifactStore) -> None:
    put(results, {"run/out.log": b"log", "run/a.nc": b"a"})
    assert "not whole" in str(remove(results, "run/a.nc").refusal)
    assert remove(results, "run/a.nc", RemovalRules(force=True)).refusal is None


def test_a_set_without_a_record_goes_if_the_copy_has_the_same_bytes(
    results: InMemoryArtifactStore, copy: InMemoryArtifactStore
) -> None:
    for store in (results, copy):
        store.delete(f"{FRAGMENT}/{RECORD_NAME}")
    copy.write_bytes(DATA, b"other")
    assert remove(results, FRAGMENT, RemovalRules(copy)).refusal
    assert results.exists(DATA)
    copy.write_bytes(DATA, results.read_bytes(DATA))
    done = remove(results, FRAGMENT, RemovalRules(copy))
    assert done.refusal is None
    assert done.keys[0] == f"{FRAGMENT}/diagnostic.json"
    assert of(results) == {f"{FRAGMENT}/notes.txt"}


def test_wherever_it_is_cut_off_the_set_is_whole_or_visibly_not_and_the_same_call_ends_it() -> None:
    ends = []
    for number in itertools.count(1):
        results, copy = InMemoryArtifactStore(), InMemoryArtifactStore()
        publish(results)
        assert transfer(results, copy).ok
        before = held(results)
        try:
            done = remove(FaultyStore(results, Fault(nth={number}, error=StoreError)), FRAGMENT, RemovalRules(copy))
        except StoreError:
            ends.append("cut off")
        else:
            ends.append("done" if done.refusal is None else "refused")
            assert done.refusal is None or held(results) == before
        assert not disagreeing(results), number
        if held(results):
            assert remove(results, FRAGMENT, RemovalRules(copy)).refusal is None
        assert not held(results)
        assert held(copy) == before
        if ends[-1] == "done":
            break
    assert ends.count("cut off") > 8


def test_a_removal_that_was_cut_off_is_undone_by_a_transfer_back(
    results: InMemoryArtifactStore, copy: InMemoryArtifactStore
) -> None:
    fault = Fault(verbs={"delete"}, nth={3}, error=StoreError)
    with pytest.raises(StoreError):
        remove(FaultyStore(results, fault), FRAGMENT, RemovalRules(copy))
    record = read_record(scoped(results, FRAGMENT))
    assert record is not None
    assert (record.state, record.planned) == ("publishing", ())
    assert transfer(copy, results).ok
    assert read_record(scoped(results, FRAGMENT)) == read_record(scoped(copy, FRAGMENT))
    assert not disagreeing(results)


def test_who_publishes_meanwhile_keeps_it(results: InMemoryArtifactStore, copy: InMemoryArtifactStore) -> None:
    amend(results, OTHER, state="publishing", planned=("out.log",))
    assert "somebody publishes it" in str(remove(results, OTHER, RemovalRules(copy)).refusal)

    def meddle() -> None:
        steps.append(True)
        if len(steps) == 1:
            publish_later_version(results)

    steps: list[bool] = []
    with pytest.raises(OvertakenError):
        remove(results, FRAGMENT, RemovalRules(copy), before_write=meddle)
    assert not disagreeing(results)
    assert of(copy) <= of(results)


def test_a_record_of_a_newer_emdstore_and_a_run_in_scratch_stay_even_if_somebody_insists(
    results: InMemoryArtifactStore, copy: InMemoryArtifactStore
) -> None:
    amend(results, record_version=10_000)
    assert "newer" in str(remove(results, FRAGMENT, RemovalRules(copy, force=True)).refusal)
    amend(results, OTHER, state=None, status=None)
    assert "emdstore gc" in str(remove(results, OTHER, RemovalRules(copy, force=True)).refusal)


def test_a_store_that_can_remove_nothing_is_told(results: InMemoryArtifactStore) -> None:
    with pytest.raises(UnsupportedError, match="can remove nothing"):
        remove(ReadOnlyStore(results), "README.md")


def test_a_folder_stands_for_its_sets_and_what_belongs_to_none(results: InMemoryArtifactStore) -> None:
    put(results, {"pmp/about.txt": b"about"})
    sets, keys = expand(results, "pmp")
    assert set(sets) == {FRAGMENT, OTHER}
    assert keys == ["pmp/about.txt"]
    everything: ArtifactStore = results
    assert IDENTITY_KEY not in expand(everything, "")[1]
    assert attrs.asdict(plan_removal(results, "README.md"))["kind"] == "key"
