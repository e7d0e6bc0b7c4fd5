"""A Climate-REF of one's own: its configuration, its database, and executions that have just run."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import sqlalchemy as sa
from climate_ref.config import Config
from climate_ref.database import Database
from climate_ref.executor.result_handling import handle_execution_result as handle_as_theirs
from climate_ref.models import Diagnostic, Execution, ExecutionGroup, Provider
from climate_ref.models.dataset import CMIP6Dataset
from climate_ref_core.datasets import ExecutionDatasetCollection
from climate_ref_core.diagnostics import ExecutionDefinition, ExecutionResult
from climate_ref_example import provider as example
from sqlalchemy.event import listen

from emdstore.integrations.climate_ref import handle_execution_result as handle_as_ours

Handler = Callable[..., None]
HANDLERS: Mapping[str, Handler] = {"theirs": handle_as_theirs, "ours": handle_as_ours}

_OUR_RECORD = "execution.json"
_BOOKKEEPING = {"id", "execution_id", "index_id", "created_at", "updated_at"}


@attrs.frozen
class Framework:
    """A Climate-REF.

    Attributes
    ----------
    config
        Where its scratch and results are.
    database
        Migrated, with the columns of the vocabulary that it comes with.
    """

    config: Config
    database: Database

    @property
    def scratch(self) -> Path:
        return Path(self.config.paths.scratch)

    @property
    def results(self) -> Path:
        return Path(self.config.paths.results)

    @property
    def _file(self) -> str:
        return str(self.config.db.database_url).removeprefix("sqlite:///")

    def solved(self, fragment: str, *, dirty: bool = True) -> int:
        """Put an execution into the database as their solver does before it runs one; return its id."""
        provider_slug, diagnostic_slug, _ = fragment.split("/", 2)
        session, get_or_create = self.database.session, self.database.get_or_create
        with session.begin():
            about = {"name": provider_slug, "version": "1"}
            provider, _ = get_or_create(Provider, slug=provider_slug, defaults=about)
            session.flush()
            named = {"name": diagnostic_slug}
            diagnostic, _ = get_or_create(Diagnostic, slug=diagnostic_slug, provider_id=provider.id, defaults=named)
            group = ExecutionGroup(diagnostic=diagnostic, key=fragment, dirty=dirty, selectors={})
            execution = Execution(execution_group=group, dataset_hash="0" * 40, output_fragment=fragment)
            session.add(execution)
            session.flush()
            return int(execution.id)

    def handle(self, handler: str | Handler, execution_id: int, result: ExecutionResult, **options: Any) -> None:
        """Let someone handle a result in one transaction, as their executors do."""
        call = HANDLERS[handler] if isinstance(handler, str) else handler
        with self.database.session.begin():
            execution = self.database.session.get(Execution, execution_id)
            call(self.config, self.database, execution, result, **options)

    def result(self, fragment: str, **said: Any) -> ExecutionResult:
        """Return what a diagnostic says that ran in a fragment: that it has written each bundle which is there."""
        directory = self.scratch / fragment
        definition = ExecutionDefinition(
            diagnostic=next(iter(example.diagnostics())),
            key="key",
            datasets=ExecutionDatasetCollection({}),
            root_directory=self.scratch,
            output_directory=directory,
        )
        usual = {"metric": "diagnostic.json", "output": "output.json", "series": "series.json"}
        there = {role: Path(name) if (directory / name).exists() else None for role, name in usual.items()}
        wrote = {
            "metric_bundle_filename": there["metric"],
            "output_bundle_filename": there["output"],
            "series_filename": there["series"],
        }
        return ExecutionResult(definition=definition, **{"successful": True, **wrote, **said})

    def files(self) -> dict[str, bytes]:
        """Return the results tree, without the records, which only ours have."""
        paths = (path for path in self.results.rglob("*") if path.is_file() and path.name != _OUR_RECORD)
        return {path.relative_to(self.results).as_posix(): path.read_bytes() for path in paths}

    def columns(self, table: str = "metric_value") -> set[str]:
        """Return the columns that a metric value, or a row of another table, has."""
        with closing(sqlite3.connect(self._file)) as database:
            return {name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")}

    def rows(self, execution_id: int) -> Rows:
        """Return what the database file says of an execution, read past their models and ours."""
        with closing(sqlite3.connect(self._file)) as database:
            database.row_factory = sqlite3.Row

            def select(what: str) -> list[dict[str, Any]]:
                found = database.execute(what, (execution_id,)).fetchall()
                return [_plain(database, dict(row)) for row in found]

            values = select("SELECT * FROM metric_value WHERE execution_id = ? ORDER BY id")
            (execution,) = select("SELECT * FROM execution WHERE id = ?")
            (group,) = select(
                "SELECT dirty FROM execution_group WHERE id = (SELECT execution_group_id FROM execution WHERE id = ?)"
            )
            return Rows(
                scalars=[row for row in values if row["type"] == "SCALAR"],
                series=[row for row in values if row["type"] == "SERIES"],
                outputs=select("SELECT * FROM execution_output WHERE execution_id = ? ORDER BY id"),
                successful=bool(execution["successful"]) if "successful" in execution else None,
                path=execution.get("path"),
                failure_reason=execution.get("failure_reason"),
                dirty=bool(group["dirty"]),
            )


@attrs.frozen
class Rows:
    """What a database says of one execution: for each row its columns, without ids and times."""

    scalars: list[dict[str, Any]]
    series: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    successful: bool | None
    path: str | None
    failure_reason: str | None
    dirty: bool

    @property
    def counts(self) -> tuple[int, int, int]:
        return len(self.scalars), len(self.series), len(self.outputs)


def _plain(database: sqlite3.Connection, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as values that can be compared: JSON read, shared axes looked up, what is NULL left out."""
    if row.get("index_id") is not None:
        name, values = database.execute(
            'SELECT name, "values" FROM index_axis WHERE id = ?', (row["index_id"],)
        ).fetchone()
        row |= {"index_name": name, "index": values}
    for column in ("attributes", "values", "index"):
        if row.get(column) is not None:
            row[column] = _without_nan(json.loads(row[column]))
    return {column: value for column, value in row.items() if column not in _BOOKKEEPING and value not in (None, {})}


