"""The page of one execution: history, reason for failure, plots, values, files."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property

import attrs

from emdstore.catalog import ArtifactRow, Catalog, ExecutionRow, InputRow, OutputRow, ScalarRow, WarningRow
from emdstore.catalog.browse import Survey
from emdstore.catalog.history import Version, history_of
from emdstore.catalog.releases import ReleaseRow
from emdstore.web import text
from emdstore.web.charts import Chart, SeriesLine, series_charts, units_text
from emdstore.web.content import Content, read_contents
from emdstore.web.executions import ListedExecution, listed_executions
from emdstore.web.reading import LogEnd, Look, Recheck, ResultsReader
from emdstore.web.selection import dimension_facet

MOST_SCALARS = 500
MOST_SERIES = 120
MOST_OTHERS = 500
MOST_VERSIONS = 10


@attrs.frozen
class HistoryStep:
    """One step in an execution's history, and the time since the previous one."""

    name: str
    at: datetime
    after: str = ""
    detail: str = ""


@attrs.frozen
class ShownArtifact:
    """An artifact: its row, its state in the store, its entries in the output bundle, and the result of a check."""

    row: ArtifactRow
    state: str
    outputs: tuple[OutputRow, ...] = ()
    check: Recheck | None = None

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.row.key.rpartition("/")[2]

    @property
    def title(self) -> str:
        """Its long name in the bundle, or else its name."""
        return next((each.long_name for each in self.outputs if each.long_name.strip()), "") or self.name

    @property
    def description(self) -> str:
        """Its description in the bundle."""
        texts = [*(each.description for each in self.outputs), self.row.description or ""]
        return next((text for text in texts if text.strip() and text.strip() != self.title.strip()), "")

    @property
    def dimensions(self) -> Mapping[str, str]:
        """Its dimensions."""
        return next((each.dimensions for each in self.outputs if each.dimensions), {})

    @property
    def is_image(self) -> bool:
        """Whether browsers show it as a picture."""
        return (self.row.media_type or "").startswith("image/") and "tiff" not in (self.row.media_type or "")

    @property
    def is_html(self) -> bool:
        """Whether it is an HTML page."""
        return self.row.media_type in ("text/html", "application/xhtml+xml")

    @property
    def trouble(self) -> str:
        """What is wrong with it, in words; ``""`` if nothing is known."""
        if self.check is not None and self.check.outcome not in ("ok", "unrecorded"):
            found = self.check.outcome
            return {"corrupt": "not as recorded", "unreadable": "cannot be read"}.get(found, found)
        return {"missing": "missing", "changed": "not as recorded"}.get(self.state, "")


@attrs.frozen
class ScalarTable:
    """Scalars as a table.

    Attributes
    ----------
    common
        The dimensions that all rows share, which are shown once.
    columns
        The names of the other dimensions.
    rows
        The scalars.
    total
        The number of all scalars.
    """

    common: Mapping[str, str]
    columns: tuple[str, ...]
    rows: tuple[ScalarRow, ...]
    total: int

    @property
    def has_units(self) -> bool:
        """Whether any scalar has units."""
        return any(map(self.units, self.rows))

    @staticmethod
    def units(row: ScalarRow) -> str:
        """Return the units of a scalar from its attributes."""
        return units_text(row)

    @staticmethod
    def facets(row: ScalarRow) -> dict[str, str]:
        """Return the filter values of a scalar, for pages that filter in the browser."""
        places = {"provider": row.provider, "diagnostic": row.diagnostic, "group": row.group, "in": row.fragment}
        return places | {dimension_facet(name): value for name, value in row.dimensions.items()}

    @cached_property
    def one_diagnostic(self) -> bool:
        """Whether all are of one diagnostic."""
        return len({(row.provider, row.diagnostic) for row in self.rows}) == 1

    def places(self, lines: Mapping[int, ListedExecution]) -> dict[str, dict[str, str]]:
        """Return what the browser filters by: the values that all rows share, and those of each execution."""
        shared = {dimension_facet(name): value for name, value in self.common.items()}
        found = {}
        for row in self.rows:
            if str(row.execution_id) not in found:
                line = lines.get(row.execution_id)
                older = {"older": "1"} if line is not None and line.older else {}
                where = {"provider": row.provider, "diagnostic": row.diagnostic, "group": row.group, "in": row.fragment}
                found[str(row.execution_id)] = shared | where | older
        return found

    @classmethod
    def of(cls, rows: Sequence[ScalarRow], total: int) -> ScalarTable:
        """Arrange rows as a table."""
        dimensions = [row.dimensions for row in rows]
        if len(rows) == 1:
            return cls({}, tuple(rows[0].dimensions), tuple(rows), total)
        return cls(text.common(dimensions), tuple(text.varying(dimensions)), tuple(rows), total)


