"""What real frameworks wrote, through everything: four stores, three ingests, a catalog that is lost and rebuilt."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.lifecycle.examples import SUCCESS, held, promote, rows_of
from tests.servers.s3 import S3Server

from emdstore.catalog import Catalog
from emdstore.emds import artifact_set, decode_output_bundle, media_type
from emdstore.ingestion.replay import ingest, replay
from emdstore.sets.materialize import MaterializeOutcome
from emdstore.sets.verify import verify
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, S3ArtifactStore, scoped

_ROW = re.compile(r"\| `([^`]+/[^`]+)` \| (\d+) \| \d+ \| (\d+) \| (\d+) \| (\d+) \|")


@attrs.frozen
class Sample:
    """A row of the samples' own table."""

    case: str
    files: int
    scalars: int
    series: int
    points: int

    @property
    def fragment(self) -> str:
        """The execution's folder, without the samples' own outermost one."""
        return re.sub(r"^_(results|scratch)-trees/", "", self.case)

    @property
    def is_foreign(self) -> bool:
        """Whether its html was named on another machine."""
        return self.case.startswith("_results-trees/esmvaltool/")


def read_table(samples_dir: Path) -> dict[str, Sample]:
    rows = _ROW.findall((samples_dir / "SOURCES.md").read_text())
    return {case: Sample(case, *map(int, counts)) for case, *counts in rows}


@attrs.frozen
class Promoted:
    """Three results stores and the catalog of each, filled sample by sample as the tests ask for them."""

    samples_dir: Path
    table: dict[str, Sample]
    root: Path
    stores: dict[str, ArtifactStore]
    catalogs: dict[str, Catalog]
    outcomes: dict[str, list[MaterializeOutcome]] = attrs.field(factory=dict)

    def promote(self, case: str) -> Sample:
        """Promote one sample from scratch to each store in turn, each from the one before, and ingest it from each."""
        sample = self.table[case]
        if case in self.outcomes:
            return sample
        source: ArtifactStore = self.scratch(sample)
        # The run knows where it ran; the trees of another machine leave nothing but the fragment to go by.
        directory = None if sample.is_foreign else str(self.root / "scratch" / sample.fragment)
        result = attrs.evolve(SUCCESS, output_directory=directory)
        self.outcomes[case] = []
        for name, store in self.stores.items():
            outcome, _ = promote(result, source, store, sample.fragment)
            self.outcomes[case].append(outcome)
            ingest(store, sample.fragment, self.catalogs[name])
            source = scoped(store, sample.fragment)
        return sample

    def scratch(self, sample: Sample) -> LocalArtifactStore:
        """Lay out a sample as the run left it: its bundles name this directory, and what they name is there."""
        directory = self.root / "scratch" / sample.fragment
        shutil.copytree(self.samples_dir / sample.case, directory)
        for name in ("diagnostic.json", "output.json", "series.json"):
            data = (directory / name).read_bytes()
            (directory / name).write_bytes(data.replace(b"<OUTPUT_DIR>", str(directory).encode()))
        bundle = decode_output_bundle((directory / "output.json").read_bytes())
        named = artifact_set(bundle=bundle, ran_in=str(directory), fragment=sample.fragment)
        for key in named.keys:
            path = directory / key
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(f"stands in for {key}\n".encode())
        return LocalArtifactStore(directory)


@pytest.fixture(scope="module")
def promoted(
    samples_dir: Path, tmp_path_factory: pytest.TempPathFactory, moto_server: S3Server, empty_catalog: Path
) -> Iterator[Promoted]:
    root = tmp_path_factory.mktemp("samples")
    stores = {
        "memory": InMemoryArtifactStore(),
        "s3": S3ArtifactStore(f"s3://{moto_server.make_bucket()}/results", **moto_server.options),
        "local": LocalArtifactStore(root / "results"),
    }
    catalogs = {name: Catalog(Path(shutil.copy(empty_catalog, root / f"{name}.db"))) for name in stores}
    yield Promoted(samples_dir, read_table(samples_dir), root, stores, catalogs)
    for catalog in catalogs.values():
        catalog.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES)


