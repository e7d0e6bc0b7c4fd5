"""`emdstore replay --watch`: a process that goes on until it is told to end, whatever happens to what it watches."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import attrs
import pytest
from tests.children import start_python
from tests.cli.conftest import environment, with_seconds_to_end
from tests.servers.s3 import free_ports
from tests.sets.examples import SUCCESS, promote, put, small_run

from emdstore import system
from emdstore.catalog import Catalog
from emdstore.cli.app import run
from emdstore.cli.watch import until_told
from emdstore.emds import RECORD_NAME
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore

FRAGMENTS = tuple(f"p/d/g/{n}" for n in range(5))
_PATIENCE = 60


class Watch:
    """A watching process; its lines are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def line(self) -> str:
        """Return the next line of output."""
        try:
            return self._lines.get(timeout=_PATIENCE)
        except Empty:
            raise AssertionError("no line came") from None

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the next round of which something holds."""
        while True:
            round_: dict[str, Any] = json.loads(self.line())
            if holds(round_):
                return round_

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; return the exit code and what was said on stderr."""
        self.send(number)
        assert self._process.stderr is not None
        errors = self._process.stderr.read()
        return self._process.wait(_PATIENCE), errors


@pytest.fixture
def results(tmp_path: Path) -> LocalArtifactStore:
    results = LocalArtifactStore(tmp_path / "results")
    publish(results, FRAGMENTS[0])
    return results


def publish(results: LocalArtifactStore, fragment: str) -> None:
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results, fragment)


Start = Callable[..., Watch]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the real command in a process of its own, which is killed at the end of the test if it still runs."""
    processes: list[subprocess.Popen[str]] = []

    def run(*options: object, store: object = "results", catalog: str = "catalog.db", seconds: str = "0.05") -> Watch:
        call = ["replay", str(store), "--catalog", catalog, "--watch", seconds, *map(str, options)]
        process = subprocess.Popen(
            [*with_seconds_to_end(_PATIENCE), *call],
            cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        return Watch(process)

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def ingested(count: int) -> Callable[[dict[str, Any]], bool]:
    return lambda round_: "counts" in round_ and round_["counts"]["ingested"] == count


def test_what_is_published_meanwhile_is_taken_in_and_sigterm_is_no_failure(
    start: Start, results: LocalArtifactStore, tmp_path: Path
) -> None:
    watch = start("--json")
    first = json.loads(watch.line())
    assert (first["counts"]["ingested"], first["ok"], first["interrupted"]) == (1, True, False)
    assert watch.until(ingested(0))["counts"]["unchanged"] == 1
    publish(results, FRAGMENTS[1])
    later = watch.until(ingested(1))
    assert [each["fragment"] for each in later["items"]] == [FRAGMENTS[1]]
    assert watch.end(signal.SIGTERM) == (0, "")
    with Catalog(tmp_path / "catalog.db") as catalog:
        assert [row.fragment for row in catalog.executions()] == list(FRAGMENTS[:2])


def test_people_get_a_line_a_round_and_each_failure_once(start: Start, results: LocalArtifactStore) -> None:
    results.write_bytes(f"{FRAGMENTS[1]}/{RECORD_NAME}", b"{")
    watch = start()
    lines = [watch.line() for _ in range(3)]
    assert [line.partition("  ")[2].partition(";")[0] for line in lines] == [
        "1 ingested, 0 unchanged, 1 unreadable",
        *["0 ingested, 1 unchanged, 1 unreadable"] * 2,
    ]
    code, errors = watch.end(signal.SIGINT)
    assert code == 130
    assert errors.count("is no execution record") == 1


def test_what_is_away_is_told_and_found_again(start: Start, results: LocalArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    watch = start("--json", catalog="db/catalog.db")
    watch.until(ingested(1))
    for number, (folder, said) in enumerate([("results", "does not exist"), ("db", "db/catalog.db")], 1):
        publish(results, FRAGMENTS[number])
        (tmp_path / folder).rename(tmp_path / "away")
        # What was read before the folder went may have been one round more.
        assert said in watch.until(lambda round_: "error" in round_)["error"]["message"]
        (tmp_path / "away").rename(tmp_path / folder)
        publish(results, FRAGMENTS[number + 2])
        assert watch.until(lambda round_, n=number: round_.get("counts", {}).get("unchanged") == 1 + 2 * n)["ok"]  # type: ignore[misc]
    for path in (tmp_path / "db").iterdir():
        path.unlink(missing_ok=True)
    assert watch.until(ingested(5))["ok"]  # a catalog that is deleted is made again
    assert watch.end(signal.SIGTERM)[0] == 0


CHILD = """
import logging, signal, sys
from emdstore import Catalog, LocalArtifactStore, replay
from emdstore.catalog.database import Database
from emdstore.cli.options import Output
from emdstore.cli.watch import watch

results, catalog, number, where = sys.argv[1:]
seen = 0

def told(_, done, total):
    global seen
    seen = done
    if done == 2 and where == "between two":
        signal.raise_signal(int(number))

