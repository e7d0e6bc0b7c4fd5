"""The places in which runs take place: made once by the library itself, and put back before each run."""

from __future__ import annotations

import io
import itertools
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from tests.simulation.kernel import EPOCH, LEASE, Actor, Kernel, forget_owners
from tests.simulation.seams import Engines, SteppingStore

from emdstore import system
from emdstore.catalog import Catalog
from emdstore.executions.workspace import Workspace
from emdstore.sets.result import ExecutionResult
from emdstore.sets.transfer import transfer
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore
from emdstore.stores.port import ArtifactStore

STATES = ("stopped", "published", "edited", "cleaned", "lost", "unknown", "behind", "littered")
"""How a set stands when a run begins.

``stopped``: it waits to be committed. ``published``: it was committed. ``edited``: it was, and scratch has other bytes
since. ``cleaned``: it was, and scratch is empty. ``lost``: it was, and somebody removed it from the results.
``unknown``: scratch has it, and the catalog does not know it. ``behind``: it was committed, and another site has a
later publication of it. ``littered``: it was committed beside a file that no record ever named, as an unfinished commit
leaves one, and scratch has other bytes since, with an artifact of that name.
"""

FIRST = {"edited": 2, "littered": 5}
"""The version in scratch when a run begins; of the other states the first."""

_RESULT = ExecutionResult(
    successful=True, metric_bundle_filename="diagnostic.json", output_bundle_filename="output.json"
)


@attrs.frozen
class Scene:
    """What there is when a run begins: where the results lie, and how each set stands."""

    results: str = "memory"
    sets: tuple[str, ...] = ("stopped",)

    @property
    def fragments(self) -> tuple[str, ...]:
        return tuple(f"lab/diagnostic/group{n}/run{n}" for n in range(len(self.sets)))


def version_of(number: int) -> dict[str, bytes]:
    """Return the files of a set: all of its values and bytes say which version they are of."""
    value, name = float(number), "pr" if number % 2 == 0 else "tas"  # so that there is what a later version has no more
    metrics = {
        "DIMENSIONS": {"json_structure": ["region", "metric"], "region": {"global": {}}, "metric": {"bias": {}}},
        "RESULTS": {"global": {"bias": value}},
    }
    provenance = {"environment": {}, "modeldata": [], "obsdata": {}, "log": "out.log"}
    data = {name: {"filename": f"data/{name}.nc", "long_name": "", "description": "", "dimensions": {}}}
    # In the order in which a program writes them: what is named, then what names it.
    return {
        "out.log": b"it ran\n",
        f"data/{name}.nc": f"data of version {number}".encode(),
        "output.json": json.dumps({"provenance": provenance, "diagnostics": {}, "data": data}).encode(),
        "diagnostic.json": json.dumps(metrics).encode(),
    }


@attrs.define(eq=False)
class Template:
    """A scene as it was made: folders and files with their times, the database, and what lies in memory."""

    tree: dict[str, tuple[bytes, int] | None]
    rows: dict[str, list[tuple[Any, ...]]]
    held: dict[str, Any]
    mirrored: dict[str, Any]


