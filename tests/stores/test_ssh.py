"""`SSHArtifactStore` over a real OpenSSH server: what it says when it cannot, and what is left when it is cut off."""

from __future__ import annotations

import ast
import builtins
import contextlib
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from tests.servers.sshd import NO_SSH, SSHServer, run_sshd
from tests.stores.test_contract_ssh import harness_of

from emdstore import InMemoryArtifactStore, LocalArtifactStore, SSHArtifactStore, open_store, scoped, transfer
from emdstore.errors import (
    ArtifactChangedError,
    DamagedOnTheWayError,
    EmdstoreError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
    StoreURLError,
)
from emdstore.stores.port import ArtifactInfo, Copied, CopiesMany
from emdstore.stores.ssh import connection, lines
from emdstore.stores.ssh.address import Address, parse_address
from emdstore.stores.ssh.connection import Connection
from emdstore.stores.ssh.packing import packed_program
from emdstore.stores.ssh.side import round_trip_of
from emdstore.testing import StoreHarness
from emdstore.testing.contract.streaming import StreamingClauses
from emdstore.transfers.routes import digest_of

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def socket() -> Iterator[str]:
    """Return where a shared connection has its socket, whose path may have 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="ssh-", dir="/tmp") as folder:
        yield f"{folder}/%C"


@pytest.mark.slow
class TestOverSSH(StreamingClauses):
    """What comes in pieces, over a connection that is shared as `ControlMaster` has it."""

    @pytest.fixture
    def harness(self, sshd: SSHServer, socket: str, tmp_path: Path) -> StoreHarness:
        root = tmp_path / "store (°C)"
        shared = sshd.rsh_with(ControlMaster="auto", ControlPath=socket, ControlPersist="10")
        return harness_of(root, sshd.url(root), rsh=shared)


# -- where -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ssh://node/data", Address("ssh", "node", "/data")),
        ("sftp://me@node:2222/data//results/", Address("sftp", "node", "/data/results", "me", 2222)),
        ("ssh://node/~", Address("ssh", "node", ".")),
        ("ssh://node/~/results", Address("ssh", "node", "results")),
        ("ssh://[2001:db8::1]:22/data", Address("ssh", "2001:db8::1", "/data", None, 22)),
        ("ssh://me@site.org@node/data", Address("ssh", "node", "/data", "me@site.org")),
        ("ssh://node/a%20b/größe 1%3F%23%25", Address("ssh", "node", "/a b/größe 1?#%")),
    ],
)
def test_a_url_says_where(url: str, address: Address) -> None:
    assert parse_address(url) == address
    assert parse_address(address.url) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ssh://me:secret@node/data", "password"),
        ("ssh://-oProxyCommand=true/data", "option"),
        ("ssh://-v@node/data", "option"),
        ("ssh://%2Dv@node/data", "option"),
        ("ssh://no`de/data", "character"),
        ("ssh://me$(id)@node/data", "character"),
        ("ssh://node", "/~"),
        ("ssh:///data", "missing"),
        ("ssh://node/data/../other", "'..'"),
        ("ssh://node/~bob/data", "in full"),
        ("ssh://node/100%", "%25"),
        ("ssh://node/%ff", "UTF-8"),
        ("ssh://node:99999/data", "port"),
        ("ssh://2001:db8::1/data", "brackets"),
        ("ssh://node/data?token=secret", "%3F"),
        ("sftp://node/data#secret", "%23"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_started(url: str, said: str) -> None:
    with pytest.raises(StoreURLError, match=said) as refused:
        open_store(url, rsh="/not/there/ssh")
    assert "secret" not in str(refused.value)


def test_an_empty_home_is_relative_to_the_user_over_there(tmp_path: Path) -> None:
    there = f"env HOME={tmp_path} {NO_SSH}"
    SSHArtifactStore("ssh://here/~/results", rsh=there).write_bytes("a", b"x")
    assert SSHArtifactStore("ssh://here/~", rsh=there).read_bytes("results/a") == b"x"
    assert (tmp_path / "results" / "a").read_bytes() == b"x"


# -- getting in --------------------------------------------------------------------------------------------------------


def said_when_opened(store: SSHArtifactStore) -> tuple[type[EmdstoreError], str]:
    with pytest.raises(EmdstoreError) as refused:
        store.exists("a")
    return type(refused.value), str(refused.value)


def test_who_is_not_let_in_is_told_why(sshd: SSHServer, tmp_path: Path) -> None:
    url = sshd.url(tmp_path)
    unknown = SSHArtifactStore(url, rsh=sshd.rsh_with(UserKnownHostsFile="/dev/null"))
    assert said_when_opened(unknown)[0] is StoreAccessError
    assert "run `ssh " in said_when_opened(unknown)[1]

    other = tmp_path / "known_hosts"
    key = (sshd.folder / "user_key.pub").read_text()
    other.write_text(f"[127.0.0.1]:{sshd.port} {key}")
    kind, said = said_when_opened(SSHArtifactStore(url, rsh=sshd.rsh_with(UserKnownHostsFile=str(other))))
    assert kind is StoreAccessError
    assert "not the one that is known" in said

    kind, said = said_when_opened(SSHArtifactStore(url, rsh=sshd.rsh_with(PubkeyAuthentication="no")))
    assert kind is StoreAccessError
    assert "none of your keys" in said

    kind, said = said_when_opened(SSHArtifactStore("ssh://127.0.0.1:1/data", rsh=sshd.rsh))
    assert kind is StoreUnavailableError
    assert "nothing answers at this port" in said

    kind, said = said_when_opened(SSHArtifactStore(url, rsh="/not/there/ssh"))
    assert kind is StoreError
    assert "install the OpenSSH client" in said


def test_what_is_configured_in_the_environment_is_used(
    sshd: SSHServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMDSTORE_SSH", sshd.rsh)
    open_store(sshd.url(tmp_path)).write_bytes("a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


@contextlib.contextmanager
def forced(folder: Path, command: str) -> Iterator[SSHServer]:
    """Run a server that has every session run this command."""
    with run_sshd(folder, f"ForceCommand {command}") as server:
        yield server


@pytest.mark.usefixtures("sshd")
def test_a_shell_that_greets_is_listened_past(tmp_path: Path) -> None:
    greeting = f'{sys.executable} -c \'print("Welcome! " * 500)\'; eval "$SSH_ORIGINAL_COMMAND"'
    with forced(tmp_path / "server", greeting) as server:
        store = SSHArtifactStore(server.url(tmp_path / "data"), rsh=server.rsh)
        store.write_bytes("a", b"x")
        assert list(store.iter_keys()) == ["a"]
        store.close()


@pytest.mark.usefixtures("sshd")
def test_without_a_program_sftp_does_it_and_that_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with forced(tmp_path / "server", "internal-sftp") as server, caplog.at_level(logging.WARNING):
        store = SSHArtifactStore(server.url(tmp_path / "data"), rsh=server.rsh)
        store.write_bytes("a", b"x")
        LocalArtifactStore(tmp_path / "here").write_bytes("b", bytes(2 * MIB))
        transfer(tmp_path / "here", store).raise_for_failures()
        assert {found.key: found.size for found in store.iter_info()} == {"a": 1, "b": 2 * MIB}
        store.close()
        assert store.read_bytes("a") == b"x"
        store.close()
    assert [record.message for record in caplog.records if "by SFTP" in record.message] != []
    assert len([record for record in caplog.records if "by SFTP" in record.message]) == 1


@pytest.mark.usefixtures("sshd")
def test_an_account_that_may_do_nothing_is_told_so(tmp_path: Path) -> None:
    with forced(tmp_path / "server", "echo This account is currently not available.; false") as server:
        kind, said = said_when_opened(SSHArtifactStore(server.url(tmp_path), rsh=server.rsh))
    assert kind is StoreAccessError
    assert "neither" in said
    assert "This account is currently not available" in said


# -- the program over there --------------------------------------------------------------------------------------------


def test_the_program_is_sent_as_python_3_6_reads_it() -> None:
    import zlib

    source = zlib.decompress(packed_program()).decode()
    tree = ast.parse(source, feature_version=(3, 6))
    assert "import emdstore" not in source
    assert "from emdstore" not in source
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    evaluated = {node.annotation for node in ast.walk(tree) if isinstance(node, ast.arg)} | {
        f.returns for f in functions
    }
    known = {*dir(builtins), *(node.name for node in tree.body if isinstance(node, ast.ClassDef)), "os"}
    assert functions
    for annotation in evaluated - {None}:
        assert isinstance(annotation, ast.Constant | ast.Name | ast.Attribute), ast.unparse(annotation)
        assert {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)} <= known


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.9"])
def test_an_old_python_over_there_will_do(version: str, tmp_path: Path) -> None:
    kept = sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob(f"versions/{version}.*/bin/python3"))
    old = shutil.which(f"python{version}") or next(map(str, kept), None)
    if old is None:
        return  # the test above has read it as 3.6 does
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(old)
    rsh = f"env PATH={tmp_path}/bin:/usr/bin:/bin LC_ALL=C {NO_SSH}"
    store = SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=rsh)
    store.write_bytes("größe/a", bytes(3 * MIB))
    (tmp_path / "data" / "out").symlink_to("/etc")
    store.create_bytes("größe/b", b"x")
    store.replace_bytes("größe/b", b"y", sha256(b"x").hexdigest())
    assert {getattr(found, "key", None) or found.name for found in store.iter_found()} == {"größe/a", "größe/b", "out"}
    assert store.read_bytes("größe/a") == bytes(3 * MIB)
    assert store.remove_staging(older_than=0) == ()
    store.flush()
    store.delete("größe/a")
    assert list(store.iter_keys()) == ["größe/b"]


def test_only_a_newer_python_than_2_is_taken(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 86\n")
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "python3.13").symlink_to(sys.executable)
    store = SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=f"env PATH={tmp_path}:/usr/bin:/bin {NO_SSH}")
    assert not store.exists("a")


# -- copies ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path) -> LocalArtifactStore:
    store = LocalArtifactStore(tmp_path / "here")
    for number in range(60):
        store.write_bytes(f"runs/{number % 3}/f{number}", os.urandom(number * 300))
    store.write_bytes("runs/large", os.urandom(5 * MIB + 17))
    store.write_bytes("tools/run.sh", b"#!/bin/sh\n")
    (tmp_path / "here" / "tools" / "run.sh").chmod(0o700)
    for path in (tmp_path / "here").rglob("*"):
        os.utime(path, ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789))
    return store


def seen(root: Path) -> dict[str, tuple[str, int, int]]:
    return {
        str(path.relative_to(root)): (
            sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
            stat.S_IMODE(path.stat().st_mode) & 0o111,
        )
        for path in root.rglob("*")
        if path.is_file()
    }


def test_files_keep_their_times_there_and_back_and_are_known_again(here: LocalArtifactStore, tmp_path: Path) -> None:
    there = SSHArtifactStore(f"ssh://here{tmp_path}/there", rsh=NO_SSH)
    assert transfer(here, there).counts["copied"] == 62
    assert transfer(there, tmp_path / "back").counts["copied"] == 62
    (tmp_path / "here" / "tools" / "run.sh").chmod(0o711)  # as the umask has it
    assert {key: value[:2] for key, value in seen(tmp_path / "there").items()} == {
        key: value[:2] for key, value in seen(tmp_path / "here").items()
    }
    assert seen(tmp_path / "back") == seen(tmp_path / "there")
    assert os.access(tmp_path / "back" / "tools" / "run.sh", os.X_OK)
    for one, other in ((here, there), (there, tmp_path / "back")):
        assert transfer(one, other).counts == {
            "copied": 0, "unchanged": 62, "missing": 0, "rejected": 0, "failed": 0, "left": 0,
        }  # fmt: skip
    assert not list(tmp_path.rglob(".emdstore-*"))


def test_one_that_fails_among_many_stops_no_other(here: LocalArtifactStore, tmp_path: Path) -> None:
    there = SSHArtifactStore(f"ssh://here{tmp_path}/there", rsh=NO_SSH)
    there.write_bytes("runs/1/f1/in the way", b"x")
    (tmp_path / "here" / "runs" / "2" / "f2").unlink()
    (tmp_path / "here" / "runs" / "2" / "f2").symlink_to("/etc/passwd")
    keys = [f"runs/{number % 3}/f{number}" for number in range(60)]
    outcomes = {each.key: each.outcome for each in transfer(here, there, keys, unchanged="never").outcomes}
    assert {key for key, outcome in outcomes.items() if outcome != "copied"} == {"runs/1/f1", "runs/2/f2"}
    back = {each.key: each.outcome for each in transfer(there, tmp_path / "back", [*keys, "gone"]).outcomes}
    assert {key for key, outcome in back.items() if outcome != "copied"} == {"runs/2/f2", "gone"}


@pytest.mark.parametrize("way", ["up", "down"])
def test_what_has_grown_large_comes_with_the_small_ones(way: str, tmp_path: Path) -> None:
    near, far = LocalArtifactStore(tmp_path / "near"), SSHArtifactStore(f"ssh://here{tmp_path}/far", rsh=NO_SSH)
    source, dest = (near, far) if way == "up" else (far, near)
    sizes = {"a": 3, "b": 2_500_000, "c": 700_000, "d": 0}
    for key, size in sizes.items():
        source.write_bytes(key, b"x" * size)
    session = dest.copy_from(source)
    assert isinstance(session, CopiesMany)
    with session:
        copied = list(session.copy_many(list(sizes)))
    assert copied == [Copied(size, sha256(b"x" * size).hexdigest()) for size in sizes.values()]
    assert {each.key: each.size for each in dest.iter_info()} == sizes


def test_a_folder_of_a_store_uses_its_connection(here: LocalArtifactStore, tmp_path: Path) -> None:
    there = SSHArtifactStore(f"ssh://here{tmp_path}/there", rsh=NO_SSH)
    transfer(scoped(here, "runs/0"), scoped(there, "somewhere")).raise_for_failures()
    before = children()
    transfer(scoped(here, "runs/1"), scoped(SSHArtifactStore(there.url, rsh=NO_SSH), "elsewhere")).raise_for_failures()
    assert set() != set(children()) <= set(before)  # those of earlier tests may just end
    assert len(list(there.iter_keys())) == 40


@pytest.mark.parametrize(("seconds", "asked", "most"), [(0.0, None, 2), (60.0, None, 1), (60.0, 3, 3)])
def test_as_many_connections_are_opened_as_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, asked: int | None, most: int
) -> None:
    """Two for a machine that is far away, and as many as somebody asks for; each when there is work for it."""
    monkeypatch.setattr(lines, "FAR_SECONDS", seconds)
    others = set(children())
    store = SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=NO_SSH, connections=asked)
    for number in range(8):
        store.write_bytes(str(number), bytes(300_000))
    kept = [store.open_reader(str(number)) for number in range(8)]
    used = store._lines.get()

    def opened() -> int:
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(used.taken())
            return len(used._open)

    assert ends(lambda: opened() == most)
    for reader in kept:
        with reader:
            assert b"".join(iter(reader.read, b"")) == bytes(300_000)
    time.sleep(0.1)
    assert opened() == most
    store.close()
    assert ends(lambda: set(children()) <= others)


@pytest.mark.parametrize(("took", "least"), [([0.2, 0.03, 0.001], 0.001), ([0.02, 0.03, 0.02], 0.02), ([0.001], 0.001)])
def test_a_machine_that_is_busy_is_not_taken_for_a_distant_one(
    monkeypatch: pytest.MonkeyPatch, took: list[float], least: float
) -> None:
    times = iter([moment for number, seconds in enumerate(took) for moment in (number, number + seconds)])
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr("emdstore.stores.ssh.side.system.current", lambda: clock)
    assert round_trip_of(lambda: None) == pytest.approx(least)
    assert next(times, None) is None


def test_the_source_is_listed_while_the_user_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = threading.Semaphore(0)

    class Listed(InMemoryArtifactStore):
        def iter_info(self, prefix: str = "", /) -> Iterator[ArtifactInfo]:
            for info in super().iter_info(prefix):
                listed.release()
                yield info

    def open_after_listing(*asked: Any, **options: Any) -> Connection:
        assert all(listed.acquire(timeout=10) for _ in range(50))
        return connection.open_connection(*asked, **options)

    monkeypatch.setattr(lines, "open_connection", open_after_listing)
    source = Listed()
    for number in range(50):
        source.write_bytes(f"a{number:02}", b"x")
    report = transfer(source, SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=NO_SSH, connections=1))
    assert report.counts["copied"] == 50


def test_a_connection_that_was_begun_and_failed_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(*asked: Any, **options: Any) -> Connection:
        tried.append(1)
        raise StoreAccessError("not you")

    monkeypatch.setattr(lines, "open_connection", refuse)
    with pytest.raises(StoreAccessError, match="not you"):
        list(SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=NO_SSH).iter_keys())
    assert len(tried) == 1


def test_a_digest_comes_without_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=NO_SSH)
    data = os.urandom(40 * MIB)
    store.write_bytes("a/large", data)
    came, read_into = [], Connection.read_into

    def counted(self: Connection, buffer: memoryview) -> int:
        came.append(count := read_into(self, buffer))
        return count

    store.close()
    monkeypatch.setattr(Connection, "read_into", counted)
    assert digest_of(scoped(store, "a"), "large") == (len(data), sha256(data).hexdigest())
    assert 0 < sum(came) < 1000


def test_bytes_that_change_on_the_way_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=NO_SSH)
    store.write_bytes("a", b"right")
    store.write_bytes("large", b"right" * MIB)
    store.close()
    write, read_into = Connection.write, Connection.read_into

    def other(self: Connection, buffer: memoryview) -> int:
        count = read_into(self, buffer)
        buffer[:count] = bytes(buffer[:count]).replace(b"right", b"wrong")
        return count

    monkeypatch.setattr(
        Connection, "write", lambda self, *parts: write(self, *(bytes(p).replace(b"new", b"odd") for p in parts))
    )
    monkeypatch.setattr(Connection, "read_into", other)
    for ask in (
        lambda: store.write_bytes("a", b"new!"),
        lambda: store.write_bytes("a", b"new!" * MIB),
        lambda: store.create_bytes("b", b"new!"),
        lambda: store.read_bytes("a"),
        lambda: store.read_bytes("large"),
    ):
        with pytest.raises(DamagedOnTheWayError):
            ask()
    monkeypatch.undo()
    store.close()
    assert store.read_bytes("a") == b"right"
    assert list(store.iter_keys()) == ["a", "large"]


def test_writers_there_and_here_keep_out_of_each_others_way(tmp_path: Path) -> None:
    """Each adds one to what it has seen; with the lock of the folder, none is lost."""
    local = LocalArtifactStore(tmp_path / "data")
    stores = [local, SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=NO_SSH)]
    local.write_bytes("count", b"0")

    def add(store: LocalArtifactStore | SSHArtifactStore) -> None:
        done = 0
        while done < 25:
            before = store.read_bytes("count")
            try:
                store.replace_bytes("count", b"%d" % (int(before) + 1), sha256(before).hexdigest())
                done += 1
            except ArtifactChangedError:
                pass

    threads = [threading.Thread(target=add, args=(store,)) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert local.read_bytes("count") == b"100"


# -- cut off -----------------------------------------------------------------------------------------------------------


def children() -> list[psutil.Process]:
    """Return what runs the program for this process; servers of other tests may be its children, too."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "import io,sys,zlib" in " ".join(child.cmdline()):
                found.append(child)
    return found


