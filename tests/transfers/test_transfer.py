"""What arrives, between any two stores, and what becomes of what does not."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import stamina
from tests.transfers.stores import FourMethods, Meanwhile, Slow, Streams, WholeSeconds, WithInfo, contents, fill

from emdstore.errors import (
    ArtifactNotFoundError,
    InvalidKeyError,
    KeyConflictError,
    SameStoreError,
    SourceChangedError,
    StoreError,
    StoreUnavailableError,
    UnsafePathError,
)
from emdstore.sets.transfer import transfer
from emdstore.stores import checksums
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.memory import InMemoryArtifactStore
from emdstore.stores.port import ArtifactStore, SupportsPath, SupportsStreaming
from emdstore.stores.views import ReadOnlyStore, ScopedStore, StoreView, scoped
from emdstore.testing import Fault, FaultyStore, RecordingStore
from emdstore.transfers import TransferInterrupted, TransferReport, listing_of, move, pace as engine

LARGE = 5 * 1024 * 1024 + 7  # more than one chunk and one buffer, and no multiple of either

ARTIFACTS = {
    "run/out.log": b"all well\n",
    "run/empty": b"",
    "run/data/tas (°C).nc": os.urandom(70_000),
    "run/data/large.nc": os.urandom(LARGE),
    "run/plots/été.png": b"\x89PNG\r\n\x1a\n",
    "run!/beside": b"sorts before run/",
}

LOOKS = {"iter_keys", "iter_info", "read_bytes", "open_reader", "local_path"}

SHAPES: dict[str, Callable[[Path], ArtifactStore]] = {
    "local": LocalArtifactStore,
    "memory": lambda path: InMemoryArtifactStore(),
    "four methods": lambda path: FourMethods(LocalArtifactStore(path)),
    "infos": lambda path: WithInfo(InMemoryArtifactStore()),
    "streams": lambda path: Streams(LocalArtifactStore(path)),
    "scope": lambda path: scoped(LocalArtifactStore(path), "some/folder"),
    "generic scope": lambda path: ScopedStore(InMemoryArtifactStore(), "some/folder"),
}


@pytest.fixture(autouse=True)
def _no_waiting_between_attempts() -> Any:
    stamina.set_testing(True, attempts=10, cap=True)
    yield
    stamina.set_testing(False)


@pytest.mark.parametrize("source_shape", SHAPES)
@pytest.mark.parametrize("dest_shape", SHAPES)
class TestBetweenAnyTwoStores:
    def test_all_arrives_and_a_second_time_nothing_is_written(
        self, tmp_path: Path, source_shape: str, dest_shape: str
    ) -> None:
        source = fill(SHAPES[source_shape](tmp_path / "source"), ARTIFACTS)
        time.sleep(0.02)  # the clock of file times has a grain
        dest = RecordingStore(SHAPES[dest_shape](tmp_path / "dest"))
        first = transfer(source, dest)
        assert [outcome.key for outcome in first.outcomes] == sorted(ARTIFACTS)
        assert first.counts["copied"] == len(ARTIFACTS)
        assert first.bytes_copied == sum(map(len, ARTIFACTS.values()))
        assert {each.key: each.sha256 for each in first.outcomes} == {
            key: hashlib.sha256(data).hexdigest() for key, data in ARTIFACTS.items()
        }
        assert contents(dest) == contents(source) == contents(ARTIFACTS)
        before = len(dest.calls)
        second = transfer(source, dest)
        assert second.counts["unchanged"] == len(ARTIFACTS)
        assert second.bytes_copied == 0
        assert second.ok
        assert {call.verb for call in dest.calls[before:]} <= LOOKS

    def test_what_changed_is_replaced_and_what_is_beside_it_stays(
        self, tmp_path: Path, source_shape: str, dest_shape: str
    ) -> None:
        source = fill(SHAPES[source_shape](tmp_path / "source"), {"a": b"old", "b": b"same"})
        time.sleep(0.02)
        dest = fill(SHAPES[dest_shape](tmp_path / "dest"), {"c": b"beside"})
        transfer(source, dest)
        time.sleep(0.02)
        source.write_bytes("a", b"new")
        report = transfer(source, dest, ["b", "a"])
        assert [(each.key, each.outcome) for each in report.outcomes] == [("b", "unchanged"), ("a", "copied")]
        assert contents(dest) == {"a": b"new", "b": b"same", "c": b"beside"}


class TestGivenKeys:
    def test_each_has_its_outcome_in_their_order(self, tmp_path: Path) -> None:
        source = fill(LocalArtifactStore(tmp_path / "source"), {"b": b"2", "a/x": b"1", "same": b""})
        (tmp_path / "source/way-out").symlink_to(tmp_path)
        dest = InMemoryArtifactStore()
        transfer(source, dest, ["same"])
        report = transfer(source, dest, ["b", "absent", "../b", "a/x", "b", "same", "a", "way-out/store"])
        assert [(each.key, each.outcome) for each in report.outcomes] == [
            ("b", "copied"),
            ("absent", "missing"),
            ("../b", "rejected"),
            ("same", "unchanged"),
            ("way-out/store", "rejected"),
            ("a/x", "copied"),  # `a` is a folder, and stands for all that lies in it
        ]
        errors = [type(each.error) for each in report.outcomes if each.error]
        assert errors == [ArtifactNotFoundError, InvalidKeyError, UnsafePathError]
        assert contents(dest) == {"b": b"2", "a/x": b"1", "same": b""}

    def test_none_is_not_all(self) -> None:
        assert transfer(fill(InMemoryArtifactStore(), ARTIFACTS), InMemoryArtifactStore(), []).outcomes == ()

    def test_they_may_come_one_by_one(self) -> None:
        dest = InMemoryArtifactStore()
        assert transfer(fill(InMemoryArtifactStore(), ARTIFACTS), dest, iter(ARTIFACTS)).ok
        assert contents(dest) == contents(ARTIFACTS)


class TestASourceThatChanges:
    """`SourceChangedError`, and the destination keeps its old value, by each of the three routes."""

    @pytest.mark.parametrize("size", [1000, LARGE])
    @pytest.mark.parametrize("new", [b"", b"short", b"x" * (LARGE + 1)], ids=["empty", "short", "long"])
    @pytest.mark.parametrize("shape", [WithInfo, Streams])
    def test_is_a_failure_and_no_mixture(
        self, tmp_path: Path, size: int, new: bytes, shape: Callable[[ArtifactStore], StoreView]
    ) -> None:
        held = fill(LocalArtifactStore(tmp_path), {"a": b"x" * size, "b": b"steady"})
        source = Meanwhile(shape(held), lambda: (tmp_path / "a").write_bytes(new))
        dest = fill(InMemoryArtifactStore(), {"a": b"old"})
        report = transfer(source, dest, max_workers=1)
        outcomes = {each.key: each for each in report.outcomes}
        assert outcomes["b"].outcome == "copied"
        assert contents(dest)["b"] == b"steady"
        if outcomes["a"].outcome == "failed":
            assert isinstance(outcomes["a"].error, SourceChangedError)
            assert "run it again" in str(outcomes["a"].error)
            assert contents(dest)["a"] == b"old"
        else:  # the store had given all of its old version before
            assert contents(dest)["a"] == contents({"a": b"x" * size})["a"]
            assert size == 1000
            assert shape is Streams

    @pytest.mark.parametrize("size", [1000, LARGE])
    @pytest.mark.parametrize("shape", [FourMethods, WithInfo, Streams])
    def test_one_that_disappears_is_whole_or_missing(
        self, tmp_path: Path, size: int, shape: Callable[[ArtifactStore], StoreView]
    ) -> None:
        held = fill(LocalArtifactStore(tmp_path), {"a": b"x" * size, "b": b"steady"})
        source = Meanwhile(shape(held), lambda: [(tmp_path / key).unlink() for key in "ab"])
        dest = fill(InMemoryArtifactStore(), {"a": b"old"})
        report = transfer(source, dest, max_workers=1)
        assert report.outcomes[1].outcome == "missing"
        if report.outcomes[0].outcome == "copied":
            assert contents(dest) == contents({"a": b"x" * size})
        else:
            assert contents(dest) == {"a": b"old"}

    def test_one_that_was_listed_and_is_gone_is_missing(self, tmp_path: Path) -> None:
        source, dest = fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS), LocalArtifactStore(tmp_path / "dest")
        gone = RecordingStore(source)
        fault = Fault(verbs={"copy"}, keys={"run/empty"}, error=ArtifactNotFoundError)
        report = transfer(source, FaultyStore(dest, fault))
        assert report.keys("missing") == ("run/empty",)
        assert report.counts["copied"] == len(ARTIFACTS) - 1
        assert gone.calls == ()

    def test_a_reader_that_gives_less_than_it_promised_is_not_believed(self) -> None:
        class Short(Streams):
            def open_reader(self, key: str, /) -> Any:
                reader = self._inner.open_reader(key)
                reader.info = attrs.evolve(reader.info, size=reader.info.size + 1)
                return reader

        dest = fill(InMemoryArtifactStore(), {"a": b"old"})
        report = transfer(Short(fill(InMemoryArtifactStore(), {"a": b"x" * LARGE})), dest)
        assert isinstance(report.outcomes[0].error, SourceChangedError)
        assert contents(dest) == {"a": b"old"}

    def test_it_is_not_asked_again_within_one_transfer(self, tmp_path: Path) -> None:
        """A run that still writes is not waited for: the next transfer takes what it leaves."""
        held = RecordingStore(fill(LocalArtifactStore(tmp_path), {"a": b"x" * 1000}))
        source = WithInfo(Meanwhile(held, lambda: (tmp_path / "a").write_bytes(b"new")))
        assert transfer(source, dest := InMemoryArtifactStore()).keys("failed") == ("a",)
        assert [call.verb for call in held.calls].count("read_bytes") == 1
        assert transfer(source, dest).ok
        assert contents(dest) == {"a": b"new"}


class TestFailures:
    @pytest.mark.parametrize("dest_shape", SHAPES)
    def test_one_key_stops_no_other(self, tmp_path: Path, dest_shape: str) -> None:
        dest = FaultyStore(
            SHAPES[dest_shape](tmp_path),
            Fault(verbs={"write_bytes", "open_writer"}, keys={"run/empty", "run/data/large.nc"}, error=StoreError),
        )
        report = transfer(fill(InMemoryArtifactStore(), ARTIFACTS), dest)
        assert report.keys("failed") == ("run/data/large.nc", "run/empty")
        assert all(isinstance(each.error, StoreError) for each in report.failures)
        assert set(contents(dest)) == set(report.keys("copied")) == set(ARTIFACTS) - set(report.keys("failed"))

    def test_an_error_that_no_store_should_raise_is_an_outcome_too(self) -> None:
        source = FaultyStore(
            fill(InMemoryArtifactStore(), ARTIFACTS), Fault(keys={"run/empty"}, error=ZeroDivisionError)
        )
        report = transfer(source, InMemoryArtifactStore())
        assert report.keys("failed") == ("run/empty",)
        assert report.counts["copied"] == len(ARTIFACTS) - 1

    def test_a_key_that_the_destination_cannot_hold_fails_alone(self, tmp_path: Path) -> None:
        dest = fill(LocalArtifactStore(tmp_path), {"run": b"a file"})
        report = transfer(fill(InMemoryArtifactStore(), ARTIFACTS), dest)
        assert report.keys("copied") == ("run!/beside",)
        assert all(isinstance(each.error, KeyConflictError) for each in report.failures)
        assert dest.read_bytes("run") == b"a file"

    def test_one_that_was_removed_at_the_destination_meanwhile_is_copied(self) -> None:
        """Guards against the destination's absence told as the source's."""
        source = fill(InMemoryArtifactStore(), {"a": b"value"})
        inner = fill(InMemoryArtifactStore(), {"a": b"value"})
        dest = FaultyStore(inner, Fault(verbs={"open_reader"}, error=ArtifactNotFoundError))
        report = transfer(source, dest, unchanged="digest")
        assert report.keys("copied") == ("a",)

    def test_a_store_that_cannot_be_listed_is_an_error(self) -> None:
        broken = FaultyStore(InMemoryArtifactStore(), Fault(verbs={"iter_info"}, error=StoreError))
        with pytest.raises(StoreError):
            transfer(broken, InMemoryArtifactStore())
        with pytest.raises(StoreError):
            transfer(InMemoryArtifactStore(), broken)

    def test_when_a_listing_breaks_off_no_work_goes_on_behind_it(self, tmp_path: Path) -> None:
        class BreaksOff(Streams):
            def iter_info(self, prefix: str = "", /) -> Any:
                yield from self._inner.iter_info()
                raise StoreError("the listing broke off")

        keys = {f"{number:05}": b"value" for number in range(3000)}
        dest = RecordingStore(InMemoryArtifactStore())
        with pytest.raises(StoreError, match="broke off"):
            transfer(BreaksOff(Slow(fill(InMemoryArtifactStore(), keys), 0.001)), dest)
        before = len(dest.calls)
        time.sleep(0.1)
        assert len(dest.calls) == before
        assert set(contents(dest).values()) <= {b"value"}


class TestRetries:
    @pytest.mark.parametrize("verb", ["read_bytes", "info", "exists"])
    @pytest.mark.parametrize("shape", [FourMethods, WithInfo])
    def test_what_may_pass_is_tried_again(self, verb: str, shape: Callable[[ArtifactStore], StoreView]) -> None:
        flaky = FaultyStore(fill(InMemoryArtifactStore(), ARTIFACTS), Fault(verbs={verb}, every=3))
        dest = InMemoryArtifactStore()
        report = transfer(shape(flaky), dest, list(ARTIFACTS), max_workers=1)
        assert report.ok
        assert contents(dest) == contents(ARTIFACTS)

    @pytest.mark.parametrize("verb", ["write_bytes", "open_writer", "copy"])
    def test_on_either_side(self, tmp_path: Path, verb: str) -> None:
        source = fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS)
        dest = FaultyStore(LocalArtifactStore(tmp_path / "dest"), Fault(verbs={verb}, nth={1, 3, 4}))
        assert transfer(source if verb == "copy" else Streams(source), dest).ok
        assert contents(dest) == contents(ARTIFACTS)

    def test_but_not_for_ever(self) -> None:
        source = RecordingStore(FaultyStore(fill(InMemoryArtifactStore(), {"a": b""}), Fault(verbs={"read_bytes"})))
        report = transfer(source, InMemoryArtifactStore())
        assert isinstance(report.outcomes[0].error, StoreUnavailableError)
        assert [call.verb for call in source.calls].count("read_bytes") == 5

    @pytest.mark.parametrize("error", [StoreError, ArtifactNotFoundError, UnsafePathError, ZeroDivisionError])
    def test_what_will_not_pass_is_tried_once(self, error: Callable[[str], BaseException]) -> None:
        source = RecordingStore(
            FaultyStore(fill(InMemoryArtifactStore(), {"a": b""}), Fault(verbs={"read_bytes"}, error=error))
        )
        assert not transfer(source, InMemoryArtifactStore()).ok
        assert [call.verb for call in source.calls].count("read_bytes") == 1


class TestUnchanged:
    def tampered(self, tmp_path: Path) -> tuple[LocalArtifactStore, LocalArtifactStore]:
        """Return two stores of which the destination's `a` was changed behind our back, but for its size and time."""
        source, dest = LocalArtifactStore(tmp_path / "source"), LocalArtifactStore(tmp_path / "dest")
        fill(source, {"a": b"value", "b": b"value"})
        time.sleep(0.05)  # what was written just before its copy is not believed by its time
        transfer(source, dest)
        fill(dest, {"a": b"other"})
        os.utime(tmp_path / "dest/a", ns=(0, (tmp_path / "source/a").stat().st_mtime_ns))
        return source, dest

    def test_by_stat_reads_nothing(self, tmp_path: Path) -> None:
        source, dest = self.tampered(tmp_path)
        recorded = RecordingStore(source), RecordingStore(dest)
        assert transfer(*recorded).counts["unchanged"] == 2
        assert {call.verb for store in recorded for call in store.calls} == {"iter_found", "iter_info", "local_path"}

    def test_by_digest_finds_what_stat_cannot(self, tmp_path: Path) -> None:
        source, dest = self.tampered(tmp_path)
        report = transfer(source, dest, unchanged="digest")
        assert (report.keys("copied"), report.keys("unchanged")) == (("a",), ("b",))
        assert {each.sha256 for each in report.outcomes} == {hashlib.sha256(b"value").hexdigest()}
        assert contents(dest) == contents(source)

    def test_never_copies_everything(self, tmp_path: Path) -> None:
        source, dest = self.tampered(tmp_path)
        assert transfer(source, dest, unchanged="never").counts["copied"] == 2
        assert contents(dest) == contents(source)

    def test_a_clock_of_whole_seconds_hides_nothing_and_costs_no_second_copy(self) -> None:
        """Guards against an S3 destination that looks older than its source for ever, or newer than it is."""
        source, inner = fill(InMemoryArtifactStore(), {"a": b"value"}), InMemoryArtifactStore()
        dest = WholeSeconds(inner)
        while time.time() % 1 > 0.7:  # all of it within one second
            time.sleep(0.05)
        transfer(source, dest)
        assert transfer(source, dest).counts["unchanged"] == 1
        source.write_bytes("a", b"other")
        assert transfer(source, dest).counts["copied"] == 1
        assert contents(dest) == {"a": b"other"}

    def test_what_changes_the_source_right_after_its_copy_is_seen_next_time(self, tmp_path: Path) -> None:
        """Guards against a copy whose time is later than a change that it does not hold."""
        source, dest = LocalArtifactStore(tmp_path / "source"), LocalArtifactStore(tmp_path / "dest")
        source.write_bytes("a", b"value")
        transfer(source, dest)
        time.sleep(0.02)  # the clock of file times has a grain
        (tmp_path / "source/a").write_bytes(b"other")
        assert transfer(source, dest).counts["copied"] == 1
        assert contents(dest) == {"a": b"other"}

    def test_a_copy_from_file_to_file_keeps_the_time_to_the_nanosecond(self, tmp_path: Path) -> None:
        source, dest = LocalArtifactStore(tmp_path / "source"), LocalArtifactStore(tmp_path / "dest")
        source.write_bytes("a", b"value")
        os.utime(tmp_path / "source/a", ns=(0, 1_600_000_000_123_456_789))
        transfer(source, dest)
        assert (tmp_path / "dest/a").stat().st_mtime_ns == 1_600_000_000_123_456_789

    @pytest.mark.parametrize("when", ["at once", "later"])
    @pytest.mark.parametrize("how", ["an edit", "touch -d", "cp -p", "mv", "tar x"])
    def test_other_bytes_of_the_same_size_are_shipped_whatever_their_time(
        self, tmp_path: Path, how: str, when: str
    ) -> None:
        source, dest = LocalArtifactStore(tmp_path / "source"), LocalArtifactStore(tmp_path / "dest")
        source.write_bytes("a", b"value")
        time.sleep(0.05)
        file, times = tmp_path / "source/a", (tmp_path / "source/a").stat()
        transfer(source, dest)
        if when == "later":
            time.sleep(0.05)
        old = (times.st_atime_ns, times.st_mtime_ns)
        if how in ("an edit", "touch -d"):
            with file.open("r+b") as opened:
                opened.write(b"other")
            if how == "touch -d":
                os.utime(file, ns=old)
        else:
            spare = tmp_path / "spare"
            spare.write_bytes(b"other")
            os.utime(spare, ns=old if how == "cp -p" else (0, 1_500_000_000_000_000_000))
            spare.replace(file) if how == "mv" else shutil.copy2(spare, file)
        assert transfer(source, dest).counts["copied"] == 1
        assert contents(dest) == {"a": b"other"}
        assert transfer(source, dest).counts["unchanged"] == 1


