"""Clauses 2 to 4: an artifact is there or not, its bytes are those that were written, and writing replaces it whole."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from emdstore.errors import ArtifactNotFoundError
from emdstore.stores.port import ArtifactStore
from emdstore.testing.children import is_whole, payload
from emdstore.testing.contract.harness import Clauses, StoreHarness
from emdstore.testing.machine import run_store_state_machine

_WRITES_READ = 5
"""The minimum number of writes during which the test reads."""

KIB, MIB = 1024, 1024 * 1024

VALUES = {
    "empty": b"",
    "nul": b"\0",
    "every byte": bytes(range(256)),
    "line ends": b"a\r\nb\nc\rd\x1a",
    "not text": b"\xff\xfe\x80",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    "16 KiB + 1": bytes(range(256)) * 64 + b"!",
    "1 MiB": bytes(range(256)) * 4096,
    "9 MiB": (bytes(range(255)) * (9 * MIB // 255 + 1))[: 9 * MIB],
}


class ValueClauses(Clauses):
    """Clauses 2 to 4, as one process sees them."""

    @pytest.mark.parametrize("data", VALUES.values(), ids=VALUES.keys())
    def test_keeps_the_bytes_exactly(self, harness: StoreHarness, store: ArtifactStore, data: bytes) -> None:
        """What is read is what was written.

        Guards against text mode, transparent decompression, a buffer's worth that is lost at 16 KiB, and the seam
        where an engine changes to multipart uploads (8 MiB in many).
        """
        store.write_bytes("a/value", data)
        # Compared outside the assert: nobody wants to see nine million bytes of difference.
        read, raw = store.read_bytes("a/value") == data, harness.raw_get("a/value") == data
        assert (read, raw) == (True, True)

    def test_empty_bytes_are_a_value(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """An empty artifact exists, is listed and is read.

        Guards against ``if not data: return``: empty logs and empty series files are in real sets.
        """
        store.write_bytes("out.log", b"")
        assert store.exists("out.log")
        assert store.read_bytes("out.log") == b""
        assert list(store.iter_keys()) == ["out.log"]
        assert harness.raw_get("out.log") == b""

    @pytest.mark.parametrize(("old", "new"), [(b"longer value", b"short"), (b"a", b"longer"), (b"a", b""), (b"", b"a")])
    def test_writing_again_replaces_the_value(
        self, harness: StoreHarness, store: ArtifactStore, old: bytes, new: bytes
    ) -> None:
        """None of the old bytes remain.

        Guards against writing over a longer file without truncating it, and against ``open(path, "x")``.
        """
        store.write_bytes("a/value", old)
        store.write_bytes("a/value", new)
        assert store.read_bytes("a/value") == new
        assert harness.raw_get("a/value") == new

    def test_writing_leaves_nothing_else_behind(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """After writing or replacing a value, the store holds that artifact and nothing else.

        Guards against staging files that are never removed: on a results file system they count against the quota.
        """
        store.write_bytes("a/value", b"old")
        store.write_bytes("a/value", b"new")
        assert sorted(harness.raw_keys()) == ["a/value"]

    def test_what_others_wrote_is_read(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Existence and value are always current.

        Guards against caches of values and of absence, within one instance.
        """
        assert not store.exists("a/value")
        assert list(store.iter_keys()) == []
        harness.raw_put("a/value", b"one")
        assert store.exists("a/value")
        assert store.read_bytes("a/value") == b"one"
        harness.raw_put("a/value", b"two")
        assert store.read_bytes("a/value") == b"two"

    @pytest.mark.parametrize("key", ["absent", "a/absent", "absent/deep/down", "a/value.txt", "a/valu", "A/value"])
    def test_an_absent_key_is_not_found(self, harness: StoreHarness, store: ArtifactStore, key: str) -> None:
        """Raises `ArtifactNotFoundError`, which is a `FileNotFoundError` and names the key.

        Guards against reading an absent artifact as ``b""`` or None: a missing log then passes for an empty one.
        """
        harness.raw_put("a/value", b"value")
        assert store.exists(key) is False
        with pytest.raises(ArtifactNotFoundError) as caught:
            store.read_bytes(key)
        assert isinstance(caught.value, FileNotFoundError)
        assert caught.value.key == key
        assert key in str(caught.value)

    def test_an_untouched_place_is_empty(self, store: ArtifactStore) -> None:
        """A store to which nothing was ever written behaves like an empty one.

        Guards against a root folder or bucket prefix that must be created first.
        """
        assert store.exists("a") is False
        assert list(store.iter_keys()) == []
        assert list(store.iter_keys("a/b")) == []
        with pytest.raises(ArtifactNotFoundError):
            store.read_bytes("a")

    @pytest.mark.parametrize("prefix", ["run1", "run1/plots"])
    def test_a_mere_prefix_does_not_exist(self, harness: StoreHarness, store: ArtifactStore, prefix: str) -> None:
        """`exists` is about artifacts, and a folder cannot be read.

        Guards against a directory that passes for the artifact of the same name: "the log is there" when it is not.
        """
        harness.raw_put("run1/plots/a.png", b"value")
        assert store.exists(prefix) is False
        with pytest.raises(ArtifactNotFoundError, match=prefix):
            store.read_bytes(prefix)

    def test_a_reader_during_a_write_sees_the_old_or_the_new(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """While one thread overwrites an artifact, another never sees part of it, a mixture, or nothing.

        Guards against writing in place, and against "remove, then rename".
        """
        store.write_bytes("a/value", payload(0))
        begun, often, enough = Event(), Event(), Event()

        def overwrite() -> None:
            writer, turn = harness.make(), 0
            while not enough.is_set():
                begun.set()
                turn += 1
                writer.write_bytes("a/value", payload(turn))
                if turn == _WRITES_READ:
                    often.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(overwrite)
            try:
                assert begun.wait(harness.patience)
                rounds, until = 0, time.monotonic() + harness.patience
                # On a busy machine many rounds may pass while the writer gets no turn.
                while rounds < 4 * harness.rounds or (
                    not often.is_set() and not writing.done() and time.monotonic() < until
                ):
                    rounds += 1
                    assert store.exists("a/value")
                    assert is_whole(store.read_bytes("a/value"))
                    assert list(store.iter_keys("a")) == ["a/value"]
            finally:
                enough.set()
            writing.result()

    def test_two_writers_of_one_key_leave_one_of_both(self, harness: StoreHarness, store: ArtifactStore) -> None:
        """Threads that write one key at once all succeed, and the value is one of theirs, complete.

        Guards against a staging file name that two writers share.
        """

        def write(turn: int) -> None:
            harness.make().write_bytes("a/value", payload(turn))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(harness.rounds)))
        assert is_whole(store.read_bytes("a/value"))
        assert sorted(harness.raw_keys()) == ["a/value"]

    def test_writers_that_share_a_store_do_not_disturb_each_other(
        self, harness: StoreHarness, store: ArtifactStore
    ) -> None:
        """Threads that write through one instance into one new folder all succeed.

        Guards against the race to create a folder, and against one thread closing the engine while another uses it.
        """
        keys = [f"new/folder/{n:03}" for n in range(2 * harness.rounds)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda key: store.write_bytes(key, key.encode()), keys))
        assert {key: harness.raw_get(key) for key in keys} == {key: key.encode() for key in keys}

    def test_agrees_with_a_dict(self, harness: StoreHarness) -> None:
        """Over random sequences of calls, the store has the same content as a dict.

        Guards against unforeseen faults.
        """
        run_store_state_machine(harness.make, rounds=harness.rounds)
