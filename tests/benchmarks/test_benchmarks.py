"""What the benchmarks must never do: fake a peer, measure a server that is not up, or pass over differing bytes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.__main__ import main
from benchmarks.contenders import Contender, peers
from benchmarks.disks import Disks
from benchmarks.measure import RunFailedError, run
from benchmarks.places import DifferingBytesError, Folder, Objects, check
from benchmarks.servers import MissingServerError, build_server, run_server, wait_until_listening
from benchmarks.suites import Bench


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


@pytest.mark.slow
def test_a_peer_that_cannot_do_it_is_reported_and_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    broken = Contender("broken", lambda source, dest: [sys.executable, "-c", "raise SystemExit(5)"])
    bench = Bench(tmp_path, Disks.at(tmp_path, in_memory=False), 1, True, [broken], said.append)
    rows = bench.copy("W1", "local-local")
    assert "broken" not in {row.contender for row in rows}
    assert any("skipped" in line and "broken" in line for line in said)
    assert {"emdstore", "emdstore (library)"} <= {row.contender for row in rows}
