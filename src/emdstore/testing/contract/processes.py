"""Clauses 4 and 7 across processes: crashes, full disks, other writers, pickling and forks."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import time
import warnings

import pytest

from emdstore.stores.port import ArtifactStore
from emdstore.testing import children
from emdstore.testing.children import Child, is_whole, payload
from emdstore.testing.contract.harness import Clauses, StoreHarness

_READ_IN_FORK = "what the parent wrote"


def needs_other_processes(harness: StoreHarness) -> None:
    """Skip if a store cannot be seen from, or sent to, another process."""
    if not (harness.shared and harness.pickles):
        pytest.skip("other processes cannot see this store")


class ProcessClauses(Clauses):
    """Clauses 4 and 7, as several processes see them."""

    def test_a_killed_writer_leaves_the_old_or_the_new(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """After SIGKILL during a write, the value is whole, nothing else is listed, and writing still works.

        Guards against writing in place: a batch system that kills a job at its time limit then leaves half a NetCDF
        file under the name of a whole one.
        """
        needs_other_processes(harness)
        moments = (0, 7, 19)
        for milliseconds in moments:
            with Child(children.overwrite, store, "a/value", 0, patience=harness.patience) as writer:
                assert writer.answer() == "ready"
                time.sleep(milliseconds / 1000)
                writer.kill()
            assert is_whole(store.read_bytes("a/value"))
            assert list(store.iter_keys()) == ["a/value"]
        # A server may carry out what a killed writer had sent when the next one is done: once for each.
        for _ in range(1 + len(moments)):
            store.write_bytes("a/value", b"goes on")
            if harness.raw_get("a/value") == b"goes on":
                break
        assert harness.raw_get("a/value") == b"goes on"

    @pytest.mark.parametrize("limit", [0, 100_000])
    def test_death_within_a_write_leaves_the_old_or_the_new(
        self, harness: StoreHarness, store: ArtifactStore, limit: int
    ) -> None:
        """The same, but the kernel kills the writer when its file exceeds a limit.

        Guards against torn files that a kill after some milliseconds may miss.
        """
        needs_other_processes(harness)
        store.write_bytes("a/value", payload(1))
        with Child(
            children.write_into_a_full_disk, store, "a/value", payload(2), limit, True, patience=harness.patience
        ) as writer:
            writer.wait()
        assert is_whole(store.read_bytes("a/value"))
        assert list(store.iter_keys()) == ["a/value"]

    def test_a_write_that_fails_leaves_the_old_value(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """A full disk raises `StoreError`, keeps the old value, and leaves nothing staged.

        Guards against a good result that a failed promotion destroys, and against a full disk that staging files keep
        full. Stores that write no files of this machine just succeed here.
        """
        needs_other_processes(harness)
        store.write_bytes("a/value", payload(1))
        with Child(
            children.write_into_a_full_disk, store, "a/value", payload(2), 100_000, False, patience=harness.patience
        ) as writer:
            answer = writer.answer()
            assert writer.wait() == 0
        assert answer in ("refused", "written")
        same = harness.raw_get("a/value") == payload(1 if answer == "refused" else 2)
        assert same, f"the write was {answer}, and another value is there"
        assert sorted(harness.raw_keys()) == ["a/value"]

    def test_readers_beside_writing_processes_see_whole_values(
        self, harness: StoreHarness, store: ArtifactStore
    ) -> None:
        """While two processes overwrite one artifact, every read gives one whole value and every listing that key.

        Guards against locks and staging names that only hold within one process.
        """
        needs_other_processes(harness)
        store.write_bytes("a/value", payload(0))
        arguments = (children.overwrite, store, "a/value")
        with (
            Child(*arguments, 0, harness.rounds, patience=harness.patience) as one,
            Child(*arguments, 100, harness.rounds, patience=harness.patience) as other,
        ):
            while one.busy or other.busy:
                assert store.exists("a/value")
                assert is_whole(store.read_bytes("a/value"))
                assert list(store.iter_keys()) == ["a/value"]
            assert (one.wait(), other.wait()) == (0, 0)
        assert is_whole(store.read_bytes("a/value"))
        assert sorted(harness.raw_keys()) == ["a/value"]

    def test_pickles_as_its_configuration(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Before and after its first use; the copy sees the same artifacts, and neither artifacts nor secrets travel.

        Guards against a client, a lock or a cache among the attributes: a store has to reach Dask and MPI workers; and
        against credentials in whatever keeps the pickle, a file or a scheduler. (In this process, and where
        `credentials_go_along` has sent it, the copy has them.)
        """
        if not harness.pickles:
            pytest.skip("the store makes no promise to pickle")
        unused = pickle.dumps(harness.make())
        store.write_bytes("a/value", payload(1))
        used = pickle.dumps(store)
        for name, pickled in {"a/unused": unused, "a/used": used}.items():
            assert len(pickled) < len(payload(1)) // 4
            assert [secret for secret in harness.secrets if secret.encode() in pickled] == []
            copy = pickle.loads(pickled)
            same = copy.read_bytes("a/value") == payload(1)
            assert same
            copy.write_bytes(name, b"by the copy")
            assert store.read_bytes(name) == b"by the copy"
            store.write_bytes(name, b"by the original")
            assert copy.read_bytes(name) == b"by the original"
            assert list(copy.iter_keys()) == list(store.iter_keys())

    def test_another_process_sees_the_same_artifacts(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Reading, listing and writing from a fresh interpreter, as soon as each call returned.

        Guards against writes that stay in a buffer, and against pickles that load only where they were created.
        """
        needs_other_processes(harness)
        store.write_bytes("from-parent", b"parent")
        with Child(children.exchange, store, patience=harness.patience) as child:
            answer = child.answer()
            assert child.wait() == 0
        assert json.loads(answer) == ["parent", ["from-parent"]]
        assert store.read_bytes("from-child") == b"child"
        assert list(store.iter_keys()) == ["from-child", "from-parent"]

    def test_a_fork_can_go_on(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """A child forked after the store was used can read and write without delay, and so can the parent afterwards.

        Guards against an engine whose threads did not come along: its first call in the child hangs for ever, and that
        is what ``multiprocessing`` does by default up to Python 3.13.
        """
        if not (harness.forks and hasattr(os, "fork")):
            pytest.skip("the store makes no promise about forks")
        store.write_bytes("from-parent", _READ_IN_FORK.encode())
        with warnings.catch_warnings():
            # Forking beside threads is what this is about; newer Pythons warn of it.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = multiprocessing.get_context("fork").Process(target=_go_on, args=(store,))
            child.start()
        child.join(harness.patience)
        if child.is_alive():
            child.kill()
            child.join()
            pytest.fail(f"the store hung for {harness.patience:g} s in a forked child")
        assert child.exitcode == 0
        assert store.read_bytes("from-parent") == _READ_IN_FORK.encode()
        store.write_bytes("after", b"parent")
        expected = ["after", "from-child", "from-parent"] if harness.shared else ["after", "from-parent"]
        assert list(store.iter_keys()) == expected


def _go_on(store: ArtifactStore) -> None:
    assert store.read_bytes("from-parent") == _READ_IN_FORK.encode()
    store.write_bytes("from-child", b"child")
    assert list(store.iter_keys()) == ["from-child", "from-parent"]
    try:
        store.read_bytes("absent")
    except FileNotFoundError:
        return
    raise AssertionError("an absent key was read in a forked child")
