"""Memory is bounded by workers and buffers, whatever the artifacts' size."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from tests.children import answer_of, start_python

from emdstore.stores import InMemoryArtifactStore
from emdstore.transfers import move, run

SIZE = 300 * 1024 * 1024

CHILD = """
import json, sys
from pathlib import Path
from emdstore.stores.local import LocalArtifactStore
from emdstore.sets.transfer import transfer
from tests.transfers.stores import Streams

source, dest = LocalArtifactStore(Path(sys.argv[1])), LocalArtifactStore(Path(sys.argv[2]))
if sys.argv[3] == "streams":
    source, dest = Streams(source), Streams(dest)
report = transfer(source, dest, unchanged=sys.argv[4])
report.raise_for_failures()
# Not `ru_maxrss`: that of a new program starts with what the process that started it had.
most = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([report.as_dict()["counts"], int(most.split()[1])]))
"""


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("route", ["files", "streams"])
def test_a_large_artifact_is_never_held_whole(tmp_path: Path, route: str) -> None:
    (tmp_path / "source").mkdir()
    with (tmp_path / "source/large.nc").open("wb") as file:
        file.truncate(SIZE)  # takes no room on the disk
    for unchanged, outcome in (("stat", "copied"), ("digest", "unchanged")):
        child = start_python(CHILD, tmp_path / "source", tmp_path / "dest", route, unchanged)
        counts, most_kib = answer_of(child)
        assert counts[outcome] == 1
        assert most_kib < 150 * 1024
    (tmp_path / "dest/large.nc").unlink()


class Counting(InMemoryArtifactStore):
    """Counts how many artifacts are under way at once."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = self.most = 0
        self._turn = threading.Lock()

    def read_bytes(self, key: str, /) -> bytes:
        with self._turn:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(0.02)
        with self._turn:
            self.under_way -= 1
        return super().read_bytes(key)


def test_no_more_large_artifacts_are_under_way_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is held as its parts are, 25 bytes here, so that two of them fill 60."""
    for name, value in {"SMALL_SIZE": 10, "_DOWN_BYTES": 5, "_UP_BYTES": 20, "_MOST_BYTES": 60}.items():
        monkeypatch.setattr(run, name, value)
    source = Counting()
    for number in range(12):
        source.write_bytes(f"{number:02}", bytes(40))
    move(source, InMemoryArtifactStore(), max_workers=8).raise_for_failures()
    assert source.most == 2
