"""What must not grow with the store: memory, and what is asked of the store when nothing has changed."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from tests.children import start_python
from tests.executions.runs import ran
from tests.sets.examples import SUCCESS, FourMethods, encode, nonzero, promote, put, small_run

from emdstore.catalog import Catalog
from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactNotFoundError
from emdstore.executions.workspace import Workspace
from emdstore.ingestion import replay_report as ingest
from emdstore.ingestion.binding import rebind
from emdstore.ingestion.replay import replay
from emdstore.keys import in_folder
from emdstore.sets import finding as sets, verify as verifying
from emdstore.sets.finding import SetFolder, find_sets
from emdstore.sets.record import ExecutionRecord, encode_record
from emdstore.sets.release import ALIASES, RELEASES
from emdstore.sets.verify import verify
from emdstore.stores import ArtifactInfo, ArtifactStore, InMemoryArtifactStore, LocalArtifactStore
from emdstore.stores.identity import IDENTITY_KEY, is_own
from emdstore.testing import RecordingStore
from emdstore.transfers.plan import plan_steps

FEW, MANY = 2_000, 8_000
MUCH = 300_000
"""How many bytes four times as many sets may take more, at most: a list of them would take several times as much."""


@attrs.frozen
class Archive:
    """A store of very many small published sets that holds none of them: it makes up what it tells, always the same."""

    sets: int
    has_record_above: bool = False
    record: bytes = encode_record(ExecutionRecord.at("p/d/g/0", status="failed"))

    def fragments(self) -> Iterator[str]:
        return (f"provider/diagnostic/{n // 100:04}/{n:06}" for n in range(self.sets))

    def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
        if is_own(prefix):  # no releases
            return
        for fragment in self.fragments() if not prefix else [prefix]:
            for name in ("diagnostic.json", RECORD_NAME, "out.log", "plots/map.png"):
                yield ArtifactInfo(f"{fragment}/{name}", len(self.record), 1.0, "v")

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return (info.key for info in self.iter_info(prefix))

    def info(self, key: str, /) -> ArtifactInfo:
        return ArtifactInfo(key, len(self.record), 1.0, "v")

    def exists(self, key: str, /) -> bool:
        return self.has_record_above and key == f"provider/{RECORD_NAME}"

    def read_bytes(self, key: str, /) -> bytes:
        if key.endswith(RECORD_NAME):
            return self.record
        raise ArtifactNotFoundError(key, key=key)

    def write_bytes(self, key: str, data: bytes, /) -> None:
        raise NotImplementedError


def peak_of(call: Callable[[], object]) -> int:
    """Return how many bytes Python allocated at once, at most."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assert_flat(call: Callable[[int], object]) -> None:
    """Make sure that a call takes no more memory for many than for few."""
    call(10)  # what is made once is no part of it
    few = peak_of(lambda: call(FEW))
    many = peak_of(lambda: call(MANY))
    assert many - few < MUCH, (few, many)


def count(things: Iterator[object]) -> int:
    return sum(1 for _ in things)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_sets_are_found_in_bounded_memory() -> None:
    assert count(find_sets(Archive(MANY))) == MANY
    assert_flat(lambda n: count(find_sets(Archive(n))))


