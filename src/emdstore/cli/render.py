"""Output for people and programs: tables, values, JSON.

Results go to stdout, everything else to stderr. Text from artifacts (names, descriptions, messages) is data: it is
never interpreted as markup, and its control characters are shown, not sent to the terminal.

rich is imported only when something is laid out or styled, because importing it takes as long as a small transfer.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import attrs

from emdstore import system
from emdstore.cli.logs import SAID
from emdstore.cli.manners import manners
from emdstore.errors import redact
from emdstore.stores import LeftOut

if TYPE_CHECKING:
    from rich.console import Console

_UNLIMITED = 10_000
_FIRST = 20


def console_of(stream: TextIO) -> Console:
    """Return the console that lays out and styles text for a stream."""
    from rich.console import Console

    class OurConsole(Console):
        def on_broken_pipe(self) -> NoReturn:
            raise BrokenPipeError  # handled in one place for all output; see `emdstore.cli.app.run`

    # Without a terminal nothing is wrapped: readers of a pipe want one row per line.
    width = None if stream.isatty() else _UNLIMITED
    return OurConsole(file=stream, width=width, markup=False, highlight=False, emoji=False)


def printable(value: object) -> str:
    """Return a value as text without control characters, except line ends."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        f"\\x{ord(one):02x}" if unicodedata.category(one) == "Cc" and one not in "\n\t" else one for one in text
    )


# -- results -------------------------------------------------------------------------------------------------------


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; numbers are right-aligned, None is empty.

    Nothing is cut or wrapped: if a row does not fit on the terminal, each row is printed as a paragraph, with the first
    column, which names it, on its own line.
    """
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    body = [tuple(row) for row in rows]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", title_style="bold")
    for position, name in enumerate(columns):
        numeric = bool(body) and all(isinstance(row[position], int | float | None) for row in body)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in body:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = console_of(sys.stdout)
    unlimited = console.options.update(width=_UNLIMITED, max_width=_UNLIMITED)
    if not sys.stdout.isatty() or Measurement.get(console, unlimited, table).maximum <= console.width:
        console.print(table)
        return
    if title is not None:
        say(title, style="bold")
    for first, *others in body:
        say(_cell(first))
        parts = (f"{name}: {text}" for name, value in zip(columns[1:], others, strict=True) if (text := _cell(value)))
        _print_beside(parts, console.width)


def _print_beside(parts: Iterable[str], width: int) -> None:
    """Print texts side by side as far as they fit, indented; none is wrapped."""
    line = ""
    for part in parts:
        if line and len(line) + len(part) + 3 > width:
            say(line)
            line = ""
        line = f"{line}   {part}" if line else f"   {part}"
    if line:
        say(line)


def value_table(
    rows: Sequence[Any], **values: Callable[[Any], object]
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Return the columns and rows for values with dimensions; a dimension that is the same in all rows is left out."""
    dimensions = list(dict.fromkeys(dimension for row in rows for dimension in row.dimensions))
    telling = [one for one in dimensions if len({row.dimensions.get(one) for row in rows}) > 1] or dimensions[-1:]
    cells = [(*(row.dimensions.get(one) for one in telling), *(of(row) for of in values.values())) for row in rows]
    return (*telling, *values), cells


