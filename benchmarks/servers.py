"""The S3 server that is measured against: `fasts3.c`, built with the machine's C compiler."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("fasts3.c")

LOOPBACK: Sequence[str] = ()
REMOTE: Sequence[str] = ("--latency-us", "15000", "--bw-mbs", "90")
"""As far away as a bucket in the next region: 15 ms for each answer, 90 MB/s for each connection."""

_PATIENCE = 60.0


class MissingServerError(Exception):
    """There is no S3 server to measure against; the routes that need one are skipped."""


def build_server(cache: Path) -> Path:
    """Compile the server, unless that was done since its source changed."""
    program = cache / "fasts3"
    if program.exists() and program.stat().st_mtime >= SOURCE.stat().st_mtime:
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise MissingServerError("there is no C compiler (cc) to build the S3 server with")
    subprocess.run([compiler, "-O2", "-pthread", "-o", program, SOURCE], check=True, capture_output=True)
    return program


@contextlib.contextmanager
def run_server(command: Sequence[str]) -> Iterator[str]:
    """Run a server on a free port of the loopback interface, wait until it answers, and give its URL.

    Raises
    ------
    MissingServerError
        If it ends, or does not listen within a minute.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*command, "--port", str(port)], stdin=subprocess.DEVNULL)
    try:
        wait_until_listening(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()  # it holds nothing but memory
        process.wait()


def wait_until_listening(process: subprocess.Popen[bytes], port: int, patience: float = _PATIENCE) -> None:
    """Return when somebody listens on the port; however slowly the server starts, nothing is measured before."""
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                raise MissingServerError(f"the server ended with exit code {process.returncode}") from None
            if time.monotonic() > deadline:
                raise MissingServerError(f"the server did not listen within {patience:.0f} s") from None
            time.sleep(0.02)
        else:
            return
