"""The demo, as a command."""

from __future__ import annotations

import shlex
import shutil
import sys
from itertools import islice
from pathlib import Path

from emdstore.catalog import Catalog
from emdstore.cli.options import PLAIN, Output
from emdstore.cli.render import say, show_json, show_table, value_table
from emdstore.demo import DemoReport, run_demo

_VALUES = 8


def demo(folder: Path = Path("emdstore-demo"), /, *, output: Output = PLAIN) -> int:
    """Promote a handful of real sets from scratch to results, and load a catalog from there.

    One of them failed and one is incomplete. Running it twice changes nothing.

    Parameters
    ----------
    folder
        Where to put scratch, results and catalog.
    """
    report = run_demo(folder)
    with Catalog(report.catalog, create=False) as catalog:
        if output.json:
            places = {"scratch": report.scratch, "results": report.results, "catalog": report.catalog}
            show_json(
                {name: str(path) for name, path in places.items()}
                | {"changed": report.changed, "executions": list(catalog.executions())}
            )
        else:
            _show(report, catalog, folder)
    return 0


def _show(report: DemoReport, catalog: Catalog, folder: Path) -> None:
    columns = ("execution", "status", "artifacts", "outputs", "scalars", "series", "warnings", "reason")
    rows = [
        (e.fragment, e.status, e.artifacts, e.outputs, e.scalars, e.series, e.warnings, e.reason)
        for e in catalog.executions()
    ]
    if report.changed:
        say(f"Promoted {len(rows)} executions from {report.scratch} to {report.results}:\n")
    else:
        say(f"Nothing to do: {report.results} and {report.catalog} hold all {len(rows)} executions already.\n")
    show_table(columns, rows)
    scalars = list(islice(catalog.scalars(diagnostic="sea-ice-sensitivity"), _VALUES))
    say("")
    show_table(*value_table(scalars, "value", lambda scalar: scalar.value), title="Some values of sea-ice-sensitivity")
    say("\nTry next:")
    *others, look = commands(folder)
    for command in others:
        say(f"  {command}")
    say(f"\nLook at it in a browser (this needs the extra web):\n  {look}")


def commands(folder: Path) -> list[str]:
    """Return commands to go on with; the last one shows the results, and runs until it is ended."""
    program = "emdstore" if shutil.which("emdstore") else shlex.quote(sys.argv[0])
    if program.endswith(".py"):
        program = f"{shlex.quote(sys.executable)} -m emdstore"
    results, copy = shlex.quote(str(folder / "results")), shlex.quote(str(folder / "copy"))
    catalog = f"--catalog {shlex.quote(str(folder / 'catalog.db'))}"
    return [
        f"{program} ls {results} ilamb",
        f"{program} show sea-ice-sensitivity/cmip6_historical/1 {catalog}",
        f"{program} verify {results}",
        f"{program} transfer {results} {copy}",
        f"{program} replay {copy} --catalog {shlex.quote(str(folder / 'copy.db'))}",
        f"{program} serve {results} {catalog}",
    ]
