"""S3 as sites run it: what goes along with each object, and servers that are older than AWS."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from tests.servers.s3 import FaultProxy, Request, S3Server

from emdstore.errors import StoreError, StoreURLError
from emdstore.stores.objects.store import MIB
from emdstore.stores.s3 import S3ArtifactStore
from emdstore.stores.urls import open_store


@pytest.fixture
def site(moto_server: S3Server) -> Iterator[tuple[FaultProxy, str]]:
    """A bucket whose requests are noted on their way."""
    with FaultProxy(moto_server) as proxy:
        yield proxy, moto_server.make_bucket()


def of_object(server: S3Server, bucket: str, key: str) -> dict[str, Any]:
    found: dict[str, Any] = server.client().head_object(Bucket=bucket, Key=key)
    return found


@pytest.mark.parametrize("size", [9, 6 * MIB], ids=["one request", "parts"])
def test_what_a_site_wants_goes_along_with_each_object(moto_server: S3Server, size: int) -> None:
    bucket = moto_server.make_bucket()
    more = {"storage_class": "STANDARD_IA", "tags": {"project": "enso+more"}, "metadata": {"centre": "exp"}}
    store = S3ArtifactStore(f"s3://{bucket}", **moto_server.options, **more, encryption="AES256")
    store.write_bytes("a.json", b"x" * size)
    found = of_object(moto_server, bucket, "a.json")
    assert (found["StorageClass"], found["ServerSideEncryption"]) == ("STANDARD_IA", "AES256")
    assert found["Metadata"]["centre"] == "exp"
    assert found["ContentType"] == "application/json"
    tags = moto_server.client().get_object_tagging(Bucket=bucket, Key="a.json")["TagSet"]
    assert tags == [{"Key": "project", "Value": "enso+more"}]
    store.create_bytes("new", b"value")
    store.replace_bytes("new", b"other", sha256(b"value").hexdigest())
    assert of_object(moto_server, bucket, "new")["Metadata"]["centre"] == "exp"


def test_an_object_carries_its_digest_and_is_compared_with_it_where_the_etag_is_no_md5(moto_server: S3Server) -> None:
    bucket = moto_server.make_bucket()
    store = S3ArtifactStore(f"s3://{bucket}", **moto_server.options, encryption="aws:kms")
    store.write_bytes("a", b"value")
    with store.open_writer("b") as writer:
        writer.write(b"val")
        writer.write(b"ue")
    for key in ("a", "b"):
        assert of_object(moto_server, bucket, key)["Metadata"]["sha256"] == sha256(b"value").hexdigest()
    moto_server.client().put_object(
        Bucket=bucket, Key="a", Body=b"vaLue", Metadata={"sha256": sha256(b"value").hexdigest()}
    )
    with pytest.raises(StoreError, match="damaged"):
        store.read_bytes("a")


def test_a_key_of_ones_own_is_sent_with_each_request(site: tuple[FaultProxy, str]) -> None:
    proxy, bucket = site
    key = base64.b64encode(bytes(range(32))).decode()
    store = S3ArtifactStore(f"s3://{bucket}", **proxy.server.options, customer_key=key)
    store.write_bytes("a", b"value")
    assert store.read_bytes("a") == b"value"
    name = "x-amz-server-side-encryption-customer-key"
    assert [each.headers.get(name) for each in proxy.seen("^(PUT|GET) .*/a$")] == [key, key]
    assert key not in repr(store)


@pytest.mark.parametrize("how", ["off", "when-required", None, "environment"])
def test_a_server_that_refuses_checksum_headers_can_be_used(
    site: tuple[FaultProxy, str], how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, bucket = site

    def old(request: Request, status: int | None) -> tuple[int, bytes] | None:
        if any(name.startswith("x-amz-checksum") for name in request.headers):
            return 400, b"<Error><Code>InvalidArgument</Code><Message>unknown header</Message></Error>"
        return None

    proxy.refuses = old
    url = f"s3://{bucket}"
    with pytest.raises(StoreError, match="unknown header"):
        S3ArtifactStore(url, **proxy.server.options).write_bytes("a", b"value")
    if how == "environment":
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    more = {} if how == "environment" else {"checksum": how}
    S3ArtifactStore(url, **proxy.server.options, **more).write_bytes("a", b"value")


def test_the_region_is_asked_for_if_nobody_says_it(
    site: tuple[FaultProxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    proxy, bucket = site
    options = {name: value for name, value in proxy.server.options.items() if name != "region"}
    proxy.refuses = lambda request, status: None
    for _ in range(2):
        S3ArtifactStore(f"s3://{bucket}", **options).write_bytes("a", b"value")
    assert len([each for each in proxy.seen("^HEAD") if "authorization" not in each.headers]) == 1  # once per process


def test_virtual_style_has_the_bucket_in_the_host(moto_server: S3Server) -> None:
    store = S3ArtifactStore("s3://clim", endpoint_url="https://clim.s3.example.org", region="x")
    assert store._address() == ("https://clim.s3.example.org", True)
    store = S3ArtifactStore("s3://clim", endpoint_url="https://s3.example.org", addressing="virtual")
    assert store._address() == ("https://clim.s3.example.org", True)
    store = S3ArtifactStore("s3://clim", endpoint_url="https://clim.s3.example.org", addressing="path")
    assert store._address() == ("https://s3.example.org", False)


@pytest.mark.parametrize("options", [{"checksum": "md5"}, {"addressing": "both"}, {"tags": {"a": 1}}])
def test_an_option_that_makes_no_sense_is_told(options: dict[str, Any]) -> None:
    with pytest.raises(StoreURLError):
        open_store("s3://bucket", **options)
