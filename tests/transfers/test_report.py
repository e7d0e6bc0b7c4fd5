"""The report and the progress of a transfer."""

from __future__ import annotations

import itertools
import json
import pickle
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from tests.transfers.stores import FourMethods, Slow, Streams, fill

from emdstore.errors import StoreAccessError, StoreError, TransferError
from emdstore.sets.transfer import transfer
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactInfo, ArtifactStore
from emdstore.testing import Fault, FaultyStore
from emdstore.transfers import KeyOutcome, TransferInterrupted, TransferProgress, TransferReport

MIXED = TransferReport(
    (
        KeyOutcome("a", "copied", 5, "ab" * 32),
        KeyOutcome("b", "unchanged", 7),
        KeyOutcome("c", "missing", error=FileNotFoundError("no artifact 'c'")),
        KeyOutcome("d", "failed", 9, error=StoreError("the disk is full", key="d")),
    ),
    1.25,
)


class TestReport:
    def test_counts_every_outcome_also_those_that_did_not_occur(self) -> None:
        assert MIXED.counts == {"copied": 1, "unchanged": 1, "missing": 1, "rejected": 0, "failed": 1, "left": 0}
        assert MIXED.bytes_copied == 5
        assert MIXED.keys("failed") == ("d",)

    def test_is_plain_values_for_json(self) -> None:
        told = json.loads(json.dumps(MIXED.as_dict()))
        assert told["counts"] == MIXED.counts
        assert (told["bytes_copied"], told["seconds"], told["dry_run"]) == (5, 1.25, False)
        assert told["artifacts"][0] == {
            "key": "a",
            "outcome": "copied",
            "size": 5,
            "sha256": "ab" * 32,
            "error": None,
        }
        assert [each["error"] for each in told["artifacts"][2:]] == ["no artifact 'c'", "the disk is full"]

    def test_raises_for_what_did_not_arrive_and_names_it(self) -> None:
        with pytest.raises(
            TransferError, match=r"2 of 4 artifacts did not arrive: c: missing: .*; d: failed"
        ) as caught:
            MIXED.raise_for_failures()
        assert caught.value.key == "c"
        assert caught.value.__cause__ is MIXED.outcomes[2].error
        assert not MIXED.ok

    def test_raises_nothing_when_all_is_there(self) -> None:
        report = TransferReport(MIXED.outcomes[:2])
        report.raise_for_failures()
        assert report.ok

    def test_a_thousand_failures_make_no_thousand_lines(self) -> None:
        failed = TransferReport(tuple(KeyOutcome(f"{n}", "failed", error=StoreError("full")) for n in range(1000)))
        with pytest.raises(TransferError, match="and 995 more") as caught:
            failed.raise_for_failures()
        assert len(str(caught.value)) < 500

    def test_crosses_processes(self) -> None:
        assert MIXED.counts  # a cached value must not stand in the way
        again = pickle.loads(pickle.dumps(MIXED))
        assert again.as_dict() == MIXED.as_dict()
        assert [type(each.error) for each in again.outcomes] == [type(each.error) for each in MIXED.outcomes]
        assert pickle.loads(pickle.dumps(TransferInterrupted(MIXED))).report.as_dict() == MIXED.as_dict()


class TestOutcomes:
    """They are packed; who looks at them must not notice."""

    ODD = (
        KeyOutcome("a/b", "copied", 0, "ab" * 32),
        KeyOutcome("a/c", "copied", 2**70),
        KeyOutcome("a/d/", "rejected", error=ValueError("no key")),
        KeyOutcome("", "rejected", error=ValueError("no key")),
        KeyOutcome("/rooted", "left", 3, "ab" * 32, ValueError("no key")),
        KeyOutcome("\udcff/\n", "rejected", error=ValueError("no text")),
        KeyOutcome("rübe/ø", "unchanged", 1, "AB" * 32),
        KeyOutcome("a/b", "copied", 1, "00" * 32),
        KeyOutcome("z", "missing"),
    )

    def test_are_what_was_put_in(self) -> None:
        report = TransferReport(self.ODD)
        assert tuple(report.outcomes) == self.ODD
        assert report.outcomes == self.ODD
        again = pickle.loads(pickle.dumps(report)).outcomes
        assert [attrs.evolve(each, error=None) for each in again] == [attrs.evolve(o, error=None) for o in self.ODD]
        assert report == TransferReport(self.ODD) != TransferReport(self.ODD[1:])
        assert hash(report) == hash(TransferReport(self.ODD))
        assert (report.outcomes[-1], report.outcomes[2:4]) == (self.ODD[-1], self.ODD[2:4])
        with pytest.raises(IndexError):
            report.outcomes[len(self.ODD)]

    def test_a_million_of_them_fit_into_memory(self) -> None:
        """A record of a million small sets took 205 MB to plan; at 75 bytes a key it is some 100 MB with the rest."""

        class Listed(InMemoryArtifactStore):
            def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
                for number in range(20_000):
                    yield ArtifactInfo(f"provider/diagnostic/group-{number // 200:03}/{number:06}", 100, 1.0)

        tracemalloc.start()
        try:
            report = transfer(Listed(), InMemoryArtifactStore(), dry_run=True)
            held, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert report.counts["copied"] == 20_000
        assert held < 45 * 20_000
        assert most < 75 * 20_000 + 2**21