@attrs.frozen
class ExecutionPage:
    """One execution.

    Attributes
    ----------
    line
        The execution.
    steps
        Its history.
    look
        Its state in the results store.
    items
        Its artifacts, in the order of the set.
    unresolved
        Entries of the output bundle that are not in the set.
    warnings
        Warnings of the ingest.
    scalars
        Its scalars.
    charts, more_series
        Its series, and the number of those that are not drawn.
    others
        Other executions of its diagnostic, to compare it with.
    more_others
        How many more there are.
    versions
        The versions of its group, the newest first; empty if it is the only one.
    inputs
        What it read.
    releases
        The releases that name its set as it is.
    """

    line: ListedExecution
    steps: tuple[HistoryStep, ...]
    look: Look
    items: tuple[ShownArtifact, ...]
    unresolved: tuple[OutputRow, ...]
    warnings: tuple[WarningRow, ...]
    scalars: ScalarTable
    charts: tuple[Chart, ...]
    more_series: int
    others: tuple[ListedExecution, ...]
    more_others: int = 0
    versions: tuple[Version, ...] = ()
    inputs: tuple[InputRow, ...] = ()
    releases: tuple[ReleaseRow, ...] = ()

    @property
    def plots(self) -> tuple[ShownArtifact, ...]:
        """The pictures."""
        return tuple(each for each in self.items if each.is_image)

    @property
    def pages(self) -> tuple[ShownArtifact, ...]:
        """The html outputs."""
        return tuple(each for each in self.items if each.is_html)

    @property
    def data(self) -> tuple[ShownArtifact, ...]:
        """The data files."""
        return tuple(each for each in self.items if each.row.role == "data" and not each.is_image)

    @property
    def missing(self) -> tuple[str, ...]:
        """What the record or the output bundle names, and is not there."""
        lost = [item.row.key for item in self.items if item.state == "missing"]
        return tuple(dict.fromkeys([*lost, *(each.filename for each in self.unresolved)]))

    @property
    def command(self) -> str:
        """The command that mends what needs attention, if one does."""
        row = self.line.row
        if self.line.concern == "failed":
            named = (("provider", row.provider), ("diagnostic", row.diagnostic), ("group", row.group))
            return f"emdstore run {' '.join(f'--{name} {shlex.quote(value)}' for name, value in named)} -- PROGRAM"
        again = {"upload_failed": "commit", "lease": "commit", "incomplete": "reingest"}.get(self.line.concern or "")
        return f"emdstore {again} {shlex.quote(row.fragment)}" if again else ""

    @property
    def advice(self) -> str:
        """What to do about what needs attention."""
        return {
            "upload_failed": "The work is intact in scratch. Commit it again:",
            "lease": "Whoever was committing it is gone. Commit it again:",
            "incomplete": "If scratch still has what is missing, publish it again; otherwise run it again.",
            "failed": "Run it again"
            + (", as it is: it may succeed:" if self.line.row.retryable else " once the cause is mended:"),
        }.get(self.line.concern or "", "")

    @property
    def log(self) -> LogEnd | None:
        """The end of the log."""
        return self.look.log

    @property
    def log_item(self) -> ShownArtifact | None:
        """The log as an artifact."""
        return next((each for each in self.items if each.row.role == "log"), None)


@attrs.frozen
class Prepared:
    """What the page of an execution is made of, where many are read together.

    Attributes
    ----------
    content
        What the catalog has of it.
    line
        The execution.
    others
        The executions of its diagnostic; see `read_others`.
    is_alone
        Whether it is the only one of its group.
    """

    content: Content
    line: ListedExecution
    others: tuple[ListedExecution, ...]
    is_alone: bool = False


def prepare(catalog: Catalog, row: ExecutionRow) -> Prepared:
    """Read what the page of one execution is made of."""
    contents = read_contents(catalog, [row], scalars=MOST_SCALARS, series=MOST_SERIES)
    (line,) = listed_executions(catalog, [row])
    return Prepared(contents[row.execution_id], line, read_others(catalog, row))


