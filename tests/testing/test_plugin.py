"""The fixtures that pytest finds where emdstore is installed, as another project's tests use them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import emdstore
from emdstore import InMemoryArtifactStore, StoreUnavailableError
from emdstore.testing import Fault, FaultyStore

PLUGIN = "emdstore.testing.plugin"

A_FRAMEWORK = """
import pytest
from emdstore import transfer
from emdstore.testing import FaultyStore, Fault

def test_a_store_is_empty_and_works(artifact_store):
    assert list(artifact_store.iter_keys()) == []
    artifact_store.write_bytes("run1/out.log", b"done")
    assert artifact_store.read_bytes("run1/out.log") == b"done"

def test_a_workspace_leaves_nothing_behind(memory_workspace):
    with memory_workspace.start_execution(provider="p", diagnostic="d", group="g") as execution:
        execution.add_scalar(0.7, metric="rmse")
    execution.commit_output_assets()
    assert memory_workspace.catalog.scalars().count() == 1

def test_a_set_is_published(emds_set, assert_published, artifact_store):
    made = emds_set("mine/bias/historical/1", publish_in=artifact_store)
    record = assert_published(artifact_store, "mine/bias/historical/1")
    assert made.directory.joinpath(record.artifacts[0].key).is_file()
    damaged = "mine/bias/historical/1/out.log"
    artifact_store.write_bytes(damaged, b"?" * len(artifact_store.read_bytes(damaged)))
    with pytest.raises(AssertionError, match="changed, not published; differing: out.log"):
        assert_published(artifact_store, "mine/bias/historical/1")

def test_a_set_is_not_published(emds_set, assert_published, artifact_store):
    emds_set("mine/bias/historical/1")
    with pytest.raises(AssertionError, match="it is empty"):
        assert_published(artifact_store, "mine/bias/historical/1")

def test_a_server(s3_server, artifact_store):
    assert s3_server.endpoint_url.startswith("http://127.0.0.1:")

@pytest.fixture
def artifact_store_of_its_own():
    return 1

class TestItsOwnFixture:
    @pytest.fixture
    def artifact_store(self):
        return "its own"

    def test_comes_first(self, artifact_store):
        assert artifact_store == "its own"
"""


def run_pytest(folder: Path, *arguments: str) -> str:
    (folder / "test_framework.py").write_text(A_FRAMEWORK)
    installed = PLUGIN in {each.value for each in entry_points(group="pytest11")}
    plugin = () if installed else ("-p", PLUGIN)  # as from a source tree
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = ["-m", "pytest", "-c", "/dev/null", "--rootdir", ".", "-q", "-p", "no:cacheprovider", *plugin, *arguments]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(Path(emdstore.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_framework_finds_its_fixtures_on_each_kind_of_store(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, "--artifact-stores", "memory,local,s3,file://{tmp}/a b")
    assert "18 passed" in said, said  # four tests on four stores each, and two on none


@pytest.mark.slow
def test_a_kind_of_store_that_there_is_not_is_refused(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, "--artifact-stores", "memory,tape", "-k", "empty")
    assert "1 passed" in said
    assert "1 error" in said
    assert "--artifact-stores=tape is none of memory, local, s3" in said


def test_a_schedule_says_which_calls_fail() -> None:
    store = FaultyStore(InMemoryArtifactStore(), Fault(verbs={"write_bytes"}, schedule=".x.x"))
    fates = []
    for number in range(6):
        try:
            store.write_bytes("k", b"%d" % number)
            fates.append(".")
        except StoreUnavailableError:
            fates.append("x")
    assert "".join(fates) == ".x.x.."
    assert store.read_bytes("k") == b"5"
