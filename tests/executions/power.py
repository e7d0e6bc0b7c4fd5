"""The power of a process, which is cut at a chosen step: what was done is done, and nothing more is.

A step is an operation of a results store, a function of `os` that changes a file, an SQL statement, or the end of a
transaction. At the chosen one `Cut` is raised, which no code of ours catches, and again at every step that whoever
cleans up on the way out tries to take: so what is left is what a kill at that step leaves. Open files and transactions
end with the process; here they are closed and rolled back. `tests.executions.crash` does the same to real processes,
and takes its time.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from emdstore.catalog.database import Database
from emdstore.stores import ArtifactStore
from emdstore.stores.views import StoreView

_CHANGING = ("link", "mkdir", "rename", "replace", "rmdir", "symlink", "unlink", "utime", "write")
_READING = ("exists", "read_bytes", "iter_keys", "info", "iter_info", "iter_found", "open_reader")


class Cut(BaseException):
    """The process is gone."""


class Power:
    """What keeps a process going.

    Parameters
    ----------
    at
        The number of the step, from 1, before which it is cut; None for never.
    watch
        Called before each step that changes something, as somebody who looks from outside.
    only_changes
        Count only steps that may change something that lasts: to be cut off before a mere look, or before a statement
        of a transaction, leaves what being cut off before the next change, or before its end, leaves.
    """

    def __init__(
        self, at: int | None = None, watch: Callable[[], object] | None = None, *, only_changes: bool = False
    ) -> None:
        self.steps: list[str] = []
        self._at, self._watch, self._only_changes = at, watch, only_changes
        self._is_looking = self._wrote = False
        self._thread = threading.current_thread()
        self._open: set[int] = set()

    @property
    def is_cut(self) -> bool:
        return self._at is not None and len(self.steps) >= self._at

    def step(self, what: str, *, changes: bool) -> None:
        """Take a step, unless there is no power any more."""
        if self._is_looking or threading.current_thread() is not self._thread:
            return
        if self.is_cut:
            raise Cut(what)
        if changes and self._watch is not None:
            self._is_looking = True
            try:
                self._watch()
            finally:
                self._is_looking = False
        if self._only_changes and not changes:
            return
        self.steps.append(what)
        if self.is_cut:
            raise Cut(what)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Have all that is done inside the block take its steps."""

        def statement(_connection: object, _cursor: object, text: str, *_: object) -> None:
            writes = text.lstrip().startswith(("INSERT", "UPDATE", "DELETE"))
            self._wrote |= writes
            self.step(f"sql {' '.join(text.split())[:80]}", changes=False)

        def end(_connection: object) -> None:
            wrote, self._wrote = self._wrote, False
            self.step("sql COMMIT", changes=wrote)

        def counted(name: str, function: Callable[..., Any], *, changes: bool = True) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                self.step(name, changes=changes)
                return function(*args, **options)

            return call

        def opened(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                self.step("os.open", changes=True)
            fd = really_open(path, flags, *args, **options)
            self._open.add(fd)
            return fd

        def closed(fd: int) -> None:
            self._open.discard(fd)
            really_close(fd)

        really_open, really_close = os.open, os.close
        listeners: list[tuple[str, Callable[..., None]]] = [("before_cursor_execute", statement), ("commit", end)]
        with pytest.MonkeyPatch.context() as patch:
            for name in _CHANGING:
                patch.setattr(os, name, counted(f"os.{name}", getattr(os, name)))
            patch.setattr(os, "open", opened)
            patch.setattr(os, "close", closed)
            patch.setattr(Database, "insert_rows", counted("sql rows", Database.insert_rows, changes=False))
            for name, listener in listeners:
                sa.event.listen(sa.Engine, name, listener)
            try:
                yield
            finally:
                for name, listener in listeners:
                    sa.event.remove(sa.Engine, name, listener)
                for fd in self._open if self.is_cut else ():  # as the system does, with the locks on them
                    with contextlib.suppress(OSError):
                        really_close(fd)


class Powered(StoreView):
    """A store whose operations are steps of a process."""

    def __init__(self, inner: ArtifactStore, power: Power) -> None:
        super().__init__(inner)
        self._power = power

    def _enter(self, verb: str, key: str) -> str:
        entered = super()._enter(verb, key)
        self._power.step(f"{verb} {key}", changes=verb not in _READING)
        return entered

    def _arguments(self) -> tuple[object, ...]:
        return self._inner, self._power
