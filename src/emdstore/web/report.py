"""The site's pages as files, for ``file://``, a web server or a bucket."""

from __future__ import annotations

import base64
import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from html import unescape
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import attrs

from emdstore._version import __version__
from emdstore.catalog import ArtifactRow, Catalog, ExecutionRow, Query as Rows, ScalarRow
from emdstore.errors import ArtifactExistsError, ArtifactNotFoundError, StoreUnavailableError
from emdstore.shown import Shown
from emdstore.stores import ArtifactStore, LocalArtifactStore, scoped
from emdstore.stores.checksums import sha256_of
from emdstore.transfers import KeyOutcome, digest_of, move
from emdstore.web.changes import read_changes
from emdstore.web.charts import scalar_charts
from emdstore.web.compare import ComparePage, peers, read_comparison
from emdstore.web.diagnostic import read_diagnostic
from emdstore.web.execution import ScalarTable, artifacts_of, read_execution, read_others
from emdstore.web.executions import ExecutionsPage, Line, read_executions
from emdstore.web.metrics import Known, known_metrics
from emdstore.web.overview import gather, lay_out
from emdstore.web.places import Places, Query, framed_key, overview_key
from emdstore.web.reading import Check, ResultsReader
from emdstore.web.selection import Facet, Selection, dimension_facet, facet, pairs_of
from emdstore.web.site import OWN_FILES, own_file, render, require_extra, versions
from emdstore.web.thumbnails import has_thumbnail, make_thumbnail
from emdstore.web.values import ValuesPage, lines_by_id
from emdstore.web.views import View, read_view, read_views

MANIFEST = "report.json"
"""Marks a folder as a report, and lists its files."""

MOST_EXECUTIONS = 10_000
MOST_SCALARS = 1500
"""On one page of values; more are on further pages."""

_PATIENCE = 60.0
_MOST_OVERVIEWS = 120

_FRAMED_POLICY = (
    b"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src 'self' file: data: blob:; "
    b"style-src 'self' file: 'unsafe-inline' data:; font-src 'self' file: data:; script-src 'self' file: "
    b"'unsafe-inline'; form-action 'none'\">"
)
_BEFORE_HEAD = re.compile(
    rb"(?is)(?:\xef\xbb\xbf)?\s*(?:<!doctype[^>]*>)?\s*(?:<html[^>]*>)?\s*(?:<head(?:\s[^>]*)?>)?"
)
_PICTURE = re.compile(rb"""(?is)(?P<before><img\b[^>]*?\ssrc\s*=\s*(?P<quote>["']))(?P<name>.*?)(?=(?P=quote))""")
_HTML = ("text/html", "application/xhtml+xml")


@attrs.frozen
class Contents:
    """The scalars of one diagnostic: how many, and where they are as pages and as CSV."""

    provider: str
    diagnostic: str
    total: int
    page: str
    csv: str


@attrs.frozen
class Trouble:
    """An artifact that is not in the report, and why. Its page says so, too."""

    fragment: str
    key: str
    outcome: str
    detail: str


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
    selection: Selection | None = None,
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
    writer = _Writer(dest, before, catalog, ResultsReader(results, patience=_PATIENCE), data)
    selection = attrs.evolve(selection or Selection(), all_runs=True)
    listed = read_executions(catalog, selection, on_a_page=MOST_EXECUTIONS)
    newest = attrs.evolve(catalog.survey(**selection.place_filters), newest=True)
    current = {row.execution_id for row in newest.rows(MOST_EXECUTIONS)}
    rows = [line.row for line in listed.lines]
    views = read_views(catalog, results)
    made_of = _made_of(repr(results), listed, current, selection, known, data, views)
    if (same := _unchanged(dest, folder, before, made_of)) is not None:
        return same
    dest.write_bytes(MANIFEST, _manifest(before))  # first, so that a partial report can be continued
    writer.own_files()
    writer.shown = {row.execution_id for row in rows}
    values = writer.values(selection, rows)
    for number, row in enumerate(rows, 1):
        writer.execution(row, values.get(row.execution_id))
        if on_progress is not None:
            on_progress(row.fragment, number, len(rows))
    lines = tuple(attrs.evolve(line, older=line.row.execution_id not in current) for line in listed.lines)
    older = sum(line.older for line in lines)
    concerns = sum(line.concern is not None and not line.older for line in lines)
    writer.page("changes.html", "changes", page=read_changes(catalog, selection))
    latest = attrs.evolve(selection, all_runs=False)
    writer.diagnostics(rows, latest, known)
    writer.overviews(latest, known, views)
    writer.executions(attrs.evolve(listed, lines=lines, older=older, concerns=concerns))
    report = Report(
        index=folder / "index.html",
        executions=len(rows),
        files=writer.files,
        bytes=writer.bytes,
        left_out=listed.total - len(rows),
        troubles=tuple(writer.troubles),
    )
    for key in sorted(before - writer.written):
        dest.delete(key)
    told = {
        "made of": made_of,
        "size": _size(dest, writer.written),
        "executions": report.executions,
        "files in sets": report.files,
        "bytes in sets": report.bytes,
    }
    # What was not as it should be is looked at again the next time.
    dest.write_bytes(MANIFEST, _manifest(writer.written, **(told if report.ok else {})))
    return report


