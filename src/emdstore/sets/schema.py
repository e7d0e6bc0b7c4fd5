"""JSON Schemas of the record and of the retraction, for programs in other languages.

They are kept in the package as files beside this one.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import msgspec

from emdstore.sets.record import RECORD_VERSION, ExecutionRecord
from emdstore.sets.retraction import RETRACTION_VERSION, Retraction


def record_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``execution.json``, as this version of emdstore writes it."""
    return _kept("record.schema.json")


def retraction_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``retraction.json``, as this version of emdstore writes it."""
    return _kept("retraction.schema.json")


def make_record_schema() -> dict[str, Any]:
    """Make the record's schema from its class, for the file in the package."""
    made = _made(ExecutionRecord, f"emdstore execution record, version {RECORD_VERSION}")
    del made["$defs"]["ExecutionRecord"]["properties"]["producer"]["default"]  # it names the version that is installed
    return made


def make_retraction_schema() -> dict[str, Any]:
    """Make the retraction's schema from its class, for the file in the package."""
    return _made(Retraction, f"emdstore retraction, version {RETRACTION_VERSION}")


def _kept(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(files("emdstore.sets").joinpath(name).read_bytes())
    return schema


def _made(kind: type, title: str) -> dict[str, Any]:
    made = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(kind)))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **made}
