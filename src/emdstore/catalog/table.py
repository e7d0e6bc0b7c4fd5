"""A query's rows as a table: columns that are known in advance, and batches of plain values.

All exports and frames are made from this table, so they have the same columns. The columns depend on the rows: there is
one for each dimension that any row has. They are queried first, at the same instant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import attrs
import sqlalchemy as sa

from emdstore.catalog.schema import UTCDateTime

if TYPE_CHECKING:
    from emdstore.catalog.database import Database, Instant

Kind = Literal["text", "integer", "number", "boolean", "time", "json", "texts", "integers", "numbers"]
"""The type of a column's values. The last three are lists; ``json`` is any JSON value.

``texts`` may also contain numbers, and ``numbers`` integers, because one series' index is text and another's is not.
"""

Values = tuple[Any, ...]
"""One row: a value, or None, per column."""

_KINDS: dict[type[sa.types.TypeEngine[Any]], Kind] = {
    sa.Text: "text",
    sa.Integer: "integer",
    sa.Double: "number",
    sa.Boolean: "boolean",
    UTCDateTime: "time",
    sa.JSON: "json",
}
_ESCAPE = "dimension."


@attrs.frozen
class Column:
    """A column of a table.

    Attributes
    ----------
    name
        Its name, unique in the table.
    kind
        The type of its values.
    """

    name: str
    kind: Kind


@attrs.frozen
class Table:
    """Rows as plain values, in the order of the columns.

    Attributes
    ----------
    columns
        All of them, in order.
    total
        How many rows there are.
    batches
        The rows, in batches. A missing value is None, never NaN; times are aware UTC; the lists ``index`` and
        ``values`` of a row are equally long.
    """

    columns: tuple[Column, ...]
    total: int
    batches: Iterator[list[Values]]


def name_dimensions(dimensions: Collection[str], taken: Collection[str]) -> dict[str, str]:
    """Return the column name of each dimension: its own, unless that is taken.

    A taken name gets the prefix ``dimension.``, and so does one that already begins with it, so that names stay unique.
    """
    return {one: _ESCAPE + one if one in taken or one.startswith(_ESCAPE) else one for one in sorted(dimensions)}


@contextmanager
def open_table(
    database: Database, statement: sa.Select[Any], fields: list[str], at_a_time: int, instant: Instant | None = None
) -> Iterator[Table]:
    """Read a statement as a table during the block; columns, total and rows are from the same instant.

    Parameters
    ----------
    database
        The database.
    statement
        The statement.
    fields
        The names of its columns in the public rows.
    at_a_time
        How many rows make a batch.
    instant
        The instant; by default, now.
    """
    questions = [_of_all_rows(statement, sa.func.count())]
    if "dimensions" in fields:
        questions.append(_names_of_dimensions(database, statement))
    if "index" in fields:
        questions.append(_kinds_of_index(database, statement))
    with (instant or database).snapshot(statement, *questions, at_a_time=at_a_time) as (answers, rows):
        ((total,),), *found = answers
        sets = [{one for (one,) in answer if one is not None} for answer in found]
        named = name_dimensions(sets[0], fields) if "dimensions" in fields else {}
        index = _kind_of_index(sets[1]) if "index" in fields else "texts"
        columns: list[Column] = []
        for field, source in zip(fields, statement.selected_columns, strict=True):
            if field == "dimensions":
                columns += [Column(name, "text") for name in named.values()]
            elif field == "index":
                columns.append(Column(field, index))
            else:
                kind: Kind = next(kind for type_, kind in _KINDS.items() if isinstance(source.type, type_))
                columns.append(Column(field, "numbers" if field == "values" else kind))
        plain = _plain(fields, list(named))
        yield Table(tuple(columns), total, iter(lambda: list(map(plain, islice(rows, at_a_time))), []))


def _plain(fields: list[str], dimensions: list[str]) -> Callable[[Sequence[Any]], Values]:
    """Return the function that converts a row of the database to plain values."""
    if "dimensions" not in fields:
        return tuple
    place = fields.index("dimensions")

    def flat(row: Sequence[Any]) -> Values:
        return (*row[:place], *map(row[place].get, dimensions), *row[place + 1 :])

    if "values" not in fields:
        return flat
    values = fields.index("values")

    def flat_series(row: Sequence[Any]) -> Values:
        numbers = [None if one is None else float(one) for one in row[values]]  # infinity is text in the database
        return flat((*row[:values], numbers, *row[values + 1 :]))

    return flat_series


# -- what is asked before the rows are read ---------------------------------------------------------------------------


def _of_all_rows(statement: sa.Select[Any], *what: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return statement.with_only_columns(*what, maintain_column_froms=True).order_by(None)


def _names_of_dimensions(database: Database, statement: sa.Select[Any]) -> sa.Select[Any]:
    dimensions: Any = statement.selected_columns["dimensions"]
    columns = database.columns_of_dimensions(dimensions.table)
    if columns is not None:
        found = (sa.case((sa.func.count(column) > 0, name)) for name, column in columns.items())
        return _of_all_rows(statement, sa.func.unnest(sa.func.list_value(*found)))
    if database.is_postgresql:
        return _of_all_rows(statement, sa.func.jsonb_object_keys(dimensions)).distinct()
    entry = sa.func.json_each(dimensions).table_valued("key", joins_implicitly=True)
    return _of_all_rows(statement, entry.c.key).distinct()


def _kinds_of_index(database: Database, statement: sa.Select[Any]) -> sa.Select[Any]:
    # Many series share one index, which is checked once.
    text = sa.cast(statement.selected_columns["index"], sa.Text).label("text")
    indices = _of_all_rows(statement, text).distinct().subquery()
    if database.is_postgresql:
        entry = sa.func.json_array_elements(sa.cast(indices.c.text, sa.JSON)).table_valued("value")
        written = sa.cast(entry.c.value, sa.Text)
        is_text, is_integer = written.startswith('"'), written.regexp_match("^-?[0-9]{1,18}$")
    elif database.is_snapshot:
        entry = sa.func.unnest(sa.func.json_extract(indices.c.text, "$[*]")).table_valued("value").render_derived()
        written = sa.cast(entry.c.value, sa.Text)
        is_text, is_integer = written.startswith('"'), sa.func.regexp_matches(written, "^-?[0-9]{1,18}$")
    else:
        entry = sa.func.json_each(indices.c.text).table_valued("type", "atom")
        is_text = entry.c.type == "text"
        is_integer = sa.func.typeof(entry.c.atom) == "integer"  # 1e25 is none, however it is written
    kind = sa.case((is_text, "texts"), (is_integer, "integers"), else_="numbers")
    return sa.select(kind).select_from(indices.join(entry, sa.true())).distinct()


def _kind_of_index(found: Collection[Kind]) -> Kind:
    """Return one type for all: text, if there is any."""
    if not found or "texts" in found:
        return "texts"
    return "numbers" if "numbers" in found else "integers"
