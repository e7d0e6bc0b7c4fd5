"""Whose name a store's requests are signed in."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import boto3
import pytest
from tests.servers.s3 import FaultProxy, S3Server

from emdstore.errors import MissingExtraError, StoreAccessError, StoreUnavailableError, StoreURLError
from emdstore.stores.s3 import S3ArtifactStore
from emdstore.stores.s3.credentials import Found, from_environment

_CREDENTIAL = re.compile(r"Credential=(\w+)/").search


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "REGION", "DEFAULT_REGION"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def test_where_no_metadata_service_answers_it_is_told_at_once_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(StoreAccessError, match="set AWS_ACCESS_KEY_ID"):
            S3ArtifactStore("s3://bucket", endpoint_url="http://127.0.0.1:1").exists("a")
        assert time.monotonic() - began < 15  # by itself the engine would ask for minutes


@pytest.mark.parametrize(
    ("config", "env"),
    [
        ({"access_key_id": "AK"}, {}),
        ({"AWS_ACCESS_KEY_ID": "AK"}, {}),
        ({"skip_signature": True}, {}),
        ({}, {"AWS_ACCESS_KEY_ID": "AK"}),
        ({}, {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}),
        ({}, {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}),
    ],
)
def test_the_metadata_service_is_not_asked_where_there_are_other_credentials(
    config: dict[str, Any], env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert from_environment(config, "store") == Found()


def test_a_profile_of_the_user_is_read(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[default]\nregion = eu-north-1\n[profile archive]\nregion = us-west-2\n"
        f"endpoint_url = {moto_server.endpoint_url}\n"
    )
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AK1\naws_secret_access_key = S1\n"
        "[archive]\naws_access_key_id = AK2\naws_secret_access_key = S2\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "archive")
    assert from_environment({}, "store").settings == {
        "access_key_id": "AK2",
        "secret_access_key": "S2",
        "region": "us-west-2",
        "endpoint": moto_server.endpoint_url,
    }
    monkeypatch.delenv("AWS_PROFILE")
    assert from_environment({"region": "here"}, "store").settings == {"access_key_id": "AK1", "secret_access_key": "S1"}
    bucket = moto_server.make_bucket()
    store = S3ArtifactStore(f"s3://{bucket}", endpoint_url=moto_server.endpoint_url)
    store.write_bytes("a", b"x")
    assert list(store.iter_keys()) == ["a"]


def test_a_profile_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "archiv")
    with pytest.raises(StoreURLError, match="archiv"):
        S3ArtifactStore("s3://bucket", endpoint_url="http://127.0.0.1:1").exists("a")


# -- profiles that say how to get credentials --------------------------------------------------------------------------


@pytest.fixture
def proxy(moto_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(moto_server) as proxy:
        yield proxy


def names_of(proxy: FaultProxy) -> set[str]:
    """Return in whose names requests were signed."""
    return {found[1] for each in proxy.requests if (found := _CREDENTIAL(each.headers.get("authorization", "")))}


def bucket_behind(proxy: FaultProxy, moto_server: S3Server, **options: Any) -> S3ArtifactStore:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_PROFILE", raising=False)
        bucket = moto_server.make_bucket()
    store = S3ArtifactStore(f"s3://{bucket}", endpoint_url=proxy.server.endpoint_url, region="us-east-1", **options)
    store.write_bytes("a", b"1")
    assert list(store.iter_keys()) == ["a"]
    return store


def test_a_profile_whose_program_tells_credentials_is_used_whatever_the_environment_says(
    proxy: FaultProxy, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = {"Version": 1, "AccessKeyId": "AKPROGRAM", "SecretAccessKey": "s", "SessionToken": "t"}
    (tmp_path / "told").write_text(json.dumps(told))
    (tmp_path / "config").write_text(f"[profile site]\ncredential_process = cat {tmp_path / 'told'}\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    bucket_behind(proxy, moto_server, profile="site")
    assert names_of(proxy) == {"AKPROGRAM"}
    assert {each.headers.get("x-amz-security-token") for each in proxy.requests} == {"t"}


def test_a_profile_with_a_role_is_used_with_the_credentials_of_the_role(
    proxy: FaultProxy, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        "[profile site]\nrole_arn = arn:aws:iam::123456789012:role/archive\nsource_profile = me\nregion = us-east-1\n"
    )
    (tmp_path / "credentials").write_text("[me]\naws_access_key_id = AKME\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_PROFILE", "site")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_server.endpoint_url)
    bucket_behind(proxy, moto_server)
    (name,) = names_of(proxy)
    assert name.startswith("ASIA")


@pytest.mark.parametrize(
    ("says", "error", "message"),
    [
        ("credential_process = false", StoreAccessError, "the profile 'site' gave no credentials for .*"),
        ("region = eu-north-1", StoreAccessError, "the profile 'site' has no credentials"),
        (None, StoreURLError, "no such profile as 'site'"),
    ],
)
def test_a_profile_that_gives_no_credentials_is_told(
    says: str | None, error: type[Exception], message: str, tmp_path: Path
) -> None:
    if says is not None:
        (tmp_path / "config").write_text(f"[profile site]\n{says}\n")
    with pytest.raises(error, match=message):
        S3ArtifactStore("s3://bucket", endpoint_url="http://127.0.0.1:1", profile="site").exists("a")


def test_what_gets_credentials_by_a_profile_is_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile site]\ncredential_process = true\n")
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'emdstore\[aws\]'"):
        S3ArtifactStore("s3://bucket", profile="site").exists("a")


def test_who_pays_for_requests_says_so_in_each_of_them(proxy: FaultProxy, moto_server: S3Server) -> None:
    credentials = {"access_key_id": "AK", "secret_access_key": "s"}
    store = bucket_behind(proxy, moto_server, requester_pays=True, **credentials)
    store.read_bytes("a")
    assert {each.headers.get("x-amz-request-payer") for each in proxy.requests} == {"requester"}
    assert {each.method for each in proxy.requests} >= {"PUT", "GET"}
    signed = [each.headers["authorization"] for each in proxy.requests]
    assert all("x-amz-request-payer" in each for each in signed)


# -- certificates ------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of nobody whom the system trusts, with its key in the same file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "site.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def secure(moto_server: S3Server, certificate: Path) -> Iterator[S3Server]:
    """The server behind TLS, with that certificate."""
    with FaultProxy(moto_server) as proxy:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        proxy._http.socket = context.wrap_socket(proxy._http.socket, server_side=True)
        yield attrs.evolve(proxy.server, endpoint_url=proxy.server.endpoint_url.replace("http:", "https:"))


@pytest.mark.parametrize("given", ["option", "environment", "not verified"])
def test_a_certificate_of_the_site_is_trusted_where_its_user_says_so(
    secure: S3Server,
    certificate: Path,
    given: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bucket = attrs.evolve(secure, endpoint_url=secure.endpoint_url).options
    url = f"s3://{_bucket_of(secure, certificate)}"
    with pytest.raises(StoreUnavailableError):
        S3ArtifactStore(url, **bucket, retries=0).write_bytes("a", b"1")
    if given == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    more = {"option": {"ca_bundle": certificate}, "not verified": {"verify": False}}.get(given, {})
    store = S3ArtifactStore(url, **bucket, **more)
    store.write_bytes("a", b"1")
    assert (list(store.iter_keys()), store.read_bytes("a")) == (["a"], b"1")
    assert ("certificate" in caplog.text) == (given == "not verified")


def _bucket_of(server: S3Server, certificate: Path) -> str:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id="a",
        aws_secret_access_key="s",
        region_name="us-east-1",
        verify=str(certificate),
    )
    name = f"secure-{os.urandom(4).hex()}"
    client.create_bucket(Bucket=name)
    return name


def test_certificates_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(StoreURLError, match=r"the certificates in .*nowhere\.pem.* cannot be read"):
        S3ArtifactStore("s3://bucket", anonymous=True, ca_bundle=tmp_path / "nowhere.pem").exists("a")
