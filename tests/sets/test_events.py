"""The event log: each publish, retraction, release and removal is told once, and what it tells is never the truth."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest
from tests.executions.runs import committed, ran
from tests.sets.examples import FRAGMENT, SUCCESS, held, promote, put, small_run

from emdstore import InMemoryArtifactStore, Workspace, compare, retract, system, transfer, unretract, verify
from emdstore.emds import RECORD_NAME
from emdstore.errors import StoreError
from emdstore.keys import join_key
from emdstore.sets import events as log
from emdstore.sets.events import (
    EVENTS,
    EventCursor,
    Follower,
    News,
    announce,
    begin_log,
    end_log,
    make_event,
    read_events,
    trim_events,
)
from emdstore.sets.finding import find_sets
from emdstore.sets.mirroring import find_leftovers, remove_leftovers
from emdstore.sets.release import point_alias
from emdstore.sets.releasing import create_release
from emdstore.sets.removing import RemovalRules, remove
from emdstore.sets.repair import repair
from emdstore.stores import ArtifactStore
from emdstore.stores.checksums import sha256_of
from emdstore.stores.identity import identity_of
from emdstore.testing import Fault, FaultyStore, RecordingStore


def at(moment: str) -> system.System:
    """Return a machine whose clock stands still."""
    return attrs.evolve(system.current(), now=lambda: datetime.fromisoformat(moment).replace(tzinfo=UTC))


class _OfTheLog(frozenset[str]):
    """The keys of a log's entries."""

    def __bool__(self) -> bool:
        return True

    def __contains__(self, key: object) -> bool:
        return str(key).startswith(f"{EVENTS}/")


@pytest.fixture
def results() -> InMemoryArtifactStore:
    """Return a store with a published set, which keeps a log from now on."""
    store = InMemoryArtifactStore()
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), store, FRAGMENT)
    begin_log(store)
    return store


def told(store: ArtifactStore) -> list[tuple[str, str, str]]:
    return [(each.kind, each.name, each.about) for each in read_events(store)]


def test_what_happens_in_a_results_store_is_told_in_its_log(results: InMemoryArtifactStore) -> None:
    retract(results, FRAGMENT, reason="wrong sign")
    assert unretract(results, FRAGMENT) is not None
    assert unretract(results, FRAGMENT) is None
    create_release(results, "2026.1", note="for the report")
    for _ in range(2):
        point_alias(results, "production", "2026.1")
    assert remove(results, FRAGMENT, RemovalRules()).refusal is not None
    assert remove(results, FRAGMENT, RemovalRules(force=True)).refusal is None
    assert told(results) == [
        ("retracted", FRAGMENT, "wrong sign"),
        ("unretracted", FRAGMENT, ""),
        ("released", "2026.1", "for the report"),
        ("aliased", "production", "2026.1"),
        ("removed", FRAGMENT, ""),
    ]
    first = next(read_events(results))
    assert "@" in first.by
    assert first.id.endswith("/0")


def test_a_commit_tells_of_the_record_that_it_wrote_and_a_second_one_of_nothing(workspace: Workspace) -> None:
    execution = committed(workspace)
    (event,) = read_events(workspace.results)
    data = workspace.results.read_bytes(join_key(execution.fragment, RECORD_NAME))
    assert (event.kind, event.name, event.record) == ("published", execution.fragment, sha256_of(data))
    assert event.generation == execution.row.generation
    execution.commit_output_assets()
    workspace.commit_pending_executions(execution_ids=[execution.fragment])
    assert list(read_events(workspace.results)) == [event]


def test_a_batch_tells_of_many_sets_by_one_entry(workspace: Workspace) -> None:
    fragments = {ran(workspace).fragment for _ in range(3)}
    assert workspace.commit_pending_executions().ok
    assert {each.name for each in read_events(workspace.results)} == fragments
    assert len(list(workspace.results.iter_keys(EVENTS))) == 1


