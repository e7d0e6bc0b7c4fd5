"""Executions to commit, and processes that are killed, paused, interrupted or slowed at a chosen step of their I/O.

A step is a call that leaves the interpreter for a disk, a database or a server: every function of `os` that touches
files, every SQL statement and every end of a transaction, every request of the S3 engine. The child counts them as it
goes; the parent says at which one something happens, *before* the step is done. One run in which nothing happens tells
how many there are.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import attrs
import psutil
import sqlalchemy as sa
from tests.executions.runs import let_go
from tests.processes import FORKS
from tests.servers.postgres import KeptDatabase
from tests.sets.examples import held, put, rows_of, small_run

from emdstore import system
from emdstore.catalog.claims import Claims
from emdstore.catalog.database import Database
from emdstore.emds import RECORD_NAME
from emdstore.executions.upload_report import UploadReport
from emdstore.executions.workspace import Workspace
from emdstore.keys import is_left_behind
from emdstore.sets.record import read_record
from emdstore.sets.result import ExecutionResult
from emdstore.stores import LocalArtifactStore, S3ArtifactStore, scoped
from emdstore.stores.objects import bucket

_PATIENCE = 300

_renewing = threading.RLock()

Action = Callable[[], object]
Task = Callable[..., Any]


# -- what can happen at a step -----------------------------------------------------------------------------------------


def kill() -> None:
    """End the process as an out-of-memory killer or a batch system does."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(_PATIENCE)


def pause() -> None:
    """Stop the process until somebody sends SIGCONT, and not in the middle of a renewal of its claim.

    Stopped in there it would keep the transaction, and with SQLite all others would wait for it.
    """
    with _renewing:
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread: another would stop it a little later


def interrupt() -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


@attrs.frozen
class Linger:
    """Take a long time."""

    seconds: float

    def __call__(self) -> None:
        time.sleep(self.seconds)


# -- counting ----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Step:
    """One step: what is called, and what with; whether it may change anything that outlives the process."""

    what: str
    about: str
    changes: bool

    def __str__(self) -> str:
        return f"{self.what} {self.about}"


@attrs.frozen
class Before:
    """The moment before a step that is told by its looks.

    How many steps come before it may differ from run to run: threads that ship files open the folders of both.

    Attributes
    ----------
    looks
        A part of what `str(step)` is.
    nth
        Which of those that look like it, from 1.
    """

    looks: str
    nth: int = 1

    @classmethod
    def step(cls, steps: list[Step], number: int) -> Before:
        """Return the moment before a step of a run like the one to come."""
        step = steps[number - 1]
        looks = str(step) if step.what == "sql" else step.what  # names of unfinished files are made up anew
        return cls(looks, sum(looks in str(each) for each in steps[:number]))


_READING = ("close", "fstat", "lstat", "read", "readlink", "readv", "scandir", "stat")
_CHANGING = ("fsync", "link", "mkdir", "rename", "replace", "rmdir", "symlink", "sync", "unlink", "utime", "write")
_REQUESTS = {"get": False, "head": False, "list": False, "delete": True, "open_writer": True, "put": True}


