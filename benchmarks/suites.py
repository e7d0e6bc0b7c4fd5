"""The runs: peers and emdstore one after the other, again and again, each time to a fresh place, each copy checked."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from tests.servers.sshd import SSHServer

from benchmarks import goals, over_ssh, workloads
from benchmarks.contenders import Contender, emdstore, environment, least
from benchmarks.costs import PROMISES
from benchmarks.disks import Disks
from benchmarks.measure import Run, RunFailedError, Summary, run
from benchmarks.places import DifferingBytesError, Folder, Manifest, Objects, Place, check
from benchmarks.servers import LOOPBACK, REMOTE, build_server, run_server
from benchmarks.workloads import Workload

ROUTES = ("local-local", "local-s3", "s3-local", "s3-s3")

_INSIDE = (sys.executable, "-m", "benchmarks.inside")
_BESIDE_REF = (sys.executable, "-m", "benchmarks.climate_ref")
_GIB = 1024**3


@attrs.frozen
class Row:
    """What one contender took for one workload on one route."""

    workload: str
    route: str
    contender: str
    summary: Summary


@attrs.frozen
class Bench:
    """What the suites share.

    Attributes
    ----------
    cache
        Where workloads, peers and the server are kept between runs.
    disks
        Where copies go.
    repeats
        How often everybody runs, after a first time that does not count.
    quick
        Whether with small workloads.
    peers
        The tools that are here.
    report
        Told what happens.
    """

    cache: Path
    disks: Disks
    repeats: int
    quick: bool
    peers: Sequence[Contender]
    report: Callable[[str], None]

    def workload(self, name: str) -> Workload:
        return workloads.make(name, self.cache, quick=self.quick)

    # -- copying -------------------------------------------------------------------------------------------------

    def copy(self, name: str, route: str, *, server: Sequence[str] = LOOPBACK, label: str = "") -> list[Row]:
        """Copy a workload along a route, everybody in turn."""
        workload = self.workload(name)
        contenders = [*self.peers, emdstore(), emdstore(inside=True)]
        if route == "local-local":
            contenders += [emdstore(flush=True), emdstore(flush=True, inside=True)]
        if server is LOOPBACK:
            contenders += least()  # parts of an object at once, which a distant server needs, it does not know
        if name != "W1" or server is REMOTE:
            contenders = [each for each in contenders if each.name != goals.S3FS]  # minutes that tell nothing new
        with self._server(route, server) as endpoint:
            source = self._source(workload, route, endpoint)
            env = environment(endpoint, self.cache)

            def once(contender: Contender) -> Run:
                with self._dest(workload, route, endpoint) as dest:
                    done = run(contender.copy(source, dest) or (), env)
                    check(dest, workload.manifest)
                    return done

            somewhere = Folder(Path("/")) if route.endswith("local") else Objects(endpoint, "dest", "fresh")
            calls = {each.name: _call(once, each) for each in contenders if each.copy(source, somewhere)}
            return self.in_turn(name + label, route, calls, workload)

    def again(self, name: str, route: str) -> list[Row]:
        """Copy what was copied already, everybody in turn."""
        workload = self.workload(name)
        contenders = [*self.peers, emdstore(), emdstore(inside=True)]
        with contextlib.ExitStack() as stack:
            endpoint = stack.enter_context(self._server(route, LOOPBACK))
            source, env = self._source(workload, route, endpoint), environment(endpoint, self.cache)
            root = stack.enter_context(self.disks.fresh(len(contenders) * workload.bytes))
            calls: dict[str, Callable[[], Run]] = {}
            for number, contender in enumerate(contenders):
                dest = Folder(root / str(number)) if route.endswith("local") else Objects(endpoint, "dest", str(number))
                first, second = contender.copy(source, dest), (contender.again or contender.copy)(source, dest)
                if first is not None and second is not None:
                    run(first, env)
                    check(dest, workload.manifest)
                    calls[contender.name] = _call(lambda command: run(command, env), second)
            return self.in_turn(f"{name} again", route, calls, workload)

    def commit(
        self, route: str, *, server: Sequence[str] = LOOPBACK, far: SSHServer | None = None, label: str = ""
    ) -> list[Row]:
        """Commit the executions of W3: files, records and rows."""
        workload = self.workload("W3")
        with (
            self._server(route, server) as endpoint,
            tempfile.TemporaryDirectory(dir=self.disks.work, prefix="commit-") as staged,
        ):
            env = environment(endpoint, self.cache) | ({} if far is None else over_ssh.access(far))
            scratch, template = (os.path.join(staged, name) for name in ("scratch", "template.db"))
            with self._dest(workload, route, endpoint, far) as dest:
                told = run([*_INSIDE, "stage-executions", workload.folder.url, scratch, dest.url, template], env).told
            expected = {
                f"{fragment}/{key.removeprefix(folder + '/')}": each
                for fragment, folder in told["fragments"].items()
                for key, each in workload.manifest.items()
                if key.startswith(folder + "/")
            }

            def once() -> Run:
                with self._dest(workload, route, endpoint, far) as dest, self._beside(dest) as folder:
                    catalog = os.fspath(shutil.copy(template, folder))
                    done = run([*_INSIDE, "commit", scratch, dest.url, catalog], env)
                    _check_published(dest, expected, len(told["fragments"]))
                if done.told["committed"] != len(told["fragments"]):
                    raise DifferingBytesError(f"the catalog holds {done.told['committed']} executions as uploaded")
                return done

            # The peers' time for the files alone, in the same turns.
            peers = [*self.peers, emdstore(inside=True)] if far is None else over_ssh.peers(far, self.report)
            wanted = {
                "local-local": {goals.RSYNC, goals.EMDSTORE + goals.LIBRARY},
                "local-s3": {goals.S5CMD, goals.RCLONE, goals.EMDSTORE + goals.LIBRARY},
                "local-ssh": {goals.SSH_RSYNC},
            }[route]
            source = workload.folder

            def peer(contender: Contender) -> Run:
                with self._dest(workload, route, endpoint, far) as dest:
                    return run(contender.copy(source, dest) or (), env)

            calls = {each.name: _call(peer, each) for each in peers if each.name in wanted}
            calls[goals.COMMIT + goals.LIBRARY] = once
            return self.in_turn(f"W3{label}", f"{route} commit", calls, workload)

    # -- the catalog ---------------------------------------------------------------------------------------------

    def ingest(self) -> list[Row]:
        """Ingest many scalars, many series, many executions; the driver's own insert of the same rows beside it."""
        rows = []
        env = environment(None, self.cache)
        less = 10 if self.quick else 1
        shapes = {"100,000 scalars": (10, 20, 50 // less, 10), "10,000 scalars": (10, 20, 5, 10)}
        for name, shape in shapes.items():
            rows += self._ingest(name, ["publish-scalars", *map(str, shape)], "scalar_value", env)
        rows += self._ingest_into_postgresql(
            "100,000 scalars", ["publish-scalars", *map(str, shapes["100,000 scalars"])], env
        )
        rows += self._ingest("2,000 series of 200", ["publish-series", str(2000 // less), "200"], "series_value", env)
        with self._folder() as folder:
            count = 10_000 // less
            run([*_INSIDE, "publish-many", folder, str(count)], env)
            calls = {"emdstore replay": lambda: run([*_INSIDE, "replay", folder], env)}
            rows += self.in_turn(f"{count:,} small executions", "replay", calls, count)
        return rows

    def _ingest_into_postgresql(self, name: str, publish: list[str], env: Mapping[str, str]) -> list[Row]:
        with self._folder() as folder, contextlib.ExitStack() as stack:
            run([*_INSIDE, publish[0], folder, *publish[1:]], env)
            try:
                from tests.servers.postgres import run_postgres

                server = stack.enter_context(run_postgres())
            except (ImportError, RuntimeError) as error:
                self.report(f"skipped: {name} on PostgreSQL: {error}")
                return []

            def once(*what: str) -> Run:
                with server.new_database() as url:
                    return run([*_INSIDE, *what, url], env)

            calls = {
                "emdstore ingest": lambda: once("ingest", folder),
                "raw executemany": lambda: once("insert-raw-into", folder, "scalar_value"),
            }
            return self.in_turn(f"{name}, PostgreSQL", "ingest", calls, once("ingest", folder).told["rows"])

    def _ingest(self, name: str, publish: list[str], table: str, env: Mapping[str, str]) -> list[Row]:
        with self._folder() as folder:
            run([*_INSIDE, publish[0], folder, *publish[1:]], env)
            ingested = run([*_INSIDE, "ingest", folder], env).told["rows"]
            calls = {
                "emdstore ingest": lambda: run([*_INSIDE, "ingest", folder], env),
                "raw executemany": lambda: run([*_INSIDE, "insert-raw", folder, table], env),
            }
            return self.in_turn(name, "ingest", calls, ingested)

    def climate_ref(self) -> list[Row]:
        """Ingest into Climate-REF's database, by their handler and by ours, and into a catalog; and handle it all."""
        if importlib.util.find_spec("climate_ref") is None:
            self.report("skipped: climate-ref: it is not installed here: pip install climate-ref")
            return []
        rows = []
        env = environment(None, self.cache)
        less = 10 if self.quick else 1
        prepared = {
            "100,000 scalars": ["prepare-scalars", "10", "20", str(50 // less), "10"],
            "2,000 series of 200": ["prepare-series", str(2000 // less), "200"],
        }
        for name, (prepare, *shape) in prepared.items():
            with self._folder() as folder:
                run([*_BESIDE_REF, prepare, folder, *shape], env)
                ways = {
                    "ingest": {
                        goals.THEIRS: "ingest-as-theirs",
                        goals.INTO_THEIRS: "replay-as-ours",
                        goals.INTO_OURS: "ingest-into-catalog",
                    },
                    "handle": {goals.THEIRS: "handle-as-theirs", goals.INTO_THEIRS: "handle-as-ours"},
                }
                for what, by_name in ways.items():
                    calls = {
                        each: _call(lambda c: run(c, env), [*_BESIDE_REF, way, folder]) for each, way in by_name.items()
                    }
                    counts = {each: call().told["rows"] for each, call in calls.items()}
                    if len(set(counts.values())) != 1:
                        raise RunFailedError(f"{name}, {what}: not the same number of rows: {counts}")
                    rows += self.in_turn(name, f"climate-ref {what}", calls, counts[goals.THEIRS])
        return rows

    @contextlib.contextmanager
    def _folder(self) -> Iterator[str]:
        with self.disks.fresh(2 * _GIB) as root:
            folder = root / "ingest"
            folder.mkdir()
            yield os.fspath(folder)

    # -- fixed costs, and memory -----------------------------------------------------------------------------------

    def startup(self) -> list[Row]:
        """Start the command line, which every script pays for."""
        env = environment(None, self.cache)
        start = [sys.executable, "-m", "emdstore"]
        calls = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import emdstore'": [sys.executable, "-c", "import emdstore"],
            "emdstore --version": [*start, "--version"],
            "emdstore --help": [*start, "--help"],
        }
        return self.in_turn("start", "-", {name: _call(lambda c: run(c, env), each) for name, each in calls.items()}, 0)

    def memory(self) -> list[Row]:
        """Copy one file of 10 GiB."""
        size = _GIB if self.quick else 10 * _GIB
        rows = []
        with tempfile.TemporaryDirectory(dir=self.disks.work, prefix="large-") as work:
            source = Folder(Path(work) / "source")
            source.path.mkdir()
            with (source.path / "large.nc").open("wb") as file:
                file.truncate(size)  # sparse: it takes no room, and is read as zeros
            workload = Workload("10 GiB", source, source.manifest())
            for route in ("local-local", "local-s3", "s3-local"):
                if route != "local-local" and _available_memory() < 1.4 * size:
                    self.report(f"skipped: memory {route}: the server keeps objects in memory, and there is too little")
                    continue
                with self._server(route, LOOPBACK) as endpoint:
                    start = self._source(workload, route, endpoint)
                    end = Folder(Path(work) / "dest") if route.endswith("local") else Objects(endpoint, "dest", "fresh")
                    done = run(emdstore().copy(start, end) or (), environment(endpoint, self.cache))
                    check(end, workload.manifest)
                    end.clear()
                    rows.append(Row(workload.name, route, "emdstore", Summary([done], 1)))
        return rows

    def costs(self) -> list[Row]:
        """Add one promise after the other to a plain copy loop."""
        env = environment(None, self.cache)
        rows = []
        for name in ("W1", "W2"):
            workload = self.workload(name)

            def once(promise: str, workload: Workload = workload) -> Run:
                with self.disks.fresh(workload.bytes) as root:
                    dest = Folder(root / "dest")
                    done = run([*_INSIDE, "cost", promise, workload.folder.url, dest.url], env)
                    check(dest, workload.manifest)
                    return done

            rows += self.in_turn(name, "costs", {each: _call(once, each) for each in PROMISES}, workload)
        return rows

    # -- in turn -------------------------------------------------------------------------------------------------

    def in_turn(self, name: str, route: str, calls: Mapping[str, Callable[[], Run]], of: Workload | int) -> list[Row]:
        """Run everybody once to warm up, and then in turn; each time somebody else begins.

        A peer that cannot do it at all is reported and left out.
        """
        runs: dict[str, list[Run]] = {}
        for each, call in calls.items():
            try:
                call()
            except RunFailedError as error:
                if each.startswith("emdstore"):
                    raise
                self.report(f"skipped: {name} {route} {each}: {str(error)[-300:]}")
            else:
                runs[each] = []
        order = list(runs)
        for _ in range(self.repeats):
            for each in order:
                runs[each].append(calls[each]())
            order = [*order[1:], order[0]]
        files = of if isinstance(of, int) else len(of.manifest)
        rows = [Row(name, route, each, Summary(done, files)) for each, done in runs.items()]
        for row in rows:
            self.report(
                f"{name:24} {route:20} {row.contender:46} {row.summary.median:8.3f} s "
                f"({row.summary.least:.3f}-{row.summary.most:.3f}) cpu {row.summary.cpu_seconds:.2f} s "
                f"{row.summary.peak_mb:.0f} MB"
            )
        return rows

    @contextlib.contextmanager
    def _server(self, route: str, options: Sequence[str]) -> Iterator[str]:
        if "s3" not in route:
            yield ""
            return
        with run_server([os.fspath(build_server(self.cache)), *options]) as endpoint:
            for bucket in ("source", "dest"):
                Objects(endpoint, bucket, "").make_bucket()
            yield endpoint

    def _source(self, workload: Workload, route: str, endpoint: str) -> Place:
        if route.startswith("local"):
            check(workload.folder, workload.manifest)  # also reads it into the cache
            return workload.folder
        # A server copies inside one bucket.
        source = Objects(endpoint, "dest" if route == "s3-s3" else "source", "from")
        source.load(workload.folder, list(workload.manifest))
        return source

    @contextlib.contextmanager
    def _dest(self, workload: Workload, route: str, endpoint: str, far: SSHServer | None = None) -> Iterator[Place]:
        if route.endswith(("local", "ssh")):
            with self.disks.fresh(workload.bytes) as root:
                yield Folder(root / "dest") if far is None else over_ssh.FarFolder(root / "dest", far)
            return
        dest = Objects(endpoint, "dest", "fresh")
        try:
            yield dest
        finally:
            dest.clear()

    @contextlib.contextmanager
    def _beside(self, dest: Place) -> Iterator[Path]:
        """Give a folder for the catalog: on the file system of the copy, or on another fresh one."""
        if isinstance(dest, Folder):
            yield dest.path.parent
        else:
            with self.disks.fresh(0) as folder:
                yield folder


def _call(function: Callable[[Any], Run], argument: Any) -> Callable[[], Run]:
    return lambda: function(argument)


def _check_published(place: Place, expected: Manifest, records: int) -> None:
    found = {key: each for key, each in place.manifest().items() if not key.startswith(".emdstore/")}
    files = {key: each for key, each in found.items() if not key.endswith("/execution.json")}
    if files != expected or len(found) - len(files) != records:
        raise DifferingBytesError(f"{place.url} does not hold what was committed")


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def rows_as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return rows as plain values."""
    return [
        {"workload": row.workload, "route": row.route, "contender": row.contender, **row.summary.as_dict()}
        | ({"told": {k: v for k, v in row.summary.runs[-1].told.items() if k in ("tenths", "again_seconds", "rows")}})
        for row in rows
    ]
