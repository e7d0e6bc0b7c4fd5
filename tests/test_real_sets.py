"""How the real sets come: once, whole, or with one clear reason why not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.real_sets import BUNDLES, PROVIDERS, UNNAMED, Counts, RealSets, fetch, make

ROOT = Path(__file__).parents[1]


def test_there_are_as_many_as_there_were_when_somebody_looked(real_sets: RealSets) -> None:
    """Guards against a counter that finds nothing, beside code that finds nothing."""
    assert len(real_sets.sets) == 94
    assert real_sets.total == Counts(files=2820, scalars=2701, series=825, points=42739)
    assert {one.provider for one in real_sets} == set(PROVIDERS)
    assert max(one.counts.files for one in real_sets) == 581


def test_the_same_is_made_of_them_each_time(real_sets: RealSets, tmp_path: Path) -> None:
    again = make(fetch(), tmp_path)
    assert again.sets == real_sets.sets
    for one in real_sets:
        for name in {*one.named, "out.log", UNNAMED} - {*BUNDLES}:
            data = (again.scratch / one.fragment / name).read_bytes()
            assert data == (real_sets.scratch / one.fragment / name).read_bytes()
    for path in again.results.rglob("*"):
        assert path.is_dir() or path.read_bytes() == (real_sets.results / path.relative_to(again.results)).read_bytes()


def test_what_was_fetched_is_not_fetched_again_unless_it_was_harmed(
    real_sets: RealSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in fetch().values():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with monkeypatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        whole = fetch(tmp_path)
    harmed = whole["example"]
    good = harmed.read_bytes()
    harmed.write_bytes(good[:-1])
    assert fetch(tmp_path)["example"].read_bytes() == good
    assert {path.name for path in tmp_path.iterdir()} <= {path.name for path in whole.values()} | {"fetching.lock"}


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(("ci", "outcome"), [("", "2 skipped"), ("true", "2 errors")])
def test_without_an_index_the_tests_skip_and_fail_where_they_must_not(ci: str, outcome: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "tests/emds/test_real_sets.py", "-k", "test_every_s"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:randomly"],
        cwd=ROOT,
        env=os.environ | {"CI": ci, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    *_, last = done.stdout.splitlines()
    assert outcome in last, done.stdout
    reasons = [line for line in done.stdout.splitlines() if line.startswith(("SKIPPED", "ERROR tests/"))]
    assert len(reasons) == (2 if ci else 1), done.stdout
    assert "pip cannot download" in done.stdout
    assert list(tmp_path.glob("*/*")) == [tmp_path / "emdstore-tests" / "fetching.lock"]
