"""Servers of tests end with the tests, whatever ends these."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

RUN = {
    "moto": "from tests.servers.s3 import run_moto as run",
    "seaweedfs": "from tests.servers.s3 import run_seaweed as run",
    "google": "from tests.servers.google import run_google as run",
    "webdav": "from tests.servers.webdav import run_webdav as run",
    "azure": "from tests.servers.azure import run_azure as run",
    "postgresql": "from tests.servers.postgres import run_postgres as run",
    "openssh": "import tempfile, pathlib; from tests.servers.sshd import run_sshd\n"
    "def run(): return run_sshd(pathlib.Path(tempfile.mkdtemp()))",
}


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.skipif(sys.platform != "linux", reason="the system ends nothing by itself")
@pytest.mark.parametrize(
    "server",
    [
        "moto",
        *(
            pytest.param(name, marks=pytest.mark.needs(name))
            for name in ("seaweedfs", "google", "azure", "webdav", "postgresql", "openssh")
        ),
    ],
)
def test_a_server_ends_with_a_test_run_that_is_killed(server: str) -> None:
    code = f"{RUN[server]}\nwith run(): print('up', flush=True); input()"
    tests = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert tests.stdout is not None
    assert tests.stdin is not None
    with tests, tests.stdout, tests.stdin:
        assert tests.stdout.readline() == b"up\n"
        servers = psutil.Process(tests.pid).children(recursive=True)
        assert servers
        tests.send_signal(signal.SIGKILL)
        tests.wait()
    _, alive = psutil.wait_procs(servers, timeout=20)
    assert alive == []
