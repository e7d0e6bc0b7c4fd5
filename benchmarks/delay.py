"""A distant machine: a proxy on the loopback interface that passes on what comes a while later, in both directions.

``python -m benchmarks.delay PORT SECONDS`` prints the port at which it listens.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

_PIECE = 256 * 1024


@contextlib.contextmanager
def run_proxy(port: int, seconds: float) -> Iterator[int]:
    """Run a proxy to a port of this machine; give the port where it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.delay", str(port), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _pass_on(source: socket.socket, sink: socket.socket, seconds: float) -> None:
    under_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def deliver() -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = under_way.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)

    threading.Thread(target=deliver, daemon=True).start()
    data = b" "
    while data:
        try:
            data = source.recv(_PIECE)
        except OSError:
            data = b""
        under_way.put((time.monotonic() + seconds, data))


def main(port: int, seconds: float) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_pass_on, args=(one, other, seconds), daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