class TestDryRun:
    def test_says_what_would_be_done_and_does_nothing(self, tmp_path: Path) -> None:
        source = RecordingStore(fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS))
        dest = RecordingStore(LocalArtifactStore(tmp_path / "dest"))
        report = transfer(source, dest, [*ARTIFACTS, "absent", "../out"], dry_run=True)
        assert report.dry_run
        assert report.counts == {"copied": 6, "unchanged": 0, "missing": 1, "rejected": 1, "failed": 0, "left": 0}
        assert report.bytes_copied == sum(map(len, ARTIFACTS.values()))
        assert {call.verb for store in (source, dest) for call in store.calls} <= {
            "info",
            "exists",
            "local_path",
            "iter_keys",
        }
        assert not (tmp_path / "dest").exists()

    def test_foretells_the_transfer(self, tmp_path: Path) -> None:
        source, dest = fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS), LocalArtifactStore(tmp_path / "dest")
        transfer(source, dest, ["run/empty"])
        foretold = transfer(source, dest, dry_run=True)
        assert foretold.counts == transfer(source, dest).counts


class TestSamePlace:
    def test_a_store_is_not_moved_to_itself_or_into_itself(self, tmp_path: Path) -> None:
        store = fill(LocalArtifactStore(tmp_path / "store"), ARTIFACTS)
        (tmp_path / "link").symlink_to("store")
        (tmp_path / "store/inner-link").symlink_to(tmp_path / "store/run")
        for other in (
            store,
            LocalArtifactStore(tmp_path / "store"),
            LocalArtifactStore(tmp_path / "link"),
            LocalArtifactStore(tmp_path / "link/run"),
            LocalArtifactStore(tmp_path / "store/inner-link"),
            LocalArtifactStore(tmp_path / "store/not/made/yet"),
            LocalArtifactStore(tmp_path),
            scoped(store, "run"),
            ScopedStore(store, "run"),
            ReadOnlyStore(store),
            RecordingStore(store),
        ):
            for pair in ((store, other), (other, store)):
                with pytest.raises(SameStoreError, match="choose another destination"):
                    transfer(*pair)
        memory = fill(InMemoryArtifactStore(), ARTIFACTS)
        with pytest.raises(SameStoreError):
            transfer(memory, memory)
        assert contents(memory) == contents(ARTIFACTS)

    def test_neighbours_are_two_places(self, tmp_path: Path) -> None:
        store = fill(LocalArtifactStore(tmp_path / "store"), {"a/x": b"value"})
        assert transfer(store, LocalArtifactStore(tmp_path / "store-2")).ok
        assert transfer(scoped(store, "a"), scoped(store, "b")).ok
        assert transfer(InMemoryArtifactStore(), InMemoryArtifactStore()).ok
        assert (tmp_path / "store/b/x").read_bytes() == b"value"


