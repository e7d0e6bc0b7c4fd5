"""The page that compares two releases, groups or runs by verdict, with the plots that differ side by side.

It is a page of the served site, and a file of its own, which has its pictures in it.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from itertools import islice
from typing import Any, Literal

import attrs

from emdstore.catalog import ArtifactRow, Catalog, ExecutionRow
from emdstore.catalog.comparing import (
    VERDICTS,
    Item,
    Pair,
    Rules,
    Side,
    Tolerance,
    Verdict,
    compare_results,
    side_of,
    worst_of,
)
from emdstore.catalog.history import reasons
from emdstore.errors import EmdstoreError, QueryError
from emdstore.stores import scoped
from emdstore.web import text
from emdstore.web.execution import ShownArtifact, artifacts_of, pair
from emdstore.web.memory import Memory
from emdstore.web.places import Places
from emdstore.web.reading import Look, ResultsReader
from emdstore.web.selection import PageSelection
from emdstore.web.site import own_texts, render

ON_A_PAGE = 20

WORDS: Mapping[Verdict, str] = {
    "missing": "missing",
    "new": "new",
    "changed": "changed",
    "within": "within tolerance",
    "equal": "equal",
}
"""What a verdict is called."""

Looks = Literal["values", "contents", "bytes"]
LOOKS: Mapping[Looks, str] = {
    "values": "only whether they are there",
    "contents": "what they show",
    "bytes": "their bytes",
}
"""How plots, data and html are compared."""

_FEW = 50  # pairs, in whose plots a page looks without being asked
_MOST = 400  # pairs, in whose plots it looks at all
_MOST_ITEMS = 20  # scalars, and other things
_MOST_EMBEDDED = 64 * 1024 * 1024
_UNDECIDED = "other bytes"


@attrs.frozen
class Pictures:
    """One plot of both executions; None on the side that lacks it.

    Attributes
    ----------
    title
        What it is called.
    verdict
        How it compares, in words.
    a, b
        Before and after.
    """

    title: str
    verdict: str
    a: ArtifactRow | None
    b: ArtifactRow | None

    @property
    def sides(self) -> tuple[tuple[str, ArtifactRow | None], ...]:
        """Both, with their letters."""
        return ("A", self.a), ("B", self.b)


@attrs.frozen
class ComparedPair:
    """A pair of executions, as a page shows it.

    Attributes
    ----------
    pair
        How it compares.
    a, b
        The executions; None on the side that has none.
    why
        What is different in what they came from.
    pictures
        The plots that differ.
    """

    pair: Pair
    a: ExecutionRow | None
    b: ExecutionRow | None
    why: tuple[str, ...] = ()
    pictures: tuple[Pictures, ...] = ()

    @property
    def scalars(self) -> tuple[Item, ...]:
        """The scalars that are not equal, as far as they are listed."""
        return tuple(islice((each for each in self.pair.items if each.kind == "scalar"), _MOST_ITEMS))

    @property
    def common(self) -> Mapping[str, str]:
        """The dimensions that all these scalars share."""
        return text.common([each.dimensions for each in self.scalars]) if len(self.scalars) > 1 else {}

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions that tell them apart."""
        rows = [each.dimensions for each in self.scalars]
        return tuple(text.varying(rows) if len(rows) > 1 else rows[0] if rows else ())

    @property
    def others(self) -> tuple[Item, ...]:
        """What else is not equal, as far as it is listed."""
        found = (each for each in self.pair.items if each.kind in ("series", "artifact"))
        return tuple(islice(found, _MOST_ITEMS))

    @cached_property  # `told` asks it for each
    def shared(self) -> Mapping[str, str]:
        """The dimensions that all series share, if there are several."""
        series = [each.dimensions for each in self.others if each.kind == "series"]
        return text.common(series) if len(series) > 1 else {}

    def told(self, item: Item) -> str:
        """Say what is different, without the dimensions that all share."""
        own = {name: value for name, value in item.dimensions.items() if name not in self.shared}
        return str(attrs.evolve(item, dimensions=own))

    @property
    def more(self) -> int:
        """How many things are not listed."""
        listed = sum(each.kind != "execution" for each in self.pair.items)
        return listed - len(self.scalars) - len(self.others)

    @property
    def query(self) -> dict[str, list[str]]:
        """The query for both side by side."""
        return {"e": [str(row.execution_id) for row in (self.a, self.b) if row is not None]}


