"""What a page should show: the query of its address, as a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from emdstore.errors import InvalidKeyError, QueryError
from emdstore.keys import validate_prefix

PLACES = ("provider", "diagnostic", "group", "status")
"""The filters of every row; other names are dimensions, with the prefix ``d.``."""

_DIMENSION = "d."
_MOST_CHOICES = 12
_MOST_MORE = 200
_MOST_DIGITS = 9
_ID_DIGITS = 19 + 1
_MOST_WORDS = 20
_MOST_CHOSEN = 30


@attrs.frozen
class PageSelection:
    """What a page should show.

    Attributes
    ----------
    chosen
        The selected values of each facet; a dimension's name starts with ``d.``.
    search
        Words to search for.
    concerns
        Only executions that need attention.
    all_runs
        All runs of each execution group; by default only the newest one.
    retracted
        Only sets that were retracted; otherwise they are left out.
    incomplete
        Only the values of incomplete sets; otherwise they are left out.
    hide_outliers
        No scalars of models that lie far from the others.
    fragment
        Only this folder.
    release
        Only the sets of this release, or of the one that this alias points at.
    dataset
        Only what read this dataset.
    ids
        Only these executions.
    by
        The dimension to colour by.
    view
        How to draw it, of several ways.
    sort
        By what to order it.
    page
        The page number, from 1.
    """

    chosen: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    search: str = ""
    concerns: bool = False
    all_runs: bool = False
    retracted: bool = False
    incomplete: bool = False
    hide_outliers: bool = False
    fragment: str = ""
    release: str = ""
    dataset: str = ""
    ids: tuple[int, ...] = ()
    by: str = ""
    view: str = ""
    sort: str = ""
    page: int = 1

    @classmethod
    def of(cls, items: Iterable[tuple[str, str]]) -> PageSelection:
        """Parse a query; invalid parts are ignored.

        Raises
        ------
        QueryError
            If it has too many values or words.
        """
        chosen: dict[str, list[str]] = {}
        plain: dict[str, str] = {}
        ids: list[int] = []
        for name, value in items:
            if name == "e":
                ids += [int(value)] if value.isascii() and value.isdecimal() and len(value) < _ID_DIGITS else []
            elif name in PLACES or (name.startswith(_DIMENSION) and name != _DIMENSION):
                chosen.setdefault(name, []).append(value)
            else:
                plain[name] = value.strip()
        _refuse_too_much(chosen, plain.get("q", ""))
        page = plain.get("page", "")
        return cls(
            chosen={name: tuple(dict.fromkeys(values)) for name, values in chosen.items()},
            search=plain.get("q", ""),
            concerns=plain.get("attention") == "1",
            all_runs=plain.get("runs") == "all",
            retracted=plain.get("retracted") == "1",
            incomplete=plain.get("incomplete") == "1",
            hide_outliers=plain.get("outliers") == "hide",
            ids=tuple(dict.fromkeys(ids)),
            fragment=_folder(plain.get("in", "")),
            release=plain.get("release", ""),
            dataset=plain.get("dataset", ""),
            by=plain.get("by", ""),
            view=plain.get("view", ""),
            sort=plain.get("sort", ""),
            page=int(page) or 1 if page.isascii() and page.isdecimal() and len(page) <= _MOST_DIGITS else 1,
        )

    def query(self, **changes: Any) -> dict[str, str | Sequence[str]]:
        """Return this query with some changes, for the first page unless `page` is among them."""
        there = attrs.evolve(self, **({"page": 1} | changes))
        query: dict[str, str | Sequence[str]] = {name: values for name, values in there.chosen.items() if values}
        plain = {
            "q": there.search,
            "attention": "1" if there.concerns else "",
            "runs": "all" if there.all_runs else "",
            "retracted": "1" if there.retracted else "",
            "incomplete": "1" if there.incomplete else "",
            "outliers": "hide" if there.hide_outliers else "",
            "in": there.fragment,
            "release": there.release,
            "dataset": there.dataset,
            "by": there.by,
            "view": there.view,
            "sort": there.sort,
            "page": str(there.page) if there.page > 1 else "",
        }
        if there.ids:
            query["e"] = [str(each) for each in there.ids]
        return query | {name: value for name, value in plain.items() if value}

    def toggled(self, name: str, value: str) -> dict[str, str | Sequence[str]]:
        """Return the query with a value added to the selection, or removed from it."""
        values = self.chosen.get(name, ())
        now = tuple(one for one in values if one != value) if value in values else (*values, value)
        return self.query(chosen={**self.chosen, name: now})

    @property
    def newest(self) -> bool:
        """Whether only the newest run of each group is shown, unless a folder or what was retracted is asked for."""
        return not (self.all_runs or self.retracted or self.fragment or self.release or self.ids)

    @property
    def place_filters(self) -> dict[str, Any]:
        """The filters for the catalog's queries that say where."""
        filters: dict[str, Any] = {name: list(self.chosen[name]) for name in PLACES if name in self.chosen}
        for name in ("fragment", "retracted", "release", "dataset"):
            if given := getattr(self, name):
                filters[name] = given
        return filters

    @property
    def place_chosen(self) -> Mapping[str, tuple[str, ...]]:
        """What was chosen that says where."""
        return {name: values for name, values in self.chosen.items() if name in PLACES}

    @property
    def dimensions(self) -> Mapping[str, tuple[str, ...]]:
        """What was chosen of each dimension."""
        return {name.removeprefix(_DIMENSION): values for name, values in self.chosen.items() if name not in PLACES}

    @property
    def scalar_filters(self) -> dict[str, Any]:
        """The filters for the catalog's queries of scalars."""
        return self.value_filters | ({"outliers": "hide"} if self.hide_outliers else {})

    @property
    def value_filters(self) -> dict[str, Any]:
        """The filters for the catalog's queries of values: of the latest complete sets, by their dimensions."""
        dimensions = {name: list(values) for name, values in self.dimensions.items()}
        filters = self.place_filters | ({"dimensions": dimensions} if dimensions else {})
        if self.ids:  # whoever asks for an execution gets all that is known of it
            return filters | {"ids": list(self.ids), "retracted": None, "complete": None}
        if self.incomplete:
            return filters | {"complete": False, "superseded": True}
        return filters | ({"latest": True} if self.newest else {"superseded": True})


