"""The example is run as a reader would run it, with a real solve by their example provider."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "climate_ref_adoption.py"


def test_a_solve_is_adopted_and_its_database_rebuilt(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE), str(tmp_path)], capture_output=True, text=True, check=False)
    logs = "".join(path.read_text() for path in tmp_path.glob("*/ref.log"))
    assert done.returncode == 0, done.stderr + logs
    # Only the newer example diagnostic publishes what it computed.
    data = "annual_mean_global_mean_timeseries.nc, " if version("climate-ref") >= "0.15" else ""
    assert done.stdout.splitlines() == [
        f"ours: 4 values; in results: {data}diagnostic.json, execution.json, out.log, output.json, series.json",
        f"theirs: 4 values; in results: {data}diagnostic.json, out.log, output.json, series.json",
        "the values are the same: True",
        "theirs, damaged: ['bare']",
        "ours, damaged: ['corrupt']",
        "theirs, reingested without scratch: 1 executions",
        "ours, reingested without scratch: 2 executions",
        "replayed: 2 executions",
        "the rows are back: True",
        "replayed again: 2 unchanged",
    ]
    assert "Scratch directory does not exist" in (tmp_path / "theirs/ref.log").read_text()
