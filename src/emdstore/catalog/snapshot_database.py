"""Asking a snapshot: DuckDB over its Parquet files, which are proved before they are read.

Queries are those of any catalog. Each table that one names becomes a view of the files that it may have rows in; each
file is read as a whole from the store, once, and has the digest that the snapshot's list names.
"""

from __future__ import annotations

import os
import re
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql import visitors

from emdstore.catalog import migrate
from emdstore.catalog.database import ROWS_AT_A_TIME, Database
from emdstore.catalog.schema import PARTS, SCHEMA_VERSION, UTCDateTime, diagnostic, execution, execution_group, metadata
from emdstore.catalog.snapshots import Part, Snapshot, SnapshotTable, find_snapshot, read_part
from emdstore.errors import CatalogVersionError, MissingExtraError, ReadOnlyCatalogError
from emdstore.keys import join_key
from emdstore.per_process import PerProcess
from emdstore.stores.identity import url_of
from emdstore.stores.place import place_of
from emdstore.stores.port import ArtifactStore, SupportsPath

_OF_EXECUTIONS = execution.join(execution_group).join(diagnostic)
_NAMES = re.compile(rf"\b({'|'.join(metadata.tables)})\b")
_AT_ONCE = 8
_ONLY = "emdstore_part"
_SETTINGS = {
    "autoinstall_known_extensions": False,  # nothing is ever downloaded
    "autoload_known_extensions": False,
}


