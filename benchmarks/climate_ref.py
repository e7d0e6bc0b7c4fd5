"""Ingest into Climate-REF's database, by their handler and by ours: ``python -m benchmarks.climate_ref WHAT FOLDER``.

Needs ``climate-ref`` beside emdstore. Like `benchmarks.inside`, each call is a process of its own and says JSON:
``seconds`` and ``cpu_seconds`` of the call alone, after the imports.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from climate_ref.config import Config
from climate_ref.database import Database
from climate_ref.executor import result_handling as theirs
from climate_ref.models import Diagnostic, Execution, ExecutionGroup, MetricValue, Provider
from climate_ref_core.datasets import ExecutionDatasetCollection
from climate_ref_core.diagnostics import ExecutionDefinition, ExecutionResult
from climate_ref_core.pycmec.controlled_vocabulary import CV
from loguru import logger

from benchmarks.inside import Clock, new_catalog
from benchmarks.workloads import metric_bundle, series_list
from emdstore import LocalArtifactStore, ingest
from emdstore.integrations import climate_ref as ours

_FRAGMENT = "provider/diagnostic/group/1"
_EXECUTION = 1
_COLUMNS = ("source_id", "variable_id", "region", "statistic")  # of their vocabulary: nothing is dropped


def prepare_scalars(clock: Clock, folder: str, *shape: str) -> None:
    """Lay out a run with a scalar for each combination of so many values of each dimension."""
    _prepare(Path(folder), metric_bundle(random.Random(1), *map(int, shape), names=_COLUMNS), [])


def prepare_series(clock: Clock, folder: str, count: str, points: str) -> None:
    """Lay out a run with so many series of so many points."""
    series = series_list(random.Random(1), int(count), int(points), names=("source_id", "region"))
    _prepare(Path(folder), metric_bundle(random.Random(1), 1, 1, names=_COLUMNS), series)


def _prepare(folder: Path, metric: object, series: object) -> None:
    config = _config(folder, "template")
    run = config.paths.scratch / _FRAGMENT
    run.mkdir(parents=True)
    (run / "out.log").write_text("done\n")
    (run / "diagnostic.json").write_text(json.dumps(metric))
    (run / "series.json").write_text(json.dumps(series))
    database = Database.from_config(config, run_migrations=True)
    with database.session.begin():
        diagnostic = Diagnostic(
            slug="diagnostic", name="diagnostic", provider=Provider(slug="provider", name="provider", version="1")
        )
        group = ExecutionGroup(diagnostic=diagnostic, key="group", dirty=True, selectors={})
        execution = Execution(execution_group=group, dataset_hash="0", output_fragment=_FRAGMENT)
        database.session.add(execution)
        database.session.flush()
        assert execution.id == _EXECUTION
    database.close()
    _handle(ours.handle_execution_result, Clock(), folder, "published")


def ingest_as_theirs(clock: Clock, folder: str) -> None:
    """Ingest as their handler does once the files are copied."""
    config, database = _fresh(Path(folder), "published")
    vocabulary = CV.load_from_file(config.paths.dimensions_cv) if config.paths.dimensions_cv else None
    vocabulary = vocabulary or CV.load(config.paths.dimensions_cv_resource)
    result, fragment_path = _result(config), config.paths.scratch / _FRAGMENT
    with clock.running(), database.session.begin():
        execution = database.session.get(Execution, _EXECUTION)
        theirs.ingest_execution_result(database, execution, result, vocabulary, output_base_path=fragment_path)
        execution.mark_successful(result.as_relative_path(result.metric_bundle_filename))
        execution.execution_group.dirty = False
    _tell_rows(clock, database)


def replay_as_ours(clock: Clock, folder: str) -> None:
    """Ingest the published set into their schema."""
    config, database = _fresh(Path(folder), "published")
    store = LocalArtifactStore(config.paths.results)
    with clock.running():
        report = ours.replay(store, database)
    assert report.ok, report.failures
    _tell_rows(clock, database)


def ingest_into_catalog(clock: Clock, folder: str) -> None:
    """Ingest the published set into emdstore's catalog."""
    store = LocalArtifactStore(_config(Path(folder), "published").paths.results)
    with new_catalog(Path(folder) / "catalog.db") as catalog, clock.running():
        done = ingest(store, _FRAGMENT, catalog)
    clock.told["rows"] = done.scalars + done.series


def handle_as_theirs(clock: Clock, folder: str) -> None:
    """Do all of it: copy the files, ingest, decide."""
    _handle(theirs.handle_execution_result, clock, Path(folder), "theirs")


def handle_as_ours(clock: Clock, folder: str) -> None:
    _handle(ours.handle_execution_result, clock, Path(folder), "ours")


def _handle(handler: Callable[..., None], clock: Clock, folder: Path, name: str) -> None:
    config, database = _fresh(folder, name)
    shutil.rmtree(config.paths.results, ignore_errors=True)
    with clock.running(), database.session.begin():
        execution = database.session.get(Execution, _EXECUTION)
        handler(config, database, execution, _result(config))
    _tell_rows(clock, database)


def _config(folder: Path, name: str) -> Any:
    os.environ["REF_CONFIGURATION"] = os.fspath(folder)
    config = Config.default()
    config.paths.results = folder / f"{name}-results"
    config.db.database_url = f"sqlite:///{folder / name}.db"
    return config


def _fresh(folder: Path, name: str) -> tuple[Any, Database]:
    """Return a configuration, and a database in which the execution has just run."""
    config = _config(folder, name)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{folder / name}.db{suffix}").unlink(missing_ok=True)
    shutil.copy(folder / "template.db", folder / f"{name}.db")
    return config, Database.from_config(config, run_migrations=False)


def _result(config: Any) -> ExecutionResult:
    definition = ExecutionDefinition(
        diagnostic=None,
        key="group",
        datasets=ExecutionDatasetCollection({}),
        root_directory=config.paths.scratch,
        output_directory=config.paths.scratch / _FRAGMENT,
    )
    names = {"metric_bundle_filename": Path("diagnostic.json"), "series_filename": Path("series.json")}
    return ExecutionResult(definition=definition, successful=True, **names)


def _tell_rows(clock: Clock, database: Database) -> None:
    with database.session.begin():
        clock.told["rows"] = database.session.query(MetricValue.id).count()
        assert database.session.get(Execution, _EXECUTION).successful
    database.close()


_CALLS: dict[str, Callable[..., None]] = {
    "prepare-scalars": prepare_scalars,
    "prepare-series": prepare_series,
    "ingest-as-theirs": ingest_as_theirs,
    "replay-as-ours": replay_as_ours,
    "ingest-into-catalog": ingest_into_catalog,
    "handle-as-theirs": handle_as_theirs,
    "handle-as-ours": handle_as_ours,
}


def main(what: str, *arguments: str) -> None:
    logger.remove()  # what is logged is not what is measured
    if not what.startswith("prepare-"):
        _CALLS[what](Clock(), *arguments)  # a solve handles many results: what is done once in a process is done here
    clock = Clock()
    _CALLS[what](clock, *arguments)
    print(json.dumps(clock.told))


if __name__ == "__main__":
    call: Sequence[str] = sys.argv[1:]
    main(*call)
