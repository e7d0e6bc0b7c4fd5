"""What a set costs, in calls of stores and in SQL statements, does not depend on how many there are."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import attrs
import pytest
from sqlalchemy import Engine, event
from tests.servers.s3 import S3Server

from emdstore import (
    Catalog,
    InMemoryArtifactStore,
    LocalArtifactStore,
    S3ArtifactStore,
    Workspace,
    replay,
    transfer,
    verify,
)
from emdstore.testing import RecordingStore
from emdstore.transfers.pace import Pace

MORE = 15
FILES = 5


@attrs.define
class Site:
    """A workspace that counts."""

    workspace: Workspace
    results: RecordingStore
    other: RecordingStore
    statements: int = 0
    names: Iterator[int] = attrs.field(factory=count)

    def cost(self, work: Callable[[Site], object]) -> tuple[int, int]:
        """Return how many calls of stores and SQL statements something takes."""
        calls, statements = len(self.results.calls) + len(self.other.calls), self.statements
        work(self)
        return len(self.results.calls) + len(self.other.calls) - calls, self.statements - statements

    def start_again(self) -> None:
        self.other = RecordingStore(InMemoryArtifactStore())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    results, other = (RecordingStore(InMemoryArtifactStore()) for _ in range(2))
    with Workspace(
        scratch=tmp_path / "scratch", results=results, catalog=Catalog(tmp_path / "catalog.db")
    ) as workspace:
        made = Site(workspace, results, other)

        def note(*_: object) -> None:
            made.statements += 1

        event.listen(Engine, "before_cursor_execute", note)
        yield made
        event.remove(Engine, "before_cursor_execute", note)


def _publish(site: Site) -> None:
    for _ in range(MORE):
        name = f"run{next(site.names)}"
        with site.workspace.start_execution(provider="p", diagnostic="d", group="g", name=name) as execution:
            for number in range(FILES):
                (execution.output_directory / f"{number}.png").write_bytes(name.encode())
                execution.add_plot(f"{number}.png", long_name="A map", dimensions={"n": str(number)})
                execution.add_scalar(1.0, region="global", metric=str(number))
        execution.commit_output_assets()


def _replay_into_nothing(site: Site) -> None:
    with Catalog("sqlite://") as catalog:
        assert not replay(site.results, catalog).failed


MOST = {"transfer": (22, 0), "transfer again": (2, 0), "verify": (11, 0), "replay": (5, 5), "replay again": (0, 0)}
"""How many calls and statements each set of nine keys may cost.

Such a number may rise, for a reason: each call is a round trip to a store that is far, each statement to a database.
"""

WORK: dict[str, Callable[[Site], object]] = {
    "transfer": lambda site: transfer(site.results, site.other),
    "transfer again": lambda site: transfer(site.results, site.other),
    "verify": lambda site: verify(site.results),
    "replay": _replay_into_nothing,
    "replay again": lambda site: replay(site.results, site.workspace.catalog),
}


def test_publishing_costs_the_same_however_many_sets_there_are(site: Site) -> None:
    first, second, third = (site.cost(_publish) for _ in range(3))
    assert second == third
    assert all(here <= before for here, before in zip(second, first, strict=True))
    assert second[0] <= 18 * MORE
    assert second[1] <= 27 * MORE


def test_each_set_costs_the_same_however_many_there_are(site: Site) -> None:
    rounds = []
    for _ in range(3):
        _publish(site)
        site.start_again()
        rounds.append({name: site.cost(work) for name, work in WORK.items()})
    for name, most in MOST.items():
        for first, second, third, each in zip(*(costs[name] for costs in rounds), most, strict=True):
            assert second - first == third - second, name
            assert second - first <= each * MORE, name


PYTHON = {"between folders": 67, "to S3": 86, "from S3": 87}
"""How many functions of Python may be called for each small artifact of a transfer, in all threads.

It is Python's lock that threads wait for, so where everything is near, this decides how fast a transfer is.
"""


def _calls_of(work: Callable[[], object]) -> int:
    """Return how many calls of functions in Python something takes, in this thread and those that it starts."""
    calls = count()

    def note(_: object, event: str, __: object) -> None:
        if event == "call":
            next(calls)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return next(calls)


@pytest.mark.parametrize("route", PYTHON)
def test_an_artifact_costs_few_calls_of_python(
    route: str, tmp_path: Path, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "_BATCH_SECONDS", 60.0)  # the batches of a slow machine would be smaller
    monkeypatch.setattr(Pace, "_FAR_SECONDS", 60.0)
    options = moto_server.options
    bucket = S3ArtifactStore(f"s3://{moto_server.make_bucket()}", **options)
    sizes = (100, 200)
    for size in (1, *sizes):
        files = LocalArtifactStore(tmp_path / f"{size}")
        for number in range(size):
            files.write_bytes(f"run{number // 20:03}/file{number % 20:02}.nc", b"x" * number)
        if route != "to S3":
            transfer(files, bucket.scope(f"{size}"))

    def cost(size: int) -> int:
        here, there = tmp_path / f"{size}", bucket.scope(f"{size}")
        source, dest = {
            "between folders": (here, tmp_path / f"copy{size}"),
            "to S3": (here, there),
            "from S3": (there, tmp_path / f"copy{size}"),
        }[route]
        with ThreadPoolExecutor(1) as one:
            return _calls_of(lambda: transfer(source, dest, executor=one, max_workers=1))

    cost(1)  # imports what the others need, too
    each = (cost(sizes[1]) - cost(sizes[0])) / (sizes[1] - sizes[0])
    assert each <= PYTHON[route]
