"""The site's pages as files, for ``file://``, a web server or a bucket."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import attrs

from emdstore._version import __version__
from emdstore.catalog import ArtifactRow, Catalog, ExecutionRow
from emdstore.catalog.browse import concern_of
from emdstore.errors import ArtifactExistsError, ReleaseChangedError
from emdstore.shown import Shown
from emdstore.stores import ArtifactStore, LocalArtifactStore
from emdstore.stores.checksums import sha256_of
from emdstore.web.changes import read_changes
from emdstore.web.compare import ComparePage, contents_of, peers, read_comparison
from emdstore.web.content import Content
from emdstore.web.diagnostic import read_diagnostic
from emdstore.web.execution import Prepared, read_execution, read_others
from emdstore.web.executions import ExecutionsPage, ListedExecution, read_executions
from emdstore.web.filed import FiledSite
from emdstore.web.filed_artifacts import FiledArtifacts, Trouble
from emdstore.web.filed_values import facets_of, write_values
from emdstore.web.group import read_group
from emdstore.web.memory import Memory
from emdstore.web.metrics import Known, known_metrics
from emdstore.web.overview import lay_out
from emdstore.web.places import Places, Query, overview_key
from emdstore.web.placing import gather
from emdstore.web.reading import ResultsReader
from emdstore.web.selection import PageSelection, query_pairs
from emdstore.web.site import require_extra, versions
from emdstore.web.verdicts import LOOKS, WORDS, read_verdicts
from emdstore.web.views import View, read_view, read_views

MANIFEST = "report.json"
"""Marks a folder as a report, and lists its files."""

MOST_EXECUTIONS = 10_000
_PATIENCE = 60.0
_MOST_OVERVIEWS = 120
_MOST_LOOKED_INTO = 200  # pairs of versions, in whose plots a report looks
_MOST_RELEASES = 3
"""The last ones, that are compared with each other and with the latest results."""


@attrs.frozen(repr=False)
class Report(Shown):
    """What was written.

    Attributes
    ----------
    index
        The first page.
    executions
        The number of executions.
    files, bytes
        The number of artifacts beside the pages, and their total size.
    left_out
        The number of selected executions that exceed the limit.
    troubles
        The artifacts that are not in it.
    """

    index: Path
    executions: int
    files: int
    bytes: int
    left_out: int
    troubles: tuple[Trouble, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that was selected is in it."""
        return not self.troubles and not self.left_out

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return attrs.asdict(self) | {"index": str(self.index), "ok": self.ok}


def write_report(
    folder: Path,
    catalog: Catalog,
    results: ArtifactStore,
    selection: PageSelection | None = None,
    *,
    data: bool = True,
    metrics: Path | None = None,
    on_progress: Callable[[object, int, int], object] | None = None,
) -> Report:
    """Write the site's pages as files, with the artifacts that they show.

    Parameters
    ----------
    folder
        A new or empty folder, or an earlier report, which is updated.
    catalog, results
        The catalog and its results store.
    selection
        Which executions; by default all.
    data
        False leaves out data files: pages name them without a link.
    metrics
        A file that adds to the table of metrics; see docs/looking.md.
    on_progress
        Called after each execution with its fragment, the number done, and the total.

    Returns
    -------
    Report
        Includes artifacts that could not be read; their pages say so, too.

    Raises
    ------
    MissingExtraError
        If the extra ``web`` is not installed. Nothing was written.
    ArtifactExistsError
        If the folder holds something else. Nothing was written.
    StoreUnavailableError
        If the results store does not answer. What was written so far stays; the page to begin with is written last.
    CatalogError
        If the catalog cannot be read.
    WorkspaceError
        If the file of metrics or of views is none. Nothing was written.
    """
    require_extra()
    known = known_metrics(metrics)
    dest = LocalArtifactStore(folder)
    before = _earlier_files(dest, folder)
    selection = attrs.evolve(selection or PageSelection(), all_runs=True)
    listed = read_executions(catalog, selection, on_a_page=MOST_EXECUTIONS)
    newest = attrs.evolve(catalog.survey(**selection.place_filters), newest=True)
    current = {row.execution_id for row in newest.rows(MOST_EXECUTIONS)}
    rows = [line.row for line in listed.lines]
    views = read_views(catalog, results)
    there = catalog.survey().signs_of_change(), catalog.releases.list()
    made_of = _made_of(repr(results), listed, current, selection, known, data, views, there)
    if (same := _unchanged(dest, folder, before, made_of)) is not None:
        return same
    dest.write_bytes(MANIFEST, _manifest(before))  # first, so that a partial report can be continued
    site = FiledSite(dest, before)
    reader = ResultsReader(results, patience=_PATIENCE)
    artifacts = FiledArtifacts(site, reader.store, data=data)
    writer = _Writer(site, catalog, reader, artifacts, {row.execution_id for row in rows})
    site.own_files()
    values = write_values(site, catalog, selection, rows, current)
    latest = attrs.evolve(selection, all_runs=False)
    writer.diagnostics(listed.lines, current, latest, known, values, on_progress)
    named = catalog.releases.naming_each()
    lines = tuple(
        attrs.evolve(
            line,
            older=line.row.execution_id not in current,
            releases=tuple(named.get((line.row.fragment, line.row.record_digest or ""), ())),
        )
        for line in listed.lines
    )
    older = sum(line.older for line in lines)
    concerns = sum(line.concern is not None and not line.older for line in lines)
    site.page("changes.html", "changes", page=read_changes(catalog, selection))
    writer.releases(selection, Counter(name for line in lines for name in line.releases))
    writer.overviews(latest, known, views)
    writer.executions(attrs.evolve(listed, lines=lines, older=older, concerns=concerns))
    report = Report(
        index=folder / "index.html",
        executions=len(rows),
        files=artifacts.files,
        bytes=artifacts.bytes,
        left_out=listed.total - len(rows),
        troubles=tuple(artifacts.troubles),
    )
    for key in sorted(before - site.written):
        dest.delete(key)
    told = {
        "made of": made_of,
        "size": _size(dest, site.written),
        "executions": report.executions,
        "files in sets": report.files,
        "bytes in sets": report.bytes,
    }
    # What was not as it should be is looked at again the next time.
    dest.write_bytes(MANIFEST, _manifest(site.written, **(told if report.ok else {})))
    return report


