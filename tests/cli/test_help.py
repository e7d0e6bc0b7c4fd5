"""Help: examples that can be called, topics that fit on a terminal, completion, and options that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.cli.conftest import Here

import emdstore
from emdstore.cli import app
from emdstore.cli.app import make_app
from emdstore.cli.examples import EXAMPLES
from emdstore.executions import settings

ROOT = Path(__file__).parents[2]
SOURCE = Path(emdstore.__file__).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Of other programs, as pages and comments have them.
FOREIGN = {
    "--array", "--artifact-stores", "--chdir", "--decorate", "--dependency", "--draft", "--extra-index-url",
    "--fault", "--fsync", "--help", "--job-name", "--limit-download", "--limit-upload", "--min-age",
    "--no-dev", "--order-by", "--output", "--quiet", "--read-data", "--secret-access-key", "--stats",
    "--transform", "--use-json-log", "--user", "--version", "--wildcards", "--workload", "--x-s3",
}  # fmt: skip


def options() -> set[str]:
    """Return all options of all commands."""
    whole = make_app()
    found = {"--install-completion"}
    for name in app._COMMANDS:
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
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) - known
        if named:
            unknown[path.name] = named
    assert unknown == {}


def test_every_command_has_two_examples_that_can_be_parsed() -> None:
    assert EXAMPLES.keys() == app._COMMANDS.keys()
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


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(
    here: Here, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    script = here("completion", shell).out
    assert "transfer" in script
    assert "max-transfer" in script
    if shell == "bash":
        file = Path(here("--install-completion", "bash").out.partition(" is read")[0])
        assert file.is_relative_to(tmp_path)
        assert "max-transfer" in file.read_text()


def test_a_shell_that_cannot_is_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/csh")
    assert "'csh' is no shell" in here("completion", code=2).err
