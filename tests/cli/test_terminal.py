"""Every command on a terminal of 80 columns and in a pipe: no name is cut, and only a terminal sees colours."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adoption.outputs import cmec
from tests.cli.conftest import run_command
from tests.cli.terminal import ended_in_a_pipe, on_a_terminal
from tests.ensembles import GOOD, INCOMPLETE

from emdstore.cli import app

COLUMNS = 80
ENDED = {"serve": "http://", "watch": "unchanged"}
"""What goes on until Ctrl-C, and what it says before."""


@pytest.fixture(scope="module")
def places(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace over a copy of the demo's results and catalog."""
    folder = tmp_path_factory.mktemp("terminal")
    shutil.copytree(demo_folder / "results", folder / "results")
    shutil.copytree(demo_folder / "results", folder / "copy")
    shutil.copy(demo_folder / "catalog.db", folder / "catalog.db")
    (folder / "emdstore.toml").write_text(
        'scratch = "scratch"\nresults = "results"\ncatalog = "catalog.db"\n'
        '[targets.staging]\nstore = "results"\n[targets.production]\n'
    )
    cmec(folder)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    for name in ("run-1", "run-2"):
        (folder / name).mkdir()
        (folder / name / "out.log").write_text("log")
    return folder


def calls() -> Iterator[tuple[str, int, str]]:
    """Each command, the exit code of a call, and the call; `{n}` is another number each time it is made."""
    yield "demo", 0, "demo demo-{n} --models 1 --diagnostics 1 --executions 2 --years 2 --pixels 8 --troubles 0"
    yield "ls", 0, "ls results -l"
    yield "tree", 0, "tree results"
    yield "stat", 0, f"stat results {GOOD}"
    yield "cat", 0, f"cat results {GOOD}/diagnostic.json --pretty"
    yield "du", 0, "du results --by set"
    yield "diff", 0, f"diff results copy {GOOD}"
    yield "transfer", 0, "transfer results new-{n}"
    yield "verify", 0, "verify results"
    yield "sets", 0, "sets results"
    yield "events", 0, "events results"
    yield "adopt", 0, "adopt cmec cmec_bundle adopted-{n}"
    yield "snapshot", 0, "snapshot results --list"
    yield "repair", 0, f"repair results {GOOD} --from copy"
    yield "check", 0, f"check results/{GOOD}"
    yield "rm", 1, f"rm results {GOOD} --dry-run"
    yield "materialize", 0, "materialize run-{n} results-{n}/p/d/g/1 --failed"
    yield "replay", 0, "replay results --catalog new-{n}.db"
    yield "show", 0, f"show {GOOD}"
    yield "inputs", 0, f"inputs {GOOD}"
    yield "affected", 4, "affected nothing-like-this"
    yield "resources", 0, "resources"
    yield "export", 0, "export scalars -o out-{n}.csv"
    yield "watch", 130, "watch --every 1h"
    yield "serve", 130, "serve --port 0"
    yield "report", 0, "report results --catalog catalog.db -o pages-{n}"
    yield "init", 0, "init made-{n}"
    yield "run", 1, "run --provider p --diagnostic d -- false"
    yield "list", 0, "list"
    yield "status", 0, "status"
    yield "history", 4, "history nothing-like-this"
    yield "logs", 0, f"logs {GOOD}"
    yield "abort", 2, "abort"
    yield "recover", 0, "recover"
    yield "commit", 0, "commit --pending"
    yield "reingest", 1, f"reingest {INCOMPLETE}"
    yield "gc", 0, "gc"
    yield "config show", 0, "config show"
    yield "config check", 0, "config check"
    yield "db check", 0, "db check"
    yield "db upgrade", 0, "db upgrade"
    yield "db rebind", 0, "db rebind results"
    yield "manifest", 0, "manifest results"
    yield "release create", 0, f"release create r{{n}} {GOOD}"
    yield "release list", 0, "release list"
    yield "release show", 0, "release show r1"
    yield "release verify", 0, "release verify r1"
    yield "release diff", 0, "release diff r1 r1"
    yield "release alias", 0, "release alias current r1"
    yield "release sign", 0, "release sign r{n} key"
    yield "promote", 0, "promote staging production --release r{n} --yes"
    yield "deposit", 0, "deposit results -o crate-{n}"
    yield "datastore", 0, "datastore results -o catalogs-{n}"
    yield "cite", 0, f"cite results {GOOD}"
    yield "provenance", 0, f"provenance results {GOOD}"
    yield "retract", 0, f"retract {INCOMPLETE} --reason why"
    yield "unretract", 0, f"unretract {INCOMPLETE}"
    yield "compare", 0, f"compare {GOOD} {GOOD}"
    yield "doctor", 0, "doctor results"
    yield "forget", 4, "forget nothing-like-this"
    yield "help", 0, "help filters"
    yield "man", 0, "man transfer"
    yield "completion", 0, "completion bash"
    yield "schema", 0, "schema lines"
    yield "climate-ref replay", 2, "climate-ref replay nowhere --database none.db"
    yield "climate-ref retractions", 2, "climate-ref retractions nowhere --database none.db"


def test_every_command_is_called_here() -> None:
    assert {name for name, _, _ in calls()} == set(app.COMMANDS)


@pytest.mark.slow
@pytest.mark.once
def test_every_command_says_the_same_in_a_pipe_and_on_a_terminal_where_no_name_is_cut(places: Path) -> None:
    names = {each.parent.relative_to(places / "results").as_posix() for each in (places / "results").rglob("out.log")}
    for name, code, call in calls():
        until, called = ENDED.get(name), [call.format(n=n).split() for n in (1, 2)]
        if until is None:
            piped = run_command(*called[0], cwd=places)
        else:
            piped = ended_in_a_pipe(called[0], cwd=places, until=until)
        assert piped.returncode == code, (call, piped.stdout, piped.stderr)
        assert "\x1b" not in piped.stdout + piped.stderr, call
        seen = on_a_terminal(called[1], cwd=places, columns=COLUMNS, until=until)
        assert seen.code == code, (call, seen.raw)
        said = seen.raw + piped.stderr
        assert "Traceback" not in said, call
        assert name == "completion" or not re.search(r"\b_[a-z_]+\(", said), call  # no private name
        shown = "\n".join(seen.lines)
        assert not {each for each in names if each in piped.stdout and each not in shown}, call  # none cut, none folded


def test_colours_are_left_out_where_nobody_wants_them(places: Path) -> None:
    coloured = on_a_terminal(["transfer", "results", "x", "nothing"], cwd=places, columns=COLUMNS)
    plain = on_a_terminal(["transfer", "results", "x", "nothing"], cwd=places, columns=COLUMNS, NO_COLOR="1")
    assert "\x1b[31m" in coloured.raw
    assert "\x1b[3" not in plain.raw
