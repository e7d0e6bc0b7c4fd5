"""What only a store of files can get wrong; the contract suite has the rest."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.children import answer_from_mount, answer_of, start_python

from emdstore.errors import (
    ArtifactChangedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    EmdstoreError,
    KeyConflictError,
    SourceChangedError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.keys import STAGING_PREFIX
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.local.copies import CopyFiles
from emdstore.stores.local.locking import LOCK, FolderLock
from emdstore.stores.local.sessions import discard_staged
from emdstore.stores.port import LeftOut

SECRET = b"not for you"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalArtifactStore:
    return LocalArtifactStore(root)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder beside the root whose name starts as the root's does."""
    folder = tmp_path / "store-of-others"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    return folder


def put_by_write(store: LocalArtifactStore, key: str, data: bytes) -> None:
    store.write_bytes(key, data)


def put_by_stream(store: LocalArtifactStore, key: str, data: bytes) -> None:
    with store.open_writer(key) as writer:
        writer.write(data[:1])
        writer.write(data[1:])


def put_by_create(store: LocalArtifactStore, key: str, data: bytes) -> None:
    store.create_bytes(key, data)


def put_by_copy(store: LocalArtifactStore, key: str, data: bytes) -> None:
    source = LocalArtifactStore(store.root.parent / "copied from")
    source.write_bytes(key, data)
    os.chmod(source.root / key, 0o400)
    session = store.copy_from(source)
    assert session is not None
    with session:
        session.copy(key)


