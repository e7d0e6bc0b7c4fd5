"""Nothing is removed from scratch, or from results, without proof that it is published."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.children import start_python
from tests.executions.runs import IDENTITY, WRITES, again, committed, faulty, files_in, process_that_is_gone, ran
from tests.servers.s3 import S3Server
from tests.sets.examples import held, put
from tests.sets.late import Halting, Turn

from emdstore import system
from emdstore.emds import RECORD_NAME
from emdstore.errors import (
    ArtifactNotFoundError,
    ClaimHeldError,
    DemotionRefusedError,
    EmdstoreError,
    IncompleteSetError,
    SourceChangedError,
    StoreError,
    UnsafePathError,
)
from emdstore.executions.execution import Execution
from emdstore.executions.housekeeping import Removal
from emdstore.executions.inputs import arriving
from emdstore.executions.lease import Lease
from emdstore.executions.removal import Proof, look_before_removal, published_status
from emdstore.executions.scratch import read_scratch_record, write_scratch_record
from emdstore.executions.without_catalog import publish_execution, publish_pending_executions
from emdstore.executions.workspace import Workspace
from emdstore.sets.record import encode_record, read_record
from emdstore.sets.result import ExecutionResult
from emdstore.sets.state import look_at_set
from emdstore.stores import LocalArtifactStore, S3ArtifactStore, scoped
from emdstore.stores.local.trees import look_at_tree, remove_tree, trash_in
from emdstore.testing import Fault, FaultyStore, RecordingStore

pytestmark = pytest.mark.once

PLOT = "plots/map.png"


@pytest.fixture(params=["local", "s3"])
def workspace(request: pytest.FixtureRequest, workspace: Workspace) -> Workspace:
    """A workspace with results of each kind."""
    if request.param == "local":
        return workspace
    server: S3Server = request.getfixturevalue("moto_server")
    return attrs.evolve(workspace, results=S3ArtifactStore(f"s3://{server.make_bucket()}/r", **server.options))


def in_scratch(execution: Execution, name: str) -> Path:
    return execution.output_directory / name


def test_what_is_lost_comes_before_what_is_in_doubt_and_that_before_what_nobody_named() -> None:
    proof = Proof(tree=None, lost=("a: gone",), doubts=tuple("bcdefg"), unnamed=("w",))
    assert str(proof.refusal(unnamed=True)).endswith("lacks what was published: a: gone")
    proof = attrs.evolve(proof, lost=())
    assert str(proof.refusal(unnamed=True)).endswith("proved to be published: b; c; d; e; f; ...")
    proof = attrs.evolve(proof, doubts=())
    assert str(proof.refusal(unnamed=False)).startswith("it holds a file that no bundle names: w; --unnamed")
    assert proof.refusal(unnamed=True) is None


# -- what keeps a folder -------------------------------------------------------------------------------------------

Change = Callable[[Workspace, Execution], object]


def redrawn(workspace: Workspace, execution: Execution) -> None:
    in_scratch(execution, PLOT).write_bytes(b"\x89PNH")  # of the same size


def redrawn_in_place_with_its_old_times(workspace: Workspace, execution: Execution) -> None:
    path = in_scratch(execution, PLOT)
    before = path.stat()
    path.write_bytes(b"\x89PNH")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def added(workspace: Workspace, execution: Execution) -> None:
    """Another plot, which the bundle names by now."""
    in_scratch(execution, "plots/new.png").write_bytes(b"new")
    output = in_scratch(execution, "output.json")
    output.write_text(output.read_text().replace('"plots/map.png"', '"plots/new.png"'))


def unreadable(workspace: Workspace, execution: Execution) -> None:
    output = in_scratch(execution, "output.json")
    output.write_text(output.read_text().replace(",", "", 1))


def refused_name(workspace: Workspace, execution: Execution) -> None:
    in_scratch(execution, "plots/a\tb.png").write_bytes(b"only here")
    output = in_scratch(execution, "output.json")
    output.write_text(output.read_text().replace('"plots/map.png"', '"plots/a\\tb.png"'))


def without_a_record(workspace: Workspace, execution: Execution) -> None:
    in_scratch(execution, RECORD_NAME).unlink()


def of_another(workspace: Workspace, execution: Execution) -> None:
    record = read_scratch_record(workspace.scratch, execution.fragment)
    assert record is not None
    data = encode_record(attrs.evolve(record, fragment="pmp/another/group/one"))
    in_scratch(execution, RECORD_NAME).write_bytes(data)


def torn_record(workspace: Workspace, execution: Execution) -> None:
    in_scratch(execution, RECORD_NAME).write_bytes(b"{")


def without_outcome(workspace: Workspace, execution: Execution) -> None:
    record = read_scratch_record(workspace.scratch, execution.fragment)
    assert record is not None
    write_scratch_record(workspace.scratch, attrs.evolve(record, result=None))


def missing_in_results(workspace: Workspace, execution: Execution) -> None:
    workspace.results.delete(f"{execution.fragment}/{PLOT}")  # type: ignore[attr-defined]


def cut_short_in_results(workspace: Workspace, execution: Execution) -> None:
    workspace.results.write_bytes(f"{execution.fragment}/{PLOT}", b"\x89")


def damaged_in_results(workspace: Workspace, execution: Execution) -> None:
    time.sleep(1.1)  # later than the record, also for a server of whole seconds
    workspace.results.write_bytes(f"{execution.fragment}/{PLOT}", b"\x89XXX")


def record_gone_from_results(workspace: Workspace, execution: Execution) -> None:
    workspace.results.delete(f"{execution.fragment}/{RECORD_NAME}")  # type: ignore[attr-defined]


def torn_record_in_results(workspace: Workspace, execution: Execution) -> None:
    workspace.results.write_bytes(f"{execution.fragment}/{RECORD_NAME}", b"{")


def open_in_results(workspace: Workspace, execution: Execution) -> None:
    dest = scoped(workspace.results, execution.fragment)
    record = read_record(dest)
    assert record is not None
    dest.write_bytes(RECORD_NAME, encode_record(attrs.evolve(record, state="publishing", status=None)))


DOUBTS: dict[str, tuple[Change, str]] = {
    "a plot that was drawn again": (redrawn, "plots/map.png: it differs from what was published"),
    "the same with its old times": (redrawn_in_place_with_its_old_times, "plots/map.png: it differs"),
    "a plot that was added": (added, "plots/new.png: it was not published"),
    "a bundle with a comma missing": (unreadable, "output.json: it cannot be read"),
    "a name that no store takes": (refused_name, "'plots/a\\tb.png': it is named"),
    "no record": (without_a_record, f"it holds no {RECORD_NAME}"),
    "the record of another execution": (of_another, "it is that of 'pmp/another/group/one'"),
    "a record that is torn": (torn_record, f"{RECORD_NAME}: "),
    "a record without outcome": (without_outcome, "it has no outcome"),
    "a record in results that is torn": (torn_record_in_results, "proved to be published: the published record: "),
    "an open set in results": (open_in_results, "its set is publishing"),
}

LOSSES: dict[str, tuple[Change, str]] = {
    "an object that is gone": (missing_in_results, "plots/map.png: it is not there"),
    "an object that was cut short": (cut_short_in_results, "plots/map.png: 1 bytes, where the record says 4"),
    "an object with other bytes": (damaged_in_results, "plots/map.png: its bytes are not those"),
    "a record that is gone": (record_gone_from_results, f"{RECORD_NAME}: there is none"),
}


@pytest.mark.parametrize("doubt", [*DOUBTS, *LOSSES])
def test_a_folder_with_a_doubt_stays_and_the_doubt_is_named(workspace: Workspace, doubt: str) -> None:
    execution = committed(workspace)
    change, reason = (DOUBTS | LOSSES)[doubt]
    change(workspace, execution)
    before = files_in(execution.output_directory)
    preview = workspace.gc_executions(dry_run=True)
    report = workspace.gc_executions()
    assert (report.removed, preview.removed) == ((), ())
    assert reason in report.refused[execution.fragment]
    assert reason in preview.refused[execution.fragment]
    assert files_in(execution.output_directory) == before
    assert execution.row.owner is None


@pytest.mark.parametrize("workspace", ["local"], indirect=True)
def test_what_a_bad_disk_did_to_results_is_seen_though_size_and_times_are_as_they_were(workspace: Workspace) -> None:
    execution = committed(workspace)
    path = Path(str(workspace.results.local_path(f"{execution.fragment}/{PLOT}")))  # type: ignore[attr-defined]
    before = path.stat()
    path.write_bytes(b"\x89XXX")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "its bytes are not those that were published" in workspace.gc_executions().refused[execution.fragment]


@pytest.mark.parametrize("workspace", ["s3"], indirect=True)
@pytest.mark.parametrize("tells", [True, False], ids=["with checksums", "without"])
def test_an_object_with_other_bytes_is_seen_also_where_it_is_older_than_its_record(
    workspace: Workspace, tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution, good = committed(workspace), committed(workspace)
    workspace.results.write_bytes(f"{execution.fragment}/{PLOT}", b"\x89XXX")
    at = f"{execution.fragment}/{RECORD_NAME}"
    time.sleep(1.1)  # a server keeps whole seconds
    workspace.results.write_bytes(at, workspace.results.read_bytes(at))
    if not tells:
        monkeypatch.setattr("emdstore.stores.s3.bucket.md5_of_etag", lambda etag: None)
    dest = RecordingStore(workspace.results)
    report = attrs.evolve(workspace, results=dest).gc_executions()
    assert "its bytes are not those that were published" in report.refused[execution.fragment]
    assert [each.name for each in report.removed] == [good.fragment]
    read = [call for call in dest.calls if call.verb in ("read_bytes", "open_reader") and call.key.endswith(PLOT)]
    assert len(read) == (1 if tells else 2)  # what the server vouches for by a checksum needs no download


@pytest.mark.parametrize("loss", LOSSES)
def test_what_results_lost_is_shipped_again(workspace: Workspace, loss: str) -> None:
    execution = committed(workspace)
    good = held(workspace.results, execution.fragment)
    LOSSES[loss][0](workspace, execution)
    report = workspace.gc_executions()
    assert "called stopped again: commit it" in report.refused[execution.fragment]
    assert (report.ok, report.lost) == (False, (execution.fragment,))
    assert execution.status == "stopped"
    assert workspace.commit_pending_executions().statuses == {execution.fragment: "uploaded"}
    again = held(workspace.results, execution.fragment)
    assert {key: data for key, data in again.items() if key != RECORD_NAME} == {
        key: data for key, data in good.items() if key != RECORD_NAME
    }
    assert [each.name for each in workspace.gc_executions().removed] == [execution.fragment]


def test_what_scratch_lost_too_is_not_called_stopped(workspace: Workspace) -> None:
    execution = committed(workspace)
    missing_in_results(workspace, execution)
    in_scratch(execution, PLOT).unlink()
    report = workspace.gc_executions(dry_run=True)
    assert "plots/map.png: it is not there" in report.refused[execution.fragment]
    assert not report.ok
    assert workspace.gc_executions() == attrs.evolve(report, dry_run=False)
    assert execution.status == "uploaded"


@pytest.mark.parametrize("workspace", ["local"], indirect=True)
@pytest.mark.parametrize("silent", ["all", "one object"])
def test_results_that_do_not_answer_prove_nothing_and_change_nothing(workspace: Workspace, silent: str) -> None:
    execution = committed(workspace)
    away = faulty(workspace) if silent == "all" else faulty(workspace, "read_bytes", "open_reader", keys=(PLOT,))
    assert "failed on purpose" in away.gc_executions().refused[execution.fragment]
    assert (execution.status, execution.row.owner) == ("uploaded", None)
    assert execution.output_directory.is_dir()


def test_what_is_missing_in_scratch_and_published_holds_up_nothing(workspace: Workspace) -> None:
    execution = committed(workspace)
    in_scratch(execution, PLOT).unlink()  # by a purge
    assert [each.name for each in workspace.gc_executions().removed] == [execution.fragment]


def test_files_that_no_bundle_names_are_listed_and_stay_unless_asked(workspace: Workspace) -> None:
    careful = attrs.evolve(workspace, clean_unnamed=False)
    execution = committed(careful)
    put(LocalArtifactStore(execution.output_directory), {"notes.txt": b"mine"})
    (execution.output_directory / ".emdstore-torn").write_bytes(b"of a writer that was killed")
    report = careful.gc_executions()
    assert report.unnamed == {execution.fragment: ("notes.txt", "work/half.nc")}
    assert report.as_dict()["unnamed"] == {execution.fragment: ["notes.txt", "work/half.nc"]}
    assert "2 files that no bundle names: notes.txt; work/half.nc" in report.refused[execution.fragment]
    assert execution.output_directory.is_dir()
    assert [each.name for each in careful.gc_executions(unnamed=True).removed] == [execution.fragment]
    assert not execution.output_directory.exists()


def test_of_a_run_that_failed_all_but_its_log_is_unnamed(workspace: Workspace) -> None:
    careful = attrs.evolve(workspace, clean_unnamed=False)
    with careful.start_execution(**IDENTITY) as execution:
        put(LocalArtifactStore(execution.output_directory), {"half.nc": b"half"})
        execution.stop(ExecutionResult(successful=False))
    execution.commit_output_assets(clean_folder=True)
    assert careful.gc_executions().unnamed == {execution.fragment: ("half.nc",)}
    careful.gc_executions(unnamed=True)
    assert not execution.output_directory.exists()


def test_force_removes_what_is_in_doubt_but_not_under_a_program_that_lives(workspace: Workspace) -> None:
    execution, *doubted = (committed(workspace) for _ in range(3))
    redrawn(workspace, doubted[0])
    torn_record(workspace, doubted[1])
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, process_group=0) as program:
        record = read_scratch_record(workspace.scratch, execution.fragment)
        assert record is not None
        known = system.current().whoami(program.pid)
        write_scratch_record(workspace.scratch, attrs.evolve(record, program=known))
        report = workspace.gc_executions(force=True)
        assert {each.name for each in report.removed} == {each.fragment for each in doubted}
        assert f"still runs, in process group {program.pid}" in report.refused[execution.fragment]
        program.communicate(b"\n")
    assert [each.name for each in workspace.gc_executions(force=True).removed] == [execution.fragment]


def test_what_somebody_else_holds_is_left_to_them(workspace: Workspace) -> None:
    execution = committed(workspace)
    with Lease(workspace, execution.row, ("uploaded",), to="uploaded") as lease:
        assert "is in use by" in workspace.gc_executions().refused[execution.fragment]
        with pytest.raises(ClaimHeldError, match="is in use by"):
            execution.commit_output_assets()
        lease.give_back("uploaded")
    workspace.gc_executions()
    assert not execution.output_directory.exists()


def test_a_clean_up_that_is_killed_leaves_the_status_and_is_done_again(workspace: Workspace, tmp_path: Path) -> None:
    execution = committed(workspace)
    here = start_python("input()")  # some process, whose claim it is
    owner = f"{system.current().host()}:{system.current().whoami(here.pid)}:abcd/60"
    workspace.catalog.claims.claim(
        execution.fragment, owner=owner, lease_seconds=60, allowed_from=("uploaded",), to="uploaded"
    )
    here.kill()
    here.communicate()
    assert execution.status == "uploaded"
    assert [each.name for each in workspace.gc_executions().removed] == [execution.fragment]


# -- after a commit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["one", "batch", "without catalog", "batch without catalog"])
@pytest.mark.parametrize("change", [refused_name, unreadable], ids=lambda change: change.__name__)
def test_a_commit_cleans_up_only_what_it_has_proved(workspace: Workspace, how: str, change: Change) -> None:
    execution, good = ran(workspace), ran(workspace)
    change(workspace, execution)
    before = files_in(execution.output_directory)
    kept: dict[str, str] = {}
    for each in (execution, good):
        name = [each.fragment]
        report = {
            "one": lambda each=each: each.commit_output_assets(clean_folder=True),
            "batch": lambda name=name: workspace.commit_pending_executions(execution_ids=name, clean_folder=True),
            "without catalog": lambda each=each: publish_execution(workspace, each.fragment, clean_folder=True),
            "batch without catalog": lambda name=name: publish_pending_executions(
                workspace, execution_ids=name, clean_folder=True
            ),
        }[how]()
        kept |= report.kept
    assert kept.keys() == {execution.fragment}
    assert files_in(execution.output_directory) == before
    assert not good.output_directory.exists()


def test_a_commit_says_that_unnamed_files_keep_the_folder(workspace: Workspace) -> None:
    careful = attrs.evolve(workspace, clean_unnamed=False)
    execution = ran(careful)
    report = execution.commit_output_assets(clean_folder=True)
    assert "work/half.nc" in report.kept[execution.fragment]
    assert report.as_dict()["kept"] == dict(report.kept)
    assert execution.commit_output_assets(clean_folder=True, unnamed=True).kept == {}
    assert not execution.output_directory.exists()


# -- what a commit may not do --------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["with catalog", "without catalog"])
def test_a_scratch_that_lost_files_does_not_replace_a_complete_publication_unless_named(
    workspace: Workspace, known: bool
) -> None:
    execution = committed(workspace)
    before = held(workspace.results, execution.fragment), execution.row
    in_scratch(execution, PLOT).unlink()
    (execution.output_directory / "out.log").unlink()

    def commit(**options: Any) -> object:
        if known:
            return execution.commit_output_assets(**options)
        return publish_execution(workspace, execution.fragment, **options)

    with pytest.raises(DemotionRefusedError, match="--replace"):
        commit()
    after = attrs.evolve(execution.row, lease_token=before[1].lease_token) if known else execution.row
    assert (held(workspace.results, execution.fragment), after) == before
    (execution.output_directory / "out.log").write_bytes(b"it ran\n")
    report = commit(replace=True)
    assert report.statuses == {execution.fragment: "failed"}  # type: ignore[attr-defined]


def test_a_commit_that_loses_a_file_on_the_way_leaves_the_publication_open_and_says_so(workspace: Workspace) -> None:
    execution = committed(workspace)
    plot = in_scratch(execution, PLOT)
    plot.write_bytes(b"\x89PNG, and more")
    turn = Turn(RECORD_NAME, plot.unlink)  # right before the set is opened
    with pytest.raises(DemotionRefusedError, match="stays open"):
        again(attrs.evolve(workspace, results=Halting(workspace.results, turn)), execution).commit_output_assets()
    record = read_record(scoped(workspace.results, execution.fragment))
    assert (execution.status, record and record.state) == ("upload_failed", "publishing")
    plot.write_bytes(b"\x89PNG, and more")
    assert execution.commit_output_assets().statuses == {execution.fragment: "uploaded"}
    assert look_at_set(workspace.results, execution.fragment, every_digest=True).state == "published"


def test_replacing_needs_names(workspace: Workspace) -> None:
    for batch in (
        workspace.commit_pending_executions,
        lambda **options: publish_pending_executions(workspace, **options),
    ):
        with pytest.raises(ValueError, match="name the executions"):
            batch(replace=True)


@pytest.mark.parametrize("known", [True, False], ids=["with catalog", "without catalog"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_commit_of_what_is_nowhere_says_so(workspace: Workspace, loss: str, known: bool) -> None:
    execution = committed(workspace)
    workspace.gc_executions()
    commit = execution.commit_output_assets if known else lambda: publish_execution(workspace, execution.fragment)
    assert commit().statuses == {execution.fragment: "uploaded"}
    LOSSES[loss][0](workspace, execution)
    with pytest.raises((ArtifactNotFoundError, IncompleteSetError, LookupError)):
        commit()
    assert execution.status == "uploaded"


on_disk = pytest.mark.parametrize("workspace", ["local"], indirect=True)


@on_disk
def test_damage_with_an_old_time_is_no_publication_where_scratch_is_gone(
    workspace: Workspace,
) -> None:
    execution = committed(workspace)
    workspace.gc_executions()
    damaged = Path(workspace.results.local_path(f"{execution.fragment}/{PLOT}"))  # type: ignore[attr-defined]
    damaged.write_bytes(bytes(damaged.stat().st_size))
    os.utime(damaged, (0, 0))
    with pytest.raises(IncompleteSetError, match=PLOT):
        published_status(workspace, execution.fragment)


@on_disk
def test_what_cannot_be_read_is_no_publication_where_scratch_is_gone(workspace: Workspace) -> None:
    execution = committed(workspace)
    workspace.gc_executions()
    assert published_status(workspace, execution.fragment) == "uploaded"
    fault = Fault(verbs={"open_reader", "read_bytes"}, keys={PLOT, f"{execution.fragment}/{PLOT}"}, error=StoreError)
    blind = attrs.evolve(workspace, results=FaultyStore(workspace.results, fault))
    with pytest.raises(StoreError, match="failed on purpose"):
        published_status(blind, execution.fragment)


def test_a_generation_goes_with_each_commit(workspace: Workspace) -> None:
    execution = committed(workspace)
    redrawn(workspace, execution)
    execution.commit_output_assets()
    record = read_record(scoped(workspace.results, execution.fragment))
    assert record is not None
    assert record.generation == execution.row.lease_token == 2


# -- stale files ---------------------------------------------------------------------------------------------------


def test_what_an_earlier_record_named_is_not_stale_unless_forced(workspace: Workspace) -> None:
    execution = committed(workspace)
    added(workspace, execution)
    execution.commit_output_assets()
    put(workspace.results, {"never.png": b"nobody has named it"}, execution.fragment)
    execution.commit_output_assets()  # again, so that the first record is two records back
    stale = workspace.gc_executions(stale=True).removed
    assert [each.name for each in stale if each.what == "stale"] == [f"{execution.fragment}/never.png"]
    assert f"{execution.fragment}/{PLOT}" in set(workspace.results.iter_keys())
    record = read_record(scoped(workspace.results, execution.fragment))
    assert record is not None
    assert record.superseded == (PLOT,)
    assert workspace.gc_executions(stale=True, force=True).removed == (
        Removal("stale", f"{execution.fragment}/{PLOT}"),
    )


def test_what_a_record_misses_is_not_stale_when_somebody_has_brought_it_back(workspace: Workspace) -> None:
    execution = ran(workspace)
    in_scratch(execution, PLOT).unlink()
    execution.commit_output_assets()
    assert execution.row.failure == "result"
    put(workspace.results, {PLOT: b"\x89PNG"}, execution.fragment)
    assert [each for each in workspace.gc_executions(stale=True).removed if each.what == "stale"] == []


def test_in_an_open_set_nothing_is_stale(workspace: Workspace) -> None:
    execution = committed(workspace)
    put(workspace.results, {"old.png": b"old"}, execution.fragment)
    open_in_results(workspace, execution)
    assert [each for each in workspace.gc_executions(stale=True).removed if each.what == "stale"] == []
    assert f"{execution.fragment}/old.png" in set(workspace.results.iter_keys())


# -- through descriptors -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> LocalArtifactStore:
    store = LocalArtifactStore(tmp_path / "root")
    put(store, {"a/b/one.txt": b"1", "a/b/below/two.txt": b"2"})
    return store


def test_a_folder_goes_whole_and_those_above_it_that_become_empty(folder: LocalArtifactStore) -> None:
    tree = look_at_tree(folder.ground, "a/b")
    assert tree is not None
    assert (sorted(tree.files), tree.bytes) == (["below/two.txt", "one.txt"], 2)
    remove_tree(folder.ground, "a/b", tree, token="x")
    assert list(folder.root.iterdir()) == []
    assert look_at_tree(folder.ground, "a/b") is None
    remove_tree(folder.ground, "a/b", tree, token="x")  # somebody else was faster


@pytest.mark.parametrize("what", ["changed", "added", "gone", "another folder", "a link", "a link above"])
def test_a_folder_that_is_not_what_it_was_stays(folder: LocalArtifactStore, tmp_path: Path, what: str) -> None:
    tree = look_at_tree(folder.ground, "a/b")
    assert tree is not None
    other = tmp_path / "other"
    put(LocalArtifactStore(other), {"one.txt": b"1", "below/two.txt": b"2", "b/one.txt": b"1"})
    precious = files_in(other)
    path = folder.root / "a/b"
    match what:
        case "changed":
            before = (path / "one.txt").stat()
            (path / "one.txt").write_bytes(b"3")
            os.utime(path / "one.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
        case "added":
            (path / "below/three.txt").write_bytes(b"3")
        case "gone":
            (path / "one.txt").unlink()
        case "another folder":
            path.rename(tmp_path / "aside")
            shutil.copytree(other, path)
        case "a link":
            path.rename(tmp_path / "aside")
            path.symlink_to(other)
        case _:
            path.parent.rename(tmp_path / "aside")
            path.parent.symlink_to(other)
    now = files_in(folder.root)
    with pytest.raises((SourceChangedError, UnsafePathError)):
        remove_tree(folder.ground, "a/b", tree, token="x")
    assert files_in(folder.root) == now
    assert files_in(other) == precious
    assert list(trash_in(folder.ground)) == []


def test_a_folder_that_is_a_link_is_refused(folder: LocalArtifactStore) -> None:
    (folder.root / "link").symlink_to(folder.root / "a/b")
    with pytest.raises(UnsafePathError, match="is a link: remove it by hand"):
        look_at_tree(folder.ground, "link")


def test_a_removal_that_the_system_refuses_is_gone_on_with_later(workspace: Workspace) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may remove everything")
    execution = committed(workspace)
    in_scratch(execution, "plots").chmod(0o500)
    assert "removes later" in workspace.gc_executions().refused[execution.fragment]
    assert list(trash_in(workspace.scratch.ground)) != []


# -- inputs --------------------------------------------------------------------------------------------------------


def test_an_input_that_somebody_still_brings_is_no_leftover(workspace: Workspace) -> None:
    folder = workspace.scratch.root / ".emdstore-inputs/arriving"
    mine = folder / f"{system.current().whoami(None).replace(':', '-')}-abcd"
    left = folder / "abcd"
    for path in (mine, left):
        path.mkdir(parents=True)
        (path / "tas.nc").write_bytes(b"half")
    assert list(arriving(workspace.scratch)) == [".emdstore-inputs/arriving/abcd"]


def test_a_removal_that_is_going_on_is_no_leftover(workspace: Workspace) -> None:
    mine = workspace.scratch.root / f".emdstore-trash-{system.current().whoami(None).replace(':', '-')}-abcd"
    left = workspace.scratch.root / f".emdstore-trash-{process_that_is_gone().replace(':', '-')}-abcd"
    for folder in (mine, left):
        folder.mkdir(parents=True)
        (folder / "map.png").write_bytes(b"a moment ago")
        os.utime(folder, (0, 0))
    assert [each.name for each in workspace.gc_executions().removed] == [left.name]
    assert (mine / "map.png").exists()


def test_proof_is_of_the_moment(workspace: Workspace) -> None:
    execution = committed(workspace)
    assert look_before_removal(workspace, execution.fragment).refusal(unnamed=True) is None
    redrawn(workspace, execution)
    assert look_before_removal(workspace, execution.fragment).refusal(unnamed=True) is not None


@pytest.mark.parametrize("workspace", ["local"], indirect=True)
def test_a_store_that_fails_at_any_write_loses_nothing(workspace: Workspace) -> None:
    for number in range(1, 8):
        execution = ran(workspace)
        files = files_in(execution.output_directory)
        broken = faulty(workspace, *WRITES, nth=[number])
        try:
            broken.resume_execution(execution.fragment).commit_output_assets(clean_folder=True)
        except EmdstoreError:
            assert files_in(execution.output_directory) == files
