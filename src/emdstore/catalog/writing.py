"""Writing one whole execution into the catalog, replacing what was there."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs
import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from emdstore.catalog.content import (
    Artifact,
    DatasetValue,
    ExecutionContent,
    IngestWarning,
    Input,
    Output,
    ReplaceResult,
    Scalar,
    ScalarTable,
    Series,
)
from emdstore.catalog.lease import Claim
from emdstore.catalog.precedence import Held, refusal
from emdstore.catalog.references import identities_of, say_nothing, subject_of, with_described_units
from emdstore.catalog.schema import (
    PARTS,
    catalog_info,
    dataset,
    diagnostic,
    execution,
    execution_group,
    provider,
    surrogate_id,
)
from emdstore.errors import CatalogError, ClaimLostError
from emdstore.stores.identity import StoreIdentity

if TYPE_CHECKING:
    from emdstore.catalog.database import Database

_AT_ONCE = 100  # more would keep the garbage collector busy

_OUTCOME = [
    field.name for field in attrs.fields(ExecutionContent) if field.name in execution.c and field.name != "fragment"
]


# Statements are made once: building one takes several times as long as executing it on SQLite.
_OF_EXECUTION: sa.BindParameter[int] = sa.bindparam("execution_id")
_SELECT_HELD = (
    sa.select(
        execution.c.fragment,
        execution.c.lease_token,
        execution.c.owner,
        *(execution.c[field.name] for field in attrs.fields(Held)),
        *(execution.c[f"n_{part}"] for part in PARTS),
    )
    .where(execution.c.id == _OF_EXECUTION)
    .with_for_update()
)
_DELETE_PART = {part: sa.delete(table).where(table.c.execution_id == _OF_EXECUTION) for part, table in PARTS.items()}
_UPDATE_EXECUTION = sa.update(execution).where(execution.c.id == _OF_EXECUTION)
_UPDATE_GROUP = sa.update(execution_group).where(execution_group.c.id == sa.bindparam("group_id"))
# The latest execution decides, not the last writer, so replays in any order, or at once, reach the same flag.
_SETTLE_GROUP = _UPDATE_GROUP.values(
    dirty=sa.select(execution.c.dirty)
    .where(execution.c.group_id == sa.bindparam("group_id"), execution.c.dirty.is_not(None))
    .order_by(execution.c.started_at.desc().nulls_last(), execution.c.fragment.desc())
    .limit(1)
    .scalar_subquery()
)


def replace_execution(
    database: Database, content: ExecutionContent, claim: Claim | None, *, replace: bool = False
) -> ReplaceResult:
    """Replace what the catalog has of one execution; see `Catalog.replace_execution`."""
    # If a claim owner's commit got lost, its next commit finds out whether it was made.
    if claim is not None or any(isinstance(getattr(content, part), Iterator) for part in PARTS):
        return _replace_once(database, content, claim, replace)
    return database.patiently(lambda: _replace_once(database, content, claim, replace))


def _replace_once(database: Database, content: ExecutionContent, claim: Claim | None, replace: bool) -> ReplaceResult:
    """Replace in one transaction.

    The number of statements does not depend on the content. All writers lock rows from the top down (provider,
    diagnostic, group, execution, parts), so they wait for each other and never deadlock.
    """
    inputs = list(content.inputs)
    with database.writing() as connection:
        group_id = ensure_group(connection, content)
        _ensure_datasets(connection, inputs)
        execution_id = surrogate_id("execution", content.fragment)
        # What is claimed is there; otherwise it is new, mostly.
        held = None if claim is None else _held(connection, execution_id)
        created = False
        while held is None and not created:
            created = insert_execution(connection, content, group_id)
            held = None if created else _held(connection, execution_id)  # None if it has just been deleted
        if held is not None and held.fragment != content.fragment:
            raise CatalogError(
                f"{content.fragment} and {held.fragment} have the same id, {execution_id}: rename one of them",
                key=content.fragment,
                store=database.safe_url,
            )
        if claim is not None and (held is None or (claim.token, claim.owner) != (held.lease_token, held.owner)):
            raise claim_lost(database, claim, None if held is None else held.owner)
        if claim is None and held is not None:
            # Decided here, where the row is locked: earlier, somebody else might still publish what this would replace.
            told = Held(**{field.name: getattr(held, field.name) for field in attrs.fields(Held)})
            if (refused := refusal(told, content, replace=replace)) is not None:
                raise refused
        counts: dict[str, int] = {}
        for part, table in PARTS.items():
            if held is not None and getattr(held, f"n_{part}"):  # counted in the transaction that wrote them
                connection.execute(_DELETE_PART[part], {"execution_id": execution_id})
            given: Any = inputs if part == "inputs" else getattr(content, part)
            if isinstance(given, Collection) and not given:
                counts[part] = 0
                continue
            encode = functools.partial(_scalars, units=content.units) if part == "scalars" else _ENCODE[part]
            counts[part] = database.insert_rows(connection, table, encode(execution_id, given))
        values = {name: getattr(content, name) for name in _OUTCOME} | {f"n_{part}": n for part, n in counts.items()}
        if claim is not None:
            values |= {"owner": None, "lease_expires": None}
        connection.execute(_UPDATE_EXECUTION, {"execution_id": execution_id, "group_id": group_id, **values})
        if content.dirty is not None:
            connection.execute(_SETTLE_GROUP, {"group_id": group_id})
    return ReplaceResult(execution_id, created, **counts)


def _held(connection: sa.Connection, execution_id: int) -> Any:
    """Return what the catalog has of an execution, and lock it; None if it has nothing."""
    return connection.execute(_SELECT_HELD, {"execution_id": execution_id}).one_or_none()


def forget(database: Database, fragment: str) -> bool:
    """Remove an execution unless somebody works on it; see `Catalog.forget`."""
    doomed = sa.delete(execution).where(
        execution.c.fragment == fragment, execution.c.owner.is_(None), execution.c.status != "running"
    )
    with database.writing() as connection:
        return bool(connection.execute(doomed).rowcount)


_BOUND: sa.Select[Any] = sa.select(*(catalog_info.c[name] for name in ("results_id", "results_url")))


def bound_results(database: Database) -> StoreIdentity | None:
    """Return the results store that the catalog is tied to; see `Catalog.bound_results`."""
    rows = database.fetch(_BOUND)
    return StoreIdentity(*rows[0]) if rows else None


def note_results(database: Database, store: StoreIdentity, instead_of: StoreIdentity | None) -> StoreIdentity:
    """Tie the catalog to a store, if it is still tied to the one that the caller saw; see `Catalog.note_results`."""
    with database.writing() as connection:
        if instead_of is None:
            _insert_new(connection, catalog_info, id=1, results_id=store.id, results_url=store.url)
        else:
            connection.execute(
                sa.update(catalog_info)
                .where(
                    catalog_info.c.results_id.is_not_distinct_from(instead_of.id),
                    catalog_info.c.results_url.is_not_distinct_from(instead_of.url),
                )
                .values(results_id=store.id, results_url=store.url)
            )
        return StoreIdentity(*connection.execute(_BOUND).one())


def claim_lost(database: Database, claim: Claim, owner: str | None) -> ClaimLostError:
    """Return the error for a claim that no longer counts, with its present owner."""
    return ClaimLostError(
        f"{claim.owner} did not renew its claim of {claim.fragment} in time, and {owner or 'nobody'} holds it now. The "
        "catalog was not changed: leave the execution to them, or commit it again later",
        key=claim.fragment,
        store=database.safe_url,
    )


def ensure_group(connection: sa.Connection, content: ExecutionContent) -> int:
    """Create missing provider, diagnostic and group; lock the group and return its id."""
    diagnostic_id = surrogate_id("diagnostic", content.provider, content.diagnostic)
    group_id = surrogate_id("execution_group", content.provider, content.diagnostic, content.group)
    changes = {"key": content.group} if content.selectors is None else {"selectors": content.selectors}
    settle = functools.partial(connection.execute, _UPDATE_GROUP, {"group_id": group_id, **changes})
    # A group that is there has a diagnostic and a provider. A provider's row may have to be locked before the group's.
    if content.provider_name is None and settle().rowcount:
        return group_id
    _insert_new(connection, provider, slug=content.provider)
    if content.provider_name is not None:
        # Only if it differs: an UPDATE would make all writers of this provider wait for each other.
        renamed = sa.and_(provider.c.slug == content.provider, provider.c.name.is_distinct_from(content.provider_name))
        connection.execute(sa.update(provider).where(renamed).values(name=content.provider_name))
    _insert_new(connection, diagnostic, id=diagnostic_id, provider=content.provider, slug=content.diagnostic)
    _insert_new(connection, execution_group, id=group_id, diagnostic_id=diagnostic_id, key=content.group, dirty=True)
    settle()
    return group_id


def _ensure_datasets(connection: sa.Connection, inputs: Iterable[Input]) -> None:
    """Create missing datasets, in the order of their ids, which prevents deadlocks."""
    named = {_dataset_id(of): of for of, *_ in inputs if of is not None}
    if named:
        columns = ("name", "version", "pid", "doi", "sha256")
        rows: list[dict[str, Any]] = [
            {"id": each, **dict(zip(columns, named[each], strict=True))} for each in sorted(named)
        ]
        connection.execute(_insert_new_into(dataset, connection.dialect.name), rows)


def _dataset_id(value: DatasetValue) -> int:
    # Missing is not the same as empty.
    return surrogate_id("dataset", *("" if each is None else f"={each}" for each in value))


def insert_execution(connection: sa.Connection, content: ExecutionContent, group_id: int) -> bool:
    """Insert the execution's own row if there is none with this fragment; return whether it was inserted."""
    return _insert_new(
        connection,
        execution,
        id=surrogate_id("execution", content.fragment),
        fragment=content.fragment,
        group_id=group_id,
        **{name: getattr(content, name) for name in _OUTCOME},
    )


