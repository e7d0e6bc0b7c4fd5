"""Engines that people use, with workers that are killed in the middle."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import attrs
import pytest
from tests.executions.runs import SET, ran
from tests.sets.examples import rows_of
from tests.transfers.stores import Slow, contents
from tests.workers.stores import Deadly

from emdstore.catalog import Catalog
from emdstore.errors import ExecutorError
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.sets.transfer import transfer
from emdstore.sets.verify import verify
from emdstore.stores import LocalArtifactStore
from emdstore.transfers import TransferProgress

pytestmark = [pytest.mark.slow, pytest.mark.once]

ENGINES = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("dask", "parsl")]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        if request.param == "dask":
            yield request.getfixturevalue("dask_client").get_executor()
        else:
            yield request.getfixturevalue("parsl_executor")


def test_a_worker_that_is_killed_in_the_middle_of_a_transfer_costs_nothing_but_time(
    engine: Executor, filled: LocalArtifactStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[TransferProgress] = []
    dest = LocalArtifactStore(tmp_path / "dest")
    source = Deadly(Slow(filled, 0.004), "read_bytes", "run3/199", tmp_path / "deaths", 1)
    report = transfer(source, dest, executor=engine, on_progress=told.append)
    assert (tmp_path / "deaths").read_bytes() == b"x"
    assert report.counts["copied"] == len(report.outcomes) == 400
    assert contents(dest) == contents(filled)
    assert "submitted again" in caplog.text
    steps = [progress.keys_done for progress in told]
    assert steps == sorted(steps)
    assert len(set(steps)) > 3


def test_workers_that_die_between_the_steps_of_a_commit_and_in_a_replay_lose_nothing(
    engine: Executor, workspace: Workspace, tmp_path: Path
) -> None:
    deaths = [tmp_path / f"deaths{number}" for number in range(2)]
    results = workspace.results
    workspace = attrs.evolve(workspace, results=Deadly(results, "create_bytes", "execution.json", deaths[0], 1))
    fragments = [ran(workspace, group=f"group{number}").fragment for number in range(3)]
    report = workspace.commit_pending_executions(executor=engine)
    assert report.statuses == dict.fromkeys(fragments, "uploaded")
    assert (report.errors, report.skipped) == ((), {})
    # Of the one that was cut off the bytes were there already, whoever had brought them.
    assert all(counts.uploaded + counts.unchanged == 3 for counts in report.roles.values())
    assert report.roles.keys() == {"log", "metric", "output", "plot", "series"}

    with Catalog(tmp_path / "again.db") as again:
        before_values = Deadly(results, "read_bytes", "diagnostic.json", deaths[1], 1)
        assert replay(before_values, again, executor=engine).counts["ingested"] == 3
        assert rows_of(again) == rows_of(workspace.catalog)

    checked = verify(results, executor=engine)
    assert (checked.ok, checked.sets, checked.artifacts) == (True, 3, 3 * len(SET))
    assert [each.read_bytes() for each in deaths] == [b"x"] * 2


def test_one_artifact_that_is_deadly_to_every_worker_takes_no_other_with_it(
    parsl_executor: Executor, filled: LocalArtifactStore, tmp_path: Path
) -> None:
    deadly = Deadly(filled, "read_bytes", "run3/003", tmp_path / "deaths", 100)
    report = transfer(deadly, LocalArtifactStore(tmp_path / "dest"), executor=parsl_executor)
    (failed,) = report.failures
    assert (failed.key, failed.outcome, type(failed.error)) == ("run3/003", "failed", ExecutorError)
    assert "workers were lost 3 times" in str(failed.error)
    assert report.counts["copied"] == 399
