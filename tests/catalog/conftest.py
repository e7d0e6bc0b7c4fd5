from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.postgres import POSTGRESQL, PostgresServer

from emdstore.catalog import Catalog


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path}/catalog.db"


@pytest.fixture(params=["sqlite", POSTGRESQL])
def shared_url(request: pytest.FixtureRequest) -> str:
    """A database that several processes can share, without a catalog yet."""
    return str(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))


@pytest.fixture(params=["memory", "sqlite", POSTGRESQL])
def url(request: pytest.FixtureRequest) -> str:
    """Any database that a catalog can be kept in, without one yet."""
    if request.param == "memory":
        return "sqlite://"
    return str(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))


@pytest.fixture
def sqlite_catalog_url(empty_catalog: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_catalog, tmp_path / 'catalog.db')}"


@pytest.fixture
def postgresql_catalog_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    with postgres_server.new_database(postgres_template) as url:
        yield url


@pytest.fixture(params=["sqlite", POSTGRESQL])
def shared_catalog_url(request: pytest.FixtureRequest) -> str:
    """An empty catalog that several processes can share."""
    return str(request.getfixturevalue(f"{request.param}_catalog_url"))


@pytest.fixture
def catalog(shared_catalog_url: str) -> Iterator[Catalog]:
    """An empty catalog of each kind."""
    with Catalog(shared_catalog_url) as catalog:
        yield catalog


@pytest.fixture(scope="module", params=["sqlite", POSTGRESQL])
def asked_catalog(
    request: pytest.FixtureRequest, empty_catalog: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Catalog]:
    """A catalog of each kind that a module fills once, and only asks then: to make one takes longer than to ask."""
    if request.param == "sqlite":
        with Catalog(Path(shutil.copy(empty_catalog, tmp_path_factory.mktemp("asked")))) as catalog:
            yield catalog
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.new_database(request.getfixturevalue("postgres_template")) as url, Catalog(url) as catalog:
        yield catalog
