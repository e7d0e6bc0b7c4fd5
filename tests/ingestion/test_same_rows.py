"""The same bundles give the same rows, whichever way they come into the catalog."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.sets.examples import encode, metric_bundle, one_series, output_bundle, put, rows_of, small_run

from emdstore.catalog import Catalog
from emdstore.emds import RECORD_NAME
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import ingest, replay
from emdstore.sets.result import ExecutionResult
from emdstore.stores import LocalArtifactStore

TWICE = encode(metric_bundle()).replace(b'{"bias": 0.5, "rmse": 1.5}', b'{"bias": 0.5, "bias": 0.75, "rmse": 1.5}')
SHARED = output_bundle(plots=["plots/map (°C).png", "./plots/map (°C).png"], html=["plots/map (°C).png"])
KINDS: dict[str, dict[str, Any]] = {
    "as they should be": {},
    "a metric bundle with a key twice": {"diagnostic": TWICE},
    "an output bundle with an entry twice": {
        "output": encode(SHARED).replace(b'"plots 1"', b'"plots 0"'),
    },
    "outputs that name one file": {"output": SHARED},
    "a series with a key twice": {
        "series": encode([one_series()]).replace(b'"index_name"', b'"index_name": "month", "index_name"'),
    },
    "a value that was not declared": {"diagnostic": encode(metric_bundle()).replace(b'"rmse": {}', b'"other": {}')},
}
VALUES = ("outputs", "scalars", "series", "warnings")


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_a_bare_folder_ingest_replay_and_commit_give_the_same(kind: str, tmp_path: Path) -> None:
    results = LocalArtifactStore(tmp_path / "results")
    catalog = Catalog("sqlite://")
    workspace = Workspace(scratch=LocalArtifactStore(tmp_path / "scratch"), results=results, catalog=catalog)
    files = small_run(**KINDS[kind])
    with workspace.start_execution(provider="pmp", diagnostic="enso", group="g") as execution:
        put(LocalArtifactStore(execution.output_directory), files)
        execution.stop(
            ExecutionResult(
                successful=True,
                metric_bundle_filename="diagnostic.json",
                output_bundle_filename="output.json",
                series_filename="series.json",
            )
        )
    execution.commit_output_assets()
    committed = rows_of(catalog)
    assert committed["scalars"]
    assert bool(committed["warnings"]) == (kind != "as they should be")

    bare = tmp_path / "bare"
    shutil.copytree(tmp_path / "results", bare)
    (bare / execution.fragment / RECORD_NAME).unlink()
    for store in (results, LocalArtifactStore(bare)):
        with Catalog("sqlite://") as replayed, Catalog("sqlite://") as ingested:
            replay(store, replayed)
            ingest(store, execution.fragment, ingested)
            for name in VALUES:
                assert rows_of(replayed)[name] == rows_of(ingested)[name] == committed[name], name
            if store is results:
                assert rows_of(replayed) == committed