every_way_to_put = pytest.mark.parametrize("put", [put_by_write, put_by_stream, put_by_create, put_by_copy])


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def ends_within(seconds: float, call: Callable[[], object]) -> None:
    """Fail, instead of waiting for ever, if the call does not end."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "the call hangs"


class TestLinks:
    def test_a_neighbour_whose_name_starts_like_the_root_is_outside(
        self, store: LocalArtifactStore, root: Path, outside: Path
    ) -> None:
        root.mkdir()
        (root / "way").symlink_to("../store-of-others")
        with pytest.raises(UnsafePathError, match="way/secret"):
            store.read_bytes("way/secret")
        with pytest.raises(UnsafePathError):
            store.write_bytes("way/new", b"")
        with pytest.raises(UnsafePathError):
            store.scope("way")
        with pytest.raises(UnsafePathError):
            store.local_path("way/secret")
        assert files_below(outside) == {"secret"}

    def test_a_chain_of_links_is_followed_inside_and_refused_where_it_leaves(
        self, store: LocalArtifactStore, root: Path, outside: Path
    ) -> None:
        store.write_bytes("run/data.nc", b"value")
        (root / "one").symlink_to(root / "two")
        (root / "two").symlink_to("run")
        (root / "three").symlink_to("four")
        (root / "four").symlink_to(outside)
        assert store.read_bytes("one/data.nc") == b"value"
        assert list(store.iter_keys()) == ["one/data.nc", "run/data.nc", "two/data.nc"]
        with pytest.raises(UnsafePathError):
            store.read_bytes("three/secret")

    def test_a_way_out_and_back_in_is_inside(self, store: LocalArtifactStore, root: Path) -> None:
        store.write_bytes("run/data.nc", b"value")
        (root / "way").symlink_to(f"../{root.name}/run")
        assert store.read_bytes("way/data.nc") == b"value"
        assert "way/data.nc" in list(store.iter_keys())

    @pytest.mark.parametrize("put", [put_by_write, put_by_stream, put_by_copy])
    def test_a_link_is_replaced_and_never_written_through(
        self, store: LocalArtifactStore, root: Path, put: Callable[[LocalArtifactStore, str, bytes], None]
    ) -> None:
        store.write_bytes("run1/data.nc", b"of run 1")
        (root / "run2").mkdir()
        (root / "run2/data.nc").symlink_to("../run1/data.nc")
        put(store, "run2/data.nc", b"of run 2")
        assert store.read_bytes("run1/data.nc") == b"of run 1"
        assert store.read_bytes("run2/data.nc") == b"of run 2"
        assert not (root / "run2/data.nc").is_symlink()

    def test_a_write_below_a_linked_folder_lands_where_the_link_leads(
        self, store: LocalArtifactStore, root: Path
    ) -> None:
        store.write_bytes("run1/data.nc", b"old")
        (root / "latest").symlink_to("run1")
        store.write_bytes("latest/data.nc", b"new")
        assert store.read_bytes("run1/data.nc") == b"new"
        assert (root / "latest").is_symlink()

    def test_deleting_below_a_linked_folder_leaves_the_link(self, store: LocalArtifactStore, root: Path) -> None:
        store.write_bytes("run1/data.nc", b"")
        (root / "latest").symlink_to("run1")
        store.delete("latest/data.nc")
        assert list(store.iter_keys()) == []
        assert (root / "latest").is_symlink()

    def test_the_root_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "results").symlink_to("elsewhere")
        store = LocalArtifactStore(tmp_path / "results")
        store.write_bytes("a/b", b"value")
        (tmp_path / "elsewhere/link").symlink_to(tmp_path / "results/a/b")
        assert (tmp_path / "elsewhere/a/b").read_bytes() == b"value"
        assert list(store.iter_keys()) == ["a/b", "link"]
        assert store.read_bytes("link") == b"value"

    @pytest.mark.parametrize("end", ["source", "destination"])
    def test_a_copy_follows_no_link_out(
        self, store: LocalArtifactStore, root: Path, tmp_path: Path, outside: Path, end: str
    ) -> None:
        other = LocalArtifactStore(tmp_path / "other")
        source, dest = (store, other) if end == "source" else (other, store)
        for linked in ("file", "folder"):
            if end == "destination":
                source.write_bytes(f"{linked}/secret", b"new")
        (root / "file").mkdir(parents=True)
        (root / "file/secret").symlink_to(outside / "secret")
        (root / "folder").symlink_to(outside)
        session = dest.copy_from(source)
        assert session is not None
        with session:
            for key in ("file/secret", "folder/secret"):
                with pytest.raises(UnsafePathError, match=key):
                    session.copy(key)
        assert (outside / "secret").read_bytes() == SECRET
        assert files_below(outside) == {"secret"}
        assert end == "destination" or not other.root.exists()

    def test_a_folder_swapped_for_a_link_meanwhile_leads_nowhere(
        self, store: LocalArtifactStore, root: Path, outside: Path
    ) -> None:
        """Guards against every check that is made by name, before a use that is made by name."""
        store.write_bytes("run/sub/secret", b"mine")
        unsound: list[object] = []
        copied_to = LocalArtifactStore(root.parent / "copied")
        calls: list[Callable[[], object]] = [
            lambda: store.write_bytes("run/sub/new", b"mine"),
            lambda: put_by_stream(store, "run/sub/stream", b"mine"),
            lambda: store.delete("run/sub/new"),
            lambda: store.write_bytes("run/new/folder/file", b"mine"),
            lambda: store.delete("run/new/folder/file"),
            lambda: store.read_bytes("run/sub/secret") == b"mine" or unsound.append("read"),
            lambda: store.info("run/sub/secret").size == 4 or unsound.append("info"),
            lambda: [info for info in store.iter_info() if info.size != 4 and unsound.append(info)],
            lambda: copy_one(store, copied_to, "run/sub/secret"),
            lambda: copy_one(copied_to, store, "run/sub/secret"),
        ]
        (outside / "sub").mkdir()
        (outside / "sub/secret").write_bytes(SECRET)
        before = files_below(outside)
        with flipping(root / "run", outside), ThreadPoolExecutor(2) as pool:
            ends = time.monotonic() + 2
            futures = [pool.submit(repeat_until, ends, calls[offset:] + calls[:offset]) for offset in (0, 5)]
            for future in futures:
                future.result()
        assert unsound == []
        assert files_below(outside) == before
        assert (outside / "secret").read_bytes() == (outside / "sub/secret").read_bytes() == SECRET
        assert all(copied_to.read_bytes(key) == b"mine" for key in copied_to.iter_keys())


def copy_one(source: LocalArtifactStore, dest: LocalArtifactStore, key: str) -> None:
    session = dest.copy_from(source)
    assert session is not None
    with session:
        session.copy(key)


def repeat_until(ends: float, calls: list[Callable[[], object]]) -> None:
    while time.monotonic() < ends:
        for call in calls:
            try:
                call()
            except EmdstoreError:
                pass  # refused or not there just now; anything else is a fault


@contextmanager
def flipping(folder: Path, target: Path) -> Iterator[None]:
    """Have a thread swap the folder for a link to the target and back, as fast as it can."""
    link = folder.with_name("swapped")
    link.symlink_to(target)
    stopped = threading.Event()

    def flip() -> None:
        rename = ctypes.CDLL(None).renameat2
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        while not stopped.is_set():
            rename(here, os.fsencode(folder), here, os.fsencode(link), exchange)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


class TestWhatIsNoArtifact:
    @pytest.fixture(params=["pipe", "socket", "folder"])
    def special(self, request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        (root / "a").mkdir(parents=True)
        monkeypatch.chdir(root / "a")  # the address of a socket is short
        if request.param == "pipe":
            os.mkfifo("special")
        elif request.param == "folder":
            os.mkdir("special")
        with closing(socket.socket(socket.AF_UNIX)) as server:
            if request.param == "socket":
                server.bind("special")
            yield "a/special"

    def test_is_not_there_and_nothing_hangs(self, store: LocalArtifactStore, special: str) -> None:
        def look() -> None:
            assert not store.exists(special)
            assert list(store.iter_keys()) == list(store.iter_info()) == []
            for read in (store.read_bytes, store.info, store.open_reader):
                with pytest.raises(ArtifactNotFoundError):
                    read(special)
            session = LocalArtifactStore(store.root.parent / "dest").copy_from(store)
            assert session is not None
            with session, pytest.raises(ArtifactNotFoundError):
                session.copy(special)

        failed: list[BaseException] = []
        ends_within(10, lambda: _note(look, failed))
        assert failed == []

    @every_way_to_put
    def test_folders_without_artifacts_give_way_to_one(
        self, store: LocalArtifactStore, root: Path, put: Callable[[LocalArtifactStore, str, bytes], None]
    ) -> None:
        for empty in ("a/b/c", "a/d/e"):
            (root / empty).mkdir(parents=True)
        put(store, "a", b"value")
        assert store.read_bytes("a") == b"value"
        assert files_below(root) == {"a"}

    @every_way_to_put
    @pytest.mark.parametrize("held", ["a/b/file", f"a/b/{STAGING_PREFIX}0123"])
    def test_a_folder_with_a_file_does_not_and_no_byte_moves(
        self, store: LocalArtifactStore, root: Path, put: Callable[[LocalArtifactStore, str, bytes], None], held: str
    ) -> None:
        """Guards against a day's upload that is refused at its end, and against a writer that loses its folder."""
        (root / held).parent.mkdir(parents=True)
        (root / held).write_bytes(b"kept")
        with pytest.raises(KeyConflictError, match="'a'"):
            put(store, "a", b"value")
        with pytest.raises(KeyConflictError):
            store.open_writer("a").__enter__()
        assert files_below(root) == {held}


