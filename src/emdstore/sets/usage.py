"""How much room a store's sets take, and what for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import attrs

from emdstore.emds import RECORD_NAME
from emdstore.errors import RecordError
from emdstore.selection import ALL, Selection, folders_above
from emdstore.sets.listing import find_chosen, iter_chosen
from emdstore.sets.reading_records import Read, reading_records
from emdstore.sets.record import decode_record, split_fragment
from emdstore.stores.port import ArtifactStore, LeftOut

By = Literal["provider", "diagnostic", "group", "set", "role"]

_DEPTHS = {"provider": 1, "diagnostic": 2, "group": 3}

UNNAMED = "(in no record)"
"""What lies in a store, or in a set's folder, and is named by no record."""


@attrs.frozen
class Usage:
    """What some keys of a store take together: their name, in how many sets, how many artifacts and bytes they are."""

    name: str
    sets: int = 0
    artifacts: int = 0
    bytes: int = 0


def usage(
    store: ArtifactStore,
    prefix: str = "",
    by: By = "provider",
    *,
    selection: Selection = ALL,
    left_out: Callable[[LeftOut], object],
) -> list[Usage]:
    """Count what lies in a store, as its listing says, by what it belongs to.

    Parameters
    ----------
    store, prefix, selection, left_out
        See `emdstore.sets.listing.iter_chosen`.
    by
        ``provider``, ``diagnostic``, ``group``: by the records of the sets, without one by the path; ``set``; ``role``:
        by what the records say that artifacts are. What no record names is counted by itself.

    Returns
    -------
    list of Usage
        The largest first.
    """
    sets = {each.location: "" for each in find_chosen(store, prefix, left_out=lambda _: None)}
    roles: dict[str, str] = {}
    with reading_records(store, tuple(sets)) as records:
        for location, read in records:
            sets[location], named = _name_and_roles(location, read, by)
            roles |= named
    found: dict[str, Usage] = {}
    seen: dict[str, set[str]] = {}
    for each in iter_chosen(store, prefix, selection, left_out=left_out):
        key, size = (each, 0) if isinstance(each, str) else (each.key, each.size)
        holder = next((folder for folder in (*folders_above(key), "") if folder in sets), None)
        told = roles.get(key) if by == "role" else None if holder is None else sets[holder]
        name = told or UNNAMED
        before = found.get(name, Usage(name))
        in_sets = seen.setdefault(name, set())
        if holder is not None:
            in_sets.add(holder)
        found[name] = Usage(name, len(in_sets), before.artifacts + 1, before.bytes + size)
    return sorted(found.values(), key=lambda each: (-each.bytes, each.name))


def _name_and_roles(location: str, read: Read, by: By) -> tuple[str, dict[str, str]]:
    record = None
    if isinstance(read, bytes):  # otherwise where it lies is all that is known
        with suppress(RecordError):
            record = decode_record(read)
    told = split_fragment(location or ".") if record is None else (record.provider, record.diagnostic, record.group)
    if by == "role":
        named = () if record is None else record.artifacts
        inside = f"{location}/" if location else ""
        return "", {f"{inside}{each.key}": each.role for each in named} | {f"{inside}{RECORD_NAME}": "record"}
    return (location or ".") if by == "set" else "/".join(told[: _DEPTHS[by]]), {}