class World:
    """The place of one process in which runs take place, one after the other.

    Parameters
    ----------
    base
        A folder for its files; by default in memory, where there is such a place.
    """

    def __init__(self, base: str | None = None) -> None:
        if base is None and os.access("/dev/shm", os.W_OK):
            base = "/dev/shm"
        self._temporary = tempfile.TemporaryDirectory(prefix="emdstore-simulation-", dir=base)
        self.folder = Path(self._temporary.name)
        self._work = self.folder / "work"
        self.scratch, self.local_results = self._work / "scratch", self._work / "results"
        # It stays from run to run with its connections; only its rows are put back.
        self.catalog = self.folder / "catalog.db"
        self._database: sqlite3.Connection | None = None
        self._templates: dict[Scene, Template] = {}
        self.changes: dict[int, int] = {}
        self.engines = Engines()
        self._memory, self.mirror = InMemoryArtifactStore(), InMemoryArtifactStore()
        self.scene = Scene()
        self._seen: dict[str, dict[str, bytes]] | None = None

    def close(self) -> None:
        self.engines.dispose()
        if self._database is not None:
            self._database.close()
        self._temporary.cleanup()

    # -- where everything is -------------------------------------------------------------------------------------

    @property
    def results(self) -> ArtifactStore:
        """The results, to look at."""
        return LocalArtifactStore(self.local_results) if self.scene.results == "local" else self._memory

    def put(self, key: str, data: bytes, when: float) -> None:
        """Put an object into the results, as another program does, at a time."""
        if self.scene.results == "local":
            path = self.local_results / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            os.utime(path, (when, when))
        else:
            self._memory.write_bytes(key, data)
            self._memory._objects[key] = attrs.evolve(self._memory._objects[key], modified=when)

    def held(self) -> dict[str, bytes]:
        """Return all that lies in results."""
        if self.scene.results == "memory":
            return {key: held.data for key, held in self._memory._objects.items()}
        return self._files(str(self.local_results))

    def in_scratch(self) -> dict[str, bytes]:
        return self._files(str(self.scratch))

    def _files(self, folder: str) -> dict[str, bytes]:
        if self._seen is None:
            return dict(_files_in(folder))
        if folder not in self._seen:
            self._seen[folder] = dict(_files_in(folder))
        return self._seen[folder]

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Read files once, inside the block, in which nobody changes any."""
        self._seen = {}
        try:
            yield
        finally:
            self._seen = None

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that looks on, past all seams, in a transaction of its own."""
        if self._database is None:
            self._database = sqlite3.connect(self.catalog, isolation_level=None, cached_statements=256)
            self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("BEGIN")
        try:
            yield self._database
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    # -- before a run --------------------------------------------------------------------------------------------

    def restore(self, scene: Scene) -> None:
        """Put everything back to how it is when a run begins."""
        if scene not in self._templates:
            self._templates[scene] = self._make(scene)
        self.scene = scene
        template = self._templates[scene]
        forget_owners()
        self.changes.clear()
        _remove_tree(str(self._work))
        _write_tree(str(self._work), template.tree)
        with self.database() as connection:
            for table, rows in template.rows.items():
                connection.execute(f"DELETE FROM {table}")
                if rows:
                    marks = ", ".join("?" * len(rows[0]))
                    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        for store, objects in ((self._memory, template.held), (self.mirror, template.mirrored)):
            store._objects, store._sorted, store._versions = dict(objects), None, itertools.count(1000)

    def workspace(self, kernel: Kernel, actor: Actor, watch: Any) -> Workspace:
        """Return the workspace as an actor uses it, each call of which is a step."""
        results: ArtifactStore = SteppingStore(self._memory, kernel, "results", watch.wrote)
        if self.scene.results == "local":
            results = LocalArtifactStore(self.local_results)
        database = self.engines.database(str(self.catalog), kernel, actor, watch.moved)
        return Workspace(
            scratch=LocalArtifactStore(self.scratch), results=results, catalog=Catalog(database), lease_seconds=LEASE
        )

    def _make(self, scene: Scene) -> Template:
        _remove_tree(str(self._work))
        self.scene = scene
        if self.catalog.exists():
            with self.database() as connection:
                for table in _tables(connection):
                    connection.execute(f"DELETE FROM {table}")
        for store in (self._memory, self.mirror):
            store._objects, store._sorted, store._versions = {}, None, itertools.count(1)
        self.local_results.mkdir(parents=True)
        kernel = Kernel()
        actor = kernel.add("the past", lambda: None)
        kernel.clock = -3 * 3600.0
        results = self.results
        with system.using(kernel.machine(actor)):
            workspace = Workspace(scratch=self.scratch, results=results, catalog=f"sqlite:///{self.catalog}")
            for fragment, state in zip(scene.fragments, scene.sets, strict=True):
                provider, diagnostic, group, name = fragment.split("/")
                kernel.clock += 10
                execution = workspace.start_execution(provider=provider, diagnostic=diagnostic, group=group, name=name)
                execution._move("running", started_at=kernel.now(), host="here", pid=1)
                for key, data in version_of(6 if state == "littered" else 1).items():
                    workspace.scratch.write_bytes(f"{fragment}/{key}", data)
                if state == "littered":
                    results.write_bytes(f"{fragment}/data/tas.nc", b"what was shipped of another version")
                execution.stop(_RESULT)
                kernel.clock += 10
                self._age(kernel)
                if state not in ("stopped", "unknown"):
                    execution.commit_output_assets(clean_folder=state == "cleaned")
                kernel.clock += 10
                if state in FIRST:
                    self._run_again(workspace, fragment, FIRST[state])
                self._age(kernel)
            if not {"stopped", "unknown"}.issuperset(scene.sets):
                transfer(results, self.mirror)
            for fragment, state in zip(scene.fragments, scene.sets, strict=True):
                if state == "lost":
                    for key in [*results.iter_keys(fragment)]:
                        results.delete(key)  # type: ignore[attr-defined]
            with self.database() as connection:
                for fragment, state in zip(scene.fragments, scene.sets, strict=True):
                    if state == "unknown":
                        connection.execute("DELETE FROM execution WHERE fragment = ?", (fragment,))
                rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in _tables(connection)}
            tree = dict(_read_tree(str(self._work)))
            held = dict(self._memory._objects)
            for fragment, state in zip(scene.fragments, scene.sets, strict=True):
                if state == "behind":  # what happens from here on, only the other site knows
                    self._run_again(workspace, fragment, 4)
                    workspace.resume_execution(fragment).commit_output_assets()
                    transfer(workspace.results, self.mirror)
            workspace.catalog.close()
        return Template(tree, rows, held, dict(self.mirror._objects))

    def _run_again(self, workspace: Workspace, fragment: str, number: int) -> None:
        for key, data in version_of(number).items():
            workspace.scratch.write_bytes(f"{fragment}/{key}", data)
        for key in version_of(number + 1).keys() - version_of(number).keys():
            workspace.scratch.delete(f"{fragment}/{key}")

    def _age(self, kernel: Kernel) -> None:
        """Give files the kernel's time."""
        when = kernel.now().timestamp()
        for folder, _, names in os.walk(self._work):
            for name in names:
                path = os.path.join(folder, name)
                if os.stat(path).st_mtime < EPOCH.timestamp() - 1e6:
                    os.utime(path, (when, when))