def test_a_transfer_tells_at_its_destination_what_it_brought_and_once(results: InMemoryArtifactStore) -> None:
    retract(results, FRAGMENT, reason="wrong sign")
    mirror, plain = InMemoryArtifactStore(), InMemoryArtifactStore()
    number = begin_log(mirror)
    assert transfer(results, mirror, dry_run=True).ok
    assert told(mirror) == []
    for _ in range(2):
        assert transfer(results, mirror).ok
        assert transfer(results, plain).ok
    assert told(mirror) == [("retracted", FRAGMENT, "wrong sign"), ("published", FRAGMENT, "")]
    # A copy that keeps no log gets none, but that of the original, which is not taken for its own.
    assert told(plain) == []
    assert not list(plain.iter_keys(join_key(EVENTS, number)))


def test_the_log_is_no_part_of_the_results(results: InMemoryArtifactStore) -> None:
    mirror = InMemoryArtifactStore()
    begin_log(mirror)
    retract(results, FRAGMENT, reason="wrong sign")
    assert transfer(results, mirror).ok
    assert list(mirror.iter_keys(EVENTS)) != list(results.iter_keys(EVENTS))
    assert [each for each in compare(results, mirror) if each.differences] == []
    assert [each.location for each in find_sets(mirror)] == [FRAGMENT]
    assert find_leftovers(put(InMemoryArtifactStore(), {"a": b""}), mirror).removable == ()
    assert verify(mirror).ok


def test_a_lost_event_neither_fails_nor_undoes_a_publication(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    broken = attrs.evolve(
        workspace,
        results=FaultyStore(workspace.results, Fault(verbs={"create_bytes"}, keys=_OfTheLog(), error=StoreError)),
    )
    execution = ran(broken)
    assert execution.commit_output_assets().ok
    assert execution.status == "uploaded"
    assert verify(workspace.results).ok
    assert list(read_events(workspace.results)) == []
    assert "events were lost" in caplog.text


def test_what_is_repaired_and_what_is_cleaned_away_is_told_too(
    results: InMemoryArtifactStore, workspace: Workspace
) -> None:
    good = put(InMemoryArtifactStore(), small_run())
    results.write_bytes(f"{FRAGMENT}/data/tas.nc", b"damaged")
    assert repair(results, FRAGMENT, source=good).ok
    assert repair(results, FRAGMENT, source=good).repaired == ()
    results.write_bytes("old.txt", b"not at the source")
    source = put(InMemoryArtifactStore(), held(results, FRAGMENT), FRAGMENT)
    leftovers = find_leftovers(source, results).removable
    assert list(remove_leftovers(source, results, leftovers)) == []
    assert told(results) == [("repaired", FRAGMENT, "'data/tas.nc'"), ("cleaned", "old.txt", "")]

    fragment = committed(workspace).fragment
    workspace.results.write_bytes(f"{fragment}/old.png", b"of an earlier set")
    workspace.gc_executions(stale=True, dry_run=True)
    for _ in range(2):
        workspace.gc_executions(stale=True)
    assert told(workspace.results) == [("published", fragment, ""), ("cleaned", f"{fragment}/old.png", "")]


def test_a_log_that_was_ended_gets_no_event_from_anybody(workspace: Workspace) -> None:
    fragment = committed(workspace).fragment
    follower = Follower(workspace.results)
    follower.news()
    assert follower.has_log
    number = end_log(workspace.results)
    assert number == end_log(workspace.results) == identity_of(workspace.results).id
    committed(workspace)
    retract(workspace.results, fragment, reason="wrong sign")
    assert follower.news() == []
    assert not follower.has_log, "so that whoever follows it lists the store instead"
    assert told(workspace.results) == [("published", fragment, "")]
    assert begin_log(workspace.results) == number
    unretract(workspace.results, fragment)
    assert [each.kind for each in follower.news()] == ["unretracted"]
    assert follower.has_log


def test_a_store_without_identity_keeps_no_log(workspace: Workspace) -> None:
    store = RecordingStore(InMemoryArtifactStore())
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), store, FRAGMENT)
    retract(store, FRAGMENT, reason="wrong sign")
    assert not list(store.iter_keys(".emdstore"))
    assert list(read_events(store)) == []


def test_a_follower_tells_each_event_once_also_those_of_clocks_that_are_wrong(results: InMemoryArtifactStore) -> None:
    announce(results, [make_event("published", "old")])
    follower = Follower(results)
    assert follower.news() == []
    assert follower.has_log
    now = system.current().now()
    for hours in (0, -20, 20):
        wrong = attrs.evolve(system.current(), now=lambda hours=hours: now + timedelta(hours=hours))
        with system.using(wrong):
            announce(results, [make_event("published", str(hours))])
    assert {each.name for each in follower.news()} == {"0", "-20", "20"}
    assert follower.news() == []


