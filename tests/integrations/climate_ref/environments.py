"""Virtual environments with a real Climate-REF: one for each version that emdstore is held to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[3]

_PIP_SETTING = re.compile(r"^\S*\.(index-url|extra-index-url)='(.*)'$", re.MULTILINE)
_UV_NAMES = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX"}


_BOUND = re.compile(r"climate-ref>=0\.14\.7,<0\.(\d+)")
NEWEST = int(_BOUND.findall((ROOT / "pyproject.toml").read_text())[0]) - 1
"""The newest minor version that the extra allows; see `allow_newest`."""


@attrs.frozen
class Release:
    """A version of Climate-REF, and the Pythons that it is tried on, best first.

    Attributes
    ----------
    version
        As pip is asked for it.
    pythons
        Versions of Python.
    options
        What pytest is given besides.
    extras
        Those of emdstore that are installed with it.
    """

    version: str
    pythons: tuple[str, ...] = ("3.12", "3.13")
    options: tuple[str, ...] = ()
    extras: str = "test,climate-ref"

    @property
    def requirements(self) -> list[str]:
        return [f"{name}=={self.version}" for name in ("climate-ref", "climate-ref-core", "climate-ref-example")]

    @property
    def group(self) -> str:
        """The group of its tests, in `tests.groups`."""
        return f"climate-ref {self.version}"

    @property
    def python(self) -> Path | None:
        return next(filter(None, map(find_python, self.pythons)), None)


_WHAT_MAY_DIFFER = ("-m", "not once")
_NEWEST = Release(f"0.{NEWEST}.*")
_OLDER = (
    Release("0.14.7", ("3.11",), _WHAT_MAY_DIFFER),
    *(Release(f"0.{minor}.*", options=_WHAT_MAY_DIFFER) for minor in range(15, NEWEST)),
)
RELEASES = {"newest": (_NEWEST,), "older": _OLDER, "all": (*_OLDER, _NEWEST)}[
    os.environ.get("EMDSTORE_CLIMATE_REF", "newest")
]
"""The newest that is supported, and those before it where ``EMDSTORE_CLIMATE_REF`` asks for them."""


def allow_newest(folder: Path) -> str:
    """Try the newest Climate-REF that there is if the extra does not allow it, and move its bound if all tests pass.

    Returns
    -------
    str
        What was found or done.

    Raises
    ------
    AssertionError
        If a test fails. The bound stays.
    """
    asked = ["pip", "compile", "--no-deps", "--no-header", "--no-annotate", "--python-version", "3.12", "-"]
    version = _uv(*asked, given="climate-ref\n").strip().removeprefix("climate-ref==")
    minor = int(version.split(".")[1])
    if version.startswith("0.") and minor <= NEWEST:
        return f"Climate-REF {version} is the newest, and the extra allows it"
    done = try_release(Release(version, extras="test"), folder)
    assert done.returncode == 0, f"Climate-REF {version} stays refused:\n{done.stdout[-20_000:]}"
    assert version.startswith("0."), f"Climate-REF {version} works: write a bound for it by hand"
    file = ROOT / "pyproject.toml"
    file.write_text(_BOUND.sub(f"climate-ref>=0.14.7,<0.{minor + 1}", file.read_text()))
    return f"Climate-REF {version} works: the bound in pyproject.toml is <0.{minor + 1} now; commit it"


def try_release(release: Release, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests of this folder in the environment of a release."""
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:climate_ref", "-o", "filterwarnings=default", "--durations=5"]
    where = "tests/integrations/climate_ref"
    return run_inside(build(release, folder), "-m", "pytest", *options, *release.options, where)


def find_python(version: str) -> Path | None:
    """Find an interpreter of a version such as ``3.12``: this one, on the PATH, or installed by pyenv or uv."""
    return next((path for path in _candidates(version) if _is_python(path, version)), None)


def build(release: Release, folder: Path) -> Path:
    """Build the environment of a release in a folder, unless it is there, and return its interpreter.

    Processes that ask at the same time wait for the one that builds. emdstore is installed as its users would install
    it: a wheel, made from the sources that these tests lie beside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"climate-ref-{release.version.rstrip('.*')}"
    python, finished = place / "bin" / "python", place / "finished"
    with FileLock(folder / f"{place.name}.lock"):
        if not finished.exists():
            _uv("venv", "--clear", "--python", str(release.python), str(place))
            emdstore = f"emdstore[{release.extras}] @ {ROOT.as_uri()}"
            _uv(
                "pip",
                "install",
                "--python",
                str(python),
                "--refresh-package",
                "emdstore",
                emdstore,
                *release.requirements,
            )
            finished.touch()
    return python


def run_inside(python: Path, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run an environment's Python; what it says, on both streams, is the ``stdout`` of the result."""
    # Nothing of this environment may leak in: the emdstore that is installed there is the one to be tested.
    outer = ("PYTHON", "PYTEST_", "COV_", "REF_", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
    return subprocess.run(
        [str(python), *arguments],
        cwd=cwd,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable).resolve()
    for folder in os.get_exec_path():
        yield Path(folder) / f"python{version}"
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    yield from sorted(home.glob(f".local/share/uv/python/cpython-{version}.*/bin/python"))


def _is_python(path: Path, version: str) -> bool:
    """Say whether it is one, which a shim of pyenv may not be."""
    if not path.is_file():
        return False
    code = "import sqlite3, ssl, sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def _uv(*arguments: str, given: str = "") -> str:
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))
    assert uv is not None, "uv, which builds the environments, is not here: pip install 'emdstore[test]'"
    done = subprocess.run(
        [uv, "--no-progress", *(["--quiet"] if not given else []), *arguments],
        input=given,
        env={**as_pip_is_set_up(), **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"uv {arguments[0]} ended with {done.returncode}:\n{done.stderr[-4000:]}"
    return done.stdout


def as_pip_is_set_up() -> Mapping[str, str]:
    """Return what the environment needs so that uv asks the index that pip asks."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = {_UV_NAMES[name]: value for name, value in _PIP_SETTING.findall(said)}
    return {**found, "UV_INDEX_STRATEGY": "unsafe-best-match", "UV_PYTHON_DOWNLOADS": "never"}
