"""What a run reads is brought into scratch once, verified, and recorded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.executions.runs import IDENTITY, files_in
from tests.sets.examples import FourMethods

from emdstore.errors import ArtifactNotFoundError, SourceChangedError, StoreError, UnsafePathError
from emdstore.executions.execution import Execution
from emdstore.executions.workspace import Workspace
from emdstore.sets.record import RecordedInput, read_record
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore, scoped
from emdstore.testing import Fault, FaultyStore, RecordingStore

KEY = "CMIP6/tas (°C).nc"
DATA = b"CDF tas"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def execution(workspace: Workspace) -> Execution:
    return workspace.start_execution(**IDENTITY)


@pytest.fixture
def source(tmp_path: Path) -> LocalArtifactStore:
    store = LocalArtifactStore(tmp_path / "input")
    store.write_bytes(KEY, DATA)
    return store


def inputs_of(execution: Execution) -> tuple[RecordedInput, ...]:
    record = read_record(LocalArtifactStore(execution.output_directory))
    assert record is not None
    return record.inputs


def test_an_input_is_a_file_of_its_own_name_and_is_in_the_published_record(
    workspace: Workspace, execution: Execution, source: LocalArtifactStore
) -> None:
    with execution:
        path = execution.input_artifact(source, KEY, tags=("reference", "tas"))
        assert (path.name, path.read_bytes()) == ("tas (°C).nc", DATA)
        execution.add_scalar(1.0, metric="m")
    execution.commit_output_assets()
    record = read_record(scoped(workspace.results, execution.fragment))
    assert record is not None
    assert record.inputs == (RecordedInput(repr(source), KEY, len(DATA), DIGEST, ("reference", "tas")),)
    assert {each.role for each in record.artifacts} == {"log", "metric", "output", "series"}


def test_the_same_input_is_recorded_once(execution: Execution, source: LocalArtifactStore) -> None:
    with execution:
        assert execution.input_artifact(source, KEY) == execution.input_artifact(source, KEY)
    assert len(inputs_of(execution)) == 1


def test_another_run_that_knows_the_digest_finds_it_without_asking_the_store(
    workspace: Workspace, execution: Execution, source: LocalArtifactStore
) -> None:
    path = execution.input_artifact(source, KEY)
    store = RecordingStore(source)
    other = workspace.start_execution(**IDENTITY)
    assert other.input_artifact(store, KEY, sha256=DIGEST) == path
    assert store.calls == ()


def test_the_same_bytes_are_kept_once_wherever_they_come_from(execution: Execution, source: LocalArtifactStore) -> None:
    path = execution.input_artifact(source, KEY)
    elsewhere = InMemoryArtifactStore()
    elsewhere.write_bytes(KEY, DATA)
    assert execution.input_artifact(elsewhere, KEY) == path
    assert [each.store for each in inputs_of(execution)] == [repr(source), repr(elsewhere)]


def test_a_store_that_tells_versions_is_asked_for_no_bytes_the_second_time(
    execution: Execution, source: LocalArtifactStore
) -> None:
    store = RecordingStore(source)
    first = execution.input_artifact(store, KEY)
    before = len(store.calls)
    assert execution.input_artifact(store, KEY) == first
    assert {call.verb for call in store.calls[before:]} == {"info"}


def test_an_input_that_changed_is_fetched_again(execution: Execution, source: LocalArtifactStore) -> None:
    first = execution.input_artifact(source, KEY)
    source.write_bytes(KEY, b"CDF tas v2")
    second = execution.input_artifact(source, KEY)
    assert (first.read_bytes(), second.read_bytes()) == (DATA, b"CDF tas v2")
    assert [each.sha256 for each in inputs_of(execution)] == [DIGEST, hashlib.sha256(b"CDF tas v2").hexdigest()]


def test_a_store_of_four_methods_is_enough(execution: Execution) -> None:
    store = FourMethods(InMemoryArtifactStore())
    store.write_bytes("tas.nc", DATA)
    assert execution.input_artifact(store, "tas.nc").read_bytes() == DATA
    assert execution.input_artifact(store, "tas.nc", sha256=DIGEST).read_bytes() == DATA


def test_a_file_in_the_cache_that_somebody_changed_is_fetched_again(
    execution: Execution, source: LocalArtifactStore
) -> None:
    path = execution.input_artifact(source, KEY)
    path.write_bytes(b"scribbled over")
    assert execution.input_artifact(source, KEY).read_bytes() == DATA
    assert execution.input_artifact(source, KEY, sha256=DIGEST).read_bytes() == DATA


def test_another_digest_than_was_asked_for_is_refused_and_leaves_nothing(
    workspace: Workspace, execution: Execution, source: LocalArtifactStore
) -> None:
    before = files_in(workspace.scratch.root)
    with pytest.raises(SourceChangedError, match=f"has SHA-256 {DIGEST}, not {'0' * 64} as asked for"):
        execution.input_artifact(source, KEY, sha256="0" * 64)
    assert files_in(workspace.scratch.root) == before
    assert inputs_of(execution) == ()


def test_an_input_that_is_missing_or_cannot_be_read_is_named_and_leaves_nothing(
    workspace: Workspace, execution: Execution, source: LocalArtifactStore
) -> None:
    before = files_in(workspace.scratch.root)
    with pytest.raises(ArtifactNotFoundError, match=r"nope\.nc"):
        execution.input_artifact(source, "nope.nc")
    broken = FaultyStore(source, Fault(verbs=("open_reader", "read_bytes", "copy"), error=StoreError))
    with pytest.raises(StoreError, match="failed on purpose"):
        execution.input_artifact(broken, KEY)
    assert files_in(workspace.scratch.root) == before
    assert inputs_of(execution) == ()


def test_a_missing_input_is_a_failure_of_the_system(execution: Execution, source: LocalArtifactStore) -> None:
    with pytest.raises(ArtifactNotFoundError), execution:
        execution.input_artifact(source, "nope.nc")
    assert (execution.status, execution.row.retryable) == ("stopped", True)


def test_the_cache_is_no_part_of_what_scratch_holds(
    workspace: Workspace, execution: Execution, source: LocalArtifactStore
) -> None:
    execution.input_artifact(source, KEY)
    assert list(workspace.scratch.iter_keys()) == [f"{execution.fragment}/execution.json"]
    assert workspace.gc_executions(status="created", force=True).refused == {}
    other = workspace.start_execution(**IDENTITY)
    assert other.input_artifact(source, KEY, sha256=DIGEST).read_bytes() == DATA


def test_a_link_in_the_cache_is_not_written_through(
    workspace: Workspace, execution: Execution, source: LocalArtifactStore, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    cache = workspace.scratch.root / ".emdstore-inputs"
    cache.mkdir()
    (cache / DIGEST).symlink_to(outside)
    with pytest.raises(UnsafePathError):
        execution.input_artifact(source, KEY)
    assert list(outside.iterdir()) == []
