"""Opening Climate-REF's database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from emdstore.errors import CatalogError, CatalogVersionError, MissingExtraError, redact
from emdstore.integrations.climate_ref.schema import RefSchema, read_schema

if TYPE_CHECKING:
    from climate_ref.database import Database

_BUSY_SECONDS = 60


@contextmanager
def engine_of(database: Database | str | Path) -> Iterator[sa.Engine]:
    """Yield the engine of Climate-REF's database, or of its URL or SQLite file; what was opened here is closed at the
    end.
    """
    if not isinstance(database, str | Path):
        yield database.session.get_bind()
        return
    engine = _open(str(database))
    try:
        yield engine
    finally:
        engine.dispose()


def _open(place: str) -> sa.Engine:
    try:
        url = sa.engine.make_url(place if "://" in place else f"sqlite:///{os.path.abspath(place)}")
    except (ArgumentError, ValueError):
        raise _no_database(redact(place)) from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        if url.database is None or not Path(url.database).is_file():  # SQLite would create an empty one
            raise _no_database(url.render_as_string())
        return sa.create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
    if backend != "postgresql":
        raise _no_database(url.render_as_string())
    for driver in (url.drivername, "postgresql+psycopg"):
        try:
            return sa.create_engine(url.set(drivername=driver), pool_pre_ping=True)
        except ModuleNotFoundError:
            continue
    raise MissingExtraError.of("a database on PostgreSQL", "postgres")


def _no_database(where: str) -> CatalogVersionError:
    return CatalogVersionError(
        f"there is no database of climate-ref at {where}: give a SQLite file, sqlite:///... or postgresql://..., and "
        "set it up with `ref db migrate`",
        store=where,
    )


def look_at(engine: sa.Engine) -> RefSchema:
    """Check a database; `CatalogVersionError` if its version is unknown, `CatalogError` if it cannot be used."""
    try:
        with engine.connect() as connection:
            return read_schema(connection)
    except SQLAlchemyError as error:
        raise refused(engine, error) from error


def refused(engine: sa.Engine, error: SQLAlchemyError) -> CatalogError:
    """Return the emdstore error for a refusal of the database, without secrets."""
    where = engine.url.render_as_string(hide_password=True)
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    secrets = [engine.url.password] if isinstance(engine.url.password, str) else []
    return CatalogError(f"the database {where} refused: {redact(said, secrets)}", store=where)
