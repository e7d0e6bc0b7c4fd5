"""Whose name a store's requests are signed in."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from tests.servers.s3 import S3Server

from emdstore.errors import StoreAccessError, StoreURLError
from emdstore.stores.s3 import S3ArtifactStore
from emdstore.stores.s3.credentials import from_environment


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
        assert time.monotonic() - began < 3


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
    assert from_environment(config, "store") == {}


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
    assert from_environment({}, "store") == {
        "access_key_id": "AK2",
        "secret_access_key": "S2",
        "region": "us-west-2",
        "endpoint": moto_server.endpoint_url,
    }
    monkeypatch.delenv("AWS_PROFILE")
    assert from_environment({"region": "here"}, "store") == {"access_key_id": "AK1", "secret_access_key": "S1"}
    bucket = moto_server.make_bucket()
    store = S3ArtifactStore(f"s3://{bucket}", endpoint_url=moto_server.endpoint_url)
    store.write_bytes("a", b"x")
    assert list(store.iter_keys()) == ["a"]


def test_a_profile_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "archiv")
    with pytest.raises(StoreURLError, match="archiv"):
        S3ArtifactStore("s3://bucket", endpoint_url="http://127.0.0.1:1").exists("a")
