"""From each kind of site to each other: committed from scratch, verified, transferred, replayed from there, equal."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.executions.runs import committed
from tests.sets.examples import held, rows_of

from emdstore.catalog import Catalog
from emdstore.emds import RECORD_NAME
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.replay import replay
from emdstore.sets.transfer import transfer
from emdstore.sets.verify import verify
from emdstore.stores import ArtifactStore, LocalArtifactStore, open_store, scoped

Opening = Callable[[pytest.FixtureRequest, Path], tuple[str, dict[str, Any]]]


def _in_bucket(server_name: str, **more: Any) -> Opening:
    def place(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, Any]]:
        server = request.getfixturevalue(server_name)
        return f"{getattr(server, 'scheme', 's3')}://{server.make_bucket()}/site", {**server.options, **more}

    return place


def _by_ssh(scheme: str) -> Opening:
    def place(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, Any]]:
        server = request.getfixturevalue("sshd")
        return server.url(folder, scheme), {"rsh": server.rsh}

    return place


def _by_webdav(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, Any]]:
    server = request.getfixturevalue("webdav_server")
    return server.url(f"site-{os.getpid()}"), server.options


SITES: dict[str, tuple[Opening, str | None]] = {
    "local": (lambda _, folder: (os.fspath(folder), {}), None),
    "memory": (lambda _, folder: (f"memory://{folder.name}-{os.getpid()}", {}), None),
    "s3": (_in_bucket("moto_server"), None),
    "s3fs": (_in_bucket("moto_server", engine="s3fs"), None),
    "ssh": (_by_ssh("ssh"), "openssh"),
    "sftp": (_by_ssh("sftp"), "openssh"),
    "google": (_in_bucket("google_server"), "google"),
    "azure": (_in_bucket("azure_server"), "azure"),
    "webdav": (_by_webdav, "webdav"),
}
"""Each kind of site that can be written to: how to get there, and the group of tests that it needs."""


@attrs.frozen
class Published:
    """A set that was committed to a site."""

    results: ArtifactStore
    fragment: str
    rows: dict[str, list[Any]]


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ArtifactStore]:
    """Open a site of a kind, always the same."""
    opened: dict[str, ArtifactStore] = {}

    def at(kind: str) -> ArtifactStore:
        if kind not in opened:
            url, options = SITES[kind][0](request, tmp_path_factory.mktemp(kind))
            opened[kind] = open_store(url, **options)
        return opened[kind]

    return at


@pytest.fixture(scope="module")
def published(
    site: Callable[[str], ArtifactStore], tmp_path_factory: pytest.TempPathFactory, empty_catalog: Path
) -> Callable[[str], Published]:
    """Commit a set from a local scratch to a site of a kind, once, and verify it there."""
    done: dict[str, Published] = {}

    def at(kind: str) -> Published:
        if kind in done:
            return done[kind]
        here = tmp_path_factory.mktemp("workspace")
        results = scoped(site(kind), "results")
        with Catalog(Path(shutil.copy(empty_catalog, here / "catalog.db"))) as catalog:
            workspace = Workspace(scratch=LocalArtifactStore(here / "scratch"), results=results, catalog=catalog)
            execution = committed(workspace)
            report = verify(results)
            assert (report.ok, report.sets) == (True, 1), report
            done[kind] = Published(results, execution.fragment, rows_of(catalog))
        return done[kind]

    return at


def _param(*kinds: str) -> Any:
    needed = {SITES[kind][1] for kind in kinds} - {None}
    return pytest.param(*kinds, id="-".join(kinds), marks=[pytest.mark.needs(name) for name in needed])


@pytest.mark.once
@pytest.mark.parametrize(("source", "dest"), [_param(*pair) for pair in itertools.permutations(SITES, 2)])
def test_a_set_goes_from_each_kind_of_site_to_each_other_and_is_the_same_there(
    source: str,
    dest: str,
    published: Callable[[str], Published],
    site: Callable[[str], ArtifactStore],
    catalog: Catalog,
) -> None:
    there, here = scoped(site(dest), f"from/{source}"), published(source)
    report = transfer(here.results, there)
    report.raise_for_failures()
    assert held(there) == held(here.results)
    assert f"{here.fragment}/{RECORD_NAME}" in held(there)
    assert replay(there, catalog).ok
    assert {name: len(rows) for name, rows in rows_of(catalog).items()} == {
        name: len(rows) for name, rows in here.rows.items()
    }
    assert rows_of(catalog)["scalars"] == here.rows["scalars"]
    again = transfer(here.results, there)
    assert again.bytes_copied == 0, again
