"""The demo, as a command."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Parameter

from emdstore.catalog import Catalog, ExecutionRow
from emdstore.cli.options import PLAIN, Output
from emdstore.cli.progress import set_progress
from emdstore.cli.render import say, show_document, show_table, size_text
from emdstore.demo import Ensemble, EnsembleReport, open_folder, run_ensemble, write_ensemble
from emdstore.web.text import count_text

_BEST = 5
_DEFAULT = Ensemble()


def demo(
    folder: Path = Path("emdstore-demo"),
    /,
    *,
    ensemble: Annotated[Ensemble, Parameter(name="*")] = _DEFAULT,
    output: Output = PLAIN,
) -> int:
    """Evaluate a made-up ensemble of climate models: run, publish, load a catalog.

    Some runs fail, one is killed, one forgets a plot. Running it twice changes nothing, and goes on where it was
    interrupted. The same options write the same bytes on every machine.

    Parameters
    ----------
    folder
        Where to put scratch, results and catalog.
    """
    with open_folder(folder) as workspace:
        with set_progress("run") as update:
            ran = run_ensemble(workspace, ensemble, on_progress=update)
        with set_progress("commit") as update:
            report = attrs.evolve(write_ensemble(workspace, ensemble, on_progress=update), ran=ran)
        runs = {run.fragment for run in ensemble.runs()}
        rows = [row for row in workspace.list_executions() if row.fragment in runs]
        code = 0 if report.uploads.ok else 1
        if output.json:
            places = {"scratch": "scratch", "results": "results", "catalog": "catalog.db"}
            return show_document(
                "demo",
                {name: str((folder / place).absolute()) for name, place in places.items()}
                | {
                    "changed": report.changed,
                    "ran": report.ran,
                    "committed": report.uploads.as_dict(),
                    "executions": rows,
                },
                code,
            )
        _show(report, workspace.catalog, rows, folder)
    return code


def _show(report: EnsembleReport, catalog: Catalog, rows: list[ExecutionRow], folder: Path) -> None:
    for each in report.uploads.errors:
        say(f"not committed  {each.fragment}: {each.error}", style="red")
    if report.changed:
        size = size_text(report.uploads.bytes)
        ran, committed = count_text(report.ran, "execution"), len(report.uploads.statuses)
        say(f"{ran} ran, {committed} were committed ({size}) to {folder}:\n")
    else:
        say(f"Nothing to do: {folder} holds all of it, as it was recorded:\n")
    show_table(
        ("provider", "diagnostic", "executions", "uploaded", "artifacts", "scalars", "series"),
        [
            (
                *of,
                len(own),
                sum(row.status == "uploaded" for row in own),
                *(sum(getattr(row, what) for row in own) for what in ("artifacts", "scalars", "series")),
            )
            for of, own in _by_diagnostic(rows).items()
        ],
    )
    first = rows[0]
    where = {"metric": "rmse", "region": "global", "season": "ANN"}
    errors = catalog.scalars(diagnostic=first.diagnostic, dimensions=where)
    ranked = sorted((row.value, row.dimensions["source_id"]) for row in errors)[:_BEST]
    say(f"\nThe smallest errors of {first.provider}/{first.diagnostic}, all over the globe and the year:\n")
    show_table(("model", "rmse"), [(model, value) for value, model in ranked])
    if troubled := [(row.fragment, row.failure, row.reason) for row in rows if row.status != "uploaded"]:
        say("\nWhat is not well:\n")
        show_table(("execution", "failure", "reason"), troubled)
    *others, look = commands(folder, rows)
    say("\nTry next:")
    for command in others:
        say(f"  {command}")
    say(f"\nLook at it in a browser (this needs the extra web):\n  {look}")


def _by_diagnostic(rows: list[ExecutionRow]) -> dict[tuple[str, str], list[ExecutionRow]]:
    found: dict[tuple[str, str], list[ExecutionRow]] = {}
    for row in rows:
        found.setdefault((row.provider, row.diagnostic), []).append(row)
    return found


def commands(folder: Path, rows: list[ExecutionRow]) -> list[str]:
    """Return commands to go on with; the last one shows the results, and runs until it is ended.

    Parameters
    ----------
    folder
        Where the demo is.
    rows
        Its executions.
    """
    program = "emdstore" if shutil.which("emdstore") else shlex.quote(sys.argv[0])
    if program.endswith(".py"):
        program = f"{shlex.quote(sys.executable)} -m emdstore"

    def path(name: str) -> str:
        return shlex.quote(str(folder / name))

    catalog = f"--catalog {path('catalog.db')}"
    good = [row for row in rows if row.status == "uploaded"]
    failed = [row for row in rows if row.failure == "diagnostic"]
    return [
        *(f"{program} ls {path('results')} {shlex.quote(row.fragment)}" for row in good[:1]),
        *(f"{program} show {shlex.quote(row.fragment)} {catalog}" for row in (*good[:1], *failed[:1])),
        *(f"cat {path(f'results/{row.fragment}/out.log')}" for row in failed[:1]),
        f"{program} export scalars --where metric=rmse --where season=ANN {catalog} -o {path('rmse.csv')}",
        f"{program} verify {path('results')}",
        f"{program} transfer {path('results')} {path('copy')}",
        f"{program} replay {path('copy')} --catalog {path('copy.db')}",
        f"{program} serve {path('results')} {catalog}",
    ]
