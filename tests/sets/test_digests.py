"""What did not change is not read again, and whatever did change is shipped, however that was hidden."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from tests.executions.crash import stopped_execution
from tests.sets.examples import SUCCESS, held, put, small_run

from emdstore.emds import RECORD_NAME
from emdstore.executions.without_catalog import publish_execution
from emdstore.executions.workspace import Workspace
from emdstore.keys import DIGESTS_NAME
from emdstore.sets import digests
from emdstore.sets.digests import DigestIndex
from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.record import read_record
from emdstore.stores import ArtifactStore, LocalArtifactStore, scoped

DATA = "data/tas.nc"
BUNDLES = ("diagnostic.json", "output.json", "series.json")
GRAIN = 0.03


@pytest.fixture
def fragment(workspace: Workspace) -> str:
    """An execution that was published, and of which all is known that can be."""
    fragment = stopped_execution(workspace, result=SUCCESS, data=5000)
    time.sleep(GRAIN)  # what it wrote is older than the clock's grain
    for _ in range(2):
        publish_execution(workspace, fragment)
        time.sleep(GRAIN)
    return fragment


def folders(workspace: Workspace, fragment: str) -> tuple[Path, Path]:
    """Return the execution's folders in scratch and in results."""
    stores = workspace.scratch, workspace.results
    assert isinstance(stores[1], LocalArtifactStore)
    return stores[0].root / fragment, stores[1].root / fragment


@contextmanager
def noting_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[Path]]:
    """Collect which files bytes are read of."""
    read: set[Path] = set()

    def noting(function: Callable[..., object]) -> Callable[..., object]:
        def noted(fd: int, *args: object) -> object:
            read.add(Path(f"/proc/self/fd/{fd}").readlink())
            return function(fd, *args)

        return noted

    with monkeypatch.context() as patch:
        for name in ("read", "readv"):
            patch.setattr(os, name, noting(getattr(os, name)))
        yield read


