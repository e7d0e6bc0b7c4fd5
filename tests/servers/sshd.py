"""A real OpenSSH server on the loopback interface, with keys of its own: nothing of the user's `~/.ssh` is read."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import attrs
import psutil
import pytest
from tests.processes import ends_with_us

MISSING = "OpenSSH's server and client are not installed: apt-get install openssh-server openssh-client"


@attrs.frozen
class SSHServer:
    """A server that is up.

    Attributes
    ----------
    port
        Where it listens.
    folder
        Where its keys and those of its user are, and the client's configuration (``config``).
    log
        What it says.
    number
        Its process.
    """

    port: int
    folder: Path
    log: Path
    number: int

    @property
    def rsh(self) -> str:
        """The client that gets in."""
        return f"ssh -F {self.folder / 'config'}"

    def url(self, path: Path | str, scheme: str = "ssh") -> str:
        """Return the URL of a folder there."""
        return f"{scheme}://{getpass.getuser()}@127.0.0.1:{self.port}{quote(str(path))}"

    def through(self, port: int) -> SSHServer:
        """Return the server as it is reached at another port, that of a proxy."""
        key = (self.folder / "host_key.pub").read_text()
        with (self.folder / "known_hosts").open("a") as known:
            known.write(f"[127.0.0.1]:{port} {key}")
        return attrs.evolve(self, port=port)

    def cpu_seconds(self) -> float:
        """Return the CPU time of the server and of all that ran for those who have left."""
        times = psutil.Process(self.number).cpu_times()
        return times.user + times.system + times.children_user + times.children_system

    def rsh_with(self, **options: str) -> str:
        """Return a client that gets in, or not, with other options of OpenSSH."""
        return self.rsh + "".join(f" -o {name}={value}" for name, value in options.items())


def find_sshd() -> str | None:
    """Return the server's program; None if something of OpenSSH is missing."""
    if not all(shutil.which(name) for name in ("ssh", "ssh-keygen")):
        return None
    return shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


@contextlib.contextmanager
def run_sshd(
    folder: Path, *settings: str, host_key: Path | None = None, port: int | None = None
) -> Iterator[SSHServer]:
    """Run a server for the user of the tests, with further lines for its configuration."""
    program = find_sshd()
    assert program is not None, MISSING
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:  # its own account, without which it does not begin
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host_key", "user_key"):
        if not (folder / name).exists():
            _make_key(folder / name)
    (folder / "authorized_keys").write_bytes((folder / "user_key.pub").read_bytes())
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
    log = folder / "log"
    known = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}")
    (folder / "config").write_text(
        f"IdentityFile {folder}/user_key\nIdentitiesOnly yes\nIdentityAgent none\n"
        f"UserKnownHostsFile {folder}/known_hosts\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
    )
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder}/host_key",
        f"AuthorizedKeysFile {folder}/authorized_keys",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin yes",
        "MaxStartups 100",
        "MaxSessions 100",
        "Subsystem sftp internal-sftp",
        *settings,
    ]
    set_here = {line.split()[0] for line in settings}  # sshd takes the first of two lines
    lines = [line for line in lines if line in settings or line.split()[0] not in set_here]
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    with log.open("ab") as said:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=ends_with_us(),
        )
    try:
        deadline = time.monotonic() + 20
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        yield SSHServer(port, folder, log, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
            return line.recv(4) == b"SSH-"
    except OSError:
        return False


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    """A server that lets the user of the tests do everything."""
    with run_sshd(tmp_path_factory.mktemp("sshd") / "server") as server:
        yield server


NO_SSH = """sh -c 'for line; do :; done; exec sh -c "$line"' rsh"""
"""A client that runs the command here, as if it had got somewhere."""
