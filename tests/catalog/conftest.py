from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from emdstore.catalog import Catalog


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path}/catalog.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_url(request: pytest.FixtureRequest) -> str:
    """A database that several processes can share."""
    return str(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Any database that a catalog can be kept in."""
    if request.param == "memory":
        return "sqlite://"
    return str(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    with Catalog(url) as catalog:
        yield catalog