def progress_of(source: ArtifactStore, dest: ArtifactStore, keys: list[str] | None = None) -> list[TransferProgress]:
    told: list[TransferProgress] = []
    transfer(source, dest, keys, on_progress=told.append)
    return told


ARTIFACTS = {f"{number:03}": bytes(number * 100) for number in range(200)} | {"large": bytes(5_000_000)}
TOTAL = sum(map(len, ARTIFACTS.values()))


class TestProgress:
    @pytest.mark.parametrize(
        "shape",
        [lambda store: store, FourMethods, lambda store: Slow(store, 0.005), Streams],
        ids=["files", "four methods", "slow", "streams"],
    )
    def test_only_grows_and_ends_with_the_totals(
        self, tmp_path: Path, shape: Callable[[ArtifactStore], ArtifactStore]
    ) -> None:
        source = shape(fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS))
        told = progress_of(source, LocalArtifactStore(tmp_path / "dest"))
        for before, after in itertools.pairwise(told):
            assert after.keys_done >= before.keys_done
            assert after.bytes_done >= before.bytes_done
            assert after.keys_planned >= before.keys_planned
            assert after.complete >= before.complete
        assert all(each.keys_done <= each.keys_planned and each.bytes_done <= each.bytes_planned for each in told)
        count = len(ARTIFACTS)
        assert told[-1] == TransferProgress(count, TOTAL, count, TOTAL, complete=True)

    def test_counts_what_need_not_move(self, tmp_path: Path) -> None:
        source = fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS)
        dest = LocalArtifactStore(tmp_path / "dest")
        transfer(source, dest)
        for unchanged in ("stat", "digest"):
            told: list[TransferProgress] = []
            transfer(source, dest, unchanged=unchanged, on_progress=told.append)  # type: ignore[arg-type]
            assert told[-1] == TransferProgress(len(ARTIFACTS), TOTAL, len(ARTIFACTS), TOTAL, complete=True)

    def test_what_fails_is_done_too(self) -> None:
        source = fill(InMemoryArtifactStore(), ARTIFACTS)
        dest = FaultyStore(
            InMemoryArtifactStore(), Fault(every=3, error=StoreAccessError, verbs={"write_bytes", "open_writer"})
        )
        told = progress_of(source, dest, [*ARTIFACTS, "absent", "../out"])
        assert (told[-1].keys_done, told[-1].keys_planned) == (len(ARTIFACTS) + 2, len(ARTIFACTS) + 2)
        assert told[-1].bytes_done == told[-1].bytes_planned

    def test_nothing_to_do_is_told_once(self) -> None:
        assert progress_of(InMemoryArtifactStore(), InMemoryArtifactStore()) == [
            TransferProgress(0, 0, 0, 0, complete=True)
        ]

    def test_is_told_while_a_large_artifact_moves(self, tmp_path: Path) -> None:
        """Guards against a bar that stands still for an hour and then is full."""

        class SlowStream(Streams):
            def open_reader(self, key: str, /) -> object:
                reader = self._inner.open_reader(key)
                read = reader.read
                reader.read = lambda size: (time.sleep(0.05), read(size))[1]
                return reader

        told = progress_of(
            SlowStream(fill(LocalArtifactStore(tmp_path), {"large": bytes(5_000_000)})), InMemoryArtifactStore()
        )
        assert any(0 < each.bytes_done < 5_000_000 for each in told)

    def test_a_callback_that_raises_is_dropped_and_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        def broken(progress: TransferProgress) -> None:
            raise ZeroDivisionError("a fault of the display")

        dest = InMemoryArtifactStore()
        assert transfer(fill(InMemoryArtifactStore(), ARTIFACTS), dest, on_progress=broken).ok
        assert len(list(dest.iter_keys())) == len(ARTIFACTS)
        assert "progress callback failed" in caplog.text

    def test_a_callback_may_interrupt(self) -> None:
        def ctrl_c(progress: TransferProgress) -> None:
            raise KeyboardInterrupt

        with pytest.raises(TransferInterrupted):
            transfer(fill(InMemoryArtifactStore(), ARTIFACTS), InMemoryArtifactStore(), on_progress=ctrl_c)
