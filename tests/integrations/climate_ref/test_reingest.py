"""Climate-REF's reingest where only the results tree is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from climate_ref.executor import reingest as theirs
from climate_ref.models import Execution
from climate_ref.provider_registry import ProviderRegistry
from climate_ref_core.diagnostics import DataRequirement, Diagnostic, ExecutionDefinition, ExecutionResult
from climate_ref_core.providers import DiagnosticProvider
from tests.integrations.climate_ref.frameworks import Framework, framework, make_template
from tests.integrations.climate_ref.sets import entry, metric_bundle, output_bundle, write_set

from emdstore.integrations.climate_ref import install, reingest_execution

FRAGMENT = "example/count/historical_g1_v1_abcdef01/1"
METRIC = metric_bundle({"global": {"bias": 0.5}}, region=["global"], metric=["bias"])


class Counting(Diagnostic):
    """Builds its result from a data file that it has published, and from a working file if it is told so."""

    name = "Count"
    slug = "count"
    data_requirements: tuple[DataRequirement, ...] = ()
    facets = ("region", "metric")
    needs = "data.txt"

    def execute(self, definition: ExecutionDefinition) -> None:
        raise AssertionError("a reingest runs nothing")

    def build_execution_result(self, definition: ExecutionDefinition) -> ExecutionResult:
        Path(definition.to_output_path("diagnostic.json")).write_text("half a bundle")
        number = float(Path(definition.to_output_path(self.needs)).read_text())
        output = json.loads(Path(definition.to_output_path("output.json")).read_text())
        metric = metric_bundle({"global": {"bias": number}}, region=["global"], metric=["bias"])
        return ExecutionResult.build_from_output_bundle(
            definition, cmec_output_bundle=output, cmec_metric_bundle=metric
        )


class NeedsMore(Counting):
    """Needs a working file that nobody publishes."""

    needs = "working.txt"


@pytest.fixture(scope="session")
def reingest_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def ref(reingest_template: Path, tmp_path: Path) -> Iterator[Framework]:
    with framework(reingest_template, tmp_path) as one:
        yield one


def registry(diagnostic: Diagnostic) -> ProviderRegistry:
    provider = DiagnosticProvider("Example", "2.0", slug="example")
    provider.register(diagnostic)
    return ProviderRegistry(providers=[provider])


def publish(ref: Framework, filename: str = "data.txt") -> int:
    """Handle an execution, then lose its scratch folder."""
    directory = ref.scratch / FRAGMENT
    write_set(directory, metric=METRIC, output=output_bundle(data={"number": entry(filename)}))
    (directory / "data.txt").write_text("0.75")
    (directory / "working.txt").write_text("3.0")
    execution = ref.solved(FRAGMENT)
    ref.handle("ours", execution, ref.result(FRAGMENT))
    assert ref.rows(execution).successful
    shutil.rmtree(ref.scratch)
    return execution


def reingest(ref: Framework, execution: int, diagnostic: Diagnostic, call: Any = reingest_execution) -> bool:
    session = ref.database.session
    with session.begin():
        return bool(call(ref.config, ref.database, session.get(Execution, execution), registry(diagnostic)))


def newest(ref: Framework) -> tuple[int, str]:
    with ref.database.session.begin():
        row = ref.database.session.execute(
            sa.select(Execution.id, Execution.output_fragment).order_by(Execution.id.desc()).limit(1)
        ).one()
    return row.id, row.output_fragment


def test_it_works_from_a_results_tree_alone_where_theirs_gives_up(ref: Framework) -> None:
    execution = publish(ref)
    before = ref.rows(execution)
    assert not reingest(ref, execution, Counting(), theirs.reingest_execution)
    assert newest(ref)[0] == execution
    assert reingest(ref, execution, Counting())
    again, fragment = newest(ref)
    rows = ref.rows(again)
    assert again != execution
    assert (rows.successful, rows.counts[0], rows.scalars[0]["value"]) == (True, 1, 0.75)
    assert ref.rows(execution) == before
    assert (ref.results / fragment / "data.txt").read_text() == "0.75"
    assert not (ref.scratch / FRAGMENT).exists()
    assert json.loads((ref.results / fragment / "execution.json").read_text())["dirty"] is None


def test_a_diagnostic_that_needs_working_files_has_its_published_bundles_taken(ref: Framework) -> None:
    execution = publish(ref)
    assert reingest(ref, execution, NeedsMore())
    rows = ref.rows(newest(ref)[0])
    assert (rows.successful, rows.scalars[0]["value"]) == (True, 0.5)
    assert [row["filename"] for row in rows.outputs] == ["data.txt"]


def test_a_damaged_set_is_not_published_again(ref: Framework, caplog: pytest.LogCaptureFixture) -> None:
    execution = publish(ref)
    data = ref.results / FRAGMENT / "data.txt"
    data.write_text("9.75")
    assert not reingest(ref, execution, Counting())
    assert newest(ref)[0] == execution
    assert "damaged: 'data.txt'" in caplog.text
    data.write_text("0.75")
    assert reingest(ref, execution, Counting())


def test_the_published_bundles_are_not_taken_while_scratch_is_there(ref: Framework) -> None:
    execution = publish(ref)
    shutil.copytree(ref.results / FRAGMENT, ref.scratch / FRAGMENT)
    assert not reingest(ref, execution, NeedsMore())
    assert newest(ref)[0] == execution
    assert (ref.scratch / FRAGMENT).exists()


@pytest.mark.parametrize("diagnostic", [Counting(), NeedsMore()])
def test_paths_of_another_machine_are_resolved(ref: Framework, diagnostic: Diagnostic) -> None:
    execution = publish(ref)
    bundle = ref.results / FRAGMENT / "output.json"
    (ref.results / FRAGMENT / "execution.json").unlink()  # a bare tree, as their handler left it over there
    bundle.write_text(bundle.read_text().replace('"data.txt"', f'"/elsewhere/scratch/{FRAGMENT}/data.txt"'))
    assert reingest(ref, execution, diagnostic)
    rows = ref.rows(newest(ref)[0])
    assert rows.successful
    assert [row["filename"] for row in rows.outputs] == ["data.txt"]


def test_a_path_that_nobody_can_resolve_is_told_and_not_raised(ref: Framework) -> None:
    execution = publish(ref)
    bundle = ref.results / FRAGMENT / "output.json"
    (ref.results / FRAGMENT / "execution.json").unlink()
    bundle.write_text(bundle.read_text().replace('"data.txt"', '"/elsewhere/data.txt"'))
    reingest(ref, execution, NeedsMore())
    id_, _ = newest(ref)
    assert id_ == execution or not ref.rows(id_).successful


def test_without_scratch_and_results_nothing_happens(ref: Framework) -> None:
    execution = publish(ref)
    shutil.rmtree(ref.results)
    assert not reingest(ref, execution, Counting())
    assert newest(ref)[0] == execution
    assert not (ref.scratch / FRAGMENT).exists()


def test_install_brings_it_to_their_command(ref: Framework) -> None:
    execution = publish(ref)
    with install():
        assert reingest(ref, execution, Counting(), theirs.reingest_execution)
    assert ref.rows(newest(ref)[0]).scalars[0]["value"] == 0.75
