"""The page that lists executions, with those that need attention first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from emdstore.catalog import Catalog, ExecutionRow
from emdstore.catalog.browse import FACETS, concern_of
from emdstore.sets.cause import count_causes
from emdstore.web import text
from emdstore.web.charts import run_of
from emdstore.web.selection import Facet, PageSelection, facet

ON_A_PAGE = 50
_MOST_WORDS = 8

CONCERNS = {
    "upload_failed": "not shipped",
    "lease": "left behind",
    "incomplete": "incomplete",
    "failed": "failed",
}
"""The label of an execution that needs attention."""

_EXPLAINED = {
    "upload_failed": "The work is intact in scratch, but shipping it did not finish. Commit it again.",
    "lease": "The process that was committing it is gone. Commit it again.",
    "incomplete": "A file that the run named is missing or cannot be read.",
    "failed": "The run itself failed.",
}


@attrs.frozen
class ListedExecution:
    """One execution in the list."""

    row: ExecutionRow
    concern: str | None
    size: int
    older: bool = False
    """Whether its group was run again since. Only reports ask."""
    releases: tuple[str, ...] = ()
    """The releases and aliases that name it. Only reports ask."""

    @property
    def state(self) -> str:
        """Its title."""
        if self.concern is None and self.row.retracted_at is not None:
            return "retracted"
        return CONCERNS.get(self.concern or "", self.row.status.replace("_", " "))

    @property
    def why(self) -> str:
        """One sentence on why it needs attention or was retracted."""
        if self.row.retraction_reason is not None:
            instead = f" (use {self.row.superseded_by})" if self.row.superseded_by else ""
            return f"retracted: {self.row.retraction_reason}{instead}"
        return (
            ""
            if self.concern is None
            else self.row.error or self.row.cause or self.row.reason or _EXPLAINED[self.concern]
        )

    @property
    def when(self) -> datetime | None:
        """The time of its last change."""
        return self.row.published_at or self.row.stopped_at or self.row.started_at or self.row.created_at

    @property
    def run(self) -> str:
        """What tells it from other runs of its group: the end of its folder's name."""
        return run_of(self.row.fragment)

    @property
    def took(self) -> str:
        """Its run time."""
        return took(self.row)

    @property
    def seconds(self) -> float:
        """Its run time; NaN if it is not known."""
        began, ended = self.row.started_at, self.row.stopped_at
        return math.nan if began is None or ended is None else (ended - began).total_seconds()

    @property
    def facets(self) -> Mapping[str, str | Sequence[str]]:
        """Its filter values, for pages that filter in the browser."""
        facets = {name: getattr(self.row, name) for name in FACETS}
        also = {"attention": self.concern and "1", "older": self.older and "1", "release": self.releases}
        return facets | {name: value for name, value in also.items() if value}

    @property
    def search_text(self) -> str:
        """The text that is searched in the browser."""
        parts = (self.row.fragment, self.row.description, self.row.reason, self.row.error, self.row.cause)
        return " ".join(filter(None, parts)).lower()


@attrs.frozen
class Common:
    """A cause of failures, how many have it, and the words that find them."""

    cause: str
    count: int
    words: str


@attrs.frozen
class ExecutionsPage:
    """The list of executions.

    Attributes
    ----------
    selection
        The request.
    lines
        The executions of this page.
    total
        The number of all matches.
    concerns
        How many of them need attention.
    retracted
        How many retracted sets match.
    older
        How many older runs of the same groups are left out.
    pages
        The number of pages.
    facets
        The available filters.
    causes
        What failures have in common, if anything.
    """

    selection: PageSelection
    lines: tuple[ListedExecution, ...]
    total: int
    concerns: int
    retracted: int
    older: int
    pages: int
    facets: tuple[Facet, ...]
    causes: tuple[Common, ...] = ()


def read_executions(catalog: Catalog, selection: PageSelection, *, on_a_page: int = ON_A_PAGE) -> ExecutionsPage:
    """Read one page of the list from the catalog."""
    survey = catalog.survey(
        selection.search, concerns=selection.concerns, newest=selection.newest, **selection.place_filters
    )
    total = survey.count()
    pages = max(1, -(-total // on_a_page))
    selection = attrs.evolve(selection, page=min(selection.page, pages))
    rows = survey.rows(on_a_page, (selection.page - 1) * on_a_page, selection.sort)
    counts = survey.facets()
    return ExecutionsPage(
        selection=selection,
        lines=listed_executions(catalog, rows),
        total=total,
        concerns=survey.count_concerns(),
        retracted=attrs.evolve(survey, newest=False, filters={**survey.filters, "retracted": True}).count(),
        older=attrs.evolve(survey, newest=False).count() - total if selection.newest else 0,
        pages=pages,
        facets=tuple(facet(selection, name, counts[name]) for name in FACETS),
        causes=_in_common(survey.causes()),
    )


def listed_executions(catalog: Catalog, rows: Sequence[ExecutionRow]) -> tuple[ListedExecution, ...]:
    """Return the lines for some executions."""
    sizes = catalog.survey().sizes(rows)
    return tuple(ListedExecution(row, concern_of(row), sizes.get(row.execution_id, 0)) for row in rows)


def _in_common(causes: Sequence[str]) -> tuple[Common, ...]:
    found = count_causes(causes)
    if len(found) == len(causes):
        return ()
    # What differs in numbers only is one cause.
    plain = {cause: [word for word in cause.split() if not any(map(str.isdigit, word))] for cause, _ in found}
    return tuple(Common(cause, count, " ".join(plain[cause][:_MOST_WORDS])) for cause, count in found)


def took(row: ExecutionRow) -> str:
    """Format an execution's run time."""
    if row.started_at is None or row.stopped_at is None:
        return ""
    return text.duration_text((row.stopped_at - row.started_at).total_seconds())
