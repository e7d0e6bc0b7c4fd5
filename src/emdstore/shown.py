"""How values show themselves: in a line at a prompt, whatever they hold, and as a table in a notebook."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any

import attrs

_LONGEST = 1500
_LONGEST_VALUE = 200
_FEW = 3
_PLAIN = 15
_ROWS = 10


class Shown:
    """A base for attrs values that may hold much: their ``repr`` is short, and says what it leaves out."""

    __slots__ = ()

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={in_short(value, quoted=True)}" for name, value in _parts(self))
        return f"{type(self).__name__}({told[:_LONGEST] + '…' if len(told) > _LONGEST else told})"

    def _repr_html_(self) -> str:
        """Return it as tables, for notebooks."""
        rows = [(name.replace("_", " "), in_short(value)) for name, value in _parts(self)]
        details = [
            f"<details><summary>{escape(name.replace('_', ' '))} ({len(value):,})</summary>{_listed(value)}</details>"
            for name, value in _parts(self)
            if _is_long(value)
        ]
        return f"<p><b>{type(self).__name__}</b></p>{html_table((), rows)}{''.join(details)}"


def in_short(value: object, *, quoted: bool = False) -> str:
    """Return a value in one line: of many items only their number, of a long text its beginning."""
    if _is_long(value):
        assert isinstance(value, Collection)
        return f"<{len(value):,}>"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {in_short(each, quoted=quoted)}" for key, each in value.items()) + "}"
    text = repr(value) if quoted else "" if value is None else str(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def html_table(head: Sequence[str], rows: Collection[Sequence[object]]) -> str:
    """Return a table as HTML; all text in it is escaped."""
    top = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(in_short(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{top}{body}</table>"


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a value holds, without what is empty."""
    for field in attrs.fields(type(value)):
        held = getattr(value, field.name)
        if isinstance(held, Mapping):  # counts of nothing say nothing
            held = {key: each for key, each in held.items() if each not in (0, 0.0)}
        if field.repr is not False and held is not None and not (isinstance(held, Collection) and not held):
            yield field.name, held


def _is_long(value: object) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        return False
    is_plain = isinstance(value, Mapping) and all(isinstance(each, int | float | str) for each in value.values())
    return len(value) > (_PLAIN if is_plain else _FEW)


def _listed(items: Collection[Any]) -> str:
    some = list(islice(items.items() if isinstance(items, Mapping) else items, _ROWS))
    first = some[0]
    if attrs.has(type(first)):
        head = [field.name for field in attrs.fields(type(first))]
        rows = [[getattr(each, name, "") for name in head] for each in some]
        return html_table([name.replace("_", " ") for name in head], rows)
    return html_table((), [each if isinstance(items, Mapping) else (each,) for each in some])