def _insert_new(connection: sa.Connection, table: sa.Table, **values: Any) -> bool:
    statement = _insert_new_into(table, connection.dialect.name)
    return connection.execute(statement, values, execution_options={"preserve_rowcount": True}).rowcount == 1


@functools.cache
def _insert_new_into(table: sa.Table, dialect: str) -> sa.Insert:
    # No conflict target: on PostgreSQL only this form is safe against a race on a table with two unique indexes.
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing()


# -- rows as the tables have them ------------------------------------------------------------------------------------


def _artifacts(execution_id: int, rows: Iterable[Artifact]) -> Iterator[tuple[Any, ...]]:
    for position, (key, *described) in enumerate(rows):
        yield execution_id, key, position, *described


def _outputs(execution_id: int, rows: Iterable[Output]) -> Iterator[tuple[Any, ...]]:
    for position, (*named, dimensions) in enumerate(rows):
        yield execution_id, position, *named, _to_json(dimensions)


def _scalars(
    execution_id: int, rows: Iterable[Scalar], units: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[Any, ...]]:
    # 100,000 rows may come this way, so everything possible is done for many at once, in C's loops.
    if isinstance(rows, _InTables) and not units:
        return itertools.chain.from_iterable(_tabled(execution_id, rows.iter_tables()))
    return itertools.chain.from_iterable(_listed(execution_id, rows, units))


