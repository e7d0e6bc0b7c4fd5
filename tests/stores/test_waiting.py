"""Ctrl-C is heard whatever the engine waits for."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import pytest
from tests.processes import FORKS

from emdstore.stores import S3ArtifactStore
from emdstore.stores.waiting import briefly, heard


def _write(store: S3ArtifactStore) -> None:
    with store.open_writer("k") as writer:
        writer.write(b"x" * 11_000_000)


def _copy(store: S3ArtifactStore) -> None:
    copying = store.scope("a").copy_from(store)
    assert copying is not None
    copying.copy("k")


CALLS: dict[str, Callable[[S3ArtifactStore], object]] = {
    "exists": lambda store: store.exists("k"),
    "read": lambda store: store.read_bytes("k"),
    "write": lambda store: store.write_bytes("k", b"x"),
    "create": lambda store: store.create_bytes("k", b"x"),
    "list": lambda store: list(store.iter_keys()),
    "delete": lambda store: store.delete("k"),
    "copy": _copy,
    "upload in parts": _write,
    "open": lambda store: store.open_reader("k"),
}


def _wait(parent: Connection, url: str, call: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    store = S3ArtifactStore("s3://bucket/p", endpoint_url=url, access_key_id="AK", secret_access_key="SK")
    parent.send("begun")
    try:
        CALLS[call](store)
    except KeyboardInterrupt:
        parent.send("heard")


@pytest.fixture
def silent() -> Iterator[str]:
    """Give the address of a server that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(20)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_an_interrupt_ends_the_waiting_for_a_silent_server(silent: str, subtests: pytest.Subtests) -> None:
    children = {}
    for call in CALLS:  # all at once: each waits for a second and needs a moment to begin
        ours, theirs = FORKS.Pipe(duplex=False)
        child = FORKS.Process(target=_wait, args=(theirs, silent, call))
        child.start()
        theirs.close()
        children[call] = (child, ours)
    for _, ours in children.values():
        assert ours.recv() == "begun"
    time.sleep(1)
    for call, (child, ours) in children.items():
        with subtests.test(call):
            began = time.monotonic()
            os.kill(child.pid, signal.SIGINT)
            assert ours.recv() == "heard"
            child.join(15)
            assert child.exitcode == 0
            assert time.monotonic() - began < 15  # two seconds, on a machine that has nothing else to do
        child.kill()
        child.join()


def test_what_a_call_returns_or_raises_comes_back() -> None:
    for _ in range(3):
        assert heard(int, "7", base=8) == 7
        with pytest.raises(ValueError, match="invalid literal"):
            heard(int, "x")
        assert briefly(5, int, "7") == 7
    assert heard(threading.current_thread) is not threading.current_thread()


def _fork_in_a_thread(said: Connection) -> None:
    def make() -> None:
        if os.fork() == 0:
            said.send(heard(threading.current_thread) is threading.current_thread())
            os._exit(0)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()


def test_the_only_thread_of_a_fork_is_its_main_thread_whichever_made_it() -> None:
    ours, theirs = FORKS.Pipe()
    child = FORKS.Process(target=_fork_in_a_thread, args=(theirs,))
    child.start()
    assert ours.poll(60)
    assert ours.recv() is False
    child.join()


def test_what_takes_too_long_is_left_to_itself() -> None:
    began = time.monotonic()
    assert briefly(0.1, time.sleep, 30) is None
    assert time.monotonic() - began < 15


def test_other_threads_call_for_themselves() -> None:
    found: list[bool] = []

    def ask() -> None:
        found.append(heard(threading.current_thread) is threading.current_thread())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [True]
