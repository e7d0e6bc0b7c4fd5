"""What real frameworks wrote, through everything: four stores, three ingests, a catalog that is lost and rebuilt."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.real_sets import ELSEWHERE, UNNAMED, RealSet, RealSets
from tests.servers.s3 import S3Server
from tests.sets.examples import SUCCESS, held, nonzero, promote, rows_of

from emdstore.catalog import Catalog
from emdstore.emds import media_type
from emdstore.ingestion.replay import ingest, replay
from emdstore.sets.outcome import MaterializeOutcome
from emdstore.sets.verify import verify
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, S3ArtifactStore, scoped


@attrs.frozen
class Promoted:
    """Three results stores and the catalog of each, with every set that belongs there.

    Attributes
    ----------
    outcomes
        By the name of the store and the fragment of the set.
    """

    stores: dict[str, ArtifactStore]
    catalogs: dict[str, Catalog]
    outcomes: dict[tuple[str, str], MaterializeOutcome] = attrs.field(factory=dict)

    def promote(self, real_sets: RealSets, one: RealSet) -> None:
        """Promote a set from scratch to each store in turn, each from the one before, and ingest it from each."""
        directory = real_sets.scratch / one.fragment
        source: ArtifactStore = LocalArtifactStore(directory)
        result = attrs.evolve(SUCCESS, output_directory=str(directory))
        for name, store in self.stores.items():
            if name == "s3" and not is_for_s3(one):
                continue
            self.outcomes[name, one.fragment], _ = promote(result, source, store, one.fragment)
            ingest(store, one.fragment, self.catalogs[name])
            source = scoped(store, one.fragment)

    def of(self, one: RealSet) -> dict[str, MaterializeOutcome]:
        """Return what became of a set, by the name of the store."""
        found = {name: self.outcomes.get((name, one.fragment)) for name in self.stores}
        return {name: outcome for name, outcome in found.items() if outcome is not None}


def is_for_s3(one: RealSet) -> bool:
    """Say whether a set goes to S3 too: about half of them do, as a server takes its time."""
    return one.fragment.endswith("/cmip7/1") and one.counts.files < 100


@pytest.fixture
def promoted(
    real_sets: RealSets, tmp_path_factory: pytest.TempPathFactory, moto_server: S3Server, empty_catalog: Path
) -> Iterator[Promoted]:
    root = tmp_path_factory.mktemp("promoted")
    stores = {
        "memory": InMemoryArtifactStore(),
        "s3": S3ArtifactStore(f"s3://{moto_server.make_bucket()}/results", **moto_server.options),
        "local": LocalArtifactStore(root / "results"),
    }
    catalogs = {name: Catalog(Path(shutil.copy(empty_catalog, root / f"{name}.db"))) for name in stores}
    promoted = Promoted(stores, catalogs)
    for one in real_sets:
        promoted.promote(real_sets, one)
    yield promoted
    for catalog in catalogs.values():
        catalog.close()


@pytest.mark.slow
@pytest.mark.once
def test_real_sets_arrive_in_every_store_whole_and_can_be_ingested_again(
    promoted: Promoted, real_sets: RealSets, subtests: pytest.Subtests
) -> None:
    # One test, as each worker of pytest-xdist that had a part of it would promote them all.
    for one in real_sets:
        with subtests.test("the same rows", set=one.fragment):
            assert_rows_are_the_same_everywhere(promoted, one)
        with subtests.test("the bytes of scratch, and no other file", set=one.fragment):
            assert_bytes_are_those_of_scratch(promoted, real_sets, one)
    for name in promoted.stores:
        with subtests.test("a catalog that is lost is replayed equal", store=name):
            assert_replay_is_equal(promoted, real_sets, name)
    for name in ("memory", "local"):
        with subtests.test("the sets add up", store=name):
            assert promoted.catalogs[name].executions().count() == len(real_sets.sets)
            assert_all_values_are_there(promoted.catalogs[name], real_sets)
    with subtests.test("what was promoted is verified"):
        report = verify(promoted.stores["local"])
        assert report.problems == ()
        assert report.sets == len(real_sets.sets)
        assert report.artifacts == sum(one.counts.files + 4 for one in real_sets)


def assert_rows_are_the_same_everywhere(promoted: Promoted, one: RealSet) -> None:
    outcomes = promoted.of(one)
    assert len(outcomes) == (3 if is_for_s3(one) else 2)
    for outcome in outcomes.values():
        assert outcome.artifacts_missing == outcome.artifacts_rejected == outcome.artifacts_failed == ()
        assert outcome.artifacts_unreadable == outcome.warnings == ()
        assert len(outcome.artifacts) == one.counts.files + 4
    first, *others = (rows_of(promoted.catalogs[name], one.fragment) for name in outcomes)
    assert all(other == first for other in others)
    assert len(first["scalars"]) == one.counts.scalars
    assert len(first["series"]) == one.counts.series
    assert sum(len(row.values) for row in first["series"]) == one.counts.points
    assert {row.key for row in first["outputs"]} == one.named == {row.key for row in first["artifacts"][3:-1]}
    assert [row.status for row in first["executions"]] == ["uploaded"]


def assert_bytes_are_those_of_scratch(promoted: Promoted, real_sets: RealSets, one: RealSet) -> None:
    there = held(LocalArtifactStore(real_sets.scratch / one.fragment))
    del there[UNNAMED]
    for name in promoted.of(one):
        arrived = held(promoted.stores[name], one.fragment)
        del arrived["execution.json"]
        assert arrived == there


def assert_replay_is_equal(promoted: Promoted, real_sets: RealSets, name: str) -> None:
    sets = sum(name in promoted.of(one) for one in real_sets)
    with Catalog("sqlite://") as rebuilt:
        report = replay(promoted.stores[name], rebuilt)
        assert nonzero(report.counts) == {"ingested": sets}
        assert rows_of(rebuilt) == rows_of(promoted.catalogs[name])
        assert replay(promoted.stores[name], rebuilt).counts["unchanged"] == sets


# -- a server that checks what it is sent ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "few", ["ilamb/nbp-hoffman/cmip6/1", "esmvaltool/ozone-nh-mar/cmip7/1", "pmp/annual-cycle/cmip6-ta/1"]
)
def test_a_real_set_on_a_server_that_checks_signatures_and_digests(
    real_sets: RealSets, seaweed_server: S3Server, catalog: Catalog, few: str
) -> None:
    store = S3ArtifactStore(f"s3://{seaweed_server.make_bucket()}", **seaweed_server.options)
    result = attrs.evolve(SUCCESS, output_directory=str(real_sets.scratch / few))
    promote(result, LocalArtifactStore(real_sets.scratch / few), store, few)
    assert replay(store, catalog).counts["ingested"] == 1
    counts = real_sets.sets[few].counts
    assert (catalog.outputs().count(), catalog.scalars().count()) == (counts.files, counts.scalars)
    assert catalog.series().count() == counts.series
    assert verify(store).problems == ()


# -- trees as they were found ------------------------------------------------------------------------------------------


def assert_all_values_are_there(catalog: Catalog, real_sets: RealSets) -> None:
    assert catalog.scalars().count() == real_sets.total.scalars
    assert catalog.series().count() == real_sets.total.series
    assert catalog.outputs().count() == real_sets.total.files


@pytest.fixture(scope="module")
def replayed(real_sets: RealSets) -> Iterator[Catalog]:
    """A catalog of the results tree of another machine."""
    with Catalog("sqlite://") as catalog:
        tree = LocalArtifactStore(real_sets.results)
        whole = sum(not any(key.endswith(".nc") for key in one.named) for one in real_sets)
        report = replay(tree, catalog)
        assert nonzero(report.counts) == {"ingested": whole, "incomplete": len(real_sets.sets) - whole}
        report = replay(tree, catalog, incomplete=True)
        assert nonzero(report.counts) == {"ingested": len(real_sets.sets) - whole, "unchanged": whole}
        yield catalog


def test_the_results_tree_of_another_machine_is_replayed_as_it_is(replayed: Catalog, real_sets: RealSets) -> None:
    assert_all_values_are_there(replayed, real_sets)
    pages = [row for row in replayed.outputs() if row.filename.startswith("/")]
    assert len(pages) == sum(one.provider == "esmvaltool" for one in real_sets)
    for row in pages:
        assert row.filename == f"{ELSEWHERE}/{row.fragment}/{row.key}"
        assert (real_sets.results / row.fragment / str(row.key)).is_file()
    again = replay(LocalArtifactStore(real_sets.results), replayed, incomplete=True)
    assert again.counts["unchanged"] == len(real_sets.sets)


def test_files_that_were_left_behind_are_told_one_by_one(replayed: Catalog, real_sets: RealSets) -> None:
    assert {row.code for row in replayed.warnings()} == {"missing-artifact"}
    left = {(one.fragment, key) for one in real_sets for key in one.named if key.endswith(".nc")}
    told = {(row.fragment, row.place) for row in replayed.warnings() if media_type(row.place or "") != "text/plain"}
    assert told == left
    logs = [row.fragment for row in replayed.warnings() if row.place == "out.log"]
    assert sorted(logs) == sorted(real_sets.sets)


def test_a_results_tree_in_other_folders_gives_the_same_values(
    real_sets: RealSets, tmp_path: Path, catalog: Catalog
) -> None:
    shutil.copytree(real_sets.results, tmp_path / "sites" / "spirit")
    replay(LocalArtifactStore(tmp_path), catalog, incomplete=True)
    assert_all_values_are_there(catalog, real_sets)
    assert {row.filename.endswith(".nc") for row in catalog.outputs() if row.key is None} == {True}
    assert {row.code for row in catalog.warnings()} == {"missing-artifact"}


def test_scratch_trees_are_bare_sets_too(real_sets: RealSets, catalog: Catalog) -> None:
    report = replay(LocalArtifactStore(real_sets.scratch), catalog)
    assert report.counts["ingested"] == len(report.outcomes) == len(real_sets.sets)
    assert_all_values_are_there(catalog, real_sets)
    assert catalog.warnings().count() == 0
