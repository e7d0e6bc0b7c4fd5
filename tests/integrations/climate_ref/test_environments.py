"""The tests of this folder, run where Climate-REF is installed: each version in an environment of its own."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.integrations.climate_ref.environments import (
    RELEASES,
    ROOT,
    Release,
    build,
    find_python,
    run_inside,
    try_release,
)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of this run of pytest have in common."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "climate-ref"


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.needs("climate-ref")
@pytest.mark.parametrize(
    "release",
    [pytest.param(release, id=release.version, marks=pytest.mark.needs(release.group)) for release in RELEASES],
)
@pytest.mark.usefixtures("real_sets")  # they are wanted inside too
def test_emdstore_works_with_climate_ref(release: Release, shared_folder: Path) -> None:
    done = try_release(release, shared_folder)
    assert done.returncode == 0, done.stdout[-20_000:]
    assert re.search(r"\b\d+ passed", done.stdout), done.stdout
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert [line for line in skipped if "in this version" not in line] == []


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.needs("climate-ref")
def test_an_environment_is_built_once(shared_folder: Path) -> None:
    release = next(each for each in RELEASES if each.python is not None)
    python = build(release, shared_folder)
    before = python.lstat().st_mtime_ns
    assert build(release, shared_folder) == python
    assert python.lstat().st_mtime_ns == before
    said = run_inside(python, "-c", "import emdstore, climate_ref; print(emdstore.__file__, climate_ref.__version__)")
    place, version = said.stdout.split()
    assert Path(place).is_relative_to(python.parents[1])
    assert version.startswith(release.version.rstrip("*"))


def test_a_python_that_is_not_here_is_not_found() -> None:
    assert find_python("3.2") is None
    assert find_python(f"{ROOT}") is None
    assert Release("0.1", ("3.2", "3.3")).python is None
