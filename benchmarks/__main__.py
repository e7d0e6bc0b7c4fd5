"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import curves, over_clouds, over_ssh, scale
from benchmarks.contenders import peers
from benchmarks.disks import Disks
from benchmarks.measure import RunFailedError
from benchmarks.places import DifferingBytesError
from benchmarks.report import goals_table, table
from benchmarks.servers import REMOTE, MissingServerError
from benchmarks.suites import ROUTES, Bench, Row, rows_as_json

WORKLOADS = (
    "W1",
    "W2",
    "W3",
    "W4",
    "commit",
    "noop",
    "remote",
    "ssh",
    "clouds",
    "ingest",
    "climate-ref",
    "memory",
    "startup",
    "costs",
    "scale",
    "curves",
)

WITH_GOALS = ("W1", "W2", "W3", "commit", "noop", "remote", "ingest", "startup", "ssh")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks and return the exit code: 1 if a copy differs or a contender fails."""
    options = _parser().parse_args(arguments)
    if options.repeats < 1:
        _parser().error(f"--repeats is at least 1, not {options.repeats}")
    if not options.workload and not options.goals:
        _parser().error("say what to run: --goals, or --workload and its name")
    options.cache.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    failed = ""
    with tempfile.TemporaryDirectory(dir=options.work, prefix="emdstore-benchmarks-") as work:
        disks = Disks.at(Path(work), in_memory=not options.on_disk)
        _say(f"{platform.platform()}, {os.cpu_count()} cores; Python {platform.python_version()}; {disks.described}")
        bench = Bench(options.cache, disks, options.repeats, options.quick, peers(options.cache, _say), _say)
        wanted = WORKLOADS if "all" in options.workload else options.workload or WITH_GOALS
        try:
            for workload in wanted:
                rows += _run(bench, workload, options.route or ROUTES)
        except (DifferingBytesError, RunFailedError) as error:
            failed = str(error)
        finally:
            disks.close()
    print(f"\n{goals_table(rows)}" if options.goals else f"\n{table(rows)}\n{goals_table(rows)}")
    if drawn := [row for row in rows if row.route == "curves"]:
        print(f"\n{curves.table(drawn)}")
        if options.figure is not None:
            curves.draw(drawn, options.figure)
    if options.json is not None:
        machine = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
        about = {"machine": machine, "disks": disks.described, "repeats": options.repeats, "quick": options.quick}
        options.json.write_text(json.dumps({**about, "failed": failed or None, "rows": rows_as_json(rows)}, indent=1))
    if failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    return 0


def _run(bench: Bench, workload: str, routes: Sequence[str]) -> list[Row]:
    """Run one workload on the routes that it has."""
    simple: dict[str, Callable[[], list[Row]]] = {
        "ingest": bench.ingest,
        "climate-ref": bench.climate_ref,
        "memory": bench.memory,
        "startup": bench.startup,
        "costs": bench.costs,
        "scale": partial(scale.measure, bench),
        "curves": partial(curves.measure, bench),
        "ssh": partial(over_ssh.measure, bench),
        "clouds": partial(over_clouds.measure, bench),
    }
    if workload in simple:
        try:
            return simple[workload]()
        except MissingServerError as error:
            bench.report(f"skipped: {workload}: {error}")
            return []
    rows: list[Row] = []
    for route in routes:
        try:
            if workload == "commit":
                rows += bench.commit(route) if route.startswith("local") else []
            elif workload == "noop":
                rows += bench.again("W1", route) if route != "s3-s3" else []
            elif workload == "remote":
                for name in ("W1", "W2", "W3") if route != "local-local" else ():
                    rows += bench.copy(name, route, server=REMOTE, label=" remote")
                if route == "local-s3":
                    rows += bench.commit(route, server=REMOTE, label=" remote")
            else:
                rows += bench.copy(workload, route)
        except MissingServerError as error:
            bench.report(f"skipped: {workload} {route}: {error}")
    return rows


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure emdstore beside other tools.")
    add = parser.add_argument
    add("--workload", action="append", choices=(*WORKLOADS, "all"), default=[], help="may be given several times")
    add("--goals", action="store_true", help="run the workloads that have goals, and print only how they compare")
    add("--route", action="append", choices=ROUTES, help="only these routes; may be given several times")
    add("--repeats", type=int, default=5, help="how often everybody runs, after a first time that does not count")
    add("--quick", action="store_true", help="with a tenth of the bytes, to try things out")
    add("--json", type=Path, help="a file for the results")
    add("--figure", type=Path, help="a file for the curves, as SVG")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "emdstore-benchmarks"
    add("--cache", type=Path, default=cache, help=f"where workloads and peers are kept (default: {cache})")
    add("--work", type=Path, default=None, help="where copies go (default: the system's temporary folder)")
    add("--on-disk", action="store_true", help="write to folders in --work, not to file systems in memory")
    return parser


if __name__ == "__main__":
    sys.exit(main())
