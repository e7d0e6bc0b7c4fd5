"""The pages that are made from the program: its API, its commands, its schemas, and the contract of stores."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sphinx.ext.autodoc.mock import mock

import emdstore
from emdstore.cli.app import COMMANDS, make_app
from emdstore.cli.documents import LAYOUTS, document_schema
from emdstore.cli.examples import EXAMPLES
from emdstore.cli.exit_codes import MEANINGS
from emdstore.emds import bundle_schema
from emdstore.errors import EmdstoreError, Interrupted
from emdstore.testing import StoreContract

with mock(["climate_ref", "climate_ref_core"]):  # a framework of its own; its integration is documented without it
    importlib.import_module("emdstore.integrations.climate_ref")

PACKAGES = {
    "emdstore": "What most programs need. Each name is imported when it is first used.",
    "emdstore.stores": "The port, its optional capabilities, and the adapters.",
    "emdstore.emds": "The format of a set: reading, checking and writing its bundles.",
    "emdstore.catalog": "The database: what queries return, and what a framework writes.",
    "emdstore.adoption": "Sets from what other frameworks have written; most needs the extra `adopt`.",
    "emdstore.exchange": "Published sets in the formats of others; most needs the extra `exchange`.",
    "emdstore.testing": "For tests: the contract of stores, and stores that fail on demand.",
    "emdstore.demo": "A made-up ensemble of climate models.",
    "emdstore.integrations.climate_ref": "Climate-REF on emdstore; it needs the extra `climate-ref`.",
}


def listing(title: str, words: str, pages: Mapping[str, str]) -> str:
    """Return a page that lists others, by their titles."""
    names = sorted(each for each in pages if each != "index.md")
    lines = "\n".join(f"- [{pages[each]}]({each})" for each in names)
    tree = "\n".join(each.removesuffix(".md") for each in names)
    return f"# {title}\n\n{words}\n\n{lines}\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"


def pages() -> dict[str, str]:
    """Return all pages that are made, by their places."""
    return {
        **dict(_api()),
        **dict(_commands()),
        "reference/contract.md": _contract(),
        "reference/schemas.md": _schemas(),
    }


# -- the API ---------------------------------------------------------------------------------------------------------


def public_names() -> dict[str, str]:
    """Return every public name, with the package that it is documented in: the first that has it."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for name in importlib.import_module(package).__all__:
            found.setdefault(name, package)
    return found


def _api() -> Iterator[tuple[str, str]]:
    by_package: dict[str, list[str]] = defaultdict(list)
    for name, package in public_names().items():
        by_package[package].append(name)
    titles = {f"{package}.md": f"`{package}`" for package in by_package} | {"errors.md": "Errors"}
    yield "reference/api/index.md", listing("The API", "Every public name.", titles)
    for package, names in by_package.items():
        found = {name: getattr(importlib.import_module(package), name) for name in names}
        plain = {name: each for name, each in found.items() if not _is_error(each)}
        entries = "\n".join(_entry(package, name, each) for name, each in plain.items())
        yield (
            f"reference/api/{package}.md",
            f"# `{package}`\n\n{PACKAGES[package]}\n\n```{{eval-rst}}\n{entries}\n```\n",
        )
    yield "reference/api/errors.md", _errors()


def _is_error(found: object) -> bool:
    return inspect.isclass(found) and issubclass(found, EmdstoreError | Interrupted)


def _entry(package: str, name: str, found: object) -> str:
    if inspect.isclass(found):
        members = "" if found is StoreContract else "   :members:\n   :inherited-members: Exception, str, tuple\n"
        return f".. autoclass:: {package}.{name}\n{members}"
    if inspect.isroutine(found):
        return f".. autofunction:: {package}.{name}\n"
    value = f"   :value: {found!r}\n" if isinstance(found, str) else ""
    return f".. py:data:: {package}.{name}\n{value}\n{textwrap.indent(_words_on(package, name), '   ')}\n"


def _words_on(package: str, name: str) -> str:
    """Return the string that stands below a constant in the source."""
    (folder,) = importlib.import_module(package).__path__
    for path in sorted(Path(folder).rglob("*.py")):
        body = ast.parse(path.read_bytes()).body
        for each, after in itertools.pairwise(body):
            targets = each.targets if isinstance(each, ast.Assign) else [getattr(each, "target", None)]
            if any(getattr(target, "id", None) == name for target in targets) and isinstance(after, ast.Expr):
                return str(ast.literal_eval(after.value))
    return ""


_ANYWHERE = {
    "StoreAccessError": "any call of a store that somebody may refuse",
    "StoreUnavailableError": "any call of a store that is reached over a network",
    "IntegrityError": "readers of artifacts, where bytes are not those of the record or of the store's checksum",
    "DamagedOnTheWayError": "readers of artifacts on S3 and over SSH",
    "ArtifactRetainedError": "whatever removes or replaces an artifact that the store locks",
    "LookRefusedError": "readers of artifacts on S3, for keys of which nobody tells whether they are there",
    "ReleasedSetError": "commits and transfers that would change a set of a release, unless `replace=True`",
    "ReleaseChangedError": "`ReleaseCheck.raise_for_findings`, and queries of a release",
    "SinkError": "sinks of events: `emdstore events --sink`",
    "TransferError": "`TransferReport.raise_for_failures`",
    "UploadFailedError": "`Execution.commit_output_assets`, `UploadReport.raise_for_failures`",
    "Interrupted": "nothing itself: it is the base of those that carry a report",
}
"""Of errors that no function names in its docstring: what raises them."""


