"""Waiting for an engine so that Ctrl-C takes effect at once.

Python runs signal handlers in the main thread, between two instructions. While an engine waits for a silent server in
native code, no instruction is executed. So in the main thread a helper thread calls the engine, and the main thread
waits for it in a way that signals interrupt. Other threads call the engine directly.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from emdstore.per_process import PerProcess

P = ParamSpec("P")
R = TypeVar("R")


# Asked for each artifact, and `threading.main_thread` takes several calls to answer.
_main_thread = threading.main_thread().ident


def _note_fork() -> None:
    global _main_thread
    _main_thread = threading.get_ident()  # the thread that forks is the only one that a child has


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def heard(call: Callable[P, R], /, *args: P.args, **options: P.kwargs) -> R:
    """Call an engine; in the main thread a signal ends the wait.

    The engine may then still finish the request, in a thread that does not keep the process alive.
    """
    if threading.get_ident() != _main_thread:
        return call(*args, **options)
    helpers = _idle.get()
    helper = helpers.pop() if helpers else _Helper()
    value: R = helper.call(lambda: call(*args, **options))
    helpers.append(helper)  # one that was interrupted is still busy, and is not asked again
    return value


def briefly(seconds: float, call: Callable[P, R], /, *args: P.args, **options: P.kwargs) -> R | None:
    """Call an engine and wait for a limited time; None if it takes longer, and then it goes on in the background."""
    helper = _Helper()
    try:
        value: R = helper.call(lambda: call(*args, **options), seconds)
    except Empty:
        return None
    _idle.get().append(helper)
    return value


class _Helper:
    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        threading.Thread(target=self._run, name="emdstore-engine", daemon=True).start()

    def call(self, call: Callable[[], Any], seconds: float | None = None) -> Any:
        self._calls.put(call)
        value, error = self._answers.get(timeout=seconds)
        if error is not None:
            _idle.get().append(self)
            try:
                raise error
            finally:
                del error  # the frame and the error would keep each other alive
        return value

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            try:
                answer: tuple[Any, BaseException | None] = call(), None
            except BaseException as error:  # noqa: BLE001 - raised where it was asked for
                answer = None, error
            del call
            self._answers.put(answer)
            del answer


_idle: PerProcess[list[_Helper]] = PerProcess(list)
