"""Real engines, each started once: a Dask cluster of worker processes, and Parsl with its local provider."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emdstore.catalog import Catalog
from emdstore.executions.workspace import Workspace
from emdstore.stores import LocalArtifactStore


@pytest.fixture(scope="session")
def workers_find_us() -> Iterator[None]:
    """Workers start from nothing, and have to find this emdstore, the tests' stores, and what they are started by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), *sys.path])))
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        yield


@pytest.fixture(scope="session")
def dask_client(workers_find_us: None) -> Iterator[Any]:
    """The client of a Dask cluster of two worker processes, which Dask starts again when they are killed.

    Dask gives work out again up to three times itself; here it does not, so that it is left to us.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dask
        from distributed import Client, LocalCluster

        with (
            dask.config.set({"distributed.scheduler.allowed-failures": 0}),
            LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            yield client


PARSL = """
from parsl import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

config = Config(
    executors=[
        HighThroughputExecutor(
            address="127.0.0.1",
            max_workers_per_node=2,
            provider=LocalProvider(max_blocks=1),
            heartbeat_period=1,  # how long it takes to notice that a worker is gone
            heartbeat_threshold=30,
        )
    ],
    run_dir={run_dir!r},
    initialize_logging=False,
)
"""


@pytest.fixture(scope="session")
def parsl_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a configuration of Parsl: two worker processes on this machine."""
    folder = tmp_path_factory.mktemp("parsl")
    (folder / "config.py").write_text(PARSL.format(run_dir=str(folder / "run")))
    return folder / "config.py"


@pytest.fixture(scope="session")
def parsl_executor(workers_find_us: None, parsl_file: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import runpy

        from parsl.concurrent import ParslPoolExecutor

        with ParslPoolExecutor(runpy.run_path(str(parsl_file))["config"]) as executor:
            yield executor


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace on disk, with nothing in it."""
    with contextlib.closing(Catalog(tmp_path / "catalog.db")) as catalog:
        yield Workspace(
            scratch=LocalArtifactStore(tmp_path / "scratch"),
            results=LocalArtifactStore(tmp_path / "results"),
            catalog=catalog,
        )


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalArtifactStore]:
    """A store with some hundred small artifacts; not to be changed."""
    folder = tmp_path_factory.mktemp("filled")
    store = LocalArtifactStore(folder)
    for number in range(400):
        store.write_bytes(f"run{number % 7}/{number:03}", bytes(number))
    yield store
    shutil.rmtree(folder)