def _errors() -> str:
    raisers = _raisers()
    entries = []
    for name in emdstore.__all__:
        error = getattr(emdstore, name)
        if not _is_error(error):
            continue
        by = ", ".join(f"`{each}`" for each in sorted(raisers[name])) or _ANYWHERE[name]  # or say it there
        base = ":show-inheritance:"
        entries.append(f".. autoclass:: emdstore.{name}\n   {base}\n\n   Raised by {by}.\n")
    words = "Each derives from `EmdstoreError`, and from the builtin that one would expect to catch."
    return f"# Errors\n\n{words}\n\n```{{eval-rst}}\n" + "\n".join(entries) + "```\n"


def _raisers() -> Mapping[str, set[str]]:
    """Return which public functions and methods say that they raise an error, by the error's name."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, package in public_names().items():
        for path, each in _with_methods(name, getattr(importlib.import_module(package), name)):
            for error in _raised(inspect.getdoc(each) or ""):
                found[error].add(path)
    return found


def _with_methods(name: str, found: Any) -> Iterator[tuple[str, Any]]:
    yield name, found
    if inspect.isclass(found):
        yield from ((f"{name}.{each}", value) for each, value in vars(found).items() if not each.startswith("_"))


def _raised(docstring: str) -> Iterator[str]:
    section = re.search(r"^Raises\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^(\w+(?:, \w+)*)$", section[1] if section else "", re.MULTILINE):
        yield from line.split(", ")


# -- the commands ----------------------------------------------------------------------------------------------------


def _commands() -> Iterator[tuple[str, str]]:
    names = {f"{name.replace(' ', '-')}.md": f"`{name}`" for name in COMMANDS}
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in MEANINGS.items())
    table = f"\n## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}\n"
    words = "As `emdstore COMMAND --help` tells it; [the command line](../../cli.md) says how they work together."
    yield "reference/cli/index.md", listing("Commands", words, names) + table
    for name in COMMANDS:
        yield f"reference/cli/{name.replace(' ', '-')}.md", _command(name)


def _command(name: str) -> str:
    words = name.split()
    app = make_app(words)
    command = app
    for word in words:
        command = command[word]
    # As a part of the whole: what holds for all commands (no option negates another) holds for it, too.
    with app.app_stack(words):
        told = command.generate_docs(output_format="markdown", recursive=False, usage_name=f"emdstore {name}")
    text = re.sub(r" \*\[default: (False|\(\))\]\*", "", told.partition("\n")[2])
    text = re.sub(r"\bdocs/(\w+)\.md", r"\1", text)
    text = text.partition("\nExamples:")[0]
    examples = "\n".join(EXAMPLES[name])
    document = "\nWhat it prints with `--json`: [schema](../schemas.md).\n" if name in LAYOUTS else ""
    return f"# emdstore {name}\n{text.rstrip()}\n\n## Examples\n\n```sh\n{examples}\n```\n{document}"


# -- the contract ----------------------------------------------------------------------------------------------------


def _contract() -> str:
    parts = [
        "# The contract, clause by clause\n",
        "What each store promises, as `emdstore.testing.StoreContract` tests it: see [testing](../testing.md). Each "
        "clause is a test of this name.\n",
    ]
    for group in StoreContract.__bases__:
        title = re.sub(r"(?<!^)([A-Z])", r" \1", group.__name__).capitalize()
        parts.append(f"## {title}\n\n{_prose(group)}\n")
        for name, clause in vars(group).items():
            if name.startswith("test_"):
                parts.append(f"### {name.removeprefix('test_').replace('_', ' ').capitalize()}\n\n{_prose(clause)}\n")
    return "\n".join(parts)


def _prose(found: object) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", inspect.getdoc(found) or "")


# -- the schemas -----------------------------------------------------------------------------------------------------


def schemas() -> dict[str, Any]:
    """Return every JSON Schema, by the name of its file."""
    files = {"record": emdstore.record_schema(), "retraction": emdstore.retraction_schema()}
    bundles = {f"emds-{kind}": bundle_schema(kind) for kind in ("metric", "output", "series")}
    return files | bundles | {name.replace(" ", "-"): document_schema(name) for name in LAYOUTS}


def _schemas() -> str:
    def table(names: Iterable[str]) -> str:
        rows = (
            f"| [{name}](https:schemas/{name}.schema.json) | {_fields(schema)} |"
            for name, schema in found.items()
            if name in names
        )
        return "| schema | its fields |\n|---|---|\n" + "\n".join(rows)

    found = schemas()
    files = [name for name in found if name in ("record", "retraction") or name.startswith("emds-")]
    return (
        "# JSON Schemas\n\nOf draft 2020-12; `emdstore schema NAME` prints them, too.\n\n"
        f"## Files\n\n{table(files)}\n\n## What commands print with `--json`\n\n{table(set(found) - set(files))}\n"
    )


def _fields(schema: Mapping[str, Any]) -> str:
    shown = schema
    if "$ref" in schema:
        shown = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return ", ".join(f"`{name}`" for name in shown.get("properties", ())) or schema.get("title", "")
