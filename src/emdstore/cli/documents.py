"""What `--json` prints: one envelope for all commands, whose layouts are told here and in the JSON Schemas beside.

Each document has `schema`, the name and version of its layout; `ok`, true exactly if the exit code is 0; `counts`;
`items`, what the command worked on, an object each; `errors`, what went wrong, as objects with `type`, `name` and
`message`. What else a command has to say stands beside them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from typing import Any

import attrs

from emdstore.errors import QueryError
from emdstore.sets.verify import HARMLESS

LAYOUT = 1
"""The version of what `--json` prints. A name that is taken away, or gets another meaning, makes it the next one."""

LINES = "lines"
"""The layout of each line of `--json-lines`."""

_SCHEMAS = "schemas"


def _error(kind: object, name: object, message: object) -> dict[str, Any]:
    return {"type": kind, "name": name, "message": "" if message is None else str(message)}


def _left_out(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = document.get("left_out")
    return [_error("left-out", each["name"], each["reason"]) for each in found] if isinstance(found, list) else []


def _no_errors(_: Mapping[str, Any]) -> list[dict[str, Any]]:
    return []


def _of_items(items: str, kind: str, name: str, message: str, harmless: Iterable[object]) -> Callable[..., Any]:
    """Return a function that turns items into errors unless one of their properties is harmless."""
    known = frozenset(harmless)

    def errors(document: Mapping[str, Any]) -> list[dict[str, Any]]:
        told = (each if isinstance(each, Mapping) else attrs.asdict(each, recurse=False) for each in document[items])
        return [_error(each[kind], each[name], each[message]) for each in told if each[kind] not in known]

    return errors


def _of_replay(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        _error(each["state"], each["fragment"], each["error"])
        for each in document["executions"]
        if each["error"] is not None
    ]


def _of_commit(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_error(each["type"], each["fragment"], each["error"]) for each in document["errors"]]


def _of_adopt(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    failed = [_error(type(each.error).__name__, each.fragment, each.error) for each in document["sets"] if each.error]
    return failed + [_error("lost", each.name, each.reason) for each in document["left"] if each.lost]


def _of_check(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_error("invalid", each["file"], "not as EMDS says") for each in document["bundles"] if not each["ok"]]


def _left_of(left: Mapping[str, str]) -> list[dict[str, Any]]:
    from emdstore.exchange.chosen import EXPECTED  # what imports much, and few documents need

    return [_error(state, name, f"the set is {state}") for name, state in left.items() if state not in EXPECTED]


def _of_database(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    state = document["state"]
    return [] if state in ("current", "empty") else [_error(state, document["url"], f"the schema is {state}")]


def _of_materialize(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    decision = document["decision"]
    failure = None if decision.failure is None else decision.failure
    return [] if failure is None else [_error(failure, document["fragment"], decision.reason)]


def _of_error(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    error = document["error"]
    return [_error(error["type"], error.get("key"), error["message"])]


def _of_transfer(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    failed = document.get("delete", {}).get("failed", ())
    moved = _of_items("artifacts", "outcome", "key", "error", ("copied", "unchanged"))(document)
    return [*moved, *(_error("not removed", each["key"], each["error"]) for each in failed)]


@attrs.frozen
class Layout:
    """Where a command's document has its items, and how it tells what went wrong.

    Attributes
    ----------
    items
        The name of its items; of a command about one thing None, and then that thing is all that the document says.
    named
        Of items that are names, or names with a word, how these are called.
    one
        The name of the one thing that it is about, beside more about it.
    errors
        Returns what went wrong.
    """

    items: str | None = None
    named: tuple[str, ...] = ()
    one: str | None = None
    errors: Callable[[Mapping[str, Any]], list[dict[str, Any]]] = _no_errors


_COMPARED = ("only-in-a", "only-in-b", "size", "digest", "record", "state", "value", "index")
_NO_FAILURES = ("is being committed", "runs", "was started", "waits to be committed", "failed")
_READ = ("published", "failed", "publishing", "incomplete", "changed", "bare")
_REPLAY = Layout("executions", errors=_of_replay)
_COMMIT = Layout("executions", named=("fragment", "status"), errors=_of_commit)

LAYOUTS: Mapping[str, Layout] = {
    "abort": Layout("aborted", named=("fragment",)),
    "adopt": Layout("sets", errors=_of_adopt),
    "affected": Layout("executions", errors=lambda told: [
        _error("unknown", each, "no execution is known to have read it") for each in told["unknown"]
    ]),
    "cat": Layout(),
    "check": Layout("bundles", errors=_of_check),
    "cite": Layout(errors=lambda told: _left_of(told["left"])),
    "climate-ref replay": _REPLAY,
    "climate-ref retractions": Layout("retracted", named=("fragment",), errors=lambda told: [
        _error("failed", each["fragment"], each["error"]) for each in told["failed"]
    ]),
    "commit": _COMMIT,
    "compare": Layout("pairs", errors=lambda told: [
        _error(each["verdict"], f"{each['provider']}/{each['diagnostic']}/{each['group']}", "")
        for each in told["pairs"] if each["verdict"] in ("missing", "new", "changed")
    ]),
    "completion": Layout(),
    "config check": Layout("stores", errors=_of_items("stores", "ok", "name", "detail", (True,))),
    "config show": Layout("settings"),
    "datastore": Layout(errors=lambda told: _left_of(told["left"])),
    "db check": Layout(errors=_of_database),
    "db rebind": Layout(),
    "db upgrade": Layout(errors=_of_database),
    "demo": Layout("executions", errors=lambda told: _of_commit(told["committed"])),
    "deposit": Layout(one="deposit", errors=lambda told: _left_of(told["deposit"].left)),
    "diff": Layout("differences", errors=_of_items("differences", "how", "name", "a", _COMPARED)),
    "doctor": Layout("checks", errors=lambda told: [
        _error("problem", each.name, each.detail) for each in told["checks"] if each.outcome == "problem"
    ]),
    "du": Layout("usage"),
    "error": Layout(items="", errors=_of_error),
    "events": Layout("events", errors=lambda told: list(told["errors"])),
    "export": Layout(),
    "forget": Layout(),
    "gc": Layout("removed"),
    "help": Layout("topics"),
    "history": Layout("executions"),
    "init": Layout(),
    "inputs": Layout("inputs"),
    "list": Layout("executions"),
    "logs": Layout(),
    "ls": Layout("artifacts"),
    "man": Layout("pages"),
    "manifest": Layout("artifacts"),
    "materialize": Layout(errors=_of_materialize),
    "promote": Layout("checks", errors=lambda told: [
        _error("objection", each["check"], finding) for each in told["checks"] for finding in each["findings"]
    ]),
    "provenance": Layout(errors=lambda told: _left_of(told["left"])),
    "recover": Layout("recovered", named=("fragment",)),
    "reingest": _COMMIT,
    "release alias": Layout(one="alias"),
    "release create": Layout(one="release"),
    "release diff": Layout("sets"),
    "release list": Layout("releases"),
    "release show": Layout(one="release"),
    "release sign": Layout(),
    "release verify": Layout("findings", errors=_of_items("findings", "finding", "fragment", "finding", ())),
    "repair": Layout("repaired", named=("key",), errors=lambda told: [
        _error("not repaired", each["key"], each["reason"]) for each in told["not_repaired"]
    ]),
    "replay": _REPLAY,
    "report": Layout(errors=lambda told: [
        _error(each["outcome"], f"{each['fragment']}/{each['key']}", each["detail"]) for each in told["troubles"]
    ]),
    "resources": Layout("diagnostics"),
    "retract": Layout("sets"),
    "rm": Layout("removed", errors=_of_items("removed", "outcome", "name", "refusal", ("removed", "would be removed"))),
    "run": Layout(one="execution"),
    "schema": Layout("schemas"),
    "serve": Layout(),
    "sets": Layout("sets", errors=_of_items("sets", "state", "fragment", "reason", _READ)),
    "show": Layout(one="execution"),
    "snapshot": Layout("snapshots"),
    "stat": Layout("artifacts"),
    "status": Layout("executions", errors=_of_items("executions", "concern", "fragment", "reason", _NO_FAILURES)),
    "transfer": Layout("artifacts", errors=_of_transfer),
    "tree": Layout("entries"),
    "unretract": Layout(),
    "watch": _REPLAY,
    "verify": Layout("problems", errors=_of_items("problems", "finding", "key", "detail", HARMLESS)),
}  # fmt: skip
"""Of each command that prints a document, by its name; `error` is printed where a command could not begin, or ended."""


def schema_of(command: str) -> str:
    """Return the name of the layout of what a command prints."""
    return f"emdstore/{command.replace(' ', '-')}/{LAYOUT}"


def envelope(command: str, document: Mapping[str, Any], code: int) -> dict[str, Any]:
    """Put what a command has to say into the envelope.

    Parameters
    ----------
    command
        Its name.
    document
        What it has to say, under its own names.
    code
        Its exit code.
    """
    layout = LAYOUTS[command]
    rest = dict(document)
    errors = layout.errors(document) + _left_out(document)
    rest.pop("errors", None)
    if layout.items:
        items = _listed(rest.pop(layout.items), layout.named)
    elif layout.items is None:
        items = [rest[layout.one] if layout.one is not None else dict(rest)]
    else:
        items = []
    counts = rest.pop("counts", None) or {"items": len(items), "errors": len(errors)}
    head = {"schema": schema_of(command), "ok": code == 0, "counts": counts}
    return head | {"items": items, "errors": errors} | {name: one for name, one in rest.items() if name not in head}


def _listed(found: Any, named: tuple[str, ...]) -> list[Any]:
    if isinstance(found, Mapping):
        return [dict(zip(named, pair, strict=True)) for pair in found.items()]
    return [{named[0]: each} for each in found] if named else list(found)


def document_schema(command: str) -> Any:
    """Return the JSON Schema of what a command prints with `--json`, or of a line of `--json-lines`.

    Raises
    ------
    QueryError
        If it prints none.
    """
    if command not in (*LAYOUTS, LINES):
        raise QueryError(f"there is no document of {command!r}: there are {', '.join(LAYOUTS)}", key=command)
    file = resources.files(__package__ or "emdstore.cli") / _SCHEMAS / f"{command.replace(' ', '-')}.schema.json"
    return json.loads(file.read_text(encoding="utf-8"))
