"""The catalog's tables.

These are core tables without mapped classes: tuples go in, frozen rows come out, and nothing needs an identity map.
`emdstore.catalog.migrations` builds the same tables; a test compares the two.

Ids are the first 63 bits of a BLAKE2b hash of the natural key. So a catalog that was deleted and replayed has the same
ids as before, and concurrent writers agree on an id without asking the database.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

SCHEMA_VERSION = "0003"
"""The revision that this emdstore reads and writes, the newest one in `emdstore.catalog.migrations`."""

VERSION_TABLE = "catalog_version"
"""The table of the revision. It is not Alembic's usual name, so that another program's database is never mistaken for a
catalog."""


def surrogate_id(*natural_key: str) -> int:
    """Derive a row's id from its table's name and natural key: the same everywhere, positive, 63 bits.

    Among a million executions, the probability of two with the same id is 1 in 18 million. Fragments are unique, so
    such a pair would be refused, not mixed up.
    """
    digest = hashlib.blake2b("\0".join(natural_key).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


class UTCDateTime(sa.types.TypeDecorator[datetime]):
    """A point in time. Python sees aware UTC; where there are no time zones, as in SQLite, UTC is stored."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Convert to UTC; a time without a zone is refused, since it could be any time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time in the catalog needs a time zone: {value!r}")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Attach or convert to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # INTEGER PRIMARY KEY is SQLite's own row id: no second index
Name = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")  # in the order of keys
Labels = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
Document = sa.JSON(none_as_null=True)  # text on both: JSONB would change large numbers and negative zeros

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

catalog_info = sa.Table(
    "catalog_info",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    # the results store of the rows: its identity, and where it was seen last
    sa.Column("results_url", sa.Text),
    sa.Column("results_id", sa.Text),
)

provider = sa.Table(
    "provider",
    metadata,
    sa.Column("slug", Name, primary_key=True),
    sa.Column("name", sa.Text),
)

diagnostic = sa.Table(
    "diagnostic",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("provider", Name, sa.ForeignKey("provider.slug"), nullable=False),
    sa.Column("slug", Name, nullable=False),
    sa.UniqueConstraint("provider", "slug"),
)

execution_group = sa.Table(
    "execution_group",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("diagnostic_id", Id, sa.ForeignKey("diagnostic.id"), nullable=False),
    sa.Column("key", Name, nullable=False),
    sa.Column("selectors", Document),
    sa.Column("dirty", sa.Boolean, nullable=False),
    sa.UniqueConstraint("diagnostic_id", "key"),
)

