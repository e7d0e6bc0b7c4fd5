"""What real frameworks wrote, read whole: the counts are those of the samples' own SOURCES.md."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from emdstore.emds import (
    ArtifactSet,
    artifact_set,
    decode_metric_bundle,
    decode_output_bundle,
    decode_series,
    encode_metric_bundle,
    encode_output_bundle,
    encode_series,
    load_vocabulary,
    media_type,
)

# case: (files referenced, scalars, series, points of all series)
CASES = {
    "_results-trees/esmvaltool/climate-at-global-warming-levels/ssp126_g1_v1_063f4879/1": (10, 2, 0, 0),
    "_results-trees/esmvaltool/sea-ice-sensitivity/historical_g32_v1_7446f754/15": (7, 30, 0, 0),
    "_results-trees/esmvaltool/transient-climate-response-emissions/gn_r1i1p1f1_MPI-ESM1-2-LR_g34_v1_e1d2d84e/17": (
        4,
        1,
        1,
        65,
    ),
    "_results-trees/pmp/enso_proc/historical_gn_r1i1p1f1_ACCESS-ESM1-5_obs4MIPs_g58_v1_d905ddf2/23": (0, 0, 0, 0),
    "_scratch-trees/esmvaltool/sea-ice-sensitivity/cmip6_historical": (7, 30, 0, 0),
    "_scratch-trees/esmvaltool/transient-climate-response/cmip6_gn_r1i1p1f1_ACCESS-ESM1-5": (4, 1, 1, 80),
    "_scratch-trees/ilamb/csoil-hwsd2/cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5": (11, 12, 0, 0),
    "_scratch-trees/ilamb/nbp-hoffman/cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5": (2, 4, 0, 0),
    "esmvaltool/climate-at-global-warming-levels/cmip6": (18, 4, 0, 0),
    "esmvaltool/cloud-radiative-effects/cmip6": (13, 0, 4, 720),
    "esmvaltool/cloud-scatterplots-cli-ta/cmip6": (5, 0, 0, 0),
    "esmvaltool/enso-basic-climatology/2025-10_cmip6_gn_r1i1p1f1_ACCESS-ESM1-5": (30, 0, 21, 1980),
    "esmvaltool/enso-basic-climatology/cmip6": (44, 0, 16, 1560),
    "esmvaltool/enso-characteristics/cmip6": (39, 7, 0, 0),
    "esmvaltool/equilibrium-climate-sensitivity/cmip6": (5, 2, 1, 150),
    "esmvaltool/global-mean-timeseries/cmip6": (3, 0, 1, 165),
    "esmvaltool/ozone-nh-mar/cmip7": (3, 0, 1, 98),
    "esmvaltool/regional-historical-timeseries/cmip6": (25, 0, 12, 5040),
    "esmvaltool/regional-historical-trend/2025-10_cmip6_gn_r1i1p1f1_ACCESS-ESM1-5__obs4mips_ERA-5": (11, 230, 0, 0),
    "esmvaltool/regional-historical-trend/obs4mips": (11, 138, 0, 0),
    "esmvaltool/sea-ice-sensitivity/cmip6": (7, 24, 0, 0),
    "esmvaltool/transient-climate-response/cmip6": (4, 1, 1, 140),
    "example/global-mean-timeseries/default": (1, 4, 0, 0),
    "ilamb/burntfractionall-gfed/cmip6": (20, 16, 4, 866),
    "ilamb/csoil-hwsd2/cmip6": (14, 12, 0, 0),
    "ilamb/gpp-fluxnet2015/cmip7": (30, 20, 8, 1200),
    "ilamb/mrsos-wangmao/cmip6": (30, 20, 8, 2208),
    "ilamb/nbp-hoffman/cmip6": (6, 4, 0, 0),
    "ilamb/so-woa2023-surface/cmip6": (9, 6, 0, 0),
    "pmp/annual-cycle/cmip6-pr": (10, 104, 18, 216),
    "pmp/annual-cycle/cmip6-ta": (10, 104, 18, 216),
    "pmp/enso_proc/2025-10_cmip6_historical_gn_r1i1p1f1_ACCESS-ESM1-5__obs4mips_obs4MIPs": (30, 13, 0, 0),
    "pmp/enso_tel/cmip6": (41, 18, 0, 0),
    "pmp/extratropical-modes-of-variability-nam/cmip7": (48, 108, 0, 0),
    "pmp/extratropical-modes-of-variability-npgo/cmip6": (15, 40, 0, 0),
    "pmp/extratropical-modes-of-variability-pdo/cmip6": (12, 27, 0, 0),
}
TREES = [case for case in CASES if case.startswith(("_scratch-trees", "_results-trees"))]
RAN_IN = "/scratch/run 1"


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> str:
    return request.param


def read(samples_dir: Path, case: str, name: str) -> bytes:
    """The file as the diagnostic wrote it: the samples have a word in place of the directory that it ran in."""
    return (samples_dir / case / name).read_bytes().replace(b"<OUTPUT_DIR>", RAN_IN.encode())


def whole_set(samples_dir: Path, case: str, ran_in: str | None = RAN_IN) -> ArtifactSet:
    return artifact_set(
        metric="diagnostic.json",
        output="output.json",
        series="series.json",
        bundle=decode_output_bundle(read(samples_dir, case, "output.json")),
        ran_in=ran_in,
        fragment=case.split("/", 1)[1],
    )


def test_the_cases_are_those_of_the_samples_own_table(samples_dir: Path) -> None:
    row = re.compile(r"\| `([^`]+/[^`]+)` \| (\d+) \| \d+ \| (\d+) \| (\d+) \| (\d+) \|")
    table = {found[0]: tuple(map(int, found[1:])) for found in row.findall((samples_dir / "SOURCES.md").read_text())}
    assert table == CASES
    assert len(table) == 36


def test_every_scalar_is_read(samples_dir: Path, case: str) -> None:
    bundle = decode_metric_bundle(read(samples_dir, case, "diagnostic.json"))
    scalars = list(bundle.iter_scalars())
    assert [scalar.position for scalar in scalars] == list(range(CASES[case][1]))
    assert all(tuple(scalar.dimensions) == bundle.dimensions for scalar in scalars)
    assert len({tuple(scalar.dimensions.values()) for scalar in scalars}) == len(scalars)
    assert bundle.warnings == ()


def test_every_series_is_read(samples_dir: Path, case: str) -> None:
    series = decode_series(read(samples_dir, case, "series.json"))
    assert [one.position for one in series] == list(range(CASES[case][2]))
    assert sum(len(one.values) for one in series) == CASES[case][3]


def test_every_referenced_file_becomes_one_artifact(samples_dir: Path, case: str) -> None:
    whole = whole_set(samples_dir, case)
    assert whole.rejected == ()
    assert len(whole.artifacts) == CASES[case][0] + 4
    assert len(set(whole.keys)) == len(whole.keys)
    assert [artifact.role for artifact in whole.artifacts[:3]] == ["log", "metric", "output"]
    assert whole.artifacts[-1].role == "series"
    assert {output.key for output in whole.outputs} == set(whole.keys[3:-1])


def test_what_is_read_can_be_written_and_is_read_back_equal(samples_dir: Path, case: str) -> None:
    output = decode_output_bundle(read(samples_dir, case, "output.json"))
    metric = decode_metric_bundle(read(samples_dir, case, "diagnostic.json"))
    series = decode_series(read(samples_dir, case, "series.json"))
    assert decode_output_bundle(encode_output_bundle(output)) == output
    assert decode_metric_bundle(encode_metric_bundle(metric)) == metric
    assert decode_series(encode_series(series)) == series


@pytest.mark.parametrize("tree", TREES)
def test_the_keys_are_the_files_of_the_real_trees(samples_dir: Path, tree: str) -> None:
    whole = whole_set(samples_dir, tree, ran_in=None if tree.startswith("_results") else RAN_IN)
    absent = [key for key in whole.keys if not (samples_dir / tree / key).is_file()]
    # The results trees came without logs and NetCDF files; every other name must lead to a file.
    left_out = {"text/plain", "application/x-netcdf"} if tree.startswith("_results") else set()
    assert {media_type(key) for key in absent} <= left_out


@pytest.mark.parametrize("tree", [tree for tree in TREES if "_results-trees/esmvaltool" in tree])
def test_absolute_html_of_another_machine_is_found_by_the_fragment(samples_dir: Path, tree: str) -> None:
    html = [output for output in whole_set(samples_dir, tree, ran_in=None).outputs if output.kind == "html"]
    assert html
    for output in html:
        assert output.filename.startswith("/data/")
        assert output.key is not None
        assert output.filename.endswith("/" + output.key)
        assert (samples_dir / tree / output.key).is_file()


def test_series_that_differ_in_their_values_only_are_both_kept(samples_dir: Path) -> None:
    (directory,) = (samples_dir / "esmvaltool/enso-basic-climatology").glob("2025-10_*")
    series = decode_series((directory / "series.json").read_bytes())
    identity = [(tuple(sorted(one.dimensions.items())), one.index_name, one.index) for one in series]
    assert len(set(identity)) < len(identity)
    assert len({(same, one.values) for same, one in zip(identity, series, strict=True)}) == len(series)


def test_the_newer_keys_of_a_series_are_among_its_attributes(samples_dir: Path) -> None:
    series = decode_series((samples_dir / "ilamb/mrsos-wangmao/cmip6/series.json").read_bytes())
    assert any({"value_units", "value_long_name", "calendar", "kind"} <= one.attributes.keys() for one in series)


def test_attributes_come_from_every_level_above_a_scalar(samples_dir: Path) -> None:
    path = samples_dir / "pmp/extratropical-modes-of-variability-pdo/cmip6/diagnostic.json"
    for scalar in decode_metric_bundle(path.read_bytes()).iter_scalars():
        assert {"target_model_eofs", "period"} <= scalar.attributes.keys()


def test_a_null_is_a_value_that_is_nan(samples_dir: Path) -> None:
    nan = 0
    for case in CASES:
        data = read(samples_dir, case, "diagnostic.json")
        nan += sum(math.isnan(scalar.value) for scalar in decode_metric_bundle(data).iter_scalars())
    assert nan > 0


@pytest.mark.parametrize("version", ["0.14.7", "0.20.2"])
def test_real_vocabularies_are_read(samples_dir: Path, version: str) -> None:
    vocabulary = load_vocabulary(samples_dir / "_cv" / f"cv_cmip7_aft-{version}.yaml")
    assert "region" in [dimension.name for dimension in vocabulary.dimensions]


def test_an_unlisted_dimension_of_a_real_set_is_told_once(samples_dir: Path) -> None:
    vocabulary = load_vocabulary(samples_dir / "_cv" / "cv_cmip7_aft-0.20.2.yaml")
    (directory,) = (samples_dir / "pmp/enso_proc").glob("2025-10_*")
    bundle = decode_metric_bundle((directory / "diagnostic.json").read_bytes())
    found = {warning for scalar in bundle.iter_scalars() for warning in vocabulary.check(scalar.dimensions)}
    assert [one.place for one in found if one.code == "unknown-dimension"] == ["reference_datasets"]
