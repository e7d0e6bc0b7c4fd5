"""A transfer that is cut off leaves whole artifacts, and the next one does the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.children import answer_of, start_python
from tests.transfers.stores import contents, fill

from emdstore.keys import STAGING_PREFIX
from emdstore.sets.transfer import transfer
from emdstore.stores.local import LocalArtifactStore

SMALL = {f"run{number % 9}/{number:04}": os.urandom(500) for number in range(600)}
LARGE = {f"run{number}/large.nc": os.urandom(6_000_000) for number in range(2)}
ARTIFACTS = SMALL | LARGE

CHILD = """
import json, signal, sys, threading, time
from pathlib import Path
from emdstore.stores.local import LocalArtifactStore
from emdstore.sets.transfer import transfer
from emdstore.transfers import TransferInterrupted
from tests.transfers.stores import Slow, Streams

source, dest = LocalArtifactStore(Path(sys.argv[1])), LocalArtifactStore(Path(sys.argv[2]))
if sys.argv[3] == "streams":
    source, dest = Slow(source, 0.002), Streams(dest)

def told(progress):
    if progress.keys_done:
        print("started", flush=True)
        if sys.argv[4] == "itself":
            signal.raise_signal(signal.SIGINT)
        elif sys.argv[4] == "us":
            time.sleep(60)

try:
    transfer(source, dest, on_progress=told)
except TransferInterrupted as interrupted:
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("emdstore")]
    print(json.dumps({"report": interrupted.report.as_dict(), "threads": threads}))
"""


@pytest.fixture
def stores(tmp_path: Path) -> tuple[LocalArtifactStore, LocalArtifactStore]:
    """Return a source, and a destination in which a large artifact has an older value."""
    source, dest = fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS), LocalArtifactStore(tmp_path / "dest")
    dest.write_bytes("run1/large.nc", b"old")
    return source, dest


def started(
    source: LocalArtifactStore, dest: LocalArtifactStore, route: str, by: str = "nobody"
) -> subprocess.Popen[str]:
    """Return a child in the middle of a transfer, which is interrupted by us or by itself."""
    child = start_python(CHILD, source.root, dest.root, route, by)
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    return child


def staging_files(store: LocalArtifactStore) -> list[Path]:
    return [path for path in store.root.rglob(f"{STAGING_PREFIX}*") if path.is_file()]


def assert_whole(dest: LocalArtifactStore) -> set[str]:
    """Assert that what is there is an old or a new value, never a mixture; return the keys of the new ones."""
    held, new = contents(dest), contents(ARTIFACTS)
    arrived = {key for key in held if held[key] == new[key]}
    assert {key: value for key, value in held.items() if key not in arrived} in ({}, {"run1/large.nc": b"old"})
    return arrived


@pytest.mark.parametrize("route", ["files", "streams"])
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15])
def test_killed_in_the_middle_it_goes_on_where_it_was(
    stores: tuple[LocalArtifactStore, LocalArtifactStore], route: str, delay: float
) -> None:
    source, dest = stores
    child = started(source, dest, route)
    time.sleep(delay)
    child.kill()
    child.communicate()
    arrived = assert_whole(dest)
    report = transfer(source, dest)
    assert report.ok
    assert set(report.keys("unchanged")) == arrived
    assert set(report.keys("copied")) == set(ARTIFACTS) - arrived
    assert contents(dest) == contents(ARTIFACTS)
    assert list(dest.iter_keys()) == sorted(ARTIFACTS)
    dest.remove_staging(older_than=0)
    assert staging_files(dest) == []


@pytest.mark.parametrize(("route", "by"), [("files", "itself"), ("streams", "us")])
def test_ctrl_c_ends_it_with_a_report_and_nothing_half_done(
    stores: tuple[LocalArtifactStore, LocalArtifactStore], route: str, by: str
) -> None:
    source, dest = stores
    child = started(source, dest, route, by)
    before = time.monotonic()
    if by == "us":
        child.send_signal(signal.SIGINT)
    answer: Any = answer_of(child)
    assert time.monotonic() - before < 30  # what is being copied takes twice as long
    assert answer["threads"] == []
    copied = {each["key"] for each in answer["report"]["artifacts"] if each["outcome"] == "copied"}
    assert answer["report"]["counts"]["copied"] == len(copied) > 0
    # What has arrived may be more than what was told of, by what was under way just then.
    assert copied <= assert_whole(dest)
    assert staging_files(dest) == []
    report = transfer(source, dest)
    assert report.ok
    assert not copied & set(report.keys("copied"))
    assert contents(dest) == contents(ARTIFACTS)
