"""Commands on what a catalog holds of executions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import attrs
from cyclopts import Parameter

from emdstore.catalog.choosing import chosen_executions
from emdstore.catalog.filters import Filters
from emdstore.catalog.rows import Status
from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched
from emdstore.cli.options import PLAIN, Folder, Output
from emdstore.cli.render import say, show_document, show_fields, show_table, value_table
from emdstore.cli.workspaces import OWN_CATALOG, OwnCatalog

if TYPE_CHECKING:
    from emdstore.catalog import Catalog, ExecutionRow


def list_executions(
    *,
    status: Annotated[tuple[Status, ...], Parameter()] = (),
    choosing: Choosing = ANYTHING,
    catalog: OwnCatalog = OWN_CATALOG,
    output: Output = PLAIN,
) -> int:
    """List the executions of the workspace, or of a catalog.

    Parameters
    ----------
    status
        Only those in this state; may be given several times.
    """
    selection = choosing.of_sets()
    with catalog.open() as database:
        filters: Filters = {"status": status} if status else {}
        rows = list(chosen_executions(database, selection, **filters))
        refuse_unmatched(len(rows), selection, "execution", store=database.url)
    if output.json:
        return show_document("list", {"executions": rows})
    columns = ("execution", "status", "created", "artifacts", "scalars", "description", "note")
    show_table(columns, map(_listed, rows))
    return 0


def _listed(row: ExecutionRow) -> tuple[object, ...]:
    return (
        row.fragment,
        row.status,
        row.created_at,
        row.artifacts,
        row.scalars,
        row.description,
        _word(row)
        or row.error
        or row.cause
        or (f"held by {row.owner}" if row.owner else row.reason if row.failure else None),
    )


def _word(row: ExecutionRow) -> str | None:
    return None if row.retracted_at is None else f"retracted: {row.retraction_reason}"


def show(
    execution: Folder,
    /,
    *,
    catalog: OwnCatalog = OWN_CATALOG,
    limit: Annotated[int, Parameter(alias="-n")] = 20,
    output: Output = PLAIN,
) -> int:
    """Show what the catalog holds of one execution: status, counts, warnings, artifacts, values.

    Parameters
    ----------
    execution
        Its fragment, or the end of it, or its id.
    limit
        How many rows to show of each kind; 0 for all. JSON has all.
    """
    with catalog.open() as database:
        return _show_one(database, execution, limit=limit, output=output)


def _show_one(database: Catalog, execution: str, *, limit: int, output: Output) -> int:
    row = database.execution(execution)
    if output.json:
        parts = {kind: list(rows) for kind, rows in _parts(database, row).items()}
        return show_document("show", {"execution": row} | parts)
    _show_execution(row, _parts(database, row), limit)
    return 0


def _parts(database: Catalog, row: ExecutionRow) -> dict[str, Iterator[Any]]:
    queries: dict[str, Iterable[Any]] = {
        "warnings": database.warnings(fragment=row.fragment, retracted=None),
        "inputs": database.inputs(fragment=row.fragment, retracted=None),
        "artifacts": database.artifacts(fragment=row.fragment, retracted=None),
        "outputs": database.outputs(fragment=row.fragment, retracted=None, complete=None),
        "scalars": database.scalars(fragment=row.fragment, retracted=None, complete=None),
        "series": database.series(fragment=row.fragment, retracted=None, complete=None),
    }
    return {kind: (each for each in rows if each.execution_id == row.execution_id) for kind, rows in queries.items()}


def _show_execution(row: ExecutionRow, parts: dict[str, Iterator[Any]], limit: int) -> None:
    counts = ("artifacts", "outputs", "scalars", "series", "inputs", "warnings")
    left_out = (
        "software",
        "selectors",
        "record_digest",
        "record_size",
        "record_modified",
        "record_version",
        "lease_token",
    )
    fields = {name: value for name, value in attrs.asdict(row, recurse=False).items() if name not in left_out}
    show_fields({name: value for name, value in fields.items() if name not in counts})
    say(", ".join(f"{getattr(row, name)} {name}" for name in counts))
    shown = {kind: list(islice(rows, limit or None)) for kind, rows in parts.items()}
    tables: dict[str, tuple[tuple[str, ...], list[tuple[object, ...]]]] = {
        "warnings": (("code", "message", "place"), [(w.code, w.message, w.place) for w in shown["warnings"]]),
        "inputs": (("role", "input", "version"), [(i.role, i.dataset or i.key, i.version) for i in shown["inputs"]]),
        "artifacts": (("role", "size", "key"), [(a.role, a.size, a.key) for a in shown["artifacts"]]),
        "outputs": (
            ("kind", "name", "description"),
            [(o.kind, o.long_name or o.name, o.description) for o in shown["outputs"]],
        ),
        "scalars": value_table(shown["scalars"], value=lambda scalar: scalar.value),
        "series": value_table(shown["series"], over=lambda one: one.index_name, points=lambda one: len(one.values)),
    }
    for kind, (columns, rows) in tables.items():
        if rows:
            say("")
            total = getattr(row, kind)
            show_table(columns, rows, title=kind if len(rows) == total else f"{kind}: {len(rows)} of {total}")
