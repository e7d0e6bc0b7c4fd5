"""What people type for files, folders, keys and executions, and what they mean by it."""

from __future__ import annotations

import os
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Any

import attrs

from emdstore.cli.workspaces import OWN, Own
from emdstore.errors import WorkspaceError
from emdstore.executions.settings import read_settings

_STORES = ("store", "source", "a")
_IN_STORE = ("prefix", "keys", "key", "names", "fragment")
_EXECUTIONS = ("execution", "executions", "fragment", "fragments", "sets")


def understand(arguments: MutableMapping[str, Any]) -> None:
    """Replace what a command was given by what is meant.

    ``~`` in the name of a file: no shell replaces it in ``--output=~/file``, in a variable or in a file. A key or an
    execution as a shell completes it: ``results/pmp/enso`` for ``pmp/enso`` of the store ``results``, or of the
    workspace.
    """
    arguments.update({name: _at_home(value) for name, value in arguments.items()})
    store = next((arguments[name] for name in _STORES if isinstance(arguments.get(name), str)), None)
    for name in _IN_STORE if store is not None else _EXECUTIONS:
        value = arguments.get(name)
        if isinstance(value, tuple):
            arguments[name] = tuple(_meant(each, store, arguments) for each in value)
        elif isinstance(value, str):
            arguments[name] = _meant(value, store, arguments)


def _at_home(value: Any) -> Any:
    if isinstance(value, Path):
        return value.expanduser()
    if isinstance(value, tuple):
        return tuple(map(_at_home, value))
    if attrs.has(type(value)):
        parts = {each.name: getattr(value, each.name) for each in attrs.fields(type(value))}
        changed = {name: new for name, old in parts.items() if (new := _at_home(old)) != old}
        return attrs.evolve(value, **changed) if changed else value
    return value


def _meant(name: str, store: str | None, arguments: MutableMapping[str, Any]) -> str:
    if "/" not in name or not os.path.lexists(os.path.expanduser(name)):
        return name
    for root in [store] if store is not None else _folders_of(arguments.values()):
        folder = os.path.abspath(os.path.expanduser(root))
        inside = os.path.relpath(os.path.abspath(os.path.expanduser(name)), folder)
        is_key = not os.path.isabs(name) and os.path.lexists(os.path.join(folder, name))
        if not is_key and inside.partition("/")[0] not in ("..", "."):
            return inside
    return name


def _folders_of(arguments: Iterable[Any]) -> list[str]:
    groups = (getattr(each, "own", each) for each in arguments)
    own = next((each for each in groups if isinstance(each, Own)), OWN)
    try:
        settings, _ = read_settings(own.config, catalog="")
    except WorkspaceError:  # told by the command, if it needs one
        return []
    return [os.fspath(settings[name]) for name in ("scratch", "results")]
