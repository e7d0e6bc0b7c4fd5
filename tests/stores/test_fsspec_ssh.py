"""SSH by the packages that fsspec finds for it, for whoever asks for them; `test_ssh.py` is about emdstore's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import sshfs
from fsspec.implementations.sftp import SFTPFileSystem
from tests.servers.sshd import SSHServer

from emdstore.errors import StoreAccessError
from emdstore.sets.transfer import transfer
from emdstore.stores.urls import open_store

OPTIONS: dict[str, Any] = {
    "paramiko": lambda sshd: {"key_filename": str(sshd.folder / "user_key"), "look_for_keys": False},
    "sshfs": lambda sshd: {"client_keys": [str(sshd.folder / "user_key")]},
}


@pytest.fixture(params=["paramiko", "sshfs"])
def package(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have fsspec take one of the packages, for a user with a home of his own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/.ssh").mkdir(parents=True)
    kind = {"paramiko": SFTPFileSystem, "sshfs": sshfs.SSHFileSystem}[request.param]
    before = fsspec.get_filesystem_class("sftp")
    fsspec.register_implementation("sftp", kind, clobber=True)
    yield request.param
    fsspec.register_implementation("sftp", before, clobber=True)


def test_files_go_up_and_down_by_many_threads(sshd: SSHServer, package: str, tmp_path: Path) -> None:
    (tmp_path / "home/.ssh/known_hosts").write_bytes((sshd.folder / "known_hosts").read_bytes())
    (tmp_path / "there").mkdir()
    for number in range(40):
        (tmp_path / "here" / str(number)).parent.mkdir(exist_ok=True)
        (tmp_path / "here" / str(number)).write_bytes(b"%d" % number * 1000)
    store = open_store(sshd.url(tmp_path / "there", "sftp"), engine="fsspec", **OPTIONS[package](sshd))
    transfer(tmp_path / "here", store, max_workers=4).raise_for_failures()
    (tmp_path / "here/7").write_bytes(b"changed")
    transfer(tmp_path / "here", store).raise_for_failures()  # renamed over what is there
    transfer(store, tmp_path / "back", max_workers=4).raise_for_failures()
    for name in ("there", "back"):
        found = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if not path.name.startswith(".")}
        assert found == {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}


def test_an_unknown_host_key_is_refused(sshd: SSHServer, package: str, tmp_path: Path) -> None:
    store = open_store(sshd.url(tmp_path, "sftp"), engine="fsspec", retries=0, **OPTIONS[package](sshd))
    with pytest.raises(StoreAccessError, match=r"(?i)host key"):
        store.write_bytes("k", b"value")
