"""Options that select keys, sets and executions: the same for every command that works on many."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Group, Parameter, Token

from emdstore import system
from emdstore.cli.options import NothingMatchedError, WrongCallError, as_folder
from emdstore.selection import ALL, Rule, Selection, parse_rules
from emdstore.sets.state import SetState

_GROUP = Group("Choosing (docs/choosing.md)", sort_key=1)
_STDIN = "-"

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_size(text: str) -> int:
    """Read a number of bytes as people write it: 500, 20M, 1.5GB (powers of 1000), 4KiB (powers of 1024)."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise WrongCallError(f"{text!r} is no size: write a number of bytes, 20M, 1.5G or 4KiB")
    number, unit, binary = found.groups()
    power = "kmgt".index(unit.lower()) + 1 if unit else 0
    return int(float(number) * (1024**power if binary else _UNITS[unit.lower()]))


def parse_moment(text: str) -> float:
    """Read a point in time: how long ago (7d, 12h, 30min), or a date with or without a time (by default UTC)."""
    if (found := _AGE.fullmatch(text.strip())) is not None:
        ago = timedelta(seconds=float(found[1]) * _SECONDS[found[2].lower()])
        return (system.current().now() - ago).timestamp()
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise WrongCallError(f"{text!r} is no time: write 7d, 12h, 2026-05-01 or 2026-05-01T12:00+02:00") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def size_of(_: object, tokens: Sequence[Token]) -> int:
    """Read a size for an option."""
    return parse_size(tokens[0].value)


def _moment(_: object, tokens: Sequence[Token]) -> float:
    return parse_moment(tokens[0].value)


def _option(help: str, **how: Any) -> Parameter:
    return Parameter(group=_GROUP, help=help, **how)


Words = tuple[str, ...]


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Choosing:
    """Selects what a command works on, in a store or workspace."""

    include: Annotated[Words, _option("Only what matches this pattern; several: any of them.")] = ()
    exclude: Annotated[Words, _option("Nothing that matches this pattern.")] = ()
    filter_from: Annotated[
        tuple[Path, ...], _option("A file of lines `+ PATTERN` and `- PATTERN`: the first that matches decides.")
    ] = ()
    files_from: Annotated[
        str | None,
        _option("A file that names keys and folders, one a line; - for stdin.", allow_leading_hyphen=True),
    ] = None
    null: Annotated[bool, _option("Names in --files-from end in NUL.", name=("--null", "-0"))] = False
    min_size: Annotated[int | None, _option("Only from this size on: 500, 20M, 4KiB.", converter=size_of)] = None
    max_size: Annotated[int | None, _option("Only up to this size.", converter=size_of)] = None
    newer: Annotated[float | None, _option("Only what was written since: 7d, 12h, 2026-05-01.", converter=_moment)] = (
        None
    )
    older: Annotated[float | None, _option("Only what was written before: 7d, 2026-05-01.", converter=_moment)] = None
    provider: Annotated[Words, _option("Only sets of this provider; several: any of them.")] = ()
    diagnostic: Annotated[Words, _option("Only sets of this diagnostic.")] = ()
    group: Annotated[Words, _option("Only sets of this execution group.")] = ()
    execution: Annotated[Words, _option("Only this set: its fragment, or the end of it.")] = ()
    state: Annotated[tuple[SetState, ...], _option("Only sets in this state.")] = ()
    latest: Annotated[bool, _option("Only the latest complete set of each execution group.", negative=())] = False

    def names(self) -> tuple[str, ...] | None:
        """Return the keys and folders that the file names; None if no file was given."""
        if self.files_from is None:
            return None
        data = sys.stdin.buffer.read() if self.files_from == _STDIN else _read(Path(self.files_from).expanduser())
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise WrongCallError(f"the names in {self.files_from!r} are not UTF-8: {error}") from error
        lines = text.split("\0") if self.null else text.splitlines()
        return tuple(as_folder(line) for line in lines if line.strip())

    def selection(self, *, names: Iterable[str] | None = None) -> Selection:
        """Return the selection; with the names of a file only if they are passed."""
        if self.null and self.files_from is None:
            raise WrongCallError("--null is about the names of --files-from: give that, too")
        rules: list[Rule] = []
        for file in self.filter_from:
            rules += parse_rules(_read(file).decode(errors="surrogateescape").splitlines(), name=str(file))
        return Selection(
            include=self.include,
            exclude=self.exclude,
            rules=tuple(rules),
            names=names,
            min_size=self.min_size,
            max_size=self.max_size,
            newer=self.newer,
            older=self.older,
            provider=self.provider,
            diagnostic=self.diagnostic,
            group=self.group,
            execution=tuple(map(as_folder, self.execution)),
            state=self.state,
            latest=self.latest,
        )

    def of_sets(self) -> Selection:
        """Return the selection of sets; names of a file also select the sets that they are in."""
        return self.selection(names=self.names())


ANYTHING = Choosing()


def refuse_unmatched(found: int, selection: Selection, what: str, *, store: str) -> None:
    """Return the error for an empty selection: a mistyped pattern must not look like a good result."""
    if not found and selection != ALL:
        raise NothingMatchedError(f"no {what} of {store} matches {selection}", store=store)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WrongCallError(f"{str(file)!r} cannot be read: {error.strerror}") from error
