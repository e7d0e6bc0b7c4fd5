"""Where actors meet the kernel: calls of stores, of the file system, and SQL."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any
from unittest import mock

import attrs
import sqlalchemy as sa
from sqlalchemy import event
from tests.simulation.kernel import Actor, Kernel, Killed

from emdstore.catalog.database import Database
from emdstore.errors import StoreUnavailableError
from emdstore.keys import STAGING_PREFIX
from emdstore.sets import digests
from emdstore.sets.digests import DigestIndex
from emdstore.stores.local import files, listing, store
from emdstore.stores.local.locking import LOCK
from emdstore.stores.port import ArtifactInfo, ArtifactStore, ArtifactWriter
from emdstore.stores.views import StoreView

Wrote = Callable[..., object]


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
        Called after each change with the verb and the key; with whose it was, if it was carried out late.
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
        before = self._inner._objects.get(self._enter(verb, key)) if fate == "late" and changes else None
        with super()._entered(verb, key) as inner_key:
            yield inner_key
        if fate == "late" and changes:
            self._put_off(verb, inner_key, key, before)
            raise self._no_answer(verb, key)
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

    def _put_off(self, verb: str, inner_key: str, key: str, before: Any) -> None:
        """Undo a write that was just done, and have it done later; a conditional one only if its condition holds."""
        actor, objects = self._kernel.running(), self._inner._objects
        assert actor is not None
        after = objects.get(inner_key)

        def set_to(value: Any) -> None:
            self._inner._sorted = None
            if value is None:
                objects.pop(inner_key, None)
            else:
                objects[inner_key] = value

        def land() -> None:
            if verb == "write_bytes" or objects.get(inner_key) is before:
                set_to(after)
                self._stamp(inner_key)
                self._wrote(verb, key, actor)

        set_to(before)
        self._kernel.landing.append((actor, land))

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
def stepping_files(kernel: Kernel, changes: dict[int, int], root: str, wrote: Wrote) -> Iterator[None]:
    """Have calls of the file system be steps, inside the block; files get their times from the kernel's clock.

    Parameters
    ----------
    kernel
        Whose steps these are.
    changes
        When each file was changed the last time, by inode; see `times_of_changes`.
    root, wrote
        Where the results lie, and what is called after each change there with the verb and the key.
    """
    real = {name: getattr(os, name) for name in (*_CHANGING, "open", "scandir", "write", "utime")}

    def stamp(path: Any, **where: Any) -> None:
        with contextlib.suppress(OSError):
            found, when = os.stat(path, **where, follow_symlinks=False), _moment(kernel)
            changes[found.st_ino] = when
            if found.st_mtime < _OLDEST:
                real["utime"](path, ns=(when, when), **where, follow_symlinks=False)

    def stamp_open(fd: int) -> None:
        with contextlib.suppress(OSError):
            when = changes[os.fstat(fd).st_ino] = _moment(kernel)
            real["utime"](fd, ns=(when, when))

    def place_of(path: Any, dir_fd: int | None) -> str | None:
        """Return the key that a name in an open folder is of."""
        above = "" if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
        key = os.path.relpath(os.path.join(above, path), root) if root else ".."
        return None if key.startswith("..") or STAGING_PREFIX in key else key

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
            if name in ("rename", "link"):
                dir_fd = options.get("dst_dir_fd")
                stamp(args[1], **({} if dir_fd is None else {"dir_fd": dir_fd}))
                if (key := place_of(args[1], dir_fd)) is not None:
                    wrote(name, key)
            elif name == "unlink" and (key := place_of(args[0], options.get("dir_fd"))) is not None:
                wrote("delete", key)
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
            stamp_open(fd)
            if str(path) == LOCK:
                actor.locks = [fd]
        return fd

    def scanning(*args: Any) -> Any:
        if kernel.running() is not None and kernel.step("os.scandir", "", changes=False) == "before":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return _InOrder(real["scandir"](*args))

    def writing(fd: int, data: Any, /) -> int:
        count = real["write"](fd, data)
        if kernel.running() is not None:
            stamp_open(fd)
        return count

    def setting_times(path: Any, *args: Any, **options: Any) -> None:
        real["utime"](path, *args, **options)
        if kernel.running() is not None:
            changes[(os.fstat(path) if isinstance(path, int) else os.stat(path)).st_ino] = _moment(kernel)

    wrapped = {name: changing(name) for name in _CHANGING}
    wrapped |= {"open": opening, "scandir": scanning, "write": writing, "utime": setting_times}
    look_at_clock = DigestIndex._clock

    def clock(index: DigestIndex, root: str) -> int | None:
        return None if look_at_clock(index, root) is None else _moment(kernel)

    os.__dict__.update(wrapped)  # `mock.patch` takes as long as some steps do
    DigestIndex._clock = clock  # type: ignore[method-assign]
    try:
        yield
    finally:
        os.__dict__.update(real)
        DigestIndex._clock = look_at_clock  # type: ignore[method-assign]


class _InOrder:
    """The entries of a folder by name, as file systems have orders of their own, and a seed has to mean one thing.

    Folders come last, since that is how Python 3.13 removes a tree, and 3.11 in the order in which it is listed.
    """

    def __init__(self, entries: Any) -> None:
        with entries:
            self._entries = iter(sorted(entries, key=lambda each: (each.is_dir(follow_symlinks=False), each.name)))

    def __enter__(self) -> _InOrder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self._entries

    def __next__(self) -> os.DirEntry[str]:
        return next(self._entries)

    def close(self) -> None:
        self._entries = iter(())


def _moment(kernel: Kernel) -> int:
    return round(kernel.files_now().timestamp() * 1e6) * 1000


@contextmanager
def times_of_changes(changes: dict[int, int]) -> Iterator[None]:
    """Have the library see when files were changed by the kernel's clock, too.

    That time cannot be set, and by the real machine's two changes fall together or do not, as it happens.
    """

    def described(key: str, status: os.stat_result) -> ArtifactInfo:
        info = describe(key, status)
        object.__setattr__(info, "changed", changes.get(status.st_ino, status.st_mtime_ns) / 1e9)  # nobody has it yet
        return info

    def stamped(side: Any, key: str) -> tuple[int, ...] | None:
        found = stamp(side, key)
        return None if found is None else (*found[:4], changes.get(found[1], found[3]))

    describe, stamp = files.describe, digests._stamp
    with contextlib.ExitStack() as stack:
        for module in (files, listing, store):
            stack.enter_context(mock.patch.object(module, "describe", described))
        stack.enter_context(mock.patch.object(digests, "_stamp", stamped))
        yield


# -- SQL ---------------------------------------------------------------------------------------------------------------

Moved = Callable[[str, str, str, str | None, str | None], None]


@attrs.define(eq=False)
class _Seat:
    """Where an actor sits: its engine and its connections stay there for whoever sits there next."""

    kernel: Kernel
    actor: Actor
    moved: Moved
    engine: sa.Engine | None = None


class Engines:
    """The engines of actors, kept from run to run, since to make one takes longer than to use it."""

    def __init__(self) -> None:
        self._seats: dict[int, _Seat] = {}
        self._compiled: dict[Any, Any] = {}
        self.begun: Callable[[], object] = lambda: None
        self.committed: Callable[[], object] = lambda: None

    def database(self, path: str, kernel: Kernel, actor: Actor, moved: Moved) -> Database:
        """Return the database at a path as an actor uses it; `moved` is told of each change of a status or an owner."""
        seat = self._seats.setdefault(actor.number, _Seat(kernel, actor, moved))
        if seat.actor.state == "dead" and seat.engine is not None:
            seat.engine.dispose(close=False)  # its connections were closed when it was killed
        elif seat.actor is not actor:
            actor.connections = seat.actor.connections
        seat.kernel, seat.actor, seat.moved = kernel, actor, moved

        def make(url: sa.URL, **options: Any) -> sa.Engine:
            if seat.engine is None:
                seat.engine = self._make(seat, url, options)
            return seat.engine

        return _Prepared(path, busy_timeout=0.0, engine_factory=make)

    def dispose(self) -> None:
        for seat in self._seats.values():
            if seat.engine is not None:
                seat.engine.dispose(close=True)

    def _make(self, seat: _Seat, url: sa.URL, options: dict[str, Any]) -> sa.Engine:
        engine = sa.create_engine(url, execution_options={"compiled_cache": self._compiled}, **options)

        @event.listens_for(engine, "connect")
        def connected(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA synchronous = OFF")
            connection.create_function("moved", 5, lambda *args: seat.moved(*args))
            connection.execute(
                "CREATE TEMP TRIGGER watch_execution AFTER UPDATE OF status, owner ON main.execution BEGIN "
                "SELECT moved(OLD.fragment, OLD.status, NEW.status, OLD.owner, NEW.owner); END"
            )
            seat.actor.connections.append(connection)

        def execute(cursor: sqlite3.Cursor, statement: str, values: Any, context: object = None) -> None:
            step(statement)
            cursor.execute(statement, values)

        def execute_many(cursor: sqlite3.Cursor, statement: str, values: Any, context: object = None) -> None:
            step(statement)
            cursor.executemany(statement, values)

        def step(statement: str) -> None:
            kernel = seat.kernel
            immediate = statement.startswith("BEGIN IMMEDIATE")
            if kernel.step("sql", statement, changes=immediate) == "before":
                raise sqlite3.OperationalError("disk I/O error")
            if immediate:
                kernel.take_turn_to_write()
                self.begun()

        do_commit, do_rollback = engine.dialect.do_commit, engine.dialect.do_rollback

        def commit(connection: Any) -> None:
            kernel = seat.kernel
            wrote = kernel.writer is seat.actor
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
            do_rollback(connection)
            seat.kernel.end_turn_to_write(getattr(connection, "driver_connection", connection))

        # Not by events, which SQLAlchemy looks for at each statement once there is one.
        calls = {"do_execute": execute, "do_executemany": execute_many, "do_commit": commit, "do_rollback": rollback}
        vars(engine.dialect).update(calls)
        return engine


class _Prepared(Database):
    """A database whose schema is known to be there, as it was copied. Whose turn it is to write, the kernel says."""

    def _prepare(self) -> None:
        pass

    def _turn_to_write(self, here: object) -> AbstractContextManager[None]:
        return nullcontext()


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
        for module in ("workers.backlog", "transfers.run", "transfers.moves"):
            stack.enter_context(mock.patch(f"emdstore.{module}.ThreadPoolExecutor", InPlace))
        yield


@contextmanager
def quick_protocols() -> Iterator[None]:
    """Look once for each class whether it does what a protocol asks for, inside the block: here the class decides."""
    kind: Any = type(ArtifactStore)
    look = kind.__instancecheck__
    known: dict[tuple[type, type], bool] = {}

    def remembered(protocol: type, instance: object) -> bool:
        asked = protocol, type(instance)
        found = known.get(asked)
        if found is None:
            found = known[asked] = look(protocol, instance)
        return found

    with mock.patch.object(kind, "__instancecheck__", remembered):
        yield


@contextmanager
def resolved_once() -> Iterator[None]:
    """Look once whether a path is behind a link, inside the block: in these worlds none is."""
    with mock.patch("os.path.realpath", functools.cache(os.path.realpath)):
        yield
