"""How cost grows with the number of artifacts: seconds and peak memory from ten thousand keys to a million.

Each operation runs in a process of its own, ``python -m benchmarks.scale WHAT STORE ...``, on a results store of small
published sets with `KEYS_PER_SET` keys each.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.contenders import environment
from benchmarks.inside import Clock, new_catalog
from benchmarks.measure import Summary, run
from benchmarks.places import Objects
from benchmarks.servers import MissingServerError, build_server, run_server
from benchmarks.suites import Bench, Row
from benchmarks.workloads import metric_bundle
from emdstore import (
    Catalog,
    InMemoryArtifactStore,
    LocalArtifactStore,
    open_store,
    plan_transfer,
    replay,
    scoped,
    transfer,
    verify,
)
from emdstore.emds import OutputWriter
from emdstore.sets.publish import publish_set
from emdstore.sets.record import ExecutionRecord
from emdstore.sets.result import ExecutionResult
from emdstore.stores import ArtifactStore

KEYS_PER_SET = 20
_PLOTS = KEYS_PER_SET - 4  # and the log, the metric and the output bundle, the record
_WRITERS = 16
_FIRST = "provider-0/diagnostic-0/group-0/0"

OPERATIONS = ("iter_keys", "plan_transfer", "transfer --dry-run", "replay, all new", "replay, unchanged", "verify")


def measure(bench: Bench) -> list[Row]:
    """Measure every operation on stores of ten times as many keys, and again."""
    sizes = {"local": (10**4, 10**5, 10**6), "S3": (10**4, 10**5)}
    rows: list[Row] = []
    for kind, counts in sizes.items():
        for count in counts:
            try:
                rows += measure_one(bench, kind, count // (10 if bench.quick else 1))
            except MissingServerError as error:
                bench.report(f"skipped: scale {kind}: {error}")
    return rows


def measure_one(bench: Bench, kind: str, keys: int) -> list[Row]:
    """Measure every operation on one store of so many keys."""
    rows = []
    with (
        tempfile.TemporaryDirectory(dir=bench.disks.work, prefix="scale-") as work,
        _place(bench, kind, work) as (place, endpoint),
    ):
        inside, env = [sys.executable, "-m", "benchmarks.scale"], environment(endpoint, bench.cache)
        run([*inside, "fill", place, str(keys)], env)
        for what in OPERATIONS:
            done = run([*inside, what, place, os.path.join(work, "catalog.db")], env)
            rows.append(Row(f"{keys:,} keys", kind, what, Summary([done], keys)))
            bench.report(
                f"{keys:>9,} keys {kind:6} {what:20} {done.seconds:8.2f} s {done.seconds / keys * 1e6:7.1f} us/key "
                f"{done.peak_mb:5.0f} MB {dict(done.told)}"
            )
    return rows


@contextlib.contextmanager
def _place(bench: Bench, kind: str, work: str) -> Iterator[tuple[str, str | None]]:
    if kind == "local":
        yield os.path.join(work, "results"), None
        return
    with run_server([os.fspath(build_server(bench.cache))]) as endpoint:
        Objects(endpoint, "results", "").make_bucket()
        yield "s3://results/archive", endpoint


# -- inside a process --------------------------------------------------------------------------------------------------


def fill(clock: Clock, place: str, keys: str) -> None:
    """Write published sets: one by the library, and the others like it."""
    count = int(keys) // KEYS_PER_SET
    model = InMemoryArtifactStore()
    with tempfile.TemporaryDirectory() as folder:
        run_once(Path(folder))
        result = ExecutionResult(
            successful=True, metric_bundle_filename="diagnostic.json", output_bundle_filename="output.json"
        )
        publish_set(ExecutionRecord.at(_FIRST), result, source=LocalArtifactStore(folder), dest=scoped(model, _FIRST))
    files = {key.removeprefix(_FIRST + "/"): model.read_bytes(key) for key in model.iter_keys()}
    assert len(files) == KEYS_PER_SET, sorted(files)
    if "://" not in place:
        for number in range(count):
            _write_files(Path(place) / fragment_of(number), renamed(files, number))
        return
    store = open_store(place)
    store.write_bytes("warm", b"")
    with ThreadPoolExecutor(_WRITERS) as pool:
        free = threading.Semaphore(2 * _WRITERS)
        for number in range(count):
            free.acquire()
            pool.submit(_write_objects, store, number, renamed(files, number)).add_done_callback(
                lambda _: free.release()
            )
    delete: Callable[[str], None] = store.delete  # type: ignore[attr-defined]
    delete("warm")
    clock.told["sets"] = count


def run_once(folder: Path) -> None:
    """Leave what a small run leaves."""
    (folder / "out.log").write_text("done\n")
    writer = OutputWriter(folder)
    for number in range(_PLOTS):
        (folder / f"plot-{number:02}.png").write_bytes(random.Random(number).randbytes(100))
        writer.add_plot(f"plot-{number:02}.png", long_name=f"Plot {number}")
    writer.write()
    (folder / "diagnostic.json").write_text(json.dumps(metric_bundle(random.Random(1), 2, 3)))
    (folder / "series.json").unlink(missing_ok=True)


def fragment_of(number: int) -> str:
    """Spread executions over providers, diagnostics and groups as an archive does."""
    return f"provider-{number // 5000}/diagnostic-{number // 500}/group-{number // 10}/{number}"


def renamed(files: dict[str, bytes], number: int) -> dict[str, bytes]:
    """Return the files of a set as another execution's."""
    fragment = fragment_of(number)
    provider, diagnostic, group, _ = fragment.split("/")
    record = files["execution.json"].replace(_FIRST.encode(), fragment.encode())
    for old, new in (("provider-0", provider), ("diagnostic-0", diagnostic), ("group-0", group)):
        record = record.replace(f'"{old}"'.encode(), f'"{new}"'.encode())
    return files | {"execution.json": record}


def _write_files(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _write_objects(store: ArtifactStore, number: int, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        store.write_bytes(f"{fragment_of(number)}/{name}", data)


def operate(clock: Clock, what: str, place: str, database: str) -> None:
    """Do one operation on the whole store."""
    store = open_store(place)
    if "://" in place:
        import obstore  # noqa: F401 - an import is not what is measured here
    if what == "replay, all new":
        with new_catalog(Path(database)):
            pass
    with Catalog(database) as catalog, clock.running():
        clock.told["found"] = {
            "iter_keys": lambda: sum(1 for _ in store.iter_keys()),
            "plan_transfer": lambda: sum(1 for _ in plan_transfer(store, open_store(place))),
            "transfer --dry-run": lambda: len(transfer(store, InMemoryArtifactStore(), dry_run=True).outcomes),
            "replay, all new": lambda: replay(store, catalog).counts["ingested"],
            "replay, unchanged": lambda: replay(store, catalog).counts["unchanged"],
            "verify": lambda: verify(store).artifacts,
        }[what]()


def main(what: str, *arguments: str) -> None:
    """Run one operation and say what it took, as JSON."""
    clock = Clock()
    if what == "fill":
        fill(clock, *arguments)
    else:
        operate(clock, what, *arguments)
    print(json.dumps(clock.told))


if __name__ == "__main__":
    call: Sequence[str] = sys.argv[1:]
    main(*call)
