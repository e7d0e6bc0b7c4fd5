from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.ensembles import SMALL
from tests.processes import run_forked

import emdstore
from emdstore.cli import app
from emdstore.demo import write_ensemble

COMMAND = [sys.executable, "-m", "emdstore"]


def with_seconds_to_end(seconds: float) -> list[str]:
    """Return the command that gives work in hand so long after Ctrl-C; two seconds may be too few on a busy machine.

    A minute also lets uploads be given up, however long the server takes to hear of it.
    """
    code = (
        "import sys; from emdstore.cli import app, main; from emdstore.stores.objects import streams; "
        f"from emdstore.transfers import run; app._SECONDS_TO_END = {seconds}; "
        f"run._LAST_SECONDS_OF_UPLOADS = streams._LAST_SECONDS = {seconds if seconds == 60 else 1.5}; sys.exit(main())"
    )
    return [sys.executable, "-c", code]


@attrs.frozen
class Answer:
    """What the command line said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


CLI = Callable[..., Answer]

READ_AT_START = ("PYTHON", "LC_", "LANG", "TZ")
"""How the variables begin that Python itself reads when it starts, and not again."""


def environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without what would change the answers."""
    ours = ("AWS_", "EMDSTORE_", "COLUMNS", "NO_COLOR", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # The emdstore that this process imports, wherever the command is run.
    return kept | {"PYTHONPATH": str(Path(emdstore.__file__).parents[1])} | extra


def run_command(*arguments: object, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the real command line in a process of its own: a fork, unless Python has to start anew for its variables."""
    command, variables = [*COMMAND, *map(str, arguments)], environment(**env or {})
    if not any(name.startswith(READ_AT_START) for name in env or {}):
        return run_forked(command, cwd=cwd, env=variables)
    return subprocess.run(
        command,
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


@pytest.fixture
def cli(tmp_path: Path) -> CLI:
    """The real command line, in a process of its own, in an empty folder."""

    def run(*arguments: object, code: int | None = 0, env: dict[str, str] | None = None) -> Answer:
        done = run_command(*arguments, cwd=tmp_path, env=env)
        answer = Answer(done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in answer.err, answer.err
        assert code is None or answer.code == code, answer
        return answer

    return run


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scratch, results and catalog of a small ensemble, as the demo leaves them; not to be changed."""
    folder = tmp_path_factory.mktemp("demo")
    write_ensemble(folder, SMALL)
    return folder


Here = CLI


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    """The command line in this process, in an empty folder: the same parser and the same exit codes, in less time."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("EMDSTORE_")]:
        monkeypatch.delenv(name)

    def run(*arguments: object, code: int | None = 0) -> Answer:
        capfd.readouterr()
        got = app.run([*map(str, arguments)])
        answer = Answer(got, *capfd.readouterr())
        assert code is None or answer.code == code, answer
        return answer

    return run
