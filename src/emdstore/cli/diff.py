"""The command that compares two stores."""

from __future__ import annotations

from collections import Counter
from typing import Any

from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched
from emdstore.cli.options import (
    ANY,
    PLAIN,
    AcceptLeftOut,
    Access,
    Folder,
    Output,
    WrongCallError,
    open_existing,
    refuse_empty,
)
from emdstore.cli.render import say, show_document, show_left_out, sum_up
from emdstore.sets.comparing import Difference, compare
from emdstore.stores.left_out import FirstLeftOut
from emdstore.web.text import count_text


def diff(
    a: str,
    b: str,
    prefix: Folder = "",
    /,
    *,
    values: bool = False,
    tolerance: float = 0.0,
    checksum: bool = False,
    choosing: Choosing = ANYTHING,
    accept_left_out: AcceptLeftOut = False,
    access: Access = ANY,
    output: Output = PLAIN,
) -> int:
    """Tell which sets and keys of two stores differ, and how. Exit code 1 if any do. Nothing is changed.

    Sets are compared by the digests in their records. What no record proves is read on both sides.

    Parameters
    ----------
    a
        A store, or a set's own folder.
    b
        Another one.
    prefix
        Only what lies in this folder of both.
    values
        Compare the scalars and series of sets instead of their bytes: what did a repetition change?
    tolerance
        How far apart two numbers may be, relative to the larger one.
    checksum
        Read every artifact, also those that records prove.
    """
    if tolerance < 0:
        raise WrongCallError(f"--tolerance is 0 or more, not {tolerance:g}")
    if tolerance and not values:
        raise WrongCallError("--tolerance is about numbers: give --values, too")
    one, other, selection = open_existing(a, access), open_existing(b, access), choosing.of_sets()
    left_out = FirstLeftOut()
    apart = tolerance if values else None
    compared: Counter[str] = Counter()
    told: list[Difference] = []
    counts: Counter[str] = Counter()
    for each in compare(
        one, other, prefix, selection=selection, every_digest=checksum, tolerance=apart, left_out=left_out.note
    ):
        compared[each.kind] += 1
        counts[f"{each.kind}s {'differ' if each.differences else 'equal'}"] += 1
        if output.json:
            told += each.differences
        else:
            for difference in each.differences:
                say(_said(difference), style="red" if difference.how == "unreadable" else None)
    found = sum(compared.values())
    both = f"{one!r} and {other!r}"
    refuse_unmatched(found + len(left_out.kept), selection, "artifact", store=both)
    refuse_empty(found + len(left_out.kept), prefix, "artifact", store=both)
    differ = counts["sets differ"] + counts["keys differ"]
    code = 1 if differ or (left_out.kept and not accept_left_out) else 0
    if output.json:
        names = ("sets equal", "sets differ", "keys equal", "keys differ")
        document: dict[str, Any] = {
            "counts": {name.replace(" ", "_"): counts[name] for name in names},
            "differences": told,
            "left_out": [each.as_dict() for each in left_out.kept],
        }
        return show_document("diff", document, code)
    show_left_out(left_out.kept)
    sets, keys = count_text(compared["set"], "set"), count_text(compared["key"], "other key")
    sum_up(f"{sets} and {keys} compared: {differ} differ" if differ else f"{sets} and {keys} compared: no difference")
    return code


def _said(each: Difference) -> str:
    place = f"{each.kind} {each.name}".rstrip()  # of a set's own folder there is no name
    if each.kind in ("value", "series"):
        place += " " + ", ".join(f"{name}={value}" for name, value in each.dimensions.items())
        place += "" if each.at is None else f" at {each.at}"
    if each.how in ("only-in-a", "only-in-b"):
        return f"only in {each.how[-1].upper()}  {place}"
    if each.how == "index":
        return f"other points  {place}: {each.a} and {each.b} of them"
    if each.how in ("size", "state", "value"):
        return f"{each.how}  {place}: {_word(each.a)} and {_word(each.b)}"
    return f"{each.how}  {place}" + (f": {each.a}" if each.how == "unreadable" else "")


def _word(value: Any) -> str:
    return "none" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
