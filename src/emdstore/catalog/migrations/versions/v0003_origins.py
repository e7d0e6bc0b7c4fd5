"""What each execution read, what computed it, what that took, and why it failed; and releases of sets.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Name = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables and columns. They are empty until the sets are read again: a replay does that."""
    op.create_table(
        "dataset",
        sa.Column("id", Id, primary_key=True, autoincrement=False),
        sa.Column("name", Name, nullable=False, index=True),
        sa.Column("version", sa.Text),
        sa.Column("pid", sa.Text, index=True),
        sa.Column("doi", sa.Text, index=True),
        sa.Column("sha256", sa.Text),
    )
    op.create_table(
        "execution_input",
        sa.Column("execution_id", Id, sa.ForeignKey("execution.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("dataset_id", Id, sa.ForeignKey("dataset.id"), index=True),
        sa.Column("role", sa.Text),
        sa.Column("variable", sa.Text),
        sa.Column("store", sa.Text),
        sa.Column("key", Name),
        sa.Column("size", sa.BigInteger),
        sa.Column("sha256", sa.Text),
    )
    op.create_table(
        "release",
        sa.Column("name", Name, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "release_set",
        sa.Column("release", Name, sa.ForeignKey("release.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("fragment", Name, primary_key=True),
        sa.Column("record_digest", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "release_alias",
        sa.Column("name", Name, primary_key=True),
        sa.Column("release", Name, sa.ForeignKey("release.name", ondelete="CASCADE"), nullable=False),
    )
    op.create_table(
        "last_replay",
        sa.Column(
            "id", sa.Integer, sa.CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("sets", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("prefix", Name, nullable=False),
        sa.Column("whole", sa.Boolean, nullable=False),
    )
    op.add_column("execution", sa.Column("cause", sa.Text))
    op.add_column("execution", sa.Column("provider_version", sa.Text))
    op.add_column("execution", sa.Column("diagnostic_version", sa.Text))
    op.add_column("execution", sa.Column("software", sa.JSON))
    op.add_column("execution", sa.Column("wall_seconds", sa.Double))
    op.add_column("execution", sa.Column("cpu_seconds", sa.Double))
    op.add_column("execution", sa.Column("peak_memory_bytes", sa.BigInteger))
    op.add_column("execution", sa.Column("exit_code", sa.Integer))
    op.add_column("execution", sa.Column("n_inputs", sa.Integer, nullable=False, server_default="0"))
    for table in ("scalar_value", "series_value"):
        op.add_column(table, sa.Column("kind", sa.Text, nullable=False, server_default="model"))
        op.add_column(table, sa.Column("reference_id", Name))
        op.add_column(table, sa.Column("units", sa.Text))
    # No record has this digest, so a replay reads every set again.
    op.execute(
        "UPDATE execution SET record_digest = 'read by version 0002', record_size = NULL, record_modified = NULL, "
        "record_version = NULL WHERE record_digest IS NOT NULL"
    )
