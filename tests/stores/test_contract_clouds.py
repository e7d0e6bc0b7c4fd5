"""The stores on Google Cloud Storage and Azure Blob Storage, on emulators that are looked at from behind."""

from __future__ import annotations

import itertools
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.stores.test_contract_s3 import CLAIMS

from emdstore.errors import DamagedOnTheWayError
from emdstore.keys import MAX_KEY_BYTES
from emdstore.sets.transfer import transfer
from emdstore.stores.local import LocalArtifactStore
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


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in ("google", "azure")])
def cloud(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_server")


def test_an_object_carries_its_digest_and_is_compared_with_it(cloud: Any) -> None:
    url = f"{cloud.scheme}://{cloud.make_bucket()}"
    store = open_store(url, **cloud.options, metadata={"sha256": sha256(b"another").hexdigest()})
    assert isinstance(store, ObjectArtifactStore)
    store.write_bytes("a", b"value")  # its own digest counts
    assert store.read_bytes("a") == b"value"
    with store.open_writer("large") as writer:  # whose digest is not known beforehand
        writer.write(b"x" * (6 * 1024 * 1024))
    with pytest.raises(DamagedOnTheWayError):
        store.read_bytes("large")
    with store.open_reader("large") as reader, pytest.raises(DamagedOnTheWayError):
        list(iter(reader.read, b""))


def test_only_what_carries_its_digest_is_copied_by_the_server(cloud: Any) -> None:
    url = f"{cloud.scheme}://{cloud.make_bucket()}"
    source, dest = open_store(f"{url}/from", **cloud.options), open_store(f"{url}/to", **cloud.options)
    assert isinstance(dest, ObjectArtifactStore)
    source.write_bytes("a", b"value")
    cloud.hooks(url.partition("://")[2], "from")["raw_put"]("foreign", b"another")
    session = dest.copy_from(source)
    assert session is not None
    assert session.copy("a").sha256 is None  # no byte came here
    assert session.copy("foreign").sha256 == sha256(b"another").hexdigest()
    assert {key: dest.read_bytes(key) for key in dest.iter_keys()} == {"a": b"value", "foreign": b"another"}


def test_when_the_bytes_were_written_goes_along_as_a_date(cloud: Any, tmp_path: Path) -> None:
    """As rclone has it on these services."""
    url = f"{cloud.scheme}://{cloud.make_bucket()}"
    source, store = LocalArtifactStore(tmp_path), open_store(url, **cloud.options)
    source.write_bytes("a", b"value")
    os.utime(tmp_path / "a", ns=(0, 1_000_000_000_123_456_789))
    transfer(source, store).raise_for_failures()
    assert isinstance(store, ObjectArtifactStore)
    obs, client = store.ground.client()
    assert obs.get(client, "a").attributes["mtime"] == "2001-09-09T01:46:40.123456789Z"
    assert store.written_ns("a") == 1_000_000_000_123_456_789
