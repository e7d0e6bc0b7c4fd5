"""The catalog: what was published, in a SQL database, to be asked.

The catalog knows no store, no bundle and no lifecycle. It takes one execution as plain values (`ExecutionContent`),
replaces what it holds of it in one transaction, and answers with frozen rows. It can always be rebuilt from the results
store, so nothing is kept here alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emdstore.catalog.content import ExecutionContent, ReplaceResult
from emdstore.catalog.rows import ArtifactRow, ExecutionRow, InputRow, OutputRow, ScalarRow, SeriesRow, WarningRow

if TYPE_CHECKING:
    from emdstore.catalog.catalog import Catalog
    from emdstore.catalog.lease import Claim, Holder
    from emdstore.catalog.migrate import CatalogStatus
    from emdstore.catalog.query import Query, ScalarQuery, SeriesQuery, ValueQuery
    from emdstore.catalog.records import RecordStamp

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
    "Catalog": "catalog",
    "CatalogStatus": "migrate",
    "Claim": "lease",
    "Holder": "lease",
    "Query": "query",
    "RecordStamp": "records",
    "ScalarQuery": "query",
    "SeriesQuery": "query",
    "ValueQuery": "query",
}


def __getattr__(name: str) -> Any:
    # SQLAlchemy takes its time to import, and who only promotes files or builds an `ExecutionContent` needs none of it.
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"emdstore.catalog.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
