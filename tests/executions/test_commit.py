"""A commit ships bytes, then the record, then rows; it says honestly what it did, and it can always be done again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import stamina
from tests.children import answer_from_mount
from tests.executions.runs import (
    ALL,
    IDENTITY,
    SET,
    WRITES,
    again,
    committed,
    end_state,
    faulty,
    files_in,
    owner_that_is_gone,
    ran,
    snapshot,
    work,
)
from tests.sets.examples import SUCCESS, encode, held, metric_bundle, put, rows_of, small_run
from tests.sets.late import Halting, Turn

from emdstore import system
from emdstore.catalog import Catalog
from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    CatalogError,
    ClaimHeldError,
    ClaimLostError,
    DemotionRefusedError,
    EmdstoreError,
    RecordError,
    RecordVersionError,
    SameStoreError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
    UploadFailedError,
)
from emdstore.executions.execution import Execution
from emdstore.executions.lease import Lease
from emdstore.executions.upload_report import RoleCounts, UploadReport
from emdstore.executions.without_catalog import publish_execution
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.reading import read_set
from emdstore.ingestion.replay import ingest
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord, encode_record, read_record
from emdstore.sets.result import ExecutionResult
from emdstore.sets.state import look_at_set
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore, scoped
from emdstore.stores.identity import is_own
from emdstore.testing import Call, Fault, FaultyStore, RecordingStore
from emdstore.transfers import TransferProgress


def record_of(execution: Execution) -> ExecutionRecord:
    record = read_record(scoped(execution.workspace.results, execution.fragment))
    assert record is not None
    return record


def recorded(workspace: Workspace, execution: Execution) -> tuple[Execution, Callable[[], list[Call]]]:
    """Return the execution on a store that takes notes, and how to ask for the calls that change something."""
    store = RecordingStore(workspace.results)
    handle = again(attrs.evolve(workspace, results=store), execution)
    return handle, lambda: [call for call in store.calls if call.verb in (*WRITES, "delete")]


# -- what it leaves ------------------------------------------------------------------------------------------------


def test_a_set_is_shipped_and_its_values_can_be_asked_for(workspace: Workspace) -> None:
    execution = ran(workspace)
    report = execution.commit_output_assets()
    row, record = execution.row, record_of(execution)
    assert (row.status, row.failure, row.group_dirty, row.reason) == ("uploaded", None, False, "complete")
    assert tuple(each.key for each in record.artifacts) == SET
    assert sorted(held(workspace.results, execution.fragment)) == sorted((*SET, RECORD_NAME))
    assert [row.key for row in workspace.catalog.artifacts()] == list(SET)
    assert [scalar.dimensions["metric"] for scalar in workspace.catalog.scalars()] == ["rmse", "bias"]
    assert (row.scalars, row.series, row.outputs, row.warnings) == (2, 1, 1, 0)
    assert report.statuses == {execution.fragment: "uploaded"}
    assert report.roles == dict.fromkeys(("log", "metric", "output", "plot", "series"), RoleCounts(uploaded=1))
    assert (report.uploaded, report.unchanged, report.failed, report.ok) == (5, 0, 0, True)
    assert report.bytes == sum(each.size for each in record.artifacts)


def test_duration_and_descriptions_are_in_the_record_and_in_the_catalog(workspace: Workspace) -> None:
    execution = committed(workspace)
    row, record = execution.row, record_of(execution)
    assert row.description == record.description == IDENTITY["description"]
    assert row.upload_duration == record.upload_duration
    assert 0 < record.upload_duration < 60  # type: ignore[operator]
    assert row.uploaded_at == row.published_at == record.published_at
    plot = next(each for each in record.artifacts if each.role == "plot")
    assert plot.description == next(row.description for row in workspace.catalog.artifacts() if row.role == "plot")
    assert "A map." in plot.description
    assert [row.description for row in workspace.catalog.outputs()] == ["A map."]


def test_a_failed_run_ships_its_log_alone(workspace: Workspace) -> None:
    with workspace.start_execution(**IDENTITY) as execution:
        work(execution)
        execution.stop(ExecutionResult(successful=False, retryable=True))
    report = execution.commit_output_assets()
    assert list(held(workspace.results, execution.fragment)) == [RECORD_NAME, "out.log"]
    assert report.roles == {"log": RoleCounts(uploaded=1)}
    row = execution.row
    assert (row.status, row.failure, row.group_dirty, row.scalars) == ("failed", "system", True, 0)
    assert (row.uploaded_at, row.upload_duration is not None) == (None, True)


def test_an_incomplete_set_is_no_success_and_the_report_counts_what_is_missing(workspace: Workspace) -> None:
    execution = ran(workspace)
    (execution.output_directory / "plots/map.png").unlink()
    report = execution.commit_output_assets()
    row = execution.row
    assert (row.status, row.failure, row.group_dirty) == ("failed", "result", True)
    assert row.reason == "missing: plots/map.png"
    assert (row.state, row.complete, row.artifacts) == ("incomplete", False, 4)
    assert (workspace.catalog.scalars().count(), workspace.catalog.scalars(complete=False).count()) == (0, row.scalars)
    assert report.roles["plot"] == RoleCounts(failed=1)
    assert (report.uploaded, report.failed) == (4, 1)


def test_the_record_is_the_last_thing_that_is_written_and_the_log_the_first(workspace: Workspace) -> None:
    handle, writes = recorded(workspace, ran(workspace))
    handle.commit_output_assets()
    first, *others, last = (call.key for call in writes() if not is_own(call.key))
    assert (first, sorted(others), last) == (SET[0], sorted(SET[1:]), RECORD_NAME)


def test_rows_come_after_the_record_and_only_from_what_was_published(workspace: Workspace) -> None:
    execution = ran(workspace)
    broken = faulty(workspace, *WRITES, keys=[RECORD_NAME])
    with pytest.raises(StoreError):
        again(broken, execution).commit_output_assets()
    assert list(held(workspace.results, execution.fragment)) == sorted(SET)
    assert rows_of(workspace.catalog)["artifacts"] == []
    # The catalog reads the published set; that of scratch is not asked any more.
    execution.commit_output_assets()
    published = held(workspace.results, execution.fragment)
    shutil.rmtree(workspace.scratch.root)
    before = rows_of(workspace.catalog)
    workspace.catalog.records.drop(execution.fragment)
    ingest(workspace.results, execution.fragment, workspace.catalog)
    assert rows_of(workspace.catalog) == before
    assert published == held(workspace.results, execution.fragment)


# -- again ---------------------------------------------------------------------------------------------------------


def test_with_nothing_to_do_nothing_is_written(workspace: Workspace) -> None:
    execution = committed(workspace)
    before = snapshot(workspace)
    handle, writes = recorded(workspace, execution)
    report = handle.commit_output_assets()
    assert writes() == []
    assert (report.uploaded, report.unchanged, report.bytes) == (0, 5, 0)
    after = snapshot(workspace)
    assert _but_for_claims(after) == _but_for_claims(before)


def _but_for_claims(state: tuple[Any, ...]) -> tuple[Any, ...]:
    files, results, executions, rows = state
    return files, results, [row | {"lease_token": 0} for row in executions], rows


def test_what_changed_in_scratch_is_shipped_by_the_next_commit_and_nothing_else(workspace: Workspace) -> None:
    execution = committed(workspace)
    first = execution.row
    put(workspace.scratch, {"plots/map.png": b"\x89PNG of another size"}, execution.fragment)
    handle, writes = recorded(workspace, execution)
    report = handle.commit_output_assets()
    # Opened, changed, sealed: from the first byte that changes to the last the set is visibly not complete.
    # Only news comes after it.
    assert [call.key for call in writes() if not is_own(call.key)] == [RECORD_NAME, "plots/map.png", RECORD_NAME]
    assert report.roles["plot"] == RoleCounts(uploaded=1)
    assert report.roles["metric"] == RoleCounts(unchanged=1)
    assert execution.row.record_digest != first.record_digest
    sizes = {row.key: row.size for row in workspace.catalog.artifacts()}
    assert sizes["plots/map.png"] == len(b"\x89PNG of another size")


def test_what_a_set_does_not_name_any_more_stays_and_is_listed(workspace: Workspace) -> None:
    execution = committed(workspace)
    output = execution.output_directory / "output.json"
    output.write_text(json.dumps(json.loads(output.read_text()) | {"plots": {}}))
    execution.commit_output_assets()
    assert record_of(execution).stale == ("plots/map.png",)
    assert "plots/map.png" in held(workspace.results, execution.fragment)
    assert (execution.status, execution.row.outputs) == ("uploaded", 0)


def test_the_error_of_an_earlier_commit_is_cleared(workspace: Workspace) -> None:
    execution = ran(workspace)
    with pytest.raises(StoreError):
        again(faulty(workspace), execution).commit_output_assets()
    assert "failed on purpose" in (execution.row.error or "")
    execution.commit_output_assets()
    assert (execution.status, execution.row.error) == ("uploaded", None)


def test_a_catalog_that_was_emptied_of_it_is_filled_again(workspace: Workspace) -> None:
    execution = committed(workspace)
    before = rows_of(workspace.catalog)
    workspace.catalog.replace_execution(_content_without_rows(workspace, execution))
    assert execution.row.scalars == 0
    execution.commit_output_assets()
    assert rows_of(workspace.catalog) == before


def _content_without_rows(workspace: Workspace, execution: Execution) -> Any:
    content = read_set(workspace.results, execution.fragment)
    return attrs.evolve(content, artifacts=(), outputs=(), scalars=(), series=(), record_digest="of another record")


# -- while it goes on ----------------------------------------------------------------------------------------------


def test_what_is_added_while_it_ships_waits_for_the_next_commit(workspace: Workspace) -> None:
    execution = ran(workspace)

    def add_more(progress: TransferProgress) -> None:
        if not (execution.output_directory / "late.png").exists():
            put(workspace.scratch, {"late.png": b"late"}, execution.fragment)
            execution.add_plot("late.png", long_name="Late")

    report = execution.commit_output_assets(progress_callback=add_more)
    assert report.uploaded == 5
    assert "late.png" not in held(workspace.results, execution.fragment)
    assert [row.name for row in workspace.catalog.outputs()] == ["plots/map.png"]
    report = execution.commit_output_assets()
    assert report.roles["plot"] == RoleCounts(uploaded=1, unchanged=1)
    assert [row.name for row in workspace.catalog.outputs()] == ["plots/map.png", "late.png"]


def test_bundles_that_change_while_they_are_shipped_do_not_mix(workspace: Workspace) -> None:
    execution = ran(workspace)
    scratch = scoped(workspace.scratch, execution.fragment)
    bundles = {name: scratch.read_bytes(name) for name in ("output.json", "diagnostic.json", "series.json")}

    def meddle(progress: TransferProgress) -> None:
        if progress.keys_planned > 1:  # past the log: the list is frozen
            put(scratch, {"output.json": b"{}", "diagnostic.json": b"{}", "series.json": b"[]"})

    execution.commit_output_assets(progress_callback=meddle)
    assert scratch.read_bytes("diagnostic.json") == b"{}"
    published = held(workspace.results, execution.fragment)
    assert {name: published[name] for name in bundles} == bundles
    assert (execution.status, execution.row.scalars) == ("uploaded", 2)


def test_progress_is_told_and_a_display_that_fails_costs_nothing(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[TransferProgress] = []

    def show(progress: TransferProgress) -> None:
        told.append(progress)
        raise ZeroDivisionError("a broken display")

    execution = ran(workspace)
    execution.commit_output_assets(progress_callback=show)
    assert execution.status == "uploaded"
    assert told
    assert told[-1].keys_done == told[-1].keys_planned
    assert "a broken display" in caplog.text


def test_ctrl_c_leaves_a_state_that_the_next_commit_accepts(workspace: Workspace) -> None:
    execution = ran(workspace)

    def press(progress: TransferProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execution.commit_output_assets(progress_callback=press)
    assert (execution.status, execution.row.owner) == ("upload_failed", None)
    execution.commit_output_assets()
    assert execution.status == "uploaded"


def test_late_bytes_with_the_time_of_the_record_are_shipped_anew(tmp_path: Path) -> None:
    # Times of a store are seconds, often: what landed in that of the record looks as if it had been there before.
    results = InMemoryArtifactStore()
    workspace = Workspace(scratch=tmp_path / "scratch", results=results, catalog=tmp_path / "catalog.db")
    execution = ran(workspace)
    publish_execution(workspace, execution.fragment)
    key, record = f"{execution.fragment}/diagnostic.json", f"{execution.fragment}/{RECORD_NAME}"
    right = results.read_bytes(key)
    results.write_bytes(key, right.replace(b"0.7", b"0.8"))
    results._objects[key] = attrs.evolve(results._objects[key], modified=results.info(record).modified)
    execution.commit_output_assets()
    assert (execution.status, results.read_bytes(key)) == ("uploaded", right)


# -- claims --------------------------------------------------------------------------------------------------------


def claim(workspace: Workspace, execution: Execution, owner: str, seconds: float = 3600) -> None:
    workspace.catalog.claims.claim(execution.fragment, owner=owner, lease_seconds=seconds, allowed_from=("stopped",))


def test_a_late_owner_whose_last_bytes_damage_what_came_meanwhile_has_it_shipped_again(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    execution = ran(workspace)
    nobody_lives = attrs.evolve(system.REAL, is_alive=lambda process, /, *, group=False: False)

    def commit_something_later() -> None:
        put(workspace.scratch, {"diagnostic.json": encode(metric_bundle({}))}, execution.fragment)
        with system.using(nobody_lives):
            again(workspace, execution).commit_output_assets()

    halting = Halting(workspace.results, Turn("diagnostic.json", commit_something_later))
    with pytest.raises(ClaimLostError):
        again(attrs.evolve(workspace, results=halting), execution).commit_output_assets()
    look = look_at_set(workspace.results, execution.fragment)
    assert (look.state, look.judgement.differing) == ("changed", ("diagnostic.json",))
    assert execution.row.status == "stopped"
    assert "diagnostic.json" in (execution.row.error or "")
    assert "too late" in caplog.text
    assert workspace.commit_pending_executions().statuses == {execution.fragment: "uploaded"}
    assert look_at_set(workspace.results, execution.fragment, every_digest=True).state == "published"
    assert workspace.results.read_bytes(f"{execution.fragment}/diagnostic.json") == encode(metric_bundle({}))
    assert execution.row.error is None


def test_who_holds_it_is_told_and_nothing_changes(workspace: Workspace) -> None:
    execution = ran(workspace)
    claim(workspace, execution, "elsewhere:77:1:abcd")
    before = snapshot(workspace)
    with pytest.raises(ClaimHeldError, match=r"is being committed by elsewhere:77:1:abcd, whose claim holds until 20"):
        execution.commit_output_assets()
    assert snapshot(workspace) == before


def test_an_owner_of_this_machine_whose_process_is_gone_is_taken_over_at_once(workspace: Workspace) -> None:
    execution = ran(workspace)
    claim(workspace, execution, owner_that_is_gone())
    execution.commit_output_assets()
    assert (execution.status, execution.row.owner) == ("uploaded", None)


@pytest.mark.parametrize("taken_over", [False, True])
def test_what_is_taken_over_is_read_back_as_its_first_owner_may_go_on(workspace: Workspace, taken_over: bool) -> None:
    execution = ran(workspace)
    if taken_over:
        claim(workspace, execution, owner_that_is_gone())
    log = f"{execution.fragment}/out.log"
    late = b"x" * len(workspace.scratch.read_bytes(log))
    # They land before the record, so that no time tells of them.
    halting = Halting(workspace.results, Turn(RECORD_NAME, lambda: workspace.results.write_bytes(log, late)))
    again(attrs.evolve(workspace, results=halting), execution).commit_output_assets()
    assert (workspace.results.read_bytes(log) == late) is not taken_over


def test_a_commit_reports_what_it_published_as_news(workspace: Workspace) -> None:
    execution = ran(workspace)
    (news,) = execution.commit_output_assets().events
    row = execution.row
    assert (news.kind, news.name, news.record, news.generation) == (
        "published",
        execution.fragment,
        row.record_digest,
        row.generation,
    )
    assert execution.commit_output_assets().events == ()


@pytest.mark.parametrize("status", ["stopped", "pending_upload"])
def test_a_refused_demotion_keeps_the_status_unless_it_was_halfway(workspace: Workspace, status: str) -> None:
    execution = ran(workspace)
    complete = put(InMemoryArtifactStore(), small_run())
    done = publish_set(
        ExecutionRecord.at(execution.fragment),
        SUCCESS,
        source=complete,
        dest=scoped(workspace.results, execution.fragment),
    )
    workspace.scratch.delete(f"{execution.fragment}/plots/map.png")
    if status == "pending_upload":
        claim(workspace, execution, owner_that_is_gone())
    with pytest.raises(DemotionRefusedError, match=r"plots/map\.png") as caught:
        execution.commit_output_assets()
    told = ("stopped", None) if status == "stopped" else ("upload_failed", str(caught.value))
    assert (execution.row.status, execution.row.error) == told
    assert record_of(execution) == done.record


# -- stores and catalogs that fail ---------------------------------------------------------------------------------


def test_a_store_that_fails_at_any_write_is_resumed_from_there(workspace: Workspace, tmp_path: Path) -> None:
    undisturbed = end_state(workspace, committed(workspace).fragment)
    for number in range(1, len(SET) + 2):
        execution = ran(workspace)
        broken = again(faulty(workspace, *WRITES, nth=[number]), execution)
        with pytest.raises(EmdstoreError, match="failed on purpose"):
            broken.commit_output_assets()
        assert (execution.status, execution.row.owner) == ("upload_failed", None)
        assert "failed on purpose" in (execution.row.error or "")
        assert execution.row.artifacts == 0
        left = read_record(scoped(workspace.results, execution.fragment))
        assert left is None or (left.state, left.artifacts) == ("publishing", ())
        there = sum(1 for key in workspace.results.iter_keys(execution.fragment) if not key.endswith(RECORD_NAME))
        report = execution.commit_output_assets()
        assert (report.uploaded, report.unchanged) == (len(SET) - there, there)
        assert end_state(workspace, execution.fragment) == undisturbed


def test_a_store_that_is_lost_altogether_is_an_upload_that_failed(workspace: Workspace) -> None:
    execution = ran(workspace)
    with stamina.set_testing(True, attempts=2), pytest.raises(StoreUnavailableError):
        again(faulty(workspace, *ALL, error=StoreUnavailableError), execution).commit_output_assets()
    assert execution.status == "upload_failed"
    execution.commit_output_assets()
    assert execution.status == "uploaded"


def test_a_store_that_is_busy_for_a_moment_is_not_noticed(workspace: Workspace) -> None:
    execution = ran(workspace)
    busy = faulty(workspace, "copy", error=StoreUnavailableError, every=2)
    with stamina.set_testing(True, attempts=5):
        again(busy, execution).commit_output_assets()
    assert execution.status == "uploaded"


def test_what_could_not_be_shipped_is_counted_by_role(workspace: Workspace) -> None:
    execution = ran(workspace)
    with pytest.raises(UploadFailedError, match=r"plots/map\.png.*commit it again") as caught:
        again(faulty(workspace, keys=["plots/map.png"]), execution).commit_output_assets()
    report = caught.value.report
    # The metric bundle is held back: with it the folder would look like a set that nobody vouches for.
    assert (report.roles["plot"], report.roles.get("metric")) == (RoleCounts(failed=1), None)
    assert report.statuses == {}
    assert caught.value.key == "plots/map.png"


def test_a_catalog_that_is_locked_in_the_middle_is_no_success_and_can_be_gone_on_from(
    workspace: Workspace, tmp_path: Path
) -> None:
    execution = ran(workspace)
    impatient = again(attrs.evolve(workspace, catalog=Catalog(tmp_path / "catalog.db", busy_timeout=0.1)), execution)
    other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)

    def lock(progress: TransferProgress) -> None:
        if not other.in_transaction:
            other.execute("BEGIN IMMEDIATE")

    with pytest.raises(CatalogError, match="another process or thread is holding a transaction open"):
        impatient.commit_output_assets(progress_callback=lock)
    other.execute("ROLLBACK")
    other.close()
    assert (execution.status, execution.row.artifacts) == ("pending_upload", 0)
    execution.commit_output_assets()
    assert execution.status == "uploaded"


FULL_DISK = """
import json, sys
from pathlib import Path
from emdstore import Workspace
mount = Path(sys.argv[1])
here = mount.parent
with Workspace(scratch=here / "s", results=mount / "results", catalog=here / "c.db") as workspace:
    with workspace.start_execution(provider="p", diagnostic="d") as execution:
        (execution.output_directory / "large.nc").write_bytes(b"x" * 300_000)
        execution.add_data("large.nc", long_name="Large")
        execution.add_scalar(1.0, metric="m")
    try:
        execution.commit_output_assets()
        error = None
    except Exception as raised:
        error = [type(raised).__name__, str(raised)]
    full = [execution.status, sorted(workspace.results.iter_keys(execution.fragment))]
    record = workspace.results.local_path(execution.fragment) / "execution.json"
    state = json.loads(record.read_text())["state"] if record.exists() else "none"
    left = [name.name for name in mount.rglob(".emdstore-*")]
    (mount / "ballast").unlink(missing_ok=True)
    (execution.output_directory / "large.nc").write_bytes(b"x" * 1000)
    execution.commit_output_assets()
    print(json.dumps([error, full, left, execution.status, state]))
