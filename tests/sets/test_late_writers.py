"""Who was halted between its last look and its write finds out that somebody else has written since, and leaves it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import attrs
import pytest
import stamina
from tests.executions.crash import Child, pause
from tests.executions.runs import committed
from tests.sets.examples import FRAGMENT, SUCCESS, FourMethods, held, put, small_run
from tests.sets.late import Halting, Turn

from emdstore.catalog import Catalog
from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import OvertakenError, StoreUnavailableError, TransferError
from emdstore.executions.without_catalog import publish_execution
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.publish import Publication, publish_set
from emdstore.sets.record import ExecutionRecord, publish_record, read_record
from emdstore.sets.repair import repair
from emdstore.sets.retraction import read_retraction, retract, unretract
from emdstore.sets.seal import open_set, standing_at
from emdstore.sets.state import look_at_set
from emdstore.sets.transfer import transfer
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, scoped
from emdstore.testing import Fault, FaultyStore
from emdstore.transfers import listing_of

that_compare = pytest.mark.parametrize("results", ["local", "memory", "s3"], indirect=True)


def version(number: int) -> InMemoryArtifactStore:
    """Return a run of which every file says which version it is of, all of equal sizes."""
    store = InMemoryArtifactStore()
    put(store, small_run(out=b"run %03d\n" % number, map=b"plot %03d" % number, tas=b"data %03d" % number))
    return store


def publish(results: ArtifactStore, number: int, generation: int = 0) -> Publication:
    identity = ExecutionRecord.at(FRAGMENT, generation=generation)
    return publish_set(identity, SUCCESS, source=version(number), dest=scoped(results, FRAGMENT))


def record_in(results: ArtifactStore) -> ExecutionRecord:
    record = read_record(scoped(results, FRAGMENT))
    assert record is not None
    return record


def is_version(results: ArtifactStore, number: int) -> bool:
    """Tell whether a set is published, by every digest, and all of it is of this version."""
    look = look_at_set(results, FRAGMENT, every_digest=True)
    there = scoped(results, FRAGMENT)
    return look.state == "published" and all(
        there.read_bytes(key) == data for key, data in held(version(number)).items() if there.exists(key)
    )


def redraw(workspace: Workspace, fragment: str, number: int) -> None:
    """Have a run that was committed look otherwise in scratch."""
    put(workspace.scratch, {"plots/map.png": b"drawn %d" % number}, fragment)


# -- commit ------------------------------------------------------------------------------------------------------------


@that_compare
@pytest.mark.parametrize("nth", [1, 2], ids=["opening", "final"])
def test_a_record_is_not_put_over_one_that_its_writer_has_not_seen(results: ArtifactStore, nth: int) -> None:
    publish(results, 0)
    turn = Turn(RECORD_NAME, lambda: publish(results, 2), nth)
    with pytest.raises(OvertakenError, match=FRAGMENT) as raised:
        publish(Halting(results, turn), 1)
    assert turn.has_come
    assert (raised.value.key, raised.value.store is None) == (FRAGMENT, False)
    assert "`emdstore repair` mends it); if not, do it again" in str(raised.value)
    assert is_version(results, 2)


@that_compare
def test_a_first_record_is_not_put_over_one_that_came_meanwhile(results: ArtifactStore) -> None:
    with pytest.raises(OvertakenError, match="by somebody else"):
        publish(Halting(results, Turn(RECORD_NAME, lambda: publish(results, 2))), 1)
    assert is_version(results, 2)


@that_compare
def test_two_that_publish_the_same_at_once_have_both_published_it(results: ArtifactStore) -> None:
    first: list[Publication] = []
    turn = Turn(RECORD_NAME, lambda: first.append(publish(results, 1)))
    late = publish(Halting(results, turn), 1)
    assert (first[0].record_written, late.record_written) == (True, False)
    assert is_version(results, 1)


@that_compare
def test_bytes_of_a_late_writer_that_land_are_shown_and_mended(results: ArtifactStore) -> None:
    publish(results, 0)
    with pytest.raises(OvertakenError):
        publish(Halting(results, Turn("data/tas.nc", lambda: publish(results, 2))), 1)
    record = record_in(results)
    look = look_at_set(results, FRAGMENT, every_digest=True)
    assert (look.state, "data/tas.nc" in look.judgement.differing) == ("changed", True)
    put(good := InMemoryArtifactStore(), held(version(2)), FRAGMENT)
    assert repair(results, FRAGMENT, source=good).ok
    assert is_version(results, 2)
    assert record_in(results) == record


def test_a_store_that_cannot_compare_is_looked_at_right_before(tmp_path: Path) -> None:
    class LooksFirst(Halting):
        def _enter(self, verb: str, key: str) -> str:
            return super()._enter("write_bytes" if verb == "read_bytes" else verb, key)

    results = InMemoryArtifactStore()
    publish(results, 0)
    # Halted before it reads the record, for the second time: the first is its look at what stands there.
    turn = Turn(RECORD_NAME, lambda: publish(results, 2), nth=2)
    with pytest.raises(OvertakenError):
        publish(LooksFirst(FourMethods(results), turn), 1)
    assert turn.has_come
    assert is_version(results, 2)


# -- generations -------------------------------------------------------------------------------------------------------


def test_each_record_without_a_catalog_is_of_the_next_generation() -> None:
    results = InMemoryArtifactStore()
    assert [publish(results, number).record.generation for number in (1, 2, 3)] == [1, 2, 3]  # type: ignore[union-attr]
    assert publish(results, 4, generation=7).record.generation == 7  # type: ignore[union-attr]
    assert publish(results, 4).record_written is False
    assert publish(results, 5, generation=2).record.generation == 8  # type: ignore[union-attr]


def test_a_claim_is_later_than_what_was_published_without_the_catalog(workspace: Workspace) -> None:
    execution = committed(workspace)
    for number in range(3):
        redraw(workspace, execution.fragment, number)
        publish_execution(workspace, execution.fragment)
    assert replay(workspace.results, workspace.catalog).ok
    redraw(workspace, execution.fragment, 9)
    execution.commit_output_assets()
    record = read_record(scoped(workspace.results, execution.fragment))
    assert record is not None
    assert record.generation == execution.row.generation == execution.row.lease_token == 5


def test_a_catalog_that_was_built_anew_commits_what_an_earlier_one_had_claimed_often(
    workspace: Workspace, tmp_path: Path
) -> None:
    execution = committed(workspace)
    for number in range(2):
        redraw(workspace, execution.fragment, number)
        execution.commit_output_assets()
    with Catalog(tmp_path / "anew.db") as anew:
        anew.upgrade()
        assert replay(workspace.results, anew).ok
        again = attrs.evolve(workspace, catalog=anew)
        redraw(again, execution.fragment, 9)
        handle = again.resume_execution(execution.fragment)
        handle.commit_output_assets()
        assert handle.row.generation == 4


# -- the other verbs ---------------------------------------------------------------------------------------------------


@that_compare
@pytest.mark.parametrize("nth", [1, 2], ids=["opening", "seal"])
def test_a_transfer_leaves_a_set_to_who_has_published_it_meanwhile(results: ArtifactStore, nth: int) -> None:
    source = InMemoryArtifactStore()
    publish(source, 1)
    publish(results, 0)
    turn = Turn(RECORD_NAME, lambda: publish(results, 2), nth)
    report = transfer(source, Halting(results, turn), replace=True, max_workers=1)
    assert turn.has_come
    (outcome,) = report.sets
    assert isinstance(outcome.error, OvertakenError)
    assert outcome.folder == FRAGMENT
    assert FRAGMENT in str(outcome.error)
    assert is_version(results, 2)


def test_a_transfer_that_goes_on_with_a_killed_one_keeps_that_one_from_ending_it() -> None:
    source, results = InMemoryArtifactStore(), InMemoryArtifactStore()
    publish(results, 0)
    publish(source, 1)
    turn = Turn(RECORD_NAME, lambda: transfer(source, results).raise_for_failures(), nth=2)
    report = transfer(source, Halting(results, turn), max_workers=1)
    assert report.ok  # the record that it would have written is there
    assert is_version(results, 1)


class BeforeEachSeal(Turn):
    """The moments right before the first so many final records, each of which is put over one that opens the set."""

    def __init__(self, others: Callable[[], object], times: int) -> None:
        super().__init__(RECORD_NAME, others, nth=2)
        self.times = times

    def at(self, verb: str, key: str) -> None:
        if self.times:
            super().at(verb, key)
            if self.has_come:
                self._left = 2
                self.times -= 1


def disturbed(results: ArtifactStore, times: int) -> tuple[Halting, BeforeEachSeal]:
    """Have bytes of a halted writer land at these moments."""
    late = scoped(results, FRAGMENT)
    moments = BeforeEachSeal(lambda: late.write_bytes("data/tas.nc", b"data 000"), times)
    return Halting(results, moments), moments


def killed_over(number: int) -> InMemoryArtifactStore:
    """Return results with a set that somebody opened, and was halted or killed."""
    results = InMemoryArtifactStore()
    publish(results, number)
    there = scoped(results, FRAGMENT)
    open_set(there, standing_at(there, listing_of(there)), ExecutionRecord.at(FRAGMENT), ["data/tas.nc"])
    return results


def ship(verb: str, results: ArtifactStore) -> object:
    if verb == "publish":
        return publish(results, 1)
    publish(source := InMemoryArtifactStore(), 1)
    keys = [f"{FRAGMENT}/{key}" for key in held(scoped(source, FRAGMENT))] if verb == "transfer keys" else None
    return transfer(source, results, keys, max_workers=1).raise_for_failures()


that_ship = pytest.mark.parametrize("verb", ["publish", "transfer", "transfer keys"])


@that_ship
@pytest.mark.parametrize("times", [1, 2])
def test_what_is_sealed_over_an_open_set_is_read_back_and_sent_again(verb: str, times: int) -> None:
    results = killed_over(0)
    dest, moments = disturbed(results, times)
    ship(verb, dest)
    assert moments.times == 0
    assert is_version(results, 1)


@that_ship
def test_who_is_disturbed_again_and_again_says_so(verb: str) -> None:
    with pytest.raises((OvertakenError, TransferError), match="by somebody else since it was looked at"):
        ship(verb, disturbed(killed_over(0), 9)[0])


def test_a_set_that_cannot_be_read_back_is_no_success() -> None:
    results = killed_over(0)
    silent = Fault(verbs={"open_reader", "read_bytes"}, keys={f"{FRAGMENT}/data/tas.nc"}, every=10**9)
    moment = BeforeEachSeal(lambda: setattr(silent, "every", 1), times=1)
    with pytest.raises(StoreUnavailableError), stamina.set_testing(True):
        publish(Halting(FaultyStore(results, silent), moment), 1)
    assert moment.times == 0


def test_to_materialize_opens_no_set_that_was_published_meanwhile() -> None:
    results = InMemoryArtifactStore()
    publish(results, 0)
    dest = scoped(Halting(results, Turn(RECORD_NAME, lambda: publish(results, 2))), FRAGMENT)
    with pytest.raises(OvertakenError):
        materialize_outputs(SUCCESS, source=version(1), dest=dest)
    assert is_version(results, 2)


def test_a_record_made_from_another_one_takes_the_place_of_that_one_only() -> None:
    results = InMemoryArtifactStore()
    publish(results, 0)
    seen = record_in(results)
    publish(results, 2)
    with pytest.raises(OvertakenError):
        publish_record(attrs.evolve(seen, stale=("x",)), scoped(results, FRAGMENT), over=seen)
    assert is_version(results, 2)


def test_a_repair_stops_where_the_record_is_another_one_by_now() -> None:
    results = InMemoryArtifactStore()
    publish(results, 0)
    put(good := InMemoryArtifactStore(), held(version(0)), FRAGMENT)
    for key in ("data/tas.nc", "plots/map (°C).png"):
        results.write_bytes(f"{FRAGMENT}/{key}", b"damage!!")
    turn = Turn("map (°C).png", lambda: publish(results, 2))  # the first that it brings
    with pytest.raises(OvertakenError):
        repair(Halting(results, turn), FRAGMENT, source=good)
    assert results.read_bytes(f"{FRAGMENT}/data/tas.nc") == b"data 002"


@that_compare
def test_the_last_word_about_a_set_is_the_one_that_was_said_last(results: ArtifactStore) -> None:
    publish(results, 0)
    retract(results, FRAGMENT, reason="wrong units")
    turn = Turn(RETRACTION_NAME, lambda: unretract(results, FRAGMENT))
    with pytest.raises(OvertakenError):
        retract(Halting(results, turn), FRAGMENT, reason="said before, and written after")
    assert read_retraction(results, FRAGMENT) is None


# -- real processes ----------------------------------------------------------------------------------------------------


def _publish_the_first(root: Path) -> None:
    publish(LocalArtifactStore(root), 1)


@pytest.mark.once
@pytest.mark.slow
def test_a_process_that_is_stopped_anywhere_and_goes_on_never_undoes_what_came_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emdstore.stores.local.locking.PATIENCE", 0.05)

    def scene(name: str) -> LocalArtifactStore:
        results = LocalArtifactStore(tmp_path / name)
        publish(results, 0)
        return results

    answer = Child(_publish_the_first, scene("undisturbed").root, only_changes=True).wait()
    assert answer is not None
    steps = range(1, len(answer.steps) + 1)
    assert len(steps) > 15
    for number in steps[:: max(1, len(steps) // 16)]:
        results = scene(f"stopped before {number}")
        with Child(_publish_the_first, results.root, at=number, action=pause, only_changes=True) as late:
            assert late.wait_until_paused()
            try:
                publish(results, 2)
                first = True
            except (StoreUnavailableError, OvertakenError):  # it holds the lock
                first = False
            late.resume()
            end = late.wait()
        assert end is not None
        about = f"stopped before {answer.steps[number - 1]}"
        assert isinstance(end.error, OvertakenError) if first else end.error is None, about
        look = look_at_set(results, FRAGMENT, every_digest=True)
        assert look.record is not None
        named = {each.key: each.sha256 for each in look.record.artifacts}
        tas = sha256(b"data 002" if first else b"data 001").hexdigest()
        assert (look.record.state, named["data/tas.nc"]) == ("published", tas), about
        assert look.state in ("published", "changed"), about
        publish(results, 2)
        assert is_version(results, 2), about
