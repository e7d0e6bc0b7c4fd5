"""Tests of what is not installed are left out as a group, and told in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CONFTEST = """
import pytest
import tests.groups
from tests.groups import Group

pytest_plugins = ["tests.groups"]
tests.groups.GROUPS = {
    "engine": Group("pip install engine", ("no_such_engine",), fixtures=["cluster"]),
    "program": Group("apt-get install program", has_program=lambda: False, everywhere=False),
    "here": Group("nothing", ("pytest",), fixtures=["at_hand"]),
}

@pytest.fixture
def cluster():
    raise AssertionError

@pytest.fixture
def at_hand():
    pass

@pytest.fixture(params=["simple", pytest.param("elaborate", marks=pytest.mark.needs("program"))])
def kind(request):
    return request.param
"""

FILES = {
    "conftest.py": CONFTEST,
    "test_by_import.py": "import os\nimport no_such_engine.part\n\ndef test_it(): pass\n",
    "test_by_use.py": """
import pytest

def test_by_fixture(cluster): pass

def test_by_parameter_of_a_fixture(kind): assert kind == "simple"

@pytest.mark.needs("here", "program")
def test_by_mark(): raise AssertionError

@pytest.mark.needs("here")
def test_at_hand(at_hand):
    def later():
        import no_such_engine
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(project: Path, *options: str) -> tuple[int, str]:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    outer["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take longer to import than the tests
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", ".", "-pno:cacheprovider", "-pxdist", *options],
        cwd=project,
        env=outer | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["in one process", "by workers"])
def test_each_group_is_left_out_with_one_line_that_says_what_to_install(
    project: Path, options: tuple[str, ...]
) -> None:
    code, said = run(project, *options)
    assert code == 0, said
    assert "2 passed" in said
    assert [line for line in said.splitlines() if "left out;" in line] == [
        "engine: 1 test, test_by_import.py left out; pip install engine",
        "program: 2 tests left out; apt-get install program",
    ]


def test_what_was_not_chosen_is_not_told(project: Path) -> None:
    code, said = run(project, "-k", "hand", "test_by_use.py")
    assert code == 0, said
    assert "1 passed" in said
    assert "left out" not in said


def test_a_whole_run_does_not_start_without_what_can_be_installed_everywhere(project: Path) -> None:
    code, said = run(project, "--whole")
    assert code == pytest.ExitCode.USAGE_ERROR, said
    assert "engine: pip install engine" in said
    assert "program" not in said
    assert "passed" not in said


def test_a_plugin_of_somebodys_that_warns_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "pytest_noisy.py").write_text(
        "import pytest, warnings\n"
        "def pytest_configure():\n"
        "    warnings.warn(pytest.PytestDeprecationWarning('one of its options is not set'))\n"
        "def pytest_runtest_setup():\n"
        "    warnings.warn('it calls what is deprecated', DeprecationWarning)\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "pytest_noisy", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/test_keys.py", "-k", "test_a_key_is_text"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it calls what is deprecated" in done.stdout
