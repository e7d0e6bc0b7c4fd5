"""What fsspec's file systems are opened with: what one of them would ignore is refused, and says so."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.registry import _registry

from emdstore.errors import StoreNotFoundError, StoreUnavailableError, StoreURLError
from emdstore.stores.fsspec.options import file_system_options
from emdstore.stores.urls import open_store


class _Cloud(AsyncFileSystem):  # type: ignore[misc]
    """Takes options as Google's and Azure's file systems do: it says nothing of those that it does not know."""

    def __init__(
        self,
        token: object = None,
        account_name: str | None = None,
        anon: bool | None = None,
        requests_timeout: object = None,
        connection_timeout: float | None = None,
        read_timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have file systems for both clouds, whose own packages need much besides."""
    monkeypatch.setattr(_Cloud, "__module__", "gcsfs.core")
    for scheme in ("gs", "az"):
        monkeypatch.setitem(_registry, scheme, _Cloud)


@pytest.mark.usefixtures("clouds")
@pytest.mark.parametrize(
    ("url", "given", "told"),
    [
        ("gs://bucket/run", {"anonymous": True}, {"token": "anon"}),
        ("gs://bucket/run", {"credentials": Path("key.json")}, {"token": "key.json"}),
        ("az://box/run", {"account": "centre", "anonymous": False}, {"account_name": "centre", "anon": False}),
    ],
)
def test_an_option_has_one_name_everywhere(url: str, given: dict[str, Any], told: dict[str, Any]) -> None:
    assert file_system_options(url, {**given, "retries": 2}) == {**told, "retries": 2}


@pytest.mark.usefixtures("clouds")
@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("gs://bucket", {"engine": "fsspec", "storage_class": "COLD"}, "would ignore storage_class"),
        ("az://box", {"engine": "fsspec", "verify": False}, "would ignore verify"),
        ("sftp://host/x", {"engine": "fsspec", "rsh": "ssh"}, "starts no SSH client"),
        ("http://host/x", {"colour": 1}, "would ignore colour"),
        ("ftp://host/x", {"colour": 1}, "would ignore colour"),
        ("zip::/x.zip", {"colour": 1}, "would ignore colour"),
        ("zip::http://host/x.zip", {"http": {"colour": 1}}, "would ignore colour"),
        ("zip::/x.zip", {"tar": {"fo": "x"}}, "would ignore tar"),
        ("github://name", {}, "needs org, repo"),
        ("reference://", {}, "needs fo"),
        ("zip:///data/x.zip", {}, "write zip::URL"),
        ("dir::memory://x", {}, "open that one"),
    ],
)
def test_what_a_file_system_would_ignore_or_lacks_is_told_at_once(url: str, options: Any, says: str) -> None:
    with pytest.raises(StoreURLError, match=says):
        open_store(url, **options)


def test_patience_reaches_each_part_of_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def url_to_fs(url: str, **options: Any) -> Any:
        asked.update(options)
        raise ConnectionRefusedError

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(StoreUnavailableError):
        list(open_store("zip::https://host/x.zip", timeout=7, https={"token": "t"}).iter_keys())
    assert asked["https"]["client_kwargs"]["timeout"].sock_read == 7
    assert asked["https"]["client_kwargs"]["headers"] == {"Authorization": "Bearer t"}
    assert asked["zip"] == {}


@pytest.mark.parametrize(("suffix", "packed"), [("tgz", "gz"), ("tar.gz", "gz"), ("txz", "xz"), ("tbz2", "bz2")])
def test_a_packed_tar_is_read_whatever_its_suffix(suffix: str, packed: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / f"set.{suffix}", f"w:{packed}") as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("run/out.log")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"log"))
    assert open_store(f"tar::{tmp_path}/set.{suffix}").read_bytes("run/out.log") == b"log"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_is_not_there_is_not_taken_for_one_that_vanished(kind: str, tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="nothing is there"):
        list(open_store(f"{kind}::{tmp_path}/absent.{kind}").iter_keys())