@attrs.frozen
class Choice:
    """One value of a facet, with its number of rows, and the query that adds or removes it."""

    value: str
    count: int
    chosen: bool
    query: Mapping[str, str | Sequence[str]]


@attrs.frozen
class Facet:
    """A filter: the most frequent values, and the selected ones.

    Attributes
    ----------
    name
        Its name in the query.
    title
        Its name on the page.
    choices
        Its values: the most frequent ones, and the selected ones.
    more
        Those that are shown if somebody asks for them.
    left_out
        The number of values that are not listed.
    """

    name: str
    title: str
    choices: tuple[Choice, ...]
    more: tuple[Choice, ...] = ()
    left_out: int = 0


def facet(selection: PageSelection, name: str, counts: Mapping[str, int]) -> Facet:
    """Return the facet with this name in the query, from the counts of its values."""
    chosen = selection.chosen.get(name, ())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [*ranked[:_MOST_CHOICES], *(item for item in ranked[_MOST_CHOICES:] if item[0] in chosen)]
    lost = [(value, 0) for value in chosen if value not in counts]
    rest = [item for item in ranked[_MOST_CHOICES:] if item[0] not in chosen]

    def choices(items: Iterable[tuple[str, int]]) -> tuple[Choice, ...]:
        return tuple(Choice(value, count, value in chosen, selection.toggled(name, value)) for value, count in items)

    return Facet(
        name,
        name.removeprefix(_DIMENSION).replace("_", " "),
        choices([*shown, *lost]),
        choices(rest[:_MOST_MORE]),
        max(0, len(rest) - _MOST_MORE),
    )


def query_pairs(query: Mapping[str, str | Sequence[str]]) -> list[tuple[str, str]]:
    """Return a query as names with one value each, as an address has them."""
    return [(name, each) for name, value in query.items() for each in ([value] if isinstance(value, str) else value)]


def dimension_facet(name: str) -> str:
    """Return a dimension's name in the query."""
    return _DIMENSION + name


def _refuse_too_much(chosen: Mapping[str, Sequence[str]], search: str) -> None:
    if "\0" in "".join((search, *chosen, *(value for values in chosen.values() for value in values))):
        raise QueryError("no name has a NUL character in it")
    for count, most, what in (
        (len(search.split()), _MOST_WORDS, "words"),
        (len(chosen), _MOST_CHOSEN, "dimensions"),
        (max(map(len, chosen.values()), default=0), _MOST_CHOSEN, "values of one dimension"),
    ):
        if count > most:
            raise QueryError(f"{count} {what} are too many to look for at once: give {most} at most")


def _folder(text: str) -> str:
    try:
        return validate_prefix(text)
    except InvalidKeyError:
        return ""