def ends(condition: object, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def cut(number: int = signal.SIGKILL) -> None:
    for child in children():
        child.send_signal(number)


def test_a_connection_that_was_cut_between_two_calls_is_not_noticed(tmp_path: Path) -> None:
    store = SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=NO_SSH)
    for ask in (
        lambda: store.write_bytes("a", b"x"),
        lambda: store.read_bytes("a"),
        lambda: store.exists("a"),
        lambda: store.info("a"),
        lambda: list(store.iter_keys()),
        lambda: store.create_bytes("b", b"x"),
        lambda: store.replace_bytes("b", b"y", sha256(b"x").hexdigest()),
        lambda: store.delete("b"),
    ):
        ask()
        store.exists("a")
        cut()
        if ask.__code__.co_names[-1] in ("create_bytes", "replace_bytes"):
            continue
        ask()


def test_what_is_cut_off_leaves_the_old_value_and_goes_on_anew(tmp_path: Path) -> None:
    store = SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=NO_SSH)
    store.write_bytes("a", b"old")

    def write(number: int) -> None:
        with store.open_writer("a") as writer:
            writer.write(bytes(2 * MIB))
            assert ends(lambda: len(list((tmp_path / "data").iterdir())) == 2)
            cut(number)
            for _ in range(100):
                writer.write(bytes(MIB))

    def read() -> None:
        with store.open_reader("large") as reader:
            reader.read()
            cut()
            while reader.read():
                pass

    with pytest.raises(StoreUnavailableError):
        write(signal.SIGTERM)
    assert store.read_bytes("a") == b"old"
    assert ends(lambda: [path.name for path in (tmp_path / "data").iterdir()] == ["a"])

    with pytest.raises(StoreUnavailableError):
        write(signal.SIGKILL)  # of which the program hears nothing
    assert store.remove_staging() == ()
    assert len(store.remove_staging(older_than=0, dry_run=True)) == 1
    assert len(store.remove_staging(older_than=0)) == 1
    store.write_bytes("large", bytes(9 * MIB))
    with pytest.raises(StoreUnavailableError):
        read()
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"a", "large"}


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_transfer_goes_on_over_another_connection(here: LocalArtifactStore, tmp_path: Path, way: str) -> None:
    far = SSHArtifactStore(f"ssh://here{tmp_path}/{'there' if way == 'up' else 'here'}", rsh=NO_SSH, timeout=100)
    source, dest = (here, far) if way == "up" else (far, LocalArtifactStore(tmp_path / "back"))
    far.exists("a")
    cuts = iter([cut, cut])

    def one_more(progress: object) -> None:
        next(cuts, lambda: None)()

    began = time.monotonic()
    assert transfer(source, dest, on_progress=one_more, max_workers=2).counts["copied"] == 62
    assert time.monotonic() - began < 60  # nothing waits for an answer to what it asked after the cut
    assert transfer(source, dest, unchanged="digest").counts["unchanged"] == 62
    assert list(dest.iter_keys()) == list(source.iter_keys())


