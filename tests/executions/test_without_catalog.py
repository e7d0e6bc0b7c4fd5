"""A commit without the catalog: bytes and record as ever, rows by a replay, nothing twice and nothing lost."""

from __future__ import annotations

import itertools
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from tests.executions.crash import Child
from tests.executions.runs import IDENTITY, WRITES, committed, faulty, files_in, ran
from tests.sets.examples import held, put, rows_of, small_run

from emdstore.catalog import Catalog
from emdstore.cli.app import run
from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    CatalogError,
    ExecutionNotFoundError,
    InvalidKeyError,
    RecordError,
    StoreError,
    UploadFailedError,
)
from emdstore.executions.batch import BatchProgress, CommitInterrupted
from emdstore.executions.without_catalog import publish_execution, publish_pending_executions
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.sets.record import read_record
from emdstore.sets.result import ExecutionResult
from emdstore.stores import LocalArtifactStore, scoped
from emdstore.testing import RecordingStore

NOBODY = "postgresql://nobody:secret@127.0.0.1:1/none"
"""A catalog that cannot be reached."""


@pytest.fixture
def offline(workspace: Workspace) -> Workspace:
    """The workspace as a machine sees it from which the database cannot be reached."""
    return attrs.evolve(workspace, catalog=Catalog(NOBODY))


def test_the_set_is_published_and_the_catalog_is_not_touched(workspace: Workspace, offline: Workspace) -> None:
    execution = ran(workspace)
    with pytest.raises(CatalogError):
        offline.resume_execution(execution.fragment)
    report = publish_execution(offline, execution.fragment)
    assert (report.statuses, report.uploaded, report.ok) == ({execution.fragment: "uploaded"}, 5, True)
    assert execution.status == "stopped"
    assert replay(workspace.results, workspace.catalog).counts["ingested"] == 1
    assert execution.status == "uploaded"
    assert workspace.commit_pending_executions().statuses == {}


def test_a_run_that_never_saw_the_catalog_is_taken_in_whole(workspace: Workspace, tmp_path: Path) -> None:
    with Workspace(scratch=workspace.scratch, results=workspace.results, catalog="sqlite://") as node:
        fragment = ran(node).fragment
    publish_pending_executions(attrs.evolve(workspace, catalog=Catalog(NOBODY)))
    replay(workspace.results, workspace.catalog)
    row = workspace.catalog.execution(fragment)
    assert (row.status, row.group, row.description) == ("uploaded", IDENTITY["group"], IDENTITY["description"])
    assert len(rows_of(workspace.catalog)["scalars"]) == 2


def test_a_second_time_writes_nothing(workspace: Workspace, offline: Workspace) -> None:
    fragment = ran(workspace).fragment
    publish_execution(offline, fragment)
    store = RecordingStore(offline.results)
    report = publish_execution(attrs.evolve(offline, results=store), fragment)
    assert (report.uploaded, report.unchanged, report.statuses) == (0, 5, {fragment: "uploaded"})
    assert {call.verb for call in store.calls}.isdisjoint(WRITES)


def test_a_commit_after_it_is_one_that_has_nothing_to_ship(workspace: Workspace, offline: Workspace) -> None:
    execution = ran(workspace)
    publish_execution(offline, execution.fragment)
    before = held(workspace.results)
    report = execution.commit_output_assets()
    assert (report.uploaded, execution.status) == (0, "uploaded")
    assert held(workspace.results) == before


def test_killed_at_any_step_it_is_completed_by_the_next(tmp_path: Path) -> None:
    start = Workspace(scratch=tmp_path / "0/scratch", results=tmp_path / "0/results", catalog="sqlite://")
    fragment = ran(start).fragment
    files = files_in(start.scratch.root)
    for number in itertools.count(1, 3):
        folder = tmp_path / str(number)
        results = LocalArtifactStore(folder / "results")
        put(LocalArtifactStore(folder / "scratch"), {key: bytes(data) for key, data in files.items()})  # type: ignore[arg-type]
        workspace = Workspace(
            scratch=folder / "scratch", results=results, catalog=NOBODY, clean_folder=True, clean_unnamed=True
        )
        child = Child(publish_execution, workspace, fragment, at=number, only_changes=True)
        if (answer := child.wait()) is not None:
            break
        published = read_record(scoped(results, fragment))
        if published is not None:
            there = scoped(results, fragment)
            assert [len(there.read_bytes(each.key)) for each in published.artifacts] == [
                each.size for each in published.artifacts
            ]
        publish_execution(workspace, fragment)
        assert sorted(held(results, fragment)) == sorted(
            [RECORD_NAME, "out.log", "diagnostic.json", "output.json", "plots/map.png", "series.json"]
        )
        assert not workspace.scratch.exists(f"{fragment}/{RECORD_NAME}")
    assert answer.error is None
    assert number > 20


def test_what_could_not_be_shipped_is_not_published(workspace: Workspace, offline: Workspace) -> None:
    fragment = ran(workspace).fragment
    with pytest.raises(UploadFailedError):
        publish_execution(faulty(offline, *WRITES, keys={"plots/map.png"}), fragment)
    record = read_record(scoped(offline.results, fragment))
    assert record is not None
    assert (record.state, record.artifacts) == ("publishing", ())
    assert offline.scratch.exists(f"{fragment}/{RECORD_NAME}")
    assert publish_execution(offline, fragment).unchanged == 3  # the plot, and the metric bundle that waited for it, go


