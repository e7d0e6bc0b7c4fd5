"""Child processes of the contract suite and their tasks.

A child receives the store pickled, like a worker of a batch. It is a new interpreter and not a fork, which would
inherit the parent's engine; a separate clause tests that.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from emdstore.errors import StoreError
from emdstore.stores.port import ArtifactStore, SupportsStreaming
from emdstore.stores.secrecy import credentials_go_along

_SIZE = 256 * 1024


def payload(turn: int) -> bytes:
    """Return a value that reveals torn writes: one byte, repeated a number of times that depends on it."""
    byte = turn % 256
    return bytes([byte]) * (_SIZE + byte)


def is_whole(data: bytes) -> bool:
    """Tell whether the bytes are exactly one `payload`."""
    return data != b"" and data == payload(data[0])


class Child:
    """Another process that runs one task with a store, and is killed at the end of the ``with`` block.

    Parameters
    ----------
    task
        One of the functions below; its lines of output are the child's answers.
    store
        The store, which is sent pickled.
    *args
        The task's other arguments.
    patience
        Seconds after which the child is killed.
    """

    def __init__(self, task: Callable[..., None], store: ArtifactStore, *args: object, patience: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from emdstore.testing import children; children.main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._watchdog = threading.Timer(patience, self._process.kill)
        self._watchdog.start()
        with credentials_go_along():
            self._work = pickle.dumps((task, store, args))

    def __enter__(self) -> Self:
        assert self._process.stdin is not None
        self._process.stdin.write(self._work)
        self._process.stdin.close()
        return self

    def __exit__(self, kind: object, error: object, traceback: TracebackType | None) -> None:
        self._watchdog.cancel()
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def busy(self) -> bool:
        """Whether the child is still running."""
        return self._process.poll() is None

    def answer(self) -> str:
        """Wait for the child's next line; ``""`` if it died, or was killed for hanging, without one."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().rstrip("\n")

    def wait(self) -> int:
        """Wait for the child to end and return its exit code, negative for a signal."""
        return self._process.wait()

    def kill(self) -> None:
        """Kill the child with SIGKILL, as an out-of-memory killer or a batch system would."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Run, in the child, the task that the parent sent."""
    task, store, args = pickle.load(sys.stdin.buffer)
    task(store, *args)


# -- tasks -----------------------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def overwrite(store: ArtifactStore, key: str, first: int, times: int | None = None) -> None:
    """Write payloads to the key, endlessly or a number of times; answer after the first."""
    turn = first
    while times is None or turn < first + times:
        store.write_bytes(key, payload(turn))
        if turn == first:
            _say("ready")
        turn += 1


def write_into_a_full_disk(store: ArtifactStore, key: str, data: bytes, limit: int, deadly: bool) -> None:
    """Write under a kernel limit of `limit` bytes per file, which causes an error or kills the process in the call."""
    store.exists(key)  # opens the engine, which may write files itself
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if deadly else signal.SIG_IGN)
    try:
        store.write_bytes(key, data)
    except StoreError:
        _say("refused")
    else:
        _say("written")


def exchange(store: ArtifactStore) -> None:
    """Answer with what the parent wrote and with the listing; write something for the parent."""
    _say(json.dumps([store.read_bytes("from-parent").decode(), list(store.iter_keys())]))
    store.write_bytes("from-child", b"child")


def die_while_streaming(store: SupportsStreaming, key: str, data: bytes) -> None:
    """Write to a stream and be killed before it is finished."""
    with store.open_writer(key) as writer:
        writer.write(data)
        os.kill(os.getpid(), signal.SIGKILL)
