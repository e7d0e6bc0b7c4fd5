"""An ensemble of models, evaluated: made up from a seed, for a first look, for tests and for measuring.

It is what frameworks leave behind: scalars with units, series beside their reference, maps, line plots, tables, pages;
and runs that failed, were killed, or wrote less than they say. All of it goes through the calls that a framework would
make, and equal ensembles are equal to the last byte, on every machine::

    write_ensemble("demo", Ensemble(models=5, diagnostics=3, seed=7))
"""

from __future__ import annotations

from emdstore.demo.ensemble import DIAGNOSTICS, METRICS, Counts, Diagnostic, Ensemble, Fate, Run
from emdstore.demo.writing import EnsembleReport, open_folder, run_ensemble, write_ensemble, write_set

__all__ = [
    "DIAGNOSTICS",
    "METRICS",
    "Counts",
    "Diagnostic",
    "Ensemble",
    "EnsembleReport",
    "Fate",
    "Run",
    "open_folder",
    "run_ensemble",
    "write_ensemble",
    "write_set",
]
