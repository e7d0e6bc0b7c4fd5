"""Views: charts with a name that somebody chose for others, in ``emdstore-views.yaml``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import msgspec

from emdstore import system
from emdstore.catalog import Catalog
from emdstore.errors import ArtifactNotFoundError, QueryError, ReleaseError, WorkspaceError
from emdstore.stores import ArtifactStore
from emdstore.stores.checksums import sha256_of
from emdstore.web.cells import KINDS
from emdstore.web.charts import Chart
from emdstore.web.diagnostic import Scores, read_scores, series_of
from emdstore.web.memory import Memory
from emdstore.web.metrics import Known, Metric, normal_name
from emdstore.web.overview import Overview, read_overview
from emdstore.web.reading import ResultsReader
from emdstore.web.selection import PageSelection, dimension_facet

FILE = "emdstore-views.yaml"
"""The name of the file, beside a SQLite catalog or in the results store."""

ChartKind = Literal["table", "portrait", "taylor", "box", "ranking", "profile", "series"]

_SECONDS_REMEMBERED = 10.0
_OF_ONE = ("taylor", "box", "ranking", "profile", "series")


@attrs.frozen(kw_only=True)
class View:
    """A view.

    Attributes
    ----------
    title, text
        What it is called, and what it is for.
    chart
        ``table`` or ``portrait``: all models against diagnostics; ``taylor``, ``box``, ``ranking``, ``profile`` (all
        metrics) or ``series``: one diagnostic.
    provider, diagnostic
        Of what; a name, or several for a table.
    dimensions
        The metric, region, season and so on.
    mark
        A model to be marked.
    perfect
        The perfect values of metrics, by name, besides those that are known.
    release
        Only what this release names, or the one that this alias points at.
    """

    title: str
    text: str = ""
    chart: ChartKind = "portrait"
    provider: str | list[str] | None = None
    diagnostic: str | list[str] | None = None
    dimensions: Mapping[str, str] = attrs.field(factory=dict)
    mark: str = ""
    perfect: Mapping[str, float] = attrs.field(factory=dict)
    release: str = ""

    @property
    def name(self) -> str:
        """Its name in addresses."""
        words = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
        return words or sha256_of(self.title.encode())[:12]

    @property
    def selection(self) -> PageSelection:
        """What it shows, as the query of a page."""
        places = {"provider": self.provider, "diagnostic": self.diagnostic}
        chosen = {name: _as_tuple(told) for name, told in places.items() if told}
        named = {dimension_facet(name): (value,) for name, value in self.dimensions.items()}
        view = "portrait" if self.chart == "portrait" else ""
        return PageSelection(chosen=chosen | named, view=view, release=self.release)


@attrs.frozen
class ViewPage:
    """A view, filled.

    Attributes
    ----------
    view
        The view.
    overview, scores, charts
        What it shows: a table, or the scores or the series of one diagnostic.
    gaps
        What is missing in it.
    place
        The provider and the diagnostic, if it is of one.
    """

    view: View
    overview: Overview | None = None
    scores: Scores | None = None
    charts: Sequence[Chart] = ()
    gaps: tuple[str, ...] = ()
    place: tuple[str, str] = ("", "")


def read_views(catalog: Catalog, results: ArtifactStore) -> tuple[View, ...]:
    """Read the file of views, beside the catalog or else in the results store; there need not be one.

    Raises
    ------
    WorkspaceError
        If there is one and it cannot be understood.
    StoreError
        If the store does not answer.
    """
    found = _file(catalog, results)
    if found is None:
        return ()
    try:
        told = msgspec.yaml.decode(found)
        if not isinstance(told, dict) or set(told) != {"views"}:
            raise ValueError("it is a mapping with one key, `views`, a list")
        views = tuple(_view(each) for each in told["views"] or ())
        names = [view.name for view in views]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two views are called {twice!r}")
        return views
    except ImportError as error:
        raise WorkspaceError(f"{FILE} cannot be read: `pip install 'emdstore[web]'` ({error})") from error
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise WorkspaceError(f"{FILE} cannot be understood: {error}; see docs/looking.md") from error


class Views:
    """The views of a served site: read again some seconds after they were read, and not at every visit."""

    def __init__(self, catalog: Catalog, results: ResultsReader) -> None:
        self._catalog, self._results = catalog, results
        self._views: tuple[View, ...] = ()
        self._until = -math.inf

    def read(self) -> tuple[View, ...]:
        """Return the views; see `read_views`."""
        now = system.current().monotonic()
        if now > self._until:
            self._views = self._results.ask(lambda: read_views(self._catalog, self._results.store))
            self._until = now + _SECONDS_REMEMBERED
        return self._views


def cards_of(catalog: Catalog, views: Iterable[View], known: Known, memory: Memory) -> list[tuple[View, int]]:
    """Return views, and how many gaps each has."""

    def gaps(view: View) -> int:
        return memory.recall(catalog, view, lambda: len(read_view(catalog, view, known, memory).gaps))

    return [(view, gaps(view)) for view in views]


def _file(catalog: Catalog, results: ArtifactStore) -> bytes | None:
    path = catalog.url.removeprefix("sqlite:///")
    if path != catalog.url and path:
        try:
            return (Path(path).parent / FILE).read_bytes()
        except FileNotFoundError:
            pass  # it may lie in the results
    try:
        return results.read_bytes(FILE)
    except ArtifactNotFoundError:
        return None


def _view(told: Any) -> View:
    fields = [field.name for field in attrs.fields(View)]
    unknown = [name for name in told if name not in fields] if isinstance(told, dict) else []
    if unknown:
        raise ValueError(f"a view has no {unknown[0]!r}: there are {', '.join(fields)}")
    view = msgspec.convert(told, View)
    if view.chart in _OF_ONE and not isinstance(view.diagnostic, str):
        raise ValueError(f"{view.title!r} needs the diagnostic that its chart ({view.chart}) is of")
    return view


def read_view(catalog: Catalog, view: View, known: Known, memory: Memory | None = None) -> ViewPage:
    """Read what a view shows from the catalog; what is not there is among its gaps."""
    try:
        return _filled(catalog.of_release(view.release) if view.release else catalog, view, known, memory)
    except ReleaseError as error:
        return ViewPage(view, gaps=(str(error),))


def _filled(catalog: Catalog, view: View, known: Known, memory: Memory | None) -> ViewPage:
    known = {**known, **{normal_name(name): Metric(name, float(value)) for name, value in view.perfect.items()}}
    selection = view.selection
    overview = read_overview(catalog, selection, known, memory)
    gaps = list(_gaps(view, overview))
    if view.chart not in _OF_ONE:
        return ViewPage(view, overview, gaps=tuple(gaps))
    if not overview.rows:
        return ViewPage(view, gaps=tuple(gaps))
    place = overview.heads[0].provider, overview.heads[0].diagnostic
    if view.chart == "series":
        try:
            charts = series_of(catalog, place, view.dimensions)
        except QueryError as error:
            return ViewPage(view, gaps=(str(error),))
        return ViewPage(
            view, charts=charts, gaps=tuple(gaps) if charts else (*gaps, "there are no series"), place=place
        )
    scores = read_scores(catalog, place, selection, known, view.mark)
    drawn = {"box": scores.spread, "ranking": [scores.ranking], "profile": [scores.profile]}
    charts = tuple(filter(None, drawn.get(view.chart, ())))
    if not charts and not (view.chart == "taylor" and scores.taylor):
        gaps.append(f"{place[1]} has not what this chart ({view.chart}) needs")
    return ViewPage(view, None, scores, charts, tuple(gaps), place)


def _gaps(view: View, overview: Overview) -> Iterator[str]:
    there = {head.diagnostic for head in overview.heads}
    for name in _as_tuple(view.diagnostic):
        if name not in there:
            yield f"there is no execution of {name}"
    chosen = {name: values[0] for name, values in overview.selection.dimensions.items()}
    for name, value in view.dimensions.items():
        if overview.heads and chosen.get(name, value) != value:
            yield f"no value has {name} = {value}"
    several = len(overview.heads) > 1
    for row in overview.rows:
        for head, cell in zip(overview.heads, row.cells, strict=True):
            if cell.kind not in ("value", "elsewhere"):
                yield f"{row.name}{f' in {head.name}' if several else ''}: {KINDS[cell.kind]}"


def _as_tuple(told: str | list[str] | None) -> tuple[str, ...]:
    return () if told is None else (told,) if isinstance(told, str) else tuple(told)
