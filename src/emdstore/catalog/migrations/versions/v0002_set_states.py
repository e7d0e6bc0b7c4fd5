"""The state of each set when it was read, how often it had been claimed, its retraction, and which store they are of.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and fill them from what the rows say."""
    op.add_column("catalog_info", sa.Column("results_id", sa.Text))
    op.add_column("execution", sa.Column("state", sa.Text))
    op.add_column("execution", sa.Column("complete", sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("execution", sa.Column("generation", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("execution", sa.Column("retracted_at", sa.DateTime(timezone=True)))
    op.add_column("execution", sa.Column("retracted_by", sa.Text))
    op.add_column("execution", sa.Column("retraction_reason", sa.Text))
    op.add_column("execution", sa.Column("superseded_by", sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")))
    op.execute(
        """
        UPDATE execution SET state = CASE
            WHEN status = 'failed' AND failure = 'result' THEN 'incomplete'
            WHEN status = 'failed' THEN 'failed'
            WHEN published_at IS NULL AND reason = 'a bare set: read without a record' THEN 'bare'
            ELSE 'published' END
        WHERE record_digest IS NOT NULL
        """
    )
    op.execute("UPDATE execution SET complete = false WHERE state = 'incomplete'")