class _Steps:
    def __init__(self, at: int | Before | None, action: Action, only_changes: bool) -> None:
        self.taken: list[Step] = []
        self._at, self._action, self._only_changes = at, action, only_changes
        self._numbers = itertools.count(1)
        self._number = at.nth if isinstance(at, Before) else at
        self._wrote = False

    def __call__(self, what: str, about: object = "", *, changes: bool) -> None:
        if threading.current_thread().name == "emdstore-lease":
            return  # how often a claim is renewed meanwhile is a matter of time
        if self._only_changes and not (changes and self._lasts(what, about)):
            return
        step = Step(what, str(about)[:200], changes)
        self.taken.append(step)
        if isinstance(self._at, Before) and self._at.looks not in str(step):
            return
        if next(self._numbers) == self._number:
            self._action()

    def _lasts(self, what: str, about: object) -> bool:
        # A transaction that was begun is undone with its process, wherever in it that is killed.
        return self._action is not kill or what != "sql" or about == "COMMIT"

    def watch(self) -> None:
        """Count from now on, in this process and for good."""
        for name in (*_READING, *_CHANGING):
            setattr(os, name, self._counted(f"os.{name}", getattr(os, name), changes=name in _CHANGING))
        os.open = self._counted_open(os.open)  # type: ignore[assignment]
        os.write = _in_halves(os.write)  # type: ignore[assignment]
        event = sa.event
        event.listen(sa.Engine, "before_cursor_execute", self._statement)
        event.listen(sa.Engine, "commit", self._end_of_transaction)
        Database.insert_rows = self._counted("sql", Database.insert_rows, changes=True, about=2)  # type: ignore[method-assign]
        bucket.BucketClients.client = self._counted_client(bucket.BucketClients.client)  # type: ignore[method-assign]
        Claims.renew = _one_at_a_time(Claims.renew)  # type: ignore[method-assign]

    def _counted(self, what: str, function: Task, *, changes: bool, about: int = 0) -> Task:
        @functools.wraps(function)
        def counted(*args: Any, **options: Any) -> Any:
            self(what, args[about] if len(args) > about and not isinstance(args[about], bytes) else "", changes=changes)
            return function(*args, **options)

        return counted

    def _counted_open(self, function: Task) -> Task:
        def counted(path: Any, flags: int, *args: Any, **options: Any) -> Any:
            self("os.open", path, changes=bool(flags & os.O_CREAT))
            return function(path, flags, *args, **options)

        return counted

    def _statement(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        text = " ".join(statement.split())
        changes = text.startswith(("INSERT", "UPDATE", "DELETE"))
        self._wrote = self._wrote or changes
        self("sql", text, changes=changes)

    def _end_of_transaction(self, _connection: object) -> None:
        self("sql", "COMMIT", changes=self._wrote)
        self._wrote = False

    def _counted_client(self, function: Task) -> Task:
        steps = self

        class Requests:
            def __init__(self, module: Any) -> None:
                self._module = module

            def __getattr__(self, name: str) -> Any:
                found = getattr(self._module, name)
                if name not in _REQUESTS:
                    return found
                return steps._counted(f"s3.{name}", found, changes=_REQUESTS[name], about=1)

        @functools.wraps(function)
        def counted(*args: Any, **options: Any) -> tuple[Any, Any]:
            module, client = function(*args, **options)
            return Requests(module), client

        return counted


def _in_halves(write: Task) -> Task:
    # As the kernel may do; it puts a step, and so a crash, into the middle of every file.
    begun: set[int] = set()

    def written(fd: int, data: Any) -> int:
        if fd in begun or len(data) < 2:
            begun.discard(fd)
            return int(write(fd, data))
        begun.add(fd)
        return int(write(fd, memoryview(data)[: len(data) // 2]))

    return written


def _one_at_a_time(renew: Task) -> Task:
    @functools.wraps(renew)
    def renewed(*args: Any, **options: Any) -> Any:
        with _renewing:
            return renew(*args, **options)

    return renewed


# -- the child ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Answer:
    """What a child that came to its end says: what its task returned or raised, and the steps that it took."""

    value: Any
    error: BaseException | None
    steps: tuple[Step, ...]


class Child:
    """A process that does one task.

    Parameters
    ----------
    task, *args
        The task, with arguments that pickle.
    at
        The step before which something happens: its number, from 1, or its looks; None for never.
    action
        What happens then.
    only_changes
        Count only steps that may change something: to be killed before a mere look at something leaves what being
        killed before the next change leaves; and to be killed in a transaction, what being killed before its end does.
    host
        The name of the machine that the child believes to be on.
    """

    def __init__(
        self,
        task: Task,
        *args: object,
        at: int | Before | None = None,
        action: Action = kill,
        only_changes: bool = False,
        host: str | None = None,
    ) -> None:
        self._answer, theirs = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_main, args=(theirs, task, args, at, action, only_changes, host))
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait(self) -> Answer | None:
        """Wait for the end; None if the child was killed before it could answer."""
        try:
            if not self._answer.poll(_PATIENCE):
                raise TimeoutError("the child does not come to an end")
            return self._answer.recv()  # type: ignore[no-any-return]
        except EOFError:
            self._process.join(_PATIENCE)
            assert self._process.exitcode == -signal.SIGKILL, f"the child ended with {self._process.exitcode}"
            return None
        finally:
            self.end()

    def wait_until_paused(self) -> bool:
        """Wait until the child has stopped itself; False if it has come to its end instead."""
        give_up = time.monotonic() + _PATIENCE
        while time.monotonic() < give_up:
            if self._answer.poll(0.005):
                return False
            with contextlib.suppress(psutil.NoSuchProcess):  # it has come to its end just now
                if psutil.Process(self.pid).status() == psutil.STATUS_STOPPED:
                    return True
        raise TimeoutError("the child neither pauses nor ends")

    def resume(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it was not paused, and has come to its end
            os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Kill the child, if it still is there, and wait until the kernel has forgotten it."""
        if self._answer.closed:
            return
        self._process.kill()
        self._process.join(_PATIENCE)
        self._process.close()
        self._answer.close()


def _main(
    parent: Connection,
    task: Task,
    args: tuple[Any, ...],
    at: int | Before | None,
    action: Action,
    only: bool,
    host: str | None,
) -> None:
    machine = system.REAL
    if host is not None:
        elsewhere = f"another-boot:1:{os.getpid()}:1"
        machine = attrs.evolve(machine, host=lambda: host, whoami=lambda _: elsewhere)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    steps = _Steps(at, action, only)
    steps.watch()
    value = error = None
    try:
        with system.using(machine):
            value = task(*args)
    except BaseException as raised:
        error = raised
    parent.send(Answer(value, error, tuple(steps.taken)))
    parent.close()


# -- what is committed -------------------------------------------------------------------------------------------------


def stopped_execution(
    workspace: Workspace, *, result: ExecutionResult | None = None, data: int = 0, **identity: Any
) -> str:
    """Run an execution that leaves the files of a small run, one of them as large as is said; return its fragment."""
    where = {"provider": "pmp", "diagnostic": "enso_tel", "group": "historical", "description": "El Niño"} | identity
    with workspace.start_execution(**where) as execution:
        print("it ran")  # noqa: T201 - into the log
        files = small_run(tas=os.urandom(data), out=None)
        put(workspace.scratch, files, execution.fragment)
        execution.stop(result)
    return execution.fragment


def commit(workspace: Workspace, fragment: str) -> UploadReport:
    """Commit one execution."""
    return workspace.resume_execution(fragment).commit_output_assets()


def commit_all(workspace: Workspace, not_before: float = 0.0) -> UploadReport:
    """Commit what waits, from some time on."""
    time.sleep(max(0.0, not_before - time.time()))
    return workspace.commit_pending_executions(clean_folder=workspace.clean_folder)


def commit_twice(workspace: Workspace, fragment: str) -> str | None:
    """Commit, and again if Ctrl-C comes in between; return the state that this leaves, None if it came too late."""
    try:
        commit(workspace, fragment)
    except KeyboardInterrupt:
        interrupted = workspace.catalog.execution(fragment).status
        commit(workspace, fragment)
        return interrupted
    return None


def commit_all_twice(workspace: Workspace) -> tuple[UploadReport | None, UploadReport]:
    """Commit what waits, and again if Ctrl-C comes in between; return what both say, None if nothing."""
    try:
        with ThreadPoolExecutor(4) as threads:  # forks would take their steps where nobody counts them
            return None, workspace.commit_pending_executions(clean_folder=workspace.clean_folder, executor=threads)
    except KeyboardInterrupt as error:
        return getattr(error, "report", None), commit_all(workspace)


class Scene:
    """A workspace with one stopped execution, which can be put back to how it was at first.

    Parameters
    ----------
    workspace
        Its scratch and, if they are local, its catalog and its results lie in `folder`.
    folder
        All of it is replaced by `reset`.
    data
        How many bytes the largest artifact has.
    database
        The catalog's, if it does not lie in `folder`.
    """

    def __init__(
        self, workspace: Workspace, folder: Path, *, data: int = 1_200_000, database: KeptDatabase | None = None
    ) -> None:
        self.workspace, self._folder, self._database = workspace, folder, database
        self.fragment = stopped_execution(workspace, data=data)
        self.files = held(workspace.scratch, self.fragment)
        self._first = folder.with_name(folder.name + "-first")
        self.keep()

    def keep(self) -> None:
        """Let `reset` put things back to how they are now."""
        let_go(self.workspace)
        results = self.workspace.results
        on_s3 = results.iter_keys() if isinstance(results, S3ArtifactStore) else ()
        self._objects = {key: results.read_bytes(key) for key in on_s3}
        shutil.rmtree(self._first, ignore_errors=True)
        shutil.copytree(self._folder, self._first)
        if self._database is not None:
            self._database.keep()

    def reset(self) -> None:
        let_go(self.workspace)
        shutil.rmtree(self._folder)
        shutil.copytree(self._first, self._folder)
        if self._database is not None:
            self._database.reset()
        results = self.workspace.results
        if isinstance(results, S3ArtifactStore):
            for key in list(results.iter_keys()):
                results.delete(key)
            put(results, self._objects)

    def child(self, **options: Any) -> Child:
        """Start a process that commits the execution."""
        return Child(commit, self.workspace, self.fragment, **options)

    def steps(self, **options: Any) -> list[Step]:
        """Return the steps of a commit, from the beginning, that nothing happens to."""
        self.reset()
        return self.next_steps(**options)

    def next_steps(self, **options: Any) -> list[Step]:
        """Return the steps of a commit, from where things are, that nothing happens to."""
        answer = self.child(**options).wait()
        assert answer is not None
        assert answer.error is None
        return list(answer.steps)


def end_state(workspace: Workspace, fragment: str) -> dict[str, Any]:
    """Return all that is known of an execution, but for when it was shipped and how long that took."""
    row = workspace.catalog.execution(fragment)
    folder = scoped(workspace.results, fragment)
    record = read_record(folder)
    assert record is not None
    times = {"published_at": None, "upload_duration": None}
    rows = rows_of(workspace.catalog, fragment)
    del rows["executions"]
    files = held(workspace.results)
    return {
        "row": attrs.evolve(row, uploaded_at=None, record_digest=None, generation=0, **times),
        "lease": (row.owner, row.lease_expires),
        "timed": (record.upload_duration, record.published_at)
        == (row.upload_duration, row.published_at)
        != (None, None),
        "one generation": row.generation == record.generation > 0,
        "rows of this record": row.record_digest == hashlib.sha256(folder.read_bytes(RECORD_NAME)).hexdigest(),
        "record": attrs.evolve(record, generation=0, replaces=None, **times),  # how often it was claimed before
        "files": {key: data for key, data in files.items() if not key.endswith(RECORD_NAME)},
        "scratch": held(workspace.scratch),
    } | rows


def assert_rows_are_true(workspace: Workspace, fragment: str, files: dict[str, bytes]) -> None:
    """Check what is visible at some moment: whole files, a record and rows only of what is there."""
    visible = held(workspace.results, fragment)
    record = read_record(scoped(workspace.results, fragment))
    visible.pop(RECORD_NAME, None)
    assert visible == {key: files[key] for key in visible}
    for artifact in () if record is None else record.artifacts:
        assert hashlib.sha256(visible[artifact.key]).hexdigest() == artifact.sha256
    row = workspace.catalog.execution(fragment)
    rows = list(workspace.catalog.artifacts(fragment=fragment))
    assert (row.status in ("uploaded", "failed")) == bool(rows) == (row.artifacts > 0)
    for each in rows:
        assert record is not None
        assert (len(visible[each.key]), hashlib.sha256(visible[each.key]).hexdigest()) == (each.size, each.sha256)
    for output in workspace.catalog.outputs(fragment=fragment):
        assert output.key in visible


def clean_up_later(workspace: Workspace) -> None:
    """Clean up as somebody does who comes two hours later, and see that no unfinished file is left."""
    roots = [store.root for store in (workspace.scratch, workspace.results) if isinstance(store, LocalArtifactStore)]
    then = time.time() - 7200
    for path in unfinished(roots):
        os.utime(path, (then, then))
    workspace.gc_executions(status=())
    assert not unfinished(roots)


def unfinished(roots: list[Path]) -> list[Path]:
    """Return the staging files and half-removed folders below some folders."""
    return [path for root in roots for path in root.rglob("*") if is_left_behind(path.name)]
