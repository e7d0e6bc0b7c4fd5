"""Fixtures for the tests of frameworks that use emdstore; pytest finds them where emdstore is installed.

The plugin imports nothing of emdstore until a fixture is used. ``-p no:emdstore`` does without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from emdstore import ArtifactStore, Workspace
    from emdstore.sets.record import ExecutionRecord
    from emdstore.testing.published import MadeSet
    from emdstore.testing.servers import S3Server

_OPTION = "--artifact-stores"
_KINDS = "memory,local"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says on which stores tests run."""
    parser.getgroup("emdstore").addoption(
        _OPTION,
        default=_KINDS,
        help=f"the stores that tests with the fixture artifact_store run on, separated by commas: memory, local, s3, "
        f"or a URL with {{tmp}} in it, the test's own folder; by default {_KINDS}",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each of the stores, if it takes this plugin's fixture and not one of its own by that name."""
    if "_kind_of_artifact_store" in metafunc.fixturenames:
        kinds = [kind.strip() for kind in str(metafunc.config.getoption(_OPTION)).split(",") if kind.strip()]
        metafunc.parametrize("_kind_of_artifact_store", kinds, indirect=True)


@pytest.fixture
def _kind_of_artifact_store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def artifact_store(_kind_of_artifact_store: str, request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """An empty store of its own for each test, one after the other of those that ``--artifact-stores`` names."""
    from emdstore import InMemoryArtifactStore, open_store

    kind = _kind_of_artifact_store
    if kind == "memory":
        return InMemoryArtifactStore()
    if kind == "local":
        return open_store(tmp_path / "artifact-store")
    if kind == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        return open_store(f"s3://{server.make_bucket()}/results", **server.options)
    if "{tmp}" not in kind:
        raise pytest.UsageError(f"{_OPTION}={kind} is none of memory, local, s3, and no URL with {{tmp}} in it")
    return open_store(kind.replace("{tmp}", str(tmp_path)))


@pytest.fixture
def memory_workspace() -> Iterator[Workspace]:
    """A workspace with results and catalog in memory, which leaves nothing behind."""
    from emdstore import Workspace

    with Workspace.in_memory() as workspace:
        yield workspace


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server on this machine; the test is skipped where moto is not installed."""
    from emdstore.errors import MissingExtraError
    from emdstore.testing.servers import run_s3_server

    with ExitStack() as running:
        try:
            server = running.enter_context(run_s3_server())
        except MissingExtraError as error:
            pytest.skip(str(error))
        yield server


@pytest.fixture
def emds_set(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., MadeSet]:
    """Return what makes sets: ``emds_set("provider/diagnostic/group/1", files={...}, publish_in=store)``."""
    from emdstore.testing.published import make_set

    def make(
        fragment: str = "testing/set/historical/1",
        *,
        files: Mapping[str, bytes] | None = None,
        publish_in: Any = None,
    ) -> MadeSet:
        made = make_set(tmp_path_factory.mktemp("set"), fragment, files)
        if publish_in is not None:
            made.publish(publish_in)
        return made

    return make


@pytest.fixture
def assert_published() -> Callable[..., ExecutionRecord]:
    """Return `emdstore.testing.assert_published`: it fails unless a set is published, whole, byte by byte."""
    from emdstore.testing.published import assert_published

    return assert_published