def _listed(
    execution_id: int, rows: Iterable[Scalar], units: Mapping[str, Mapping[str, str]]
) -> Iterator[Iterable[tuple[Any, ...]]]:
    remaining, position = iter(rows), 0
    while some := list(itertools.islice(remaining, _AT_ONCE)):
        values, dimensions, attributes = zip(*some, strict=True)
        identities: Iterable[tuple[str, str | None, str | None]] = identities_of(dimensions, attributes)
        if units:
            identities = map(functools.partial(with_described_units, units), identities, dimensions)
        yield zip(
            itertools.repeat(execution_id),
            range(position, position + len(some)),
            [None if value != value else value for value in values],
            _to_json_each(dimensions),
            _to_json_runs(attributes),
            *zip(*identities, strict=True),
            strict=False,  # the first has no end
        )
        position += len(some)


@runtime_checkable
class _InTables(Protocol):
    """Scalars that also come in tables."""

    def iter_tables(self) -> Iterator[ScalarTable]: ...


_UNTOLD = tuple(map(itertools.repeat, subject_of({}, None)))


def _tabled(execution_id: int, tables: Iterable[ScalarTable]) -> Iterator[Iterable[tuple[Any, ...]]]:
    """Encode once for each table what all of its scalars share."""
    position = 0
    names: tuple[str, ...] = ()
    endings: list[str] = []
    for outer, dimension, attributes, table in tables:
        if (now := tuple(table)) != names:  # mostly the same, and encoded already
            names, endings = now, [each + "}" for each in _to_json_each(now)]
        beginning = _to_json({**outer, dimension: ""}).removesuffix('""}')
        end = position + len(table)
        columns: Iterable[Iterable[str | None]]
        if not say_nothing((dimension,)):
            columns = zip(*(subject_of({**outer, dimension: each}, attributes) for each in names), strict=True)
        elif attributes or not say_nothing(outer):
            columns = map(itertools.repeat, subject_of(outer, attributes))
        else:
            columns = _UNTOLD
        yield zip(
            itertools.repeat(execution_id),
            range(position, end),
            table.values(),
            [beginning + ending for ending in endings],
            itertools.repeat(_to_json(attributes) if attributes else "{}"),
            *columns,
            strict=False,  # some have no end
        )
        position = end