class _Writer:
    def __init__(
        self, dest: LocalArtifactStore, before: set[str], catalog: Catalog, results: ResultsReader, data: bool
    ) -> None:
        self.before = before
        self.dest, self.catalog, self.results, self.data = dest, catalog, results, data
        self.written: set[str] = set()
        self.shown: set[int] = set()
        self.others: dict[tuple[str, str], tuple[Line, ...]] = {}
        self.troubles: list[Trouble] = []
        self.files = self.bytes = 0

    def there(self, execution_id: int) -> bool:
        """Whether an execution has a page in this report."""
        return execution_id in self.shown

    def page(self, key: str, template: str, **values: object) -> None:
        places = Places(root="../" * key.count("/"), filed=True)
        self.file(key, render(template, places, **values).encode())

    def file(self, key: str, content: bytes) -> None:
        """Write a file, unless it is there as it is to be."""
        if key not in self.before or not self._is(key, content):
            self.dest.write_bytes(key, content)
        self.written.add(key)

    def _is(self, key: str, content: bytes) -> bool:
        try:
            return self.dest.read_bytes(key) == content
        except ArtifactNotFoundError:
            return False

    def own_files(self) -> None:
        for name in OWN_FILES:
            self.file(f"static/{name}", own_file(name) or b"")

    def execution(self, row: ExecutionRow, values: str | None) -> None:
        place = row.provider, row.diagnostic
        if place not in self.others:
            self.others[place] = read_others(self.catalog, row)
        page = read_execution(self.catalog, self.results, row, self._artifacts(row), self.others[place])
        others = tuple(line for line in page.others if self.there(line.row.execution_id))
        query = urlencode({"in": row.fragment})
        self.page(
            f"execution/{row.execution_id}.html",
            "execution",
            page=attrs.evolve(page, others=others),
            values=values and f"../{values}?{query}",
        )

    def _artifacts(self, row: ExecutionRow) -> dict[str, Check]:
        """Copy an execution's artifacts, except those that are missing or not as recorded, and report these."""
        artifacts = {each.key: each for each in artifacts_of(self.catalog, row)}
        wanted = [key for key, each in artifacts.items() if self.data or each.role != "data"]
        folder = f"artifacts/{row.execution_id}"
        dest = scoped(self.dest, folder)
        outcomes = move(scoped(self.results.store, row.fragment), dest, wanted, unchanged="digest").outcomes
        if outcomes and all(isinstance(each.error, StoreUnavailableError) for each in outcomes):
            raise outcomes[0].error or StoreUnavailableError("the results store does not answer")
        checks = {key: Check("left out", "not part of this report") for key in artifacts.keys() - set(wanted)}
        for each in outcomes:
            check = _check(artifacts[each.key], each, dest)
            checks[each.key] = check
            if check.outcome in ("ok", "unrecorded"):
                self.written.add(f"{folder}/{each.key}")
                self.files, self.bytes = self.files + 1, self.bytes + (each.size or 0)
            else:
                self.dest.delete(f"{folder}/{each.key}")
                self.troubles.append(Trouble(row.fragment, each.key, check.outcome, check.detail))
        whole = {key: artifacts[key] for key, check in checks.items() if check.outcome in ("ok", "unrecorded")}
        types = {key: each.media_type or "" for key, each in whole.items()}
        images = {key: media_type for key, media_type in types.items() if media_type.startswith("image/")}
        copied = {each.key for each in outcomes if each.outcome == "copied"}
        for key in whole:
            if has_thumbnail(whole[key]):
                self._thumbnail(whole[key], dest, is_new=key in copied)
            if types[key] in _HTML:
                self.file(f"{folder}/{framed_key(key)}", _framed(dest.read_bytes(key), key, images, dest))
        return checks

    def _thumbnail(self, picture: ArtifactRow, folder: ArtifactStore, *, is_new: bool) -> None:
        key = f"thumbnails/{picture.execution_id}/{picture.key}.webp"
        if is_new or key not in self.before:
            data = folder.read_bytes(picture.key)
            self.dest.write_bytes(key, make_thumbnail([data]) or data)
        self.written.add(key)

    def diagnostics(self, rows: Sequence[ExecutionRow], selection: Selection, known: Known) -> None:
        """Write for each diagnostic its own page, and the one that compares its executions."""
        diagnostics: dict[tuple[str, str], list[ExecutionRow]] = {}
        for row in rows:
            diagnostics.setdefault((row.provider, row.diagnostic), []).append(row)
        places = Places(filed=True)
        listed = []
        where: dict[str, str] = {}
        for place, members in sorted(diagnostics.items()):
            uploaded = [row for row in members if row.status == "uploaded"]
            newest = sorted(peers(members), key=lambda row: (row.group.lower(), row.fragment))
            shown = read_comparison(self.catalog, self.results, newest)
            page = read_diagnostic(self.catalog, self.results, place, selection, known, compared=shown)
            key = places.diagnostic(*place)
            self.page(key, "diagnostic", page=page, there=self.there, at=partial(_same_page, key))
            if len(uploaded) > 1:
                key = places.comparison(*place)
                self._compare(key, uploaded, shown if len(newest) == len(uploaded) else None)
                listed.append((*place, len(uploaded)))
                where |= {str(row.execution_id): key for row in uploaded}
        self.page("compare.html", "compare", page=ComparePage(columns=(), diagnostics=tuple(listed), where=where))

    def _compare(self, key: str, rows: Sequence[ExecutionRow], page: ComparePage | None) -> None:
        """Write the pages that compare a diagnostic's executions. They show the latest unless others are asked for."""
        latest = {row.execution_id for row in peers(rows)}
        rows = sorted(rows, key=lambda row: (row.execution_id not in latest, row.group.lower(), row.fragment))
        first = tuple(number for number, row in enumerate(rows) if row.execution_id in latest)
        page = page or read_comparison(self.catalog, self.results, rows)
        keys = [key if part == 1 else f"{key.removesuffix('.html')}-{part}.html" for part in range(1, page.parts + 1)]
        for part in range(1, page.parts + 1):
            if part > 1:
                page = read_comparison(self.catalog, self.results, rows, part=part)
            shown = attrs.evolve(page, first=first if len(first) < len(rows) else ())
            self.page(keys[part - 1], "compare", page=shown, parts_at=lambda n: posixpath.basename(keys[n - 1]))

    def values(self, selection: Selection, rows: Sequence[ExecutionRow]) -> dict[int, str]:
        """Write the scalars, diagnostic by diagnostic, and return on which page those of each execution begin."""
        filters = attrs.evolve(selection, all_runs=True).value_filters
        latest = {row.execution_id for row in self.catalog.executions(latest=True, **selection.place_filters)}
        found: dict[int, str] = {}
        listed: list[Contents] = []
        for provider, diagnostic in sorted({(row.provider, row.diagnostic) for row in rows}):
            of_diagnostic: dict[str, Any] = {**filters, "provider": provider, "diagnostic": diagnostic}
            query = self.catalog.scalars(**of_diagnostic)
            sizes = Counter(row.execution_id for row in query)
            if not sizes:
                continue
            stem = Places(filed=True).values_of(provider, diagnostic)
            pages, begins = _in_pages(sizes)
            keys = [f"{stem}.html" if number == 0 else f"{stem}-{number + 1}.html" for number in range(len(pages))]
            found |= {each: keys[number] for each, number in begins.items()}
            scalars = iter(query)
            for number, size in enumerate(pages):
                self._values(keys, number, list(islice(scalars, size)), latest, title=f"{provider} {diagnostic}")
            self._export(f"{stem}.csv", query)
            listed.append(Contents(provider, diagnostic, sizes.total(), keys[0], f"{stem}.csv"))
        self.page("values.html", "contents", listed=listed)
        self._export("values.csv", self.catalog.scalars(**filters))
        return found

    def _values(self, keys: Sequence[str], number: int, rows: list[ScalarRow], latest: set[int], title: str) -> None:
        lines = {
            each: attrs.evolve(line, older=each not in latest) for each, line in lines_by_id(self.catalog, rows).items()
        }
        table = ScalarTable.of(rows, len(rows))
        counted = [table.facets(row) for row in rows if row.execution_id in latest]
        names = ["group", *(dimension_facet(name) for name in table.columns)]
        page = ValuesPage(
            selection=Selection(page=number + 1),
            table=table,
            pages=len(keys),
            facets=_facets(counted, names),
            too_many=False,
            charts=scalar_charts(rows),
            lines=lines,
            dimensions=(),
        )
        here = {str(place + 1): posixpath.basename(key) for place, key in enumerate(keys)}
        self.page(
            keys[number], "values", page=page, title=title, csv=f"{posixpath.basename(keys[0])[:-5]}.csv", here_are=here
        )

    def _export(self, key: str, query: Rows[ScalarRow]) -> None:
        with self.dest.open_writer(key) as file:
            for piece in query.export("csv", for_spreadsheets=True):
                file.write(piece)
        self.written.add(key)

    def overviews(self, selection: Selection, known: Known, views: Sequence[View]) -> None:
        """Write the table of models and diagnostics for each metric, region and so on; the first page comes last."""
        gathered = gather(self.catalog, selection, with_values=True)
        first = lay_out(gathered, self.catalog, Selection(), known)
        choices = [[option.query for option in options] for options in first.options.values()]
        wanted = {overview_key(query): query for query in _combined(first.query, choices, bool(first.seasons))}
        wanted.pop(overview_key({}), None)

        def linked(query: Query) -> bool:
            return overview_key(query) in wanted

        for key, query in wanted.items():
            page = lay_out(gathered, self.catalog, Selection.of(pairs_of(query)), known)
            self.page(key, "overview", page=page, linked=linked, there=self.there, cards=(), views_problem=None)
        cards = []
        for view in views:
            shown = read_view(self.catalog, view, known)
            self.page(Places(filed=True).view(view.name), "view", page=shown, there=self.there)
            cards.append((view, len(shown.gaps)))
        told: dict[str, Any] = {"linked": linked, "there": self.there, "views_problem": None}
        self.page("index.html", "overview", page=first, cards=cards, **told)

    def executions(self, page: ExecutionsPage) -> None:
        facets = _facets([line.facets for line in page.lines if not line.older], [each.name for each in page.facets])
        self.page("executions.html", "executions", page=attrs.evolve(page, selection=Selection(), facets=facets))


