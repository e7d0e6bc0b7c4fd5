"""Another machine by SSH, played by this one: a real server, and the tools that people copy with."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from tests.servers.sshd import MISSING, SSHServer, find_sshd, run_sshd

from benchmarks import goals
from benchmarks.contenders import Contender, MissingPeerError, emdstore, environment, least
from benchmarks.delay import run_proxy
from benchmarks.measure import Run, run
from benchmarks.places import Folder, Place, check
from benchmarks.servers import MissingServerError

if TYPE_CHECKING:
    from benchmarks.suites import Bench, Row

ROUTES = ("local-ssh", "ssh-local")
_CIPHER = "aes128-gcm@openssh.com"
_DELAY = 0.01
"""Seconds that everything takes to a distant machine, and as many back."""
_TO_LEAVE = 0.3  # seconds for the server to see that somebody has left


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


def access(server: SSHServer) -> dict[str, str]:
    """Return what emdstore needs to get in."""
    return {"EMDSTORE_SSH": server.rsh}


def peers(server: SSHServer, report: Callable[[str], None]) -> list[Contender]:
    """Return the tools that copy to the other machine, all of them with the same cipher."""
    found = []
    for name, make in _PEERS.items():
        try:
            found.append(make(name, server))
        except MissingPeerError as error:
            report(f"skipped: {name}: {error}")
    return found


def measure(bench: Bench) -> list[Row]:
    """Copy small and large files to another machine and from there, near and distant, and commit to it."""
    rows: list[Row] = []
    for delay in (0.0, _DELAY):
        with (
            tempfile.TemporaryDirectory(dir=bench.disks.work, prefix="sshd-") as keys,
            run_server(Path(keys) / "server") as near,
            run_proxy(near.port, delay) if delay else contextlib.nullcontext(near.port) as port,
        ):
            server = near.through(port) if delay else near
            for route in ROUTES:
                rows += _copy(bench, server, "W1", route, delay=bool(delay))
                rows += _copy(bench, server, "W2", route, delay=bool(delay))
            if not delay:
                rows += bench.commit("local-ssh", far=server)
    return rows


def _copy(bench: Bench, server: SSHServer, name: str, route: str, *, delay: bool) -> list[Row]:
    """Copy a workload, everybody in turn; small files near a second time, too."""
    workload = bench.workload(name)
    env = environment(None, bench.cache) | access(server)
    known = [*peers(server, bench.report), emdstore(), emdstore(inside=True), _by_sftp(), _by_sftp(inside=True)]
    known += least() if name == "W1" else []  # of large files, one stream that takes turns with a hash is no limit
    if delay:  # the others take minutes, which tell nothing new
        known = [
            each for each in known if each.name == goals.SSH_RSYNC or each.name.startswith(("emdstore", goals.LIMIT))
        ]
    if not delay and (name, route) == ("W1", "local-ssh"):
        known += [emdstore(flush=True), emdstore(flush=True, inside=True)]
    else:
        known = [each for each in known if each.name != goals.DURABLE_SSH_RSYNC]
    check(workload.folder, workload.manifest)  # also reads it into the cache
    source = workload.folder if route == "local-ssh" else FarFolder(workload.folder.path, server)

    def place(path: Path) -> Folder:
        return FarFolder(path, server) if route == "local-ssh" else Folder(path)

    def measured(command: Sequence[str]) -> Run:
        before = server.cpu_seconds()
        done = run(command, env)
        time.sleep(_TO_LEAVE)
        return attrs.evolve(done, there_seconds=server.cpu_seconds() - before)

    def once(contender: Contender) -> Run:
        with bench.disks.fresh(workload.bytes) as root:
            done = measured(contender.copy(source, place(root / "dest")) or ())
            check(Folder(root / "dest"), workload.manifest)
            return done

    label = f"{name} distant" if delay else name
    rows = bench.in_turn(label, route, {each.name: partial(once, each) for each in known}, workload)
    if delay or name != "W1":
        return rows
    known = [each for each in known if not each.name.startswith(goals.LIMIT)]
    with bench.disks.fresh(len(known) * workload.bytes) as root:
        calls: dict[str, Callable[[], Run]] = {}
        for number, contender in enumerate(known):
            dest = place(root / str(number))
            second = (contender.again or contender.copy)(source, dest)
            if second is not None:
                run(contender.copy(source, dest) or (), env)
                calls[contender.name] = partial(measured, second)
                if contender.name == goals.EMDSTORE + goals.LIBRARY:
                    calls[goals.HELD] = partial(measured, [*second, "--again"])
        return rows + bench.in_turn(f"{name} again", route, calls, workload)


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
    goals.DURABLE_SSH_RSYNC: _rsync,
    goals.SCP: _scp,
    goals.SFTP_RCLONE: _rclone,
}
