"""What a shell offers while a command is typed: commands, options, their values, stores, sets and keys, as they are.

The shell asks `emdstore --complete SHELL WORD...` each time, the last word being the one that is typed. Whatever goes
wrong, there is nothing to offer, and the shell completes names of files.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from emdstore.cli.options import Access, Patience, open_existing
from emdstore.executions.settings import named_stores
from emdstore.stores.identity import is_own
from emdstore.stores.port import ArtifactStore

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import Argument

Shell = Literal["bash", "zsh", "fish"]

SCRIPTS: Mapping[Shell, str] = {
    "bash": """\
_emdstore() {
    local IFS=$'\\n'
    COMPREPLY=($(emdstore --complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/:] ]] && compopt -o nospace
}
complete -o default -F _emdstore emdstore
""",
    "zsh": """\
#compdef emdstore
_emdstore() {
    local -a found
    found=("${(@f)$(emdstore --complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n $found ]]; then
        compadd -Q -S '' -- ${(M)found:#*[/:]}
        compadd -Q -- ${found:#*[/:]}
    else
        _files
    fi
}
compdef _emdstore emdstore
""",
    "fish": """\
complete -c emdstore -a '(emdstore --complete fish (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}
"""What each shell reads when it starts, or when the command is completed for the first time."""

_MANY = 2000
_SECONDS = 3.0
_STORES = ("store", "source", "dest", "a", "b", "results", "copy", "backup_dir")
_EXECUTIONS = ("execution", "executions", "fragment", "fragments", "successor")
_IN_STORE = ("prefix", "keys", "names", "key")


def complete(shell: str, words: Sequence[str], app: App, commands: Sequence[str]) -> list[str]:
    """Return what may stand instead of the last word.

    Parameters
    ----------
    shell
        Which shell asks; bash gives the line as one word.
    words
        The words after the program's name.
    app
        The parser.
    commands
        The names of all commands.
    """
    if shell == "bash":
        words = _split("".join(words))
    if not words:
        return []
    *before, current = words
    offered = sorted({each for each in _offered(before, current, app, commands) if each.startswith(current)})
    if shell == "bash" and ":" in current:  # there a colon separates words
        known = current.rpartition(":")[0] + ":"
        offered = [each.removeprefix(known) for each in offered]
    return offered


def _split(line: str) -> list[str]:
    reader = shlex.shlex(line, posix=True, punctuation_chars=False)
    reader.whitespace_split, reader.commenters = True, ""
    try:
        words = list(reader)
    except ValueError:  # a quotation that is not closed yet
        return []
    return [*words[1:], ""] if line[-1:].isspace() or len(words) == 1 else words[1:]


def _offered(before: Sequence[str], current: str, app: App, commands: Sequence[str]) -> Iterable[str]:
    name = next((each for each in (" ".join(before[:2]), *before[:1]) if each in commands), None)
    if name is None:
        depth = len(before)
        known = [parts for each in commands if (parts := each.split())[:depth] == [*before]]
        return (parts[depth] for parts in known if depth < len(parts))
    command = app
    for word in name.split():
        command = command[word]
    arguments = [each for each in command.assemble_argument_collection() if "*" not in each.names]
    given = before[len(name.split()) :]
    options = {option: each for each in arguments for option in each.names if option.startswith("-")}
    last = options.get(given[-1]) if given else None
    if last is not None and last.hint is not bool and not last.parameter.count:
        return _values(last, given, current, arguments)
    if current.startswith("-"):
        return [option for option in options if not option.startswith("--empty-")]
    places = [each for each in arguments if each.index is not None]
    filled = list(_positional(given, options))
    place = places[min(len(filled), len(places) - 1)] if places else None
    return () if place is None else _values(place, given, current, arguments)


def _positional(given: Sequence[str], options: Mapping[str, Argument]) -> Iterator[str]:
    words = iter(given)
    for word in words:
        option = options.get(word)
        if option is None:
            if not word.startswith("-"):
                yield word
        elif option.hint is not bool and not option.parameter.count:
            next(words, None)


def _values(argument: Argument, given: Sequence[str], current: str, arguments: Sequence[Argument]) -> Iterable[str]:
    name = argument.field_info.name
    if choices := list(_choices(argument.hint)):
        return choices
    asked: Callable[[], Iterable[str]] = list
    if name in _STORES:
        asked = lambda: _stores(current)  # noqa: E731
    elif name in _EXECUTIONS:
        asked = _executions
    elif name in _IN_STORE:
        options = {option: each for each in arguments for option in each.names}
        store = next(_positional(given, options), None)
        asked = (lambda: _inside(store, current)) if store is not None else list
    with contextlib.suppress(Exception):
        return list(islice(asked(), _MANY))
    return ()


def _choices(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
        return
    for inner in get_args(hint):
        yield from _choices(inner)


def _quick() -> dict[str, Any]:
    return {"timeout": _SECONDS, "connect_timeout": _SECONDS, "retries": 0}


def _stores(current: str) -> Iterator[str]:
    name, colon, folder = current.partition(":")
    stores = named_stores()
    if not colon:
        yield from (f"{each}:" for each in stores)
    elif name in stores:
        yield from (f"{name}:{each}" for each in _inside(f"{name}:", folder))


def _inside(place: str, current: str) -> Iterator[str]:
    """Return the next level of folders and keys in a store."""
    store: ArtifactStore = open_existing(place, Access(**_quick()))
    folder = current.rpartition("/")[0]
    begin = len(folder) + 1 if folder else 0
    shown = ""
    for key in islice(store.iter_keys(folder), _MANY):
        inside, slash, _ = key[begin:].partition("/")
        if (found := key[:begin] + inside + slash) != shown and not is_own(key):
            shown = found
            yield found


def _executions() -> Iterator[str]:
    from emdstore.cli.workspaces import Own

    with Own(reach=Patience(**_quick())).find() as workspace:
        for row in workspace.catalog.executions():
            yield row.fragment