class TestFlush:
    @pytest.mark.parametrize("flush", [True, False])
    def test_is_done_once_at_the_end_if_asked_for(self, tmp_path: Path, flush: bool) -> None:
        flushed: list[int] = []

        class Flushed(Streams):
            def flush(self) -> None:
                flushed.append(len(list(self.iter_keys())))
                self._inner.flush()

        source = fill(LocalArtifactStore(tmp_path / "source"), ARTIFACTS)
        transfer(source, Flushed(LocalArtifactStore(tmp_path / "dest")), flush=flush)
        assert flushed == ([len(ARTIFACTS)] if flush else [])

    def test_is_nothing_to_a_store_that_needs_none(self) -> None:
        assert transfer(fill(InMemoryArtifactStore(), ARTIFACTS), InMemoryArtifactStore(), flush=True).ok


def test_nothing_is_nothing_to_do(tmp_path: Path) -> None:
    assert transfer(LocalArtifactStore(tmp_path), InMemoryArtifactStore()) == TransferReport(
        (), pytest.approx(0, abs=5)
    )


class TestALittle:
    """All that fits into one batch is done where it was asked for: to start a thread takes longer."""

    @pytest.fixture(autouse=True)
    def _near(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A machine that is busy must not pass for a store that is far away.
        monkeypatch.setattr(engine.Pace, "_FAR_SECONDS", math.inf)

    @pytest.mark.parametrize("size", [1, 2_000_000])
    def test_needs_no_other_thread(self, tmp_path: Path, size: int) -> None:
        threads: list[str] = []

        class Named(StoreView):
            _withheld = frozenset({SupportsStreaming, SupportsPath})

            def write_bytes(self, key: str, data: bytes, /) -> None:
                threads.append(threading.current_thread().name)
                super().write_bytes(key, data)

        source = fill(InMemoryArtifactStore(), {"a": b"1", "b": bytes(size), "c": bytes(size)})
        assert transfer(source, Named(LocalArtifactStore(tmp_path))).ok
        assert threads == [threading.current_thread().name] * 3

    def test_is_interrupted_with_a_true_report_and_goes_on(self, tmp_path: Path) -> None:
        source = fill(InMemoryArtifactStore(), {"a": b"1", "b": b"2", "c": b"3"})
        dest = LocalArtifactStore(tmp_path)

        class CtrlC(StoreView):
            def read_bytes(self, key: str, /) -> bytes:
                if key == "b":
                    raise KeyboardInterrupt
                return super().read_bytes(key)

        with pytest.raises(TransferInterrupted) as caught:
            transfer(CtrlC(source), dest)
        assert caught.value.report.keys("copied") == ("a",)
        assert contents(dest) == {"a": b"1"}
        assert dest.remove_staging(older_than=0) == ()
        assert transfer(source, dest, unchanged="digest").keys("copied") == ("b", "c")


class TestFound:
    """What the destination is known to hold is not asked for."""

    @pytest.mark.parametrize(
        "kind", [InMemoryArtifactStore, lambda: FourMethods(InMemoryArtifactStore())], ids=["infos", "four methods"]
    )
    def test_the_listing_decides_and_the_destination_is_only_written(self, kind: Callable[[], ArtifactStore]) -> None:
        source = fill(InMemoryArtifactStore(), {"same": b"1", "new": b"2", "changed": b"33"})
        dest = fill(RecordingStore(kind()), {"same": b"1", "changed": b"3", "other": b"4"})
        found = listing_of(dest)
        assert set(found) == {"same", "changed", "other"}
        before = len(dest.calls)
        report = move(source, dest, ["same", "new", "changed"], found=found)
        assert report.ok
        verbs = {call.verb for call in dest.calls[before:]}
        assert "write_bytes" in verbs
        assert verbs.isdisjoint({"exists", "info", "iter_keys", "iter_info"})
        assert contents(dest) == contents({"same": b"1", "new": b"2", "changed": b"33", "other": b"4"})


@pytest.mark.parametrize(("more", "verb"), [(0, "write_bytes"), (1, "open_writer")])
@pytest.mark.parametrize("far_seconds", [math.inf, 0.0])
def test_a_file_of_a_mebibyte_goes_in_one_piece_and_a_larger_one_as_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far_seconds: float, more: int, verb: str
) -> None:
    monkeypatch.setattr(engine.Pace, "_FAR_SECONDS", far_seconds)
    source = fill(LocalArtifactStore(tmp_path), {"a": b"1", "b": bytes(1024 * 1024 + more)})
    dest = RecordingStore(InMemoryArtifactStore())
    assert transfer(source, dest).ok
    assert [call.verb for call in dest.calls if call.key == "b" and "writ" in call.verb] == [verb]
    assert contents(dest) == contents(source)