def _without_nan(value: Any) -> Any:
    """Return a JSON value with null for the bare NaN that Python writes: both say that there is none."""
    if isinstance(value, list):
        return [None if isinstance(each, float) and math.isnan(each) else each for each in value]
    return value


def make_template(folder: Path) -> Path:
    """Make an empty database with their migrations, to be copied: running them takes seconds."""
    with _configured(folder, folder / "results") as config:
        config.db.database_url = f"sqlite:///{folder / 'template.db'}"
        Database.from_config(config, run_migrations=True).close()
    return folder / "template.db"


@contextmanager
def framework(
    template: Path, folder: Path, *, name: str = "ref", vocabulary: Path | None = None
) -> Iterator[Framework]:
    """Give a framework, with its own vocabulary or another; those of one folder share their scratch, nothing else."""
    with _configured(folder, folder / f"{name}-results") as config:
        config.db.database_url = f"sqlite:///{shutil.copy(template, folder / f'{name}.db')}"
        if vocabulary is not None:
            config.paths.dimensions_cv = vocabulary
        database = Database.from_config(config, run_migrations=False)
        # No power is cut here, and the disk may be busy.
        listen(database.session.get_bind(), "connect", lambda opened, _: opened.execute("PRAGMA synchronous = OFF"))
        try:
            yield Framework(config, database)
        finally:
            database.close()


@contextmanager
def _configured(folder: Path, results: Path) -> Iterator[Config]:
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REF_CONFIGURATION", str(folder))
        config = Config.default()
    config.paths.results = results
    yield config


def dataset_of(slug: str) -> CMIP6Dataset:
    """Return a dataset of their catalogue, with what no version lets be missing."""
    given: dict[str, Any] = {}
    for column in sa.inspect(CMIP6Dataset).columns:
        if column.name in ("id", "dataset_type") or column.nullable or column.default or column.server_default:
            continue
        kind = column.type.python_type
        given[column.key] = slug if column.name == "slug" else kind() if kind in (int, float, bool) else "x"
    return CMIP6Dataset(**given)
