from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from emdstore import LocalArtifactStore, S3ArtifactStore, system
from emdstore.stores import ArtifactStore
from emdstore.transfers.batch import BatchResult
from emdstore.transfers.outcomes import KeyOutcome
from emdstore.transfers.pace import MOST_KEYS, Pace


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "_known", {})


def _s3(bucket: str, server: str = "http://127.0.0.1:9") -> S3ArtifactStore:
    return S3ArtifactStore(f"s3://{bucket}/runs", endpoint_url=server, access_key_id="x", secret_access_key="y")


def _batch(seconds: float, count: int = 10) -> BatchResult:
    """What came of artifacts that took so long each."""
    return BatchResult([KeyOutcome(str(number), "copied", 1) for number in range(count)], seconds * count)


def _paced(source: ArtifactStore, dest: ArtifactStore, *seconds: float) -> Pace:
    pace = Pace(source, dest, None)
    for each in seconds:
        pace.learn(_batch(each))
    return pace


def test_the_first_batch_of_a_remote_store_is_one_artifact_and_that_of_folders_is_long(tmp_path: Path) -> None:
    here = LocalArtifactStore(tmp_path)
    assert (Pace(here, _s3("a"), None).batch_keys, Pace(here, here, None).batch_keys) == (1, MOST_KEYS)


@pytest.mark.parametrize(
    ("seconds", "keys", "is_far"), [(0.0001, MOST_KEYS, False), (0.001, 20, False), (0.03, 8, True)]
)
def test_batches_take_about_as_long_wherever_the_other_side_is(
    tmp_path: Path, seconds: float, keys: int, is_far: bool
) -> None:
    pace = _paced(LocalArtifactStore(tmp_path), _s3("a"), seconds)
    assert (pace.batch_keys, pace.is_far, pace.is_near) == (keys, is_far, not is_far)


def test_what_a_server_copies_inside_a_bucket_is_ordered_in_longer_batches() -> None:
    inside = [_paced(_s3("a"), _s3("a"), seconds).batch_keys for seconds in (0.03, 0.001, 0.0001)]
    assert inside == [8, 40, 2 * MOST_KEYS]


def test_between_two_buckets_batches_are_no_longer_than_elsewhere() -> None:
    assert _paced(_s3("a"), _s3("b"), 0.0001).batch_keys == MOST_KEYS


def test_the_fastest_batch_tells_how_far_a_store_is(tmp_path: Path) -> None:
    pace = _paced(LocalArtifactStore(tmp_path), _s3("a"), 0.03)
    many = pace.limit
    pace.learn(_batch(0.01))
    fewer = pace.limit
    pace.learn(_batch(0.5))  # this machine is busy
    assert 4 < fewer < many
    assert pace.limit == fewer


def test_nothing_is_learned_from_a_batch_without_outcomes(tmp_path: Path) -> None:
    pace = _paced(LocalArtifactStore(tmp_path), _s3("a"))
    pace.learn(BatchResult([], 0.0))
    assert (pace.batch_keys, pace.is_far, pace.is_near) == (1, False, False)


def test_a_fixed_number_of_workers_stays(tmp_path: Path) -> None:
    pace = Pace(LocalArtifactStore(tmp_path), _s3("a"), 3)
    pace.learn(_batch(0.5))
    assert (pace.limit, pace.most) == (3, 3)


class TestWhatIsKnownOfAServer:
    seconds = 0.0

    @pytest.fixture(autouse=True)
    def clock(self) -> Iterator[None]:
        machine = attrs.evolve(
            system.current(), monotonic=lambda: self.seconds, now=lambda: datetime.fromtimestamp(self.seconds, UTC)
        )
        with system.using(machine):
            yield

    def test_the_next_transfer_knows_it_for_a_minute(self, tmp_path: Path) -> None:
        here = LocalArtifactStore(tmp_path)
        learned = _paced(here, _s3("a"), 0.03).limit
        self.seconds = 59
        next_one = Pace(here, _s3("a"), None)
        assert (next_one.limit, next_one.is_far) == (learned, True)
        self.seconds = 61
        assert Pace(here, _s3("a"), None).limit < learned

    def test_another_server_is_not_known(self, tmp_path: Path) -> None:
        here = LocalArtifactStore(tmp_path)
        learned = _paced(here, _s3("a"), 0.03).limit
        assert Pace(here, _s3("b"), None).limit < learned
        assert Pace(here, _s3("a", "http://127.0.0.1:10"), None).limit < learned

    def test_nothing_is_kept_of_folders(self, tmp_path: Path) -> None:
        here, there = LocalArtifactStore(tmp_path / "here"), LocalArtifactStore(tmp_path / "there")
        _paced(here, there, 0.03)
        assert Pace(here, there, None).batch_keys == MOST_KEYS