def insert_rows(self, connection, table, rows):
    if seen >= 2 and where == "within one" and table.name == "scalar_value":
        signal.raise_signal(int(number))
    return insert(self, connection, table, rows)

insert, Database.insert_rows = Database.insert_rows, insert_rows

def replay_once():
    with Catalog(catalog) as database:
        return replay(LocalArtifactStore(results), database, on_progress=told)

logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # as commands do
sys.exit(watch(replay_once, 300, Output(as_json=True)))
"""


@pytest.mark.parametrize(
    ("number", "code", "where"), [(signal.SIGTERM, 0, "between two"), (signal.SIGINT, 130, "within one")]
)
def test_a_signal_in_the_middle_of_a_round_leaves_whole_executions(
    tmp_path: Path, number: signal.Signals, code: int, where: str
) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    for n in range(12):
        publish(results, f"p/d/g/{n:02}")
    with start_python(CHILD, results.root, tmp_path / "catalog.db", int(number), where) as child:
        out, errors = child.communicate(timeout=200)
    assert child.returncode == code, errors
    assert "Traceback" not in errors
    (line,) = out.splitlines()
    last = json.loads(line)
    assert (last["ok"], last["interrupted"]) == (False, True)
    with Catalog(tmp_path / "catalog.db") as catalog:
        rows = list(catalog.executions())
        assert 2 <= last["counts"]["ingested"] <= len(rows) < 12
        assert {(row.artifacts, row.outputs, row.scalars, row.status) for row in rows} == {(7, 3, 3, "uploaded")}
        assert catalog.scalars().count() == 3 * len(rows)


def test_a_server_that_does_not_answer_yet_is_waited_for(start: Start, results: LocalArtifactStore) -> None:
    (port,) = free_ports(1)
    watch = start(catalog=f"postgresql://me:secret@127.0.0.1:{port}/none")
    line = watch.line()
    assert "not replayed: " in line
    assert "trying again in 0.05 s" in line
    assert "secret" not in line
    assert watch.end(signal.SIGTERM)[0] == 0


def test_the_service_has_the_workspaces_places_reads_them_anew_and_begins_a_round_when_told(
    results: LocalArtifactStore, tmp_path: Path
) -> None:
    config = tmp_path / "emdstore.toml"
    places = 'scratch = "scratch"\nresults = "results"\ncatalog = "{}"\n'
    config.write_text(places.format("one.db"))
    process = subprocess.Popen(
        [*with_seconds_to_end(_PATIENCE), "watch", "--every", "1h", "--json"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    watch = Watch(process)
    try:
        first = json.loads(watch.line())
        assert (first["schema"], first["counts"]["ingested"]) == ("emdstore/watch/1", 1)
        publish(results, FRAGMENTS[1])
        watch.send(signal.SIGHUP)
        assert json.loads(watch.line())["counts"]["ingested"] == 1
        config.write_text("nonsense")
        watch.send(signal.SIGHUP)
        assert "emdstore.toml" in json.loads(watch.line())["error"]["message"]
        config.write_text(places.format("two.db"))
        watch.send(signal.SIGHUP)
        assert json.loads(watch.line())["counts"]["ingested"] == 2
        assert watch.end(signal.SIGTERM) == (0, "")
    finally:
        process.kill()
        process.communicate()
    with Catalog(tmp_path / "two.db") as catalog:
        last = catalog.replays.last()
        assert last is not None
        assert (last.sets, last.failed, last.prefix, last.whole) == (2, 0, "", True)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_number_of_seconds_that_makes_no_sense_is_a_wrong_call(
    results: LocalArtifactStore, tmp_path: Path, seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = tmp_path / "catalog.db"
    assert run(["replay", str(results.root), "--catalog", str(catalog), f"--watch={seconds}"]) == 2
    assert "--watch" in capsys.readouterr().err
    assert not catalog.exists()


def test_what_is_wrong_from_the_start_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "other.db").write_bytes(b"not a database at all, but long enough to look like one" * 30)
    for store, said in (("mistyped", "does not exist"), ("results", "not a database")):
        call = ["replay", str(tmp_path / store), "--catalog", str(tmp_path / "other.db"), "--watch", "1"]
        assert run(call) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_just_before_the_long_wait_is_heard_all_the_same(number: signal.Signals) -> None:
    here, left = system.current(), [1000]

    def sleep(seconds: float) -> None:
        """Sleep on a machine on which the signal came before the system's call began, which it does not interrupt."""
        left[0] -= 1
        assert left[0] > 0, "it would have slept for hours"
        if seconds > 10:
            left[0] = 1  # so long nobody hears anything
        elif left[0] == 990:
            signal.raise_signal(number)

    with until_told(reloads=True) as signals, system.using(attrs.evolve(here, sleep=sleep)):
        if number == signal.SIGHUP:
            signals.sleep(3600)
        else:
            with pytest.raises(KeyboardInterrupt):
                signals.sleep(3600)
    assert left[0] == 990
