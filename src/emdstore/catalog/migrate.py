"""The schema of a database, and upgrading it to the one that this emdstore uses.

Alembic does the work. It is imported only if there is any, so an up-to-date catalog opens without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs
import sqlalchemy as sa

from emdstore.catalog.schema import SCHEMA_VERSION, VERSION_TABLE, metadata, surrogate_id

if TYPE_CHECKING:
    from alembic.config import Config

SchemaState = Literal["empty", "current", "behind", "unknown", "foreign"]


@attrs.frozen
class CatalogStatus:
    """The status of a database's schema.

    Attributes
    ----------
    url
        The database, without password.
    version
        Its revision, or None if it has none.
    latest
        The revision that this emdstore uses.
    state
        ``"current"``: ready. ``"empty"``: the first use will set it up. ``"behind"``: `Catalog.upgrade` brings it up to
        date. ``"unknown"``: a newer emdstore made it. ``"foreign"``: it has tables of another program.
    """

    url: str
    version: str | None
    latest: str
    state: SchemaState


def schema_state(connection: sa.Connection) -> tuple[SchemaState, str | None]:
    """Return the state of the database's schema, and its revision."""
    tables = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE not in tables:
        return ("foreign" if tables & metadata.tables.keys() else "empty"), None
    table = sa.table(VERSION_TABLE, sa.column("version_num", sa.Text))
    version = "+".join(connection.scalars(sa.select(table.c.version_num)))
    if version == SCHEMA_VERSION:
        return "current", version
    return ("behind" if version in _older_versions() else "unknown"), version


def take_turns(connection: sa.Connection) -> None:
    """Make other processes that want to change the schema wait until this transaction ends.

    On SQLite every write transaction (BEGIN IMMEDIATE) does this anyway.
    """
    if connection.dialect.name == "postgresql":
        key = surrogate_id("schema of an emdstore catalog")
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.literal(key, sa.BigInteger))))


def apply_migrations(connection: sa.Connection) -> None:
    """Bring the schema to the latest revision in the connection's transaction, entirely or not at all."""
    from alembic import command

    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _older_versions() -> frozenset[str]:
    from alembic.script import ScriptDirectory

    revisions = ScriptDirectory.from_config(_alembic()).walk_revisions()
    return frozenset(revision.revision for revision in revisions) - {SCHEMA_VERSION}


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()  # in memory: an installed library has no alembic.ini
    config.set_main_option("script_location", "emdstore.catalog:migrations")
    return config
