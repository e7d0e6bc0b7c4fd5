"""How fast a transfer may go, by threads together, by the local clock, and also where bytes are only compared."""

from __future__ import annotations

import itertools
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import attrs
import pytest

from emdstore import Bandwidth, InMemoryArtifactStore, LocalArtifactStore, system, transfer
from emdstore.cli.bandwidth import parse_bandwidth
from emdstore.cli.options import WrongCallError
from emdstore.transfers.bandwidth import Throttle
from emdstore.workers import forks

pytestmark = pytest.mark.once

MONDAY = datetime(2026, 6, 1)


@pytest.mark.parametrize(
    ("written", "at", "limit"),
    [
        ("20M", "0 12:00", 20e6),
        ("512KiB", "0 12:00", 512 * 1024),
        ("off", "0 12:00", None),
        ("8:00,2M 19:00,off", "0 07:59", None),
        ("8:00,2M 19:00,off", "0 08:00", 2e6),
        ("8:00,2M 19:00,off", "6 18:59", 2e6),
        ("8:00,2M 19:00,off Sat-0:00,off Sat-8:00,5M Sun-8:00,5M", "4 12:00", 2e6),
        ("8:00,2M 19:00,off Sat-0:00,off Sat-8:00,5M Sun-8:00,5M", "5 00:30", None),
        ("8:00,2M 19:00,off Sat-0:00,off Sat-8:00,5M Sun-8:00,5M", "6 12:00", 5e6),
        ("Fri-20:00,off Mon-6:00,1M", "0 05:00", None),
        ("Fri-20:00,off Mon-6:00,1M", "2 05:00", 1e6),
    ],
)
def test_a_limit_is_one_number_or_a_timetable_of_the_week(written: str, at: str, limit: float | None) -> None:
    day, time = at.split()
    hour, minute = map(int, time.split(":"))
    assert parse_bandwidth(written).at(MONDAY + timedelta(days=int(day), hours=hour, minutes=minute)) == limit


@pytest.mark.parametrize("written", ["", "fast", "8:00", "25:00,1M", "8:00,1M 9:00", "Foo-8:00,1M", "-1"])
def test_what_is_no_limit_is_told(written: str) -> None:
    with pytest.raises(WrongCallError):
        parse_bandwidth(written)


@pytest.mark.parametrize(
    "changes", [(), ((0, 0.0),), ((5, 1.0), (5, 2.0)), ((9, 1.0), (5, 2.0)), ((7 * 24 * 60, 1.0),)]
)
def test_a_timetable_makes_sense(changes: tuple[tuple[int, float | None], ...]) -> None:
    with pytest.raises(ValueError, match=r"timetable|per second"):
        Bandwidth(changes)


class Clock:
    """A clock that moves on only where somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def machine(self) -> system.System:
        def sleep(seconds: float) -> None:
            self.seconds += seconds

        return attrs.evolve(
            system.current(),
            monotonic=lambda: self.seconds,
            sleep=sleep,
            now=lambda: (MONDAY + timedelta(seconds=self.seconds)).astimezone(),
        )


def test_bytes_wait_until_they_are_allowed_and_a_break_gives_no_credit() -> None:
    clock = Clock()
    with system.using(clock.machine()):
        throttle = Throttle(Bandwidth.always(1000))
        throttle.wait(500, lambda: False)
        assert clock.seconds == pytest.approx(0.5)
        clock.seconds += 3600
        throttle.wait(2000, lambda: False)
        assert clock.seconds == pytest.approx(3602.5)


def test_who_waits_is_let_go_when_the_limit_changes_or_all_is_over() -> None:
    clock = Clock()
    with system.using(clock.machine()):
        throttle = Throttle(Bandwidth(((0, 10), (1, None))))
        throttle.wait(1_000_000, lambda: False)
        assert clock.seconds == pytest.approx(60, abs=1)
        clock.seconds = 0
        throttle = Throttle(Bandwidth.always(10))
        throttle.wait(1_000_000, lambda: clock.seconds >= 5)
        assert clock.seconds == pytest.approx(5, abs=1)


@pytest.mark.parametrize(("count", "size"), [(3, 60_000), (600, 300)], ids=["large", "small"])
@pytest.mark.parametrize("unchanged", ["never", "digest"])
def test_all_workers_together_keep_to_it(places: tuple[object, object], count: int, size: int, unchanged: str) -> None:
    source, dest = places
    assert isinstance(source, LocalArtifactStore)
    for number in range(count):
        source.write_bytes(f"{number}", bytes(size))
    if unchanged == "digest":  # what is only compared has to be read, too
        transfer(source, dest)  # type: ignore[arg-type]
    report = transfer(source, dest, unchanged=unchanged, bandwidth=Bandwidth.always(600_000))  # type: ignore[arg-type]
    assert report.ok
    assert report.seconds >= 0.28
    assert report.counts["copied" if unchanged == "never" else "unchanged"] == count


@pytest.fixture(params=["memory", "local"])
def places(request: pytest.FixtureRequest, tmp_path: object) -> tuple[object, object]:
    there = InMemoryArtifactStore() if request.param == "memory" else LocalArtifactStore(f"{tmp_path}/dest")
    return LocalArtifactStore(f"{tmp_path}/source"), there


def test_no_forks_are_made_which_could_not_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, forked = LocalArtifactStore(tmp_path / "source"), []
    monkeypatch.setattr(forks, "can_fork", lambda: forked.append(True))
    for number in range(800):
        source.write_bytes(f"{number}", b"")
    ticks = itertools.count()  # a machine that is fast, however busy it is
    with system.using(attrs.evolve(system.current(), monotonic=lambda: next(ticks) * 1e-6)):
        transfer(source, tmp_path / "usual")
    assert forked
    forked.clear()
    transfer(source, tmp_path / "limited", bandwidth=Bandwidth.always(10**9))
    assert not forked


def test_workers_that_cannot_be_held_back_are_refused() -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(ValueError, match="leave out the executor"):
        transfer(InMemoryArtifactStore(), InMemoryArtifactStore(), executor=pool, bandwidth=Bandwidth.always(1))
