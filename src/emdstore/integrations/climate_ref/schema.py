"""The supported versions of Climate-REF's database, and its two tables that take rows in bulk."""

from __future__ import annotations

import functools
from pathlib import Path

import attrs
import climate_ref
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from climate_ref.models import MetricValue
from climate_ref.models.execution import Execution, ExecutionOutput

from emdstore.errors import CatalogVersionError

KNOWN = {"b1c2d3e4f5a6": "0.14", "42598155c23b": "0.20"}
"""The revisions that this module is tested with, and the versions of climate-ref that have them."""

_WORKS_WITH = "emdstore works with climate-ref " + " and ".join(
    f"{version} (database revision {revision})" for revision, version in KNOWN.items()
)
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
        """Whether series share their index in a table of its own, and values have a role (0.20)."""
        return "index_id" in self.values.c

    @property
    def has_failure_reasons(self) -> bool:
        """Whether a failed execution says why."""
        return "failure_reason" in Execution.__table__.c


def read_schema(connection: sa.Connection) -> RefSchema:
    """Check a database, and refuse an unknown version.

    Raises
    ------
    CatalogVersionError
        With the versions that work. Nothing was changed.
    """
    inspector = sa.inspect(connection)
    tables = set(inspector.get_table_names())
    where = connection.engine.url.render_as_string(hide_password=True)
    if "alembic_version" not in tables or "metric_value" not in tables:
        raise CatalogVersionError(
            f"{where} is no database of climate-ref: set it up with `ref db migrate`. {_WORKS_WITH}", store=where
        )
    revisions = connection.scalars(sa.text("SELECT version_num FROM alembic_version")).all()
    installed = installed_revision()
    if list(revisions) != [installed]:
        found = ", ".join(revisions) or "none"
        raise CatalogVersionError(
            f"{where} has the database revision {found}, and the climate-ref that is installed has {installed}: run "
            f"`ref db migrate`, or install the version that made it. {_WORKS_WITH}",
            store=where,
        )
    values, value_dimensions = _table(inspector, MetricValue.__table__)
    outputs, output_dimensions = _table(inspector, ExecutionOutput.__table__)
    return RefSchema(values, outputs, value_dimensions, output_dimensions)


@functools.cache
def installed_revision() -> str:
    """Return the database revision of the installed climate-ref.

    Raises
    ------
    CatalogVersionError
        If its version is unknown; the message names those that work.
    """
    head = ScriptDirectory(str(Path(climate_ref.__file__).parent / "migrations")).get_current_head()
    if head not in KNOWN:
        raise CatalogVersionError(
            f"the climate-ref that is installed makes databases of revision {head}, which this emdstore does not know. "
            f"{_WORKS_WITH}: install one of these, or a newer emdstore"
        )
    return head


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
