"""The first schema.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A migration is frozen: it says what the tables were, and imports nothing that may change.
Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Name = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
Labels = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "catalog_info",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("results_url", sa.Text),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    op.create_table("provider", sa.Column("slug", Name, primary_key=True), sa.Column("name", sa.Text))
    op.create_table(
        "diagnostic",
        sa.Column("id", Id, primary_key=True, autoincrement=False),
        sa.Column("provider", Name, sa.ForeignKey("provider.slug"), nullable=False),
        sa.Column("slug", Name, nullable=False),
        sa.UniqueConstraint("provider", "slug"),
    )
    op.create_table(
        "execution_group",
        sa.Column("id", Id, primary_key=True, autoincrement=False),
        sa.Column("diagnostic_id", Id, sa.ForeignKey("diagnostic.id"), nullable=False),
        sa.Column("key", Name, nullable=False),
        sa.Column("selectors", sa.JSON),
        sa.Column("dirty", sa.Boolean, nullable=False),
        sa.UniqueConstraint("diagnostic_id", "key"),
    )
    op.create_table(
        "execution",
        sa.Column("id", Id, primary_key=True, autoincrement=False),
        sa.Column("fragment", Name, nullable=False, unique=True),
        sa.Column("group_id", Id, sa.ForeignKey("execution_group.id"), nullable=False, index=True),
        sa.Column("dataset_hash", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("status", sa.Text, nullable=False, index=True),
        sa.Column("failure", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("retryable", sa.Boolean),
        sa.Column("dirty", sa.Boolean),
        sa.Column("owner", sa.Text),
        sa.Column("lease_token", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("lease_expires", Time),
        sa.Column("host", sa.Text),
        sa.Column("pid", sa.Integer),
        sa.Column("created_at", Time),
        sa.Column("started_at", Time),
        sa.Column("stopped_at", Time),
        sa.Column("published_at", Time),
        sa.Column("uploaded_at", Time),
        sa.Column("upload_duration", sa.Double),
        sa.Column("record_digest", sa.Text),
        sa.Column("record_size", sa.BigInteger),
        sa.Column("record_modified", sa.Double),
        sa.Column("record_version", sa.Text),
        sa.Column("n_artifacts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("n_outputs", sa.Integer, nullable=False, server_default="0"),
        sa.Column("n_scalars", sa.Integer, nullable=False, server_default="0"),
        sa.Column("n_series", sa.Integer, nullable=False, server_default="0"),
        sa.Column("n_warnings", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table(
        "artifact",
        _execution_id(),
        sa.Column("key", Name, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger),
        sa.Column("sha256", sa.Text),
        sa.Column("media_type", sa.Text),
        sa.Column("description", sa.Text),
    )
    op.create_table(
        "output",
        _execution_id(),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("key", Name),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("long_name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("dimensions", Labels, nullable=False),
    )
    op.create_table(
        "scalar_value",
        _execution_id(),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("value", sa.Double),
        sa.Column("dimensions", Labels, nullable=False),
        sa.Column("attributes", Labels, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "series_value",
        _execution_id(),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("dimensions", Labels, nullable=False),
        sa.Column("index_name", sa.Text, nullable=False),
        sa.Column("index", sa.JSON, nullable=False),
        sa.Column("values", sa.JSON, nullable=False),
        sa.Column("attributes", Labels, nullable=False),
    )
    op.create_table(
        "ingest_warning",
        _execution_id(),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("place", sa.Text),
    )
    if op.get_context().dialect.name == "postgresql":
        for table in ("output", "scalar_value", "series_value"):
            op.create_index(
                f"ix_{table}_dimensions",
                table,
                ["dimensions"],
                postgresql_using="gin",
                postgresql_ops={"dimensions": "jsonb_path_ops"},
            )


def downgrade() -> None:
    """Refuse: a catalog is rebuilt from its results store, not taken apart."""
    raise NotImplementedError("there is nothing before the first schema; make a new catalog and replay into it")


def _execution_id() -> sa.Column[int]:
    return sa.Column("execution_id", Id, sa.ForeignKey("execution.id", ondelete="CASCADE"), primary_key=True)
