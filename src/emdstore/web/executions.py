"""The page that lists executions: what needs attention first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from emdstore.catalog import Catalog, ExecutionRow
from emdstore.catalog.browse import FACETS, concern_of
from emdstore.web import text
from emdstore.web.selection import Facet, Selection, facet

ON_A_PAGE = 50

CONCERNS = {
    "upload_failed": "not shipped",
    "lease": "left behind",
    "incomplete": "incomplete",
    "failed": "failed",
}
"""What an execution that needs attention is called."""

_EXPLAINED = {
    "upload_failed": "The work is intact in scratch, but shipping it did not finish. Commit it again.",
    "lease": "Whoever was committing it is gone. Commit it again.",
    "incomplete": "Something that the run named is missing or cannot be read.",
    "failed": "The run itself failed.",
}


@attrs.frozen
class Line:
    """One execution in the list."""

    row: ExecutionRow
    concern: str | None
    size: int

    @property
    def state(self) -> str:
        """What it is called."""
        if self.concern is None and self.row.retracted_at is not None:
            return "retracted"
        return CONCERNS.get(self.concern or "", self.row.status.replace("_", " "))

    @property
    def why(self) -> str:
        """Why it needs attention, or was retracted, in a sentence."""
        if self.row.retraction_reason is not None:
            instead = f" (use {self.row.superseded_by})" if self.row.superseded_by else ""
            return f"retracted: {self.row.retraction_reason}{instead}"
        return "" if self.concern is None else self.row.error or self.row.reason or _EXPLAINED[self.concern]

    @property
    def when(self) -> datetime | None:
        """When something last happened to it."""
        return self.row.published_at or self.row.stopped_at or self.row.started_at or self.row.created_at

    @property
    def took(self) -> str:
        """How long it ran."""
        return took(self.row)

    @property
    def facets(self) -> Mapping[str, str]:
        """What it can be filtered by on a page that filters in the browser."""
        facets = {name: getattr(self.row, name) for name in FACETS}
        return facets | ({"attention": "1"} if self.concern else {})

    @property
    def search_text(self) -> str:
        """The text that a search in the browser looks through."""
        parts = (self.row.fragment, self.row.description, self.row.reason, self.row.error)
        return " ".join(filter(None, parts)).lower()


@attrs.frozen
class ExecutionsPage:
    """The list of executions.

    Attributes
    ----------
    selection
        What was asked for.
    lines
        Those of this page.
    total
        How many match in all.
    concerns
        How many of these need attention.
    retracted
        How many sets match that were retracted.
    pages
        How many pages there are.
    facets
        What the list can be narrowed by.
    """

    selection: Selection
    lines: tuple[Line, ...]
    total: int
    concerns: int
    retracted: int
    pages: int
    facets: tuple[Facet, ...]


def read_executions(catalog: Catalog, selection: Selection, *, on_a_page: int = ON_A_PAGE) -> ExecutionsPage:
    """Ask the catalog for one page of the list."""
    survey = catalog.survey(selection.search, concerns=selection.concerns, **selection.filters)
    total = survey.count()
    pages = max(1, -(-total // on_a_page))
    selection = attrs.evolve(selection, page=min(selection.page, pages))
    rows = survey.rows(on_a_page, (selection.page - 1) * on_a_page)
    counts = survey.facets()
    return ExecutionsPage(
        selection=selection,
        lines=lines_of(catalog, rows),
        total=total,
        concerns=survey.count_concerns(),
        retracted=attrs.evolve(survey, filters=selection.filters | {"retracted": True, "latest": False}).count(),
        pages=pages,
        facets=tuple(facet(selection, name, counts[name]) for name in FACETS),
    )


def lines_of(catalog: Catalog, rows: Sequence[ExecutionRow]) -> tuple[Line, ...]:
    """Return what a list shows of some executions."""
    sizes = catalog.survey().sizes(rows)
    return tuple(Line(row, concern_of(row), sizes.get(row.execution_id, 0)) for row in rows)


def took(row: ExecutionRow) -> str:
    """Write how long an execution ran."""
    if row.started_at is None or row.stopped_at is None:
        return ""
    return text.duration_text((row.stopped_at - row.started_at).total_seconds())
