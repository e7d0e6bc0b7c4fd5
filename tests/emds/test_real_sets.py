"""What real frameworks wrote, read whole: what is found is what counting by hand finds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tests.real_sets import BUNDLES, ELSEWHERE, RealSet, RealSets

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


def whole_set(folder: Path, fragment: str, ran_in: str | None) -> ArtifactSet:
    metric, output, series = BUNDLES
    bundle = decode_output_bundle((folder / output).read_bytes())
    return artifact_set(metric=metric, output=output, series=series, bundle=bundle, ran_in=ran_in, fragment=fragment)


def scratch_set(real_sets: RealSets, one: RealSet) -> ArtifactSet:
    folder = real_sets.scratch / one.fragment
    return whole_set(folder, one.fragment, str(folder))


def test_every_scalar_is_read(real_sets: RealSets, subtests: pytest.Subtests) -> None:
    for one in real_sets:
        with subtests.test(one.fragment):
            bundle = decode_metric_bundle((real_sets.scratch / one.fragment / "diagnostic.json").read_bytes())
            scalars = list(bundle.iter_scalars())
            assert [scalar.position for scalar in scalars] == list(range(one.counts.scalars))
            assert all(tuple(scalar.dimensions) == bundle.dimensions for scalar in scalars)
            assert len({tuple(scalar.dimensions.values()) for scalar in scalars}) == len(scalars)
            assert bundle.warnings == ()


def test_every_series_is_read(real_sets: RealSets, subtests: pytest.Subtests) -> None:
    for one in real_sets:
        with subtests.test(one.fragment):
            series = decode_series((real_sets.scratch / one.fragment / "series.json").read_bytes())
            assert [each.position for each in series] == list(range(one.counts.series))
            assert sum(len(each.values) for each in series) == one.counts.points


def test_every_referenced_file_becomes_one_artifact(real_sets: RealSets, subtests: pytest.Subtests) -> None:
    for one in real_sets:
        with subtests.test(one.fragment):
            whole = scratch_set(real_sets, one)
            assert whole.rejected == ()
            assert len(set(whole.keys)) == len(whole.keys)
            assert [artifact.role for artifact in whole.artifacts[:3]] == ["log", "metric", "output"]
            assert whole.artifacts[-1].role == "series"
            assert set(whole.keys[3:-1]) == one.named == {output.key for output in whole.outputs}
            assert all((real_sets.scratch / one.fragment / key).is_file() for key in whole.keys)


def test_what_is_read_can_be_written_and_is_read_back_equal(real_sets: RealSets, subtests: pytest.Subtests) -> None:
    for one in real_sets:
        with subtests.test(one.fragment):
            metric, output, series = ((real_sets.scratch / one.fragment / name).read_bytes() for name in BUNDLES)
            read = decode_metric_bundle(metric), decode_output_bundle(output), decode_series(series)
            written = encode_metric_bundle(read[0]), encode_output_bundle(read[1]), encode_series(read[2])
            again = decode_metric_bundle(written[0]), decode_output_bundle(written[1]), decode_series(written[2])
            assert again == read


def test_absolute_names_of_another_machine_are_found_by_the_fragment(
    real_sets: RealSets, subtests: pytest.Subtests
) -> None:
    longest = 0
    for one in (each for each in real_sets if each.provider == "esmvaltool"):
        with subtests.test(one.fragment):
            whole = whole_set(real_sets.results / one.fragment, one.fragment, None)
            assert (whole.rejected, set(whole.keys[3:-1])) == ((), one.named)
            (page,) = [output for output in whole.outputs if output.kind == "html"]
            assert page.filename == f"{ELSEWHERE}/{one.fragment}/{page.key}"
            longest = max(longest, len(page.filename))
            # Logs and NetCDF files are not in that tree; every other name must lead to a file.
            absent = [key for key in whole.keys if not (real_sets.results / one.fragment / key).is_file()]
            assert {media_type(key) for key in absent} <= {"text/plain", "application/x-netcdf"}
    assert longest > 255


def test_a_null_in_a_series_is_a_gap(real_sets: RealSets) -> None:
    data = (real_sets.scratch / "esmvaltool/sea-ice-area-basic/cmip6/1/series.json").read_bytes()
    gaps = [[value is None for value in one["values"]] for one in json.loads(data)]
    assert [[math.isnan(value) for value in one.values] for one in decode_series(data)] == gaps
    assert any(map(any, gaps))


def test_the_newer_keys_of_a_series_are_among_its_attributes(real_sets: RealSets) -> None:
    series = decode_series((real_sets.scratch / "ilamb/mrsos-wangmao/cmip6/1/series.json").read_bytes())
    assert any({"value_units", "value_long_name", "calendar", "kind"} <= one.attributes.keys() for one in series)


def test_attributes_come_from_every_level_above_a_scalar(real_sets: RealSets) -> None:
    path = real_sets.scratch / "pmp/extratropical-modes-of-variability-pdo/cmip6/1/diagnostic.json"
    for scalar in decode_metric_bundle(path.read_bytes()).iter_scalars():
        assert {"target_model_eofs", "period"} <= scalar.attributes.keys()


def test_the_real_vocabulary_knows_what_the_frameworks_wrote(real_sets: RealSets) -> None:
    vocabulary = load_vocabulary(real_sets.vocabulary)
    assert "region" in [dimension.name for dimension in vocabulary.dimensions]
    told = set()
    for one in real_sets:
        bundle = decode_metric_bundle((real_sets.scratch / one.fragment / "diagnostic.json").read_bytes())
        told |= {warning.code for scalar in bundle.iter_scalars() for warning in vocabulary.check(scalar.dimensions)}
    assert told == {"missing-dimension"}  # none of the frameworks gives all that the vocabulary requires