# The table is read again where it is used; here only its first column is known.
CASES = [
    "_results-trees/esmvaltool/climate-at-global-warming-levels/ssp126_g1_v1_063f4879/1",
    "_results-trees/esmvaltool/sea-ice-sensitivity/historical_g32_v1_7446f754/15",
    "_results-trees/esmvaltool/transient-climate-response-emissions/gn_r1i1p1f1_MPI-ESM1-2-LR_g34_v1_e1d2d84e/17",
    "_results-trees/pmp/enso_proc/historical_gn_r1i1p1f1_ACCESS-ESM1-5_obs4MIPs_g58_v1_d905ddf2/23",
    "_scratch-trees/esmvaltool/sea-ice-sensitivity/cmip6_historical",
    "_scratch-trees/esmvaltool/transient-climate-response/cmip6_gn_r1i1p1f1_ACCESS-ESM1-5",
    "_scratch-trees/ilamb/csoil-hwsd2/cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5",
    "_scratch-trees/ilamb/nbp-hoffman/cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5",
    "esmvaltool/climate-at-global-warming-levels/cmip6",
    "esmvaltool/cloud-radiative-effects/cmip6",
    "esmvaltool/cloud-scatterplots-cli-ta/cmip6",
    "esmvaltool/enso-basic-climatology/2025-10_cmip6_gn_r1i1p1f1_ACCESS-ESM1-5",
    "esmvaltool/enso-basic-climatology/cmip6",
    "esmvaltool/enso-characteristics/cmip6",
    "esmvaltool/equilibrium-climate-sensitivity/cmip6",
    "esmvaltool/global-mean-timeseries/cmip6",
    "esmvaltool/ozone-nh-mar/cmip7",
    "esmvaltool/regional-historical-timeseries/cmip6",
    "esmvaltool/regional-historical-trend/2025-10_cmip6_gn_r1i1p1f1_ACCESS-ESM1-5__obs4mips_ERA-5",
    "esmvaltool/regional-historical-trend/obs4mips",
    "esmvaltool/sea-ice-sensitivity/cmip6",
    "esmvaltool/transient-climate-response/cmip6",
    "example/global-mean-timeseries/default",
    "ilamb/burntfractionall-gfed/cmip6",
    "ilamb/csoil-hwsd2/cmip6",
    "ilamb/gpp-fluxnet2015/cmip7",
    "ilamb/mrsos-wangmao/cmip6",
    "ilamb/nbp-hoffman/cmip6",
    "ilamb/so-woa2023-surface/cmip6",
    "pmp/annual-cycle/cmip6-pr",
    "pmp/annual-cycle/cmip6-ta",
    "pmp/enso_proc/2025-10_cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5__obs4mips_obs4MIPs",
    "pmp/enso_tel/cmip6",
    "pmp/extratropical-modes-of-variability-nam/cmip7",
    "pmp/extratropical-modes-of-variability-npgo/cmip6",
    "pmp/extratropical-modes-of-variability-pdo/cmip6",
]


def test_the_cases_are_those_of_the_samples_own_table(samples_dir: Path) -> None:
    assert list(read_table(samples_dir)) == CASES
    assert len(CASES) == 36


def test_a_real_set_arrives_in_every_store_and_gives_the_same_rows(promoted: Promoted, case: str) -> None:
    sample = promoted.promote(case)
    for outcome in promoted.outcomes[case]:
        assert outcome.artifacts_missing == outcome.artifacts_rejected == outcome.artifacts_failed == ()
        assert outcome.artifacts_unreadable == outcome.warnings == ()
        assert len(outcome.artifacts) == sample.files + 4
    first, *others = (rows_of(catalog, sample.fragment) for catalog in promoted.catalogs.values())
    assert all(other == first for other in others)
    assert len(first["scalars"]) == sample.scalars
    assert len(first["series"]) == sample.series
    assert sum(len(row.values) for row in first["series"]) == sample.points
    assert {row.key for row in first["outputs"]} == {row.key for row in first["artifacts"][3:-1]}
    assert [row.status for row in first["executions"]] == ["uploaded"]


def test_the_bytes_in_every_store_are_those_of_scratch(promoted: Promoted, case: str) -> None:
    sample = promoted.promote(case)
    directory = promoted.root / "scratch" / sample.fragment
    keys = {each.key for each in promoted.outcomes[case][0].artifacts}
    for store in promoted.stores.values():
        there = held(store, sample.fragment)
        del there["execution.json"]
        assert there == {key: (directory / key).read_bytes() for key in keys}


def test_the_samples_add_up(promoted: Promoted) -> None:
    samples = [promoted.promote(case) for case in CASES]
    own = [sample.fragment for sample in samples if not sample.is_foreign]
    assert (len(own), len(samples)) == (33, 36)
    for catalog in promoted.catalogs.values():
        scalars = [row.fragment in own for row in catalog.scalars()]
        series = [row.fragment in own for row in catalog.series()]
        outputs = {(row.fragment, row.key) for row in catalog.outputs() if row.fragment in own}
        assert (scalars.count(True), series.count(True), len(outputs)) == (949, 114, 518)
        assert (scalars.count(False), series.count(False)) == (33, 1)


