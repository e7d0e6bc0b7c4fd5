"""Manual pages, made of the help of the commands."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emdstore._version import __version__
from emdstore.cli.examples import EXAMPLES
from emdstore.cli.exit_codes import MEANINGS
from emdstore.cli.options import PLAIN, Output, WrongCallError
from emdstore.cli.render import say, show_document

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import Argument

_FOLDER = Path("~/.local/share/man/man1")


def man(*command: str, install: bool = False, folder: Path = _FOLDER, output: Output = PLAIN) -> int:
    """Print the manual page of a command, or of emdstore, for `man -l -`; or install all of them for this user.

    Parameters
    ----------
    command
        The command, as it is called: db check.
    install
        Write the pages of all commands where `man` looks for them.
    folder
        Where to write them.
    """
    from emdstore.cli.app import COMMANDS, make_app, sections

    summaries = {name: summary for name, (_, summary) in COMMANDS.items()}
    name = " ".join(command)
    if name and name not in COMMANDS:
        raise WrongCallError(f"there is no command {name!r}: `emdstore --help` lists them")

    def page(of: str) -> str:
        return _page_of(of, summaries[of], make_app(of.split())) if of else _overview(summaries, sections())

    if not install:
        if output.json:
            return show_document("man", {"pages": [{"name": _title(name), "page": page(name)}]})
        print(page(name), end="")
        return 0
    target = folder.expanduser()
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for each in ("", *COMMANDS):
        file = target / f"{_title(each)}.1"
        file.write_text(page(each), encoding="utf-8")
        written.append({"name": _title(each), "file": str(file)})
    if output.json:
        return show_document("man", {"pages": written})
    say(f"{len(written)} pages are in {target}: man emdstore-transfer")
    return 0


def _title(name: str) -> str:
    return "-".join(["emdstore", *name.split()])


def _escaped(text: str) -> str:
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", safe, flags=re.MULTILINE)


def _head(name: str, summary: str) -> Iterator[str]:
    yield f'.TH "{_title(name).upper()}" "1" "" "emdstore {__version__}" "emdstore"'
    yield ".SH NAME"
    yield f"{_escaped(_title(name))} \\- {_escaped(summary)}"


def _overview(summaries: dict[str, str], sections: dict[str, tuple[str, ...]]) -> str:
    lines = [*_head("", "promote the artifacts of climate diagnostics, and load a catalog from them")]
    lines += [".SH SYNOPSIS", ".B emdstore", ".I COMMAND", "[ARGUMENTS]"]
    for section, names in sections.items():
        lines.append(f'.SH "{_escaped(section.upper())}"')
        for name in (each for known in names for each in summaries if each == known or each.startswith(f"{known} ")):
            lines += [".TP", f".BR {_escaped(_title(name))} (1)", _escaped(summaries[name])]
    return "\n".join([*lines, *_exit_status()]) + "\n"


def _page_of(name: str, summary: str, app: App) -> str:
    command = app
    for word in name.split():
        command = command[word]
    arguments = [each for each in command.assemble_argument_collection(parse_docstring=True) if "*" not in each.names]
    places = [each for each in arguments if each.index is not None]
    options = [each for each in arguments if each.index is None]
    lines = [*_head(name, summary), ".SH SYNOPSIS", f".B emdstore {_escaped(name)}"]
    lines += [f"{_escaped(_shown(each))}" for each in places] + (["[OPTIONS]"] if options else [])
    lines += [".SH DESCRIPTION", *_description(command)]
    groups: dict[str, list[Argument]] = {"ARGUMENTS": places}
    for each in options:
        groups.setdefault(_group_of(each), []).append(each)
    for title, members in groups.items():
        if members:
            lines += [f'.SH "{_escaped(title)}"', *(line for each in members for line in _explained(each))]
    lines += [".SH EXAMPLES", ".nf", *(_escaped(each) for each in EXAMPLES.get(name, ())), ".fi"]
    lines += [*_exit_status(), ".SH SEE ALSO", ".BR emdstore (1)"]
    return "\n".join(lines) + "\n"


def _group_of(option: Argument) -> str:
    groups = option.parameter.group
    first = next(iter(groups), None) if isinstance(groups, tuple) else groups
    name = str(getattr(first, "name", first or "Parameters"))
    return "OPTIONS" if name == "Parameters" else name.upper()


def _description(command: App) -> Iterator[str]:
    text = inspect.cleandoc(command.help or "").partition("\nParameters\n")[0].strip()
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _names(argument: Argument) -> Sequence[str]:
    """Return an option's names; the short one first, and no opposite that the parser does not take."""
    negative = argument.parameter.negative or ()
    known = (negative,) if isinstance(negative, str) else tuple(negative)
    own = [each for each in argument.names if each in known or not each.startswith(("--no-", "--empty-"))]
    return sorted(own, key=len)


def _shown(argument: Argument) -> str:
    name = argument.names[0].lstrip("-")
    many = "..." if "tuple" in str(argument.hint) else ""
    return f"[{name}]{many}" if not argument.required else f"{name}{many}"


def _explained(argument: Argument) -> Iterator[str]:
    takes = (
        ""
        if argument.hint is bool or argument.parameter.count
        else f" {argument.field_info.name.upper().replace('_', '-')}"
    )
    names = ", ".join(_names(argument)) if argument.index is None else argument.names[0] + " "
    yield ".TP"
    yield f".B {_escaped(names + takes if argument.index is None else names.strip())}"
    help = " ".join((argument.parameter.help or "").split())
    variables = argument.parameter.env_var or ()
    more = f" Also {', '.join((variables,) if isinstance(variables, str) else variables)}." if variables else ""
    yield _escaped(help + more) or "\\&"


def _exit_status() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, meaning in MEANINGS.items():
        yield from (".TP", f".B {code}", _escaped(meaning))