@attrs.frozen
class VerdictsPage:
    """Two sides, compared.

    Attributes
    ----------
    names
        Of both sides, as for `emdstore compare`; ``""`` for the latest of all groups.
    rules, looks
        How they were compared.
    counts
        How many pairs there are of each verdict.
    pairs
        Those that are on this page.
    only
        Only pairs of this verdict are shown; None for all that are not equal.
    page, pages
        Which page of pairs this is, and how many there are.
    notices
        What was not done, and why.
    selection
        The executions on both sides.
    releases
        What can be compared.
    """

    names: tuple[str, str]
    rules: Rules
    looks: Looks
    counts: Mapping[Verdict, int]
    pairs: tuple[ComparedPair, ...] = ()
    only: Verdict | None = None
    page: int = 1
    pages: int = 1
    notices: tuple[str, ...] = ()
    selection: PageSelection = attrs.field(factory=PageSelection)
    releases: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many pairs were compared."""
        return sum(self.counts.values())

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return worst_of(self.counts)

    @property
    def titles(self) -> tuple[str, ...]:
        """What both sides are, in words."""
        return tuple(name or "the latest results" for name in self.names)

    def query(self, **changes: str) -> dict[str, str | Sequence[str]]:
        """Return the query of this page with some changes."""
        tolerance = self.rules.tolerance
        plain: dict[str, str] = {
            "a": self.names[0],
            "b": self.names[1],
            "relative": f"{tolerance.relative:g}" if tolerance.relative else "",
            "absolute": f"{tolerance.absolute:g}" if tolerance.absolute else "",
            "look": self.looks,
            "verdict": self.only or "",
        } | changes
        query: dict[str, str | Sequence[str]] = {**self.selection.place_chosen}
        return query | {name: value for name, value in plain.items() if value}


def read_verdicts(
    catalog: Catalog, results: ResultsReader, selection: PageSelection, asked: Mapping[str, str], memory: Memory
) -> VerdictsPage:
    """Compare two sides of a catalog, and read what a page of it shows.

    Parameters
    ----------
    catalog, results
        Where to ask.
    selection
        Which executions, on both sides, and which page.
    asked
        The query: ``a``, ``b``, ``relative``, ``absolute``, ``look``, ``verdict``.
    memory
        What was compared before.

    Raises
    ------
    QueryError
        If a tolerance is none.
    ReleaseError
        If there is no such release, or a set of it has changed.
    """
    names = (asked.get("a", "").strip(), asked.get("b", "").strip())
    filters = {name: list(values) for name, values in selection.place_chosen.items() if name != "status"}
    if "\0" in "".join(names):
        raise QueryError("no name has a NUL character in it")
    before, after = (side_of(catalog, name, filters, results.store) for name in names)
    looks, notices = _looks(asked.get("look", ""), (before, after), results)
    tolerance = Tolerance(_number(asked.get("relative", "")), _number(asked.get("absolute", "")))
    rules = Rules(tolerance, artifacts=looks == "bytes", contents=looks == "contents")
    kept = (names, sorted(filters.items()), rules)
    pairs = memory.recall(catalog, kept, lambda: list(compare_results(before, after, rules)))
    only: Verdict | None = next((each for each in VERDICTS if each == asked.get("verdict")), None)
    chosen = _chosen(pairs, only)
    pages = max(1, -(-len(chosen) // ON_A_PAGE))
    page = min(selection.page, pages)
    if not pairs:
        notices.append("Neither side has an execution that is complete.")
    for title, side in zip(names, (before, after), strict=True):
        if left_out := side.count_retracted():
            notices.append(f"{text.count_text(left_out, 'set')} of {title} left out, because retracted.")
    known = catalog.releases.list()
    shown = chosen[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]
    return VerdictsPage(
        names=names,
        rules=rules,
        looks=looks,
        counts=Counter(each.verdict for each in pairs),
        pairs=tuple(_compared(each, before, after, rules) for each in shown),
        only=only,
        page=page,
        pages=pages,
        notices=tuple(notices),
        selection=selection,
        releases=tuple(f"release:{name}" for each in known for name in (each.name, *each.aliases)),
    )


def comparison_file(before: Side, after: Side, names: tuple[str, str], pairs: Sequence[Pair], rules: Rules) -> str:
    """Return a comparison as a page of its own, with all pairs that are not equal, and with their pictures in it.

    Parameters
    ----------
    before, after
        What was compared. Without their stores there are no pictures.
    names
        What they are called.
    pairs, rules
        How they compare, and by which rules.

    Raises
    ------
    MissingExtraError
        If the extra ``web`` is not installed.
    """
    looks: Looks = "contents" if rules.contents else "bytes" if rules.artifacts else "values"
    shown = tuple(_compared(each, before, after, rules) for each in _chosen(pairs, None))
    page = VerdictsPage(names, rules, looks, Counter(each.verdict for each in pairs), shown)
    told: dict[str, Any] = {"words": WORDS, "looks": LOOKS, "src": _embedder(before, after), "own": own_texts()}
    return render("comparison", Places(filed=True), page=page, **told)


def _embedder(before: Side, after: Side) -> Callable[[str, ArtifactRow], str | None]:
    """Return what gives each picture of a side as an address that has its bytes; None if it cannot be read."""
    stores = {"A": before.store, "B": after.store}
    left = _MOST_EMBEDDED

    def embedded(side: str, picture: ArtifactRow) -> str | None:
        nonlocal left
        store = stores[side]
        if store is None or left < (picture.size or 0):
            return None
        try:
            data = scoped(store, picture.fragment).read_bytes(picture.key)
        except EmdstoreError:
            return None
        left -= len(data)
        return f"data:{picture.media_type};base64,{base64.b64encode(data).decode()}"

    return embedded


def _looks(asked: str, sides: Sequence[Side], results: ResultsReader) -> tuple[Looks, list[str]]:
    """Return how to look into plots, data and html, and what to say about it."""
    wanted: Looks | None = next((each for each in LOOKS if each == asked), None)
    if wanted not in (None, "contents"):
        return wanted, []
    first = sides[1].executions().first()
    number = max(side.executions().count() for side in sides)
    problem = None if first is None else results.look(first.fragment, None).problem
    if problem is not None:
        return "values", [f"The results store cannot be read now, so plots were not compared: {problem}"]
    if find_spec("imagehash") is None:
        said = "Nobody looked into plots, because the extra compare is not installed: pip install 'emdstore[compare]'."
        return "values", [said]
    if number <= (_FEW if wanted is None else _MOST):
        return "contents", []
    said = f"Plots of {number:,} pairs are too many to look into at once: choose a provider or a diagnostic."
    return "values", [said]


def _number(asked: str) -> float:
    try:
        found = float(asked or 0)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise QueryError(f"{asked!r} is no tolerance: write it as 0.01 or 1e-6", key=asked)
    return found


def _chosen(pairs: Sequence[Pair], only: Verdict | None) -> list[Pair]:
    found = [each for each in pairs if (each.verdict == only if only else each.verdict != "equal")]
    return sorted(found, key=lambda each: VERDICTS.index(each.verdict))


def _compared(of: Pair, before: Side, after: Side, rules: Rules) -> ComparedPair:
    a = None if of.a is None else before.catalog.execution(of.a)
    b = None if of.b is None else after.catalog.execution(of.b)
    why = () if a is None or b is None else tuple(reasons(after.catalog, a, b, before.catalog))
    pictures = () if a is None or b is None else _pictures(of, _plots(before, a), _plots(after, b), rules)
    return ComparedPair(of, a, b, why, pictures)


def _plots(side: Side, row: ExecutionRow) -> dict[str, ShownArtifact]:
    outputs = side.catalog.outputs(ids=[row.execution_id], retracted=None, complete=None)
    items, _ = pair(artifacts_of(side.catalog, row), outputs, Look())
    return {item.row.key: item for item in items if item.is_image}


def _pictures(
    of: Pair, a: Mapping[str, ShownArtifact], b: Mapping[str, ShownArtifact], rules: Rules
) -> tuple[Pictures, ...]:
    told = {item.name: item for item in of.items if item.kind == "artifact"}
    found = []
    for key in dict.fromkeys((*a, *b)):
        one, other = a.get(key), b.get(key)
        item = told.get(key)
        same = one is not None and other is not None and one.row.sha256 == other.row.sha256
        if item is None and (same or rules.contents):
            continue  # equal in bytes, or in what they show
        verdict = _UNDECIDED if item is None else " · ".join(filter(None, (WORDS[item.verdict], item.detail)))
        title = next(each.title for each in (other, one) if each is not None)
        rows = [None if each is None else each.row for each in (one, other)]
        found.append(Pictures(title, verdict, *rows))
    return tuple(found)
