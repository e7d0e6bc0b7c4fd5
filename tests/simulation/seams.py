"""Where actors meet the kernel: calls of stores, of the file system, and SQL."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any
from unittest import mock

import attrs
import sqlalchemy as sa
from sqlalchemy import event
from tests.simulation.kernel import Actor, Kernel, Killed

from emdstore.catalog.database import Database
from emdstore.errors import StoreUnavailableError
from emdstore.stores.local.locking import LOCK
from emdstore.stores.port import ArtifactStore, ArtifactWriter
from emdstore.stores.views import StoreView

Wrote = Callable[[str, str], object]


class SteppingStore(StoreView):
    """A store of which each call is a step, that fails when the kernel says so.

    Parameters
    ----------
    inner
        The store that does the work.
    kernel
        Whose steps these are.
    name
        What the trace calls it.
    wrote
        Called after each change with the verb and the key.
    """

    def __init__(self, inner: ArtifactStore, kernel: Kernel, name: str, wrote: Wrote) -> None:
        super().__init__(inner)
        self._kernel, self._name, self._wrote = kernel, name, wrote

    def _enter(self, verb: str, key: str) -> str:
        if verb.startswith("iter_") and self._kernel.step(f"{self._name}.{verb}", key, changes=False):
            raise self._no_answer(verb, key)
        return super()._enter(verb, key)

    @contextmanager
    def _entered(self, verb: str, key: str) -> Iterator[str]:
        changes = verb in ("write_bytes", "create_bytes", "replace_bytes", "delete")
        fate = self._kernel.step(f"{self._name}.{verb}", key, changes=changes)
        if fate == "before":
            raise self._no_answer(verb, key)
        with super()._entered(verb, key) as inner_key:
            yield inner_key
        if changes:
            self._stamp(inner_key)
            self._wrote(verb, key)
        if fate == "after":
            raise self._no_answer(verb, key)

    def open_writer(self, key: str, /) -> ArtifactWriter:
        return _Writing(self, self._inner.open_writer(key), key)

    def _stamp(self, key: str) -> None:
        """Give an object the time of the store's own clock, whatever that of its writer says."""
        held = self._inner._objects.get(key)
        if held is not None:
            self._inner._objects[key] = attrs.evolve(held, modified=self._kernel.now().timestamp())

    def _no_answer(self, verb: str, key: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"{verb} of {key!r}: no answer", key=key, store=self._name)

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, self._kernel, self._name, self._wrote

    def __repr__(self) -> str:
        return self._name


