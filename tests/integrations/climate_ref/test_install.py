"""`install` reaches every place from which Climate-REF calls its handler, and `uninstall` gives it back."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import climate_ref.executor
import pytest
from climate_ref.executor import LocalExecutor, SynchronousExecutor, reingest, result_handling
from climate_ref.models import Execution
from climate_ref_core.datasets import ExecutionDatasetCollection
from climate_ref_core.diagnostics import DataRequirement, Diagnostic, ExecutionDefinition, ExecutionResult
from climate_ref_core.providers import DiagnosticProvider
from tests.integrations.climate_ref.frameworks import Framework, framework, handle_as_theirs, make_template
from tests.integrations.climate_ref.sets import metric_bundle, output_bundle

from emdstore import InMemoryArtifactStore
from emdstore.integrations.climate_ref import install, uninstall

FRAGMENT = "example/count/historical_g1_v1_abcdef01/1"


class Counting(Diagnostic):
    """A diagnostic that needs no data."""

    name = "Count"
    slug = "count"
    data_requirements: tuple[DataRequirement, ...] = ()
    facets = ("region", "metric")

    def execute(self, definition: ExecutionDefinition) -> None:
        pass

    def build_execution_result(self, definition: ExecutionDefinition) -> ExecutionResult:
        metric = metric_bundle({"global": {"bias": 1.0}}, region=["global"], metric=["bias"])
        return ExecutionResult.build_from_output_bundle(
            definition, cmec_output_bundle=output_bundle(plots={}, data={}, html={}), cmec_metric_bundle=metric
        )


PROVIDER = DiagnosticProvider("Example", "2.0", slug="example")
PROVIDER.register(Counting())


@pytest.fixture(scope="session")
def install_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def ref(install_template: Path, tmp_path: Path) -> Iterator[Framework]:
    with framework(install_template, tmp_path) as one:
        yield one


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    uninstall()


def definition(ref: Framework) -> ExecutionDefinition:
    return ExecutionDefinition(
        diagnostic=PROVIDER.get("count"),
        key="key",
        datasets=ExecutionDatasetCollection({}),
        root_directory=ref.scratch,
        output_directory=ref.scratch / FRAGMENT,
    )


def published_by_us(ref: Framework, execution: int) -> bool:
    assert ref.rows(execution).counts[0] == 1
    return (ref.results / FRAGMENT / "execution.json").exists()


@pytest.mark.parametrize("ours", [True, False])
def test_the_synchronous_executor(ref: Framework, ours: bool) -> None:
    execution = ref.solved(FRAGMENT)
    if ours:
        install()
    with ref.database.session.begin():
        row = ref.database.session.get(Execution, execution)
        ref.database.session.expunge(row)
    SynchronousExecutor(database=ref.database, config=ref.config).run(definition(ref), row)
    assert published_by_us(ref, execution) is ours


@pytest.mark.parametrize("ours", [True, False])
def test_the_local_executor_handles_what_its_pool_made(ref: Framework, ours: bool) -> None:
    execution = ref.solved(FRAGMENT)
    if ours:
        install()
    with ref.database.session.begin():
        row = ref.database.session.get(Execution, execution)
        ref.database.session.expunge(row)
    with ThreadPoolExecutor(1) as pool:
        executor = LocalExecutor(database=ref.database, config=ref.config, pool=pool)
        executor.run(definition(ref), row)
        executor.join(timeout=60)
    assert published_by_us(ref, execution) is ours


def test_results_may_go_to_any_store(ref: Framework) -> None:
    store = InMemoryArtifactStore()
    execution = ref.solved(FRAGMENT)
    with ref.database.session.begin():
        row = ref.database.session.get(Execution, execution)
        ref.database.session.expunge(row)
    with install(results=store):
        SynchronousExecutor(database=ref.database, config=ref.config).run(definition(ref), row)
    assert ref.rows(execution).counts[0] == 1
    assert f"{FRAGMENT}/execution.json" in list(store.iter_keys())
    assert not ref.results.exists()


def places() -> dict[str, Any]:
    """Return what each module of theirs calls that imported the handler."""
    return {
        name: module.__dict__["handle_execution_result"]
        for name, module in sys.modules.items()
        if name.startswith("climate_ref") and "handle_execution_result" in getattr(module, "__dict__", {})
    }


def test_no_module_is_left_out_and_each_has_its_own_back() -> None:
    assert {"climate_ref.executor", "climate_ref.executor.result_handling", "climate_ref.executor.reingest"} <= set(
        places()
    )
    install()
    assert handle_as_theirs not in places().values()
    uninstall()
    assert set(places().values()) == {handle_as_theirs}
    uninstall()  # harmless
    assert reingest.reingest_execution.__module__ == "climate_ref.executor.reingest"


def test_a_celery_worker_that_starts_afterwards(tmp_path: Path) -> None:
    # `climate_ref_celery.worker_tasks` has this one line; the rest of it needs a broker.
    source = tmp_path / "worker_tasks.py"
    source.write_text("from climate_ref.executor import handle_execution_result\n")
    with install():
        tasks = _load("climate_ref_celery.worker_tasks", source)
        assert tasks.handle_execution_result is not handle_as_theirs
    assert tasks.handle_execution_result is handle_as_theirs
    del sys.modules["climate_ref_celery.worker_tasks"]


def test_blocks_nest() -> None:
    with install(InMemoryArtifactStore()):
        outer = result_handling.handle_execution_result
        with install(InMemoryArtifactStore()):
            assert result_handling.handle_execution_result is not outer
        assert result_handling.handle_execution_result is outer
    assert climate_ref.executor.handle_execution_result is handle_as_theirs


def test_a_block_that_raises_puts_theirs_back() -> None:
    with pytest.raises(RuntimeError), install():
        raise RuntimeError
    assert result_handling.handle_execution_result is handle_as_theirs


def test_an_abandoned_run_is_decided_by_ours_too(ref: Framework) -> None:
    execution = ref.solved(FRAGMENT, dirty=False)
    with install():
        result_handling.mark_execution_failed(ref.database, ref.config, definition(ref), execution, retryable=True)
    rows = ref.rows(execution)
    assert (rows.successful, rows.dirty) == (False, True)
    assert (ref.results / FRAGMENT / "execution.json").exists()


def _load(name: str, source: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
