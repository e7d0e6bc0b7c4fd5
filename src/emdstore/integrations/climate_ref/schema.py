"""Which databases of Climate-REF can be used, seen by what they have, and the two tables that take rows in bulk."""

from __future__ import annotations

import functools
from collections.abc import Set
from pathlib import Path

import attrs
import climate_ref
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from climate_ref.models import MetricValue
from climate_ref.models.execution import Execution, ExecutionOutput

from emdstore.errors import CatalogVersionError

_ROW = frozenset({"id", "execution_id", "created_at", "updated_at"})
_FILLED = {
    "metric_value": _ROW | {"type", "attributes", "value", "values", "index", "index_name", "index_id", "reference_id"},
    "execution_output": _ROW | {"output_type", "filename", "short_name", "long_name", "description"},
}
"""The columns that emdstore fills, beside those that are dimensions, in all versions together."""

_MAY_LACK = frozenset({"index", "index_name", "index_id", "reference_id"})
_TRIED_WITH = "emdstore is tried with climate-ref 0.14 to 0.20"
_DIMENSION = "skip_autogenerate"


@attrs.frozen
class RefSchema:
    """The actual tables of a database: their dimension columns depend on the vocabulary that it was made with.

    Attributes
    ----------
    values, outputs
        ``metric_value`` and ``execution_output``.
    value_dimensions, output_dimensions
        Their columns that are dimensions.
    """

    values: sa.TableClause
    outputs: sa.TableClause
    value_dimensions: frozenset[str]
    output_dimensions: frozenset[str]

    @property
    def has_axes(self) -> bool:
        """Whether series share their index in a table of its own."""
        return "index_id" in self.values.c

    @property
    def has_roles(self) -> bool:
        """Whether values are of a model or of a reference."""
        return "reference_id" in self.values.c

    @property
    def has_failure_reasons(self) -> bool:
        """Whether a failed execution says why."""
        return "failure_reason" in Execution.__table__.c


def read_schema(connection: sa.Connection) -> RefSchema:
    """Check a database, and refuse one that the installed climate-ref did not make, or that has unknown columns.

    Raises
    ------
    CatalogVersionError
        With what to do. Nothing was changed.
    """
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names())
    where = connection.engine.url.render_as_string(hide_password=True)
    if "alembic_version" not in tables or "metric_value" not in tables:
        raise CatalogVersionError(
            f"{where} is no database of climate-ref: set it up with `ref db migrate`. {_TRIED_WITH}", store=where
        )
    revisions = connection.scalars(sa.text("SELECT version_num FROM alembic_version")).all()
    installed = installed_revision()
    if list(revisions) != [installed]:
        found = ", ".join(revisions) or "none"
        raise CatalogVersionError(
            f"{where} has the database revision {found}, and the climate-ref that is installed has {installed}: run "
            f"`ref db migrate`, or install the version that made it. {_TRIED_WITH}",
            store=where,
        )
    values, value_dimensions = _table(inspector, MetricValue.__table__)
    outputs, output_dimensions = _table(inspector, ExecutionOutput.__table__)
    return RefSchema(values, outputs, value_dimensions, output_dimensions)


@functools.cache
def installed_revision() -> str:
    """Return the database revision of the installed climate-ref.

    Its number does not matter: what counts is that its tables have the columns that emdstore fills, and no others,
    which would stay empty.

    Raises
    ------
    CatalogVersionError
        If they have not; the message names the columns.
    """
    for model in (MetricValue.__table__, ExecutionOutput.__table__):
        name = str(getattr(model, "name", model))
        check_columns(name, {column.name for column in model.c if not column.info.get(_DIMENSION)})
    head = ScriptDirectory(str(Path(climate_ref.__file__).parent / "migrations")).get_current_head()
    return str(head)


def check_columns(table: str, columns: Set[str]) -> None:
    """Refuse a table that has other columns than those that emdstore fills; `CatalogVersionError` names them."""
    known = _FILLED[table]
    for what, odd in (("also has", columns - known), ("lacks", known - columns - _MAY_LACK)):
        if odd:
            raise CatalogVersionError(
                f"the table {table} of the climate-ref that is installed {what} {', '.join(sorted(odd))}, which this "
                f"emdstore does not know. {_TRIED_WITH}: install one of these, or a newer emdstore"
            )
    if table == "metric_value" and not ({"index", "index_name"} <= columns or "index_id" in columns):
        raise CatalogVersionError(f"the table {table} has no column for the index of a series. {_TRIED_WITH}")


def _table(inspector: sa.Inspector, model: sa.FromClause) -> tuple[sa.TableClause, frozenset[str]]:
    """Return a table with its actual columns; those that are not in the model are dimensions."""
    fixed = {column.name: column.type for column in model.c if not column.info.get(_DIMENSION)}
    names = [column["name"] for column in inspector.get_columns(str(getattr(model, "name", model)))]
    # What goes into JSON is clean already; Climate-REF's own type would check every number again.
    types = {name: sa.JSON() if isinstance(_impl(kind), sa.JSON) else kind for name, kind in fixed.items()}
    columns = [sa.column(name, types.get(name, sa.Text())) for name in names]
    return sa.table(str(getattr(model, "name", model)), *columns), frozenset(names) - set(fixed)


def _impl(kind: sa.types.TypeEngine[object]) -> object:
    return kind.impl if isinstance(kind, sa.types.TypeDecorator) else kind
