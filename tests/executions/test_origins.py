"""What a run came from goes with its set: into the record, into the catalog, and back out of a rebuilt one."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.executions.runs import IDENTITY

from emdstore.catalog import Catalog
from emdstore.executions.execution import Execution
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.sets.origin import Dataset, Resources, datasets_in, software_in
from emdstore.sets.record import read_record
from emdstore.stores import InMemoryArtifactStore, scoped

TAS = Dataset(name="CMIP6.tas", version="v2019", pid="21.14100/x", doi="10.5/y", variable="tas", role="model")
PROVENANCE = {
    "environment": {"PMP": "3.9", "old": None},
    "packages": {"numpy": "2.0", "PMPObs": {"see": "below"}},
    "modeldata": ["CMIP6.tas", "CMIP6.pr", 7],
    "obsdata": {"ERA5": {"version": "v1"}, "HadISST": "somewhere"},
    "log": "out.log",
}


@pytest.fixture
def committed(workspace: Workspace) -> Execution:
    """An execution that told all, and whose bundle tells something, too."""
    versions: dict[str, Any] = {"provider_version": "3.9", "diagnostic_version": "2", "software": {"numpy": "2.1"}}
    execution = workspace.start_execution(**IDENTITY, **versions)
    with execution:
        told = {"name": "CMIP6.tas", "version": "v2019", "variable": "tas", "role": "model"}
        for _ in range(2):  # twice is once
            execution.add_input(**told, pid="hdl:21.14100/x", doi="https://doi.org/10.5/y")
        bundle = {"provenance": PROVENANCE, "index": None, "plots": {}, "data": {}, "html": {}, "metrics": None}
        (execution.output_directory / "output.json").write_text(json.dumps(bundle))
        metric = {"DIMENSIONS": {"json_structure": ["metric"], "metric": {"m": {}}}, "RESULTS": {"m": 1.0}}
        (execution.output_directory / "diagnostic.json").write_text(json.dumps(metric))
        execution.stop(resources=Resources(cpu_seconds=12.5, peak_memory_bytes=2**33))
    assert execution.commit_output_assets().ok
    return execution


def test_what_was_told_is_in_the_record_and_in_the_catalog(workspace: Workspace, committed: Execution) -> None:
    record = read_record(scoped(workspace.results, committed.fragment))
    assert record is not None
    assert record.datasets == (TAS,)
    assert (record.provider_version, record.diagnostic_version, record.software) == ("3.9", "2", {"numpy": "2.1"})
    row = workspace.catalog.execution(committed.fragment)
    assert (row.provider_version, row.diagnostic_version) == ("3.9", "2")
    assert (row.cpu_seconds, row.peak_memory_bytes, row.exit_code) == (12.5, 2**33, None)
    assert row.wall_seconds == pytest.approx((row.stopped_at - row.started_at).total_seconds())  # type: ignore[operator]
    assert [(each.dataset, each.version, each.role) for each in workspace.catalog.inputs()] == [
        ("CMIP6.tas", "v2019", "model"),  # the run knew more of it than its bundle
        ("CMIP6.pr", None, "model"),
        ("ERA5", "v1", "reference"),
        ("HadISST", None, "reference"),
    ]
    assert row.software == {"PMP": "3.9", "numpy": "2.1"}


def test_a_rebuilt_catalog_has_the_same(workspace: Workspace, committed: Execution) -> None:
    with Catalog("sqlite://") as rebuilt:
        replay(workspace.results, rebuilt)
        assert list(rebuilt.inputs()) == list(workspace.catalog.inputs())
        assert rebuilt.execution(committed.fragment) == workspace.catalog.execution(committed.fragment)


def test_a_bare_set_has_what_its_bundle_tells(workspace: Workspace, committed: Execution) -> None:
    bare = InMemoryArtifactStore()
    for name in ("output.json", "diagnostic.json"):
        bare.write_bytes(f"a/b/c/{name}", workspace.results.read_bytes(f"{committed.fragment}/{name}"))
    with Catalog("sqlite://") as catalog:
        replay(bare, catalog)
        assert [each.dataset for each in catalog.inputs()] == ["CMIP6.tas", "CMIP6.pr", "ERA5", "HadISST"]
        assert catalog.execution("a/b/c").software == {"PMP": "3.9", "numpy": "2.0"}


def test_a_set_that_is_ingested_again_came_from_the_same(workspace: Workspace, committed: Execution) -> None:
    (again,) = workspace.reingest(committed.fragment).statuses
    first, second = workspace.catalog.execution(committed.fragment), workspace.catalog.execution(again)
    for name in ("provider_version", "diagnostic_version", "software", "wall_seconds", "cpu_seconds", "inputs"):
        assert getattr(first, name) == getattr(second, name), name


@pytest.mark.parametrize(
    ("provenance", "datasets"),
    [
        ({}, []),
        ({"modeldata": "one", "obsdata": None}, [Dataset(name="one", role="model")]),
        ({"modeldata": 7, "obsdata": [{"name": "x"}, " ", ""]}, []),
        ({"obsdata": {"a": {"version": 3}}}, [Dataset(name="a", role="reference")]),
    ],
)
def test_what_a_provenance_names_is_read_and_nothing_else(provenance: Any, datasets: list[Dataset]) -> None:
    assert list(datasets_in(provenance)) == datasets
    assert software_in(provenance | {"environment": [], "packages": "3"}) == {}


_HOG = "import sys; x = b'x' * int(sys.argv[2]); sum(i * i for i in range(300_000)); sys.exit(int(sys.argv[1]))"


@pytest.mark.parametrize("code", [0, 3])
def test_what_a_program_took_is_measured(workspace: Workspace, code: int) -> None:
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 100_000_000
    execution = workspace.start_execution(**IDENTITY)
    with execution:
        assert execution.run([sys.executable, "-c", _HOG, str(code), str(more)]) == code
    record = read_record(workspace.scratch.scope(execution.fragment))
    assert record is not None
    took = record.resources
    assert took is not None
    assert took.exit_code == code
    assert took.wall_seconds is not None
    assert took.cpu_seconds is not None
    assert took.cpu_seconds > 0
    assert took.peak_memory_bytes is not None
    assert more < took.peak_memory_bytes < more + 100_000_000


def test_memory_that_may_be_that_of_whoever_started_a_program_is_not_told(workspace: Workspace, tmp_path: Path) -> None:
    execution = workspace.start_execution(**IDENTITY)
    with execution:
        execution.run(["true"])
    record = read_record(workspace.scratch.scope(execution.fragment))
    assert record is not None
    assert record.resources is not None
    assert record.resources.peak_memory_bytes is None


def test_ctrl_c_while_a_program_is_being_started_ends_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    real, started = subprocess.Popen, []

    def start(*given: Any, **options: Any) -> Any:
        started.append(real(*given, **options))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    monkeypatch.setattr("emdstore.executions.program.subprocess.Popen", start)
    with pytest.raises(KeyboardInterrupt), workspace.start_execution(**IDENTITY) as execution:
        execution.run(["sleep", "60"])
    assert started[0].poll() == -signal.SIGINT
