"""Many small files are copied by forks of this process, where it may be forked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.children import SEE_WORKERS, answer_of, start_python
from tests.transfers.stores import contents, fill

from emdstore.keys import STAGING_PREFIX
from emdstore.sets.transfer import transfer
from emdstore.stores.local import LocalArtifactStore

ARTIFACTS = {f"run{number % 9}/{number:04}": os.urandom(500) for number in range(1500)}
ARTIFACTS |= {f"run{number}/large.nc": os.urandom(3_000_000) for number in range(3)}

CHILD = (
    SEE_WORKERS
    + """
from pathlib import Path
from emdstore.stores.local import LocalArtifactStore
from emdstore.sets.transfer import transfer
from emdstore.transfers import TransferInterrupted

source, dest, then = LocalArtifactStore(Path(sys.argv[1])), LocalArtifactStore(Path(sys.argv[2])), sys.argv[3]
interrupted, most = False, 0

def told(progress):
    global most
    most = max(most, progress.bytes_done)
    see_workers(then)

if then != "beside a thread":
    rename_slowly(0.002)
if then == "beside a thread":
    threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
try:
    report = transfer(source, dest, on_progress=told, max_workers=2)
except TransferInterrupted as error:
    report, interrupted = error.report, True
left = [child.pid for child in multiprocessing.active_children()]
print(json.dumps({"report": report.as_dict(), "workers": len(workers), "left": left, "bytes": most,
                  "interrupted": interrupted}))
"""
)


@pytest.fixture
def stores(tmp_path: Path) -> tuple[LocalArtifactStore, LocalArtifactStore]:
    return fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS), LocalArtifactStore(tmp_path / "dest")


def copied_in_child(stores: tuple[LocalArtifactStore, LocalArtifactStore], then: str = "nothing") -> Any:
    return answer_of(start_python(CHILD, stores[0].root, stores[1].root, then))


def assert_goes_on(stores: tuple[LocalArtifactStore, LocalArtifactStore]) -> None:
    source, dest = stores
    new = contents(ARTIFACTS)
    for key, value in contents(dest).items():
        assert value == new[key]
    assert transfer(source, dest).ok
    assert contents(dest) == contents(ARTIFACTS)


@pytest.mark.slow
def test_they_copy_everything_and_end(stores: tuple[LocalArtifactStore, LocalArtifactStore]) -> None:
    answer = copied_in_child(stores)
    assert (answer["workers"], answer["left"]) == (2, [])
    assert contents(stores[1]) == contents(ARTIFACTS)
    assert answer["bytes"] == sum(map(len, ARTIFACTS.values()))
    assert {each["outcome"] for each in answer["report"]["artifacts"]} == {"copied"}
    assert all(each["sha256"] for each in answer["report"]["artifacts"])


def test_a_process_with_another_thread_is_not_forked(stores: tuple[LocalArtifactStore, LocalArtifactStore]) -> None:
    answer = copied_in_child(stores, "beside a thread")
    assert answer["workers"] == 0
    assert contents(stores[1]) == contents(ARTIFACTS)


def test_ctrl_c_ends_them_with_a_report_and_nothing_half_done(
    stores: tuple[LocalArtifactStore, LocalArtifactStore],
) -> None:
    answer = copied_in_child(stores, "interrupt")
    assert answer["interrupted"]
    assert answer["left"] == []
    assert 0 < answer["report"]["counts"]["copied"] < len(ARTIFACTS)
    assert not list(stores[1].root.rglob(f"{STAGING_PREFIX}*"))
    assert_goes_on(stores)


@pytest.mark.slow
def test_they_end_when_their_parent_is_killed(stores: tuple[LocalArtifactStore, LocalArtifactStore]) -> None:
    child = start_python(CHILD, stores[0].root, stores[1].root, "wait")
    assert child.stdout is not None
    workers = child.stdout.readline()
    processes = [psutil.Process(int(pid)) for pid in workers.strip("[]\n").split(",")]
    child.kill()
    child.communicate()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    assert_goes_on(stores)


def test_a_worker_that_is_killed_is_told_of_and_the_next_run_goes_on(
    stores: tuple[LocalArtifactStore, LocalArtifactStore],
) -> None:
    answer = copied_in_child(stores, "lose one")
    failed = [each for each in answer["report"]["artifacts"] if each["outcome"] == "failed"]
    assert failed
    assert all("run it again" in each["error"] for each in failed)
    assert answer["left"] == []
    assert_goes_on(stores)


@pytest.mark.slow
def test_there_may_be_more_of_them_than_a_byte_counts(tmp_path: Path) -> None:
    source = fill(LocalArtifactStore(tmp_path / "source"), {f"{number:03}": b"x" for number in range(400)})
    code = """
import json, sys
from emdstore.stores.local import LocalArtifactStore
from emdstore.sets.transfer import transfer
print(json.dumps(transfer(*map(LocalArtifactStore, sys.argv[1:]), max_workers=260).counts))
"""
    assert answer_of(start_python(code, source.root, tmp_path / "dest"))["copied"] == 400


def test_a_fork_among_others_copies_large_files_without_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against forks of a batch whose threads wait for each other's cores."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a thread was started")

    source, dest = LocalArtifactStore(tmp_path / "a"), LocalArtifactStore(tmp_path / "b")
    for key in ("large", "larger"):
        source.write_bytes(key, bytes(5 * 1024 * 1024))
    monkeypatch.setattr("emdstore.transfers.run.ThreadPoolExecutor.submit", refuse)
    monkeypatch.setattr("emdstore.transfers.run.is_fork", lambda: True)
    report = transfer(source, dest)
    assert report.counts["copied"] == 2
    assert dest.read_bytes("larger") == source.read_bytes("larger")
