"""The capability of objects larger than memory: read in pieces, written all or nothing."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from emdstore.errors import ArtifactNotFoundError, SourceChangedError
from emdstore.stores.port import ArtifactReader, ArtifactStore, SupportsStreaming
from emdstore.testing import children
from emdstore.testing.children import Child, is_whole, payload
from emdstore.testing.contract.harness import Clauses, StoreHarness
from emdstore.testing.contract.processes import needs_other_processes
from emdstore.testing.contract.values import MIB, VALUES


def _drain(reader: ArtifactReader, size: int) -> bytes:
    parts = []
    while part := reader.read(size):
        assert len(part) <= size
        parts.append(part)
    assert reader.read(size) == b""
    return b"".join(parts)


class StreamingClauses(Clauses):
    """`SupportsStreaming`; skipped where the store does not claim it."""

    @pytest.fixture
    def streams(self, store: ArtifactStore) -> SupportsStreaming:
        """Return the store, if it supports streaming."""
        return store if isinstance(store, SupportsStreaming) else pytest.skip("no SupportsStreaming")

    @pytest.mark.parametrize("data", VALUES.values(), ids=VALUES.keys())
    def test_reads_in_pieces(self, harness: StoreHarness, streams: SupportsStreaming, data: bytes) -> None:
        """All bytes in order, never more than asked for, ``b""`` only at the end, and the size known from the start.

        Guards against a short piece that passes for the last one.
        """
        harness.raw_put("a/value", data)
        with streams.open_reader("a/value") as reader:
            assert (reader.info.key, reader.info.size) == ("a/value", len(data))
            same = _drain(reader, 100_003) == data
        assert same

    @pytest.mark.parametrize("key", ["absent", "a", "a/value/below"])
    def test_reading_nothing_is_not_found(self, harness: StoreHarness, streams: SupportsStreaming, key: str) -> None:
        """At the latest by the first read.

        Guards against an empty stream of an absent artifact, or of a folder.
        """
        harness.raw_put("a/value", b"value")
        with pytest.raises(ArtifactNotFoundError, match=key), streams.open_reader(key) as reader:
            reader.read()

    @pytest.mark.parametrize("new", [payload(2), b"", payload(2)[:-1]], ids=["longer", "empty", "shorter"])
    def test_a_reader_reads_one_version(self, harness: StoreHarness, streams: SupportsStreaming, new: bytes) -> None:
        """If the artifact is replaced meanwhile: all of the old version, or `SourceChangedError`; never a mixture.

        Guards against range requests that each get what is there at that moment.
        """
        harness.raw_put("a/value", payload(1))
        with streams.open_reader("a/value") as reader:
            first = reader.read(1000)
            harness.raw_put("a/value", new)
            with suppress(SourceChangedError):
                assert is_whole(first + _drain(reader, 50_000))

    @pytest.mark.parametrize(
        "parts",
        [
            pytest.param([], id="nothing"),
            pytest.param([b""], id="empty"),
            pytest.param([b"a", b"", b"b"], id="with an empty part"),
            pytest.param([bytes([n % 256]) * n for n in range(0, 700, 7)], id="uneven"),
            pytest.param([bytes([n]) * MIB for n in range(9)] + [b"!"], id="9 MiB + 1"),
            pytest.param([b"x" * (9 * MIB)], id="one large part"),
        ],
    )
    def test_writes_in_pieces(self, harness: StoreHarness, streams: SupportsStreaming, parts: list[bytes]) -> None:
        """The pieces in order are the value, whatever their sizes; nothing else is left.

        Guards against multipart uploads without a last part, with parts that are too small, or with none at all.
        """
        with streams.open_writer("a/value") as writer:
            for part in parts:
                writer.write(part)
        same = harness.raw_get("a/value") == b"".join(parts)
        assert same
        assert sorted(harness.raw_keys()) == ["a/value"]

    @pytest.mark.parametrize("old", [None, b"old"], ids=["new", "replacing"])
    def test_nothing_shows_before_the_end(
        self, harness: StoreHarness, store: ArtifactStore, streams: SupportsStreaming, old: bytes | None
    ) -> None:
        """Until the ``with`` block is left, every reader sees the old value, or none.

        Guards against a file that grows under its final name.
        """
        if old is not None:
            harness.raw_put("a/value", old)
        expected = [] if old is None else ["a/value"]
        with streams.open_writer("a/value") as writer:
            for _ in range(3):
                writer.write(b"x" * MIB)
                assert store.exists("a/value") == (old is not None)
                assert list(store.iter_keys()) == expected
                assert old is None or store.read_bytes("a/value") == old
        same = store.read_bytes("a/value") == b"x" * (3 * MIB)
        assert same

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
    @pytest.mark.parametrize("old", [None, b"old"], ids=["new", "replacing"])
    @pytest.mark.parametrize("size", [0, 10, 9 * MIB])
    def test_leaving_by_an_exception_undoes_all(
        self,
        harness: StoreHarness,
        streams: SupportsStreaming,
        error: type[BaseException],
        old: bytes | None,
        size: int,
    ) -> None:
        """The exception comes out, the old value stays, and nothing staged is left, also on Ctrl-C.

        Guards against ``finally: close()``, which commits half of the object.
        """
        if old is not None:
            harness.raw_put("a/value", old)
        with pytest.raises(error), streams.open_writer("a/value") as writer:  # noqa: PT012
            writer.write(b"x" * size)
            raise error
        same = harness.raw_get("a/value") == old
        assert same, "the old value is gone"
        assert sorted(harness.raw_keys()) == ([] if old is None else ["a/value"])

    def test_two_streams_to_one_key_leave_one_of_both(self, harness: StoreHarness, streams: SupportsStreaming) -> None:
        """Writers that are open at the same time do not mix; what is there at the end is one of theirs.

        Guards against a staging file whose name two writers share.
        """

        def write(turn: int) -> None:
            with streams.open_writer("a/value") as writer:
                for start in range(0, len(payload(turn)), 50_000):
                    writer.write(payload(turn)[start : start + 50_000])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(harness.rounds)))
        assert is_whole(harness.raw_get("a/value") or b"")
        assert sorted(harness.raw_keys()) == ["a/value"]

    def test_a_killed_stream_leaves_the_old_value(
        self, harness: StoreHarness, store: ArtifactStore, streams: SupportsStreaming
    ) -> None:
        """SIGKILL before the ``with`` block is left: the old value, and nothing listed beside it.

        Guards against half an object under its final name.
        """
        needs_other_processes(harness)
        harness.raw_put("a/value", b"old")
        with Child(children.die_while_streaming, store, "a/value", b"x" * MIB, patience=harness.patience) as writer:
            assert writer.wait() == -signal.SIGKILL
        assert store.read_bytes("a/value") == b"old"
        assert list(store.iter_keys()) == ["a/value"]
        with streams.open_writer("a/value") as again:
            again.write(b"new")
        assert harness.raw_get("a/value") == b"new"