def test_a_far_side_that_is_silent_is_given_up(tmp_path: Path) -> None:
    others = set(children())
    store = SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=NO_SSH, timeout=0.5)
    store.exists("a")
    for child in set(children()) - others:
        child.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="has not answered"):
        store.read_bytes("a")
    assert time.monotonic() - began < 10
    assert ends(lambda: set(children()) <= others)


def test_connections_end_with_their_store(tmp_path: Path) -> None:
    store = SSHArtifactStore(f"ssh://here{tmp_path}/data", rsh=NO_SSH)
    others = set(children())
    store.exists("a")
    assert set(children()) - others
    del store
    assert ends(lambda: set(children()) <= others)


def test_ctrl_c_ends_both_ends(sshd: SSHServer, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with (tmp_path / "here" / "large").open("wb") as file:
        file.truncate(20_000 * MIB)
    there = tmp_path / "there"
    command = [sys.executable, "-m", "emdstore", "transfer", str(tmp_path / "here"), sshd.url(there), "--rsh", sshd.rsh]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with child:
        assert ends(lambda: there.is_dir() and any(each.stat().st_size > MIB for each in there.iterdir()), 60)
        below = psutil.Process(child.pid).children(recursive=True)
        assert [each.name() for each in below] == ["ssh"]
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        said = child.communicate(timeout=30)[0].decode()
        assert child.returncode == 130, said
        assert time.monotonic() - began < 10  # 2 seconds, if this machine has nothing else to do
    assert ends(lambda: not any(each.is_running() and each.status() != "zombie" for each in below))
    assert ends(lambda: not list(there.iterdir())), "the program there takes what is unfinished with it"