class _Writing:
    """A stream whose end, which puts the artifact in its place, is a step."""

    def __init__(self, store: SteppingStore, inner: ArtifactWriter, key: str) -> None:
        self._store, self._writer, self._key = store, inner, key

    def __enter__(self) -> _Writing:
        self._writer.__enter__()
        return self

    def write(self, data: bytes, /) -> None:
        self._writer.write(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._writer.__exit__(kind, error, trace)
            return
        with self._store._entered("write_bytes", self._key):
            self._writer.__exit__(kind, error, trace)


# -- the file system ---------------------------------------------------------------------------------------------------

_CHANGING = ("rename", "link", "unlink", "rmdir", "mkdir")
_FOLDERS = os.O_DIRECTORY
_OLDEST = 2_000_000_000  # what is older has a time of the real machine


@contextmanager
def stepping_files(kernel: Kernel, wrote: Callable[[], object]) -> Iterator[None]:
    """Have calls of the file system be steps, inside the block; files get their times from the kernel's clock."""
    real = {name: getattr(os, name) for name in (*_CHANGING, "open", "scandir", "write")}

    def stamp(path: Any, **where: Any) -> None:
        with contextlib.suppress(OSError):
            if os.stat(path, **where, follow_symlinks=False).st_mtime < _OLDEST:
                when = int(kernel.now().timestamp() * 1e9)
                os.utime(path, ns=(when, when), **where, follow_symlinks=False)

    def changing(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            actor = kernel.running()
            if actor is None:
                return real[name](*args, **options)
            if actor.state == "dead":
                return None
            fate = kernel.step(f"os.{name}", args[0])
            if fate == "before":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            answer = real[name](*args, **options)
            if name == "rename":
                dir_fd = options.get("dst_dir_fd")
                stamp(args[1], **({} if dir_fd is None else {"dir_fd": dir_fd}))
            wrote()
            if fate == "after":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return answer

        return call

    def opening(path: Any, flags: int, *args: Any, **options: Any) -> int:
        actor = kernel.running()
        if actor is None or flags & _FOLDERS:
            return real["open"](path, flags, *args, **options)
        if actor.state == "dead":
            raise Killed
        creates = bool(flags & os.O_CREAT)
        if kernel.step("os.open", path, changes=creates) == "before":
            number = errno.ENOSPC if creates else errno.EIO
            raise OSError(number, os.strerror(number))
        fd = real["open"](path, flags, *args, **options)
        if creates:
            _stamp_fd(kernel, fd)
            if str(path) == LOCK:
                actor.locks = [fd]
        return fd

    def scanning(*args: Any) -> Any:
        if kernel.running() is not None and kernel.step("os.scandir", "", changes=False) == "before":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real["scandir"](*args)

    def writing(fd: int, data: Any, /) -> int:
        count = real["write"](fd, data)
        if kernel.running() is not None:
            _stamp_fd(kernel, fd)
        return count

    def is_older(stamp: tuple[int, ...], clock: int) -> bool:
        return stamp[3] + 20_000_000 < kernel.now().timestamp() * 1e9  # the time of its change is the real machine's

    wrapped = {name: changing(name) for name in _CHANGING}
    wrapped |= {"open": opening, "scandir": scanning, "write": writing}
    with mock.patch.multiple(os, **wrapped), mock.patch("emdstore.sets.digests._is_older", is_older):
        yield


def _stamp_fd(kernel: Kernel, fd: int) -> None:
    when = int(kernel.now().timestamp() * 1e9)
    with contextlib.suppress(OSError):
        os.utime(fd, ns=(when, when))


# -- SQL ---------------------------------------------------------------------------------------------------------------

Moved = Callable[[str, str, str], object]


class Engines:
    """The engines of actors, kept from run to run, since to make one takes longer than to use it."""

    def __init__(self) -> None:
        self._kept: dict[int, sa.Engine] = {}
        self._for: dict[int, tuple[Kernel, Actor, Moved]] = {}
        self.committed: Callable[[], object] = lambda: None

    def database(self, path: str, kernel: Kernel, actor: Actor, moved: Moved) -> Database:
        """Return the database at a path as an actor uses it; `moved` is told of each change of a status."""
        slot = actor.number
        if slot in self._kept:
            self._kept[slot].dispose()  # a connection is its actor's
        self._for[slot] = kernel, actor, moved

        def make(url: sa.URL, **options: Any) -> sa.Engine:
            if slot not in self._kept:
                self._kept[slot] = self._make(slot, url, options)
            return self._kept[slot]

        return _Prepared(path, busy_timeout=0.0, engine_factory=make)

    def dispose(self) -> None:
        for engine in self._kept.values():
            engine.dispose(close=True)

    def _make(self, slot: int, url: sa.URL, options: dict[str, Any]) -> sa.Engine:
        engine = sa.create_engine(url, **options)

        @event.listens_for(engine, "connect")
        def connected(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA synchronous = OFF")
            connection.create_function("moved", 3, lambda *args: self._for[slot][2](*args))
            connection.execute(
                "CREATE TEMP TRIGGER watch_status AFTER UPDATE OF status ON main.execution BEGIN "
                "SELECT moved(OLD.fragment, OLD.status, NEW.status); END"
            )
            self._for[slot][1].connections.append(connection)

        @event.listens_for(engine, "before_cursor_execute")
        def before(_: object, _cursor: object, statement: str, *_rest: object) -> None:
            kernel, _actor, _moved = self._for[slot]
            immediate = statement.startswith("BEGIN IMMEDIATE")
            if kernel.step("sql", " ".join(statement.split()), changes=immediate) == "before":
                raise sqlite3.OperationalError("disk I/O error")
            if immediate:
                kernel.take_turn_to_write()

        do_commit, do_rollback = engine.dialect.do_commit, engine.dialect.do_rollback

        def commit(connection: Any) -> None:
            kernel, actor, _ = self._for[slot]
            wrote = kernel.writer is actor
            fate = kernel.step("sql", "COMMIT", changes=wrote) if wrote else None
            if fate == "before":
                raise sqlite3.OperationalError("disk I/O error")
            do_commit(connection)
            kernel.end_turn_to_write(getattr(connection, "driver_connection", connection))
            if wrote:
                self.committed()
            if fate == "after":
                raise sqlite3.OperationalError("disk I/O error")

        def rollback(connection: Any) -> None:
            kernel, _actor, _ = self._for[slot]
            do_rollback(connection)
            kernel.end_turn_to_write(getattr(connection, "driver_connection", connection))

        engine.dialect.do_commit, engine.dialect.do_rollback = commit, rollback  # type: ignore[method-assign]
        return engine


class _Prepared(Database):
    """A database whose schema is known to be there: it was copied."""

    def _prepare(self) -> None:
        pass


# -- pools -------------------------------------------------------------------------------------------------------------


class InPlace(ThreadPoolExecutor):
    """A pool that does at once what it is given, in the thread that gives it."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def pools_in_place() -> Iterator[None]:
    """Have the library's own pools do their work in place, inside the block."""
    with contextlib.ExitStack() as stack:
        for module in ("workers.backlog", "transfers.run", "transfers.units"):
            stack.enter_context(mock.patch(f"emdstore.{module}.ThreadPoolExecutor", InPlace))
        yield
