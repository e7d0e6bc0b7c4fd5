"""Help: examples that can be called, topics that fit on a terminal, completion, and options that there are."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Here, environment
from tests.ensembles import GOOD

import emdstore
from emdstore.cli import app, manual
from emdstore.cli.app import make_app
from emdstore.cli.examples import EXAMPLES
from emdstore.executions import settings

ROOT = Path(__file__).parents[2]
SOURCE = Path(emdstore.__file__).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Of other programs, as pages and comments have them.
FOREIGN = {
    "--array", "--artifact-stores", "--chdir", "--decorate", "--dependency", "--draft", "--extra-index-url",
    "--fault", "--figure", "--fsync", "--goals", "--help", "--job-name", "--limit-download", "--limit-upload",
    "--min-age", "--no-dev", "--one-of", "--order-by", "--output", "--quick", "--quiet", "--read-data",
    "--secret-access-key", "--stats", "--transform", "--use-json-log", "--user", "--version", "--wildcards",
    "--workload", "--x-s3",
}  # fmt: skip


def options() -> set[str]:
    """Return all options of all commands."""
    whole = make_app()
    found = {"--install-completion", "--complete"}
    for name in app.COMMANDS:
        command = whole
        for word in name.split():
            command = command[word]
        for argument in command.assemble_argument_collection():
            found |= {each for each in argument.names if each.startswith("--")}
    return found


def test_every_option_that_is_named_anywhere_is_there() -> None:
    known = options() | FOREIGN
    unknown = {}
    texts = [*PAGES, *(path for path in SOURCE.rglob("*.py") if "testing" not in path.parts)]
    for path in texts:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":  # what other programs are called with stands in scripts
            text = "\n".join(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9](?![\w-])", text)) - known
        if named:
            unknown[path.name] = named
    assert unknown == {}


def test_no_message_shows_a_private_name() -> None:
    told = {"say", "note", "sum_up"}
    shown = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_said = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in told
            if isinstance(node, ast.Raise) or is_said:
                texts = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
                shown += [text for text in texts if isinstance(text, str) and re.search(r"(?<![\w.])_[a-z]\w*\(", text)]
    assert shown == []


def test_every_command_has_two_examples_that_can_be_parsed() -> None:
    assert EXAMPLES.keys() == app.COMMANDS.keys()
    for name, examples in EXAMPLES.items():
        assert len(examples) >= 2, name
        for example in examples:
            program, *call = shlex.split(example)
            assert (program, call[: len(name.split())]) == ("emdstore", name.split())
            make_app(call).parse_args(call, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("name", ["transfer", "db check"])
def test_a_commands_help_ends_in_its_examples(here: Here, name: str) -> None:
    said = " ".join(here(*name.split(), "--help").out.split())
    assert all(example in said for example in EXAMPLES[name])


@pytest.mark.parametrize("topic", [None, "exit-codes", "filters", "urls", "environment"])
def test_a_topic_fits_on_a_terminal(here: Here, topic: str | None) -> None:
    lines = here("help", *([topic] if topic else [])).out.splitlines()
    assert len(lines) >= 5
    assert max(map(len, lines)) < 80


def test_the_environment_that_is_told_of_is_the_one_that_counts(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    said = here("help", "environment").out
    for name in (*settings._PLACES, *settings._FLAGS, "lease_seconds"):
        assert f"EMDSTORE_{name.upper()}" in said
    Path("here").mkdir()
    (Path("here") / "a.txt").write_text("abc")
    monkeypatch.setenv("EMDSTORE_LS_LONG", "true")
    assert here("ls", "here").out.split()[0] == "3"
    monkeypatch.setenv("EMDSTORE_LS_MIN_SIZE", "1k")
    here("ls", "here", code=4)
    assert here("ls", "here", "--min-size", "1").out.split()[-1] == "a.txt"
    monkeypatch.setenv("EMDSTORE_LS_MIN_SIZE", "many")
    here("ls", "here", code=2)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_installed_where_the_shell_looks(
    here: Here, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    script = here("completion", shell).out
    assert f"emdstore --complete {shell} " in script
    file = Path(here("--install-completion", shell).out.partition(" is read")[0])
    assert file.is_relative_to(tmp_path)
    assert file.read_text() == script


def test_a_shell_that_cannot_is_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/csh")
    assert "'csh' is no shell" in here("completion", code=2).err


# -- what a shell offers -------------------------------------------------------------------------------------------


@pytest.fixture
def typed(here: Here, demo_folder: Path) -> Callable[[str], list[str]]:
    """What is offered at the end of a line, in a workspace with a named store."""
    config = "".join(f'{name} = "{demo_folder / place}"\n' for name, place in PLACES.items())
    Path("emdstore.toml").write_text(f'{config}[stores.archive]\nurl = "{demo_folder / "results"}"\n')
    return lambda line: here("--complete", "bash", f"emdstore {line}").out.splitlines()


PLACES = {"scratch": "scratch", "results": "results", "catalog": "catalog.db"}


def test_commands_options_and_their_values_are_offered(typed: Callable[[str], list[str]]) -> None:
    assert typed("tr") == ["transfer", "tree"]
    assert typed("db ") == ["check", "rebind", "upgrade"]
    assert typed("transfer --max-") == ["--max-delete", "--max-size", "--max-transfer"]
    assert typed("transfer a b --order ") == ["largest", "name", "smallest"]
    assert typed("sets results --state pub") == ["published", "publishing"]
    assert typed("nonsense ") == []
    assert typed("ls 'not closed") == []


def test_stores_sets_and_what_lies_in_a_store_are_offered_as_they_are_now(
    typed: Callable[[str], list[str]], demo_folder: Path
) -> None:
    provider, diagnostic, *_ = GOOD.split("/")
    assert "archive:" in typed("transfer ")
    assert "archive:" in typed("transfer archive: --dry-run ")
    assert f"{provider}/" in typed("ls archive:")  # bash completes behind the colon
    assert f"{provider}/{diagnostic}/" in typed(f"verify {demo_folder / 'results'} {provider}/")
    assert GOOD in typed(f"show {GOOD[:-3]}")
    assert GOOD in typed("logs ")
    assert typed("ls nowhere ") == []
    assert typed("ls s3://no-such-bucket-at-all-x/ ") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "ask"),
    [
        (
            "bash",
            "source script; COMP_LINE='emdstore db ch'; COMP_POINT=14; compopt() { :; }; "
            'COMP_WORDS=(emdstore db ch); COMP_CWORD=2; _emdstore; echo "${COMPREPLY[@]}"',
        ),
        ("fish", "source script; complete -C 'emdstore db ch'"),
        (
            "zsh",
            "compdef() { :; }; compadd() { echo ${@:#-*}; }; source ./script; words=(emdstore db ch); CURRENT=3; "
            "_emdstore",
        ),
    ],
)
def test_each_shell_offers_what_it_is_told(here: Here, tmp_path: Path, shell: str, ask: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not there")
    Path("script").write_text(here("completion", shell).out)
    Path("emdstore").write_text(f'#!/bin/sh\nexec {sys.executable} -m emdstore "$@"\n')
    Path("emdstore").chmod(0o755)
    env = environment(HOME=str(tmp_path), PATH=f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run([shell, "-c", ask], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["check"], done


# -- manual pages --------------------------------------------------------------------------------------------------


def test_every_command_has_a_manual_page_that_groff_takes(here: Here, tmp_path: Path) -> None:
    here("man", "--install", "--folder", "pages")
    pages = sorted(Path("pages").iterdir())
    assert len(pages) == len(app.COMMANDS) + 1
    assert here("man", "db", "check").out == (Path("pages") / "emdstore-db-check.1").read_text()
    overview = here("man").out
    for name in app.COMMANDS:
        text = (Path("pages") / f"emdstore-{name.replace(' ', '-')}.1").read_text()
        assert all(manual._escaped(example) in text for example in EXAMPLES[name])
        assert f"emdstore\\-{name.split()[0]}".replace("climate-ref", "climate\\-ref") in overview
    transfer = (Path("pages") / "emdstore-transfer.1").read_text()
    assert "\\-\\-bwlimit BWLIMIT" in transfer
    assert "\\-\\-empty\\-include" not in transfer
    assert ".B 130" in transfer
    assert "no command 'nothing'" in here("man", "nothing", code=2).err
    if shutil.which("groff") is not None:
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-z", *pages], capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_help_lists_each_command_under_what_it_is_about(here: Here) -> None:
    top = {name.split()[0] for name in app.COMMANDS}
    assert sorted(top) == sorted(name for names in app.sections().values() for name in names)
    said = here("--help").out
    places = [said.index(title) for title in app.SECTIONS]
    assert places == sorted(places)
    assert said.index("transfer ") > said.index("Move, prove and mend")