def _same_page(key: str, _: object) -> str:
    return posixpath.basename(key)


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


def _in_pages(sizes: Mapping[int, int]) -> tuple[list[int], dict[int, int]]:
    """Divide rows among pages, not within an execution if it fits on one: the size of each, and where each begins."""
    pages, begins = [0], {}
    for each, size in sizes.items():
        if pages[-1] and pages[-1] + size > MOST_SCALARS:
            pages.append(0)
        begins[each] = len(pages) - 1
        while size > MOST_SCALARS:
            pages[-1] = MOST_SCALARS
            pages.append(0)
            size -= MOST_SCALARS
        pages[-1] += size
    return [size for size in pages if size], begins


def _facets(rows: Iterable[Mapping[str, str]], names: Iterable[str]) -> tuple[Facet, ...]:
    """Count what is in the report, which needs no choice of its own."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in row.items():
            counts.setdefault(name, Counter())[value] += 1
    return tuple(facet(Selection(), name, counts[name]) for name in names if name in counts)


def _check(artifact: ArtifactRow, outcome: KeyOutcome, dest: ArtifactStore) -> Check:
    if outcome.outcome == "missing":
        return Check("missing", "the record names it, but it is not there")
    if outcome.outcome not in ("copied", "unchanged"):
        return Check("unreadable", str(outcome.error))
    if artifact.sha256 is None:
        return Check("unrecorded")
    digest = outcome.sha256 or digest_of(dest, outcome.key)[1]
    return Check("ok") if digest == artifact.sha256 else Check("corrupt", f"{outcome.size} bytes, SHA-256 {digest}")


def _framed(html: bytes, key: str, images: Mapping[str, str], folder: ArtifactStore) -> bytes:
    """Return an html output as it is shown in a frame.

    It may load nothing from elsewhere: a server would say so in a header, a file has to say it itself. And it has the
    set's pictures in it: what is in a frame has no origin, and may not read the files beside it.
    """
    if html[:2] in (b"\xff\xfe", b"\xfe\xff"):
        html = html.decode("utf-16", "replace").encode()
    start = _BEFORE_HEAD.match(html)
    at = start.end() if start is not None else 0

    def with_picture(found: re.Match[bytes]) -> bytes:
        name = unquote(unescape(found["name"].decode("utf-8", "replace")))
        picture = posixpath.normpath(posixpath.join(posixpath.dirname(key), name))
        if picture not in images:
            return found[0]
        content = base64.b64encode(folder.read_bytes(picture)).decode()
        return found["before"] + f"data:{images[picture]};base64,{content}".encode()

    return html[:at] + _FRAMED_POLICY + _PICTURE.sub(with_picture, html[at:])


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
    results: str, listed: ExecutionsPage, current: set[int], selection: Selection, known: Known, *more: object
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
