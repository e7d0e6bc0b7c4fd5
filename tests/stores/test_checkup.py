"""Trying a store finds what a site lacks, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from tests.servers.s3 import S3Server
from tests.servers.sshd import SSHServer
from tests.sets.examples import FourMethods

from emdstore import system
from emdstore.errors import StoreError
from emdstore.stores import (
    ArtifactStore,
    InMemoryArtifactStore,
    LocalArtifactStore,
    ReadOnlyStore,
    S3ArtifactStore,
    SSHArtifactStore,
)
from emdstore.stores.checkup import Checked, try_store
from emdstore.testing import Fault, FaultyStore


def tried(store: ArtifactStore) -> dict[str, Checked]:
    return {each.name: each for each in try_store(store)}


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ("memory", {"checksums"}),
        ("local", {"checksums"}),
        ("s3", set()),
        ("ssh", {"checksums"}),
        ("sftp", {"checksums", "compare-and-put"}),
    ],
)
def test_a_good_store_has_no_problem_and_is_left_as_it_was(
    tmp_path: Path, kind: str, lacks: set[str], request: pytest.FixtureRequest
) -> None:
    store = store_of(kind, tmp_path, request)
    store.write_bytes("a/b", b"there")
    found = tried(store)
    assert {name for name, each in found.items() if each.outcome == "note"} == lacks
    assert {each.outcome for each in found.values()} <= {"ok", "note"}
    assert [*found][:: len(found) - 1] == ["reading", "removal"]
    assert "'a/b'" in found["reading"].detail
    assert list(store.iter_keys()) == ["a/b"]


def store_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> ArtifactStore:
    if kind == "memory":
        return InMemoryArtifactStore()
    if kind == "local":
        return LocalArtifactStore(folder / "results")
    if kind == "s3":
        server: S3Server = request.getfixturevalue("moto_server")
        return S3ArtifactStore(f"s3://{server.make_bucket()}/results", **server.options)
    sshd: SSHServer = request.getfixturevalue("sshd")
    return SSHArtifactStore(sshd.url(folder / "results", kind), rsh=sshd.rsh)


def test_a_store_of_four_methods_is_told_what_it_lacks() -> None:
    inner = InMemoryArtifactStore()
    found = tried(FourMethods(inner))
    assert {name for name, each in found.items() if each.outcome == "note"} == {
        *("create-once", "compare-and-put", "times", "checksums", "removal")
    }
    assert "by other means" in found["removal"].remedy
    assert all(key.startswith(".emdstore/tried-") for key in inner.iter_keys())


def test_a_store_for_reading_is_tried_no_further() -> None:
    inner = InMemoryArtifactStore()
    inner.write_bytes("a", b"")
    found = tried(ReadOnlyStore(inner))
    assert [(each.name, each.outcome) for each in found.values()] == [("reading", "ok"), ("writing", "note")]
    assert "permission" in found["writing"].remedy


class _Wrong(FourMethods):
    """A store with one fault."""


class _Folds(_Wrong):
    def write_bytes(self, key: str, data: bytes, /) -> None:
        super().write_bytes(key.lower(), data)

    def read_bytes(self, key: str, /) -> bytes:
        return super().read_bytes(key.lower())


class _Forgets(_Wrong):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return (key for key in super().iter_keys(prefix) if not key.endswith("🌍"))


class _Shuffles(_Wrong):
    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        return iter(sorted(super().iter_keys(prefix), key=str.lower))


class _Cuts(_Wrong):
    def read_bytes(self, key: str, /) -> bytes:
        return super().read_bytes(key)[:1_000_000]


class _Empties(_Wrong):
    def exists(self, key: str, /) -> bool:
        return super().exists(key) and super().read_bytes(key) != b""


@pytest.mark.parametrize(
    ("kind", "name", "word"),
    [
        (_Folds, "names", "takes different names for one: 'Case'"),
        (_Forgets, "listing", "it lacks"),
        (_Shuffles, "listing", "it comes as"),
        (_Cuts, "throughput", "do not come back"),
        (_Empties, "writing", "empty for what is absent"),
    ],
)
def test_each_fault_of_a_store_is_a_problem(
    kind: Callable[[ArtifactStore], ArtifactStore], name: str, word: str
) -> None:
    found = tried(kind(InMemoryArtifactStore()))
    assert found[name].outcome == "problem"
    assert word in found[name].detail


def test_a_store_that_cannot_be_read_is_one_problem() -> None:
    found = tried(FaultyStore(InMemoryArtifactStore(), Fault(error=StoreError)))
    assert [(each.name, each.outcome) for each in found.values()] == [("reading", "problem")]


def test_a_clock_that_is_wrong_is_told(tmp_path: Path) -> None:
    here = system.current()
    with system.using(attrs.evolve(here, now=lambda: here.now() - timedelta(hours=1))):
        found = tried(LocalArtifactStore(tmp_path))
    assert found["times"].outcome == "note"
    assert "3600 s ahead of" in found["times"].detail
    assert "NTP" in found["times"].remedy
