"""What is measured inside a process: ``python -m benchmarks.inside WHAT ARGUMENTS...``, which says JSON.

``seconds`` and ``cpu_seconds`` are those of the library's call alone, after the imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import costs, limits
from benchmarks.workloads import metric_bundle, series_list
from emdstore import Catalog, LocalArtifactStore, Workspace, ingest, open_store, replay, transfer
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import ExecutionResult

_FRAGMENT = "provider/diagnostic/group/000001"


class Clock:
    """What a call took, and what else is to be told of it."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        started, cpu_started = time.perf_counter(), _cpu_seconds()
        with self._statements():
            yield
        self.told["cpu_seconds"] = _cpu_seconds() - cpu_started
        self.told["seconds"] = time.perf_counter() - started

    @contextlib.contextmanager
    def _statements(self) -> Iterator[None]:
        """Count the statements of SQL, where there may be any; rows are inserted without being counted."""
        if "sqlalchemy" not in sys.modules:
            yield
            return
        from sqlalchemy import Engine, event

        def note(*_: object) -> None:
            self.told["statements"] += 1

        self.told["statements"] = 0
        event.listen(Engine, "before_cursor_execute", note)
        yield
        event.remove(Engine, "before_cursor_execute", note)


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it waited for."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def copy(clock: Clock, source: str, dest: str, *more: str) -> None:
    stores = open_store(source), open_store(dest)
    if any(place.startswith("s3://") for place in (source, dest)):
        import obstore  # noqa: F401 - an import is not what is measured here
    if "--again" in more:  # over what is held from the first time
        transfer(*stores).raise_for_failures()
    with clock.running():
        report = transfer(*stores, flush="--flush" in more)
    report.raise_for_failures()


def least(clock: Clock, source: str, dest: str) -> None:
    if any(place.startswith("s3://") for place in (source, dest)):
        import obstore  # noqa: F401
    with clock.running():
        limits.copy(source, dest)


# -- executions --------------------------------------------------------------------------------------------------------


def stage_executions(clock: Clock, sets: str, scratch: str, results: str, catalog: str) -> None:
    """Make executions that wait to be committed, one for each set below a folder."""
    fragments = {}
    with Workspace(scratch=LocalArtifactStore(scratch), results=open_store(results), catalog=catalog) as workspace:
        for output in sorted(Path(sets).rglob("out.log")):
            provider, diagnostic, group, _ = output.parent.relative_to(sets).parts
            execution = workspace.start_execution(provider=provider, diagnostic=diagnostic, group=group)
            with execution:
                shutil.copytree(output.parent, execution.output_directory, dirs_exist_ok=True)
            shutil.copy2(output, execution.output_directory)  # in place of what was logged meanwhile
            fragments[execution.fragment] = output.parent.relative_to(sets).as_posix()
    clock.told["fragments"] = fragments


def commit(clock: Clock, scratch: str, results: str, catalog: str) -> None:
    if results.startswith("s3://"):
        import obstore  # noqa: F401
    with Workspace(scratch=LocalArtifactStore(scratch), results=open_store(results), catalog=catalog) as workspace:
        with clock.running():
            report = workspace.commit_pending_executions()
        assert report.ok, report.errors
        clock.told["committed"] = sum(1 for _ in workspace.list_executions(status="uploaded"))


# -- ingest ------------------------------------------------------------------------------------------------------------


def publish_scalars(clock: Clock, folder: str, *shape: str) -> None:
    """Publish a set with a scalar for each combination of so many values of each dimension."""
    _publish(folder, metric_bundle(random.Random(1), *map(int, shape)), [])


def publish_series(clock: Clock, folder: str, count: str, points: str) -> None:
    """Publish a set with so many series of so many points."""
    _publish(folder, metric_bundle(random.Random(1), 1), series_list(random.Random(1), int(count), int(points)))


def _publish(folder: str, metric: object, series: object) -> None:
    scratch, results = Path(folder) / "scratch", Path(folder) / "results"
    scratch.mkdir(parents=True)
    (scratch / "out.log").write_text("done\n")
    (scratch / "diagnostic.json").write_text(json.dumps(metric))
    (scratch / "series.json").write_text(json.dumps(series))
    result = ExecutionResult(successful=True, metric_bundle_filename="diagnostic.json", series_filename="series.json")
    dest = LocalArtifactStore(results).scope(_FRAGMENT)
    publish_set(ExecutionRecord.at(_FRAGMENT), result, source=LocalArtifactStore(scratch), dest=dest)


def ingest_set(clock: Clock, folder: str, url: str = "") -> None:
    """Ingest a set into a new catalog, or into that of an empty database."""
    store, database = LocalArtifactStore(Path(folder) / "results"), Path(folder) / "catalog.db"
    with contextlib.closing(Catalog(url)) if url else new_catalog(database) as catalog:
        catalog.upgrade()
        with clock.running():
            done = ingest(store, _FRAGMENT, catalog)
    clock.told["rows"] = done.scalars + done.series


