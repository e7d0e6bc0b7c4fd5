"""A small ensemble of the demo, for tests that want results and a catalog with something in them."""

from __future__ import annotations

from emdstore.demo import Ensemble, Fate, Run

SMALL = Ensemble(models=4, diagnostics=2, regions=1, years=20, pixels=1)
"""Seven executions: four are good, one failed, one was killed, one lacks a plot."""


def run_that(fate: Fate) -> Run:
    """Return the first run of the small ensemble that ended in this way."""
    return next(run for run in SMALL.runs() if run.fate is fate)


GOOD = run_that(Fate.GOOD).fragment
FAILED = run_that(Fate.FAILED).fragment
KILLED = run_that(Fate.KILLED).fragment
INCOMPLETE = run_that(Fate.INCOMPLETE).fragment