def test_threads_that_several_transfers_share_are_left_running() -> None:
    source = fill(InMemoryArtifactStore(), {f"{number:03}": b"x" * number for number in range(200)})
    slow = Slow(source, 0.003)
    names: set[str] = set()
    told: list[int] = []

    class Named(StoreView):
        def write_bytes(self, key: str, data: bytes, /) -> None:
            names.add(threading.current_thread().name.rpartition("_")[0])
            super().write_bytes(key, data)

    with ThreadPoolExecutor(3, thread_name_prefix="shared") as threads:
        for _ in range(2):
            dest = InMemoryArtifactStore()
            report = transfer(slow, Named(dest), executor=threads, on_progress=lambda now: told.append(now.bytes_done))
            assert report.ok
            assert contents(dest) == contents(source)
            assert told[-1] == sum(range(200))
        assert threads.submit(len, "open").result(10) == 4
    assert "shared" in names
    assert "emdstore" not in names


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(UnsafePathError, "rejected"), (InvalidKeyError, "rejected"), (StoreError, "failed"), (OSError, "failed")],
)
def test_what_may_not_be_followed_is_rejected_and_what_did_not_work_has_failed(
    error: type[Exception], outcome: str
) -> None:
    """A link may be swapped in after the plan was made, so that only the move finds out."""
    source, dest = InMemoryArtifactStore(), InMemoryArtifactStore()
    source.write_bytes("a", b"1")
    failing = FaultyStore(source, Fault(verbs={"read_bytes", "open_reader"}, error=error))
    (told,) = transfer(failing, dest).outcomes
    assert (told.outcome, isinstance(told.error, error)) == (outcome, True)


class _Hashes(InMemoryArtifactStore):
    """Hashes what it is given, as a store does that sends the SHA-256 along."""

    def write_bytes(self, key: str, data: bytes, /) -> None:
        assert checksums.sha256_of(data) == hashlib.sha256(data).hexdigest()
        super().write_bytes(key, data)


def test_what_was_hashed_on_its_way_is_not_hashed_again_by_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []

    def sha256(data: bytes) -> Any:
        hashed.append(data)
        return hashlib.sha256(data)

    source, dest = InMemoryArtifactStore(), _Hashes()
    fill(source, {"a": b"one", "b": b"two"})
    monkeypatch.setattr(checksums, "hashlib", SimpleNamespace(sha256=sha256))
    assert transfer(source, WithInfo(dest)).counts["copied"] == 2
    assert sorted(hashed) == [b"one", b"two"]
    dest.write_bytes("c", b"one")  # known only while it is written
    assert len(hashed) == 3