def show_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one pair per line, without wrapping; None is left out."""
    shown = {name: _cell(value) for name, value in fields.items() if value is not None}
    width = max(map(len, shown), default=0)
    for name, text in shown.items():
        say(f"{name:{width}}  {text}")


def say(text: str, *, style: str | None = None) -> None:
    """Print a line of results; a red one is a failure."""
    if style == "red":
        SAID.error("%s", text)
    _print_line(text, sys.stdout, style)


def sum_up(text: str) -> None:
    """Print the line that says how it all went, unless only results are wanted."""
    SAID.info("%s", text)
    if not manners().quiet:
        _print_line(text, sys.stdout, None)


def say_first(lines: Sequence[str], total: int, what: str, *, style: str | None = "red") -> None:
    """Print what was found. On a terminal only its beginning, and where the rest is: what follows must stay in sight.

    Parameters
    ----------
    lines
        A line for each.
    total
        How many there are, if these are only the first.
    what
        What they are called, in the plural.
    style
        Red for failures.
    """
    shown = len(lines) if not sys.stdout.isatty() else _FIRST
    for each in lines[:shown]:
        say(each, style=style)
    for each in lines[shown:]:
        SAID.log(logging.ERROR if style == "red" else logging.INFO, "%s", each)
    if len(lines) > shown:
        note(f"{len(lines) - shown} more {what}: --json, a pipe or --log-file has them", style=style)
    if total > len(lines):
        note(f"{total - len(lines)} more {what} are only counted", style=style)


def note(text: str, *, style: str | None = None, always: bool = False) -> None:
    """Print a line that does not belong to the results: a failure if it is red, otherwise a hint.

    Parameters
    ----------
    text, style
        The line.
    always
        Whether it was asked for even of a quiet command.
    """
    level = logging.ERROR if style == "red" else logging.INFO
    SAID.log(level, "%s", text)
    if manners().quiet and style != "red" and not always:
        return
    if manners().log_as_json:
        said = {"time": system.current().now().isoformat(timespec="milliseconds")}
        said |= {"level": logging.getLevelName(level).lower(), "logger": SAID.name, "message": text}
        print(json.dumps(said), file=sys.stderr)
    else:
        _print_line(text, sys.stderr, style)


def confirmed(question: str) -> bool:
    """Ask on a terminal; without one the answer is no."""
    if not sys.stdin.isatty():
        return False
    note(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _print_line(text: str, stream: TextIO, style: str | None) -> None:
    if not stream.isatty():
        print(printable(text), file=stream)
        return
    from rich.text import Text

    console_of(stream).print(Text(printable(text)), style=style, soft_wrap=True)


def show_document(schema: str, document: Mapping[str, Any], code: int = 0, *, one_line: bool = False) -> int:
    """Print what a command has to say as one JSON document, and return its exit code.

    All documents are in one envelope; see `emdstore.cli.documents`. With `--json-lines` it comes in parts: an item or
    an error a line, and the rest as the last one.

    Parameters
    ----------
    schema
        The layout's name, which is the command's.
    document
        Plain values, rows, datetimes and errors; NaN, which JSON lacks, becomes null.
    code
        The exit code.
    one_line
        Without line breaks, for a command that prints one document after the other.
    """
    signal.setitimer(signal.ITIMER_REAL, 0)  # after Ctrl-C work is cut off in the end, but not what is said of it
    from emdstore.cli.documents import envelope  # here and below, because most commands print no document

    whole = _plain(envelope(schema, document, code))
    if manners().lines:
        for each in whole.pop("items"):
            show_event(schema, "item", {"item": each})
        for each in whole.pop("errors"):
            show_event(schema, "error", {"error": each})
        show_event(schema, "end", {name: value for name, value in whole.items() if name != "schema"})
    else:
        _print_json(whole, indent=None if one_line else 2)
    return code


def show_event(command: str, event: str, about: Mapping[str, Any]) -> None:
    """Print a line of `--json-lines`, at once."""
    from emdstore.cli.documents import schema_of

    now = system.current().now().isoformat(timespec="milliseconds")
    _print_json(_plain({"schema": schema_of(command), "event": event, "time": now} | dict(about)))
    sys.stdout.flush()


def _print_json(document: Any, *, indent: int | None = None) -> None:
    # Only ASCII: it is the same document in every locale.
    print(json.dumps(document, indent=indent, allow_nan=False))


def show_left_out(left_out: Iterable[LeftOut]) -> None:
    """Print what a listing has left out, apart from the results."""
    for each in left_out:
        note(f"left out  {each.name}: {each.reason}", style="red")


def counts_text(counts: Mapping[Any, int]) -> str:
    """Return the number of each outcome for people: the usual ones always, the others only if there are any."""
    usual = list(counts)[:2]
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name in usual)


def size_text(size: float) -> str:
    """Return a number of bytes for people."""
    from rich.filesize import decimal

    return decimal(int(size))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S %Z}"
    if isinstance(value, Mapping):
        return printable(", ".join(f"{name}={one}" for name, one in value.items()))
    return printable(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if attrs.has(type(value)):
        return {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return redact(str(value)) if isinstance(value, Exception) else value
