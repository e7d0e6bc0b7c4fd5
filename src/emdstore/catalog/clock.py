"""The clock that all users of a catalog share.

PostgreSQL is shared by many hosts, whose clocks differ: its own clock counts. SQLite's users share a host.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement

from emdstore import system
from emdstore.catalog.schema import UTCDateTime


class _Offset(sa.types.TypeDecorator[timedelta]):
    """A span of time; if this host's clock is used, the time that it leads to when it is bound."""

    impl = sa.Interval
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(sa.Interval() if dialect.name == "postgresql" else sa.DateTime())

    def process_bind_param(self, value: timedelta | None, dialect: sa.Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return (system.current().now() + value).replace(tzinfo=None)


class _Moment(FunctionElement[datetime]):
    type = UTCDateTime()
    inherit_cache = True


def after(offset: str | timedelta = timedelta()) -> sa.ColumnElement[datetime]:
    """Return the time at which a statement is executed, plus an offset or the parameter of that name."""
    if isinstance(offset, str):
        return _Moment(sa.bindparam(offset, type_=_Offset))
    return _Moment(sa.literal(offset, _Offset))


@compiles(_Moment)
def _on_this_host(element: _Moment, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(_Moment, "postgresql")
def _on_the_server(element: _Moment, compiler: SQLCompiler, **options: Any) -> str:
    return f"(clock_timestamp() + {compiler.process(element.clauses, **options)})"
