"""The charts of the pages, for notebooks and files: `Catalog.plot`."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from emdstore.catalog import Catalog
from emdstore.catalog.filters import OneOrMore, as_list, refuse_unknown
from emdstore.catalog.plotting import Chosen
from emdstore.errors import QueryError
from emdstore.web.diagnostic import Scores, read_scores, series_of
from emdstore.web.metrics import known_metrics
from emdstore.web.overview import read_overview
from emdstore.web.places import Places
from emdstore.web.selection import PageSelection, dimension_facet
from emdstore.web.site import own_texts, render


@attrs.frozen(repr=False)
class Drawn:
    """See `emdstore.catalog.plotting.Drawing`."""

    title: str
    html: str

    def save(self, path: str | Path) -> None:
        """Write the page to a file."""
        Path(path).write_text(self.html, encoding="utf-8")

    def __repr__(self) -> str:
        return f"<Drawing of {self.title}>"

    def _repr_html_(self) -> str:
        # In a frame, the notebook's own styles do not reach it. Its script makes the frame as high as it is.
        style = "width: 100%; height: 30rem; border: 0; resize: vertical"
        return f'<iframe srcdoc="{html.escape(self.html)}" title="{html.escape(self.title)}" style="{style}"></iframe>'


@attrs.frozen(repr=False)
class CatalogPlots:
    """See `emdstore.catalog.plotting.Plots`."""

    catalog: Catalog

    def portrait(
        self,
        *,
        provider: OneOrMore | None = None,
        diagnostic: OneOrMore | None = None,
        dimensions: Chosen | None = None,
        metrics: Path | None = None,
        outliers: Literal["hide"] | None = None,
    ) -> Drawn:
        """Draw all models against all diagnostics."""
        chosen = _selection(dimensions, outliers, provider=provider, diagnostic=diagnostic)
        selection = attrs.evolve(chosen, view="portrait")
        page = read_overview(self.catalog, selection, known_metrics(metrics))
        return _drawn(f"{page.metric_name or 'values'} of all models", "portrait", page=page)

    def taylor(
        self,
        diagnostic: str,
        *,
        provider: str | None = None,
        dimensions: Chosen | None = None,
        mark: str = "",
        metrics: Path | None = None,
        outliers: Literal["hide"] | None = None,
    ) -> Drawn:
        """Draw the Taylor diagram of a diagnostic."""
        scores = self._scores(diagnostic, provider, dimensions, mark, metrics, outliers)
        if not scores.taylor:
            raise QueryError(f"{diagnostic!r} has no correlation beside a ratio of standard deviations", key=diagnostic)
        return _drawn(f"{diagnostic}: Taylor diagram", "taylor", scores=scores)

    def box(
        self,
        diagnostic: str,
        *,
        provider: str | None = None,
        dimensions: Chosen | None = None,
        mark: str = "",
        metrics: Path | None = None,
        outliers: Literal["hide"] | None = None,
    ) -> Drawn:
        """Draw how a metric spreads over the models."""
        scores = self._scores(diagnostic, provider, dimensions, mark, metrics, outliers)
        return _drawn(f"{diagnostic}: spread of {scores.shown.metric_name}", "charts", charts=scores.spread)

    def series(self, diagnostic: str, *, provider: str | None = None, dimensions: Chosen | None = None) -> Drawn:
        """Draw the series of all models and their reference."""
        charts = series_of(self.catalog, (self._place(diagnostic, provider), diagnostic), dimensions or {})
        return _drawn(f"{diagnostic}: series", "charts", charts=charts)

    def _scores(
        self,
        diagnostic: str,
        provider: str | None,
        dimensions: Chosen | None,
        mark: str,
        metrics: Path | None,
        outliers: str | None,
    ) -> Scores:
        place = self._place(diagnostic, provider)
        chosen = _selection(dimensions, outliers)
        return read_scores(self.catalog, (place, diagnostic), chosen, known_metrics(metrics), mark)

    def _place(self, diagnostic: str, provider: str | None) -> str:
        """Return the provider of a diagnostic."""
        filters: dict[str, Any] = {"diagnostic": diagnostic} | ({"provider": provider} if provider else {})
        found = self.catalog.survey(**filters).facets()["provider"]
        if len(found) == 1:
            return next(iter(found))
        if found:
            raise QueryError(f"{diagnostic!r} is one of {', '.join(found)}: say which provider", key=diagnostic)
        raise QueryError(f"there is no diagnostic {diagnostic!r} in {self.catalog.url}", key=diagnostic)


def _selection(dimensions: Chosen | None, outliers: str | None, **places: OneOrMore | None) -> PageSelection:
    refuse_unknown("way to draw outliers", [outliers or "hide"], ("hide",))
    chosen = {name: tuple(as_list(values)) for name, values in places.items() if values is not None}
    named: Mapping[str, str] = dimensions or {}
    chosen |= {dimension_facet(name): (value,) for name, value in named.items()}
    return PageSelection(chosen=chosen, hide_outliers=outliers is not None)


def _drawn(title: str, what: str, **values: Any) -> Drawn:
    return Drawn(title, render("plot", Places(filed=True), title=title, what=what, own=own_texts(), **values))
