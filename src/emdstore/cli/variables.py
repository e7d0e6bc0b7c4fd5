"""Which variables of the environment stand for which options, and which for none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from cyclopts import App

_PREFIX = "EMDSTORE_"
_NO_OPTIONS = {
    "EMDSTORE_TOKEN": "the token of `emdstore serve`",
    "EMDSTORE_OUTPUT_DIR": "told to the program of `emdstore run`",
}


@attrs.frozen
class Variable:
    """A variable that is set.

    Attributes
    ----------
    name, value
        As they are in the environment.
    option
        What it stands for: ``transfer --order``; None if nothing reads it.
    near
        What was probably meant, if nothing reads it.
    """

    name: str
    value: str
    option: str | None
    near: str | None = None


def variables_set(app: App, commands: Mapping[str, object], settings: Mapping[str, str]) -> Iterator[Variable]:
    """Return the variables of emdstore that are set, in the order of their names.

    Parameters
    ----------
    app
        The parser.
    commands
        The commands by their names.
    settings
        The variables of the workspace's settings, and what they stand for.
    """
    shared = {**_NO_OPTIONS, **_options(app, "replay", own=False), **settings}
    for name, value in sorted(os.environ.items()):
        if not name.startswith(_PREFIX):
            continue
        known = dict(shared)
        for command in commands:
            if name.startswith(_variable(command) + "_"):
                known |= _options(app, command)
        near = get_close_matches(name, (*known, *map(_variable, commands)), n=1) if name not in known else []
        yield Variable(name, value, known.get(name), next(iter(near), None))


def _variable(words: str) -> str:
    return _PREFIX + words.upper().replace(" ", "_").replace("-", "_")


def _options(app: App, command: str, *, own: bool = True) -> dict[str, str]:
    """Return the variables of a command's options: those that are its own, or those that it shares with others."""
    for word in command.split():
        app = app[word]
    found: dict[str, str] = {}
    for argument in app.assemble_argument_collection():
        named = [each for each in argument.names if each.startswith("--")]
        if own:
            found |= {_variable(f"{command} {each[2:]}"): f"{command} {each}" for each in named}
        variables = argument.parameter.env_var or ()
        found |= dict.fromkeys([variables] if isinstance(variables, str) else variables, argument.names[0])
    return found