execution = sa.Table(
    "execution",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("fragment", Name, nullable=False, unique=True),
    sa.Column("group_id", Id, sa.ForeignKey("execution_group.id"), nullable=False, index=True),
    sa.Column("dataset_hash", sa.Text),
    sa.Column("description", sa.Text),
    sa.Column("status", sa.Text, nullable=False, index=True),
    sa.Column("failure", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("cause", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("retryable", sa.Boolean),
    sa.Column("dirty", sa.Boolean),
    # the owner of its claim, and when that expires
    sa.Column("owner", sa.Text),
    sa.Column("lease_token", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("lease_expires", UTCDateTime),
    sa.Column("host", sa.Text),
    sa.Column("pid", sa.Integer),
    # the software, and the resources that it used
    sa.Column("provider_version", sa.Text),
    sa.Column("diagnostic_version", sa.Text),
    sa.Column("software", Document),
    sa.Column("wall_seconds", sa.Double),
    sa.Column("cpu_seconds", sa.Double),
    sa.Column("peak_memory_bytes", sa.BigInteger),
    sa.Column("exit_code", sa.Integer),
    sa.Column("created_at", UTCDateTime),
    sa.Column("started_at", UTCDateTime),
    sa.Column("stopped_at", UTCDateTime),
    sa.Column("published_at", UTCDateTime),
    sa.Column("uploaded_at", UTCDateTime),
    sa.Column("upload_duration", sa.Double),
    # the record that the rows came from; size, time and version let a replay skip it from the listing alone
    sa.Column("record_digest", sa.Text),
    sa.Column("record_size", sa.BigInteger),
    sa.Column("record_modified", sa.Double),
    sa.Column("record_version", sa.Text),
    # the state of the set that the rows came from; none if never read from results
    sa.Column("state", sa.Text),
    sa.Column("complete", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("generation", sa.BigInteger, nullable=False, server_default="0"),
    # the set's retraction
    sa.Column("retracted_at", UTCDateTime),
    sa.Column("retracted_by", sa.Text),
    sa.Column("retraction_reason", sa.Text),
    sa.Column("superseded_by", Name),
    # kept here because only replacing the whole execution changes them
    *(
        sa.Column(f"n_{part}", sa.Integer, nullable=False, server_default="0")
        for part in ("artifacts", "outputs", "scalars", "series", "inputs", "warnings")
    ),
)

dataset = sa.Table(
    "dataset",
    metadata,
    # A value whose id is derived from all columns, so that a row that others refer to never changes.
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("name", Name, nullable=False, index=True),
    sa.Column("version", sa.Text),
    sa.Column("pid", sa.Text, index=True),
    sa.Column("doi", sa.Text, index=True),
    sa.Column("sha256", sa.Text),
)

release = sa.Table(
    "release",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("at", UTCDateTime, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

release_set = sa.Table(
    "release_set",
    metadata,
    sa.Column("release", Name, sa.ForeignKey("release.name", ondelete="CASCADE"), primary_key=True),
    sa.Column("fragment", Name, primary_key=True),
    sa.Column("record_digest", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

release_alias = sa.Table(
    "release_alias",
    metadata,
    sa.Column("name", Name, primary_key=True),
    sa.Column("release", Name, sa.ForeignKey("release.name", ondelete="CASCADE"), nullable=False),
)

last_replay = sa.Table(
    "last_replay",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    sa.Column("at", UTCDateTime, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("sets", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("prefix", Name, nullable=False),
    sa.Column("whole", sa.Boolean, nullable=False),
)


def _part(name: str, *columns: sa.Column[Any], identity: sa.Column[Any] | None = None, **options: Any) -> sa.Table:
    """Make a table of things that belong to one execution, are removed with it, and are identified by their position in
    it.
    """
    return sa.Table(
        name,
        metadata,
        sa.Column("execution_id", Id, sa.ForeignKey("execution.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True) if identity is None else identity,
        *columns,
        **options,
    )


artifact = _part(
    "artifact",
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger),
    sa.Column("sha256", sa.Text),
    sa.Column("media_type", sa.Text),
    sa.Column("description", sa.Text),
    identity=sa.Column("key", Name, primary_key=True),
)

output = _part(
    "output",
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("key", Name),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("long_name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("dimensions", Labels, nullable=False),
)


def _what_it_is() -> tuple[sa.Column[Any], ...]:
    """Make the columns that tell what a value is of; see `emdstore.catalog.references`."""
    return (
        sa.Column("kind", sa.Text, nullable=False, server_default="model"),
        sa.Column("reference_id", Name),
        sa.Column("units", sa.Text),
    )


scalar_value = _part(
    "scalar_value",
    sa.Column("value", sa.Double),
    sa.Column("dimensions", Labels, nullable=False),
    sa.Column("attributes", Labels, nullable=False),
    *_what_it_is(),
    sqlite_with_rowid=False,  # short rows in key order: one B-tree instead of two
)

series_value = _part(
    "series_value",
    sa.Column("dimensions", Labels, nullable=False),
    sa.Column("index_name", sa.Text, nullable=False),
    sa.Column("index", Document, nullable=False),
    sa.Column("values", Document, nullable=False),
    sa.Column("attributes", Labels, nullable=False),
    *_what_it_is(),
)

execution_input = _part(
    "execution_input",
    # a dataset under its framework's name, or a staged file
    sa.Column("dataset_id", Id, sa.ForeignKey("dataset.id"), index=True),
    sa.Column("role", sa.Text),
    sa.Column("variable", sa.Text),
    sa.Column("store", sa.Text),
    sa.Column("key", Name),
    sa.Column("size", sa.BigInteger),
    sa.Column("sha256", sa.Text),
)

ingest_warning = _part(
    "ingest_warning",
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("place", sa.Text),
)

for _table in (output, scalar_value, series_value):
    sa.Index(
        f"ix_{_table.name}_dimensions",
        _table.c.dimensions,
        postgresql_using="gin",
        postgresql_ops={"dimensions": "jsonb_path_ops"},
    ).ddl_if(dialect="postgresql")

PARTS = {
    "artifacts": artifact,
    "outputs": output,
    "scalars": scalar_value,
    "series": series_value,
    "inputs": execution_input,
    "warnings": ingest_warning,
}
"""The tables of what belongs to one execution, by the field of `ExecutionContent` that fills them."""
