"""How users' code looks to a type checker. It is checked, not run."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import assert_type

from emdstore import (
    ArtifactStore,
    Catalog,
    ExecutionResult,
    FsspecArtifactStore,
    InMemoryArtifactStore,
    LocalArtifactStore,
    MaterializeOutcome,
    ReadOnlyStore,
    ReplayReport,
    S3ArtifactStore,
    StatusDecision,
    TransferProgress,
    TransferReport,
    materialize_outputs,
    open_store,
    replay,
    resolve_status,
    scoped,
    transfer,
)
from emdstore.catalog import ScalarQuery, ScalarRow
from emdstore.stores import SupportsPath


class Mine:
    """Four methods make a store; nothing is inherited."""

    def exists(self, key: str, /) -> bool:
        return key == "a"

    def read_bytes(self, key: str, /) -> bytes:
        return b""

    def write_bytes(self, key: str, data: bytes, /) -> None: ...

    def iter_keys(self, prefix: str = "", /) -> Iterator[str]:
        yield "a"


stores: list[ArtifactStore] = [
    Mine(),
    LocalArtifactStore("results"),
    InMemoryArtifactStore(),
    FsspecArtifactStore("memory://x"),
    S3ArtifactStore("s3://bucket/results"),
    ReadOnlyStore(Mine()),
    scoped(Mine(), "run1"),
    open_store("s3://bucket/results", endpoint_url="http://127.0.0.1:9000"),
]


def show(progress: TransferProgress) -> None:
    assert_type(progress.bytes_done, int)


def promote(source: ArtifactStore, executor: Executor) -> None:
    report = transfer(source, InMemoryArtifactStore(), ["a"], executor=executor, on_progress=show)
    assert_type(report, TransferReport)
    assert_type(report.keys("copied"), tuple[str, ...])
    if isinstance(source, SupportsPath):
        assert_type(source.local_path("a").name, str)


class TheirResult:
    """Another framework's result, told by its attributes."""

    successful = True
    metric_bundle_filename = "diagnostic.json"


def publish(scratch: ArtifactStore, results: ArtifactStore) -> None:
    for result in (ExecutionResult(successful=False), TheirResult()):
        outcome = materialize_outputs(result, source=scratch, dest=results)
        assert_type(outcome, MaterializeOutcome)
        assert_type(resolve_status(result, outcome), StatusDecision)
    with Catalog("catalog.db") as catalog:
        assert_type(replay(results, catalog), ReplayReport)
        scalars = catalog.scalars(provider=["pmp", "ilamb"], dimensions={"region": "global"})
        assert_type(scalars, ScalarQuery)
        assert_type(scalars.where("value", "<", 0.5).order_by("-value").limit(3).first(), ScalarRow | None)
        assert_type([scalar.value for scalar in scalars], list[float])