def test_a_cursor_goes_on_after_what_was_told_whatever_the_clocks_said(results: InMemoryArtifactStore) -> None:
    def told_from(begin: EventCursor) -> tuple[set[str], EventCursor]:
        follower = Follower(results, cursor=EventCursor.decode(begin.encode()))
        names, cursor = {each.name for each in follower.news()}, follower.cursor
        assert follower.news() == []
        assert cursor is not None
        return names, cursor

    cursor, now = EventCursor(), system.current().now()
    clocks = (("long ago", -2000), ("before", -2), ("since", 0), ("late, by a slow clock", -20))
    for count, (name, hours) in enumerate(clocks):
        with system.using(attrs.evolve(system.current(), now=lambda hours=hours: now + timedelta(hours=hours))):
            announce(results, [make_event("published", name)])
        names, cursor = told_from(cursor)
        assert names == {name}
        assert len(cursor.seen) == count, "it holds only what will be looked at again"
    assert told_from(cursor)[0] == set()


def test_a_cursor_is_of_one_store_and_waits_for_it(results: InMemoryArtifactStore) -> None:
    follower = Follower(results)
    follower.news()
    follower.store = InMemoryArtifactStore()
    with pytest.raises(StoreError, match="is it mounted"):
        follower.news()
    announce(results, [make_event("published", "a")])
    follower.store = results
    assert [each.name for each in follower.news()] == ["a"]
    for data in (b"{", b'{"cursor_version": 9}', b"[]"):
        with pytest.raises(StoreError):
            EventCursor.decode(data)


def test_a_follower_that_could_not_read_tells_it_the_next_time(results: InMemoryArtifactStore) -> None:
    store = FaultyStore(results, Fault(verbs={"read_bytes"}, keys=_OfTheLog(), error=StoreError, nth=(1,)))
    follower = Follower(store)
    assert follower.news() == []
    announce(results, [make_event("published", "a")])
    with pytest.raises(StoreError):
        follower.news()
    assert [each.name for each in follower.news()] == ["a"]


def test_events_since_a_time_and_those_of_days_before_are_removed(results: InMemoryArtifactStore) -> None:
    for day in ("2026-05-01T12:00", "2026-05-02T12:00", "2026-05-02T14:00"):
        with system.using(at(day)):
            announce(results, [make_event("published", day)])
    with system.using(at("2026-05-03T00:00")):
        since = datetime(2026, 5, 2, 13, tzinfo=UTC)
        assert [each.name for each in read_events(results, since)] == ["2026-05-02T14:00"]
        assert [each.name for each in Follower(results, since).news()] == ["2026-05-02T14:00"]
        assert trim_events(results, since) == 1
    assert [each.name for each in read_events(results)] == ["2026-05-02T12:00", "2026-05-02T14:00"]


@pytest.mark.parametrize("data", [b"{", b'{"event_version": 9}', b'{"event_version": 1, "by": "a", "events": [{}]}'])
def test_an_entry_that_cannot_be_read_is_told_and_hides_no_other(results: InMemoryArtifactStore, data: bytes) -> None:
    announce(results, [make_event("published", "a")])
    (key,) = results.iter_keys(EVENTS)
    results.write_bytes(key + "-broken.json", data)
    wrong: list[Exception] = []
    assert [each.name for each in read_events(results, unreadable=wrong.append)] == ["a"]
    assert len(wrong) == 1
    with pytest.raises(StoreError, match="broken"):
        list(read_events(results))


def test_news_of_much_work_is_written_some_at_a_time_and_also_if_it_ends_badly(
    results: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_WRITTEN_AT_ONCE", 2)
    monkeypatch.setattr(log, "_MOST_IN_ENTRY", 2)

    def work() -> None:
        with News(results) as news:
            for n in range(3):
                news.add([make_event("published", str(n))])
                assert len(list(read_events(results))) == (0, 2, 2)[n]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert {each.name for each in read_events(results)} == {"0", "1", "2"}
    announce(results, (make_event("published", str(n)) for n in range(5)))
    assert len(list(results.iter_keys(EVENTS))) == 2 + 3
