"""A database becomes a catalog, once, and is refused when it is something else."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.catalog.examples import FULL, create, everything, execution_of
from tests.processes import FORKS

from emdstore.catalog import Catalog, migrate
from emdstore.catalog.schema import SCHEMA_VERSION, VERSION_TABLE, metadata
from emdstore.errors import CatalogError, CatalogVersionError


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    """One of each kind, which nobody has set up yet."""
    with Catalog(url) as catalog:
        yield catalog


def _execute(catalog: Catalog, *statements: str) -> None:
    with catalog._database._transaction(write=True) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_the_migrations_make_the_tables_that_the_code_has(catalog: Catalog) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def is_meant_for(thing: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
        return kind != "index" or reflected or catalog._database.is_postgresql or not name.endswith("_dimensions")  # type: ignore[union-attr]

    catalog.upgrade()
    with catalog._database.reading() as connection:
        options = {"compare_type": True, "version_table": VERSION_TABLE, "include_object": is_meant_for}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        made = _constraints(connection)
    with sa.create_engine("sqlite://").connect() as plain:
        metadata.create_all(plain)
        assert made == _constraints(plain)


def _constraints(connection: sa.Connection) -> dict[str, Any]:
    inspector = sa.inspect(connection)
    return {
        table: (
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted(
                (k["constrained_columns"], k["referred_table"], k["options"]) for k in inspector.get_foreign_keys(table)
            ),
            sorted(u["column_names"] for u in inspector.get_unique_constraints(table)),
            sorted((c["name"], c["nullable"]) for c in inspector.get_columns(table)),
        )
        for table in metadata.tables
    }


def test_the_schema_version_is_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory.from_config(migrate._alembic()).get_heads() == [SCHEMA_VERSION]


def test_an_empty_database_is_set_up_at_the_first_use_and_not_before(sqlite_url: str, tmp_path: Path) -> None:
    catalog = Catalog(sqlite_url)
    assert catalog.check().state == "empty"
    assert not (tmp_path / "catalog.db").exists()
    assert catalog.executions().count() == 0
    assert catalog.check().state == "current"
    catalog.close()


def test_upgrading_what_is_up_to_date_changes_nothing(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    before = everything(catalog)
    assert catalog.upgrade().state == "current"
    assert everything(catalog) == before


def test_an_older_schema_is_refused_with_the_way_out(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.replace_execution(FULL)
    catalog._database._here.get().is_prepared = False
    monkeypatch.setattr("emdstore.catalog.migrate.SCHEMA_VERSION", "0004")
    monkeypatch.setattr("emdstore.catalog.database.SCHEMA_VERSION", "0004")
    assert catalog.check().state == "behind"
    with pytest.raises(CatalogVersionError, match=r"version 0003, .* with 0004: run `emdstore db upgrade`"):
        catalog.executions().count()


def test_a_newer_schema_is_refused_and_left_alone(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    _execute(catalog, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    catalog._database._here.get().is_prepared = False
    for use in (lambda: catalog.executions().count(), catalog.upgrade, lambda: catalog.replace_execution(FULL)):
        with pytest.raises(CatalogVersionError, match=r"9999.*0003.*newer"):
            use()
    assert catalog.check().state == "unknown"


def test_another_programs_tables_are_refused_and_left_alone(catalog: Catalog) -> None:
    _execute(catalog, "CREATE TABLE execution (mine TEXT)", "INSERT INTO execution VALUES ('x')")
    for use in (lambda: catalog.executions().count(), catalog.upgrade):
        with pytest.raises(CatalogVersionError, match="another program"):
            use()
    with catalog._database._transaction(write=False) as connection:
        assert connection.exec_driver_sql("SELECT * FROM execution").all() == [("x",)]
        assert sa.inspect(connection).get_table_names() == ["execution"]


def test_a_failing_migration_leaves_nothing_behind(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE half (done TEXT)")
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(migrate, "apply_migrations", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            catalog.upgrade()
    assert catalog.check().state == "empty"
    with catalog._database._transaction(write=False) as connection:
        assert sa.inspect(connection).get_table_names() == []
    catalog.replace_execution(FULL)


def test_with_create_false_nothing_is_made(shared_url: str, tmp_path: Path) -> None:
    with Catalog(shared_url, create=False) as catalog:
        with pytest.raises(CatalogError, match="no catalog here yet"):
            catalog.executions().count()
        assert catalog.check().state == "empty"
    assert list(tmp_path.iterdir()) == []
    with Catalog(shared_url) as catalog:
        catalog.replace_execution(execution_of("a"))
    with Catalog(shared_url, create=False) as catalog:
        assert catalog.executions().count() == 1


def test_processes_that_set_up_one_database_at_once_all_succeed(shared_url: str) -> None:
    with ProcessPoolExecutor(4, FORKS) as pool:
        list(pool.map(time.sleep, [0.05] * 4))  # all have started
        start_at = time.time() + 0.2
        assert list(pool.map(create, [shared_url] * 4, [start_at] * 4)) == ["current"] * 4
    with Catalog(shared_url) as catalog:
        assert [row.fragment for row in catalog.executions()] == ["run/a"]


def test_a_sqlite_catalog_lets_readers_and_the_writer_at_it_together(sqlite_url: str, tmp_path: Path) -> None:
    with Catalog(sqlite_url) as catalog:
        catalog.replace_execution(FULL)
        with sqlite3.connect(tmp_path / "catalog.db") as other:
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.close()


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import emdstore.catalog", {"sqlalchemy"}),
        ("from emdstore.catalog import Catalog; Catalog('sqlite://')", {"alembic", "psycopg", "sqlalchemy.orm"}),
    ],
)
def test_importing_pulls_in_no_more_than_is_needed(statement: str, absent: set[str]) -> None:
    code = f"import sys; {statement}; sys.exit(', '.join({absent} & sys.modules.keys()) or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_of_the_catalog_names_every_table() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "catalog.md").read_text(encoding="utf-8")
    rows = [line for line in page.partition("## The tables")[2].splitlines() if line.startswith("| `")]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert told == set(metadata.tables)
