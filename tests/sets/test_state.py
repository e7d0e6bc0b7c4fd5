"""In which state a set is, as whoever reads it sees it: decided purely, and looked at on every kind of store."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.distant import Distant
from tests.sets.examples import (
    FAILURE,
    FRAGMENT,
    NOON,
    SUCCESS,
    FourMethods,
    encode,
    metric_bundle,
    promote,
    put,
    rows_of,
    small_run,
)

from emdstore import system
from emdstore.catalog import Catalog
from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    ExecutionNotFoundError,
    IncompleteSetError,
    RecordError,
    RecordVersionError,
    StoreError,
    StoreUnavailableError,
)
from emdstore.ingestion.replay import ingest, replay
from emdstore.sets.finding import stamp_of
from emdstore.sets.listing import list_sets
from emdstore.sets.record import ExecutionRecord, RecordedArtifact, encode_record, read_record
from emdstore.sets.retraction import retract
from emdstore.sets.state import SET_STATES, judge, look_at_set
from emdstore.sets.verify import verify
from emdstore.stores import ArtifactInfo, ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, scoped
from emdstore.stores.checksums import sha256_of
from emdstore.testing import Fault, FaultyStore, RecordingStore

HASH, OTHER_HASH = "a" * 64, "b" * 64
RECORD = ExecutionRecord.at(
    FRAGMENT,
    state="published",
    status="uploaded",
    artifacts=(RecordedArtifact("out.log", "log", 3, HASH, "text/plain"),),
)


def listing(size: int = 3, modified: float = 1.0) -> dict[str, ArtifactInfo | None]:
    return {
        "out.log": ArtifactInfo("out.log", size, modified),
        RECORD_NAME: ArtifactInfo(RECORD_NAME, 100, 2.0),
    }


RIGHT, GONE = (3, HASH), ArtifactNotFoundError("gone")


@pytest.mark.parametrize(
    ("record", "there", "digests", "expected"),
    [
        (RECORD, listing(), {}, "published"),
        (RECORD, listing(), {"out.log": RIGHT}, "published"),
        (RECORD, listing(), {"out.log": (3, OTHER_HASH)}, "changed"),
        (RECORD, listing(), {"out.log": (4, HASH)}, "changed"),
        (RECORD, listing(), {"out.log": GONE}, "changed"),
        (RECORD, listing(), {"out.log": StoreError("broken")}, "unreadable"),
        (RECORD, listing(size=4), {}, "changed"),
        (RECORD, {}, {}, "changed"),
        (RECORD, dict.fromkeys(listing()), {}, "published"),
        (attrs.evolve(RECORD, state="failed"), listing(), {}, "failed"),
        (attrs.evolve(RECORD, state="incomplete"), listing(), {}, "incomplete"),
        (attrs.evolve(RECORD, state="incomplete"), {}, {}, "changed"),
        (attrs.evolve(RECORD, state="publishing"), {}, {}, "publishing"),
        (attrs.evolve(RECORD, state=None, status=None), listing(), {}, "unreadable"),
        (attrs.evolve(RECORD, state=None, status="failed", failure="result"), listing(), {}, "incomplete"),
        (RecordError("no JSON"), listing(), {}, "unreadable"),
        (RecordVersionError("99"), listing(), {}, "newer-schema"),
        (StoreError("broken"), {}, {}, "unreadable"),
        (None, {"a": None}, {}, "bare"),
    ],
)
def test_the_state_follows_from_record_listing_and_digests(
    record: Any, there: Any, digests: Any, expected: str
) -> None:
    assert expected in SET_STATES
    assert judge(record, there, digests).state == expected


@pytest.mark.parametrize(
    ("there", "digests", "which"),
    [
        ({}, {}, "lacking"),
        (listing(), {"out.log": GONE}, "lacking"),
        (listing(size=4), {}, "differing"),
        (listing(), {"out.log": (3, OTHER_HASH)}, "differing"),
        (listing(), {"out.log": StoreError("broken")}, "unread"),
        (listing(modified=2.1), {}, "doubtful"),
    ],
)
def test_what_is_wrong_is_named_under_what_is_wrong_with_it(there: Any, digests: Any, which: str) -> None:
    verdict = judge(RECORD, there, digests)
    named = {each: getattr(verdict, each) for each in ("lacking", "differing", "unread", "doubtful")}
    assert named == dict.fromkeys(named, ()) | {which: ("out.log",)}


def test_what_a_set_without_a_record_lacks_makes_it_incomplete() -> None:
    verdict = judge(None, {"a": None}, named=["a", "b"])
    assert (verdict.state, verdict.lacking) == ("incomplete", ("b",))


@pytest.mark.parametrize(("modified", "doubtful"), [(1.0, ()), (2.0, ()), (2.1, ("out.log",))])
def test_what_is_newer_than_the_record_is_to_be_hashed(modified: float, doubtful: tuple[str, ...]) -> None:
    assert judge(RECORD, listing(modified=modified)).doubtful == doubtful
    assert judge(RECORD, listing(modified=modified), {"out.log": RIGHT}).doubtful == ()


# -- on stores ---------------------------------------------------------------------------------------------------------


def published(results: ArtifactStore, result: Any = SUCCESS, **changes: Any) -> ExecutionRecord:
    return promote(result, put(InMemoryArtifactStore(), small_run(**changes)), results)[1]


def rewritten(**changes: Any) -> Callable[[ArtifactStore], object]:
    def change(results: ArtifactStore) -> None:
        record = published(results)
        put(results, {RECORD_NAME: encode_record(attrs.evolve(record, **changes))}, FRAGMENT)

    return change


def spoiled(key: str, data: bytes) -> Callable[[ArtifactStore], object]:
    def change(results: ArtifactStore) -> None:
        published(results)
        put(results, {key: data}, FRAGMENT)

    return change


MADE: dict[str, tuple[Callable[[ArtifactStore], object], str]] = {
    "published": (published, "published"),
    "a failed run": (lambda results: published(results, FAILURE), "failed"),
    "a plot that was never made": (lambda results: published(results, tas=None), "incomplete"),
    "open": (rewritten(state="publishing", status=None), "publishing"),
    "another metric bundle": (spoiled("diagnostic.json", encode(metric_bundle({"x": {"y": 1}}))), "changed"),
    "a log of another size": (spoiled("out.log", b"longer than it was"), "changed"),
    "no record": (lambda results: put(results, small_run(), FRAGMENT), "bare"),
    "no record and no plot": (lambda results: put(results, small_run(tas=None), FRAGMENT), "incomplete"),
    "no record and no bundle": (lambda results: put(results, small_run(output=b"{"), FRAGMENT), "unreadable"),
    "a broken record": (spoiled(RECORD_NAME, b"{"), "unreadable"),
    "a record from scratch": (rewritten(state=None, status=None), "unreadable"),
    "a newer record": (spoiled(RECORD_NAME, b'{"record_version": 99}'), "newer-schema"),
}


@pytest.mark.once
@pytest.mark.parametrize("made", MADE)
def test_sets_verify_and_replay_call_a_set_by_the_same_name(
    results: ArtifactStore, made: str, catalog: Catalog
) -> None:
    make, state = MADE[made]
    make(results)
    assert [(each.fragment, each.state) for each in list_sets(results)] == [(FRAGMENT, state)] or (
        isinstance(results, FourMethods) and state == "changed"  # where the store tells no sizes, it has to be hashed
    )
    told = {name for name, count in verify(results).states.items() if count}
    assert told == {state}
    outcomes = []
    replay(results, catalog, on_progress=lambda outcome, *_: outcomes.append(outcome))
    if isinstance(results, FourMethods) and made == "a log of another size":
        return
    assert [each.set_state for each in outcomes] == [state]
    taken = state in ("published", "failed", "bare") or (made == "a plot that was never made")
    assert outcomes[0].state == ("ingested" if taken else state)
    assert [row.state for row in catalog.executions()] == ([state] if taken else [])


@pytest.mark.once
@pytest.mark.parametrize("made", [made for made, (_, state) in MADE.items() if state not in ("published", "bare")])
def test_a_complete_publications_rows_stay_whatever_its_folder_comes_to(
    results: ArtifactStore, made: str, catalog: Catalog
) -> None:
    published(results)
    ingest(results, FRAGMENT, catalog)
    rows = rows_of(catalog)
    if "no record" in made:
        holder: Any = getattr(results, "inner", results)
        for key in list(results.iter_keys(FRAGMENT)):
            holder.delete(key)
    MADE[made][0](results)
    # Of a set whose record the catalog knows a replay looks at nothing else; `verify` does.
    assert replay(results, catalog).ok == (MADE[made][1] == "changed")
    assert rows_of(catalog) == rows


def test_a_damaged_artifact_of_the_same_size_is_found_by_its_time(tmp_path: Path, catalog: Catalog) -> None:
    results = LocalArtifactStore(tmp_path)
    published(results)
    assert look_at_set(results, FRAGMENT).state == "published"
    path = tmp_path / FRAGMENT / "data" / "tas.nc"
    time.sleep(0.02)
    path.write_bytes(path.read_bytes()[::-1])
    assert look_at_set(results, FRAGMENT).state == "changed"
    os.utime(path, (NOON.timestamp(), NOON.timestamp()))  # what it says of itself, and not what the kernel says
    assert look_at_set(results, FRAGMENT).state == "changed"
    assert replay(results, catalog).counts["changed"] == 1


def test_nothing_that_is_older_than_its_record_is_hashed() -> None:
    inner = InMemoryArtifactStore()
    published(inner)
    watched = RecordingStore(inner)
    assert look_at_set(watched, FRAGMENT, bundles=False).state == "published"
    assert {call.key for call in watched.calls if call.verb in ("read_bytes", "open_reader")} == {
        f"{FRAGMENT}/{RECORD_NAME}"
    }


def test_a_writer_that_passes_meanwhile_is_no_damage() -> None:
    """Between the record and the bundles that a reader reads, somebody publishes the set anew."""
    results = InMemoryArtifactStore()
    published(results)

    class Passing:
        def __init__(self) -> None:
            self.passed = False

        def __getattr__(self, name: str) -> Any:
            return getattr(results, name)

        def exists(self, key: str, /) -> bool:
            return results.exists(key)

        def write_bytes(self, key: str, data: bytes, /) -> None:
            results.write_bytes(key, data)

        def iter_keys(self, prefix: str = "", /) -> Any:
            return results.iter_keys(prefix)

        def read_bytes(self, key: str, /) -> bytes:
            if key.endswith("diagnostic.json") and not self.passed:
                self.passed = True
                published(results, diagnostic=metric_bundle({"global": {"bias": 7.25}}))
            return results.read_bytes(key)

    passing = Passing()
    look = look_at_set(passing, FRAGMENT)
    record = read_record(scoped(results, FRAGMENT))
    assert passing.passed
    assert (look.state, look.record) == ("published", record)
    assert b"7.25" in look.bundles["metric"]


def test_a_look_has_all_that_it_was_decided_from() -> None:
    results = InMemoryArtifactStore()
    record, folder = published(results), scoped(results, FRAGMENT)
    look, every = look_at_set(results, FRAGMENT), look_at_set(results, FRAGMENT, bundles=False, every_digest=True)
    known = {each.key: (each.size, each.sha256) for each in record.artifacts}
    assert (look.fragment, look.location, look.record, look.named, look.error) == (
        FRAGMENT,
        FRAGMENT,
        record,
        None,
        None,
    )
    assert look.record_digest == sha256_of(folder.read_bytes(RECORD_NAME))
    assert look.stamp == stamp_of(results.info(f"{FRAGMENT}/{RECORD_NAME}"))
    assert set(look.listing) == set(folder.iter_keys())
    assert look.size == sum(size for size, _ in known.values())
    assert (dict(every.digests), every.bundles) == (known, {})
    assert look.digests == {each.key: known[each.key] for each in record.artifacts if each.role in look.bundles}


def test_a_look_at_a_set_without_a_record_has_what_its_bundles_name() -> None:
    results = InMemoryArtifactStore()
    files = small_run()
    put(results, files, FRAGMENT)
    look, short = look_at_set(results, FRAGMENT), look_at_set(results, FRAGMENT, bundles=False)
    assert (look.state, look.fragment, look.location) == ("bare", FRAGMENT, FRAGMENT)
    assert (look.record, look.record_digest, look.error) == (None, None, None)
    names = {"metric": "diagnostic.json", "output": "output.json", "series": "series.json"}
    assert look.bundles == {role: files[name] for role, name in names.items()}
    assert short.bundles == {"output": files["output.json"]}
    assert look.named is not None
    assert set(look.named.keys) == files.keys() - {"climate_data/working.nc"}
    assert look.size == sum(len(files[key]) for key in look.named.keys)


def test_a_record_that_was_not_changed_since_its_listing_is_read_once() -> None:
    inner = InMemoryArtifactStore()
    published(inner)
    watched, key = RecordingStore(inner), f"{FRAGMENT}/{RECORD_NAME}"
    stamp = stamp_of(inner.info(key))
    assert look_at_set(watched, FRAGMENT, stamp=stamp, bundles=False).stamp == stamp
    assert [call.verb for call in watched.calls if call.key == key] == ["open_reader"]


def test_a_record_that_differs_from_its_listing_is_looked_at_again() -> None:
    inner = InMemoryArtifactStore()
    record = published(inner)
    watched, key = RecordingStore(inner), f"{FRAGMENT}/{RECORD_NAME}"
    now = stamp_of(inner.info(key))
    assert now is not None
    before = attrs.evolve(now, version="another")
    assert look_at_set(watched, FRAGMENT, stamp=before, bundles=False).state == "published"
    assert [call.verb for call in watched.calls if call.key == key] == ["open_reader"] * 2
    passing = FaultyStore(inner, Fault(verbs={"open_reader"}, keys={key}, nth={2}, error=ArtifactNotFoundError))
    look = look_at_set(passing, FRAGMENT, stamp=before, bundles=False, every_digest=True)
    assert (look.state, look.stamp, look.fragment, look.location) == ("published", now, FRAGMENT, FRAGMENT)
    assert look.digests.keys() == {each.key for each in record.artifacts}


@pytest.mark.parametrize(
    ("data", "state", "error"),
    [
        (b"{", "unreadable", RecordError),
        (b'{"record_version": 99}', "newer-schema", RecordVersionError),
        (encode_record(attrs.evolve(RECORD, state="publishing")), "publishing", IncompleteSetError),
        (encode_record(attrs.evolve(RECORD, state=None, status=None)), "unreadable", RecordError),
    ],
    ids=["torn", "newer", "open", "of a run"],
)
def test_beside_a_record_that_vouches_for_nothing_nothing_is_looked_at(data: bytes, state: str, error: Any) -> None:
    inner = InMemoryArtifactStore()
    published(inner)
    put(inner, {RECORD_NAME: data}, FRAGMENT)
    watched = RecordingStore(inner)
    look = look_at_set(watched, FRAGMENT)
    assert (look.state, type(look.error), look.record_digest) == (state, error, sha256_of(data))
    assert FRAGMENT in str(look.error)
    assert (look.record is None) is (state != "publishing" and b"fragment" not in data)
    assert {call.key for call in watched.calls} == {f"{FRAGMENT}/{RECORD_NAME}"}


def test_a_look_finds_a_retraction() -> None:
    results = InMemoryArtifactStore()
    published(results)
    word = retract(results, FRAGMENT, reason="wrong sign")
    assert look_at_set(results, FRAGMENT, bundles=False).retraction == word


def test_a_store_that_is_a_sets_folder_has_the_records_fragment() -> None:
    results = InMemoryArtifactStore()
    published(results)
    look = look_at_set(scoped(results, FRAGMENT), "")
    assert (look.state, look.fragment, look.location) == ("published", FRAGMENT, "")


@pytest.mark.parametrize(
    ("verb", "name"), [("iter_info", ""), ("open_reader", RECORD_NAME), ("read_bytes", "diagnostic.json")]
)
def test_a_store_that_does_not_answer_leaves_a_set_unreadable_for_its_reason(verb: str, name: str) -> None:
    inner = InMemoryArtifactStore()
    published(inner)
    away, key = StoreUnavailableError("away"), f"{FRAGMENT}/{name}".rstrip("/")
    look = look_at_set(FaultyStore(inner, Fault(verbs={verb}, keys={key}, error=lambda _: away)), FRAGMENT)
    assert (look.state, look.error, look.fragment, look.location) == ("unreadable", away, FRAGMENT, FRAGMENT)


def test_bundles_that_are_handed_on_have_the_records_digests(results: ArtifactStore) -> None:
    record = published(results)
    look = look_at_set(results, FRAGMENT)
    recorded = {each.role: each.sha256 for each in record.artifacts}
    assert {role: sha256_of(data) for role, data in look.bundles.items()} == {
        role: recorded[role] for role in ("metric", "output", "series")
    }


def test_a_folder_without_a_set_is_none(results: ArtifactStore) -> None:
    put(results, {"a.txt": b""}, FRAGMENT)
    with pytest.raises(ExecutionNotFoundError):
        look_at_set(results, FRAGMENT)


def test_an_open_set_says_who_opened_it_and_when(results: ArtifactStore, catalog: Catalog) -> None:
    rewritten(state="publishing", status=None, opened_at=NOON, opened_by="host:12")(results)
    with pytest.raises(IncompleteSetError, match=r"host:12 since 2025-06-01 12:00:00 UTC"):
        ingest(results, FRAGMENT, catalog)


# -- listings ----------------------------------------------------------------------------------------------------------


def test_a_listing_tells_time_size_and_origin(results: ArtifactStore) -> None:
    record = published(results)
    put(results, small_run(), "bare/x/y/1")
    bare, ours = sorted(list_sets(results), key=lambda each: each.fragment)
    assert (ours.time, ours.artifacts) == (NOON, 7)
    assert ours.size == sum(each.size for each in record.artifacts)
    assert ours.origin == record.producer
    assert (bare.state, bare.time, bare.origin, bare.artifacts) == ("bare", None, None, 7)
    assert [each.fragment for each in list_sets(results, "bare")] == ["bare/x/y/1"]


def test_a_path_is_as_good_as_a_store(tmp_path: Path) -> None:
    published(LocalArtifactStore(tmp_path))
    assert [each.state for each in list_sets(tmp_path)] == ["published"]
    assert verify(str(tmp_path)).ok
    with Catalog("sqlite://") as catalog:
        assert replay(str(tmp_path), catalog).counts["ingested"] == 1
        assert ingest(tmp_path, FRAGMENT, catalog).scalars == 3
    wrong: Any = 3
    for call in (lambda: list(list_sets(wrong)), lambda: verify(wrong), lambda: replay(wrong, catalog)):
        with pytest.raises(TypeError, match="a store, a path or a URL"):
            call()


# -- from far away -----------------------------------------------------------------------------------------------------


BUNDLES = ("diagnostic.json", "output.json", "series.json")


def _is_bundle(verb: str, key: str) -> bool:
    return verb == "read_bytes" and key.endswith(BUNDLES)


def _at_once(results: ArtifactStore) -> Distant:
    """Return a store on a server that answers once it is asked for the listing and the three bundles."""
    return Distant(results, lambda verb, key: verb.startswith("iter_") or _is_bundle(verb, key), 4)


@pytest.fixture
def slow() -> Iterator[None]:
    """Each look at the clock takes 10 ms."""
    clock = itertools.count()
    with system.using(attrs.evolve(system.current(), monotonic=lambda: next(clock) / 100)):
        yield


def test_the_listing_and_the_bundles_of_a_distant_set_are_asked_for_at_once(slow: None) -> None:
    results = InMemoryArtifactStore()
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    near = look_at_set(results, FRAGMENT)
    far = look_at_set(_at_once(results), FRAGMENT)
    assert (far.state, far.bundles, far.digests) == ("published", near.bundles, near.digests)
    assert far.record == near.record


def test_the_bundles_of_a_distant_bare_set_are_asked_for_at_once(slow: None) -> None:
    results = put(InMemoryArtifactStore(), small_run(), FRAGMENT)
    look = look_at_set(Distant(results, _is_bundle, 3), FRAGMENT)
    assert (look.state, set(look.bundles)) == ("bare", {"metric", "output", "series"})


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_that_a_distant_store_lacks_or_cannot_read_is_told_as_of_a_near_one(slow: None, name: str) -> None:
    results = InMemoryArtifactStore()
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    key = f"{FRAGMENT}/{name}"
    refusing = FaultyStore(results, Fault(verbs={"read_bytes", "open_reader"}, keys={key}, error=StoreError))
    far = look_at_set(_at_once(refusing), FRAGMENT)
    assert (far.state, far.judgement.unread) == ("unreadable", (name,))
    results.delete(key)
    far, near = look_at_set(_at_once(results), FRAGMENT), look_at_set(results, FRAGMENT)
    assert (far.state, far.judgement.lacking, far.digests) == ("changed", (name,), near.digests)
