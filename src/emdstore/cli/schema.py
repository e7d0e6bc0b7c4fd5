"""The command that prints JSON Schemas: of the files that emdstore writes, and of what its commands print."""

from __future__ import annotations

import json

from emdstore.cli.documents import LAYOUTS, LINES, document_schema
from emdstore.cli.options import PLAIN, Output
from emdstore.cli.render import say, show_document
from emdstore.sets.schema import record_schema, retraction_schema

_FILES = {"record": record_schema, "retraction": retraction_schema}


def show_schema(*name: str, output: Output = PLAIN) -> int:
    """Print a JSON Schema: of execution.json (record), retraction.json (retraction), or what a command prints.

    Files are read for ever: a record of an older version is understood, one of a newer version is called newer-schema,
    and never overwritten. Without a name the names are listed.

    Parameters
    ----------
    name
        record, retraction, lines (of --json-lines), or a command, as it is called, for its --json: db check.
    """
    wanted = " ".join(name)
    names = (*_FILES, LINES, *LAYOUTS)
    if not wanted:
        if output.json:
            return show_document("schema", {"schemas": [{"name": each} for each in names]})
        for each in names:
            say(each)
        return 0
    schema = _FILES[wanted]() if wanted in _FILES else document_schema(wanted)
    if output.json:
        return show_document("schema", {"schemas": [{"name": wanted, "json_schema": schema}]})
    print(json.dumps(schema, indent=2))
    return 0
