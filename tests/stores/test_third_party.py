"""A store of somebody else's: a package of its own that opens by its scheme and keeps the contract."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

import emdstore
from emdstore import InMemoryArtifactStore, StoreURLError, open_store

EXAMPLE = Path(__file__).parents[2] / "examples/emdstore-sqlar"


@pytest.mark.slow
@pytest.mark.once
def test_the_example_installs_as_its_own_package_and_keeps_the_contract(tmp_path: Path) -> None:
    isolated = [] if importlib.util.find_spec("hatchling") is None else ["--no-build-isolation"]
    install = ["-m", "pip", "install", "-q", "--no-deps", *isolated, "--target", str(tmp_path / "site"), str(EXAMPLE)]
    subprocess.run([sys.executable, *install], check=True, timeout=300)
    path = os.pathsep.join([str(tmp_path / "site"), str(Path(emdstore.__file__).parents[1])])
    options = ["-q", "-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "no:cacheprovider", "-p", "no:randomly"]
    options += [] if is_installed() else ["-p", "emdstore.testing.plugin"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(EXAMPLE / "tests")],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = int(done.stdout.rpartition(" passed")[0].split()[-1])
    assert passed > 100, done.stdout[-300:]


def is_installed() -> bool:
    """Tell whether pytest finds the plugin by itself, as where emdstore's wheel is."""
    from importlib.metadata import entry_points

    return any(each.value == "emdstore.testing.plugin" for each in entry_points(group="pytest11"))


def open_there(url: str, **options: object) -> InMemoryArtifactStore:
    store = InMemoryArtifactStore()
    store.write_bytes("opened", f"{url} {options}".encode())
    return store


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """What other packages have registered; a test adds to it."""
    found: list[EntryPoint] = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **chosen: EntryPoints(found).select(**chosen))
    return found


def test_a_registered_scheme_gets_the_url_and_the_options_that_were_given(registered: list[EntryPoint]) -> None:
    registered.append(EntryPoint("tape", f"{__name__}:open_there", "emdstore.stores"))
    opened = open_store("TAPE://robot/7", timeout=5)
    assert opened.read_bytes("opened") == b"tape://robot/7 {'timeout': 5}"


def test_no_package_replaces_a_scheme_of_emdstore(registered: list[EntryPoint], tmp_path: Path) -> None:
    registered += [
        EntryPoint(name, f"{__name__}:open_there", "emdstore.stores") for name in ("memory", "ssh", "s3", "")
    ]
    assert not open_store("memory://third-party").exists("opened")
    assert not open_store(tmp_path).exists("opened")


def test_a_package_that_cannot_be_loaded_is_named(registered: list[EntryPoint]) -> None:
    registered.append(EntryPoint("tape", "no_such_package:open", "emdstore.stores"))
    with pytest.raises(StoreURLError, match="no_such_package:open serves tape://, but cannot be loaded"):
        open_store("tape://robot/7")


def test_two_packages_for_one_scheme_are_refused(registered: list[EntryPoint]) -> None:
    registered += [EntryPoint("tape", f"{__name__}:{name}", "emdstore.stores") for name in ("open_there", "EXAMPLE")]
    with pytest.raises(StoreURLError, match="both serve tape://"):
        open_store("tape://robot/7")
