"""Promote the artifacts of climate diagnostics, whole and verified, and load a database from what was published."""

__version__ = "0.1.0"