def test_of_what_did_not_change_no_byte_is_read(
    workspace: Workspace, fragment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders(workspace, fragment)
    with noting_reads(monkeypatch) as read:
        report = publish_execution(workspace, fragment)
    assert (report.uploaded, report.statuses) == (0, {fragment: "uploaded"})
    # The bundles tell what there is, and each record says what it says.
    of_ours = {path for path in read if path.is_relative_to(here) or path.is_relative_to(there)}
    assert of_ours - {here / DIGESTS_NAME, here / RECORD_NAME, there / RECORD_NAME} == {here / name for name in BUNDLES}


@pytest.mark.parametrize(("unchanged", "also_there"), [("digest", True), ("never", False)])
def test_who_asks_for_it_has_everything_read_whatever_is_known(
    workspace: Workspace,
    fragment: str,
    unchanged: Literal["digest", "never"],
    also_there: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = folders(workspace, fragment)
    record = read_record(LocalArtifactStore(there))
    assert record is not None
    with noting_reads(monkeypatch) as read:
        report = publish_execution(workspace, fragment, unchanged=unchanged)
    named = {each.key for each in record.artifacts}
    assert {here / key for key in named} <= read
    assert ({there / key for key in named} <= read) == also_there
    assert report.uploaded == (len(named) if unchanged == "never" else 0)


def test_all_is_known_of_what_was_copied_a_while_before_the_end(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fragment = stopped_execution(workspace, result=SUCCESS, data=5000)
    time.sleep(GRAIN)
    clock = DigestIndex._clock
    monkeypatch.setattr(DigestIndex, "_clock", lambda *args: time.sleep(GRAIN) or clock(*args))
    publish_execution(workspace, fragment)
    here, there = folders(workspace, fragment)
    with noting_reads(monkeypatch) as read:
        publish_execution(workspace, fragment)
    assert not {folder / DATA for folder in (here, there)}.intersection(read)


# -- ways to change a file that leave its size and its time ------------------------------------------------------------


def copy_over(path: Path, other: Path) -> None:
    subprocess.run(["cp", "-p", other, path], check=True)


def unpack(path: Path, other: Path) -> None:
    named = other.with_name(path.name)
    other.rename(named)
    archive = other.with_suffix(".tar")
    subprocess.run(["tar", "--format=posix", "-cf", archive, "-C", named.parent, path.name], check=True)
    subprocess.run(["tar", "-xf", archive, "-C", path.parent], check=True)


def synchronise(path: Path, other: Path) -> None:
    partial = path.with_name(".tas.nc.Ab3xYz")  # as rsync -a names it
    shutil.copy2(other, partial)
    partial.replace(path)


def edit(path: Path, other: Path) -> None:
    with path.open("r+b") as file:
        file.write(other.read_bytes())
    subprocess.run(["touch", "-r", other, path], check=True)


def restore(path: Path, other: Path) -> None:
    whole = path.parents[1]
    backup = other.with_suffix(".backup")
    shutil.copytree(whole, backup)
    shutil.copy2(other, backup / path.relative_to(whole))
    shutil.rmtree(whole)
    shutil.copytree(backup, whole)


CHANGES = [copy_over, unpack, synchronise, edit, restore]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("where", ["scratch", "results"])
def test_a_change_that_leaves_size_and_time_is_shipped(
    workspace: Workspace, fragment: str, change: Callable[[Path, Path], None], where: str, tmp_path: Path
) -> None:
    here, there = folders(workspace, fragment)
    path = (here if where == "scratch" else there) / DATA
    old, before = path.read_bytes(), path.stat()
    other = tmp_path / "other"
    other.write_bytes(old[::-1])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    change(path, other)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, path.read_bytes()) == (len(old), before.st_mtime_ns, old[::-1])
    publish_execution(workspace, fragment)
    assert (there / DATA).read_bytes() == (here / DATA).read_bytes() == (old[::-1] if where == "scratch" else old)
    assert publish_execution(workspace, fragment).uploaded == 0


def test_a_file_that_is_as_young_as_the_grain_of_its_clock_is_not_believed(tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path)
    put(store, {"young": b"1"})
    for _ in range(2):
        with DigestIndex(str(tmp_path)) as index:
            assert index.look(store, ["young"]) == {}
            index.learn(store, {"young": "of 1"})
            if not (tmp_path / DIGESTS_NAME).exists():
                (tmp_path / "young").write_bytes(b"2")  # which may leave the same time
    time.sleep(GRAIN)
    with DigestIndex(str(tmp_path)) as index:
        assert index.look(store, ["young"]) == {}
        index.learn(store, {"young": "of 2"})
    with DigestIndex(str(tmp_path)) as index:
        assert index.look(store, ["young"]) == {"young": "of 2"}


def test_a_file_of_a_clock_of_whole_seconds_is_not_believed_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, second = LocalArtifactStore(tmp_path), 1_000_000_000
    put(store, {"file": b"1"})
    stamp = digests._stamp
    monkeypatch.setattr(digests, "_stamp", lambda *args: (*stamp(*args)[:4], 5 * second))  # type: ignore[index]
    for now, known in ((5 * second, {}), (7 * second, {}), (7 * second + 1, {}), (8 * second, {"file": "of 1"})):
        monkeypatch.setattr(DigestIndex, "_clock", lambda *_, now=now: now)
        with DigestIndex(str(tmp_path)) as index:
            assert index.look(store, ["file"]) == known
            index.learn(store, {"file": "of 1"})


def set_back(now: int) -> int:
    return now - 3600 * 1_000_000_000


def with_time_of_change(found: os.stat_result, nanoseconds: int) -> os.stat_result:
    """Return what a file is, but for the time of its last change."""
    values = {name: getattr(found, name) for name in dir(found) if name.startswith("st_") and "time" in name}
    return os.stat_result(found[:10], values | {"st_ctime_ns": nanoseconds})


def test_after_a_clock_was_set_back_nothing_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a file that is changed in the hour that comes twice, and gets the time that it had."""
    store = LocalArtifactStore(tmp_path)
    put(store, {"file": b"1", "other": b"2"})
    time.sleep(GRAIN)
    with DigestIndex(str(tmp_path)) as index:
        index.look(store, ["file"])
        index.learn(store, {"file": "of 1"})
    assert DigestIndex(str(tmp_path)).look(store, ["file"]) == {"file": "of 1"}
    fstat = os.fstat

    def earlier(fd: int) -> os.stat_result:
        found = fstat(fd)
        if Path(f"/proc/self/fd/{fd}").readlink().name in ("file", "other"):
            return found
        return with_time_of_change(found, set_back(found.st_ctime_ns))

    monkeypatch.setattr(os, "fstat", earlier)
    for keys in (["file"], ["file", "other"]):
        assert DigestIndex(str(tmp_path)).look(store, keys) == {}


def test_where_a_file_system_has_no_time_of_change_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There ``touch -d`` hides whatever was changed."""
    store = LocalArtifactStore(tmp_path)
    put(store, {"file": b"1"})
    os.utime(tmp_path / "file", (1, 1))
    fstat = os.fstat

    def without(fd: int) -> os.stat_result:
        found = fstat(fd)
        return with_time_of_change(found, found.st_mtime_ns)

    monkeypatch.setattr(os, "fstat", without)
    time.sleep(GRAIN)
    for _ in range(2):
        with DigestIndex(str(tmp_path)) as index:
            assert index.look(store, ["file"]) == {}
            index.learn(store, {"file": "of 1"})
    assert not (tmp_path / DIGESTS_NAME).exists()


def test_a_new_file_with_the_inode_of_an_old_one_is_another_file(tmp_path: Path) -> None:
    """A file whose name is overwritten in place has inode, size and, by ``touch -r``, time of the old one."""
    store, path = LocalArtifactStore(tmp_path), tmp_path / "file"
    path.write_bytes(b"1")
    before = path.stat()
    time.sleep(GRAIN)
    with DigestIndex(str(tmp_path)) as index:
        index.look(store, ["file"])
        index.learn(store, {"file": "of 1"})
    path.write_bytes(b"2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert DigestIndex(str(tmp_path)).look(store, ["file"]) == {}


def test_an_index_that_was_copied_with_its_folder_says_nothing_of_the_copies(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    put(store := LocalArtifactStore(tmp_path / "a"), {"file": b"1"})
    time.sleep(GRAIN)
    with DigestIndex(str(store.root)) as index:
        index.look(store, ["file"])
        index.learn(store, {"file": "of 1"})
    subprocess.run(["cp", "-a", tmp_path / "a", tmp_path / "b"], check=True)
    assert (tmp_path / "b" / DIGESTS_NAME).exists()
    assert DigestIndex(str(tmp_path / "b")).look(LocalArtifactStore(tmp_path / "b"), ["file"]) == {}


def test_what_changes_while_it_is_read_is_not_believed(tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path)
    put(store, {"file": b"1"})
    time.sleep(GRAIN)
    with DigestIndex(str(tmp_path)) as index:
        index.look(store, ["file"])
        put(store, {"file": b"2"})
        index.learn(store, {"file": "of 1"})
    assert DigestIndex(str(tmp_path)).look(store, ["file"]) == {}


@pytest.mark.parametrize("meanwhile", ["nothing", "it-changed", "it-is-young"])
def test_only_a_copy_that_nobody_changed_since_has_the_digest_of_what_was_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    source, dest = (LocalArtifactStore(tmp_path / name) for name in ("scratch", "results"))
    put(source, {"file": b"1"})
    time.sleep(GRAIN)
    with DigestIndex(str(source.root)) as index:
        index.look(source, ["file"])
        copy = dest.root / "file"
        copy.parent.mkdir()
        shutil.copy2(source.root / "file", copy)
        if meanwhile == "it-changed":
            copy.write_bytes(b"2")
        time.sleep(GRAIN)
        if meanwhile == "it-is-young":
            monkeypatch.setattr(DigestIndex, "_clock", lambda *_: copy.stat().st_ctime_ns)
        index.learn_copies(source, dest, {"file": "of 1"})
        monkeypatch.undo()
    known = DigestIndex(str(source.root)).look(dest, ["file"])
    assert known == ({"file": "of 1"} if meanwhile == "nothing" else {})


# -- the index is only there to save time ------------------------------------------------------------------------------


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def turn_a_digit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(b'":"') + 3  # the first of the digests
    data[at] = ord("0") if data[at] != ord("0") else ord("1")
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def link_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [cut_off, turn_a_digit, empty, link_away, make_a_folder, Path.unlink])
def test_an_index_that_is_not_what_was_written_is_none(
    workspace: Workspace, fragment: str, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = folders(workspace, fragment)
    damage(here / DIGESTS_NAME)
    before = held(workspace.results)
    with noting_reads(monkeypatch) as read:
        report = publish_execution(workspace, fragment)
    assert (report.uploaded, report.ok, held(workspace.results)) == (0, True, before)
    assert {here / DATA, there / DATA} <= read


def test_where_no_index_can_be_written_all_goes_on_without(
    workspace: Workspace, fragment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = folders(workspace, fragment)
    (here / DIGESTS_NAME).unlink()

    def read_only(self: DigestIndex, root: str) -> tuple[int, int]:
        raise OSError(errno.EROFS, "Read-only file system", root)

    monkeypatch.setattr(DigestIndex, "_file", read_only)
    assert publish_execution(workspace, fragment).statuses == {fragment: "uploaded"}
    assert not (here / DIGESTS_NAME).exists()


def test_only_the_folder_of_a_run_of_ours_gets_an_index(tmp_path: Path, results: ArtifactStore) -> None:
    source = LocalArtifactStore(tmp_path / "source")
    put(source, small_run())
    materialize_outputs(SUCCESS, source=source, dest=scoped(results, "a"), fragment="a")
    assert not list(tmp_path.rglob(".emdstore-*"))


def test_the_index_is_no_file_of_the_run_and_goes_with_it(workspace: Workspace, fragment: str) -> None:
    here, there = folders(workspace, fragment)
    assert (here / DIGESTS_NAME).exists()
    assert [path.name for path in workspace.scratch.root.rglob(".emdstore-*")] == [DIGESTS_NAME]
    assert not list(there.rglob(".emdstore-*"))
    assert DIGESTS_NAME not in held(workspace.scratch, fragment)
    os.utime(here / DIGESTS_NAME, (0, 0))
    assert workspace.scratch.remove_staging() == ()
    report = publish_execution(workspace, fragment, clean_folder=True, unnamed=True)
    assert (report.kept, here.exists()) == ({}, False)