class _Writer:
    """Writes the pages of what is shown."""

    def __init__(
        self, site: FiledSite, catalog: Catalog, results: ResultsReader, artifacts: FiledArtifacts, shown: set[int]
    ) -> None:
        self.site, self.catalog, self.results, self.artifacts, self.shown = site, catalog, results, artifacts, shown

    def there(self, execution_id: int) -> bool:
        """Whether an execution has a page in this report."""
        return execution_id in self.shown

    def execution(self, row: ExecutionRow, prepared: Prepared, values: str | None) -> None:
        checks = self.artifacts.copy(row, prepared.content.artifacts)
        page = read_execution(self.catalog, self.results, row, checks, prepared)
        others = tuple(line for line in page.others if self.there(line.row.execution_id))
        query = urlencode({"in": row.fragment})
        self.site.page(
            f"execution/{row.execution_id}.html",
            "execution",
            page=attrs.evolve(page, others=others),
            values=values and f"../{values}?{query}",
            there=self.there,
        )

    def diagnostics(
        self,
        lines: Sequence[ListedExecution],
        current: set[int],
        selection: PageSelection,
        known: Known,
        values: Mapping[int, str],
        on_progress: Callable[[object, int, int], object] | None,
    ) -> None:
        """Write for each diagnostic the pages of its executions, its own page, and the one that compares them."""
        diagnostics: dict[tuple[str, str], list[ListedExecution]] = {}
        for line in lines:
            diagnostics.setdefault((line.row.provider, line.row.diagnostic), []).append(line)
        of_group = Counter(_group(row) for row in self.catalog.executions(retracted=None))
        look = "" if of_group.total() - len(of_group) <= _MOST_LOOKED_INTO else "values"
        places = Places(filed=True)
        listed = []
        where: dict[str, str] = {}
        for place, of_place in sorted(diagnostics.items()):
            members = [line.row for line in of_place]
            contents = contents_of(self.catalog, members)
            others = read_others(self.catalog, members[0])
            for line in of_place:
                row = line.row
                prepared = Prepared(contents[row.execution_id], line, others, is_alone=of_group[_group(row)] == 1)
                self.execution(row, prepared, values.get(row.execution_id))
                if on_progress is not None:
                    on_progress(row.fragment, len(self.artifacts.checks), len(lines))
            for group in dict.fromkeys(map(_group, members)):
                if of_group[group] > 1:
                    self.group(*group, look=look)

            def compared(rows: Sequence[ExecutionRow], contents: Mapping[int, Content] = contents) -> ComparePage:
                return read_comparison(
                    self.catalog, self.results, rows, contents=contents, checks=self.artifacts.checks
                )

            gappy = [row for row in members if concern_of(row) == "incomplete" and (row.scalars or row.series)]
            wanted = [row for row in members if row.status == "uploaded" or row in gappy]
            newest = sorted(peers(members), key=lambda row: (row.group.lower(), row.fragment))
            shown = compared(newest)
            also = [row for row in gappy if row.execution_id in current]
            self._diagnostic(place, selection, known, shown, switch=bool(also))
            if also:
                more = compared([*newest, *also])
                self._diagnostic(place, attrs.evolve(selection, incomplete=True), known, more, switch=True)
            if len(wanted) > 1:
                key = places.comparison(*place)
                latest = {row.execution_id for row in newest}
                wanted.sort(key=lambda row: (row.execution_id not in latest, row.group.lower(), row.fragment))
                self._compare(key, shown if len(newest) == len(wanted) else compared(wanted), latest)
                listed.append((*place, len(wanted)))
                where |= {str(row.execution_id): key for row in wanted}
        self.site.page("compare.html", "compare", page=ComparePage(columns=(), diagnostics=tuple(listed), where=where))

    def group(self, provider: str, diagnostic: str, group: str, look: str) -> None:
        """Write the page of a group, and those that compare each of its versions with the one before."""
        page = read_group(self.catalog, f"{provider}/{diagnostic}/{group}")
        self.site.page(Places(filed=True).group(provider, diagnostic, group), "group", page=page, there=self.there)
        ids = {each.row.fragment: each.row.execution_id for each in page.versions}
        for each in page.versions:
            if each.before is not None and self.there(ids[each.before]) and self.there(each.row.execution_id):
                self.verdicts({"a": each.before, "b": each.row.fragment, "look": look}, PageSelection())

    def releases(self, selection: PageSelection, shown: Mapping[str, int]) -> None:
        """Write the list of releases, with how many sets of each are shown here, and compare the last ones with each
        other and with the latest results.
        """
        named = self.catalog.releases.list()
        last = [f"release:{each.name}" for each in named[-_MOST_RELEASES:]]
        for a, b in [*pairwise(last), *((each, "") for each in last)]:
            with suppress(ReleaseChangedError):  # the catalog has no longer what that release names
                self.verdicts({"a": a, "b": b}, selection)
        verdicts = Places(filed=True).verdicts
        self.site.page(
            "releases.html",
            "releases",
            releases=named,
            shown=shown,
            linked=lambda query: verdicts(query) in self.site.written,
        )

    def verdicts(self, asked: Mapping[str, str], selection: PageSelection) -> None:
        """Write the pages that compare two sides by verdict."""

        def picture(_: str, of: ArtifactRow) -> str | None:
            check = self.artifacts.checks.get(of.execution_id, {}).get(of.key)
            is_there = check is not None and check.outcome in ("ok", "unrecorded")
            return Places(root="../", filed=True).thumbnail(of) if is_there else None

        memory, number, pages = Memory(), 1, 1
        while number <= pages:
            shown = attrs.evolve(selection, page=number)
            page = read_verdicts(self.catalog, self.results, shown, asked, memory)
            key = Places(filed=True).verdicts({**asked, "page": str(number)})
            told: dict[str, Any] = {"words": WORDS, "looks": LOOKS, "src": picture, "there": self.there}
            self.site.page(key, "verdicts", page=page, **told)
            pages, number = page.pages, number + 1

    def _diagnostic(
        self, place: tuple[str, str], selection: PageSelection, known: Known, shown: ComparePage, *, switch: bool
    ) -> None:
        def key(query: Query) -> str:
            return Places(filed=True).diagnostic(*place, query)

        page = read_diagnostic(self.catalog, self.results, place, selection, known, compared=shown)
        self.site.page(
            key(selection.query()),
            "diagnostic",
            page=page,
            there=self.there,
            at=lambda query: posixpath.basename(key(query)),
            has_switch=switch,
        )

    def _compare(self, key: str, page: ComparePage, latest: set[int]) -> None:
        """Write the pages that compare a diagnostic's executions. They show the latest unless others are asked for."""
        ids = [column.line.row.execution_id for column in page.columns]
        first = tuple(number for number, each in enumerate(ids) if each in latest)
        keys = [key if part == 1 else f"{key.removesuffix('.html')}-{part}.html" for part in range(1, page.parts + 1)]
        for part in range(1, page.parts + 1):
            shown = attrs.evolve(page, part=part, first=first if len(first) < len(ids) else ())
            self.site.page(keys[part - 1], "compare", page=shown, parts_at=lambda n: posixpath.basename(keys[n - 1]))

    def overviews(self, selection: PageSelection, known: Known, views: Sequence[View]) -> None:
        """Write the table of models and diagnostics for each metric, region and so on; the first page comes last."""
        gathered = gather(self.catalog, selection, with_values=True)
        first = lay_out(gathered, self.catalog, PageSelection(), known)
        choices = [[option.query for option in options] for options in first.options.values()]
        wanted = {overview_key(query): query for query in _combined(first.query, choices, bool(first.seasons))}
        also = attrs.evolve(selection, incomplete=True)
        with_incomplete = gather(self.catalog, also, with_values=True) if first.kinds["incomplete"] else gathered
        if with_incomplete.incomplete:
            more = [{**query, "incomplete": "1"} for query in wanted.values()]
            wanted |= {overview_key(query): query for query in more}
        wanted.pop(overview_key({}), None)

        def linked(query: Query) -> bool:
            return overview_key(query) in wanted

        for key, query in wanted.items():
            chosen = PageSelection.of(query_pairs(query))
            page = lay_out(with_incomplete if chosen.incomplete else gathered, self.catalog, chosen, known)
            self.site.page(key, "overview", page=page, linked=linked, there=self.there, cards=(), views_problem=None)
        cards = []
        for view in views:
            shown = read_view(self.catalog, view, known)
            self.site.page(Places(filed=True).view(view.name), "view", page=shown, there=self.there)
            cards.append((view, len(shown.gaps)))
        told: dict[str, Any] = {"linked": linked, "there": self.there, "views_problem": None}
        self.site.page("index.html", "overview", page=first, cards=cards, **told)

    def executions(self, page: ExecutionsPage) -> None:
        facets = facets_of(
            [line.facets for line in page.lines if not line.older or line.releases],
            [*(each.name for each in page.facets), "release"],
        )
        self.site.page(
            "executions.html", "executions", page=attrs.evolve(page, selection=PageSelection(), facets=facets)
        )


