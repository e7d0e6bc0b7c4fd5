"""The benchmark of scale measures what it says: real sets, in the number that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.inside import Clock

from benchmarks import scale
from emdstore import LocalArtifactStore, verify


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    scale.fill(Clock(), str(folder / "results"), "100")
    return folder


def test_the_sets_are_whole_and_have_the_keys_that_were_asked_for(archive: Path) -> None:
    store = LocalArtifactStore(archive / "results")
    assert len(list(store.iter_keys())) == 100
    report = verify(store)
    assert (report.sets, report.artifacts, report.ok, report.problems) == (5, 95, True, ())


@pytest.mark.parametrize(
    ("what", "found"), list(zip(scale.OPERATIONS, (100, 5, 100, 5, 5, 95), strict=True)), ids=scale.OPERATIONS
)
def test_every_operation_is_done_on_all_of_them(archive: Path, tmp_path: Path, what: str, found: int) -> None:
    clock, place, database = Clock(), str(archive / "results"), str(tmp_path / "catalog.db")
    if what == "replay, unchanged":
        scale.operate(Clock(), "replay, all new", place, database)
    scale.operate(clock, what, place, database)
    assert clock.told["found"] == found
    assert clock.told["seconds"] > 0
