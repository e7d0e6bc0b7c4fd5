"""The contract suite has teeth: every store that is broken on purpose is caught, by the test that is there for it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.once]

HERE = Path(__file__).parent
CONTRACT = HERE / "broken_contract.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("broken", HERE / "broken.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["broken"] = module  # attrs looks there for the module of a class
    spec.loader.exec_module(module)
    return module


BITES = _load().BITES
EXPECTED = [(name, test) for name, bite in BITES.items() for test in bite.tests]


@pytest.fixture
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """Run the suite in another process: all of it on the good store, the tests that should bite on the others."""
    folder = tmp_path_factory.mktemp("teeth")
    report = folder / "report.xml"
    chosen = [f"{CONTRACT}::TestGoodStore", *(f"{CONTRACT}::Test{name}::{test}" for name, test in EXPECTED)]
    options = ["-q", "-c", os.devnull, "--noconftest", "--import-mode=prepend", "--rootdir", str(HERE)]
    options += ["-p", "no:cacheprovider", f"--basetemp={folder / 'tmp'}", f"--junitxml={report}"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *chosen],
        cwd=HERE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        check=False,
        capture_output=True,
        text=True,
    )
    # 1: some tests failed, as they should. Anything else, a test's name that is not there for one, is a fault of ours.
    assert run.returncode == 1, run.stdout + run.stderr
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        name = case.attrib["classname"].rpartition(".Test")[2]
        found[name, case.attrib["name"]] = "+".join(sorted(kinds)) or "passed"
    return found


def test_every_broken_store_is_caught_and_a_good_one_passes(
    outcomes: dict[tuple[str, str], str], subtests: pytest.Subtests
) -> None:
    # One test, as each worker of pytest-xdist that had a part of them would run the suite.
    for name, test in EXPECTED:
        with subtests.test(f"{name}: {test}"):
            assert outcomes.get((name, test)) == "failure"
    good = {test: outcome for (name, test), outcome in outcomes.items() if name == "GoodStore"}
    assert {test: outcome for test, outcome in good.items() if outcome not in ("passed", "skipped")} == {}
    assert len([test for test, outcome in good.items() if outcome == "passed"]) > 130
