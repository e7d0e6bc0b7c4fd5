"""Another machine by SSH, played by this one: a real server, and the tools that people copy with."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from tests.servers.sshd import MISSING, SSHServer, find_sshd, run_sshd

from benchmarks import goals
from benchmarks.contenders import Contender, MissingPeerError, emdstore
from benchmarks.places import Folder, Place
from benchmarks.servers import MissingServerError

ROUTES = ("local-ssh", "ssh-local")
_CIPHER = "aes128-gcm@openssh.com"


@attrs.frozen
class FarFolder(Folder):
    """A folder of the other machine, which is also one of this machine."""

    server: SSHServer
    scheme: str = "ssh"

    @property
    def url(self) -> str:
        return self.server.url(self.path, self.scheme)


@contextmanager
def run_server(folder: Path) -> Iterator[SSHServer]:
    """Run a server with keys of its own."""
    if find_sshd() is None:
        raise MissingServerError(MISSING)
    with run_sshd(folder) as server:
        yield server


def environment(server: SSHServer) -> dict[str, str]:
    """Return what emdstore needs to get in."""
    return {"EMDSTORE_SSH": server.rsh}


def contenders(server: SSHServer, report: Callable[[str], None]) -> list[Contender]:
    """Return who copies to the other machine, all of them with the same cipher."""
    found = []
    for name, make in _PEERS.items():
        try:
            found.append(make(name, server))
        except MissingPeerError as error:
            report(f"skipped: {name}: {error}")
    return [*found, emdstore(), emdstore(inside=True), _by_sftp(), _by_sftp(inside=True)]


def _by_sftp(*, inside: bool = False) -> Contender:
    ours = emdstore(inside=inside)

    def command(source: Place, dest: Place) -> Sequence[str] | None:
        source, dest = (
            attrs.evolve(each, scheme="sftp") if isinstance(each, FarFolder) else each for each in (source, dest)
        )
        return ours.copy(source, dest)

    return Contender(ours.name.replace(goals.EMDSTORE, goals.BY_SFTP), command)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingPeerError(f"there is no {name} on this machine; install its package")
    return found


def _there(place: Place) -> str:
    """Return a folder as rsync and scp take it."""
    return f"{getpass.getuser()}@127.0.0.1:{place.path}" if isinstance(place, FarFolder) else place.url


def _rsync(name: str, server: SSHServer) -> Contender:
    program, rsh = _program("rsync"), f"{server.rsh_with(Ciphers=_CIPHER)} -p {server.port}"
    more = ["--fsync"] if "fsync" in name else []
    return Contender(name, lambda a, b: [program, "-a", *more, "-e", rsh, f"{_there(a)}/", f"{_there(b)}/"])


def _scp(name: str, server: SSHServer) -> Contender:
    program = _program("scp")
    options = ["-q", "-r", "-p", "-F", os.fspath(server.folder / "config"), "-P", str(server.port), "-c", _CIPHER]
    return Contender(name, lambda a, b: [program, *options, _there(a), _there(b)], lambda a, b: None)


def _rclone(name: str, server: SSHServer) -> Contender:
    program = _program("rclone")
    remote = (
        f":sftp,host=127.0.0.1,port={server.port},user={getpass.getuser()},key_file={server.folder}/user_key,"
        f"known_hosts_file={server.folder}/known_hosts,ciphers={_CIPHER},shell_type=unix:"
    )

    def there(place: Place) -> str:
        return f"{remote}{place.path}" if isinstance(place, FarFolder) else place.url

    options = ["--transfers=16", "--checkers=16", "--sftp-disable-hashcheck", "--log-level=ERROR"]
    return Contender(name, lambda a, b: [program, "copy", there(a), there(b), *options])


_PEERS: Mapping[str, Callable[[str, SSHServer], Contender]] = {
    goals.SSH_RSYNC: _rsync,
    goals.SCP: _scp,
    goals.SFTP_RCLONE: _rclone,
}