def insert_raw(clock: Clock, folder: str, table: str) -> None:
    """Insert the rows that `ingest_set` left in one table into the same table of a new database, with the driver."""
    with contextlib.closing(sqlite3.connect(Path(folder) / "catalog.db")) as old:
        rows = old.execute(f"SELECT * FROM {table}").fetchall()
    database = Path(folder) / "raw.db"
    with new_catalog(database):
        pass
    with contextlib.closing(sqlite3.connect(database)) as new:
        marks = ", ".join("?" * len(rows[0]))
        with clock.running(), new:
            new.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        clock.told["rows"] = new.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def insert_raw_into(clock: Clock, folder: str, table: str, url: str) -> None:
    """Insert the rows of one table into it again, in an empty database on PostgreSQL, with the driver."""
    import psycopg

    ingest_set(clock, folder, url)
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()  # type: ignore[call-overload]
        connection.execute(f"TRUNCATE {table}")  # type: ignore[call-overload]
        connection.commit()
        plain = [tuple(json.dumps(each) if isinstance(each, dict | list) else each for each in row) for row in rows]
        marks = ", ".join(["%s"] * len(rows[0]))
        with clock.running():
            connection.cursor().executemany(f"INSERT INTO {table} VALUES ({marks})", plain)  # type: ignore[arg-type]
            connection.commit()
    clock.told["rows"] = len(rows)


def publish_many(clock: Clock, folder: str, count: str) -> None:
    """Publish many small sets."""
    scratch, results = Path(folder) / "scratch", LocalArtifactStore(Path(folder) / "results")
    scratch.mkdir(parents=True)
    (scratch / "out.log").write_text("done\n")
    (scratch / "diagnostic.json").write_text(json.dumps(metric_bundle(random.Random(1), 2, 3)))
    first = f"provider/diagnostic-000/group/{0:06}"
    result = ExecutionResult(successful=True, metric_bundle_filename="diagnostic.json")
    publish_set(ExecutionRecord.at(first), result, source=LocalArtifactStore(scratch), dest=results.scope(first))
    for number in range(1, int(count)):
        fragment = f"provider/diagnostic-{number // 100:03}/group/{number:06}"
        for key in ("out.log", "diagnostic.json"):
            results.write_bytes(f"{fragment}/{key}", results.read_bytes(f"{first}/{key}"))
        record = results.read_bytes(f"{first}/execution.json").replace(first.encode(), fragment.encode())
        record = record.replace(b'"diagnostic-000"', b'"diagnostic-%03d"' % (number // 100))
        results.write_bytes(f"{fragment}/execution.json", record)


def replay_all(clock: Clock, folder: str) -> None:
    """Replay a store into a new catalog; tell when each tenth was done."""
    tenths: list[float] = []
    started = time.perf_counter()

    def note(_: object, done: int, total: int | None) -> None:
        if total and done % (total // 10) == 0:
            tenths.append(round(time.perf_counter() - started, 3))

    with new_catalog(Path(folder) / "catalog.db") as catalog:
        with clock.running():
            started = time.perf_counter()
            report = replay(LocalArtifactStore(Path(folder) / "results"), catalog, on_progress=note)
        assert report.ok, report.failures
        again = time.perf_counter()
        replay(LocalArtifactStore(Path(folder) / "results"), catalog)
    clock.told |= {"again_seconds": time.perf_counter() - again, "tenths": tenths, "rows": report.sets}


@contextlib.contextmanager
def new_catalog(database: Path) -> Iterator[Catalog]:
    """Give a catalog that is set up and empty."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    catalog = Catalog(os.fspath(database))
    catalog.upgrade()
    try:
        yield catalog
    finally:
        catalog.close()


# -- what each promise costs -------------------------------------------------------------------------------------------


def cost(clock: Clock, promise: str, source: str, dest: str) -> None:
    with clock.running():
        costs.copy_tree(Path(source), Path(dest), costs.PROMISES[promise])


_CALLS: dict[str, Callable[..., None]] = {
    "transfer": copy,
    "least": least,
    "stage-executions": stage_executions,
    "commit": commit,
    "publish-scalars": publish_scalars,
    "publish-series": publish_series,
    "publish-many": publish_many,
    "ingest": ingest_set,
    "insert-raw": insert_raw,
    "insert-raw-into": insert_raw_into,
    "replay": replay_all,
    "cost": cost,
}


def main(what: str, *arguments: str) -> None:
    clock = Clock()
    _CALLS[what](clock, *arguments)
    print(json.dumps(clock.told))


if __name__ == "__main__":
    call: Sequence[str] = sys.argv[1:]
    main(*call)