def _group(row: ExecutionRow) -> tuple[str, str, str]:
    return row.provider, row.diagnostic, row.group


def _combined(query: Query, choices: Sequence[Sequence[Query]], views: bool) -> Iterator[Query]:
    """Yield the queries of all combinations of choices or, if these are too many, of those that differ in one."""
    some = product(*choices) if prod(map(len, choices)) <= _MOST_OVERVIEWS else ((each,) for c in choices for each in c)
    for chosen in some:
        found = dict(query)
        for each in chosen:
            found |= {name: value for name, value in each.items() if query.get(name) != value}
        yield found
        if views:
            yield found | {"view": "portrait"}


def _earlier_files(dest: LocalArtifactStore, folder: Path) -> set[str]:
    if dest.exists(MANIFEST):
        try:
            said = json.loads(dest.read_bytes(MANIFEST))
            return set(said["files"])
        except (ValueError, TypeError, KeyError):
            pass  # somebody else's file of this name: the folder is not ours, which is refused below
    elif not folder.is_dir() or not any(folder.iterdir()):
        return set()
    raise ArtifactExistsError(
        f"{str(folder)!r} has contents and is not a report: use a new or an empty folder", store=repr(dest)
    )


def _made_of(
    results: str, listed: ExecutionsPage, current: set[int], selection: PageSelection, known: Known, *more: object
) -> str:
    """Return a digest of all that decides what a report says, but for the artifacts, which records vouch for."""
    rows = sorted(
        (repr(attrs.astuple(line.row)), line.concern, line.row.execution_id in current) for line in listed.lines
    )
    told = (__version__, versions(), results, rows, listed.retracted, selection, sorted(known.items()), more)
    return sha256_of(repr(told).encode())


def _unchanged(dest: LocalArtifactStore, folder: Path, before: set[str], made_of: str) -> Report | None:
    """Return what an earlier report said of itself, if it is of the same, and its files are as large as they were."""
    if not before:
        return None
    said = json.loads(dest.read_bytes(MANIFEST))
    if said.get("made of") != made_of or said.get("size") != _size(dest, before):
        return None
    return Report(folder / "index.html", said["executions"], said["files in sets"], said["bytes in sets"], 0, ())


def _size(dest: LocalArtifactStore, files: set[str]) -> list[int]:
    """Return how many of some files are there, and how large they are together."""
    sizes = [info.size or 0 for info in dest.iter_info() if info.key in files]
    return [len(sizes), sum(sizes)]


def _manifest(files: set[str], **more: object) -> bytes:
    return json.dumps({"written by": f"emdstore {__version__}", **more, "files": sorted(files)}, indent=1).encode()
