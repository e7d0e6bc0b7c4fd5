"""How a part of a set is moved, decided from two stores: never so that it looks like all of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from tests.sets.examples import CURATED, FRAGMENT, put, small_run
from tests.sets.published import amend, publish, publish_later_version

from emdstore.emds import RECORD_NAME
from emdstore.errors import DemotionRefusedError, RecordError, StoreError, StoreUnavailableError
from emdstore.sets.parts import plan_part, plan_some
from emdstore.sets.record import ExecutionRecord, read_record
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, scoped
from emdstore.testing import Fault, FaultyStore
from emdstore.transfers import Step, Unchanged
from emdstore.transfers.plan import pairs_of
from emdstore.transfers.units import Group, Unit, steps_of

AT, LOG, DATA, METRIC = (f"{FRAGMENT}/{name}" for name in (RECORD_NAME, "out.log", "data/tas.nc", "diagnostic.json"))
KEYS = tuple(f"{FRAGMENT}/{name}" for name in CURATED)


@pytest.fixture
def source() -> InMemoryArtifactStore:
    store = InMemoryArtifactStore()
    publish(store)
    return store


@pytest.fixture
def dest() -> InMemoryArtifactStore:
    return InMemoryArtifactStore()


def part(
    source: ArtifactStore, dest: ArtifactStore, *keys: str, unchanged: Unchanged = "stat", replace: bool = False
) -> Unit:
    pairs = tuple(pairs_of(source, dest, prefix=FRAGMENT))
    chosen = [pair for pair in pairs if pair.key in keys and pair.here]
    assert len(chosen) == len(keys)
    return plan_part(Group(FRAGMENT, "sealed", pairs), chosen, source, dest, unchanged, replace=replace)


def some(source: ArtifactStore, dest: ArtifactStore, *steps: Step, replace: bool = False) -> Unit:
    return plan_some(FRAGMENT, steps, source, dest, replace=replace)


def copies(*keys: str) -> list[Step]:
    return [Step(key, "copy", 8) for key in keys]


def actions(steps: Sequence[Step]) -> dict[str, str]:
    return {step.key: step.action for step in steps}


def recorded(store: ArtifactStore) -> ExecutionRecord:
    return cast("ExecutionRecord", read_record(scoped(store, FRAGMENT)))


def is_left(unit: Unit, *keys: str) -> bool:
    """Tell whether nothing of it is done, and each key tells why."""
    told = unit.folder == FRAGMENT and all(step.error is unit.error for step in unit.loose)
    return unit.error is not None and actions(steps_of(unit)) == dict.fromkeys(keys, "left") and told


# -- without the record ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True])
def test_a_part_without_its_record_goes_with_the_bundles_last(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore, named: bool
) -> None:
    keys = (METRIC, LOG, f"{FRAGMENT}/output.json")
    unit = some(source, dest, *copies(*keys)) if named else part(source, dest, *keys)
    assert [[step.key for step in rank] for rank in unit.ranks] == [[LOG], [keys[2]], [METRIC]]
    assert (unit.folder, unit.is_part, unit.seal, unit.opening, unit.error) == (FRAGMENT, True, None, None, None)


def test_what_the_record_at_the_source_names_has_to_be_what_it_says(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    (step,) = steps_of(part(source, dest, DATA))
    assert step.here == next(each.sha256 for each in recorded(source).artifacts if each.key == "data/tas.nc")
    source.write_bytes(f"{FRAGMENT}/notes.txt", b"by hand")
    (step,) = steps_of(part(source, dest, f"{FRAGMENT}/notes.txt"))
    assert (step.action, step.here) == ("copy", None)


@pytest.mark.parametrize(("unchanged", "action"), [("stat", "unchanged"), ("digest", "compare"), ("never", "copy")])
def test_the_rule_for_what_is_unchanged_holds_for_a_part_too(
    dest: InMemoryArtifactStore, unchanged: Unchanged, action: str
) -> None:
    bare = put(InMemoryArtifactStore(), small_run(), FRAGMENT)
    dest.write_bytes(DATA, small_run()["data/tas.nc"])  # later
    assert actions(steps_of(part(bare, dest, DATA, unchanged=unchanged))) == {DATA: action}


def test_a_folder_without_a_record_is_not_asked_for_one(dest: InMemoryArtifactStore) -> None:
    bare = put(InMemoryArtifactStore(), small_run(), FRAGMENT)
    unit = part(bare, dest, LOG, DATA)
    assert (actions(steps_of(unit)), unit.error) == ({LOG: "copy", DATA: "copy"}, None)


@pytest.mark.parametrize("unchanged", ["stat", "never"])
def test_what_is_there_may_only_become_what_the_record_there_says(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore, unchanged: Unchanged
) -> None:
    publish_later_version(dest)
    put(source, {"notes.txt": b"by hand"}, FRAGMENT)
    unit = part(source, dest, DATA, f"{FRAGMENT}/notes.txt", unchanged=unchanged)
    data, notes = unit.loose
    there = next(each for each in recorded(dest).artifacts if each.key == "data/tas.nc")
    assert data == Step(DATA, "compare", there.size, here=there.sha256, doubt=True)
    assert (notes.action, unit.ranks, unit.is_part) == ("copy", (), False)


def test_what_is_missing_at_the_source_is_not_compared(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    publish(dest)
    unit = some(source, dest, Step(LOG, "missing"), *copies(DATA))
    assert actions(unit.loose) == {LOG: "missing", DATA: "compare"}


@pytest.mark.parametrize("there", [b"not JSON", "open"])
def test_nothing_is_put_beside_an_open_or_unreadable_record(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore, there: bytes | str
) -> None:
    publish(dest)
    if isinstance(there, bytes):
        dest.write_bytes(AT, there)
    else:
        amend(dest, state="publishing", status=None, published_at=None)
    for unit in (part(source, dest, DATA, LOG), some(source, dest, *copies(DATA, LOG))):
        assert is_left(unit, DATA, LOG)
        assert isinstance(unit.error, RecordError)
        assert unit.error.key == FRAGMENT
        assert repr(FRAGMENT) in str(unit.error)


# -- with the record ---------------------------------------------------------------------------------------------------


def test_a_record_goes_last_if_all_that_it_names_goes_too(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    for unit in (part(source, dest, AT, *KEYS), some(source, dest, *copies(AT, *KEYS))):
        assert unit.seal is not None
        assert (unit.seal.key, unit.seal.data, unit.seal.there) == (AT, source.read_bytes(AT), None)
        assert {step.key for rank in unit.ranks for step in rank} == set(KEYS)
        assert [step.key for step in unit.ranks[-1]] == [METRIC]
        assert {step.action for rank in unit.ranks for step in rank} == {"copy"}
        assert (unit.opening, unit.error, unit.is_part) == (None, None, False)


def test_what_the_record_does_not_name_goes_beside_it(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    notes = f"{FRAGMENT}/notes.txt"
    source.write_bytes(notes, b"by hand")
    unit = part(source, dest, AT, notes, *KEYS)
    assert actions(unit.loose) == {notes: "copy"}
    assert AT not in actions([step for rank in unit.ranks for step in rank])


def test_a_record_goes_with_the_last_part(source: InMemoryArtifactStore, dest: InMemoryArtifactStore) -> None:
    run = small_run()
    put(dest, {name: run[name] for name in CURATED if name != "data/tas.nc"}, FRAGMENT)
    for unit in (part(source, dest, AT, DATA), some(source, dest, *copies(AT, DATA))):
        assert unit.seal is not None
        assert actions([step for rank in unit.ranks for step in rank]) == {DATA: "copy"}
        assert unit.error is None


@pytest.mark.parametrize("flaw", ["gone", "other bytes"])
def test_a_record_that_would_lack_something_stays(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore, flaw: str
) -> None:
    run = small_run()
    put(dest, {name: run[name] for name in CURATED if name not in ("data/tas.nc", "out.log")}, FRAGMENT)
    if flaw == "other bytes":
        dest.write_bytes(LOG, b"it RAN\n")  # as many
    unit = part(source, dest, AT, DATA)
    assert isinstance(unit.error, RecordError)
    assert unit.error.key == AT
    assert repr(LOG) in str(unit.error)
    assert repr(FRAGMENT) in str(unit.error)
    assert [(step.key, step.action, step.error) for step in unit.loose] == [(AT, "left", unit.error)]
    assert actions([step for rank in unit.ranks for step in rank]) == {DATA: "copy"}  # what it is goes all the same
    named = some(source, dest, *copies(AT, DATA))
    assert is_left(named, AT, DATA)
    assert repr(LOG) in str(named.error)
    assert named.error is not None
    assert named.error.key == AT


def test_all_that_the_record_names_is_looked_for(source: InMemoryArtifactStore, dest: InMemoryArtifactStore) -> None:
    names = [each.key for each in recorded(source).artifacts]
    for lacking in names:
        keys = [key for key in KEYS if key != f"{FRAGMENT}/{lacking}"]
        for unit in (part(source, dest, AT, *keys), some(source, dest, *copies(AT, *keys))):
            assert isinstance(unit.error, RecordError)
            assert repr(f"{FRAGMENT}/{lacking}") in str(unit.error)
            assert unit.folder == FRAGMENT


def test_what_is_known_to_be_there_is_compared_with_the_record_all_the_same(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    put(dest, {name: small_run()[name] for name in CURATED}, FRAGMENT)
    for action in ("unchanged", "compare"):
        steps = [Step(key, cast("Any", action), 8) for key in KEYS]
        unit = some(source, dest, Step(AT, "copy", 8), *steps)
        assert {step.action for rank in unit.ranks for step in rank} == {"compare"}
    publish(dest)
    unit = some(source, dest, Step(LOG, "unchanged", 7))
    assert (actions(unit.loose), unit.folder) == ({LOG: "compare"}, FRAGMENT)


def test_what_was_written_after_its_record_is_doubted(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    source.write_bytes(DATA, small_run()["data/tas.nc"])
    found = {step.key: step.doubt for step in steps_of(part(source, dest, DATA, LOG))}
    assert found == {DATA: True, LOG: False}


@pytest.mark.parametrize("unchanged", ["stat", "never"])
def test_what_has_to_be_copied_again_is_and_the_rest_is_compared(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore, unchanged: Unchanged
) -> None:
    put(dest, {name: small_run()[name] for name in CURATED}, FRAGMENT)
    unit = part(source, dest, AT, *KEYS, unchanged=unchanged)
    found = {step.action for rank in unit.ranks for step in rank}
    assert found == {"copy" if unchanged == "never" else "compare"}


def test_the_size_that_the_record_tells_is_doubted_where_the_listing_tells_another(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    right = recorded(source).artifacts
    source.write_bytes(DATA, b"CDF")
    unit = part(source, dest, AT, *KEYS, unchanged="never")
    steps = {step.key: step for rank in unit.ranks for step in rank}
    assert {key for key, step in steps.items() if step.doubt} == {DATA}
    assert {f"{FRAGMENT}/{each.key}": (each.size, each.sha256) for each in right} == {
        key: (step.size, step.here) for key, step in steps.items()
    }


NEWER = datetime(2099, 1, 1, tzinfo=UTC)


def test_an_older_publication_takes_no_newer_ones_place_unless_somebody_asks(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    publish_later_version(dest)
    amend(dest, generation=5, published_at=NEWER)
    for unit in (part(source, dest, AT, *KEYS), some(source, dest, *copies(AT, *KEYS))):
        assert is_left(unit, AT, *KEYS)
        assert isinstance(unit.error, DemotionRefusedError)
        assert repr(FRAGMENT) in str(unit.error)
    for unit in (part(source, dest, AT, *KEYS, replace=True), some(source, dest, *copies(AT, *KEYS), replace=True)):
        assert (unit.error, unit.seal is None, unit.opening is None) == (None, False, False)


def test_an_incomplete_set_takes_no_complete_bare_ones_place(dest: InMemoryArtifactStore) -> None:
    source = InMemoryArtifactStore()
    publish(source, tas=None)
    keys = [key for key in KEYS if key != DATA]
    put(dest, {name: small_run()[name] for name in CURATED}, FRAGMENT)
    for unit in (part(source, dest, AT, *keys), some(source, dest, *copies(AT, *keys))):
        assert isinstance(unit.error, DemotionRefusedError)
        assert is_left(unit, AT, *keys)


def test_a_record_that_is_named_and_not_there_is_a_part_without_it(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    source.delete(AT)
    unit = some(source, dest, Step(AT, "missing"), *copies(DATA))
    assert (unit.error, actions(steps_of(unit))) == (None, {AT: "missing", DATA: "copy"})


@pytest.mark.parametrize("state", [None, "publishing"])
def test_no_part_is_taken_of_what_is_not_published(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore, state: Any
) -> None:
    amend(source, state=state, status=None, published_at=None)
    for unit in (part(source, dest, AT, DATA), part(source, dest, DATA), some(source, dest, *copies(AT, DATA))):
        assert isinstance(unit.error, RecordError)
        assert unit.error.key == AT
        assert repr(state) in str(unit.error)
        assert all(step.action == "left" for step in unit.loose)


def test_a_store_that_cannot_be_read_leaves_all_of_the_part(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    broken = FaultyStore(source, Fault(verbs={"read_bytes", "open_reader"}, keys={AT}, error=StoreError))
    assert is_left(part(broken, dest, AT, DATA), AT, DATA)
    assert is_left(some(broken, dest, *copies(AT, DATA)), AT, DATA)


def test_a_store_that_is_away_for_a_moment_is_asked_again(
    source: InMemoryArtifactStore, dest: InMemoryArtifactStore
) -> None:
    units = []
    for named in (False, True):
        away = Fault(verbs={"read_bytes", "open_reader"}, keys={AT}, nth={1}, error=StoreUnavailableError)
        store = FaultyStore(source, away)
        units.append(some(store, dest, *copies(AT, *KEYS)) if named else part(store, dest, AT, *KEYS))
    assert [unit.error for unit in units] == [None, None]
    assert all(unit.seal is not None for unit in units)
