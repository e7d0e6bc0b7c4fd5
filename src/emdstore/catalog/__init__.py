"""The catalog: what was published, in a SQL database, to be asked.

The catalog knows no store, no bundle and no lifecycle. It takes one execution as plain values (`ExecutionContent`),
replaces what it holds of it in one transaction, and answers with frozen rows. It can always be rebuilt from the results
store, so nothing is kept here alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emdstore.catalog.catalog import Catalog
    from emdstore.catalog.content import ExecutionContent, ReplaceResult
    from emdstore.catalog.lease import Claim, Holder
    from emdstore.catalog.migrate import CatalogStatus
    from emdstore.catalog.query import Query, ScalarQuery, SeriesQuery, ValueQuery
    from emdstore.catalog.records import RecordStamp
    from emdstore.catalog.rows import ArtifactRow, ExecutionRow, InputRow, OutputRow, ScalarRow, SeriesRow, WarningRow

__all__ = [
    "ArtifactRow",
    "Catalog",
    "CatalogStatus",
    "Claim",
    "ExecutionContent",
    "ExecutionRow",
    "Holder",
    "InputRow",
    "OutputRow",
    "Query",
    "RecordStamp",
    "ReplaceResult",
    "ScalarQuery",
    "ScalarRow",
    "SeriesQuery",
    "SeriesRow",
    "ValueQuery",
    "WarningRow",
]

_HOME = {
    "ArtifactRow": "rows",
    "Catalog": "catalog",
    "CatalogStatus": "migrate",
    "Claim": "lease",
    "ExecutionContent": "content",
    "ExecutionRow": "rows",
    "Holder": "lease",
    "InputRow": "rows",
    "OutputRow": "rows",
    "Query": "query",
    "RecordStamp": "records",
    "ReplaceResult": "content",
    "ScalarQuery": "query",
    "ScalarRow": "rows",
    "SeriesQuery": "query",
    "SeriesRow": "rows",
    "ValueQuery": "query",
    "WarningRow": "rows",
}


def __getattr__(name: str) -> Any:
    # SQLAlchemy takes its time to import, and whoever only promotes files needs none of it.
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"emdstore.catalog.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
