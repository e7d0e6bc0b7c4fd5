"""From each kind of site to each other: committed from scratch, verified, transferred, replayed from there, equal.

Every kind that can be written to is a source and a destination, and every kind that can only be read is a source.
"""

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
    "ssh": (_by_ssh("ssh"), "openssh"),
    "sftp": (_by_ssh("sftp"), "openssh"),
    "google": (_in_bucket("google_server"), "google"),
    "azure": (_in_bucket("azure_server"), "azure"),
    "webdav": (_by_webdav, "webdav"),
}
"""Each kind of site that can be written to: how to get there, and the group of tests that it needs."""

OTHERWISE: dict[str, tuple[Opening, str | None]] = {"s3 by s3fs": (_in_bucket("moto_server", engine="s3fs"), None)}
"""Another way to a kind of site, which is tried beside two of them."""


def _on_the_web(request: pytest.FixtureRequest, root: Path) -> tuple[str, dict[str, Any]]:
    return request.getfixturevalue("web_server")(root), {}


def _by_ftp(request: pytest.FixtureRequest, root: Path) -> tuple[str, dict[str, Any]]:
    return request.getfixturevalue("ftp_server")(root).url(), {}


def _in_a_zip(request: pytest.FixtureRequest, root: Path) -> tuple[str, dict[str, Any]]:
    return f"zip::{shutil.make_archive(os.fspath(root), 'zip', root)}", {}


def _in_a_tar(request: pytest.FixtureRequest, root: Path) -> tuple[str, dict[str, Any]]:
    return f"tar::{shutil.make_archive(os.fspath(root), 'tar', root)}", {}


def _in_a_zip_in_a_bucket(request: pytest.FixtureRequest, root: Path) -> tuple[str, dict[str, Any]]:
    server = request.getfixturevalue("moto_server")
    bucket = server.make_bucket()
    server.client().upload_file(shutil.make_archive(f"{root}-up", "zip", root), bucket, "set.zip")
    access = {"key": server.access_key, "secret": server.secret_key, "endpoint_url": server.endpoint_url}
    return f"zip::s3://{bucket}/set.zip", {"s3": access}


SOURCES: dict[str, Opening] = {
    "http": _on_the_web,
    "ftp": _by_ftp,
    "zip": _in_a_zip,
    "tar": _in_a_tar,
}
"""Each kind of site that can only be read: how a folder comes to be one."""

CHAINS: dict[str, Opening] = {"zip in s3": _in_a_zip_in_a_bucket}

KINDS = SITES | OTHERWISE
FOR_READING = SOURCES | CHAINS
PAIRS = [
    *itertools.permutations(SITES, 2),
    *(pair for kinds in itertools.product(OTHERWISE, ("local", "s3")) for pair in (kinds, kinds[::-1])),
    *itertools.product(SOURCES, SITES),
    *itertools.product(CHAINS, ("local", "google")),
]


@attrs.frozen
class Published:
    """A set that lies at a site."""

    results: ArtifactStore
    fragment: str
    rows: dict[str, list[Any]]
    bytes: dict[str, bytes]


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ArtifactStore]:
    """Open a site of a kind, always the same."""
    opened: dict[str, ArtifactStore] = {}

    def at(kind: str) -> ArtifactStore:
        if kind not in opened:
            url, options = KINDS[kind][0](request, tmp_path_factory.mktemp(kind))
            opened[kind] = open_store(url, **options)
        return opened[kind]

    return at


@pytest.fixture(scope="module")
def published(
    request: pytest.FixtureRequest,
    site: Callable[[str], ArtifactStore],
    tmp_path_factory: pytest.TempPathFactory,
    empty_catalog: Path,
) -> Callable[[str], Published]:
    """Commit a set from a local scratch to a site of a kind, once, and verify it there; or make one of a local site."""
    done: dict[str, Published] = {}

    def at(kind: str) -> Published:
        if kind in done:
            return done[kind]
        if kind in FOR_READING:
            committed_here = at("local")
            assert isinstance(committed_here.results, LocalArtifactStore)
            url, options = FOR_READING[kind](request, committed_here.results.root)
            store = open_store(url, **options)
            assert verify(store).ok
            done[kind] = attrs.evolve(committed_here, results=store)
            return done[kind]
        here = tmp_path_factory.mktemp("workspace")
        results = scoped(site(kind), "results")
        with Catalog(Path(shutil.copy(empty_catalog, here / "catalog.db"))) as catalog:
            workspace = Workspace(scratch=LocalArtifactStore(here / "scratch"), results=results, catalog=catalog)
            execution = committed(workspace)
            report = verify(results)
            assert (report.ok, report.sets) == (True, 1), report
            done[kind] = Published(results, execution.fragment, rows_of(catalog), held(results))
        return done[kind]

    return at


def _param(*kinds: str) -> Any:
    needed = {KINDS[kind][1] for kind in kinds if kind in KINDS} - {None}
    return pytest.param(*kinds, id="-".join(kinds), marks=[pytest.mark.needs(name) for name in needed])


@pytest.mark.once
@pytest.mark.parametrize(("source", "dest"), [_param(*pair) for pair in PAIRS])
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
    assert held(there) == here.bytes
    assert f"{here.fragment}/{RECORD_NAME}" in here.bytes
    assert replay(there, catalog).ok
    assert {name: len(rows) for name, rows in rows_of(catalog).items()} == {
        name: len(rows) for name, rows in here.rows.items()
    }
    assert rows_of(catalog)["scalars"] == here.rows["scalars"]
    again = transfer(here.results, there)
    assert again.bytes_copied == 0, again
