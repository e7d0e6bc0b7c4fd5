"""Selecting keys and sets of a store: one grammar for all commands and functions that work on many.

Names are matched against patterns like those in Git's ``.gitignore``; `docs/choosing.md` has a table of matches. All
given conditions must hold. A key is selected by name, size and time; a set by its folder, the size of its artifacts,
the time of its publication, and the contents of its record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from functools import cached_property

import attrs

from emdstore.errors import SelectionError

Matches = Callable[[str], object]


@attrs.frozen
class Rule:
    """One line of a filter file: whether names that match the pattern are selected. The first match decides."""

    chosen: bool
    pattern: str


def _patterns(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(given)


def _names(given: Iterable[str] | None) -> frozenset[str] | None:
    return None if given is None else frozenset(given)


@attrs.frozen(kw_only=True, slots=False)
class Selection:
    """A selection of keys and sets. All conditions must hold; for a condition with several values, any of them.

    Attributes
    ----------
    include
        Only what matches one of these patterns.
    exclude
        Nothing that matches one of these patterns.
    rules
        The lines of a filter file: the first pattern that matches decides; names that match none are selected.
    names
        Only these keys, and everything in these folders; None for all. A set is also selected if one of the keys is in
        its folder.
    min_size, max_size
        Only what has at least, or at most, this many bytes.
    newer, older
        Only what was written, or published, after, or before, this time (POSIX seconds).
    provider, diagnostic, group
        Only sets of one of these.
    execution
        Only these sets, by fragment or the end of it.
    state
        Only sets in one of these states; see `emdstore.sets.state.SetState`.
    latest
        Only the latest complete set of each execution group, regardless of the other conditions.
    """

    include: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    exclude: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    rules: tuple[Rule, ...] = ()
    names: frozenset[str] | None = attrs.field(default=None, converter=_names)
    min_size: int | None = None
    max_size: int | None = None
    newer: float | None = None
    older: float | None = None
    provider: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    diagnostic: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    group: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    execution: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    state: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    latest: bool = False

    def __attrs_post_init__(self) -> None:
        for pattern in (*self.include, *self.exclude, *(rule.pattern for rule in self.rules)):
            compiled(pattern)  # raises

    @cached_property  # a transfer asks it for each key
    def is_all(self) -> bool:
        """Whether everything is selected."""
        return self == ALL

    @property
    def by_meaning(self) -> bool:
        """Whether sets are selected by their properties, so that keys outside sets never are."""
        return bool(self.provider or self.diagnostic or self.group or self.execution or self.state or self.latest)

    @property
    def by_measure(self) -> bool:
        """Whether anything is selected by size or time."""
        return any(each is not None for each in (self.min_size, self.max_size, self.newer, self.older))

    def without_names(self) -> Selection:
        """Return the selection without names, for sets whose keys are selected one by one."""
        return attrs.evolve(self, include=(), exclude=(), rules=(), names=None)

    def takes_name(self, key: str) -> bool:
        """Tell whether a key may be selected, by its name."""
        if self.names is not None and key not in self.names and not self._is_below_a_name(key):
            return False
        return self._takes(key)

    def _takes(self, key: str) -> bool:
        if self._included and not any(matches(key) for matches in self._included):
            return False
        if any(matches(key) for matches in self._excluded):
            return False
        return next((rule for rule, matches in self._ruled if matches(key)), True)

    def takes_folder(self, folder: str) -> bool:
        """Tell whether a set may be selected, by its folder, assuming that any key may be in it."""
        if self.names is not None and not (
            folder in self.names or folder in self._holders or self._is_below_a_name(folder)
        ):
            return False
        return not folder or self._takes(folder + "/")

    def takes_measure(self, size: int | None, modified: float | None, *, what: str) -> bool:
        """Tell whether something may be selected, by its size and time.

        Raises
        ------
        SelectionError
            If its store does not know the size or time. Nothing is left out because it is unknown.
        """
        if self.min_size is not None or self.max_size is not None:
            if size is None:
                raise SelectionError(f"nobody knows the size of {what!r}: its store does not tell", key=what)
            if not (self.min_size or 0) <= size <= (math.inf if self.max_size is None else self.max_size):
                return False
        if self.newer is not None or self.older is not None:
            if modified is None or math.isnan(modified):
                raise SelectionError(f"nobody knows when {what!r} was written: its store does not tell", key=what)
            after = -math.inf if self.newer is None else self.newer
            return after < modified < (math.inf if self.older is None else self.older)
        return True

    def takes_set(
        self,
        fragment: str,
        *,
        provider: str,
        diagnostic: str,
        group: str,
        state: str | None,
        size: int | None,
        time: datetime | None,
    ) -> bool:
        """Tell whether a set is selected, except for `latest`, which depends on all sets of its group."""
        if not self.takes_folder(fragment):
            return False
        for wanted, value in (
            (self.provider, provider),
            (self.diagnostic, diagnostic),
            (self.group, group),
            (self.state, state),
        ):
            if wanted and value not in wanted:
                return False
        if self.execution and not any(_is_meant(fragment, each) for each in self.execution):
            return False
        if time is None and (self.newer is not None or self.older is not None):
            return False  # it was not published, so it is neither
        return self.takes_measure(size, None if time is None else time.timestamp(), what=fragment)

    def __str__(self) -> str:
        """Return the selection as command-line options, for messages."""
        parts = []
        for field in attrs.fields(type(self)):
            value, option = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            if value == field.default or value is None or value == ():
                continue
            if field.name == "names":
                parts.append(f"{len(value)} names")
            elif field.name == "rules":
                parts.append("--filter-from")
            elif value is True:
                parts.append(option)
            elif isinstance(value, tuple):
                parts += [f"{option} {each}" for each in value]
            else:
                parts.append(option)
        return " ".join(parts)

    @cached_property
    def _included(self) -> list[Matches]:
        return [compiled(each) for each in self.include]

    @cached_property
    def _excluded(self) -> list[Matches]:
        return [compiled(each) for each in self.exclude]

    @cached_property
    def _ruled(self) -> list[tuple[bool, Matches]]:
        return [(rule.chosen, compiled(rule.pattern)) for rule in self.rules]

    @cached_property
    def _holders(self) -> frozenset[str]:
        """The folders that contain one of the names."""
        return frozenset(folder for name in self.names or () for folder in folders_above(name))

    def _is_below_a_name(self, key: str) -> bool:
        return self.names is not None and any(folder in self.names for folder in folders_above(key))


ALL = Selection()
"""Nothing is left out."""


def compiled(pattern: str) -> Matches:
    """Return a function that tells whether a key, or a folder with its slash, matches a pattern.

    Raises
    ------
    SelectionError
        If it would match nothing, or is negated.
    """
    from pathspec import GitIgnoreSpec  # needed by those who give a pattern

    if not pattern.strip():
        raise SelectionError("an empty pattern matches nothing")
    if pattern.startswith("!"):
        raise SelectionError(
            f"the pattern {pattern!r} turns another one round: use --exclude, or \\! for the sign itself"
        )
    try:
        (parsed,) = GitIgnoreSpec.from_lines([pattern]).patterns
    except ValueError as error:
        raise SelectionError(f"{pattern!r} is no pattern: {error}") from error
    regex: re.Pattern[str] | None = getattr(parsed, "regex", None)
    if regex is None:
        raise SelectionError(
            f"{pattern!r} is a pattern that matches nothing (is a # or a [ meant as it is? put a \\ before it)"
        )
    return regex.search


def parse_rules(lines: Iterable[str], *, name: str) -> tuple[Rule, ...]:
    """Read the lines of a filter file: ``+ PATTERN`` or ``- PATTERN``; empty lines and comments (#) are ignored.

    Raises
    ------
    SelectionError
        With the number of the invalid line.
    """
    rules = []
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if not text.strip() or text.startswith("#"):
            continue
        sign, space, pattern = text[:1], text[1:2], text[2:].strip()
        if sign not in "+-" or space != " " or not pattern:
            raise SelectionError(f"line {number} of {name} is no rule: {text!r}; write `+ PATTERN` or `- PATTERN`")
        rules.append(Rule(sign == "+", pattern))
    return tuple(rules)


def folders_above(key: str) -> list[str]:
    """Return the folders that contain a key, the innermost first."""
    found = []
    while (at := key.rfind("/")) > 0:
        key = key[:at]
        found.append(key)
    return found


def roots_of(names: Collection[str]) -> list[str]:
    """Return the names that are not inside another one."""
    known = frozenset(names)
    return sorted(name for name in known if not any(folder in known for folder in folders_above(name)))


def _is_meant(fragment: str, wanted: str) -> bool:
    return fragment == wanted or fragment.endswith("/" + wanted)
