"""The stores on Google Cloud Storage and Azure Blob Storage, on emulators that are looked at from behind."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.stores.test_contract_s3 import CLAIMS

from emdstore.keys import MAX_KEY_BYTES
from emdstore.stores.objects.store import ObjectArtifactStore
from emdstore.stores.urls import open_store
from emdstore.testing import StoreContract, StoreHarness

_folders = itertools.count()


def harness_on(server: Any, bucket: str, gateway: str) -> StoreHarness:
    folder = f"place {next(_folders)} (°C)"
    url = f"{server.scheme}://{bucket}/{folder}"
    nowhere = {**server.options, "endpoint_url": "http://127.0.0.1:1", "retries": 0}
    return StoreHarness(
        lambda: open_store(url, **server.options),
        **server.hooks(bucket, folder),
        unreachable=lambda: open_store(url, **nowhere),
        garbled=lambda: open_store(url, **nowhere | {"endpoint_url": gateway}),
        secrets=[value for name, value in server.options.items() if name in ("token", "account_key")],
        claims=CLAIMS,
        key_bytes=MAX_KEY_BYTES - len(f"{folder}/".encode()),
        rounds=3,
        many=20,
    )


@pytest.fixture(scope="module")
def google_bucket(google_server: Any) -> str:
    return str(google_server.make_bucket())


@pytest.fixture(scope="module")
def azure_bucket(azure_server: Any) -> str:
    return str(azure_server.make_bucket())


@pytest.mark.once
class TestGoogleStore(StoreContract):
    @pytest.fixture
    def harness(self, google_server: Any, google_bucket: str, gateway: str) -> StoreHarness:
        return harness_on(google_server, google_bucket, gateway)


@pytest.mark.once
class TestAzureStore(StoreContract):
    @pytest.fixture
    def harness(self, azure_server: Any, azure_bucket: str, gateway: str) -> StoreHarness:
        return harness_on(azure_server, azure_bucket, gateway)


@pytest.fixture(params=["google", "azure"])
def store(request: pytest.FixtureRequest) -> ObjectArtifactStore:
    server = request.getfixturevalue(f"{request.param}_server")
    opened = open_store(f"{server.scheme}://{server.make_bucket()}", **server.options)
    assert isinstance(opened, ObjectArtifactStore)
    return opened
