"""Ctrl-C is heard whatever the engine waits for."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from emdstore.stores.waiting import briefly, heard

SCRIPT = """
import sys
from emdstore import S3ArtifactStore
store = S3ArtifactStore("s3://bucket/p", endpoint_url=sys.argv[1], access_key_id="AK", secret_access_key="SK")
def write(data):
    with store.open_writer("k") as writer:
        writer.write(data)
print("begun", flush=True)
try:
    {}
except KeyboardInterrupt:
    print("heard", flush=True)
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """Give the address of a server that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(20)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    "call",
    [
        "store.exists('k')", "store.read_bytes('k')", "store.write_bytes('k', b'x')", "store.create_bytes('k', b'x')",
        "list(store.iter_keys())", "store.delete('k')", "store.scope('a').copy_from(store).copy('k')",
        "write(b'x' * 11_000_000)", "store.open_reader('k')",
    ],
)  # fmt: skip
def test_an_interrupt_ends_the_waiting_for_a_silent_server(silent: str, call: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(call), silent], stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(1)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "heard\n"
        assert process.wait(10) == 0
        assert time.monotonic() - began < 4  # two seconds, on a machine that has nothing else to do


def test_what_a_call_returns_or_raises_comes_back() -> None:
    for _ in range(3):
        assert heard(int, "7", base=8) == 7
        with pytest.raises(ValueError, match="invalid literal"):
            heard(int, "x")
        assert briefly(5, int, "7") == 7
    assert heard(threading.current_thread) is not threading.current_thread()


def test_what_takes_too_long_is_left_to_itself() -> None:
    began = time.monotonic()
    assert briefly(0.1, time.sleep, 3) is None
    assert time.monotonic() - began < 2


def test_other_threads_call_for_themselves() -> None:
    found: list[bool] = []

    def ask() -> None:
        found.append(heard(threading.current_thread) is threading.current_thread())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [True]
