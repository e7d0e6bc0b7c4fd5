"""`FsspecArtifactStore` on each kind of file system: in memory, one that renames, and S3 by s3fs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from tests.servers.renaming import RenamingStore
from tests.stores.test_contract_s3 import objects_in

from emdstore.keys import MAX_KEY_BYTES
from emdstore.stores.fsspec import FsspecArtifactStore
from emdstore.stores.port import (
    SupportsCreate,
    SupportsDelete,
    SupportsInfo,
    SupportsLeftOut,
    SupportsPlace,
    SupportsReplaceIf,
    SupportsStreaming,
)
from emdstore.testing import StoreContract, StoreHarness

CLAIMS = {SupportsInfo, SupportsStreaming, SupportsDelete, SupportsPlace, SupportsLeftOut}

_places = itertools.count()


class TestFsspecStoreInMemory(StoreContract):
    @pytest.fixture
    def harness(self) -> StoreHarness:
        url = f"memory://place {next(_places)} (°C)"
        return StoreHarness(lambda: FsspecArtifactStore(url), claims=CLAIMS, shared=False)


class TestFsspecStoreThatRenames(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        def put(key: str, data: bytes) -> None:
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / key).write_bytes(data)

        def get(key: str) -> bytes | None:
            return (tmp_path / key).read_bytes() if (tmp_path / key).is_file() else None

        def keys() -> set[str]:
            return {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}

        return StoreHarness(
            lambda: RenamingStore(f"renaming://{tmp_path}"),
            raw_put=put,
            raw_get=get,
            raw_keys=keys,
            claims=CLAIMS,
            rounds=10,
        )


@pytest.fixture(scope="module")
def bucket(seaweed_server: Any) -> tuple[Any, str]:
    return seaweed_server.client(), seaweed_server.make_bucket()


@pytest.mark.once
class TestFsspecStoreOnS3(StoreContract):
    @pytest.fixture
    def harness(self, seaweed_server: Any, bucket: tuple[Any, str], gateway: str) -> StoreHarness:
        client, name = bucket
        folder = f"place {next(_places)} (°C)"
        url = f"s3://{name}/{folder}"
        options = {
            "endpoint_url": seaweed_server.endpoint_url,
            "key": seaweed_server.access_key,
            "secret": seaweed_server.secret_key,
        }
        nowhere = {"endpoint_url": "http://127.0.0.1:1", "config_kwargs": {"retries": {"total_max_attempts": 1}}}
        return StoreHarness(
            lambda: FsspecArtifactStore(url, **options),
            **objects_in(client, name, folder),
            unreachable=lambda: FsspecArtifactStore(url, **options | nowhere),
            garbled=lambda: FsspecArtifactStore(url, **options | nowhere | {"endpoint_url": gateway}),
            secrets=[seaweed_server.secret_key],
            claims=CLAIMS | {SupportsCreate, SupportsReplaceIf},
            key_bytes=MAX_KEY_BYTES - len(f"{folder}/".encode()),
            many=50,
            rounds=3,
        )
