"""The record's JSON Schema, for programs in other languages. It is kept in the package as a file beside this one."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import msgspec

from emdstore.sets.record import RECORD_VERSION, ExecutionRecord

_FILE = "record.schema.json"


def record_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``execution.json``, as this version of emdstore writes it."""
    schema: dict[str, Any] = json.loads(files("emdstore.sets").joinpath(_FILE).read_bytes())
    return schema


def make_record_schema() -> dict[str, Any]:
    """Make the schema from the class, as it is to be kept in the package."""
    made = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(ExecutionRecord)))
    del made["$defs"]["ExecutionRecord"]["properties"]["producer"]["default"]  # it names the version that is installed
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"emdstore execution record, version {RECORD_VERSION}",
        **made,
    }
