"""How a catalog is reached, what goes wrong on the way, and what is said then."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import sqlite3
import stat
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.catalog.examples import (
    FULL,
    arrive_first,
    do_everything_at_once,
    everything,
    execution_of,
    numbered,
    rows_in,
    write,
)
from tests.processes import FORKS
from tests.servers.postgres import PostgresServer, name_in
from tests.servers.s3 import free_ports

from emdstore.catalog import Catalog
from emdstore.catalog.database import Database
from emdstore.errors import CatalogError, CatalogUnavailableError

FORK = multiprocessing.get_context("fork")


@pytest.mark.parametrize("spell", [str, Path, "sqlite:///{}".format], ids=["str", "Path", "URL"])
def test_a_file_can_be_named_in_several_ways(tmp_path: Path, spell: type[str]) -> None:
    path = tmp_path / "a 100% folder é"
    path.mkdir()
    with Catalog(spell(path / "catalog.db")) as catalog:
        catalog.replace_execution(FULL)
    assert (path / "catalog.db").is_file()


def test_a_relative_path_is_taken_from_where_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    catalogs = [Catalog("one.db"), Catalog("sqlite:///two.db"), Catalog(Path("three.db"))]
    monkeypatch.chdir("elsewhere")
    for catalog in catalogs:
        assert pickle.loads(pickle.dumps(catalog)).executions().count() == 0
    assert {"one.db", "two.db", "three.db"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2@host/db",
        "nonsense://x:hunter2@host/",
        "://",
        "sqlite://two-slashes.db",
        "postgresql://u:hunter2@h:port/d",
    ],
)
def test_a_url_that_makes_no_sense_is_refused_at_once(url: str) -> None:
    with pytest.raises(CatalogError, match=r"sqlite:///catalog\.db") as caught:
        Catalog(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_catalog_pickles_as_its_configuration(shared_catalog_url: str) -> None:
    with Catalog(shared_catalog_url) as catalog:
        catalog.replace_execution(FULL)
        assert list(catalog.scalars())
        with pickle.loads(pickle.dumps(catalog)) as copy:
            assert everything(copy) == everything(catalog)
        with ProcessPoolExecutor(1, FORKS) as pool:
            assert pool.submit(rows_in, catalog).result() == 1


def test_a_catalog_in_memory_does_not_leave_its_process() -> None:
    with Catalog("sqlite://") as catalog:
        catalog.replace_execution(FULL)
        with pytest.raises(CatalogError, match="give it a file"):
            pickle.dumps(catalog)
        with ProcessPoolExecutor(1, FORK, _keep, (catalog,)) as pool:
            assert "give it a file" in pool.submit(_attempt_kept).result()


_kept: list[Catalog] = []


def _keep(catalog: Catalog) -> None:
    _kept[:] = [catalog]


def _attempt_kept() -> str:
    try:
        return f"{_kept[0].executions().count()} rows"
    except CatalogError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(shared_catalog_url: str) -> None:
    with Catalog(shared_catalog_url) as catalog:
        catalog.replace_execution(FULL)
        rows = iter(catalog.scalars())
        next(rows)
        children = [FORK.Process(target=_write_in_child, args=(catalog, n)) for n in range(2)]
        for child in children:
            child.start()
        catalog.replace_execution(execution_of("parent"))
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0] * 2
        assert len(list(rows)) == 5  # the parent's connections are as they were
        assert catalog.executions().count() == 4


def _write_in_child(catalog: Catalog, number: int) -> None:
    catalog.replace_execution(execution_of(f"child/{number}"))
    catalog.close()


def test_threads_can_share_a_catalog(catalog: Catalog) -> None:
    def work(number: int) -> int:
        catalog.replace_execution(execution_of(f"run/{number}", scalars=[(1.0, {}, None)] * 20))
        return sum(1 for _ in catalog.scalars(fragment=f"run/{number}"))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(24))) == [20] * 24
    assert catalog.scalars().count() == 480


def test_threads_that_write_to_a_file_take_turns_without_asking_for_its_lock_again_and_again(tmp_path: Path) -> None:
    begun: list[str] = []

    def watched(*args: object, **options: object) -> sa.Engine:
        engine: sa.Engine = sa.create_engine(*args, **options)  # type: ignore[call-overload]
        sa.event.listen(engine, "before_cursor_execute", lambda c, cursor, sql, *_: begun.append(sql))
        return engine

    database = Database(tmp_path / "catalog.db", busy_timeout=30, engine_factory=watched)
    with contextlib.closing(database), Catalog(database) as catalog, ThreadPoolExecutor(1) as pool:
        catalog.replace_execution(FULL)
        begun.clear()
        with database.writing():
            late = pool.submit(catalog.replace_execution, execution_of("b"))
            with pytest.raises(TimeoutError):
                late.result(0.3)
            assert begun.count("BEGIN IMMEDIATE") == 1
        late.result(30)
        assert catalog.executions().count() == 2


def test_a_thread_does_not_wait_for_another_one_for_ever(tmp_path: Path) -> None:
    database = Database(tmp_path / "catalog.db", busy_timeout=0.2)
    with contextlib.closing(database), Catalog(database) as catalog, ThreadPoolExecutor(1) as pool:
        catalog.replace_execution(FULL)
        with database.writing():
            late = pool.submit(catalog.replace_execution, execution_of("b"))
            with pytest.raises(CatalogUnavailableError, match="locked: another process or thread"):
                late.result(30)
        catalog.replace_execution(execution_of("b"))


@pytest.mark.parametrize("where", ["in memory", "elsewhere"])
def test_a_closed_catalog_is_an_error_and_does_not_begin_anew(shared_catalog_url: str, where: str) -> None:
    catalog = Catalog("sqlite://" if where == "in memory" else shared_catalog_url)
    catalog.replace_execution(FULL)
    catalog.close()
    for use in (catalog.executions().count, catalog.upgrade, lambda: catalog.replace_execution(FULL)):
        with pytest.raises(CatalogError, match="was closed: open it again"):
            use()
    catalog.close()
    if where == "elsewhere":
        assert Catalog(shared_catalog_url).executions().count() == 1


def test_eight_processes_write_to_one_catalog_and_none_is_turned_away(shared_catalog_url: str) -> None:
    fragments = [f"run/{n:02}" for n in range(24)]
    with Catalog("sqlite://") as alone:
        for fragment in fragments:
            alone.replace_execution(numbered(fragment))
        expected = everything(alone)
    # Two write each fragment, in opposite orders.
    shares = [fragments[n % 4 :: 4][:: 1 if n < 4 else -1] for n in range(8)]
    with ProcessPoolExecutor(8, FORKS) as pool:
        list(pool.map(write, [shared_catalog_url] * 8, shares))
    with Catalog(shared_catalog_url) as catalog:
        assert everything(catalog) == expected


@pytest.mark.parametrize("work", [arrive_first, do_everything_at_once])
def test_processes_that_do_different_things_to_the_same_rows_do_not_lock_each_other_out(
    shared_catalog_url: str, work: Callable[[str, float, int], int], postgres_server: PostgresServer
) -> None:
    start_at = time.time() + 0.3
    with ProcessPoolExecutor(4, FORKS) as pool:
        for done in pool.map(work, [shared_catalog_url] * 4, [start_at] * 4, range(4)):
            assert done >= 0
    with Catalog(shared_catalog_url) as catalog:
        for row in catalog.executions():
            assert row.scalars == catalog.scalars(fragment=row.fragment).count()
        if work is arrive_first:
            assert sorted(row.value for row in catalog.scalars()) == [float(n) for n in range(12)]
        elif catalog.executions().count():
            assert {row.status for row in catalog.executions()} <= {"uploaded", "pending_upload"}
    if shared_catalog_url.startswith("postgresql"):
        with postgres_server.connect() as connection:
            counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = %s"
            assert connection.execute(counted, [name_in(shared_catalog_url)]).fetchone() == (0,)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_text("some text that is long enough to be looked at " * 50)
    before = path.read_bytes()
    with pytest.raises(CatalogError, match=r"out\.log cannot be used: file is not a database: .*another path"):
        Catalog(path).executions().count()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("no such folder/catalog.db", "unable to open database file: check that the folder exists"),
        (".", "give a database"),  # a folder may hold a snapshot, which is only read
    ],
)
def test_a_place_where_no_file_can_be_is_told(tmp_path: Path, path: str, told: str) -> None:
    with pytest.raises(CatalogError, match=told):
        Catalog(tmp_path / path).replace_execution(FULL)


def test_waiting_for_a_writer_that_never_ends_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with Catalog(path, busy_timeout=0.2) as catalog:
        catalog.replace_execution(FULL)
        before = everything(catalog)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogError, match=r"database is locked: another process .*try again later"):
            catalog.replace_execution(execution_of("b"))
        assert everything(catalog) == before  # readers do not wait
        other.close()
        catalog.replace_execution(execution_of("b"))


def test_a_catalog_that_may_only_be_read_refuses_to_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder, Catalog(f"{folder}/catalog.db") as catalog:
        catalog.replace_execution(FULL)
        Path(folder).chmod(0o755)
        for file in Path(folder).iterdir():
            file.chmod(0o444)
        with ProcessPoolExecutor(1, FORK, _drop_privileges) as pool:
            assert "readonly" in (said := pool.submit(_attempt_to_write, f"{folder}/catalog.db").result())
            assert "check the permissions" in said
        assert catalog.executions().count() == 1


def _drop_privileges() -> None:
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


def _attempt_to_write(path: str) -> str:
    try:
        Catalog(path).replace_execution(execution_of("b"))
    except CatalogError as error:
        return str(error)
    return "written"


def test_a_full_disk_leaves_the_old_whole(tmp_path: Path) -> None:
    with Catalog(tmp_path / "catalog.db") as catalog:
        catalog.replace_execution(FULL)
        before = everything(catalog)
        with catalog._database._transaction(write=False) as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 20}")  # type: ignore[operator]
        large = execution_of("b", scalars=[(1.0, {"x": "y" * 1000}, None)] * 1000)
        with pytest.raises(CatalogError, match="full: free some space"):
            catalog.replace_execution(large)
        assert everything(catalog) == before


def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    (port,) = free_ports(1)
    catalog = Catalog(f"postgresql://me:hunter2%2F3@127.0.0.1:{port}/db?sslpassword=hunter4")
    with pytest.raises(CatalogError, match="check that the server runs") as caught:
        catalog.executions().count()
    shown = repr(catalog) + catalog.url + "".join(traceback.format_exception(caught.value)) + repr(catalog.scalars())
    assert "hunter" not in shown
    assert f"127.0.0.1:{port}/db" in shown


def test_a_wrong_password_or_database_is_told_without_the_password(postgres_server: PostgresServer) -> None:
    right = postgres_server.url("nowhere")
    wrong = right.replace("pg%20p", "hunter2")
    for url, advice in ((right, "create the database first"), (wrong, "check the user and the password")):
        catalog = Catalog(url)
        with pytest.raises(CatalogError, match=advice) as caught:
            catalog.replace_execution(FULL)
        shown = repr(catalog) + "".join(traceback.format_exception(caught.value))
        for secret in ("hunter2", "ss/w%", "ss%2Fw", "pg p"):
            assert secret not in shown


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_a_file_and_what_lies_beside_it_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with Catalog(tmp_path / "catalog.db") as catalog:
            catalog.replace_execution(FULL)
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"catalog.db", "catalog.db-wal", "catalog.db-shm"}
    assert set(modes.values()) == {mode}