"""


@pytest.mark.needs("mounts")
def test_a_full_disk_is_an_upload_that_failed_and_nothing_torn_is_left(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    (error, message), (status, keys), left, finally_, state = answer_from_mount("size=200k", mount, FULL_DISK)
    assert error == "UploadFailedError"
    assert os.strerror(errno.ENOSPC) in message
    assert (status, left, finally_) == ("upload_failed", [], "uploaded")
    assert not any(key.endswith(("large.nc", "diagnostic.json")) for key in keys)
    assert state in ("none", "publishing")  # it explains itself, where there is room for that


# -- scratch that is not as it should be -----------------------------------------------------------------------------


def test_a_scratch_folder_that_is_gone_is_named_and_the_execution_can_be_aborted(workspace: Workspace) -> None:
    execution = ran(workspace)
    shutil.rmtree(execution.output_directory)
    with pytest.raises(ArtifactNotFoundError, match="put it back and commit again, or abort the execution"):
        execution.commit_output_assets()
    assert execution.status == "upload_failed"
    execution.abort()
    assert execution.status == "aborted"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (b"", RecordError, "is no execution record"),
        (b'{"record_version": 1, "fragment"', RecordError, "is no execution record"),
        (b'{"record_version": 1}', RecordError, "is no execution record"),
        (b'{"record_version": 99}', RecordVersionError, "upgrade emdstore"),
    ],
)
def test_a_record_in_scratch_that_cannot_be_read_is_named_and_can_be_repaired(
    workspace: Workspace, text: bytes, error: type[Exception], message: str
) -> None:
    execution = ran(workspace)
    file = execution.output_directory / RECORD_NAME
    good = file.read_bytes()
    file.write_bytes(text)
    with pytest.raises(error, match=message) as caught:
        execution.commit_output_assets()
    assert f"{execution.fragment}/{RECORD_NAME}" in str(caught.value)
    assert execution.status == "upload_failed"
    assert all(is_own(key) for key in workspace.results.iter_keys())
    file.write_bytes(good)
    execution.commit_output_assets()
    assert execution.status == "uploaded"


def test_a_record_in_results_that_cannot_be_read_is_replaced(workspace: Workspace) -> None:
    execution = committed(workspace)
    before = end_state(workspace, execution.fragment)
    put(workspace.results, {RECORD_NAME: b"torn by a broken copy"}, execution.fragment)
    execution.commit_output_assets()
    assert end_state(workspace, execution.fragment) == before


def test_scratch_and_results_in_one_place_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(workspace.scratch.root)
    same = attrs.evolve(workspace, results=LocalArtifactStore(tmp_path / "link"))
    execution = ran(same)
    before = files_in(execution.output_directory)
    with pytest.raises(SameStoreError):
        execution.commit_output_assets()
    assert files_in(execution.output_directory) == before


# -- links ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "map.png").write_bytes(b"a secret")
    return folder


def test_a_link_that_leads_out_of_scratch_is_not_shipped(workspace: Workspace, outside: Path) -> None:
    execution = ran(workspace)
    plot = execution.output_directory / "plots/map.png"
    plot.unlink()
    plot.symlink_to(outside / "map.png")
    report = execution.commit_output_assets()
    row = execution.row
    assert (row.status, row.failure, report.roles["plot"]) == ("failed", "result", RoleCounts(failed=1))
    assert row.reason == "rejected: plots/map.png"
    assert b"a secret" not in held(workspace.results, execution.fragment).values()


@pytest.mark.parametrize("place", ["", "plots", "plots/map.png", "out.log", RECORD_NAME])
def test_nothing_is_written_through_a_link_in_results(workspace: Workspace, outside: Path, place: str) -> None:
    execution = ran(workspace)
    before = files_in(outside)
    folder = workspace.results.local_path() / execution.fragment  # type: ignore[attr-defined]
    link = folder / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside / "map.png" if "." in place else outside)
    with contextlib.suppress(UnsafePathError, UploadFailedError):  # or the link itself is replaced by the file
        execution.commit_output_assets()
    assert files_in(outside) == before
    link.unlink(missing_ok=True)
    execution.commit_output_assets()
    assert execution.status == "uploaded"


# -- cleaning up ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "standing", "cleaned"), [(True, False, True), (None, True, True), (False, True, False)]
)
def test_the_scratch_folder_goes_when_it_is_asked_for(
    workspace: Workspace, asked: bool | None, standing: bool, cleaned: bool
) -> None:
    execution = ran(attrs.evolve(workspace, clean_folder=standing))
    other = workspace.start_execution(**IDENTITY | {"diagnostic": "other"})
    execution.commit_output_assets(clean_folder=asked)
    assert execution.output_directory.exists() == (not cleaned)
    assert (workspace.scratch.root / "pmp/enso_tel").exists() == (not cleaned)  # also the folders above, while empty
    assert other.output_directory.exists()
    assert list(workspace.scratch.root.glob(".emdstore-*")) == []


def test_after_cleaning_up_another_commit_has_nothing_to_do(workspace: Workspace) -> None:
    execution = ran(workspace)
    execution.commit_output_assets(clean_folder=True)
    before = snapshot(workspace)
    assert execution.commit_output_assets() == UploadReport(statuses={execution.fragment: "uploaded"})
    assert snapshot(workspace) == before


def test_scratch_stays_whatever_goes_wrong_before_the_end(workspace: Workspace) -> None:
    execution = ran(workspace)
    before = files_in(execution.output_directory)
    for faults in ({"keys": ["series.json"]}, {"keys": [RECORD_NAME]}):
        with pytest.raises(EmdstoreError):
            again(faulty(workspace, *WRITES, **faults), execution).commit_output_assets(clean_folder=True)
        assert files_in(execution.output_directory) == before
    reading = FaultyStore(workspace.results, Fault(verbs=("read_bytes",), keys=("diagnostic.json",), error=StoreError))
    with pytest.raises(StoreError):  # the record is published, and ingest cannot read the bundle
        again(attrs.evolve(workspace, results=reading), execution).commit_output_assets(clean_folder=True)
    assert scoped(workspace.results, execution.fragment).exists(RECORD_NAME)
    assert (execution.status, execution.row.scalars) == ("upload_failed", 0)
    assert files_in(execution.output_directory) == before
    execution.commit_output_assets(clean_folder=True)
    assert (execution.status, execution.row.scalars) == ("uploaded", 2)


def test_a_record_that_the_catalog_does_not_know_is_not_taken_for_this_commit(workspace: Workspace) -> None:
    """Scratch is gone and a record stands in results: only the very one that the catalog was read from tells why."""
    execution, other = ran(workspace), committed(workspace).fragment
    record = read_record(scoped(workspace.results, other))
    assert record is not None
    foreign = encode_record(attrs.evolve(record, fragment=execution.fragment))
    put(workspace.results, held(workspace.results, other) | {RECORD_NAME: foreign}, execution.fragment)
    shutil.rmtree(execution.output_directory)
    with pytest.raises(ArtifactNotFoundError, match="is gone"):
        execution.commit_output_assets()
    assert execution.status == "upload_failed"


@pytest.mark.parametrize(("left", "renewed"), [(29, True), (31, False)])
def test_a_claim_is_renewed_once_half_of_its_time_has_gone(workspace: Workspace, left: float, renewed: bool) -> None:
    sixty = attrs.evolve(workspace, lease_seconds=60.0)
    row = ran(workspace).row
    with Lease(sixty, row) as lease:
        claim = lease._claim
        assert claim is not None
        sixty.catalog.claims.renew(claim, lease_seconds=left)
        lease.check()
        assert sixty.catalog.claims.holds(claim, seconds=45) is renewed
        lease.give_back("stopped")
