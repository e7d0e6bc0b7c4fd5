"""What a server, an account or a disk does not allow, each told as what it is."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from tests.servers.sshd import SSHServer, run_sshd

from emdstore import LocalArtifactStore, SSHArtifactStore, transfer
from emdstore.errors import EmdstoreError, StoreAccessError, StoreError, StoreUnavailableError

pytestmark = pytest.mark.once

MIB = 1024 * 1024
SCHEMES = ["ssh", "sftp"]
SFTP_SERVER = "/usr/lib/openssh/sftp-server"


@attrs.frozen
class Account:
    """An account whose sessions all run one script."""

    server: SSHServer

    def runs(self, script: str) -> None:
        (self.server.folder / "script").write_text(script)

    def store(self, path: Path, scheme: str) -> SSHArtifactStore:
        return SSHArtifactStore(self.server.url(path, scheme), rsh=self.server.rsh)


@pytest.fixture(scope="module")
def account(sshd: SSHServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    folder = tmp_path_factory.mktemp("account") / "server"
    with run_sshd(folder, f"ForceCommand . {folder}/script") as server:
        yield Account(server)


def refused(store: SSHArtifactStore) -> EmdstoreError:
    with store, pytest.raises(EmdstoreError) as caught:
        store.exists("a")
    return caught.value


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exec rrsync /tmp", "SSH_ORIGINAL_COMMAND does not run rsync"),
        ('exec git-shell -c "$SSH_ORIGINAL_COMMAND"', "unrecognized command"),
        ("echo scponly: not permitted >&2; exit 1", "scponly: not permitted"),
        ("echo This account is currently not available.; exit 1", "This account is currently not available"),
    ],
    ids=["rrsync", "git-shell", "scponly", "nologin"],
)
def test_an_account_for_something_else_is_told_as_one(
    account: Account, tmp_path: Path, script: str, said: str, scheme: str
) -> None:
    program = script.split()[1]
    if script.startswith("exec") and shutil.which(program) is None:
        pytest.skip(f"there is no {program} here")
    account.runs(script)
    error = refused(account.store(tmp_path, scheme))
    assert isinstance(error, StoreAccessError), error
    assert "ask its operators" in str(error)
    if scheme == "ssh":  # sshd throws away what an SFTP server says
        assert said in str(error)
        assert "neither Python 3.6" in str(error)
    assert "for p in" not in str(error), "no command of ours"


@pytest.mark.usefixtures("sshd")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_takes_no_session_is_told(tmp_path: Path, scheme: str) -> None:
    with run_sshd(tmp_path / "server", "MaxSessions 0") as server:
        error = refused(SSHArtifactStore(server.url(tmp_path, scheme), rsh=server.rsh))
    assert isinstance(error, StoreUnavailableError)
    assert "takes no more sessions" in str(error)


@pytest.mark.usefixtures("sshd")
def test_a_server_that_takes_no_login_now_is_told(tmp_path: Path) -> None:
    with run_sshd(tmp_path / "server", "MaxStartups 2") as server, contextlib.ExitStack() as held:
        while True:
            login = held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            with contextlib.suppress(OSError):
                if login.recv(4) == b"SSH-":
                    continue
            break
        for scheme in SCHEMES:
            error = refused(SSHArtifactStore(server.url(tmp_path, scheme), rsh=server.rsh))
            assert isinstance(error, StoreUnavailableError)
            assert "MaxStartups" in str(error)


@pytest.mark.usefixtures("sshd")
def test_a_shared_connection_without_room_is_done_without(tmp_path: Path) -> None:
    with run_sshd(tmp_path / "server", "MaxSessions 1") as server, contextlib.ExitStack() as stores:
        short = stores.enter_context(tempfile.TemporaryDirectory(prefix="ssh-", dir="/tmp"))  # 100 bytes at most
        rsh = server.rsh_with(ControlMaster="auto", ControlPath=f"{short}/control")
        for name in ("one", "two"):
            store = stores.enter_context(SSHArtifactStore(server.url(tmp_path / name), rsh=rsh))
            store.write_bytes("a", b"x")
        assert "no more sessions" in server.log.read_text()


@pytest.mark.parametrize("size", [200_000, 3 * MIB], ids=["small", "large"])
def test_a_limit_of_file_sizes_is_told_and_the_old_value_stays(account: Account, tmp_path: Path, size: int) -> None:
    LocalArtifactStore(tmp_path / "data").write_bytes("a", b"old")
    account.runs(f"ulimit -f 100; case $SSH_ORIGINAL_COMMAND in *sftp*) exec {SFTP_SERVER};; esac; "
                 'eval "$SSH_ORIGINAL_COMMAND"')  # fmt: skip
    with account.store(tmp_path / "data", "ssh") as store:
        with pytest.raises(StoreError, match="File too large; what was there before is intact") as caught:
            store.write_bytes("a", bytes(size))
        assert caught.value.errno == errno.EFBIG
        assert store.read_bytes("a") == b"old"
        assert [each.name for each in (tmp_path / "data").iterdir()] == ["a"]
    if size > MIB:
        return  # a signal ends the SFTP server
    with account.store(tmp_path / "data", "sftp") as store:
        with pytest.raises(StoreError, match=r"intact; .* a limit of sizes"):
            store.write_bytes("a", bytes(size))
        assert store.read_bytes("a") == b"old"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, where that can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "emdstore-tests", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [900_000, 3 * MIB], ids=["small", "large"])
def test_a_full_disk_over_there_is_told_and_keeps_the_old_value(
    sshd: SSHServer, small_disk: Path, tmp_path: Path, scheme: str, size: int
) -> None:
    (small_disk / "data").mkdir()
    (small_disk / "data" / "a").write_bytes(bytes(600_000))
    LocalArtifactStore(tmp_path / "here").write_bytes("a", b"x" * size)
    with SSHArtifactStore(sshd.url(small_disk / "data", scheme), rsh=sshd.rsh) as store:
        (failure,) = transfer(tmp_path / "here", store).failures
        assert isinstance(failure.error, StoreError)
        assert failure.error.errno == errno.ENOSPC, failure.error
        assert "intact" in str(failure.error)
    assert (small_disk / "data" / "a").read_bytes() == bytes(600_000)
    assert [each.name for each in (small_disk / "data").iterdir()] == ["a"]