def test_scratch_is_removed_only_when_the_set_is_published(workspace: Workspace, offline: Workspace) -> None:
    fragment = ran(workspace).fragment
    with pytest.raises(StoreError):
        publish_execution(faulty(offline), fragment, clean_folder=True)
    assert offline.scratch.exists(f"{fragment}/{RECORD_NAME}")
    publish_execution(offline, fragment, clean_folder=True)
    assert list(offline.scratch.iter_keys()) == []
    report = publish_execution(offline, fragment, clean_folder=True)
    assert (report.statuses, report.uploaded) == ({fragment: "uploaded"}, 0)


def test_a_folder_without_identity_is_refused_with_what_to_do(workspace: Workspace, offline: Workspace) -> None:
    put(offline.scratch, small_run(), "some/folder")
    for publish in (
        lambda: publish_execution(offline, "some/folder"),
        lambda: publish_pending_executions(offline, execution_ids=["some/folder"]),
        lambda: publish_pending_executions(offline, execution_ids=["folder"]),
    ):
        with pytest.raises(ExecutionNotFoundError, match="emdstore materialize"):
            publish()
    with pytest.raises(InvalidKeyError):
        publish_pending_executions(offline, execution_ids=["../folder"])
    assert held(offline.results) == {}


def test_a_run_without_outcome_is_refused_and_left_out_of_what_waits(workspace: Workspace, offline: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as running:
        with pytest.raises(RecordError, match="no outcome"):
            publish_execution(offline, running.fragment)
        assert publish_pending_executions(offline).statuses == {}
        assert held(offline.results) == {}
        running.stop(ExecutionResult(successful=False))
    assert publish_pending_executions(offline).statuses == {running.fragment: "failed"}


def test_a_folder_that_was_moved_is_refused(workspace: Workspace, offline: Workspace) -> None:
    fragment = ran(workspace).fragment
    put(offline.scratch, held(offline.scratch, fragment), "another/place")
    with pytest.raises(RecordError, match="move the folder back"):
        publish_execution(offline, "another/place")
    assert held(offline.results) == {}


def test_all_that_waits_is_published_oldest_first_and_one_that_fails_stops_no_other(
    workspace: Workspace, offline: Workspace
) -> None:
    fragments = [ran(workspace, group=group).fragment for group in ("z", "y", "x")]
    done = committed(workspace, group="done").fragment
    put(offline.scratch, {"broken/record/execution.json": b"{"})
    failing = faulty(offline, *WRITES, keys={"series.json"}, nth={2})
    told: list[BatchProgress] = []
    with ThreadPoolExecutor(1) as one_by_one:
        report = publish_pending_executions(failing, executor=one_by_one, progress_callback=told.append)
    assert [each.fragment for each in told] == [*fragments, done]
    assert [(each.done, each.total) for each in told] == [(n, 4) for n in (1, 2, 3, 4)]
    assert {type(each.error) for each in report.errors} == {UploadFailedError, RecordError}
    assert len(report.statuses) == 3
    assert report.failed == 1
    assert report.errors[-1].fragment == "broken/record"
    assert publish_pending_executions(offline).statuses.keys() == {*fragments, done}


def test_named_by_the_end_of_the_fragment_and_refused_if_that_means_several(
    workspace: Workspace, offline: Workspace
) -> None:
    first, second = ran(workspace, group="one").fragment, ran(workspace, group="two").fragment
    report = publish_pending_executions(offline, execution_ids=[first.rpartition("/")[2], first])
    assert report.statuses == {first: "uploaded"}
    put(offline.scratch, held(offline.scratch, second), f"elsewhere/{second}")
    with pytest.raises(ExecutionNotFoundError, match="may mean several"):
        publish_pending_executions(offline, execution_ids=[second.rpartition("/")[2]])


def test_an_interrupt_gives_the_report_so_far(
    workspace: Workspace, offline: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    fragments = [ran(workspace, group=group).fragment for group in ("a", "b")]

    def display(progress: BatchProgress) -> None:
        raise ZeroDivisionError if progress.done == 1 else KeyboardInterrupt

    with caplog.at_level(logging.ERROR), pytest.raises(CommitInterrupted) as caught:
        publish_pending_executions(offline, progress_callback=display)
    assert caught.value.report.statuses.keys() == set(fragments)
    assert "progress callback failed" in caplog.text


def test_the_command_publishes_and_says_so_without_the_catalog(
    offline: Workspace, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, place in (("SCRATCH", offline.scratch), ("RESULTS", offline.results)):
        assert isinstance(place, LocalArtifactStore)
        monkeypatch.setenv(f"EMDSTORE_{name}", str(place.root))
    monkeypatch.setenv("EMDSTORE_CATALOG", NOBODY)
    fragment = ran(workspace).fragment
    capsys.readouterr()
    assert run(["commit", fragment, "--json"]) == 3  # the database does not answer
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "CatalogUnavailableError"
    assert run(["commit", "--no-catalog", fragment.rpartition("/")[2], "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["items"], answer["uploaded"], answer["ok"]) == (
        [{"fragment": fragment, "status": "uploaded"}],
        5,
        True,
    )
    assert run(["commit", "--no-catalog", "--pending"]) == 0
    assert f"uploaded  {fragment}" in (said := capsys.readouterr().out)
    assert "1 execution published (0 bytes uploaded)" in said
    assert run(["commit", "--no-catalog", "nothing/like/it"]) == 4
    assert "there is no such execution" in capsys.readouterr().err