def test_plans_are_made_in_bounded_memory() -> None:
    assert_flat(lambda n: count(plan_steps(Archive(n), Archive(n // 2))))


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_real_stores_list_and_plan_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    stores: dict[int, ArtifactStore] = {}
    for folders in (22, 66):  # a plan reads 1,000 keys of the source ahead: both stores have more
        store = LocalArtifactStore(tmp_path / str(folders))
        for n in range(folders):
            (store.root / f"{n:03}").mkdir(parents=True)
            for m in range(50):
                (store.root / f"{n:03}" / f"{m:04}").touch()
        stores[folders] = (
            store if kind == "local" else put(InMemoryArtifactStore(), dict.fromkeys(store.iter_keys(), b""))
        )
    for call in (lambda each: count(each.iter_keys()), lambda each: count(plan_steps(each, each))):
        assert [call(stores[folders]) for folders in (22, 66)] == [1_100, 3_300]
        # The least of some: other threads of this process, such as the test runner's, allocate when they like.
        few, many = (min(peak_of(partial(call, stores[folders])) for _ in range(3)) for folders in (22, 66))
        assert many - few < 60_000, (few, many)


def test_a_replay_of_what_the_catalog_has_takes_one_listing_and_bounded_memory(tmp_path: Path) -> None:
    catalogs = {n: Catalog(f"sqlite:///{tmp_path / str(n)}.db") for n in (10, FEW, MANY)}
    for n, catalog in catalogs.items():
        enter_all(catalog, Archive(n))
    assert_flat(lambda n: replay(Archive(n), catalogs[n]))
    store, catalog = RecordingStore(Archive(MANY)), catalogs[MANY]
    report = replay(store, catalog)
    assert (report.counts["unchanged"], report.outcomes) == (MANY, ())
    verbs = Counter(call.verb for call in store.calls if call.key not in (RELEASES, ALIASES))  # for releases
    assert verbs.keys() <= {"iter_info", "exists", "read_bytes"}
    assert (verbs["iter_info"], verbs["exists"] < 10) == (1, True)


def enter_all(catalog: Catalog, archive: Archive) -> None:
    """Have the catalog hold every set of an archive, without reading them: row after row like the first one's."""
    replay(Archive(1), catalog)
    first, *others = archive.fragments()
    path = catalog.url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(execution)") if row[1] not in ("id", "fragment")]
        copied = ", ".join(names)
        database.executemany(
            f"INSERT INTO execution (id, fragment, {copied}) SELECT ?, ?, {copied} FROM execution WHERE fragment = ?",
            ((number, fragment, first) for number, fragment in enumerate(others, 1)),
        )
    database.close()


def test_reports_keep_so_many_failures_and_count_all(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "KEPT", 50)
    monkeypatch.setattr(verifying, "KEPT", 50)
    broken = Archive(70, record=b"{")
    report = replay(broken, catalog)
    assert nonzero(report.counts) == {"unreadable": 70}
    assert (report.sets, len(report.outcomes), len(report.failures), report.ok) == (70, 50, 50, False)
    checked = verify(broken)
    assert (checked.sets, checked.counts["unreadable"], len(checked.problems), checked.ok) == (70, 70, 50, False)


def test_progress_has_no_total_before_the_listing_has_come_to_its_end() -> None:
    totals: list[int | None] = []
    verify(Archive(1_500), on_progress=lambda each, done, total: totals.append(total))
    assert totals[0] is None
    assert totals[-1] == len(totals) == 1_500


# -- finding sets ------------------------------------------------------------------------------------------------------

_names = st.sampled_from(["a", "a-b", "a.", "b", "é", "execution.json", "diagnostic.json", "z"])
_files = st.sampled_from([RECORD_NAME, "diagnostic.json", "out.log", "data.nc", "a", "z"])
_keys = st.builds(lambda folders, name: "/".join([*folders, name]), st.lists(_names, max_size=4), _files)


def above(folder: str) -> Iterator[str]:
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def sets_by_definition(keys: set[str]) -> list[tuple[str, bool]]:
    """Say which folders are sets, looking at all keys at once."""
    records = {key.rpartition("/")[0] for key in keys if key.rpartition("/")[2] == RECORD_NAME}
    bundles = {key.rpartition("/")[0] for key in keys if key.rpartition("/")[2] == "diagnostic.json"} - records
    published = [(folder, True) for folder in records if not records.intersection(above(folder))]
    bare = [
        (folder, False)
        for folder in bundles
        if not (records | bundles).intersection(above(folder))
        and not any(folder == "" or in_folder(record, folder) for record in records)
    ]
    return sorted(published + bare, key=lambda each: each[0] + "/" if each[0] else "")


@settings(max_examples=200)
@given(keys=st.sets(_keys, max_size=12), waiting=st.integers(0, 3), told=st.booleans())
def test_sets_are_those_of_the_definition_however_few_may_wait(keys: set[str], waiting: int, told: bool) -> None:
    store: ArtifactStore = put(InMemoryArtifactStore(), dict.fromkeys(keys, b""))
    if not told:
        store = FourMethods(store)
    before, sets._MOST_WAITING = sets._MOST_WAITING, waiting
    try:
        found = [(each.location, each.published) for each in find_sets(store)]
    finally:
        sets._MOST_WAITING = before
    assert found == sets_by_definition(keys)


def test_a_folder_that_may_yet_have_a_record_is_asked_about_once() -> None:
    store = RecordingStore(Archive(MANY))
    found = list(find_sets(store))
    assert [each.location for each in found] == list(Archive(MANY).fragments())
    asked = [call.key for call in store.calls if call.verb == "exists"]
    assert len(asked) == len(set(asked))
    # The root, the provider, the diagnostic, and one folder for each thousand sets that waited: twice each.
    assert len(asked) <= 2 * (3 + MANY // 1000)


def test_a_record_above_makes_one_set_of_very_many_below() -> None:
    def find(count: int) -> list[str]:
        return [each.location for each in find_sets(Archive(count, has_record_above=True))]

    assert find(MANY) == ["provider"]
    assert_flat(find)
    below = [f"a/{n:05}/{RECORD_NAME}" for n in range(1_500)]
    (whole,) = find_sets(put(InMemoryArtifactStore(), dict.fromkeys([*below, RECORD_NAME], b"")))
    assert whole.location == ""


def test_the_stamp_of_a_bare_set_is_that_of_all_its_usual_files() -> None:
    store = put(InMemoryArtifactStore(), {"a/diagnostic.json": b"1", "a/out.log": b"22", "a/plot.png": b"333"})
    (found,) = find_sets(store)
    assert isinstance(found, SetFolder)
    assert found.stamp is not None
    assert found.stamp.size == 3
    store.write_bytes("a/plot.png", b"other")
    assert list(find_sets(store)) == [found]
    store.write_bytes("a/out.log", b"33")
    assert list(find_sets(store)) != [found]


# -- what is read again ------------------------------------------------------------------------------------------------


def reads(store: RecordingStore) -> list[str]:
    return sorted({call.key for call in store.calls if call.verb in ("read_bytes", "open_reader")})


def test_what_a_commit_has_put_into_the_catalog_is_not_read_by_a_replay(workspace: Workspace) -> None:
    ran(workspace)
    assert workspace.commit_pending_executions().ok
    store = RecordingStore(workspace.results)
    assert replay(store, workspace.catalog).counts["unchanged"] == 1
    asked = [call.verb for call in store.calls if call.verb != "local_path" and call.key not in (RELEASES, ALIASES)]
    assert asked == ["read_bytes", "iter_found"]
    assert reads(store) == [IDENTITY_KEY]


def test_a_tree_with_other_times_costs_one_read_of_each_record_once(catalog: Catalog, tmp_path: Path) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    for n in range(3):
        promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results, f"p/d/g/{n}")
    put(results, small_run(), "p/bare/g/1")
    replay(results, catalog)
    shutil.copytree(results.root, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (1, 1))
    rebind(catalog, LocalArtifactStore(tmp_path / "copy"))
    copy = RecordingStore(LocalArtifactStore(tmp_path / "copy"))
    report = replay(copy, catalog)
    assert report.counts["unchanged"] == 4
    read = [key for key in reads(copy) if key.startswith("p/")]
    assert read == [f"p/d/g/{n}/{RECORD_NAME}" for n in range(3)]
    again = RecordingStore(LocalArtifactStore(tmp_path / "copy"))
    assert replay(again, catalog).counts["unchanged"] == 4
    assert reads(again) == [IDENTITY_KEY]


CHILD = """
import sys
from emdstore import Catalog, LocalArtifactStore, replay
replay(LocalArtifactStore(sys.argv[1]), Catalog(sys.argv[2]), on_progress=lambda *told: print(told[1], flush=True))
"""


def test_a_replay_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results, "p/d/g/000")
    for n in range(1, 24):
        shutil.copytree(results.local_path("p/d/g/000"), tmp_path / f"results/p/d/g/{n:03}")
    for n in range(12):
        put(results, {"diagnostic.json": small_run()["diagnostic.json"], "out.log": encode(n)}, f"p/bare/g/{n:03}")
    with start_python(CHILD, results.root, tmp_path / "catalog.db") as child:
        assert child.stdout is not None
        last = [int(line) for line in itertools.islice(child.stdout, 18)][-1]
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert last == 18
    with Catalog(tmp_path / "catalog.db") as catalog:
        there = {row.fragment for row in catalog.executions()}
        assert 18 <= len(there) < 36
        store = RecordingStore(results)
        report = replay(store, catalog)
        assert (report.counts["unchanged"], report.counts["ingested"]) == (len(there), 36 - len(there))
        assert {key.rpartition("/")[0] for key in reads(store)}.isdisjoint(there)
        assert catalog.executions().count() == 36
