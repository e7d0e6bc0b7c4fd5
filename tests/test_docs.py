"""What the pages say can be followed: links lead somewhere, and code is of this emdstore."""

from __future__ import annotations

import ast
import builtins
import concurrent.futures
import functools
import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from cyclopts import CycloptsError
from markdown_it import MarkdownIt
from markdown_it.token import Token

from emdstore.cli.app import make_app
from emdstore.errors import MissingExtraError

ROOT = Path(__file__).parents[1]
PAGES = {page.relative_to(ROOT).as_posix(): page for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])}
EXTERNAL = {"http", "https", "mailto"}


@functools.cache
def tokens(page: Path) -> Sequence[Token]:
    """Return what a page consists of."""
    found = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [each for token in found for each in (token, *(token.children or ()))]


def links(page: Path) -> Iterator[str]:
    for token in tokens(page):
        target = token.attrGet("href") or token.attrGet("src")
        if target is not None:
            yield str(target)


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as the places that show it make them."""
    found, heading = set(), False
    for token in tokens(page):
        if token.type == "inline" and heading:
            words = re.sub(r"[^\w\- ]", "", token.content.lower().strip())
            found.add(words.replace(" ", "-"))
        heading = token.type == "heading_open"
    return found


def blocks(*languages: str) -> list[Any]:
    """Return the code blocks of all pages in one of some languages, as parameters of a test."""
    return [
        pytest.param(token.content, id=f"{name}:{token.map[0] + 2}")
        for name, page in PAGES.items()
        for token in tokens(page)
        if token.type == "fence" and token.info in languages and token.map
    ]


def commands(script: str) -> Iterator[list[str]]:
    """Iterate over the calls of the command line in a script."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        words.whitespace_split = True
        words.commenters = "#"
        call: list[str] | None = None
        for word in words:
            if re.fullmatch(r"[&|;]+|do", word):
                if call is not None:
                    yield call
                call = None
            elif call is not None:
                call.append(word)
            elif Path(word).name == "emdstore":
                call = []
        if call is not None:
            yield call


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_a_page_and_a_heading_of_it(name: str) -> None:
    page = PAGES[name]
    astray = []
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            astray += [link] * (parts.scheme not in EXTERNAL)
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.exists() or (parts.fragment and parts.fragment not in anchors(target)):
            astray.append(link)
    assert astray == []


def has(module: str, name: str) -> bool:
    """Say whether a module of emdstore has a name, or says so if its extra is not installed here."""
    try:
        return hasattr(importlib.import_module(module), name)
    except MissingExtraError:
        return name in said_to_be_public(module)


def said_to_be_public(module: str) -> list[str]:
    """Return what a module says is public, without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    (public,) = re.findall(r"^__all__ = (\[.*?\])", Path(spec.origin).read_text(), re.MULTILINE | re.DOTALL)
    return list(ast.literal_eval(public))


PUBLIC = [
    "emdstore",
    "emdstore.catalog",
    "emdstore.demo",
    "emdstore.emds",
    "emdstore.adoption",
    "emdstore.exchange",
    "emdstore.stores",
    "emdstore.testing",
]
# Of systemd, of floating point, of PostgreSQL, of OpenSSH; rights of S3.
FOREIGN = {"ExecStart", "RestartSec", "NaN", "current_database"}
FOREIGN |= {"BatchMode", "ConnectTimeout", "ControlMaster", "MaxSessions", "MaxStartups", "ServerAliveInterval"}
FOREIGN |= {"CalendarMonths"}  # of PMP
FOREIGN |= {"DeleteObject", "GetObject", "ListBucket", "PutObject"}


def names(text: str) -> set[str]:
    """Return what looks like a class, or a function that is called, in the code within a text."""
    return set(re.findall(r"(?<![\w.])(?:[A-Z][a-z]+(?:[A-Z][A-Za-z0-9]*)+|[a-z]+(?:_[a-z]+)+(?=\())", text))


def known_names() -> set[str]:
    """Return the names of the public modules and of what their classes have, of Python and of executors."""
    found = set(FOREIGN) | set(dir(builtins)) | set(concurrent.futures.__all__)
    found |= set(said_to_be_public("emdstore.integrations.climate_ref"))
    found |= set(dir(importlib.import_module("emdstore.testing.plugin")))  # the fixtures
    for module in map(importlib.import_module, PUBLIC):
        found |= set(module.__all__)
        found |= {each for name in module.__all__ for each in dir(getattr(module, name)) if not each.startswith("_")}
    return found


def test_every_name_in_a_page_is_public() -> None:
    known = known_names()
    unknown = {
        (page, name)
        for page, path in PAGES.items()
        if page != "CHANGELOG.md"
        for token in tokens(path)
        if token.type == "code_inline"
        for name in names(token.content) - known
    }
    assert unknown == set()


def test_a_name_that_is_not_public_is_noticed() -> None:
    assert names("LocalArtifactStore(x), open_stores('a').start_execution(NoSuchStore)") - known_names() == {
        "open_stores",
        "NoSuchStore",
    }


@pytest.mark.parametrize("code", blocks("python"))
def test_python_in_a_page_imports_what_there_is(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "emdstore":
            assert [alias.name for alias in node.names if not has(node.module, alias.name)] == []


@pytest.mark.parametrize("script", blocks("sh", "bash"))
def test_a_script_in_a_page_calls_commands_and_options_that_there_are(script: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    for call in commands(script):
        parse(call)


def parse(call: list[str]) -> None:
    make_app(call).parse_args(call, exit_on_error=False, print_error=False)


def test_a_call_is_found_in_a_script_and_a_wrong_one_is_noticed() -> None:
    script = "cd x && A=1 .venv/bin/emdstore ls \\\n  results | wc -l  # emdstore not-called\nemdstore ls --wrong; true"
    right, wrong = commands(script)
    assert right == ["ls", "results"]
    parse(right)
    with pytest.raises(CycloptsError):
        parse(wrong)
