"""What the benchmarks must never do: fake a peer, measure a server that is not up, or pass over differing bytes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import main
from benchmarks.contenders import Contender, environment, peers
from benchmarks.disks import Disks
from benchmarks.goals import Goal
from benchmarks.measure import Run, RunFailedError, Summary, run
from benchmarks.over_clouds import Bucket
from benchmarks.places import DifferingBytesError, Folder, Objects, check
from benchmarks.report import goals_table
from benchmarks.servers import MissingServerError, build_server, run_server, wait_until_listening
from benchmarks.suites import Bench, Row

from benchmarks import contenders, goals, limits


def test_a_missing_peer_is_reported_and_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cache = tmp_path / "cache"
    (cache / "peers").parent.mkdir()
    (cache / "peers").write_text("in the way of an environment, as when the registry cannot be reached")
    said: list[str] = []
    assert peers(cache, said.append) == []
    assert any("rsync -a" in line and "skipped" in line for line in said)
    assert any("s5cmd" in line and "skipped" in line for line in said)


def test_a_slow_server_is_waited_for() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    late = f"import socket, time; time.sleep(0.5); s = socket.create_server(('127.0.0.1', {port})); time.sleep(30)"
    process = subprocess.Popen([sys.executable, "-c", late])
    try:
        started = time.monotonic()
        wait_until_listening(process, port)
        assert time.monotonic() - started >= 0.5
    finally:
        process.kill()
        process.wait()


def test_a_server_that_ends_is_told() -> None:
    with (
        pytest.raises(MissingServerError, match="exit code 3"),
        run_server([sys.executable, "-c", "raise SystemExit(3)"]),
    ):
        pass


def test_a_contender_that_fails_is_told_with_what_it_said() -> None:
    with pytest.raises(RunFailedError, match="ended with 7: no such bucket"):
        run([sys.executable, "-c", "print('no such bucket'); raise SystemExit(7)"], {})


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("google", "azure")])
def test_differing_bytes_in_a_cloud_are_found(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(f"{name}_server")
    place: Any = Bucket(server, server.make_bucket(), "copied")
    put = server.hooks(place.bucket, place.prefix)["raw_put"]
    put("a/x", b"12345")
    check(place, {"a/x": (5, sha256(b"12345").hexdigest())})
    put("a/x", b"12344")
    with pytest.raises(DifferingBytesError, match="1 of 1 files differ"):
        check(place, {"a/x": (5, sha256(b"12345").hexdigest())})


@pytest.mark.parametrize("harm", ["flipped", "missing", "extra", "renamed"])
def test_differing_bytes_are_found(tmp_path: Path, harm: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"")
    expected = Folder(tmp_path).manifest()
    check(Folder(tmp_path), expected)
    if harm == "flipped":
        (tmp_path / "a/x").write_bytes(b"12344")
    elif harm == "missing":
        (tmp_path / "y").unlink()
    elif harm == "extra":
        (tmp_path / "z").write_bytes(b"")
    else:
        (tmp_path / "y").rename(tmp_path / "Y")
    with pytest.raises(DifferingBytesError, match="files differ"):
        check(Folder(tmp_path), expected)


def test_objects_are_read_back_from_the_server(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    folder = Folder(tmp_path / "files")
    (folder.path / "a b").mkdir(parents=True)
    (folder.path / "a b" / "ä+%20.bin").write_bytes(b"12345")
    with run_server([str(build_server(cache))]) as endpoint:
        place = Objects(endpoint, "bucket", "some/prefix")
        place.make_bucket()
        place.load(folder, list(folder.manifest()))
        check(place, folder.manifest())
        place.clear()
        assert place.manifest() == {}


def _liar(source: object, dest: object) -> list[str]:
    return [sys.executable, "-c", "import os, sys; os.makedirs(sys.argv[1])", dest.url]  # type: ignore[attr-defined]


def test_a_copy_that_differs_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.__main__.peers", lambda *_: [Contender("liar", _liar)])
    place = ["--cache", str(tmp_path / "cache"), "--work", str(tmp_path), "--on-disk"]
    code = main(["--workload", "W1", "--route", "local-local", "--quick", "--repeats", "1", *place])
    assert code == 1
    assert "does not hold what was copied there: 500 of 500 files differ" in capsys.readouterr().err


def test_a_peer_that_cannot_do_it_is_reported_and_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    bench = Bench(tmp_path, Disks(tmp_path, in_memory=False), 1, True, [], said.append)
    programs = {"broken": "raise SystemExit(5)", "emdstore": "pass"}
    calls = {name: partial(run, [sys.executable, "-c", program], {}) for name, program in programs.items()}
    rows = bench.in_turn("W1", "local-local", calls, 1)
    assert [row.contender for row in rows] == ["emdstore"]
    assert any("skipped" in line and "broken" in line for line in said)
    with pytest.raises(RunFailedError, match="ended with 5"):  # a fault of ours is never passed over
        bench.in_turn("W1", "local-local", {"emdstore": calls["broken"]}, 1)


@pytest.mark.parametrize(
    ("ratios", "limit", "verdict"),
    [
        ([0.5, 0.7], None, "met"),
        ([0.5, 0.9], None, "unclear"),
        ([0.9, 1.2], None, "not met"),
        ([0.9, 1.0], 0.95, "at the limit"),
        ([0.9, 1.2], 0.95, "unclear"),
        ([0.9, 1.2], 0.5, "not met"),
        ([0.5, 0.7], 0.95, "met"),
    ],
)
def test_a_verdict_is_given_only_where_all_turns_agree(ratios: list[float], limit: float | None, verdict: str) -> None:
    assert Goal("W1", "local-local", "emdstore", "rsync -a", 0.8).judge(ratios, limit) == verdict


def test_a_command_is_judged_beside_a_bare_copy_that_has_to_start_too() -> None:
    assert [each.name for each in contenders.least()] == [goals.LIMIT, goals.STARTED_LIMIT]
    taken = {goals.EMDSTORE: 0.9, goals.RSYNC: 1.0, goals.LIMIT: 0.5, goals.STARTED_LIMIT: 0.85}
    taken[goals.EMDSTORE + goals.LIBRARY] = 0.7
    rows = [
        Row("W1", "local-local", name, Summary([Run(seconds, seconds, 1, {})], 1)) for name, seconds in taken.items()
    ]
    lines = [line.split("|")[3:9] for line in goals_table(rows).splitlines() if goals.RSYNC + " |" in line]
    verdicts = {cells[0].strip(): (cells[4].strip(), cells[5].strip()) for cells in lines}
    assert verdicts == {goals.EMDSTORE: ("0.85", "at the limit"), "emdstore (library)": ("0.50", "not met")}


def test_the_bare_copy_that_shows_the_limit_copies_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("a", 0), ("b/c", 5), ("b/d/e", 9 * 1024 * 1024), ("f/g", 70_000)):
        file = tmp_path / "from" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(size))
    source = Folder(tmp_path / "from")
    near, back = Folder(tmp_path / "near"), Folder(tmp_path / "back")
    with run_server([str(build_server(tmp_path))]) as endpoint:
        there, beside = Objects(endpoint, "bucket", "there"), Objects(endpoint, "bucket", "beside")
        there.make_bucket()
        for name, value in environment(endpoint, tmp_path).items():
            monkeypatch.setenv(name, value)
        for one, other in ((source, near), (source, there), (there, beside), (beside, back)):
            limits.copy(one.url, other.url)
            check(other, source.manifest())
        monkeypatch.setattr("obstore.copy", lambda *_: None)
        with pytest.raises(AssertionError):  # what the server says it copied is looked at
            limits.copy(there.url, Objects(endpoint, "bucket", "nowhere").url)
    again = Folder(tmp_path / "again")
    run([sys.executable, "-m", "benchmarks.bare", source.url, again.url], environment(None, tmp_path))
    check(again, source.manifest())
