"""What a set costs, in calls of stores and in SQL statements, does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import attrs
import pytest
from sqlalchemy import Engine, event

from emdstore import Catalog, InMemoryArtifactStore, Workspace, replay, transfer, verify
from emdstore.testing import RecordingStore

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
