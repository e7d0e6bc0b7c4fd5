"""Alembic's entry point: run the migrations on the connection, and in the transaction, that the catalog hands over."""

from alembic import context

from emdstore.catalog.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
