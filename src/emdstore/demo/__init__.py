"""A made-up evaluation of an ensemble of models, generated from a seed, for a first look, tests and benchmarks.

It contains what frameworks produce: scalars with units, series with their references, maps, line plots, tables, pages;
and runs that failed, were killed, or wrote less than they claim. It is written with the calls that a framework would
make, and equal ensembles have equal bytes on every machine::

    write_ensemble("demo", Ensemble(models=5, diagnostics=3, seed=7))
"""

from __future__ import annotations

from emdstore.demo.diagnostics import DIAGNOSTICS, METRICS, Diagnostic
from emdstore.demo.ensemble import Counts, Ensemble, Fate, Run
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