def _to_json_each(values: Sequence[object]) -> list[str]:
    return _encode_lines(values).decode().split("\n")[:-1]  # inside a line a newline is written as \n


def _to_json_runs(values: Iterable[object]) -> Iterator[str]:
    """Encode values; the same object often comes again and again, like a bundle's attributes."""
    last: object = None
    encoded = "{}"
    for value in values:
        if value is not last:
            last, encoded = value, _to_json(value or {})
        yield encoded


def _series(execution_id: int, rows: Iterable[Series]) -> Iterator[tuple[Any, ...]]:
    for position, (dimensions, index_name, index, values, attributes) in enumerate(rows):
        numbers = list(values)
        if inf in numbers or -inf in numbers:  # JSON cannot express it; `float` reads these
            numbers = [{inf: "Infinity", -inf: "-Infinity"}.get(v, v) for v in numbers]  # type: ignore[misc,arg-type]
        yield (
            execution_id,
            position,
            _to_json(dimensions),
            index_name,
            _to_json(list(index)),
            _to_json(numbers),
            _to_json(attributes or {}),
            *subject_of(dimensions, attributes),
        )


def _inputs(execution_id: int, rows: Iterable[Input]) -> Iterator[tuple[Any, ...]]:
    for position, (of, role, variable, file) in enumerate(rows):
        named = None if of is None else _dataset_id(of)
        yield execution_id, position, named, role, variable, *(file or (None, None, None, None))


def _warnings(execution_id: int, rows: Iterable[IngestWarning]) -> Iterator[tuple[Any, ...]]:
    for position, row in enumerate(rows):
        yield execution_id, position, *row


_ENCODE: Mapping[str, Callable[[int, Any], Iterator[tuple[Any, ...]]]] = {
    "artifacts": _artifacts,
    "outputs": _outputs,
    "series": _series,
    "inputs": _inputs,
    "warnings": _warnings,
}

_encoder = msgspec.json.Encoder(enc_hook=lambda value: dict(value) if isinstance(value, Mapping) else list(value))
_encode, _encode_lines = _encoder.encode, _encoder.encode_lines


def _to_json(value: object) -> str:
    return _encode(value).decode()  # NaN becomes null
