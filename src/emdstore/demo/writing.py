"""How an ensemble gets into a folder or a workspace: run by run, by the public calls that a framework would make."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from html import escape
from itertools import product
from pathlib import Path
from typing import Self

import attrs

from emdstore import (
    Catalog,
    ExecutionResult,
    OutputWriter,
    UploadReport,
    Workspace,
    WorkspaceError,
    verify,
)
from emdstore.demo import climate
from emdstore.demo.diagnostics import METRICS, Diagnostic
from emdstore.demo.drawing import draw_lines, draw_map
from emdstore.demo.ensemble import Ensemble, Fate, Run
from emdstore.shown import Shown

Progress = Callable[[str, int, int], object]
"""Called with the phase (``run`` or ``commit``), the number of executions done, and the total."""

_CONFIG = 'scratch = "scratch"\nresults = "results"\ncatalog = "catalog.db"\n'
_KILLED = 'echo "$1"; echo "regridding to 4 degrees"; kill -KILL $$'  # as the kernel does when memory runs out


@attrs.frozen
class _Findings:
    """What a diagnostic computes: metrics by region and season, and yearly means of reference and model by region."""

    scalars: Mapping[tuple[str, str], Mapping[str, float | None]]
    yearly: Mapping[str, tuple[list[float], list[float]]]

    @classmethod
    def of(cls, run: Run) -> Self:
        return cls(
            {(region, season): run.scalars(region, season) for region, season in product(run.regions, climate.SEASONS)},
            {region: run.yearly(region) for region in run.regions},
        )


@attrs.frozen(repr=False)
class EnsembleReport(Shown):
    """What `write_ensemble` did.

    Attributes
    ----------
    ran
        How many executions ran.
    uploads
        What was committed; empty if everything was there.
    """

    ran: int
    uploads: UploadReport

    @property
    def changed(self) -> bool:
        """Whether anything ran or was committed; False when it is repeated."""
        return self.ran > 0 or bool(self.uploads.statuses) or bool(self.uploads.errors)


# -- ensembles -------------------------------------------------------------------------------------------------------


def write_ensemble(
    place: Workspace | str | os.PathLike[str], ensemble: Ensemble, *, on_progress: Progress = lambda *_: None
) -> EnsembleReport:
    """Run an ensemble in a workspace, and commit it.

    Parameters
    ----------
    place
        A workspace, or a folder, which becomes one: see `open_folder`.
    ensemble
        What to write.
    on_progress
        See `Progress`.

    Returns
    -------
    EnsembleReport
        A second call changes nothing. An interrupted one is completed, and sets that the results store has lost
        are committed again. The catalog then has `Ensemble.counts`.

    Raises
    ------
    WorkspaceError
        If another ensemble or another workspace is already there. Nothing was changed.
    EmdstoreError
        If the workspace cannot be used. Calling it again continues from there.
    """
    if not isinstance(place, Workspace):
        with open_folder(place) as workspace:
            return write_ensemble(workspace, ensemble, on_progress=on_progress)
    ran = run_ensemble(place, ensemble, on_progress=on_progress)
    fragments = {run.fragment for run in ensemble.runs()}
    status = {row.fragment: row.status for row in place.list_executions() if row.fragment in fragments}
    pending = {fragment for fragment in status if status[fragment] not in ("uploaded", "failed", "running")}
    if not pending:
        pending = _damaged(place, set(status))
    uploads = UploadReport()
    if pending:
        uploads = place.commit_pending_executions(
            execution_ids=sorted(pending),
            progress_callback=lambda so_far: on_progress("commit", so_far.done, so_far.total),
        )
    return EnsembleReport(ran, uploads)


def run_ensemble(workspace: Workspace, ensemble: Ensemble, *, on_progress: Progress = lambda *_: None) -> int:
    """Run the executions of an ensemble that have not run, and leave them in scratch without a commit.

    Executions whose process is gone are recovered first; those of the ensemble run again.

    Parameters
    ----------
    workspace, ensemble, on_progress
        See `write_ensemble`.

    Returns
    -------
    int
        How many ran.

    Raises
    ------
    WorkspaceError, EmdstoreError
        See `write_ensemble`.
    """
    runs = {run.fragment: run for run in ensemble.runs()}
    known = {row.fragment: row for row in workspace.list_executions() if row.fragment in runs}
    for fragment, row in known.items():
        if row.dataset_hash != runs[fragment].dataset_hash:
            raise WorkspaceError(
                f"another ensemble is already here: its {fragment!r} is not that of {ensemble}; use the options that "
                "it was written with, or another folder"
            )
    cut_off: tuple[str, ...] = ()
    if any(row.status == "running" for row in known.values()):
        cut_off = workspace.recover()
        known = {row.fragment: row for row in workspace.list_executions() if row.fragment in runs}
    done = {
        fragment
        for fragment, row in known.items()
        # A run that ended in Ctrl-C says so by being retryable; a killed one is meant to be.
        if row.status != "created"
        and fragment not in cut_off
        and not (row.status == "stopped" and row.retryable and runs[fragment].fate is not Fate.KILLED)
    }
    waiting = [run for run in runs.values() if run.fragment not in done]
    for number, run in enumerate(waiting):
        on_progress("run", number, len(waiting))
        _clear(workspace.scratch.local_path(run.fragment), run)
        if run.fragment in known:
            workspace.catalog.records.drop(run.fragment)
        _perform(workspace, run)
    on_progress("run", len(waiting), len(waiting))
    return len(waiting)


@contextmanager
def open_folder(folder: str | os.PathLike[str]) -> Iterator[Workspace]:
    """Open a folder as a workspace, with ``scratch/``, ``results/``, ``catalog.db`` and ``emdstore.toml``.

    Environment variables for workspaces are ignored: a demo stays in its folder.

    Raises
    ------
    WorkspaceError
        If the folder is another workspace's. Nothing was changed.
    """
    root = Path(folder).absolute()
    config = root / "emdstore.toml"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not config.exists():
            config.write_text(_CONFIG, encoding="utf-8")
        elif config.read_text(encoding="utf-8") != _CONFIG:
            raise WorkspaceError(f"{config} belongs to another workspace; choose another folder")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkspaceError(f"{root} cannot be made a workspace: {error}") from error
    with (
        Catalog(root / "catalog.db") as catalog,
        Workspace(scratch=root / "scratch", results=root / "results", catalog=catalog) as workspace,
    ):
        yield workspace


def _clear(folder: Path, run: Run) -> None:
    """Remove the remains of this run if it was cut off; it runs again, with the same bytes."""
    if not folder.exists():
        return
    try:
        ours = json.loads((folder / "execution.json").read_bytes())["dataset_hash"] == run.dataset_hash
    except FileNotFoundError:  # the start was cut off
        ours = all(path.name.startswith(".emdstore-") for path in folder.iterdir())
    if not ours:
        raise WorkspaceError(f"{folder} does not belong to this ensemble; move it away, or use another folder")
    shutil.rmtree(folder)


def _damaged(workspace: Workspace, fragments: set[str]) -> set[str]:
    """Return the sets that are missing from results or not as recorded."""
    seen: set[str] = set()
    damaged: set[str] = set()
    for provider in sorted({fragment.split("/")[0] for fragment in fragments}):
        report = verify(workspace.results, provider, on_progress=lambda found, *_: seen.add(found.fragment))
        # A set that its own record calls incomplete is as it was recorded.
        damaged |= {each.fragment for each in report.problems if each.finding not in ("incomplete", "stale")}
    return fragments - seen | fragments & damaged


# -- one run ---------------------------------------------------------------------------------------------------------


def _perform(workspace: Workspace, run: Run) -> None:
    execution = workspace.start_execution(
        provider=run.diagnostic.provider,
        diagnostic=run.diagnostic.name,
        group=run.group,
        selectors=run.selectors,
        dataset_hash=run.dataset_hash,
        description=run.description,
        name=run.name,
    )
    # What runs print is for their logs.
    with redirect_stdout(io.StringIO()), execution:
        if run.fate is Fate.KILLED:
            execution.run(["sh", "-c", _KILLED, "sh", _first_line(run)])
        else:
            result = _evaluate(run, execution.output_directory, execution.writer)
            if not result.successful:
                execution.stop(result)


def write_set(directory: str | os.PathLike[str], run: Run | None = None) -> ExecutionResult:
    """Write the files of one run into a folder, and nothing else.

    Parameters
    ----------
    directory
        The folder; it is created if necessary.
    run
        The run; by default a small successful one.

    Returns
    -------
    ExecutionResult
        The run's result, for `materialize_outputs`.
    """
    if run is None:
        run = next(Ensemble(models=1, diagnostics=1, regions=1, years=10, pixels=1, troubles=0).runs())
    folder = Path(directory).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "out.log").open("w", encoding="utf-8") as log:
        if run.fate is Fate.KILLED:
            subprocess.run(["sh", "-c", _KILLED, "sh", _first_line(run)], stdout=log, check=False)
            return ExecutionResult(successful=False, retryable=True)
        writer = OutputWriter(folder)
        with redirect_stdout(log):
            result = _evaluate(run, folder, writer)
    if not result.successful:
        return result
    bundles = writer.write()
    return attrs.evolve(
        result,
        metric_bundle_filename=bundles.metric,
        output_bundle_filename=bundles.output,
        series_filename=bundles.series,
    )


def _first_line(run: Run) -> str:
    return f"{run.diagnostic.provider} {run.diagnostic.name}: {run.description}"


def _evaluate(run: Run, folder: Path, writer: OutputWriter) -> ExecutionResult:
    """Do what a diagnostic does: read, compute, draw, and print its log."""
    print(_first_line(run))
    try:
        _read_input(run)
        found = _Findings.of(run)
        _add_values(run, found, writer)
        _add_files(run, found, folder, writer)
    except LookupError as error:
        said = "".join(traceback.format_exception_only(error)).rstrip()
        print("Traceback (most recent call last):", *_frames(error), said, sep="\n")
        return ExecutionResult(successful=False)
    print("done")
    return ExecutionResult(successful=True)


def _frames(error: Exception) -> Iterator[str]:
    """Return the lines of a traceback, without parts that differ between machines and Python versions."""
    for frame in traceback.extract_tb(error.__traceback__):
        yield f'  File "{os.path.basename(frame.filename)}", line {frame.lineno}, in {frame.name}\n    {frame.line}'


def _read_input(run: Run) -> None:
    variable = run.diagnostic.variable
    cells = f"{climate.ROWS} x {climate.COLUMNS} cells"
    files = {variable: f"{12 * len(run.years)} months", "areacella": cells, run.diagnostic.reference: cells}
    if run.fate is Fate.FAILED:
        del files[variable if climate.uniform(run.ensemble.seed, "lacks", run.fragment) < 0.5 else "areacella"]
    for name in (variable, "areacella", run.diagnostic.reference):
        print(f"reading {name}: {files[name]}")


def _add_values(run: Run, found: _Findings, writer: OutputWriter) -> None:
    for metric, title in METRICS.items():
        attributes = {"units": run.units(metric), "long_name": f"{title} of {run.diagnostic.long_name.lower()}"}
        for (region, season), of in found.scalars.items():
            where = {**run.dimensions, "metric": metric, "region": region, "season": season}
            writer.add_scalar(of[metric], dimensions=where, attributes=attributes)
    for region in run.regions:
        courses = ("year", run.years, found.yearly[region]), ("month", climate.PHASES, run.monthly(region))
        for index_name, index, (reference, simulated) in courses:
            for kind, source, course in (("reference", "Reference", reference), ("model", run.model, simulated)):
                writer.add_series(
                    course,
                    index,
                    index_name=index_name,
                    dimensions={**run.dimensions, "source_id": source, "region": region},
                    attributes={
                        "kind": kind,
                        "reference_id": run.diagnostic.reference,
                        "value_units": run.diagnostic.units,
                        "value_long_name": run.diagnostic.long_name,
                        "calendar": "noleap",
                    },
                )
    print(f"computed {len(found.scalars) * len(METRICS)} values over {', '.join(run.regions)}")


def _add_files(run: Run, found: _Findings, folder: Path, writer: OutputWriter) -> None:
    what, units = run.diagnostic.long_name, run.diagnostic.units
    (folder / "plots").mkdir(exist_ok=True)
    plots = []
    error = climate.cells(run.error("ANN"))
    simulated_field = [of + by for of, by in zip(_reference_cells(run.diagnostic), error, strict=True)]
    for statistic, cells, title in (
        ("mean", simulated_field, f"{what} of {run.model}"),
        ("bias", error, f"{what}, {run.model} minus {run.diagnostic.reference}"),
    ):
        plot = f"plots/{run.diagnostic.variable}_{statistic}_map.png"
        (folder / plot).write_bytes(_map(run, cells, two_sided=statistic == "bias"))
        span = f"The mean of {len(run.years)} years, in {units}."
        where = {**run.dimensions, "statistic": statistic, "season": "ANN"}
        plots.append(writer.add_plot(plot, long_name=title, description=span, dimensions=where))
    for region in run.regions:
        plot = f"plots/{run.diagnostic.variable}_{region}_years.svg"
        reference, simulated = found.yearly[region]
        lines = {run.diagnostic.reference: reference, run.model: simulated}
        title = f"{what}, {region.replace('-', ' ')}"
        picture = draw_lines(title, run.years, "year", f"{run.diagnostic.variable} [{units}]", lines)
        (folder / plot).write_text(picture, encoding="utf-8")
        span = f"Yearly means of {run.model} and {run.diagnostic.reference}, {run.years[0]} to {run.years[-1]}."
        where = {**run.dimensions, "statistic": "yearly means", "region": region}
        plots.append(writer.add_plot(plot, long_name=title, description=span, dimensions=where))
    if run.fate is Fate.INCOMPLETE:  # a script that tidies up too much
        (folder / plots[-1]).unlink()
    (folder / "yearly.csv").write_text(_table(run, found), encoding="utf-8")
    writer.add_data("yearly.csv", long_name=f"Yearly means of {what.lower()}", description=f"In {units}.")
    (folder / "index.html").write_text(_page(run, found, plots), encoding="utf-8")
    writer.add_html("index.html", long_name=f"{what} of {run.model}", description="All of it on one page.")
    # What a program works with, and no bundle names.
    settings = {"seed": run.ensemble.seed, "variable": run.diagnostic.variable, "domain": run.diagnostic.domain}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    print(f"drew {len(plots)} plots")


@cache
def _reference_cells(diagnostic: Diagnostic) -> list[float]:
    return climate.cells({name: amount.mean for name, amount in diagnostic.patterns.items()})


@cache
def _within(domain: str) -> tuple[bool, ...]:
    return tuple(climate.covers(domain, land) for land in climate.is_land())


def _map(run: Run, cells: Sequence[float], *, two_sided: bool) -> bytes:
    values = [value if within else None for value, within in zip(cells, _within(run.diagnostic.domain), strict=True)]
    return draw_map(values, climate.is_land(), climate.COLUMNS, pixels=run.ensemble.pixels, two_sided=two_sided)


def _table(run: Run, found: _Findings) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("region", "year", run.diagnostic.reference, run.model))
    for region, courses in found.yearly.items():
        rows.writerows((region, *values) for values in zip(run.years, *courses, strict=True))
    return text.getvalue()


def _page(run: Run, found: _Findings, plots: list[str]) -> str:
    rows = [("region", "season", *METRICS.values())]
    for (region, season), metrics in found.scalars.items():
        values = ("–" if value is None else f"{value:.3g}" for value in metrics.values())
        rows.append((region, season, *values))
    title = escape(run.description)
    return "\n".join(
        [
            f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n<h1>{title}</h1>\n<table>',
            *("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows),
            "</table>",
            *(f'<p><img src="{plot}" alt=""></p>' for plot in plots),
            "",
        ]
    )
