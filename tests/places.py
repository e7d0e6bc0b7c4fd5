"""Where runs are promoted from and to: stores, a catalog, a workspace. A folder of tests may have its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.postgres import POSTGRESQL, KeptDatabase, PostgresServer
from tests.servers.s3 import S3Server
from tests.sets.examples import FourMethods, put, small_run

from emdstore.catalog import Catalog
from emdstore.executions.workspace import Workspace
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, S3ArtifactStore


@pytest.fixture
def scratch(tmp_path: Path) -> LocalArtifactStore:
    """The directory that a small run has left."""
    store = LocalArtifactStore(tmp_path / "scratch")
    put(store, small_run())
    return store


@pytest.fixture(params=["local", "memory", "four-methods", "s3"])
def results(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """An empty results store of each kind."""
    match request.param:
        case "local":
            return LocalArtifactStore(tmp_path / "results")
        case "memory":
            return InMemoryArtifactStore()
        case "four-methods":
            return FourMethods(InMemoryArtifactStore())
        case _:
            server: S3Server = request.getfixturevalue("moto_server")
            return S3ArtifactStore(f"s3://{server.make_bucket()}/results", **server.options)


@pytest.fixture(scope="session")
def empty_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a catalog that was set up and holds nothing: setting one up takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "catalog.db"
    with Catalog(path) as catalog:
        catalog.upgrade()
    return path


@pytest.fixture
def catalog(empty_catalog: Path, tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(Path(shutil.copy(empty_catalog, tmp_path / "catalog.db"))) as catalog:
        yield catalog


@pytest.fixture(params=["sqlite", POSTGRESQL])
def database(request: pytest.FixtureRequest) -> Iterator[KeptDatabase | None]:
    """A database that processes share; None for a file that the test puts where it likes."""
    if request.param == "sqlite":
        yield None
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.new_database(request.getfixturevalue("postgres_template")) as url:
        yield KeptDatabase(server, url)


@pytest.fixture
def workspace(catalog: Catalog, tmp_path: Path) -> Workspace:
    """A workspace on disk, with nothing in it, of which nobody wants to keep the working files of runs."""
    return Workspace(
        clean_unnamed=True,
        scratch=LocalArtifactStore(tmp_path / "ws-scratch"),
        results=LocalArtifactStore(tmp_path / "ws-results"),
        catalog=catalog,
    )
