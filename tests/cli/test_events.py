"""`emdstore events` shows what happened, follows it, and passes it on to sinks, which may fail and get it again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.cli.conftest import COMMAND, Here, environment
from tests.sets.examples import FRAGMENT, SUCCESS, promote, put, small_run

from emdstore import InMemoryArtifactStore, LocalArtifactStore, begin_log, retract, sinks, unretract
from emdstore.errors import SinkError
from emdstore.sets.events import EVENTS, Event, announce, make_event
from emdstore.sinks import Outbox, open_sink


@pytest.fixture
def results(here: Here) -> LocalArtifactStore:
    """Return a store in whose log a retraction is told."""
    store = LocalArtifactStore(Path("results").absolute())
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), store, FRAGMENT)
    begin_log(store)
    retract(store, FRAGMENT, reason="wrong sign")
    return store


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any], list[int]]]:
    """A server on this machine: its URL, what was posted to it, and the statuses that it answers first."""
    posted: list[Any] = []
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = statuses.pop(0) if statuses else 204
            if status < 300:
                posted.append(body)
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any, **__: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/secret-hook", posted, statuses
        server.shutdown()
        thread.join()


def test_events_are_shown_to_people_and_to_programs(here: Here, results: LocalArtifactStore) -> None:
    line = here("events", "results").out
    assert f"retracted    {FRAGMENT}  (wrong sign)  by " in line
    (item,) = here("events", "results", "--since", "1h", "--json").json["items"]
    assert (item["kind"], item["name"], item["about"]) == ("retracted", FRAGMENT, "wrong sign")
    lines = [json.loads(each) for each in here("events", "results", "--json-lines").out.splitlines()]
    assert [each["event"] for each in lines] == ["item", "end"]
    assert lines[0]["item"] == item
    assert here("events", "results", "--since", "2999-01-01", "--json").json["items"] == []


def test_a_store_without_a_log_says_how_to_begin_one(here: Here) -> None:
    Path("plain").mkdir()
    assert "--begin" in here("events", "plain").err
    assert "--begin" not in here("events", "plain", "--begin").err


def test_a_log_is_switched_off_and_on(here: Here, results: LocalArtifactStore) -> None:
    assert "--begin" in here("events", "results", "--end").err
    unretract(results, FRAGMENT)
    here("events", "results", "--begin", "--end", code=2)
    assert "--begin" not in here("events", "results", "--begin").err
    retract(results, FRAGMENT, reason="wrong unit")
    told = here("events", "results", "--json").json["items"]
    assert [each["about"] for each in told] == ["wrong sign", "wrong unit"]


def test_a_cursor_goes_on_where_it_was_and_waits_for_the_sinks(here: Here, results: LocalArtifactStore) -> None:
    def told(*options: str, code: int = 0) -> list[str]:
        items = here("events", "results", "--cursor", "read.json", "--json", *options, code=code).json["items"]
        return [each["kind"] for each in items]

    assert told() == ["retracted"]
    assert told() == []
    unretract(results, FRAGMENT)
    assert told("--sink", "command=./nowhere", code=1) == ["unretracted"]
    assert told() == ["unretracted"]
    assert told() == []
    Path("read.json").write_text("{")
    assert "read.json" in here("events", "results", "--cursor", "read.json", code=2).err


def test_an_entry_that_cannot_be_read_is_no_success(here: Here, results: LocalArtifactStore) -> None:
    (key,) = results.iter_keys(EVENTS)
    results.write_bytes(key, b"{")
    assert "no entry of an event log" in here("events", "results", code=1).err
    assert here("events", "results", "--json", code=1).json["errors"][0]["name"] == key


def test_old_events_are_removed_by_days(here: Here, results: LocalArtifactStore) -> None:
    assert here("events", "results", "--trim", "1d").out.startswith("0 entries removed")
    assert here("events", "results", "--trim", "2999-01-01").out.strip() == "1 entries removed"
    assert list(results.iter_keys(EVENTS)) == []


def test_a_follower_shows_what_happens_meanwhile_and_sigterm_is_no_failure(results: LocalArtifactStore) -> None:
    follow = ["--follow", "--since", "1h", "--every", "0.05s", "--cursor", "read.json", "--json-lines"]
    command = [*COMMAND, "events", "results", *follow]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        unretract(results, FRAGMENT)
        second = process.stdout.readline()
        process.send_signal(signal.SIGTERM)  # comes as soon as it can after what was shown
        assert json.loads(process.stdout.read())["event"] == "end"
    assert [json.loads(each)["item"]["kind"] for each in (first, second)] == ["retracted", "unretracted"]
    assert process.returncode == 0
    retract(results, FRAGMENT, reason="meanwhile")
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        process.kill()
    assert json.loads(told)["item"]["about"] == "meanwhile"


def test_a_command_gets_events_as_lines_and_has_taken_them_if_it_succeeds(
    here: Here, results: LocalArtifactStore
) -> None:
    script = "import sys; open('got', 'a').write(sys.stdin.read())"
    here("events", "results", "--sink", f'command={sys.executable} -c "{script}"')
    assert json.loads(Path("got").read_text())["name"] == FRAGMENT
    said = here("events", "results", "--sink", f"command={sys.executable} -c 'raise SystemExit(\"no\")'", code=1).err
    assert "exit code 1: no" in said
    assert "nowhere" in here("events", "results", "--sink", "command=./nowhere", code=1).err


def test_a_webhook_gets_what_it_did_not_take_again_in_order(hook: tuple[str, list[Any], list[int]]) -> None:
    url, posted, statuses = hook
    box = Outbox(open_sink(f"webhook={url}"))
    for number, status in enumerate((500, 302, None)):
        statuses += [status] if status else []
        event = make_event("published", str(number))
        if status:
            with pytest.raises(SinkError, match=f"status {status}") as caught:
                box.deliver([event])
            assert "secret-hook" not in str(caught.value)
        else:
            box.deliver([event])
    assert [each["name"] for body in posted for each in body["events"]] == ["0", "1", "2"]
    box.deliver([])
    assert len(posted) == 1
    many = [make_event("published", str(number)) for number in range(150)]
    box.deliver(many)
    assert [len(body["events"]) for body in posted[1:]] == [100, 50]


def test_a_metrics_file_is_what_prometheus_reads(tmp_path: Path) -> None:
    file = tmp_path / "emdstore.prom"
    sink = open_sink(f"metrics={file}")
    events = [make_event(kind, "a") for kind in ("published", "published", "removed")]
    for each in (events[:1], events[1:]):
        sink(each)
    found = {family.name: family for family in text_string_to_metric_families(file.read_text())}
    counts = {each.labels["kind"]: each.value for each in found["emdstore_events"].samples}
    assert (counts["published"], counts["removed"], counts["retracted"]) == (2, 1, 0)
    last = {each.labels["kind"]: each.value for each in found["emdstore_last_event_timestamp_seconds"].samples}
    assert last == {"published": events[1].at.timestamp(), "removed": events[2].at.timestamp()}
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_a_sink_of_another_package_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("mine", "tests.cli.test_events:mine", sinks.GROUP)
    monkeypatch.setattr(sinks, "entry_points", lambda **_: EntryPoints([entry]))
    event = make_event("published", "a")
    open_sink("mine=somewhere")([event])
    assert [("somewhere", event)] == MINE
    with pytest.raises(SinkError, match="there are command, metrics, mine, webhook"):
        open_sink("yours=somewhere")


MINE: list[tuple[str, Event]] = []


def mine(target: str) -> sinks.Sink:
    return lambda events: MINE.extend((target, each) for each in events)


@pytest.mark.parametrize("sink", ["nowhere=a", "webhook=a", "metrics=a.txt", "command="])
def test_a_sink_that_makes_no_sense_is_a_wrong_call(here: Here, results: LocalArtifactStore, sink: str) -> None:
    assert here("events", "results", "--sink", sink, code=2).err


def test_a_sink_that_raises_anything_keeps_no_other_from_its_events(
    here: Here, results: LocalArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> sinks.Sink:
        return lambda events: {}[0]

    monkeypatch.setattr(sinks, "_OURS", {**sinks._OURS, "broken": broken})
    announce(results, [make_event("published", "b")])
    script = "import sys; open('got', 'a').write(sys.stdin.read())"
    here("events", "results", "--sink", "broken=", "--sink", f'command={sys.executable} -c "{script}"', code=1)
    assert len(Path("got").read_text().splitlines()) == 2
