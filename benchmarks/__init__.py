"""Measures emdstore beside the tools that people copy with: ``python -m benchmarks --help``."""