@pytest.mark.parametrize("name", ["memory", "s3", "local"])
def test_a_catalog_that_is_lost_is_replayed_equal(promoted: Promoted, name: str) -> None:
    for case in CASES:
        promoted.promote(case)
    with Catalog("sqlite://") as rebuilt:
        report = replay(promoted.stores[name], rebuilt)
        assert report.counts == {"ingested": 36, "unchanged": 0, "incomplete": 0, "invalid": 0}
        assert rows_of(rebuilt) == rows_of(promoted.catalogs[name])
        assert replay(promoted.stores[name], rebuilt).counts["unchanged"] == 36


def test_what_was_promoted_is_verified(promoted: Promoted) -> None:
    samples = [promoted.promote(case) for case in CASES]
    report = verify(promoted.stores["local"])
    assert report.problems == ()
    assert report.sets == len(samples)
    assert report.artifacts == sum(sample.files + 4 for sample in samples)


# -- a server that checks what it is sent ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "few", ["ilamb/nbp-hoffman/cmip6", "esmvaltool/ozone-nh-mar/cmip7", "pmp/annual-cycle/cmip6-ta"]
)
def test_a_real_set_on_a_server_that_checks_signatures_and_digests(
    promoted: Promoted, seaweed_server: S3Server, catalog: Catalog, few: str
) -> None:
    sample = promoted.promote(few)
    store = S3ArtifactStore(f"s3://{seaweed_server.make_bucket()}", **seaweed_server.options)
    result = attrs.evolve(SUCCESS, output_directory=str(promoted.root / "scratch" / sample.fragment))
    promote(result, scoped(promoted.stores["local"], sample.fragment), store, sample.fragment)
    assert replay(store, catalog).counts["ingested"] == 1
    assert rows_of(catalog) == rows_of(promoted.catalogs["local"], sample.fragment)
    assert verify(store).problems == ()


# -- trees as they were found ------------------------------------------------------------------------------------------


def test_the_results_tree_of_another_machine_is_replayed_as_it_is(samples_dir: Path, catalog: Catalog) -> None:
    report = replay(LocalArtifactStore(samples_dir / "_results-trees"), catalog)
    assert report.counts == {"ingested": 4, "unchanged": 0, "incomplete": 0, "invalid": 0}
    assert (catalog.scalars().count(), catalog.series().count()) == (33, 1)
    html = [row for row in catalog.outputs() if row.kind == "html"]
    assert html
    for row in html:
        assert row.filename.startswith("/data/projects/climate-ref/")
        assert row.key is not None
        assert (samples_dir / "_results-trees" / row.fragment / row.key).is_file()
    # Logs and NetCDF files were left out by those who published the tree: told, and nothing else.
    assert {row.code for row in catalog.warnings()} == {"missing-artifact"}
    assert {media_type(row.place or "") for row in catalog.warnings()} == {"text/plain", "application/x-netcdf"}
    again = replay(LocalArtifactStore(samples_dir / "_results-trees"), catalog)
    assert again.counts["unchanged"] == 4


def test_a_results_tree_in_other_folders_gives_the_same_values(
    samples_dir: Path, tmp_path: Path, catalog: Catalog
) -> None:
    shutil.copytree(samples_dir / "_results-trees", tmp_path / "sites" / "spirit")
    replay(LocalArtifactStore(tmp_path), catalog)
    assert (catalog.scalars().count(), catalog.series().count()) == (33, 1)
    assert all(row.key for row in catalog.outputs() if row.kind == "html")
    assert {row.code for row in catalog.warnings()} == {"missing-artifact"}


def test_scratch_trees_are_bare_sets_too(samples_dir: Path, catalog: Catalog) -> None:
    report = replay(LocalArtifactStore(samples_dir / "_scratch-trees"), catalog)
    assert report.counts["ingested"] == len(report.outcomes) == 4
    assert catalog.scalars().count() == 47


def test_all_samples_at_once_are_36_sets(samples_dir: Path, catalog: Catalog) -> None:
    report = replay(LocalArtifactStore(samples_dir), catalog)
    assert report.counts == {"ingested": 36, "unchanged": 0, "incomplete": 0, "invalid": 0}
    assert (catalog.scalars().count(), catalog.series().count()) == (949 + 33, 114 + 1)
