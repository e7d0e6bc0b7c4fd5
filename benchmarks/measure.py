"""Running one program and seeing what it took."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs


class RunFailedError(Exception):
    """A program that is measured ended with an error."""


@attrs.frozen
class Run:
    """What one run took.

    Attributes
    ----------
    seconds
        From starting the process to its end; or what the process itself measured around the library's call.
    cpu_seconds
        Of the process and the children it waited for, in user and system mode; or of the library's call.
    peak_mb
        Peak resident memory of the process in MB (10^6 bytes). The floor is this program's own, some 30 MB.
    told
        What the process said on stdout, where that is JSON.
    there_seconds
        CPU time of another machine, where one takes part.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    told: Mapping[str, Any] = attrs.field(factory=dict)
    there_seconds: float = 0.0


def run(command: Sequence[str], env: Mapping[str, str]) -> Run:
    """Run a program to its end.

    Raises
    ------
    RunFailedError
        If it ends with another exit code than 0; with the end of what it said.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        said = out.read()
        if process.returncode:
            end = (said + errors.read()).decode(errors="replace")[-2000:]
            raise RunFailedError(f"{' '.join(command)[:400]} ended with {process.returncode}: {end}")
    told = json.loads(said.splitlines()[-1]) if said.startswith(b"{") else {}
    cpu_seconds = usage.ru_utime + usage.ru_stime
    seconds, cpu_seconds = told.get("seconds", seconds), told.get("cpu_seconds", cpu_seconds)
    return Run(seconds, cpu_seconds, usage.ru_maxrss * 1024 / 1e6, told)


@attrs.frozen
class Summary:
    """Several runs of one contender."""

    runs: Sequence[Run]
    files: int

    @property
    def median(self) -> float:
        return statistics.median(each.seconds for each in self.runs)

    @property
    def least(self) -> float:
        return min(each.seconds for each in self.runs)

    @property
    def most(self) -> float:
        return max(each.seconds for each in self.runs)

    @property
    def cpu_seconds(self) -> float:
        return statistics.median(each.cpu_seconds for each in self.runs)

    @property
    def there_seconds(self) -> float:
        return statistics.median(each.there_seconds for each in self.runs)

    @property
    def peak_mb(self) -> float:
        return max(each.peak_mb for each in self.runs)

    def as_dict(self) -> dict[str, Any]:
        return {
            "median": round(self.median, 4),
            "min": round(self.least, 4),
            "max": round(self.most, 4),
            "cpu_seconds": round(self.cpu_seconds, 4),
            "cpu_us_per_file": round(self.cpu_seconds / self.files * 1e6, 1) if self.files else None,
            "cpu_there_seconds": round(self.there_seconds, 4),
            "peak_mb": round(self.peak_mb, 1),
            "seconds": [round(each.seconds, 4) for each in self.runs],
        }
