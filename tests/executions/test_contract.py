"""However an execution is committed, it ends in the same state: the proof that there is one path that commits."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.children import answer_of, start_python
from tests.executions.runs import IDENTITY, committed, end_state, faulty, work

from emdstore.catalog import Catalog
from emdstore.errors import StoreError
from emdstore.executions.execution import Execution
from emdstore.executions.settings import write_config
from emdstore.executions.without_catalog import publish_execution
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.sets.result import ExecutionResult

pytestmark = pytest.mark.once

# -- what was run --------------------------------------------------------------------------------------------------


def success(execution: Execution) -> None:
    work(execution)


def incomplete(execution: Execution) -> None:
    work(execution)
    execution.stop()
    (execution.output_directory / "plots/map.png").unlink()


def failure(execution: Execution) -> None:
    work(execution)
    execution.stop(ExecutionResult(successful=False))


def failure_of_the_system(execution: Execution) -> None:
    print("no memory left")  # noqa: T201 - into the log
    execution.stop(ExecutionResult(successful=False, retryable=True))


RUNS = {
    success: ("uploaded", None, False),
    incomplete: ("failed", "result", True),
    failure: ("failed", "diagnostic", False),
    failure_of_the_system: ("failed", "system", True),
}

# -- how it is committed -------------------------------------------------------------------------------------------

NOBODY = "postgresql://nobody@127.0.0.1:1/none"
OPEN = "import sys; from emdstore import Workspace; workspace = Workspace.open(sys.argv[1]); "


def inline(workspace: Workspace, execution: Execution, config: Path) -> None:
    execution.commit_output_assets()


def resumed_in_a_new_process(workspace: Workspace, execution: Execution, config: Path) -> None:
    code = OPEN + "workspace.resume_execution(sys.argv[2]).commit_output_assets(); print('true')"
    answer_of(start_python(code, config, execution.fragment))


def batch(workspace: Workspace, execution: Execution, config: Path) -> None:
    assert workspace.commit_pending_executions().ok


def batch_in_processes(workspace: Workspace, execution: Execution, config: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert workspace.commit_pending_executions(executor=processes).ok


def command_line(workspace: Workspace, execution: Execution, config: Path) -> None:
    _emdstore("commit", execution.fragment, "--config", str(config))


def command_line_for_all(workspace: Workspace, execution: Execution, config: Path) -> None:
    _emdstore("commit", "--pending", "--config", str(config))


def without_the_catalog(workspace: Workspace, execution: Execution, config: Path) -> None:
    publish_execution(workspace, execution.fragment)
    replay(workspace.results, workspace.catalog)


def command_line_without_the_catalog(workspace: Workspace, execution: Execution, config: Path) -> None:
    _emdstore("commit", "--no-catalog", "--pending", "--config", str(config), EMDSTORE_CATALOG=NOBODY)
    assert execution.status == "stopped"
    catalog = workspace.catalog.url
    _emdstore("replay", str(config.parent / "results"), "--catalog", catalog)


def after_a_failure(workspace: Workspace, execution: Execution, config: Path) -> None:
    with pytest.raises(StoreError):
        faulty(workspace).resume_execution(execution.fragment).commit_output_assets()
    execution.commit_output_assets()


def twice(workspace: Workspace, execution: Execution, config: Path) -> None:
    execution.commit_output_assets()
    execution.commit_output_assets()


def _emdstore(*arguments: str, **variables: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | variables
    done = subprocess.run(
        [sys.executable, "-m", "emdstore", *arguments], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (0, 1), done.stderr


WAYS: tuple[Callable[[Workspace, Execution, Path], None], ...] = (
    resumed_in_a_new_process,
    batch,
    batch_in_processes,
    command_line,
    command_line_for_all,
    without_the_catalog,
    command_line_without_the_catalog,
    after_a_failure,
    twice,
)


@pytest.fixture
def undisturbed(empty_catalog: Path, tmp_path: Path) -> Callable[[Callable[[Execution], None]], dict[str, Any]]:
    """What the same run leaves that is committed inline, in a workspace of its own."""

    def end_of(run: Callable[[Execution], None]) -> dict[str, Any]:
        workspace, _ = _workspace(tmp_path / "undisturbed", empty_catalog)
        return _end(workspace, run, inline, tmp_path)

    return end_of


def _workspace(folder: Path, empty_catalog: Path) -> tuple[Workspace, Path]:
    config = write_config(folder, scratch="scratch", results="results", catalog="catalog.db")
    shutil.copy(empty_catalog, folder / "catalog.db")
    return Workspace.open(config), config


def _end(workspace: Workspace, run: Callable[[Execution], None], way: Any, config: Path) -> dict[str, Any]:
    with workspace.start_execution(**IDENTITY) as execution:
        run(execution)
    way(workspace, execution, config)
    return end_state(workspace, execution.fragment)


@pytest.mark.parametrize(
    ("run", "way"),
    [
        *((success, way) for way in WAYS),
        (incomplete, batch),
        (incomplete, without_the_catalog),
        (failure, batch),
        (failure, without_the_catalog),
        (failure_of_the_system, command_line),
    ],
    ids=lambda function: function.__name__,
)
def test_every_way_to_commit_leaves_the_same_end_state(
    run: Any, way: Any, undisturbed: Any, tmp_path: Path, empty_catalog: Path
) -> None:
    workspace, config = _workspace(tmp_path / "workspace", empty_catalog)
    end, expected = _end(workspace, run, way, config), undisturbed(run)
    assert end.keys() == expected.keys()
    for field, value in expected.items():
        assert end[field] == value, field


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_the_end_state_is_the_one_of_the_table(run: Any, undisturbed: Any) -> None:
    end = undisturbed(run)
    row, record = end["row"], end["record"]
    status, failure_kind, dirty = RUNS[run]
    assert (row.status, row.failure, row.dirty, row.group_dirty) == (status, failure_kind, dirty, dirty)
    assert (record.status, record.failure, record.dirty) == (status, failure_kind, dirty)
    assert (row.description, record.description) == (IDENTITY["description"], IDENTITY["description"])
    assert (row.error, end["lease"], end["log"]) == (None, (None, None), True)
    assert len(end["rows"]["scalars"]) == (2 if status == "uploaded" else 0)
    assert {each.key for each in end["rows"]["artifacts"]} == {each.key for each in record.artifacts}


def test_a_catalog_that_is_lost_is_rebuilt_equal_from_the_results_store(workspace: Workspace, tmp_path: Path) -> None:
    fragments = [committed(workspace).fragment, committed(workspace, group="other/group").fragment]
    with workspace.start_execution(**IDENTITY) as failed:
        failure(failed)
    failed.commit_output_assets()
    with Catalog(tmp_path / "rebuilt.db") as rebuilt:
        assert replay(workspace.results, rebuilt).counts["ingested"] == 3
        assert list(rebuilt.executions()) == list(workspace.catalog.executions())
        for kind in ("artifacts", "outputs", "scalars", "series", "warnings"):
            assert list(getattr(rebuilt, kind)()) == list(getattr(workspace.catalog, kind)())
    assert {row.fragment for row in workspace.catalog.executions()} == {*fragments, failed.fragment}
