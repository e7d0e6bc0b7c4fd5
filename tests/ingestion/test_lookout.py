"""A catalog that is kept up to date looks at what events tell of, and what no event tells of is found all the same."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
from tests.sets.examples import SUCCESS, promote, put, small_run

from emdstore import InMemoryArtifactStore, create_release, retract, system, transfer
from emdstore.catalog import Catalog
from emdstore.emds import RECORD_NAME
from emdstore.ingestion.lookout import Lookout
from emdstore.ingestion.replay import replay
from emdstore.ingestion.replay_report import ReplayReport
from emdstore.sets.events import EVENTS, announce, begin_log, make_event
from emdstore.sets.removing import RemovalRules, remove
from emdstore.stores.identity import identity_of
from emdstore.testing import Fault, FaultyStore, RecordingStore

A, B, C = "p/d/g/a", "p/d/g/b", "p/d/h/c"


@attrs.define
class Watched:
    """A results store and a catalog, kept up to date round by round."""

    results: InMemoryArtifactStore
    catalog: Catalog
    lookout: Lookout
    seen: RecordingStore | None = None
    seconds: float = 0.0

    def publish(self, fragment: str, *, silently: bool = False) -> None:
        promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), self.results, fragment)
        if not silently:
            announce(self.results, [make_event("published", fragment)])

    def round(self, prefix: str = "", store: InMemoryArtifactStore | FaultyStore | None = None) -> ReplayReport:
        self.seen = RecordingStore(store or self.results)
        machine = attrs.evolve(system.current(), monotonic=lambda: self.seconds)
        with system.using(machine):
            only = self.lookout.due(self.seen, self.catalog)
            report = replay(self.seen, self.catalog, prefix, only=only)
            self.lookout.done(report, only=only)
        return report

    @property
    def listed_all(self) -> bool:
        assert self.seen is not None
        return any(call.verb in ("iter_info", "iter_keys", "iter_found") and not call.key for call in self.seen.calls)

    @property
    def held(self) -> list[str]:
        return [row.fragment for row in self.catalog.executions(retracted=None)]


@pytest.fixture
def watched() -> Iterator[Watched]:
    results = InMemoryArtifactStore()
    begin_log(results)
    with Catalog("sqlite://") as catalog:
        watched = Watched(results, catalog, Lookout(100))
        watched.publish(A)
        assert (watched.round().counts["ingested"], watched.listed_all) == (1, True)
        yield watched


def test_a_round_looks_at_what_events_tell_of_and_nowhere_else(watched: Watched) -> None:
    assert (watched.round().sets, watched.listed_all) == (0, False)
    watched.publish(B)
    assert (watched.round().counts["ingested"], watched.listed_all) == (1, False)
    assert watched.held == [A, B]
    retract(watched.results, A, reason="wrong sign")
    create_release(watched.results, "2026.1", [B])
    assert (watched.round().counts["ingested"], watched.listed_all) == (1, False)
    assert watched.catalog.execution(A).retraction_reason == "wrong sign"
    assert [each.name for each in watched.catalog.releases.list()] == ["2026.1"]
    assert (watched.round().sets, watched.listed_all) == (0, False)


def test_what_no_event_told_of_is_found_by_the_rare_listing(watched: Watched) -> None:
    watched.publish(B, silently=True)
    watched.round()
    assert watched.held == [A]
    watched.seconds = 100.0
    assert (watched.round().counts["ingested"], watched.listed_all) == (1, True)
    assert watched.held == [A, B]
    watched.seconds = 199.0
    watched.round()
    assert not watched.listed_all


def test_an_event_is_not_believed_over_the_record(watched: Watched) -> None:
    for event in (make_event("published", "p/d/g/none"), make_event("removed", A), make_event("retracted", A)):
        announce(watched.results, [event])
        report = watched.round()
        assert (report.ok, report.counts["ingested"], report.counts["vanished"]) == (True, 0, 0)
    assert watched.held == [A]
    assert watched.catalog.execution(A).retracted_at is None


def test_a_removed_set_is_told_as_by_a_listing_and_its_rows_stay(watched: Watched) -> None:
    remove(watched.results, A, RemovalRules(force=True))
    report = watched.round()
    assert ([each.fragment for each in report.failures], watched.listed_all) == ([A], False)
    assert report.counts["vanished"] == 1
    assert watched.held == [A]


def test_news_is_not_lost_with_a_round_that_fails_or_with_a_set_that_is_not_ready(watched: Watched) -> None:
    watched.publish(B)
    broken = FaultyStore(watched.results, Fault(verbs={"iter_info", "iter_keys"}, keys={B}))
    with pytest.raises(OSError):
        watched.round(store=broken)
    assert watched.held == [A]
    record = watched.results.read_bytes(f"{B}/{RECORD_NAME}")
    watched.results.write_bytes(f"{B}/{RECORD_NAME}", b"{")
    assert watched.round().counts["unreadable"] == 1
    watched.results.write_bytes(f"{B}/{RECORD_NAME}", record)
    assert (watched.round().counts["ingested"], watched.listed_all) == (1, False)


def test_only_news_of_the_folder_that_is_watched_counts(watched: Watched) -> None:
    watched.publish(B)
    watched.publish(C)
    watched.round("p/d/h")
    assert watched.held == [A, C]


@pytest.mark.parametrize("why", ["no log", "another store", "a new catalog", "the log cannot be read"])
def test_all_is_listed_where_events_would_not_do(watched: Watched, why: str) -> None:
    store: InMemoryArtifactStore | FaultyStore = watched.results
    if why == "no log":
        for key in list(watched.results.iter_keys(EVENTS)):
            watched.results.delete(key)
        watched.lookout = Lookout(100)
        watched.round()
    elif why == "another store":
        store = InMemoryArtifactStore()
        transfer(watched.results, store)
        watched.catalog = Catalog("sqlite://")
        begin_log(store)
    elif why == "a new catalog":
        watched.catalog = Catalog("sqlite://")
    else:
        day = f"{EVENTS}/{identity_of(store).id}/{system.current().now():%Y-%m-%d}"
        store = FaultyStore(store, Fault(verbs={"iter_keys"}, keys={day}))
    watched.round(store=store)
    assert watched.listed_all


@pytest.mark.parametrize("name", ["../up", "/etc", "a//b", ""])
def test_an_event_with_a_name_that_cannot_be_is_no_reason_to_fail(watched: Watched, name: str) -> None:
    announce(watched.results, [make_event("published", name)])
    watched.publish(B)
    assert (watched.round().failed, watched.listed_all, watched.held) == (0, False, [A, B])
