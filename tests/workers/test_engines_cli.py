"""The commands' --workers, --dask and --parsl."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import CLI, Answer, cli  # noqa: F401 - a fixture
from tests.ensembles import SMALL
from tests.transfers.stores import contents

from emdstore.demo import write_ensemble
from emdstore.stores import LocalArtifactStore

Ask = Callable[..., Answer]


@pytest.fixture
def ask(cli: CLI, workers_find_us: None) -> Ask:  # noqa: F811
    """The command line, in a Python that was started anew: what workers have to find is in its environment."""
    return lambda *arguments, code=0: cli(
        *arguments, code=code, env={name: os.environ[name] for name in ("PATH", "PYTHONPATH")}
    )


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("engine", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("dask", "parsl")])
def test_an_engine_does_the_work_of_a_command(
    ask: Ask, request: pytest.FixtureRequest, engine: str, filled: LocalArtifactStore, tmp_path: Path
) -> None:
    given = {
        "dask": lambda: request.getfixturevalue("dask_client").scheduler.address,
        "parsl": lambda: request.getfixturevalue("parsl_file"),
    }[engine]()
    ask("transfer", filled.root, tmp_path / "dest", f"--{engine}", given)
    assert contents(LocalArtifactStore(tmp_path / "dest")) == contents(filled)
    # The store that only the command's own process has tells where the work would have been done.
    refused = ask("transfer", filled.root, "memory://here", f"--{engine}", given, code=1)
    assert "InMemoryArtifactStore" in refused.err
    assert "exists in this process only" in refused.err


@pytest.mark.parametrize("command", ["transfer", "replay", "verify", "commit"])
def test_every_command_that_has_much_to_do_has_the_options_in_its_help(cli: CLI, command: str) -> None:  # noqa: F811
    shown = cli(command, "--help").out
    assert all(option in shown for option in ("--workers", "--dask", "--parsl"))


def test_threads_do_it_where_a_number_is_given(cli: CLI, tmp_path: Path, demo: Path) -> None:  # noqa: F811
    for arguments in (
        ("transfer", demo / "results", tmp_path / "copy"),
        ("verify", demo / "results"),
        ("replay", demo / "results", "--catalog", "new.db"),
    ):
        cli(*arguments, "--workers", 2)
        assert "at least 1" in cli(*arguments, "--workers", 0, code=2).err


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_ensemble(folder, SMALL)
    return folder


def wrong(name: str, *arguments: object, said: str, needs: tuple[str, ...] = ()) -> Any:
    return pytest.param(arguments, said, id=name, marks=[pytest.mark.needs(group) for group in needs])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        wrong("two at once", "--workers", 2, "--dask", "tcp://127.0.0.1:8786", said="exclude each other"),
        wrong("no address", "--dask", "head-node", said="no address as tcp://host:8786", needs=("dask",)),
        wrong("another scheme", "--dask", "http://h:8786", said="no address as tcp://host:8786", needs=("dask",)),
        wrong("no file", "--parsl", "absent.py", said="there is no file 'absent.py'"),
        wrong("no config", "--parsl", "empty.py", said="defines no `config`", needs=("parsl",)),
        wrong("not Python", "--parsl", "broken.py", said="cannot be run: ZeroDivisionError", needs=("parsl",)),
    ],
)
def test_a_wrong_call_is_said_to_be_one_and_nothing_is_done(
    cli: CLI,  # noqa: F811
    arguments: tuple[object, ...],
    said: str,
    filled: LocalArtifactStore,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text("1 / 0")
    assert said in cli("transfer", filled.root, "dest", *arguments, code=2).err
    assert not (tmp_path / "dest").exists()


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.needs("dask")
def test_a_dask_address_at_which_nobody_answers_is_told_soon(
    ask: Ask, filled: LocalArtifactStore, tmp_path: Path
) -> None:
    started = time.monotonic()
    answer = ask("transfer", filled.root, "dest", "--dask", "tcp://127.0.0.1:9", "--json", code=1)
    assert time.monotonic() - started < 60
    assert answer.json["error"]["type"] == "ExecutorError"
    assert "no Dask scheduler answered at tcp://127.0.0.1:9" in answer.json["error"]["message"]
    assert not (tmp_path / "dest").exists()


@pytest.mark.parametrize(
    ("option", "value", "package"), [("--dask", "tcp://h:1", "distributed"), ("--parsl", "x.py", "parsl")]
)
def test_a_missing_extra_is_told_with_what_installs_it(
    option: str, value: str, package: str, filled: LocalArtifactStore, tmp_path: Path
) -> None:
    (tmp_path / "x.py").write_text("")
    hide: Any = f"import sys; sys.modules[{package!r}] = None; from emdstore.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", hide, "verify", str(filled.root), option, value],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert f"pip install 'emdstore[{option.removeprefix('--')}]'" in done.stderr