class SnapshotDatabase(Database):
    """A snapshot as the database of a catalog, which can only be read.

    It stays with the snapshot that it found first, so that all answers are from the same instant. It pickles as its
    configuration, if the store does.

    Parameters
    ----------
    store
        See `emdstore.catalog.snapshots.find_snapshot`.
    """

    is_snapshot = True

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._found: tuple[Snapshot, str] | None = None
        super().__init__("sqlite://")  # what follows takes its place
        self._url = sa.URL.create("duckdb", database=":memory:")
        self._files = PerProcess(lambda: _Files(self._store))

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store, "_found": self._found}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_store"])  # type: ignore[misc]
        self._found = state["_found"]

    @property
    def safe_url(self) -> str:
        """Where the snapshot is."""
        return url_of(self._store) or repr(self._store)

    @property
    def found(self) -> Snapshot:
        """The snapshot."""
        return self._place[0]

    @property
    def _place(self) -> tuple[Snapshot, str]:
        if self._found is None:
            self._found = find_snapshot(self._store)
        return self._found

    def columns_of_dimensions(self, table: sa.Table) -> Mapping[str, sa.ColumnElement[str]]:
        """Return the column of each dimension of a table, by name."""
        dimensions = self.found.tables[table.name].dimensions
        return {
            name: sa.column(_dimension(number), sa.Text, _selectable=table) for number, name in enumerate(dimensions)
        }

    # -- reading -------------------------------------------------------------------------------------------------

    @contextmanager
    def snapshot(
        self, statement: sa.Select[Any], *questions: sa.Select[Any], at_a_time: int = ROWS_AT_A_TIME
    ) -> Iterator[tuple[list[Sequence[Sequence[Any]]], Iterator[Sequence[Any]]]]:
        """See `Database.snapshot`."""
        with self.reading() as connection:
            answers: list[Sequence[Sequence[Any]]] = [connection.execute(question).all() for question in questions]
            yield answers, self._rows(connection, statement)

    def fetch(self, statement: sa.Executable, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Return the rows of a small query."""
        limit = getattr(statement, "_limit", None)
        if limit is None or parameters or not self._table_of(statement):
            return super().fetch(statement, **parameters)
        with self.reading() as connection:
            return list(islice(self._rows(connection, statement), limit))

    def _rows(self, connection: sa.Connection, statement: Any) -> Iterator[Sequence[Any]]:
        """Yield rows in their usual order file by file, since the files have that order too; nothing has to be sorted
        as a whole.
        """
        name = self._table_of(statement)
        parts = self._needed(connection, statement, name, {}) if name else [None]
        for part in parts:
            only = {} if part is None else {_ONLY: (name, part)}
            yield from connection.execute(statement, execution_options=only)

    def _table_of(self, statement: Any) -> str:
        """Return the table that is in the order of its files, if a query has this order and reads it once; else ""."""
        order: Sequence[Any] = getattr(statement, "_order_by_clauses", ())
        if len(order) != 2 or order[0] is not execution.c.fragment or statement._offset is not None:
            return ""
        table: Any = getattr(order[1], "table", None)
        if table not in PARTS.values():
            return ""
        read = re.findall(rf"\b(?:FROM|JOIN) {table.name}\b", str(statement.compile(dialect=_DuckDB())))
        return str(table.name) if len(read) == 1 else ""

    # -- what differs from a database ----------------------------------------------------------------------------

    def refuse_to_write(self) -> None:
        """Refuse."""
        raise ReadOnlyCatalogError(
            f"the catalog {self.safe_url} is a snapshot, which can only be read: give a database (a SQLite file, or "
            "postgresql://…), and fill it by `emdstore replay` if there is none",
            store=self.safe_url,
        )

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Refuse."""
        self.refuse_to_write()
        yield  # type: ignore[misc]

    def check(self) -> migrate.CatalogStatus:
        """Return the version of the snapshot's schema."""
        version = self.found.schema
        state: migrate.SchemaState = (
            "current" if version == SCHEMA_VERSION else "behind" if version < SCHEMA_VERSION else "unknown"
        )
        return migrate.CatalogStatus(self.safe_url, version, SCHEMA_VERSION, state)

    def upgrade(self) -> migrate.CatalogStatus:
        """Refuse."""
        self.refuse_to_write()
        return self.check()

    def _refuse(self, state: migrate.SchemaState, version: str | None, *, unless: tuple[str, ...]) -> None:
        if state == "behind":
            raise CatalogVersionError(
                f"the snapshot {self.safe_url} has schema version {version}, and this emdstore works with "
                f"{SCHEMA_VERSION}: write a new one with `emdstore snapshot`",
                store=self.safe_url,
            )
        super()._refuse(state, version, unless=unless)

    def close(self) -> None:
        """Close the connections for good, and remove the files that were fetched."""
        super().close()
        self._files.get().close()

    def _new_engine(self) -> sa.Engine:
        dialect = _DuckDB()
        dialect.dbapi = _load_duckdb()
        pool = QueuePool(self._connect, max_overflow=-1, dialect=dialect, reset_on_return=None)
        engine = sa.Engine(pool, dialect, self._url)
        event.listen(engine, "before_execute", self._make_views)
        return engine

    def _connect(self) -> Any:
        # Each connection is a database of its own, so that views of one query are not in the way of another.
        spill = str(self._files.get().folder)
        return _load_duckdb().connect(":memory:", config={**_SETTINGS, "temp_directory": spill})

    # -- views ---------------------------------------------------------------------------------------------------

    def _make_views(
        self, connection: sa.Connection, statement: Any, _many: object, parameters: Any, options: Mapping[str, Any]
    ) -> None:
        views = connection.info.setdefault("views", {})
        only, part = options.get(_ONLY, ("", None))
        for name in sorted(set(_NAMES.findall(str(statement.compile(connection))))):
            table = self.found.tables[name]
            needed = [part] if name == only else self._needed(connection, statement, name, parameters)
            paths = self._files.get().fetch(self._place[1], needed)
            if views.get(name) != paths:
                connection.exec_driver_sql(_view(metadata.tables[name], table, paths))
                views[name] = paths

    def _needed(self, connection: sa.Connection, statement: Any, name: str, parameters: Any) -> Sequence[Part]:
        """Return the files of a table that a statement may find rows in."""
        parts, table = self.found.tables[name].parts, metadata.tables[name]
        if len(parts) == 1 or table not in PARTS.values() or not isinstance(statement, sa.Select):
            return parts
        told = [each for each in map(_about_execution(table), statement._where_criteria) if each is not None]
        asking = sa.select(execution.c.fragment).select_from(_OF_EXECUTIONS).where(*told).order_by(execution.c.fragment)
        fragments = [fragment for (fragment,) in connection.execute(asking, parameters or {})]

        def may_have(part: Part) -> bool:
            place = bisect_left(fragments, part.first or "")
            return place < len(fragments) and fragments[place] <= (part.last or "")

        return [part for part in parts if may_have(part)] or parts[:1]


def _about_execution(table: sa.Table) -> Any:
    """Return a function that says what a condition tells of the execution alone; None if it is about more."""
    own = {execution, execution_group, diagnostic}
    of_id = {table.c.execution_id}

    def told(condition: Any) -> Any:
        if set(condition._from_objects) <= own:
            return condition
        columns = {each for each in visitors.iterate(condition) if isinstance(each, sa.ColumnClause)}
        if columns == of_id:
            swap: Any = lambda each, **_: execution.c.id if each is table.c.execution_id else None  # noqa: E731
            return visitors.replacement_traverse(condition, {}, swap)
        return None

    return told


def _dimension(number: int) -> str:
    return f"dimension_{number}"


def _view(table: sa.Table, held: SnapshotTable, paths: Sequence[str]) -> str:
    # By their places, because to DuckDB names that differ in case are the same.
    at = {column: f"c{number}" for number, column in enumerate(held.columns)}
    columns = []
    for column in table.c:
        if column.name == "dimensions":
            entries = [
                f"{_text(msgspec.json.encode(name).decode() + ':')} || to_json({at[held_in]})::VARCHAR"
                for name, held_in in held.dimensions.items()
            ]
            source = f"'{{' || concat_ws(',', {', '.join(entries) or 'NULL'}) || '}}'"
        else:
            source = at[column.name if column.name in at else f"{column.name}_json"]
            if isinstance(column.type, UTCDateTime):
                source = f"({source} AT TIME ZONE 'UTC')"
        columns.append(f'{source} AS "{column.name}"')
    columns += [f"{at[each]} AS {_dimension(number)}" for number, each in enumerate(held.dimensions.values())]
    files = f"read_parquet([{', '.join(map(_text, paths))}], hive_partitioning = false) AS t({', '.join(at.values())})"
    return f'CREATE OR REPLACE VIEW "{table.name}" AS SELECT {", ".join(columns)} FROM {files}'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


# -- the files -------------------------------------------------------------------------------------------------------


class _Files:
    """The files of a snapshot that one process has proved, as paths for DuckDB."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._proved: dict[str, tuple[str, object]] = {}
        self._turn = threading.Lock()
        self._temporary = TemporaryDirectory(prefix="emdstore-snapshot-", ignore_cleanup_errors=True)

    @property
    def folder(self) -> Path:
        return Path(self._temporary.name)

    def fetch(self, folder: str, parts: Iterable[Part]) -> list[str]:
        """Return where some files are on this machine, after proving those that were not proved yet."""
        parts = list(parts)
        with self._turn:
            wanted = [part for part in parts if not self._is_proved(part)]
            if len(wanted) > 1 and place_of(self._store).remote:
                with ThreadPoolExecutor(_AT_ONCE) as threads:
                    found = list(threads.map(lambda part: self._prove(folder, part), wanted))
            else:
                found = [self._prove(folder, part) for part in wanted]
            self._proved |= dict(found)
            return [self._proved[part.sha256][0] for part in parts]

    def _prove(self, folder: str, part: Part) -> tuple[str, tuple[str, object]]:
        path = self.folder / part.name
        where = self._store.local_path(join_key(folder, part.name)) if isinstance(self._store, SupportsPath) else None
        before = _state(where)
        data = read_part(self._store, folder, part)
        if where is None:
            path.write_bytes(data)
        elif not path.is_symlink():
            path.symlink_to(where)  # whatever its path is, this one means nothing to DuckDB
        return part.sha256, (str(path), before)

    def _is_proved(self, part: Part) -> bool:
        path, before = self._proved.get(part.sha256, (None, None))
        return path is not None and (before is None or before == _state(path))

    def close(self) -> None:
        self._temporary.cleanup()


def _state(path: str | Path | None) -> object:
    """Return what changes when a file does; None for no file."""
    try:
        told = None if path is None else os.stat(path)
    except OSError:
        return "gone"
    return told and (told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns)


# -- DuckDB for SQLAlchemy -------------------------------------------------------------------------------------------


def _load_duckdb() -> Any:
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise MissingExtraError.of("a catalog from a snapshot", "snapshot") from error
    return duckdb


class _DuckDB(DefaultDialect):
    """As much of DuckDB's SQL as queries need, which is what all databases share."""

    name = "duckdb"
    default_paramstyle = "qmark"
    supports_native_boolean = True
    supports_statement_cache = True

    def __init__(self) -> None:
        super().__init__()
        self._json_serializer, self._json_deserializer = None, msgspec.json.decode

    def do_begin(self, dbapi_connection: Any) -> None:
        """Nothing: what is read never changes."""

    def do_commit(self, dbapi_connection: Any) -> None:
        """Nothing."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Nothing."""
