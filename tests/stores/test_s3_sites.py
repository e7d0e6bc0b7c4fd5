"""S3 as sites run it: what goes along with each object, and servers that are older than AWS."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.servers.s3 import FaultProxy, Request, S3Server

from emdstore.errors import ArtifactChangedError, ArtifactRetainedError, StoreError, StoreURLError
from emdstore.sets.transfer import transfer
from emdstore.stores import checksums
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.objects.store import MIB
from emdstore.stores.port import TellsWritten
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


@pytest.mark.parametrize(("engine", "size"), [("obstore", 9), ("obstore", 6 * MIB), ("s3fs", 9)])
def test_what_a_site_wants_goes_along_with_each_object(moto_server: S3Server, engine: Any, size: int) -> None:
    bucket = moto_server.make_bucket()
    more: dict[str, Any] = {"tags": {"project": "enso+more"}, "metadata": {"centre": "exp"}, "encryption": "AES256"}
    more |= {"storage_class": "STANDARD_IA", "addressing": "path", "checksum": "off"}
    store: Any = open_store(f"s3://{bucket}", engine=engine, **moto_server.options, **more)
    store.write_bytes("a.json", b"x" * size)
    found = of_object(moto_server, bucket, "a.json")
    assert (found["StorageClass"], found["ServerSideEncryption"]) == ("STANDARD_IA", "AES256")
    assert found["Metadata"]["centre"] == "exp"
    assert engine == "s3fs" or found["ContentType"] == "application/json"
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


def test_the_digest_of_what_a_transfer_streams_is_told_and_not_computed_again(
    moto_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []

    def note(data: bytes) -> Any:
        hashed.append(len(data))
        return sha256(data)

    bucket, data = moto_server.make_bucket(), bytes(range(256)) * (3 * MIB // 256)
    source = LocalArtifactStore(tmp_path)
    source.write_bytes("a", data)
    dest = S3ArtifactStore(f"s3://{bucket}", **moto_server.options, encryption="aws:kms")
    monkeypatch.setattr(checksums, "hashlib", SimpleNamespace(sha256=note))
    (told,) = transfer(source, dest).outcomes
    assert (told.outcome, told.sha256) == ("copied", sha256(data).hexdigest())
    assert len(data) not in hashed
    assert of_object(moto_server, bucket, "a")["Metadata"]["sha256"] == told.sha256


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


def test_when_the_bytes_were_written_goes_along_as_rclone_has_it(moto_server: S3Server, tmp_path: Path) -> None:
    bucket, source = moto_server.make_bucket(), LocalArtifactStore(tmp_path)
    sizes = {"small": 9, "large": 6 * MIB}
    for nth, (key, size) in enumerate(sizes.items()):
        source.write_bytes(key, b"x" * size)
        os.utime(tmp_path / key, ns=(0, 1_000_000_000_123_456_789 + nth))
    first, second = (S3ArtifactStore(f"s3://{bucket}/{name}", **moto_server.options) for name in ("a", "b"))
    transfer(source, first).raise_for_failures()
    assert of_object(moto_server, bucket, "a/small")["Metadata"]["mtime"] == "1000000000.123456789"
    transfer(first, second).raise_for_failures()  # on the server
    third = open_store(f"s3://{moto_server.make_bucket()}", **moto_server.options)
    transfer(second, third).raise_for_failures()
    for store in (first, second, third):
        assert isinstance(store, TellsWritten)
        assert [store.written_ns(key) for key in sizes] == [(tmp_path / key).stat().st_mtime_ns for key in sizes]
    first.write_bytes("own", b"written here")
    assert first.written_ns("own") is None


def test_where_old_versions_are_locked_a_delete_marker_is_a_removal(moto_server: S3Server) -> None:
    client, bucket = moto_server.client(), f"{moto_server.make_bucket()}-locked"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    store = S3ArtifactStore(f"s3://{bucket}/p", **moto_server.options, retries=0)
    store.write_bytes("a", b"first")
    until = datetime.now(UTC) + timedelta(days=1)
    client.put_object_retention(Bucket=bucket, Key="p/a", Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until})
    store.replace_bytes("a", b"second", sha256(b"first").hexdigest())
    store.delete("a")
    assert (store.exists("a"), list(store.iter_keys())) == (False, [])
    with pytest.raises(ArtifactChangedError):
        store.replace_bytes("a", b"third", sha256(b"second").hexdigest())
    store.create_bytes("a", b"again")
    assert store.read_bytes("a") == b"again"
    versions = client.list_object_versions(Bucket=bucket)
    assert (len(versions["Versions"]), len(versions["DeleteMarkers"])) == (3, 1)  # nothing is lost


@pytest.mark.parametrize("engine", ["obstore", "s3fs"])
def test_what_a_server_keeps_by_a_lock_is_called_retained(site: tuple[FaultProxy, str], engine: Any) -> None:
    proxy, bucket = site
    store: Any = open_store(f"s3://{bucket}", engine=engine, retries=0, **proxy.server.options)
    store.write_bytes("a", b"value")
    said = b"<Error><Code>AccessDenied</Code><Message>forbidden by object lock</Message></Error>"
    proxy.refuses = lambda request, status: (403, said) if request.method == "DELETE" else None
    with pytest.raises(ArtifactRetainedError, match=r"'a'.*it is retained"):
        store.delete("a")
    assert store.read_bytes("a") == b"value"


@pytest.mark.parametrize("engine", ["obstore", "s3fs"])
def test_a_key_of_ones_own_and_an_acl_are_sent_or_refused(site: tuple[FaultProxy, str], engine: Any) -> None:
    proxy, bucket = site
    key = base64.b64encode(bytes(range(32))).decode()
    store = open_store(f"s3://{bucket}", engine=engine, **proxy.server.options, customer_key=key)
    store.write_bytes("a", b"value")
    assert store.read_bytes("a") == b"value"
    name = "x-amz-server-side-encryption-customer-key"
    assert {each.headers.get(name) for each in proxy.seen("^(PUT|GET|HEAD) .*/a$")} == {key}
    assert key not in repr(store)
    acl: dict[str, Any] = {"engine": engine, "acl": "bucket-owner-full-control"}
    if engine == "obstore":
        with pytest.raises(StoreURLError, match="sends no ACL; pass engine='s3fs'"):
            open_store(f"s3://{bucket}", **acl)
        return
    open_store(f"s3://{bucket}", **proxy.server.options, **acl).write_bytes("b", b"value")
    assert [each.headers["x-amz-acl"] for each in proxy.seen("^PUT .*/b$")] == ["bucket-owner-full-control"]


_NO_ENCRYPTION: list[dict[str, Any]] = [
    {"customer_key": "no base64!"},
    {"customer_key": "c2hvcnQ="},
    {"customer_key": base64.b64encode(bytes(32)).decode(), "encryption": "AES256"},
    {"kms_key_id": "some/key"},
    {"encryption": "rot13"},
]


@pytest.mark.parametrize(
    "options",
    [
        {"checksum": "md5"},
        {"addressing": "both"},
        {"tags": {"a": 1}},
        {"engine": "s3fs", "part_size": 6 * MIB},
        *({"engine": engine, **each} for engine in ("obstore", "s3fs") for each in _NO_ENCRYPTION),
    ],
)
def test_an_option_that_makes_no_sense_is_told(options: dict[str, Any]) -> None:
    with pytest.raises(StoreURLError) as raised:
        open_store("s3://bucket", **options)
    assert "c2hvcnQ" not in str(raised.value)
    assert "no base64" not in str(raised.value)