def read_execution(
    catalog: Catalog,
    results: ResultsReader,
    row: ExecutionRow,
    checks: Mapping[str, Recheck] | None = None,
    prepared: Prepared | None = None,
) -> ExecutionPage:
    """Read one execution from the catalog, and from the results store if it answers.

    Parameters
    ----------
    catalog, results
        Where to ask.
    row
        The execution.
    checks
        What came of hashing artifacts again, by key.
    prepared
        What was read already.
    """
    prepared = prepared or prepare(catalog, row)
    content = prepared.content
    look = results.look(row.fragment, next((each for each in content.artifacts if each.role == "log"), None))
    shown = tuple(each for each in prepared.others if each.row.execution_id != row.execution_id)[:MOST_OTHERS]
    is_cut = len(shown) == MOST_OTHERS
    named = row.provider, row.diagnostic, row.group
    versions = [] if prepared.is_alone else history_of(catalog, *named, most=MOST_VERSIONS)
    items, unresolved = pair(content.artifacts, content.outputs, look, checks)
    return ExecutionPage(
        line=prepared.line,
        steps=tuple(_life(row)),
        look=look,
        items=items,
        unresolved=unresolved,
        warnings=tuple(content.warnings),
        scalars=ScalarTable.of(content.scalars[:MOST_SCALARS], row.scalars),
        charts=series_charts(map(SeriesLine, content.series[:MOST_SERIES])),
        more_series=max(0, row.series - MOST_SERIES),
        others=shown,
        more_others=_of_diagnostic(catalog, row).count() - 1 - MOST_OTHERS if is_cut else 0,
        versions=tuple(versions) if len(versions) > 1 else (),
        releases=tuple(catalog.releases.naming(row)),
        inputs=tuple(content.inputs),
    )


def read_others(catalog: Catalog, row: ExecutionRow) -> tuple[ListedExecution, ...]:
    """Return the executions of the same diagnostic, this one among them: as many as a page lists."""
    return listed_executions(catalog, _of_diagnostic(catalog, row).rows(MOST_OTHERS + 1))


def _of_diagnostic(catalog: Catalog, row: ExecutionRow) -> Survey:
    return catalog.survey(provider=row.provider, diagnostic=row.diagnostic)


def artifacts_of(catalog: Catalog, row: ExecutionRow) -> list[ArtifactRow]:
    """Return the artifacts of one execution, in the order of the set."""
    return list(catalog.artifacts(ids=[row.execution_id], retracted=None))


def pair(
    artifacts: Iterable[ArtifactRow],
    outputs: Iterable[OutputRow],
    look: Look,
    checks: Mapping[str, Recheck] | None = None,
) -> tuple[tuple[ShownArtifact, ...], tuple[OutputRow, ...]]:
    """Match artifacts with their entries in the output bundle; also return the entries without an artifact."""
    named: dict[str | None, list[OutputRow]] = {}
    artifacts = list(artifacts)
    keys = {each.key: None for each in artifacts}
    for output in outputs:
        key = output.key
        if key is not None and key not in keys:  # a folder is shown by its first file
            key = next((each for each in keys if each.startswith(f"{key}/")), key)
        named.setdefault(key, []).append(output)
    checks = checks or {}
    items = tuple(
        ShownArtifact(each, look.state(each), tuple(named.pop(each.key, ())), checks.get(each.key))
        for each in artifacts
    )
    return items, tuple(output for rest in named.values() for output in rest)


def _life(row: ExecutionRow) -> Iterator[HistoryStep]:
    shipped = f"shipping took {text.duration_text(row.upload_duration)}" if row.upload_duration is not None else ""
    where = f"on {row.host}" if row.host else ""
    steps = (
        ("created", row.created_at, ""),
        ("started", row.started_at, where),
        ("stopped", row.stopped_at, ""),
        ("published", row.published_at, shipped),
    )
    before: datetime | None = None
    for name, at, detail in steps:
        if at is not None:
            gap = (at - before).total_seconds() if before is not None else 0.0
            yield HistoryStep(name, at, text.duration_text(gap) if gap > 0 else "", detail)
            before = at
    if row.status == "pending_upload" and row.lease_expires is not None:
        yield HistoryStep("claim runs out", row.lease_expires, "", f"held by {row.owner}")