def _note(call: Callable[[], None], failed: list[BaseException]) -> None:
    try:
        call()
    except BaseException as error:
        failed.append(error)


class TestListing:
    def test_names_that_are_no_keys_are_left_out_and_logged(
        self, store: LocalArtifactStore, root: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        store.write_bytes("a/kept", b"")
        for name in (b"a/not utf-8 \xff", b"a/back\\slash", b"a/control\x01", b"folder \xfe/x"):
            path = root / os.fsdecode(name)
            path.parent.mkdir(exist_ok=True)
            path.touch()
        with caplog.at_level(logging.WARNING):
            assert list(store.iter_keys()) == ["a/kept"]
        assert len(caplog.records) == 4

    def test_a_file_sorts_between_the_folders_around_its_name(self, store: LocalArtifactStore) -> None:
        """Guards against the order of plain names: ``a`` before ``a-``, but ``a/x`` after it."""
        keys = ["a!", "a-/x", "a.nc", "a/x", "a/x.nc", "a0", "b"]
        for key in keys:
            store.write_bytes(key, b"")
        assert list(store.iter_keys()) == sorted(keys) == keys

    def test_a_tree_may_be_as_deep_as_keys_are_long(self, store: LocalArtifactStore) -> None:
        key = "/".join(["d"] * 500)
        store.write_bytes(key, b"deep")
        assert list(store.iter_keys()) == [key]
        assert store.read_bytes(key) == b"deep"
        store.delete(key)
        assert not any(store.root.iterdir())

    def test_stops_early_without_leaving_folders_open(self, store: LocalArtifactStore) -> None:
        for number in range(20):
            store.write_bytes(f"a/b{number}/c", b"")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            assert list(islice(store.iter_keys(), 3)) == ["a/b0/c", "a/b1/c", "a/b10/c"]
        assert len(os.listdir("/proc/self/fd")) <= before  # others may close theirs meanwhile

    def test_a_folder_that_cannot_be_read_is_no_empty_one(self, tmp_path: Path) -> None:
        """Guards against a transfer that takes half a tree for all of it."""
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        store = LocalArtifactStore(tmp_path)
        store.write_bytes("a/kept", b"")
        (tmp_path / "a").chmod(0)
        try:
            with pytest.raises(StoreError, match="permission"):
                list(store.iter_keys())
        finally:
            (tmp_path / "a").chmod(0o700)


class TestDelete:
    def test_takes_the_folders_that_become_empty_but_never_the_root(
        self, store: LocalArtifactStore, root: Path
    ) -> None:
        store.write_bytes("a/b/c/d", b"")
        store.write_bytes("a/kept", b"")
        store.delete("a/b/c/d")
        assert [path.name for path in (root / "a").iterdir()] == ["kept"]
        store.delete("a/kept")
        assert root.is_dir()
        assert not any(root.iterdir())

    def test_writing_beside_it_loses_nothing(self, store: LocalArtifactStore, root: Path) -> None:
        """Guards against a folder that is pruned between being made and being written to."""
        ends = time.monotonic() + 1.5

        def come_and_go(name: str) -> None:
            while time.monotonic() < ends:
                store.write_bytes(f"a/b/c/{name}", b"value")
                assert store.read_bytes(f"a/b/c/{name}") == b"value"
                store.delete(f"a/b/c/{name}")

        with ThreadPoolExecutor(3) as pool:
            for future in [pool.submit(come_and_go, name) for name in "xyz"]:
                future.result()
        assert files_below(root) == set()

    def test_a_copy_outlives_the_pruning_of_its_folder(self, store: LocalArtifactStore, tmp_path: Path) -> None:
        source = LocalArtifactStore(tmp_path / "source")
        session = store.copy_from(source)
        assert session is not None
        with session:
            for name in "xyz":
                source.write_bytes(f"a/{name}", b"value")
                session.copy(f"a/{name}")
                assert store.read_bytes(f"a/{name}") == b"value"
                store.delete(f"a/{name}")


class TestRoot:
    def test_one_that_is_not_there_holds_nothing_and_is_not_made_by_looking(
        self, store: LocalArtifactStore, root: Path
    ) -> None:
        assert list(store.iter_keys()) == []
        assert not store.exists("a")
        store.delete("a")
        store.flush()
        assert store.remove_staging() == ()
        assert not root.exists()

    @pytest.mark.parametrize("place", ["store", "store/below", "dangling"])
    def test_one_that_cannot_be_a_folder_is_an_error_and_not_an_empty_store(self, tmp_path: Path, place: str) -> None:
        """Guards against a transfer that finds nothing to do because of a slip in the configuration."""
        (tmp_path / "store").write_bytes(b"a file")
        (tmp_path / "dangling").symlink_to("absent")
        store = LocalArtifactStore(tmp_path / place)
        with pytest.raises(StoreError, match=r"root of .* is not a folder") as caught:
            store.write_bytes("a", b"")
        assert caught.value.errno == errno.ENOTDIR
        if place != "dangling":
            for look in (lambda: list(store.iter_keys()), lambda: store.exists("a"), lambda: store.read_bytes("a")):
                with pytest.raises(StoreError, match=r"root of .* is not a folder"):
                    look()
        assert (tmp_path / "store").read_bytes() == b"a file"

    def test_its_home_is_known(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert LocalArtifactStore("~/results").root == tmp_path / "results"

    def test_it_stays_where_it_was_when_the_process_goes_elsewhere(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        store = LocalArtifactStore("results")
        monkeypatch.chdir("/")
        store.write_bytes("a", b"")
        assert (tmp_path / "results/a").is_file()


REFUSED = """
import json, sys
from pathlib import Path
from emdstore.errors import EmdstoreError
from emdstore.stores.local import LocalArtifactStore

def stream(key, data):
    with store.open_writer(key) as writer:
        for start in range(0, len(data), 100_000):
            writer.write(data[start:start + 100_000])

def copy(key, data):
    with store.copy_from(source) as session:
        session.copy(key)

def refusal(call, *args):
    try:
        call(*args)
    except EmdstoreError as error:
        return [type(error).__name__, error.errno, error.key, str(error)]

root = Path(sys.argv[1])
store, source = LocalArtifactStore(root / "store"), LocalArtifactStore(root.parent / "source")
"""

FULL = """
data = b"x" * 3_000_000
answers = [refusal(put, "a/good", data) for put in (store.write_bytes, stream, copy)]
answers.append(refusal(store.create_bytes, "a/new", data))
answers.append(sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()))
answers.append(store.read_bytes("a/good").decode())
print(json.dumps(answers))
"""


class TestFileSystemsThatRefuse:
    @pytest.mark.needs("mounts")
    def test_a_full_disk_leaves_what_was_there_and_nothing_else(self, tmp_path: Path) -> None:
        LocalArtifactStore(tmp_path / "source").write_bytes("a/good", b"x" * 3_000_000)
        (tmp_path / "full").mkdir()
        good = 'store.write_bytes("a/good", b"good")\n'
        *refusals, files, left = answer_from_mount("size=1m", tmp_path / "full", REFUSED + good + FULL)
        assert [refusal[:3] for refusal in refusals] == [
            ["StoreError", errno.ENOSPC, key] for key in ("a/good", "a/good", "a/good", "a/new")
        ]
        assert all("free some space" in refusal[3] for refusal in refusals)
        assert files == ["store/a/good"]
        assert left == "good"

    @pytest.mark.needs("mounts")
    def test_a_disk_without_room_for_a_name_refuses_too(self, tmp_path: Path) -> None:
        (tmp_path / "full").mkdir()
        code = 'store.write_bytes("a", b"")\nprint(json.dumps(refusal(store.write_bytes, "b/c", b"")))'
        kind, code_of, key, message = answer_from_mount("nr_inodes=3", tmp_path / "full", REFUSED + code)
        assert (kind, code_of, key) == ("StoreError", errno.ENOSPC, "b/c")
        assert "free some space" in message

    def test_a_limit_on_file_size_leaves_what_was_there_and_nothing_else(self, tmp_path: Path) -> None:
        LocalArtifactStore(tmp_path / "source").write_bytes("a/good", b"x" * 3_000_000)
        LocalArtifactStore(tmp_path / "limited/store").write_bytes("a/good", b"good")
        limit = """
import resource, signal
sys.dont_write_bytecode = True
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
"""
        *refusals, files, left = answer_of(start_python(REFUSED + limit + FULL, tmp_path / "limited"))
        assert [refusal[:2] for refusal in refusals] == [["StoreError", errno.EFBIG]] * 4
        assert files == ["store/a/good"]
        assert left == "good"

    @pytest.mark.needs("mounts")
    def test_a_read_only_file_system_is_named_as_the_reason(self, tmp_path: Path) -> None:
        (tmp_path / "frozen").mkdir()
        LocalArtifactStore(tmp_path / "source").write_bytes("a/good", b"new")
        code = """
import subprocess
store.write_bytes("a/good", b"good")
subprocess.run(["mount", "-o", "remount,ro", root], check=True)
answers = [refusal(put, "a/good", b"new") for put in (store.write_bytes, stream, copy, store.create_bytes)]
answers += [refusal(store.write_bytes, "b/c", b"new"), refusal(store.delete, "a/good")]
answers.append([store.read_bytes("a/good").decode(), *store.iter_keys()])
print(json.dumps(answers))
"""
        *refusals, left = answer_from_mount("size=1m", tmp_path / "frozen", REFUSED + code)
        assert [refusal[:2] for refusal in refusals] == [["StoreAccessError", errno.EROFS]] * 6
        assert all("mounted read-only" in refusal[3] for refusal in refusals)
        assert left == ["good", "a/good"]


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note in which order the store makes things durable, and gives them their names."""
    noted: list[str] = []
    real_fsync, real_rename, real_link = os.fsync, os.rename, os.link

    def fsync(fd: int) -> None:
        real_fsync(fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        noted.append(f"flush {'file' if stat.S_ISREG(os.fstat(fd).st_mode) else os.path.basename(path)}")

    def rename(old: str, new: str, **fds: int) -> None:
        real_rename(old, new, **fds)
        noted.append(f"name {new}")

    def link(old: str, new: str, **fds: int) -> None:
        real_link(old, new, **fds)
        noted.append(f"name {new}")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "link", link)
    return noted


class TestDurability:
    @every_way_to_put
    def test_an_object_is_flushed_before_it_has_its_name_and_the_name_after(
        self, root: Path, order: list[str], put: Callable[[LocalArtifactStore, str, bytes], None]
    ) -> None:
        """Guards against a power cut that leaves a name without bytes, or bytes without a name."""
        (root / "a").mkdir(parents=True)
        put(LocalArtifactStore(root, durability="object"), "a/file", b"value")
        assert order[-3:] == ["flush file", "name file", "flush a"]

    def test_new_folders_are_flushed_in_the_folders_that_hold_them(self, tmp_path: Path, order: list[str]) -> None:
        LocalArtifactStore(tmp_path / "new" / "root", durability="object").write_bytes("a/b/c", b"")
        folders = {tmp_path.name, "new", "root", "a"}
        assert folders <= {each.removeprefix("flush ") for each in order[: order.index("flush file")]}

    def test_the_system_flushes_when_it_likes(self, root: Path, order: list[str]) -> None:
        LocalArtifactStore(root).write_bytes("a/file", b"value")
        assert order == ["name file"]

    def test_nothing_else_is_a_durability(self, root: Path) -> None:
        with pytest.raises(ValueError, match="durability"):
            LocalArtifactStore(root, durability="never")  # type: ignore[arg-type]

    def test_a_scope_is_as_durable(self, root: Path) -> None:
        assert LocalArtifactStore(root, durability="object").scope("a") == LocalArtifactStore(
            root / "a", durability="object"
        )


class TestFiles:
    @every_way_to_put
    @pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
    def test_are_for_whom_the_umask_says(
        self,
        store: LocalArtifactStore,
        root: Path,
        umask: int,
        mode: int,
        put: Callable[[LocalArtifactStore, str, bytes], None],
    ) -> None:
        """Guards against results that only their author can read, as ``tempfile`` would make them."""
        before = os.umask(umask)
        try:
            put(store, "a/b", b"value")
        finally:
            os.umask(before)
        assert stat.S_IMODE((root / "a/b").stat().st_mode) == mode
        assert stat.S_IMODE((root / "a").stat().st_mode) == 0o777 & ~umask

    def test_another_write_is_another_version(self, store: LocalArtifactStore, root: Path) -> None:
        """Also where the size is the same, and the time was set back."""
        store.write_bytes("a", b"one")
        first = store.info("a")
        store.write_bytes("a", b"two")
        os.utime(root / "a", (first.modified, first.modified))
        assert store.info("a").version != first.version

    @pytest.mark.parametrize("change", ["grows", "shrinks", "is overwritten"])
    def test_one_that_changes_while_it_is_read_is_refused(
        self, store: LocalArtifactStore, root: Path, change: str
    ) -> None:
        store.write_bytes("a", b"12345678")
        with store.open_reader("a") as reader:
            assert reader.read(4) == b"1234"
            time.sleep(0.02)  # the clock of file times has a grain
            change_in_place(root / "a", change)
            with pytest.raises(SourceChangedError, match="'a'"):
                list(iter(reader.read, b""))

    @pytest.mark.parametrize("change", ["grows", "shrinks", "is overwritten"])
    @pytest.mark.parametrize("size", [50_000, 3_000_000])
    def test_one_that_changes_while_it_is_copied_leaves_the_old_copy(
        self, store: LocalArtifactStore, tmp_path: Path, change: str, size: int
    ) -> None:
        source = LocalArtifactStore(tmp_path / "source")
        source.write_bytes("a", b"x" * size)
        store.write_bytes("a", b"old")
        time.sleep(0.02)
        once = iter([lambda: change_in_place(source.root / "a", change)])
        session = store.copy_from(source)
        assert session is not None
        with session, pytest.raises(SourceChangedError):
            session.copy("a", lambda count: next(once, lambda: None)())
        assert store.read_bytes("a") == b"old"
        assert files_below(store.root) == {"a"}


def change_in_place(path: Path, change: str) -> None:
    if change == "grows":
        with path.open("ab") as file:
            file.write(b"more")
    elif change == "shrinks":
        os.truncate(path, path.stat().st_size // 2)
    else:
        with path.open("r+b") as file:
            file.write(b"other")


class TestStaging:
    @pytest.fixture
    def killed(self, store: LocalArtifactStore) -> LocalArtifactStore:
        """Return the store after a writer to it was killed."""
        code = """
import os, signal, sys
from emdstore.stores.local import LocalArtifactStore
with LocalArtifactStore(sys.argv[1]).open_writer("a/b/c") as writer:
    writer.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
        store.write_bytes("a/kept", b"value")
        child = start_python(code, store.root)
        child.communicate(timeout=60)
        assert child.returncode < 0
        return store

    def test_what_a_killed_writer_left_is_removed_when_it_is_old(self, killed: LocalArtifactStore, root: Path) -> None:
        assert killed.remove_staging() == ()
        (left,) = killed.remove_staging(older_than=0, dry_run=True)
        assert left.startswith(f"a/b/{STAGING_PREFIX}")
        assert (root / left).is_file()
        assert killed.remove_staging(older_than=0) == (left,)
        assert files_below(root) == {"a/kept"}
        assert killed.remove_staging(older_than=0) == ()

    def test_it_is_found_where_the_root_is_a_link(self, killed: LocalArtifactStore, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(killed.root)
        assert len(LocalArtifactStore(tmp_path / "link").remove_staging(older_than=0)) == 1

    def test_nothing_is_removed_behind_a_link(self, killed: LocalArtifactStore, root: Path, outside: Path) -> None:
        staging = outside / f"{STAGING_PREFIX}0123"
        staging.write_bytes(b"somebody's")
        (root / "way").symlink_to(outside)
        killed.remove_staging(older_than=0)
        assert staging.exists()

    def test_a_writer_whose_staging_file_was_cleaned_up_is_to_write_again(self, store: LocalArtifactStore) -> None:
        """It is no artifact that is missing: whoever copies would call it one that nobody has written."""

        def write() -> None:
            with store.open_writer("a/b") as writer:
                writer.write(b"value")
                store.remove_staging(older_than=0)

        with pytest.raises(StoreUnavailableError, match="write it again"):
            write()
        store.write_bytes("a/b", b"value")
        assert list(store.iter_keys()) == ["a/b"]

    def test_two_writers_of_one_key_do_not_share_it(self, store: LocalArtifactStore, root: Path) -> None:
        with store.open_writer("a") as one, store.open_writer("a") as two:
            one.write(b"one")
            two.write(b"two")
            assert len(files_below(root)) == 2
        assert store.read_bytes("a") == b"one"


def test_what_fails_leaves_nothing_open(root: Path) -> None:
    store = LocalArtifactStore(root)
    store.write_bytes("a/b", b"value")

    def copy_absent() -> None:
        session = LocalArtifactStore(root.parent / "dest").copy_from(store)
        assert session is not None
        with session:
            session.copy("a/absent")

    calls: list[Callable[[], object]] = [
        lambda: store.write_bytes("a", b""),
        lambda: store.open_writer("a").__enter__(),
        lambda: store.create_bytes("a/b", b""),
        lambda: store.read_bytes("a"),
        lambda: store.read_bytes("a/absent"),
        lambda: store.open_reader("a"),
        lambda: store.info("a/absent"),
        copy_absent,
    ]
    before = os.listdir("/proc/self/fd")
    for call in calls:
        with pytest.raises(EmdstoreError):
            call()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("call", ["read_bytes", "write_bytes"])
def test_a_session_opens_a_folder_anew_that_has_gone_stale(
    store: LocalArtifactStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for key in ("a/x", "a/y"):
        store.write_bytes(key, b"value")
    stale: set[int | None] = set()
    real_open, real_stat, real_close = os.open, os.stat, os.close

    def refuse(fd: int | None) -> None:
        if fd in stale:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        refuse(dir_fd)
        return real_open(path, flags, mode, dir_fd=dir_fd)

    def looked_at(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        refuse(dir_fd)
        return real_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def closed(fd: int) -> None:
        stale.discard(fd)
        real_close(fd)

    arguments = [b"new"] if call == "write_bytes" else []
    before = set(os.listdir("/proc/self/fd"))
    with store.session() as session:
        session.write_bytes("b/y", b"")
        session.read_bytes("b/y")
        session.read_bytes("a/y")  # some are closed again
        session.write_bytes("a/y", b"")
        opened_since = {*os.listdir("/proc/self/fd")} - before
        stale |= {int(fd) for fd in opened_since if os.path.exists(f"/proc/self/fd/{fd}")}
        monkeypatch.setattr(os, "open", opened)  # there is no network file system here to go stale
        monkeypatch.setattr(os, "stat", looked_at)
        monkeypatch.setattr(os, "close", closed)
        with pytest.raises(StoreUnavailableError):
            getattr(session, call)("a/x", *arguments)
        assert getattr(session, call)("a/x", *arguments) == (None if arguments else b"value")


def test_what_others_put_into_a_folder_that_was_just_made_is_found_by_the_rename(
    store: LocalArtifactStore, root: Path, outside: Path
) -> None:
    (outside / "file").write_bytes(b"theirs")
    with store.session() as session:
        session.write_bytes("a/x", b"ours")
        (root / "a" / "folder").mkdir()
        (root / "a" / "folder" / "y").write_bytes(b"theirs")
        (root / "a" / "link").symlink_to(outside / "file")
        session.write_bytes("a/link", b"ours")
        with pytest.raises(KeyConflictError, match="a file cannot be a folder too"):
            session.write_bytes("a/folder", b"ours")
    assert not (root / "a" / "link").is_symlink()
    assert {key: store.read_bytes(key) for key in store.iter_keys()} == {
        "a/folder/y": b"theirs",
        "a/link": b"ours",
        "a/x": b"ours",
    }
    assert (outside / "file").read_bytes() == b"theirs"
    assert sorted(os.listdir(root / "a")) == ["folder", "link", "x"]


def test_what_lies_in_a_folder_that_was_there_is_looked_at_before_a_byte_moves(
    store: LocalArtifactStore, root: Path, outside: Path
) -> None:
    (root / "a").mkdir(parents=True)
    (root / "a" / "link").symlink_to(outside / "file")
    with store.session() as session:
        session.write_bytes("b/x", b"ours")  # in a folder that was made here
        with pytest.raises(UnsafePathError):
            session.write_bytes("a/link", b"ours")
    assert (root / "a" / "link").is_symlink()


def test_equal_folders_are_equal_stores(root: Path) -> None:
    assert LocalArtifactStore(root) == LocalArtifactStore(str(root)) == LocalArtifactStore(root / "x" / "..")
    assert len({LocalArtifactStore(root), LocalArtifactStore(root)}) == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        LocalArtifactStore(root).root = root / "other"  # type: ignore[misc]


def test_who_creates_over_a_network_file_system_and_does_not_hear_of_it_has_created_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_and_lose_the_answer(*args: Any, **options: Any) -> None:
        link(*args, **options)
        raise FileExistsError

    monkeypatch.setattr("os.link", link_and_lose_the_answer)
    store = LocalArtifactStore(tmp_path)
    store.create_bytes("a", b"one")
    monkeypatch.undo()
    with pytest.raises(ArtifactExistsError):
        store.create_bytes("a", b"one")
    assert store.read_bytes("a") == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_system_without_hard_links_has_put_if_absent_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.link", refuse)
    store = LocalArtifactStore(tmp_path)
    store.create_bytes("a", b"one")
    with pytest.raises(ArtifactExistsError):
        store.create_bytes("a", b"two")
    assert store.read_bytes("a") == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


class TestReplacingWhatWasSeen:
    @pytest.fixture
    def store(self, tmp_path: Path) -> LocalArtifactStore:
        store = LocalArtifactStore(tmp_path)
        store.write_bytes("run/record", b"one")
        return store

    @pytest.fixture
    def halted(self, store: LocalArtifactStore) -> Iterator[subprocess.Popen[bytes]]:
        """Run a process that holds the folder's lock, and goes on to rename when it is told to."""
        program = (
            "import os, sys; from emdstore import LocalArtifactStore; from hashlib import sha256\n"
            "def rename(*args, **options):\n"
            "    print(flush=True); sys.stdin.readline(); original(*args, **options)\n"
            "original, os.rename = os.rename, rename\n"
            f"store = LocalArtifactStore({str(store.root)!r})\n"
            "store.replace_bytes('run/record', b'of the first', sha256(b'one').hexdigest())"
        )
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                yield process
            finally:
                process.kill()

    def test_a_writer_that_is_halted_between_look_and_rename_lets_nobody_else_through(
        self, store: LocalArtifactStore, halted: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("emdstore.stores.local.locking.PATIENCE", 0.1)
        with pytest.raises(StoreUnavailableError, match=rf"process .*:{halted.pid} has been about to"):
            store.replace_bytes("run/record", b"of the second", sha256(b"one").hexdigest())
        halted.communicate(b"\n", timeout=30)
        assert store.read_bytes("run/record") == b"of the first"
        with pytest.raises(ArtifactChangedError):
            store.replace_bytes("run/record", b"of the second", sha256(b"one").hexdigest())
        assert os.listdir(store.root / "run") == ["record"]

    def test_a_writer_that_is_killed_between_look_and_rename_is_in_nobodys_way(
        self, store: LocalArtifactStore, halted: subprocess.Popen[bytes]
    ) -> None:
        halted.kill()
        halted.wait(30)
        store.replace_bytes("run/record", b"of the second", sha256(b"one").hexdigest())
        assert store.read_bytes("run/record") == b"of the second"
        assert not (store.root / "run" / ".emdstore-lock").exists()

    def test_a_lock_that_was_given_back_just_then_is_taken_anew(
        self, store: LocalArtifactStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lock, flock, tries = store.root / "run" / LOCK, fcntl.flock, []

        def flock_late(fd: int, how: int) -> None:
            if not tries:
                lock.unlink()  # by the one before, between the two calls of this one
            tries.append(how)
            flock(fd, how)

        monkeypatch.setattr("fcntl.flock", flock_late)
        folder = os.open(store.root / "run", os.O_RDONLY)
        with FolderLock(store.ground, folder, "run/record"):
            assert lock.exists()
        os.close(folder)
        assert not lock.exists()

    def test_a_place_without_locks_is_compared_all_the_same(
        self, store: LocalArtifactStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any) -> None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr("fcntl.flock", refuse)
        store.replace_bytes("run/record", b"two", sha256(b"one").hexdigest())
        with pytest.raises(ArtifactChangedError):
            store.replace_bytes("run/record", b"three", sha256(b"one").hexdigest())
        assert os.listdir(store.root / "run") == ["record"]


class TestFilesAsSitesHaveThem:
    @pytest.mark.parametrize("name", ["ostype", "osrelease"])
    def test_a_file_that_says_it_has_no_bytes_is_read_to_its_end(self, name: str, tmp_path: Path) -> None:
        kernel = Path("/proc/sys/kernel")
        if not (kernel / name).is_file() or (kernel / name).stat().st_size:
            pytest.skip("no such file here")
        data = (kernel / name).read_bytes()
        source, dest = LocalArtifactStore(kernel), LocalArtifactStore(tmp_path)
        assert source.read_bytes(name) == data
        with source.open_reader(name) as reader:
            assert reader.info.size == len(data)
            assert b"".join(iter(lambda: reader.read(3), b"")) == data
        with dest.copy_from(source) as session:  # type: ignore[union-attr]
            assert session.copy(name).size == len(data)
        assert dest.read_bytes(name) == data

    def test_a_file_that_grows_from_nothing_while_it_is_read_has_changed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = LocalArtifactStore(tmp_path)
        (tmp_path / "a").touch()
        read = os.read

        def append_and_read(fd: int, size: int) -> bytes:
            (tmp_path / "a").write_bytes(b"more")
            return read(fd, size)

        monkeypatch.setattr("os.read", append_and_read)
        with pytest.raises(SourceChangedError):
            store.read_bytes("a")

    @pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
    def test_a_program_stays_one_for_those_who_may_read_it(self, mask: int, tmp_path: Path) -> None:
        source, dest = LocalArtifactStore(tmp_path / "from"), LocalArtifactStore(tmp_path / "to")
        source.write_bytes("run.sh", b"#!/bin/sh")
        source.write_bytes("data", b"x")
        (tmp_path / "from/run.sh").chmod(0o755)
        before = os.umask(mask)
        try:
            with dest.copy_from(source) as session:  # type: ignore[union-attr]
                session.copy("run.sh")
                session.copy("data")
        finally:
            os.umask(before)
        assert (tmp_path / "to/run.sh").stat().st_mode & 0o777 == 0o777 & ~mask
        assert (tmp_path / "to/data").stat().st_mode & 0o777 == 0o666 & ~mask

    @pytest.mark.parametrize("end", [b"", b"end"])
    def test_a_file_with_holes_keeps_them(self, end: bytes, tmp_path: Path) -> None:
        source, dest = LocalArtifactStore(tmp_path / "from"), LocalArtifactStore(tmp_path / "to")
        (tmp_path / "from").mkdir()
        with (tmp_path / "from/a").open("wb") as file:
            file.write(b"begin")
            file.seek(20_000_000)
            file.write(end)
            file.truncate(20_000_000 + len(end))
        if (tmp_path / "from/a").stat().st_blocks * 512 > 1_000_000:
            pytest.skip("this file system has no holes")
        with dest.copy_from(source) as session:  # type: ignore[union-attr]
            copied = session.copy("a")
        data = (tmp_path / "from/a").read_bytes()
        assert (tmp_path / "to/a").read_bytes() == data
        assert (copied.size, copied.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert (tmp_path / "to/a").stat().st_blocks * 512 < 1_000_000

    def test_what_is_made_in_a_folder_of_a_group_is_the_groups(self, tmp_path: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs a group that this user is not in")
        os.chown(tmp_path, -1, 12345)
        tmp_path.chmod(0o2775)
        before = os.umask(0o002)
        try:
            LocalArtifactStore(tmp_path).write_bytes("a/b", b"x")
        finally:
            os.umask(before)
        for path in (tmp_path / "a", tmp_path / "a/b"):
            assert path.stat().st_gid == 12345
            assert path.stat().st_mode & stat.S_IWGRP
        assert (tmp_path / "a").stat().st_mode & stat.S_ISGID

    def test_where_two_names_are_one_the_second_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Such a file system cannot be had everywhere: to look for a name finds the other one, and a list has only that.
        store = LocalArtifactStore(tmp_path)
        store.write_bytes("TAS.png", b"first")
        os.link(tmp_path / "TAS.png", tmp_path / "tas.png")
        monkeypatch.setattr("emdstore.stores.local.sessions.folds_names", lambda *_: True)
        monkeypatch.setattr("os.listdir", lambda fd: ["TAS.png"])
        for write in (store.write_bytes, store.create_bytes):
            with pytest.raises(KeyConflictError, match="takes the two for one"):
                write("tas.png", b"second")
        store.write_bytes("TAS.png", b"again")
        store.write_bytes("other.png", b"x")
        monkeypatch.undo()
        assert (tmp_path / "TAS.png").read_bytes() == b"again"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["TAS.png", "other.png", "tas.png"]

    def test_deep_folders_need_few_open_files(self, tmp_path: Path) -> None:
        deep = "/".join(["d"] * 150)
        store = LocalArtifactStore(tmp_path)
        store.write_bytes(f"{deep}/a", b"x")
        store.write_bytes("d/d/b", b"x")
        code = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))\n"
        code += "from emdstore import LocalArtifactStore\n"
        code += "print([info.key for info in LocalArtifactStore(sys.argv[1]).iter_info()])"
        ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == str(["d/d/b", f"{deep}/a"])

    def test_a_folder_that_cannot_be_read_is_told_of_and_not_taken_for_empty(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = LocalArtifactStore(tmp_path)
        for key in ("a/x", "closed/x", "z"):
            store.write_bytes(key, b"x")
        opened = os.open

        def refuse(path: Any, *args: Any, **options: Any) -> int:
            if path == "closed":
                raise PermissionError(errno.EACCES, "Permission denied")
            return opened(path, *args, **options)

        monkeypatch.setattr("os.open", refuse)  # this user may be one who may read everything
        found = list(store.iter_found())
        assert [each.key for each in found if not isinstance(each, LeftOut)] == ["a/x", "z"]
        (left_out,) = [each for each in found if isinstance(each, LeftOut)]
        assert (left_out.name, left_out.reason) == ("closed/", "cannot be read: Permission denied")
        for listing in (store.iter_keys, store.iter_info):
            with pytest.raises(StoreAccessError, match="closed"):
                list(listing())


def test_a_process_that_ends_early_takes_its_staging_files_with_it(tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path)
    store.write_bytes("a/b", b"old")
    with pytest.raises(EmdstoreError), store.open_writer("a/b") as writer:  # noqa: PT012
        writer.write(b"new")
        discard_staged()
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert store.read_bytes("a/b") == b"old"


def _stream(store: LocalArtifactStore) -> None:
    with store.open_writer("a/value") as writer:
        writer.write(b"new")


def _copy(store: LocalArtifactStore) -> None:
    source = LocalArtifactStore(store.root.parent / "source")
    source.write_bytes("a/value", b"new")
    with CopyFiles(source.ground, store.ground) as copies:
        copies.copy("a/value")


@pytest.mark.parametrize(
    "write", [lambda store: store.write_bytes("a/value", b"new"), _stream, _copy], ids=["bytes", "stream", "copy"]
)
def test_ctrl_c_right_after_the_unfinished_file_was_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[LocalArtifactStore], None]
) -> None:
    store = LocalArtifactStore(tmp_path / "store")
    store.write_bytes("a/value", b"old")
    make = os.open

    def interrupted(path: Any, *more: Any, **how: Any) -> int:
        fd = make(path, *more, **how)
        if list((store.root / "a").glob(f"{STAGING_PREFIX}*")):
            raise KeyboardInterrupt
        return fd

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(store)
    assert [path.name for path in (store.root / "a").iterdir()] == ["value"]
    assert store.read_bytes("a/value") == b"old"
