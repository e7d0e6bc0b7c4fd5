"""Commands on the sets of a results store: which there are, mending one, and what their record looks like."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated

from cyclopts import Parameter

from emdstore.cli.options import ANY, PLAIN, Access, Folder, Output, open_existing, refuse_empty
from emdstore.cli.render import counts_text, note, say, show_document, show_table, size_text
from emdstore.sets.listing import list_sets
from emdstore.sets.repair import repair
from emdstore.sets.schema import record_schema
from emdstore.sets.state import SetState

_NOT_READ = ("unreadable", "newer-schema")


def show_sets(
    store: str,
    prefix: Folder = "",
    /,
    *,
    state: list[SetState] | None = None,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """List the sets of a results store, each with its state, time, size and origin.

    published: complete. failed: the run's own outcome. publishing: its bytes are changing, or a writer was stopped.
    incomplete: something is missing for good. changed: its bytes are not those of its record. bare: it has no record.
    unreadable, newer-schema: it cannot be read, and that is a failure.

    Only what is newer than its record is hashed; `emdstore verify` hashes everything.

    Parameters
    ----------
    store
        The results store.
    prefix
        Only the sets in this folder.
    state
        Only sets in this state; may be given several times.
    """
    opened = open_existing(store, access)
    counts: Counter[str] = Counter()
    found = 0
    shown = []
    for each in list_sets(opened, prefix):
        found += 1
        if state and each.state not in state:
            continue
        counts[each.state] += 1
        shown.append(each)
    refuse_empty(found, prefix, "set", store=repr(opened))
    code = 1 if any(counts[name] for name in _NOT_READ) else 0
    if output.json:
        return show_document("sets", {"counts": dict(counts), "sets": shown}, code)
    if shown:
        rows = [(each.state, each.time, size_text(each.size), each.origin, each.fragment) for each in shown]
        show_table(("state", "time", "size", "origin", "fragment"), rows)
    for each in shown:
        if each.state not in ("published", "bare") and each.reason:
            note(each.reason if each.fragment in each.reason else f"{each.fragment}: {each.reason}")
    say(f"{len(shown)} sets: {counts_text(counts)}" if shown else "no sets")
    return code


def repair_set(
    store: str,
    fragment: Folder,
    /,
    *,
    source: Annotated[str, Parameter(name="--from")],
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Mend a damaged set from a good copy of its bytes.

    Every artifact is hashed. What is missing or damaged is brought from the other store if it lies there with the
    digest that the record names, and only then. The record stays as it is.

    Parameters
    ----------
    store
        The results store.
    fragment
        The set's folder in it.
    source
        Another site's store, a backup or scratch: one that has the set in the same folder, or the set's own folder.
    """
    report = repair(open_existing(store, access), fragment, source=open_existing(source, access))
    code = 0 if report.ok else 1
    if output.json:
        return show_document("repair", report.as_dict(), code)
    for key in report.repaired:
        say(f"repaired  {key}")
    for each in report.not_repaired:
        say(f"not repaired  {each.key}: {each.reason}", style="red")
    say(f"{report.fragment}: {len(report.repaired)} repaired, {len(report.not_repaired)} not; it is {report.state}")
    return code


def show_record_schema() -> int:
    """Print the JSON Schema of the record, execution.json, as this version writes it.

    Older records are read for ever; one of a newer version is called newer-schema, and never overwritten.
    """
    print(json.dumps(record_schema(), indent=2))
    return 0