def _tables(connection: sqlite3.Connection) -> list[str]:
    """Return the tables that runs write to."""
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'catalog_version'")
    return [name for (name,) in found]


def _read_tree(folder: str, below: str = "") -> Iterator[tuple[str, tuple[bytes, int] | None]]:
    """Yield what lies in a folder, each folder before what it holds: None for it, of a file its bytes and time."""
    for entry in _listed(folder):
        path = f"{below}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield path, None
            yield from _read_tree(entry.path, path)
        else:
            with io.FileIO(entry.path) as file:
                yield path, (file.read(), entry.stat().st_mtime_ns)


def _write_tree(folder: str, tree: dict[str, tuple[bytes, int] | None]) -> None:
    os.mkdir(folder)
    for below, held in tree.items():
        path = folder + below
        if held is None:
            os.mkdir(path)
            continue
        data, when = held
        with io.FileIO(path, "w") as file:
            file.write(data)
        os.utime(path, ns=(when, when))


def _remove_tree(folder: str) -> None:
    """Remove a folder, quicker than `shutil.rmtree`, as nobody changes it meanwhile; whether it is there or not."""
    try:
        listed = _listed(folder)
    except FileNotFoundError:
        return
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            _remove_tree(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(folder)


def _files_in(folder: str, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    try:
        listed = _listed(folder)
    except FileNotFoundError:
        return
    for entry in listed:
        name = f"{prefix}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _files_in(entry.path, name + "/")
        elif not entry.name.startswith("."):
            with io.FileIO(entry.path) as read:
                yield name, read.read()


_scandir = os.scandir  # the real one: to look on takes no steps


def _listed(folder: str) -> list[os.DirEntry[str]]:
    with _scandir(folder) as entries:
        return sorted(entries, key=lambda each: each.name)
