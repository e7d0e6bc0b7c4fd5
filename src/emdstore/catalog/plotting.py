"""What can be drawn of a catalog. What draws it are the pages of `emdstore.web`, which the catalog does not know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from emdstore.catalog.filters import OneOrMore

Chosen = Mapping[str, str]
"""By dimension, the value to be shown, such as ``{"metric": "rmse", "region": "global"}``."""


class Drawing(Protocol):
    """A drawing, which a notebook shows."""

    @property
    def html(self) -> str:
        """The drawing as an HTML page that needs no other file."""
        ...

    def save(self, path: str | Path) -> None:
        """Write the page to a file."""
        ...

    def _repr_html_(self) -> str: ...


class Plots(Protocol):
    """The drawings of a catalog, as the site has them: of the latest complete set of each group.

    All need the extra ``web``. What a caller does not choose is chosen as on the site. ``metrics`` is a file that adds
    to the table of metrics, ``outliers="hide"`` leaves out models that lie far from the others, which the drawing then
    says, `QueryError` is for a diagnostic that is not there.
    """

    def portrait(
        self,
        *,
        provider: OneOrMore | None = None,
        diagnostic: OneOrMore | None = None,
        dimensions: Chosen | None = None,
        metrics: Path | None = None,
        outliers: Literal["hide"] | None = None,
    ) -> Drawing:
        """Draw all models against all diagnostics by one metric, with a triangle for each season."""
        ...

    def taylor(
        self,
        diagnostic: str,
        *,
        provider: str | None = None,
        dimensions: Chosen | None = None,
        mark: str = "",
        metrics: Path | None = None,
        outliers: Literal["hide"] | None = None,
    ) -> Drawing:
        """Draw the Taylor diagram of a diagnostic, with one model marked."""
        ...

    def box(
        self,
        diagnostic: str,
        *,
        provider: str | None = None,
        dimensions: Chosen | None = None,
        mark: str = "",
        metrics: Path | None = None,
        outliers: Literal["hide"] | None = None,
    ) -> Drawing:
        """Draw how a metric spreads over the models, in every region, season and so on, with one model marked."""
        ...

    def series(self, diagnostic: str, *, provider: str | None = None, dimensions: Chosen | None = None) -> Drawing:
        """Draw the series of all models and their reference, a chart for each region and season."""
        ...
